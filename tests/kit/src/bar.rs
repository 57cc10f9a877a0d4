//! How soon after its start a thaw has cleared the request, whatever else is the matter with the host.

use std::time::{Duration, Instant};

use super::command::{Run, thaw};
use super::{Cgroup, PATIENCE};

/// Within that time each has.
pub const CLEARED: Duration = Duration::from_millis(150);
/// And most have within that, on a host that has little else to do.
const USUALLY: Duration = Duration::from_millis(100);
/// So long a thaw looks at its tasks before it writes, where they do not answer.
const LOOKS: Duration = Duration::from_millis(50);
/// A thaw of somebody else takes so much longer at most.
const SLOWER: f64 = 1.5;
const LATER: Duration = Duration::from_millis(5);
/// So many are timed, and their median is what counts; on a busy or an emulated machine as many as end in `ENOUGH`.
const ROUNDS: usize = 20;
/// So many are timed there too.
const FEWEST: usize = 5;
const ENOUGH: Duration = Duration::from_secs(4);
/// So often a median is taken until it is short enough.
const ATTEMPTS: usize = 3;

/// Thaws a cgroup that asks for a freeze; how long after its start it asked no more, and how the thaw ended.
#[track_caller]
pub fn cleared_after(cgroup: &Cgroup, timeout: &str) -> (Duration, Run) {
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
pub fn usually_cleared_after(cgroup: &Cgroup) -> Duration {
    let began = Instant::now();
    let mut all = Vec::new();
    while all.len() < FEWEST || all.len() < ROUNDS && began.elapsed() < ENOUGH {
        all.push(cleared_after(cgroup, "50ms").0);
    }
    all.sort_unstable();
    all[all.len() / 2]
}

/// Checks the median of what has something the matter with it: within 100 ms. `before` is how quick one that is well is: on a
/// busy or an emulated machine even that takes long, and the looks and five times as much are the bound there.
#[track_caller]
pub fn is_quick(cgroup: &Cgroup, before: Duration) {
    is_within(cgroup, before, USUALLY.max(LOOKS + 5 * before));
}

/// Checks the median of one that is well, beside one that is not.
#[track_caller]
pub fn is_as_quick(cgroup: &Cgroup, before: Duration) {
    is_within(cgroup, before, before.mul_f64(SLOWER) + LATER);
}

/// Checks a median against the most that it may be. What else the machine does can make it longer and never shorter, so it
/// is taken again where it was too long.
#[track_caller]
fn is_within(cgroup: &Cgroup, before: Duration, most: Duration) {
    let mut medians = Vec::new();
    while medians.len() < ATTEMPTS {
        let median = usually_cleared_after(cgroup);
        if median <= most {
            return;
        }
        medians.push(median);
    }
    panic!("{medians:?}, which may be {most:?}, and one that is well {before:?}");
}
