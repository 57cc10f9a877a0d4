//! Where things are on the host that is worked on: its /proc, its cgroup mounts, its /run, /var and /etc.
//! A value that is passed along, never a global, so that a host mounted elsewhere and a made-up one in a test work alike.

mod files;
mod filesystem;
mod mounts;
mod namespaces;
mod pressure;
mod proc;
mod process;
pub(crate) mod program;
mod stat;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize};

use crate::error::Result;

use files::read_piece;
pub(crate) use files::{open_beneath, open_dir, open_on_mount, read_number, read_whole};
pub use filesystem::{Filesystem, FilesystemId};
pub use mounts::Mount;
pub(crate) use mounts::{MountLine, is_cgroup, mount_lines};
pub(crate) use namespaces::{ENTER_CGROUP_NAMESPACE, ENTER_PID_NAMESPACE};
pub use pressure::{Percent, Pressure, Resource};
pub(crate) use proc::{Lock, Proc, Reader, SHORT, TaskDir, Vigil, read_open};
pub(crate) use process::{PF_EXITING, comm_alive, is_dead, numbers_of, status_field, text_of};
pub(crate) use stat::{Stat, parse_schedstat, parse_stat};

/// One of the two kinds of cgroup tree that can freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hierarchy {
    /// The v1 hierarchy with the freezer controller: `freezer.state`.
    V1,
    /// The unified hierarchy: `cgroup.freeze`, since Linux 5.2.
    V2,
}

impl Hierarchy {
    /// 1 or 2, as in the JSON output.
    #[must_use]
    pub fn version(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V1 => Self::V2,
            Self::V2 => Self::V1,
        }
    }
}

/// The running kernel's version, as far as the evidence depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// 6 of 6.12.
    pub major: u32,
    /// 12 of 6.12.
    pub minor: u32,
}

impl Kernel {
    /// Reads `6.12.9-amd64`; what can't be read counts as a current kernel.
    #[must_use]
    pub fn parse(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Self { major, minor },
            _ => Self {
                major: u32::MAX,
                minor: 0,
            },
        }
    }

    /// Whether frozen tasks of v1 carry `PF_FROZEN` in their flags: until f5d39b020809 (Linux 6.1).
    #[must_use]
    pub fn has_frozen_flag(self) -> bool {
        self < Self { major: 6, minor: 1 }
    }

    /// Whether v1 can stick at FREEZING with no task to blame until it is thawed and asked again: a task that was attached
    /// while it was FROZEN is not frozen, and asking again does nothing. cff5f49d433f brought that to 6.7, and to the
    /// stable 6.1 and 6.6; 37fb58a72737 took it out in 6.16 and in stable ones, which the version does not tell.
    #[must_use]
    pub fn sticks_at_freezing(self) -> bool {
        (Self { major: 6, minor: 1 }..Self { major: 6, minor: 16 }).contains(&self)
    }
}

/// A host: where its /proc, its cgroup mounts and its runtimes' files are. Copies share what is open, and what is known of tasks
/// that hang.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    /// Open where the host's root is not this program's own.
    root_fd: Option<Arc<OwnedFd>>,
    proc_dir: PathBuf,
    proc: Proc,
    mounts: Vec<Mount>,
    /// Why it is not known whether there are more.
    unlooked: Option<String>,
    kernel: Kernel,
    genuine: bool,
    /// Looked up once, for [`Host::sees_every_task`].
    every_task: OnceLock<bool>,
}

impl Host {
    /// The host that this program runs on.
    ///
    /// # Errors
    ///
    /// /proc can't be opened.
    pub fn system() -> Result<Self> {
        Self::at(Path::new("/"))
    }

    /// The host whose file system is mounted at `root`, with its own /proc and /sys/fs/cgroup below.
    ///
    /// # Errors
    ///
    /// Its /proc can't be opened.
    pub fn at(root: &Path) -> Result<Self> {
        Self::open(root, true)
    }

    /// The host mounted at `root`, for a program whose namespaces are its own business. Where the kernel shows cgroups
    /// outside of the calling thread's cgroup namespace, the thread is moved into that of the host's first process, with all threads
    /// that it starts from then on. Nothing in the text of a path like `/../5978…` says where that is, so it is done
    /// before any other path is read.
    ///
    /// # Errors
    ///
    /// As [`Host::at`]; [`crate::Error::Unsupported`] where that namespace can't be entered, which takes CAP_SYS_ADMIN and
    /// the right to look at that process, or where what is mounted as the host's cgroups is a part of them.
    ///
    /// # Kernel
    ///
    /// `cgroupns_install()`, kernel/cgroup/namespace.c.
    pub fn enter(root: &Path) -> Result<Self> {
        let mut host = Self::without_mounts(root, true)?;
        host.enter_cgroup_namespace()?;
        host.find_mounts();
        host.check_mounts()?;
        Ok(host)
    }

    /// A made-up host for tests: plain files in the place of kernel file systems, told apart by their names
    /// (`cgroup.controllers` marks v2), since a plain directory has no cgroup magic.
    ///
    /// # Errors
    ///
    /// Its proc directory can't be opened.
    #[doc(hidden)]
    pub fn made_up(root: &Path) -> Result<Self> {
        Self::open(root, false)
    }

    fn open(root: &Path, genuine: bool) -> Result<Self> {
        let mut host = Self::without_mounts(root, genuine)?;
        host.find_mounts();
        Ok(host)
    }

    fn without_mounts(root: &Path, genuine: bool) -> Result<Self> {
        let proc_dir = root.join("proc");
        let proc_fd = open_dir(&proc_dir)?;
        let is_own = root == Path::new("/");
        let release = nix::sys::utsname::uname()
            .map(|names| names.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let host = Self {
            root: root.to_owned(),
            root_fd: if is_own {
                None
            } else {
                Some(Arc::new(open_dir(root)?))
            },
            proc_dir,
            proc: Proc::new(proc_fd, genuine),
            mounts: Vec::new(),
            unlooked: None,
            kernel: Kernel::parse(&release),
            genuine,
            every_task: OnceLock::new(),
        };
        if genuine {
            host.check_proc()?;
            host.check_pid_namespace()?;
            host.check_time_namespace()?;
        }
        Ok(host)
    }

    /// Where the host's root directory is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `path` (absolute, as the host's own programs say it) as it is reached from here.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.inside(Path::new(path))
    }

    /// Where its /proc is.
    #[must_use]
    pub fn proc_dir(&self) -> &Path {
        &self.proc_dir
    }

    /// The processes in there.
    pub(crate) fn proc(&self) -> &Proc {
        &self.proc
    }

    /// Does something that reads files of processes and changes nothing, in a thread that can be left behind: where a task
    /// hangs it is done again from the beginning, without that task. Each read of it is a plain one there.
    pub(crate) fn aside<T: Send + 'static>(&self, work: impl Fn(&Self) -> T + Send + Sync + 'static) -> T {
        let host = self.another();
        self.proc.aside(move || work(&host))
    }

    /// Whether this thread can be left behind, so that each read of a process's files is a plain one.
    pub(crate) fn is_aside(&self) -> bool {
        self.proc.is_aside()
    }

    /// Reads a file below /proc that is the kernel's, this process's own or one of the first process's namespaces: those of
    /// other processes are for [`Proc`] alone, as they can hang. `None` where it may not be read.
    pub(crate) fn read_proc(&self, path: &str) -> Option<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(self.proc.dir(), path, flags, Mode::empty()).ok()?; // this kernel has no such file
        read_whole(&fd, None, u64::MAX).ok() // as above
    }

    /// Reads such a file below /proc as [`Host::read_proc`] does, where the kernel makes it as one piece: one read is enough.
    pub(crate) fn read_proc_piece(&self, path: &str) -> Option<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(self.proc.dir(), path, flags, Mode::empty()).ok()?; // as above
        read_piece(&fd).ok() // as above
    }

    /// When this host booted, in seconds since 1970, as its clock has it now; `None` where it is not told.
    pub(crate) fn booted(&self) -> Option<i64> {
        let text = self.read_proc("stat")?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok() // not told, then
    }

    /// Whether a task is there, whatever may be read of it.
    pub(crate) fn has_process(&self, tid: i32) -> bool {
        let listed = self.proc.one(Lock::None, tid, move |reader| reader.task(tid));
        !matches!(listed, Ok(Ok(None)))
    }

    /// Reads where a link below /proc leads, of the files that [`Host::read_proc`] is for.
    pub(crate) fn read_proc_link(&self, path: &str) -> Option<PathBuf> {
        nix::fcntl::readlinkat(self.proc.dir(), path)
            .ok() // there is no such link, or it may not be read
            .map(PathBuf::from)
    }

    /// A second handle on the same host. Both know the same of processes that hang.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            root: self.root.clone(),
            root_fd: self.root_fd.clone(),
            proc_dir: self.proc_dir.clone(),
            proc: self.proc.clone(),
            mounts: self.mounts.clone(),
            unlooked: self.unlooked.clone(),
            kernel: self.kernel,
            genuine: self.genuine,
            every_task: self.every_task.clone(),
        }
    }

    /// The cgroup mounts with a freezer, at most one of each kind.
    #[must_use]
    pub fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// The mount of one hierarchy, where the host has it.
    #[must_use]
    pub fn mount(&self, hierarchy: Hierarchy) -> Option<&Mount> {
        self.mounts.iter().find(|mount| mount.hierarchy == hierarchy)
    }

    /// The kernel's version.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Whether directories below the mounts must be on a cgroup file system.
    pub(crate) fn is_genuine(&self) -> bool {
        self.genuine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read_from_any_release() {
        for (release, major, minor) in [
            ("6.18.44-fc", 6, 18),
            ("5.10.0-46-cloud-amd64", 5, 10),
            ("6.1", 6, 1),
            ("odd", u32::MAX, 0),
        ] {
            assert_eq!(Kernel::parse(release), Kernel { major, minor }, "{release}");
        }
        assert!(Kernel::parse("5.10.1").has_frozen_flag() && !Kernel::parse("6.1.0").has_frozen_flag());
    }
}
