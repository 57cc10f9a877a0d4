//! Namespaces in which an engine, its containers and the iceaxe that is tried on them run: a network of their own, so
//! that no bridge or packet filter of the machine is touched, and where it is asked for mounts of their own.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::process::Command;

use super::Program;
use crate::eventually;

/// How the cgroup hierarchies are mounted where the engine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// As on this machine.
    AsFound,
    /// The v2 hierarchy alone, as on most new hosts. The cgroups are the machine's own all the same, and a v1 freezer
    /// that it has holds nobody there.
    V2,
}

/// Where an engine keeps its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Places {
    /// In the test's own directory, and no configuration says so.
    Own,
    /// In its default places, with empty file systems mounted there that nobody else sees.
    Default,
}

const V2: &str = "if mountpoint -q /sys/fs/cgroup; then umount --recursive --lazy /sys/fs/cgroup; fi
mount -t cgroup2 unified /sys/fs/cgroup
";
const DEFAULT: &str = "mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 lib /var/lib
";

/// The namespaces, held by a process that sleeps.
#[derive(Debug)]
pub struct Room {
    holder: Program,
    has_mounts: bool,
}

impl Room {
    #[track_caller]
    pub fn open(layout: Layout, places: Places) -> Self {
        let mut script = String::new();
        if layout == Layout::V2 {
            script += V2;
        }
        if places == Places::Default {
            script += DEFAULT;
        }
        let has_mounts = !script.is_empty();
        let mut command = Command::new("unshare");
        command.arg("--net");
        if has_mounts {
            command.args(["--mount", "--propagation", "private"]);
        }
        command.args(["sh", "-ec", &(script + "exec sleep 100000")]);
        let mut holder = Program::start(&command);
        eventually("the namespaces are made", || {
            assert!(holder.is_running(), "{}", holder.errors());
            fs::read_to_string(format!("/proc/{}/comm", holder.pid())).is_ok_and(|comm| comm == "sleep\n")
        });
        Self { holder, has_mounts }
    }

    /// What stands before a command line for its program to run in here.
    pub fn prefix(&self) -> Vec<OsString> {
        let at =
            |option: &str, name: &str| format!("--{option}=/proc/{}/ns/{name}", self.holder.pid()).into();
        let mut words: Vec<OsString> = vec!["nsenter".into(), at("net", "net")];
        if self.has_mounts {
            words.push(at("mount", "mnt"));
        }
        words.push("--".into());
        words
    }

    /// A program in here.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let prefix = self.prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg(program);
        command
    }

    /// Where a path of in here is seen from outside.
    pub fn path(&self, path: &str) -> std::path::PathBuf {
        match self.has_mounts {
            true => format!("/proc/{}/root{path}", self.holder.pid()).into(),
            false => path.into(),
        }
    }
}
