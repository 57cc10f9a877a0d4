//! The command of a hold, as the guard knows it: by its process and by when that was started, so that no other one of the
//! same number is ended. What it has started itself is not its process and goes on, as with `timeout --foreground`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{Signal, kill};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::error::Error;
use crate::host::Host;
use crate::signaller;
use crate::store::{Process, boottime_us};

/// How long a command that is to end may take before it is killed.
const POLITE_US: u64 = 2_000_000;

/// A command that ends with the process that runs it.
pub(crate) struct Command {
    process: Process,
    /// Readable at its end; `None` on a kernel without it.
    fd: Option<OwnedFd>,
    /// CLOCK_BOOTTIME in microseconds at which it is killed, once it was asked to end.
    kill_at_us: Option<u64>,
    has_ended: bool,
}

impl Command {
    /// The command that `poster` has just started, as the process of that number; `None` where that is over.
    pub(crate) fn of(host: &Host, pid: u32, poster: Process) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?; // as the kernel has it
        let fd = pidfd(pid); // it can't become another one's from here on
        let process = Process::find(host, pid)?;
        // It collects it itself, and says so: while it lives nobody else's process has that number.
        let is_its = Process::parent_of(host, pid) == Some(poster.pid) || !poster.is_alive(host);
        is_its.then_some(Self {
            process,
            fd,
            kill_at_us: None,
            has_ended: false,
        })
    }

    /// Asks it to end; where it was asked before, and its time is over, kills it.
    pub(crate) fn end(&mut self, host: &Host) {
        let signal = match self.kill_at_us {
            None => Signal::SIGTERM,
            Some(at) if at <= boottime_us() => Signal::SIGKILL,
            Some(_) => return,
        };
        self.has_ended = !send(host, self.process, signal);
        if signal == Signal::SIGTERM {
            send(host, self.process, Signal::SIGCONT); // one that is stopped could not end
        }
        self.kill_at_us = Some(boottime_us() + POLITE_US);
    }

    /// Whether it is being ended.
    pub(crate) fn is_ending(&self) -> bool {
        self.kill_at_us.is_some() && !self.has_ended
    }

    /// When something is to be done about it.
    pub(crate) fn due(&self) -> Option<u64> {
        self.kill_at_us.filter(|_| !self.has_ended)
    }

    /// What tells its end, once it is being ended.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().filter(|_| self.is_ending()).map(AsFd::as_fd)
    }

    /// Takes note of its end, where a look shows it.
    pub(crate) fn look(&mut self, host: &Host) -> bool {
        self.has_ended |= !self.process.is_alive(host);
        self.has_ended
    }
}

/// A descriptor that is readable when the process of that number has ended; `None` where it has, or where the kernel is older
/// than 5.3.
pub(crate) fn pidfd(pid: i32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Sends a signal to that process and no other; false where it has ended.
fn send(host: &Host, process: Process, signal: Signal) -> bool {
    let is_it = || process.is_alive(host);
    match signaller::send(host, process.pid, signal as i32, is_it) {
        Ok(is_sent) => is_sent,
        // Without pidfds there is an instant between the look and the signal.
        Err(Error::Unsupported(_)) => {
            is_it() && kill(nix::unistd::Pid::from_raw(process.pid), signal).is_ok()
        }
        Err(_) => false, // nobody is left to be told
    }
}
