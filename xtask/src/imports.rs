//! Who imports whom in `src`: read from the code, file by file, so that the map in `docs/architecture.md` can't drift from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The names that lead to a module from the crate's root, as in `engine::thaw`; the root's own is empty.
type Module = Vec<String>;

/// The modules of a crate, and which of them takes names from which.
#[derive(Debug, Default)]
pub(crate) struct Imports {
    /// Each module with those that it imports, itself left out. Code of tests does not count.
    arrows: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    /// Reads the files of a crate: each with its path below `src`, and its text.
    pub(crate) fn read(files: &[(&Path, &str)]) -> Self {
        let modules: BTreeMap<Module, &str> =
            files.iter().map(|(path, text)| (module(path), *text)).collect();
        let handed_on: BTreeMap<(Module, String), Module> = modules
            .iter()
            .flat_map(|(module, text)| handed_on(module, &code(text), &modules))
            .collect();
        let arrows = modules.iter().map(|(module, text)| {
            let paths = paths(&code(text)).into_iter();
            let taken = paths.filter_map(|path| absolute(module, &path, &modules));
            let from = taken.filter_map(|path| home(&path, &modules, &handed_on));
            let others = from.filter(|other| other != module).collect();
            (module.clone(), others)
        });
        Self {
            arrows: arrows.collect(),
        }
    }

    /// The arrows between the rooms of the crate, which are the modules right below its root.
    pub(crate) fn between_rooms(&self) -> BTreeSet<(&str, &str)> {
        let mut all = BTreeSet::new();
        for (from, others) in &self.arrows {
            for to in others {
                if let (Some(from), Some(to)) = (from.first(), to.first())
                    && from != to
                {
                    all.insert((from.as_str(), to.as_str()));
                }
            }
        }
        all
    }

    /// The circles, each as the names of the modules that it ties together: between the files and folders of a folder, and
    /// between the rooms of the crate. A folder's `mod.rs` is its face, not one of its files: what it defines is for all of them.
    pub(crate) fn circles(&self) -> Vec<String> {
        let folders: BTreeSet<&[String]> = (self.arrows.keys())
            .flat_map(|module| (0..module.len()).map(|length| &module[..length]))
            .collect();
        folders
            .into_iter()
            .flat_map(|folder| self.circles_in(folder))
            .collect()
    }

    fn circles_in(&self, folder: &[String]) -> Vec<String> {
        // The file or folder right below that a module is or lies in.
        let part = |module: &Module| match module.strip_prefix(folder) {
            Some([part, ..]) => Some(part.clone()),
            Some([]) | None => None,
        };
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, others) in &self.arrows {
            let Some(from) = part(from) else { continue };
            let others = others.iter().filter_map(&part).filter(|other| *other != from);
            arrows.entry(from.clone()).or_default().extend(others);
        }
        let reaches = |from: &String| {
            let mut seen = BTreeSet::new();
            let mut next = vec![from];
            while let Some(at) = next.pop() {
                next.extend(
                    arrows
                        .get(at)
                        .into_iter()
                        .flatten()
                        .filter(|to| seen.insert((*to).clone())),
                );
            }
            seen
        };
        let reached: BTreeMap<&String, BTreeSet<String>> =
            arrows.keys().map(|from| (from, reaches(from))).collect();
        let mut told = BTreeSet::new();
        let mut circles = Vec::new();
        for (from, to) in &reached {
            if !to.contains(*from) || told.contains(*from) {
                continue;
            }
            let tied = to
                .iter()
                .filter(|other| reached.get(other).is_some_and(|back| back.contains(*from)));
            let tied: Vec<&str> = tied.map(String::as_str).collect();
            told.extend(tied.iter().map(|name| (*name).to_owned()));
            circles.push(format!("/{}: {}", folder.join("/"), tied.join(", ")));
        }
        circles
    }
}

/// The module that a file below `src` is.
fn module(path: &Path) -> Module {
    let mut names: Module = path
        .with_extension("")
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    if names
        .last()
        .is_some_and(|name| ["mod", "lib", "main"].contains(&name.as_str()))
    {
        names.pop();
    }
    names
}

/// A file without its comments, what stands in quotes, and the tests that close it.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text);
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let unquoted = line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
        code += &unquoted;
        code.push('\n');
    }
    code
}

/// Every path of a text that begins with `crate`, `super` or `self`, and every path of a `use`, as its names.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut rest = String::new();
    for (public, tree, other) in statements(code) {
        rest += &other;
        // What is handed on is not used.
        if !public {
            branches(&[], &tree, &mut all);
        }
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in rest.split(|c| !is_part(c)) {
        let names: Vec<String> = word.split("::").map(str::to_owned).collect();
        if names.len() > 1 {
            all.push(names);
        }
    }
    all
}

/// The `use` statements of a text: whether each hands on what it takes, its tree, and what stands before it. The last one is
/// what stands after all of them.
fn statements(code: &str) -> Vec<(bool, String, String)> {
    let mut all = Vec::new();
    let mut other = String::new();
    let mut tree: Option<(bool, String)> = None;
    for line in code.lines() {
        let line = line.trim();
        if tree.is_none() {
            let (public, rest) = match line.strip_prefix("pub") {
                Some(rest) => (
                    true,
                    rest.split_once("use ")
                        .filter(|(to, _)| to.trim().is_empty() || to.ends_with(") ")),
                ),
                None => (false, line.strip_prefix("use ").map(|rest| ("", rest))),
            };
            match rest {
                Some((_, rest)) => tree = Some((public, rest.to_owned())),
                None => {
                    other += line;
                    other.push('\n');
                    continue;
                }
            }
        } else if let Some((_, tree)) = &mut tree {
            *tree += line;
        }
        if let Some((public, whole)) = tree.take_if(|(_, tree)| tree.ends_with(';')) {
            all.push((
                public,
                whole.trim_end_matches(';').to_owned(),
                std::mem::take(&mut other),
            ));
        }
    }
    all.push((true, String::new(), other));
    all
}

/// The paths of a tree of names, as in `a::{b, c::{d, e}}`.
fn branches(before: &[String], tree: &str, all: &mut Vec<Vec<String>>) {
    let (path, group) = match tree.split_once('{') {
        Some((path, group)) => (path, group.trim_end().strip_suffix('}')),
        None => (tree, None),
    };
    let mut names = before.to_vec();
    let path = path.split(" as ").next().unwrap_or_default();
    names.extend(
        path.split("::")
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
    );
    let Some(group) = group else {
        if !names.is_empty() {
            all.push(names);
        }
        return;
    };
    let mut depth = 0_u32;
    let mut part = String::new();
    for c in group.chars().chain([',']) {
        match c {
            ',' if depth == 0 => branches(&names, &std::mem::take(&mut part), all),
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if !(c == ',' && depth == 0) {
            part.push(c);
        }
    }
}

/// A path from the crate's root; `None` where it leads out of the crate.
fn absolute(module: &Module, path: &[String], modules: &BTreeMap<Module, &str>) -> Option<Module> {
    let mut base = module.clone();
    let mut names = path.iter();
    match path.first()?.as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            names = path.iter();
            while names.as_slice().first().is_some_and(|name| name == "super") {
                names.next();
                base.pop()?;
            }
            base.extend(names.cloned());
            return Some(base);
        }
        first => {
            // A module right below this one.
            base.push(first.to_owned());
            if !modules.contains_key(&base) {
                return None;
            }
        }
    }
    base.extend(names.skip(1).cloned());
    Some(base)
}

/// The module in which the name at the end of a path stands: the longest that the path leads through, or the one below it that
/// hands the name on.
fn home(
    path: &[String],
    modules: &BTreeMap<Module, &str>,
    handed_on: &BTreeMap<(Module, String), Module>,
) -> Option<Module> {
    let length = (1..=path.len())
        .rev()
        .find(|length| modules.contains_key(&path[..*length]))?;
    let module = path[..length].to_vec();
    let next = path.get(length);
    match next.and_then(|name| handed_on.get(&(module.clone(), name.clone()))) {
        Some(from) if *from != module => Some(from.clone()),
        _ => Some(module),
    }
}

/// The names that a module hands on from the modules below it, each with where it is from.
fn handed_on(
    module: &Module,
    code: &str,
    modules: &BTreeMap<Module, &str>,
) -> Vec<((Module, String), Module)> {
    let mut all = Vec::new();
    for (public, tree, _) in statements(code) {
        if !public {
            continue;
        }
        let mut paths = Vec::new();
        branches(&[], &tree, &mut paths);
        for path in paths {
            let (Some(name), Some(from)) = (path.last(), absolute(module, &path, modules)) else {
                continue;
            };
            if let Some(from) = home(&from, modules, &BTreeMap::new()) {
                all.push(((module.clone(), name.clone()), from));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imports(files: &[(&str, &str)]) -> Imports {
        let files: Vec<(&Path, &str)> = files
            .iter()
            .map(|(path, text)| (Path::new(*path), *text))
            .collect();
        Imports::read(&files)
    }

    #[test]
    fn an_import_is_found_however_it_is_written() {
        for code in [
            "use crate::b::Thing;",
            "use crate::{c::Other, b};",
            "use crate::{\n    c::Other,\n    b::{Thing, other::{self, More}},\n};",
            "fn f() {\n    crate::b::f();\n}",
            "use super::b::Thing;",
            "pub(crate) fn f(x: super::b::Thing) {}",
        ] {
            let imports = imports(&[("a.rs", code), ("b.rs", ""), ("c.rs", ""), ("lib.rs", "mod a;")]);
            assert!(imports.between_rooms().contains(&("a", "b")), "{code}");
        }
        for code in [
            "// use crate::b::Thing;",
            "const X: &str = \"crate::b::f\";",
            "use other::b::Thing;",
            "\n#[cfg(test)]\nmod tests {\n    use crate::b::Thing;\n}",
        ] {
            let imports = imports(&[("a.rs", code), ("b.rs", "")]);
            assert!(imports.between_rooms().is_empty(), "{code}");
        }
    }

    #[test]
    fn a_circle_is_found_between_files_and_between_folders() {
        let files = imports(&[
            ("x/mod.rs", "mod a;\nmod b;\nmod c;\npub use b::Thing;"),
            ("x/a.rs", "use super::Thing;"),
            ("x/b.rs", "use super::c;"),
            ("x/c.rs", "fn f() {\n    super::a::f();\n}"),
        ]);
        assert_eq!(files.circles(), ["/x: a, b, c"]);
        let folders = imports(&[
            ("x/a.rs", "use crate::y::b;"),
            ("y/b.rs", ""),
            ("y/c.rs", "use crate::x::a;"),
        ]);
        assert_eq!(folders.circles(), ["/: x, y"]);
        let none = imports(&[
            ("x/mod.rs", "mod a;\npub use a::Thing;\nstruct Other;"),
            ("x/a.rs", "use super::Other;"),
        ]);
        assert!(none.circles().is_empty(), "{:?}", none.circles());
    }
}
