//! A cgroup: an open directory in one hierarchy, and its control files by name. Everything below a cgroup mount is
//! opened here and nowhere else, relative to a descriptor: a descriptor can never hit a successor of the same name
//! (after rmdir and mkdir, opening through it gives ENOENT, reading an open file of it ENODEV).

mod walk;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use crate::error::{Error, Result};
use crate::host::{ENTER_PID_NAMESPACE, Hierarchy, Host, is_cgroup, open_beneath, open_on_mount};

pub use walk::{Descent, Tasks};

/// The control files of a cgroup that hold one number or a few words fit into this.
const SMALL: usize = 4096;
/// kernfs counts a directory's own subdirectories as its links (`kernfs_refresh_inode()`, fs/kernfs/inode.c, since 3.14),
/// besides `.` and its name: these are a leaf's.
const LEAF: u64 = 2;
/// No line of a list of tasks is longer: a number, and its end.
const LONGEST_LINE: usize = 16;

/// What a cgroup is, whatever it is called: device and inode of its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct CgroupId {
    /// `st_dev` of the hierarchy's mount.
    pub device: u64,
    /// `st_ino`; on v2 this is the kernel's cgroup id.
    pub inode: u64,
}

/// An open cgroup.
#[derive(Debug)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
    dir: PathBuf,
    fd: OwnedFd,
    id: CgroupId,
    ground: Ground,
    /// Whether it had no cgroup below when it was opened.
    was_leaf: bool,
}

/// Who may create cgroups right below a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    /// The user who owns the cgroup's directory.
    pub(crate) owner: u32,
    /// Whether its group, or everybody, may write there too.
    pub(crate) others_may_create: bool,
}

/// What is known of the host that a cgroup is on.
#[derive(Debug, Clone, Copy)]
struct Ground {
    /// Whether it is on a cgroup file system, and no made-up directory.
    genuine: bool,
    /// Whether every task of this kernel has a number for this process.
    numbered: bool,
}

impl Ground {
    fn of(host: &Host) -> Self {
        Self {
            genuine: host.is_genuine(),
            numbered: host.sees_every_task(),
        }
    }
}

impl Cgroup {
    /// Opens the cgroup at `path`, which begins with `/` and is relative to the hierarchy's mount.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] where there is none; [`Error::Unsupported`] where the host lacks the hierarchy;
    /// [`Error::Usage`] for a path with `..`.
    pub fn open(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<Self> {
        let mount = host.mount(hierarchy).ok_or_else(|| {
            Error::Unsupported(format!(
                "no cgroup v{} freezer is mounted on this host",
                hierarchy.version()
            ))
        })?;
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(Error::Usage(format!(
                "{}: a cgroup path has no \"..\"",
                path.display()
            )));
        }
        let below = path.strip_prefix("/").unwrap_or(path);
        let dir = match below.as_os_str().is_empty() {
            true => mount.dir.clone(), // joined to nothing it would end in a slash
            false => mount.dir.join(below),
        };
        // What is on the mount is on its file system. Only what is mounted below it must be asked for its own.
        let fd = match open_on_mount(mount.fd(), below, AS_DIRECTORY) {
            Err(Errno::EXDEV | Errno::ENOSYS | Errno::EPERM) => {
                let fd = open_below(mount.fd(), below, &dir)?;
                if host.is_genuine() && !is_cgroup(fd.as_fd(), hierarchy) {
                    return Err(Error::Unsupported(format!(
                        "{} is not on a cgroup file system",
                        dir.display()
                    )));
                }
                fd
            }
            opened => opened.map_err(|errno| not_opened(errno, &dir))?,
        };
        Self::from_fd(Ground::of(host), hierarchy, fd, dir, path.to_owned())
    }

    fn from_fd(
        ground: Ground,
        hierarchy: Hierarchy,
        fd: OwnedFd,
        dir: PathBuf,
        path: PathBuf,
    ) -> Result<Self> {
        let stat = fstat(&fd).map_err(|errno| Error::io("stat", &dir, errno.into()))?;
        let id = CgroupId {
            device: stat.st_dev,
            inode: stat.st_ino,
        };
        Ok(Self {
            hierarchy,
            path,
            dir,
            fd,
            id,
            ground,
            was_leaf: ground.genuine && stat.st_nlink == LEAF,
        })
    }

    /// A second handle on the same cgroup.
    ///
    /// # Errors
    ///
    /// No descriptor is free.
    pub fn try_clone(&self) -> Result<Self> {
        let fd = self
            .fd
            .try_clone()
            .map_err(|cause| Error::io("open", &self.dir, cause))?;
        Ok(Self {
            hierarchy: self.hierarchy,
            path: self.path.clone(),
            dir: self.dir.clone(),
            fd,
            id: self.id,
            ground: self.ground,
            was_leaf: self.was_leaf,
        })
    }

    /// Which hierarchy it is in.
    #[must_use]
    pub fn hierarchy(&self) -> Hierarchy {
        self.hierarchy
    }

    /// Its path in the hierarchy, `/docker/5978…`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, `/sys/fs/cgroup/freezer/docker/5978…`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it is, whatever it is called.
    #[must_use]
    pub fn id(&self) -> CgroupId {
        self.id
    }

    /// Whether it is the hierarchy's root, which can't be frozen.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.components().all(|part| part == Component::RootDir)
    }

    /// Where one of its control files is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens a control file for reading, as a wait on `cgroup.events` needs it.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] where the cgroup is, else what the kernel says.
    pub fn open_file(&self, name: &str) -> Result<OwnedFd> {
        self.open_for(name, OFlag::O_RDONLY, "read")
    }

    fn open_for(&self, name: &str, flags: OFlag, act: &str) -> Result<OwnedFd> {
        openat(
            &self.fd,
            name,
            flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY,
            Mode::empty(),
        )
        .map_err(|errno| self.failed(act, name, errno.into()))
    }

    /// Reads a control file that is short by its nature.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] where the cgroup is, else what the kernel says.
    pub fn read(&self, name: &str) -> Result<String> {
        let fd = self.open_file(name)?;
        let mut buffer = [0; SMALL];
        let count =
            nix::unistd::read(&fd, &mut buffer).map_err(|errno| self.failed("read", name, errno.into()))?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    }

    /// Reads a list of tasks. The kernel puts as many whole lines into a read as fit: one that leaves room for another
    /// is the last (`seq_read_iter()`, fs/seq_file.c).
    fn read_list(&self, name: &str) -> Result<String> {
        let fd = self.open_file(name)?;
        let mut text = Vec::new();
        let mut buffer = [0; SMALL];
        loop {
            match nix::unistd::read(&fd, &mut buffer) {
                Ok(count) => {
                    text.extend_from_slice(&buffer[..count]);
                    if count + LONGEST_LINE <= buffer.len() {
                        return Ok(String::from_utf8_lossy(&text).into_owned());
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(self.failed("read", name, errno.into())),
            }
        }
    }

    /// Writes a control file with one `write(2)`, without creating it.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] where the cgroup is, else what the kernel says; the request is then as before.
    pub fn write(&self, name: &str, value: &str) -> Result<()> {
        let act = format!("write {value} to");
        let fd = self.open_for(name, OFlag::O_WRONLY, &act)?;
        match nix::unistd::write(&fd, value.as_bytes()) {
            Ok(count) if count == value.len() => Ok(()),
            Ok(_) => Err(self.failed(&act, name, io::ErrorKind::WriteZero.into())),
            Err(errno) => Err(self.failed(&act, name, errno.into())),
        }
    }

    /// `ENODEV` on a control file means removed, and so does `ENOENT` where even `cgroup.procs` is missing. A file
    /// that this kernel does not have is told apart from that, and so is one that may not be opened.
    fn failed(&self, act: &str, name: &str, cause: io::Error) -> Error {
        match cause.raw_os_error() {
            Some(libc::ENODEV) => Error::Gone(self.dir.clone()),
            Some(libc::ENOENT) if !self.exists() => Error::Gone(self.dir.clone()),
            Some(libc::ENOENT) => Error::Unsupported(format!(
                "this kernel has no {} ({})",
                name,
                self.file(name).display()
            )),
            _ => Error::io(act, &self.file(name), cause),
        }
    }

    /// Whether the cgroup still is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        nix::sys::stat::fstatat(&self.fd, "cgroup.procs", nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether the cgroup itself asks for its tasks to be frozen: v1 `freezer.self_freezing`, v2 `cgroup.freeze`.
    /// A root has neither file and never asks, and so it is with v2 before Linux 5.2, which can't freeze.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], [`Error::Unsupported`] on a kernel without v1's file (before 3.8).
    pub fn requested(&self) -> Result<bool> {
        if self.is_root() {
            return Ok(false);
        }
        let name = match self.hierarchy {
            Hierarchy::V1 => "freezer.self_freezing",
            Hierarchy::V2 => "cgroup.freeze",
        };
        let text = match self.read(name) {
            Err(Error::Unsupported(_)) if self.hierarchy == Hierarchy::V2 && self.lacks(name) => {
                return Ok(false);
            }
            other => other?,
        };
        match text.trim() {
            "0" => Ok(false),
            "1" => Ok(true),
            other => Err(Error::Io {
                act: "read".to_owned(),
                path: self.file(name),
                cause: io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("\"{}\" is neither 0 nor 1", other.escape_debug()),
                ),
            }),
        }
    }

    /// Whether it has a control file of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        nix::sys::stat::fstatat(&self.fd, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether this kernel has no such file, as opposed to one that may not be read.
    fn lacks(&self, name: &str) -> bool {
        let stat = nix::sys::stat::fstatat(&self.fd, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
        stat == Err(Errno::ENOENT) && self.exists()
    }

    /// A field of the v2 file `cgroup.events`, `populated` or `frozen`.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], or the field is missing.
    pub fn event(&self, field: &str) -> Result<bool> {
        let text = self.read("cgroup.events")?;
        match events_field(&text, field) {
            Some(value) => Ok(value),
            None => Err(Error::Unsupported(format!(
                "no \"{field}\" in {}",
                self.file("cgroup.events").display()
            ))),
        }
    }

    /// The TIDs in this cgroup alone, without those below.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], or what the kernel says; [`Error::Unsupported`] where v2 lists a task without a number.
    ///
    /// # Kernel
    ///
    /// A task has no number in a PID namespace that it is not in, and nowhere any more when it is just being collected
    /// (`release_task()`, kernel/exit.c): v2 shows 0, v1 leaves it out
    /// (`pidlist_array_load()`, kernel/cgroup/cgroup-v1.c). v1 `tasks`, v2 `cgroup.threads`: both leave out dead leaders and list live threads; `cgroup.procs` does neither,
    /// and fails with EOPNOTSUPP in a threaded cgroup.
    pub fn tids(&self) -> Result<Vec<i32>> {
        let name = match self.hierarchy {
            Hierarchy::V1 => "tasks",
            Hierarchy::V2 => "cgroup.threads",
        };
        let mut tids = Vec::new();
        for line in self.read_list(name)?.lines() {
            match line.trim().parse() {
                Ok(0) if self.ground.numbered => {} // it is just being collected
                Ok(0) => {
                    return Err(Error::Unsupported(format!(
                        "{} has tasks of another PID namespace, which can't be looked at from here: {ENTER_PID_NAMESPACE}",
                        self.dir.display()
                    )));
                }
                Ok(tid) => tids.push(tid),
                Err(_) => {
                    let odd = io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("\"{}\" is no task", line.escape_debug()),
                    );
                    return Err(Error::io("read", &self.file(name), odd));
                }
            }
        }
        Ok(tids)
    }

    /// Opens a cgroup right below, which is made unless it is there.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`]; what the kernel says.
    pub(crate) fn make_child(&self, name: &str) -> Result<Self> {
        match nix::sys::stat::mkdirat(&self.fd, name, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(self.failed("make", name, errno.into())),
        }
        let dir = self.dir.join(name);
        let fd = open_below(self.fd.as_fd(), name, &dir)?;
        Self::from_fd(self.ground, self.hierarchy, fd, dir, self.path.join(name))
    }

    /// Removes an empty cgroup right below.
    ///
    /// # Errors
    ///
    /// It is not empty; what the kernel says.
    pub(crate) fn remove_child(&self, name: &str) -> Result<()> {
        nix::unistd::unlinkat(&self.fd, name, nix::unistd::UnlinkatFlags::RemoveDir)
            .map_err(|errno| self.failed("remove", name, errno.into()))
    }

    /// The user who owns it: root, but for what was delegated.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn owner(&self) -> Result<u32> {
        self.access().map(|access| access.owner)
    }

    /// Who may create cgroups right below.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub(crate) fn access(&self) -> Result<Access> {
        let stat = fstat(&self.fd).map_err(|errno| Error::io("stat", &self.dir, errno.into()))?;
        Ok(Access {
            owner: stat.st_uid,
            others_may_create: stat.st_mode & (libc::S_IWGRP | libc::S_IWOTH) != 0,
        })
    }

    /// Its ancestors without the root, topmost first. One that can't be opened is an error.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::open`].
    pub fn ancestors(&self, host: &Host) -> Result<Vec<Self>> {
        let open = |path| Self::open(host, self.hierarchy, path);
        self.ancestor_paths().into_iter().map(open).collect()
    }

    /// The paths of those, topmost first.
    pub(crate) fn ancestor_paths(&self) -> Vec<&Path> {
        let above = self.path.ancestors().skip(1);
        let mut paths: Vec<&Path> = above.filter(|path| path.parent().is_some()).collect();
        paths.reverse();
        paths
    }
}

const AS_DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Opens one directory below another, following nothing.
fn open_below(parent: BorrowedFd<'_>, path: impl AsRef<Path>, dir: &Path) -> Result<OwnedFd> {
    open_beneath(parent, path.as_ref(), AS_DIRECTORY).map_err(|errno| not_opened(errno, dir))
}

/// Why a directory of a cgroup was not opened.
fn not_opened(errno: Errno, dir: &Path) -> Error {
    match errno {
        Errno::ENOENT | Errno::ENODEV => Error::Gone(dir.to_owned()),
        Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV => {
            Error::Unsupported(format!("{} is not a directory of a cgroup", dir.display()))
        }
        _ => Error::io("open", dir, errno.into()),
    }
}

/// The value of one line of `cgroup.events`.
fn events_field(text: &str, field: &str) -> Option<bool> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(' '))?;
    match line.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::events_field;

    #[test]
    fn events_are_read_whatever_stands_around_them() {
        for (text, populated, frozen) in [
            ("populated 1\nfrozen 0\n", Some(true), Some(false)),
            ("frozen 1\npopulated 0", Some(false), Some(true)),
            ("populated 1\n", Some(true), None),
            ("frozenness 1\nfrozen x\n", None, None),
            ("", None, None),
        ] {
            assert_eq!(events_field(text, "populated"), populated, "{text:?}");
            assert_eq!(events_field(text, "frozen"), frozen, "{text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_events_panic(text in "((frozen|populated|[a-z]{0,5}) ?[0-9a-z]{0,3}\n?){0,6}", field in "[a-z]{0,9}") {
            let _ = events_field(&text, &field); // only that it returns
        }
    }
}
