//! Checks what the compiler does not: who imports whom, how long files are, whether links lead anywhere and tests that a
//! document names exist, and what lies at the top of the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::command::{limited, output, workspace};
use crate::imports::Imports;

/// A file with more lines of code than this is named, but is no error: splitting it may be worse.
const LONG: usize = 350;

/// The table that says which room of `src` may import which.
const MAP: &str = "docs/architecture.md";

/// What may lie at the top, beside dotfiles.
const TOP: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "tests",
    "xtask",
    "docs",
    "README.md",
];

/// Checks everything, prints what is only worth a look, and names every violation.
pub(crate) fn run() -> Result<()> {
    let files = files()?;
    let mut wrong = Vec::new();
    for name in files
        .iter()
        .filter_map(|path| path.components().next())
        .collect::<BTreeSet<_>>()
    {
        if !may_lie_at_the_top(&name.as_os_str().to_string_lossy()) {
            wrong.push(format!(
                "{}: not at the top of the tree",
                name.as_os_str().display()
            ));
        }
    }
    let mut code = Vec::new();
    for path in &files {
        let kind = path.extension().and_then(|kind| kind.to_str());
        if !matches!(kind, Some("rs" | "md")) {
            continue;
        }
        let text = fs::read_to_string(workspace().join(path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if kind == Some("md") {
            wrong.extend(dead_links(path, &text, &|target| {
                workspace().join(target).exists()
            }));
            wrong.extend(lost_tests(path, &text, &|file| {
                fs::read_to_string(workspace().join(file)).ok() // what can't be read has no test
            }));
            continue;
        }
        let lines = code_lines(&text);
        if path.starts_with("src") && lines > LONG {
            println!(
                "long: {}: {lines} lines of code, more than {LONG}",
                path.display()
            );
        }
        if path.starts_with("src") && !path.starts_with("src/cli") && knows_clap(&text) {
            let path = path.display();
            wrong.push(format!("{path}: knows clap, which only the command line may"));
        }
        code.push((path, text));
    }
    let imports_of = |top: &'static str| {
        let below = |(path, text): &'_ (&PathBuf, String)| {
            Some((path.strip_prefix(top).ok()?.to_owned(), text.clone()))
        };
        let files: Vec<(PathBuf, String)> = code.iter().filter_map(below).collect();
        let files: Vec<(&Path, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_str()))
            .collect();
        Imports::read(&files)
    };
    for top in ["src", "xtask/src", "tests/kit/src"] {
        let circles = imports_of(top).circles();
        wrong.extend(
            circles
                .iter()
                .map(|circle| format!("{top}{circle} import each other in a circle")),
        );
    }
    let imports = imports_of("src");
    let map = fs::read_to_string(workspace().join(MAP)).map_err(|error| format!("{MAP}: {error}"))?;
    wrong.extend(drifted(&map, &imports.between_rooms()));
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("tidy:\n  {}", wrong.join("\n  ")))
    }
}

/// The files that belong to the project, as far as they exist.
fn files() -> Result<Vec<PathBuf>> {
    let mut git = limited(Duration::from_secs(60), "git");
    let list = output(git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]))?;
    let paths = list
        .split('\0')
        .filter(|path| !path.is_empty())
        .map(PathBuf::from);
    Ok(paths.filter(|path| workspace().join(path).is_file()).collect())
}

fn may_lie_at_the_top(name: &str) -> bool {
    name.starts_with('.') || name.starts_with("LICENSE") || TOP.contains(&name)
}

fn knows_clap(text: &str) -> bool {
    text.contains("clap::") || text.contains("use clap")
}

/// Lines of code: not blank, no comment, and not in the tests that close a file.
fn code_lines(text: &str) -> usize {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    code.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

/// Where the map and the code differ: an arrow that the map does not allow, one that it allows and nobody needs, a room that it
/// does not have, and one that is not there.
fn drifted(map: &str, arrows: &BTreeSet<(&str, &str)>) -> Vec<String> {
    let rows: Vec<(&str, BTreeSet<&str>)> = map.lines().filter_map(row).collect();
    let mut wrong = Vec::new();
    let rooms: BTreeSet<&str> = arrows.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let mapped: BTreeSet<&str> = rows.iter().map(|(room, _)| *room).collect();
    wrong.extend(
        rooms
            .difference(&mapped)
            .map(|room| format!("{MAP}: no row for src/{room}")),
    );
    wrong.extend(
        mapped
            .difference(&rooms)
            .map(|room| format!("{MAP}: src/{room} has a row and is not there")),
    );
    let allowed: BTreeSet<(&str, &str)> = (rows.iter())
        .flat_map(|(room, others)| others.iter().map(|other| (*room, *other)))
        .collect();
    let known = |(from, _): &&(&str, &str)| mapped.contains(from);
    let forbidden = arrows.difference(&allowed).filter(known);
    wrong.extend(forbidden.map(|(from, to)| format!("src/{from}: imports {to}, which {MAP} does not allow")));
    let idle = allowed.difference(arrows).filter(known);
    wrong.extend(idle.map(|(from, to)| format!("{MAP}: src/{from} may import {to}, and does not")));
    wrong
}

/// A row of the map: a room, and those that it may import, each in backticks. The middle cells are for people.
fn row(line: &str) -> Option<(&str, BTreeSet<&str>)> {
    let cells: Vec<&str> = line.strip_prefix("| `src/")?.split('|').collect();
    let [name, .., others, ""] = cells.as_slice() else {
        return None;
    };
    let name = name.trim().trim_end_matches(['`', '/']).trim_end_matches(".rs");
    Some((name, others.split('`').skip(1).step_by(2).collect()))
}

/// The links in a text that lead to no file of the tree.
fn dead_links(path: &Path, text: &str, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let mut dead = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let links = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(link, _)| link);
        for link in links.filter(|_| !fenced) {
            let target = link.split(['#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let dir = path.parent().unwrap_or(Path::new(""));
            if !exists(&plain(&dir.join(target))) {
                dead.push(format!("{}:{}: dead link {link}", path.display(), number + 1));
            }
        }
    }
    dead
}

/// The test targets, each a folder of `tests`.
const SUITES: [&str; 5] = ["hosts", "kernel", "docker", "runc", "systemd"];

/// The tests that a text names and that are not there. A test is written as `suite::module::name` in backticks, and is a
/// function of that name in `tests/suite/module.rs`.
fn lost_tests(path: &Path, text: &str, read: &dyn Fn(&Path) -> Option<String>) -> Vec<String> {
    let mut lost = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in line.split('`').skip(1).step_by(2) {
            let [suite, module, name] = word.split("::").collect::<Vec<_>>()[..] else {
                continue;
            };
            if !SUITES.contains(&suite) {
                continue; // a test by the path that its runner prints
            }
            let file = Path::new("tests").join(suite).join(format!("{module}.rs"));
            let is_there = read(&file).is_some_and(|code| code.contains(&format!("fn {name}(")));
            if !is_there {
                lost.push(format!("{}:{}: no test {word}", path.display(), number + 1));
            }
        }
    }
    lost
}

/// The path without `.` and `..`, as a browser reads it.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_and_the_code_may_not_differ() {
        let map = "| room | what | imports |\n|---|---|---|\n| `src/a/` | does | `b` `c` |\n| `src/b.rs` | is | |\n| `src/c/` | is | |\n";
        assert!(drifted(map, &BTreeSet::from([("a", "b"), ("a", "c")])).is_empty());
        for (arrows, part) in [
            (vec![("a", "b"), ("a", "c"), ("b", "a")], "src/b: imports a"),
            (vec![("a", "b"), ("c", "b")], "src/a may import c, and does not"),
            (vec![("a", "b"), ("a", "c"), ("d", "a")], "no row for src/d"),
            (vec![("a", "b")], "src/c has a row and is not there"),
        ] {
            let wrong = drifted(map, &arrows.into_iter().collect());
            assert!(wrong.iter().any(|line| line.contains(part)), "{part}: {wrong:?}");
        }
    }

    #[test]
    fn code_is_counted_without_comments_and_tests() {
        assert_eq!(
            code_lines("//! x\n\nuse a;\n/// y\nfn b() {}\n\n#[cfg(test)]\nmod tests {\n    fn c() {}\n}\n"),
            2
        );
    }

    #[test]
    fn links_are_followed_from_where_they_stand() {
        let exists = |path: &Path| path == Path::new("docs/kernel.md") || path == Path::new("README.md");
        let text = "[a](kernel.md#top) [b](../README.md) [c](https://x.y/z) [d](#here)\n[e](gone.md) and [f](/README.md \"t\")\n\
                    ```\n[g](not-a-link.md)\n```\n";
        let dead = dead_links(Path::new("docs/a.md"), text, &exists);
        assert_eq!(dead, ["docs/a.md:2: dead link gone.md"]);
    }

    #[test]
    fn a_test_that_a_document_names_is_one() {
        let read = |path: &Path| {
            (path == Path::new("tests/docker/names.rs"))
                .then(|| "fn a_rename_is_seen(layout: Layout)".to_owned())
        };
        let text = "`docker::names::a_rename_is_seen` and `names::a_rename` and `--all`\n\
                    `docker::names::a_rename`, `docker::name::a_rename_is_seen`\n";
        let lost = lost_tests(Path::new("docs/a.md"), text, &read);
        assert_eq!(
            lost,
            [
                "docs/a.md:2: no test docker::names::a_rename",
                "docs/a.md:2: no test docker::name::a_rename_is_seen"
            ]
        );
    }

    #[test]
    fn the_top_of_the_tree_is_fixed() {
        for (name, may) in [
            ("src", true),
            (".ci", true),
            ("LICENSE-MIT", true),
            ("notes.txt", false),
            ("docker", false),
        ] {
            assert_eq!(may_lie_at_the_top(name), may, "{name}");
        }
    }
}
