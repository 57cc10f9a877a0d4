//! Who has the CPU that a task waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::class::{Class, Party};
use super::holdout::Holdout;
use super::task::Witness;
use crate::host::{Lock, Reader, parse_stat, text_of};
use crate::patience::Clock;

/// `SCHED_FIFO`, `SCHED_RR` and `SCHED_DEADLINE` of include/uapi/linux/sched.h: whoever is of these classes goes before
/// all ordinary tasks, for as long as it likes (but for what `sched_rt_runtime_us` keeps free).
const BEFORE_OTHERS: [u32; 3] = [1, 2, 6];

/// How often a stack is looked at from the CPU that its task is on, and how long is waited in between: the task must
/// get its turns too. Some looks meet it where its stack tells nothing, or find that it was moved just then.
const LOOKS: u32 = 40;
const PAUSE: Duration = Duration::from_millis(1);

/// So many processes are looked at before it is asked whether that is enough.
const AT_ONCE: usize = 256;

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
        let stat = self.proc.stat(tid)?;
        Some(Ticks {
            user: stat.utime,
            system: stat.stime,
        })
    }

    /// Looks for the stack of a task that is always on a CPU from that CPU, until `clock` is over: who reads it there has
    /// taken the task's place, and what it left is to be seen.
    pub(crate) fn look_from_its_cpu(self, holdout: &mut Holdout, clock: &Clock<'_>) {
        for _ in 0..LOOKS {
            // It may have been moved since; what may not be followed to one CPU may come back from there.
            let Some(cpu) = self.cpu_of(holdout.tid) else {
                break;
            };
            self.look_for_userfault(holdout, Some(cpu));
            if holdout.class == Class::Userfault || clock.is_over() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The CPU that a task is on or waits for; `None` if it is gone or may not be seen.
    #[must_use]
    pub fn cpu_of(self, tid: i32) -> Option<i32> {
        self.proc.stat(tid)?.processor
    }

    /// A real-time task that could run on each of `cpus`, as far as they were found within `limit`; those that came last
    /// are looked at first.
    #[must_use]
    pub fn real_time_tasks(self, cpus: &BTreeSet<i32>, limit: Duration) -> BTreeMap<i32, Party> {
        // Without a list nobody is named, which is what is said then.
        let mut pids = self.numbers_in(".".to_owned()).unwrap_or_default();
        pids.sort_unstable();
        pids.reverse();
        let began = Instant::now();
        let mut all = BTreeMap::new();
        for pids in pids.chunks(AT_ONCE) {
            let left = limit.saturating_sub(began.elapsed());
            if all.len() == cpus.len() || left.is_zero() {
                break;
            }
            let wanted = cpus.clone();
            let look = move |reader: Reader<'_>, pid| real_time_tasks_of(reader, pid, &wanted);
            let looked = self.proc.each(Lock::Exec, pids.iter().copied(), Some(left), look);
            // One that does not answer waits for something else than a CPU.
            for (cpu, party) in looked
                .into_iter()
                .flat_map(|(_, found)| found.unwrap_or_default())
            {
                all.entry(cpu).or_insert(party);
            }
        }
        all
    }
}

/// The real-time tasks of a process that could run on some of `cpus`, and where.
fn real_time_tasks_of(reader: Reader<'_>, pid: i32, cpus: &BTreeSet<i32>) -> Vec<(i32, Party)> {
    // A process that is gone has none.
    let tids = reader.numbers(&format!("{pid}/task")).unwrap_or_default();
    let found = tids.into_iter().filter_map(|tid| {
        let stat = parse_stat(&text_of(reader, tid, "stat")).ok()?; // it is gone
        let is_before = stat.policy.is_some_and(|policy| BEFORE_OTHERS.contains(&policy));
        let is_there = |cpu: &i32| is_before && stat.state == 'R' && cpus.contains(cpu);
        let cpu = stat.processor.filter(is_there)?;
        let party = Party {
            pid: tid,
            comm: Some(stat.comm),
        };
        Some((cpu, party))
    });
    found.collect()
}
