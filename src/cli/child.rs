//! Works in a child process, so that a write that never returns does not take the operator's shell with it: a thread
//! that hangs in the kernel keeps its own process from ending, and nobody else's. The child says in advance what is to
//! be printed if nothing more is heard of it (its will); the parent needs to understand nothing of it.
//!
//! The one module with `unsafe`: it forks.
#![expect(unsafe_code, reason = "fork(2) has no safe form")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
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

use super::errand::{Errand, Errands};

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
/// A message longer than this is not ours.
const LONGEST: u32 = 64 << 20;

/// What a piece of work says.
#[derive(Debug)]
pub(crate) enum Message {
    /// To be printed on standard output.
    Out(Vec<u8>),
    /// To be printed on standard error.
    Err(Vec<u8>),
    /// To be printed for this target, with this exit code, if nothing more is heard.
    Will(u32, Will),
    /// This target is done with: this is to be printed, it has no other will, and nothing is to be put back.
    End(u32, Will),
    /// All is done and only to be told: a signal undoes nothing any more.
    Committed,
    /// Asks whether all that was said is printed.
    Printed,
    /// This question is to be asked of who typed the command, if that is at a terminal.
    Ask(Vec<u8>),
    /// What is to be put back for this target if the child dies, in its own coding, and what is to be printed then.
    Undo(u32, Vec<u8>, Will),
    /// The next message comes within this many milliseconds, or never.
    Within(u64),
    /// Asks to run the command that all is held for, for this many milliseconds at most; 0 is without a limit.
    Run(u64),
    /// The command may be ended now.
    Clear,
    /// It goes on for as long as somebody reads what it says, and has no other end.
    Endless,
    /// How far the work is, for a terminal.
    Progress(Vec<u8>),
    /// The end.
    Code(u8),
}

/// What is to be printed if nothing more is heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Will {
    /// On standard output.
    pub(crate) out: Vec<u8>,
    /// On standard error.
    pub(crate) err: Vec<u8>,
    /// The target's exit code.
    pub(crate) code: u8,
}

impl Will {
    fn encode(&self) -> Vec<u8> {
        [&[self.code], &length(&self.out)[..], &self.out, &self.err].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&code, rest) = bytes.split_first()?;
        let (out, err) = split(rest)?;
        Some(Self {
            out: out.to_vec(),
            err: err.to_vec(),
            code,
        })
    }
}

/// The length of a part, which goes before it.
fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// A part with its length before it, and the rest.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// How a supervised piece of work ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By its own code.
    Code(u8),
    /// It was not heard of in time; these wills are in force.
    Silent(Vec<Will>),
    /// It died; these wills are in force, and this is to be put back.
    Died(BTreeMap<u32, Will>, BTreeMap<u32, (Vec<u8>, Will)>),
    /// A signal ended it, after it had undone what it began.
    Signal(Signal, Vec<Will>),
}

/// Says one message, wherever it goes.
pub(crate) type Say<'s> = &'s dyn Fn(&Message);

/// What ties a piece of work to the process that supervises it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tie<'t> {
    /// Becomes readable, or is hung up, when the work is to undo what it began.
    pub(crate) cancel: Option<BorrowedFd<'t>>,
    /// Whether the work is in a child of that process.
    is_child: bool,
}

impl Tie<'_> {
    /// Waits until all that was said is printed; false where the process that prints it is gone before.
    pub(crate) fn is_printed(self, say: Say<'_>) -> bool {
        let (Some(line), true) = (self.cancel, self.is_child) else {
            return true;
        };
        say(&Message::Printed);
        answer(line).is_some() // not told is not printed
    }

    /// Asks who typed the command, and waits for as long as that takes. Where this is no child of a process that could
    /// be asked, nobody is there.
    pub(crate) fn ask(self, say: Say<'_>, question: &str) -> Answer {
        let (Some(line), true) = (self.cancel, self.is_child) else {
            return Answer::NoTerminal;
        };
        say(&Message::Ask(question.into()));
        let answer = answer(line);
        let mut all = Answer::ALL.into_iter();
        // One that is gone without an answer did not say yes.
        all.find(|(_, byte)| Some(*byte) == answer)
            .map_or(Answer::No, |(answer, _)| answer)
    }
}

/// The byte that the process at the other end answers with; `None` where it is gone.
fn answer(line: BorrowedFd<'_>) -> Option<u8> {
    let mut answer = [0];
    loop {
        match nix::unistd::read(line, &mut answer) {
            Ok(count) => return (count == 1).then_some(answer[0]),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// What came of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    /// Nobody is there to be asked.
    NoTerminal,
}

impl Answer {
    const ALL: [(Self, u8); 3] = [(Self::Yes, b'y'), (Self::No, b'n'), (Self::NoTerminal, b't')];

    /// Asks at this process's standard input, if that is a terminal. Nothing but yes is yes.
    fn to(question: &[u8], streams: &mut Streams<'_>) -> Self {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Self::NoTerminal;
        }
        streams.err(question);
        let mut line = String::new();
        match stdin.read_line(&mut line) {
            Ok(_) if matches!(line.trim(), "y" | "Y" | "yes" | "Yes") => Self::Yes,
            _ => Self::No,
        }
    }
}

/// How it came that a command runs no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It ended, or could not be run.
    Ended,
    /// The process that ran it is gone, or does not keep the limit.
    Lost,
}

impl Tie<'_> {
    /// Has the command run by the process that supervises, and waits for its end. `at_limit` is called when the limit is
    /// reached, before the command is ended.
    pub(crate) fn run(self, say: Say<'_>, most: Option<Duration>, at_limit: &mut dyn FnMut()) -> Ran {
        let (Some(line), true) = (self.cancel, self.is_child) else {
            return Ran::Lost;
        };
        say(&Message::Run(most.map_or(0, |most| {
            u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1)
        })));
        // Who supervises may be stopped, and what is held is thawed nevertheless.
        let mut until = most.map(|most| Instant::now() + most + LATE);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [PollFd::new(line, PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if left.is_some_and(|left| left.is_zero()) => {
                    at_limit();
                    return Ran::Lost;
                }
                Ok(0) | Err(_) => continue,
                Ok(_) => {}
            }
            let mut word = [0];
            match nix::unistd::read(line, &mut word) {
                Ok(1) if word == *AT_LIMIT => {
                    at_limit();
                    say(&Message::Clear);
                    until = Some(Instant::now() + OVERDUE);
                }
                Ok(1) => return Ran::Ended,
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return Ran::Lost,
            }
        }
    }
}

/// The words on the lifeline while a command runs: its limit is reached; it has ended.
const AT_LIMIT: &[u8; 1] = b"m";
const HAS_ENDED: &[u8; 1] = b"e";
/// How long after the limit who supervises may take to say so.
const LATE: Duration = Duration::from_millis(500);
/// How long after that a command may take to be ended: it is asked first.
const OVERDUE: Duration = Duration::from_secs(10);

/// Where a command's output goes.
pub struct Streams<'w> {
    /// Results.
    pub out: &'w mut dyn Write,
    /// Diagnosis and progress.
    pub err: &'w mut dyn Write,
    /// Whether results go to a terminal.
    pub is_terminal: bool,
    /// Where results go, to notice that nobody reads them any more.
    fd: Option<BorrowedFd<'w>>,
    /// Whether diagnosis goes to a terminal, which can be shown how far the work is.
    pub shows_progress: bool,
    /// Why results could not be written.
    failed: Option<io::Error>,
}

impl<'w> Streams<'w> {
    /// Streams to these writers.
    pub fn new(out: &'w mut dyn Write, err: &'w mut dyn Write, is_terminal: bool) -> Self {
        Self {
            out,
            err,
            is_terminal,
            fd: None,
            shows_progress: false,
            failed: None,
        }
    }

    /// The same, whose results go to `fd`: a verb that has no end of its own ends when that has no reader any more.
    #[must_use]
    pub fn to(self, fd: BorrowedFd<'w>) -> Self {
        Self { fd: Some(fd), ..self }
    }

    /// Writes results. Where that fails the rest is still done and told; the end says it.
    pub(crate) fn out(&mut self, bytes: &[u8]) {
        if let Err(error) = self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            self.failed.get_or_insert(error);
        }
    }

    /// The exit code, given that of the work: results that could not be written are a failure, unless their reader had
    /// enough of them.
    pub(crate) fn verdict(&mut self, code: u8) -> u8 {
        match self.failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                self.err(
                    format!("iceaxe: cannot write to standard output: {error}: what was done stays done, iceaxe status shows it\n")
                        .as_bytes(),
                );
                code.max(1)
            }
            _ => code,
        }
    }

    /// Writes diagnosis. Nobody is left to tell where that fails.
    pub(crate) fn err(&mut self, bytes: &[u8]) {
        let _ = self.err.write_all(bytes);
    }
}

/// Runs `work` in a child, with these wills until it says others, relays what it says, and keeps its deadlines. The work gets a descriptor that becomes
/// readable, or is hung up, when it is to undo what it began: a signal came, or this process is gone.
///
/// No other thread may run in this process: the child has only this one.
pub(crate) fn supervise(
    streams: &mut Streams<'_>,
    wills: BTreeMap<u32, Will>,
    errand: &mut Errand<'_>,
    work: &dyn Fn(Say<'_>, Tie<'_>) -> u8,
) -> Ended {
    let mut signals = vec![Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
    if errand.is_some() {
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
    // SAFETY: no thread has been started in this process, so that no lock can be held by one that the child lacks.
    match unsafe { fork() } {
        Err(errno) => here(
            &format!("no child process could be made: {errno}"),
            Some(&signal_fd),
            streams,
            work,
        ),
        Ok(ForkResult::Child) => {
            drop((from, line));
            // Its own group: the terminal's signals go to the parent alone, which passes them on through the lifeline.
            // A failure leaves it in the parent's group with those signals blocked, which comes to the same.
            let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
            detach();
            // EPIPE: the parent is gone, and the lifeline says so to whoever waits.
            let say = |message: &Message| drop(send(to.as_fd(), message));
            let tie = Tie {
                cancel: Some(life.as_fd()),
                is_child: true,
            };
            let code = work(&say, tie);
            say(&Message::Code(code));
            // A thread of it may hang in the kernel: no destructor may wait for one.
            // SAFETY: _exit ends the process without running anything of it.
            unsafe { libc::_exit(i32::from(code)) }
        }
        Ok(ForkResult::Parent { child }) => {
            drop((to, life));
            let mut parent = Parent {
                from,
                lifeline: Some(line),
                wills,
                undo: BTreeMap::new(),
                signals: set,
                committed: false,
                endless: false,
                caught: None,
                errand,
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
            // It leads no group yet, so that it may; then it is let go of, so that it is no leader that could get a terminal.
            let _ = setsid();
            // SAFETY: as above.
            if matches!(unsafe { fork() }, Ok(ForkResult::Child)) {
                detach();
                close_all_but(keep);
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

/// Closes every descriptor but the standard ones and those of `keep`.
fn close_all_but(keep: &[RawFd]) {
    let names = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten(); // without /proc nothing is done at all
    let open: Vec<RawFd> = names
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
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
    work: &dyn Fn(Say<'_>, Tie<'_>) -> u8,
) -> Ended {
    let streams = RefCell::new(streams);
    let say = |message: &Message| match message {
        Message::Out(bytes) => streams.borrow_mut().out(bytes),
        Message::Err(bytes) => streams.borrow_mut().err(bytes),
        Message::End(_, will) => {
            streams.borrow_mut().out(&will.out);
            streams.borrow_mut().err(&will.err);
        }
        _ => {}
    };
    say(&Message::Err(
        format!("iceaxe: {why}: a write that hangs will hang this command\n").into_bytes(),
    ));
    let tie = Tie {
        cancel: signals.map(SignalFd::as_fd),
        is_child: false,
    };
    let code = work(&say, tie);
    match signals.map(SignalFd::read_signal) {
        Some(Ok(Some(info))) => match i32::try_from(info.ssi_signo).map(Signal::try_from) {
            Ok(Ok(signal)) => Ended::Signal(signal, Vec::new()),
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
    errand: bool,
    /// The child said something, or is gone.
    message: bool,
    /// Nobody reads the results any more.
    unread: bool,
}

struct Parent<'e, 'w> {
    /// The command that is to be run, if any.
    errand: &'e mut Errand<'w>,
    /// Whether the child is gone while the command runs.
    is_alone: bool,
    /// What it ended with, where it said so before.
    code: Option<u8>,
    from: OwnedFd,
    lifeline: Option<OwnedFd>,
    wills: BTreeMap<u32, Will>,
    undo: BTreeMap<u32, (Vec<u8>, Will)>,
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
            let until = self.errand.next().map_or(deadline, Some);
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
                    Some(until) if Instant::now() >= until && !self.errand.is_running() => {
                        return self.silent();
                    }
                    // The command's own time is looked at below.
                    Some(until) if Instant::now() >= until => self.look_at_errand(false, &mut deadline),
                    _ => {}
                }
                if self.is_alone && !self.errand.is_running() {
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
                && !self.errand.takes(signal, info.ssi_code == libc::SI_KERNEL)
            {
                if self.committed {
                    continue;
                }
                self.caught.get_or_insert(signal);
                self.lifeline = None;
                deadline = Some(Instant::now() + UNDO);
            }
            if self.errand.is_running() {
                self.look_at_errand(stirred.errand, &mut deadline);
                if self.is_alone && !self.errand.is_running() {
                    return self.left_alone();
                }
            }
            if !stirred.message {
                continue;
            }
            match receive(self.from.as_fd()) {
                // It did not wait for a command whose limit passed while this process was stopped.
                Ok(Some(Message::Code(code))) if self.errand.is_running() => {
                    self.is_alone = true;
                    self.code = Some(code);
                    deadline = None;
                    self.errand.give_up();
                }
                Ok(Some(Message::Code(code))) => {
                    return match self.caught {
                        Some(signal) => Ended::Signal(signal, Vec::new()),
                        None => Ended::Code(code),
                    };
                }
                Ok(Some(Message::Run(most))) => {
                    // The terminal is the command's.
                    self.progress.erase(streams);
                    self.progress = Progress::new(Instant::now());
                    let most = (most > 0).then(|| Duration::from_millis(most));
                    let signals = self.signals;
                    // SAFETY: what is run before the command is two system calls.
                    let started = self.errand.start(most, &|command, priority| unsafe {
                        command.pre_exec(move || {
                            rustix::process::setpriority_process(None, priority)?;
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
                Ok(Some(Message::Clear)) => self.errand.clear(),
                Ok(Some(message)) => {
                    self.heard += 1;
                    if let Some(within) = self.take(message, streams)
                        && self.lifeline.is_some()
                    {
                        deadline = Some(Instant::now() + within);
                    }
                }
                Ok(None) | Err(_) if self.errand.is_running() => {
                    self.is_alone = true;
                    deadline = None;
                    self.errand.is_alone();
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
            self.errand.fd().map(|fd| (fd, PollFlags::POLLIN)),
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
            Ok(_) | Err(_) => {}
        }
        let mut polled = polled.iter();
        let [signal, errand, message, unread] = fds.map(|fd| {
            let polled = fd.and_then(|_| polled.next());
            polled.is_some_and(|fd| fd.any().unwrap_or(false))
        });
        Some(Stirred {
            signal,
            errand,
            message,
            unread,
        })
    }

    /// Sees to the command: its limit, and its end.
    fn look_at_errand(&mut self, has_stirred: bool, deadline: &mut Option<Instant>) {
        match self.errand.look(has_stirred) {
            Some(Errands::AtLimit) if self.is_alone => self.errand.clear(),
            Some(Errands::AtLimit) => self.answer(AT_LIMIT),
            Some(Errands::Ended) if !self.is_alone => {
                self.answer(HAS_ENDED);
                self.progress = Progress::new(Instant::now());
                *deadline = Some(Instant::now() + OVERDUE);
            }
            Some(Errands::Ended) | None => {}
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
        Ended::Died(std::mem::take(&mut self.wills), std::mem::take(&mut self.undo))
    }

    /// Says a word on the lifeline. A child that is gone needs none.
    fn answer(&self, word: &[u8; 1]) {
        if let Some(line) = &self.lifeline {
            let _ = nix::unistd::write(line, word);
        }
    }

    fn silent(&mut self) -> Ended {
        let wills = std::mem::take(&mut self.wills).into_values().collect();
        match self.caught {
            Some(signal) => Ended::Signal(signal, wills),
            None => Ended::Silent(wills),
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
            Message::Will(index, will) => drop(self.wills.insert(index, will)),
            Message::Undo(index, what, will) => drop(self.undo.insert(index, (what, will))),
            Message::End(index, will) => {
                // Nothing is left to be printed of it, but its code counts: the last word of all may not come.
                let code = will.code;
                self.wills.remove(&index);
                if will != Will::default() {
                    let ended = Will {
                        code,
                        ..Will::default()
                    };
                    self.wills.insert(index, ended);
                }
                self.undo.remove(&index);
                deliverable(&self.signals, || {
                    streams.out(&will.out);
                    streams.err(&will.err);
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

/// A line on a terminal that says how far the work is, once it has taken a while.
struct Progress {
    /// What is to be drawn next.
    text: Option<Vec<u8>>,
    /// Not before.
    due: Instant,
    is_drawn: bool,
}

impl Progress {
    /// What is done sooner needs no words.
    const FIRST: Duration = Duration::from_secs(1);
    /// Nobody reads faster.
    const AGAIN: Duration = Duration::from_millis(100);

    fn new(now: Instant) -> Self {
        Self {
            text: None,
            due: now + Self::FIRST,
            is_drawn: false,
        }
    }

    fn set(&mut self, text: Vec<u8>) {
        self.text = Some(text);
    }

    /// When something is to be drawn.
    fn due(&self) -> Option<Instant> {
        self.text.is_some().then_some(self.due)
    }

    fn draw(&mut self, now: Instant, streams: &mut Streams<'_>) {
        if now >= self.due
            && let Some(text) = self.text.take()
        {
            streams.err(&[Self::CLEAR, &text].concat());
            self.is_drawn = true;
            self.due = now + Self::AGAIN;
        }
    }

    /// Makes room for what is printed.
    fn erase(&mut self, streams: &mut Streams<'_>) {
        if std::mem::take(&mut self.is_drawn) {
            streams.err(Self::CLEAR);
        }
    }

    /// To the beginning of the line, and all of it away.
    const CLEAR: &[u8] = b"\r\x1b[K";
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

fn send(fd: BorrowedFd<'_>, message: &Message) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut put = |kind: u8, index: u32, parts: &[&[u8]]| {
        bytes.push(kind);
        bytes.extend(index.to_le_bytes());
        let len: usize = parts.iter().map(|part| part.len()).sum();
        bytes.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        parts.iter().for_each(|part| bytes.extend(*part));
    };
    match message {
        Message::Out(text) => put(0, 0, &[text]),
        Message::Err(text) => put(1, 0, &[text]),
        Message::Will(index, will) => put(2, *index, &[&will.encode()]),
        Message::End(index, will) => put(3, *index, &[&will.encode()]),
        Message::Committed => put(7, 0, &[]),
        Message::Printed => put(8, 0, &[]),
        Message::Endless => put(11, 0, &[]),
        Message::Ask(question) => put(12, 0, &[question]),
        Message::Undo(index, what, will) => {
            let will = will.encode();
            put(4, *index, &[&length(&will), &will, what]);
        }
        Message::Within(milliseconds) => put(5, 0, &[&milliseconds.to_le_bytes()]),
        Message::Run(milliseconds) => put(9, 0, &[&milliseconds.to_le_bytes()]),
        Message::Clear => put(10, 0, &[]),
        Message::Progress(text) => put(13, 0, &[text]),
        Message::Code(code) => put(6, 0, &[&[*code]]),
    }
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match nix::unistd::write(fd, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Reads one message; `None` at the end.
fn receive(fd: BorrowedFd<'_>) -> io::Result<Option<Message>> {
    let mut reader = Fd(fd);
    let mut head = [0; 9];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (index, len) = (word(1), word(5));
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "not a message");
    if len > LONGEST {
        return Err(odd());
    }
    let mut body = vec![0; len as usize];
    reader.read_exact(&mut body)?;
    let message = match head[0] {
        0 => Message::Out(body),
        1 => Message::Err(body),
        2 => Message::Will(index, Will::decode(&body).ok_or_else(odd)?),
        3 => Message::End(index, Will::decode(&body).ok_or_else(odd)?),
        7 => Message::Committed,
        8 => Message::Printed,
        11 => Message::Endless,
        12 => Message::Ask(body),
        13 => Message::Progress(body),
        4 => {
            let (will, what) = split(&body).ok_or_else(odd)?;
            Message::Undo(index, what.to_vec(), Will::decode(will).ok_or_else(odd)?)
        }
        5 => Message::Within(u64::from_le_bytes(body.try_into().map_err(|_| odd())?)),
        9 => Message::Run(u64::from_le_bytes(body.try_into().map_err(|_| odd())?)),
        10 => Message::Clear,
        6 => Message::Code(*body.first().ok_or_else(odd)?),
        _ => return Err(odd()),
    };
    Ok(Some(message))
}

struct Fd<'f>(BorrowedFd<'f>);

impl Read for Fd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        nix::unistd::read(self.0, buffer).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        let (from, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let will = Will {
            out: b"o\n".to_vec(),
            err: b"e".to_vec(),
            code: 7,
        };
        for message in [
            Message::Out(b"x".to_vec()),
            Message::Err(Vec::new()),
            Message::Will(3, will.clone()),
            Message::End(9, will.clone()),
            Message::Committed,
            Message::Printed,
            Message::Endless,
            Message::Ask(b"?".to_vec()),
            Message::Undo(1, b"{}".to_vec(), will),
            Message::Within(u64::MAX),
            Message::Run(1),
            Message::Clear,
            Message::Progress(b"1 of 2".to_vec()),
            Message::Code(12),
        ] {
            send(to.as_fd(), &message).unwrap();
            let back = receive(from.as_fd()).unwrap().unwrap();
            assert_eq!(format!("{back:?}"), format!("{message:?}"));
        }
        drop(to);
        assert!(receive(from.as_fd()).unwrap().is_none());
    }

    #[test]
    fn progress_is_drawn_after_a_second_and_makes_room_for_what_is_printed() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let began = Instant::now();
        let mut progress = Progress::new(began);
        let after = |ms| began + Duration::from_millis(ms);
        let mut streams = Streams::new(&mut out, &mut err, false);
        progress.draw(after(5000), &mut streams); // there is nothing to be drawn
        progress.set(b"1".to_vec());
        progress.draw(after(999), &mut streams);
        progress.set(b"2".to_vec());
        progress.draw(after(1000), &mut streams);
        progress.set(b"3".to_vec());
        progress.draw(after(1099), &mut streams); // too soon after the last one
        assert_eq!(progress.due(), Some(after(1100)));
        progress.draw(after(1100), &mut streams);
        progress.erase(&mut streams);
        progress.erase(&mut streams);
        progress.draw(after(9000), &mut streams);
        assert_eq!(err, b"\r\x1b[K2\r\x1b[K3\r\x1b[K");
    }

    #[test]
    fn a_stranger_on_the_pipe_is_an_error() {
        let (from, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        nix::unistd::write(&to, &[2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert!(receive(from.as_fd()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_on_the_pipe_panic(kind in 0_u8..16, body in proptest::collection::vec(proptest::arbitrary::any::<u8>(), 0..60)) {
            let (from, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
            nix::unistd::write(&to, &[&[kind, 0, 0, 0, 0], &length(&body)[..], &body].concat()).unwrap();
            drop(to);
            let _ = receive(from.as_fd()); // only that it returns
        }
    }
}
