//! `resync`: shows what would be done, asks, and brings one container after the other back in step with its engine.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::Run;
use crate::cli::context::{Context, joined, number, unresolved};
use crate::cli::options::{Nested, Select};
use crate::cli::recorder::{Asked, Recorder};
use crate::cli::select::{All, Nothing, select};
use crate::cli::text;
use crate::engine::{Before, ResyncLimits, Resyncer, Step};
use crate::error::Error;
use crate::freezer::Saved;
use crate::report::{Outcome, Report, Verb};
use crate::resolver::{Container, Purpose};
use crate::store::Kind;
use crate::supervisor::{Answer, Message};

#[derive(Debug, Args)]
pub(crate) struct Resync {
    /// What to bring back in step; - reads targets from standard input, one a line
    #[arg(required_unless_present_any = ["all", "filter"], conflicts_with_all = ["all", "filter"], value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) nested: Nested,
    /// Show what would be done, and stop
    #[arg(long)]
    pub(crate) plan: bool,
    /// Do not ask first
    #[arg(short, long)]
    pub(crate) yes: bool,
}

impl Run for Resync {
    fn targets(&self) -> &[OsString] {
        &self.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        run(context, self, typed)
    }
}

/// The limits where none is given: for the freeze and for each answer of an engine, and for the proof of the thaw.
const STEP: Duration = Duration::from_secs(2);
const THAW: Duration = Duration::from_secs(5);
/// How long the engines' records are waited for, all together.
const RECORD: Duration = Duration::from_secs(2);
/// What else a step may take, on a busy host, before it counts as hanging.
const GRACE: Duration = Duration::from_millis(1700);

/// Runs `resync`.
fn run(context: &Context<'_>, args: &Resync, typed: &[OsString]) -> u8 {
    // What it runs are an engine's programs, and no rescue. Going back to what one was started with is always allowed.
    let _ = rustix::process::setpriority_process(None, context.priority);
    let is_selected = args.select.all || !args.select.filter.is_empty();
    let selection = select(context, &args.select, typed, All::Disagreeing, Nothing::IsFine);
    let mut codes: Vec<u8> = selection.code.into_iter().collect();
    let targets = selection.resolve(context, (Verb::Resync, Purpose::Freeze), args.nested);
    for (index, report) in targets.lost() {
        context.end(index, report);
        codes.push(report.exit());
    }
    let limits = ResyncLimits {
        step: context.timeout(STEP),
        thaw: context.timeout(THAW),
    };
    let found = targets.found();
    let mut records = targets.records(context.host);
    let mut resync = Resyncer::new(context.host, limits);
    let mut open = Vec::new();
    for (index, typed, container) in found {
        context.within(RECORD + limits.step + GRACE);
        let details = records.next(if targets.late { Duration::ZERO } else { RECORD });
        let report = if context.host.root() == Path::new("/") {
            let patience = context.patience(limits.step);
            let plan = resync.plan(typed, container, details.as_ref(), patience);
            if plan.is_open() {
                open.push((index, typed, container, plan.report));
                continue;
            }
            plan.report
        } else {
            let why =
                "the engines' own commands are the host's, and can't be run from beside it: run iceaxe there";
            unresolved(Verb::Resync, typed, &Error::Unsupported(why.to_owned()))
        };
        // Who could not be told apart without asking and is well was not meant, and nor is who has ended since.
        if is_selected && (report.outcome == Outcome::Unchanged || report.outcome.is_gone()) {
            continue;
        }
        context.end(index, &report);
        codes.push(report.exit());
    }
    let planned = args.plan || context.options.dry_run;
    if !planned && !open.is_empty() && !is_wanted(context, args, open.iter().map(|(.., report)| report)) {
        for (index, .., report) in &mut open {
            report.outcome = Outcome::Refused;
            report.error = Some("not done without a yes: --yes, or an answer at a terminal".to_owned());
            context.end(*index, report);
            codes.push(report.exit());
        }
        return joined(codes);
    }
    // Each is on record while it is frozen, so that recover finds one that everybody was killed over.
    let recorder =
        (!planned && !open.is_empty()).then(|| Recorder::new(context, Kind::Freeze, Asked::default()));
    let recorder = recorder.and_then(Result::ok); // a plain freeze's record is never refused
    for (index, typed, container, mut report) in open {
        if !planned {
            let before = |_: usize, standing: &Saved| match &recorder {
                Some(recorder) => recorder.keep(typed, container, standing),
                None => Ok(()),
            };
            report = heal(context, &mut resync, limits, index, (typed, container), &before);
            recorder.iter().for_each(|recorder| recorder.drop(container));
        }
        context.end(index, &report);
        codes.push(report.exit());
    }
    joined(codes)
}

/// Shows what would be done, and asks whether it is to be.
fn is_wanted<'r>(
    context: &Context<'_>,
    args: &Resync,
    plans: impl Iterator<Item = &'r Report> + Clone,
) -> bool {
    if !context.options.quiet || !args.yes {
        plans
            .clone()
            .for_each(|report| context.err(format!("plan: {}\n", text::planned(report))));
    }
    if args.yes {
        return true;
    }
    let freezes = |report: &&Report| report.resync.as_ref().is_some_and(|resync| resync.freezes);
    let (frozen, all) = (plans.clone().filter(freezes).count(), plans.count());
    let question = text::proceed(frozen, all - frozen);
    context.link.ask(context.say, &question) == Answer::Yes
}

/// Does it to one container. What is to be said and put back if nothing more is heard is said before each step.
fn heal(
    context: &Context<'_>,
    resync: &mut Resyncer<'_>,
    limits: ResyncLimits,
    index: usize,
    (typed, container): (&str, &Container),
    before: Before<'_>,
) -> Report {
    // Looking once more, which asks the engine again.
    context.within(limits.step * 2 + GRACE);
    let last_words = |report: &Report, outcome: Outcome, error: &str| Report {
        verb: Verb::Resync,
        outcome,
        error: Some(error.to_owned()),
        ..report.clone()
    };
    let say =
        |last_words: Report| (context.say)(&Message::LastWords(number(index), context.told(&last_words)));
    if context.is_cancelled() {
        let report = Report::blank(Verb::Resync, typed);
        let error = "broken off by a signal before anything was written";
        return last_words(&report, Outcome::RolledBack, error);
    }
    resync.heal(
        typed,
        container,
        before,
        context.patience(limits.step.max(limits.thaw)),
        &mut |_, report, step| match step {
            Step::Saved(before) => {
                let error = "the process that did the work was killed; thawed again";
                let undone = last_words(report, Outcome::RolledBack, error);
                // It is plain data, which can always be said in JSON.
                if let Ok(text) = serde_json::to_vec(before) {
                    (context.say)(&Message::Undo(number(index), text, context.told(&undone)));
                }
            }
            Step::Writing(write) => {
                context.within(limits.step.max(limits.thaw) + GRACE);
                let file = write.file.display();
                let error = format!("write {} to {file}: the write did not return", write.value);
                say(last_words(report, Outcome::Stuck, &error));
            }
            Step::Written(_) => {
                let error = "nothing was heard since a write that returned: a read of the state hangs in the kernel, or \
                             the process that does it was killed";
                say(last_words(report, Outcome::Stuck, error));
            }
            Step::TellingEngine => {
                // The engine's answer, the proof of the thaw, and once more the engine's.
                context.within(limits.step * 2 + limits.thaw + GRACE);
                let error = "nothing was heard since its engine was told to unpause it";
                say(last_words(report, Outcome::Stuck, error));
            }
            Step::Done => context.within(limits.step * 2 + limits.thaw + GRACE),
            Step::Dying(all) => {
                for task in all {
                    let (typed, dying) = (text::escaped(typed), text::dying(task));
                    context.err(format!("iceaxe: note: {typed}: {dying}\n"));
                }
            }
            Step::Settled | Step::Released | Step::Task { .. } | Step::Rescuing(_) | Step::Killing => {}
        },
    )
}
