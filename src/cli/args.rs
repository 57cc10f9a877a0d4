//! What can be typed: the options of all verbs, and a verb with its own words.

use clap::{Parser, Subcommand};

use super::options::Options;
use super::verbs::Run;
use super::verbs::change::{Freeze, Kill, Thaw};
use super::verbs::demo::{Demo, DemoTask};
use super::verbs::explain::Explain;
use super::verbs::hold::Hold;
use super::verbs::list::List;
use super::verbs::path::Path;
use super::verbs::recover::Recover;
use super::verbs::resync::Resync;
use super::verbs::status::Status;
use super::verbs::tree::Tree;
use super::verbs::watch::Watch;
use crate::report::Verb;

/// Freezes and thaws containers without their daemon, and proves it task by task
#[derive(Debug, Parser)]
#[command(name = "iceaxe", version, max_term_width = 100)]
#[command(
    after_help = "TARGET is a container's name, its ID or a unique prefix of it, NAMESPACE/POD[/CONTAINER], or outright \
id:ID, name:NAME, pod:POD, pid:PID, v1:/PATH, v2:/PATH, cgroup:/PATH or a directory below a cgroup mount.\n\
Exit codes: 0 confirmed, 1 failed, 2 usage, 3 not found, 4 ambiguous, 5 not permitted or supported, 6 timed out and \
rolled back, 7 may be frozen, 8 still frozen by something else, 9 thawed but a task is not proven to run, killed but one is not gone, 10 an engine believes otherwise (list --check, resync), \
11 refused, \
12 different ends."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) request: Request,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Request {
    /// Thaw containers, wait, and prove task by task that each left the freezer
    #[command(visible_aliases = ["unpause", "resume"])]
    Thaw(Thaw),
    /// Freeze containers and wait until they are; what cannot be frozen in time is rolled back
    #[command(visible_alias = "pause")]
    Freeze(Freeze),
    /// Show what is requested, what is in force, and what the engine believes
    #[command(visible_alias = "inspect")]
    Status(Status),
    /// End containers, frozen or not, without letting them run in between where the kernel allows that
    Kill(Kill),
    /// Say why a container is frozen, or does not freeze or thaw, which task holds it, and what to do
    #[command(visible_alias = "why")]
    Explain(Explain),
    /// Freeze containers, run a command, and thaw exactly what was frozen, whatever happens
    #[command(
        after_help = "They stay frozen for as long as COMMAND runs: one that ignores SIGHUP holds them after its terminal is \
closed, and one that hangs for ever. --max is for that.\n\
Exit codes: COMMAND's own, 128+N for a signal; 122 somebody else thawed a target meanwhile, 123 a target is not proven thawed, \
124 --max ended COMMAND, 125 COMMAND was not run, 126 and 127 it could not be run, was not found."
    )]
    Hold(Hold),
    /// Finish what was left by an iceaxe that was killed: thaw what is over, guard what is not
    Recover(Recover),
    /// List every container on the host and its freezer state
    #[command(visible_aliases = ["ls", "ps"])]
    List(List),
    /// Show the cgroup tree with frozen parts marked
    Tree(Tree),
    /// Follow freezes and thaws as they happen, until interrupted or --timeout is over
    Watch(Watch),
    /// Print the directory where freeze would write
    Path(Path),
    /// Bring engines' own idea of containers back in step with the kernel, with the engines well again
    Resync(Resync),
    /// Make a throw-away container, freeze it, thaw it, show the proof
    Demo(Demo),
    #[command(name = "demo-task", hide = true)]
    DemoTask(DemoTask),
}

impl Request {
    /// The verb of the request, as reports name it, and the work that it stands for.
    pub(super) fn parts(&self) -> (Verb, &dyn Run) {
        match self {
            Self::Thaw(thaw) => (Verb::Thaw, thaw),
            Self::Freeze(freeze) => (Verb::Freeze, freeze),
            Self::Status(status) => (Verb::Status, status),
            Self::Kill(kill) => (Verb::Kill, kill),
            Self::Explain(explain) => (Verb::Explain, explain),
            Self::Hold(hold) => (Verb::Hold, hold),
            Self::Recover(recover) => (Verb::Recover, recover),
            Self::List(list) => (Verb::List, list),
            Self::Tree(tree) => (Verb::Tree, tree),
            Self::Watch(watch) => (Verb::Watch, watch),
            Self::Path(path) => (Verb::Path, path),
            Self::Resync(resync) => (Verb::Resync, resync),
            Self::Demo(demo) => (Verb::Demo, demo),
            Self::DemoTask(task) => (Verb::Demo, task),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::options::{ceiling, duration};
    use crate::cli::verbs::change::signal;
    use crate::fleet::Ceiling;
    use crate::host::{Percent, Resource};
    use clap::CommandFactory;
    use proptest::prelude::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("0", 0),
            ("3", 3000),
            ("1h", 3_600_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1w",
            "99999999999999999999s",
            "18446744073709551615s",
            "200h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signal_is_written_as_kill_takes_it() {
        for text in ["TERM", "SIGTERM", "term", "15"] {
            assert_eq!(signal(text), Ok(15), "{text}");
        }
        for text in ["", "0", "-1", "TERMINATE", "64", "RTMIN+3"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ceiling_is_a_kind_and_its_percent() {
        for (text, of, percent) in [
            ("cpu=40", Resource::Cpu, 4000),
            ("memory=0", Resource::Memory, 0),
            ("io=2.5%", Resource::Io, 250),
        ] {
            let percent = Percent(percent);
            assert_eq!(ceiling(text), Ok(Ceiling { of, percent }), "{text}");
        }
        for text in [
            "", "cpu", "cpu=", "disk=4", "cpu=-1", "cpu=NaN", "cpu=inf", "cpu=4%%",
        ] {
            assert!(ceiling(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_orders_the_targets_needs_the_switch() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        for extra in ["--gap 1s", "--order name", "--ceiling cpu=1"] {
            assert!(parse(&format!("iceaxe thaw {extra} web")).is_err(), "{extra}");
            assert!(
                parse(&format!("iceaxe thaw --stagger {extra} web")).is_ok(),
                "{extra}"
            );
        }
        let limit = |words: &str| match parse(words).unwrap().request {
            Request::Thaw(thaw) => thaw.stagger.stagger,
            _ => None,
        };
        assert_eq!(limit("iceaxe thaw web"), None);
        assert_eq!(limit("iceaxe thaw --stagger web"), Some(Duration::from_secs(600)));
        assert_eq!(
            limit("iceaxe thaw --stagger=5m web"),
            Some(Duration::from_secs(300))
        );
        assert!(parse("iceaxe thaw --parallel 0 web").is_err());
    }

    proptest! {
        #[test]
        fn no_duration_panics(text in ".{0,30}") {
            let _ = duration(&text); // only that it returns
        }
    }
}
