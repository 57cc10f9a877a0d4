//! `list`: every container on the host.

use std::time::Duration;

use super::{Context, human, json};
use crate::engine;
use crate::error::Error;
use crate::resolver::{self, Details, Identity};

/// How long each step of a listing may take before it counts as hanging.
const STEP: Duration = Duration::from_secs(10);
/// How long the answer waits for the engines' records, of all containers together.
const RECORDS: Duration = Duration::from_secs(2);

/// Runs `list`.
pub(super) fn run(context: &Context<'_>) -> u8 {
    context.within(STEP * 3);
    let listing = resolver::all(context.host);
    let mut incomplete = listing.incomplete;
    let mut running = Vec::new();
    for entry in listing.containers {
        match entry {
            Ok(found) => running.push(found.container),
            // A container that ended is not listed, as docker ps has it.
            Err((_, Error::NotRunning(_) | Error::Gone(_))) => {}
            Err((identity, error)) => incomplete.push(format!("{}: {error}", named(&identity))),
        }
    }
    let records = Details::start(
        context.host,
        running
            .iter()
            .map(|container| container.identity.clone())
            .collect(),
    );
    let mut late = 0_usize;
    let mut rows = Vec::new();
    for container in &running {
        context.within(STEP);
        let details = records.next(RECORDS);
        match &details {
            Some(details) => incomplete.extend(details.unreadable.iter().cloned()),
            None => late += 1,
        }
        match engine::status(context.host, container, details.as_ref()) {
            Ok((status, _)) if context.cli.json => context.out(json(&status)),
            Ok((status, _)) if context.cli.quiet => {
                context.out(status.id.or(status.name).map(|id| id + "\n").unwrap_or_default());
            }
            Ok((status, _)) => rows.push(human::row(&status)),
            Err(Error::Gone(_)) => {}
            Err(error) => incomplete.push(format!("{}: {error}", named(&container.identity))),
        }
    }
    if late > 0 {
        incomplete.push(format!(
            "the engines' records of {late} containers could not be read in {} s",
            RECORDS.as_secs()
        ));
    }
    if !context.cli.json && !context.cli.quiet {
        context.out(human::table(human::COLUMNS, &rows));
    }
    for source in &incomplete {
        context.err(format!(
            "iceaxe: the list is incomplete: {}\n",
            human::escaped(source)
        ));
    }
    u8::from(!incomplete.is_empty())
}

fn named(identity: &Identity) -> &str {
    identity.id.as_deref().unwrap_or("a container")
}
