//! A thaw that does not give up: after a plain one it climbs the ladder, mildest step first, looks after each step
//! whether every task is proven to run, and says which step did it.

use nix::sys::signal::Signal;

use super::thaw::{Clear, ThawOptions, thaw};
use super::{KillOptions, Mode, Step, Watcher, kill};
use crate::cgroup::Cgroup;
use crate::error::{Error, Force, Result};
use crate::freezer::Write;
use crate::host::{Hierarchy, Host};
use crate::patience::Patience;
use crate::report::{Outcome, Report, Rescue, RescueStep};
use crate::resolver::{Container, task_lines};
use crate::signaller;
use crate::verifier::{Class, Party, Witness};

/// The name of the cgroup through which a task that was left behind is moved. It is there for a moment; one that a
/// killed rescue left is used again, and removed.
const ASIDE: &str = "iceaxe-rescue";

/// How far a rescue goes.
#[derive(Debug, Clone)]
pub struct RescueOptions {
    /// The thaw that it begins with.
    pub thaw: ThawOptions,
    /// The last step that may be taken.
    pub up_to: RescueStep,
    /// The safety rules that are lifted for a kill.
    pub force: Vec<Force>,
}

/// Thaws `containers`, and takes steps up to `options.up_to` for each that is not proven to run then. Each step has the
/// whole limit to itself. The reports come in order.
pub fn rescue(
    host: &Host,
    containers: &[(&str, &Container)],
    options: &RescueOptions,
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    let mut reports = thaw(host, containers, options.thaw, patience, watcher);
    if options.thaw.mode == Mode::DryRun {
        return reports;
    }
    for (index, report) in reports.iter_mut().enumerate() {
        let mut told = |so_far: &Report, step: &Step| watcher(index, so_far, step);
        let mut climb = Climb {
            host,
            target: containers[index],
            options,
            patience,
        };
        climb.up(report, &mut told);
        told(report, &Step::Done);
    }
    reports
}

struct Climb<'a> {
    host: &'a Host,
    target: (&'a str, &'a Container),
    options: &'a RescueOptions,
    patience: Patience<'a>,
}

impl Climb<'_> {
    fn up(&mut self, report: &mut Report, told: &mut dyn FnMut(&Report, &Step)) {
        let mut rescue = Rescue::default();
        let mut options = self.options.thaw;
        for rescue_step in RescueStep::ALL {
            let is_over = report.exit() == 0 || self.patience.start().is_cancelled();
            if is_over || rescue_step > self.options.up_to || !self.helps(rescue_step, report) {
                continue;
            }
            rescue.tried.push(rescue_step);
            told(report, &Step::Rescuing(rescue_step));
            let done = match rescue_step {
                RescueStep::Wait => Ok(Vec::new()),
                RescueStep::Rekick => {
                    options.reach.inner = Clear::Clear;
                    Ok(Vec::new())
                }
                RescueStep::Ancestors => {
                    options.reach.ancestors = Clear::Clear;
                    Ok(Vec::new())
                }
                RescueStep::Tracer => self.wake_tracers(report).map(|()| Vec::new()),
                RescueStep::Move => self.move_left_behind(report),
                RescueStep::Kill => {
                    self.kill(report, told);
                    Ok(Vec::new())
                }
            };
            match done {
                Ok(writes) => report.writes.extend(writes),
                Err(error) => report
                    .hints
                    .push(format!("rescue: {} failed: {error}", rescue_step.word())),
            }
            if rescue_step != RescueStep::Kill {
                let mut again = |_: usize, so_far: &Report, step: &Step| {
                    if !matches!(step, Step::Done | Step::Dying(_)) {
                        told(so_far, step);
                    }
                };
                let mut next = thaw(self.host, &[self.target], options, self.patience, &mut again);
                if let Some(next) = next.pop() {
                    take(report, next);
                }
            }
            if report.exit() == 0 {
                rescue.worked = Some(rescue_step);
            }
        }
        report.rescue = Some(rescue);
    }

    /// Whether a step can change anything for what is left.
    fn helps(&self, rescue_step: RescueStep, report: &Report) -> bool {
        let is_held = report.outcome == Outcome::Held;
        let left_behind = report.holdouts.iter().any(|task| task.class == Class::LeftBehind);
        match rescue_step {
            RescueStep::Wait => report.outcome == Outcome::Released,
            RescueStep::Rekick => {
                is_held || left_behind || matches!(report.outcome, Outcome::Error | Outcome::Usage)
            }
            RescueStep::Ancestors => is_held,
            RescueStep::Tracer => tracers(report).next().is_some(),
            RescueStep::Move => left_behind && self.in_v1(),
            // What is gone, or may not be touched, is not to be killed.
            RescueStep::Kill => matches!(
                report.outcome,
                Outcome::Released | Outcome::Held | Outcome::Stuck | Outcome::Error | Outcome::Usage
            ),
        }
    }

    fn in_v1(&self) -> bool {
        let (_, container) = self.target;
        container.own.iter().any(|own| own.hierarchy() == Hierarchy::V1)
    }

    /// Lets the tracers of what is left go on where they are stopped themselves. It ends no tracer: that is for the
    /// operator to decide.
    fn wake_tracers(&self, report: &Report) -> Result<()> {
        let witness = Witness::new(self.host);
        for tracer in tracers(report) {
            let Ok(Some(seen)) = witness.look(tracer.pid) else {
                continue; // it is gone, and has let go
            };
            if seen.letter == 'T' {
                let is_it = || {
                    let now = witness.look(tracer.pid).ok().flatten();
                    now.is_some_and(|now| now.start == seen.start)
                };
                signaller::send(self.host, tracer.pid, Signal::SIGCONT as i32, is_it)?;
            }
        }
        Ok(())
    }

    /// Moves each task that v1 forgot into a cgroup below its own and back: who is attached to a thawed cgroup is woken
    /// (`freezer_attach()`, kernel/cgroup/legacy_freezer.c). It stays below its own all the while, so that nothing of the
    /// container gets out of it. On v2 this is never done: processes that leave a scope end it.
    fn move_left_behind(&self, report: &Report) -> Result<Vec<Write>> {
        let (_, container) = self.target;
        let witness = Witness::new(self.host);
        let mut writes = Vec::new();
        for task in report
            .holdouts
            .iter()
            .filter(|task| task.class == Class::LeftBehind)
        {
            let Ok(Some(seen)) = witness.look(task.tid) else {
                continue; // it is gone
            };
            if witness.place(&seen).frozen_by() == Some(Hierarchy::V1) {
                writes.extend(out_and_back(self.host, container, task.tid)?);
            }
        }
        Ok(writes)
    }

    fn kill(&self, report: &mut Report, told: &mut dyn FnMut(&Report, &Step)) {
        let options = KillOptions {
            force: self.options.force.clone(),
            mode: Mode::Act,
        };
        let mut again = |_: usize, so_far: &Report, step: &Step| {
            if *step != Step::Done {
                told(so_far, step);
            }
        };
        let mut killed = kill(self.host, &[self.target], &options, self.patience, &mut again);
        if let Some(mut killed) = killed.pop() {
            if matches!(killed.outcome, Outcome::Refused | Outcome::Denied) {
                let why = killed.error.unwrap_or_default();
                report.hints.push(format!("rescue: kill is not done: {why}"));
                report
                    .hints
                    .extend(killed.hints.iter().map(|hint| format!("iceaxe kill: {hint}")));
                return;
            }
            killed.verb = report.verb;
            if killed.outcome.is_gone() {
                killed.end(Outcome::Ended); // it went by itself, after the thaw's write
            }
            if killed.outcome == Outcome::Confirmed {
                killed.end(Outcome::Ended);
                killed
                    .hints
                    .push("it was killed, as nothing milder helped".to_owned());
            }
            take(report, killed);
        }
    }
}

/// The tracers of what is left. A vfork parent is kept by its child, and one that starves by its rival.
fn tracers(report: &Report) -> impl Iterator<Item = &Party> {
    let others = [Class::VforkParent, Class::Starved];
    let traced = report
        .holdouts
        .iter()
        .filter(move |task| !others.contains(&task.class));
    traced.filter_map(|task| task.by.as_ref())
}

/// Takes over what a further step found. What was so at the beginning, and all that was written, stays told.
fn take(report: &mut Report, mut next: Report) {
    next.before = report.before;
    for (cgroup, first) in next.cgroups.iter_mut().zip(&report.cgroups) {
        cgroup.before = first.before;
    }
    let mut writes = std::mem::take(&mut report.writes);
    writes.append(&mut next.writes);
    next.writes = writes;
    next.dying = std::mem::take(&mut report.dying);
    if next.outcome == Outcome::Unchanged {
        next.outcome = Outcome::Confirmed;
    }
    *report = next;
}

/// Moves a task of a container into a cgroup below its v1 cgroup and back, which wakes one that the kernel left in the
/// freezer; returns what was written. Whoever is not in v1 cgroups of the container, or gone, stays where it is.
///
/// # Errors
///
/// The cgroup below can't be made, entered or removed.
pub fn out_and_back(host: &Host, container: &Container, tid: i32) -> Result<Vec<Write>> {
    let Some(lines) = task_lines(host, tid) else {
        return Ok(Vec::new()); // it is gone
    };
    let path = lines.path(Hierarchy::V1).filter(|path| {
        let own = container
            .own
            .iter()
            .filter(|own| own.hierarchy() == Hierarchy::V1);
        own.into_iter().any(|own| path.starts_with(own.path()))
    });
    let Some(path) = path else {
        return Ok(Vec::new()); // it is elsewhere by now
    };
    let home = Cgroup::open(host, Hierarchy::V1, path)?;
    let aside = home.make_child(ASIDE)?;
    let number = tid.to_string();
    let mut writes = Vec::new();
    let mut admit = |cgroup: &Cgroup| match cgroup.write("tasks", &number) {
        Ok(()) => {
            writes.push(Write {
                file: cgroup.file("tasks"),
                value: number.clone(),
            });
            Ok(())
        }
        // The task ended.
        Err(Error::Io { cause, .. }) if cause.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        Err(error) => Err(error),
    };
    let moved = admit(&aside).and_then(|()| admit(&home));
    // What forked meanwhile is in there: it goes home first.
    for left in aside.tids().unwrap_or_default() {
        let _ = home.write("tasks", &left.to_string()); // it ended, or is told of by the removal
    }
    home.remove_child(ASIDE)?;
    moved.map(|()| writes)
}
