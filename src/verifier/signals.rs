//! Signals that wait for a task, and what they will do to it, by /proc/TID/status.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::task::Witness;
use crate::host::{Lock, status_field, text_of};

/// The signals that end a process unless it says otherwise: all but those that stop it, let it go on or are ignored
/// (signal(7)).
fn ends_by_default(number: u32) -> bool {
    let spared = [
        Signal::SIGCHLD,
        Signal::SIGCONT,
        Signal::SIGSTOP,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGURG,
        Signal::SIGWINCH,
    ];
    !spared.into_iter().any(|signal| signal as u32 == number)
}

/// The fatal signals that wait for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fatal {
    /// Its process.
    pub pid: i32,
    /// The signals' names, `KILL`.
    pub signals: Vec<String>,
}

/// What a process does with a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// It dies.
    Ends,
    /// It stops.
    Stops,
    /// It has a handler.
    Handles,
    /// Nothing.
    Ignores,
    /// It waits until the process wants it.
    Blocks,
}

/// The signal sets of a task.
struct Sets {
    pid: i32,
    pending: u64,
    blocked: u64,
    ignored: u64,
    caught: u64,
}

impl Sets {
    fn parse(status: &[u8]) -> Option<Self> {
        let mask = |field| u64::from_str_radix(status_field(status, field)?, 16).ok();
        Some(Self {
            pid: status_field(status, "Tgid:")?.parse().ok()?,
            pending: mask("SigPnd:")? | mask("ShdPnd:")?,
            blocked: mask("SigBlk:")?,
            ignored: mask("SigIgn:")?,
            caught: mask("SigCgt:")?,
        })
    }

    fn disposition(&self, number: u32) -> Disposition {
        let has = |set: u64| set & (1 << (number - 1)) != 0;
        let always = number == Signal::SIGKILL as u32 || number == Signal::SIGSTOP as u32;
        if !always && has(self.blocked) {
            Disposition::Blocks
        } else if !always && has(self.ignored) {
            Disposition::Ignores
        } else if !always && has(self.caught) {
            Disposition::Handles
        } else if ends_by_default(number) {
            Disposition::Ends
        } else if (Signal::SIGSTOP as u32..=Signal::SIGTTOU as u32).contains(&number) {
            Disposition::Stops
        } else {
            Disposition::Ignores
        }
    }

    fn fatal(&self) -> Vec<u32> {
        (1..=64)
            .filter(|number| self.pending & (1 << (number - 1)) != 0)
            .filter(|&number| self.disposition(number) == Disposition::Ends)
            .collect()
    }
}

/// A signal's name without `SIG`; the real-time ones have numbers only.
#[must_use]
pub fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(
        |_| number.to_string(),
        |signal| signal.as_str().trim_start_matches("SIG").to_owned(),
    )
}

impl Witness<'_> {
    /// The signals that wait for each of some tasks and will end its process, until `limit` is over; without those that
    /// are gone or may not be seen.
    #[must_use]
    pub fn fatal_signals(
        self,
        tids: impl IntoIterator<Item = i32>,
        limit: Option<Duration>,
    ) -> Vec<(i32, Fatal)> {
        let found = self.proc.each(Lock::None, tids, limit, |reader, tid| {
            let sets = Sets::parse(&text_of(reader, tid, "status"))?;
            let names = sets
                .fatal()
                .into_iter()
                .filter_map(|number| i32::try_from(number).ok());
            Some(Fatal {
                pid: sets.pid,
                signals: names.map(signal_name).collect(),
            })
        });
        let known = found.into_iter();
        known
            .filter_map(|(tid, fatal)| Some((tid, fatal.ok()??)))
            .collect()
    }

    /// What a process would do with a signal; `None` if it is gone or may not be seen. It blocks what all its threads
    /// block: the kernel gives a process's signal to any that takes it (`complete_signal()`, kernel/signal.c).
    #[must_use]
    pub fn disposition(self, pid: i32, signal: i32) -> Option<Disposition> {
        let number = u32::try_from(signal)
            .ok()
            .filter(|number| (1..=64).contains(number))?;
        let threads = self.numbers_in(format!("{pid}/task")).ok()?;
        let each = self.proc.each(Lock::None, threads, None, |reader, tid| {
            Sets::parse(&text_of(reader, tid, "status"))
        });
        let each = each.into_iter().filter_map(|(_, sets)| sets.ok()?);
        let sets = each.reduce(|one, other| Sets {
            blocked: one.blocked & other.blocked,
            ..one
        });
        Some(sets?.disposition(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(pending: u64, blocked: u64, ignored: u64, caught: u64) -> Sets {
        let status = format!(
            "Name:\tx\nTgid:\t7\nSigPnd:\t{pending:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{blocked:016x}\n\
             SigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n",
            0
        );
        Sets::parse(status.as_bytes()).unwrap()
    }

    fn bit(signal: Signal) -> u64 {
        1 << (signal as u32 - 1)
    }

    #[test]
    fn only_what_ends_the_process_counts_as_fatal() {
        let pending =
            bit(Signal::SIGTERM) | bit(Signal::SIGCHLD) | bit(Signal::SIGSTOP) | bit(Signal::SIGUSR1);
        let term = Signal::SIGTERM as u32;
        assert_eq!(sets(pending, 0, 0, 0).fatal(), [Signal::SIGUSR1 as u32, term]);
        assert_eq!(sets(pending, 0, 0, bit(Signal::SIGUSR1)).fatal(), [term]);
        assert_eq!(
            sets(pending, bit(Signal::SIGTERM), bit(Signal::SIGUSR1), 0).fatal(),
            [] as [u32; 0]
        );
        let kill = bit(Signal::SIGKILL);
        assert_eq!(sets(kill, kill, kill, 0).fatal(), [Signal::SIGKILL as u32]);
    }

    #[test]
    fn a_signal_is_called_by_its_name_and_a_real_time_one_by_its_number() {
        assert_eq!(signal_name(9), "KILL");
        assert_eq!(signal_name(40), "40");
    }
}
