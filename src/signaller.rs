//! Sends signals to processes of a cgroup, and to no other that has the same number meanwhile: a process is pinned by
//! its descriptor first, then looked at, then signalled through that descriptor.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Error, Result};
use crate::host::Host;

/// Sends `signal` to the process `pid`, if `is_meant` says of it, once it can't become another, that it is the one.
/// Whether it was sent: it is not where the process is gone, or is not the one.
///
/// # Errors
///
/// [`Error::Usage`] for a number without a name, as the real-time signals' are; [`Error::Unsupported`] where the caller
/// may not, and on a kernel without `pidfd_open()` (before 5.3).
pub(crate) fn send(host: &Host, pid: i32, signal: i32, is_meant: impl FnOnce() -> bool) -> Result<bool> {
    let failed = |errno: Errno| {
        if errno == Errno::NOSYS {
            return Error::Unsupported("this kernel has no pidfd_open() (before Linux 5.3)".to_owned());
        }
        let cause = io::Error::from_raw_os_error(errno.raw_os_error());
        let path = host.proc_dir().join(pid.to_string());
        Error::io(&format!("send signal {signal} to"), &path, cause)
    };
    let named = Signal::from_named_raw(signal)
        .ok_or_else(|| Error::Usage(format!("{signal} is none of the signals that have a name")))?;
    let number = Pid::from_raw(pid).ok_or_else(|| Error::Usage(format!("{pid} is no process")))?;
    let process = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH | Errno::INVAL) => return Ok(false), // gone, or a thread whose process is
        Err(errno) => return Err(failed(errno)),
    };
    if !is_meant() {
        return Ok(false);
    }
    match pidfd_send_signal(&process, named) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(errno) => Err(failed(errno)),
    }
}
