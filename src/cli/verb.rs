//! `thaw`, `freeze` and `kill`: resolve, act, tell. What is to be said if a write never returns is said before it is done.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use super::args::{Freeze, Kill, Parallel, Rule, Thaw};
use super::keeper::{self, Asked, Keeper};
use super::message::Message;
use super::select::{All, select};
use super::targets::Targets;
use super::turns::{self, Plan};
use super::{Context, DIFFERENT, human, joined, number};
use crate::engine::report::{Effective, Outcome, Report, Requested};
use crate::engine::{
    self, Clear, FreezeOptions, KillOptions, Mode, Pulses, Reach, RescueOptions, SignalOptions, Step,
    ThawOptions, Together, Watcher, Whom, quoted,
};
use crate::error::Force;
use crate::freezer::Standing;
use crate::ledger::Kind;
use crate::patience::Patience;
use crate::resolver::{Believed, Container, Details};

/// The limits where none is given.
const THAW: Duration = Duration::from_secs(5);
const FREEZE: Duration = Duration::from_secs(10);
const KILL: Duration = Duration::from_secs(10);
/// How long after its limit the work may take to look why (200 ms), to undo (300 ms) and to say so, on a host that is busy
/// with other things, before it counts as hanging.
const GRACE: Duration = Duration::from_millis(1400);
/// And how much longer for each target: a look at a few hundred tasks.
const GRACE_EACH: Duration = Duration::from_millis(20);
/// From so many writes of one target on nothing more is left in its will.
const MANY_WRITES: usize = 16;
/// From so many targets on each has one will for its write and for what comes after: a second one would cost as much as
/// the write.
const MANY_TARGETS: usize = 64;
/// How long the verdict waits for the engine's record, which may be on a disk that hangs.
const NAME: Duration = Duration::from_millis(250);

/// Runs `thaw`.
pub(super) fn thaw(context: &Context<'_>, args: &Thaw, typed: &[OsString]) -> u8 {
    let selection = select(context, &args.select, typed, All::Asking);
    let code = selection.code;
    let mut targets = selection.resolve(context, "thaw", args.nested);
    turns::sort(context, &mut targets, args.stagger.order);
    let clear = |wanted| if wanted { Clear::Clear } else { Clear::Leave };
    let options = ThawOptions {
        reach: Reach {
            inner: clear(args.recursive),
            ancestors: clear(args.ancestors),
        },
        mode: mode(context.cli.dry_run),
    };
    act(
        context,
        &targets,
        code,
        &Way {
            timeout: context.timeout(THAW),
            trace: args.steps.trace,
            plan: Plan::staggered(args.parallel, &args.stagger),
        },
        None,
        &|containers, patience, watcher| match args.rescue {
            None => engine::thaw(context.host, containers, options, patience, watcher),
            Some(up_to) => {
                let options = RescueOptions {
                    thaw: options,
                    up_to,
                    force: Vec::new(),
                };
                engine::rescue(context.host, containers, &options, patience, watcher)
            }
        },
    )
}

/// Runs `freeze`.
pub(super) fn freeze(context: &Context<'_>, args: &Freeze, typed: &[OsString]) -> u8 {
    if args.select.all && args.lift.force.is_empty() {
        return refuse_all(context, "freeze");
    }
    if args.parallel.parallel.is_some() && !args.best_effort {
        context
            .err("iceaxe: --parallel needs --best-effort: those that freeze as one are all asked at once\n");
        return 2;
    }
    let selection = select(context, &args.select, typed, All::Every);
    let code = selection.code;
    let targets = selection.resolve(context, "freeze", args.nested);
    let options = FreezeOptions {
        force: lifted(&args.lift.force),
        mode: mode(context.cli.dry_run),
        pulses: if args.no_pulse {
            Pulses::Never
        } else {
            Pulses::WhereNeeded
        },
        together: if args.best_effort {
            Together::BestEffort
        } else {
            Together::AllOrNothing
        },
    };
    let kind = if args.lasting.is_some() {
        Kind::Lease
    } else {
        Kind::Freeze
    };
    let asked = Asked {
        lasting: args.lasting,
        no_record: args.no_record,
        ..Asked::default()
    };
    let keeper = (options.mode == Mode::Act).then(|| Keeper::new(context, kind, asked));
    let keeper = match keeper.transpose() {
        Ok(keeper) => keeper,
        Err(error) => {
            for (index, typed, _) in targets.found() {
                context.end(index, &super::unresolved("freeze", typed, &error));
            }
            for (index, report) in targets.lost() {
                context.end(index, report);
            }
            return joined(targets.lost().map(|(_, report)| report.exit).chain([5]));
        }
    };
    let way = Way {
        timeout: context.timeout(FREEZE),
        trace: args.steps.trace,
        plan: Plan::new(args.parallel),
    };
    freeze_all(context, &targets, code, &way, keeper.as_ref(), &options)
}

/// Freezes what was resolved, as one where that is asked for.
pub(super) fn freeze_all(
    context: &Context<'_>,
    targets: &Targets,
    code: Option<u8>,
    way: &Way,
    keeper: Option<&Keeper<'_>>,
    options: &FreezeOptions,
) -> u8 {
    let lost = targets.lost().map(|(_, report)| report).next();
    let unfound = lost.filter(|_| options.together == Together::AllOrNothing);
    let unfound = unfound.map(|report| format!("all or nothing, and {} was not found", report.target));
    act(
        context,
        targets,
        code,
        way,
        keeper,
        &|containers, patience, watcher| match &unfound {
            Some(because) => engine::withhold(containers, because),
            None => frozen(context, keeper, containers, options, patience, watcher),
        },
    )
}

/// Freezes, with a record of each.
fn frozen(
    context: &Context<'_>,
    keeper: Option<&Keeper<'_>>,
    containers: &[(&str, &Container)],
    options: &FreezeOptions,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let Some(keeper) = keeper else {
        return engine::freeze(context.host, containers, options, patience, watcher);
    };
    let _locks = match keeper.lock(containers, &patience.start()) {
        Ok(locks) => locks,
        Err(error) if keeper::is_busy(&error) => return engine::withhold(containers, &error.to_string()),
        Err(error) => {
            let refused = |(target, _): &(&str, &Container)| super::unresolved("freeze", target, &error);
            return containers.iter().map(refused).collect();
        }
    };
    let before = |nth: usize, standing: &Standing| {
        let (target, container) = containers[nth];
        keeper.keep(target, container, standing)
    };
    let reports = engine::freeze_after(context.host, containers, options, &before, patience, watcher);
    keeper.sort_out(containers, &reports);
    reports
}

/// Runs `kill`.
pub(super) fn kill(context: &Context<'_>, args: &Kill, typed: &[OsString]) -> u8 {
    if args.select.all && args.lift.force.is_empty() {
        return refuse_all(context, "kill");
    }
    let selection = select(context, &args.select, typed, All::Every);
    let code = selection.code;
    let targets = selection.resolve(context, "kill", args.nested);
    let mode = mode(context.cli.dry_run);
    let signal = args.signal.filter(|&signal| signal != libc::SIGKILL);
    act(
        context,
        &targets,
        code,
        &Way {
            timeout: context.timeout(KILL),
            trace: args.steps.trace,
            plan: Plan::new(args.parallel),
        },
        None,
        &|containers, patience, watcher| match signal {
            Some(signal) => {
                let whom = if args.every_process {
                    Whom::All
                } else {
                    Whom::First
                };
                let options = SignalOptions {
                    signal,
                    whom,
                    force: lifted(&args.lift.force),
                    mode,
                };
                engine::signal(context.host, containers, &options, watcher)
            }
            None => {
                let force = lifted(&args.lift.force);
                let options = KillOptions { force, mode };
                engine::kill(context.host, containers, &options, patience, watcher)
            }
        },
    )
}

/// Every container of the host at once is nothing that is meant by a slip of the hand.
fn refuse_all(context: &Context<'_>, verb: &str) -> u8 {
    context.err(format!(
        "iceaxe: cannot {verb} every container: that needs --force too\n"
    ));
    11
}

pub(super) fn lifted(rules: &[Rule]) -> Vec<Force> {
    let each = rules.iter().flat_map(|rule| match rule {
        Rule::All => Force::ALL.to_vec(),
        Rule::NotContainer => vec![Force::NotContainer],
        Rule::HostDaemon => vec![Force::HostDaemon],
        Rule::Sandbox => vec![Force::Sandbox],
    });
    each.collect()
}

pub(super) fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Act }
}

/// Does a verb's work on containers, each with its target as typed.
pub(super) type Engine<'e> = &'e dyn Fn(&[(&str, &Container)], Patience<'_>, Watcher<'_>) -> Vec<Report>;

/// How a verb does it.
pub(super) struct Way {
    /// The limit for each target.
    timeout: Duration,
    /// Whether the steps are printed.
    trace: bool,
    plan: Plan,
}

impl Way {
    /// All at once, and without words on the way.
    pub(super) fn at_once(timeout: Duration) -> Self {
        Self {
            timeout,
            trace: false,
            plan: Plan::new(Parallel { parallel: None }),
        }
    }
}

fn act(
    context: &Context<'_>,
    targets: &Targets,
    code: Option<u8>,
    way: &Way,
    keeper: Option<&Keeper<'_>>,
    engine: Engine<'_>,
) -> u8 {
    let mut ends = Ends::new(code);
    for (index, report) in targets.lost() {
        ends.tell(context, index, report);
    }
    let found = targets.found();
    let mut records = targets.records(context.host);
    let containers: Vec<(&str, &Container)> = found
        .iter()
        .map(|(_, typed, container)| (*typed, *container))
        .collect();
    // A freeze first waits for whoever changes the same container.
    let turn = if keeper.is_some() {
        way.timeout
    } else {
        Duration::ZERO
    };
    let limit = turn + way.timeout + GRACE + GRACE_EACH * number(containers.len());
    let mut standing: Vec<Option<Standing>> = found.iter().map(|_| None).collect();
    let mut last = None;
    let started = Instant::now();
    let turns = way.plan.start(context, &containers, limit);
    let mut reports = turns.run(
        &|containers, watcher| engine(containers, context.patience(way.timeout), watcher),
        &mut |nth, report, step| {
            let (index, typed, _) = found[nth];
            if way.trace && let Some(line) = human::step(typed, elapsed_us(started), step) {
                context.err(line + "\n");
            }
            let will = |will: &Report| (context.say)(&Message::Will(number(index), context.told(will)));
            let stuck = |error: String, hint: Option<&str>| {
                let mut report = report.clone();
                (report.outcome, report.exit) = (Outcome::Stuck, 7);
                report.error = Some(error);
                report.hints.extend(hint.map(str::to_owned));
                will(&report);
            };
            match step {
            Step::Standing(before) => {
                let mut undone = report.clone();
                (undone.outcome, undone.exit) = (Outcome::RolledBack, 6);
                undone.error = Some("the process that did the work was killed; rolled back".to_owned());
                // It is plain data, which can always be said in JSON.
                if let Ok(text) = serde_json::to_vec(before) {
                    (context.say)(&Message::Undo(number(index), text, context.told(&undone)));
                }
                standing[nth] = Some(before.clone());
            }
            Step::Writing(write) => {
                // Each target has its own time from its own request on. The wills of many writes of one are as good as
                // that of the first few, and would cost more than the writes.
                if last.replace(nth) != Some(nth) {
                    context.within(limit);
                } else if report.writes.len() > MANY_WRITES {
                    return;
                }
                let hint = match report.verb.as_str() {
                    "thaw" | "kill" => "the write is still on its way: look again with iceaxe status",
                    _ => "the write is still on its way, and is undone when it returns",
                };
                let file = write.file.display();
                let what = if found.len() > MANY_TARGETS {
                    "nothing was heard since it was begun: it may not have returned"
                } else {
                    "the write did not return"
                };
                stuck(format!("write {} to {file}: {what}", write.value), Some(hint));
            }
            Step::Written(_) if report.writes.len() > MANY_WRITES || found.len() > MANY_TARGETS => {}
            Step::Written(_) => stuck(
                "the write returned, but nothing was heard since: a read of the state hangs in the kernel, or the \
                 process that does it was killed"
                    .to_owned(),
                None,
            ),
            // A freeze counts when all are told; until then it is undone with the others.
            Step::Done if report.verb == "freeze" && report.outcome == Outcome::Confirmed => stuck(
                "it was frozen, but the work on another target hangs".to_owned(),
                Some("it is thawed again when that returns"),
            ),
            Step::Done => will(report),
            Step::Striking => {
                if let Some(Ok(text)) = standing[nth].as_ref().map(serde_json::to_vec) {
                    let mut broken = report.clone();
                    (broken.outcome, broken.exit) = (Outcome::Released, 9);
                    broken.error = Some("the process that did the work was killed while it killed".to_owned());
                    broken.hints.push("it is thawed; iceaxe kill it again".to_owned());
                    (context.say)(&Message::Undo(number(index), text, context.told(&broken)));
                }
            }
            Step::Climbing(_) => context.within(limit),
            Step::Dying(all) => {
                for task in all {
                    let (typed, dying) = (human::escaped(typed), human::dying(task));
                    context.err(format!("iceaxe: note: {typed}: {dying}\n"));
                }
            }
            Step::Settled | Step::Released | Step::Bidding | Step::Task { .. } => {}
        }
        },
        &mut |lot, reports| {
            let ended = if keeper.is_none() { keeper::Ended::look(context) } else { None };
            for (report, (_, _, container)) in reports.iter_mut().zip(&found[lot.clone()]) {
                let is_over = report.after.requested == Some(Requested::Thawed) || report.outcome == Outcome::Gone;
                if let Some(ended) = ended.as_ref().filter(|_| is_over && report.outcome != Outcome::Planned) {
                    ended.end(container, report);
                }
                learn(report, records.next(NAME));
            }
            if lot.end == found.len() && !context.is_cancelled() {
                (context.say)(&Message::Committed);
            }
            for (report, (index, _, _)) in reports.iter_mut().zip(&found[lot]) {
                if targets.is_selected(*index) {
                    skip_gone(report);
                }
                // Freezes are one set: they count, and are told, when all are done.
                if report.verb != "freeze" {
                    ends.tell(context, *index, report);
                }
            }
        },
    );
    // Once for all that follows: who gives up, or is killed, from here on is met by the question whether all was printed.
    let is_cancelled = context.is_cancelled();
    let mut unsaid = Vec::new();
    for ((report, before), (index, _, container)) in reports.iter_mut().zip(standing).zip(&found) {
        if report.verb != "freeze" {
            continue; // it is told already
        }
        let froze = report.outcome == Outcome::Confirmed;
        if let Some(before) = before.filter(|_| froze) {
            if is_cancelled {
                undo(context, report, keeper, container, &before);
            } else {
                unsaid.push((report.target.clone(), *container, before));
            }
        }
        ends.tell(context, *index, report);
    }
    let told = !context.cli.quiet && !context.cli.json;
    if let Some(skew) = reports.iter().find_map(|report| report.skew_us).filter(|_| told) {
        context.err(human::skew(
            reports.iter().filter(|report| report.skew_us.is_some()).count(),
            skew,
        ));
    }
    // Who is to print it may be killed with the words still on their way.
    let is_said =
        is_cancelled || unsaid.is_empty() && keeper.is_none() || context.tie.is_printed(context.say);
    if !is_said {
        for (target, container, before) in &unsaid {
            let target = human::escaped(target);
            // Heard only where a signal came at the last moment: else nobody is left to be told.
            context.err(match take_back(context, keeper, container, before) {
                Ok(()) => format!("iceaxe: {target}: broken off by a signal; rolled back\n"),
                Err(error) => format!("iceaxe: {target} may be frozen: {error}\n"),
            });
        }
    }
    match keeper {
        Some(keeper) if is_said && !is_cancelled => {
            if let Err(error) = keeper.settle() {
                context.err(format!(
                    "iceaxe: note: {error}: iceaxe recover thaws it at its time\n"
                ));
            }
        }
        Some(keeper) => keeper.drop_all(),
        None => {}
    }
    ends.joined(context)
}

/// How the targets of a verb ended.
#[derive(Default)]
struct Ends {
    codes: Vec<u8>,
    tally: human::Tally,
}

impl Ends {
    /// None so far but what comes before all targets.
    fn new(code: Option<u8>) -> Self {
        Self {
            codes: code.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Tells of one.
    fn tell(&mut self, context: &Context<'_>, index: usize, report: &Report) {
        context.end(index, report);
        self.codes.push(report.exit);
        self.tally.add(report);
    }

    /// The exit code of all. Where they differ it is said how many ended how, but to a program.
    fn joined(self, context: &Context<'_>) -> u8 {
        let code = joined(self.codes);
        if code == DIFFERENT && !context.cli.json {
            context.err(format!("iceaxe: {}\n", self.tally.line()));
        }
        code
    }
}

/// What ended after it was selected, and before anything was written, is nothing that was meant any more.
fn skip_gone(report: &mut Report) {
    if report.outcome == Outcome::Gone && report.writes.is_empty() {
        report.exit = 0;
        report.error = None;
        report.hints = vec!["it ended before anything was written: skipped".to_owned()];
    }
}

/// Puts back what stood before a freeze that nobody is left to be told of.
fn undo(
    context: &Context<'_>,
    report: &mut Report,
    keeper: Option<&Keeper<'_>>,
    container: &Container,
    before: &Standing,
) {
    report.error = Some("broken off by a signal; rolled back".to_owned());
    (report.outcome, report.exit) = (Outcome::RolledBack, 6);
    if let Err(error) = take_back(context, keeper, container, before) {
        report.error = Some(format!(
            "broken off by a signal; and it could not be rolled back: {error}"
        ));
        (report.outcome, report.exit) = (Outcome::Stuck, 7);
    }
}

/// Undoes a freeze whose lock is given back: others may have come to count on it.
fn take_back(
    context: &Context<'_>,
    keeper: Option<&Keeper<'_>>,
    container: &Container,
    before: &Standing,
) -> crate::error::Result<()> {
    match keeper {
        Some(keeper) => keeper.take_back(container, before),
        None => engine::put_back(context.host, before),
    }
}

/// Adds what the engine has on record: the name, and what it will get wrong now.
fn learn(report: &mut Report, details: Option<Details>) {
    let Some(details) = details else { return };
    if report.name.is_none() {
        report.name = details.name;
    }
    if report.verb == "freeze" && report.exit == 0 && report.runtime.as_deref() == Some("lxc") {
        report.hints.push(
            "lxc-unfreeze does nothing for what lxc-freeze did not freeze: iceaxe thaw it, or lxc-freeze it first".to_owned(),
        );
    }
    let engine = report.runtime.as_deref().unwrap_or("the engine");
    let thawed = matches!(report.after.effective, Some(Effective::Thawed));
    let frozen = matches!(report.after.effective, Some(Effective::Frozen));
    match details.believed {
        Some(Believed::Paused) if thawed && report.verb == "thaw" && details.unpauses_what_is_thawed => {
            report.hints.push(format!(
                "{engine} still believes that it is paused: its own unpause brings it back in step"
            ));
        }
        Some(Believed::Paused) if thawed && report.verb == "thaw" => report.hints.push(format!(
            "{engine} still believes that it is paused, and its own unpause will fail with \"container not paused\": \
             with the engine well again, iceaxe resync {} brings it back in step",
            quoted(&report.target)
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
