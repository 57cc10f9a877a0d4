//! Signals, stops and tracers that come while a task is frozen.

use kit::{
    Hierarchy, Scene, eventually, freeze, is_gone, letter, pending_signals, stands_still, tasks_add_up, thaw,
    timeslices,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn send(tid: i32, signal: Signal) {
    kill(Pid::from_raw(tid), signal).unwrap();
}

fn a_task_killed_while_frozen_is_gone_after_the_thaw(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "sleep", "pipe"]);
    freeze(&cgroup).ends(0, "confirmed");
    let victims = [zoo.tid(0), zoo.tid(1)];
    victims.iter().for_each(|&tid| send(tid, Signal::SIGKILL));
    let total = match hierarchy {
        Hierarchy::V1 => {
            // It waits for them, and they wait for the thaw.
            for tid in victims {
                assert_ne!(pending_signals(tid) & (1 << (Signal::SIGKILL as u32 - 1)), 0);
                assert!(!is_gone(tid));
            }
            3
        }
        Hierarchy::V2 => {
            eventually("they are gone", || victims.iter().all(|&tid| is_gone(tid)));
            eventually("only one is left", || cgroup.tids().len() == 1);
            1
        }
    };
    let report = thaw(&cgroup).ends(0, "confirmed");
    assert_eq!(report["tasks"]["total"], total, "{report}");
    eventually("they are gone", || victims.iter().all(|&tid| is_gone(tid)));
    zoo.answers(2);
}

/// Whether a signal is fatal is decided when it is sent, and where it acts when is the same as with SIGKILL.
fn a_signal_that_ends_a_task_by_default_acts_like_a_kill(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "doze", "catch"]);
    freeze(&cgroup).ends(0, "confirmed");
    send(zoo.tid(0), Signal::SIGTERM);
    send(zoo.tid(1), Signal::SIGUSR1);
    // One that is caught ends nobody.
    send(zoo.tid(2), Signal::SIGUSR1);
    let victims = [zoo.tid(0), zoo.tid(1)];
    match hierarchy {
        Hierarchy::V1 => {
            zoo.stands(0);
            assert!(!victims.iter().any(|&tid| is_gone(tid)));
        }
        Hierarchy::V2 => eventually("they are gone", || victims.iter().all(|&tid| is_gone(tid))),
    }
    zoo.stands(2);
    assert!(cgroup.asks());
    thaw(&cgroup).ends(0, "confirmed");
    eventually("they are gone", || victims.iter().all(|&tid| is_gone(tid)));
    zoo.goes_on(2);
    eventually("the handler runs", || zoo.word(2) == 1);
}

fn a_container_whose_last_task_dies_by_the_thaw_is_a_success(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["busy"]);
    freeze(&cgroup).ends(0, "confirmed");
    send(zoo.tid(0), Signal::SIGKILL);
    let report = thaw(&cgroup).ends(0, "confirmed");
    let words: &[(&[&str], u64)] = match hierarchy {
        Hierarchy::V1 => &[(&["exited", "ran"], 1)],
        Hierarchy::V2 => &[(&["exited"], report["tasks"]["total"].as_u64().unwrap())],
    };
    tasks_add_up(&report, words);
    eventually("it is gone", || is_gone(zoo.tid(0)));
}

/// On v2 a signal moves a frozen task's counters without letting it out.
fn a_signal_to_a_frozen_task_is_not_taken_for_a_thaw(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["catch"]);
    freeze(&cgroup).ends(0, "confirmed");
    let before = timeslices(zoo.tid(0));
    send(zoo.tid(0), Signal::SIGUSR1);
    if hierarchy == Hierarchy::V2 {
        eventually("its counters move", || timeslices(zoo.tid(0)) > before);
    }
    zoo.stands(0);
    let report = freeze(&cgroup).ends(0, "unchanged");
    tasks_add_up(&report, &[(&["frozen"], 1)]);
    assert_eq!(zoo.word(0), 0, "the handler did not run");
    thaw(&cgroup).ends(0, "confirmed");
    eventually("the handler runs", || zoo.word(0) == 1);
    zoo.goes_on(0);
}

fn a_stop_sent_while_frozen_takes_hold_after_the_thaw(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    freeze(&cgroup).ends(0, "confirmed");
    send(zoo.tid(0), Signal::SIGSTOP);
    zoo.stands(0);
    let report = thaw(&cgroup).run();
    // Whether it is seen before or after it stops is a matter of luck; that it was frozen is not.
    let report = report.json().remove(0);
    assert!(matches!(report["exit"].as_u64(), Some(0)), "{report}");
    eventually("it is stopped", || letter(zoo.tid(0)) == Some('T'));
    zoo.stands(0);
    send(zoo.tid(0), Signal::SIGCONT);
    zoo.goes_on(0);
}

fn a_continued_task_stays_frozen(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["stopped"]);
    freeze(&cgroup).ends(0, "confirmed");
    send(zoo.tid(0), Signal::SIGCONT);
    zoo.stands(0);
    assert_eq!(zoo.beats(0), 0);
    let report = freeze(&cgroup).ends(0, "unchanged");
    tasks_add_up(&report, &[(&["frozen"], 1)]);
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
}

fn a_stopped_task_is_unmoved_by_many_toggles(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["stopped"]);
    for _ in 0..5 {
        freeze(&cgroup).ends(0, "confirmed");
        thaw(&cgroup).ends(0, "confirmed");
        eventually("it shows T again", || letter(zoo.tid(0)) == Some('T'));
    }
    stands_still("it runs", || zoo.beats(0));
}

on_each_hierarchy! {
    a_task_killed_while_frozen_is_gone_after_the_thaw,
    a_signal_that_ends_a_task_by_default_acts_like_a_kill,
    a_container_whose_last_task_dies_by_the_thaw_is_a_success,
    a_signal_to_a_frozen_task_is_not_taken_for_a_thaw,
    a_stop_sent_while_frozen_takes_hold_after_the_thaw,
    a_continued_task_stays_frozen,
    a_stopped_task_is_unmoved_by_many_toggles,
}

mod tracer {
    mod v2 {
        use super::super::{Hierarchy, Scene, eventually, freeze, letter, tasks_add_up, thaw};

        /// A tracer may stop a frozen task, look at it and let it go; the cgroup stays frozen all the while.
        #[test]
        #[serial_test::serial]
        fn a_frozen_task_can_be_traced_and_stays_frozen() {
            let (_scene, cgroup, zoo) = Scene::of(Hierarchy::V2, &["doze"]);
            freeze(&cgroup).ends(0, "confirmed");
            zoo.seize(0);
            eventually("it is traced", || letter(zoo.tid(0)) == Some('t'));
            let report = freeze(&cgroup).ends(0, "unchanged");
            tasks_add_up(&report, &[(&["frozen"], 1)]);
            zoo.siginfo(0);
            zoo.detach(0);
            eventually("it is in the trap again", || letter(zoo.tid(0)) != Some('t'));
            let report = freeze(&cgroup).ends(0, "unchanged");
            tasks_add_up(&report, &[(&["frozen"], 1)]);
            zoo.stands(0);
            thaw(&cgroup).ends(0, "confirmed");
            zoo.goes_on(0);
        }
    }
}
