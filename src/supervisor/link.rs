//! The line between the work and the process that supervises it, as the work uses it: whether to go on, what was
//! answered, and how a command that runs over there is doing. The words and answers are for both ends.

use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::protocol::Message;
use super::streams::Streams;

/// The words on the lifeline while a command runs: its limit is reached; it was asked to end, and does not; it has ended.
pub(crate) const AT_LIMIT: &[u8; 1] = b"m";
pub(crate) const IS_ASKED: &[u8; 1] = b"a";
pub(crate) const HAS_ENDED: &[u8; 1] = b"e";
/// How long after the limit who supervises may take to say so.
const LATE: Duration = Duration::from_millis(500);
/// How long after that a command may take to end: then what is held is thawed while it does, within a second of the limit.
const OVERDUE: Duration = Duration::from_millis(700);

/// Says one message, wherever it goes.
pub(crate) type Say<'s> = &'s dyn Fn(&Message);

/// What is looked at while a command runs.
pub(crate) struct Meanwhile<'m> {
    /// What becomes readable when something stirs.
    pub(crate) notices: Option<BorrowedFd<'m>>,
    /// How often it is looked at without that.
    pub(crate) every: Duration,
    /// Looks at it.
    pub(crate) look: &'m mut dyn FnMut(),
}

/// What ties a piece of work to the process that supervises it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'t> {
    /// Becomes readable, or is hung up, when the work is to undo what it began.
    pub(crate) cancel: Option<BorrowedFd<'t>>,
    /// Whether the work is in a child of that process.
    pub(crate) is_child: bool,
}

impl Link<'_> {
    /// Whether the work is in a child of the process that was started.
    pub(crate) fn is_child(self) -> bool {
        self.is_child
    }

    /// Waits until all that was said is printed; false where the process that prints it is gone before, or where it has not
    /// said so soon after `most`: it may be stopped, or wait for a reader, while something is frozen that has a limit.
    pub(crate) fn is_printed(self, say: Say<'_>, most: Option<Duration>) -> bool {
        let (Some(line), true) = (self.cancel, self.is_child) else {
            return true;
        };
        say(&Message::Printed);
        answer(line, most.map(|most| Instant::now() + most + LATE)).is_some() // not told is not printed
    }

    /// Asks who typed the command, and waits for as long as that takes: nothing is frozen then. Where this is no child of a
    /// process that could be asked, nobody is there.
    pub(crate) fn ask(self, say: Say<'_>, question: &str) -> Answer {
        let (Some(line), true) = (self.cancel, self.is_child) else {
            return Answer::NoTerminal;
        };
        say(&Message::Ask(question.into()));
        let answer = answer(line, None);
        let mut all = Answer::ALL.into_iter();
        // One that is gone without an answer did not say yes.
        all.find(|(_, byte)| Some(*byte) == answer)
            .map_or(Answer::No, |(answer, _)| answer)
    }

    /// Has the command run by the process that supervises, and waits for its end. `at_limit` is called when the limit is
    /// reached, before the command is ended.
    pub(crate) fn run(
        self,
        say: Say<'_>,
        most: Option<Duration>,
        at_limit: &mut dyn FnMut(),
        meanwhile: Meanwhile<'_>,
    ) -> Ran {
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
            // Rounded up, so that a wait of a part of a millisecond does not spin.
            let wait = left.map_or(meanwhile.every, |left| {
                meanwhile.every.min(left + Duration::from_millis(1))
            });
            let mut fds = vec![PollFd::new(line, PollFlags::POLLIN)];
            fds.extend(meanwhile.notices.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let stirred = poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX));
            let has_word = fds[0].any().unwrap_or(false);
            if left.is_some_and(|left| left.is_zero()) && !has_word {
                at_limit();
                return Ran::Lost;
            }
            if stirred.is_err() {
                continue; // a signal, or no memory just now: it is asked again
            }
            if !has_word {
                (meanwhile.look)();
                continue;
            }
            let mut word = [0];
            match nix::unistd::read(line, &mut word) {
                Ok(1) if word == *IS_ASKED => at_limit(),
                Ok(1) if word == *AT_LIMIT => {
                    at_limit();
                    say(&Message::Clear);
                    until = Some(Instant::now() + OVERDUE);
                }
                Ok(1) => return Ran::Ended,
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => return Ran::Lost, // a line that can't be read is as good as hung up
            }
        }
    }
}

/// The byte that the process at the other end answers with; `None` where it is gone, or does not answer in time.
fn answer(line: BorrowedFd<'_>, until: Option<Instant>) -> Option<u8> {
    let mut answer = [0];
    loop {
        if let Some(until) = until {
            let left = until.saturating_duration_since(Instant::now());
            // Rounded up, so that a wait of a part of a millisecond does not spin.
            let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(line, PollFlags::POLLIN)], wait) {
                Ok(0) if left.is_zero() => return None,
                Ok(0) | Err(_) => continue, // a signal, or no memory just now: it is asked again
                Ok(_) => {}
            }
        }
        match nix::unistd::read(line, &mut answer) {
            Ok(count) => return (count == 1).then_some(answer[0]),
            Err(Errno::EINTR) => {}
            Err(_) => return None, // as good as gone
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
    /// Each with the byte that stands for it on the line.
    pub(crate) const ALL: [(Self, u8); 3] = [(Self::Yes, b'y'), (Self::No, b'n'), (Self::NoTerminal, b't')];

    /// Asks at this process's standard input, if that is a terminal. Nothing but yes is yes.
    pub(crate) fn to(question: &[u8], streams: &mut Streams<'_>) -> Self {
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
