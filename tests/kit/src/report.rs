//! Reading iceaxe's JSON.

use serde_json::Value;

/// The counts of tasks that a thaw gives.
const THAWED: [&str; 9] = [
    "ran",
    "restored",
    "woken",
    "released",
    "unprovable",
    "unknown",
    "exited",
    "new",
    "holdouts",
];
/// The counts of tasks that a freeze gives.
const FROZEN: [&str; 6] = ["frozen", "unprovable", "unknown", "exited", "new", "holdouts"];

/// Checks that the tasks are counted exactly so: for each group of words how many tasks have one of them. Tasks with
/// any other word, and a total that is not the sum, are errors.
#[track_caller]
pub fn tasks_add_up(report: &Value, groups: &[(&[&str], u64)]) {
    let tasks = &report["tasks"];
    let words: &[&str] = if report["verb"] == "freeze" {
        &FROZEN
    } else {
        &THAWED
    };
    let count = |word: &str| {
        tasks[word]
            .as_u64()
            .unwrap_or_else(|| panic!("no count of {word} in {tasks}"))
    };
    let sum: u64 = words.iter().map(|word| count(word)).sum();
    assert_eq!(
        tasks["total"].as_u64(),
        Some(sum),
        "the counts do not add up: {tasks}"
    );
    for (group, expected) in groups {
        let found: u64 = group.iter().map(|word| count(word)).sum();
        assert_eq!(found, *expected, "{group:?} in {tasks}; {report}");
    }
    let expected: u64 = groups.iter().map(|(_, expected)| expected).sum();
    assert_eq!(
        sum, expected,
        "tasks with other words than {groups:?}: {tasks}; {report}"
    );
}

/// Checks that an object has these keys, whatever their values, and that it is an object.
#[track_caller]
pub fn has_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let missing: Vec<&&str> = keys.iter().filter(|key| !object.contains_key(**key)).collect();
    assert!(missing.is_empty(), "without {missing:?}: {value}");
}

/// One count of tasks of a report whose counts add up.
#[track_caller]
pub fn counted(report: &Value, word: &str) -> u64 {
    let tasks = report["tasks"]
        .as_object()
        .unwrap_or_else(|| panic!("no tasks: {report}"));
    let sum: u64 = tasks
        .iter()
        .filter(|(word, _)| *word != "total")
        .filter_map(|(_, count)| count.as_u64())
        .sum();
    assert_eq!(
        tasks["total"].as_u64(),
        Some(sum),
        "the counts do not add up: {report}"
    );
    tasks[word]
        .as_u64()
        .unwrap_or_else(|| panic!("no count of {word}: {report}"))
}
