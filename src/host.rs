//! Where things are on the host that is worked on: its /proc, its cgroup mounts, its /run, /var and /etc.
//! A value that is passed along, never a global, so that a host mounted elsewhere and a made-up one in a test work alike.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, fstatfs};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What to do where tasks are in another PID namespace.
pub(crate) const ENTER_PID_NAMESPACE: &str =
    "run iceaxe in the host's, with nsenter --target 1 --pid --mount, or docker run --pid=host";

/// What to do where the kernel shows cgroups outside of the caller's cgroup namespace.
pub(crate) const ENTER_CGROUP_NAMESPACE: &str =
    "run iceaxe in the host's, with nsenter --target 1 --cgroup, or docker run --cgroupns=host";

/// The inode of a whole hierarchy's root directory: kernfs counts from 1.
const WHOLE: u64 = 1;
/// As many links as the kernel follows in one path (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: u32 = 40;

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

/// A mounted cgroup hierarchy.
#[derive(Debug)]
pub struct Mount {
    /// Which kind.
    pub hierarchy: Hierarchy,
    /// Where it is mounted.
    pub dir: PathBuf,
    fd: OwnedFd,
}

impl Mount {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
}

/// A host's places.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    /// Open where the host's root is not this program's own.
    root_fd: Option<OwnedFd>,
    proc_dir: PathBuf,
    proc_fd: OwnedFd,
    mounts: Vec<Mount>,
    kernel: Kernel,
    genuine: bool,
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

    /// The same for a program whose namespaces are its own business. Where the kernel shows cgroups outside of the
    /// calling thread's cgroup namespace, the thread is moved into that of the host's first process, with all threads
    /// that it starts from then on. Nothing in the text of a path like `/../5978…` says where that is, so it is done
    /// before any other path is read.
    ///
    /// # Errors
    ///
    /// As [`Host::at`]; [`Error::Unsupported`] where that namespace can't be entered, which takes CAP_SYS_ADMIN and
    /// the right to look at that process, or where what is mounted as the host's cgroups is a part of them.
    ///
    /// # Kernel
    ///
    /// `cgroupns_install()`, kernel/cgroup/namespace.c.
    pub fn enter(root: &Path) -> Result<Self> {
        let mut host = Self::without_mounts(root, true)?;
        let entered = host.enter_cgroup_namespace()?;
        host.mounts = host.find_mounts();
        if entered || host.root_fd.is_some() {
            host.check_mounts()?;
        }
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
        host.mounts = host.find_mounts();
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
            root_fd: if is_own { None } else { Some(open_dir(root)?) },
            proc_dir,
            proc_fd,
            mounts: Vec::new(),
            kernel: Kernel::parse(&release),
            genuine,
        };
        if genuine {
            host.check_proc()?;
            host.check_pid_namespace()?;
            host.check_time_namespace()?;
        }
        Ok(host)
    }

    /// A bind mount of a host's root that leaves out what is mounted below shows an empty directory.
    fn check_proc(&self) -> Result<()> {
        if fstatfs(&self.proc_fd).is_ok_and(|stat| stat.filesystem_type() == PROC_SUPER_MAGIC) {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "{} is no proc file system: mount the host's root with all that is mounted below it, as docker run \
             --volume /:DIR and mount --rbind do",
            self.proc_dir.display()
        )))
    }

    /// Cgroups list their tasks by their numbers in the reader's PID namespace, and /proc has them by those of its own.
    /// Where the two differ, no task could be told from another.
    fn check_pid_namespace(&self) -> Result<()> {
        let here = self.read_proc_link("self");
        if here.as_deref() == Some(Path::new(&std::process::id().to_string())) {
            return Ok(());
        }
        Err(Error::Unsupported(format!(
            "{} is of another PID namespace than iceaxe: {ENTER_PID_NAMESPACE}",
            self.proc_dir.display()
        )))
    }

    /// A process's start time, with its number who it is, is shown by the reader's clock. What a runtime has on record
    /// was read by that of its host.
    ///
    /// # Kernel
    ///
    /// `do_task_stat()`, fs/proc/array.c, adds the reader's offset (`timens_add_boottime_ns()`), since Linux 5.5.
    /// `timens_offsets` is everybody's to read; the links in `ns` are not.
    fn check_time_namespace(&self) -> Result<()> {
        let here = self
            .read_proc("self/timens_offsets")
            .and_then(|text| boot_offset(&text));
        let there = self
            .read_proc("1/timens_offsets")
            .and_then(|text| boot_offset(&text));
        match (here, there) {
            (Some(here), Some(there)) if here != there => Err(Error::Unsupported(format!(
                "iceaxe is in another time namespace than the first process of {}: processes could not be told by \
                 when they started: run iceaxe in the host's, with nsenter --target 1 --time",
                self.proc_dir.display()
            ))),
            _ => Ok(()), // a kernel without them has one clock
        }
    }

    /// Moves this thread to where the host's paths can be read, if it is not there; says whether it had to.
    fn enter_cgroup_namespace(&self) -> Result<bool> {
        let Some(shown) = self.shown_outside() else {
            return Ok(false);
        };
        let first = self.proc_dir.join("1/ns/cgroup");
        let mut refused = None;
        // A first process that is closed to the caller, by a capability that it has more or by a security module, need
        // not be asked: the second of the first PID namespace is the kernel's own, and is in no other namespace.
        for pid in if self.sees_every_task() {
            &["1", "2"][..]
        } else {
            &["1"]
        } {
            match self.enter_cgroup_namespace_of(pid) {
                Ok(()) if self.shown_outside().is_none() => return Ok(true),
                Ok(()) => {}
                Err(errno) => drop(refused.get_or_insert(errno)),
            }
        }
        let why = refused.map_or_else(
            || format!("{} shows no more", first.display()),
            |errno| format!("{} can't be entered: {}", first.display(), errno.desc()),
        );
        Err(Error::Unsupported(format!(
            "the kernel shows the host's cgroups as {}, outside of the cgroup namespace that iceaxe runs in, and {why}: \
             give iceaxe the capabilities for that, as docker run --privileged does, or {ENTER_CGROUP_NAMESPACE}",
            shown.display()
        )))
    }

    fn enter_cgroup_namespace_of(&self, pid: &str) -> nix::Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = openat(
            &self.proc_fd,
            format!("{pid}/ns/cgroup").as_str(),
            flags,
            Mode::empty(),
        )?;
        setns(namespace, CloneFlags::CLONE_NEWCGROUP)
    }

    /// The path of this process's or of the first one's cgroup in a hierarchy that freezes, if it leads out of this
    /// thread's cgroup namespace.
    fn shown_outside(&self) -> Option<PathBuf> {
        ["self", "1"].into_iter().find_map(|pid| {
            let lines = self.read_proc(&format!("{pid}/cgroup"))?; // it may not be read: nothing is shown
            let outside = freezing_lines(&lines).find(|(_, path)| path.starts_with("/.."));
            outside.map(|(_, path)| path.to_owned())
        })
    }

    /// A mount of a part of a hierarchy has other paths than the hierarchy itself. mountinfo is read only where a
    /// mount's directory is not the whole's: a nested host's whole is a part of another.
    fn check_mounts(&self) -> Result<()> {
        for mount in &self.mounts {
            if fstat(&mount.fd).is_ok_and(|stat| stat.st_ino == WHOLE) {
                continue;
            }
            let root = self.mounted_root(mount.fd());
            if root.as_deref() != Some(Path::new("/")) {
                let shown = root.map_or_else(|| "a part".to_owned(), |root| root.display().to_string());
                return Err(Error::Unsupported(format!(
                    "{} shows only {shown} of its cgroup hierarchy: mount the host's root somewhere, with docker run \
                     --volume /:DIR, and say --root DIR",
                    mount.dir.display(),
                )));
            }
        }
        Ok(())
    }

    /// Which directory of its file system is mounted where an open directory is.
    fn mounted_root(&self, dir: BorrowedFd<'_>) -> Option<PathBuf> {
        let info = self.read_proc(&format!("self/fdinfo/{}", dir.as_raw_fd()))?; // it is always there for ourselves
        let mut lines = info.split(|&byte| byte == b'\n');
        let id = lines.find_map(|line| line.strip_prefix(b"mnt_id:"))?.trim_ascii();
        let text = self.read_proc("self/mountinfo")?; // as above
        mount_lines(&text)
            .find(|line| line.id == id)
            .map(|line| line.root)
    }

    /// Whether every task of this kernel has a number here: in the first PID namespace, whose inode the kernel fixes
    /// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
    pub(crate) fn sees_every_task(&self) -> bool {
        !self.genuine || self.read_proc_link("self/ns/pid").as_deref() == Some(Path::new("pid:[4026531836]"))
    }

    /// The usual places by `statfs` first: /proc/self/mountinfo has several lines per container and takes a lock
    /// that a stuck mount holds (`namespace_sem`), so it is read only where those places have no freezer of v1 though
    /// the kernel runs one, or none at all.
    fn find_mounts(&self) -> Vec<Mount> {
        let mut mounts = Vec::new();
        match self.mount_at(Path::new("/sys/fs/cgroup"), Hierarchy::V2) {
            Some(mount) => mounts.push(mount),
            None => {
                mounts.extend(self.mount_at(Path::new("/sys/fs/cgroup/freezer"), Hierarchy::V1));
                mounts.extend(self.mount_at(Path::new("/sys/fs/cgroup/unified"), Hierarchy::V2));
            }
        }
        let lacks_v1 = mounts.iter().all(|mount| mount.hierarchy != Hierarchy::V1);
        if self.genuine && (mounts.is_empty() || (lacks_v1 && self.runs_v1_freezer())) {
            for (dir, hierarchy) in self.mounts_by_mountinfo() {
                if mounts.iter().all(|mount: &Mount| mount.hierarchy != hierarchy) {
                    mounts.extend(self.mount_at(&dir, hierarchy));
                }
            }
        }
        mounts
    }

    /// Whether a v1 hierarchy has the freezer, mounted somewhere or not: /proc/self/cgroup has a line of it.
    fn runs_v1_freezer(&self) -> bool {
        let lines = self.read_proc("self/cgroup").unwrap_or_default(); // it is always there for ourselves
        freezing_lines(&lines).any(|(hierarchy, _)| hierarchy == Hierarchy::V1)
    }

    /// The mount at `path`, as the host's own programs say it.
    fn mount_at(&self, path: &Path, hierarchy: Hierarchy) -> Option<Mount> {
        let fd = self.open_dir_inside(path).ok()?; // not there: this host has no such mount at this place
        let dir = self.root.join(path.strip_prefix("/").unwrap_or(path));
        let right = if self.genuine {
            is_cgroup(fd.as_fd(), hierarchy)
        } else {
            dir.join("cgroup.controllers").exists() == (hierarchy == Hierarchy::V2)
        };
        right.then_some(Mount { hierarchy, dir, fd })
    }

    fn mounts_by_mountinfo(&self) -> Vec<(PathBuf, Hierarchy)> {
        // A mountinfo that can't be read leaves the host without a freezer, which every verb reports.
        let text = self.read_proc("self/mountinfo").unwrap_or_default();
        // It is this process's own, and has places as they are reached from here.
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone()); // it is open: it is there
        mount_lines(&text)
            .filter(|line| line.root == Path::new("/")) // a part of a hierarchy is not the hierarchy
            .filter_map(|line| {
                let below = line.dir.strip_prefix(&root).ok()?; // not the host's
                Some((Path::new("/").join(below), line.hierarchy()?))
            })
            .collect()
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

    pub(crate) fn proc_fd(&self) -> BorrowedFd<'_> {
        self.proc_fd.as_fd()
    }

    /// An absolute path as the host's own programs say it, as it is reached from here: links on the way lead to where
    /// they lead for those, also absolute ones, and never out of the host's root.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        if self.root_fd.is_none() {
            return Path::new("/").join(path);
        }
        let mut place = PathBuf::new();
        let mut links = 0;
        let mut left = parts(path);
        while let Some(part) = left.pop() {
            if part == ".." {
                place.pop();
                continue;
            }
            // What is no link, is not there or may not be read stays as it is called; whoever opens it is told.
            match self.root.join(&place).join(&part).read_link() {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        place.clear();
                    }
                    left.extend(parts(&target));
                }
                _ => place.push(part),
            }
        }
        self.root.join(place)
    }

    /// Opens a directory by its absolute path as the host's own programs say it. No link leads out of the host's root,
    /// whoever changes one meanwhile.
    ///
    /// # Errors
    ///
    /// It is not there, or may not be opened.
    ///
    /// # Kernel
    ///
    /// `openat2()` with `RESOLVE_IN_ROOT`, since Linux 5.6.
    pub fn open_dir_inside(&self, path: &Path) -> Result<OwnedFd> {
        let Some(root) = &self.root_fd else {
            return open_dir(path);
        };
        let below = match path.strip_prefix("/") {
            Ok(below) if below.as_os_str().is_empty() => Path::new("."),
            Ok(below) => below,
            Err(_) => path,
        };
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        match openat2(root, below, how) {
            Ok(fd) => Ok(fd),
            // An older kernel, a filter of system calls that does not know it, or a rename on the way.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => open_dir(&self.inside(path)),
            Err(errno) => Err(Error::io("open", &self.root.join(below), errno.into())),
        }
    }

    /// Reads a file below /proc; `None` where it is gone or may not be read.
    pub(crate) fn read_proc(&self, path: &str) -> Option<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&self.proc_fd, path, flags, Mode::empty()).ok()?; // a process may end at any time
        read_whole(&fd, PROC_FILE, u64::MAX).ok() // as above: ESRCH
    }

    /// When this host booted, in seconds since 1970, as its clock has it now; `None` where it is not told.
    pub(crate) fn booted(&self) -> Option<i64> {
        let text = self.read_proc("stat")?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
        line.trim().parse().ok() // not told, then
    }

    /// Reads a link below /proc; `None` where it is gone or may not be read.
    pub(crate) fn read_proc_link(&self, path: &str) -> Option<PathBuf> {
        nix::fcntl::readlinkat(&self.proc_fd, path)
            .ok()
            .map(PathBuf::from) // as in read_proc
    }

    /// A second handle on the same host.
    ///
    /// # Errors
    ///
    /// No descriptor is free.
    pub fn try_clone(&self) -> Result<Self> {
        let failed = |cause| Error::io("open", &self.root, cause);
        let mounts = self.mounts.iter().map(|mount| {
            let fd = mount.fd.try_clone().map_err(failed)?;
            Ok(Mount {
                hierarchy: mount.hierarchy,
                dir: mount.dir.clone(),
                fd,
            })
        });
        Ok(Self {
            root: self.root.clone(),
            root_fd: match &self.root_fd {
                Some(fd) => Some(fd.try_clone().map_err(failed)?),
                None => None,
            },
            proc_dir: self.proc_dir.clone(),
            proc_fd: self.proc_fd.try_clone().map_err(failed)?,
            mounts: mounts.collect::<Result<_>>()?,
            kernel: self.kernel,
            genuine: self.genuine,
        })
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

/// What most files below /proc fit into.
const PROC_FILE: usize = 1024;

/// Reads a file to its end, or until it has more than `most` bytes. `expected` is what it is thought to have: one byte
/// more is asked for, so that the end shows with the second read.
pub(crate) fn read_whole(fd: &OwnedFd, expected: usize, most: u64) -> std::io::Result<Vec<u8>> {
    let mut text = vec![0; expected + 1];
    let mut length = 0;
    loop {
        match nix::unistd::read(fd, &mut text[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if length as u64 > most {
            break;
        }
        if length == text.len() {
            text.resize(length * 2, 0);
        }
    }
    text.truncate(length);
    Ok(text)
}

/// Whether `dir` is on a cgroup file system of that kind.
pub(crate) fn is_cgroup(dir: BorrowedFd<'_>, hierarchy: Hierarchy) -> bool {
    let magic: FsType = match hierarchy {
        Hierarchy::V1 => CGROUP_SUPER_MAGIC,
        Hierarchy::V2 => CGROUP2_SUPER_MAGIC,
    };
    fstatfs(dir).is_ok_and(|stat| stat.filesystem_type() == magic)
}

pub(crate) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    open(
        dir,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::io("open", dir, errno.into()))
}

/// Opens what is below a directory by a relative path, following no link on the way and leading nowhere else. Where the
/// kernel can do it in one call it does (`openat2`, since Linux 5.6); else, or where a container's system call filter
/// does not know it, name by name.
pub(crate) fn open_beneath(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
) -> std::result::Result<OwnedFd, Errno> {
    // openat2 takes the empty path for no path at all.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    match openat2(dir, path, OpenHow::new().flags(flags).resolve(resolve)) {
        Err(Errno::ENOSYS | Errno::EPERM) => {}
        result => return result,
    }
    let mut parts = path.components().peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => OsStr::new("."),
            _ => return Err(Errno::EXDEV), // as openat2 says of what leads out
        };
        let flags = match parts.peek() {
            Some(_) => OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            None => flags,
        };
        let from = at.as_ref().map_or(dir, AsFd::as_fd);
        at = Some(openat(from, name, flags | OFlag::O_NOFOLLOW, Mode::empty())?);
    }
    at.ok_or(Errno::ENOENT)
}

/// The names in a path, the last one first; `..` is one of them.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

/// The lines of a `/proc/PID/cgroup` that are of hierarchies that freeze, with their paths.
fn freezing_lines(text: &[u8]) -> impl Iterator<Item = (Hierarchy, &Path)> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let hierarchy = if number == b"0" {
            Hierarchy::V2
        } else if controllers
            .split(|&byte| byte == b',')
            .any(|name| name == b"freezer")
        {
            Hierarchy::V1
        } else {
            return None;
        };
        Some((hierarchy, Path::new(OsStr::from_bytes(path))))
    })
}

/// The seconds and nanoseconds of `boottime` in a `/proc/PID/timens_offsets`.
fn boot_offset(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let line = text
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"boottime"))?;
    let words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    Some(words.map(<[u8]>::to_vec).collect())
}

/// One line of a mountinfo text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
    /// The number of the mount.
    id: Vec<u8>,
    /// Major and minor number of the file system.
    pub(crate) device: Vec<u8>,
    /// Which directory of it is mounted.
    pub(crate) root: PathBuf,
    /// Where.
    pub(crate) dir: PathBuf,
    kind: Vec<u8>,
    options: Vec<u8>,
}

impl MountLine {
    fn parse(line: &[u8]) -> Option<Self> {
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let dash = words.iter().position(|word| *word == b"-")?;
        Some(Self {
            id: words.first()?.to_vec(),
            device: words.get(2)?.to_vec(),
            root: unescape_octal(words.get(3)?),
            dir: unescape_octal(words.get(4)?),
            kind: words.get(dash + 1)?.to_vec(),
            options: words.get(dash + 3)?.to_vec(),
        })
    }

    /// The hierarchy that can freeze, if it is one: v2 by its type, v1 by `freezer` among the super options.
    fn hierarchy(&self) -> Option<Hierarchy> {
        match self.kind.as_slice() {
            b"cgroup2" => Some(Hierarchy::V2),
            b"cgroup" => {
                let freezes = self
                    .options
                    .split(|&byte| byte == b',')
                    .any(|option| option == b"freezer");
                freezes.then_some(Hierarchy::V1)
            }
            _ => None,
        }
    }
}

/// The lines of a mountinfo text; those that can't be understood are left out.
pub(crate) fn mount_lines(text: &[u8]) -> impl Iterator<Item = MountLine> {
    text.split(|&byte| byte == b'\n').filter_map(MountLine::parse)
}

/// Undoes mountinfo's `\040` for a space, tab, newline or backslash.
fn unescape_octal(bytes: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits
            .filter(|_| byte == b'\\')
            .map(|digits| u8::from_str_radix(digits, 8))
        {
            Some(Ok(byte)) => {
                out.push(byte);
                rest = &rest[4..];
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

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

    fn made_up(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        fill(dir.path());
        let host = Host::made_up(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn links_inside_a_host_lead_where_they_lead_for_the_host() {
        let (dir, host) = made_up(|root| {
            std::fs::create_dir_all(root.join("data/docker/containers")).unwrap();
            std::fs::create_dir_all(root.join("var/lib")).unwrap();
            std::fs::create_dir_all(root.join("run")).unwrap();
            symlink("/run", root.join("var/run")).unwrap();
            symlink("/data/docker", root.join("var/lib/docker")).unwrap();
            symlink("../../data", root.join("var/lib/beside")).unwrap();
            symlink("../../../../../../data", root.join("var/lib/above")).unwrap();
            symlink("/var/lib/loop", root.join("var/lib/loop")).unwrap();
        });
        for (path, place) in [
            ("/var/lib/docker", "data/docker"),
            ("/var/lib/docker/containers", "data/docker/containers"),
            ("/var/lib/beside/docker", "data/docker"),
            ("/var/lib/above/docker", "data/docker"),
            ("/var/run", "run"),
            ("/var/run/../data", "data"),
            ("/../../data", "data"),
            ("/", ""),
        ] {
            let expected = dir.path().join(place);
            assert_eq!(host.path(path), expected, "{path}");
            let opened = fstat(host.open_dir_inside(Path::new(path)).unwrap()).unwrap();
            let there = fstat(open_dir(&expected).unwrap()).unwrap();
            assert_eq!(
                (opened.st_dev, opened.st_ino),
                (there.st_dev, there.st_ino),
                "{path}"
            );
        }
        assert_eq!(host.path("/absent/x"), dir.path().join("absent/x"));
        assert_eq!(host.path("/var/lib/loop"), dir.path().join("var/lib/loop"));
        for path in ["/absent", "/var/lib/loop"] {
            let text = host.open_dir_inside(Path::new(path)).unwrap_err().to_string();
            assert!(text.contains(path), "{text}");
        }
    }

    #[test]
    fn only_lines_of_hierarchies_that_freeze_count() {
        let text = b"9:name=freezer:/x\n6:cpu,freezer:/a:b c\n4:memory:/../m\n0::/../u (deleted)\n";
        let lines: Vec<_> = freezing_lines(text).collect();
        assert_eq!(
            lines,
            [
                (Hierarchy::V1, Path::new("/a:b c")),
                (Hierarchy::V2, Path::new("/../u (deleted)"))
            ]
        );
    }

    #[test]
    fn the_offset_of_boot_time_is_read_whatever_its_spaces() {
        let text = b"monotonic           7         0\nboottime        86400       250\n";
        assert_eq!(boot_offset(text), Some(vec![b"86400".to_vec(), b"250".to_vec()]));
        assert_eq!(boot_offset(b"boottime 86400 250"), boot_offset(text));
        assert_ne!(boot_offset(b"boottime 86400 0"), boot_offset(text));
        assert_eq!(boot_offset(b""), None);
    }

    #[test]
    fn a_freezer_mounted_together_with_others_is_found() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu\\040x,freezer rw - cgroup cgroup rw,cpu,freezer\n\
                    31 25 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
                    32 25 0:28 / /mnt/u rw - cgroup2 none rw,nsdelegate\n\
                    garbage\n";
        let found: Vec<_> = mount_lines(text.as_bytes())
            .filter_map(|line| Some((line.dir.clone(), line.hierarchy()?)))
            .collect();
        assert_eq!(
            found,
            [
                (PathBuf::from("/sys/fs/cgroup/cpu x,freezer"), Hierarchy::V1),
                (PathBuf::from("/mnt/u"), Hierarchy::V2)
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_mountinfo_panics(text in "([0-9]{0,3} |0:2[0-9] |/[a-z\\\\0-9]{0,9} |- |cgroup2? |freezer,?|\n){0,40}") {
            for line in mount_lines(text.as_bytes()) {
                let _ = line.hierarchy(); // only that it returns
            }
        }

        #[test]
        fn an_escaped_path_comes_out_as_it_went_in(bytes in proptest::collection::vec(1_u8.., 0..40)) {
            let escaped: Vec<u8> = bytes.iter().flat_map(|&byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![byte],
            }).collect();
            proptest::prop_assert_eq!(unescape_octal(&escaped), PathBuf::from(OsString::from_vec(bytes)));
        }
    }
}
