//! The kinds of tasks: what each does all day, and how it is seen from outside that it does so.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, pipe2, read, write};

use crate::fuse::Server;
use crate::mayfly;
use crate::sys::{self, Beats, Slot};

/// How long a dozing task sleeps between two heartbeats.
const DOZE: Duration = Duration::from_millis(2);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// What a task does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keeps a CPU busy.
    Busy,
    /// The same on one CPU alone.
    Pinned(usize),
    /// Keeps a CPU to itself, in a real-time class, for so many milliseconds.
    Hog(usize, u64),
    /// Sleeps 2 ms at a time.
    Doze,
    /// Dozes and shows the longest time between two looks at the clock, in microseconds.
    Clock,
    /// Dozes and counts SIGUSR1.
    Catch,
    /// Sleeps for an hour.
    Sleep,
    /// Sleeps so many milliseconds and ends.
    Nap(u64),
    /// Waits on a futex.
    Futex,
    /// Reads a pipe.
    Pipe,
    /// Reads a socket.
    Socket,
    /// Waits in poll(2).
    Poll,
    /// Waits in epoll_wait(2), and counts how often that was broken off.
    Epoll,
    /// So many threads that doze.
    Threads(usize),
    /// The same, and the first thread of the process has ended.
    DeadLeader(usize),
    /// Stopped itself.
    Stopped,
    /// Stopped by its tracer.
    Traced,
    /// Waits for its vfork child, which dozes.
    Vfork,
    /// Dozes, and has a child that is a zombie.
    Zombie,
    /// Sleeps uninterruptibly, until released.
    Dstate,
    /// Sleeps in a page fault inside of a system call, which any signal, even a freezer's, turns into a busy loop.
    Fault,
    /// Has children that end as soon as they are there.
    Storm,
    /// Has threads that end soon.
    Churn,
    /// Starts programs, one after the other.
    Execs,
    /// Becomes another program again and again, from a thread that is not its first.
    Reexec,
    /// Waits for one vfork child after the other.
    Vforks,
    /// Stops a child and lets it go on, again and again.
    Stops,
    /// Traces a child, stops it, and lets go of it, again and again.
    Traces,
    /// Freezes its own cgroups when poked.
    Freezer,
    /// Dozes with so many MiB of memory, which take their time to be given back at its end.
    Heavy(usize),
    /// Waits in an exec for a file system's server, which answers when it is released. Then it dozes.
    Hung,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let mut parts = word.split(':');
        let name = parts.next().unwrap_or_default();
        let numbers: Result<Vec<u64>, _> = parts.map(str::parse).collect();
        let numbers = numbers.map_err(|error| format!("{word}: {error}"))?;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(match (name, numbers.as_slice()) {
            ("busy", []) => Self::Busy,
            ("pinned", [cpu]) => Self::Pinned(count(*cpu)),
            ("hog", [cpu, ms]) => Self::Hog(count(*cpu), *ms),
            ("doze", []) => Self::Doze,
            ("clock", []) => Self::Clock,
            ("catch", []) => Self::Catch,
            ("sleep", []) => Self::Sleep,
            ("nap", [ms]) => Self::Nap(*ms),
            ("futex", []) => Self::Futex,
            ("pipe", []) => Self::Pipe,
            ("socket", []) => Self::Socket,
            ("poll", []) => Self::Poll,
            ("epoll", []) => Self::Epoll,
            ("threads", [n]) => Self::Threads(count(*n).max(1)),
            ("dead-leader", [n]) => Self::DeadLeader(count(*n).max(1)),
            ("stopped", []) => Self::Stopped,
            ("traced", []) => Self::Traced,
            ("vfork", []) => Self::Vfork,
            ("zombie", []) => Self::Zombie,
            ("dstate", []) => Self::Dstate,
            ("fault", []) => Self::Fault,
            ("storm", []) => Self::Storm,
            ("churn", []) => Self::Churn,
            ("execs", []) => Self::Execs,
            ("reexec", []) => Self::Reexec,
            ("vforks", []) => Self::Vforks,
            ("stops", []) => Self::Stops,
            ("traces", []) => Self::Traces,
            ("freezer", []) => Self::Freezer,
            ("heavy", [mib]) => Self::Heavy(count(*mib)),
            ("hung", []) => Self::Hung,
            _ => return Err(format!("no kind of task: {word}")),
        })
    }
}

/// What a task is given.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) beats: Beats,
    /// Where it is poked.
    pub(crate) poked: OwnedFd,
    /// Where one in D writes: nobody reads it while the trap is set.
    pub(crate) swamp: Option<OwnedFd>,
    /// The control files by which it freezes itself.
    pub(crate) freezers: Vec<PathBuf>,
    /// The file system whose server one that hangs waits for.
    pub(crate) server: Option<Server>,
    /// The heartbeat file, if there is one.
    pub(crate) shown: Option<PathBuf>,
    /// Where pulses are written, if they are.
    pub(crate) pulses: Option<PathBuf>,
}

impl Kind {
    /// How many tasks it is, those that come and go not counted.
    pub(crate) fn tasks(&self) -> usize {
        match self {
            Self::Threads(n) | Self::DeadLeader(n) => *n,
            Self::Vfork => 2,
            _ => 1,
        }
    }

    /// Lives it, and ends only by an error.
    pub(crate) fn live(&self, life: &Life) -> io::Result<Infallible> {
        match self {
            Self::DeadLeader(n) => {
                dozing_threads(life.beats, *n);
                sys::exit_thread();
            }
            Self::Threads(n) => dozing_threads(life.beats, n - 1),
            Self::Vfork => {
                let slot = life.beats.take();
                if sys::vfork()?.is_none() {
                    // A child of its own, which must go with it.
                    prctl::set_pdeathsig(Signal::SIGKILL)?;
                    doze(life.beats.take());
                }
                return Err(io::Error::other(format!("the vfork child of {slot:?} ended")));
            }
            _ => {}
        }
        let slot = life.beats.take();
        match self {
            Self::Busy => busy(slot),
            Self::Pinned(cpu) => {
                pin(*cpu)?;
                busy(slot)
            }
            Self::Hog(cpu, ms) => {
                pin(*cpu)?;
                sys::become_fifo()?;
                let began = Instant::now();
                let mut beats = 0;
                while began.elapsed() < Duration::from_millis(*ms) {
                    beat(slot, &mut beats);
                }
                Err(io::Error::other("its time is over"))
            }
            Self::Catch => {
                sys::count_signal(Signal::SIGUSR1)?;
                let mut beats = 0;
                loop {
                    thread::sleep(DOZE);
                    slot.word.store(sys::caught(), Ordering::SeqCst);
                    beat(slot, &mut beats);
                }
            }
            Self::Clock => {
                let (mut beats, mut last, mut longest) = (0, Instant::now(), 0);
                loop {
                    thread::sleep(DOZE);
                    let now = Instant::now();
                    longest = now.duration_since(last).as_micros().max(longest);
                    last = now;
                    slot.word
                        .store(u64::try_from(longest).unwrap_or(u64::MAX), Ordering::SeqCst);
                    beat(slot, &mut beats);
                }
            }
            Self::Sleep => loop {
                thread::sleep(LONG);
            },
            Self::Nap(ms) => {
                thread::sleep(Duration::from_millis(*ms));
                sys::exit(0)
            }
            Self::Fault => {
                let (from, to) = pipe2(OFlag::O_CLOEXEC)?;
                write(&to, b"x")?;
                sys::Trap::set(from)?.sink();
                doze(slot)
            }
            Self::Stopped => {
                raise(Signal::SIGSTOP)?;
                doze(slot)
            }
            Self::Traced => {
                sys::trace_me()?;
                raise(Signal::SIGSTOP)?;
                doze(slot)
            }
            Self::Zombie => {
                match sys::fork()? {
                    None => sys::exit(0),
                    Some(child) => slot.word.store(number(child), Ordering::SeqCst),
                }
                doze(slot)
            }
            Self::Dstate => {
                let swamp = life
                    .swamp
                    .as_ref()
                    .ok_or_else(|| io::Error::other("no pipe to sink in"))?;
                write(swamp, b"x")?;
                doze(slot)
            }
            Self::Storm => {
                let mut beats = 0;
                loop {
                    match sys::fork()? {
                        None => mayfly::end_at_once(),
                        Some(child) => drop(waitpid(child, None)?),
                    }
                    beat(slot, &mut beats);
                }
            }
            Self::Churn => {
                let mut beats = 0;
                loop {
                    let brief = thread::spawn(mayfly::live);
                    brief.join().map_err(|_| io::Error::other("a thread panicked"))?;
                    beat(slot, &mut beats);
                }
            }
            Self::Execs => {
                let mut beats = 0;
                loop {
                    mayfly::program(life.pulses.as_deref())?.status()?;
                    beat(slot, &mut beats);
                }
            }
            Self::Reexec => {
                beat(slot, &mut 0);
                mayfly::reexec(life.pulses.as_deref())
            }
            Self::Vforks => {
                let mut beats = 0;
                loop {
                    match sys::vfork()? {
                        None => mayfly::end_at_once(),
                        Some(child) => drop(waitpid(child, None)?),
                    }
                    beat(slot, &mut beats);
                }
            }
            Self::Stops => mayfly::toggle(
                || beat_on(slot),
                |child| {
                    kill(child, Signal::SIGSTOP)?;
                    waitpid(child, Some(WaitPidFlag::WUNTRACED))?;
                    Ok(kill(child, Signal::SIGCONT)?)
                },
            ),
            Self::Traces => mayfly::toggle(
                || beat_on(slot),
                |child| {
                    sys::seize(child)?;
                    waitpid(child, Some(WaitPidFlag::__WALL))?;
                    sys::detach(child)
                },
            ),
            Self::Heavy(mib) => {
                // In small pages.
                prctl::set_thp_disable(true)?;
                let memory = vec![1_u8; mib << 20];
                slot.word
                    .store(u64::from(memory[memory.len() / 2]), Ordering::SeqCst);
                doze(slot)
            }
            Self::Hung => {
                let absent = || io::Error::other("it needs a server and a heartbeat file");
                let server = life.server.as_ref().ok_or_else(absent)?;
                let _file = server.open_file()?;
                // By its descriptor, which the exec leaves open: the file may have no name any more then.
                let path = life.shown.as_deref().ok_or_else(absent)?;
                let shown = open(path, OFlag::O_RDWR, Mode::empty())?;
                let mut again = Command::new(std::env::current_exe()?);
                again
                    .arg("--beats")
                    .arg(format!("/proc/self/fd/{}", shown.as_raw_fd()));
                Err(again.arg("rise").arg(life.beats.taken().to_string()).exec())
            }
            Self::Futex | Self::Pipe | Self::Socket | Self::Poll | Self::Epoll | Self::Freezer => {
                self.wait(life, slot)
            }
            // The last thread of them.
            Self::Doze | Self::Threads(_) | Self::DeadLeader(_) | Self::Vfork => doze(slot),
        }
    }

    /// Waits in its own way until it is poked; each time it beats once.
    fn wait(&self, life: &Life, slot: &Slot) -> io::Result<Infallible> {
        let epoll = sys::epoll_of(&life.poked)?;
        let mut beats = 0;
        loop {
            match self {
                Self::Futex => {
                    while slot.futex.swap(0, Ordering::SeqCst) == 0 {
                        sys::futex_wait(&slot.futex);
                    }
                }
                Self::Poll => {
                    let mut fds = [PollFd::new(life.poked.as_fd(), PollFlags::POLLIN)];
                    poll(&mut fds, PollTimeout::NONE)?;
                }
                Self::Epoll => {
                    while !sys::epoll_wait(&epoll)? {
                        slot.word.fetch_add(1, Ordering::SeqCst);
                    }
                }
                _ => {}
            }
            if *self != Self::Futex && read(&life.poked, &mut [0])? == 0 {
                return Err(io::Error::other("the keeper is gone"));
            }
            if *self == Self::Freezer {
                for file in &life.freezers {
                    let value = if file.ends_with("freezer.state") {
                        "FROZEN"
                    } else {
                        "1"
                    };
                    fs::write(file, value)?;
                }
            }
            beat(slot, &mut beats);
        }
    }

    /// The letter and the system calls by which the kind's first task is known; none where it is known by its beats.
    pub(crate) fn look(&self) -> Option<(char, &'static [i64])> {
        match self {
            Self::Sleep | Self::Nap(_) => Some(('S', &[libc::SYS_clock_nanosleep, libc::SYS_nanosleep])),
            Self::Futex => Some(('S', &[libc::SYS_futex])),
            Self::Pipe | Self::Freezer | Self::Socket | Self::Fault => Some(('S', &[libc::SYS_read])),
            #[cfg(target_arch = "x86_64")]
            Self::Poll => Some(('S', &[libc::SYS_poll, libc::SYS_ppoll])),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Poll => Some(('S', &[libc::SYS_ppoll])),
            #[cfg(target_arch = "x86_64")]
            Self::Epoll => Some(('S', &[libc::SYS_epoll_wait, libc::SYS_epoll_pwait])),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Epoll => Some(('S', &[libc::SYS_epoll_pwait])),
            Self::Stopped => Some(('T', &[])),
            Self::Traced => Some(('t', &[])),
            Self::Vfork => Some(('D', &[libc::SYS_clone])),
            Self::Dstate => Some(('D', &[libc::SYS_write])),
            _ => None,
        }
    }
}

fn number(pid: Pid) -> u64 {
    u64::from(pid.as_raw().unsigned_abs())
}

fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Counts in the caller's own memory and shows the count.
fn beat(slot: &Slot, beats: &mut u64) {
    *beats += 1;
    slot.beats.store(*beats, Ordering::SeqCst);
    sys::beat(slot.tid.load(Ordering::SeqCst));
}

/// One more than is shown.
fn beat_on(slot: &Slot) {
    beat(slot, &mut slot.beats.load(Ordering::SeqCst));
}

fn busy(slot: &Slot) -> ! {
    let mut beats = 0;
    loop {
        beat(slot, &mut beats);
    }
}

fn doze(slot: &Slot) -> ! {
    let mut beats = 0;
    loop {
        thread::sleep(DOZE);
        beat(slot, &mut beats);
    }
}

/// What one that hung becomes: it dozes on in its slot.
pub(crate) fn rise(shown: Option<&Path>, slot: Option<&OsStr>) -> io::Result<Infallible> {
    let absent = || io::Error::other("rise needs --beats and a slot");
    let file = crate::shared(shown.ok_or_else(absent)?)?;
    let slot = slot.and_then(OsStr::to_str).and_then(|slot| slot.parse().ok());
    doze(Beats::map(Some(&file))?.slot(slot.ok_or_else(absent)?))
}

fn dozing_threads(beats: Beats, n: usize) {
    for _ in 0..n {
        thread::spawn(move || doze(beats.take()));
    }
}

/// Whether a count is that of a task that got going.
pub(crate) fn beats(count: &AtomicU64) -> bool {
    count.load(Ordering::SeqCst) > 0
}
