//! Every container of the host with its status, for the verbs that mean many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use super::targets::Held;
use super::{Context, keeper};
use crate::cgroup::CgroupId;
use crate::engine::{self, Holders, Status, Unasked};
use crate::error::Error;
use crate::host::Host;
use crate::resolver::{Container, Everything, Glimpse, Identity, Pending, Resolver, Unknown};

/// How long each step may take before it counts as hanging.
const STEP: Duration = Duration::from_secs(10);
/// How long the answer waits for the engines' records while they do not get on.
const RECORDS: Duration = Duration::from_secs(2);
/// So many IDs are one step.
const CHUNK: usize = 32;
/// More threads than that gain nothing: they meet in the kernel's locks.
const MOST_THREADS: usize = 4;

/// Shows each container to `each`, in the order of the IDs, as they come; one that is on record twice, once. What it
/// could not look at is returned, in words: the survey is incomplete then.
pub(super) fn survey(context: &Context<'_>, each: &mut dyn FnMut(Vec<Status>)) -> Vec<String> {
    look_at_all(context, None, &mut |rows| {
        each(rows.into_iter().map(|row| row.status).collect());
    })
}

/// Whether a container is meant.
pub(super) type IsMeant<'m> = &'m (dyn Fn(&Status) -> bool + Sync);

/// The same, and each container that is meant is shown as it was found, held open.
pub(super) fn choose(
    context: &Context<'_>,
    is_meant: IsMeant<'_>,
    each: &mut dyn FnMut(&Status, Option<Held>),
) -> Vec<String> {
    look_at_all(context, Some(is_meant), &mut |rows| {
        for Row { status, held, .. } in rows {
            each(&status, held);
        }
    })
}

/// A few threads look at a part each, as ten thousand containers are a matter of seconds else.
fn look_at_all(
    context: &Context<'_>,
    is_meant: Option<IsMeant<'_>>,
    each: &mut dyn FnMut(Vec<Row>),
) -> Vec<String> {
    context.within(STEP * 3);
    let everything = Resolver::new(context.host, []).everything();
    let chunks: Vec<&[String]> = everything.ids().chunks(CHUNK).collect();
    let next = AtomicUsize::new(0);
    let holders = Holders::read(context.host);
    keeper::left_behind(context, &holders);
    let unlooked = context.host.unlooked().map(str::to_owned);
    let incomplete: Vec<String> = everything.incomplete().iter().cloned().chain(unlooked).collect();
    let mut order = Order::new(incomplete);
    let host = context.host;
    let work = |to: Sender<(usize, Part)>| look(host, &everything, &holders, is_meant, &chunks, &next, &to);
    thread::scope(|scope| {
        let (to, from) = mpsc::channel();
        let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST_THREADS));
        let started = (0..threads.min(chunks.len())).filter(|_| {
            let (to, work) = (to.clone(), &work);
            thread::Builder::new()
                .spawn_scoped(scope, move || work(to))
                .is_ok()
        });
        if started.count() == 0 {
            work(to.clone()); // no thread is to be had
        }
        drop(to);
        for (at, part) in from {
            context.within(STEP);
            order.take(at, part, each);
        }
    });
    order.end()
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
}

/// Takes the next part and looks at it, until there is none. The engines' records of a part are read while the next one
/// is looked at.
fn look(
    host: &Host,
    everything: &Everything<'_>,
    holders: &Holders,
    is_meant: Option<IsMeant<'_>>,
    chunks: &[&[String]],
    next: &AtomicUsize,
    to: &Sender<(usize, Part)>,
) {
    let mut records = Pending::start(host, []);
    let mut before: Option<(usize, Part)> = None;
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let this = chunks.get(at).map(|ids| {
            (
                at,
                Part::of(host, everything, is_meant.is_some(), ids, &mut records),
            )
        });
        let is_last = this.is_none();
        if let Some((at, mut part)) = std::mem::replace(&mut before, this) {
            part.add_records(&mut records, holders, is_meant);
            if to.send((at, part)).is_err() {
                return; // nobody prints any more
            }
        }
        if is_last {
            return;
        }
    }
}

impl Part {
    /// What the kernel has of some IDs. The engines' records are asked for.
    fn of(
        host: &Host,
        everything: &Everything<'_>,
        holds: bool,
        ids: &[String],
        records: &mut Pending,
    ) -> Self {
        let mut part = Self::default();
        let mut identities: Vec<Identity> = Vec::new();
        // What is known of an ancestor is of the moment in which a part is looked at.
        let mut unasked = Unasked::default();
        for entry in ids.iter().flat_map(|id| everything.containers(id)) {
            let glimpse = match entry {
                Ok(glimpse) => glimpse,
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
            match engine::glance(host, &glimpse, &mut unasked) {
                Ok(status) => {
                    let row = Row::new(status, glimpse, holds, &mut identities);
                    part.rows.push(row);
                }
                Err(Error::Gone(_)) => {}
                Err(error) => {
                    let id = named(&glimpse.container.identity);
                    part.incomplete.push(format!("{id}: {error}"));
                }
            }
        }
        records.ask(identities);
        part
    }

    /// Adds the engines' records, as they come, and iceaxe's own.
    fn add_records(&mut self, records: &mut Pending, holders: &Holders, is_meant: Option<IsMeant<'_>>) {
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
            holders.add_to(&[row.cgroup], &mut row.status);
            let is_meant = is_meant.is_some_and(|is_meant| is_meant(&row.status));
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
    fn new(status: Status, glimpse: Glimpse, holds: bool, identities: &mut Vec<Identity>) -> Self {
        let container: Container = glimpse.container;
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
    /// One container can be on record twice, under two IDs.
    seen: BTreeSet<CgroupId>,
    late: usize,
    incomplete: Vec<String>,
}

impl Order {
    fn new(incomplete: Vec<String>) -> Self {
        Self {
            early: BTreeMap::new(),
            wanted: 0,
            seen: BTreeSet::new(),
            late: 0,
            incomplete,
        }
    }

    fn take(&mut self, at: usize, part: Part, each: &mut dyn FnMut(Vec<Row>)) {
        self.early.insert(at, part);
        while let Some(part) = self.early.remove(&self.wanted) {
            self.wanted += 1;
            let new = part.rows.into_iter().filter(|row| self.seen.insert(row.cgroup));
            each(new.collect());
            self.late += part.late;
            self.incomplete.extend(part.incomplete);
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

fn named(identity: &Identity) -> &str {
    identity.id.as_deref().unwrap_or("a container")
}
