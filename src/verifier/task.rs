//! One look at one task: its letter, flags, wait channel and scheduling counters, all read through one descriptor of
//! its /proc directory, so that they can't be two tasks' that had the same number one after the other. Each read is done
//! where one that hangs holds up nobody ([`Proc`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::place::{Place, place};
use super::sighting::{Counters, Sighting};
use crate::host::{
    Host, Kernel, Lock, Proc, Reader, SHORT, Stat, TaskDir, is_dead, parse_schedstat, parse_stat, read_open,
    status_field, text_of,
};

/// How often a task is looked at until its letter holds still for one look; a busy one may never do so.
const STEADY_LOOKS: u32 = 4;

/// What one look at several tasks showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sightings {
    /// The tasks that were seen.
    pub seen: BTreeMap<i32, Sighting>,
    /// Those that are there and could not be looked at.
    pub unseen: BTreeSet<i32>,
}

/// Looks at tasks of one host.
#[derive(Debug, Clone, Copy)]
pub struct Witness<'h> {
    pub(super) proc: &'h Proc,
    kernel: Kernel,
}

impl<'h> Witness<'h> {
    /// A witness for the tasks of `host`.
    #[must_use]
    pub fn new(host: &'h Host) -> Self {
        Self {
            proc: host.proc(),
            kernel: host.kernel(),
        }
    }

    /// The /proc that the evidence comes from.
    #[must_use]
    pub(crate) fn proc(self) -> &'h Proc {
        self.proc
    }

    /// The kernel that the evidence comes from.
    #[must_use]
    pub fn kernel(self) -> Kernel {
        self.kernel
    }

    /// Looks at one task; `None` if it is gone.
    ///
    /// # Errors
    ///
    /// The task is there, and its `stat` does not answer, can't be read or not be understood.
    pub fn look(self, tid: i32) -> io::Result<Option<Sighting>> {
        self.proc.one(Lock::Exec, tid, move |reader| look(reader, tid))?
    }

    /// Looks at each of `tids`; those that are gone are left out.
    pub fn look_at_all(self, tids: impl IntoIterator<Item = i32>) -> Sightings {
        self.look_until(tids, None)
    }

    /// The same for as long as `limit`: those whose turn did not come are unseen.
    pub(crate) fn look_within(self, tids: impl IntoIterator<Item = i32>, limit: Duration) -> Sightings {
        self.look_until(tids, Some(limit))
    }

    fn look_until(self, tids: impl IntoIterator<Item = i32>, limit: Option<Duration>) -> Sightings {
        let mut all = Sightings::default();
        all.unseen.extend(tids);
        let found = self
            .proc
            .each(Lock::Exec, all.unseen.iter().copied(), limit, look);
        for (tid, result) in found {
            // Hidden from the caller, or it does not answer: nothing is known of it, and that is what is told.
            let Ok(sighting) = result.flatten() else { continue };
            all.unseen.remove(&tid);
            all.seen.extend(sighting.map(|sighting| (tid, sighting)));
        }
        all
    }

    /// Where a task is.
    #[must_use]
    pub fn place(self, sighting: &Sighting) -> Place {
        place(sighting, self.kernel)
    }
}

/// A look at one task; `None` if it is gone.
fn look(reader: Reader<'_>, tid: i32) -> io::Result<Option<Sighting>> {
    let Some(dir) = reader.task(tid)? else {
        return Ok(None);
    };
    let Some(file) = dir.open("stat")? else {
        return Ok(None);
    };
    let Some(mut stat) = stat_of(&file)? else {
        return Ok(None);
    };
    let mut place = None;
    // The letter and the place come from two files: a task that falls asleep in between would seem to sleep and to
    // run at once, which on some kernels is how a frozen one looks. What is read between two equal letters fits.
    for _ in 0..STEADY_LOOKS {
        let seen = if is_dead(stat.state) {
            None
        } else {
            site(&dir, stat.state)
        };
        if seen.is_none() || !matches!(stat.state, 'R' | 'D') {
            place = seen;
            break;
        }
        let Some(again) = stat_of(&file)? else {
            return Ok(None);
        };
        let steady = again.state == stat.state;
        stat = again;
        if steady {
            place = seen;
            break;
        }
    }
    let counters = if is_dead(stat.state) { None } else { counters(&dir) };
    let killed = stat.is_killed();
    Ok(Some(Sighting {
        tid,
        start: stat.starttime,
        letter: stat.state,
        flags: stat.flags,
        comm: stat.comm,
        site: place,
        counters,
        killed,
    }))
}

/// Reads a task's open `stat` as it is now; `None` if the task is gone.
fn stat_of(file: &OwnedFd) -> io::Result<Option<Stat>> {
    let mut line = [0; SHORT];
    read_open(file, &mut line)?.map(parse_stat).transpose()
}

/// `wchan`, or where it is "0" for a task that waits (5.10 and others before 5.16 show it for every task) the top
/// frame of the stack. A running task is nowhere.
fn site(dir: &TaskDir, letter: char) -> Option<String> {
    // A wchan or stack that can't be read is missing evidence, which the proof counts as such.
    let mut buffer = [0; SHORT];
    let wchan = String::from_utf8_lossy(dir.read_short("wchan", &mut buffer));
    let wchan = wchan.trim();
    if !wchan.is_empty() && wchan != "0" {
        return Some(wchan.to_owned());
    }
    if letter == 'R' {
        return None;
    }
    let stack = dir.read("stack").ok().flatten().unwrap_or_default();
    frames(&stack).next().map(str::to_owned)
}

/// The function names of a /proc/TID/stack.
pub(super) fn frames(stack: &[u8]) -> impl Iterator<Item = &str> {
    std::str::from_utf8(stack)
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            let name = line.split("] ").nth(1)?;
            name.split(['+', ' '])
                .next()
                .filter(|name| !name.is_empty() && !name.starts_with("0x"))
        })
}

fn counters(dir: &TaskDir) -> Option<Counters> {
    let mut buffer = [0; SHORT];
    let schedstat = dir.read_short("schedstat", &mut buffer);
    if let Some((on_cpu_ns, timeslices)) = parse_schedstat(schedstat)
        && timeslices > 0
    {
        return Some(Counters {
            on_cpu_ns,
            timeslices,
        });
    }
    // No CONFIG_SCHED_INFO: a task that was switched away from had been on a CPU.
    let status = dir.read("status").ok().flatten()?;
    let switches = |field| status_field(&status, field).and_then(|value| value.parse::<u64>().ok());
    let timeslices = switches("voluntary_ctxt_switches:")? + switches("nonvoluntary_ctxt_switches:")?;
    Some(Counters {
        on_cpu_ns: 0,
        timeslices,
    })
}

/// Reads the stack of a task, from a CPU where one is given: the thread goes there, and back to where it was.
pub(super) fn stack_from(reader: Reader<'_>, tid: i32, cpu: Option<i32>) -> Vec<u8> {
    let this = Pid::from_raw(0);
    let before = cpu.and_then(|cpu| {
        let before = sched_getaffinity(this).ok()?; // what it waits for stays unseen, as below
        let mut there = CpuSet::new();
        there.set(usize::try_from(cpu).ok()?).ok()?;
        sched_setaffinity(this, &there).ok()?;
        Some(before)
    });
    let text = text_of(reader, tid, "stack");
    if let Some(before) = before {
        // It was allowed there before; where it stays it only looks on.
        let _ = sched_setaffinity(this, &before);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stack_frames_are_function_names() {
        let stack = b"[<0>] get_signal+0x12/0x3\n[<0>] arch_do_signal_or_restart+0x1/0x2\n[<0>] 0xffff\n";
        assert_eq!(
            frames(stack).collect::<Vec<_>>(),
            ["get_signal", "arch_do_signal_or_restart"]
        );
    }

    #[test]
    fn a_task_that_only_goes_on_running_was_on_a_cpu() {
        let counters = |on_cpu_ns, timeslices| Counters {
            on_cpu_ns,
            timeslices,
        };
        assert_eq!(counters(9, 4).since(counters(5, 4)), 1);
        assert_eq!(counters(5, 4).since(counters(5, 4)), 0);
        assert_eq!(counters(9, 7).since(counters(5, 4)), 3);
    }

    #[test]
    fn a_thread_that_took_over_a_number_by_an_exec_was_on_a_cpu() {
        let counters = |on_cpu_ns, timeslices| Counters {
            on_cpu_ns,
            timeslices,
        };
        for taken_over in [counters(5, 2), counters(500, 1), counters(5, 9)] {
            assert_eq!(taken_over.since(counters(90, 4)), u64::MAX, "{taken_over:?}");
        }
    }
}
