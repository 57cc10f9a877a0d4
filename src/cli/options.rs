//! Options that all verbs have, and groups of options that several verbs share.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::fleet::{Ceiling, Filter};
use crate::host::Resource;
use crate::patience::parse_duration;

// A doc comment would become a part of the help.
#[derive(Debug, Args)]
pub(crate) struct Options {
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
pub(super) fn ceiling(text: &str) -> Result<Ceiling, String> {
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

/// Whether the steps are told of.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Steps {
    /// Print the steps with their times
    #[arg(long)]
    pub(crate) trace: bool,
}

/// Reads a limit, which may be a week: longer than any wait that somebody means, and far from what a clock can't add.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let limit = parse_duration(text).ok_or("not a duration such as 500ms, 10s, 2m, 1h or 1d")?;
    if limit > WEEK {
        Err("longer than a week".to_owned())
    } else {
        Ok(limit)
    }
}

const WEEK: Duration = Duration::from_secs(7 * 86_400);
