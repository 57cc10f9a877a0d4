//! The files that iceaxe opens, makes, links and removes, as strace sees them, held against the list that the operators
//! have in docs/threat-model.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::boot::{Boot, Layout};
use crate::{docker, in_layout, lxc, nspawn, podman};

in_layout! { hybrid Hybrid: no_file_is_touched_that_the_threat_model_does_not_list }
in_layout! { v2 V2: no_file_is_touched_that_the_threat_model_does_not_list }

const DOCUMENT: &str = include_str!("../../docs/threat-model.md");
/// The calls that open a file or change what there is.
const CALLS: &str = "trace=execve,open,openat,openat2,creat,readlink,readlinkat,mkdir,mkdirat,unlink,unlinkat,rmdir,rename,\
                     renameat,renameat2,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat,chown,fchownat,mknod,mknodat";
const TRACE: &str = "/srv/trace";
/// What `hold` is to flush.
const SYNCED: &str = "/srv/rootfs";

/// The patterns of the document's table of files: a row's first cell has one or more of them, between backticks.
fn patterns() -> Vec<Vec<String>> {
    let (_, section) = DOCUMENT
        .split_once("## Every file")
        .expect("it has such a section");
    let cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let patterns = cells.flat_map(|cell| cell.split('`').step_by(2).map(str::to_owned).collect::<Vec<_>>());
    let patterns = patterns.filter(|pattern| pattern.starts_with('/'));
    patterns
        .map(|pattern| pattern.split('/').skip(1).map(str::to_owned).collect())
        .collect()
}

/// Whether a path is of a pattern, or, where it is a directory, is on the way to what is.
fn fits(pattern: &[String], path: &[&str], is_dir: bool) -> bool {
    match (pattern, path) {
        ([], []) => true,
        (_, []) => is_dir,
        ([any, rest @ ..], [_, deeper @ ..]) if any == "…" => {
            fits(rest, path, is_dir) || fits(pattern, deeper, is_dir)
        }
        ([first, pattern @ ..], [part, path @ ..]) => is_called(first, part) && fits(pattern, path, is_dir),
        ([], _) => false,
    }
}

/// Whether a part of a path is of a pattern, in which words in capitals stand for anything.
fn is_called(pattern: &str, part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_uppercase();
    let Some(at) = pattern.find(is_word) else {
        return pattern == part;
    };
    let (before, rest) = pattern.split_at(at);
    let after = rest.trim_start_matches(is_word);
    let Some(part) = part.strip_prefix(before) else {
        return false;
    };
    (1..=part.len()).any(|end| part.is_char_boundary(end) && is_called(after, &part[end..]))
}

/// What iceaxe's own processes touched, by the lines of a trace, and whether it is known to be a directory. Programs that
/// they started are told by their names.
fn touched(trace: &str) -> BTreeSet<(PathBuf, bool)> {
    // `412<iceaxe> openat(5</proc>, "1/stat", O_RDONLY) = 6</proc/1/stat>`
    let calls = trace.lines().filter_map(|line| {
        let (task, call) = line.split_once("> ")?;
        let (name, args) = call.trim_start().split_once('(')?;
        let comm = task.split_once('<')?.1;
        Some((comm, name, args))
    });
    let calls: Vec<(&str, &str, &str)> = calls.collect();
    let quoted = |args: &'_ str| args.split('"').nth(1).map(str::to_owned);
    let programs = calls.iter().filter(|(_, name, _)| *name == "execve");
    let programs = programs.filter_map(|(_, _, args)| {
        let program = quoted(args)?;
        let name = Path::new(&program).file_name()?.to_str()?;
        Some(name.chars().take(15).collect::<String>())
    });
    let others: BTreeSet<String> = programs.filter(|name| name != "iceaxe").collect();
    let mut touched = BTreeSet::new();
    for (_, name, args) in calls
        .iter()
        .filter(|(comm, name, _)| *name != "execve" && !others.contains(*comm))
    {
        let (first, path) = (args.split('"').next().unwrap_or_default(), quoted(args));
        let dir = match first.split_once('<') {
            Some((_, rest)) => rest.split_once(">, ").map(|(dir, _)| dir),
            None if first.is_empty() => Some("/"),
            // A descriptor of what is gone has no path.
            None => None,
        };
        if let (Some(dir), Some(path)) = (dir, path) {
            let is_dir = args.contains("O_DIRECTORY") || args.contains("O_PATH") || name.ends_with("dir");
            touched.insert((plain(&Path::new(dir).join(path)), is_dir));
        }
    }
    touched
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

fn no_file_is_touched_that_the_threat_model_does_not_list(layout: Layout) {
    let boot = Boot::start(layout);
    docker::start(&boot);
    let mut each = docker::containers(&boot, &["web"]);
    each.push(podman::container(&boot, "crun", "front"));
    each.push(podman::container(&boot, "runc", "back"));
    each.push(lxc::container(&boot, "mail"));
    each.push(nspawn::machine(&boot, "base"));
    let mut commands: Vec<Vec<String>> = Vec::new();
    let mut run = |words: &[&str]| commands.push(words.iter().map(|&word| word.to_owned()).collect());
    let names: Vec<&str> = each.iter().map(|vessel| &*vessel.name).collect();
    let pid = format!("pid:{}", each[0].pid);
    let others = [&each[0].id, &each[0].id[..12], &pid, "nobody", "name/space"];
    for words in [&["freeze"][..], &["explain"], &["status"], &["thaw", "--rescue"]] {
        run(&[words, &names].concat());
    }
    for target in others {
        run(&["thaw", target]);
    }
    for words in [
        &["path", "--rootfs", "web"][..],
        &["path", "--log", "front"],
        &["list"],
        &["list", "--all-cgroups", "--prometheus"],
        &["tree"],
        &["watch", "--timeout=300ms"],
        &["hold", "web", "mail", "--sync", SYNCED, "--max=5s", "--", "true"],
        &["freeze", "--for=200ms", "web"],
        &["recover"],
        &["resync", "--all", "--plan"],
        &["thaw", "--all"],
        &["demo"],
    ] {
        run(words);
    }
    // What docker and podman believe to be frozen is brought back in step.
    for (engine, name) in [("docker", "web"), ("podman", "back")] {
        boot.run([engine, "pause", name]);
        boot.run(["iceaxe", "thaw", name]);
    }
    run(&["resync", "--yes", "web", "back"]);
    run(&["kill", "web"]);
    let patterns = patterns();
    let mut unlisted = BTreeMap::new();
    for words in commands {
        let before = [
            "strace", "-f", "-y", "-Y", "-s", "4096", "-qq", "-e", CALLS, "-o", TRACE, "iceaxe",
        ];
        let words: Vec<&str> = before
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        let ended = boot.ended(&words);
        assert_ne!(ended.code(), Some(2), "it has done nothing: {ended:?}");
        let trace = fs::read_to_string(boot.file(TRACE)).unwrap();
        let touched = touched(&trace);
        assert!(!touched.is_empty(), "{words:?}: {trace}");
        for (path, is_dir) in touched {
            let parts: Vec<&str> = path.iter().skip(1).map(|part| part.to_str().unwrap()).collect();
            let is_listed = patterns.iter().any(|pattern| fits(pattern, &parts, is_dir));
            if !is_listed && path != Path::new(SYNCED) {
                unlisted.insert(path, words[before.len()..].join(" "));
            }
        }
    }
    assert!(unlisted.is_empty(), "{unlisted:#?}");
}
