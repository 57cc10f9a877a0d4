//! `hold`: freezes, has a command run, and thaws exactly what it froze, whatever happens.

use std::ffi::OsString;
use std::time::Duration;

use super::args::Hold;
use super::child::{Message, Ran};
use super::keeper::{Asked, Keeper};
use super::targets::{self, Targets};
use super::{Context, number, verb};
use crate::engine::report::{Outcome, Report};
use crate::engine::{self, FreezeOptions, Leaving, Step, Together};
use crate::ledger::{Entry, Kind, Pledge};
use crate::patience::Patience;
use crate::resolver::Container;

/// The limits where none is given.
const FREEZE: Duration = Duration::from_secs(10);
const THAW: Duration = Duration::from_secs(5);
/// How much longer a thaw may take until it is told.
const GRACE: Duration = Duration::from_secs(3);

/// The codes of a hold's own.
pub(super) const NOT_THAWED: u8 = 123;
pub(super) const NOT_RUN: u8 = 125;

/// What a hold ends with, given the code of the work and that of the command, if it was run.
pub(super) fn code(work: u8, command: Option<u8>) -> u8 {
    match (work, command) {
        (0, Some(command)) => command,
        (_, Some(_)) => NOT_THAWED,
        (0, None) => 0, // a dry run
        (_, None) => NOT_RUN,
    }
}

/// Runs `hold`: 0 where all is as it was before.
pub(super) fn run(context: &Context<'_>, args: &Hold, typed: &[OsString]) -> u8 {
    let targets = targets::resolve(context, "hold", typed, args.nested);
    if context.cli.dry_run {
        return freeze(context, args, &targets, None);
    }
    let asked = Asked {
        lasting: args.max,
        no_record: args.no_record,
        command: args
            .command
            .first()
            .map(|word| word.to_string_lossy().into_owned()),
    };
    let keeper = match Keeper::new(context, Kind::Hold, asked) {
        Ok(keeper) => keeper,
        Err(error) => {
            for (index, typed, _) in targets.found() {
                context.end(index, &super::unresolved("hold", typed, &error));
            }
            return NOT_RUN;
        }
    };
    let code = freeze(context, args, &targets, Some(&keeper));
    let held = keeper.pledges();
    if held.is_empty() || code != 0 && !args.best_effort {
        keeper.drop_all();
        return code.max(1);
    }
    remember(context, &targets, &held);
    let ran = context.tie.run(context.say, args.max, &mut || {});
    let code = thaw(context, &targets, &keeper, &held);
    if ran == Ran::Lost && context.is_cancelled() {
        return code; // nobody is left to be told
    }
    code
}

/// Freezes all of them as one; 0 where they are.
fn freeze(context: &Context<'_>, args: &Hold, targets: &Targets, keeper: Option<&Keeper<'_>>) -> u8 {
    let together = if args.best_effort {
        Together::BestEffort
    } else {
        Together::AllOrNothing
    };
    let options = FreezeOptions {
        force: verb::lifted(&args.force),
        mode: verb::mode(context.cli.dry_run),
        together,
        ..FreezeOptions::default()
    };
    verb::freeze_all(
        context,
        targets,
        None,
        context.timeout(FREEZE),
        false,
        keeper,
        &options,
    )
}

/// What the process that supervises is to put back if this one dies while the command runs.
fn remember(context: &Context<'_>, targets: &Targets, held: &[(usize, Pledge, Option<Entry>)]) {
    let found = targets.found();
    for (nth, pledge, _) in held.iter().filter(|(_, pledge, _)| !pledge.standing.requested) {
        let Some((index, typed, _)) = found.get(*nth) else {
            continue;
        };
        let mut undone = Report::blank("thaw", typed);
        (undone.outcome, undone.exit) = (Outcome::Released, 9);
        undone.error = Some(
            "the process that did the work was killed: thawed, but no task is proven to run again".to_owned(),
        );
        // It is plain data, which can always be said in JSON.
        if let Ok(text) = serde_json::to_vec(&pledge.standing) {
            (context.say)(&Message::Undo(number(*index), text, context.told(&undone)));
        }
    }
}

/// Thaws what this hold froze, the last first, each to what it was before; 0 where that is proven of all.
fn thaw(
    context: &Context<'_>,
    targets: &Targets,
    keeper: &Keeper<'_>,
    held: &[(usize, Pledge, Option<Entry>)],
) -> u8 {
    let found = targets.found();
    let each: Vec<(u32, &str, &Container, &Pledge, Option<&Entry>)> = held
        .iter()
        .rev()
        .filter_map(|(nth, pledge, entry)| {
            let (index, typed, container) = found.get(*nth)?;
            Some((number(*index), *typed, *container, pledge, entry.as_ref()))
        })
        .collect();
    let leaving: Vec<Leaving<'_>> = each
        .iter()
        .map(|(_, _, container, pledge, entry)| Leaving {
            pledge,
            container: Some(container),
            entry: *entry,
        })
        .collect();
    let limit = context.timeout(THAW);
    context.within(limit + GRACE);
    // No signal breaks it off, nor the end of who supervises.
    let reports = engine::part(
        context.host,
        keeper.ledger(),
        &leaving,
        Patience::of(limit),
        &mut |nth, report, step| {
            let (index, ..) = each[nth];
            match step {
                Step::Writing(write) => {
                    let mut stuck = report.clone();
                    (stuck.outcome, stuck.exit) = (Outcome::Stuck, 7);
                    let file = write.file.display();
                    stuck.error = Some(format!(
                        "write {} to {file}: the write did not return",
                        write.value
                    ));
                    (context.say)(&Message::Will(index, context.told(&stuck)));
                }
                Step::Done => (context.say)(&Message::Will(index, context.told(report))),
                _ => {}
            }
        },
    );
    let mut code = 0;
    for ((index, ..), report) in each.iter().zip(&reports) {
        (context.say)(&Message::End(*index, context.told(report)));
        code = code.max(report.exit);
    }
    keeper.dismiss();
    code
}
