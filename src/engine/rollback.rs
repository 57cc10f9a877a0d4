//! The way back of a freeze that can't be met: who held it up is named, what stood before is put back, and that is
//! looked after.

use std::time::{Duration, Instant};

use super::freeze::{BROKEN_OFF, Freezing};
use super::scope::{Scope, counts_as_held_by_v1};
use super::why::{self, Known};
use super::{advice, look_again};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::freezer::Saved;
use crate::host::{Hierarchy, Host};
use crate::patience::Patience;
use crate::report::{Counts, FrozenCounts, Outcome, Proofs};
use crate::verifier::{Place, Proof, Sighting, Witness};

/// How long the rollback of a freeze is watched until no task sits in a frozen place any more.
const ROLLBACK_LOOKS: Duration = Duration::from_millis(300);

/// So many of those that came during a freeze are named.
const MOST_NEW: usize = 16;

impl Freezing<'_> {
    /// Names who does not freeze, then puts back what stood before and looks whether everybody is let go.
    pub(super) fn roll_back(&mut self, host: &Host, cause: &str) {
        let container = self.run.container;
        let witness = Witness::new(host);
        // The evidence first: the rollback changes it. Tasks that can't be listed are gone, and hold nothing up.
        let now = look_again(host, container).unwrap_or_default();
        self.last = now.seen;
        let (held, mut holdouts): (Vec<&Sighting>, Vec<&Sighting>) =
            self.last.values().partition(|task| self.is_held(witness, task));
        let before = &self.run.before;
        let is_new =
            |task: &&Sighting| !before.seen.contains_key(&task.tid) && !before.unseen.contains(&task.tid);
        let new: Vec<&Sighting> = held.into_iter().filter(is_new).collect();
        let counted = FrozenCounts {
            total: count(self.last.len() + now.unseen.len()),
            unknown: count(now.unseen.len()),
            holdouts: count(holdouts.len()),
            new: count(new.len()),
            frozen: count(self.last.len() - holdouts.len() - new.len()),
            ..FrozenCounts::default()
        };
        // Where each is held when it is looked at, those that came are why it was not proven.
        let keeps_changing = holdouts.is_empty() && !new.is_empty() && cause != BROKEN_OFF;
        if keeps_changing {
            holdouts.extend(new.iter().take(MOST_NEW));
        }
        let mut names: Vec<String> = holdouts
            .iter()
            .map(|task| format!("{} {} {}", task.tid, task.comm, task.letter))
            .collect();
        let described = Scope::read(host, container).map(|scope| {
            let known = Known {
                scope: &scope,
                asked: Some(self.by.hierarchy()),
                before: &self.run.before.seen,
            };
            why::holdouts(host, known, holdouts.iter().copied())
        });
        // Without its cgroups nothing more is known of the tasks than what they show.
        (self.run.report.holdouts, self.suspects) =
            described.unwrap_or_else(|_| (witness.describe_all(&holdouts), Vec::new()));
        let unseen = witness.describe_unseen(&now.unseen);
        names.extend(
            unseen
                .iter()
                .map(|task| format!("{} {} {}", task.tid, task.comm, task.state)),
        );
        self.run.report.holdouts.extend(unseen);
        if !self.run.report.holdouts.is_empty() {
            let hint = advice::see_explain(&self.run.report.target);
            self.run.report.hints.push(hint);
        }
        self.run.report.tasks = Some(Counts::Freeze(counted));
        let mut proofs: Proofs = self.last.keys().map(|&tid| (tid, Proof::Frozen)).collect();
        proofs.extend(holdouts.iter().map(|task| (task.tid, Proof::Holdout)));
        proofs.extend(now.unseen.iter().map(|&tid| (tid, Proof::Unknown)));
        self.run.report.proofs = Some(proofs);
        let what = if names.is_empty() {
            cause.to_owned()
        } else if keeps_changing {
            format!("{cause}: {} tasks came since it was asked", new.len())
        } else {
            format!(
                "{cause}: {} of {} tasks not frozen ({})",
                holdouts.len() + now.unseen.len(),
                self.last.len() + now.unseen.len(),
                names.join(", ")
            )
        };
        self.undo(host, &what, Outcome::RolledBack);
    }

    /// Puts back what stood before of one that is not at fault.
    pub(super) fn take_back(&mut self, host: &Host, cause: &str) {
        self.undo(host, cause, Outcome::RolledBack);
    }

    fn is_held(&self, witness: Witness<'_>, task: &Sighting) -> bool {
        match (self.by.hierarchy(), witness.place(task)) {
            (Hierarchy::V2, Place::Trap | Place::Stopped | Place::Traced | Place::Vfork | Place::Dead) => {
                true
            }
            (Hierarchy::V2, _) => false,
            // Whatever it is in, it is named.
            (Hierarchy::V1, Place::Uninterruptible) => false,
            (Hierarchy::V1, place) => counts_as_held_by_v1(place, task, witness.kernel()),
        }
    }

    pub(super) fn undo(&mut self, host: &Host, what: &str, outcome: Outcome) {
        let put = match (&self.standing, self.wrote) {
            (Some(standing), true) => standing.put_back(self.by),
            _ => Ok(None),
        };
        match put {
            Ok(write) => {
                self.run.report.writes.extend(write);
                let let_go = !self.wrote || self.everybody_is_let_go(host);
                let was_asked = self.standing.as_ref().is_some_and(|standing| standing.requested);
                let end = match (self.wrote, was_asked) {
                    (true, _) => "; rolled back",
                    (false, true) => "; it was asked for before and still is",
                    (false, false) => "; nothing was written",
                };
                self.run.report.error = Some(format!("{what}{end}"));
                self.run.report.end(outcome);
                if !let_go {
                    self.run.report.hints.push(
                        "the request is undone, but a task still sits in a frozen place: iceaxe thaw it"
                            .to_owned(),
                    );
                }
            }
            Err(error) => {
                self.run.report.error = Some(format!("{what}; and it could not be rolled back: {error}"));
                self.run.report.end(Outcome::Stuck);
                self.run
                    .report
                    .hints
                    .push("it may be frozen, or freeze later".to_owned());
            }
        }
        if let Ok(scope) = Scope::read(host, self.run.container) {
            self.last = look_again(host, self.run.container).unwrap_or_default().seen; // none left: nothing to tell of them
            self.note_after(&scope, host);
        }
        self.run.stamp();
        if self.run.settled.is_none() {
            self.run.report.settle_us = None;
            self.run.report.verify_us = None;
        }
    }

    /// Watches until no task sits in a frozen place, unless something else holds them.
    fn everybody_is_let_go(&self, host: &Host) -> bool {
        let witness = Witness::new(host);
        let until = self
            .undo_until
            .get()
            .unwrap_or_else(|| Instant::now() + ROLLBACK_LOOKS);
        self.undo_until.set(Some(until));
        let clock = Patience::of(ROLLBACK_LOOKS).start();
        let mut pause = Duration::from_micros(100);
        loop {
            let held_by_others = Scope::read(host, self.run.container)
                .is_ok_and(|scope| scope.requested() || scope.is_held_from_outside());
            let tasks = look_again(host, self.run.container).unwrap_or_default().seen; // gone: let go for good
            if held_by_others || !tasks.values().any(|task| witness.place(task).is_frozen()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            clock.pause(pause, &[]);
            pause *= 2;
        }
    }
}

/// Puts back what stood before a freeze whose own process did not live to do it.
///
/// # Errors
///
/// The cgroup can't be opened or written: it may be frozen.
pub fn put_back(host: &Host, standing: &Saved) -> Result<()> {
    match Cgroup::open(host, standing.hierarchy, &standing.path) {
        Ok(cgroup) => standing.put_back(&cgroup).map(drop),
        Err(Error::Gone(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether what was frozen asks for it still. What can't be told does.
#[must_use]
pub fn still_asks(host: &Host, standing: &Saved) -> bool {
    match Cgroup::open(host, standing.hierarchy, &standing.path) {
        Ok(cgroup) if cgroup.id() != standing.id => false,
        Ok(cgroup) => match cgroup.requested() {
            Ok(asks) => asks,
            Err(error) => !matches!(error, Error::Gone(_)),
        },
        Err(error) => !matches!(error, Error::Gone(_)),
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
