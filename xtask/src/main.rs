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
mod lab;
mod layout;
mod libtest;
mod many;
mod packages;
mod pen;
mod records;
mod soak;
mod stats;
mod suites;
mod test;
mod tidy;
mod verdict;
mod vm;

use std::process::ExitCode;

/// What a task ends with when it did not do what it was asked for: a text for people, of one or more lines.
type Result<T> = std::result::Result<T, String>;

/// What can be asked for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    /// Installs what the tests need, then runs every suite that this machine can run.
    Test(test::Options),
    /// Checks formatting, lints, documentation and the tree, then runs the tests; insists on a minimum of suites.
    Ci(ci::Options),
    /// Boots other kernels in virtual machines and runs the kernel tests there.
    Vm(Vec<vm::Row>),
    /// Builds the static release binary and prints its path.
    Dist,
    /// Measures the release binary beside runc and beside the least that any program would have to do.
    Bench(bench::Options),
    /// Measures it on a host with very many containers.
    Records(records::Options),
    /// Measures it on many containers at once.
    Many(many::Options),
    /// Freezes and thaws many times what does not keep still.
    Soak(soak::Options),
    /// Checks what the compiler does not: who imports whom, lengths, links, the top level.
    Tidy,
    /// Prints the help.
    Help,
}

const HELP: &str = "\
usage: cargo xtask TASK

  test [--allow-missing=NAME]... [SUITE]...
            install what the tests need, then run every suite that this machine can run, or the named ones;
            with CI=true in the environment, fail if one of ci's minimum is missing
  ci [--quick] [--allow-missing=NAME]...
            formatting, lints, documentation, tidy, then test; fails if one of host-v1, host-v2, docker, runc, vm
            is missing; --quick: formatting, lints, lib, host-v1, host-v2
  vm [--all] [KERNEL LAYOUT]...
            boot Debian kernels (5.10, 6.1, 6.12), or this host's (host), with a layout of cgroups (v1, hybrid, v2)
            and run the kernel tests
  dist      build the static release binary; its path is the last line of standard output
  bench [--rounds N]
            measure the release binary beside runc and the floor; needs root
  bench --records [N]
            measure it beside N docker containers (10,000 if not said) and C loops that read their records; needs root
  bench --many [N] [--binary FILE]
            measure it, or FILE, on N containers at once (1,000 if not said), with five tasks each, beside C loops that
            read and write the same files; needs root
  soak [--rounds N] [--seed N]
            freeze and thaw 2,000 times in each hierarchy tasks that do not keep still, and hold each verdict against
            their pulses; then half as many holds and leases each, whose processes are killed anywhere; needs root
  tidy      check who imports whom, lengths, links, the top level

suites: lib, hosts, host-v1, host-v2, host-hybrid, soak, docker, runc, systemd, vm";

impl Task {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let task = words.next().unwrap_or_else(|| "help".to_owned());
        let rest: Vec<String> = words.collect();
        let none = |task: Self| {
            if rest.is_empty() {
                Ok(task)
            } else {
                Err(unknown(&rest[0]))
            }
        };
        match task.as_str() {
            "test" => test::Options::parse(&rest).map(Self::Test),
            "ci" => ci::Options::parse(&rest).map(Self::Ci),
            "vm" => vm::Row::parse_all(&rest).map(Self::Vm),
            "dist" => none(Self::Dist),
            "bench" if rest.first().is_some_and(|first| first == "--records") => {
                records::Options::parse(&rest[1..]).map(Self::Records)
            }
            "bench" if rest.first().is_some_and(|first| first == "--many") => {
                many::Options::parse(&rest[1..]).map(Self::Many)
            }
            "bench" => bench::Options::parse(&rest).map(Self::Bench),
            "soak" => soak::Options::parse(&rest).map(Self::Soak),
            "tidy" => none(Self::Tidy),
            "help" | "-h" | "--help" => Ok(Self::Help),
            other => Err(format!("no task {other:?}")),
        }
    }

    fn run(&self) -> Result<()> {
        match self {
            Self::Test(options) => test::run(options),
            Self::Ci(options) => ci::run(options),
            Self::Vm(rows) => vm::run(rows),
            Self::Dist => dist::run(),
            Self::Bench(options) => bench::run(options),
            Self::Records(options) => records::run(options),
            Self::Many(options) => many::run(options),
            Self::Soak(options) => soak::run(options),
            Self::Tidy => tidy::run(),
            Self::Help => {
                println!("{HELP}");
                Ok(())
            }
        }
    }
}

/// The usage error for a word that a task does not know.
fn unknown(word: &str) -> String {
    format!("unexpected argument {word:?}")
}

/// The number in `--name N` or `--name=N`, the only option of some tasks.
fn number_option(words: &[String], name: &str, default: u32) -> Result<u32> {
    let value = match words {
        [] => return Ok(default),
        [option, value] if option == name => value.as_str(),
        [option] => match option.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            Some(value) => value,
            None => return Err(unknown(option)),
        },
        [other, ..] => return Err(unknown(other)),
    };
    match value.parse() {
        Ok(0) | Err(_) => Err(format!("{name} needs a whole number above 0, not {value:?}")),
        Ok(number) => Ok(number),
    }
}

fn main() -> ExitCode {
    let task = match Task::parse(std::env::args().skip(1)) {
        Ok(task) => task,
        Err(error) => {
            eprintln!("xtask: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match task.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Task> {
        Task::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_task_in_the_help_is_known() {
        for task in ["test", "ci", "vm", "dist", "bench", "soak", "tidy"] {
            assert!(parse(task).is_ok(), "{task}");
            assert!(HELP.contains(&format!("\n  {task} ")), "{task}");
        }
        assert_eq!(parse(""), Ok(Task::Help));
    }

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
            "vm 6.1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn numbers_are_read_both_ways() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(number_option(&words("--rounds 7"), "--rounds", 1), Ok(7));
        assert_eq!(number_option(&words("--rounds=7"), "--rounds", 1), Ok(7));
        assert_eq!(number_option(&words(""), "--rounds", 1), Ok(1));
        for line in [
            "--rounds",
            "--rounds 0",
            "--rounds=x",
            "--rounds 1 2",
            "--hours 1",
            "--roundsx=3",
        ] {
            assert!(number_option(&words(line), "--rounds", 1).is_err(), "{line}");
        }
    }
}
