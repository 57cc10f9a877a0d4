//! Brings an engine's own idea of a container back in step with the kernel. After a thaw behind its back an engine
//! believes that the container is paused, and most refuse to unpause what runs: it is frozen again for as long as the
//! engine takes to unpause it by its own command line. Whatever the engine does then, the container ends thawed.

mod end;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use end::{end, failure, held, in_words, said, with};

use super::commands::{Command, Commands, Manager};
use super::scope::Scope;
use super::{
    Before, FreezeOptions, Run, Step, ThawOptions, Watcher, advice, freeze_after, look, micros, thaw,
};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::host::program::{self, Done, End};
use crate::patience::Patience;
use crate::report::{Effective, Outcome, Report, Requested, Resynced, States, Verb};
use crate::resolver::{Believed, Container, Details};

/// How long an engine's record on disk is waited for.
const RECORD: Duration = Duration::from_millis(250);

/// How long a resync waits.
#[derive(Debug, Clone, Copy)]
pub struct ResyncLimits {
    /// For the freeze, and for each answer of the engine.
    pub step: Duration,
    /// For the proof that the container is thawed.
    pub thaw: Duration,
}

/// What a resync found, and what it would do about it.
#[derive(Debug)]
pub struct Plan {
    /// What is said of it if nothing is done: that it is in step, why nothing can be done, or what would be.
    pub report: Report,
    remedy: Option<Remedy>,
}

impl Plan {
    /// Whether there is something to do.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.remedy.is_some()
    }
}

/// What is to be done.
#[derive(Debug)]
enum Remedy {
    /// The engine has to unpause it.
    Unpause(Commands),
    /// It has to be thawed: the engine believes that it runs.
    Thaw,
}

/// What two words say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    InStep,
    /// The engine believes that it is paused, and it runs.
    OnlyBelieved,
    /// It is frozen by its own request, and the engine does not know.
    OnlyFrozen,
    /// Its own request stands and is not met.
    Unsettled,
    /// Others hold it, whatever the engine believes.
    HeldByOthers,
}

/// An engine's belief beside the kernel's state. Only a container's own requests can be in step or out of it.
fn judge(believed: Believed, requested: Requested, effective: Effective) -> Verdict {
    let paused = believed == Believed::Paused;
    match (requested, effective) {
        (Requested::Frozen, _) if !paused => Verdict::OnlyFrozen,
        (Requested::Frozen, Effective::Frozen) => Verdict::InStep,
        (Requested::Frozen, _) => Verdict::Unsettled,
        (Requested::Thawed, Effective::Thawed) if paused => Verdict::OnlyBelieved,
        (Requested::Thawed, Effective::Thawed) => Verdict::InStep,
        (Requested::Thawed, _) => Verdict::HeldByOthers,
    }
}

/// Brings containers back in step, one at a time.
#[derive(Debug)]
pub struct Resyncer<'h> {
    host: &'h Host,
    limits: ResyncLimits,
    path: OsString,
    /// What was asked since the last container was worked on. containerd answers for all of a namespace at once.
    asked: Vec<(Command, std::result::Result<String, String>)>,
    /// The programs that did not answer in time: none is waited for twice on the way to a plan.
    silent: Vec<(PathBuf, String)>,
}

impl<'h> Resyncer<'h> {
    /// Engines' programs are found in PATH.
    #[must_use]
    pub fn new(host: &'h Host, limits: ResyncLimits) -> Self {
        Self {
            host,
            limits,
            path: std::env::var_os("PATH").unwrap_or_default(),
            asked: Vec::new(),
            silent: Vec::new(),
        }
    }

    /// Looks whether a container is in step, given what its engine has on record, and what would bring it there. Writes
    /// nothing; the engine is asked where its record does not say that all is well.
    pub fn plan(
        &mut self,
        target: &str,
        container: &Container,
        details: Option<&Details>,
        patience: Patience<'_>,
    ) -> Plan {
        let mut run = Run::new(Verb::Resync, target, container);
        if run.report.name.is_none() {
            run.report.name = details.and_then(|details| details.name.clone());
        }
        let remedy = match self.look(&mut run.report, container, details, patience) {
            Ok(remedy) => remedy,
            Err(error) => {
                run.fail(&error);
                None
            }
        };
        Plan {
            report: run.report,
            remedy,
        }
    }

    fn look(
        &mut self,
        report: &mut Report,
        container: &Container,
        details: Option<&Details>,
        patience: Patience<'_>,
    ) -> Result<Option<Remedy>> {
        let tasks = look(self.host, container)?.seen;
        let scope = Scope::read(self.host, container)?;
        if scope.is_gone() {
            return Err(Error::Gone(container.freeze_point().dir().to_owned()));
        }
        report.before = scope.states(container, &tasks, self.host);
        report.after = report.before;
        report.cgroups = scope.changes(container, &tasks, self.host);
        let States {
            requested: Some(requested),
            effective: Some(effective),
        } = report.before
        else {
            return Err(Error::Unsupported("its state can't be told".to_owned()));
        };
        let identity = &container.identity;
        let manager = Manager::of(identity, details)?;
        if manager == Manager::Nobody {
            report.end(Outcome::Unchanged);
            return Ok(None);
        }
        let mut resynced = Resynced {
            engine: manager.name().to_owned(),
            ..Resynced::default()
        };
        let mut believed = details.and_then(|details| details.believed);
        let mut verdict = believed.map(|believed| judge(believed, requested, effective));
        let mut commands = None;
        // Who is to be told something must answer, and must know the container: another daemon than its own does not.
        if matches!(verdict, None | Some(Verdict::OnlyBelieved)) {
            let told = Commands::of(manager, identity, details, &self.path)?;
            match self.ask(&told, patience) {
                Ok(answer) => {
                    believed = Some(answer);
                    verdict = Some(judge(answer, requested, effective));
                }
                Err(why) => {
                    let outcome = match verdict {
                        Some(_) => Outcome::Unhealthy,
                        None => Outcome::Error,
                    };
                    resynced.believed_before = believed;
                    resynced.believed_after = resynced.believed_before;
                    report.end(outcome);
                    report.error = Some(format!("{why}; nothing was written"));
                    report.resync = Some(resynced);
                    return Ok(None);
                }
            }
            commands = Some(told);
        }
        // A pause that is under way has frozen it and is not on record yet; an engine that answers has ended it. One that
        // does not is not needed for a thaw.
        if verdict == Some(Verdict::OnlyFrozen)
            && commands.is_none()
            && let Ok(told) = Commands::of(manager, identity, details, &self.path)
            && let Ok(answer) = self.ask(&told, patience)
        {
            believed = Some(answer);
            verdict = Some(judge(answer, requested, effective));
        }
        resynced.believed_before = believed;
        let remedy = match (verdict, commands) {
            (Some(Verdict::OnlyBelieved), Some(commands)) => {
                resynced.command = Some(commands.unpause.shown());
                resynced.freezes = !commands.unpauses_what_is_thawed;
                Some(Remedy::Unpause(commands))
            }
            (Some(Verdict::OnlyFrozen), _) => Some(Remedy::Thaw),
            (Some(Verdict::Unsettled), _) => {
                held(report, "its own freeze is asked for and not settled");
                report.hints.push(advice::see_explain(&report.target));
                None
            }
            (Some(Verdict::HeldByOthers), _) => {
                let holders = scope.holders(container).join(", ");
                held(
                    report,
                    &format!("it is frozen by {holders}, and by no request of its own"),
                );
                None
            }
            _ => {
                report.end(Outcome::Unchanged);
                resynced.believed_after = resynced.believed_before;
                None
            }
        };
        if remedy.is_some() {
            report.end(Outcome::Planned);
        }
        report.resync = Some(resynced);
        Ok(remedy)
    }

    /// Looks once more, at a container that a plan was made for, and does what brings it back in step. The container
    /// ends thawed, unless somebody else has it frozen.
    ///
    /// What is to be put back if this process dies is told to `watcher` before each write, and `before` has to agree to a
    /// freeze.
    pub fn heal(
        &mut self,
        target: &str,
        container: &Container,
        before: Before<'_>,
        patience: Patience<'_>,
        watcher: Watcher<'_>,
    ) -> Report {
        self.asked.clear();
        self.silent.clear();
        let details = Details::of(self.host, container.identity.clone(), RECORD);
        let Plan { report, remedy } = self.plan(target, container, details.as_ref(), patience);
        match remedy {
            None => report,
            Some(Remedy::Thaw) => {
                let set = [(target, container)];
                let patience = patience.at_most(self.limits.thaw);
                let mut thawed = thaw(self.host, &set, ThawOptions::default(), patience, watcher);
                match thawed.pop() {
                    Some(thawed) => with(report, thawed),
                    None => report, // one in, one out
                }
            }
            Some(Remedy::Unpause(commands)) => {
                self.unpause((target, container), report, &commands, before, patience, watcher)
            }
        }
    }

    fn unpause(
        &self,
        (target, container): (&str, &Container),
        mut plan: Report,
        commands: &Commands,
        before: Before<'_>,
        patience: Patience<'_>,
        watcher: Watcher<'_>,
    ) -> Report {
        let set = [(target, container)];
        let mut frozen_since = None;
        if !commands.unpauses_what_is_thawed {
            let patience = patience.at_most(self.limits.step);
            let options = FreezeOptions::default();
            let frozen = freeze_after(
                self.host,
                &set,
                &options,
                before,
                patience,
                &mut |index, report, step| {
                    if matches!(step, Step::Writing(_)) {
                        frozen_since.get_or_insert_with(Instant::now);
                    }
                    watcher(index, report, step);
                },
            );
            let Some(mut frozen) = frozen.into_iter().next() else {
                return plan; // one in, one out
            };
            plan.pulses = frozen.pulses;
            match frozen.outcome {
                Outcome::Confirmed => plan.writes.append(&mut frozen.writes),
                // Somebody asked for it since, the engine itself for all that is known.
                Outcome::Unchanged => {
                    plan.hints
                        .push("somebody froze it since it was looked at: iceaxe resync it again".to_owned());
                    frozen.outcome = Outcome::Held;
                    frozen.error = Some("it is frozen by a request of its own now".to_owned());
                    return with(plan, frozen);
                }
                _ => {
                    // No rule is lifted by a resync.
                    frozen.hints.retain(|hint| !hint.contains("--force="));
                    return with(plan, frozen);
                }
            }
        }
        watcher(0, &plan, &Step::TellingEngine);
        let mut thawed_at = None;
        let asks = || container.own.iter().any(|own| own.requested().unwrap_or(false)); // a cgroup that is gone does not
        let done = self.run(&commands.unpause, patience, &mut || {
            if thawed_at.is_none() && !asks() {
                thawed_at = Some(Instant::now());
            }
        });
        // Not to be broken off: whatever comes, it ends thawed.
        let limit = Patience::of(self.limits.thaw);
        let mut by_hand = false;
        let thawed = thaw(
            self.host,
            &set,
            ThawOptions::default(),
            limit,
            &mut |index, report, step| {
                watcher(index, report, step);
                if matches!(step, Step::Written(_)) {
                    by_hand = true;
                    thawed_at = Some(Instant::now());
                }
            },
        );
        let now = Instant::now();
        let frozen_for = frozen_since.map(|since| thawed_at.unwrap_or(now).saturating_duration_since(since));
        let Some(mut thawed) = thawed.into_iter().next() else {
            return plan; // one in, one out
        };
        thawed.frozen_for_us = frozen_for.map(micros);
        let believed = self.believes_now(commands, container, &done.end, patience);
        let mut resynced = plan.resync.take().unwrap_or_default();
        resynced.believed_after = believed;
        resynced.took_us = Some(micros(done.took));
        resynced.exit = match done.end {
            End::Exited(code) => Some(code),
            _ => None,
        };
        plan.resync = Some(resynced);
        let mut report = with(plan, thawed);
        end(
            &mut report,
            commands,
            (&done, self.limits.step),
            believed,
            by_hand,
        );
        // A pause that was queued while the engine hung runs when it goes on.
        if report.outcome != Outcome::Held && asks() {
            held(&mut report, "it was frozen again since by a request of its own");
            report.after.requested = Some(Requested::Frozen);
            report.hints.push(
                "a pause that was queued runs when its engine goes on: iceaxe status shows what is so"
                    .to_owned(),
            );
        }
        report
    }

    fn run(&self, command: &Command, patience: Patience<'_>, each: &mut dyn FnMut()) -> Done {
        let patience = patience.at_most(self.limits.step);
        program::run(&command.program, &command.words, patience, each)
    }

    /// Asks an engine what it believes of a container.
    fn ask(&mut self, commands: &Commands, patience: Patience<'_>) -> std::result::Result<Believed, String> {
        let engine = commands.manager.name();
        let mut silent = self.silent.iter();
        if let Some((_, why)) = silent.find(|(program, _)| *program == commands.ask.program) {
            return Err(why.clone());
        }
        let mut asked = self.asked.iter();
        let answer = match asked.find(|(ask, _)| *ask == commands.ask) {
            Some((_, answer)) => answer.clone(),
            None => {
                let done = self.run(&commands.ask, patience, &mut || {});
                let answer = match done.end {
                    End::Exited(0) => Ok(done.out),
                    _ => Err(format!(
                        "{engine} could not be asked: {}",
                        failure(&commands.ask, &done, self.limits.step)
                    )),
                };
                if let (End::Late, Err(why)) = (&done.end, &answer) {
                    self.silent.push((commands.ask.program.clone(), why.clone()));
                }
                if commands.is_for_many() {
                    self.asked.push((commands.ask.clone(), answer.clone()));
                }
                answer
            }
        }?;
        commands.believed(&answer).ok_or_else(|| {
            format!(
                "{engine} did not say what it believes: {} said {}",
                in_words(&commands.ask),
                said(&answer)
            )
        })
    }

    /// What an engine believes after it was told. One that did not answer is not asked again: its record may tell.
    fn believes_now(
        &self,
        commands: &Commands,
        container: &Container,
        end: &End,
        patience: Patience<'_>,
    ) -> Option<Believed> {
        let asked = matches!(end, End::Exited(_) | End::Signalled(_)).then(|| {
            let done = self.run(&commands.ask, patience, &mut || {});
            (done.end == End::Exited(0)).then(|| commands.believed(&done.out))?
        });
        asked
            .flatten()
            .or_else(|| Details::of(self.host, container.identity.clone(), RECORD)?.believed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_container_asks_for_itself_is_in_step_or_out_of_it() {
        use {Believed as B, Effective as E, Requested as R};
        for (believed, requested, effective, verdict) in [
            (B::Paused, R::Frozen, E::Frozen, Verdict::InStep),
            (B::Paused, R::Frozen, E::Freezing, Verdict::Unsettled),
            (B::Paused, R::Thawed, E::Thawed, Verdict::OnlyBelieved),
            (B::Paused, R::Thawed, E::Frozen, Verdict::HeldByOthers),
            (B::Running, R::Frozen, E::Frozen, Verdict::OnlyFrozen),
            (B::Running, R::Frozen, E::Freezing, Verdict::OnlyFrozen),
            (B::Running, R::Thawed, E::Thawed, Verdict::InStep),
            (B::Running, R::Thawed, E::Frozen, Verdict::HeldByOthers),
            (B::Running, R::Thawed, E::Freezing, Verdict::HeldByOthers),
            (B::Restarting, R::Thawed, E::Thawed, Verdict::InStep),
            (B::Exited, R::Frozen, E::Frozen, Verdict::OnlyFrozen),
        ] {
            let found = judge(believed, requested, effective);
            assert_eq!(found, verdict, "{believed:?} {requested:?} {effective:?}");
        }
    }
}
