//! What is told of one target: plain values, in the order and under the names of the JSON output. Nothing here acts,
//! and nothing here writes sentences.

mod advice;
mod explanation;
mod signals;
mod status;
mod verb;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::freezer::{Write, shown};
use crate::resolver::{Believed, Runtime};
use crate::verifier::{Holdout, Proof};

pub use advice::{Advice, RescueStep};
pub use explanation::{Explanation, Holder, Holds};
pub use signals::{Acts, Does, Dying, Sent};
pub use status::{CgroupStatus, Holding, Memory, Observed, Outsider, Status};
pub use verb::Verb;

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

/// How the work on one target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The container is in the wanted state, and that is proven.
    Confirmed,
    /// The container was in the wanted state already, and that is proven.
    Unchanged,
    /// Thawed, but a task is not proven to run again; or killed, but a task is not gone.
    Released,
    /// The container's own request is done, and another cgroup's request still holds its tasks.
    Held,
    /// The time was over; the requests are as they were before.
    RolledBack,
    /// The container may be frozen.
    Stuck,
    /// The container is gone, and what was asked for can't be done any more.
    Gone,
    /// The container is gone, which leaves nothing to do for a thaw or a kill.
    Ended,
    /// The kernel's state is as wanted, and the engine believes otherwise.
    Unhealthy,
    /// A safety rule forbids it.
    Refused,
    /// There is no such target, or it does not run.
    NotFound,
    /// The target means more than one container.
    Ambiguous,
    /// The caller may not do it, or this host can't.
    Denied,
    /// The request has no meaning.
    Usage,
    /// Another error.
    Error,
    /// A dry run: nothing was written.
    Planned,
}

impl Outcome {
    /// The word for it in the JSON output. Two ends of a container that is gone have one word, and two errors: the exit code
    /// tells them apart.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unchanged => "unchanged",
            Self::Released => "released",
            Self::Held => "held",
            Self::RolledBack => "rolled_back",
            Self::Stuck => "stuck",
            Self::Gone | Self::Ended => "gone",
            Self::Unhealthy => "unhealthy",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::Denied => "denied",
            Self::Usage | Self::Error => "error",
            Self::Planned => "planned",
        }
    }

    /// The command line's exit code for it: the only place where an end becomes a number.
    #[must_use]
    pub fn exit(self) -> u8 {
        match self {
            Self::Confirmed | Self::Unchanged | Self::Ended | Self::Planned => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::NotFound | Self::Gone => 3,
            Self::Ambiguous => 4,
            Self::Denied => 5,
            Self::RolledBack => 6,
            Self::Stuck => 7,
            Self::Held => 8,
            Self::Released => 9,
            Self::Unhealthy => 10,
            Self::Refused => 11,
        }
    }

    /// Whether the container is gone, whatever that means for what was asked.
    #[must_use]
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Gone | Self::Ended)
    }

    /// Whether the target is as it was wanted, or a dry run had nothing against it.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.exit() == 0
    }
}

/// The two fields of the JSON output that tell of an end: `outcome` and `exit`. A report flattens them into its own.
impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Outcome", 2)?;
        fields.serialize_field("outcome", self.word())?;
        fields.serialize_field("exit", &self.exit())?;
        fields.end()
    }
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
            // No thaw proves that a task is frozen.
            Proof::Holdout | Proof::Frozen => &mut self.holdouts,
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

impl FrozenCounts {
    pub(crate) fn add(&mut self, proof: Proof) {
        self.total += 1;
        *match proof {
            Proof::Frozen => &mut self.frozen,
            Proof::Unprovable => &mut self.unprovable,
            Proof::Unknown => &mut self.unknown,
            Proof::Exited => &mut self.exited,
            Proof::New => &mut self.new,
            // No freeze proves that a task runs.
            Proof::Holdout | Proof::Ran | Proof::Restored | Proof::Woken => &mut self.holdouts,
        } += 1;
    }
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

/// What is proven of each task, by its TID.
pub type Proofs = BTreeMap<i32, Proof>;

/// What a thaw, a freeze or a kill did to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `thaw`, `freeze`, `kill` or `resync`.
    pub verb: Verb,
    /// The target as typed.
    pub target: String,
    /// The container's ID.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its runtime.
    pub runtime: Option<Runtime>,
    /// How it ended; `outcome` and `exit` in JSON.
    #[serde(flatten)]
    pub outcome: Outcome,
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
    pub fn blank(verb: Verb, target: &str) -> Self {
        Self {
            schema: SCHEMA,
            verb,
            target: target.to_owned(),
            id: None,
            name: None,
            runtime: None,
            outcome: Outcome::Error,
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

    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// The command line's exit code for the end of this target.
    #[must_use]
    pub fn exit(&self) -> u8 {
        self.outcome.exit()
    }
}

/// What a rescue did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescue {
    /// The steps that were taken, in order.
    pub tried: Vec<RescueStep>,
    /// The one after which all was well; `None` where none was, or none was needed.
    pub worked: Option<RescueStep>,
}

/// What an engine was told, and what it believed before and after.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resynced {
    /// The engine.
    pub engine: String,
    /// What it believed.
    pub believed_before: Option<Believed>,
    /// What it believes now; `None` where that was not asked, or can't be told.
    pub believed_after: Option<Believed>,
    /// The command by which it is told to unpause; `None` where none is needed.
    pub command: Option<Vec<String>>,
    /// Whether the container has to be frozen for it.
    pub freezes: bool,
    /// The exit code of that command; `None` where it was not run or did not end by itself.
    pub exit: Option<i32>,
    /// Microseconds that it took.
    pub took_us: Option<u64>,
}
