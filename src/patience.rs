//! How long to wait, and the one place that waits. Time is monotonic and does not count a suspended host's sleep
//! (`Instant` is CLOCK_MONOTONIC on Linux).

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// The limit of a wait, and what can break it off.
#[derive(Debug, Clone, Copy)]
pub struct Patience<'f> {
    limit: Duration,
    cancel: Option<BorrowedFd<'f>>,
}

impl From<Duration> for Patience<'static> {
    fn from(limit: Duration) -> Self {
        Self::of(limit)
    }
}

impl Patience<'static> {
    /// Waits at most for `limit`; zero is one look.
    #[must_use]
    pub fn of(limit: Duration) -> Self {
        Self { limit, cancel: None }
    }
}

impl<'f> Patience<'f> {
    /// The same, but given up as soon as `cancel` becomes readable or is hung up.
    #[must_use]
    pub fn unless(self, cancel: BorrowedFd<'f>) -> Self {
        Self {
            cancel: Some(cancel),
            ..self
        }
    }

    /// The same, but not longer than `limit`.
    #[must_use]
    pub fn at_most(self, limit: Duration) -> Self {
        Self {
            limit: self.limit.min(limit),
            ..self
        }
    }

    /// The limit alone.
    #[must_use]
    pub fn limit(self) -> Duration {
        self.limit
    }

    /// Starts the clock.
    #[must_use]
    pub fn start(self) -> Clock<'f> {
        Clock {
            patience: self,
            started: Instant::now(),
        }
    }
}

/// A wait that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Clock<'f> {
    patience: Patience<'f>,
    started: Instant,
}

impl Clock<'_> {
    /// The time since it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the limit is reached.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.elapsed() >= self.patience.limit
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.patience.limit
    }

    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.limit().saturating_sub(self.elapsed())
    }

    /// Whether somebody asked to give up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.pause(Duration::ZERO, &[]) == Woke::Cancelled
    }

    /// Waits for `pause`, unless one of `watched` reports a change (POLLPRI) or the wait is cancelled.
    pub fn pause(&self, pause: Duration, watched: &[BorrowedFd<'_>]) -> Woke {
        self.wait(pause, watched, PollFlags::POLLPRI)
    }

    /// Waits for `pause`, unless `notices` can be read or the wait is cancelled.
    pub fn pause_for(&self, pause: Duration, notices: Option<BorrowedFd<'_>>) -> Woke {
        self.wait(pause, notices.as_slice(), PollFlags::POLLIN)
    }

    fn wait(&self, pause: Duration, watched: &[BorrowedFd<'_>], change: PollFlags) -> Woke {
        let mut fds: Vec<PollFd<'_>> = watched.iter().map(|fd| PollFd::new(fd.as_fd(), change)).collect();
        fds.extend(
            self.patience
                .cancel
                .iter()
                .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)),
        );
        // A failed poll (EINTR, ENOMEM) only ends this pause early: every caller looks again and keeps its own limit.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(pause)), None);
        let stirred = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        if self.patience.cancel.is_some() && fds.last().is_some_and(stirred) {
            Woke::Cancelled
        } else if fds.iter().any(stirred) {
            Woke::Event
        } else {
            Woke::Time
        }
    }
}

/// Why a pause ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woke {
    /// The time is up.
    Time,
    /// Something changed.
    Event,
    /// Somebody asked to give up.
    Cancelled,
}

/// Reads a duration: a number with one of `ms`, `s`, `m`, `h`, `d`, or a bare number of seconds, as timeout(1) has it. `None` for
/// anything else, and for what is too long to be counted.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(unit).map(Duration::from_secs)
}
