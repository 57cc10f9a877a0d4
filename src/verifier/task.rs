//! One look at one task: its letter, flags, wait channel and scheduling counters, all read through one descriptor of
//! its /proc directory, so that they can't be two tasks' that had the same number one after the other. Each read is done
//! where one that hangs holds up nobody ([`Proc`]).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::place::{Place, place};
use super::sighting::{Counters, PF_EXITING, Sighting};
use crate::host::{
    Host, Kernel, Lock, Proc, Reader, SHORT, Stat, TaskDir, parse_schedstat, parse_stat, read_open,
};

/// SIGKILL in a set of signals.
const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);

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

    /// The parsed `stat` of a process; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It is there, and does not answer or can't be understood.
    pub(crate) fn stat_of(self, pid: i32) -> io::Result<Option<Stat>> {
        // Of one thread: the file of the whole process adds up all of them at each read.
        let read = move |reader: Reader<'_>| stat_at(reader, &format!("{pid}/task/{pid}/stat"));
        self.proc.one(Lock::Exec, pid, read)?
    }

    /// The same for callers who ask about processes that need not exist: absent and unreadable are one for them.
    pub(crate) fn stat(self, pid: i32) -> Option<Stat> {
        self.stat_of(pid).ok().flatten()
    }

    /// The parsed `stat` of each of some processes, and those that do not answer; without those that are gone, and those whose
    /// turn did not come within `limit`.
    pub(crate) fn stats(self, pids: impl IntoIterator<Item = i32>, limit: Duration) -> (Vec<Stat>, Vec<i32>) {
        let (mut stats, mut silent) = (Vec::new(), Vec::new());
        let read = |reader: Reader<'_>, pid| stat_at(reader, &format!("{pid}/task/{pid}/stat"));
        for (pid, answer) in self.proc.each(Lock::Exec, pids, Some(limit), read) {
            match answer.flatten() {
                Ok(stat) => stats.extend(stat),
                Err(_) => silent.push(pid),
            }
        }
        (stats, silent)
    }

    /// The directory that a process works in; `None` if it is gone or may not be seen.
    pub(crate) fn working_dir(self, pid: i32) -> Option<PathBuf> {
        let read = move |reader: Reader<'_>| reader.link(&format!("{pid}/cwd"));
        self.proc.one(Lock::Exec, pid, read).flatten().ok()?
    }

    /// What is mounted where a process is; empty if it is gone or may not be seen.
    pub(crate) fn mountinfo(self, pid: i32) -> Vec<u8> {
        let read = move |reader: Reader<'_>| reader.whole(&format!("{pid}/mountinfo"));
        let text = self.proc.one(Lock::Mounts, pid, read).flatten();
        text.ok().flatten().unwrap_or_default()
    }

    /// The processes from this one up to the first, as the /proc that is worked with numbers them. It ends at one that
    /// does not answer, or may not be seen.
    pub(crate) fn ancestry(self) -> Vec<Stat> {
        let mut all: Vec<Stat> = self.own_stat().into_iter().collect();
        while let Some(parent) = all.last().map(|last| last.ppid).filter(|&parent| parent != 0)
            && all.iter().all(|known| known.pid != parent)
            && let Some(stat) = self.stat(parent)
        {
            all.push(stat);
        }
        all
    }

    /// That of this process itself, which nothing keeps from being read.
    pub(crate) fn own_stat(self) -> Option<Stat> {
        self.proc.own_stat()
    }

    /// A task's name, if it is there and neither dead nor about to be: v1 shows the cgroup of one that exits as `/`
    /// (`proc_cgroup_show()`, kernel/cgroup/cgroup.c). What can't be read counts as not there: its process was listed.
    pub(crate) fn comm_alive(self, tid: i32) -> Option<String> {
        self.proc
            .one(Lock::Exec, tid, move |reader| comm_alive(reader, tid))
            .ok()?
    }

    /// Where a task is.
    #[must_use]
    pub fn place(self, sighting: &Sighting) -> Place {
        place(sighting, self.kernel)
    }

    /// Whether a task is in a PID namespace below that of this /proc: it then has a number in each of them.
    ///
    /// # Kernel
    ///
    /// `NSpid` in /proc/TID/status, since Linux 4.1. It needs no right over PID 1, as comparing namespaces would.
    #[must_use]
    pub fn is_in_inner_namespace(self, tid: i32) -> bool {
        numbers_of(&self.text_of(tid, "status")).is_some_and(|numbers| numbers.len() > 1)
    }

    /// Whether a task is the first process of a PID namespace below that of this /proc, as a container's is.
    #[must_use]
    pub fn is_first_in_namespace(self, tid: i32) -> bool {
        self.first_in_namespace_at([tid]).contains_key(&tid)
    }

    /// How deep below that of this /proc the PID namespaces are of which some of `tids` are the first processes.
    #[must_use]
    pub fn first_in_namespace_at(self, tids: impl IntoIterator<Item = i32>) -> BTreeMap<i32, usize> {
        let found = self.proc.each(Lock::None, tids, None, |reader, tid| {
            let status = text_of(reader, tid, "status");
            let numbers = numbers_of(&status)?;
            (numbers.len() > 1 && numbers.last() == Some(&"1")).then(|| numbers.len() - 1)
        });
        let known = found.into_iter();
        known
            .filter_map(|(tid, depth)| Some((tid, depth.ok()??)))
            .collect()
    }

    /// Whether a process runs as root in the PID namespace of this /proc: one of a container's has a number of its own
    /// there, or another user, also where the container's root is user 0 of a user namespace.
    #[must_use]
    pub(crate) fn is_of_host_root(self, pid: i32) -> bool {
        let status = self.text_of(pid, "status");
        let words = |field| status_field(&status, field).map(|text| text.split_whitespace());
        let is_outermost = words("NSpid:").is_some_and(|numbers| numbers.count() == 1);
        is_outermost && words("Uid:").is_some_and(|mut users| users.all(|user| user == "0"))
    }

    /// A thread of a process that is neither dead nor about to be; the first one may have ended before the others
    /// (`pthread_exit()` in `main`). `None` where all have.
    #[must_use]
    pub(crate) fn living_thread(self, pid: i32) -> Option<i32> {
        let list = move |reader: Reader<'_>| reader.numbers(&format!("{pid}/task"));
        let mut tids = self.proc.one(Lock::None, pid, list).flatten().ok()?; // it is gone, or may not be seen
        tids.sort_unstable();
        let lives = |tid: &i32| self.stat(*tid).is_some_and(|stat| !stat.is_ended());
        tids.into_iter().find(lives)
    }

    /// The process that a task is of; `None` if it is gone or may not be seen.
    #[must_use]
    pub(crate) fn leader_of(self, tid: i32) -> Option<i32> {
        leader_in(&self.text_of(tid, "status"))
    }

    /// The processes that `tids` are of; without those that are gone or may not be seen.
    pub(crate) fn leaders_of(self, tids: impl IntoIterator<Item = i32>) -> BTreeMap<i32, i32> {
        let found = self.proc.each(Lock::None, tids, None, |reader, tid| {
            leader_in(&text_of(reader, tid, "status"))
        });
        let known = found.into_iter();
        known
            .filter_map(|(tid, leader)| Some((tid, leader.ok()??)))
            .collect()
    }

    /// A file of a task whole; empty where the task is gone or the file can't be read, which is missing evidence.
    pub(super) fn text_of(self, tid: i32, name: &'static str) -> Vec<u8> {
        let lock = match name {
            "status" | "children" | "comm" => Lock::None,
            _ => Lock::Exec,
        };
        self.proc
            .one(lock, tid, move |reader| text_of(reader, tid, name))
            .unwrap_or_default()
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

fn stat_at(reader: Reader<'_>, path: &str) -> io::Result<Option<Stat>> {
    reader.piece(path)?.map(|line| parse_stat(&line)).transpose()
}

/// A task's name, if it is alive, in a thread that may hang.
pub(super) fn comm_alive(reader: Reader<'_>, tid: i32) -> Option<String> {
    let dir = reader.task(tid).ok().flatten()?;
    let stat = parse_stat(&dir.read("stat").ok().flatten()?).ok()?;
    (!stat.is_ended()).then_some(stat.comm)
}

/// A file of a task whole, or nothing, in a thread that may hang.
pub(super) fn text_of(reader: Reader<'_>, tid: i32, name: &str) -> Vec<u8> {
    let dir = reader.task(tid).ok().flatten();
    dir.and_then(|dir| dir.read(name).ok().flatten())
        .unwrap_or_default()
}

/// The numbers that a task has, in the PID namespace of this /proc and each one below.
pub(super) fn numbers_of(status: &[u8]) -> Option<Vec<&str>> {
    Some(status_field(status, "NSpid:")?.split_whitespace().collect())
}

fn leader_in(status: &[u8]) -> Option<i32> {
    status_field(status, "Tgid:")?.parse().ok()
}

impl Stat {
    /// Whether it is dead, or about to be: it never gets back to its program.
    pub(crate) fn is_ended(&self) -> bool {
        is_dead(self.state) || self.flags & PF_EXITING != 0
    }

    /// Whether a SIGKILL waits for it.
    pub(crate) fn is_killed(&self) -> bool {
        self.signal & SIGKILL != 0
    }
}

/// Whether a letter is a zombie's or a dead task's.
fn is_dead(letter: char) -> bool {
    matches!(letter, 'Z' | 'X' | 'x')
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

/// A field of a /proc/TID/status text, which need not be text as a whole: a task's name can be any bytes.
pub(super) fn status_field<'t>(status: &'t [u8], field: &str) -> Option<&'t str> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(field.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
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
    fn a_name_of_any_bytes_hides_no_field() {
        let status = b"Name:\t\xff\xfe\nUmask:\t0022\nTgid:\t41\nNSpid:\t41\t1\n";
        assert_eq!(status_field(status, "Tgid:"), Some("41"));
        assert_eq!(status_field(status, "NSpid:"), Some("41\t1"));
        assert_eq!(status_field(status, "Name:"), None);
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
