//! Sentences about an engine that is brought back in step.

use std::fmt::Write;

use super::{duration, escaped, took, who_of};
use crate::engine::quoted;
use crate::report::{Effective, Outcome, Report};

/// What a resync would do, in a line; what it costs the container with it.
pub(crate) fn planned(report: &Report) -> String {
    let who = who_of(report);
    let Some(resync) = report.resync.as_ref() else {
        return who;
    };
    let engine = escaped(&resync.engine);
    let Some(command) = &resync.command else {
        return format!("{who}: frozen, and {engine} believes that it runs: would thaw it");
    };
    let words: Vec<String> = command.iter().map(|word| escaped(&quoted(word))).collect();
    let words = words.join(" ");
    let paused = format!("{who}: thawed, and {engine} believes that it is paused");
    if resync.freezes {
        format!(
            "{paused}: would freeze it for as long as this takes, with docker some 20 ms, in which a system call \
             of it may be broken off (EINTR): {words}"
        )
    } else {
        format!("{paused}: would run, without a freeze: {words}")
    }
}

/// The verdict on a resync; `None` where there is nothing to say but an error.
pub(super) fn resynced(report: &Report, who: &str) -> Option<String> {
    let resync = report.resync.as_ref();
    let engine = || escaped(resync.map_or("its engine", |resync| &resync.engine));
    let told = resync.and_then(|resync| resync.command.as_ref()).is_some();
    let mut line = match report.outcome {
        Outcome::Planned => return Some(planned(report)),
        Outcome::Confirmed if told => format!("{who} is back in step: {} unpaused it", engine()),
        Outcome::Confirmed => format!("{who} is back in step: thawed"),
        Outcome::Unchanged => {
            let state = match report.after.effective {
                Some(Effective::Frozen) => "frozen",
                _ => "thawed",
            };
            return Some(match resync {
                Some(_) => format!("{who} is in step already: {state}"),
                None => format!("{who} is {state}, and its runtime asks the kernel each time"),
            });
        }
        Outcome::Unhealthy => format!("{who} is thawed, and not in step with {}", engine()),
        Outcome::Released => format!("released {who}, not proven to run"),
        Outcome::Held => format!("{who} is still frozen"),
        Outcome::RolledBack => format!("did not bring {who} back in step"),
        Outcome::Gone | Outcome::Ended => format!("{who} is gone"),
        Outcome::Stuck => format!("{who} may be frozen"),
        _ => return None,
    };
    if let Some(us) = report.frozen_for_us {
        let _ = write!(line, ", frozen for {}", duration(us)); // writing to a String can't fail
    }
    if let Some(counts) = report.tasks.filter(|_| !report.outcome.is_gone()) {
        let _ = write!(line, ": {}", super::tasks(counts, report)); // as above
    }
    Some(line + &took(report))
}

/// The question before anything is written.
pub(crate) fn proceed(frozen: usize, others: usize) -> String {
    let containers = |count: usize| match count {
        1 => "1 container".to_owned(),
        more => format!("{more} containers"),
    };
    let others = match others {
        0 => String::new(),
        some => format!(" and bring {} back in step without", containers(some)),
    };
    format!(
        "Freeze {} for a moment, one at a time,{others}? [y/N] ",
        containers(frozen)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Resynced, Verb};
    use crate::resolver::Runtime;

    fn report(command: Option<&[&str]>, freezes: bool) -> Report {
        let mut report = Report::blank(Verb::Resync, "web");
        report.runtime = Some(Runtime::Docker);
        report.resync = Some(Resynced {
            engine: "docker".to_owned(),
            command: command.map(|words| words.iter().map(|&word| word.to_owned()).collect()),
            freezes,
            ..Resynced::default()
        });
        report.outcome = Outcome::Planned;
        report
    }

    #[test]
    fn a_plan_has_the_command_and_the_price() {
        let docker = report(Some(&["/usr/bin/docker", "unpause", "web\x1b"]), true);
        let line = resynced(&docker, "web (docker)").unwrap();
        assert!(line.starts_with("web (docker): thawed, and docker believes that it is paused"));
        assert!(
            line.contains("EINTR") && line.ends_with("/usr/bin/docker unpause 'web\\u{1b}'"),
            "{line}"
        );
        let lxc = planned(&report(Some(&["lxc-unfreeze", "--name=web"]), false));
        assert!(
            !lxc.contains("EINTR") && lxc.ends_with("without a freeze: lxc-unfreeze --name=web"),
            "{lxc}"
        );
        let reverse = planned(&report(None, false));
        assert!(reverse.ends_with("would thaw it"), "{reverse}");
    }

    #[test]
    fn the_length_of_a_freeze_is_in_the_verdict() {
        let mut done = report(Some(&["docker"]), true);
        done.outcome = Outcome::Confirmed;
        done.frozen_for_us = Some(3200);
        done.settle_us = Some(100);
        done.verify_us = Some(400);
        assert_eq!(
            resynced(&done, "web").unwrap(),
            "web is back in step: docker unpaused it, frozen for 3.2 ms; 0.5 ms"
        );
    }
}
