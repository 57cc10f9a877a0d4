//! The lock on a change: two that freeze one container at one time go one after the other. A thaw does not ask for it.

use std::cell::OnceCell;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, openat};
use nix::sys::stat::Mode;

use super::Store;
use crate::cgroup::CgroupId;
use crate::error::{Error, Result};
use crate::patience::{Clock, Woke};

/// The file, which is empty: each cgroup has a byte of it. One file for all, since one that comes and goes with each lock
/// can be locked by two who hold different files of one name.
const NAME: &str = ".lock";
/// How often it is asked for. Who has it needs some milliseconds.
const AGAIN: Duration = Duration::from_millis(5);

/// The lock's file. The kernel lets go of a process's locks when it closes any descriptor of that file: there is one.
#[derive(Debug, Default)]
pub(super) struct File(OnceCell<OwnedFd>);

/// A lock that is held until it is dropped, or its process ends.
#[derive(Debug)]
pub struct Lock<'l> {
    fd: &'l OwnedFd,
    at: i64,
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Unlocking what is locked can't fail.
        let _ = fcntl(self.fd, FcntlArg::F_SETLK(&byte(libc::F_UNLCK, self.at)));
    }
}

impl Store {
    /// Waits for the lock on a cgroup. `None` where somebody asked to give up.
    ///
    /// # Errors
    ///
    /// It can't be made; [`Error::Io`] of the kind `ResourceBusy` where another process has it until the limit, whose number
    /// is in the text.
    ///
    /// # Kernel
    ///
    /// `fcntl()` with `F_SETLK`: a lock of a process, which says whose it is (`F_GETLK`).
    pub fn lock(&self, id: CgroupId, clock: &Clock<'_>) -> Result<Option<Lock<'_>>> {
        let path = self.path(NAME);
        let failed = |errno: Errno| Error::io("lock", &path, errno.into());
        let fd = match self.lock.0.get() {
            Some(fd) => fd,
            None => {
                let flags =
                    OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
                let fd = openat(&self.fd, NAME, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
                self.lock.0.get_or_init(|| fd)
            }
        };
        // Any two cgroups of two hierarchies that share a byte wait for each other, and nothing worse.
        let at = i64::try_from((id.inode ^ (id.device << 40)) >> 2).unwrap_or(0);
        loop {
            match fcntl(fd, FcntlArg::F_SETLK(&byte(libc::F_WRLCK, at))) {
                Ok(_) => return Ok(Some(Lock { fd, at })),
                Err(Errno::EACCES | Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
            if clock.is_over() {
                let mut other = byte(libc::F_WRLCK, at);
                fcntl(fd, FcntlArg::F_GETLK(&mut other)).map_err(failed)?;
                let limit = clock.limit().as_millis();
                // It was given back just now, or who has it is in another PID namespace.
                let who = match other.l_pid {
                    ..=0 => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                let why = format!("{who} has it, which changes the same container; still after {limit} ms");
                let cause = std::io::Error::new(std::io::ErrorKind::ResourceBusy, why);
                return Err(Error::io("lock", &path, cause));
            }
            if clock.pause(AGAIN, &[]) == Woke::Cancelled {
                return Ok(None);
            }
        }
    }
}

fn byte(kind: libc::c_int, at: i64) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: at,
        l_len: 1,
        l_pid: 0,
    }
}
