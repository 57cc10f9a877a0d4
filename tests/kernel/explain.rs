//! The reason, the task, its class, and what to do.

use kit::{Cgroup, Hierarchy, Scene, freeze, has_keys, iceaxe, thaw};
use serde_json::{Value, json};

#[track_caller]
pub(crate) fn explain(cgroup: &Cgroup) -> Value {
    let run = iceaxe("why").arg(cgroup.target()).arg("--json").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    let mut lines = run.json();
    assert_eq!(lines.len(), 1, "{run:?}");
    lines.remove(0)
}

/// What is said of one task.
#[track_caller]
pub(crate) fn of(report: &Value, tid: i32) -> &Value {
    let tasks = report["holdouts"].as_array().unwrap();
    tasks
        .iter()
        .find(|task| task["tid"] == tid)
        .unwrap_or_else(|| panic!("nothing of {tid}: {report}"))
}

/// The steps and commands that are advised.
pub(crate) fn ladder(report: &Value) -> Vec<(&str, &str)> {
    let steps = report["ladder"].as_array().unwrap();
    steps
        .iter()
        .map(|advice| {
            (
                advice["step"].as_str().unwrap(),
                advice["command"].as_str().unwrap(),
            )
        })
        .collect()
}

fn nothing_is_said_of_a_container_that_simply_runs(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    scene.zoo(&[&own], &["doze", "busy", "pipe", "storm"]);
    let report = explain(&own);
    assert_eq!(report["effective"], "thawed", "{report}");
    assert_eq!(
        (&report["held_by"], &report["holdouts"], &report["ladder"]),
        (&json!([]), &json!([]), &json!([])),
        "{report}"
    );
}

fn frozen_by_itself_it_is_said_to_be_thawed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    scene.zoo(&[&own], &["doze"]);
    freeze(&own).ends(0, "confirmed");
    let report = explain(&own);
    has_keys(
        &report,
        &[
            "verb",
            "target",
            "requested",
            "effective",
            "believed",
            "cgroups",
            "tasks",
            "dying",
            "arriving",
        ],
    );
    let target = own.target().into_string().unwrap();
    assert_eq!(
        report["held_by"],
        json!([{"kind": "own", "cgroup": target}]),
        "{report}"
    );
    assert_eq!(
        ladder(&report),
        [("rekick", format!("iceaxe thaw {target}").as_str())],
        "{report}"
    );
    assert!(own.asks());
}

fn an_ancestor_that_holds_it_is_named_with_the_way_to_thaw_it(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let own = top.child("own");
    scene.zoo(&[&own], &["doze"]);
    top.freeze();
    let report = explain(&own);
    let holder = top.target().into_string().unwrap();
    assert_eq!(
        report["held_by"],
        json!([{"kind": "ancestor", "cgroup": holder}]),
        "{report}"
    );
    let target = own.target().into_string().unwrap();
    assert_eq!(
        ladder(&report),
        [("ancestors", format!("iceaxe thaw --ancestors {target}").as_str())],
        "{report}"
    );
}

fn a_cgroup_inside_that_is_frozen_is_named(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let inner = own.child("inner");
    scene.zoo(&[&inner], &["doze"]);
    inner.freeze();
    let report = explain(&own);
    let holder = inner.target().into_string().unwrap();
    assert_eq!(
        report["held_by"],
        json!([{"kind": "inner", "cgroup": holder}]),
        "{report}"
    );
    assert!(
        ladder(&report)
            .iter()
            .any(|(_, command)| command.contains("--recursive")),
        "{report}"
    );
}

fn a_pipe_that_another_holds_is_named_as_what_a_task_waits_for(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    own.ask();
    let report = explain(&own);
    assert_eq!(report["effective"], "freezing", "{report}");
    let task = of(&report, zoo.tid(0));
    assert_eq!(
        (&task["class"], &task["on"], &task["state"]),
        (&json!("uninterruptible"), &json!("pipe-lock"), &json!("D")),
        "{report}"
    );
    assert!(!task["stack"].as_array().unwrap().is_empty(), "{report}");
    assert!(task["meaning"].as_str().unwrap().contains("pipe"), "{report}");
    let steps = ladder(&report);
    assert!(steps.iter().any(|(step, _)| *step == "wait"), "{report}");
    assert!(steps.last().unwrap().1.starts_with("iceaxe kill"), "{report}");
    // A freeze that fails says the same of it.
    own.thaw();
    let report = freeze(&own).timeout("300ms").ends(6, "rolled_back");
    let task = of(&report, zoo.tid(0));
    assert_eq!(
        (&task["class"], &task["on"]),
        (&json!("uninterruptible"), &json!("pipe-lock")),
        "{report}"
    );
    zoo.release(0);
}

fn who_does_not_go_on_after_a_thaw_is_named_with_who_keeps_it(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["stopped", "traced", "vfork"]);
    freeze(&own).ends(0, "confirmed");
    thaw(&own).ends(0, "confirmed");
    let report = explain(&own);
    let class = |index: usize| &of(&report, zoo.tid(index))["class"];
    assert_eq!(
        (class(0), class(1), class(2)),
        (&json!("stopped"), &json!("traced"), &json!("vfork-parent")),
        "{report}"
    );
    assert_eq!(of(&report, zoo.tid(1))["by"]["pid"], zoo.keeper(), "{report}");
    assert_eq!(of(&report, zoo.tid(2))["by"]["pid"], zoo.tids(2)[1], "{report}");
    let go_on = format!("kill -CONT {}", zoo.tid(0));
    assert!(
        ladder(&report).iter().any(|(_, command)| *command == go_on),
        "{report}"
    );
}

fn a_page_that_nobody_delivers_is_told_from_a_busy_task(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["fault"]);
    let report = freeze(&own).timeout("300ms").ends(6, "rolled_back");
    assert_eq!(of(&report, zoo.tid(0))["class"], "userfaultfd", "{report}");
    // It goes on eating its CPU though nothing is asked any more.
    let report = explain(&own);
    assert_eq!(report["effective"], "thawed", "{report}");
    assert_eq!(of(&report, zoo.tid(0))["class"], "userfaultfd", "{report}");
}

fn what_it_says_to_people_is_the_reason_first(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["dstate"]);
    own.ask();
    let run = iceaxe("explain").arg(own.target()).run();
    let target = own.target().into_string().unwrap();
    assert_eq!(
        run.out.lines().next(),
        Some(format!("{target}: freezing, and held up by 1 task: uninterruptible").as_str()),
        "{run:?}"
    );
    for part in [
        "held by",
        "on pipe-lock",
        "what to do, mildest first:",
        "iceaxe thaw",
        "iceaxe kill",
    ] {
        assert!(run.out.contains(part), "{part}: {run:?}");
    }
    own.thaw();
    zoo.release(0);
}

on_each_hierarchy! {
    nothing_is_said_of_a_container_that_simply_runs,
    frozen_by_itself_it_is_said_to_be_thawed,
    an_ancestor_that_holds_it_is_named_with_the_way_to_thaw_it,
    a_cgroup_inside_that_is_frozen_is_named,
    a_pipe_that_another_holds_is_named_as_what_a_task_waits_for,
    who_does_not_go_on_after_a_thaw_is_named_with_who_keeps_it,
    a_page_that_nobody_delivers_is_told_from_a_busy_task,
    what_it_says_to_people_is_the_reason_first,
}

mod hybrid {
    use super::*;

    #[test]
    #[serial_test::serial]
    fn a_task_that_the_other_hierarchy_holds_is_why_it_does_not_settle() {
        let scene = Scene::new();
        let one = scene.cgroup(Hierarchy::V1);
        let two = scene.cgroup_called(Hierarchy::V2, &one);
        let zoo = scene.zoo(&[&one, &two], &["busy"]);
        one.freeze();
        let report = iceaxe("freeze")
            .arg(two.target())
            .arg("--json")
            .arg("--timeout=300ms")
            .run();
        // It is frozen already, by its own request in v1: nothing is to be done.
        report.is(0, "unchanged");
        two.ask();
        let report = explain(&two);
        let kinds: Vec<&str> = report["held_by"]
            .as_array()
            .unwrap()
            .iter()
            .map(|holder| holder["cgroup"].as_str().unwrap())
            .collect();
        let (one_, two_) = (
            one.target().into_string().unwrap(),
            two.target().into_string().unwrap(),
        );
        assert!(
            kinds.contains(&one_.as_str()) && kinds.contains(&two_.as_str()),
            "{report}"
        );
        assert_eq!(report["effective"], "frozen", "{report}");
        thaw(&two).ends(0, "confirmed");
        zoo.goes_on(0);
    }
}
