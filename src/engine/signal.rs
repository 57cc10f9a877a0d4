//! Sends a signal to containers, frozen or not, and says the truth about when it will act.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use nix::sys::signal::Signal;

use super::kill::is_inside;
use super::scope::Scope;
use super::{Mode, Run, Step, Watcher, look, safety, status};
use crate::error::{Error, Force, Result};
use crate::host::{Hierarchy, Host};
use crate::report::{Acts, Does, Effective, Outcome, Report, Sent, Verb};
use crate::resolver::Container;
use crate::signaller;
use crate::verifier::{Disposition, Place, Sighting, Witness, signal_name};

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whom {
    /// The container's first process, as docker and podman have it.
    #[default]
    First,
    /// Every process.
    All,
}

/// How a signal is sent.
#[derive(Debug, Clone)]
pub struct SignalOptions {
    /// Its number.
    pub signal: i32,
    /// To whom.
    pub whom: Whom,
    /// The safety rules that are lifted.
    pub force: Vec<Force>,
    /// Whether it is sent.
    pub mode: Mode,
}

/// Sends a signal to each of `containers` (each with the target as typed). The reports come in order.
pub fn signal(
    host: &Host,
    containers: &[(&str, &Container)],
    options: &SignalOptions,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let each = containers.iter().enumerate().map(|(index, (target, container))| {
        let mut run = Run::new(Verb::Kill, target, container);
        if let Err(error) = send(host, container, options, &mut run) {
            let sent = std::mem::take(&mut run.report.signals);
            run.fail(&error);
            if !sent.is_empty() {
                run.report.end(Outcome::Error);
                run.report.signals = sent;
            }
        }
        watcher(index, &run.report, &Step::Done);
        run.report
    });
    each.collect()
}

fn send(host: &Host, container: &Container, options: &SignalOptions, run: &mut Run<'_>) -> Result<()> {
    let witness = Witness::new(host);
    run.before = look(host, container)?;
    let scope = Scope::read(host, container)?;
    if scope.is_gone() {
        return Err(Error::Gone(container.freeze_point().dir().to_owned()));
    }
    run.report.before = scope.states(container, &run.before.seen, host);
    run.report.after = run.report.before;
    run.report.cgroups = scope.changes(container, &run.before.seen, host);
    for top in container.tops() {
        safety::check(host, top, &container.identity, &options.force)?;
    }
    if !options.force.contains(&Force::NotContainer) {
        safety::check_is_container(container)?;
    }
    // Each process with a live task of it: its leader may be dead, and is in no cgroup then.
    let leaders = witness.proc().leaders_of(run.before.seen.keys().copied());
    let processes: BTreeMap<i32, i32> = leaders
        .into_iter()
        .rev()
        .map(|(tid, leader)| (leader, tid))
        .collect();
    let leaders: BTreeSet<i32> = processes.keys().copied().collect();
    let meant: Vec<i32> = match options.whom {
        Whom::All => leaders.into_iter().collect(),
        Whom::First => {
            let first = container.identity.pid.filter(|pid| leaders.contains(pid));
            first
                .or_else(|| status::oldest(witness, &leaders))
                .into_iter()
                .collect()
        }
    };
    // A vfork parent shows nothing of the freeze that it is in.
    let frozen = run.report.before.effective == Some(Effective::Frozen);
    let by = scope.asked(container).filter(|_| frozen);
    run.began = Instant::now();
    for pid in meant {
        let tid = processes.get(&pid).copied().unwrap_or(pid);
        let Ok(Some(task)) = witness.look(tid) else {
            continue; // it is gone
        };
        let held = witness.place(&task).frozen_by().or(by);
        let (does, acts) = truth(witness, pid, &task, held, options.signal);
        let is_it = || {
            let now = witness.look(tid).ok().flatten();
            now.is_some_and(|now| now.start == task.start)
                && witness.proc().leader_of(tid) == Some(pid)
                && is_inside(host, container, tid)
        };
        if options.mode == Mode::DryRun || signaller::send(host, pid, options.signal, is_it)? {
            run.report.signals.push(Sent {
                pid,
                comm: task.comm,
                signal: signal_name(options.signal),
                acts,
                does,
            });
        }
    }
    if run.report.signals.is_empty() {
        return Err(Error::Gone(container.freeze_point().dir().to_owned()));
    }
    let planned = options.mode == Mode::DryRun;
    run.report.end(if planned {
        Outcome::Planned
    } else {
        Outcome::Confirmed
    });
    run.stamp();
    Ok(())
}

/// What a signal does to a process as it is now, and when.
///
/// # Kernel
///
/// A task that v1 holds takes no signal before its thaw. On v2 a fatal one ends it at once, and others wait in the trap
/// (`do_freezer_trap()`, kernel/signal.c). The first process of a PID namespace gets only those that it handles, but for
/// SIGKILL and SIGSTOP from above (`sig_task_ignored()`). SIGCONT lets a stopped process go on whether or not it blocks or
/// ignores it (`prepare_signal()`); a stopped one takes no other but SIGKILL.
fn truth(
    witness: Witness<'_>,
    pid: i32,
    task: &Sighting,
    held: Option<Hierarchy>,
    signal: i32,
) -> (Does, Acts) {
    let is = |other: Signal| signal == other as i32;
    let place = witness.place(task);
    // v1 shows a stopped one that it holds by where it sleeps.
    let stopped = place == Place::Stopped || task.site.as_deref() == Some("do_signal_stop");
    let disposition = witness.disposition(pid, signal);
    let does = match disposition {
        _ if is(Signal::SIGKILL) => Does::Ends,
        _ if is(Signal::SIGCONT) && stopped => Does::Continues,
        Some(Disposition::Ends) => Does::Ends,
        Some(Disposition::Stops) => Does::Stops,
        Some(Disposition::Handles | Disposition::Blocks) => Does::Handles,
        Some(Disposition::Ignores) | None => Does::Nothing,
    };
    let from_above = is(Signal::SIGKILL) || is(Signal::SIGSTOP);
    if matches!(does, Does::Ends | Does::Stops) && !from_above && witness.proc().is_first_in_namespace(pid) {
        return (Does::Nothing, Acts::Never);
    }
    let acts = match (does, held) {
        (Does::Nothing, _) => Acts::Never,
        (_, Some(Hierarchy::V1)) => Acts::AfterThaw,
        (Does::Continues, Some(Hierarchy::V2)) => Acts::AfterThaw,
        (Does::Continues, None) => Acts::Now,
        _ if (stopped || place == Place::Traced) && !is(Signal::SIGKILL) => Acts::WhenContinued,
        (Does::Ends, Some(Hierarchy::V2)) => Acts::Now,
        (_, Some(Hierarchy::V2)) => Acts::AfterThaw,
        _ if disposition == Some(Disposition::Blocks) => Acts::WhenUnblocked,
        _ if place == Place::Uninterruptible => Acts::WhenWoken,
        _ => Acts::Now,
    };
    (does, acts)
}
