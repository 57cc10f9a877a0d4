//! What can be typed: exactly the words, with no meaning given to them yet.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::signal::Signal;

use crate::fleet::{Ceiling, Filter};
use crate::host::Resource;
use crate::patience::parse_duration;
use crate::report::{RescueStep, Verb};

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
    /// The host's file system is at DIR
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/",
        hide_default_value = true
    )]
    pub(crate) root: PathBuf,
    /// Print JSON Lines
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only the targets that reached the wanted state
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print what was written where
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Write nothing; say what would be written
    #[arg(short = 'n', long, global = true)]
    pub(crate) dry_run: bool,
    /// How long to wait for each target: 500ms, 10s, 2m; 0 is one look [default: freeze and kill 10s, watch no end, else 5s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Colour
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_default_value = true
    )]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) verb: Request,
}

/// When colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
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
    Explain(Status),
    /// Freeze containers, run a command, and thaw exactly what was frozen, whatever happens
    #[command(
        after_help = "They stay frozen for as long as COMMAND runs: one that ignores SIGHUP holds them after its terminal is \
closed, and one that hangs for ever. --max is for that.\n\
Exit codes: COMMAND's own, 128+N for a signal; 122 somebody else thawed a target meanwhile, 123 a target is not proven thawed, \
124 --max ended COMMAND, 125 COMMAND was not run, 126 and 127 it could not be run, was not found."
    )]
    Hold(Hold),
    /// Finish what was left by an iceaxe that was killed: thaw what is over, guard what is not
    Recover,
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
    Demo,
    #[command(name = "demo-task", hide = true)]
    DemoTask {
        /// What to do all day.
        kind: String,
    },
}

impl Request {
    /// What is done, as reports have it.
    pub(crate) fn verb(&self) -> Verb {
        match self {
            Self::Thaw(_) => Verb::Thaw,
            Self::Freeze(_) => Verb::Freeze,
            Self::Status(_) => Verb::Status,
            Self::Kill(_) => Verb::Kill,
            Self::Explain(_) => Verb::Explain,
            Self::Hold(_) => Verb::Hold,
            Self::Recover => Verb::Recover,
            Self::List(_) => Verb::List,
            Self::Tree(_) => Verb::Tree,
            Self::Watch(_) => Verb::Watch,
            Self::Path(_) => Verb::Path,
            Self::Resync(_) => Verb::Resync,
            Self::Demo | Self::DemoTask { .. } => Verb::Demo,
        }
    }
}

/// Many targets at once.
#[derive(Debug, Args)]
pub(crate) struct Select {
    /// Every container; of thaw, those that are frozen by their own request; of resync, those whose engine disagrees;
    /// of freeze and kill only with --force
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Every container that meets this: name=web-*, label=key=value, state=frozen, memory<80%, ...
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<Filter>,
}

/// How many at a time.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Parallel {
    /// Work on at most N targets at a time [default: on all]
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<NonZeroUsize>,
}

/// One after the other.
#[derive(Debug, Args)]
pub(crate) struct Stagger {
    /// Thaw one after the other; all that are left after LIMIT at once, whatever holds them back
    #[arg(long, value_name = "LIMIT", num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_parser = duration)]
    pub(crate) stagger: Option<Duration>,
    /// In this order
    #[arg(
        long,
        value_name = "ORDER",
        requires = "stagger",
        default_value = "given",
        hide_default_value = true
    )]
    pub(crate) order: Order,
    /// Wait so long between two [default: 2s with a ceiling, as the kernel renews its figures, else 0]
    #[arg(long, value_name = "DURATION", requires = "stagger", value_parser = duration)]
    pub(crate) gap: Option<Duration>,
    /// Hold them back while the host's pressure is not below this: cpu=40, memory=20, io=30, in percent
    #[arg(long, value_name = "KIND=PERCENT", requires = "stagger", value_parser = ceiling)]
    pub(crate) ceiling: Vec<Ceiling>,
}

/// Which goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// As they were typed, or by their IDs.
    Given,
    /// By their names.
    Name,
    /// The one with the least memory in use first.
    Memory,
    /// The one that is frozen longest first; where that is not known, the one that was started first.
    Oldest,
}

/// Reads `cpu=40` or `io=2.5%`.
fn ceiling(text: &str) -> Result<Ceiling, String> {
    let (word, percent) = text
        .split_once('=')
        .ok_or_else(|| "not a ceiling such as cpu=40".to_owned())?;
    let of = Resource::ALL.into_iter().find(|of| of.word() == word);
    match (of, percent.strip_suffix('%').unwrap_or(percent).parse()) {
        (None, _) => Err("the kinds are cpu, memory and io".to_owned()),
        (_, Err(())) => Err("not a number of percent".to_owned()),
        (Some(of), Ok(percent)) => Ok(Ceiling { of, percent }),
    }
}

/// The container that a process is in, where containers are nested.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct Nested {
    /// For pid: in nested containers, mean the outermost
    #[arg(long, conflicts_with = "inner")]
    pub(crate) outer: bool,
    /// For pid: in nested containers, mean the innermost
    #[arg(long)]
    pub(crate) inner: bool,
}

/// The safety rules that are lifted.
#[derive(Debug, Args)]
pub(crate) struct Lift {
    /// Lift a safety rule: not-container, host-daemon, sandbox; alone, all three
    #[arg(long, value_name = "RULE", num_args = 0..=1, require_equals = true, default_missing_value = "all")]
    pub(crate) force: Vec<Rule>,
}

/// Whether the steps are told of.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Steps {
    /// Print the steps with their times
    #[arg(long)]
    pub(crate) trace: bool,
}

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
pub(crate) struct Hold {
    /// What to freeze
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    /// What to run meanwhile
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) nested: Nested,
    /// End the command after this time, and thaw
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max: Option<Duration>,
    #[command(flatten)]
    pub(crate) lift: Lift,
    /// Then write out what is not on the disk of this path's file system yet
    #[arg(long, value_name = "PATH", value_parser = absolute())]
    pub(crate) sync: Vec<PathBuf>,
    /// Then freeze the file system of this path too: who writes to it waits
    #[arg(long, value_name = "PATH", value_parser = absolute())]
    pub(crate) fsfreeze: Vec<PathBuf>,
    /// Where one cannot be frozen, hold the others nevertheless
    #[arg(long)]
    pub(crate) best_effort: bool,
    /// Go on where no record of it can be kept
    #[arg(long)]
    pub(crate) no_record: bool,
    /// Where iceaxe is killed, let the command go on, with thawed containers
    #[arg(long)]
    pub(crate) let_run: bool,
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

/// A path that means the same to a process with another working directory.
fn absolute() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// Reads `TERM`, `SIGTERM`, `term` or `15`.
fn signal(text: &str) -> Result<i32, String> {
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

/// A safety rule by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rule {
    /// Every rule that can be lifted.
    All,
    /// The cgroup is no container.
    NotContainer,
    /// A daemon of the host lives in it.
    HostDaemon,
    /// It is a pod's sandbox alone.
    Sandbox,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// What to look at; - reads targets from standard input, one a line
    #[arg(required_unless_present_any = ["all", "filter"], conflicts_with_all = ["all", "filter"], value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    #[command(flatten)]
    pub(crate) select: Select,
    #[command(flatten)]
    pub(crate) nested: Nested,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those that meet this: name=web-*, label=key=value, state=frozen, memory<80%, ...
    #[arg(short, long, value_name = "FILTER")]
    pub(crate) filter: Vec<Filter>,
    /// Only what is frozen, or asked to be
    #[arg(long)]
    pub(crate) frozen: bool,
    /// Only those of which the engine believes otherwise
    #[arg(long)]
    pub(crate) disagree: bool,
    /// Also the cgroups that ask for a freeze and are no container's
    #[arg(long)]
    pub(crate) all_cgroups: bool,
    /// In this order
    #[arg(long, value_name = "KEY")]
    pub(crate) sort: Option<Sort>,
    /// A line for each, with fields in braces: '{name} {effective}'
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["prometheus", "json"])]
    pub(crate) format: Option<String>,
    /// Exit with 8 if anything is frozen, else with 10 if an engine believes otherwise
    #[arg(long)]
    pub(crate) check: bool,
    /// Measurements for a monitoring system, in Prometheus's text format
    #[arg(long, conflicts_with = "json")]
    pub(crate) prometheus: bool,
}

/// What a list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// The name.
    Name,
    /// The ID.
    Id,
    /// The runtime.
    Runtime,
    /// The pod.
    Pod,
    /// What holds it.
    State,
    /// The memory in use, the most first.
    Memory,
    /// The number of tasks, the most first.
    Tasks,
    /// How long it is frozen, the longest first.
    FrozenFor,
}

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

#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// The cgroup, or container, to begin with
    #[arg(value_name = "CGROUP")]
    pub(crate) cgroup: Option<OsString>,
    /// Also draw what is thawed
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// What to follow; everything if none is given; - reads targets from standard input, one a line
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Path {
    /// The container
    #[arg(value_name = "TARGET")]
    pub(crate) target: OsString,
    #[command(flatten)]
    pub(crate) nested: Nested,
    /// Print the directories of both hierarchies
    #[arg(long, group = "what")]
    pub(crate) all: bool,
    /// Print the first process's PID
    #[arg(long, group = "what")]
    pub(crate) pid: bool,
    /// Print the root file system's directory
    #[arg(long, group = "what")]
    pub(crate) rootfs: bool,
    /// Print the runtime's bundle directory
    #[arg(long, group = "what")]
    pub(crate) bundle: bool,
    /// Print the log file
    #[arg(long, group = "what")]
    pub(crate) log: bool,
}

/// Reads a limit, which may be a week: longer than any wait that somebody means, and far from what a clock can't add.
fn duration(text: &str) -> Result<Duration, String> {
    let limit = parse_duration(text).ok_or("not a duration such as 500ms, 10s, 2m, 1h or 1d")?;
    if limit > WEEK {
        Err("longer than a week".to_owned())
    } else {
        Ok(limit)
    }
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Percent;
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
        let limit = |words: &str| match parse(words).unwrap().verb {
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
