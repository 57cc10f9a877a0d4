//! What `explain` tells of one container: plain values, in the order and under the names of the JSON output.

use serde::Serialize;

use super::{Advice, Dying, Status, Verb};
use crate::verifier::Holdout;

/// What kind of cgroup asks for the freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// One of the container's own.
    Own,
    /// One above its own.
    Ancestor,
    /// One in the other hierarchy that it shares with others, or above that.
    Shared,
    /// One below its own, which holds only what is in it.
    Inner,
}

/// A cgroup that asks for a freeze that concerns the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// What it is to the container.
    pub kind: Holds,
    /// The cgroup, as a target is written.
    pub cgroup: String,
}

/// Why a container is as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// `explain`.
    pub verb: Verb,
    /// The target as typed.
    pub target: String,
    /// The four states, in both hierarchies.
    #[serde(flatten)]
    pub status: Status,
    /// Every cgroup that asks for a freeze, in the order in which they hold it, own requests first.
    pub held_by: Vec<Holder>,
    /// Microseconds that it was frozen altogether since its v2 cgroup was made, by the kernel's running total: no freeze
    /// of it is older than that. `None` where the kernel keeps none.
    pub frozen_at_most_us: Option<u64>,
    /// The tasks that are not as the requests have it, or that would not go on without them.
    pub holdouts: Vec<Holdout>,
    /// How many tasks came between two looks: more than a few mean that it does not settle for them.
    pub arriving: u32,
    /// The tasks that die when it is thawed.
    pub dying: Vec<Dying>,
    /// What to do, mildest first.
    pub ladder: Vec<Advice>,
}
