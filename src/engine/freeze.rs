//! One container on its way into the freezer. A freeze that can't be confirmed in time is put back to what stood before,
//! and that is checked.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::scope::Scope;
use super::why::Suspect;
use super::{Mode, Run, Step, look, look_again, safety, tids};
use crate::cgroup::Cgroup;
use crate::error::{Error, Force, Result};
use crate::freezer::settle::{self, Look};
use crate::freezer::{self, Saved, Watch};
use crate::host::{Hierarchy, Host};
use crate::patience::Clock;
use crate::report::{Counts, Effective, FrozenCounts, Outcome, Proofs, Report, States, Verb};
use crate::resolver::Container;
use crate::verifier::{On, Place, Proof, Sighting, Witness, judge_freeze};

/// How long the proofs wait for those that have not settled yet. Most have settled by then.
pub(super) const HURRY: Duration = Duration::from_millis(100);

/// From when on a freeze that does not settle looks whether its request still stands. Most have settled by then.
const DOUBT: Duration = Duration::from_millis(100);

/// When a v1 freeze that sticks is pulsed. What settles at all does so within a fraction of that, a task that waits for
/// its CPU quota too.
const PULSES_AFTER: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];

/// When a v1 cgroup that stays FREEZING is asked again.
const AGAIN_AFTER: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why a freeze is undone that somebody gave up.
pub(super) const BROKEN_OFF: &str = "broken off by a signal";

/// How a freeze is done.
#[derive(Debug, Clone, Default)]
pub struct FreezeOptions {
    /// The safety rules that are lifted.
    pub force: Vec<Force>,
    /// Whether anything is written.
    pub mode: Mode,
    /// Whether it is thawed for a moment and asked again where the kernel needs that.
    pub pulses: Pulses,
    /// What becomes of the others where one can't be frozen.
    pub together: Together,
}

/// What becomes of the others where one of several can't be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Together {
    /// None of them is left frozen. One that is gone is no reason: nothing of it runs.
    #[default]
    AllOrNothing,
    /// Each has its own end.
    BestEffort,
}

/// Whether a v1 freeze that sticks is thawed for a moment and asked again, on kernels that need it
/// ([`crate::host::Kernel::sticks_at_freezing`]). Each pulse breaks off system calls of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pulses {
    /// Where the kernel needs it.
    #[default]
    WhereNeeded,
    /// Never.
    Never,
}

/// A target on its way, with what only a freeze knows.
pub(super) struct Freezing<'c> {
    pub(super) run: Run<'c>,
    /// The cgroup that asks for the freeze: the one that is written, or one that asked before.
    pub(super) by: &'c Cgroup,
    pub(super) standing: Option<Saved>,
    pub(super) watch: Option<Watch>,
    pub(super) wrote: bool,
    pub(super) looks: u32,
    pub(super) pulses: Pulses,
    /// How often it was asked again.
    pub(super) again: usize,
    /// The holdouts that a second look tells more of.
    pub(super) suspects: Vec<Suspect>,
    pub(super) last: BTreeMap<i32, Sighting>,
    /// The kernel's word in this round.
    word: Option<std::result::Result<Look, Errno>>,
    /// Whether it is thawed for a while, so that others of its set can be frozen first.
    pub(super) is_withheld: bool,
    /// Until when the rollbacks of the whole set are watched, once one has begun.
    pub(super) undo_until: &'c Cell<Option<Instant>>,
}

impl<'c> Freezing<'c> {
    pub(super) fn new(
        target: &str,
        container: &'c Container,
        pulses: Pulses,
        undo_until: &'c Cell<Option<Instant>>,
    ) -> Self {
        Self {
            run: Run::new(Verb::Freeze, target, container),
            by: &container.own[container.freeze_at],
            standing: None,
            watch: None,
            wrote: false,
            looks: 0,
            pulses,
            again: 0,
            suspects: Vec::new(),
            last: BTreeMap::new(),
            word: None,
            is_withheld: false,
            undo_until,
        }
    }

    /// Whether it is frozen, and was not before.
    pub(super) fn is_frozen_now(&self) -> bool {
        self.wrote && self.run.done && self.run.report.outcome == Outcome::Confirmed
    }

    /// Whether it can't be frozen. One that is gone is as good as frozen.
    pub(super) fn is_failed(&self) -> bool {
        self.run.done && !self.run.report.outcome.is_success() && !self.run.report.outcome.is_gone()
    }

    /// Whether it would be left frozen, or freeze later.
    pub(super) fn is_to_undo(&self) -> bool {
        !self.run.done || self.is_frozen_now()
    }

    /// Looks at what is so, checks the rules, and says what is to be put back if it fails. Nothing is written.
    pub(super) fn prepare(
        &mut self,
        host: &Host,
        clock: &Clock<'_>,
        options: &FreezeOptions,
        agreed: &dyn Fn(&Saved) -> Result<()>,
        told: &mut dyn FnMut(&Report, &Step),
    ) -> Result<()> {
        let container = self.run.container;
        self.run.report.pulses = Some(0);
        // Whom nobody can see there may be anybody; whoever says that it may be need not be told.
        self.run.before = match options.force.contains(&Force::HostDaemon) {
            true => look_again(host, container)?,
            false => look(host, container)?,
        };
        let scope = Scope::read(host, container)?;
        self.run.report.before = scope.states(container, &self.run.before.seen, host);
        self.run.report.cgroups = scope.changes(container, &self.run.before.seen, host);
        // A freeze that stands already is only proven, in the hierarchy that it stands in.
        let own = container.own.iter().zip(&scope.own);
        let mut standing = own
            .filter(|(_, around)| around.as_ref().is_some_and(|around| around.requested))
            .map(|(cgroup, _)| cgroup);
        let already = standing.next();
        safety::check(
            host,
            already.unwrap_or(self.by),
            &container.identity,
            &options.force,
        )?;
        if let Some(cgroup) = already {
            self.by = cgroup;
        }
        self.standing = Some(Saved {
            held_by: scope.holders(container),
            ..Saved::of(self.by)?
        });
        if options.mode == Mode::DryRun {
            if already.is_none() {
                self.run.report.writes.push(freezer::freeze_write(self.by));
            }
            self.run.report.end(Outcome::Planned);
            self.run.done = true;
            return Ok(());
        }
        self.watch = Some(Watch::on(self.by)?);
        if clock.is_cancelled() {
            self.run.report.end(Outcome::RolledBack);
            self.run.report.error = Some("broken off by a signal before anything was written".to_owned());
            self.run.done = true;
            return Ok(());
        }
        let Some(standing) = self.standing.clone() else {
            return Ok(());
        };
        agreed(&standing)?;
        if !standing.requested {
            told(&self.run.report, &Step::Saved(standing));
        }
        Ok(())
    }

    /// Asks for the freeze, unless that stands already.
    pub(super) fn request(&mut self, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        self.run.began = Instant::now();
        if self.standing.as_ref().is_some_and(|standing| !standing.requested) {
            told(&self.run.report, &Step::Writing(freezer::freeze_write(self.by)));
            self.wrote = true;
            let write = freezer::freeze(self.by)?;
            self.run.report.writes.push(write.clone());
            told(&self.run.report, &Step::Written(write));
        }
        Ok(())
    }

    /// Whether its freeze was asked for by this one, and may stay so.
    pub(super) fn is_asked_now(&self) -> bool {
        self.wrote && (!self.run.done || self.is_frozen_now())
    }

    /// Whether a task of it waits for a file system of FUSE, which keeps it from being frozen.
    pub(super) fn waits_for_fuse(&self, host: &Host) -> bool {
        let witness = Witness::new(host);
        // Without its tasks there is nothing to be seen.
        let tasks = look(host, self.run.container).unwrap_or_default().seen;
        let mut stuck = tasks
            .values()
            .filter(|task| witness.place(task) == Place::Uninterruptible);
        stuck.any(|task| witness.describe(task).on == Some(On::Fuse))
    }

    /// Thaws it for a while, so that others of its set can be frozen first.
    pub(super) fn skip(&mut self, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        told(&self.run.report, &Step::Writing(freezer::thaw_write(self.by)));
        let write = freezer::thaw(self.by)?;
        self.run.report.writes.push(write.clone());
        told(&self.run.report, &Step::Written(write));
        self.run.report.hints.push(
            "it was thawed for a moment and frozen after the others, as one of them waited for a file system of FUSE".to_owned(),
        );
        (self.run.done, self.run.settled, self.word) = (false, None, None);
        self.is_withheld = true;
        Ok(())
    }

    /// Asks for the freeze of what was thawed for a while; its time goes on from the first request.
    pub(super) fn ask_in_turn(&mut self, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        self.is_withheld = false;
        told(&self.run.report, &Step::Writing(freezer::freeze_write(self.by)));
        let write = freezer::freeze(self.by)?;
        self.run.report.writes.push(write.clone());
        told(&self.run.report, &Step::Written(write));
        Ok(())
    }

    /// Asks the kernel whether it is settled.
    pub(super) fn hear(&mut self, told: &mut dyn FnMut(&Report, &Step)) {
        self.word = self.watch.as_ref().map(Watch::look);
        if self.word == Some(Ok(Look::Settled)) && self.run.settled.is_none() {
            self.run.settled = Some(Instant::now());
            told(&self.run.report, &Step::Settled);
        }
    }

    /// Goes by the kernel's word as it was heard: where that says settled, the tasks are looked at. `None` when there is
    /// nothing to wait for.
    pub(super) fn advance(
        &mut self,
        host: &Host,
        clock: &Clock<'_>,
        told: &mut dyn FnMut(&Report, &Step),
    ) -> Result<Option<settle::Step>> {
        let Some(watch) = &self.watch else { return Ok(None) };
        let (notices, path) = (watch.notices(), watch.path().to_owned());
        let (mut seen, cause) = match self.word.take().unwrap_or_else(|| watch.look()) {
            Ok(look) => (look, None),
            Err(errno) => (Look::Failed, Some(errno)),
        };
        if seen == Look::Settled {
            if self.prove(host)? {
                self.confirm(host)?;
                return Ok(None);
            }
            seen = Look::Unsettled;
        }
        if seen == Look::Unsettled {
            self.ask_again(told)?;
            self.pulse(host, told)?;
            if self.wrote && self.run.began.elapsed() >= DOUBT && !self.by.requested()? {
                self.roll_back(host, "somebody else thawed it meanwhile");
                return Ok(None);
            }
        }
        // Each target has the whole limit, from its own request on.
        let step = settle::step(seen, notices, self.looks, self.run.began.elapsed(), clock.limit());
        self.looks += 1;
        match step {
            settle::Step::Gone => self.gone(),
            settle::Step::Fail => {
                let odd =
                    || std::io::Error::new(std::io::ErrorKind::InvalidData, "it says neither frozen nor not");
                return Err(Error::Io {
                    act: "read".to_owned(),
                    path,
                    cause: cause.map_or_else(odd, Into::into),
                });
            }
            settle::Step::GiveUp => {
                let waited = format!(
                    "still {} after {} ms",
                    self.kernels_word(),
                    clock.limit().as_millis()
                );
                self.roll_back(host, &waited);
            }
            settle::Step::Done | settle::Step::Pause(_) | settle::Step::Watch(_) => return Ok(Some(step)),
        }
        Ok(None)
    }

    /// v1 asks each task once, when the request is written. Since Linux 6.1 one that runs then, and goes to wait where only
    /// a deadly signal wakes it (a vfork parent), is missed: the next write finds it asleep, and freezes it there. It costs
    /// the tasks nothing.
    ///
    /// # Kernel
    ///
    /// `freeze_cgroup()` in kernel/cgroup/legacy_freezer.c, `wait_for_vfork_done()` in kernel/fork.c.
    fn ask_again(&mut self, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        let after = AGAIN_AFTER.get(self.again);
        let is_due = after.is_some_and(|&after| self.run.began.elapsed() >= after);
        // Not if somebody has thawed it meanwhile.
        if !is_due || !self.wrote || self.by.hierarchy() != Hierarchy::V1 || !self.by.requested()? {
            return Ok(());
        }
        self.again += 1;
        told(&self.run.report, &Step::Writing(freezer::freeze_write(self.by)));
        let write = freezer::freeze(self.by)?;
        self.run.report.writes.push(write.clone());
        told(&self.run.report, &Step::Written(write));
        Ok(())
    }

    /// Thaws it for a moment and asks again, where it sticks on a kernel that needs that. A task in an uninterruptible
    /// sleep of its own is not helped by it.
    fn pulse(&mut self, host: &Host, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        let done = self.run.report.pulses.unwrap_or(0);
        let due = PULSES_AFTER.get(done as usize);
        let is_due = due.is_some_and(|&due| self.run.began.elapsed() >= due);
        let sticks = self.by.hierarchy() == Hierarchy::V1 && host.kernel().sticks_at_freezing();
        if self.pulses == Pulses::Never || !self.wrote || !is_due || !sticks {
            return Ok(());
        }
        let witness = Witness::new(host);
        let is_own_sleep = |task: &Sighting| witness.place(task) == Place::Uninterruptible;
        if look_again(host, self.run.container)?
            .seen
            .values()
            .any(is_own_sleep)
        {
            return Ok(());
        }
        self.run.report.pulses = Some(done + 1);
        for (write, act) in [
            (
                freezer::thaw_write(self.by),
                freezer::thaw as fn(&Cgroup) -> Result<_>,
            ),
            (freezer::freeze_write(self.by), freezer::freeze),
        ] {
            told(&self.run.report, &Step::Writing(write));
            let write = act(self.by)?;
            self.run.report.writes.push(write.clone());
            told(&self.run.report, &Step::Written(write));
        }
        Ok(())
    }

    fn kernels_word(&self) -> &'static str {
        match (self.by.hierarchy(), self.run.settled) {
            (_, Some(_)) => "not proven frozen",
            (Hierarchy::V1, None) => "FREEZING",
            (Hierarchy::V2, None) => "freezing",
        }
    }

    /// Two scans must find the same tasks, none of them moving; only then it is confirmed.
    fn prove(&mut self, host: &Host) -> Result<bool> {
        let container = self.run.container;
        let witness = Witness::new(host);
        let first_tids = tids(container)?;
        let first = witness.look_at_all(first_tids.iter().copied());
        let second_tids = tids(container)?;
        let second = witness.look_at_all(second_tids.iter().copied());
        let mut counts = FrozenCounts::default();
        let mut proofs = Proofs::new();
        let mut still = first_tids == second_tids && self.by.requested()?;
        let before = &self.run.before;
        let all: BTreeSet<i32> = before
            .seen
            .keys()
            .chain(&before.unseen)
            .chain(&second_tids)
            .copied()
            .collect();
        for tid in &all {
            let proof = match (second.seen.get(tid), second_tids.contains(tid)) {
                (Some(now), true) => {
                    judge_freeze(first.seen.get(tid), now, self.by.hierarchy(), witness.kernel())
                }
                // It is listed and was not seen: it can't be looked at, or ends just now, which the next round shows.
                (None, true) => Proof::Unknown,
                (_, false) => Proof::Exited,
            };
            // A number that is another task's by now is no acquaintance.
            let known = before
                .seen
                .get(tid)
                .is_some_and(|before| second.seen.get(tid).is_none_or(|now| now.start == before.start));
            let is_new = !known && !before.unseen.contains(tid);
            still &= matches!(proof, Proof::Frozen | Proof::Exited);
            let proof = if proof == Proof::Frozen && is_new {
                Proof::New
            } else {
                proof
            };
            counts.add(proof);
            proofs.insert(*tid, proof);
        }
        self.run.report.tasks = Some(Counts::Freeze(counts));
        self.run.report.proofs = Some(proofs);
        self.last = second.seen;
        Ok(still)
    }

    /// The verdict on a freeze that is proven.
    fn confirm(&mut self, host: &Host) -> Result<()> {
        let had_tasks = !self.run.before.seen.is_empty();
        if had_tasks && self.last.is_empty() && !self.is_any_dying(host) {
            // Nothing is frozen but a place where something was: the request is not left there.
            self.undo(host, "it is gone: its last task ended meanwhile", Outcome::Gone);
            return Ok(());
        }
        let scope = Scope::read(host, self.run.container)?;
        self.note_after(&scope, host);
        // The kernel said so of the hierarchy that was written; v1's own word is not told from the letters again.
        self.run.report.after.effective = Some(Effective::Frozen);
        for change in &mut self.run.report.cgroups {
            if change.dir == self.by.dir() {
                change.after.effective = Some(Effective::Frozen);
            }
        }
        let outcome = if self.wrote {
            Outcome::Confirmed
        } else {
            Outcome::Unchanged
        };
        self.run.report.end(outcome);
        self.run.stamp();
        Ok(())
    }

    /// Whether a task that was there before is on its way out, and listed no more: it is not gone, and runs nothing of its
    /// program again.
    fn is_any_dying(&self, host: &Host) -> bool {
        let witness = Witness::new(host);
        let before = &self.run.before.seen;
        let now = witness.look_at_all(before.keys().copied()).seen;
        now.values().any(|now| {
            let is_it = before.get(&now.tid).is_some_and(|then| then.start == now.start);
            is_it && witness.place(now) != Place::Dead
        })
    }

    pub(super) fn note_after(&mut self, scope: &Scope, host: &Host) {
        let container = self.run.container;
        self.run.report.after = scope.states(container, &self.last, host);
        for (change, status) in self
            .run
            .report
            .cgroups
            .iter_mut()
            .zip(scope.statuses(container, &self.last, host))
        {
            change.after = States {
                requested: status.requested,
                effective: status.effective,
            };
            change.frozen_by = status.frozen_by;
        }
    }

    fn gone(&mut self) {
        self.run.report.end(Outcome::Gone);
        self.run.report.error = Some("it is gone: its cgroup was removed meanwhile".to_owned());
        self.run.stamp();
    }

    pub(super) fn abort(&mut self, host: &Host, error: &Error) {
        match error {
            Error::Gone(_) => self.gone(),
            error if self.wrote => self.undo(host, &error.to_string(), Outcome::Error),
            error => self.run.fail(error),
        }
    }
}
