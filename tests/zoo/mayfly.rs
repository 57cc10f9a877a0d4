//! Tasks that come and go, from inside and from outside. Each writes its pulse, if pulses are taken, and does so last of
//! all before it ends.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2, read};

use crate::sys;

/// How long one lives.
const BRIEF: Duration = Duration::from_micros(500);
/// Between two looks at somebody else's pulse.
const LOOK: Duration = Duration::from_micros(100);
/// Between two visitors, in milliseconds.
const VISITS: u8 = 2;
/// So many visitors at once; more come when some have left, as they stay for as long as the place is frozen.
const CROWD: usize = 64;

/// A life of the caller's, which ends with a beat.
pub(crate) fn live() {
    sys::be_born();
    let tid = sys::own_tid();
    sys::beat(tid);
    thread::sleep(BRIEF);
    sys::beat(tid);
}

/// The shortest life.
pub(crate) fn end_at_once() -> ! {
    sys::be_born();
    sys::beat(sys::own_tid());
    sys::exit(0)
}

/// A program that lives as a mayfly.
pub(crate) fn program(pulses: Option<&Path>) -> io::Result<Command> {
    own(pulses, "brief")
}

/// This program again.
fn own(pulses: Option<&Path>, word: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(pulses) = pulses {
        command.arg("--pulses").arg(pulses);
    }
    command.arg(word);
    Ok(command)
}

/// Becomes this program again from a second thread: the kernel ends the first one, and the second takes its number.
pub(crate) fn reexec(pulses: Option<&Path>) -> io::Result<Infallible> {
    sys::be_born();
    sys::beat(sys::own_tid());
    let mut again = own(pulses, "reexec")?;
    let second = thread::spawn(move || {
        live();
        again.exec()
    });
    match second.join() {
        Ok(error) => Err(error),
        Err(_) => Err(io::Error::other("a thread panicked")),
    }
}

/// Has a child and does `once` to it, again and again; in between the child beats at least once.
pub(crate) fn toggle(beat: impl Fn(), once: impl Fn(Pid) -> io::Result<()>) -> io::Result<Infallible> {
    let Some(child) = sys::fork()? else {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        sys::be_born();
        let tid = sys::own_tid();
        loop {
            sys::beat(tid);
            thread::sleep(LOOK);
        }
    };
    let number = u64::from(child.as_raw().unsigned_abs());
    loop {
        let before = sys::beats_of(number);
        once(child)?;
        beat();
        while sys::takes_pulses() && sys::beats_of(number) == before {
            thread::sleep(LOOK);
        }
    }
}

/// Sends visitors to `cgroups` until standard input ends, each as `docker exec` would: made outside, entered by writing its
/// number, and only then its program. Returns how many came.
pub(crate) fn visit(cgroups: &[PathBuf], pulses: Option<&Path>) -> io::Result<u64> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let files: Vec<PathBuf> = cgroups.iter().map(|dir| dir.join("cgroup.procs")).collect();
    let stdin = io::stdin();
    let (mut visits, mut here) = (0, 0);
    loop {
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(VISITS))? > 0 {
            // Those that are frozen leave when they are thawed, which is not for this program to do.
            return Ok(visits);
        }
        if here < CROWD {
            let visitor = outside(pulses)?;
            here += 1;
            for file in &files {
                match fs::write(file, visitor.pid.to_string()) {
                    Ok(()) => {}
                    Err(error) => return Err(io::Error::other(format!("{}: {error}", file.display()))),
                }
            }
            visits += 1;
        }
        while let Some(end) = left()? {
            here -= 1;
            if !matches!(end, WaitStatus::Exited(_, 0)) {
                return Err(io::Error::other(format!("a visitor ended so: {end:?}")));
            }
        }
    }
}

struct Visitor {
    pid: Pid,
    /// Its program begins when this is closed.
    _held: std::os::fd::OwnedFd,
}

fn outside(pulses: Option<&Path>) -> io::Result<Visitor> {
    let mut program = program(pulses)?;
    let (from, held) = pipe2(OFlag::O_CLOEXEC)?;
    let Some(pid) = sys::fork()? else {
        drop(held);
        let entered = read(&from, &mut [0]);
        let error = entered.map_or_else(io::Error::from, |_| program.exec());
        let _ = writeln!(io::stderr(), "zoo: a visitor: {error}"); // if nobody reads it, the code says it
        sys::exit(1);
    };
    Ok(Visitor { pid, _held: held })
}

/// One visitor that has ended, if there is one.
fn left() -> io::Result<Option<WaitStatus>> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
        Ok(end) => Ok(Some(end)),
        Err(errno) => Err(errno.into()),
    }
}
