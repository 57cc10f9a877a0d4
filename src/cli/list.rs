//! `list`: every container on the host.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Context, human, json};
use crate::engine;
use crate::error::Error;
use crate::resolver::{Container, Identity, Pending, Resolver};

/// How long each step of a listing may take before it counts as hanging.
const STEP: Duration = Duration::from_secs(10);
/// How long the answer waits for the engines' records while they do not get on.
const RECORDS: Duration = Duration::from_secs(2);
/// So many containers are looked at while the records of the first are read. Each holds two descriptors.
const AHEAD: usize = 16;
/// So much text is handed on at once.
const CHUNK: usize = 1 << 15;

/// A listing at work.
struct Listing<'c> {
    context: &'c Context<'c>,
    records: Pending,
    waiting: VecDeque<Container>,
    /// The records of so many did not come in time.
    late: usize,
    incomplete: Vec<String>,
    rows: Vec<[String; human::COLUMNS.len()]>,
    text: String,
    said: Instant,
}

/// Runs `list`.
pub(super) fn run(context: &Context<'_>) -> u8 {
    context.within(STEP * 3);
    let mut listing = Listing {
        context,
        records: Pending::start(context.host, []),
        waiting: VecDeque::new(),
        late: 0,
        incomplete: Vec::new(),
        rows: Vec::new(),
        text: String::new(),
        said: Instant::now(),
    };
    let unread = Resolver::new(context.host, []).each(&mut |entry| match entry {
        Ok(container) => listing.take(container),
        // A container that ended is not listed, as docker ps has it.
        Err((_, Error::NotRunning(_) | Error::Gone(_))) => {}
        Err((identity, error)) => listing.incomplete.push(format!("{}: {error}", named(&identity))),
    });
    listing.incomplete.extend(unread);
    listing.end()
}

impl Listing<'_> {
    fn take(&mut self, mut container: Container) {
        // Its records are of no use to anything but the details.
        let about = std::mem::take(&mut container.identity.about);
        let identity = container.identity.clone();
        self.records.ask(Identity { about, ..identity });
        self.waiting.push_back(container);
        if self.waiting.len() > AHEAD {
            self.show();
        }
    }

    /// Shows the one that has waited longest.
    fn show(&mut self) {
        let Some(container) = self.waiting.pop_front() else {
            return;
        };
        if self.said.elapsed() > STEP / 10 {
            self.context.within(STEP);
            self.said = Instant::now();
        }
        let details = self.records.next(RECORDS);
        match &details {
            Some(details) => {
                self.incomplete.extend(details.unreadable.iter().cloned());
                self.records.renew();
            }
            None => self.late += 1,
        }
        match engine::status(self.context.host, &container, details.as_ref()) {
            Ok((status, _)) if self.context.cli.json => self.print(&json(&status)),
            Ok((status, _)) if self.context.cli.quiet => {
                self.print(&status.id.or(status.name).map(|id| id + "\n").unwrap_or_default());
            }
            Ok((status, _)) => self.rows.push(human::row(&status)),
            Err(Error::Gone(_)) => {}
            Err(error) => self
                .incomplete
                .push(format!("{}: {error}", named(&container.identity))),
        }
    }

    fn print(&mut self, text: &str) {
        self.text += text;
        if self.text.len() > CHUNK {
            self.context.out(std::mem::take(&mut self.text));
        }
    }

    fn end(mut self) -> u8 {
        while !self.waiting.is_empty() {
            self.show();
        }
        if !self.context.cli.json && !self.context.cli.quiet {
            self.text += &human::table(human::COLUMNS, &self.rows);
        }
        self.context.out(std::mem::take(&mut self.text));
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
