//! How a resync ended, in words.

use std::time::Duration;

use crate::engine::commands::{Command, Commands};
use crate::engine::freeze::BROKEN_OFF;
use crate::engine::quoted;
use crate::host::program::{Done, End};
use crate::report::{Outcome, Report};
use crate::resolver::Believed;

/// The most of an engine's complaint that is repeated.
const MOST_SAID: usize = 400;

/// What was done, said under the name of a plan.
pub(super) fn with(plan: Report, done: Report) -> Report {
    let (mut writes, mut hints) = (plan.writes, plan.hints);
    writes.extend(done.writes);
    hints.extend(done.hints);
    let cgroups = done.cgroups.into_iter().zip(plan.cgroups);
    Report {
        verb: plan.verb,
        name: plan.name,
        before: plan.before,
        cgroups: cgroups
            .map(|(mut now, found)| {
                now.before = found.before;
                now
            })
            .collect(),
        pulses: plan.pulses,
        resync: plan.resync,
        writes,
        hints,
        ..done
    }
}

/// The end of a container that its engine was told to unpause, after a thaw that is in the report.
pub(super) fn end(
    report: &mut Report,
    commands: &Commands,
    (done, limit): (&Done, Duration),
    believed: Option<Believed>,
    by_hand: bool,
) {
    let engine = commands.manager.name();
    let idea = match believed {
        Some(Believed::Paused) => format!("{engine} still believes that it is paused"),
        Some(other) => format!("{engine} believes that it is {other}"),
        None => format!("what {engine} believes is not known"),
    };
    let is_in_step = believed.is_some_and(|believed| believed != Believed::Paused);
    if report.exit() != 0 {
        report.hints.push(idea);
        return;
    }
    if report.outcome.is_gone() {
        return;
    }
    let what = match done.end {
        End::Exited(0) => format!("{} ended well", in_words(&commands.unpause)),
        _ => failure(&commands.unpause, done, limit),
    };
    let how = if by_hand { "; thawed by hand" } else { "" };
    if is_in_step {
        report.end(Outcome::Confirmed);
        if by_hand || done.end != End::Exited(0) {
            report.hints.push(format!("{what}{how}, and {idea}"));
        }
        return;
    }
    if done.end == End::BrokenOff {
        report.end(Outcome::RolledBack);
        report.error = Some(format!("{BROKEN_OFF}{how}, and {idea}"));
        return;
    }
    report.end(Outcome::Unhealthy);
    report.error = Some(format!("{what}{how}, and {idea}"));
    report.hints.push(format!(
        "with {engine} well, iceaxe resync {}",
        quoted(&report.target)
    ));
}

pub(super) fn held(report: &mut Report, why: &str) {
    report.end(Outcome::Held);
    report.error = Some(why.to_owned());
}

/// Why a command did not end well, with what it complained of.
pub(super) fn failure(command: &Command, done: &Done, limit: Duration) -> String {
    let what = in_words(command);
    let complaint = || {
        said(if done.err.trim().is_empty() {
            &done.out
        } else {
            &done.err
        })
    };
    match &done.end {
        End::Exited(code) => format!("{what} ended with {code}: {}", complaint()),
        End::Signalled(signal) => format!("{what} was ended by signal {signal}: {}", complaint()),
        End::Late => format!(
            "{what} did not answer within {} ms, and was killed",
            limit.as_millis()
        ),
        End::BrokenOff => format!("{what}: {BROKEN_OFF}"),
        End::Unknown(why) => format!("{what}: {why}"),
    }
}

/// The command without the directory of its program, which the plan has.
pub(super) fn in_words(command: &Command) -> String {
    let mut words = command.shown();
    if let Some(name) = command.program.file_name() {
        words[0] = name.to_string_lossy().into_owned();
    }
    words.join(" ")
}

/// What an engine said, as one quoted line. It can repeat what a container chose.
pub(super) fn said(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "it said nothing".to_owned();
    }
    let cut: String = text.chars().take(MOST_SAID).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_said_is_one_short_quoted_line() {
        assert_eq!(said(" a\n\x1b[2Jb \n"), "\"a\\n\\u{1b}[2Jb\"");
        assert_eq!(said("\n"), "it said nothing");
        let long = said(&"ä".repeat(5000));
        assert_eq!(long.chars().count(), MOST_SAID + 3);
        assert!(long.ends_with("…\""));
    }
}
