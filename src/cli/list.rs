//! `list`: every container on the host.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use super::{Context, human, json};
use crate::cgroup::CgroupId;
use crate::engine::{self, Status, Unasked};
use crate::error::Error;
use crate::host::Host;
use crate::resolver::{Everything, Identity, Pending, Resolver, Unknown};

/// How long each step of a listing may take before it counts as hanging.
const STEP: Duration = Duration::from_secs(10);
/// How long the answer waits for the engines' records while they do not get on.
const RECORDS: Duration = Duration::from_secs(2);
/// So many IDs are one step.
const CHUNK: usize = 32;
/// More threads than that gain nothing: they meet in the kernel's locks.
const MOST_THREADS: usize = 4;

/// What is found under some IDs, one after the other.
#[derive(Default)]
struct Part {
    rows: Vec<(CgroupId, Status)>,
    /// The records of so many containers did not come in time.
    late: usize,
    incomplete: Vec<String>,
}

/// Runs `list`. A few threads look at a part each, as ten thousand containers are a matter of seconds else; what they
/// find is printed in the order of the IDs.
pub(super) fn run(context: &Context<'_>) -> u8 {
    context.within(STEP * 3);
    let everything = Resolver::new(context.host, []).everything();
    let chunks: Vec<&[String]> = everything.ids().chunks(CHUNK).collect();
    let next = AtomicUsize::new(0);
    let mut listing = Listing::new(context, everything.incomplete());
    let host = context.host;
    let work = |to: Sender<(usize, Part)>| look(host, &everything, &chunks, &next, &to);
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
        listing.print(from);
    });
    listing.end()
}

/// Takes the next part and looks at it, until there is none. The engines' records of a part are read while the next one
/// is looked at.
fn look(
    host: &Host,
    everything: &Everything<'_>,
    chunks: &[&[String]],
    next: &AtomicUsize,
    to: &Sender<(usize, Part)>,
) {
    let mut records = Pending::start(host, []);
    let mut before: Option<(usize, Part)> = None;
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let this = chunks
            .get(at)
            .map(|ids| (at, Part::of(host, everything, ids, &mut records)));
        let is_last = this.is_none();
        if let Some((at, mut part)) = std::mem::replace(&mut before, this) {
            part.add_records(&mut records);
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
    fn of(host: &Host, everything: &Everything<'_>, ids: &[String], records: &mut Pending) -> Self {
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
                    part.rows.push((glimpse.container.freeze_point().id(), status));
                    identities.push(glimpse.container.identity);
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

    /// Adds the engines' records, as they come.
    fn add_records(&mut self, records: &mut Pending) {
        for (_, status) in &mut self.rows {
            match records.next(RECORDS) {
                Some(details) => {
                    status.add(&details);
                    self.incomplete.extend(details.unreadable);
                    records.renew();
                }
                None => self.late += 1,
            }
        }
    }
}

/// A listing as it is printed.
struct Listing<'c> {
    context: &'c Context<'c>,
    /// One container can be on record twice, under two IDs.
    seen: BTreeSet<CgroupId>,
    late: usize,
    incomplete: Vec<String>,
    rows: Vec<[String; human::COLUMNS.len()]>,
}

impl<'c> Listing<'c> {
    fn new(context: &'c Context<'c>, incomplete: &[String]) -> Self {
        Self {
            context,
            seen: BTreeSet::new(),
            late: 0,
            incomplete: incomplete.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Prints the parts in their order, as they come.
    fn print(&mut self, parts: impl IntoIterator<Item = (usize, Part)>) {
        let mut early = std::collections::BTreeMap::new();
        let mut wanted = 0;
        for (at, part) in parts {
            self.context.within(STEP);
            early.insert(at, part);
            while let Some(part) = early.remove(&wanted) {
                self.add(part);
                wanted += 1;
            }
        }
    }

    fn add(&mut self, part: Part) {
        let mut text = String::new();
        for (cgroup, status) in part.rows {
            if !self.seen.insert(cgroup) {
                continue;
            }
            if self.context.cli.json {
                text += &json(&status);
            } else if self.context.cli.quiet {
                text += &status.id.or(status.name).map(|id| id + "\n").unwrap_or_default();
            } else {
                self.rows.push(human::row(&status));
            }
        }
        if !text.is_empty() {
            self.context.out(text);
        }
        self.late += part.late;
        self.incomplete.extend(part.incomplete);
    }

    fn end(mut self) -> u8 {
        if !self.context.cli.json && !self.context.cli.quiet {
            self.context.out(human::table(human::COLUMNS, &self.rows));
        }
        if self.late > 0 {
            self.incomplete.push(format!(
                "the engines' records of {} containers could not be read in {} s",
                self.late,
                RECORDS.as_secs()
            ));
        }
        self.incomplete.sort();
        self.incomplete.dedup();
        for source in &self.incomplete {
            self.context.err(format!(
                "iceaxe: the list is incomplete: {}\n",
                human::escaped(source)
            ));
        }
        u8::from(!self.incomplete.is_empty())
    }
}

fn named(identity: &Identity) -> &str {
    identity.id.as_deref().unwrap_or("a container")
}
