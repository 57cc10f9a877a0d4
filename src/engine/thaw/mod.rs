//! Thaws any number of containers: all requests are cleared first, then the tasks of all are watched together.

mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::scope::{Asked, Asking, Scope, each_inner};
use super::why::{self, Suspect, Watch};
use super::{Mode, Run, Step, V2_FIRST, Watcher, check_seen, tasks, v2_first};
use crate::cgroup::{Cgroup, Descent, Tasks};
use crate::error::{Error, Result};
use crate::freezer::{self, Saved, Write};
use crate::host::{Hierarchy, Host};
use crate::patience::{Clock, Patience, Woke};
use crate::report::{Outcome, Report, Requested, Verb};
use crate::resolver::Container;
use crate::verifier::{Before, Proof, Sighting, Sightings, Witness, judge_thaw};

/// The first pause between two looks at the tasks; a woken task is on a CPU within some 50 µs on an idle host.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
/// The longest: the verdict is late by this much at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// When a task that sits in a frozen place with no request standing is kicked again. On an idle host tasks leave within
/// a millisecond; the kernels that forget one (runc issues 2753 and 3663) do so for good.
const KICKS_AFTER: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(1000)];

/// So many writes are told of; a container can have any number of cgroups inside that ask.
const MOST_WRITES: usize = 10_000;
/// How long the tasks are listed, for half of it, and looked at before the write, whatever they are like.
const LOOKS: Duration = Duration::from_millis(50);

/// How a thaw is done.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThawOptions {
    /// Which other requests are cleared besides the container's own.
    pub reach: Reach,
    /// Whether anything is written.
    pub mode: Mode,
}

/// Which requests a thaw clears besides the container's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Those of cgroups inside, a paused inner container's.
    pub inner: Clear,
    /// Those of ancestors, which hold others too.
    pub ancestors: Clear,
}

/// Whether a kind of request is cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clear {
    /// Left as it is, and named.
    #[default]
    Leave,
    /// Cleared.
    Clear,
}

/// A target on its way, with what only a thaw knows.
struct Thawing<'c> {
    run: Run<'c>,
    /// What stood before in the one of its own cgroups that is thawed; `None` for all of them.
    only: Option<&'c Saved>,
    /// Whether anything was written.
    wrote: bool,
    /// What its own cgroups asked before the write; told of as soon as what is around them is known.
    asked: Option<Asked>,
    /// Whether v2 called all its tasks frozen right before the write.
    settled: bool,
    /// The first look after the write at those that were listed and not looked at before.
    first: BTreeMap<i32, Sighting>,
    /// What is proven so far, by task.
    proofs: BTreeMap<i32, Proof>,
    /// Why its tasks can't be listed.
    blind: Option<String>,
    /// Whether all of them were listed before the write: who was not came since then.
    listed_all: bool,
    /// Why some of them could not be listed after it.
    missed: Option<String>,
    /// How often it was asked whether a task was left behind.
    kicks: usize,
    /// The holdouts that a second look tells more of.
    suspects: Vec<Suspect>,
    /// Tasks below cgroups inside that stay frozen by their own request.
    held: BTreeSet<i32>,
}

/// Thaws `containers` (each with the target as typed), waits, and proves it task by task. The reports come in order.
pub fn thaw(
    host: &Host,
    containers: &[(&str, &Container)],
    options: ThawOptions,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let each = containers.iter();
    let all = each.map(|(target, container)| Thawing::new(target, container, None));
    run(host, all.collect(), options, patience, watcher)
}

/// Thaws what a freeze froze and nothing else: of each of `held` the one cgroup that it wrote, unless what stood before was
/// a freeze already. It is proven as a thaw is.
pub fn release<'c>(
    host: &Host,
    held: &[(&str, &'c Container, &'c Saved)],
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let all = held.iter().map(|(target, container, standing)| {
        let mut thawing = Thawing::new(target, container, Some(standing));
        if standing.requested {
            thawing.run.report.end(Outcome::Unchanged);
            let before = "it was frozen before, and stays so".to_owned();
            thawing.run.report.hints.push(before);
            thawing.run.done = true;
        }
        thawing
    });
    run(host, all.collect(), ThawOptions::default(), patience, watcher)
}

fn run(
    host: &Host,
    mut all: Vec<Thawing<'_>>,
    options: ThawOptions,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let clock = patience.start();
    for (index, thawing) in all.iter_mut().enumerate() {
        if !thawing.run.done
            && let Err(error) = thawing.request(host, &clock, options, &mut |report, step| {
                watcher(index, report, step)
            })
        {
            thawing.abort(host, &error);
        }
        if thawing.run.done {
            watcher(index, &thawing.run.report, &Step::Done);
        }
    }
    let mut pause = FIRST_PAUSE;
    loop {
        let mut waiting = false;
        for (index, thawing) in all
            .iter_mut()
            .enumerate()
            .filter(|(_, thawing)| !thawing.run.done)
        {
            if let Err(error) = thawing.gather(host, &clock, &mut |report, step| watcher(index, report, step))
            {
                thawing.abort(host, &error);
            }
            if thawing.run.done {
                watcher(index, &thawing.run.report, &Step::Done);
            }
            waiting |= !thawing.run.done;
        }
        if !waiting {
            if !clock.is_cancelled() {
                let doubted = all.iter_mut();
                let sets = doubted.map(|thawing| {
                    let suspects = std::mem::take(&mut thawing.suspects);
                    (&mut thawing.run.report.holdouts, suspects)
                });
                why::second_look(host, Watch::Afar, sets);
            }
            return all.into_iter().map(|thawing| thawing.run.report).collect();
        }
        if clock.pause(pause, &[]) == Woke::Cancelled {
            // Nothing is undone: what was thawed stays thawed. One more look gives the verdict so far.
            for (index, thawing) in all
                .iter_mut()
                .enumerate()
                .filter(|(_, thawing)| !thawing.run.done)
            {
                thawing.verdict(host);
                watcher(index, &thawing.run.report, &Step::Done);
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl<'c> Thawing<'c> {
    fn new(target: &str, container: &'c Container, only: Option<&'c Saved>) -> Self {
        Self {
            run: Run::new(Verb::Thaw, target, container),
            only,
            wrote: false,
            asked: None,
            settled: false,
            first: BTreeMap::new(),
            proofs: BTreeMap::new(),
            blind: None,
            listed_all: false,
            missed: None,
            kicks: 0,
            suspects: Vec::new(),
            held: BTreeSet::new(),
        }
    }

    /// Clears what asks for the freeze: its own requests first, then others that are to be cleared too. v2 first each time,
    /// since a v1-frozen task can't leave v2's trap but a v2-trapped one can leave v1.
    ///
    /// Before its own requests nothing is read but their files, and for [`LOOKS`] its tasks: what can hang or has no bounds
    /// comes after them.
    fn request(
        &mut self,
        host: &Host,
        clock: &Clock<'_>,
        options: ThawOptions,
        told: &mut dyn FnMut(&Report, &Step),
    ) -> Result<()> {
        let container = self.run.container;
        let looks = Patience::of(LOOKS).start();
        let listed = tasks(container, Some(Instant::now() + LOOKS / 2));
        let listed = listed.and_then(|listed| check_seen(host, container, &listed.tids).map(|()| listed));
        let listed = match listed {
            // A request can be cleared without a list of the tasks; what is proven then is nothing.
            Err(error @ (Error::Unsupported(_) | Error::Io { .. })) => {
                self.blind = Some(error.to_string());
                Tasks::default()
            }
            other => other?,
        };
        self.listed_all = self.blind.is_none() && listed.missed.is_none();
        self.run.before = Witness::new(host).look_within(listed.tids, looks.left());
        let mut asked = Asked::read(container);
        if asked.is_gone() {
            return Err(Error::Gone(container.freeze_point().dir().to_owned()));
        }
        self.run.report.before.requested = Some(Requested::of(asked.requested()));
        if clock.is_cancelled() {
            self.run.report.end(Outcome::Error);
            let still = if asked.requested() {
                ": it still asks for a freeze"
            } else {
                ""
            };
            self.run.report.error = Some(format!(
                "broken off by a signal before anything was written{still}"
            ));
            self.run.done = true;
            return Ok(());
        }
        self.run.report.dying = why::dying(host, &self.run.before.seen, Some(looks.left()));
        if !self.run.report.dying.is_empty() {
            told(&self.run.report, &Step::Dying(self.run.report.dying.clone()));
        }
        let own = asked.asking(container);
        let own = own.filter(|cgroup| self.only.is_none_or(|only| only.id == cgroup.id()));
        let own = v2_first(own.collect());
        self.settled = asked.is_settled();
        let unread = asked.take_unread();
        self.asked = Some(asked);
        self.run.began = Instant::now();
        self.clear(&own, options.mode, told)?;
        if let Some(error) = unread {
            return Err(error); // after what could be read was cleared
        }
        let reach = options.reach;
        if options.mode == Mode::DryRun || reach.ancestors == Clear::Clear || reach.inner == Clear::Clear {
            let mut scope = Scope::read(host, container)?;
            self.tell_before(host, &mut scope);
            for hierarchy in V2_FIRST {
                if reach.inner == Clear::Clear && scope.inner().next().is_some() {
                    each_inner(container, hierarchy, &mut |cgroup| {
                        self.clear(&[cgroup], options.mode, told)?;
                        Ok(Descent::Into)
                    })?;
                }
                let mut seen = BTreeSet::new();
                let is_meant = |asking: &&Asking| {
                    reach.ancestors == Clear::Clear && asking.hierarchy == hierarchy && seen.insert(asking.id)
                };
                for ancestor in scope.ancestors().filter(is_meant) {
                    match ancestor.open(host) {
                        Ok(cgroup) => self.clear(&[&cgroup], options.mode, told)?,
                        Err(Error::Gone(_)) => {} // it asks for nothing any more
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        if options.mode == Mode::DryRun {
            self.run.report.end(Outcome::Planned);
            self.run.done = true;
        }
        Ok(())
    }

    /// Clears the requests of some cgroups, or only says that it would. Where one can't be cleared the others are.
    fn clear(&mut self, cgroups: &[&Cgroup], mode: Mode, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        let mut failed = None;
        for cgroup in cgroups {
            let write = freezer::thaw_write(cgroup);
            if mode == Mode::DryRun {
                self.run.report.writes.push(write);
                continue;
            }
            told(&self.run.report, &Step::Writing(write));
            match freezer::thaw(cgroup) {
                Ok(write) => self.note(write, told),
                Err(Error::Gone(_)) => {} // it asks for nothing any more
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What stood before the write, once what is around is known: others' requests are as they were then.
    fn tell_before(&mut self, host: &Host, scope: &mut Scope) {
        let Some(asked) = self.asked.take() else {
            return; // it was told
        };
        let now = scope.put_asked(asked);
        let container = self.run.container;
        self.run.report.before = scope.states(container, &self.run.before.seen, host);
        self.run.report.cgroups = scope.changes(container, &self.run.before.seen, host);
        scope.put_asked(now);
    }

    fn note(&mut self, write: Write, told: &mut dyn FnMut(&Report, &Step)) {
        self.wrote = true;
        if self.run.report.writes.len() < MOST_WRITES {
            self.run.report.writes.push(write.clone());
        }
        told(&self.run.report, &Step::Written(write));
    }

    /// One round of looking. Ends the run where there is nothing left to wait for.
    fn gather(&mut self, host: &Host, clock: &Clock<'_>, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        let container = self.run.container;
        if self.run.settled.is_none() {
            self.run.settled = Some(Instant::now());
            let mut scope = Scope::read(host, container)?;
            if scope.is_gone() {
                self.gone(host);
                return Ok(());
            }
            self.tell_before(host, &mut scope);
            if !scope.requested() {
                told(&self.run.report, &Step::Released);
            }
            if scope.is_held_from_outside() || scope.requested() {
                self.look(host, told)?;
                self.verdict(host);
                return Ok(());
            }
            if scope.inner().next().is_some() {
                for hierarchy in V2_FIRST {
                    // One that vanishes meanwhile holds nobody; of what can't be listed nothing is proven.
                    each_inner(container, hierarchy, &mut |inner| {
                        self.held.extend(inner.tids_below().unwrap_or_default());
                        Ok(Descent::Past)
                    })?;
                }
            }
        }
        self.look(host, told)?;
        let done = self.blind.is_some()
            || self
                .proofs
                .iter()
                .all(|(tid, proof)| proof.is_settled() || self.held.contains(tid));
        if done || self.run.began.elapsed() >= clock.limit() {
            self.verdict(host);
        } else if KICKS_AFTER
            .get(self.kicks)
            .is_some_and(|&after| self.run.began.elapsed() >= after)
        {
            self.kick(host, told)?;
        }
        Ok(())
    }

    /// Looks at the tasks that are not proven yet, and at those that came.
    fn look(&mut self, host: &Host, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        let witness = Witness::new(host);
        let now = match tasks(self.run.container, None) {
            Ok(Tasks { tids, missed }) => {
                self.missed = missed.map(|missed| missed.to_string());
                tids
            }
            Err(Error::Gone(_)) => BTreeSet::new(), // all are gone, which each task's own look confirms
            Err(_) if self.blind.is_some() => return Ok(()),
            Err(error) => return Err(error),
        };
        let before = &self.run.before;
        let known = before.seen.keys().chain(&before.unseen).copied();
        let is_open = |tid: &i32| self.proofs.get(tid).is_none_or(|proof| !proof.is_settled());
        let all: BTreeSet<i32> = known.chain(now).filter(is_open).collect();
        let looked = witness.look_at_all(all.iter().copied());
        for tid in all {
            let proof = match looked.unseen.contains(&tid) {
                true => Proof::Unknown, // it is there and can't be read, as under hidepid, or does not answer
                false => self.judged(tid, looked.seen.get(&tid), witness),
            };
            let old = self.proofs.insert(tid, proof);
            if old != Some(proof) {
                told(&self.run.report, &Step::Task { tid, proof });
            }
        }
        Ok(())
    }

    /// What a look after the write proves of a task.
    fn judged(&mut self, tid: i32, after: Option<&Sighting>, witness: Witness<'_>) -> Proof {
        let before = match self.run.before.seen.get(&tid) {
            Some(seen) => Before::Seen(seen),
            None if self.run.before.unseen.contains(&tid) || !self.listed_all => Before::Listed {
                settled: self.settled,
                first: self.first.get(&tid),
            },
            None => Before::Absent,
        };
        let proof = judge_thaw(before, after, witness.kernel());
        if let (Before::Listed { first: None, .. }, Some(after)) = (before, after) {
            self.first.insert(tid, after.clone());
        }
        proof
    }

    /// Asks the kernel once more to let go of tasks that sit in a frozen place with no request standing.
    fn kick(&mut self, host: &Host, told: &mut dyn FnMut(&Report, &Step)) -> Result<()> {
        self.kicks += 1;
        let container = self.run.container;
        let scope = Scope::read(host, container)?;
        if scope.requested() || scope.is_held_from_outside() {
            return Ok(());
        }
        let witness = Witness::new(host);
        let left: Vec<Hierarchy> = self
            .stragglers(host)
            .seen
            .values()
            .filter_map(|task| witness.place(task).frozen_by())
            .collect();
        let mut kicked = false;
        for cgroup in container
            .own
            .iter()
            .filter(|cgroup| left.contains(&cgroup.hierarchy()))
        {
            kicked = true;
            if cgroup.hierarchy() == Hierarchy::V2 {
                // Writing 0 over 0 does nothing there: a new freeze has to be begun and ended.
                told(&self.run.report, &Step::Saved(Saved::of(cgroup)?));
                told(&self.run.report, &Step::Writing(freezer::freeze_write(cgroup)));
                let write = freezer::freeze(cgroup)?;
                self.note(write, told);
            }
            told(&self.run.report, &Step::Writing(freezer::thaw_write(cgroup)));
            let write = freezer::thaw(cgroup)?;
            self.note(write, told);
        }
        if kicked {
            self.run.report.hints.push(format!(
                "a task was left behind with no request standing: the request was cleared again (try {})",
                self.kicks
            ));
        }
        Ok(())
    }

    /// The tasks that are not proven to be thawed, as they are now.
    fn stragglers(&self, host: &Host) -> Sightings {
        let unsettled = self
            .proofs
            .iter()
            .filter(|(_, proof)| !proof.is_settled())
            .map(|(&tid, _)| tid);
        Witness::new(host).look_at_all(unsettled)
    }
}
