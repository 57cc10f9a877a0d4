//! How soon after its start a thaw has cleared the request, whatever else is the matter with the host.

use std::time::{Duration, Instant};

use super::command::{Run, thaw};
use super::{Cgroup, PATIENCE};

/// Within that time each has.
pub(crate) const CLEARED: Duration = Duration::from_millis(150);
/// And most have within that, on an idle host.
const USUALLY: Duration = Duration::from_millis(100);
/// A thaw of somebody else takes so much longer at most.
const SLOWER: f64 = 1.5;
const LATER: Duration = Duration::from_millis(5);
/// So many are timed: their median is what counts.
const ROUNDS: usize = 9;

/// Thaws a cgroup that asks for a freeze; how long after its start it asked no more, and how the thaw ended.
#[track_caller]
pub(crate) fn cleared_after(cgroup: &Cgroup, timeout: &str) -> (Duration, Run) {
    cgroup.ask();
    let began = Instant::now();
    let running = thaw(cgroup).timeout(timeout).start();
    while cgroup.asks() {
        assert!(
            began.elapsed() < PATIENCE,
            "the request stays: {:?}",
            running.end()
        );
        std::thread::sleep(Duration::from_micros(200));
    }
    (began.elapsed(), running.end())
}

/// The median of several.
#[track_caller]
pub(crate) fn usually_cleared_after(cgroup: &Cgroup) -> Duration {
    let mut all: Vec<Duration> = (0..ROUNDS).map(|_| cleared_after(cgroup, "50ms").0).collect();
    all.sort_unstable();
    all[ROUNDS / 2]
}

/// Checks the median of what has something the matter with it; `before` is how quick this host is.
#[track_caller]
pub(crate) fn is_quick(median: Duration, before: Duration) {
    let most = USUALLY + 2 * before;
    assert!(median < most, "{median:?}, and one that is well {before:?}");
}

/// Checks the median of one that is well, beside one that is not.
#[track_caller]
pub(crate) fn is_as_quick(median: Duration, before: Duration) {
    let most = before.mul_f64(SLOWER) + LATER;
    assert!(median <= most, "{median:?}, and {before:?} before");
}
