//! The suites: what each needs, whether this machine can run it, and how it is run.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::artifacts::Program;
use crate::command::{self, Line, cargo, echoed, is_root, limited, workspace};
use crate::layout::{HUNG, Layout, View};
use crate::libtest::Tally;
use crate::packages::{self, Need};
use crate::{Result, soak, vm};

/// Long enough for the slowest suite several times over.
const LIMIT: Duration = Duration::from_secs(900);

/// A set of tests that is selected or not as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Unit and documentation tests, which need nothing of the machine.
    Lib,
    /// The kernel tests on this machine's kernel, as root, in a view of this layout.
    Host(Layout),
    /// The resolver on made-up hosts.
    Hosts,
    /// Rounds of freezing and thawing what does not keep still, in all hierarchies of this machine.
    Soak,
    /// Real docker containers.
    Docker,
    /// Real runc containers.
    Runc,
    /// Real containers of every engine under a systemd that boots in namespaces.
    Systemd,
    /// The kernel tests on another kernel.
    Vm(vm::Row),
}

/// A suite that can run here, with what was found out for it.
#[derive(Debug)]
pub(crate) enum Ready {
    Lib,
    Hosts,
    Host(Layout, View),
    Soak(Layout),
    Runtime(&'static str),
    Systemd(Layout),
    Vm(vm::Row, PathBuf),
}

/// Where the programs of the suites are.
#[derive(Debug)]
pub(crate) struct Built {
    /// Those for this machine.
    pub(crate) programs: Result<Vec<Program>>,
    /// The features that they were built with.
    pub(crate) features: String,
    /// The first file system of the virtual machines.
    pub(crate) initramfs: Result<PathBuf>,
}

impl Suite {
    /// All of them, in the order in which they run: the quick ones first.
    pub(crate) fn all() -> Vec<Self> {
        let host = [Layout::V1, Layout::V2, Layout::Hybrid].map(Self::Host);
        let mut all = vec![Self::Lib, Self::Hosts];
        all.extend(host);
        all.extend([Self::Soak, Self::Runc, Self::Docker, Self::Systemd]);
        all.extend(vm::Row::usual().into_iter().map(Self::Vm));
        all
    }

    /// Those that `ci --quick` runs.
    pub(crate) const QUICK: [Self; 3] = [Self::Lib, Self::Host(Layout::V1), Self::Host(Layout::V2)];

    /// All names, in the order in which they run.
    pub(crate) const NAMES: [&str; 10] = [
        "lib",
        "hosts",
        "host-v1",
        "host-v2",
        "host-hybrid",
        "soak",
        "runc",
        "docker",
        "systemd",
        "vm",
    ];

    /// What it is called in a request; all rows of virtual machines are called the same.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lib => "lib",
            Self::Host(Layout::V1) => "host-v1",
            Self::Host(Layout::V2) => "host-v2",
            Self::Host(Layout::Hybrid) => "host-hybrid",
            Self::Hosts => "hosts",
            Self::Soak => "soak",
            Self::Docker => "docker",
            Self::Runc => "runc",
            Self::Systemd => "systemd",
            Self::Vm(_) => "vm",
        }
    }

    /// What must be installed for it.
    pub(crate) fn needs(self) -> &'static [Need] {
        match self {
            Self::Lib | Self::Hosts => &[],
            Self::Soak => packages::SOAK,
            Self::Host(_) => packages::HOST,
            Self::Docker => packages::DOCKER,
            Self::Runc => packages::RUNC,
            Self::Systemd => packages::SYSTEMD,
            Self::Vm(_) => packages::VM,
        }
    }

    /// The feature of the crate that it is built with, also the stem of its test target's name.
    pub(crate) fn target(self) -> Option<&'static str> {
        match self {
            // Its programs are those of the kernel tests.
            Self::Host(_) | Self::Soak => Some("kernel"),
            Self::Hosts => Some("hosts"),
            Self::Docker => Some("docker"),
            Self::Runc => Some("runc"),
            Self::Systemd => Some("systemd"),
            Self::Lib | Self::Vm(_) => None,
        }
    }

    /// Finds out whether it can run here; the error says why it can't.
    pub(crate) fn select(self) -> Result<Ready> {
        packages::met(self.needs())?;
        if !is_root() && !matches!(self, Self::Lib | Self::Vm(_)) {
            return Err("only root can run it".to_owned());
        }
        match self {
            Self::Lib => Ok(Ready::Lib),
            Self::Host(layout) => Ok(Ready::Host(layout, View::of(layout)?)),
            Self::Hosts => Ok(Ready::Hosts),
            Self::Docker => Ok(Ready::Runtime("docker")),
            Self::Runc => Ok(Ready::Runtime("runc")),
            Self::Systemd => Layout::found().map(Ready::Systemd),
            Self::Soak => Layout::found().map(Ready::Soak),
            Self::Vm(row) => Ok(Ready::Vm(row, row.image()?)),
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(row) => row.fmt(f),
            suite => f.write_str(suite.name()),
        }
    }
}

/// The kernel tests that need CAP_SYS_RESOURCE.
const RAISED: &str = "that_may_be_raised";

/// Whether this process has CAP_SYS_RESOURCE, the 24th of include/uapi/linux/capability.h.
fn may_raise_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default(); // then it is not known to have it
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set & 1 << 24 != 0)
}

impl Ready {
    /// Runs it. The error says what went wrong beside the tests that failed.
    pub(crate) fn run(&self, built: &Built) -> (Tally, Result<()>) {
        match self {
            Self::Lib => self.run_lib(built),
            Self::Hosts => run_one(built, "hosts", |path| limited(LIMIT, path)),
            Self::Host(layout, view) => run_one(built, "kernel", |path| {
                let mut command = view.run(LIMIT, path);
                command.args(layout.filters());
                if *layout != Layout::V2 && !view.has_cpu() {
                    println!(
                        "not selected in {}: the tests of v1 CPU quotas, as /sys/fs/cgroup/cpu can't be had",
                        Suite::Host(*layout)
                    );
                    command.args(["--skip", "with_cpu::"]);
                }
                if !may_raise_limits() {
                    println!(
                        "not selected in {}: the tests of limits that are raised, as CAP_SYS_RESOURCE can't be had",
                        Suite::Host(*layout)
                    );
                    command.args(["--skip", RAISED]);
                }
                if !Path::new("/dev/fuse").exists() {
                    println!(
                        "not selected in {}: the tests of who hangs, as there is no /dev/fuse",
                        Suite::Host(*layout)
                    );
                    command.args(["--skip", HUNG]);
                }
                command
            }),
            Self::Runtime(name) => run_one(built, name, |path| {
                let mut command = limited(LIMIT, path);
                command.arg("--test-threads=1");
                if Layout::of_machine() != Some(Layout::Hybrid) {
                    println!(
                        "not selected in {name}: the tests of both hierarchies, which this machine has not"
                    );
                    command.args(["--skip", "hybrid::"]);
                }
                command
            }),
            Self::Systemd(machine) => run_one(built, "systemd", |path| {
                let mut command = limited(LIMIT, path);
                command.arg("--test-threads=1");
                for layout in machine.lacks() {
                    println!("not selected in systemd: {layout}, as the machine has only {machine}");
                    command.arg(format!("--skip={layout}::"));
                }
                command
            }),
            Self::Soak(machine) => {
                let programs = built.programs.as_ref().map_err(Clone::clone);
                match programs.and_then(|programs| soak::rounds(*machine, programs, &soak::Plan::few())) {
                    // One a hierarchy.
                    Ok(passed) => (
                        Tally {
                            passed,
                            ..Tally::default()
                        },
                        Ok(()),
                    ),
                    Err(error) => (Tally::default(), Err(error)),
                }
            }
            Self::Vm(row, image) => match built.initramfs.as_ref().map_err(Clone::clone) {
                Ok(initramfs) => judged(row.boot(image, initramfs)),
                Err(error) => (Tally::default(), Err(error)),
            },
        }
    }

    fn run_lib(&self, built: &Built) -> (Tally, Result<()>) {
        let programs = match &built.programs {
            Ok(programs) => programs,
            Err(error) => return (Tally::default(), Err(error.clone())),
        };
        let units = programs
            .iter()
            .filter(|program| program.is_test && program.kind != "test");
        let mut commands: Vec<Command> = units.map(|unit| runner(limited(LIMIT, &unit.path))).collect();
        commands.push(cargo(
            LIMIT,
            &[
                "test",
                "--quiet",
                "--doc",
                "--package",
                "iceaxe",
                "--features",
                &built.features,
            ],
        ));
        // As others use the crate. With the command line's features it always builds.
        let alone = [
            "check",
            "--quiet",
            "--package",
            "iceaxe",
            "--lib",
            "--no-default-features",
        ];
        commands.push(cargo(LIMIT, &alone));
        let mut all = Tally::default();
        let mut errors = Vec::new();
        for mut command in commands {
            println!("+ {}", command::line(&command));
            let (tally, end) = counted(echoed(&mut command));
            all.add(tally);
            errors.extend(end.err());
        }
        if all.passed == 0 {
            errors.push("no test ran".to_owned());
        }
        (
            all,
            if errors.is_empty() {
                Ok(())
            } else {
                Err(errors.join("; "))
            },
        )
    }
}

/// Runs the test runner of the target `name`, in the way that `command` says.
fn run_one(built: &Built, name: &str, command: impl Fn(&Path) -> Command) -> (Tally, Result<()>) {
    let program = built
        .programs
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|programs| {
            let found = programs
                .iter()
                .find(|program| program.is_test && program.kind == "test" && program.name == name);
            found.ok_or_else(|| format!("cargo built no test runner {name}"))
        });
    match program {
        Ok(program) => judged(echoed(&mut runner(command(&program.path)))),
        Err(error) => (Tally::default(), Err(error)),
    }
}

/// A test runner as cargo starts it.
fn runner(mut command: Command) -> Command {
    command.env("CARGO_MANIFEST_DIR", workspace());
    command
}

fn counted(ended: Result<(Result<()>, Vec<Line>)>) -> (Tally, Result<()>) {
    match ended {
        Ok((end, lines)) => (Tally::of(&lines), end),
        Err(error) => (Tally::default(), Err(error)),
    }
}

/// Counts one test runner's tests, and holds against it what its exit code alone does not tell.
fn judged(ended: Result<(Result<()>, Vec<Line>)>) -> (Tally, Result<()>) {
    let (tally, end) = counted(ended);
    let end = match end {
        Ok(()) if tally.runs == 0 => Err("it ended without a result".to_owned()),
        Ok(()) if tally.passed == 0 => Err("no test ran".to_owned()),
        Ok(()) if tally.ignored > 0 => Err(format!("{} tests are ignored", tally.ignored)),
        end => end,
    };
    (tally, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_not_believed_by_its_exit_code_alone() {
        let line = |text: &str| {
            let text = format!("test result: ok. {text}; 0 measured; 3 filtered out");
            let at = Duration::ZERO;
            vec![Line { text, at }]
        };
        for (lines, error) in [
            (line("2 passed; 0 failed; 0 ignored"), None),
            (line("0 passed; 0 failed; 0 ignored"), Some("no test ran")),
            (line("2 passed; 0 failed; 1 ignored"), Some("1 tests are ignored")),
            (vec![], Some("it ended without a result")),
        ] {
            assert_eq!(judged(Ok((Ok(()), lines))).1.err().as_deref(), error);
        }
        assert!(
            judged(Ok((
                Err("exit code 101".to_owned()),
                line("2 passed; 0 failed; 0 ignored")
            )))
            .1
            .is_err()
        );
    }

    #[test]
    fn every_suite_has_a_name_of_its_own_but_the_rows_of_machines() {
        let mut names: Vec<&str> = Suite::all().into_iter().map(Suite::name).collect();
        names.dedup();
        assert_eq!(names, Suite::NAMES);
    }
}
