//! `path`: where things of a container are, for looking inside with no daemon. Touches none of what it prints.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::Run;
use crate::cli::context::{Context, json, unresolved};
use crate::cli::options::Nested;
use crate::cli::{targets, text};
use crate::error::Error;
use crate::report::{SCHEMA, Verb};
use crate::resolver::{Container, Details, Purpose};

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

impl Run for Path {
    fn targets(&self) -> &[OsString] {
        std::slice::from_ref(&self.target)
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        run(context, self, typed)
    }
}

/// How long the engine's record may take.
const RECORD: Duration = Duration::from_secs(2);

/// The answer as JSON.
#[derive(Serialize)]
struct Told<'t> {
    schema: u32,
    target: &'t str,
    paths: Vec<Cow<'t, str>>,
}

/// Runs `path`.
fn run(context: &Context<'_>, args: &Path, typed: &[OsString]) -> u8 {
    let [one] = typed else {
        context.err("iceaxe: cannot tell the path: one target is wanted\n");
        return 2;
    };
    let targets = targets::resolve(
        context,
        (Verb::Path, Purpose::Look),
        std::slice::from_ref(one),
        args.nested,
    );
    if let Some((index, report)) = targets.lost().next() {
        context.end(index, report);
        return report.exit();
    }
    let Some((index, typed, container)) = targets.found().into_iter().next() else {
        return 2;
    };
    context.within(RECORD * 2);
    match paths(context, args, container) {
        Ok(paths) if context.options.json => {
            let paths = paths.iter().map(|path| path.to_string_lossy()).collect();
            context.out(json(&Told {
                schema: SCHEMA,
                target: typed,
                paths,
            }));
            0
        }
        Ok(paths) => {
            for path in paths {
                // For a program each byte counts.
                let mut line = match context.is_terminal {
                    true => text::path(&path).into_bytes(),
                    false => path.into_os_string().into_vec(),
                };
                line.push(b'\n');
                context.out(line);
            }
            0
        }
        Err(error) => {
            let report = unresolved(Verb::Path, typed, &error);
            context.end(index, &report);
            report.exit()
        }
    }
}

fn paths(context: &Context<'_>, args: &Path, container: &Container) -> Result<Vec<PathBuf>, Error> {
    if args.all {
        return Ok(container
            .own
            .iter()
            .map(|cgroup| cgroup.dir().to_owned())
            .collect());
    }
    let missing = |what: &str| Error::Unsupported(format!("its runtime keeps no {what} on record"));
    if args.pid {
        let pid = container.identity.pid.ok_or_else(|| missing("process"))?;
        return Ok(vec![PathBuf::from(pid.to_string())]);
    }
    if args.rootfs || args.bundle || args.log {
        let details = Details::of(context.host, container.identity.clone(), RECORD)
            .ok_or_else(|| Error::Unsupported("its engine's record could not be read in time".to_owned()))?;
        let (path, what) = if args.rootfs {
            (details.rootfs, "root file system")
        } else if args.bundle {
            (details.bundle, "bundle")
        } else {
            (details.log, "log file")
        };
        return Ok(vec![context.host.inside(&path.ok_or_else(|| missing(what))?)]);
    }
    Ok(vec![container.own[container.freeze_at].dir().to_owned()])
}
