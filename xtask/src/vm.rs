//! Boots other kernels with an emulated processor (no KVM needed) and runs the kernel tests as their only work. The
//! first file system holds `vminit`, the test runner, and the programs that it starts, all static.

use std::env::consts::ARCH;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{Line, echoed, limited, target_dir};
use crate::cpio::Archive;
use crate::dist::{only, static_cargo};
use crate::kernels::{KERNELS, Kernel};
use crate::layout::{HUNG, Layout};
use crate::packages::Install;
use crate::{Result, artifacts};

/// All tests together take up to 6 minutes with an emulated processor, a boot 3 s of it (measured on two cores).
const LIMIT: Duration = Duration::from_secs(1200);
/// What the first process of the machine writes last; without it the machine did not get that far.
const CLOSING: &str = "iceaxe-vm-exit ";

/// A kernel and a layout of its cgroup mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    kernel: &'static Kernel,
    layout: Layout,
}

impl Row {
    /// The rows that `test` runs: the oldest and the newest way in which kernels in wide use tell of frozen tasks.
    pub(crate) fn usual() -> Vec<Self> {
        let [_, k6_1, k6_12, _] = &KERNELS;
        vec![
            Self {
                kernel: k6_1,
                layout: Layout::V1,
            },
            Self {
                kernel: k6_12,
                layout: Layout::V2,
            },
        ]
    }

    /// Each kernel in each layout.
    fn all() -> Vec<Self> {
        KERNELS
            .iter()
            .flat_map(|kernel| Layout::ALL.map(|layout| Self { kernel, layout }))
            .collect()
    }

    fn parse(pair: &[String]) -> Result<Self> {
        match pair {
            [kernel, layout] => Ok(Self {
                kernel: Kernel::named(kernel)?,
                layout: layout.parse()?,
            }),
            alone => Err(format!("{} without a layout", alone.concat())),
        }
    }

    /// The kernel's image, or why this row can't be run here.
    pub(crate) fn image(self) -> Result<PathBuf> {
        if ARCH != "x86_64" {
            return Err(format!("the kernels are for x86_64, this machine is {ARCH}"));
        }
        self.kernel.image()
    }

    /// Boots `image` and returns how the tests ended, and what they printed.
    pub(crate) fn boot(self, image: &Path, initramfs: &Path) -> Result<(Result<()>, Vec<Line>)> {
        let console = target_dir()
            .join("vm")
            .join(format!("console-{}-{}.log", self.kernel.name, self.layout));
        let (end, lines) = echoed(&mut self.qemu(image, initramfs, &console))?;
        let end = end.and_then(|()| {
            match lines
                .iter()
                .rev()
                .find_map(|line| line.text.strip_prefix(CLOSING))
            {
                Some("0") => Ok(()),
                Some(code) => Err(format!("exit code {code}")),
                None => Err(format!(
                    "the machine did not come to its end; its console is in {}",
                    console.display()
                )),
            }
        });
        Ok((end, lines))
    }

    /// The tests that fit the layout; both hierarchies together fit all.
    fn filters(self) -> String {
        let mut filters = match self.layout {
            Layout::Hybrid => Vec::new(),
            Layout::V1 | Layout::V2 => self.layout.filters().to_vec(),
        };
        filters.extend(["--skip", HUNG]);
        filters.join(" ")
    }

    fn qemu(self, image: &Path, initramfs: &Path, console: &Path) -> Command {
        let mut command = limited(LIMIT, "qemu-system-x86_64");
        command
            .args(
                "-accel tcg -cpu max -m 512 -smp 2 -nodefaults -no-user-config -display none -no-reboot"
                    .split(' '),
            )
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio", "-kernel"])
            .arg(image)
            .arg("-initrd")
            .arg(initramfs)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 quiet panic=-1 cg={} -- {}",
                self.layout,
                self.filters()
            ));
        command
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vm {} {}", self.kernel.name, self.layout)
    }
}

/// What was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Boot every kernel with every layout.
    #[arg(long, conflicts_with = "rows")]
    all: bool,
    /// 5.10, 6.1, 6.12, or this host's (host); then v1, hybrid or v2.
    #[arg(value_name = "KERNEL LAYOUT")]
    rows: Vec<String>,
    #[command(flatten)]
    pub(crate) install: Install,
}

impl Options {
    /// The rows that are meant.
    pub(crate) fn rows(&self) -> Result<Vec<Row>> {
        match &self.rows[..] {
            [] if self.all => Ok(Row::all()),
            [] => Ok(Row::usual()),
            pairs => pairs.chunks(2).map(Row::parse).collect(),
        }
    }
}

/// Builds the first file system and returns its path.
pub(crate) fn initramfs() -> Result<PathBuf> {
    let mut tests = static_cargo(&[
        "test",
        "--no-run",
        "--package",
        "iceaxe",
        "--features",
        "kernel-tests",
        "--test",
        "kernel",
    ]);
    // Link-time optimization doubles the build and buys nothing here.
    tests.env("CARGO_PROFILE_RELEASE_LTO", "off");
    tests.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    let tests = artifacts::build(&mut tests)?;
    let kernel = tests
        .iter()
        .find(|program| program.name == "kernel" && program.is_test);
    let kernel = kernel.ok_or("cargo built no test runner kernel")?;
    let mut archive = Archive::default();
    archive.directory("t");
    for (path, program) in [
        ("init", only(&tests, "vminit")?),
        ("t/kernel", kernel),
        ("t/iceaxe", only(&tests, "iceaxe")?),
        ("t/zoo", only(&tests, "zoo")?),
    ] {
        let content = fs::read(&program.path);
        archive.program(
            path,
            &content.map_err(|error| format!("cannot read {}: {error}", program.path.display()))?,
        );
    }
    let path = target_dir().join("vm").join("initramfs.cpio");
    fs::write(&path, archive.finish())
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(line: &str) -> Result<Vec<String>> {
        match crate::parse(&format!("vm {line}")) {
            Ok(crate::Task::Vm(options)) => Ok(options.rows()?.iter().map(Row::to_string).collect()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn rows_are_named_by_kernel_and_layout() {
        assert_eq!(
            rows("5.10 v1 6.1 hybrid").unwrap(),
            ["vm 5.10 v1", "vm 6.1 hybrid"]
        );
        assert_eq!(rows("").unwrap(), ["vm 6.1 v1", "vm 6.12 v2"]);
        assert_eq!(rows("--all").unwrap().len(), 12);
        for line in ["6.1", "6.1 v3", "4.19 v1", "--every", "6.1 v1 6.12"] {
            assert!(rows(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_tests_of_a_layout_are_asked_for_on_the_kernels_command_line() {
        let row = Row::usual()[1];
        let line = crate::command::line(&row.qemu(Path::new("k"), Path::new("i"), Path::new("c")));
        assert!(
            line.ends_with("-append console=ttyS0 quiet panic=-1 cg=v2 -- v2:: any:: --skip hung::"),
            "{line}"
        );
        assert!(line.starts_with("qemu-system-x86_64 "), "{line}");
    }
}
