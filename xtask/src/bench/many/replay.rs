//! What a program opens for each container, how often, and whether before or after it writes there: for a C loop that
//! does the same.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::bench::records::shape::Member;
use crate::bench::records::trace::traced;

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Read,
    Write,
    List,
}

/// When it is done, given that the container is written once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Before,
    Write,
    After,
}

/// What was seen, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replay(Vec<(Act, String)>);

impl Replay {
    /// Runs `command` under strace.
    pub(super) fn of(strace: &Path, log: &Path, command: &Command) -> Result<Self> {
        traced(strace, log, command).map(|text| Self::read(&text))
    }

    fn read(text: &str) -> Self {
        let mut seen = Vec::new();
        // How each thread's call began, while another one's line stands between that and its end.
        let mut begun: HashMap<&str, &str> = HashMap::new();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let call = call.trim_start();
            if call.ends_with("<unfinished ...>") {
                begun.insert(thread, call);
                continue;
            }
            let start = match call.starts_with("<... ") {
                true => begun.remove(thread).unwrap_or_default(),
                false => call,
            };
            let Some((_, result)) = call.rsplit_once(" = ") else {
                continue;
            };
            if start.starts_with("getdents64(") {
                let dir = start.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                seen.extend(
                    dir.filter(|_| result == "0")
                        .map(|(dir, _)| (Act::List, dir.to_owned())),
                );
            } else if start.starts_with("open") && !start.contains("O_DIRECTORY") {
                let act = if start.contains("O_WRONLY") {
                    Act::Write
                } else {
                    Act::Read
                };
                let file = result
                    .split_once('<')
                    .and_then(|(_, rest)| rest.strip_suffix('>'));
                seen.extend(file.map(|file| (act, file.to_owned())));
            }
        }
        Self(seen)
    }

    /// How many files are opened for each container.
    pub(super) fn per_container(&self, few: &[Member]) -> usize {
        self.templates(few).0.values().sum::<usize>() / few.len()
    }

    /// The lines for `records loop`: what was done for each of `few` is done for `all`, as often; first all that comes
    /// before the writes, then the writes, then the rest. What was done for none of them is done as it was.
    pub(super) fn script(&self, few: &[Member], all: &[Member]) -> String {
        let (templates, rest) = self.templates(few);
        let mut lines: Vec<(Phase, String)> = Vec::new();
        for (phase, act, path) in rest {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
            lines.push((phase, format!("@{above}/\n{}", done(act, name))));
        }
        for ((phase, act, template), count) in templates {
            // A wait that looked once more at one of them is no part of it.
            let times = (count + few.len() / 2) / few.len();
            let (above, below) = split(&template);
            let mut text = format!("@{above}\n");
            for member in all {
                let path = below.replace("@ID@", &member.id);
                let path = member
                    .pids
                    .iter()
                    .enumerate()
                    .fold(path, |path, (nth, pid)| path.replace(&format!("@PID{nth}@"), pid));
                (0..times).for_each(|_| text += &done(act, &path));
            }
            lines.push((phase, text));
        }
        lines.sort_by_key(|(phase, _)| *phase);
        lines.into_iter().map(|(_, text)| text).collect()
    }

    /// What is done for each container and how often altogether, and the rest.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn templates(
        &self,
        few: &[Member],
    ) -> (BTreeMap<(Phase, Act, String), usize>, Vec<(Phase, Act, String)>) {
        let by_pid: HashMap<&str, (usize, usize)> = few
            .iter()
            .enumerate()
            .flat_map(|(of, member)| {
                member
                    .pids
                    .iter()
                    .enumerate()
                    .map(move |(nth, pid)| (pid.as_str(), (of, nth)))
            })
            .collect();
        let mut written = vec![false; few.len()];
        let mut templates = BTreeMap::new();
        let mut rest = Vec::new();
        for (act, path) in &self.0 {
            let found = template(path, few, &by_pid);
            let was_written = match &found {
                Some((of, _)) => written[*of],
                None => written.contains(&true),
            };
            let phase = match (act, was_written) {
                (Act::Write, _) => Phase::Write,
                (_, true) => Phase::After,
                (_, false) => Phase::Before,
            };
            match found {
                Some((of, template)) => {
                    written[of] |= *act == Act::Write;
                    *templates.entry((phase, *act, template)).or_default() += 1;
                }
                // A program's own files in /proc are gone by now.
                None if *act != Act::Write && Path::new(path).exists() => {
                    rest.push((phase, *act, path.clone()))
                }
                None => {}
            }
        }
        (templates, rest)
    }
}

/// Whose a path is, and the path with what is its own replaced.
fn template(path: &str, few: &[Member], by_pid: &HashMap<&str, (usize, usize)>) -> Option<(usize, String)> {
    if let Some(below) = path.strip_prefix("/proc/") {
        let pid = below.split('/').next()?;
        let (of, nth) = by_pid.get(pid)?;
        let names = below.split('/').map(|name| match name == pid {
            true => format!("@PID{nth}@"),
            false => name.to_owned(),
        });
        return Some((*of, format!("/proc/{}", names.collect::<Vec<_>>().join("/"))));
    }
    let of = few.iter().position(|member| path.contains(&member.id))?;
    Some((of, path.replace(&few[of].id, "@ID@")))
}

/// The directory that is of all of them, and the rest of the path.
fn split(template: &str) -> (&str, &str) {
    let at = template.find('@').unwrap_or(template.len());
    let slash = template[..at].rfind('/').map_or(0, |slash| slash + 1);
    template.split_at(slash)
}

fn done(act: Act, name: &str) -> String {
    match act {
        Act::Read => format!("r {name}\n"),
        Act::List => format!("l {name}\n"),
        Act::Write if name.ends_with("freezer.state") => format!("w {name} THAWED\n"),
        Act::Write => format!("w {name} 0\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: usize) -> Vec<Member> {
        let member = |number: usize| Member {
            id: format!("{number:064x}"),
            name: format!("web-{number}"),
            pids: vec![(4000 + 2 * number).to_string(), (4001 + 2 * number).to_string()],
            start: "1".to_owned(),
        };
        (0..count).map(member).collect()
    }

    #[test]
    fn what_is_opened_is_read_in_its_order_and_told_from_what_is_written() {
        let replay = Replay::read(
            "7  openat(AT_FDCWD</>, \"/a\", O_RDONLY|O_DIRECTORY) = 3</a>\n\
             7 openat(3</a>, \"s\", O_WRONLY <unfinished ...>\n\
             8 openat(3</a>, \"b\", O_RDONLY) = 5</a/b>\n\
             8 openat(3</a>, \"gone\", O_RDONLY) = -1 ENOENT (No such file or directory)\n\
             7 <... openat resumed>) = 4</a/s>\n\
             8 getdents64(6</c>, 0x55 /* 0 entries */, 32768) = 0\n",
        );
        let seen = [(Act::Read, "/a/b"), (Act::Write, "/a/s"), (Act::List, "/c")];
        assert_eq!(replay.0, seen.map(|(act, path)| (act, path.to_owned())));
    }

    #[test]
    fn each_file_is_done_for_all_as_often_and_on_its_side_of_the_write() {
        let all = members(3);
        let few = &all[..2];
        let mut seen = Vec::new();
        for member in few {
            let state = format!("/c/{}/freezer.state", member.id);
            let stat = format!("/proc/{0}/task/{0}/stat", member.pids[1]);
            seen.push((Act::Read, stat.clone()));
            seen.push((Act::Read, stat.clone()));
            seen.push((Act::Write, state));
            seen.push((Act::Read, stat));
        }
        let replay = Replay(seen);
        assert_eq!(replay.per_container(few), 4);
        let script = replay.script(few, &all);
        let (before, rest) = script.split_once("@/c/\n").unwrap();
        let (writes, after) = rest.split_once("@/proc/\n").unwrap();
        let stats = |times: usize| -> String {
            let each = all
                .iter()
                .map(|member| format!("r {0}/task/{0}/stat\n", member.pids[1]).repeat(times));
            each.collect()
        };
        assert_eq!(before, format!("@/proc/\n{}", stats(2)));
        let states: String = all
            .iter()
            .map(|member| format!("w {}/freezer.state THAWED\n", member.id))
            .collect();
        assert_eq!((writes, after), (states.as_str(), stats(1).as_str()));
    }
}
