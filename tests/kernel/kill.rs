//! A container is ended whole, frozen or not, and nobody beside it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use kit::{
    Cgroup, Hierarchy, Iceaxe, Scene, Zoo, counted, eventually, freeze, iceaxe, is_gone, pending_signals,
    thaw,
};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::json;

fn send(pid: i32, signal: Signal) {
    signal::kill(Pid::from_raw(pid), signal).unwrap();
}

fn kill(cgroup: &Cgroup) -> kit::Iceaxe {
    iceaxe("kill")
        .arg(cgroup.target())
        .arg("--json")
        .arg("--force=not-container")
        .arg("--timeout=30s")
}

fn a_running_container_is_killed_whole_and_its_neighbour_lives(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let below = own.child("below");
    let beside = scene.cgroup(hierarchy);
    let kinds = [
        "doze",
        "busy",
        "stopped",
        "traced",
        "vfork",
        "threads:4",
        "dead-leader:2",
        "sleep",
    ];
    let zoo = scene.zoo(&[&own], &kinds);
    let inner = scene.zoo(&[&below], &["doze"]);
    let other = scene.zoo(&[&beside], &["doze"]);
    let report = kill(&own).ends(0, "confirmed");
    for tid in zoo.all().into_iter().chain(inner.all()) {
        assert!(is_gone(tid), "{tid}: {report}");
    }
    assert_eq!(counted(&report, "exited"), report["tasks"]["total"], "{report}");
    assert_eq!(report["ran_between"], json!(false), "{report}");
    assert!(own.tids().is_empty() && !own.asks(), "{report}");
    other.goes_on(0);
}

fn a_frozen_container_is_killed_without_running_again(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["doze", "busy", "catch"]);
    freeze(&own).ends(0, "confirmed");
    let before: Vec<u64> = (0..3).map(|kind| zoo.beats(kind)).collect();
    let report = kill(&own).ends(0, "confirmed");
    let after: Vec<u64> = (0..3).map(|kind| zoo.beats(kind)).collect();
    assert_eq!(before, after, "{report}");
    assert_eq!(report["ran_between"], json!(false), "{report}");
    assert!(zoo.all().into_iter().all(is_gone), "{report}");
    assert!(!own.asks(), "what is put into it next would be frozen: {report}");
}

fn a_fork_storm_is_killed_to_the_last(hierarchy: Hierarchy) {
    let scene = Scene::new();
    for _ in 0..5 {
        let own = scene.cgroup(hierarchy);
        let zoo = scene.zoo(&[&own], &["storm", "storm", "churn"]);
        zoo.goes_on(0);
        let report = kill(&own).ends(0, "confirmed");
        assert!(own.tids().is_empty(), "{report}");
        assert!(zoo.all().into_iter().all(is_gone), "{report}");
    }
}

fn what_no_runtime_made_is_killed_only_when_it_is_said(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["doze"]);
    for force in ["--force=host-daemon", "--force=sandbox"] {
        let report = iceaxe("kill")
            .arg(own.target())
            .arg("--json")
            .arg(force)
            .ends(11, "refused");
        assert_eq!(report["writes"], json!([]), "{report}");
    }
    zoo.goes_on(0);
    kill(&own).arg("--dry-run").ends(0, "planned");
    zoo.goes_on(0);
}

fn a_daemon_of_the_host_is_killed_only_when_it_is_said(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&own], &["--comm", "dockerd"], &["doze"]);
    kill(&own).ends(11, "refused");
    zoo.goes_on(0);
}

fn one_that_waits_in_the_kernel_is_named_and_the_others_are_gone(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let run = kill(&own).timeout("1s").run();
    assert!(run.took < Duration::from_secs(20), "{run:?}");
    let report = run.is(9, "released");
    let tids: Vec<&serde_json::Value> = report["holdouts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["tid"])
        .collect();
    assert_eq!(tids, [zoo.tid(0)], "{report}");
    assert_eq!(report["ran_between"], json!(true), "{report}");
    assert!(is_gone(zoo.tid(1)) && !is_gone(zoo.tid(0)), "{report}");
    assert!(!own.asks(), "{report}");
    zoo.release(0);
    eventually("it dies as soon as it can", || is_gone(zoo.tid(0)));
    kill(&own).ends(0, "confirmed");
}

fn a_signal_to_a_frozen_task_acts_when_it_is_said_to(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["catch"]);
    let send = |signal: &str| {
        let report = kill(&own).arg("--signal").arg(signal).ends(0, "confirmed");
        let sent = report["signals"].as_array().unwrap();
        assert_eq!(sent.len(), 1, "{report}");
        assert_eq!(sent[0]["pid"], zoo.tid(0), "{report}");
        (sent[0]["does"].clone(), sent[0]["acts"].clone())
    };
    let caught = zoo.word(0);
    assert_eq!(send("USR1"), (json!("handles"), json!("now")));
    eventually("it is handled", || zoo.word(0) > caught);
    freeze(&own).ends(0, "confirmed");
    let caught = zoo.word(0);
    assert_eq!(send("sigusr1"), (json!("handles"), json!("after-thaw")));
    zoo.stands(0);
    assert_eq!(zoo.word(0), caught);
    thaw(&own).ends(0, "confirmed");
    eventually("it is handled after the thaw", || zoo.word(0) > caught);
    assert_eq!(send("WINCH"), (json!("nothing"), json!("never")));
    freeze(&own).ends(0, "confirmed");
    let when = match hierarchy {
        Hierarchy::V1 => "after-thaw",
        Hierarchy::V2 => "now",
    };
    assert_eq!(send("15"), (json!("ends"), json!(when)));
    if hierarchy == Hierarchy::V2 {
        eventually("it dies in the freezer", || is_gone(zoo.tid(0)));
    } else {
        assert_ne!(pending_signals(zoo.tid(0)), 0);
    }
    thaw(&own).ends(0, "confirmed");
    eventually("it is gone", || is_gone(zoo.tid(0)));
}

fn a_signal_that_the_first_process_has_no_handler_for_is_said_to_do_nothing(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&own], &["--pidns"], &["doze"]);
    let report = kill(&own).arg("--signal=TERM").ends(0, "confirmed");
    assert_eq!(report["signals"][0]["acts"], json!("never"), "{report}");
    zoo.goes_on(0);
}

fn a_process_whose_name_is_no_text_is_killed_like_any_other(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(OsStr::from_bytes(b"\xff\xfe"));
    std::fs::copy(kit::program("zoo"), &program).unwrap();
    // It is called after its program, and waits at its standard input.
    let mut child = Command::new(kit::program("zoo"))
        .arg("--in")
        .arg(&own.dir)
        .arg("exec")
        .arg(&program)
        .arg("sleep")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let name = || std::fs::read(format!("/proc/{pid}/comm")).unwrap();
    eventually("it has its name, and a child", || {
        name() == b"\xff\xfe\n" && own.tids().len() > 1
    });
    let report = kill(&own).arg("--signal=WINCH").ends(0, "confirmed");
    assert_eq!(report["signals"][0]["pid"], pid, "{report}");
    let report = kill(&own).ends(0, "confirmed");
    assert!(is_gone(pid) && own.tids().is_empty(), "{report}");
    child.wait().unwrap();
}

fn a_process_whose_leader_is_dead_is_killed_and_signalled(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    // A name that runtimes give: nothing is to be lifted.
    let own = parent.child(format!("docker-{}.scope", "c0ffee00".repeat(8)));
    let zoo = scene.zoo(&[&own], &["dead-leader:3"]);
    let plainly = |verb: &[&str]| {
        let command = iceaxe("kill").arg(own.target()).arg("--json");
        verb.iter().fold(command, Iceaxe::arg)
    };
    let report = plainly(&["--signal=WINCH"]).ends(0, "confirmed");
    assert_eq!(report["signals"].as_array().unwrap().len(), 1, "{report}");
    let report = plainly(&[]).ends(0, "confirmed");
    assert!(zoo.all().into_iter().all(is_gone), "{report}");
}

fn a_signal_to_a_stopped_process_waits_until_it_goes_on(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["stopped"]);
    let said = |signal: &str| {
        let report = kill(&own).arg("--signal").arg(signal).ends(0, "confirmed");
        let sent = &report["signals"][0];
        (sent["does"].clone(), sent["acts"].clone())
    };
    assert_eq!(said("TERM"), (json!("ends"), json!("when-continued")));
    assert!(!is_gone(zoo.tid(0)));
    freeze(&own).ends(0, "confirmed");
    assert_eq!(said("CONT"), (json!("continues"), json!("after-thaw")));
    assert!(!is_gone(zoo.tid(0)));
    thaw(&own).ends(0, "confirmed");
    eventually("it goes on, and dies", || is_gone(zoo.tid(0)));
}

fn a_kill_that_its_own_end_breaks_off_is_not_called_rolled_back(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["dstate", "sleep"]);
    let running = kill(&own).timeout("80s").start();
    let worker = running.worker();
    eventually("it kills", || is_gone(zoo.tid(1)));
    send(worker, Signal::SIGKILL);
    running.end().is(9, "released");
    assert!(!own.asks());
    zoo.release(0);
    eventually("it dies", || is_gone(zoo.tid(0)));
}

/// A container's first process, which dies last: it buries the others of its PID namespace. One of them stays unburied
/// while its parent stands still.
fn undying(scene: &Scene, own: &Cgroup) -> Zoo {
    let zoo = scene.zoo_with(&[own], &["--pidns"], &["doze", "doze"]);
    send(zoo.keeper(), Signal::SIGSTOP);
    zoo
}

/// It is in no cgroup's list any more when it waits for the others.
fn the_first_process_is_gone_only_when_the_others_are_buried(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = undying(&scene, &own);
    let running = kill(&own).start();
    eventually("it has left its cgroup", || own.tids().is_empty());
    assert!(!is_gone(zoo.tid(0)));
    send(zoo.keeper(), Signal::SIGCONT);
    let report = running.end().is(0, "confirmed");
    assert!(is_gone(zoo.tid(0)), "{report}");
}

fn a_first_process_that_can_not_bury_the_others_is_waited_for_and_named(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = undying(&scene, &own);
    let run = kill(&own).timeout("1s").run();
    send(zoo.keeper(), Signal::SIGCONT);
    assert!(run.took >= Duration::from_secs(1), "{run:?}");
    let report = run.is(9, "released");
    let holdout = &report["holdouts"][0];
    assert_eq!(
        (&holdout["tid"], &holdout["class"]),
        (&json!(zoo.tid(0)), &json!("exiting")),
        "{report}"
    );
    eventually("it dies", || is_gone(zoo.tid(0)));
}

on_each_hierarchy! {
    the_first_process_is_gone_only_when_the_others_are_buried,
    a_first_process_that_can_not_bury_the_others_is_waited_for_and_named,
    a_process_whose_name_is_no_text_is_killed_like_any_other,
    a_process_whose_leader_is_dead_is_killed_and_signalled,
    a_signal_to_a_stopped_process_waits_until_it_goes_on,
    a_kill_that_its_own_end_breaks_off_is_not_called_rolled_back,
    a_running_container_is_killed_whole_and_its_neighbour_lives,
    a_frozen_container_is_killed_without_running_again,
    a_fork_storm_is_killed_to_the_last,
    what_no_runtime_made_is_killed_only_when_it_is_said,
    a_daemon_of_the_host_is_killed_only_when_it_is_said,
    one_that_waits_in_the_kernel_is_named_and_the_others_are_gone,
    a_signal_to_a_frozen_task_acts_when_it_is_said_to,
    a_signal_that_the_first_process_has_no_handler_for_is_said_to_do_nothing,
}

mod only {
    use super::*;

    mod v1 {
        use super::*;

        #[test]
        #[serial_test::serial]
        fn what_dies_only_when_an_ancestor_is_thawed_is_said_at_once() {
            let scene = Scene::new();
            let top = scene.cgroup(Hierarchy::V1);
            let own = top.child("own");
            let zoo = scene.zoo(&[&own], &["doze"]);
            top.freeze();
            let run = kill(&own).run();
            assert!(run.took < Duration::from_secs(15), "{run:?}");
            let report = run.is(8, "held");
            assert!(!is_gone(zoo.tid(0)), "{report}");
            let report = iceaxe("explain").arg(own.target()).arg("--json").run().json();
            assert_eq!(report[0]["dying"][0]["pid"], zoo.tid(0), "{report:?}");
            assert_eq!(report[0]["dying"][0]["signals"], json!(["KILL"]), "{report:?}");
            let run = thaw(&top).run();
            let report = run.is(0, "confirmed");
            assert_eq!(report["dying"][0]["tid"], zoo.tid(0), "{report}");
            assert!(run.err.contains("dies when it is thawed"), "{run:?}");
            eventually("it is gone", || is_gone(zoo.tid(0)));
        }

        #[test]
        #[serial_test::serial]
        fn a_process_with_a_thread_elsewhere_is_not_killed_unsaid() {
            let scene = Scene::new();
            let (parent, beside) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V1));
            // A name that runtimes give.
            let own = parent.child(format!("docker-{}.scope", "c0ffee00".repeat(8)));
            let zoo = scene.zoo(&[&own], &["threads:3"]);
            beside.admit_thread(zoo.tids(0)[1]);
            // No container by its name, and the thread is the reason that goes with a container too.
            let report = iceaxe("kill").arg(own.target()).arg("--json").ends(11, "refused");
            assert_eq!(report["writes"], json!([]), "{report}");
            zoo.goes_on(0);
        }
    }
}

mod hybrid {
    use super::*;

    #[test]
    #[serial_test::serial]
    fn frozen_in_both_hierarchies_it_dies_all_the_same() {
        let scene = Scene::new();
        let one = scene.cgroup(Hierarchy::V1);
        let two = scene.cgroup_called(Hierarchy::V2, &one);
        let zoo = scene.zoo(&[&one, &two], &["doze", "busy", "stopped"]);
        two.freeze();
        one.ask();
        let report = kill(&one).ends(0, "confirmed");
        assert!(zoo.all().into_iter().all(is_gone), "{report}");
        assert!(!one.asks() && !two.asks(), "{report}");
    }
}
