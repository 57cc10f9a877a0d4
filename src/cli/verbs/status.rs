//! `status`: what is so, of each target.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::Run;
use crate::cgroup::Cgroup;
use crate::cli::context::{Context, joined, json, unresolved};
use crate::cli::options::{Nested, Select};
use crate::cli::select::{All, Nothing, select};
use crate::cli::{recorder, text};
use crate::engine::{self, Holders};
use crate::error::{Error, Result};
use crate::report::Verb;
use crate::resolver::{Container, Details, Purpose};

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// What to look at; - reads targets from standard input, one a line
    #[arg(required_unless_present_any = ["all", "filter"], conflicts_with_all = ["all", "filter"], value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) nested: Nested,
}

impl Run for Status {
    fn targets(&self) -> &[OsString] {
        &self.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        run(context, self, typed)
    }
}

/// How long the answers wait for the engines' records, all together, beyond the kernel's own files.
const RECORD: Duration = Duration::from_secs(2);

/// How long the kernel may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Runs `status`.
fn run(context: &Context<'_>, args: &Status, typed: &[OsString]) -> u8 {
    let holders = Holders::read(context.host);
    if !args.select.all && args.select.filter.is_empty() {
        recorder::left_behind(context, &holders); // else it is said where all are looked at
    }
    answer(
        context,
        Verb::Status,
        args,
        typed,
        &|target, container, details| {
            let (mut status, holdouts) = engine::status(context.host, container, details)?;
            let ids: Vec<_> = container.own.iter().map(Cgroup::id).collect();
            holders.add_to(&ids, &mut status);
            match engine::outside(context.host, container) {
                Ok(outside) => {
                    let outside = outside.map(|outside| {
                        context.err(text::silent_outside(target, &outside.silent));
                        outside.found
                    });
                    status.outside = outside;
                }
                Err(Error::Gone(_)) => {} // nobody is outside of it any more
                Err(error) => context.err(text::unseen_outside(target, &error)),
            }
            Ok(if context.options.json {
                json(&status)
            } else {
                text::status(target, &status, &holdouts)
            })
        },
    )
}

/// What is said of a container, given its target as typed and the engine's record.
type Say<'s> = &'s dyn Fn(&str, &Container, Option<&Details>) -> Result<String>;

/// Prints the answer of a verb that only reads, for each target.
pub(in crate::cli) fn answer(
    context: &Context<'_>,
    verb: Verb,
    args: &Status,
    typed: &[OsString],
    say: Say<'_>,
) -> u8 {
    let selection = select(context, &args.select, typed, All::Every, Nothing::IsFine);
    let mut codes: Vec<u8> = selection.code.into_iter().collect();
    let targets = selection.resolve(context, (verb, Purpose::Look), args.nested);
    for (index, report) in targets.lost() {
        context.end(index, report);
        codes.push(report.exit());
    }
    let mut records = targets.records(context.host);
    for (index, typed, container) in targets.found() {
        context.within(context.timeout(ANSWER) + RECORD);
        let details = records.next(if targets.late { Duration::ZERO } else { RECORD });
        match say(typed, container, details.as_ref()) {
            Ok(_) if context.options.quiet && !context.options.json => context.out(context.line(typed)),
            Ok(text) => context.out(text),
            // What ended after it was selected is nothing that was meant any more.
            Err(Error::Gone(_)) if targets.is_selected(index) => continue,
            Err(error) => {
                let report = unresolved(verb, typed, &error);
                context.end(index, &report);
                codes.push(report.exit());
                continue;
            }
        }
        codes.push(0);
    }
    joined(codes)
}
