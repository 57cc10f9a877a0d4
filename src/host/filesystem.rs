//! A mounted file system that is flushed, or frozen for a while (FIFREEZE). Each call can hang as long as its disk does: it
//! is made in a thread of its own and waited for only so long.
#![expect(unsafe_code, reason = "the two ioctls have no safe form")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use super::Host;
use crate::error::{Error, Result};

mod ioctl {
    nix::ioctl_readwrite!(fifreeze, b'X', 119, libc::c_int);
    nix::ioctl_readwrite!(fithaw, b'X', 120, libc::c_int);
}

/// How long a file system may take to be opened.
const OPENING: Duration = Duration::from_secs(2);

/// One file system, by a path on it.
#[derive(Debug, Clone)]
pub struct Filesystem {
    fd: Arc<OwnedFd>,
    path: PathBuf,
    device: String,
}

impl Filesystem {
    /// Opens one by a path on it, as the host's own programs say it.
    ///
    /// # Errors
    ///
    /// It is not there, or its disk does not answer.
    pub fn open(host: &Host, path: &Path) -> Result<Self> {
        let below = host.another();
        let meant = path.to_owned();
        let open = move || below.open_file_or_dir_inside(&meant);
        let fd = beside(OPENING, open).unwrap_or_else(|cause| Err(Error::io("open", path, cause)))?;
        let device = device_of(&fd).ok_or_else(|| {
            Error::Unsupported(format!(
                "{}: which file system it is on is not told",
                path.display()
            ))
        })?;
        Ok(Self {
            fd: Arc::new(fd),
            path: path.to_owned(),
            device,
        })
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the same one, by whatever path.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.device == other.device
    }

    /// Whether something else that is open is on it, by whatever mount.
    #[must_use]
    pub fn holds(&self, other: &impl AsFd) -> bool {
        device_of(other).is_some_and(|device| device == self.device)
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

/// The device of the file system that something open is on, as mountinfo has it: `st_dev` differs for each subvolume of one
/// btrfs.
fn device_of(fd: &impl AsFd) -> Option<String> {
    let number = fd.as_fd().as_raw_fd();
    // Of this process and its mount namespace, whatever host is worked on.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?; // then nothing is told
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
    let all = std::fs::read_to_string("/proc/self/mountinfo").ok()?; // as above
    let fields = all.lines().map(|line| line.split(' '));
    let mut mine = fields.filter_map(|mut fields| Some((fields.next()?, fields.nth(1)?)));
    let device = mine.find(|(id, _)| *id == mount)?.1;
    Some(device.to_owned())
}
