//! Who has the CPU that a task waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::holdout::{Class, Holdout, Party};
use super::stat::parse_stat;
use super::task::Witness;
use crate::patience::Clock;

/// `SCHED_FIFO`, `SCHED_RR` and `SCHED_DEADLINE` of include/uapi/linux/sched.h: whoever is of these classes goes before
/// all ordinary tasks, for as long as it likes (but for what `sched_rt_runtime_us` keeps free).
const BEFORE_OTHERS: [u32; 3] = [1, 2, 6];

/// How often a stack is looked at from the CPU that its task is on, and how long is waited in between: the task must
/// get its turns too. Some looks meet it where its stack tells nothing, or find that it was moved just then.
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(1);

/// The time that a task had on a CPU, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// In its own code.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

impl Witness<'_> {
    /// The time that a task had on a CPU; `None` if it is gone or may not be seen.
    #[must_use]
    pub fn ticks(self, tid: i32) -> Option<Ticks> {
        let stat = self.stat(&tid.to_string())?;
        Some(Ticks {
            user: stat.utime,
            system: stat.stime,
        })
    }

    /// Looks for the stack of a task that is always on a CPU from that CPU, until `clock` is over: who reads it there has
    /// taken the task's place, and what it left is to be seen. This thread goes back where it was.
    pub(crate) fn look_from_its_cpu(self, holdout: &mut Holdout, clock: &Clock<'_>) {
        let this = Pid::from_raw(0);
        let Ok(before) = sched_getaffinity(this) else {
            return; // what it waits for stays unseen
        };
        for _ in 0..LOOKS {
            // It may have been moved since; what may not be followed to one CPU may come back from there.
            let Some(cpu) = self.cpu_of(holdout.tid) else {
                break;
            };
            if go_to(cpu) {
                self.look_for_userfault(holdout);
            }
            if holdout.class() == Class::Userfault || clock.is_over() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        // It was allowed there before; where it stays it only looks on, and ends soon.
        let _ = sched_setaffinity(this, &before);
    }

    /// The CPU that a task is on or waits for; `None` if it is gone or may not be seen.
    #[must_use]
    pub fn cpu_of(self, tid: i32) -> Option<i32> {
        self.stat(&tid.to_string())?.processor
    }

    /// A real-time task that could run on each of `cpus`, as far as they were found within `limit`; those that came last
    /// are looked at first.
    #[must_use]
    pub fn real_time_tasks(self, cpus: &BTreeSet<i32>, limit: Duration) -> BTreeMap<i32, Party> {
        let began = Instant::now();
        let mut all = BTreeMap::new();
        // Without a list nobody is named, which is what is said then.
        let mut pids = self.numbers_in(".").unwrap_or_default();
        pids.sort_unstable();
        for pid in pids.into_iter().rev() {
            // A process that is gone has none.
            for tid in self.numbers_in(&format!("{pid}/task")).unwrap_or_default() {
                if began.elapsed() >= limit || all.len() == cpus.len() {
                    return all;
                }
                let Ok(stat) = parse_stat(&self.text_of(tid, "stat")) else {
                    continue; // it is gone
                };
                let is_before = stat.policy.is_some_and(|policy| BEFORE_OTHERS.contains(&policy));
                if let Some(cpu) = stat
                    .processor
                    .filter(|cpu| is_before && stat.state == 'R' && cpus.contains(cpu))
                {
                    all.entry(cpu).or_insert(Party {
                        pid: tid,
                        comm: Some(stat.comm),
                    });
                }
            }
        }
        all
    }
}

/// Has this thread run on one CPU; false where it may not.
fn go_to(cpu: i32) -> bool {
    let mut there = CpuSet::new();
    let set = usize::try_from(cpu).is_ok_and(|cpu| there.set(cpu).is_ok());
    set && sched_setaffinity(Pid::from_raw(0), &there).is_ok()
}
