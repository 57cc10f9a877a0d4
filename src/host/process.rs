//! Processes and tasks by their numbers: start times, parents, names, PID namespaces. Each file is read where a read that
//! hangs holds up nobody ([`Proc`]). It says what is on the host, and nothing of what that proves.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::proc::{Lock, Proc, Reader};
use super::stat::{Stat, parse_stat};

/// `PF_EXITING` of include/linux/sched.h: the task is about to be dead.
pub(crate) const PF_EXITING: u32 = 0x0000_0004;

/// SIGKILL in a set of signals.
const SIGKILL: u64 = 1 << (libc::SIGKILL - 1);

impl Proc {
    /// The parsed `stat` of a process; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The process is there, and does not answer or can't be understood.
    pub(crate) fn stat_of(&self, pid: i32) -> io::Result<Option<Stat>> {
        // Of one thread: the file of the whole process adds up all of them at each read.
        let read = move |reader: Reader<'_>| stat_at(reader, &format!("{pid}/task/{pid}/stat"));
        self.one(Lock::Exec, pid, read)?
    }

    /// The parsed `stat` of a process that need not exist; `None` also where it can't be read.
    pub(crate) fn stat(&self, pid: i32) -> Option<Stat> {
        self.stat_of(pid).ok().flatten()
    }

    /// The parsed `stat` of each of some processes, and those that do not answer; without those that are gone, and those whose
    /// turn did not come within `limit`.
    pub(crate) fn stats(
        &self,
        pids: impl IntoIterator<Item = i32>,
        limit: Duration,
    ) -> (Vec<Stat>, Vec<i32>) {
        let (mut stats, mut silent) = (Vec::new(), Vec::new());
        let read = |reader: Reader<'_>, pid| stat_at(reader, &format!("{pid}/task/{pid}/stat"));
        for (pid, answer) in self.each(Lock::Exec, pids, Some(limit), read) {
            match answer.flatten() {
                Ok(stat) => stats.extend(stat),
                Err(_) => silent.push(pid),
            }
        }
        (stats, silent)
    }

    /// The directory that a process works in; `None` if it is gone or may not be seen.
    pub(crate) fn working_dir(&self, pid: i32) -> Option<PathBuf> {
        let read = move |reader: Reader<'_>| reader.link(&format!("{pid}/cwd"));
        self.one(Lock::Exec, pid, read).flatten().ok()?
    }

    /// The mounts of a process's mount namespace; empty if it is gone or may not be seen.
    pub(crate) fn mountinfo(&self, pid: i32) -> Vec<u8> {
        let read = move |reader: Reader<'_>| reader.whole(&format!("{pid}/mountinfo"));
        let text = self.one(Lock::Mounts, pid, read).flatten();
        text.ok().flatten().unwrap_or_default()
    }

    /// The processes from this one up to the first, as the /proc that is worked with numbers them. It ends at one that
    /// does not answer, or may not be seen.
    pub(crate) fn ancestry(&self) -> Vec<Stat> {
        let mut all: Vec<Stat> = self.own_stat().into_iter().collect();
        while let Some(parent) = all.last().map(|last| last.ppid).filter(|&parent| parent != 0)
            && all.iter().all(|known| known.pid != parent)
            && let Some(stat) = self.stat(parent)
        {
            all.push(stat);
        }
        all
    }

    /// A task's name, if it is there and neither dead nor about to be: v1 shows the cgroup of one that exits as `/`
    /// (`proc_cgroup_show()`, kernel/cgroup/cgroup.c). What can't be read counts as not there: its process was listed.
    pub(crate) fn comm_alive(&self, tid: i32) -> Option<String> {
        self.one(Lock::Exec, tid, move |reader| comm_alive(reader, tid))
            .ok()?
    }

    /// Whether a task is in a PID namespace below that of this /proc: it then has a number in each of them.
    ///
    /// # Kernel
    ///
    /// `NSpid` in /proc/TID/status, since Linux 4.1. It needs no right over PID 1, as comparing namespaces would.
    pub(crate) fn is_in_inner_namespace(&self, tid: i32) -> bool {
        numbers_of(&self.text_of(tid, "status")).is_some_and(|numbers| numbers.len() > 1)
    }

    /// Whether a task is the first process of a PID namespace below that of this /proc, as a container's is.
    pub(crate) fn is_first_in_namespace(&self, tid: i32) -> bool {
        self.first_in_namespace_at([tid]).contains_key(&tid)
    }

    /// How deep below that of this /proc the PID namespaces are of which some of `tids` are the first processes.
    pub(crate) fn first_in_namespace_at(&self, tids: impl IntoIterator<Item = i32>) -> BTreeMap<i32, usize> {
        let found = self.each(Lock::None, tids, None, |reader, tid| {
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
    pub(crate) fn is_of_host_root(&self, pid: i32) -> bool {
        let status = self.text_of(pid, "status");
        let words = |field| status_field(&status, field).map(|text| text.split_whitespace());
        let is_outermost = words("NSpid:").is_some_and(|numbers| numbers.count() == 1);
        is_outermost && words("Uid:").is_some_and(|mut users| users.all(|user| user == "0"))
    }

    /// A thread of a process that is neither dead nor about to be; the first one may have ended before the others
    /// (`pthread_exit()` in `main`). `None` where all have.
    pub(crate) fn living_thread(&self, pid: i32) -> Option<i32> {
        let list = move |reader: Reader<'_>| reader.numbers(&format!("{pid}/task"));
        let mut tids = self.one(Lock::None, pid, list).flatten().ok()?; // it is gone, or may not be seen
        tids.sort_unstable();
        let lives = |tid: &i32| self.stat(*tid).is_some_and(|stat| !stat.is_ended());
        tids.into_iter().find(lives)
    }

    /// The process that a task is of; `None` if it is gone or may not be seen.
    pub(crate) fn leader_of(&self, tid: i32) -> Option<i32> {
        leader_in(&self.text_of(tid, "status"))
    }

    /// The processes that `tids` are of; without those that are gone or may not be seen.
    pub(crate) fn leaders_of(&self, tids: impl IntoIterator<Item = i32>) -> BTreeMap<i32, i32> {
        let found = self.each(Lock::None, tids, None, |reader, tid| {
            leader_in(&text_of(reader, tid, "status"))
        });
        let known = found.into_iter();
        known
            .filter_map(|(tid, leader)| Some((tid, leader.ok()??)))
            .collect()
    }

    /// A file of a task whole; empty where the task is gone or the file can't be read, which is missing evidence.
    pub(crate) fn text_of(&self, tid: i32, name: &'static str) -> Vec<u8> {
        let lock = match name {
            "status" | "children" | "comm" => Lock::None,
            _ => Lock::Exec,
        };
        self.one(lock, tid, move |reader| text_of(reader, tid, name))
            .unwrap_or_default()
    }
}

fn stat_at(reader: Reader<'_>, path: &str) -> io::Result<Option<Stat>> {
    reader.piece(path)?.map(|line| parse_stat(&line)).transpose()
}

/// A task's name, if it is alive, in a thread that may hang.
pub(crate) fn comm_alive(reader: Reader<'_>, tid: i32) -> Option<String> {
    let dir = reader.task(tid).ok().flatten()?;
    let stat = parse_stat(&dir.read("stat").ok().flatten()?).ok()?;
    (!stat.is_ended()).then_some(stat.comm)
}

/// A file of a task whole, or nothing, in a thread that may hang.
pub(crate) fn text_of(reader: Reader<'_>, tid: i32, name: &str) -> Vec<u8> {
    let dir = reader.task(tid).ok().flatten();
    dir.and_then(|dir| dir.read(name).ok().flatten())
        .unwrap_or_default()
}

/// The numbers that a task has, in the PID namespace of this /proc and each one below.
pub(crate) fn numbers_of(status: &[u8]) -> Option<Vec<&str>> {
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
pub(crate) fn is_dead(letter: char) -> bool {
    matches!(letter, 'Z' | 'X' | 'x')
}

/// A field of a /proc/TID/status text, which need not be text as a whole: a task's name can be any bytes.
pub(crate) fn status_field<'t>(status: &'t [u8], field: &str) -> Option<&'t str> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(field.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_hides_no_field() {
        let status = b"Name:\t\xff\xfe\nUmask:\t0022\nTgid:\t41\nNSpid:\t41\t1\n";
        assert_eq!(status_field(status, "Tgid:"), Some("41"));
        assert_eq!(status_field(status, "NSpid:"), Some("41\t1"));
        assert_eq!(status_field(status, "Name:"), None);
    }
}
