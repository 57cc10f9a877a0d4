//! A freeze that can't be met: what stood before stands again, and who held it up is named.

use std::fs;
use std::time::Duration;

use kit::{
    Cgroup, Hierarchy, Scene, eventually, freeze, letter, mount_of, stands_still, status, tasks_add_up, thaw,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Long enough for the idle tasks to freeze, on a slow machine too.
const SHORT: &str = "700ms";

fn a_freeze_that_times_out_is_rolled_back_and_names_the_holdout(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let run = freeze(&cgroup).timeout(SHORT).run();
    let report = run.is(6, "rolled_back");
    assert!(run.took < Duration::from_millis(1700), "{:?}: {report}", run.took);

    let holdouts = report["holdouts"].as_array().unwrap();
    assert_eq!(holdouts.len(), 1, "{report}");
    assert_eq!(holdouts[0]["tid"], zoo.tid(0), "{report}");
    assert_eq!(holdouts[0]["pid"], zoo.tid(0), "{report}");
    assert_eq!(holdouts[0]["comm"], "zoo", "{report}");
    assert_eq!(holdouts[0]["state"], "D", "{report}");
    assert_eq!(holdouts[0]["class"], "uninterruptible", "{report}");
    // The pipe's lock, by whatever name the write is called on this kernel.
    let stack = holdouts[0]["stack"].as_array().unwrap();
    let is_write = |frame: &serde_json::Value| frame.as_str().unwrap().contains("pipe_write");
    assert!(stack.iter().any(is_write), "{report}");
    assert!(
        report["error"]
            .as_str()
            .unwrap()
            .contains(&zoo.tid(0).to_string()),
        "{report}"
    );
    tasks_add_up(&report, &[(&["frozen"], 1), (&["holdouts"], 1)]);
    for when in ["before", "after"] {
        assert_eq!(report[when]["requested"], "thawed", "{report}");
    }
    assert_eq!(report["after"]["effective"], "thawed", "{report}");

    assert!(!cgroup.asks());
    zoo.goes_on(1);
    // Nothing is left behind that would freeze it later.
    zoo.release(0);
    zoo.goes_on(0);
    zoo.goes_on(1);
    assert!(!cgroup.asks());
}

fn a_request_that_stood_before_a_timeout_still_stands(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    cgroup.ask();
    eventually("the dozing task is frozen", || {
        let before = zoo.beats(1);
        std::thread::sleep(Duration::from_millis(40));
        zoo.beats(1) == before
    });
    let report = freeze(&cgroup).timeout(SHORT).ends(6, "rolled_back");
    assert_eq!(report["before"]["requested"], "frozen", "{report}");
    assert_eq!(report["before"]["effective"], "freezing", "{report}");
    assert_eq!(report["after"]["requested"], "frozen", "{report}");
    assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    assert!(cgroup.asks());
    zoo.stands(1);
}

fn a_holdout_that_gives_in_lets_the_freeze_be_confirmed(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate"]);
    let running = freeze(&cgroup).start();
    eventually("it asks", || cgroup.asks());
    assert_eq!(letter(zoo.tid(0)), Some('D'));
    zoo.release(0);
    let report = running.end().is(0, "confirmed");
    tasks_add_up(&report, &[(&["frozen"], 1)]);
    assert!(cgroup.is_frozen());
    zoo.stands(0);
}

fn a_timeout_of_zero_is_one_look(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    // It has settled as soon as it is asked.
    freeze(&cgroup).timeout("0").ends(0, "confirmed");
    thaw(&cgroup).timeout("0").ends(0, "confirmed");
    let zoo = scene.zoo(&[&cgroup], &["dstate"]);
    let run = freeze(&cgroup).timeout("0").run();
    run.is(6, "rolled_back");
    assert!(run.took < Duration::from_secs(5), "{run:?}");
    assert!(!cgroup.asks());
    // v2 wakes it once for nothing when it thaws.
    eventually("it is in its own sleep again", || letter(zoo.tid(0)) == Some('D'));
}

fn a_kernel_mode_fault_that_spins_is_named_and_not_waited_for(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["fault", "doze"]);
    let report = freeze(&cgroup).timeout(SHORT).ends(6, "rolled_back");
    let holdouts = report["holdouts"].as_array().unwrap();
    assert_eq!(holdouts.len(), 1, "{report}");
    // It goes to sleep and is woken at once, for ever: one look finds it on either way.
    assert_eq!(holdouts[0]["tid"], zoo.tid(0), "{report}");
    assert!(
        matches!(holdouts[0]["state"].as_str(), Some("R" | "S" | "D")),
        "{report}"
    );
    assert!(!cgroup.asks());
    zoo.goes_on(1);
}

fn a_freeze_that_a_signal_ends_is_rolled_back(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let running = freeze(&cgroup).start();
        eventually("it asks", || cgroup.asks());
        running.signal(signal);
        let run = running.end();
        assert_eq!((run.code, run.signal), (None, Some(signal as i32)), "{run:?}");
        assert!(!cgroup.asks(), "after {signal}");
        zoo.goes_on(1);
    }
}

fn a_thaw_that_a_signal_ends_has_thawed(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    cgroup.ask();
    let running = thaw(&cgroup).start();
    eventually("it asks no more", || !cgroup.asks());
    running.signal(Signal::SIGINT);
    let run = running.end();
    assert_eq!(
        (run.code, run.signal),
        (None, Some(Signal::SIGINT as i32)),
        "{run:?}"
    );
    assert!(!cgroup.asks());
    zoo.goes_on(1);
}

fn a_killed_worker_is_rolled_back_by_its_parent(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let running = freeze(&cgroup).start();
    eventually("it asks", || cgroup.asks());
    kill(Pid::from_raw(running.worker()), Signal::SIGKILL).unwrap();
    let report = running.end().is(6, "rolled_back");
    assert!(report["error"].as_str().unwrap().contains("killed"), "{report}");
    assert!(!cgroup.asks());
    zoo.goes_on(1);
}

fn a_killed_iceaxe_is_rolled_back_by_its_worker(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let running = freeze(&cgroup).start();
    eventually("it asks", || cgroup.asks());
    running.signal(Signal::SIGKILL);
    assert_eq!(running.end().signal, Some(Signal::SIGKILL as i32));
    eventually("it asks no more", || !cgroup.asks());
    zoo.goes_on(1);
}

fn a_worker_that_is_not_heard_of_is_reported_and_undoes_it_later(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let running = freeze(&cgroup).timeout("2s").start();
    eventually("it asks", || cgroup.asks());
    let worker = Pid::from_raw(running.worker());
    kill(worker, Signal::SIGSTOP).unwrap();
    let run = running.end();
    assert!(run.took < Duration::from_secs(20), "{run:?}");
    run.is(7, "stuck");
    // The kernel lets it go on by itself where nobody is left to do so.
    let _ = kill(worker, Signal::SIGCONT);
    eventually("it asks no more", || !cgroup.asks());
    zoo.goes_on(1);
}

/// Stops iceaxe's worker while it waits, takes the cgroup away under it, and lets it go on.
fn take_away(worker: i32, cgroup: &Cgroup, tasks: &[i32]) {
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    eventually("it is stopped", || letter(worker) == Some('T'));
    for tid in tasks {
        fs::write(mount_of(cgroup.hierarchy).join("cgroup.procs"), tid.to_string()).unwrap();
    }
    cgroup.remove();
    kill(Pid::from_raw(worker), Signal::SIGCONT).unwrap();
}

fn a_cgroup_that_is_removed_during_a_freeze_is_gone(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate"]);
    let running = freeze(&cgroup).start();
    eventually("it asks", || cgroup.asks());
    take_away(running.worker(), &cgroup, &zoo.all());
    running.end().is(3, "gone");
}

fn a_cgroup_that_is_removed_during_a_thaw_is_gone_and_thawed(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate"]);
    cgroup.ask();
    let running = thaw(&cgroup).start();
    eventually("it asks no more", || !cgroup.asks());
    take_away(running.worker(), &cgroup, &zoo.all());
    kill(Pid::from_raw(zoo.tid(0)), Signal::SIGKILL).unwrap();
    zoo.release(0);
    running.end().is(0, "gone");
}

fn a_sleep_of_its_own_is_no_thaw_but_is_told_apart(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    cgroup.ask();
    let seen = status(&cgroup);
    assert_eq!(
        (&seen["requested"], &seen["effective"]),
        (&"frozen".into(), &"freezing".into()),
        "{seen}"
    );
    let report = thaw(&cgroup).timeout(SHORT).ends(9, "released");
    assert_eq!(report["before"]["effective"], "freezing", "{report}");
    assert_eq!(report["tasks"]["holdouts"], 1, "{report}");
    assert_eq!(report["holdouts"][0]["tid"], zoo.tid(0), "{report}");
    assert_eq!(report["holdouts"][0]["class"], "uninterruptible", "{report}");
    assert!(!cgroup.asks());
    zoo.goes_on(1);
    zoo.release(0);
    zoo.goes_on(0);
    thaw(&cgroup).ends(0, "unchanged");
    stands_still("nothing asks", || u64::from(cgroup.asks()));
}

on_each_hierarchy! {
    a_freeze_that_times_out_is_rolled_back_and_names_the_holdout,
    a_request_that_stood_before_a_timeout_still_stands,
    a_holdout_that_gives_in_lets_the_freeze_be_confirmed,
    a_timeout_of_zero_is_one_look,
    a_kernel_mode_fault_that_spins_is_named_and_not_waited_for,
    a_freeze_that_a_signal_ends_is_rolled_back,
    a_thaw_that_a_signal_ends_has_thawed,
    a_killed_worker_is_rolled_back_by_its_parent,
    a_killed_iceaxe_is_rolled_back_by_its_worker,
    a_worker_that_is_not_heard_of_is_reported_and_undoes_it_later,
    a_cgroup_that_is_removed_during_a_freeze_is_gone,
    a_cgroup_that_is_removed_during_a_thaw_is_gone_and_thawed,
    a_sleep_of_its_own_is_no_thaw_but_is_told_apart,
}

mod sticking {
    use super::*;

    /// A holdout that no pulse helps, but that looks like one which it could.
    fn pulses_of(command: kit::Iceaxe) -> serde_json::Value {
        let report = command.timeout("1500ms").ends(6, "rolled_back");
        report["pulses"].clone()
    }

    mod v1 {
        use super::*;

        #[test]
        #[serial_test::serial]
        fn a_freeze_that_sticks_is_pulsed_only_on_kernels_that_need_it() {
            let scene = Scene::new();
            let cgroup = scene.cgroup(Hierarchy::V1);
            scene.zoo(&[&cgroup], &["fault"]);
            let needs = (6, 1) <= kit::kernel() && kit::kernel() < (6, 16);
            assert_eq!(pulses_of(freeze(&cgroup)), u64::from(needs));
            assert!(!cgroup.asks());
            assert_eq!(pulses_of(freeze(&cgroup).arg("--no-pulse")), 0);
            assert!(!cgroup.asks());
        }
    }
}
