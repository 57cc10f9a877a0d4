//! What `status` and `list` tell of one container: plain values, in the order and under the names of the JSON output.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Effective, Requested, SCHEMA, all_shown};
use crate::freezer::shown;
use crate::host::Hierarchy;
use crate::resolver::{Believed, Runtime, target};
use crate::store::Kind;

/// Counts of tasks as one look shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// All of them; the others add up to it.
    pub total: u32,
    /// In a freezer's hold.
    pub frozen: u32,
    /// Not in a freezer's hold.
    pub running: u32,
    /// Of a class that this kernel can't show.
    pub unprovable: u32,
    /// The evidence is missing.
    pub unknown: u32,
    /// Not as the requests have it: not held though a request stands, or in an uninterruptible sleep of its own.
    pub holdouts: u32,
}

/// One cgroup of a container in a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupStatus {
    /// 1 or 2.
    pub version: u8,
    /// Its path in the hierarchy.
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    /// Its directory.
    #[serde(serialize_with = "shown")]
    pub dir: PathBuf,
    /// Whether others live in it too: it is the root, or was never the container's. It is read and not written.
    pub shared: bool,
    /// What it asks for itself.
    pub requested: Option<Requested>,
    /// What is in force in it.
    pub effective: Option<Effective>,
    /// Every other cgroup that asks for the freeze, topmost first.
    #[serde(serialize_with = "all_shown")]
    pub frozen_by: Vec<PathBuf>,
}

/// A process of a container's PID namespace that is outside of the cgroup which is frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outsider {
    /// The process.
    pub pid: i32,
    /// The task of it that is outside: its leader, or a thread that is elsewhere.
    pub tid: i32,
    /// The task's name.
    pub comm: String,
    /// The cgroup that it is in, as a target is written.
    pub cgroup: String,
}

/// One who holds a container frozen, as iceaxe's own records have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// What kind of freeze it is.
    pub kind: Kind,
    /// The process that holds it: that which was started, and of a lease its guard.
    pub by: Option<i32>,
    /// The name of that process; `None` where it is gone.
    pub by_comm: Option<String>,
    /// The first word of the command that it is held for.
    pub command: Option<String>,
    /// The process of that command; `None` where it does not run.
    pub command_pid: Option<i32>,
    /// The file systems that are frozen with it.
    pub filesystems: Vec<PathBuf>,
    /// The ancestor that is held and it with it, as a target is written; `None` where its own cgroup is.
    pub through: Option<String>,
    /// Microseconds since it was asked for.
    pub held_for_us: u64,
    /// Microseconds until it ends; `None` where it has no end.
    pub left_us: Option<u64>,
    /// Whether a process will end it, or none has to.
    pub answered_for: bool,
}

/// Memory of a container, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In use.
    pub current: Option<u64>,
    /// The limit; `None` where there is none.
    pub limit: Option<u64>,
}

/// What is so, of one container, without changing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The container's ID.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its runtime.
    pub runtime: Option<Runtime>,
    /// Its first process.
    pub pid: Option<i32>,
    /// Its image.
    pub image: Option<String>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The Kubernetes pod that it belongs to, `namespace/pod`.
    pub pod: Option<String>,
    /// What its own cgroups ask for.
    pub requested: Option<Requested>,
    /// What is in force.
    pub effective: Option<Effective>,
    /// What its engine has on record.
    pub believed: Option<Believed>,
    /// Whether the engine's record and the truth agree.
    pub agree: Option<bool>,
    /// Every other cgroup that asks for the freeze, topmost first.
    #[serde(serialize_with = "all_shown")]
    pub frozen_by: Vec<PathBuf>,
    /// Microseconds that it is frozen, where known.
    pub frozen_for_us: Option<u64>,
    /// Who holds it frozen, as far as it was frozen by iceaxe.
    pub holders: Vec<Holding>,
    /// Its cgroups.
    pub cgroups: Vec<CgroupStatus>,
    /// Its tasks.
    pub tasks: Option<Observed>,
    /// Its memory.
    pub memory: Option<Memory>,
    /// The processes of its PID namespace that no freeze of it reaches; `None` where that was not looked for, can't be
    /// told, or where the namespace is the host's.
    pub outside: Option<Vec<Outsider>>,
}

impl CgroupStatus {
    /// The hierarchy that it is in, and its path there.
    #[must_use]
    pub fn place(&self) -> (Hierarchy, &Path) {
        let hierarchy = if self.version == 1 {
            Hierarchy::V1
        } else {
            Hierarchy::V2
        };
        (hierarchy, &self.path)
    }
}

impl Status {
    /// How it is written as a target, in the shortest form that is harmless wherever the line is put; `None` where nothing
    /// is known of it.
    #[must_use]
    pub fn written(&self) -> Option<String> {
        target::spelled(self.id.as_deref(), self.name.as_deref(), self.place())
    }

    /// How it is written as a target of which no other reading is tried.
    #[must_use]
    pub fn written_outright(&self) -> Option<String> {
        target::outright(self.id.as_deref(), self.name.as_deref(), self.place())
    }

    fn place(&self) -> Option<(Hierarchy, &Path)> {
        self.cgroups.first().map(CgroupStatus::place)
    }

    /// The status of a target of which nothing can be told.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            schema: SCHEMA,
            id: None,
            name: None,
            runtime: None,
            pid: None,
            image: None,
            labels: None,
            pod: None,
            requested: None,
            effective: None,
            believed: None,
            agree: None,
            frozen_by: Vec::new(),
            frozen_for_us: None,
            holders: Vec::new(),
            cgroups: Vec::new(),
            tasks: None,
            memory: None,
            outside: None,
        }
    }
}
