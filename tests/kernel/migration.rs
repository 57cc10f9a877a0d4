//! Tasks that are moved between frozen and thawed cgroups.

use kit::{Hierarchy, Scene, eventually, freeze, status, tasks_add_up, thaw};

fn a_task_moved_into_a_frozen_cgroup_is_frozen_there(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (running, frozen) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let zoo = scene.zoo(&[&running], &["doze"]);
    freeze(&frozen).ends(0, "confirmed");
    frozen.admit(zoo.tid(0));
    let report = freeze(&frozen).ends(0, "unchanged");
    tasks_add_up(&report, &[(&["frozen"], 1)]);
    zoo.stands(0);
    // It is thawed by leaving, not only by a thaw.
    running.admit(zoo.tid(0));
    zoo.goes_on(0);
    assert_eq!(status(&running)["effective"], "thawed");
    thaw(&running).ends(0, "unchanged");
    assert!(frozen.asks());
}

fn a_task_moved_from_one_frozen_cgroup_to_another_stays_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (one, other) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let zoo = scene.zoo(&[&one], &["doze"]);
    freeze(&one).ends(0, "confirmed");
    freeze(&other).ends(0, "confirmed");
    other.admit(zoo.tid(0));
    let report = freeze(&other).ends(0, "unchanged");
    tasks_add_up(&report, &[(&["frozen"], 1)]);
    zoo.stands(0);
    thaw(&one).ends(0, "confirmed");
    zoo.stands(0);
    thaw(&other).ends(0, "confirmed");
    zoo.goes_on(0);
}

fn those_who_come_after_the_freeze_are_frozen_and_thawed_with_the_others(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (own, elsewhere) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let first = scene.zoo(&[&own], &["doze"; 20]);
    let late = scene.zoo(&[&elsewhere], &["doze"; 20]);
    freeze(&own).ends(0, "confirmed");
    late.all().into_iter().for_each(|tid| own.admit(tid));
    let report = freeze(&own).ends(0, "unchanged");
    tasks_add_up(&report, &[(&["frozen"], 40)]);
    (0..20).for_each(|index| late.stands(index));
    first.stands(0);
    let report = thaw(&own).ends(0, "confirmed");
    assert_eq!(report["tasks"]["total"], 40, "{report}");
    (0..20).for_each(|index| late.goes_on(index));
    first.goes_on(0);
}

fn a_task_that_leaves_during_a_freeze_is_not_waited_for(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (own, elsewhere) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let zoo = scene.zoo(&[&own], &["dstate", "doze"]);
    let running = freeze(&own).start();
    eventually("it asks", || own.asks());
    elsewhere.admit(zoo.tid(0));
    let report = running.end().is(0, "confirmed");
    tasks_add_up(&report, &[(&["frozen"], 1), (&["exited"], 1)]);
    assert!(own.is_frozen());
    zoo.stands(1);
}

on_each_hierarchy! {
    a_task_moved_into_a_frozen_cgroup_is_frozen_there,
    a_task_moved_from_one_frozen_cgroup_to_another_stays_frozen,
    those_who_come_after_the_freeze_are_frozen_and_thawed_with_the_others,
    a_task_that_leaves_during_a_freeze_is_not_waited_for,
}
