//! The verbs, for any number of containers at once: request everything, wait for all together, gather the evidence.
//! It is the only place that knows both the freezer, which acts, and the verifier, which testifies.

mod advice;
mod barrier;
mod commands;
mod explain;
mod freeze;
mod holders;
mod kill;
mod rescue;
mod resync;
mod rollback;
mod safety;
mod scope;
mod signal;
mod status;
mod thaw;
mod why;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::cgroup::{Cgroup, Tasks};
use crate::error::{Error, Result};
use crate::freezer::{Saved, Write};
use crate::host::{ENTER_PID_NAMESPACE, Hierarchy, Host};
use crate::report::{Dying, Outcome, Report, RescueStep, Verb};
use crate::resolver::Container;
use crate::verifier::{Proof, Sightings, Witness};

pub(crate) use advice::quoted;
pub use barrier::{Before, freeze, freeze_after, skip};
pub use explain::explain;
pub use freeze::{FreezeOptions, Pulses, Together};
pub use holders::{Holders, described, others};
pub use kill::{KillOptions, kill};
pub use rescue::{RescueOptions, out_and_back, rescue};
pub use resync::{Plan, ResyncLimits, Resyncer};
pub use rollback::{put_back, still_asks};
pub use safety::{GUARD, GUARDS, check as check_safety};
pub use scope::{Asking, ThawedAncestors, asking};
pub(crate) use scope::{LONGEST_PATH, Scope};
pub use signal::{SignalOptions, Whom, signal};
pub use status::{Outside, outside, quick_status, started, status};
pub use thaw::{Clear, Reach, ThawOptions, release, thaw};

/// What just happened to one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// This stood before, and is to be put back if the freeze fails; told before its write.
    Saved(Saved),
    /// These die by the thaw; told before its first write.
    Dying(Vec<Dying>),
    /// The next step of a rescue begins, which has the whole limit to itself.
    Rescuing(RescueStep),
    /// The first signal of a kill is about to be sent: from here on nothing is as before.
    Killing,
    /// This write is about to be done; it may never return.
    Writing(Write),
    /// It returned.
    Written(Write),
    /// The kernel calls it settled.
    Settled,
    /// Nothing of its own asks for a freeze any more.
    Released,
    /// What is proven of a task changed.
    Task {
        /// The task.
        tid: i32,
        /// What is proven.
        proof: Proof,
    },
    /// An engine is about to be told to unpause it, by its own command line.
    TellingEngine,
    /// The verdict is in the report.
    Done,
}

/// Is told each step: the target's index, its report so far, the step.
pub type Watcher<'w> = &'w mut dyn FnMut(usize, &Report, &Step);

/// Whether writes are done or only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Done.
    #[default]
    Act,
    /// Listed.
    DryRun,
}

/// One target on its way through a verb.
struct Run<'c> {
    container: &'c Container,
    report: Report,
    before: Sightings,
    done: bool,
    /// When the first write was begun.
    began: Instant,
    /// When the kernel's words said what was wanted.
    settled: Option<Instant>,
}

impl<'c> Run<'c> {
    fn new(verb: Verb, target: &str, container: &'c Container) -> Self {
        let mut report = Report::blank(verb, target);
        report.id.clone_from(&container.identity.id);
        report.name.clone_from(&container.identity.name);
        report.runtime = container.identity.runtime;
        Self {
            container,
            report,
            before: Sightings::default(),
            done: false,
            began: Instant::now(),
            settled: None,
        }
    }

    /// Ends with an error that came before anything was written.
    fn fail(&mut self, error: &Error) {
        self.report.end(untouched_end(error));
        self.report.error = Some(error.to_string());
        self.report.hints.extend(error.hints());
        self.done = true;
    }

    /// Stamps the times of a verdict.
    fn stamp(&mut self) {
        let now = Instant::now();
        let settled = self.settled.unwrap_or(now);
        self.report.settle_us = Some(micros(settled.saturating_duration_since(self.began)));
        self.report.verify_us = Some(micros(now.saturating_duration_since(settled)));
        self.report.verified_at_us = monotonic_us();
        self.done = true;
    }
}

/// How an error ends a target that is still as it was found.
#[must_use]
pub fn untouched_end(error: &Error) -> Outcome {
    match error {
        Error::Usage(_) => Outcome::Usage,
        Error::NotFound(_) | Error::NotRunning(_) => Outcome::NotFound,
        Error::Gone(_) => Outcome::Gone,
        Error::Ambiguous { .. } => Outcome::Ambiguous,
        Error::Unsupported(_) => Outcome::Denied,
        Error::Refused { .. } => Outcome::Refused,
        Error::Io { .. } => Outcome::Error,
    }
}

/// The tasks of a container, in either hierarchy: one may sit in a frozen cgroup of one while its process is elsewhere.
pub(crate) fn tids(container: &Container) -> Result<BTreeSet<i32>> {
    match tasks(container, None)? {
        Tasks { tids, missed: None } => Ok(tids),
        Tasks {
            missed: Some(missed), ..
        } => Err(missed),
    }
}

/// The same as far as they can be listed until a moment, and why those are not all.
fn tasks(container: &Container, until: Option<Instant>) -> Result<Tasks> {
    let mut all = Tasks::default();
    let mut gone = None;
    let mut found = false;
    for cgroup in container.tops() {
        match cgroup.tasks_below(until) {
            Ok(Tasks { tids, missed }) => {
                found = true;
                all.tids.extend(tids);
                all.missed = all.missed.or(missed);
            }
            Err(Error::Gone(dir)) => gone = Some(dir),
            Err(error) => return Err(error),
        }
    }
    match gone {
        Some(dir) if !found => Err(Error::Gone(dir)),
        _ => Ok(all),
    }
}

/// Refuses to take none for nobody where v1 leaves out the tasks that have no number here. It is asked of the first list:
/// where somebody was seen, whoever is listed no more has ended.
fn check_seen(host: &Host, container: &Container, tids: &BTreeSet<i32>) -> Result<()> {
    let on_v1 = || container.own.iter().any(|own| own.hierarchy() == Hierarchy::V1);
    if tids.is_empty() && !host.sees_every_task() && on_v1() {
        return Err(Error::Unsupported(format!(
            "no task of {} can be seen from this PID namespace: {ENTER_PID_NAMESPACE}",
            container.freeze_point().dir().display()
        )));
    }
    Ok(())
}

/// The order in which requests are cleared.
const V2_FIRST: [Hierarchy; 2] = [Hierarchy::V2, Hierarchy::V1];

/// Those in this order.
fn v2_first(cgroups: Vec<&Cgroup>) -> Vec<&Cgroup> {
    let (mut all, v1): (Vec<_>, Vec<_>) = cgroups
        .into_iter()
        .partition(|cgroup| cgroup.hierarchy() == Hierarchy::V2);
    all.extend(v1);
    all
}

/// The first look at a container's tasks.
pub(crate) fn look(host: &Host, container: &Container) -> Result<Sightings> {
    let tids = tids(container)?;
    check_seen(host, container, &tids)?;
    Ok(Witness::new(host).look_at_all(tids))
}

/// A look at them where it is known that they can be seen, or that this does not matter.
fn look_again(host: &Host, container: &Container) -> Result<Sightings> {
    Ok(Witness::new(host).look_at_all(tids(container)?))
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn monotonic_us() -> Option<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?; // it always exists on Linux
    u64::try_from(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000).ok()
}
