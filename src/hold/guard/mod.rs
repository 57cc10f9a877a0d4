//! The guard: a small process that is there before the first write, outlives everybody else, and thaws what they leave.
//! It is told what is about to be frozen, answers that it knows, and then only waits: for the end of a lease, for the end
//! of those who talk to it, for a record to be taken away, for a signal. The command of a hold that lost its iceaxe it ends.

mod command;
mod serve;

use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::Filesystem;
use crate::patience::Patience;
use crate::store::{DiskRecordFile, HoldRecord, Process, RecordFile};
use crate::supervisor::apart;

/// How long the guard may take to answer, on a host that is busy with other things.
const ANSWER: Duration = Duration::from_secs(5);

/// What the guard is told.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// This is about to be frozen.
    Keep(Box<(HoldRecord, Option<RecordFile>)>),
    /// This file system, which the process of this number has open as that descriptor, is about to be frozen.
    Filesystem(i32, i32, PathBuf, Box<Option<DiskRecordFile>>),
    /// Only so many of them are frozen, the first ones.
    Filesystems(usize),
    /// Who was to thaw the file systems is gone.
    ThawFilesystems,
    /// All targets are frozen: the limit counts from now on.
    Frozen,
    /// The freeze of a lease is printed, and stays until its time is over.
    Commit,
    /// The command of this number runs, which is to end with the process that started it.
    Command(u32),
    /// It has ended.
    CommandEnded,
    /// Nothing is left to be guarded.
    Dismiss,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// The guard.
    pub(crate) process: Option<Process>,
    /// What is not as it should be.
    pub(crate) note: Option<String>,
}

/// The other end of the guard's lines.
#[derive(Debug)]
pub(crate) struct Line {
    to: File,
    from: File,
    /// What it said when it was there.
    first: OnceCell<Answer>,
}

/// Makes a guard.
///
/// # Errors
///
/// The process table is full; no descriptor is free.
pub(crate) fn post(root: &Path) -> io::Result<Line> {
    let (inbox, to) = pipe2(OFlag::O_CLOEXEC)?;
    let (from, outbox) = pipe2(OFlag::O_CLOEXEC)?;
    let mut line = Some(Line {
        to: to.into(),
        from: from.into(),
        first: OnceCell::new(),
    });
    let keep = [inbox.as_raw_fd(), outbox.as_raw_fd()];
    let poster = nix::unistd::getpid().as_raw();
    let mut ends = Some((inbox, File::from(outbox)));
    apart(&keep, || {
        // The others' ends are closed in it: it would never see them go.
        std::mem::forget(line.take());
        let Some((inbox, outbox)) = ends.take() else {
            return 1;
        };
        match serve::serve(root, poster, inbox, outbox) {
            Ok(()) => 0,
            Err(_) => 1, // it has no stream to say it on: who waits for its answer sees that there is none
        }
    })?;
    line.ok_or_else(|| io::ErrorKind::NotFound.into()) // it was taken in the guard's own memory alone
}

impl Line {
    fn say(&self, word: &Word) -> Result<()> {
        let text = serde_json::to_string(word).map_err(|error| gone(&error.into()))? + "\n";
        (&self.to)
            .write_all(text.as_bytes())
            .map_err(|error| gone(&error))
    }

    /// Waits for an answer.
    ///
    /// # Errors
    ///
    /// The guard is gone, or does not answer.
    pub(crate) fn hear(&self) -> Result<Answer> {
        let clock = Patience::of(ANSWER).start();
        let mut text = Vec::new();
        loop {
            let left = ANSWER.saturating_sub(clock.elapsed());
            let mut fds = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Ok(0) if clock.is_over() => return Err(gone(&io::ErrorKind::TimedOut.into())),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(gone(&errno.into())),
            }
            let mut byte = [0];
            match (&self.from).read(&mut byte) {
                Ok(0) => return Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Ok(_) if byte == *b"\n" => {
                    return serde_json::from_slice(&text).map_err(|error| gone(&error.into()));
                }
                Ok(_) => text.push(byte[0]),
                Err(error) => return Err(gone(&error)),
            }
        }
    }

    /// Waits until it is there; what it said then.
    ///
    /// # Errors
    ///
    /// As [`Line::hear`].
    pub(crate) fn hear_once(&self) -> Result<&Answer> {
        if let Some(answer) = self.first.get() {
            return Ok(answer);
        }
        let answer = self.hear()?;
        Ok(self.first.get_or_init(|| answer))
    }

    /// Tells it what is about to be frozen, and waits until it knows.
    ///
    /// # Errors
    ///
    /// As [`Line::hear`].
    pub(crate) fn keep(&self, record: &HoldRecord, entry: Option<&RecordFile>) -> Result<()> {
        self.say(&Word::Keep(Box::new((record.clone(), entry.cloned()))))?;
        self.hear().map(drop)
    }

    /// Tells it that all is frozen and told.
    ///
    /// # Errors
    ///
    /// As [`Line::hear`].
    pub(crate) fn commit(&self) -> Result<()> {
        self.say(&Word::Commit)?;
        self.hear().map(drop)
    }

    /// Tells it which file system is about to be frozen, by the descriptor of this process, and waits until it has one of
    /// its own.
    ///
    /// # Errors
    ///
    /// As [`Line::hear`]; it can't be opened by the guard.
    pub(crate) fn keep_filesystem(
        &self,
        filesystem: &Filesystem,
        entry: Option<DiskRecordFile>,
    ) -> Result<()> {
        let pid = nix::unistd::getpid().as_raw();
        let path = filesystem.path().to_owned();
        self.say(&Word::Filesystem(pid, filesystem.number(), path, Box::new(entry)))?;
        match self.hear()?.note {
            None => Ok(()),
            Some(why) => Err(Error::Unsupported(format!("the guard can't open it: {why}"))),
        }
    }

    /// Tells it that only so many file systems are frozen, the first ones.
    pub(crate) fn keep_filesystems(&self, count: usize) {
        // One that is gone needs not be told.
        let _ = self.say(&Word::Filesystems(count));
    }

    /// Has it thaw the file systems now; waits for nothing.
    ///
    /// # Errors
    ///
    /// The guard is gone.
    pub(crate) fn thaw_filesystems(&self) -> Result<()> {
        self.say(&Word::ThawFilesystems)
    }

    /// Tells it that what is to be frozen is, so that from now on the limit counts.
    pub(crate) fn frozen(&self) {
        // One that is gone keeps no limit; recover does.
        let _ = self.say(&Word::Frozen);
    }

    /// The descriptor of this end, for [`announce`].
    pub(crate) fn number(&self) -> RawFd {
        self.to.as_raw_fd()
    }

    /// Tells it that the command has ended.
    pub(crate) fn command_ended(&self) {
        // As above.
        let _ = self.say(&Word::CommandEnded);
    }

    /// Lets it go.
    pub(crate) fn dismiss(&self) {
        // One that is gone has gone.
        let _ = self.say(&Word::Dismiss);
    }
}

/// Tells a guard, by its line, that this process is about to become the command that is to end with the process which
/// started it. What else there is to know of it the guard reads: here nothing is done that can hang.
///
/// # Errors
///
/// The guard is gone.
pub(crate) fn announce(line: BorrowedFd<'_>) -> io::Result<()> {
    let text = serde_json::to_string(&Word::Command(std::process::id()))? + "\n";
    nix::unistd::write(line, text.as_bytes())?; // it is as one piece, being short
    Ok(())
}

fn gone(cause: &io::Error) -> Error {
    Error::Unsupported(format!(
        "the guard, which would thaw it whatever happens, is not there: {cause}"
    ))
}
