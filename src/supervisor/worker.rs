//! Works in a child process, so that a write that never returns does not take the operator's shell with it: a thread
//! that hangs in the kernel keeps its own process from ending, and nobody else's. The child says in advance what is to
//! be printed if nothing more is heard of it (its last words); the parent needs to understand nothing of it.
//!
//! The one module with `unsafe`: it forks.
#![expect(unsafe_code, reason = "fork(2) has no safe form")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, raise, signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setpgid, setsid};

use super::command::{Change, ChildCommand};
use super::link::{AT_LIMIT, Answer, HAS_ENDED, IS_ASKED, Link, Say};
use super::protocol::{LastWords, Message, receive, send};
use super::streams::{Progress, Streams};

/// How long after a signal the child has to undo what it began.
const UNDO: Duration = Duration::from_secs(3);
/// How long after an answer the child may take to say how long it needs.
const AFTER_ANSWER: Duration = Duration::from_secs(10);
/// From so many messages on there are many targets, and a word of them every few microseconds.
const MANY: usize = 64;
/// To be woken by each of those would cost both sides more than the work: so many milliseconds nobody listens.
const NAP_MS: u16 = 1;
/// How much the worker can say before it is heard, in bytes; a target's words are some 6 KB.
const ROOM: libc::c_int = 1 << 20;
/// How long after a command's end the child may take to say how long it needs.
const AFTER_END: Duration = Duration::from_secs(5);

/// How a supervised piece of work ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By its own code.
    Code(u8),
    /// It, the process of this number, was not heard of in time; these last words are in force.
    Silent(Pid, Vec<LastWords>),
    /// It died; these last words are in force, and this is to be put back.
    Died(BTreeMap<u32, LastWords>, BTreeMap<u32, (Vec<u8>, LastWords)>),
    /// A signal ended it, after it had undone what it began; the process of this number has not where there are last words.
    Signal(Signal, Pid, Vec<LastWords>),
}

/// Runs `work` in a child, with these last words until it says others, relays what it says, and keeps its deadlines. The work
/// gets a descriptor that becomes readable, or is hung up, when it is to undo what it began: a signal came, or this
/// process is gone.
///
/// No other thread may run in this process: the child has only this one.
pub(crate) fn supervise(
    streams: &mut Streams<'_>,
    all_last_words: BTreeMap<u32, LastWords>,
    command: &mut ChildCommand<'_>,
    work: &dyn Fn(Say<'_>, Link<'_>) -> u8,
) -> Ended {
    let mut signals = vec![Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    if command.is_some() {
        signals.extend([Signal::SIGUSR1, Signal::SIGUSR2]); // the command's, which may mean anything
    }
    let mut set = SigSet::empty();
    signals.into_iter().for_each(|signal| set.add(signal));
    // Blocking signals that exist can't fail; if it did, a signal would end this process at once and hang up the lifeline.
    let _ = set.thread_block();
    let Ok(signal_fd) = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK) else {
        return here("no signalfd could be made", None, streams, work);
    };
    let pipes = pipe2(OFlag::O_CLOEXEC).and_then(|pipe| Ok((pipe, pipe2(OFlag::O_CLOEXEC)?)));
    let ((from, to), (life, line)) = match pipes {
        Ok(pipes) => pipes,
        Err(errno) => {
            return here(
                &format!("no pipe could be made: {errno}"),
                Some(&signal_fd),
                streams,
                work,
            );
        }
    };
    // Words of a hundred targets fit into it, so that their requests need not wait until this process gets a CPU. Where the
    // system grants less, it is full sooner.
    let _ = fcntl(&to, FcntlArg::F_SETPIPE_SZ(ROOM));
    // A caller may have had it ignored, and the ends of children are never told then. A signal that exists can be reset.
    // SAFETY: the default action is no handler of ours.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    // SAFETY: no thread has been started in this process, so that no lock can be held by one that the child lacks.
    match unsafe { fork() } {
        Err(errno) => here(
            &format!("no child process could be made: {errno}"),
            Some(&signal_fd),
            streams,
            work,
        ),
        Ok(ForkResult::Child) => {
            // With them and its signals it would need more descriptors than a caller may have left it.
            drop((from, line, signal_fd));
            // Its own group: the terminal's signals go to the parent alone, which passes them on through the lifeline.
            // A failure leaves it in the parent's group with those signals blocked, which comes to the same.
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            detach();
            // EPIPE: the parent is gone, and the lifeline says so to whoever waits.
            let say = |message: &Message| drop(send(to.as_fd(), message));
            let link = Link {
                cancel: Some(life.as_fd()),
                is_child: true,
            };
            let code = work(&say, link);
            say(&Message::Code(code));
            // A thread of it may hang in the kernel: no destructor may wait for one.
            // SAFETY: _exit ends the process without running anything of it.
            unsafe { libc::_exit(i32::from(code)) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop((to, life));
            let mut parent = Parent {
                child,
                from,
                lifeline: Some(line),
                all_last_words,
                undo: BTreeMap::new(),
                signals: set,
                committed: false,
                endless: false,
                caught: None,
                command,
                is_alone: false,
                code: None,
                progress: Progress::new(Instant::now()),
                heard: 0,
            };
            let ended = parent.listen(&signal_fd, streams);
            parent.progress.erase(streams);
            drop(parent.lifeline.take());
            // Only to collect it where it has ended: nobody waits for one that hangs.
            let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
            ended
        }
    }
}

/// Runs `work` in a process of its own: of its own session, nobody's child that could be waited for, and with no descriptor
/// but those of `keep`. Who waits for the end of this one's descriptors, or for a lock on one, need not wait for that process.
///
/// No other thread may run in this process: the new one has only this one.
pub(crate) fn apart(keep: &[RawFd], work: impl FnOnce() -> u8) -> nix::Result<()> {
    // SAFETY: as in `supervise`: no thread has been started in this process.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => {
            while waitpid(child, None) == Err(Errno::EINTR) {}
            Ok(())
        }
        ForkResult::Child => {
            // What was just forked leads no group, so that it can't fail. The next fork is of a process that leads no session,
            // which can't get a terminal by opening one.
            let _ = setsid();
            // SAFETY: as above.
            if matches!(unsafe { fork() }, Ok(ForkResult::Child)) {
                // First: whatever is to be opened needs a number that is free.
                close_all_but(keep);
                detach();
                let code = work();
                // SAFETY: _exit ends the process without running anything of it.
                unsafe { libc::_exit(i32::from(code)) }
            }
            // Where the second fork failed nobody answers on the line, which is seen.
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
    }
}

/// So many descriptors are tried one by one. Where there are more of them a number is free for the listing.
const EACH: RawFd = 1 << 16;

/// Closes every descriptor but the standard ones and those of `keep`.
fn close_all_but(keep: &[RawFd]) {
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let open: Vec<RawFd> = match std::fs::read_dir("/proc/self/fd") {
        Ok(names) => names.flatten().filter_map(number).collect(),
        // No number is free to list them by: it is each of those that there can be.
        Err(_) => (0..EACH).collect(),
    };
    for fd in open.into_iter().filter(|fd| *fd > 2 && !keep.contains(fd)) {
        // The listing's own is closed already. One that is open is closed whatever close(2) says.
        let _ = nix::unistd::close(fd);
    }
}

/// Lets go of the standard streams: whoever reads this command's output to its end must not wait for a child that hangs.
fn detach() {
    // Without /dev/null they stay open: the command works, only its reader may wait.
    if let Ok(null) = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()) {
        // Duplicating onto a descriptor that is open can't fail but by a signal, which are blocked.
        let _ = dup2_stdin(&null)
            .and_then(|()| dup2_stdout(&null))
            .and_then(|()| dup2_stderr(&null));
    }
}

/// Works in this process, and says that the deadline can't be kept.
fn here(
    why: &str,
    signals: Option<&SignalFd>,
    streams: &mut Streams<'_>,
    work: &dyn Fn(Say<'_>, Link<'_>) -> u8,
) -> Ended {
    let streams = RefCell::new(streams);
    let say = |message: &Message| match message {
        Message::Out(bytes) => streams.borrow_mut().out(bytes),
        Message::Err(bytes) => streams.borrow_mut().err(bytes),
        Message::End(_, last_words) => {
            streams.borrow_mut().out(&last_words.out);
            streams.borrow_mut().err(&last_words.err);
        }
        _ => {}
    };
    say(&Message::Err(
        format!("iceaxe: {why}: a write that hangs will hang this command\n").into_bytes(),
    ));
    let link = Link {
        cancel: signals.map(SignalFd::as_fd),
        is_child: false,
    };
    let code = work(&say, link);
    match signals.map(SignalFd::read_signal) {
        Some(Ok(Some(info))) => match i32::try_from(info.ssi_signo).map(Signal::try_from) {
            Ok(Ok(signal)) => Ended::Signal(signal, nix::unistd::getpid(), Vec::new()),
            _ => Ended::Code(code),
        },
        _ => Ended::Code(code),
    }
}

/// What happened while a supervisor waited.
#[derive(Debug, Clone, Copy)]
struct Stirred {
    signal: bool,
    /// The command ended.
    command: bool,
    /// The child said something, or is gone.
    message: bool,
    /// Nobody reads the results any more.
    unread: bool,
}

struct Parent<'e, 'w> {
    /// The process that does the work.
    child: Pid,
    /// The command that is to be run, if any.
    command: &'e mut ChildCommand<'w>,
    /// Whether the child is gone while the command runs.
    is_alone: bool,
    /// What it ended with, where it said so before.
    code: Option<u8>,
    from: OwnedFd,
    lifeline: Option<OwnedFd>,
    all_last_words: BTreeMap<u32, LastWords>,
    undo: BTreeMap<u32, (Vec<u8>, LastWords)>,
    caught: Option<Signal>,
    /// The signals that are blocked but while something is printed.
    signals: SigSet,
    /// Whether all is done and only to be told.
    committed: bool,
    /// Whether it ends when nobody reads what it says.
    endless: bool,
    progress: Progress,
    /// How many messages came.
    heard: usize,
}

impl Parent<'_, '_> {
    fn listen(&mut self, signals: &SignalFd, streams: &mut Streams<'_>) -> Ended {
        // Until it says otherwise: it only has to start.
        let mut deadline = Some(Instant::now() + Duration::from_secs(10));
        loop {
            let until = match self.command.is_running() {
                true => self.command.next(), // the child has all its time
                false => deadline,
            };
            let next = until.into_iter().chain(self.progress.due()).min();
            let left = next.map(|next| next.saturating_duration_since(Instant::now()));
            // Rounded up, so that a wait of a part of a millisecond does not spin.
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            let stirred = self.wait(signals, streams.fd, timeout);
            // A signal that came has the first word: while something is printed it would end this process.
            let is_drawn = !stirred.is_some_and(|stirred| stirred.signal);
            if is_drawn && self.progress.due().is_some_and(|due| due <= Instant::now()) {
                deliverable(&self.signals, || self.progress.draw(Instant::now(), streams));
            }
            let Some(stirred) = stirred else {
                match until {
                    Some(until) if Instant::now() >= until && !self.command.is_running() => {
                        return self.silent();
                    }
                    // The command's own time is looked at below.
                    Some(until) if Instant::now() >= until => self.look_at_errand(false, &mut deadline),
                    _ => {}
                }
                if self.is_alone && !self.command.is_running() {
                    return self.left_alone();
                }
                continue;
            };
            if self.endless && (streams.failed.is_some() || stirred.unread) && self.lifeline.take().is_some()
            {
                deadline = Some(Instant::now() + UNDO);
            }
            if stirred.signal
                && let Ok(Some(info)) = signals.read_signal()
                && let Ok(Ok(signal)) = i32::try_from(info.ssi_signo).map(Signal::try_from)
                && !self.command.takes(signal, info.ssi_code == libc::SI_KERNEL)
            {
                if self.committed {
                    continue;
                }
                self.caught.get_or_insert(signal);
                self.lifeline = None;
                deadline = Some(Instant::now() + UNDO);
            }
            if self.command.is_running() {
                self.look_at_errand(stirred.command, &mut deadline);
                if self.is_alone && !self.command.is_running() {
                    return self.left_alone();
                }
            }
            if !stirred.message {
                continue;
            }
            match receive(self.from.as_fd()) {
                // It did not wait for a command whose limit passed while this process was stopped.
                Ok(Some(Message::Code(code))) if self.command.is_running() => {
                    self.is_alone = true;
                    self.code = Some(code);
                    deadline = None;
                    self.command.give_up();
                }
                Ok(Some(Message::Code(code))) => {
                    return match self.caught {
                        Some(signal) => Ended::Signal(signal, self.child, Vec::new()),
                        None => Ended::Code(code),
                    };
                }
                Ok(Some(Message::Run(most))) => {
                    // The terminal is the command's.
                    self.progress.erase(streams);
                    self.progress = Progress::new(Instant::now());
                    let most = (most > 0).then(|| Duration::from_millis(most));
                    let signals = self.signals;
                    // SAFETY: no other thread runs in this process whose locks the new one could lack. The guard's descriptor is
                    // open for as long as this process lives.
                    let started = self.command.start(most, &|command, priority, guard| unsafe {
                        command.pre_exec(move || {
                            rustix::process::setpriority_process(None, priority)?;
                            if let Some((guard, announce)) = guard {
                                // First: whoever is killed from here on, it is known. A guard that is gone ends nothing.
                                let _ = announce(BorrowedFd::borrow_raw(guard));
                            }
                            Ok(signals.thread_unblock()?)
                        });
                    });
                    match started {
                        Ok(()) => deadline = None,
                        Err(why) => {
                            streams.err(why.as_bytes());
                            self.answer(HAS_ENDED);
                        }
                    }
                }
                Ok(Some(Message::Clear)) => self.command.clear(),
                Ok(Some(message)) => {
                    self.heard += 1;
                    if let Some(within) = self.take(message, streams)
                        && self.lifeline.is_some()
                    {
                        deadline = Some(Instant::now() + within);
                    }
                }
                Ok(None) | Err(_) if self.command.is_running() => {
                    self.is_alone = true;
                    deadline = None;
                    self.command.is_alone();
                    streams.err(b"iceaxe: the process that did the work died: what it froze is thawed when the command ends\n");
                }
                Ok(None) | Err(_) => return self.died(),
            }
        }
    }

    /// Waits for anything to happen; `None` where nothing did in time.
    fn wait(
        &self,
        signals: &SignalFd,
        reader: Option<BorrowedFd<'_>>,
        timeout: PollTimeout,
    ) -> Option<Stirred> {
        // That a pipe has no reader any more is told without being asked for.
        let reader = reader.filter(|_| self.endless && self.lifeline.is_some());
        let fds = [
            Some((signals.as_fd(), PollFlags::POLLIN)),
            self.command.fd().map(|fd| (fd, PollFlags::POLLIN)),
            Some((self.from.as_fd(), PollFlags::POLLIN)).filter(|_| !self.is_alone),
            reader.map(|fd| (fd, PollFlags::empty())),
        ];
        let mut polled: Vec<PollFd<'_>> = fds
            .iter()
            .flatten()
            .map(|(fd, flags)| PollFd::new(*fd, *flags))
            .collect();
        // No timeout is the least of them in their order.
        let nap = if timeout.is_none() {
            NAP_MS.into()
        } else {
            timeout.min(NAP_MS.into())
        };
        let count = match poll(&mut polled, PollTimeout::ZERO) {
            Ok(0) if self.heard < MANY => poll(&mut polled, timeout),
            // Nothing is there yet. Signals are heard all the time.
            Ok(0) if poll(&mut polled[..1], nap) == Ok(0) => poll(&mut polled, timeout),
            polled => polled,
        };
        match count {
            Ok(0) | Err(Errno::EINTR) => return None,
            Ok(_) | Err(_) => {} // no memory just now: nothing is said to have stirred, and it is asked again
        }
        let mut polled = polled.iter();
        let [signal, command, message, unread] = fds.map(|fd| {
            let polled = fd.and_then(|_| polled.next());
            polled.is_some_and(|fd| fd.any().unwrap_or(false))
        });
        Some(Stirred {
            signal,
            command,
            message,
            unread,
        })
    }

    /// Sees to the command: its limit, and its end.
    fn look_at_errand(&mut self, has_stirred: bool, deadline: &mut Option<Instant>) {
        match self.command.look(has_stirred) {
            Some(Change::AtLimit) if self.is_alone => self.command.clear(),
            Some(Change::AtLimit) => self.answer(AT_LIMIT),
            Some(Change::IsAsked) => self.answer(IS_ASKED),
            Some(Change::Ended) if !self.is_alone => {
                self.answer(HAS_ENDED);
                self.progress = Progress::new(Instant::now());
                // It may have said already that it needs longer.
                *deadline = (*deadline).max(Some(Instant::now() + AFTER_END));
            }
            Some(Change::Ended) | None => {}
        }
    }

    /// The end of a command that was left alone.
    fn left_alone(&mut self) -> Ended {
        match self.code {
            Some(code) => Ended::Code(code),
            None => self.died(),
        }
    }

    fn died(&mut self) -> Ended {
        Ended::Died(
            std::mem::take(&mut self.all_last_words),
            std::mem::take(&mut self.undo),
        )
    }

    /// Says a word on the lifeline. A child that is gone needs none.
    fn answer(&self, word: &[u8; 1]) {
        if let Some(line) = &self.lifeline {
            let _ = nix::unistd::write(line, word);
        }
    }

    fn silent(&mut self) -> Ended {
        let all_last_words = std::mem::take(&mut self.all_last_words).into_values().collect();
        match self.caught {
            Some(signal) => Ended::Signal(signal, self.child, all_last_words),
            None => Ended::Silent(self.child, all_last_words),
        }
    }

    fn take(&mut self, message: Message, streams: &mut Streams<'_>) -> Option<Duration> {
        let prints = matches!(message, Message::Out(_) | Message::Err(_) | Message::End(..));
        if prints && self.progress.is_drawn {
            deliverable(&self.signals, || self.progress.erase(streams));
        }
        match message {
            Message::Out(bytes) => deliverable(&self.signals, || streams.out(&bytes)),
            Message::Err(bytes) => deliverable(&self.signals, || streams.err(&bytes)),
            Message::Progress(text) => self.progress.set(text),
            Message::LastWords(index, last_words) => drop(self.all_last_words.insert(index, last_words)),
            Message::Undo(index, what, last_words) => drop(self.undo.insert(index, (what, last_words))),
            Message::End(index, last_words) => {
                // Nothing is left to be printed of it, but its code counts: the last word of all may not come.
                let code = last_words.code;
                self.all_last_words.remove(&index);
                if last_words != LastWords::default() {
                    let ended = LastWords {
                        code,
                        ..LastWords::default()
                    };
                    self.all_last_words.insert(index, ended);
                }
                self.undo.remove(&index);
                deliverable(&self.signals, || {
                    streams.out(&last_words.out);
                    streams.err(&last_words.err);
                });
            }
            Message::Committed => self.committed = true,
            Message::Endless => self.endless = true,
            Message::Ask(question) => {
                let mut answer = Answer::No;
                deliverable(&self.signals, || answer = Answer::to(&question, streams));
                let mut all = Answer::ALL.into_iter();
                let byte = all
                    .find(|(other, _)| *other == answer)
                    .map_or(b'n', |(_, byte)| byte);
                self.answer(&[byte]);
                return Some(AFTER_ANSWER);
            }
            // Messages are printed in their order. A child that is gone needs no answer.
            Message::Printed => self.answer(b"y"),
            Message::Within(milliseconds) => return Some(Duration::from_millis(milliseconds)),
            Message::Code(_) | Message::Run(_) | Message::Clear => {}
        }
        None
    }
}

/// Prints with signals let through: a reader that does not read must not keep this process from ending by one. The
/// lifeline goes with it, so that the child undoes what it began.
fn deliverable(signals: &SigSet, print: impl FnOnce()) {
    // Changing the mask by signals that exist can't fail.
    let _ = signals.thread_unblock();
    print();
    let _ = signals.thread_block();
}

/// Ends this process by `signal`, as the shell expects of a program that it interrupts.
pub(crate) fn die_by(caught: Signal) -> u8 {
    let mut set = SigSet::empty();
    set.add(caught);
    // SAFETY: the default action is no handler of ours.
    let reset = unsafe { signal(caught, SigHandler::SigDfl) };
    // Where any of these fails the process goes on, and ends with the code that a shell shows for the signal.
    let _ = reset
        .and_then(|_| raise(caught))
        .and_then(|()| set.thread_unblock());
    128 + u8::try_from(caught as i32).unwrap_or(0)
}
