//! The command that containers are held for: run by the process that the operator started, with its standard streams and
//! its terminal. What the command ends with is what the hold ends with.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};

/// How long a command that is to end may take before it is killed.
const POLITE: Duration = Duration::from_secs(2);
/// How long one that was asked to end may keep file systems frozen.
const ASKED: Duration = Duration::from_secs(1);
/// How long after its limit one may be left alone: who thaws file systems first may hang, and is made up for by then.
const LEFT: Duration = Duration::from_secs(1);
/// How often one is looked at whose end is not reported, on a kernel without pidfds.
const LOOK: Duration = Duration::from_millis(20);

/// Where a command is.
#[derive(Debug, Default)]
enum At {
    /// It was not run yet.
    #[default]
    Before,
    /// It runs.
    Running {
        child: Child,
        /// Readable at its end; `None` on a kernel without it.
        fd: Option<OwnedFd>,
        until: Option<Instant>,
    },
    /// It was told to end.
    Ending {
        child: Child,
        fd: Option<OwnedFd>,
        kill_at: Instant,
    },
    /// Its end, as a shell has it.
    Done(u8),
}

/// What happened to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its limit is reached.
    AtLimit,
    /// It was asked to end some time ago, and has not.
    IsAsked,
    /// It ended.
    Ended,
}

/// What others are to know of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It has ended, or could not be run.
    Ended,
    /// Who did the work is gone while it runs.
    Alone,
}

/// Says on a line whose other end outlives this process that its process is about to become the command. It is called
/// between fork and exec, and does nothing that can hang.
pub(crate) type Announce = fn(BorrowedFd<'_>) -> io::Result<()>;

/// Makes a command ready to be started: it is given the priority and the line of [`Announce`].
type MakeReady<'r> = &'r dyn Fn(&mut Command, i32, Option<(RawFd, Announce)>);

/// A command to be run, or none.
#[derive(Default)]
pub(crate) struct ChildCommand<'w> {
    words: &'w [OsString],
    /// Is told the news.
    tell: Option<&'w dyn Fn(News)>,
    /// Where the command's own process says who it is, before it becomes the command.
    guard: Option<(RawFd, Announce)>,
    at: At,
    /// The priority that this process was started with, which is the command's.
    priority: i32,
    /// A signal that came before it ran.
    early: Option<Signal>,
    /// Whether its limit was reached.
    is_over: bool,
    /// When it is told that it was asked to end, and has not.
    asked_until: Option<Instant>,
}

impl<'w> ChildCommand<'w> {
    pub(crate) fn new(
        words: &'w [OsString],
        priority: i32,
        tell: &'w dyn Fn(News),
        guard: Option<(RawFd, Announce)>,
    ) -> Self {
        Self {
            words,
            tell: Some(tell),
            guard,
            priority,
            ..Self::default()
        }
    }

    /// How it ended; `None` where it was not run.
    pub(crate) fn code(&self) -> Option<u8> {
        match self.at {
            At::Done(_) if self.is_over => Some(124),
            At::Done(code) => Some(code),
            _ => None,
        }
    }

    /// Who did the work is gone.
    pub(crate) fn is_alone(&self) {
        self.tell(News::Alone);
    }

    fn tell(&self, news: News) {
        if let Some(tell) = self.tell {
            tell(news);
        }
    }

    /// Whether there is one.
    pub(crate) fn is_some(&self) -> bool {
        !self.words.is_empty()
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.at, At::Running { .. } | At::Ending { .. })
    }

    /// What tells its end.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.at {
            At::Running { fd, .. } | At::Ending { fd, .. } => fd.as_ref().map(AsFd::as_fd),
            _ => None,
        }
    }

    /// When it is to be looked at, at the latest.
    pub(crate) fn next(&self) -> Option<Instant> {
        let (fd, next) = match &self.at {
            At::Running { fd, until, .. } => (fd, until.iter().chain(&self.asked_until).min().copied()),
            At::Ending { fd, kill_at, .. } => (fd, Some(*kill_at)),
            _ => return None,
        };
        if fd.is_some() {
            next
        } else {
            let look = Instant::now() + LOOK;
            Some(next.map_or(look, |next| next.min(look)))
        }
    }

    /// Starts it, made ready by `ready`. Where that can't be, what is to be said.
    pub(crate) fn start(&mut self, most: Option<Duration>, ready: MakeReady<'_>) -> Result<(), String> {
        let Some((program, args)) = self.words.split_first() else {
            self.at = At::Done(0);
            return Err(String::new());
        };
        if let Some(signal) = self.early {
            self.at = At::Done(128 + u8::try_from(signal as i32).unwrap_or(0));
            return Err(String::new());
        }
        let mut command = Command::new(program);
        ready(command.args(args), self.priority, self.guard);
        match command.spawn() {
            Ok(child) => {
                let pid = i32::try_from(child.id())
                    .ok()
                    .and_then(rustix::process::Pid::from_raw);
                let fd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()); // else it is looked at
                let until = most.map(|most| Instant::now() + most);
                self.at = At::Running { child, fd, until };
                Ok(())
            }
            Err(error) => {
                self.tell(News::Ended);
                let code = if error.kind() == io::ErrorKind::NotFound {
                    127
                } else {
                    126
                };
                self.at = At::Done(code);
                Err(format!(
                    "iceaxe: cannot run {}: {error}\n",
                    program.to_string_lossy()
                ))
            }
        }
    }

    /// Takes a signal that this process was sent; whether it was the command's. What the terminal sends it sends the command
    /// too, but for its own end: of that it tells the leader of the session alone, which this process may be.
    pub(crate) fn takes(&mut self, signal: Signal, is_terminals: bool) -> bool {
        match &self.at {
            At::Running { child, .. } | At::Ending { child, .. } => {
                if !is_terminals || signal == Signal::SIGHUP {
                    send(child, signal);
                }
                if !matches!(signal, Signal::SIGUSR1 | Signal::SIGUSR2) {
                    self.asked_until.get_or_insert(Instant::now() + ASKED);
                }
                true
            }
            At::Done(_) => true,
            At::Before => {
                self.early.get_or_insert(signal);
                false
            }
        }
    }

    /// Looks at it. `AtLimit` is said once.
    pub(crate) fn look(&mut self, has_stirred: bool) -> Option<Change> {
        let change = self.change(has_stirred);
        if change == Some(Change::Ended) {
            self.tell(News::Ended);
        }
        change
    }

    fn change(&mut self, has_stirred: bool) -> Option<Change> {
        let now = Instant::now();
        match &mut self.at {
            At::Running { child, fd, until } => {
                if (has_stirred || fd.is_none())
                    && let Some(code) = ended(child)
                {
                    self.at = At::Done(code);
                    return Some(Change::Ended);
                }
                if until.is_some_and(|until| now >= until) {
                    let is_left = self.is_over;
                    *until = Some(now + LEFT);
                    self.is_over = true;
                    if is_left {
                        self.clear(); // nobody said so
                        return None;
                    }
                    return Some(Change::AtLimit);
                }
                if self.asked_until.is_some_and(|until| now >= until) {
                    self.asked_until = None;
                    return Some(Change::IsAsked);
                }
            }
            At::Ending { child, fd, kill_at } => {
                if (has_stirred || fd.is_none())
                    && let Some(code) = ended(child)
                {
                    self.at = At::Done(code);
                    return Some(Change::Ended);
                }
                if now >= *kill_at {
                    send(child, Signal::SIGKILL);
                    *kill_at = now + POLITE;
                }
            }
            At::Before | At::Done(_) => {}
        }
        None
    }

    /// Ends it for its limit, without a word of that before.
    pub(crate) fn give_up(&mut self) {
        self.is_over = true;
        self.clear();
    }

    /// Ends it: it is asked first.
    pub(crate) fn clear(&mut self) {
        self.at = match std::mem::take(&mut self.at) {
            At::Running { child, fd, .. } => {
                send(&child, Signal::SIGTERM);
                send(&child, Signal::SIGCONT); // one that is stopped could not end
                let kill_at = Instant::now() + POLITE;
                At::Ending { child, fd, kill_at }
            }
            other => other,
        };
    }
}

fn send(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It has just ended, then, and was not waited for: the number is still its own.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Its code as a shell has it; `None` while it runs.
fn ended(child: &mut Child) -> Option<u8> {
    let status = child.try_wait().ok()??; // only this process waits for it
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
}
