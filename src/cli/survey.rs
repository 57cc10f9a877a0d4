//! Every container of the host with its status, for the verbs that mean many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::targets::Held;
use super::{recorder, text};
use crate::cgroup::CgroupId;
use crate::cli::context::Context;
use crate::engine::{self, Holders, ThawedAncestors};
use crate::error::Error;
use crate::host::{Host, Vigil};
use crate::report::Status;
use crate::resolver::{Container, Everything, Identity, OfUsers, Pending, Probe, Resolver, Unknown};
use crate::verifier::{Class, Holdout};

/// How long each step may take before it counts as hanging.
const STEP: Duration = Duration::from_secs(10);
/// How long the answer waits for the engines' records while they do not get on.
const RECORDS: Duration = Duration::from_secs(2);
/// So many IDs are one step.
const CHUNK: usize = 32;
/// More threads than that gain nothing: they meet in the kernel's locks.
const MOST_THREADS: usize = 4;
/// How often the threads are looked after.
const VIGIL: Duration = Duration::from_millis(10);

/// Shows each container to `each`, in the order of the IDs, as they come; one that is on record twice, once. What it
/// could not look at is returned, in words: the survey is incomplete then.
pub(super) fn survey(context: &Context<'_>, each: &mut dyn FnMut(Vec<Status>)) -> Vec<String> {
    look_at_all(context, None, &mut |rows| {
        each(rows.into_iter().map(|row| row.status).collect());
    })
}

/// Whether a container is meant.
pub(super) type IsMeant = Arc<dyn Fn(&Status) -> bool + Send + Sync>;

/// The same, and each container that is meant is shown as it was found, held open.
pub(super) fn choose(
    context: &Context<'_>,
    is_meant: IsMeant,
    each: &mut dyn FnMut(&Status, Option<Held>),
) -> Vec<String> {
    look_at_all(context, Some(is_meant), &mut |rows| {
        for Row { status, held, .. } in rows {
            each(&status, held);
        }
    })
}

/// A few threads look at a part each, as ten thousand containers are a matter of seconds else. One that hangs with a task
/// is left behind: what it had begun is done again by another one, without that task.
fn look_at_all(
    context: &Context<'_>,
    is_meant: Option<IsMeant>,
    each: &mut dyn FnMut(Vec<Row>),
) -> Vec<String> {
    context.within(STEP * 3);
    let everything = Resolver::new(context.host, []).everything();
    let holders = Holders::read(context.host);
    recorder::left_behind(context, &holders);
    let unlooked = context.host.unlooked().map(str::to_owned);
    let incomplete: Vec<String> = everything.incomplete().iter().cloned().chain(unlooked).collect();
    let mut order = Order::new(incomplete);
    let chunks = everything.ids().len().div_ceil(CHUNK);
    let survey = Arc::new(Survey {
        host: context.host.another(),
        everything,
        holders,
        is_meant,
        users: Arc::default(),
        left: Mutex::new((0..chunks).rev().collect()),
    });
    let (to, from) = mpsc::channel();
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST_THREADS));
    let mut workers: Vec<Worker> = Vec::new();
    for _ in 0..threads.min(chunks) {
        workers.extend(Worker::start(&survey, &to));
    }
    while order.came < chunks {
        // Without any thread it is done here.
        if workers.is_empty() {
            survey.look(&Begun::default(), &to);
        }
        match from.recv_timeout(VIGIL) {
            Ok((at, part)) => {
                context.within(STEP);
                order.take(at, part, each);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break, // never: an end of it is held here
        }
        let is_stuck = |worker: &mut Worker| worker.vigil.finds_it_stuck(context.host.proc());
        let stuck: Vec<Worker> = workers.extract_if(.., is_stuck).collect();
        for worker in stuck {
            survey.give_back(&worker.begun);
            workers.extend(Worker::start(&survey, &to));
        }
    }
    for task in std::mem::take(&mut order.silent) {
        context.err(format!("iceaxe: note: {}\n", text::escaped(&task)));
    }
    order.end()
}

/// What all threads look at.
struct Survey {
    host: Host,
    everything: Everything,
    holders: Holders,
    is_meant: Option<IsMeant>,
    /// The files of users' engines, which all threads read within one budget.
    users: Arc<OfUsers>,
    /// The parts that are not begun, the next one last.
    left: Mutex<Vec<usize>>,
}

/// The parts of one thread, shared with the survey that looks after it.
type Begun = Arc<Mutex<Parts>>;

/// The parts that a thread has begun, and not told of.
#[derive(Default)]
struct Parts {
    begun: Vec<usize>,
    /// Whether others do them, as the thread hung. When it goes on it begins no other: nobody would miss that one.
    are_given_back: bool,
}

/// One thread of a survey.
struct Worker {
    vigil: Vigil,
    begun: Begun,
}

impl Worker {
    /// `None` where no thread is to be had.
    fn start(survey: &Arc<Survey>, to: &Sender<(usize, Part)>) -> Option<Self> {
        let begun = Begun::default();
        let (its, survey, to) = (Arc::clone(&begun), Arc::clone(survey), to.clone());
        let proc = survey.host.proc().clone();
        let vigil = proc.watched(move || survey.look(&its, &to)).ok()?;
        Some(Self { vigil, begun })
    }
}

impl Survey {
    /// Begins with the next part.
    fn begin(&self, begun: &Begun) -> Option<usize> {
        let mut parts = locked(begun);
        let at = if parts.are_given_back {
            None
        } else {
            locked(&self.left).pop()
        };
        parts.begun.extend(at);
        at
    }

    /// Has what a thread that hangs had begun done again.
    fn give_back(&self, begun: &Begun) {
        let mut parts = locked(begun);
        parts.are_given_back = true;
        locked(&self.left).append(&mut parts.begun);
    }

    /// Takes the next part and looks at it, until there is none. The engines' records of a part are read while the next one
    /// is looked at.
    fn look(&self, begun: &Begun, to: &Sender<(usize, Part)>) {
        let mut records = Pending::sharing(&self.host, [], &self.users);
        let mut before: Option<(usize, Part)> = None;
        loop {
            let this = self.begin(begun).map(|at| (at, Part::of(self, at, &mut records)));
            let is_last = this.is_none();
            if let Some((at, mut part)) = std::mem::replace(&mut before, this) {
                part.add_records(&mut records, self);
                // Once it is left behind it skips what is still to be read, and the part is not whole.
                if self.host.proc().is_left() {
                    return;
                }
                // What this thread hung with is done by another one.
                let mut parts = locked(begun);
                let Some(mine) = parts.begun.iter().position(|&mine| mine == at) else {
                    return;
                };
                parts.begun.swap_remove(mine);
                if to.send((at, part)).is_err() {
                    return; // nobody prints any more
                }
            }
            if is_last {
                return;
            }
        }
    }
}

/// Nothing panics while one of these is held.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One container.
struct Row {
    cgroup: CgroupId,
    status: Status,
    /// The container itself, where it is meant or may be.
    held: Option<Held>,
}

/// What is found under some IDs, one after the other.
#[derive(Default)]
struct Part {
    rows: Vec<Row>,
    /// The records of so many containers did not come in time.
    late: usize,
    incomplete: Vec<String>,
    /// The tasks that do not answer, in words.
    silent: Vec<String>,
}

impl Part {
    /// What the kernel has of some IDs. The engines' records are asked for.
    fn of(survey: &Survey, at: usize, records: &mut Pending) -> Self {
        let host = &survey.host;
        let everything = &survey.everything;
        let holds = survey.is_meant.is_some();
        let ids = everything.ids().iter().skip(at * CHUNK).take(CHUNK);
        let mut part = Self::default();
        let mut identities: Vec<Identity> = Vec::new();
        // What is known of an ancestor is of the moment in which a part is looked at.
        let mut thawed_ancestors = ThawedAncestors::default();
        for entry in ids.flat_map(|id| everything.containers(id)) {
            let probe = match entry {
                Ok(probe) => probe,
                // A container that ended is not listed, as docker ps has it.
                Err(Unknown {
                    why: Error::NotRunning(_) | Error::Gone(_),
                    ..
                }) => continue,
                Err(Unknown { id, why, .. }) => {
                    part.incomplete.push(format!("{id}: {why}"));
                    continue;
                }
            };
            match engine::quick_status(host, &probe, &mut thawed_ancestors) {
                Ok((status, holdouts)) => {
                    let id = named(&probe.container.identity);
                    let silent = holdouts.iter().filter(|task| task.class == Class::Hung);
                    part.silent.extend(silent.map(|task| silent_line(id, task)));
                    let row = Row::new(status, probe, holds, &mut identities);
                    part.rows.push(row);
                }
                Err(Error::Gone(_)) => {}
                Err(error) => {
                    let id = named(&probe.container.identity);
                    part.incomplete.push(format!("{id}: {error}"));
                }
            }
        }
        records.ask(identities);
        part
    }

    /// Adds the engines' records, as they come, and iceaxe's own.
    fn add_records(&mut self, records: &mut Pending, survey: &Survey) {
        for row in &mut self.rows {
            let details = records.next(RECORDS);
            match &details {
                Some(details) => {
                    row.status.add(details);
                    self.incomplete.extend(details.unreadable.iter().cloned());
                    records.renew();
                }
                None => self.late += 1,
            }
            survey.holders.add_to(&[row.cgroup], &mut row.status);
            let is_meant = survey
                .is_meant
                .as_ref()
                .is_some_and(|is_meant| is_meant(&row.status));
            row.held = row.held.take().filter(|_| is_meant);
            if let Some(held) = &mut row.held {
                // What did not come is not waited for again.
                held.details = Some(details.unwrap_or_default());
            }
        }
    }
}

impl Row {
    /// A row without the engine's record, for which its identity is added to those that are asked for.
    fn new(status: Status, probe: Probe, holds: bool, identities: &mut Vec<Identity>) -> Self {
        let container: Container = probe.container;
        let cgroup = container.freeze_point().id();
        let held = if holds {
            identities.push(container.identity.clone());
            Some(Held {
                container,
                details: None,
            })
        } else {
            identities.push(container.identity);
            None
        };
        Self { cgroup, status, held }
    }
}

/// Puts the parts into their order.
struct Order {
    early: BTreeMap<usize, Part>,
    wanted: usize,
    /// How many parts came.
    came: usize,
    /// One container can be on record twice, under two IDs.
    seen: BTreeSet<CgroupId>,
    late: usize,
    incomplete: Vec<String>,
    silent: Vec<String>,
}

impl Order {
    fn new(incomplete: Vec<String>) -> Self {
        Self {
            early: BTreeMap::new(),
            wanted: 0,
            came: 0,
            silent: Vec::new(),
            seen: BTreeSet::new(),
            late: 0,
            incomplete,
        }
    }

    fn take(&mut self, at: usize, part: Part, each: &mut dyn FnMut(Vec<Row>)) {
        self.came += 1;
        self.early.insert(at, part);
        while let Some(part) = self.early.remove(&self.wanted) {
            self.wanted += 1;
            let new = part.rows.into_iter().filter(|row| self.seen.insert(row.cgroup));
            each(new.collect());
            self.late += part.late;
            self.incomplete.extend(part.incomplete);
            self.silent.extend(part.silent);
        }
    }

    fn end(mut self) -> Vec<String> {
        if self.late > 0 {
            self.incomplete.push(format!(
                "the engines' records of {} containers could not be read in {} s",
                self.late,
                RECORDS.as_secs()
            ));
        }
        self.incomplete.sort_unstable();
        self.incomplete.dedup();
        self.incomplete
    }
}

fn silent_line(id: &str, task: &Holdout) -> String {
    let (tid, comm) = (task.tid, &task.comm);
    format!("{id}: task {tid} ({comm}) does not answer: nothing is known of it")
}

fn named(identity: &Identity) -> &str {
    identity.id.as_deref().unwrap_or("a container")
}
