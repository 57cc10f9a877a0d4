//! What is told of one target: plain values, in the order and under the names of the JSON output. Nothing here acts,
//! and nothing here writes sentences.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::rescue::Rescue;
use super::resync::Resynced;
use super::signal::Sent;
use super::why::Dying;
use crate::freezer::{Write, shown};
use crate::host::Hierarchy;
use crate::ledger::Kind;
use crate::resolver::target;
use crate::verifier::{Holdout, Proof};

fn all_shown<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

/// The version of the JSON output; fields are added, never renamed.
pub const SCHEMA: u32 = 1;

/// Whether a cgroup, or any of a container's own, asks for a freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requested {
    /// It does.
    Frozen,
    /// It does not.
    Thawed,
}

impl Requested {
    pub(crate) fn of(asks: bool) -> Self {
        if asks { Self::Frozen } else { Self::Thawed }
    }
}

/// What the tasks are subject to, ancestors included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effective {
    /// They are held.
    Frozen,
    /// A request stands that is not met yet.
    Freezing,
    /// Nothing holds them.
    Thawed,
}

/// Requested and effective state; `None` is "this host can't tell".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct States {
    /// What is asked for.
    pub requested: Option<Requested>,
    /// What is in force.
    pub effective: Option<Effective>,
}

/// One cgroup of a container in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupChange {
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
    /// As found.
    pub before: States,
    /// As left.
    pub after: States,
    /// Every other cgroup that asks for the freeze, topmost first.
    #[serde(serialize_with = "all_shown")]
    pub frozen_by: Vec<PathBuf>,
}

/// How a target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// In the wanted state, proven.
    Confirmed,
    /// It was so already, proven.
    Unchanged,
    /// Thawed, but a task is not proven to run again; or killed, but one is not gone.
    Released,
    /// The request is done, and something else still holds it.
    Held,
    /// Timed out; the requests are as before.
    RolledBack,
    /// It may be frozen.
    Stuck,
    /// It is gone.
    Gone,
    /// Thawed, but not healthy.
    Unhealthy,
    /// A safety rule forbids it.
    Refused,
    /// No such target, or not running.
    NotFound,
    /// It means more than one.
    Ambiguous,
    /// Not permitted or not supported.
    Denied,
    /// Failed otherwise.
    Error,
    /// A dry run.
    Planned,
}

/// Counts of tasks by what is proven of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ThawedCounts {
    /// All of them; the others add up to it.
    pub total: u32,
    /// See [`Proof::Ran`].
    pub ran: u32,
    /// See [`Proof::Restored`].
    pub restored: u32,
    /// See [`Proof::Woken`].
    pub woken: u32,
    /// Nothing asks them to freeze any more, and nothing was seen of them. Always 0 so far: the looks at a task end in one
    /// of the other words.
    pub released: u32,
    /// See [`Proof::Unprovable`].
    pub unprovable: u32,
    /// See [`Proof::Unknown`].
    pub unknown: u32,
    /// See [`Proof::Exited`].
    pub exited: u32,
    /// See [`Proof::New`].
    pub new: u32,
    /// See [`Proof::Holdout`].
    pub holdouts: u32,
}

impl ThawedCounts {
    pub(crate) fn add(&mut self, proof: Proof) {
        self.total += 1;
        *match proof {
            Proof::Ran => &mut self.ran,
            Proof::Restored => &mut self.restored,
            Proof::Woken => &mut self.woken,
            Proof::Unprovable => &mut self.unprovable,
            Proof::Unknown => &mut self.unknown,
            Proof::Exited => &mut self.exited,
            Proof::New => &mut self.new,
            Proof::Holdout => &mut self.holdouts,
        } += 1;
    }
}

/// Counts of tasks after a freeze; the others add up to `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FrozenCounts {
    /// All of them.
    pub total: u32,
    /// The freeze holds them, whatever their class.
    pub frozen: u32,
    /// Of a class that this kernel can't show.
    pub unprovable: u32,
    /// The evidence is missing.
    pub unknown: u32,
    /// Gone since.
    pub exited: u32,
    /// Came since.
    pub new: u32,
    /// Not frozen.
    pub holdouts: u32,
}

/// Counts of tasks, as the verb counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Counts {
    /// After a thaw.
    Thaw(ThawedCounts),
    /// After a freeze.
    Freeze(FrozenCounts),
}

/// What is proven of each task, by its TID: the words by which it is counted, `frozen` and `ran` and the others.
pub type Proofs = BTreeMap<i32, Cow<'static, str>>;

/// What a thaw, a freeze or a kill did to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `thaw`, `freeze`, `kill` or `resync`.
    pub verb: String,
    /// The target as typed.
    pub target: String,
    /// The container's ID.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its runtime.
    pub runtime: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code of that end.
    pub exit: u8,
    /// The container as found.
    pub before: States,
    /// The container as left.
    pub after: States,
    /// Its cgroups, its own first.
    pub cgroups: Vec<CgroupChange>,
    /// Its tasks; `None` where none were looked at.
    pub tasks: Option<Counts>,
    /// What is proven of each of them; `None` where none were looked at. The command line tells it with `--verbose` alone:
    /// there can be thousands.
    pub proofs: Option<Proofs>,
    /// How many tasks are unprovable of which class.
    pub unprovable_classes: BTreeMap<String, u32>,
    /// The tasks that are not as wanted.
    pub holdouts: Vec<Holdout>,
    /// How often a freeze was thawed for a moment and asked again; `None` for other verbs.
    pub pulses: Option<u32>,
    /// What was tried besides; `None` where no rescue was asked for.
    pub rescue: Option<Rescue>,
    /// What its engine was told, and what it believed; `None` for other verbs, and where no engine has an idea of its own.
    pub resync: Option<Resynced>,
    /// Of a kill: whether any of its own code can have run between the verb's beginning and its end.
    pub ran_between: Option<bool>,
    /// The signals that were sent, and what they do.
    pub signals: Vec<Sent>,
    /// The tasks that die by the thaw, as a fatal signal waits for them.
    pub dying: Vec<Dying>,
    /// Microseconds that it was frozen, where known.
    pub frozen_for_us: Option<u64>,
    /// Microseconds from the first write until the requests were met in the kernel's words.
    pub settle_us: Option<u64>,
    /// Microseconds from there to the verdict.
    pub verify_us: Option<u64>,
    /// CLOCK_MONOTONIC at the verdict, in microseconds.
    pub verified_at_us: Option<u64>,
    /// Microseconds from the first to the last that the kernel called settled, of all that were frozen together; `None`
    /// for a freeze of one and for other verbs.
    pub skew_us: Option<u64>,
    /// What was written, in order; in a dry run what would be.
    pub writes: Vec<Write>,
    /// What to do or know next.
    pub hints: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
}

impl Report {
    /// A report on a target of which nothing is known yet.
    #[must_use]
    pub fn blank(verb: &str, target: &str) -> Self {
        Self {
            schema: SCHEMA,
            verb: verb.to_owned(),
            target: target.to_owned(),
            id: None,
            name: None,
            runtime: None,
            outcome: Outcome::Error,
            exit: 1,
            before: States::default(),
            after: States::default(),
            cgroups: Vec::new(),
            tasks: None,
            proofs: None,
            unprovable_classes: BTreeMap::new(),
            holdouts: Vec::new(),
            pulses: None,
            rescue: None,
            resync: None,
            ran_between: None,
            signals: Vec::new(),
            dying: Vec::new(),
            frozen_for_us: None,
            settle_us: None,
            verify_us: None,
            verified_at_us: None,
            skew_us: None,
            writes: Vec::new(),
            hints: Vec::new(),
            error: None,
        }
    }

    pub(crate) fn end(&mut self, outcome: Outcome, exit: u8) {
        self.outcome = outcome;
        self.exit = exit;
    }
}

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
    pub runtime: Option<String>,
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
    /// What its engine has on record, in the engine's words.
    pub believed: Option<String>,
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
