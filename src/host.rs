//! Where things are on the host that is worked on: its /proc, its cgroup mounts, its /run, /var and /etc.
//! A value that is passed along, never a global, so that a host mounted elsewhere and a made-up one in a test work alike.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, fstatfs};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What to do where tasks are in another PID namespace.
pub(crate) const ENTER_PID_NAMESPACE: &str =
    "run iceaxe in the host's, with nsenter --target 1 --pid --mount, or docker run --pid=host";

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
        let proc_dir = root.join("proc");
        let proc_fd = open_dir(&proc_dir)?;
        let release = nix::sys::utsname::uname()
            .map(|names| names.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let mut host = Self {
            root: root.to_owned(),
            proc_dir,
            proc_fd,
            mounts: Vec::new(),
            kernel: Kernel::parse(&release),
            genuine,
        };
        if genuine {
            host.check_pid_namespace()?;
        }
        host.mounts = host.find_mounts();
        Ok(host)
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

    /// Whether every task of this kernel has a number here: in the first PID namespace, whose inode the kernel fixes
    /// (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
    pub(crate) fn sees_every_task(&self) -> bool {
        !self.genuine || self.read_proc_link("self/ns/pid").as_deref() == Some(Path::new("pid:[4026531836]"))
    }

    /// The usual places by `statfs` first: /proc/self/mountinfo has several lines per container and takes a lock
    /// that a stuck mount holds (`namespace_sem`), so it is read only where those places have no freezer of v1 though
    /// the kernel runs one, or none at all.
    fn find_mounts(&self) -> Vec<Mount> {
        let top = self.root.join("sys/fs/cgroup");
        let mut mounts = Vec::new();
        match self.mount_at(&top, Hierarchy::V2) {
            Some(mount) => mounts.push(mount),
            None => {
                mounts.extend(self.mount_at(&top.join("freezer"), Hierarchy::V1));
                mounts.extend(self.mount_at(&top.join("unified"), Hierarchy::V2));
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
        lines.split(|&byte| byte == b'\n').any(|line| {
            let controllers = line.split(|&byte| byte == b':').nth(1).unwrap_or_default();
            controllers
                .split(|&byte| byte == b',')
                .any(|name| name == b"freezer")
        })
    }

    fn mount_at(&self, dir: &Path, hierarchy: Hierarchy) -> Option<Mount> {
        let fd = open_dir(dir).ok()?; // not there: this host has no such mount at this place
        let right = if self.genuine {
            is_cgroup(fd.as_fd(), hierarchy)
        } else {
            dir.join("cgroup.controllers").exists() == (hierarchy == Hierarchy::V2)
        };
        right.then(|| Mount {
            hierarchy,
            dir: dir.to_owned(),
            fd,
        })
    }

    fn mounts_by_mountinfo(&self) -> Vec<(PathBuf, Hierarchy)> {
        // A mountinfo that can't be read leaves the host without a freezer, which every verb reports.
        let text = self.read_proc("self/mountinfo").unwrap_or_default();
        mount_lines(&text)
            .filter(|line| line.root == Path::new("/")) // a part of a hierarchy is not the hierarchy
            .filter_map(|line| Some((self.inside(&line.dir), line.hierarchy()?)))
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

    /// An absolute path as the host's own programs say it, as it is reached from here.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
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

/// One line of a mountinfo text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountLine {
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
