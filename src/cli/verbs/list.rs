//! `list`: every container on the host.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Run;
use crate::cli::context::{Context, json};
use crate::cli::select::{self, All};
use crate::cli::survey::survey;
use crate::cli::text;
use crate::engine::{self, Holders};
use crate::error::Error;
use crate::fleet::Filter;
use crate::report::{Effective, Requested, Status};
use crate::resolver::target::Target;
use crate::resolver::{Nesting, Resolver};

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

impl Run for List {
    fn run(&self, context: &Context<'_>, _: &[OsString]) -> u8 {
        run(context, self)
    }
}

/// The exit codes of `--check`: something is frozen; nothing is, but an engine believes otherwise.
const FROZEN: u8 = 8;
const DISAGREES: u8 = 10;

/// Runs `list`. Without an order of its own what is found is printed in the order of the IDs, as it comes.
fn run(context: &Context<'_>, args: &List) -> u8 {
    let mut listing = Listing {
        context,
        args,
        frozen: 0,
        disagreeing: 0,
        cgroups: BTreeSet::new(),
        kept: Vec::new(),
    };
    let mut incomplete = survey(context, &mut |all| listing.add(all));
    if args.all_cgroups {
        listing.add_cgroups(&mut incomplete);
    }
    listing.end(&incomplete);
    for source in &incomplete {
        context.err(format!(
            "iceaxe: the list is incomplete: {}\n",
            text::escaped(source)
        ));
    }
    match (incomplete.is_empty(), args.check) {
        (false, _) => 1,
        (true, true) if listing.frozen > 0 => FROZEN,
        (true, true) if listing.disagreeing > 0 => DISAGREES,
        _ => 0,
    }
}

/// A listing as it is printed.
struct Listing<'c> {
    context: &'c Context<'c>,
    args: &'c List,
    frozen: usize,
    disagreeing: usize,
    /// The directories of the containers' own cgroups, where others are looked for too.
    cgroups: BTreeSet<PathBuf>,
    /// What waits until all are there: for the widths of columns, or for its order.
    kept: Vec<Status>,
}

impl Listing<'_> {
    fn add(&mut self, all: Vec<Status>) {
        let mut text = String::new();
        for status in all {
            if self.args.all_cgroups {
                let own = status.cgroups.iter().filter(|cgroup| !cgroup.shared);
                self.cgroups.extend(own.map(|cgroup| cgroup.dir.clone()));
            }
            if !self.is_meant(&status) {
                continue;
            }
            self.frozen += usize::from(is_frozen(&status));
            self.disagreeing += usize::from(status.agree == Some(false));
            match self.line(&status) {
                Some(line) if self.args.sort.is_none() => text += &line,
                _ => self.kept.push(status),
            }
        }
        if !text.is_empty() {
            self.context.out(text);
        }
    }

    fn is_meant(&self, status: &Status) -> bool {
        (!self.args.frozen || is_frozen(status))
            && (!self.args.disagree || status.agree == Some(false))
            && Filter::all_meet(&self.args.filter, status)
    }

    /// What is printed of one container where that needs no other; `None` in a table and in a file of measurements.
    fn line(&self, status: &Status) -> Option<String> {
        if let Some(format) = &self.args.format {
            Some(text::formatted(format, status) + "\n")
        } else if self.args.prometheus {
            None
        } else if self.context.options.json {
            Some(json(status))
        } else if self.context.options.quiet {
            Some(status.written().map(|word| word + "\n").unwrap_or_default())
        } else {
            None
        }
    }

    /// Adds the cgroups that ask for a freeze and are no container's.
    fn add_cgroups(&mut self, incomplete: &mut Vec<String>) {
        let host = self.context.host;
        let mut found = Vec::new();
        for asking in engine::asking(host) {
            match asking {
                Ok(cgroup) if self.cgroups.contains(&cgroup.dir) => {}
                Ok(cgroup) => found.push(cgroup),
                Err(error) => incomplete.push(error.to_string()),
            }
        }
        let (resolver, holders) = (Resolver::new(host, []), Holders::read(host));
        let mut all = Vec::new();
        for cgroup in found {
            let target = Target::In(cgroup.hierarchy, cgroup.path);
            let status =
                resolver
                    .resolve(&target, Nesting::Refuse)
                    .and_then(|found| match found.into_iter().next() {
                        Some(found) => engine::status(host, &found.container, None),
                        None => Err(Error::Gone(cgroup.dir.clone())),
                    });
            match status {
                Ok((mut status, _)) => {
                    holders.add_to(&[cgroup.id], &mut status);
                    all.push(status);
                }
                // It was removed since it was seen: what is gone asks for nothing.
                Err(Error::Gone(_) | Error::NotFound(_)) => {}
                Err(error) => incomplete.push(format!("{}: {error}", cgroup.dir.display())),
            }
        }
        self.add(all);
    }

    fn end(&mut self, incomplete: &[String]) {
        let mut kept = std::mem::take(&mut self.kept);
        if let Some(sort) = self.args.sort {
            kept.sort_by(|one, other| sort.compare(one, other));
        }
        if self.args.prometheus {
            self.context.out(text::measurements(&kept, incomplete.len()));
            return;
        }
        if self.args.format.is_some() || self.context.options.json || self.context.options.quiet {
            let lines = kept.iter().filter_map(|status| self.line(status));
            self.context.out(lines.collect::<String>());
        } else {
            // A check that cron runs is silent while all is well.
            if kept.is_empty() && !self.args.filter.is_empty() && !self.args.check {
                let none = select::none(&self.args.filter, All::Every);
                self.context.err(format!("iceaxe: note: {none}\n"));
            }
            let rows: Vec<_> = kept.iter().map(text::row).collect();
            self.context.out(text::table(text::COLUMNS, &rows));
        }
    }
}

/// Whether anything of it is held, or asked to be.
pub(in crate::cli) fn is_frozen(status: &Status) -> bool {
    status.requested == Some(Requested::Frozen)
        || matches!(status.effective, Some(Effective::Frozen | Effective::Freezing))
}

impl Sort {
    /// Which of two comes first; what is not known comes last.
    fn compare(self, one: &Status, other: &Status) -> std::cmp::Ordering {
        let by = |key: fn(&Status) -> Option<String>| {
            let (one, other) = (key(one), key(other));
            (one.is_none(), one).cmp(&(other.is_none(), other))
        };
        // The largest first, as ps and top have it.
        let by_size = |key: fn(&Status) -> Option<u64>| key(other).cmp(&key(one));
        match self {
            Self::Name => by(|status| status.name.clone()),
            Self::Id => by(|status| status.id.clone()),
            Self::Runtime => by(|status| status.runtime.map(|runtime| runtime.to_string())),
            Self::Pod => by(|status| status.pod.clone()),
            Self::State => by(|status| {
                status
                    .effective
                    .map(|state| text::effective(Some(state)).to_owned())
            }),
            Self::Memory => by_size(|status| status.memory?.current),
            Self::Tasks => by_size(|status| Some(u64::from(status.tasks?.total))),
            Self::FrozenFor => by_size(|status| status.frozen_for_us),
        }
    }
}
