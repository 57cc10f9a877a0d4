//! Requests above and below: what is the container's own is done, what is not is named and left.

use kit::{Cgroup, Hierarchy, Scene, freeze, iceaxe, status, tasks_add_up, thaw};

/// The paths in a JSON list.
fn paths(list: &serde_json::Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap())
        .collect()
}

fn path(cgroup: &Cgroup) -> &str {
    cgroup.path.to_str().unwrap()
}

fn a_thaw_under_a_frozen_ancestor_is_no_success_and_names_it(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let between = top.child("between");
    let own = between.child("own");
    let zoo = scene.zoo(&[&own], &["doze"]);
    own.freeze();
    top.freeze();
    let report = thaw(&own).ends(8, "held");
    assert_eq!(
        paths(&report["cgroups"][0]["frozen_by"]),
        [path(&top)],
        "{report}"
    );
    assert!(report["error"].as_str().unwrap().contains(path(&top)), "{report}");
    assert_eq!(
        report["after"],
        serde_json::json!({"requested": "thawed", "effective": "frozen"}),
        "{report}"
    );
    assert!(!own.asks() && top.asks());
    zoo.stands(0);
    top.thaw();
    zoo.goes_on(0);
}

fn every_frozen_ancestor_is_named_topmost_first(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let between = top.child("between");
    let own = between.child("own");
    let zoo = scene.zoo(&[&own], &["doze"]);
    between.freeze();
    top.freeze();
    let report = thaw(&own).ends(8, "held");
    assert_eq!(
        paths(&report["cgroups"][0]["frozen_by"]),
        [path(&top), path(&between)],
        "{report}"
    );
    assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    let seen = status(&own);
    assert_eq!(
        (&seen["requested"], &seen["effective"]),
        (&"thawed".into(), &"frozen".into()),
        "{seen}"
    );
    assert_eq!(paths(&seen["frozen_by"]), [path(&top), path(&between)], "{seen}");
    assert!(top.asks() && between.asks());
    zoo.stands(0);
}

fn a_list_names_the_frozen_parent_of_each_child_and_of_no_other(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let (held, free) = (top.child("held"), top.child("free"));
    // In the order of the IDs, a child of each in turn.
    let ids: Vec<String> = (0..6).map(|number| format!("{number:064x}")).collect();
    let place = |at: usize| [&free, &held][at % 2];
    let children: Vec<Cgroup> = ids
        .iter()
        .enumerate()
        .map(|(at, id)| place(at).child(id))
        .collect();
    let _zoos: Vec<_> = children
        .iter()
        .map(|child| scene.zoo(&[child], &["doze"]))
        .collect();
    held.freeze();
    let listed = iceaxe("list").arg("--json").run().json();
    for (at, id) in ids.iter().enumerate() {
        let row = listed.iter().find(|row| row["id"] == id.as_str());
        let row = row.unwrap_or_else(|| panic!("{id} is not listed: {listed:?}"));
        let (effective, by) = match at % 2 {
            0 => ("thawed", vec![]),
            _ => ("frozen", vec![path(&held)]),
        };
        assert_eq!(row["effective"], effective, "{row}");
        assert_eq!(paths(&row["frozen_by"]), by, "{row}");
        assert_eq!(row["tasks"]["total"], 1, "{row}");
    }
}

fn ancestors_are_cleared_when_asked_for(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let between = top.child("between");
    let own = between.child("own");
    let zoo = scene.zoo(&[&own], &["doze", "busy"]);
    for cgroup in [&own, &between, &top] {
        cgroup.freeze();
    }
    let report = thaw(&own).arg("--ancestors").ends(0, "confirmed");
    assert_eq!(report["writes"].as_array().unwrap().len(), 3, "{report}");
    assert!(![&own, &between, &top].iter().any(|cgroup| cgroup.asks()));
    zoo.goes_on(0);
    zoo.goes_on(1);
}

fn a_freeze_of_what_an_ancestor_holds_asks_for_itself_too(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let own = top.child("own");
    let zoo = scene.zoo(&[&own], &["doze"]);
    top.freeze();
    freeze(&own).ends(0, "confirmed");
    assert!(own.asks());
    top.thaw();
    zoo.stands(0);
    thaw(&own).ends(0, "confirmed");
    zoo.goes_on(0);
}

fn a_frozen_cgroup_inside_is_left_and_named(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let inner = own.child("inner");
    let deep = inner.child("deep");
    let outside = scene.zoo(&[&own], &["doze"]);
    let inside = scene.zoo(&[&deep], &["doze"]);
    inner.freeze();
    freeze(&own).ends(0, "confirmed");
    let report = thaw(&own).ends(8, "held");
    assert_eq!(
        paths(&report["cgroups"][0]["frozen_by"]),
        [path(&inner)],
        "{report}"
    );
    assert!(
        report["error"].as_str().unwrap().contains(path(&inner)),
        "{report}"
    );
    assert!(!own.asks() && inner.asks());
    outside.goes_on(0);
    inside.stands(0);

    let report = thaw(&own).arg("--recursive").ends(0, "confirmed");
    assert_eq!(report["writes"].as_array().unwrap().len(), 1, "{report}");
    assert!(!inner.asks());
    inside.goes_on(0);
}

fn a_thaw_counts_the_tasks_of_all_cgroups_inside(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let deep = own.child("a").child("b").child("c");
    let zoo = scene.zoo(&[&own], &["busy"]);
    let inside = scene.zoo(&[&deep], &["busy", "busy"]);
    let report = freeze(&own).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["frozen"], 3)]);
    zoo.stands(0);
    inside.stands(1);
    let report = thaw(&own).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["ran"], 3)]);
    inside.goes_on(1);
}

/// A{B{C,D},E{F{G{H}}},I,K} with tasks in C, H and K.
fn a_tree_freezes_and_thaws_branch_by_branch(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let a = scene.cgroup(hierarchy);
    let (b, e, k) = (a.child("B"), a.child("E"), a.child("K"));
    a.child("I");
    let (c, f) = (b.child("C"), e.child("F"));
    b.child("D");
    let g = f.child("G");
    let h = g.child("H");
    let zoo = [&c, &h, &k, &k, &k].map(|cgroup| scene.zoo(&[cgroup], &["doze"]));

    for cgroup in [&b, &f, &g] {
        freeze(cgroup).ends(0, "confirmed");
    }
    assert!(
        [&c, &h]
            .iter()
            .all(|cgroup| status(cgroup)["effective"] == "frozen")
    );
    assert!(
        [&a, &e, &k]
            .iter()
            .all(|cgroup| status(cgroup)["effective"] == "thawed")
    );
    zoo[4].goes_on(0);

    freeze(&a).ends(0, "confirmed");
    assert!(
        [&a, &b, &e, &k]
            .iter()
            .all(|cgroup| status(cgroup)["effective"] == "frozen")
    );
    zoo.iter().for_each(|zoo| zoo.stands(0));

    for cgroup in [&b, &f, &g] {
        thaw(cgroup).ends(8, "held");
    }
    assert!(
        [&c, &h]
            .iter()
            .all(|cgroup| status(cgroup)["effective"] == "frozen")
    );
    zoo.iter().for_each(|zoo| zoo.stands(0));

    thaw(&a).ends(0, "confirmed");
    zoo.iter().for_each(|zoo| zoo.goes_on(0));
}

fn a_cgroup_made_under_a_frozen_one_is_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let elsewhere = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&elsewhere], &["doze"]);
    freeze(&parent).ends(0, "confirmed");
    let child = parent.child("child");
    child.admit(zoo.tid(0));
    kit::eventually("it is held", || status(&child)["effective"] == "frozen");
    zoo.stands(0);
    let report = freeze(&parent).ends(0, "unchanged");
    assert_eq!(report["tasks"]["total"], 1, "{report}");
    thaw(&child).ends(8, "held");
    thaw(&parent).ends(0, "confirmed");
    zoo.goes_on(0);
}

fn a_frozen_parent_outlives_its_child(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let child = parent.child("child");
    freeze(&parent).ends(0, "confirmed");
    child.remove();
    assert!(parent.is_frozen());
    freeze(&parent).ends(0, "unchanged");
    let again = parent.child("child");
    assert_eq!(status(&again)["effective"], "frozen");
    thaw(&parent).ends(0, "confirmed");
    assert_eq!(status(&again)["effective"], "thawed");
}

fn a_parent_that_runs_is_not_called_frozen_for_what_is_inside(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let child = parent.child("child");
    let zoo = scene.zoo(&[&parent], &["doze"]);
    child.ask();
    let run = iceaxe("thaw").arg(parent.target()).run();
    assert_eq!(run.code, Some(8), "{run:?}");
    let target = parent.target().into_string().unwrap();
    let head = format!("thawed {target}, but not what is frozen inside it: 1 task: ");
    assert!(run.out.starts_with(&head), "{run:?}");
    assert!(
        run.err.contains("still frozen inside it: ") && run.err.contains("/child"),
        "{run:?}"
    );
    zoo.goes_on(0);
}

on_each_hierarchy! {
    a_parent_that_runs_is_not_called_frozen_for_what_is_inside,
    a_thaw_under_a_frozen_ancestor_is_no_success_and_names_it,
    every_frozen_ancestor_is_named_topmost_first,
    a_list_names_the_frozen_parent_of_each_child_and_of_no_other,
    ancestors_are_cleared_when_asked_for,
    a_freeze_of_what_an_ancestor_holds_asks_for_itself_too,
    a_frozen_cgroup_inside_is_left_and_named,
    a_thaw_counts_the_tasks_of_all_cgroups_inside,
    a_tree_freezes_and_thaws_branch_by_branch,
    a_cgroup_made_under_a_frozen_one_is_frozen,
    a_frozen_parent_outlives_its_child,
}
