//! A mounted file system that is flushed, or frozen for a while (FIFREEZE). Each call can hang as long as its disk does: it
//! is made in a thread of its own and waited for only so long.
#![expect(unsafe_code, reason = "the two ioctls have no safe form")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use serde::{Deserialize, Serialize};

use super::{Host, mount_lines};
use crate::error::{Error, Result};

mod ioctl {
    nix::ioctl_readwrite!(fifreeze, b'X', 119, libc::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, libc::c_int);
}

/// How long a file system may take to be opened.
const OPENING: Duration = Duration::from_secs(2);

/// Which file system it is, by the kernel's words: what a path leads to changes with each link and mount on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemId {
    /// Major and minor number of its device, as mountinfo has them: `st_dev` differs for each subvolume of one btrfs. No
    /// other file system gets them while this one is frozen, as the kernel keeps a frozen one also when its last mount is
    /// gone.
    pub device: String,
    /// Its type: `ext4`.
    pub kind: String,
    /// The number of the mount that it was opened through.
    pub mount: String,
}

/// An open file system.
#[derive(Debug, Clone)]
pub struct Filesystem {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    id: FilesystemId,
}

impl Filesystem {
    /// Opens a file system by a path on it, as the host's own programs say it.
    ///
    /// # Errors
    ///
    /// It is not there, or its disk does not answer.
    pub fn open(host: &Host, path: &Path) -> Result<Self> {
        let below = host.another();
        let meant = path.to_owned();
        Self::opened(path, move || below.open_file_or_dir_inside(&meant))
    }

    /// Opens the file system that another process has open as its descriptor `number`. The kernel goes from there to the
    /// very same directory: no path is looked up.
    ///
    /// # Errors
    ///
    /// That process is gone, or its disk does not answer.
    ///
    /// # Kernel
    ///
    /// `proc_fd_link()`, fs/proc/fd.c.
    pub fn of_process(host: &Host, pid: i32, number: i32, path: &Path) -> Result<Self> {
        let below = host.another();
        let link = format!("{pid}/fd/{number}");
        let failed = path.to_owned();
        Self::opened(path, move || {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            openat(below.proc.dir(), link.as_str(), flags, Mode::empty())
                .map_err(|errno| Error::io("open", &failed, errno.into()))
        })
    }

    /// Opens a file system of which no descriptor is left through any of its mounts; `path` is what it was called. A mount
    /// point that another mount covers leads to that other one, which is noticed.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`]: no mount of it can be reached from here; its disk does not answer.
    pub fn find(path: &Path, id: &FilesystemId) -> Result<Self> {
        let (meant, named) = (id.clone(), path.to_owned());
        Self::opened(path, move || {
            let table = Path::new(MOUNTINFO);
            let text = std::fs::read(table).map_err(|cause| Error::io("read", table, cause))?;
            let (first, others): (Vec<_>, Vec<_>) = mount_lines(&text)
                .filter(|line| line.device == meant.device.as_bytes() && line.kind == meant.kind.as_bytes())
                .partition(|line| line.id == meant.mount.as_bytes());
            let mut places = first.into_iter().chain(others);
            let reached = places.find_map(|line| {
                let fd = open_mount(&line.dir).ok()?; // the next one, then
                id_of(&fd)
                    .is_some_and(|id| id.device == meant.device)
                    .then_some(fd)
            });
            reached.ok_or_else(|| {
                Error::Unsupported(format!(
                    "no mount of the file system of {} ({} on device {}) can be reached from here: it may be frozen",
                    named.display(),
                    meant.kind,
                    meant.device
                ))
            })
        })
    }

    /// Opens it and asks which one it is. Both can hang: the table of mounts is read under a lock that a stuck mount holds.
    fn opened(path: &Path, open: impl FnOnce() -> Result<OwnedFd> + Send + 'static) -> Result<Self> {
        let named = path.to_owned();
        let work = move || {
            let fd = open()?;
            let id = id_of(&fd).ok_or_else(|| {
                Error::Unsupported(format!(
                    "{}: which file system it is on is not told",
                    named.display()
                ))
            })?;
            Ok((fd, id))
        };
        let (fd, id) = beside(OPENING, work).unwrap_or_else(|cause| Err(Error::io("open", path, cause)))?;
        Ok(Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
            id,
        })
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> &FilesystemId {
        &self.id
    }

    /// The number of its descriptor in this process.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the same one, by whatever path.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.id.device == other.id.device
    }

    /// Whether something else that is open is on it, by whatever mount.
    #[must_use]
    pub fn holds(&self, other: &impl AsFd) -> bool {
        id_of(other).is_some_and(|id| id.device == self.id.device)
    }

    /// Writes out what is not on its disk yet.
    ///
    /// # Errors
    ///
    /// What the kernel says; it was not done within `limit`, and goes on.
    ///
    /// # Kernel
    ///
    /// `syncfs()`, fs/sync.c; it tells of errors since Linux 5.8.
    pub fn sync(&self, limit: Duration) -> Result<()> {
        self.call("flush", limit, |fd| match rustix::fs::syncfs(fd) {
            Ok(()) => Ok(()),
            Err(errno) => Err(Errno::from_raw(errno.raw_os_error())),
        })
    }

    /// Freezes it: who writes to it waits. It is flushed first.
    ///
    /// # Errors
    ///
    /// `EBUSY`: it is frozen already; `EOPNOTSUPP`: it can't be frozen. Not done within `limit`: it may be frozen later.
    ///
    /// # Kernel
    ///
    /// `ioctl_fsfreeze()`, fs/ioctl.c; `freeze_super()`, fs/super.c.
    pub fn freeze(&self, limit: Duration) -> Result<()> {
        self.call("freeze", limit, |fd| {
            let mut unused = 0;
            // SAFETY: the descriptor is open, and the argument lives; the kernel does not use it.
            unsafe { ioctl::fifreeze(fd.as_raw_fd(), &raw mut unused) }.map(drop)
        })
    }

    /// Thaws it. One that is not frozen is thawed.
    ///
    /// # Errors
    ///
    /// What the kernel says; it was not done within `limit`.
    pub fn thaw(&self, limit: Duration) -> Result<()> {
        fn thaw(fd: &OwnedFd) -> nix::Result<()> {
            let mut unused = 0;
            // SAFETY: as in `freeze`.
            match unsafe { ioctl::fithaw(fd.as_raw_fd(), &raw mut unused) } {
                Ok(_) | Err(Errno::EINVAL) => Ok(()),
                Err(errno) => Err(errno),
            }
        }
        match self.call("thaw", limit, thaw) {
            // No thread could be made. One that hangs is better than one that stays frozen for certain.
            Err(Error::Io { act, path, cause }) if cause.kind() == std::io::ErrorKind::WouldBlock => {
                thaw(&self.fd).map_err(|errno| Error::Io {
                    act,
                    path,
                    cause: errno.into(),
                })
            }
            done => done,
        }
    }

    fn call(
        &self,
        act: &str,
        limit: Duration,
        call: impl FnOnce(&OwnedFd) -> nix::Result<()> + Send + 'static,
    ) -> Result<()> {
        let fd = Arc::clone(&self.fd);
        let failed = |cause| Error::Io {
            act: format!("{act} the file system of"),
            path: self.path.clone(),
            cause,
        };
        let done = beside(limit, move || call(&fd)).map_err(failed)?;
        done.map_err(|errno| failed(errno.into()))
    }
}

/// Does something in a thread of its own, which stays behind where it hangs.
fn beside<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<T> {
    let (to, from) = mpsc::channel();
    thread::Builder::new().spawn(move || drop(to.send(work())))?;
    from.recv_timeout(limit).map_err(|_| {
        std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {} s", limit.as_secs()),
        )
    })
}

/// The mounts of this process's mount namespace, whatever host is worked on.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Which file system something open is on.
fn id_of(fd: &impl AsFd) -> Option<FilesystemId> {
    let number = fd.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?; // then nothing is told
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let text = std::fs::read(MOUNTINFO).ok()?; // then neither
    let line = mount_lines(&text).find(|line| line.id == mount.as_bytes())?;
    Some(FilesystemId {
        device: String::from_utf8(line.device).ok()?, // the kernel writes numbers
        kind: String::from_utf8_lossy(&line.kind).into_owned(),
        mount: mount.to_owned(),
    })
}

/// Opens what is mounted at `dir`: a directory, or a file that was bound there.
fn open_mount(dir: &Path) -> nix::Result<OwnedFd> {
    let open = |flags| nix::fcntl::open(dir, flags | OFlag::O_CLOEXEC, Mode::empty());
    // A look first: to open a device can do something.
    let stat = fstat(open(OFlag::O_PATH)?)?;
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR | SFlag::S_IFREG => open(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY),
        _ => Err(Errno::EINVAL),
    }
}
