//! A container as the resolver finds it: who it is, its open cgroups, and what was read on the way to it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::lines::{Lines, cgroup_lines};
use super::runtime::Runtime;
use super::runtime::record::About;
use super::trust::Trust;
use super::{naming, target};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::Host;

/// Who a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The whole ID; `None` for a cgroup that no runtime's pattern or record names.
    pub id: Option<String>,
    /// The name, where the container was found by its name.
    pub name: Option<String>,
    /// The runtime or the engine.
    pub runtime: Option<Runtime>,
    /// The first process.
    pub pid: Option<i32>,
    /// The directory of the runtime's record.
    pub record: Option<PathBuf>,
    /// Whether it is a Kubernetes pod's sandbox, which holds the pod's namespaces and runs nothing of its own.
    pub is_sandbox: bool,
    /// The rest of the runtime's record.
    pub about: About,
    /// Whose word the identity is.
    pub trust: Trust,
}

impl Identity {
    /// The identity of a container by the name of its cgroup, which is trusted so far as `trust` says. A name that nobody
    /// vouches for is not told; a whole ID is hard to mistake for another, and is told.
    pub(super) fn of_cgroup(named: naming::Named, trust: Trust, pid: Option<i32>) -> Self {
        let is_believed = trust != Trust::None;
        let is_whole = target::is_full_id(named.id.as_bytes());
        Self {
            name: named.id_as_name().filter(|_| is_believed),
            runtime: named.runtime,
            id: Some(named.id).filter(|_| is_believed || is_whole),
            pid,
            trust,
            ..Self::default()
        }
    }
}

/// A container: its cgroups, held open, so that what was verified is what is written.
#[derive(Debug)]
pub struct Container {
    /// The container's identity.
    pub identity: Identity,
    /// The cgroups that are its own, in either hierarchy, each level that can ask for a freeze. All its tasks in a
    /// hierarchy are in the first one there, or below.
    pub own: Vec<Cgroup>,
    /// The index in `own` of the cgroup that a freeze writes.
    pub freeze_at: usize,
    /// The cgroups that its tasks share with others; they are read and never written.
    pub shared: Vec<Cgroup>,
}

impl Container {
    /// The cgroup that a freeze writes.
    #[must_use]
    pub fn freeze_point(&self) -> &Cgroup {
        &self.own[self.freeze_at]
    }

    /// Refuses what is no container by its runtime, as what Kata runs is: only its cgroup can be meant.
    pub(crate) fn may_be_acted_on(&self) -> Result<()> {
        match self.identity.runtime.and_then(Runtime::refusal) {
            Some(why) => Err(Error::Unsupported(format!(
                "{}: {why}",
                self.freeze_point().dir().display()
            ))),
            None => Ok(()),
        }
    }

    /// The container's first own cgroup in each hierarchy, which holds its others there.
    pub(crate) fn tops(&self) -> impl Iterator<Item = &Cgroup> {
        self.own.iter().enumerate().filter_map(|(at, cgroup)| {
            let mut before = self.own[..at].iter();
            before
                .all(|other| other.hierarchy() != cgroup.hierarchy())
                .then_some(cgroup)
        })
    }
}

/// A container, and what was read of it on the way to it. A glimpse is good for a look right then; whoever acts reads anew.
#[derive(Debug)]
pub struct Probe {
    /// The container.
    pub container: Container,
    /// The container's tasks, where all of its cgroups were listed.
    pub(crate) tids: Option<BTreeSet<i32>>,
    /// The cgroups of its first process.
    pub(crate) lines: Option<Lines>,
}

impl Probe {
    /// A glimpse of a container that was found in another way.
    pub(crate) fn of(host: &Host, container: Container) -> Self {
        let lines = container.identity.pid.and_then(|pid| cgroup_lines(host, pid));
        Self {
            container,
            tids: None,
            lines,
        }
    }
}

/// The container that a target means.
#[derive(Debug)]
pub struct Found {
    /// The container.
    pub container: Container,
    /// Other meanings that the target could have had, at a lower rank.
    pub notes: Vec<String>,
}

pub(super) fn found(container: Container) -> Found {
    Found {
        container,
        notes: Vec::new(),
    }
}

/// The level of a container that its runtime freezes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum FreezeLevel {
    /// The level that the cgroup's name implies.
    #[default]
    Named,
    /// The level at this path, which is on record.
    At(PathBuf),
    /// The top level, though the tasks are at this path.
    Above(PathBuf),
}

/// One reading of a target: a container whose process lives, and the cgroup that it is in.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) identity: Identity,
    pub(super) first: Cgroup,
    /// The level that its runtime freezes.
    pub(super) point: FreezeLevel,
    /// The other hierarchy's path on record.
    pub(super) other: Option<PathBuf>,
    /// The cgroups of its first process, where they were read.
    pub(super) lines: Option<Lines>,
}

impl Located {
    /// Whether its runtime must have had a record of it, and none was found.
    pub(super) fn lacks_record(&self) -> bool {
        let leaves_record = |runtime: Runtime| runtime.row().leaves_record;
        self.identity.record.is_none() && self.identity.runtime.is_none_or(leaves_record)
    }
}

pub(super) fn runtime_of(identity: &Identity) -> String {
    identity.runtime.map_or("container", Runtime::name).to_owned()
}
