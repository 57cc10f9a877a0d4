//! What a program reads, as strace saw it: the files, and the directories that it listed, and how often each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use super::shape::Member;
use crate::Result;

/// The files that were opened and the directories that were listed to their ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trace {
    /// Whatever was opened, directories too.
    opened: BTreeSet<String>,
    /// How often each directory was listed.
    pub(super) listed: BTreeMap<String, usize>,
}

/// Runs a command under strace; what that says of the files it opened and the directories it listed.
pub(crate) fn traced(strace: &Path, log: &Path, command: &Command) -> Result<String> {
    let mut traced = Command::new(strace);
    traced.args([
        "-f",
        "-y",
        "-qq",
        "-e",
        "trace=open,openat,openat2,getdents64",
        "-o",
    ]);
    traced
        .arg(log)
        .arg(command.get_program())
        .args(command.get_args());
    traced.stdin(Stdio::null()).stdout(Stdio::null());
    let shown = crate::command::line(&traced);
    match traced.status() {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("{shown}: {status}")),
        Err(error) => return Err(format!("cannot run {shown}: {error}")),
    }
    std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))
}

impl Trace {
    /// Runs `program` under strace.
    pub(super) fn of(strace: &Path, log: &Path, program: &Path, words: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(words);
        traced(strace, log, &command).map(|text| Self::read(&text))
    }

    fn read(text: &str) -> Self {
        let mut trace = Self::default();
        // What each thread is listing while another one's line stands between the beginning and the end of the call.
        let mut pending: BTreeMap<&str, &str> = BTreeMap::new();
        for line in text.lines() {
            let Some((thread, call)) = line.split_once(' ') else {
                continue;
            };
            let call = call.trim_start();
            let result = call.rsplit_once(" = ").map(|(_, result)| result);
            if let Some(rest) = call.strip_prefix("getdents64(") {
                let Some(dir) = between(rest, "<", ">") else {
                    continue;
                };
                if call.ends_with("<unfinished ...>") {
                    pending.insert(thread, dir);
                } else if result == Some("0") {
                    *trace.listed.entry(dir.to_owned()).or_default() += 1;
                }
            } else if call.starts_with("<... getdents64 resumed>") {
                let dir = pending.remove(thread);
                if let Some(dir) = dir.filter(|_| result == Some("0")) {
                    *trace.listed.entry(dir.to_owned()).or_default() += 1;
                }
            } else if call.starts_with("open") || call.starts_with("<... open") {
                let opened = result.and_then(|result| between(result, "<", ">"));
                trace.opened.extend(opened.map(str::to_owned));
            }
        }
        trace
    }

    /// What reads all of it, each once, for the C loop: what was read of each of `few` containers is read of `all`.
    pub(super) fn script(&self, few: &[Member], all: &[Member]) -> String {
        let opened = self.opened.iter().map(String::as_str);
        // A program's own files in /proc are gone by now.
        let mut script = step('r', opened.filter(|path| Path::new(path).is_file()), few, all);
        script += &step('l', self.listed.keys().map(String::as_str), few, all);
        script
    }
}

/// The lines of the script for `paths`, which are all read (`r`) or all listed (`l`).
fn step<'p>(what: char, paths: impl Iterator<Item = &'p str>, few: &[Member], all: &[Member]) -> String {
    let mut patterns: BTreeMap<Pattern, BTreeSet<&str>> = BTreeMap::new();
    for path in paths {
        let pattern = few.iter().find_map(|member| Pattern::of(path, member));
        patterns
            .entry(pattern.unwrap_or_default())
            .or_default()
            .insert(path);
    }
    let mut script = String::new();
    for (pattern, paths) in patterns {
        // What only one of them has is what was asked for.
        if pattern != Pattern::default() && paths.len() == few.len() {
            script += &format!("@{}\n", pattern.above);
            script.extend(
                all.iter()
                    .map(|member| format!("{what} {}\n", pattern.below(member))),
            );
        } else {
            let split = paths.iter().filter_map(|path| path.rsplit_once('/'));
            script.extend(split.map(|(above, name)| format!("@{above}/\n{what} {name}\n")));
        }
    }
    script
}

/// A path that each container has: the directory that is of all of them, and what is below, with `@ID@` and `@PID@`.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    above: String,
    below: String,
}

impl Pattern {
    fn of(path: &str, member: &Member) -> Option<Self> {
        let (id, pid) = (&member.id, &member.pids[0]);
        let (above, below) = match path.strip_prefix("/proc/") {
            Some(below) => ("/proc", below),
            None => path.split_at(path.find(&format!("/{id}"))?),
        };
        let names = below.split('/').skip_while(|name| name.is_empty());
        let names = names.map(|name| match name == pid {
            true => "@PID@".to_owned(),
            false => name.replace(id, "@ID@"),
        });
        let below: Vec<String> = names.collect();
        below
            .first()
            .filter(|first| first.starts_with('@'))
            .map(|_| Self {
                above: above.to_owned(),
                below: below.join("/"),
            })
    }

    fn below(&self, member: &Member) -> String {
        self.below
            .replace("@ID@", &member.id)
            .replace("@PID@", &member.pids[0])
    }
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(middle, _)| middle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: usize) -> Vec<Member> {
        let member = |number: usize| Member {
            id: format!("{number:064x}"),
            name: format!("web-{number}"),
            pids: vec![(4000 + number).to_string()],
            start: "1".to_owned(),
        };
        (0..count).map(member).collect()
    }

    #[test]
    fn what_threads_open_and_list_is_read_out_of_their_mixed_lines() {
        let trace = Trace::read(
            "7  openat(AT_FDCWD</>, \"/a\", O_RDONLY|O_DIRECTORY) = 3</a>\n\
             8 openat(3</a>, \"gone\", O_RDONLY) = -1 ENOENT (No such file or directory)\n\
             8 openat(3</a>, \"b\", O_RDONLY <unfinished ...>\n\
             7 getdents64(3</a>, 0x55 /* 9 entries */, 32768) = 288\n\
             7 getdents64(3</a>,  <unfinished ...>\n\
             8 <... openat resumed>) = 4</a/b>\n\
             7 <... getdents64 resumed>0x55 /* 0 entries */, 32768) = 0\n\
             8 getdents64(5</c>, 0x55 /* 0 entries */, 32768) = 0\n\
             8 getdents64(6</c>, 0x55 /* 0 entries */, 32768) = 0\n",
        );
        assert_eq!(trace.opened, ["/a", "/a/b"].map(str::to_owned).into());
        let listed = [("/a", 1), ("/c", 2)].map(|(dir, times)| (dir.to_owned(), times));
        assert_eq!(trace.listed, listed.into());
    }

    #[test]
    fn what_is_read_of_each_is_read_of_all_and_the_rest_as_it_is() {
        let all = members(3);
        let (few, ids) = (&all[..2], all.iter().map(|member| &member.id).collect::<Vec<_>>());
        let paths = [
            format!("/run/{}/state.json", ids[0]),
            format!("/run/{}/state.json", ids[1]),
            format!("/log/{0}/{0}.log", ids[0]),
            format!("/log/{0}/{0}.log", ids[1]),
            "/proc/4000/task/4000/stat".to_owned(),
            "/proc/4001/task/4001/stat".to_owned(),
            format!("/only/{}/one", ids[1]),
            "/etc/conf".to_owned(),
        ];
        let script = step('r', paths.iter().map(String::as_str), few, &all);
        let each = |above: &str, line: &dyn Fn(&Member) -> String| {
            let lines: String = all.iter().map(|member| format!("r {}\n", line(member))).collect();
            format!("@{above}\n{lines}")
        };
        for part in [
            each("/run", &|one| format!("{}/state.json", one.id)),
            each("/log", &|one| format!("{0}/{0}.log", one.id)),
            each("/proc", &|one| format!("{0}/task/{0}/stat", one.pids[0])),
            format!("@/only/{}/\nr one\n", ids[1]),
            "@/etc/\nr conf\n".to_owned(),
        ] {
            assert!(script.contains(&part), "{part} not in {script}");
        }
        assert_eq!(script.lines().count(), 3 * 4 + 2 + 2, "{script}");
    }
}
