//! `list`: every container on the host.

use std::time::Duration;

use super::{Context, human, json};
use crate::engine;
use crate::error::Error;
use crate::resolver::{self, Details};

/// How long each step of a listing may take before it counts as hanging.
const STEP: Duration = Duration::from_secs(10);
/// How long the answer waits for one engine's record.
const RECORD: Duration = Duration::from_secs(2);

/// Runs `list`.
pub(super) fn run(context: &Context<'_>) -> u8 {
    context.within(STEP * 3);
    let listing = resolver::all(context.host);
    let mut incomplete = listing.incomplete;
    let mut rows = Vec::new();
    for entry in listing.containers {
        context.within(STEP);
        let found = match entry {
            Ok(found) => found,
            // A container that ended is not listed, as docker ps has it.
            Err((_, Error::NotRunning(_) | Error::Gone(_))) => continue,
            Err((identity, error)) => {
                incomplete.push(format!(
                    "{}: {error}",
                    identity.id.as_deref().unwrap_or("a container")
                ));
                continue;
            }
        };
        let details = Details::start(context.host, &found.container.identity).wait(RECORD);
        match engine::status(context.host, &found.container, details.as_ref()) {
            Ok((status, _)) if context.cli.json => context.out(json(&status)),
            Ok((status, _)) if context.cli.quiet => {
                context.out(status.id.or(status.name).map(|id| id + "\n").unwrap_or_default());
            }
            Ok((status, _)) => rows.push(human::row(&status)),
            Err(Error::Gone(_)) => {}
            Err(error) => incomplete.push(format!(
                "{}: {error}",
                found.container.identity.id.as_deref().unwrap_or("a container")
            )),
        }
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
