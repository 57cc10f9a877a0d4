//! Everything that must hold before a change is taken: runs all of it, then names what failed.

use std::time::{Duration, Instant};

use crate::command::{cargo, shown};
use crate::packages::Install;
use crate::suites::Suite;
use crate::test::{self, AllowMissing};
use crate::{Result, packages, tidy};

const LIMIT: Duration = Duration::from_secs(1200);

/// What was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only formatting, lints, lib, host-v1, host-v2.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    allow: AllowMissing,
    #[command(flatten)]
    install: Install,
}

/// Runs the checks and the tests.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.install.needs(&[packages::BUILD]);
    let fmt = || shown(&mut cargo(LIMIT, &["fmt", "--all", "--check"]));
    let clippy = || {
        let words = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ];
        shown(&mut cargo(LIMIT, &words))
    };
    let doc = || {
        let words = [
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--quiet",
        ];
        shown(cargo(LIMIT, &words).env("RUSTDOCFLAGS", "-D warnings"))
    };
    let tests = || {
        if options.quick {
            test::run_suites(&Suite::QUICK, None, options.install)
        } else {
            test::run_suites(&Suite::all(), Some(&options.allow), options.install)
        }
    };
    type Check<'c> = (&'c str, &'c dyn Fn() -> Result<()>);
    let quick: [Check<'_>; 2] = [("fmt", &fmt), ("clippy", &clippy)];
    let rest: [Check<'_>; 2] = [("doc", &doc), ("tidy", &tidy::run)];
    let rest = if options.quick { &[][..] } else { &rest };
    let mut failures = Vec::new();
    for (name, check) in quick
        .iter()
        .chain(rest)
        .chain(&[("tests", &tests as &dyn Fn() -> Result<()>)])
    {
        let start = Instant::now();
        println!("\n== {name}");
        let end = check();
        println!(
            "== {name}: {} after {:.1} s",
            if end.is_ok() { "ok" } else { "FAILED" },
            start.elapsed().as_secs_f64()
        );
        failures.extend(end.err().map(|error| format!("{name}: {error}")));
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n"))
    }
}
