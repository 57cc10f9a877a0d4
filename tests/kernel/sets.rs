//! Several targets are one set while a freeze is under way: what breaks it off undoes all of it, and each target has a
//! word of its own if the work hangs.

use kit::{Cgroup, Hierarchy, Running, Scene, eventually, freeze, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

on_each_hierarchy! {
    a_signal_undoes_those_too_that_were_frozen_by_then,
    a_killed_iceaxe_undoes_those_too_that_were_frozen_by_then,
    each_target_has_its_word_if_the_work_hangs,
    a_cgroup_with_a_thousand_below_is_frozen_and_thawed,
}

/// A freeze of one that freezes at once and of one that does not, begun; it has frozen the first.
fn half_way(first: &Cgroup, second: &Cgroup, limit: &str) -> Running {
    let running = freeze(first).arg(second.target()).timeout(limit).start();
    eventually("the first is frozen and the second asks", || {
        first.is_frozen() && second.asks()
    });
    running
}

fn a_signal_undoes_those_too_that_were_frozen_by_then(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (first, second) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let (web, stuck) = (
        scene.zoo(&[&first], &["doze"]),
        scene.zoo(&[&second], &["dstate", "doze"]),
    );
    let running = half_way(&first, &second, "60s");
    running.signal(Signal::SIGINT);
    let run = running.end();
    assert_eq!(run.signal, Some(Signal::SIGINT as i32), "{run:?}");
    assert!(!first.asks() && !second.asks(), "{run:?}");
    let ends: Vec<_> = run
        .json()
        .iter()
        .map(|report| report["outcome"].clone())
        .collect();
    assert_eq!(ends, ["rolled_back", "rolled_back"], "{run:?}");
    web.goes_on(0);
    stuck.goes_on(1);
}

fn a_killed_iceaxe_undoes_those_too_that_were_frozen_by_then(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (first, second) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let (web, stuck) = (
        scene.zoo(&[&first], &["doze"]),
        scene.zoo(&[&second], &["dstate", "doze"]),
    );
    let running = half_way(&first, &second, "60s");
    running.signal(Signal::SIGKILL);
    running.end();
    eventually("neither asks", || !first.asks() && !second.asks());
    web.goes_on(0);
    stuck.goes_on(1);
}

fn each_target_has_its_word_if_the_work_hangs(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (first, second) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let (web, _stuck) = (
        scene.zoo(&[&first], &["doze"]),
        scene.zoo(&[&second], &["dstate"]),
    );
    let third = scene.cgroup(hierarchy);
    third.freeze();
    let running = freeze(&first)
        .arg(second.target())
        .arg(third.target())
        .timeout("2s")
        .start();
    eventually("the first is frozen and the second asks", || {
        first.is_frozen() && second.asks()
    });
    let worker = Pid::from_raw(running.worker());
    kill(worker, Signal::SIGSTOP).unwrap();
    let run = running.end();
    let ends: Vec<_> = run
        .json()
        .iter()
        .map(|report| report["outcome"].clone())
        .collect();
    assert_eq!(ends[..2], ["stuck", "stuck"], "{run:?}");
    // Stopped right after the second request, it may not have looked at the third yet, which was frozen before.
    assert!(ends[2] == "unchanged" || ends[2] == "error", "{run:?}");
    assert_eq!(run.code, Some(12), "{run:?}");
    // The kernel lets it go on by itself where nobody is left to do so.
    let _ = kill(worker, Signal::SIGCONT);
    eventually("what it froze asks no more", || !first.asks() && !second.asks());
    assert!(third.asks());
    web.goes_on(0);
}

/// More than the 1,024 descriptors that a program may have open where nobody raised the limit.
fn a_cgroup_with_a_thousand_below_is_frozen_and_thawed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let below: Vec<_> = (0..1100).map(|n| cgroup.child(n.to_string())).collect();
    let zoo = scene.zoo(&[&below[1099]], &["doze"]);
    freeze(&cgroup).timeout("60s").ends(0, "confirmed");
    zoo.stands(0);
    thaw(&cgroup).timeout("60s").ends(0, "confirmed");
    zoo.goes_on(0);
}
