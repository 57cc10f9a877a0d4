//! Freezes any number of containers as one: all are looked at, then all are requested in one go, then all are waited
//! for. What one look costs is not between the first and the last of them.

use std::cell::Cell;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::freeze::{BROKEN_OFF, FreezeOptions, Freezing, HURRY, Together};
use super::{Run, Step, Watcher, micros, safety, why};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::freezer::{Saved, Watch, settle};
use crate::host::Host;
use crate::patience::{Clock, Patience, Woke};
use crate::report::{Outcome, Report, Verb};
use crate::resolver::Container;

/// Freezes `containers` (each with the target as typed), waits until each has settled, and proves it task by task.
/// The reports come in order.
///
/// It is a barrier: what is requested at one time settles at nearly one time, and how far apart is measured
/// ([`Report::skew_us`]). What it gives is crash-consistent and no more: each task stops wherever it is.
pub fn freeze(
    host: &Host,
    containers: &[(&str, &Container)],
    options: &FreezeOptions,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    freeze_after(host, containers, options, &|_, _| Ok(()), patience, watcher)
}

/// Is told of a target, by its index, what stands before anything is written to it. Where it fails nothing is.
pub type Before<'b> = &'b dyn Fn(usize, &Saved) -> Result<()>;

/// The same, but nothing is written before `before` has agreed for each of them.
pub fn freeze_after(
    host: &Host,
    containers: &[(&str, &Container)],
    options: &FreezeOptions,
    before: Before<'_>,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let undo_until = Cell::new(None);
    let each = containers
        .iter()
        .map(|(target, container)| Freezing::new(target, container, options.pulses, &undo_until));
    let mut barrier = Barrier {
        host,
        clock: patience.start(),
        options,
        all: each.collect(),
        order: Order::AtOnce {
            look_at: (patience.limit() / 4).min(ORDER_AFTER),
        },
    };
    barrier.prepare(before, watcher);
    barrier.request(watcher);
    barrier.wait(watcher);
    barrier.end(watcher)
}

/// The reports on what would have been frozen with others, where one of those could not be, before anything was written.
#[must_use]
pub fn skip(containers: &[(&str, &Container)], because: &str) -> Vec<Report> {
    let each = containers.iter().map(|(target, container)| {
        let mut run = Run::new(Verb::Freeze, target, container);
        run.skip(because);
        run.report
    });
    each.collect()
}

impl Run<'_> {
    fn skip(&mut self, because: &str) {
        self.report.end(Outcome::RolledBack);
        self.report.error = Some(format!("nothing was written: {because}"));
        self.report.hints.push(EACH_ALONE.to_owned());
        self.done = true;
    }
}

const EACH_ALONE: &str = "--best-effort freezes the others nevertheless";

/// Is told the steps of one.
type Told<'t> = &'t mut dyn FnMut(&Report, &Step);

struct Barrier<'c> {
    host: &'c Host,
    clock: Clock<'c>,
    options: &'c FreezeOptions,
    all: Vec<Freezing<'c>>,
    order: Order,
}

/// After how long it is looked whether some wait for what others of the set serve. Most have settled by then.
const ORDER_AFTER: Duration = Duration::from_millis(500);

/// In which order a set is frozen.
#[derive(Debug)]
enum Order {
    /// All at once, so that they stop at nearly one time. After so long those are looked for that can't stop so.
    AtOnce { look_at: Duration },
    /// Some wait for a file system of FUSE whose server may be among the others, which were thawed again until they have
    /// settled, but not for longer than until then.
    First { until: Duration },
    /// The others were asked once more.
    Tried,
}

impl<'c> Barrier<'c> {
    /// Does something with each that is not done, and tells of those that are done by it.
    fn each(&mut self, watcher: Watcher<'_>, act: &mut dyn FnMut(usize, &mut Freezing<'c>, Told<'_>)) {
        let left = self.all.iter_mut().enumerate();
        for (index, freezing) in left.filter(|(_, freezing)| !freezing.run.done) {
            act(index, freezing, &mut |report, step| watcher(index, report, step));
            if freezing.run.done {
                watcher(index, &freezing.run.report, &Step::Done);
            }
        }
    }

    /// Looks at each, and checks the rules.
    fn prepare(&mut self, before: Before<'_>, watcher: Watcher<'_>) {
        let (host, clock, options) = (self.host, self.clock, self.options);
        self.each(watcher, &mut |index, freezing, told| {
            let agreed = |standing: &Saved| before(index, standing);
            if let Err(error) = freezing.prepare(host, &clock, options, &agreed, told) {
                freezing.abort(host, &error);
            }
        });
        if let Some(because) = self.first_failure() {
            self.each(watcher, &mut |_, freezing, _| freezing.run.skip(&because));
        }
    }

    /// Requests all of them.
    fn request(&mut self, watcher: Watcher<'_>) {
        let host = self.host;
        let is_whole = self.options.together == Together::AllOrNothing;
        let mut is_broken = self.check_again(watcher);
        self.each(watcher, &mut |_, freezing, told| {
            if is_broken && is_whole {
                return; // taken back with those that were requested
            }
            if let Err(error) = freezing.request(told) {
                freezing.abort(host, &error);
                is_broken = freezing.is_failed();
            }
        });
    }

    /// Refuses what has come to hold iceaxe since it was checked, as all others were after it; whether it had to.
    fn check_again(&mut self, watcher: Watcher<'_>) -> bool {
        if self.all.len() < 2 {
            return false; // it has just been checked
        }
        let refused = self.hold_us(|freezing| !freezing.run.done);
        for (index, error) in &refused {
            self.break_off(*index, error, watcher);
        }
        !refused.is_empty()
    }

    /// Which of those that are `meant`, each to be written now, hold what iceaxe itself lives by.
    fn hold_us(&self, meant: impl Fn(&Freezing<'_>) -> bool) -> Vec<(usize, Error)> {
        let meant = self
            .all
            .iter()
            .enumerate()
            .filter(|(_, freezing)| meant(freezing));
        let (places, cgroups): (Vec<usize>, Vec<&Cgroup>) =
            meant.map(|(index, freezing)| (index, freezing.by)).unzip();
        let refused = safety::holds_us(self.host, &cgroups).into_iter();
        refused.map(|(at, error)| (places[at], error)).collect()
    }

    /// Waits until each is proven, has failed, or one of a whole has.
    fn wait(&mut self, watcher: Watcher<'_>) {
        let (host, clock) = (self.host, self.clock);
        while self.first_failure().is_none() {
            self.in_turn(watcher);
            if self.first_failure().is_some() {
                return;
            }
            // The kernel's word on all of them first, and the proofs, which take longer, when none is to be awaited soon.
            let mut is_awaited = false;
            self.each(watcher, &mut |_, freezing, told| {
                if freezing.is_withheld {
                    return;
                }
                freezing.hear(told);
                is_awaited |= freezing.run.settled.is_none() && freezing.run.began.elapsed() < HURRY;
            });
            let mut pause: Option<Duration> = None;
            let mut watched: Vec<usize> = Vec::new();
            self.each(watcher, &mut |index, freezing, told| {
                if freezing.is_withheld || is_awaited && freezing.run.settled.is_some() {
                    return;
                }
                let length = match freezing.advance(host, &clock, told) {
                    Ok(Some(settle::Step::Watch(length))) => {
                        watched.push(index);
                        length
                    }
                    Ok(Some(settle::Step::Pause(length))) => length,
                    Ok(Some(_)) => Duration::ZERO,
                    Ok(None) => return,
                    Err(error) => return freezing.abort(host, &error),
                };
                pause = Some(pause.map_or(length, |pause| pause.min(length)));
            });
            if self.all.iter().all(|freezing| freezing.run.done) {
                return;
            }
            let watches = watched.iter().filter_map(|&index| self.all[index].watch.as_ref());
            let fds: Vec<BorrowedFd<'_>> = watches.map(Watch::fd).collect();
            if clock.pause(pause.unwrap_or_default(), &fds) == Woke::Cancelled {
                return;
            }
        }
    }

    /// Freezes those first that wait for a file system of FUSE, where they can't be frozen with the others: what serves it may
    /// be one of those, and a frozen server answers nobody. Which one it is the kernel does not say, so that all others are
    /// thawed until those have settled. It is tried once, within the time that each has.
    fn in_turn(&mut self, watcher: Watcher<'_>) {
        let host = self.host;
        match self.order {
            Order::AtOnce { look_at } if self.all.len() > 1 && self.clock.elapsed() >= look_at => {
                let is_waiting = |freezing: &Freezing<'_>| {
                    !freezing.run.done && freezing.run.settled.is_none() && freezing.waits_for_fuse(host)
                };
                let waiting: Vec<bool> = self.all.iter().map(is_waiting).collect();
                let is_other = |&index: &usize| !waiting[index] && self.all[index].is_asked_now();
                let others: Vec<usize> = (0..self.all.len()).filter(is_other).collect();
                if others.is_empty() || !waiting.contains(&true) {
                    let look_at = look_at + ORDER_AFTER;
                    self.order = Order::AtOnce { look_at };
                    return;
                }
                for index in others {
                    let freezing = &mut self.all[index];
                    if let Err(error) = freezing.skip(&mut |report, step| watcher(index, report, step)) {
                        self.break_off(index, &error, watcher);
                    }
                }
                // Where it is none of these that they wait for the others need time too.
                let left = self.clock.limit().saturating_sub(self.clock.elapsed());
                let until = self.clock.elapsed() + left / 2;
                self.order = Order::First { until };
            }
            Order::First { until } => {
                let is_over = self.clock.elapsed() >= until;
                let mut first = self.all.iter().filter(|freezing| !freezing.is_withheld);
                if is_over || first.all(|freezing| freezing.run.done || freezing.run.settled.is_some()) {
                    self.order = Order::Tried;
                    let is_next = |freezing: &Freezing<'_>| freezing.is_withheld && !freezing.run.done;
                    // The withheld ones were checked before the others froze, which can take seconds.
                    for (index, error) in self.hold_us(is_next) {
                        self.break_off(index, &error, watcher);
                    }
                    for index in 0..self.all.len() {
                        let freezing = &mut self.all[index];
                        if !is_next(freezing) {
                            continue;
                        }
                        let asked = freezing.ask_in_turn(&mut |report, step| watcher(index, report, step));
                        if let Err(error) = asked {
                            self.break_off(index, &error, watcher);
                        }
                    }
                }
            }
            Order::AtOnce { .. } | Order::Tried => {}
        }
    }

    fn break_off(&mut self, index: usize, error: &Error, watcher: Watcher<'_>) {
        let freezing = &mut self.all[index];
        freezing.abort(self.host, error);
        watcher(index, &freezing.run.report, &Step::Done);
    }

    /// Takes back what is not to stay, and says how it ended.
    fn end(mut self, watcher: Watcher<'_>) -> Vec<Report> {
        let host = self.host;
        let because = if self.clock.is_cancelled() {
            // Those that were frozen by then come back too: nobody is left to be told that they are frozen.
            Some(BROKEN_OFF.to_owned())
        } else {
            self.first_failure()
        };
        if let Some(because) = because {
            let to_undo = self.all.iter_mut().enumerate();
            for (index, freezing) in to_undo.filter(|(_, freezing)| freezing.is_to_undo()) {
                freezing.take_back(host, &because);
                watcher(index, &freezing.run.report, &Step::Done);
            }
        }
        // After the rollbacks: nobody is held up by it.
        if !self.clock.is_cancelled() {
            let sets = self.all.iter_mut().map(|freezing| {
                let suspects = std::mem::take(&mut freezing.suspects);
                (&mut freezing.run.report.holdouts, suspects)
            });
            why::second_look(host, why::Watch::Afar, sets);
        }
        let skew = self.skew_us();
        let reports = self.all.into_iter().map(|freezing| {
            let mut report = freezing.run.report;
            report.skew_us = skew.filter(|_| report.outcome == Outcome::Confirmed);
            report
        });
        reports.collect()
    }

    /// Why none of a whole may be frozen.
    fn first_failure(&self) -> Option<String> {
        if self.options.together == Together::BestEffort || self.all.len() < 2 {
            return None;
        }
        let failed = self.all.iter().find(|freezing| freezing.is_failed())?;
        let target = &failed.run.report.target;
        Some(format!("all or nothing, and {target} could not be frozen"))
    }

    /// From the first that settled to the last, of those that were frozen now.
    fn skew_us(&self) -> Option<u64> {
        let frozen = self.all.iter().filter(|freezing| freezing.is_frozen_now());
        let settled: Vec<_> = frozen.filter_map(|freezing| freezing.run.settled).collect();
        let (first, last) = (settled.iter().min()?, settled.iter().max()?);
        (settled.len() > 1).then(|| micros(last.duration_since(*first)))
    }
}
