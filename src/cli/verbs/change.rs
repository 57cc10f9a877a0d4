//! `thaw`, `freeze` and `kill`: which containers, and what is done to them.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::Signal;

use super::Run;
use crate::cli::act::{Way, act};
use crate::cli::batches::{self, Plan};
use crate::cli::context::{Context, joined, unresolved};
use crate::cli::options::{Lift, Nested, Parallel, Rule, Select, Stagger, Steps, duration};
use crate::cli::recorder::{self, Asked, Recorder};
use crate::cli::select::{All, Nothing, select};
use crate::cli::targets::Targets;
use crate::engine::{
    self, Clear, FreezeOptions, KillOptions, Mode, Pulses, Reach, RescueOptions, SignalOptions, ThawOptions,
    Together, Watcher, Whom,
};
use crate::error::Force;
use crate::freezer::Saved;
use crate::patience::Patience;
use crate::report::{Report, RescueStep, Verb};
use crate::resolver::{Container, Purpose};
use crate::store::Kind;

#[derive(Debug, Args)]
pub(crate) struct Thaw {
    /// What to thaw; - reads targets from standard input, one a line
    #[arg(required_unless_present_any = ["all", "filter"], conflicts_with_all = ["all", "filter"], value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) nested: Nested,
    /// Also clear the requests of cgroups inside, such as a paused inner container's
    #[arg(long)]
    pub(crate) recursive: bool,
    /// Also clear the requests of ancestors, which thaws all else below them
    #[arg(long)]
    pub(crate) ancestors: bool,
    #[command(flatten)]
    pub(crate) parallel: Parallel,
    #[command(flatten)]
    pub(crate) stagger: Stagger,
    /// Where a plain thaw does not do, climb: wait, rekick, ancestors, tracer, move, kill; alone, all but kill. Each step
    /// has the whole limit to itself
    #[arg(long, value_name = "STEP", num_args = 0..=1, require_equals = true, default_missing_value = "move", value_parser = rescue_step)]
    pub(crate) rescue: Option<RescueStep>,
    #[command(flatten)]
    pub(crate) steps: Steps,
}

/// Reads the name of a step of a rescue.
fn rescue_step(text: &str) -> Result<RescueStep, String> {
    let words = || RescueStep::ALL.map(RescueStep::word).join(", ");
    let found = RescueStep::ALL
        .into_iter()
        .find(|rescue_step| rescue_step.word() == text);
    found.ok_or_else(|| format!("the steps are {}", words()))
}

#[derive(Debug, Args)]
pub(crate) struct Freeze {
    /// What to freeze; - reads targets from standard input, one a line
    #[arg(required_unless_present_any = ["all", "filter"], conflicts_with_all = ["all", "filter"], value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) nested: Nested,
    #[command(flatten)]
    pub(crate) parallel: Parallel,
    #[command(flatten)]
    pub(crate) lift: Lift,
    /// Where --all or --filter means no container, that is a success
    #[arg(long)]
    pub(crate) allow_none: bool,
    /// Never thaw for a moment and ask again, which some kernels before 6.16 need
    #[arg(long)]
    pub(crate) no_pulse: bool,
    /// Where one cannot be frozen, freeze the others nevertheless
    #[arg(long)]
    pub(crate) best_effort: bool,
    /// Thaw again after this time, whatever happens: 30s, 10m; again, to renew it
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) lasting: Option<Duration>,
    /// With --for, go on where no record of it can be kept
    #[arg(long, requires = "lasting")]
    pub(crate) no_record: bool,
    #[command(flatten)]
    pub(crate) steps: Steps,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// What to end; - reads targets from standard input, one a line
    #[arg(required_unless_present_any = ["all", "filter"], conflicts_with_all = ["all", "filter"], value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) nested: Nested,
    #[command(flatten)]
    pub(crate) parallel: Parallel,
    /// Send this signal instead, to the first process: TERM, SIGHUP, 10
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) signal: Option<i32>,
    /// Send the signal to every process
    #[arg(long, requires = "signal")]
    pub(crate) every_process: bool,
    #[command(flatten)]
    pub(crate) lift: Lift,
    /// Where --all or --filter means no container, that is a success
    #[arg(long)]
    pub(crate) allow_none: bool,
    #[command(flatten)]
    pub(crate) steps: Steps,
}

/// Reads `TERM`, `SIGTERM`, `term` or `15`.
pub(in crate::cli) fn signal(text: &str) -> Result<i32, String> {
    let number = text
        .parse()
        .ok()
        .and_then(|number: i32| Signal::try_from(number).ok());
    let name = text.to_ascii_uppercase();
    let named = || format!("SIG{}", name.trim_start_matches("SIG")).parse().ok();
    number
        .or_else(named)
        .map(|signal: Signal| signal as i32)
        .ok_or_else(|| "no signal that has a name, such as TERM, SIGHUP or 10".to_owned())
}

impl Run for Thaw {
    fn targets(&self) -> &[OsString] {
        &self.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        thaw(context, self, typed)
    }
}

impl Run for Freeze {
    fn targets(&self) -> &[OsString] {
        &self.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        freeze(context, self, typed)
    }

    fn needs_guard(&self) -> bool {
        self.lasting.is_some()
    }
}

impl Run for Kill {
    fn targets(&self) -> &[OsString] {
        &self.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        kill(context, self, typed)
    }
}

/// The limits where none is given.
const THAW: Duration = Duration::from_secs(5);
const FREEZE: Duration = Duration::from_secs(10);
const KILL: Duration = Duration::from_secs(10);

/// Runs `thaw`.
fn thaw(context: &Context<'_>, args: &Thaw, typed: &[OsString]) -> u8 {
    let selection = select(context, &args.select, typed, All::Asking, Nothing::IsFine);
    let code = selection.code;
    // A thaw of the wrong container is mended by another freeze; its last step is not.
    let purpose = match args.rescue {
        Some(RescueStep::Kill) => Purpose::Freeze,
        _ => Purpose::Look,
    };
    let mut targets = selection.resolve(context, (Verb::Thaw, purpose), args.nested);
    batches::sort(context, &mut targets, args.stagger.order);
    let clear = |wanted| if wanted { Clear::Clear } else { Clear::Leave };
    let options = ThawOptions {
        reach: Reach {
            inner: clear(args.recursive),
            ancestors: clear(args.ancestors),
        },
        mode: mode(context.options.dry_run),
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
fn freeze(context: &Context<'_>, args: &Freeze, typed: &[OsString]) -> u8 {
    if args.select.all && args.lift.force.is_empty() {
        return refuse_all(context, Verb::Freeze);
    }
    if args.parallel.parallel.is_some() && !args.best_effort {
        context
            .err("iceaxe: --parallel needs --best-effort: those that freeze as one are all asked at once\n");
        return 2;
    }
    let nothing = Nothing::allowed(args.allow_none);
    let selection = select(context, &args.select, typed, All::Every, nothing);
    let code = selection.code;
    let targets = selection.resolve(context, (Verb::Freeze, Purpose::Freeze), args.nested);
    let options = FreezeOptions {
        force: lifted(&args.lift.force),
        mode: mode(context.options.dry_run),
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
    let recorder = (options.mode == Mode::Act).then(|| Recorder::new(context, kind, asked));
    let recorder = match recorder.transpose() {
        Ok(recorder) => recorder,
        Err(error) => {
            for (index, typed, _) in targets.found() {
                context.end(index, &unresolved(Verb::Freeze, typed, &error));
            }
            for (index, report) in targets.lost() {
                context.end(index, report);
            }
            return joined(targets.lost().map(|(_, report)| report.exit()).chain([5]));
        }
    };
    let way = Way {
        timeout: context.timeout(FREEZE),
        trace: args.steps.trace,
        plan: Plan::new(args.parallel),
    };
    freeze_all(context, &targets, code, &way, recorder.as_ref(), &options)
}

/// Freezes what was resolved, as one where that is asked for.
pub(in crate::cli) fn freeze_all(
    context: &Context<'_>,
    targets: &Targets,
    code: Option<u8>,
    way: &Way,
    recorder: Option<&Recorder<'_>>,
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
        recorder,
        &|containers, patience, watcher| match &unfound {
            Some(because) => engine::skip(containers, because),
            None => frozen(context, recorder, containers, options, patience, watcher),
        },
    )
}

/// Freezes, with a record of each.
fn frozen(
    context: &Context<'_>,
    recorder: Option<&Recorder<'_>>,
    containers: &[(&str, &Container)],
    options: &FreezeOptions,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let Some(recorder) = recorder else {
        return engine::freeze(context.host, containers, options, patience, watcher);
    };
    let _locks = match recorder.lock(containers, &patience.start()) {
        Ok(locks) => locks,
        Err(error) if recorder::is_busy(&error) => return engine::skip(containers, &error.to_string()),
        Err(error) => {
            let refused = |(target, _): &(&str, &Container)| unresolved(Verb::Freeze, target, &error);
            return containers.iter().map(refused).collect();
        }
    };
    let before = |nth: usize, standing: &Saved| {
        let (target, container) = containers[nth];
        recorder.keep(target, container, standing)
    };
    let reports = engine::freeze_after(context.host, containers, options, &before, patience, watcher);
    recorder.sort_out(containers, &reports);
    reports
}

/// Runs `kill`.
fn kill(context: &Context<'_>, args: &Kill, typed: &[OsString]) -> u8 {
    if args.select.all && args.lift.force.is_empty() {
        return refuse_all(context, Verb::Kill);
    }
    let nothing = Nothing::allowed(args.allow_none);
    let selection = select(context, &args.select, typed, All::Every, nothing);
    let code = selection.code;
    let targets = selection.resolve(context, (Verb::Kill, Purpose::Freeze), args.nested);
    let mode = mode(context.options.dry_run);
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
fn refuse_all(context: &Context<'_>, verb: Verb) -> u8 {
    context.err(format!(
        "iceaxe: cannot {verb} every container: that needs --force too\n"
    ));
    11
}

pub(in crate::cli) fn lifted(rules: &[Rule]) -> Vec<Force> {
    let each = rules.iter().flat_map(|rule| match rule {
        Rule::All => Force::ALL.to_vec(),
        Rule::NotContainer => vec![Force::NotContainer],
        Rule::HostDaemon => vec![Force::HostDaemon],
        Rule::Sandbox => vec![Force::Sandbox],
    });
    each.collect()
}

pub(in crate::cli) fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::Act }
}
