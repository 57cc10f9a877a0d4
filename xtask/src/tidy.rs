//! Checks what the compiler does not: who imports whom, how long files are, whether links lead anywhere and tests that a
//! document names exist, and what lies at the top of the tree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::Result;
use crate::command::{limited, output, workspace};

/// A file with more lines of code than this is named, but is no error: splitting it may be worse.
const LONG: usize = 350;

/// Who refuses to know whom: what is at the path must not import these from the crate (or at all, where it is another
/// crate's name).
const STRANGERS: &[(&str, &str)] = &[
    // A witness that asks the accused is no witness.
    ("src/freezer", "verifier resolver engine cli clap"),
    ("src/verifier", "cgroup freezer resolver engine cli clap"),
    // It asks the verifier's reader for start times.
    ("src/resolver", "freezer engine cli clap"),
    ("src/engine", "cli clap"),
    ("src/cgroup", "freezer verifier resolver engine cli clap"),
    ("src/host", "cgroup freezer verifier resolver engine cli clap"),
    (
        "src/patience.rs",
        "cgroup host freezer verifier resolver engine cli clap",
    ),
    ("src/error.rs", "freezer verifier engine cli clap"),
    ("src/lib.rs", "clap"),
];

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
    // What was moved is to take its rule along.
    let lost = STRANGERS
        .iter()
        .filter(|(place, _)| !workspace().join(place).exists());
    wrong.extend(lost.map(|(place, _)| format!("{place}: not there, and has a rule")));
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
        wrong.extend(strangers(path, &text));
        let lines = code_lines(&text);
        if path.starts_with("src") && lines > LONG {
            println!(
                "long: {}: {lines} lines of code, more than {LONG}",
                path.display()
            );
        }
    }
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

/// Lines of code: not blank, no comment, and not in the tests that close a file.
fn code_lines(text: &str) -> usize {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    code.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("//"))
        .count()
}

/// The imports in a file that its place forbids.
fn strangers(path: &Path, text: &str) -> Vec<String> {
    let here = STRANGERS.iter().filter(|(place, _)| path.starts_with(place));
    let forbidden: BTreeSet<&str> = here.flat_map(|(_, names)| names.split(' ')).collect();
    let mut found = Vec::new();
    // An import can go over several lines.
    let mut import = String::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("//") {
            continue;
        }
        let opens =
            line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
        if opens || !import.is_empty() {
            import += line;
            if !line.ends_with(';') {
                continue;
            }
        }
        let whole = if import.is_empty() {
            line.to_owned()
        } else {
            std::mem::take(&mut import)
        };
        let words: Vec<&str> = whole.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let ours = words.contains(&"crate") || whole.contains("super::super");
        for name in forbidden.iter().filter(|name| words.contains(*name)) {
            let foreign = *name == "clap" && (whole.contains("clap::") || whole.contains("use clap"));
            if (ours && *name != "clap" && is_module(&whole, name)) || foreign {
                found.push(format!(
                    "{}:{}: knows {name}, which it must not",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    found
}

/// Whether `name` stands in `code` as a top module of the crate: right after `crate::`, or in a group after it.
fn is_module(code: &str, name: &str) -> bool {
    let direct = ["crate::", "super::super::"].iter().any(|root| {
        code.split(root).skip(1).any(|rest| {
            rest.strip_prefix(name)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    });
    let Some((_, group)) = code.split_once("crate::{") else {
        return direct;
    };
    let mut depth = 0_u32;
    let mut parts = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => parts.push(String::new()),
            c if depth == 0 => parts.last_mut().into_iter().for_each(|part| part.push(c)),
            _ => {}
        }
    }
    direct
        || parts.iter().any(|part| {
            part.trim()
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                == Some(name)
        })
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
    fn forbidden_imports_are_found_however_they_are_written() {
        for (path, code, count) in [
            ("src/freezer/mod.rs", "use crate::verifier::Proof;", 1),
            ("src/freezer/v1.rs", "    let x = crate::verifier::scan();", 1),
            ("src/freezer/v1.rs", "use crate::{cgroup::Cgroup, verifier};", 1),
            (
                "src/freezer/v1.rs",
                "use crate::{\n    cgroup::Cgroup,\n    verifier::{Proof, Task},\n};",
                1,
            ),
            ("src/freezer/v1.rs", "use crate::cgroup::verifier;", 0),
            ("src/freezer/v1.rs", "// use crate::verifier;", 0),
            ("src/freezer/v1.rs", "use super::verifier_of;", 0),
            ("src/verifier/task.rs", "use crate::freezer;", 1),
            ("src/verifier/task.rs", "use crate::freezer_state;", 0),
            (
                "src/engine/mod.rs",
                "use crate::freezer;\nuse crate::verifier;",
                0,
            ),
            ("src/engine/mod.rs", "use clap::Parser;", 1),
            ("src/cli/args.rs", "use clap::Parser;", 0),
            ("src/lib.rs", "pub mod cli;", 0),
        ] {
            assert_eq!(strangers(Path::new(path), code).len(), count, "{path}: {code}");
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
