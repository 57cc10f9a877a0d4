//! Ends any number of containers without letting them run in between, where the kernel allows that: freeze, kill while
//! frozen, look for newcomers until there is none, clear the requests, watch until the cgroup is empty.
//!
//! On v2 a fatal signal ends a frozen task at once; on v1 it waits for the thaw, and the task dies on its way out of the
//! refrigerator, before it sees user mode again (`get_signal()`, kernel/signal.c).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::scope::{Scope, each_inner, written};
use super::why::{self, Known};
use super::{
    FreezeOptions, Mode, Pulses, Run, Step, Together, V2_FIRST, Watcher, freeze, look, put_back, safety,
    tids, untouched_end, v2_first,
};
use crate::cgroup::{Cgroup, Descent};
use crate::error::{Error, Force, Result};
use crate::freezer::{self, Saved, Write};
use crate::host::{Hierarchy, Host};
use crate::patience::{Clock, Patience, Woke};
use crate::report::{Counts, Outcome, Report, States, ThawedCounts, Verb};
use crate::resolver::Container;
use crate::signaller;
use crate::verifier::{Before, Place, Proof, Sighting, Witness, judge_thaw};

/// How long the freeze before the kill may take: what does not freeze in that time is killed as it is.
const HOLD: Duration = Duration::from_millis(500);
/// The first and the longest pause between two looks whether a cgroup is empty.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// How a kill is done.
#[derive(Debug, Clone, Default)]
pub struct KillOptions {
    /// The safety rules that are lifted.
    pub force: Vec<Force>,
    /// Whether anything is done.
    pub mode: Mode,
}

/// A target on its way, with what only a kill knows.
struct Killing<'c> {
    run: Run<'c>,
    /// Whether every task was proven to stand still when the first signal was sent.
    stood_still: bool,
    /// The processes that were sent SIGKILL, by number and start.
    signalled: BTreeSet<(i32, u64)>,
    /// Whether something came into the cgroup after it was thawed.
    came_late: bool,
    /// What stood before it was frozen for the kill; `None` where that was not needed.
    standing: Option<Saved>,
}

/// Kills `containers` (each with the target as typed), and proves that their cgroups are empty. The reports come in
/// order.
pub fn kill(
    host: &Host,
    containers: &[(&str, &Container)],
    options: &KillOptions,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let clock = patience.start();
    let mut all: Vec<Killing<'_>> = containers
        .iter()
        .map(|(target, container)| Killing {
            run: Run::new(Verb::Kill, target, container),
            stood_still: false,
            signalled: BTreeSet::new(),
            came_late: false,
            standing: None,
        })
        .collect();
    for (index, killing) in all.iter_mut().enumerate() {
        if let Err(error) = killing.check(host, options) {
            killing.run.fail(&error);
        }
        if killing.run.done {
            watcher(index, &killing.run.report, &Step::Done);
        }
    }
    hold(host, &mut all, patience, watcher);
    for (index, killing) in all
        .iter_mut()
        .enumerate()
        .filter(|(_, killing)| !killing.run.done)
    {
        let mut told = |report: &Report, step: &Step| watcher(index, report, step);
        if clock.is_cancelled() {
            killing.give_up(host);
            told(&killing.run.report, &Step::Done);
        } else if let Err(error) = killing.strike(host, &clock, &mut told) {
            killing.abort(host, &error);
            told(&killing.run.report, &Step::Done);
        }
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let mut waiting = false;
        for (index, killing) in all
            .iter_mut()
            .enumerate()
            .filter(|(_, killing)| !killing.run.done)
        {
            if let Err(error) = killing.watch(host, &clock) {
                killing.abort(host, &error);
            }
            if killing.run.done {
                watcher(index, &killing.run.report, &Step::Done);
            }
            waiting |= !killing.run.done;
        }
        if !waiting {
            return all.into_iter().map(|killing| killing.run.report).collect();
        }
        if clock.pause(pause, &[]) == Woke::Cancelled {
            for (index, killing) in all
                .iter_mut()
                .enumerate()
                .filter(|(_, killing)| !killing.run.done)
            {
                killing.verdict(host); // what is killed stays killed
                watcher(index, &killing.run.report, &Step::Done);
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Freezes those that are not done with, as far as they can be in a short time: who stands still can't run on.
fn hold(host: &Host, all: &mut [Killing<'_>], patience: Patience<'_>, watcher: Watcher<'_>) {
    let open: Vec<usize> = (0..all.len()).filter(|&index| !all[index].run.done).collect();
    let targets: Vec<(&str, &Container)> = open.iter().map(|&index| ("", all[index].run.container)).collect();
    let options = FreezeOptions {
        force: Force::ALL.to_vec(), // checked by the stricter rules of a kill
        mode: Mode::Act,
        pulses: Pulses::Never,
        together: Together::BestEffort,
    };
    let blanks: Vec<Report> = all.iter().map(|killing| killing.run.report.clone()).collect();
    let mut standing: Vec<Option<Saved>> = vec![None; open.len()];
    let reports = freeze(
        host,
        &targets,
        &options,
        patience.at_most(HOLD),
        &mut |nth, report, step| {
            if let Step::Saved(before) = step {
                standing[nth] = Some(before.clone());
            }
            if matches!(step, Step::Saved(_) | Step::Writing(_) | Step::Written(_)) {
                let mut so_far = blanks[open[nth]].clone();
                so_far.writes.clone_from(&report.writes);
                watcher(open[nth], &so_far, step);
            }
        },
    );
    for ((index, report), standing) in open.into_iter().zip(reports).zip(standing) {
        let killing = &mut all[index];
        killing.standing = standing;
        killing.stood_still = report.exit() == 0;
        killing.run.report.writes = report.writes;
        // Who may not freeze it may not kill it.
        if report.outcome.is_gone() || report.outcome == Outcome::Denied {
            killing.run.report.end(report.outcome);
            killing.run.report.error = report.error;
            killing.run.done = true;
            watcher(index, &killing.run.report, &Step::Done);
        }
    }
}

impl<'c> Killing<'c> {
    /// The topmost of its own cgroups in each hierarchy, which hold all others: v2 first.
    fn tops(&self) -> Vec<&'c Cgroup> {
        v2_first(self.run.container.tops().collect())
    }

    /// Looks, and refuses what is not to be killed.
    fn check(&mut self, host: &Host, options: &KillOptions) -> Result<()> {
        let container = self.run.container;
        self.run.before = look(host, container)?;
        let scope = Scope::read(host, container)?;
        if scope.is_gone() {
            return Err(Error::Gone(container.freeze_point().dir().to_owned()));
        }
        self.run.report.before = scope.states(container, &self.run.before.seen, host);
        self.run.report.cgroups = scope.changes(container, &self.run.before.seen, host);
        for top in self.tops() {
            safety::check(host, top, &container.identity, &options.force)?;
        }
        if !options.force.contains(&Force::NotContainer) {
            let tops = self.tops();
            safety::check_kill(host, container, &tops, &self.run.before.seen)?;
        }
        if options.mode == Mode::DryRun {
            self.plan(&scope);
        }
        self.run.began = Instant::now();
        Ok(())
    }

    fn plan(&mut self, scope: &Scope) {
        let container = self.run.container;
        let mut writes = Vec::new();
        if !scope.requested() {
            writes.push(freezer::freeze_write(container.freeze_point()));
        }
        for top in self.tops() {
            if top.hierarchy() == Hierarchy::V2 && has_kill(top) {
                writes.push(kill_write(top));
            }
        }
        let standing = container.own.iter().zip(&scope.own);
        let own = standing.filter(|(cgroup, around)| {
            around.as_ref().is_some_and(|around| around.requested)
                || cgroup.id() == container.freeze_point().id()
        });
        writes.extend(own.map(|(cgroup, _)| freezer::thaw_write(cgroup)));
        self.run.report.writes = writes;
        self.run.report.end(Outcome::Planned);
        self.run.done = true;
    }

    /// Somebody gave up before anything was killed: what stood before is put back.
    fn give_up(&mut self, host: &Host) {
        let report = &mut self.run.report;
        let why = "broken off by a signal before anything was killed";
        match self
            .standing
            .as_ref()
            .map_or(Ok(()), |standing| put_back(host, standing))
        {
            Ok(()) => {
                report.end(Outcome::RolledBack);
                report.error = Some(format!("{why}; rolled back"));
            }
            Err(error) => {
                report.end(Outcome::Stuck);
                report.error = Some(format!("{why}; and it could not be rolled back: {error}"));
            }
        }
        self.run.done = true;
    }

    /// Kills what is there, and clears its own requests.
    fn strike(&mut self, host: &Host, clock: &Clock<'_>, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        told(&self.run.report, &Step::Killing);
        for top in self.tops() {
            if top.hierarchy() == Hierarchy::V2 && has_kill(top) {
                let write = kill_write(top);
                told(&self.run.report, &Step::Writing(write.clone()));
                match top.write("cgroup.kill", "1") {
                    Ok(()) => {
                        self.run.report.writes.push(write.clone());
                        told(&self.run.report, &Step::Written(write));
                    }
                    Err(Error::Gone(_)) => {}
                    // A threaded cgroup has the file and refuses: each process is signalled then.
                    Err(Error::Unsupported(_) | Error::Io { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // Newcomers that come faster than this are met again in the wait.
        while self.sweep(host)? > 0 && self.run.began.elapsed() < clock.limit() {}
        self.release(host, told)
    }

    /// Sends SIGKILL to each process that was not sent one; says how many there were.
    fn sweep(&mut self, host: &Host) -> Result<usize> {
        let tids = match tids(self.run.container) {
            Err(Error::Gone(_)) => return Ok(0),
            other => other?,
        };
        let witness = Witness::new(host);
        let mut sent = 0;
        // One that is gone, or may not be seen, is met again while it is there.
        let looked = witness.look_at_all(tids.iter().copied());
        let leaders = witness.proc().leaders_of(tids.iter().copied());
        let leader_of = |tid: i32| leaders.get(&tid).copied().unwrap_or(tid);
        for (tid, task) in looked.seen {
            let leader = leader_of(tid);
            if task.killed || !self.signalled.insert((leader, task.start)) {
                continue;
            }
            let start = task.start;
            self.run.before.seen.entry(tid).or_insert(task);
            let container = self.run.container;
            let is_it = || {
                let now = witness.proc().stat(tid);
                now.is_some_and(|now| now.starttime == start)
                    && witness.proc().leader_of(tid) == Some(leader)
                    && is_inside(host, container, tid)
            };
            if signaller::send(host, leader, Signal::SIGKILL as i32, is_it)? {
                sent += 1;
            }
        }
        // When one started that does not answer can't be asked: its number and its place say that it is the one.
        for tid in looked.unseen {
            let leader = leader_of(tid);
            let container = self.run.container;
            let is_it = || witness.proc().leader_of(tid) == Some(leader) && is_inside(host, container, tid);
            if self.signalled.insert((leader, 0))
                && signaller::send(host, leader, Signal::SIGKILL as i32, is_it)?
            {
                sent += 1;
            }
        }
        Ok(sent)
    }

    /// Clears its own requests: v2 first, as a thaw does. v1 lets the dead go only then.
    fn release(&mut self, host: &Host, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        let container = self.run.container;
        let scope = Scope::read(host, container)?;
        let own = container.own.iter().zip(&scope.own);
        let asking: Vec<&Cgroup> = own
            .filter(|(_, around)| around.as_ref().is_some_and(|around| around.requested))
            .map(|(cgroup, _)| cgroup)
            .collect();
        for cgroup in v2_first(asking) {
            self.clear(cgroup, told)?;
        }
        if scope.inner().next().is_none() {
            return Ok(());
        }
        for hierarchy in V2_FIRST {
            each_inner(container, hierarchy, &mut |cgroup| {
                self.clear(cgroup, told)?;
                Ok(Descent::Into)
            })?;
        }
        Ok(())
    }

    fn clear(&mut self, cgroup: &Cgroup, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        told(&self.run.report, &Step::Writing(freezer::thaw_write(cgroup)));
        match freezer::thaw(cgroup) {
            Ok(write) => {
                self.run.report.writes.push(write.clone());
                told(&self.run.report, &Step::Written(write));
            }
            Err(Error::Gone(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks whether all are gone. Whoever came meanwhile is killed too.
    fn watch(&mut self, host: &Host, clock: &Clock<'_>) -> Result<()> {
        let left = match tids(self.run.container) {
            Err(Error::Gone(_)) => BTreeSet::new(),
            other => other?,
        };
        let is_empty = left.is_empty() && !self.tops().into_iter().any(is_populated);
        if is_empty && !self.is_any_exiting(host) {
            self.run.settled = Some(Instant::now());
            self.verdict(host);
        } else if self.run.began.elapsed() >= clock.limit() || self.waits_for_others(host, &left)? {
            self.verdict(host);
        } else {
            // Who was struck may be met once more while it ends; a newcomer was not there.
            let known = self.run.before.seen.len();
            self.sweep(host)?;
            self.came_late |= self.run.before.seen.len() > known;
        }
        Ok(())
    }

    /// Whether one that was seen is on its way out still: a cgroup lets go of it before it is dead.
    fn is_any_exiting(&self, host: &Host) -> bool {
        let witness = Witness::new(host);
        let before = &self.run.before.seen;
        // What can't be read is counted by the verdict, and is waited for by nobody.
        let now = witness.look_at_all(before.keys().copied()).seen;
        now.values().any(|now| {
            let is_it = before.get(&now.tid).is_some_and(|then| then.start == now.start);
            is_it && now.is_exiting() && witness.place(now) != Place::Dead
        })
    }

    /// Whether all that is left has its SIGKILL, and somebody else's v1 freeze keeps it from dying: no wait changes that.
    fn waits_for_others(&self, host: &Host, left: &BTreeSet<i32>) -> Result<bool> {
        let witness = Witness::new(host);
        let waits = |task: &Sighting| task.killed && witness.place(task).frozen_by() == Some(Hierarchy::V1);
        let now = witness.look_at_all(left.iter().copied()).seen;
        // One that is gone is shown by the next look.
        if left.is_empty() || now.len() < left.len() || !now.values().all(waits) {
            return Ok(false);
        }
        Ok(Scope::read(host, self.run.container)?.is_held_from_outside())
    }

    fn verdict(&mut self, host: &Host) {
        let container = self.run.container;
        let witness = Witness::new(host);
        let left = tids(container);
        let left = match left {
            Ok(left) => left,
            Err(Error::Gone(_)) => BTreeSet::new(),
            Err(error) => return self.abort(host, &error),
        };
        let scope = match Scope::read(host, container) {
            Ok(scope) => scope,
            Err(error) => return self.abort(host, &error),
        };
        let mut counts = ThawedCounts::default();
        let mut alive = BTreeMap::new();
        let before = &self.run.before;
        let all: BTreeSet<i32> = before
            .seen
            .keys()
            .chain(&before.unseen)
            .chain(&left)
            .copied()
            .collect();
        let mut looked = witness.look_at_all(all.iter().copied());
        for &tid in &all {
            let then = before.seen.get(&tid).map_or(Before::Absent, Before::Seen);
            if looked.unseen.contains(&tid) {
                counts.add(Proof::Unknown); // it is there and can't be read
                continue;
            }
            let now = looked.seen.remove(&tid);
            let proof = match judge_thaw(then, now.as_ref(), witness.kernel()) {
                Proof::Exited => Proof::Exited,
                // Another task that has the number now, and is elsewhere.
                Proof::New if !left.contains(&tid) => Proof::Exited,
                _ => {
                    alive.extend(now.map(|now| (tid, now)));
                    Proof::Holdout
                }
            };
            counts.add(proof);
        }
        let report = &mut self.run.report;
        report.tasks = Some(Counts::Thaw(counts));
        report.after = scope.states(container, &alive, host);
        for (change, status) in report
            .cgroups
            .iter_mut()
            .zip(scope.statuses(container, &alive, host))
        {
            change.after = States {
                requested: status.requested,
                effective: status.effective,
            };
            change.frozen_by = status.frozen_by;
        }
        let known = Known {
            scope: &scope,
            asked: None,
            before: &self.run.before.seen,
        };
        (report.holdouts, _) = why::holdouts(host, known, alive.values());
        report.holdouts.extend(witness.describe_unseen(&looked.unseen));
        report.ran_between = Some(!self.stood_still || self.came_late);
        let populated = self.tops().into_iter().any(is_populated);
        let report = &mut self.run.report;
        let holders = scope.holders(container);
        if counts.exited == counts.total && left.is_empty() && !populated {
            report.end(Outcome::Confirmed);
        } else if !holders.is_empty() && scope.is_held_from_outside() {
            report.end(Outcome::Held);
            report.error = Some(format!(
                "killed, and still frozen by {}: its tasks die when that is thawed",
                scope.holders_in_words(container)
            ));
            for ancestor in scope.ancestors() {
                report.hints.push(format!(
                    "iceaxe thaw {} thaws it and all else below it",
                    written(ancestor)
                ));
            }
        } else {
            report.end(Outcome::Released);
            report.error = Some(format!(
                "killed, but {} of {} tasks are not gone; they die as soon as the kernel lets them",
                counts.total - counts.exited,
                counts.total
            ));
        }
        self.run.stamp();
    }

    /// An error on the way: what stands now is asked once more.
    fn abort(&mut self, host: &Host, error: &Error) {
        let outcome = match untouched_end(error) {
            Outcome::Denied => Outcome::Denied,
            _ => Outcome::Error,
        };
        self.run.fail(error);
        self.run.report.end(outcome);
        match Scope::read(host, self.run.container).map(|scope| scope.requested()) {
            Ok(false) => self
                .run
                .report
                .hints
                .push("none of its own cgroups asks for a freeze now".to_owned()),
            Ok(true) => {
                let mut nobody = |_: &Report, _: &Step| {};
                if self.release(host, &mut nobody).is_err() {
                    self.run.report.end(Outcome::Stuck);
                    self.run
                        .report
                        .hints
                        .push("it is frozen, and could not be thawed".to_owned());
                }
            }
            Err(_) => {
                self.run.report.end(Outcome::Stuck);
                self.run
                    .report
                    .hints
                    .push("whether it is frozen could not be read".to_owned());
            }
        }
    }
}

/// Whether a task is in one of a container's own cgroups.
pub(super) fn is_inside(host: &Host, container: &Container, tid: i32) -> bool {
    let Some(lines) = crate::resolver::task_lines(host, tid) else {
        return false; // it is gone
    };
    let fits = |cgroup: &Cgroup| {
        lines
            .path(cgroup.hierarchy())
            .is_some_and(|path| path.starts_with(cgroup.path()))
    };
    container.own.iter().any(fits)
}

/// Whether this kernel can end a whole cgroup with one write: `cgroup.kill`, since Linux 5.14.
fn has_kill(cgroup: &Cgroup) -> bool {
    cgroup.has("cgroup.kill")
}

fn kill_write(cgroup: &Cgroup) -> Write {
    Write {
        file: cgroup.file("cgroup.kill"),
        value: "1".to_owned(),
    }
}

/// Whether v2 says that there are tasks in it, the dying ones too. v1 says it by its list alone.
fn is_populated(cgroup: &Cgroup) -> bool {
    // Gone is empty.
    cgroup.hierarchy() == Hierarchy::V2 && cgroup.event("populated").unwrap_or(false)
}
