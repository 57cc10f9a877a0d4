//! Everything that must hold before a change is taken: runs all of it, then names what failed.

use std::time::{Duration, Instant};

use crate::command::{cargo, shown};
use crate::suites::Suite;
use crate::test::{self, AllowMissing};
use crate::{Result, packages, tidy, unknown};

const LIMIT: Duration = Duration::from_secs(1200);

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    quick: bool,
    allow: AllowMissing,
}

impl Options {
    /// Reads the words after `ci`.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut options = Self {
            quick: false,
            allow: AllowMissing::default(),
        };
        for word in words {
            if word == "--quick" {
                options.quick = true;
            } else if !options.allow.take(word)? {
                return Err(unknown(word));
            }
        }
        Ok(options)
    }
}

/// Runs the checks and the tests.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::install(&[packages::BUILD]);
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
            test::run_suites(&Suite::QUICK, None)
        } else {
            test::run_suites(&Suite::all(), Some(&options.allow))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_in_any_order() {
        let parse =
            |line: &str| Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert!(parse("--allow-missing=vm --quick").unwrap().quick);
        assert!(!parse("--allow-missing=vm --allow-missing=vm").unwrap().quick);
        assert!(parse("--fast").is_err());
    }
}
