//! `thaw`, `freeze` and `kill`: which containers, and what is done to them.

use std::ffi::OsString;
use std::time::Duration;

use crate::cli::act::{Way, act};
use crate::cli::args::{Freeze, Kill, Rule, Thaw};
use crate::cli::batches::{self, Plan};
use crate::cli::context::{Context, joined, unresolved};
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

/// The limits where none is given.
const THAW: Duration = Duration::from_secs(5);
const FREEZE: Duration = Duration::from_secs(10);
const KILL: Duration = Duration::from_secs(10);

/// Runs `thaw`.
pub(in crate::cli) fn thaw(context: &Context<'_>, args: &Thaw, typed: &[OsString]) -> u8 {
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
pub(in crate::cli) fn freeze(context: &Context<'_>, args: &Freeze, typed: &[OsString]) -> u8 {
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
pub(in crate::cli) fn kill(context: &Context<'_>, args: &Kill, typed: &[OsString]) -> u8 {
    if args.select.all && args.lift.force.is_empty() {
        return refuse_all(context, Verb::Kill);
    }
    let nothing = Nothing::allowed(args.allow_none);
    let selection = select(context, &args.select, typed, All::Every, nothing);
    let code = selection.code;
    let targets = selection.resolve(context, (Verb::Kill, Purpose::Freeze), args.nested);
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
