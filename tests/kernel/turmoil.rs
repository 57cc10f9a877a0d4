//! Tasks that come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::kit::{Hierarchy, Scene, counted, freeze, thaw};

fn check(hierarchy: Hierarchy, kinds: &[&str]) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], kinds);
    for _ in 0..3 {
        let report = freeze(&cgroup).ends(0, "confirmed");
        assert!(
            counted(&report, "frozen") + counted(&report, "new") >= kinds.len() as u64,
            "{report}"
        );
        assert_eq!(counted(&report, "holdouts"), 0, "{report}");
        assert!(cgroup.is_frozen());
        (0..kinds.len()).for_each(|index| zoo.stands(index));
        let tids = cgroup.tids();
        thread::sleep(Duration::from_millis(5));
        assert_eq!(cgroup.tids(), tids, "somebody came or went");

        let report = thaw(&cgroup).ends(0, "confirmed");
        assert!(counted(&report, "total") >= kinds.len() as u64, "{report}");
        (0..kinds.len()).for_each(|index| zoo.goes_on(index));
    }
}

fn a_fork_storm_is_frozen_whole_and_thawed(hierarchy: Hierarchy) {
    check(hierarchy, &["storm", "storm"]);
}

fn threads_that_come_and_go_are_frozen_and_thawed(hierarchy: Hierarchy) {
    check(hierarchy, &["churn", "churn"]);
}

fn a_frozen_fork_storm_can_be_killed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["storm", "storm"]);
    freeze(&cgroup).ends(0, "confirmed");
    for tid in cgroup.tids() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(tid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    thaw(&cgroup).ends(0, "confirmed");
    crate::kit::eventually("nobody is left", || cgroup.tids().is_empty());
    assert!(zoo.all().iter().all(|&tid| crate::kit::is_gone(tid)));
}

/// Another tool that toggles the same cgroup all the while: iceaxe may find it held or changed under its hands, but it
/// ends in time, and afterwards it has its way.
fn two_who_toggle_at_once_do_not_wedge_it(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["doze", "pipe", "busy"]);
    // Since 6.1 the kernel patches its own code whenever the first v1 cgroup begins to freeze and the last one is thawed
    // (the static key `freezer_active`). Patched as often as here, an emulated machine fell over it (int3 in
    // __refrigerator, 6.12 under QEMU 7.2); one that stays frozen keeps the code as it is.
    let another = scene.cgroup(hierarchy);
    another.ask();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (cgroup, over) = (&cgroup, &over);
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                cgroup.ask();
                thread::sleep(Duration::from_micros(700));
                cgroup.thaw();
                thread::sleep(Duration::from_micros(900));
            }
            cgroup.ask();
        });
        let codes: Vec<Option<i32>> = (0..5)
            .flat_map(|_| {
                [
                    freeze(cgroup).timeout("1s").run().code,
                    thaw(cgroup).timeout("1s").run().code,
                ]
            })
            .collect();
        over.store(true, Ordering::SeqCst);
        assert!(
            codes.iter().all(|code| matches!(code, Some(0 | 6 | 7 | 8 | 9))),
            "{codes:?}"
        );
    });
    assert!(cgroup.asks());
    thaw(&cgroup).ends(0, "confirmed");
    assert!(!cgroup.asks());
    zoo.goes_on(0);
    zoo.answers(1);
    zoo.goes_on(2);
}

on_each_hierarchy! {
    a_fork_storm_is_frozen_whole_and_thawed,
    threads_that_come_and_go_are_frozen_and_thawed,
    a_frozen_fork_storm_can_be_killed,
    two_who_toggle_at_once_do_not_wedge_it,
}
