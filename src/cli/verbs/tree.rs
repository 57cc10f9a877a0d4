//! `tree`: the cgroups with frozen parts marked.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;

use super::Run;
use crate::cli::context::{Context, json, unresolved};
use crate::cli::{targets, text};
use crate::error::Error;
use crate::fleet::{self, Node};
use crate::host::Hierarchy;
use crate::report::Verb;

#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// The cgroup, or container, to begin with
    #[arg(value_name = "CGROUP")]
    pub(crate) cgroup: Option<OsString>,
    /// Also draw what is thawed
    #[arg(short, long)]
    pub(crate) all: bool,
}

impl Run for Tree {
    fn run(&self, context: &Context<'_>, _: &[OsString]) -> u8 {
        run(context, self)
    }
}

/// How long the walk may take.
const WALK: std::time::Duration = std::time::Duration::from_secs(30);

/// Runs `tree`: below a cgroup, or of both hierarchies.
fn run(context: &Context<'_>, args: &Tree) -> u8 {
    let tops = match &args.cgroup {
        None => Ok([Hierarchy::V2, Hierarchy::V1]
            .into_iter()
            .filter(|&hierarchy| context.host.mount(hierarchy).is_some())
            .map(|hierarchy| (hierarchy, Path::new("/").to_owned()))
            .collect()),
        Some(typed) => targets::cgroup(context, typed),
    };
    context.within(WALK);
    let trees = tops.and_then(|tops: Vec<_>| {
        let each = tops
            .iter()
            .map(|(hierarchy, path)| fleet::tree(context.host, *hierarchy, path));
        each.collect::<Result<Vec<(Vec<Node>, _)>, Error>>()
    });
    match trees {
        Ok(trees) => {
            let mut code = 0;
            for (nodes, cut) in trees {
                if let Some(cut) = cut {
                    let cut = text::escaped(&cut.display().to_string());
                    context.err(format!(
                        "iceaxe: the tree is incomplete: what is below {cut} is too deep to be looked at\n"
                    ));
                    code = 1;
                }
                context.out(if context.options.json {
                    nodes.iter().map(json).collect()
                } else {
                    text::tree(&nodes, args.all)
                });
            }
            code
        }
        Err(error) => {
            let typed = args.cgroup.as_deref().unwrap_or_default().to_string_lossy();
            let report = unresolved(Verb::Tree, &typed, &error);
            context.end(0, &report);
            report.exit()
        }
    }
}
