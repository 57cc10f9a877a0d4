//! Freezing and thawing again, by whomever; nobody there; one who froze itself; one who slept past its time.

use kit::{
    Hierarchy, Scene, eventually, freeze, freezes_in_place, is_gone, letter, status, tasks_add_up, thaw,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn forty_sleepers_freeze_and_thaw(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["sleep"; 40]);
    let report = freeze(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["frozen"], 40)]);
    assert!(cgroup.is_frozen());
    let report = thaw(&cgroup).ends(0, "confirmed");
    let words: &[&str] = if hierarchy == Hierarchy::V1 && !freezes_in_place() {
        &["unprovable"]
    } else {
        &["ran", "restored"]
    };
    tasks_add_up(&report, &[(words, 40)]);
    assert!(!cgroup.asks());
    assert!(zoo.all().iter().all(|&tid| letter(tid) == Some('S')));
}

fn freezing_what_is_frozen_changes_nothing(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "pipe"]);
    freeze(&cgroup).ends(0, "confirmed");
    let report = freeze(&cgroup).ends(0, "unchanged");
    assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    assert_eq!(report["before"], report["after"], "{report}");
    tasks_add_up(&report, &[(&["frozen"], 2)]);
    zoo.stands(0);
    assert!(cgroup.asks());
}

fn thawing_what_is_thawed_changes_nothing(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "pipe", "busy"]);
    let report = thaw(&cgroup).ends(0, "unchanged");
    assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    assert_eq!(report["before"], report["after"], "{report}");
    assert_eq!(report["after"]["effective"], "thawed", "{report}");
    zoo.goes_on(0);
}

fn what_somebody_else_froze_is_thawed(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "pipe"]);
    cgroup.freeze();
    let report = thaw(&cgroup).ends(0, "confirmed");
    assert_eq!(
        report["before"],
        serde_json::json!({"requested": "frozen", "effective": "frozen"}),
        "{report}"
    );
    assert_eq!(
        report["after"],
        serde_json::json!({"requested": "thawed", "effective": "thawed"}),
        "{report}"
    );
    let write = serde_json::json!({"file": cgroup.switch(), "value": cgroup.thawed_word()});
    assert_eq!(report["writes"], serde_json::json!([write]), "{report}");
    zoo.goes_on(0);
    zoo.answers(1);
}

fn what_somebody_else_froze_counts_as_frozen(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["busy"]);
    cgroup.freeze();
    let seen = status(&cgroup);
    assert_eq!(
        (&seen["requested"], &seen["effective"]),
        (&"frozen".into(), &"frozen".into()),
        "{seen}"
    );
    assert_eq!(
        seen["tasks"],
        serde_json::json!({"total": 1, "frozen": 1, "running": 0, "unprovable": 0, "unknown": 0, "holdouts": 0})
    );
    freeze(&cgroup).ends(0, "unchanged");
    zoo.stands(0);
}

fn an_empty_cgroup_freezes_and_thaws(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let report = freeze(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[]);
    assert!(cgroup.is_frozen());
    let report = thaw(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[]);
    assert!(!cgroup.asks());
}

fn a_task_that_froze_itself_is_thawed(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["freezer"]);
    zoo.poke(0);
    eventually("it is frozen", || cgroup.asks() && cgroup.is_frozen());
    zoo.stands(0);
    let report = thaw(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["ran"], 1)]);
    eventually("its write has returned", || zoo.beats(0) == 1);
}

fn a_task_frozen_past_its_sleep_is_kept_and_ends_when_thawed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    // Long enough to be there for the freeze on a slow machine.
    let zoo = scene.zoo(&[&cgroup], &["nap:1500", "doze"]);
    let began = std::time::Instant::now();
    freeze(&cgroup).ends(0, "confirmed");
    eventually("its time is over", || began.elapsed().as_millis() > 1600);
    zoo.stands(1);
    assert!(!is_gone(zoo.tid(0)));
    let report = thaw(&cgroup).ends(0, "confirmed");
    assert_eq!(report["tasks"]["total"], 2, "{report}");
    eventually("it has ended", || is_gone(zoo.tid(0)));
}

fn a_removed_cgroup_is_not_found(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    cgroup.remove();
    freeze(&cgroup).ends(3, "not_found");
    thaw(&cgroup).ends(3, "not_found");
}

fn twenty_toggles_end_as_the_last_one_says(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "busy"]);
    for _ in 0..10 {
        freeze(&cgroup).ends(0, "confirmed");
        thaw(&cgroup).ends(0, "confirmed");
    }
    zoo.goes_on(0);
    zoo.goes_on(1);
    assert!(!cgroup.asks());
}

/// LTP writes FREEZING and expects EIO; the kernel has long said EINVAL.
fn a_word_that_the_kernel_refuses_changes_nothing(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let words: &[&str] = match hierarchy {
        Hierarchy::V1 => &["FREEZING", "frozen", "1"],
        Hierarchy::V2 => &["2", "-1", "FROZEN"],
    };
    let refused = || {
        words
            .iter()
            .all(|word| std::fs::write(cgroup.switch(), word).is_err())
    };
    assert!(refused());
    assert_eq!(status(&cgroup)["effective"], "thawed");
    thaw(&cgroup).ends(0, "unchanged");
    zoo.goes_on(0);
    freeze(&cgroup).ends(0, "confirmed");
    assert!(refused());
    assert_eq!(status(&cgroup)["effective"], "frozen");
    zoo.stands(0);
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
}

/// systemd gives itself 3 s for each.
fn what_is_so_already_is_answered_without_a_wait(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let _zoo = scene.zoo(&[&cgroup], &["doze"; 10]);
    let prompt = std::time::Duration::from_secs(3);
    let run = thaw(&cgroup).run();
    assert!(run.is(0, "unchanged").is_object() && run.took < prompt, "{run:?}");
    freeze(&cgroup).ends(0, "confirmed");
    let run = freeze(&cgroup).run();
    assert!(run.is(0, "unchanged").is_object() && run.took < prompt, "{run:?}");
}

/// What dies has left its cgroup's list, and is not gone: its memory is given back first.
fn one_that_dies_meanwhile_is_not_gone_while_it_is_there(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    for _ in 0..4 {
        let zoo = scene.zoo(&[&cgroup], &["heavy:128"]);
        let running = freeze(&cgroup).start();
        kill(Pid::from_raw(zoo.tid(0)), Signal::SIGKILL).unwrap();
        let run = running.end();
        let is_there = !is_gone(zoo.tid(0));
        assert!(run.code == Some(0) || run.code == Some(3) && !is_there, "{run:?}");
        cgroup.thaw();
        eventually("it is gone", || is_gone(zoo.tid(0)));
    }
}

on_each_hierarchy! {
    one_that_dies_meanwhile_is_not_gone_while_it_is_there,
    a_word_that_the_kernel_refuses_changes_nothing,
    what_is_so_already_is_answered_without_a_wait,
    forty_sleepers_freeze_and_thaw,
    freezing_what_is_frozen_changes_nothing,
    thawing_what_is_thawed_changes_nothing,
    what_somebody_else_froze_is_thawed,
    what_somebody_else_froze_counts_as_frozen,
    an_empty_cgroup_freezes_and_thaws,
    a_task_that_froze_itself_is_thawed,
    a_task_frozen_past_its_sleep_is_kept_and_ends_when_thawed,
    a_removed_cgroup_is_not_found,
    twenty_toggles_end_as_the_last_one_says,
}
