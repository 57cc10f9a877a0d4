//! How many targets are worked on at a time, in which order, and when the next ones go.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::options::{Order, Parallel, Stagger};
use super::targets::{Held, Targets};
use super::text;
use crate::cgroup::Cgroup;
use crate::cli::context::Context;
use crate::engine::{self, Holders, Step, Watcher};
use crate::fleet::{Pace, Turn};
use crate::host::{Pressure, Resource};
use crate::patience::{Clock, Woke};
use crate::report::Report;
use crate::resolver::Container;

/// The gap under a ceiling where none is given: what one adds to the pressure shows no sooner.
const GAP: Duration = Duration::from_secs(2);
/// How much longer than its own time a wait may take, and how long the look at one target for its place in the order.
const GRACE: Duration = Duration::from_secs(5);

/// How a verb goes through its targets.
#[derive(Debug)]
pub(super) struct Plan {
    /// At most so many at a time.
    most: usize,
    /// When the next ones go; `None` where nothing is waited for.
    pace: Option<Pace>,
}

impl Plan {
    /// So many at a time, each lot as soon as the one before it is done with.
    pub(super) fn new(parallel: Parallel) -> Self {
        Self {
            most: parallel.parallel.map_or(usize::MAX, usize::from),
            pace: None,
        }
    }

    /// One after the other, where that is asked for; more at a time where that is asked for too.
    pub(super) fn staggered(parallel: Parallel, stagger: &Stagger) -> Self {
        let Some(limit) = stagger.stagger else {
            return Self::new(parallel);
        };
        let default = if stagger.ceiling.is_empty() {
            Duration::ZERO
        } else {
            GAP
        };
        Self {
            most: parallel.parallel.map_or(1, usize::from),
            pace: Some(Pace {
                gap: stagger.gap.unwrap_or(default),
                ceilings: stagger.ceiling.clone(),
                limit,
            }),
        }
    }

    /// Begins to go through `targets`. A lot of them is heard of again within `limit`.
    pub(super) fn start<'c>(
        &'c self,
        context: &'c Context<'c>,
        targets: &'c [(&'c str, &'c Container)],
        limit: Duration,
    ) -> Turns<'c> {
        Turns {
            context,
            most: self.most,
            // What is only planned is planned at once.
            pace: self.pace.as_ref().filter(|_| !context.options.dry_run),
            targets,
            limit,
            clock: context.patience(Duration::MAX).start(),
            left: 0..targets.len(),
            last: None,
            is_told: false,
        }
    }
}

/// Does a verb's work on some containers, each with its target as typed.
type Engine<'e> = &'e dyn Fn(&[(&str, &Container)], Watcher<'_>) -> Vec<Report>;

/// Is told of each lot that is done with, by the places of its targets.
type Told<'t> = &'t mut dyn FnMut(Range<usize>, &mut [Report]);

/// A way through targets.
pub(super) struct Turns<'c> {
    context: &'c Context<'c>,
    most: usize,
    pace: Option<&'c Pace>,
    targets: &'c [(&'c str, &'c Container)],
    limit: Duration,
    clock: Clock<'c>,
    left: Range<usize>,
    /// When the last ones were done with.
    last: Option<Instant>,
    /// Whether it was said that the pressure is not told.
    is_told: bool,
}

impl Turns<'_> {
    /// Has `engine` work on one lot after the other, and returns the reports on all. `watcher` is told the place of each
    /// among all targets.
    pub(super) fn run(mut self, engine: Engine<'_>, watcher: Watcher<'_>, told: Told<'_>) -> Vec<Report> {
        let mut all = Vec::new();
        let mut done = 0;
        while let Some(lot) = self.next() {
            self.context.within(self.limit);
            let mut reports = engine(&self.targets[lot.clone()], &mut |nth, report, step| {
                if *step == Step::Done {
                    done += 1;
                    self.context
                        .progress(|| format!("{done} of {}", self.targets.len()));
                }
                watcher(lot.start + nth, report, step);
            });
            told(lot, &mut reports);
            all.append(&mut reports);
            self.last = Some(Instant::now());
        }
        all
    }

    /// Waits until more may go, and says which; `None` where all have gone. Once somebody asks to give up it is all that
    /// are left, of which the engine then says that nothing was done.
    fn next(&mut self) -> Option<Range<usize>> {
        if self.left.is_empty() {
            return None;
        }
        let most = if self.waits() { self.most } else { usize::MAX };
        let end = self.left.start.saturating_add(most).min(self.left.end);
        let lot = self.left.start..end;
        self.left.start = end;
        Some(lot)
    }

    /// Waits for the next turn; false where all that are left are to go with it.
    fn waits(&mut self) -> bool {
        let Some(pace) = self.pace else {
            return !self.context.is_cancelled();
        };
        loop {
            let (elapsed, since) = (self.clock.elapsed(), self.last.map(|last| last.elapsed()));
            let mut pressure = |of| {
                let pressure = self.context.host.pressure(of);
                self.tell_of(of, pressure);
                pressure
            };
            let time = match pace.turn(elapsed, since, &mut pressure) {
                Turn::Next => return !self.context.is_cancelled(),
                Turn::Rest => {
                    let left = self.left.len();
                    self.context.err(format!(
                        "iceaxe: note: {} are over: {left} that are left go at once\n",
                        text::duration(u64::try_from(pace.limit.as_micros()).unwrap_or(u64::MAX)),
                    ));
                    return false;
                }
                Turn::Wait(time) => {
                    self.show("");
                    time
                }
                Turn::Held(time, ceiling, now) => {
                    let (word, now, ceiling) = (ceiling.of.word(), now.percent(), ceiling.percent);
                    self.show(&format!("; held back: {word} pressure {now}, ceiling {ceiling}"));
                    time
                }
            };
            self.context.within(time + GRACE);
            if self.clock.pause(time, &[]) == Woke::Cancelled {
                return false;
            }
        }
    }

    fn show(&self, more: &str) {
        let (done, total) = (self.left.start, self.targets.len());
        self.context.progress(|| format!("{done} of {total}{more}"));
    }

    /// Says once what is taken where this kernel tells no pressure.
    fn tell_of(&mut self, of: Resource, pressure: Option<Pressure>) {
        let taken = match pressure {
            Some(Pressure::Stall(_)) => return,
            Some(Pressure::Load(_)) => "the load is taken for it",
            None => "nothing is held back by it",
        };
        if !std::mem::replace(&mut self.is_told, true) {
            let word = of.word();
            self.context.err(format!(
                "iceaxe: note: this kernel does not tell the {word} pressure: {taken}\n"
            ));
        }
    }
}

/// Puts targets into the order that is asked for. What is not known of one comes last.
pub(super) fn sort(context: &Context<'_>, targets: &mut Targets, order: Order) {
    if order == Order::Given {
        return;
    }
    let holders = Holders::read(context.host);
    let status = |container: &Container| {
        context.within(GRACE);
        let (mut status, _) = engine::status(context.host, container, None).ok()?; // its own turn will say why
        let ids: Vec<_> = container.own.iter().map(Cgroup::id).collect();
        holders.add_to(&ids, &mut status);
        Some(status)
    };
    let known = |number: Option<u64>| number.unwrap_or(u64::MAX);
    targets.sort_by(|typed, Held { container, details }| match order {
        Order::Given => (String::new(), [0, 0]),
        Order::Name => {
            let recorded = details.as_ref().and_then(|details| details.name.clone());
            let name = container.identity.name.clone().or(recorded);
            (name.unwrap_or_else(|| typed.to_owned()), [0, 0])
        }
        Order::Memory => {
            let memory = status(container).and_then(|status| status.memory?.current);
            (String::new(), [known(memory), 0])
        }
        Order::Oldest => {
            let frozen_for = status(container).and_then(|status| status.frozen_for_us);
            let longest_first = known(frozen_for.map(|time| u64::MAX - time));
            (
                String::new(),
                [longest_first, known(engine::started(context.host, container))],
            )
        }
    });
}
