//! The project's own tasks: `cargo xtask TASK`. Everything a task needs on the machine it installs itself or names.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task's whole output is for people"
)]

mod artifacts;
mod bench;
mod bundle;
mod ci;
mod command;
mod cpio;
mod dist;
mod group;
mod holds;
mod imports;
mod janitor;
mod kernels;
mod layout;
mod libtest;
mod packages;
mod soak;
mod stats;
mod suites;
mod test;
mod tidy;
mod verdict;
mod vm;
mod workload;

use std::process::ExitCode;

use clap::Parser;

/// What a task ends with when it did not do what it was asked for: a text for people, of one or more lines.
type Result<T> = std::result::Result<T, String>;

/// The project's own tasks.
#[derive(Debug, clap::Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Install what the tests need, then run every suite that this machine can run, or the named ones; with CI=true in
    /// the environment, fail if one of ci's minimum is missing.
    Test(test::Options),
    /// Formatting, lints, documentation, tidy, then test; fails if one of host-v1, host-v2, docker, runc, vm is missing.
    Ci(ci::Options),
    /// Boot Debian kernels, or this host's, with a layout of cgroups and run the kernel tests.
    Vm(vm::Options),
    /// Build the static release binary; its path is the last line of standard output.
    Dist(packages::Install),
    /// Measure the release binary beside runc and the floor; needs root.
    Bench(bench::Options),
    /// Freeze and thaw 2,000 times in each hierarchy tasks that do not keep still, and hold each verdict against their
    /// pulses; then half as many holds and leases each, whose processes are killed anywhere; needs root.
    Soak(soak::Options),
    /// Check who imports whom, lengths, links, the top level.
    Tidy,
}

impl Task {
    fn run(&self) -> Result<()> {
        match self {
            Self::Test(options) => test::run(options),
            Self::Ci(options) => ci::run(options),
            Self::Vm(options) => test::run_machines(options),
            Self::Dist(install) => dist::run(*install),
            Self::Bench(options) => bench::run(options),
            Self::Soak(options) => soak::run(options),
            Self::Tidy => tidy::run(),
        }
    }
}

fn main() -> ExitCode {
    match Task::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
fn parse(line: &str) -> std::result::Result<Task, clap::Error> {
    Task::try_parse_from(std::iter::once("xtask").chain(line.split_whitespace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_too_many_is_an_error() {
        for line in [
            "tset",
            "dist now",
            "tidy --all",
            "test --fast",
            "ci lib",
            "soak 5",
            "bench --rounds",
            "bench --records 9",
            "bench --many 9",
            "bench --many --binary",
            "test podman",
            "test --allow-missing=lib",
            "test --allow-missing",
            "test --all",
            "ci --fast",
            "bench --rounds 0",
            "bench --rounds 3 --many",
            "bench --binary x",
            "bench --data x",
            "vm --every",
            "vm --all 6.1 v1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn options_are_read_in_any_order() {
        for line in [
            "ci --allow-missing=vm --quick --allow-missing=vm",
            "test runc --yes lib --allow-missing docker",
            "bench --many",
            "bench --many 10 --binary x",
            "bench --records=10",
            "soak --seed 7 --rounds=3",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }
}
