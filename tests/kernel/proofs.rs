//! The table of docs/kernel.md that says how strong a thaw's proof is, checked against the kernel that this runs on.

use std::collections::BTreeMap;

use kit::{Cgroup, Hierarchy, Scene, Zoo, freeze, kernel, thaw};

const DOCUMENT: &str = include_str!("../../docs/kernel.md");
/// How the table's first line begins.
const HEAD: &str = "| task |";
/// What the table says of a task that no report counts.
const NOT_COUNTED: &str = "not counted";
/// The kinds that it must have.
const KINDS: [&str; 14] = [
    "busy",
    "doze",
    "sleep",
    "futex",
    "pipe",
    "poll",
    "epoll",
    "socket",
    "threads:3",
    "stopped",
    "traced",
    "vfork",
    "dead-leader:2",
    "zombie",
];
/// Where two words are possible, one round shows one of them.
const ROUNDS: usize = 5;

/// The words for each kind in the column of this kernel, or of the nearest older one, and this hierarchy.
fn column(hierarchy: Hierarchy) -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(HEAD));
    let head = cells(lines.next().expect("docs/kernel.md has the table"));
    let of_this_hierarchy = head.iter().enumerate().filter_map(|(at, cell)| {
        let version = cell.strip_suffix(hierarchy.word())?.trim();
        let (major, minor) = version.split_once('.')?;
        Some(((major.parse().unwrap(), minor.parse().unwrap()), at))
    });
    let no_newer = of_this_hierarchy.filter(|(version, _)| *version <= kernel());
    let (_, at) = no_newer
        .max()
        .expect("the table has a kernel that is no newer than this one");
    lines
        .skip(1)
        .map_while(|line| line.starts_with('|').then(|| cells(line)))
        .map(|row| (row[0].split('`').nth(1).unwrap(), row[at].split(", ").collect()))
        .collect()
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// The tasks that a row is about: a kind's own ones, and not those that it has for it.
fn meant(zoo: &Zoo, index: usize) -> Vec<i32> {
    match KINDS[index] {
        "vfork" => vec![zoo.tid(index)],
        "zombie" => vec![i32::try_from(zoo.word(index)).unwrap()],
        _ => zoo.tids(index).to_vec(),
    }
}

/// The last word of a thaw for each task.
#[track_caller]
fn words_of_a_thaw(cgroup: &Cgroup) -> BTreeMap<i32, String> {
    let run = thaw(cgroup).arg("--trace").run();
    run.is(0, "confirmed");
    run.err
        .lines()
        .filter_map(|line| line.split_once(": task ")?.1.split_once(' '))
        .map(|(tid, word)| (tid.parse().unwrap(), word.to_owned()))
        .collect()
}

fn a_thaw_gives_each_kind_of_task_the_word_that_is_in_the_table(hierarchy: Hierarchy) {
    let told = column(hierarchy);
    let mut kinds: Vec<&str> = KINDS.to_vec();
    kinds.sort_unstable();
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), kinds);
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &KINDS);
    let mut seen: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        freeze(&cgroup).ends(0, "confirmed");
        let words = words_of_a_thaw(&cgroup);
        for (index, kind) in KINDS.iter().enumerate() {
            for tid in meant(&zoo, index) {
                let word = words.get(&tid).map_or(NOT_COUNTED, String::as_str).to_owned();
                let all = seen.entry(kind).or_default();
                if !all.contains(&word) {
                    all.push(word);
                }
            }
        }
    }
    let is_told =
        |(kind, words): (&&str, &Vec<String>)| words.iter().all(|word| told[kind].contains(&word.as_str()));
    assert!(
        seen.iter().all(is_told),
        "{:?}: seen {seen:#?}, told {told:#?}",
        kernel()
    );
}

on_each_hierarchy! {
    a_thaw_gives_each_kind_of_task_the_word_that_is_in_the_table,
}
