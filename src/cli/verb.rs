//! `thaw` and `freeze`: resolve, act, tell. What is to be said if a write never returns is said before it is done.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::args::{Freeze, Rule, Thaw};
use super::child::Message;
use super::targets::{self, Targets};
use super::{Context, human, joined, number};
use crate::engine::report::{Effective, Outcome, Report};
use crate::engine::{self, Clear, FreezeOptions, Mode, Reach, Step, ThawOptions};
use crate::error::Force;
use crate::patience::Patience;
use crate::resolver::{Believed, Container, Pending};

/// How long after its limit the work may take to undo, look once more and say so, before it counts as hanging.
const GRACE: Duration = Duration::from_millis(900);
/// And how much longer for each target: a look at a few hundred tasks.
const GRACE_EACH: Duration = Duration::from_millis(20);
/// How long the verdict waits for the engine's record, which may be on a disk that hangs.
const NAME: Duration = Duration::from_millis(250);

/// Runs `thaw`.
pub(super) fn thaw(context: &Context<'_>, args: &Thaw, typed: &[OsString]) -> u8 {
    let targets = targets::resolve(context, "thaw", typed, args.nested);
    let clear = |wanted| if wanted { Clear::Clear } else { Clear::Leave };
    let options = ThawOptions {
        reach: Reach {
            inner: clear(args.recursive),
            ancestors: clear(args.ancestors),
        },
        mode: mode(args.dry_run),
    };
    act(
        context,
        &targets,
        args.timeout,
        args.trace,
        |containers, patience, watcher| engine::thaw(context.host, containers, options, patience, watcher),
    )
}

/// Runs `freeze`.
pub(super) fn freeze(context: &Context<'_>, args: &Freeze, typed: &[OsString]) -> u8 {
    let targets = targets::resolve(context, "freeze", typed, args.nested);
    let lifted = args.force.iter().flat_map(|rule| match rule {
        Rule::All => Force::ALL.to_vec(),
        Rule::NotContainer => vec![Force::NotContainer],
        Rule::HostDaemon => vec![Force::HostDaemon],
        Rule::Sandbox => vec![Force::Sandbox],
    });
    let options = FreezeOptions {
        force: lifted.collect(),
        mode: mode(args.dry_run),
    };
    act(
        context,
        &targets,
        args.timeout,
        args.trace,
        |containers, patience, watcher| engine::freeze(context.host, containers, &options, patience, watcher),
    )
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Act }
}

type Engine<'e> = &'e mut dyn FnMut(usize, &Report, &Step);

fn act(
    context: &Context<'_>,
    targets: &Targets,
    timeout: Duration,
    trace: bool,
    engine: impl FnOnce(&[(&str, &Container)], Patience<'_>, Engine<'_>) -> Vec<Report>,
) -> u8 {
    let mut codes: Vec<u8> = Vec::new();
    for (index, report) in targets.lost() {
        context.end(index, report);
        codes.push(report.exit);
    }
    let found = targets.found();
    let records: Vec<Pending> = found
        .iter()
        .map(|(_, _, container)| crate::resolver::Details::start(context.host, &container.identity))
        .collect();
    let containers: Vec<(&str, &Container)> = found
        .iter()
        .map(|(_, typed, container)| (*typed, *container))
        .collect();
    let patience = Patience::of(timeout);
    let patience = context.cancel.map_or(patience, |cancel| patience.unless(cancel));
    let grace = GRACE + GRACE_EACH * number(containers.len());
    context.within(timeout + grace);
    let started = Instant::now();
    let reports = engine(&containers, patience, &mut |nth, report, step| {
        let (index, typed, _) = found[nth];
        if trace && let Some(line) = human::step(typed, elapsed_us(started), step) {
            context.err(line + "\n");
        }
        let will = |report: &Report, error: String, hint: Option<&str>| {
            let mut will = report.clone();
            (will.outcome, will.exit) = (Outcome::Stuck, 7);
            will.error = Some(error);
            will.hints.extend(hint.map(str::to_owned));
            (context.say)(&Message::Will(number(index), context.told(&will)));
        };
        match step {
            Step::Standing(standing) => {
                let mut will = report.clone();
                (will.outcome, will.exit) = (Outcome::RolledBack, 6);
                will.error = Some("the process that did the work was killed; rolled back".to_owned());
                if let Ok(text) = serde_json::to_vec(standing) {
                    (context.say)(&Message::Undo(number(index), text, context.told(&will)));
                }
            }
            Step::Writing(write) => {
                let file = write.file.display();
                let hint = match report.verb.as_str() {
                    "thaw" => "the write is still on its way: look again with iceaxe status",
                    _ => "the write is still on its way, and is undone when it returns",
                };
                will(
                    report,
                    format!("write {} to {file}: the write did not return", write.value),
                    Some(hint),
                );
            }
            Step::Written(_) => {
                let lost = "the write returned, but nothing was heard since: a read of the state hangs in the kernel, or \
                            the process that does it was killed";
                will(report, lost.to_owned(), None);
            }
            _ => {}
        }
    });
    for (((index, _, _), mut report), record) in found.iter().zip(reports).zip(records) {
        learn(&mut report, record);
        context.end(*index, &report);
        codes.push(report.exit);
    }
    joined(codes)
}

/// Adds what the engine has on record: the name, and what it will get wrong now.
fn learn(report: &mut Report, record: Pending) {
    let Some(details) = record.wait(NAME) else { return };
    if report.name.is_none() {
        report.name = details.name;
    }
    let engine = report.runtime.as_deref().unwrap_or("the engine");
    let thawed = matches!(report.after.effective, Some(Effective::Thawed));
    let frozen = matches!(report.after.effective, Some(Effective::Frozen));
    match details.believed {
        Some(Believed::Paused) if thawed && report.verb == "thaw" => report.hints.push(format!(
            "{engine} still believes that it is paused, and its own unpause will fail with \"container not paused\": \
             with the engine well again, iceaxe freeze it and let the engine unpause it"
        )),
        Some(Believed::Running) if frozen && report.verb == "freeze" => report.hints.push(format!(
            "{engine} does not know that it is frozen: a stop or restart now kills it without its shutdown; \
             iceaxe thaw it first"
        )),
        _ => {}
    }
}

fn elapsed_us(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
