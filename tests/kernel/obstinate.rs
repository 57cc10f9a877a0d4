//! Tasks that nobody can freeze, and what becomes of them and of the others.

use std::time::Duration;

use kit::{Hierarchy, Scene, eventually, freeze, is_gone, letter, status, tasks_add_up, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// The kernel lets it spin on; it is no wait of the thaw's all the same, and it can be ended.
fn what_spins_on_after_a_rollback_is_neither_held_nor_waited_for(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["fault", "doze"]);
    freeze(&cgroup).timeout("700ms").ends(6, "rolled_back");
    zoo.goes_on(1);
    let seen = status(&cgroup);
    assert_eq!(
        (&seen["requested"], &seen["effective"]),
        (&json!("thawed"), &json!("thawed")),
        "{seen}"
    );
    let report = thaw(&cgroup).ends(0, "unchanged");
    assert_eq!(report["tasks"]["total"], 2, "{report}");
    assert_eq!(report["tasks"]["holdouts"], 0, "{report}");
    // Again it is named, and leaves nothing behind.
    let report = freeze(&cgroup).timeout("700ms").ends(6, "rolled_back");
    assert_eq!(report["holdouts"][0]["tid"], zoo.tid(0), "{report}");
    kill(Pid::from_raw(zoo.tid(0)), Signal::SIGKILL).unwrap();
    eventually("it has ended", || is_gone(zoo.tid(0)));
    let report = freeze(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["frozen"], 1)]);
    zoo.stands(1);
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(1);
}

/// Another iceaxe, or anybody else: who waits for its own freeze sees it through to its limit and forces nothing.
fn a_freeze_that_somebody_else_undoes_ends_at_once_and_is_not_forced(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let running = freeze(&cgroup).start();
    eventually("it asks", || cgroup.asks());
    let report = thaw(&cgroup).timeout("0").run().json().remove(0);
    assert_eq!(report["after"]["requested"], "thawed", "{report}");
    let run = running.end();
    assert!(run.took < Duration::from_secs(15), "{run:?}");
    let report = run.is(6, "rolled_back");
    assert!(
        report["error"].as_str().unwrap().contains("somebody else"),
        "{report}"
    );
    assert_eq!(report["after"]["requested"], "thawed", "{report}");
    assert!(!cgroup.asks());
    zoo.goes_on(1);
    zoo.release(0);
    zoo.goes_on(0);
}

on_each_hierarchy! {
    what_spins_on_after_a_rollback_is_neither_held_nor_waited_for,
    a_freeze_that_somebody_else_undoes_ends_at_once_and_is_not_forced,
}

mod kernel_thread {
    mod v2 {
        use super::super::{Hierarchy, Scene, json, letter, status, tasks_add_up, thaw};
        use kit::stands_still;

        /// v2 waits for it and never freezes it, so that a freeze by whoever does not look first is never complete.
        #[test]
        #[serial_test::serial]
        fn a_freeze_that_a_kernel_thread_keeps_from_settling_is_told_and_thawed() {
            let scene = Scene::new();
            let cgroup = scene.cgroup(Hierarchy::V2);
            let tid = scene.borrow_kernel_thread(&cgroup);
            let zoo = scene.zoo(&[&cgroup], &["doze"]);
            cgroup.ask();
            let beats = || zoo.beats(0);
            kit::eventually("the other one is frozen", || {
                let before = beats();
                std::thread::sleep(std::time::Duration::from_millis(40));
                beats() == before
            });
            stands_still("the kernel calls it frozen", || u64::from(cgroup.is_frozen()));
            assert!(!cgroup.is_frozen());
            let seen = status(&cgroup);
            assert_eq!(
                (&seen["requested"], &seen["effective"]),
                (&json!("frozen"), &json!("freezing")),
                "{seen}"
            );
            assert_eq!(
                (&seen["tasks"]["frozen"], &seen["tasks"]["holdouts"]),
                (&json!(1), &json!(1)),
                "{seen}"
            );
            let report = thaw(&cgroup).ends(0, "confirmed");
            tasks_add_up(&report, &[(&["ran"], 1), (&["restored", "unprovable"], 1)]);
            assert_eq!(letter(tid), Some('S'));
            zoo.goes_on(0);
        }
    }
}
