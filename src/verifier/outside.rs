//! Who is in a PID namespace, wherever it is otherwise: a process that was moved out of its container's cgroup, or that
//! entered the namespace from outside, lives with the container and is not frozen with it.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::Mode;

use super::task::Witness;

/// A process of a PID namespace of which a task is not where the others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The process.
    pub pid: i32,
    /// The task: the process's leader, or the first thread that is somewhere else.
    pub tid: i32,
    /// The task's name, which it chooses itself.
    pub comm: String,
}

impl Witness<'_> {
    /// The processes in the PID namespace of `first` that have a task which is none of `inside`. Dead tasks are in
    /// nobody's way and are left out, and so are the processes of namespaces inside that one. `None` where `first` is in
    /// the namespace of this /proc, which is no container's, or gone.
    ///
    /// It looks through all processes there are, and gives up after `limit`.
    ///
    /// # Errors
    ///
    /// `TimedOut`, or a process that may be one of them may not be looked at.
    pub fn strays(
        self,
        first: i32,
        inside: &BTreeSet<i32>,
        limit: Duration,
    ) -> io::Result<Option<Vec<Stray>>> {
        let began = Instant::now();
        if !self.is_in_inner_namespace(first) {
            return Ok(None);
        }
        let home = match self.pid_namespace(first) {
            Ok(home) => home,
            Err(Errno::ENOENT | Errno::ESRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let mut strays = Vec::new();
        for pid in self.numbers_in(".")? {
            if began.elapsed() >= limit {
                let why = format!("not all processes could be looked through in {limit:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            match self.pid_namespace(pid) {
                Ok(namespace) if namespace == home => {}
                Ok(_) | Err(Errno::ENOENT | Errno::ESRCH) => continue,
                // Whoever is in no inner namespace need not be looked at.
                Err(Errno::EACCES | Errno::EPERM) if !self.is_in_inner_namespace(pid) => continue,
                Err(errno) => return Err(errno.into()),
            }
            strays.extend(self.stray(pid, inside)?);
        }
        Ok(Some(strays))
    }

    fn stray(self, pid: i32, inside: &BTreeSet<i32>) -> io::Result<Option<Stray>> {
        for tid in self.numbers_in(&format!("{pid}/task"))? {
            if inside.contains(&tid) {
                continue;
            }
            if let Some(comm) = self.comm_alive(tid) {
                return Ok(Some(Stray { pid, tid, comm }));
            }
        }
        Ok(None)
    }

    /// The first live task of the process of `tid` that is none of `inside`; `None` where all are. A dead one is in no
    /// cgroup any more.
    #[must_use]
    pub(crate) fn thread_outside(self, tid: i32, inside: &BTreeSet<i32>) -> Option<i32> {
        let threads = self.numbers_in(&format!("{tid}/task")).unwrap_or_default(); // gone: it has none
        threads
            .into_iter()
            .find(|thread| !inside.contains(thread) && self.comm_alive(*thread).is_some())
    }

    /// Which PID namespace a process is in, as the kernel writes it.
    fn pid_namespace(self, pid: i32) -> nix::Result<PathBuf> {
        readlinkat(self.proc_fd, format!("{pid}/ns/pid").as_str()).map(PathBuf::from)
    }

    /// The numbers among the names in a directory of /proc; none where it is gone.
    pub(super) fn numbers_in(self, path: &str) -> io::Result<Vec<i32>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = match Dir::openat(self.proc_fd, path, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ESRCH) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        };
        let mut numbers = Vec::new();
        for entry in dir.iter() {
            match entry {
                Ok(entry) => {
                    let name = entry.file_name().to_str().ok(); // no number
                    numbers.extend(name.and_then(|name| name.parse::<i32>().ok()));
                }
                // The process ended while its tasks were listed.
                Err(Errno::ENOENT | Errno::ESRCH) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use std::fs;
    use std::os::unix::fs::symlink;

    const LONG: Duration = Duration::from_secs(60);

    /// Processes of one task each: number, PID namespace, the numbers in each namespace, letter.
    fn host(processes: &[(i32, &str, &str, char)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (pid, namespace, numbers, letter) in processes {
            let process = dir.path().join(format!("proc/{pid}"));
            let task = process.join(format!("task/{pid}"));
            fs::create_dir_all(&task).unwrap();
            fs::create_dir(process.join("ns")).unwrap();
            symlink(namespace, process.join("ns/pid")).unwrap();
            fs::write(task.join("status"), format!("Name:\tx\nNSpid:\t{numbers}\n")).unwrap();
            let zeros = " 0".repeat(49);
            fs::write(task.join("stat"), format!("{pid} (of {pid}) {letter}{zeros}\n")).unwrap();
        }
        let host = Host::made_up(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn only_who_lives_in_the_namespace_and_not_inside_is_told() {
        let (_dir, host) = host(&[
            (1, "pid:[1]", "1", 'S'),
            (7, "pid:[9]", "7\t1", 'S'),
            (8, "pid:[9]", "8\t2", 'S'),
            (10, "pid:[9]", "10\t3", 'S'),
            (11, "pid:[9]", "11\t4", 'Z'),
            (12, "pid:[2]", "12\t1", 'S'),
            (13, "pid:[3]", "13\t5\t1", 'S'),
        ]);
        let witness = Witness::new(&host);
        let stray = |pid| Stray {
            pid,
            tid: pid,
            comm: format!("of {pid}"),
        };
        let strays = |inside: &[i32]| {
            let inside = inside.iter().copied().collect();
            let mut found = witness.strays(7, &inside, LONG).unwrap().unwrap();
            found.sort_by_key(|stray| stray.pid);
            found
        };
        assert_eq!(strays(&[7, 8]), [stray(10)]);
        assert_eq!(strays(&[7]), [stray(8), stray(10)]);
        assert_eq!(strays(&[7, 8, 10]), []);
        for not_its_own in [1, 99] {
            let none = witness.strays(not_its_own, &BTreeSet::new(), LONG).unwrap();
            assert_eq!(none, None, "{not_its_own}");
        }
    }

    #[test]
    fn a_look_that_takes_too_long_is_given_up() {
        let (_dir, host) = host(&[(7, "pid:[9]", "7\t1", 'S')]);
        let error = Witness::new(&host)
            .strays(7, &BTreeSet::new(), Duration::ZERO)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
