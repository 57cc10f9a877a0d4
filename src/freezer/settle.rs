//! The decisions of a wait until a cgroup has settled. Pure: no file, no clock.

use std::time::Duration;

/// The first pause. An idle task is frozen within some 50 µs of the write (measured on Linux 6.18).
const FIRST: Duration = Duration::from_micros(20);
/// Short looks go on this long before notifications are waited for: the kernel holds those back for up to 10 ms after
/// the last one (`CGROUP_FILE_NOTIFY_MIN_INTV`, kernel/cgroup/cgroup.c), while the value in the file is right at once.
const BRIEFLY: Duration = Duration::from_millis(12);
/// The longest pause of a wait without notifications; also while such looks go on briefly.
const POLL: Duration = Duration::from_millis(5);
/// The longest pause where a notification ends it: an event is a hint, the timer is the promise.
const WATCH: Duration = Duration::from_millis(50);

/// What one look at the cgroup showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As it was asked to be.
    Settled,
    /// Not yet.
    Unsettled,
    /// The cgroup was removed.
    Gone,
    /// It could not be looked at.
    Failed,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is settled.
    Done,
    /// It is gone.
    Gone,
    /// Looking failed; whatever was asked must be undone.
    Fail,
    /// The time is up; what was asked must be undone.
    GiveUp,
    /// Look again after this pause.
    Pause(Duration),
    /// Look again after this pause, or as soon as the kernel reports a change.
    Watch(Duration),
}

/// Whether the hierarchy reports changes: v2's `cgroup.events` does, v1 has nothing of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notices {
    /// By POLLPRI.
    Sent,
    /// Never.
    None,
}

/// Decides after the look number `looks` (from 0), `elapsed` after the request, how to go on.
#[must_use]
pub fn step(look: Look, notices: Notices, looks: u32, elapsed: Duration, limit: Duration) -> Step {
    match look {
        Look::Settled => Step::Done,
        Look::Gone => Step::Gone,
        Look::Failed => Step::Fail,
        Look::Unsettled if elapsed >= limit => Step::GiveUp,
        Look::Unsettled => {
            let grown = FIRST.saturating_mul(1 << looks.min(20)).min(limit - elapsed);
            match notices {
                Notices::Sent if elapsed >= BRIEFLY => Step::Watch(grown.min(WATCH)),
                _ => Step::Pause(grown.min(POLL)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A kernel that answers from a list and a clock that only the pauses move.
    #[track_caller]
    fn run(answers: &[Look], notices: Notices, limit: Duration) -> (Step, usize, Duration) {
        let mut script: VecDeque<Look> = answers.iter().copied().collect();
        let last = *answers.last().unwrap();
        let mut elapsed = Duration::ZERO;
        for looks in 0.. {
            let look = script.pop_front().unwrap_or(last);
            match step(look, notices, looks, elapsed, limit) {
                Step::Pause(pause) | Step::Watch(pause) => elapsed += pause.min(limit - elapsed),
                end => return (end, looks as usize + 1, elapsed),
            }
        }
        unreachable!()
    }

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn a_settled_cgroup_takes_one_look_and_no_pause() {
        assert_eq!(
            run(&[Look::Settled], Notices::Sent, Duration::ZERO),
            (Step::Done, 1, Duration::ZERO)
        );
    }

    #[test]
    fn freezing_many_times_is_waited_out() {
        let mut answers = vec![Look::Unsettled; 40];
        answers.push(Look::Settled);
        let (end, looks, _) = run(&answers, Notices::None, LIMIT);
        assert_eq!((end, looks), (Step::Done, 41));
    }

    #[test]
    fn the_deadline_ends_the_wait_exactly() {
        for notices in [Notices::None, Notices::Sent] {
            let (end, _, elapsed) = run(&[Look::Unsettled], notices, LIMIT);
            assert_eq!((end, elapsed), (Step::GiveUp, LIMIT));
        }
        assert_eq!(
            run(&[Look::Unsettled], Notices::None, Duration::ZERO),
            (Step::GiveUp, 1, Duration::ZERO)
        );
    }

    #[test]
    fn errors_end_it_at_once() {
        assert_eq!(
            run(&[Look::Unsettled, Look::Failed], Notices::None, LIMIT).0,
            Step::Fail
        );
        assert_eq!(
            run(&[Look::Unsettled, Look::Gone], Notices::Sent, LIMIT).0,
            Step::Gone
        );
    }

    #[test]
    fn no_pause_is_long_before_the_notification_can_come() {
        let mut elapsed = Duration::ZERO;
        for looks in 0.. {
            match step(Look::Unsettled, Notices::Sent, looks, elapsed, LIMIT) {
                Step::Pause(pause) => {
                    assert!(pause <= elapsed.max(FIRST) * 2, "{pause:?} after {elapsed:?}");
                    elapsed += pause;
                }
                Step::Watch(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(elapsed >= BRIEFLY);
    }
}
