//! Installs what the tests need, selects the suites that this machine can run, runs them, and sums up. A suite that is
//! not selected is named with the reason, and is not built, so that no test can pass by returning early.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::command::cargo;
use crate::libtest::Tally;
use crate::packages::{Install, in_ci};
use crate::suites::{Built, Ready, Suite};
use crate::{Result, artifacts, packages, vm};

/// The suites without which a run of `ci`, or one with CI=true, counts as failed.
const MINIMUM: [&str; 5] = ["host-v1", "host-v2", "docker", "runc", "vm"];
/// How many of the slowest tests are named.
const SLOWEST: usize = 10;
const BUILD_LIMIT: Duration = Duration::from_secs(1800);

/// What of the minimum may be missing.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct AllowMissing {
    /// Do not fail where this one is missing.
    #[arg(long, value_name = "NAME", value_parser = MINIMUM)]
    allow_missing: Vec<String>,
}

impl AllowMissing {
    /// The names in the minimum that are neither among `selected` nor allowed to be missing.
    fn lacking(&self, selected: &[Suite]) -> Vec<&'static str> {
        let has = |name: &str| selected.iter().any(|suite| suite.name() == name);
        MINIMUM
            .into_iter()
            .filter(|name| !has(name) && !self.allow_missing.iter().any(|allowed| allowed == name))
            .collect()
    }
}

/// What was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Those to run; all where none is named.
    #[arg(value_name = "SUITE", value_parser = Suite::NAMES)]
    suites: Vec<String>,
    #[command(flatten)]
    allow: AllowMissing,
    #[command(flatten)]
    install: Install,
}

impl Options {
    fn suites(&self) -> Vec<Suite> {
        let mut suites = Vec::new();
        for name in &self.suites {
            suites.extend(Suite::all().into_iter().filter(|suite| suite.name() == name));
        }
        if suites.is_empty() { Suite::all() } else { suites }
    }
}

/// Runs what was asked for. Insists on the minimum only in a CI.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_suites(
        &options.suites(),
        in_ci().then_some(&options.allow),
        options.install,
    )
}

/// How a suite ended.
#[derive(Debug)]
struct Row {
    suite: Suite,
    tally: Tally,
    end: End,
    took: Duration,
}

#[derive(Debug)]
enum End {
    Passed,
    Failed(String),
    NotSelected(String),
}

/// Runs the kernel tests on the machines that were asked for.
pub(crate) fn run_machines(options: &vm::Options) -> Result<()> {
    let suites: Vec<Suite> = options.rows()?.into_iter().map(Suite::Vm).collect();
    run_suites(&suites, None, options.install)
}

/// Runs `suites`, all of them whatever happens, and then names what failed. With a `minimum`, what is missing of it
/// has failed too.
pub(crate) fn run_suites(suites: &[Suite], minimum: Option<&AllowMissing>, install: Install) -> Result<()> {
    let needs: Vec<_> = suites
        .iter()
        .map(|suite| suite.needs())
        .chain([packages::BUILD])
        .collect();
    install.needs(&needs);
    let mut ready = Vec::new();
    let mut rows = Vec::new();
    for suite in suites {
        match suite.select() {
            Ok(found) => ready.push((*suite, found)),
            Err(reason) => {
                println!("not selected: {suite}: {reason}");
                rows.push(Row {
                    suite: *suite,
                    tally: Tally::default(),
                    end: End::NotSelected(reason),
                    took: Duration::ZERO,
                });
            }
        }
    }
    let selected: Vec<Suite> = ready.iter().map(|(suite, _)| *suite).collect();
    let lacking = minimum.map(|allow| allow.lacking(&selected)).unwrap_or_default();
    let built = build(&selected);
    for (suite, ready) in &ready {
        println!("\n== {suite}");
        let start = Instant::now();
        rows.push(run_suite(*suite, ready, &built, start));
    }
    rows.sort_by_key(|row| suites.iter().position(|suite| *suite == row.suite));
    println!("\n{}\n{}", slowest(&rows), summary(&rows));
    if let Some(AllowMissing { allow_missing }) = minimum {
        allow_missing
            .iter()
            .for_each(|name| println!("allowed to be missing: {name}"));
    }
    verdict(&rows, &lacking)
}

fn run_suite(suite: Suite, ready: &Ready, built: &Built, start: Instant) -> Row {
    let (tally, end) = ready.run(built);
    let end = match end {
        Ok(()) if tally.failed == 0 => End::Passed,
        Ok(()) => End::Failed("it ended well in spite of failed tests".to_owned()),
        Err(error) => End::Failed(error),
    };
    Row {
        suite,
        tally,
        end,
        took: start.elapsed(),
    }
}

/// Builds the programs of all selected suites in one go: each feature set more would be one build more.
fn build(selected: &[Suite]) -> Built {
    let targets: BTreeSet<&str> = selected.iter().filter_map(|suite| suite.target()).collect();
    let features: Vec<String> = targets
        .iter()
        .map(|target| format!("iceaxe/{target}-tests"))
        .collect();
    let features = features.join(",");
    let mut words = vec![
        "test",
        "--no-run",
        "--message-format=json-render-diagnostics",
        "--package",
        "iceaxe",
    ];
    words.extend(["--features", &features]);
    if selected.contains(&Suite::Lib) {
        words.extend(["--package", "xtask", "--lib", "--bins"]);
    }
    targets.iter().for_each(|target| words.extend(["--test", target]));
    let nothing = "nothing was to be built".to_owned();
    let is_vm = |suite: &Suite| matches!(suite, Suite::Vm(_));
    let programs = match selected.iter().all(is_vm) {
        true => Err(nothing.clone()),
        false => artifacts::build(&mut cargo(BUILD_LIMIT, &words)),
    };
    let initramfs = if selected.iter().any(is_vm) {
        vm::initramfs()
    } else {
        Err(nothing)
    };
    Built {
        programs,
        features,
        initramfs,
    }
}

/// The tests that took longest.
fn slowest(rows: &[Row]) -> String {
    let of = |row: &'_ Row| -> Vec<_> {
        let times = row.tally.times.iter();
        times
            .map(|(took, name)| (*took, format!("{}: {name}", row.suite)))
            .collect()
    };
    let mut all: Vec<(Duration, String)> = rows.iter().flat_map(of).collect();
    all.sort_by_key(|(took, _)| std::cmp::Reverse(*took));
    let mut text = "slowest tests, in seconds from the end of the test before:\n".to_owned();
    for (took, name) in all.iter().take(SLOWEST) {
        text += &format!("{:>8.1}  {name}\n", took.as_secs_f64());
    }
    text
}

fn summary(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<14} {:<13} {:>6} {:>6} {:>8}\n",
        "suite", "end", "passed", "failed", "seconds"
    );
    let mut total = Tally::default();
    for row in rows {
        let suite = row.suite.to_string();
        let (passed, failed, seconds) = (row.tally.passed, row.tally.failed, row.took.as_secs_f64());
        text += &match &row.end {
            End::NotSelected(reason) => format!("{suite:<14} not selected: {reason}\n"),
            End::Passed => format!(
                "{suite:<14} {:<13} {passed:>6} {failed:>6} {seconds:>8.1}\n",
                "passed"
            ),
            End::Failed(_) => format!(
                "{suite:<14} {:<13} {passed:>6} {failed:>6} {seconds:>8.1}\n",
                "FAILED"
            ),
        };
        total.add(row.tally.clone());
    }
    text + &format!("total: {} passed, {} failed", total.passed, total.failed)
}

/// An error that names every failure, if there is one.
fn verdict(rows: &[Row], lacking: &[&str]) -> Result<()> {
    let mut failures = Vec::new();
    for row in rows {
        if let End::Failed(error) = &row.end {
            failures.push(format!("{}: {error}", row.suite));
            failures.extend(
                row.tally
                    .failures
                    .iter()
                    .map(|name| format!("{}: {name}", row.suite)),
            );
        }
    }
    failures.extend(
        lacking
            .iter()
            .map(|name| format!("{name}: not selected, and not allowed to be missing")),
    );
    if rows.iter().all(|row| matches!(row.end, End::NotSelected(_))) {
        failures.push("no suite was selected".to_owned());
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("failed:\n  {}", failures.join("\n  ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;

    fn options(line: &str) -> Options {
        match crate::parse(&format!("test {line}")) {
            Ok(crate::Task::Test(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    fn row(suite: Suite, end: End) -> Row {
        let failures = if matches!(end, End::Failed(_)) {
            vec!["v1::a".to_owned()]
        } else {
            Vec::new()
        };
        let tally = Tally {
            runs: 1,
            passed: 2,
            failed: u32::from(!failures.is_empty()),
            ignored: 0,
            failures,
            times: (1..8)
                .map(|second| (Duration::from_secs(second), "v1::a".to_owned()))
                .collect(),
        };
        Row {
            suite,
            tally,
            end,
            took: Duration::from_millis(1500),
        }
    }

    #[test]
    fn suites_are_asked_for_by_name() {
        assert_eq!(options("").suites(), Suite::all());
        assert_eq!(options("runc lib").suites(), [Suite::Runc, Suite::Lib]);
        assert_eq!(options("vm").suites().len(), 2);
    }

    #[test]
    fn one_row_of_machines_is_enough_for_the_minimum() {
        let vm = Suite::Vm(vm::Row::usual()[0]);
        let selected = [
            Suite::Lib,
            Suite::Host(Layout::V1),
            Suite::Host(Layout::V2),
            Suite::Runc,
            vm,
        ];
        assert_eq!(AllowMissing::default().lacking(&selected), ["docker"]);
        assert_eq!(AllowMissing::default().lacking(&selected[..4]), ["docker", "vm"]);
        let allow = options("--allow-missing=docker --allow-missing=vm").allow;
        assert!(allow.lacking(&selected[..4]).is_empty());
        assert_eq!(allow.lacking(&selected[..3]), ["runc"]);
    }

    #[test]
    fn every_failure_is_named() {
        let rows = [
            row(Suite::Lib, End::Passed),
            row(Suite::Host(Layout::V1), End::Failed("exit code 101".to_owned())),
            row(Suite::Docker, End::NotSelected("no dockerd".to_owned())),
        ];
        let error = verdict(&rows, &["docker"]).unwrap_err();
        for part in ["host-v1: exit code 101", "host-v1: v1::a", "docker: not selected"] {
            assert!(error.contains(part), "{part} is missing: {error}");
        }
        assert_eq!(verdict(&rows[..1], &[]), Ok(()));
        assert!(verdict(&rows[2..], &[]).is_err(), "a run of nothing");
    }

    #[test]
    fn the_slowest_tests_of_all_suites_are_named_with_their_suite() {
        let text = slowest(&[row(Suite::Lib, End::Passed), row(Suite::Runc, End::Passed)]);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!((lines.len(), lines[0]), (SLOWEST, "     7.0  lib: v1::a"));
        assert_eq!(
            (lines[1], lines[2]),
            ("     7.0  runc: v1::a", "     6.0  lib: v1::a")
        );
    }

    #[test]
    fn the_summary_has_a_line_a_suite_and_a_total() {
        let rows = [
            row(Suite::Lib, End::Passed),
            row(Suite::Runc, End::NotSelected("no runc".to_owned())),
        ];
        let text = summary(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "lib            passed             2      0      1.5");
        assert_eq!(lines[2], "runc           not selected: no runc");
        assert_eq!(lines[3], "total: 4 passed, 0 failed");
    }
}
