//! Who is in a PID namespace, wherever it is otherwise: a process that was moved out of its container's cgroup, or that
//! entered the namespace from outside, lives with the container and is not frozen with it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::task::Witness;
use crate::host::{Lock, Reader, comm_alive, numbers_of, text_of};

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

/// Those of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strays {
    /// Those that were found.
    pub found: Vec<Stray>,
    /// The processes that may be others of them, and do not answer.
    pub silent: Vec<i32>,
}

/// So many processes of a container are asked for their PID namespace, where the first ones do not answer.
const ASKED: usize = 4;

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
    pub fn strays(self, first: i32, inside: &BTreeSet<i32>, limit: Duration) -> io::Result<Option<Strays>> {
        let began = Instant::now();
        let depth = self.depth_of(first);
        if depth < 2 {
            return Ok(None);
        }
        let others = inside.iter().copied().filter(|&tid| tid != first);
        let asked = std::iter::once(first).chain(others).take(ASKED);
        let homes = asked.map(|tid| {
            let home = move |reader: Reader<'_>| reader.link(&namespace_of(tid));
            self.proc.one(Lock::Exec, tid, home).flatten()
        });
        let mut home = Ok(None);
        for answer in homes {
            home = answer;
            // Only one that does not answer has others asked in its place.
            if !home
                .as_ref()
                .is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
            {
                break;
            }
        }
        let Some(home) = home? else { return Ok(None) };
        let pids = self.numbers_in(".".to_owned())?;
        let wanted = pids.len();
        let inside = Arc::new(inside.clone());
        let known = Arc::clone(&inside);
        let looked = self.proc.each(Lock::Exec, pids, Some(limit), move |reader, pid| {
            match reader.link(&namespace_of(pid)) {
                Ok(Some(namespace)) if namespace == home => stray(reader, pid, &known),
                Ok(_) => Ok(None),
                // Whoever is in no inner namespace need not be looked at.
                Err(error)
                    if error.kind() == io::ErrorKind::PermissionDenied && depth_of(reader, pid) < 2 =>
                {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        });
        if looked.len() < wanted || began.elapsed() >= limit {
            let why = format!("not all processes could be looked through in {limit:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        let hanging = self.proc.hanging();
        let mut strays = Strays::default();
        for (pid, answer) in looked {
            match answer {
                Ok(stray) => strays.found.extend(stray?),
                // It is known already, or not as deep as those are.
                Err(_) if inside.contains(&pid) || self.depth_of(pid) != depth => {}
                Err(_) if hanging.contains(&pid) => strays.silent.push(pid),
                Err(error) => return Err(error), // too many others do not answer
            }
        }
        Ok(Some(strays))
    }

    /// How many numbers a process has: one in each PID namespace that it is in, from that of this /proc on.
    fn depth_of(self, pid: i32) -> usize {
        numbers_of(&self.proc.text_of(pid, "status")).map_or(0, |numbers| numbers.len())
    }

    /// The first live task of each process in `tids` that is none of `inside`; without those all of whose tasks are. A dead
    /// one is in no cgroup any more.
    pub(crate) fn threads_outside(self, tids: Vec<i32>, inside: &BTreeSet<i32>) -> Vec<(i32, i32)> {
        let inside = inside.clone();
        let found = self.proc.each(Lock::Exec, tids, None, move |reader, tid| {
            // Gone: it has none.
            Some(stray(reader, tid, &inside).ok()??.tid)
        });
        let known = found.into_iter();
        known
            .filter_map(|(tid, outside)| Some((tid, outside.ok()??)))
            .collect()
    }

    /// The numbers among the names in a directory of /proc; none where it is gone.
    pub(super) fn numbers_in(self, path: String) -> io::Result<Vec<i32>> {
        let pid = path.split('/').next().and_then(|pid| pid.parse().ok());
        // That of all processes is nobody's.
        self.proc
            .one(Lock::None, pid.unwrap_or(0), move |reader| reader.numbers(&path))?
    }
}

fn namespace_of(pid: i32) -> String {
    format!("{pid}/ns/pid")
}

fn depth_of(reader: Reader<'_>, pid: i32) -> usize {
    numbers_of(&text_of(reader, pid, "status")).map_or(0, |numbers| numbers.len())
}

fn stray(reader: Reader<'_>, pid: i32, inside: &BTreeSet<i32>) -> io::Result<Option<Stray>> {
    for tid in reader.numbers(&format!("{pid}/task"))? {
        if inside.contains(&tid) {
            continue;
        }
        if let Some(comm) = comm_alive(reader, tid) {
            return Ok(Some(Stray { pid, tid, comm }));
        }
    }
    Ok(None)
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
            let mut found = witness.strays(7, &inside, LONG).unwrap().unwrap().found;
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
