//! What two looks at a task prove. Pure: sightings in, a word out. A word never says more than the evidence.

use serde::{Deserialize, Serialize};

use super::place::{Place, place};
use super::sighting::Sighting;
use crate::host::{Hierarchy, Kernel};

/// What is proven of a task: after a freeze [`Proof::Frozen`] or one of the last four, after a thaw any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The freeze holds it, whatever its class.
    Frozen,
    /// It is not in a frozen place, and its scheduling counters grew: it was on a CPU since.
    Ran,
    /// It is back in the state that it was frozen in, which needs no running: the letter and the place show it.
    Restored,
    /// It left the frozen place and was not seen on a CPU yet.
    Woken,
    /// Its class is positively known and this kernel can't show it.
    Unprovable,
    /// The evidence is missing.
    Unknown,
    /// It is gone.
    Exited,
    /// It came since.
    New,
    /// It is not as was asked: not frozen after a freeze; after a thaw still held, or in an uninterruptible sleep of its own.
    Holdout,
}

impl Proof {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Ran => "ran",
            Self::Restored => "restored",
            Self::Woken => "woken",
            Self::Unprovable => "unprovable",
            Self::Unknown => "unknown",
            Self::Exited => "exited",
            Self::New => "new",
            Self::Holdout => "holdout",
        }
    }

    /// Whether nothing is left to wait for.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(
            self,
            Self::Ran | Self::Restored | Self::Unprovable | Self::Exited | Self::New
        )
    }
}

/// What is known of a task from before a thaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before<'s> {
    /// It was looked at.
    Seen(&'s Sighting),
    /// It was listed, and not looked at.
    Listed {
        /// Whether v2 called all of its cgroup frozen right before the write.
        settled: bool,
        /// The first look at it after the write.
        first: Option<&'s Sighting>,
    },
    /// It was not there.
    Absent,
}

/// Says what a look `after` a thaw proves, given what was known `before` it.
#[must_use]
pub fn judge_thaw(before: Before<'_>, after: Option<&Sighting>, kernel: Kernel) -> Proof {
    let Some(after) = after else { return Proof::Exited };
    let here = place(after, kernel);
    if here == Place::Dead {
        return Proof::Exited;
    }
    let before = match before {
        Before::Seen(before) => Some(before).filter(|before| before.start == after.start),
        Before::Listed { settled, first } => return judge_by_place(settled, first, after, kernel),
        Before::Absent => None,
    };
    let Some(before) = before else {
        return if here.is_frozen() {
            Proof::Holdout
        } else {
            Proof::New
        };
    };
    let was = place(before, kernel);
    // None: this kernel counts nothing.
    let grown = after
        .counters
        .zip(before.counters)
        .map(|(after, before)| after.since(before));
    match here {
        Place::Trap | Place::Refrigerator | Place::InPlace => Proof::Holdout,
        Place::Vfork => Proof::Unprovable,
        // A busy task that is only now and then in such a sleep gets more turns.
        Place::Uninterruptible => match grown {
            Some(batches) if batches > turns_of_a_wake(before, after, was) => Proof::Ran,
            _ => Proof::Holdout,
        },
        Place::Running => match grown {
            Some(batches) if batches > turns_in_vain(was) => Proof::Ran,
            Some(_) => Proof::Woken,
            None => Proof::Unknown,
        },
        Place::Stopped | Place::Traced => match (was, grown) {
            (Place::Stopped | Place::Traced, Some(1..)) => Proof::Ran,
            (Place::Stopped | Place::Traced, _) => Proof::Unprovable,
            (Place::InPlace, _) => Proof::Restored,
            (_, Some(1..)) => Proof::Ran,
            _ => Proof::Unprovable,
        },
        Place::FreezableSleep => match (was, grown) {
            (_, Some(1..)) => Proof::Ran,
            (Place::FreezableSleep, _) => Proof::Unprovable,
            _ => Proof::Unknown,
        },
        Place::Asleep => match (was, grown) {
            (_, Some(1..)) => Proof::Ran,
            // To leave the trap or the refrigerator a task must run: no counter says that it did.
            (Place::Trap | Place::Refrigerator, None) => Proof::Unknown,
            (Place::Trap | Place::Refrigerator, Some(0)) => Proof::Woken,
            // Its evidence from before is missing, and it did not move since.
            (Place::Unseen, _) => Proof::Unknown,
            _ => Proof::Restored,
        },
        Place::Unseen => Proof::Unknown,
        Place::Dead => Proof::Exited,
    }
}

/// Says what its place alone proves of a task that was listed before a thaw and not looked at. Where v2 called its cgroup
/// `settled` it was in the trap, stopped, or a vfork parent (`cgroup_enter_frozen()`, kernel/cgroup/freezer.c), and nobody
/// gets out of the trap without running. v1 puts a sleeper back where it slept. One that could run need not have done so:
/// the `first` look after the write, and this one, show that.
fn judge_by_place(settled: bool, first: Option<&Sighting>, after: &Sighting, kernel: Kernel) -> Proof {
    let first = first.filter(|first| first.start == after.start);
    let counted = first.and_then(|first| first.counters.zip(after.counters));
    let grown = counted.map(|(first, after)| after.since(first));
    match (place(after, kernel), grown) {
        (Place::Trap | Place::Refrigerator | Place::InPlace, _) => Proof::Holdout,
        (Place::Dead, _) => Proof::Exited,
        (Place::Vfork, _) => Proof::Unprovable,
        (Place::Unseen, _) => Proof::Unknown,
        (Place::Running, Some(1..)) => Proof::Ran,
        (Place::Running, _) if after.counters.is_none() => Proof::Unknown,
        (Place::Running, _) => Proof::Woken,
        (Place::Uninterruptible, _) if settled => Proof::Ran,
        (Place::Uninterruptible, Some(batches)) if batches > TURNS_OF_A_WAKE => Proof::Ran,
        (Place::Uninterruptible, _) => Proof::Holdout,
        (Place::Stopped | Place::Traced | Place::FreezableSleep, Some(1..)) => Proof::Ran,
        // Up to 6.0 v1 leaves these as they are: they look the same frozen and thawed.
        (Place::Stopped | Place::Traced, _) if settled || kernel.has_frozen_flag() => Proof::Unprovable,
        (Place::FreezableSleep, _) => Proof::Unprovable,
        (Place::Stopped | Place::Traced, _) => Proof::Restored,
        (Place::Asleep, _) if settled => Proof::Ran,
        (Place::Asleep, Some(1..)) => Proof::Ran,
        (Place::Asleep, _) => Proof::Restored,
    }
}

/// A v2 thaw wakes each task once, also one in a sleep of its own, which looks at its condition and sleeps on: one turn
/// on a CPU, and another for each time that it is preempted on the way.
const TURNS_OF_A_WAKE: u64 = 3;

/// How many turns prove nothing of a task that is in an uninterruptible sleep: where it sleeps as before, those of the
/// wake; where it went there since, the one that took it there.
fn turns_of_a_wake(before: &Sighting, after: &Sighting, was: Place) -> u64 {
    match was {
        Place::Uninterruptible if before.site == after.site => TURNS_OF_A_WAKE,
        _ => 1,
    }
}

/// How many turns prove nothing of a task that is running now: one that was in a sleep of its own may only be on its
/// way back there.
fn turns_in_vain(was: Place) -> u64 {
    match was {
        Place::Uninterruptible | Place::Vfork => TURNS_OF_A_WAKE,
        _ => 0,
    }
}

/// Says whether two looks, taken while the kernel calls the cgroup frozen in the hierarchy `by`, show of the task.
#[must_use]
pub fn judge_freeze(first: Option<&Sighting>, second: &Sighting, by: Hierarchy, kernel: Kernel) -> Proof {
    let here = place(second, kernel);
    if here == Place::Dead {
        return Proof::Exited;
    }
    // Not seen at the first look: it came between them, so the next round decides.
    let Some(first) = first.filter(|first| first.start == second.start) else {
        return Proof::Holdout;
    };
    let moved = match first.counters.zip(second.counters) {
        Some((first, second)) => first != second,
        None => return Proof::Unknown,
    };
    match (by, here) {
        // A signal moves a counter without letting the task out of the trap.
        (_, Place::Trap) => Proof::Frozen,
        (_, _) if moved => Proof::Holdout,
        (_, Place::Vfork) => Proof::Frozen,
        (Hierarchy::V2, Place::Stopped | Place::Traced) => Proof::Frozen,
        // In the uninterruptible waits that count as frozen (`cgroup_enter_frozen()`) the kernel's word stands.
        (Hierarchy::V2, Place::Uninterruptible | Place::Refrigerator | Place::InPlace) => Proof::Frozen,
        // Where no place can be seen, the kernel's word and counters that stand still are the evidence.
        (Hierarchy::V2, Place::Unseen | Place::FreezableSleep) => Proof::Frozen,
        (
            Hierarchy::V1,
            Place::Refrigerator | Place::InPlace | Place::Uninterruptible | Place::FreezableSleep,
        ) => Proof::Frozen,
        // Up to 6.0 a stopped task keeps its letter; later a frozen one shows D (or R), never T.
        (Hierarchy::V1, Place::Stopped | Place::Traced) if kernel.has_frozen_flag() => Proof::Frozen,
        (Hierarchy::V1, Place::Unseen) if kernel.has_frozen_flag() => Proof::Unknown,
        _ => Proof::Holdout,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sighting::Counters;
    use super::*;

    const OLD: Kernel = Kernel { major: 5, minor: 10 };
    const NEW: Kernel = Kernel { major: 6, minor: 18 };

    fn seen(letter: char, site: &str, timeslices: u64) -> Sighting {
        Sighting {
            tid: 7,
            start: 1,
            letter,
            flags: 0,
            comm: "x".to_owned(),
            site: (!site.is_empty()).then(|| site.to_owned()),
            counters: Some(Counters {
                on_cpu_ns: 100 * timeslices,
                timeslices,
            }),
            killed: false,
        }
    }

    #[track_caller]
    fn thaw(before: Sighting, after: Sighting, expected: Proof) {
        assert_eq!(judge_thaw(Before::Seen(&before), Some(&after), NEW), expected);
    }

    #[test]
    fn every_class_gets_its_word() {
        thaw(seen('S', "get_signal", 5), seen('S', "pipe_read", 6), Proof::Ran);
        thaw(seen('S', "get_signal", 5), seen('R', "", 5), Proof::Woken);
        thaw(
            seen('S', "get_signal", 5),
            seen('S', "get_signal", 6),
            Proof::Holdout,
        ); // a signal moved it
        thaw(seen('D', "__refrigerator", 5), seen('R', "", 6), Proof::Ran);
        thaw(
            seen('D', "hrtimer_nanosleep", 5),
            seen('S', "hrtimer_nanosleep", 5),
            Proof::Restored,
        );
        thaw(
            seen('D', "hrtimer_nanosleep", 5),
            seen('D', "hrtimer_nanosleep", 5),
            Proof::Holdout,
        );
        thaw(
            seen('R', "hrtimer_nanosleep", 5),
            seen('S', "hrtimer_nanosleep", 5),
            Proof::Restored,
        );
        thaw(
            seen('D', "do_signal_stop", 5),
            seen('T', "do_signal_stop", 5),
            Proof::Restored,
        );
        thaw(
            seen('T', "do_signal_stop", 5),
            seen('T', "do_signal_stop", 5),
            Proof::Unprovable,
        );
        thaw(
            seen('D', "kernel_clone", 5),
            seen('D', "kernel_clone", 6),
            Proof::Unprovable,
        );
        thaw(
            seen('D', "anon_pipe_write", 5),
            seen('D', "anon_pipe_write", 6),
            Proof::Holdout,
        ); // v2's spurious wake
        let own = seen('D', "anon_pipe_write", 5);
        thaw(own.clone(), seen('R', "", 7), Proof::Woken); // the wake may only be on its way back
        thaw(own.clone(), seen('R', "", 9), Proof::Ran);
        thaw(own, seen('S', "pipe_read", 6), Proof::Ran);
        thaw(
            seen('D', "io_schedule", 5),
            seen('D', "io_schedule", 9),
            Proof::Ran,
        );
        thaw(
            seen('S', "pipe_read", 5),
            seen('S', "pipe_read", 5),
            Proof::Restored,
        ); // never was frozen
        thaw(seen('S', "get_signal", 5), seen('S', "", 6), Proof::Unknown);
        thaw(seen('S', "get_signal", 5), seen('Z', "", 6), Proof::Exited);
    }

    #[test]
    fn another_task_of_the_same_number_is_new() {
        let before = seen('S', "get_signal", 5);
        let after = Sighting {
            start: 2,
            ..seen('S', "pipe_read", 9)
        };
        assert_eq!(judge_thaw(Before::Seen(&before), Some(&after), NEW), Proof::New);
        assert_eq!(judge_thaw(Before::Seen(&before), None, NEW), Proof::Exited);
        assert_eq!(
            judge_thaw(Before::Absent, Some(&seen('S', "get_signal", 1)), NEW),
            Proof::Holdout
        );
    }

    #[test]
    fn without_counters_leaving_the_trap_is_not_proven() {
        let blind = |sighting: Sighting| Sighting {
            counters: None,
            ..sighting
        };
        thaw(
            blind(seen('S', "get_signal", 0)),
            blind(seen('S', "pipe_read", 0)),
            Proof::Unknown,
        );
        thaw(
            blind(seen('D', "futex_wait_queue", 0)),
            blind(seen('S', "futex_wait_queue", 0)),
            Proof::Restored,
        );
    }

    #[test]
    fn old_sleepers_that_v1_never_touched_are_unprovable() {
        let skip = |n| Sighting {
            flags: 0x4000_0000,
            ..seen('S', "futex_wait_queue_me", n)
        };
        let judged = |before, after| judge_thaw(Before::Seen(&skip(before)), Some(&skip(after)), OLD);
        assert_eq!((judged(5, 5), judged(5, 6)), (Proof::Unprovable, Proof::Ran));
    }

    #[test]
    fn who_was_listed_and_not_looked_at_is_judged_by_its_place() {
        let judged = |settled, first: Option<Sighting>, after: Sighting| {
            let first = first.as_ref();
            judge_thaw(Before::Listed { settled, first }, Some(&after), NEW)
        };
        let asleep = || seen('S', "pipe_read", 5);
        let running = |slices| seen('R', "", slices);
        for (settled, first, after, expected) in [
            (true, None, asleep(), Proof::Ran),
            (true, None, seen('D', "io_schedule", 5), Proof::Ran),
            (true, None, seen('T', "do_signal_stop", 5), Proof::Unprovable),
            (true, None, seen('t', "ptrace_stop", 5), Proof::Unprovable),
            (true, None, seen('D', "kernel_clone", 5), Proof::Unprovable),
            (true, None, seen('S', "get_signal", 5), Proof::Holdout),
            (true, None, seen('S', "", 5), Proof::Unknown),
            (true, None, seen('Z', "", 5), Proof::Exited),
            // It may be in the trap still, and only wait for a CPU.
            (true, None, running(5), Proof::Woken),
            (true, Some(running(5)), running(5), Proof::Woken),
            (true, Some(running(5)), running(6), Proof::Ran),
            (false, None, asleep(), Proof::Restored),
            (false, Some(seen('S', "pipe_read", 4)), asleep(), Proof::Ran),
            (false, None, seen('T', "do_signal_stop", 5), Proof::Restored),
            (false, None, seen('D', "hrtimer_nanosleep", 5), Proof::Holdout),
            (false, None, seen('D', "__refrigerator", 5), Proof::Holdout),
            (false, None, seen('D', "io_schedule", 5), Proof::Holdout),
            (false, None, running(5), Proof::Woken),
        ] {
            let told = format!("{settled} {first:?} {after:?}");
            assert_eq!(judged(settled, first, after), expected, "{told}");
        }
        let gone = Before::Listed {
            settled: true,
            first: None,
        };
        assert_eq!(judge_thaw(gone, None, NEW), Proof::Exited);
    }

    #[test]
    fn a_freeze_is_shown_by_place_and_still_counters() {
        let held = |first: Sighting, second: Sighting, by| judge_freeze(Some(&first), &second, by, NEW);
        assert_eq!(
            held(
                seen('S', "get_signal", 5),
                seen('S', "get_signal", 6),
                Hierarchy::V2
            ),
            Proof::Frozen
        );
        assert_eq!(
            held(
                seen('S', "pipe_read", 5),
                seen('S', "pipe_read", 5),
                Hierarchy::V2
            ),
            Proof::Holdout
        );
        assert_eq!(
            held(
                seen('T', "do_signal_stop", 5),
                seen('T', "do_signal_stop", 5),
                Hierarchy::V2
            ),
            Proof::Frozen
        );
        assert_eq!(
            held(
                seen('T', "do_signal_stop", 5),
                seen('T', "do_signal_stop", 5),
                Hierarchy::V1
            ),
            Proof::Holdout
        );
        assert_eq!(
            held(
                seen('D', "__refrigerator", 5),
                seen('D', "__refrigerator", 6),
                Hierarchy::V1
            ),
            Proof::Holdout
        );
        assert_eq!(
            held(seen('D', "ep_poll", 5), seen('D', "ep_poll", 5), Hierarchy::V1),
            Proof::Frozen
        );
        assert_eq!(
            held(seen('R', "", 5), seen('R', "", 5), Hierarchy::V1),
            Proof::Holdout
        ); // escaped
        assert_eq!(
            held(seen('S', "", 5), seen('S', "", 5), Hierarchy::V2),
            Proof::Frozen
        );
        assert_eq!(
            held(seen('S', "", 5), seen('S', "", 6), Hierarchy::V2),
            Proof::Holdout
        );
    }
}
