//! One holder of one frozen cgroup: what stood before, until when, and who answers for it. A plain value.

use std::path::PathBuf;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::RecordFile;
use crate::cgroup::Cgroup;
use crate::error::Error;
use crate::freezer::Saved;
use crate::host::{Host, Stat};
use crate::resolver::Runtime;

/// A process, whatever has its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot.
    pub start: u64,
}

impl Process {
    /// The process of that number; `None` where there is none, or none that answers.
    #[must_use]
    pub fn find(host: &Host, pid: i32) -> Option<Self> {
        host.proc().stat(pid).map(|stat| Self::of(&stat))
    }

    /// This process.
    #[must_use]
    pub fn this(host: &Host) -> Option<Self> {
        host.proc().own_stat().map(|stat| Self::of(&stat))
    }

    /// The parent of this process.
    #[must_use]
    pub fn parent(host: &Host) -> Option<Self> {
        Self::find(host, host.proc().own_stat()?.ppid)
    }

    /// The number of the parent of the process of that number; `None` where there is none, or none that answers.
    #[must_use]
    pub fn parent_of(host: &Host, pid: i32) -> Option<i32> {
        host.proc().stat(pid).map(|stat| stat.ppid)
    }

    fn of(stat: &Stat) -> Self {
        Self {
            pid: stat.pid,
            start: stat.starttime,
        }
    }

    /// Whether there is a process of that number, dead or alive. One that does not answer is there.
    #[must_use]
    pub fn is_there(host: &Host, pid: i32) -> bool {
        !matches!(host.proc().stat_of(pid), Ok(None))
    }

    /// Whether it still is there, and can act. One that is killed may do so until it begins to exit. One that does not
    /// answer is there: what it holds is not to be undone.
    #[must_use]
    pub fn is_alive(self, host: &Host) -> bool {
        match host.proc().stat_of(self.pid) {
            Ok(stat) => stat.is_some_and(|stat| stat.starttime == self.start && !stat.is_ended()),
            Err(_) => true,
        }
    }

    /// Whether it is killed, and may act still: what it does until it is gone is to be awaited.
    #[must_use]
    pub fn is_killed(self, host: &Host) -> bool {
        let stat = host.proc().stat(self.pid);
        stat.is_some_and(|stat| stat.starttime == self.start && !stat.is_ended() && stat.is_killed())
    }
}

/// What kind of freeze it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Until somebody thaws it.
    Freeze,
    /// For a time.
    Lease,
    /// While a command runs.
    Hold,
}

/// How long after its end those who answer for one may take, on a host that is busy with other things.
pub(super) const LATE_US: u64 = 1_000_000;

impl Kind {
    /// How long one that is over has to end by itself. A hold ends its command first, and thaws 700 ms after its limit
    /// whatever that command does; with the rest of the second a guard can make up for who is stopped.
    #[must_use]
    pub fn grace_us(self) -> u64 {
        match self {
            Self::Hold => 800_000,
            Self::Freeze | Self::Lease => 0,
        }
    }
}

/// How long after its end a freeze may still be on its way: one whose time is over before it is done is thawed when it is.
pub const EARLY_US: u64 = 15_000_000;

/// The form of the records: fields are added to it, never renamed.
pub const SCHEMA: u32 = 1;

/// What a holder is answered for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// [`SCHEMA`]; one with another may mean something else, and is left alone.
    pub schema: u32,
    /// What kind of freeze it is.
    pub kind: Kind,
    /// The target as typed.
    pub target: String,
    /// The container's ID.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its runtime.
    pub runtime: Option<Runtime>,
    /// The cgroup, and what it asked for before its first holder came.
    pub standing: Saved,
    /// The boot that it was made in.
    pub boot: String,
    /// CLOCK_BOOTTIME in microseconds when it was made: that clock goes on while the host is suspended.
    pub since_us: u64,
    /// The same when it ends.
    pub until_us: Option<u64>,
    /// The processes that answer for it, each alone: the one that wrote it first.
    pub owners: Vec<Process>,
    /// The first word of the command that it is held for.
    pub command: Option<String>,
    /// The paths of the file systems that are frozen besides: each has a record of its own, a [`super::Disk`].
    #[serde(default)]
    pub filesystems: Vec<PathBuf>,
}

/// What is to become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is in force, and somebody answers for it, or nobody has to.
    Stands,
    /// It is in force for a time, and its guard is gone.
    Unguarded,
    /// It is over, and what stood before is to be put back.
    Over,
    /// It is of another boot: nothing of it is left.
    Past,
}

impl HoldRecord {
    /// The process by which an operator knows it: that which was started, and of a lease the guard, which is what is left.
    #[must_use]
    pub fn holder(&self) -> Option<i32> {
        let owner = match self.kind {
            Kind::Lease => self.owners.last(),
            Kind::Freeze | Kind::Hold => self.owners.get(1).or(self.owners.first()),
        };
        owner.map(|owner| owner.pid)
    }
}

impl RecordFile {
    /// What is to become of it, as of `now_us`.
    #[must_use]
    pub fn fate(&self, host: &Host, boot: &str, now_us: u64) -> Fate {
        let record = &self.record;
        if record.boot != boot {
            return Fate::Past;
        }
        if record.kind == Kind::Freeze && !self.is_pending {
            return Fate::Stands;
        }
        // Who answers for it may be stopped, or hang, and is made up for then.
        let grace = if self.is_pending {
            EARLY_US
        } else {
            record.kind.grace_us()
        };
        let latest = grace + LATE_US;
        let is_overdue = record
            .until_us
            .is_some_and(|until| now_us > until.saturating_add(latest));
        if !is_overdue && record.owners.iter().any(|owner| owner.is_alive(host)) {
            return Fate::Stands;
        }
        match record.until_us {
            Some(until) if record.kind == Kind::Lease && !self.is_pending && now_us < until => {
                Fate::Unguarded
            }
            _ => Fate::Over,
        }
    }

    /// Whether its cgroup is gone. Another one under the same path is another one.
    #[must_use]
    pub fn is_gone(&self, host: &Host) -> bool {
        let standing = &self.record.standing;
        match Cgroup::open(host, standing.hierarchy, &standing.path) {
            Ok(cgroup) => cgroup.id() != standing.id,
            Err(error) => matches!(error, Error::Gone(_)),
        }
    }

    /// Microseconds since it was made, as of `now_us`.
    #[must_use]
    pub fn age_us(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.record.since_us)
    }
}

/// Which boot this is.
#[must_use]
pub fn boot(host: &Host) -> String {
    let text = host.read_proc("sys/kernel/random/boot_id").unwrap_or_default(); // then all are of the same
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// CLOCK_BOOTTIME in microseconds.
#[must_use]
pub fn boottime_us() -> u64 {
    // It always exists since Linux 2.6.39.
    let now =
        clock_gettime(ClockId::CLOCK_BOOTTIME).map(|now| now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000);
    now.ok().and_then(|us| u64::try_from(us).ok()).unwrap_or(0)
}
