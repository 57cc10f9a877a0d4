//! A thaw that climbs: mildest first, as far as it was told, and it says which step did it.

use kit::{Cgroup, Hierarchy, Scene, eventually, iceaxe, is_gone, letter, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

fn rescue(cgroup: &Cgroup, up_to: Option<&str>) -> kit::Iceaxe {
    thaw(cgroup)
        .timeout("500ms")
        .arg(up_to.map_or("--rescue".to_owned(), |step| format!("--rescue={step}")))
}

#[track_caller]
fn tried(report: &Value) -> Vec<&str> {
    let tried = report["rescue"]["tried"].as_array();
    let tried = tried.unwrap_or_else(|| panic!("no rescue: {report}"));
    tried.iter().map(|step| step.as_str().unwrap()).collect()
}

fn a_thaw_that_needs_no_rescue_tries_nothing(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["doze"]);
    own.freeze();
    let report = rescue(&own, None).ends(0, "confirmed");
    assert_eq!(report["rescue"], json!({"tried": [], "worked": null}), "{report}");
    zoo.goes_on(0);
    let report = thaw(&own).ends(0, "unchanged");
    assert_eq!(report["rescue"], json!(null), "{report}");
}

fn a_frozen_ancestor_is_thawed_and_said_to_have_been_it(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let own = top.child("own");
    let zoo = scene.zoo(&[&own], &["doze"]);
    own.freeze();
    top.freeze();
    let report = rescue(&own, Some("rekick")).ends(8, "held");
    assert_eq!(tried(&report), ["rekick"], "{report}");
    assert_eq!(report["rescue"]["worked"], json!(null), "{report}");
    assert!(top.asks());
    own.ask();
    let report = rescue(&own, None).ends(0, "confirmed");
    assert_eq!(report["rescue"]["worked"], "ancestors", "{report}");
    assert_eq!(report["before"]["effective"], "frozen", "{report}");
    // Its own request first, then the ancestor's.
    assert_eq!(report["writes"].as_array().unwrap().len(), 2, "{report}");
    assert!(!top.asks());
    zoo.goes_on(0);
}

fn a_cgroup_inside_is_thawed_by_the_second_kick(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let inner = own.child("inner");
    let zoo = scene.zoo(&[&inner], &["doze"]);
    inner.freeze();
    let report = rescue(&own, None).ends(0, "confirmed");
    assert_eq!(report["rescue"]["worked"], "rekick", "{report}");
    assert!(!inner.asks());
    zoo.goes_on(0);
}

fn nothing_is_killed_unless_it_is_asked_for(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let report = rescue(&own, None).ends(9, "released");
    assert_eq!(tried(&report), ["wait"], "{report}");
    zoo.goes_on(1);
    // Nor what is no container.
    let report = rescue(&own, Some("kill")).ends(9, "released");
    assert_eq!(tried(&report), ["wait", "kill"], "{report}");
    zoo.goes_on(1);
    zoo.release(0);
}

fn a_container_is_killed_where_nothing_milder_helps(hierarchy: Hierarchy) {
    let scene = Scene::new();
    // A name that runtimes give.
    let name = format!("/docker-{}.scope", "c0ffee00".repeat(8));
    let parent = scene.cgroup(hierarchy);
    let own = parent.child(name.trim_start_matches('/'));
    let zoo = scene.zoo(&[&own], &["dstate", "doze"]);
    let report = iceaxe("thaw")
        .arg(own.target())
        .arg("--json")
        .arg("--timeout=500ms")
        .arg("--rescue=kill")
        .run();
    let lines = report.json();
    let report = &lines[0];
    assert_eq!(tried(report), ["wait", "kill"], "{report}");
    // Its D task dies when it is let go.
    assert_eq!(
        (&report["exit"], &report["outcome"]),
        (&json!(9), &json!("released")),
        "{report}"
    );
    assert!(is_gone(zoo.tid(1)), "{report}");
    zoo.release(0);
    eventually("it dies", || is_gone(zoo.tid(0)));
}

/// Only its tracer can end what it waits for, and is stopped itself.
fn a_stopped_tracer_is_let_go_on_and_said_to_have_been_it(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["dstate"]);
    let keeper = zoo.keeper();
    zoo.seize(0);
    kill(Pid::from_raw(keeper), Signal::SIGSTOP).unwrap();
    eventually("its tracer is stopped", || letter(keeper) == Some('T'));
    let report = rescue(&own, Some("rekick")).ends(9, "released");
    assert_eq!(tried(&report), ["wait"], "{report}");
    assert_eq!(report["holdouts"][0]["by"]["pid"], keeper, "{report}");
    assert_eq!(letter(keeper), Some('T'), "{report}");
    zoo.release_later(0);
    let report = rescue(&own, Some("tracer")).ends(0, "confirmed");
    assert_eq!(tried(&report), ["wait", "tracer"], "{report}");
    assert_eq!(report["rescue"]["worked"], "tracer", "{report}");
    eventually("its tracer goes on", || letter(keeper) != Some('T'));
}

on_each_hierarchy! {
    a_thaw_that_needs_no_rescue_tries_nothing,
    a_frozen_ancestor_is_thawed_and_said_to_have_been_it,
    a_cgroup_inside_is_thawed_by_the_second_kick,
    nothing_is_killed_unless_it_is_asked_for,
    a_container_is_killed_where_nothing_milder_helps,
    a_stopped_tracer_is_let_go_on_and_said_to_have_been_it,
}

/// The way out for a task that the kernel left in the freezer. None of the kernels here leaves one there, so the step is
/// taken with tasks that are well, which must not be harmed by it, and its effect on a frozen one is shown by plain
/// files.
mod aside {
    mod v1 {
        use std::fs;

        use iceaxe::Host;
        use iceaxe::engine::out_and_back;

        use super::super::{Hierarchy, Scene, eventually, letter};
        use kit::{freeze, timeslices};

        #[test]
        #[serial_test::serial]
        fn out_and_back_leaves_a_task_where_it_was_and_going_on() {
            let scene = Scene::new();
            let own = scene.cgroup(Hierarchy::V1);
            let inner = own.child("inner");
            let zoo = scene.zoo(
                &[&own],
                &["busy", "doze", "sleep", "pipe", "stopped", "threads:3"],
            );
            let deeper = scene.zoo(&[&inner], &["doze"]);
            let bystander = scene.zoo(&[&own], &["sleep"]);
            let before = (own.tids(), inner.tids(), timeslices(bystander.tid(0)));
            let host = Host::system().unwrap();
            let handle = host.container(own.target().to_str().unwrap()).unwrap();
            for (home, tid) in zoo
                .all()
                .into_iter()
                .map(|tid| (&own, tid))
                .chain([(&inner, deeper.tid(0))])
            {
                let writes = out_and_back(&host, handle.container(), tid).unwrap();
                let written: Vec<_> = writes
                    .iter()
                    .map(|write| (write.file.clone(), write.value.clone()))
                    .collect();
                let value = tid.to_string();
                assert_eq!(
                    written,
                    [
                        (home.file("iceaxe-rescue/tasks"), value.clone()),
                        (home.file("tasks"), value)
                    ]
                );
                assert!(!home.file("iceaxe-rescue").exists());
            }
            let sorted = |mut tids: Vec<i32>| {
                tids.sort_unstable();
                tids
            };
            assert_eq!(
                (sorted(own.tids()), sorted(inner.tids())),
                (sorted(before.0), sorted(before.1))
            );
            assert_eq!(timeslices(bystander.tid(0)), before.2, "it was not to be touched");
            assert_eq!(letter(zoo.tid(4)), Some('T'));
            for going in [0, 1, 5] {
                zoo.goes_on(going);
            }
            zoo.answers(3);
            deeper.goes_on(0);
        }

        #[test]
        #[serial_test::serial]
        fn out_and_back_never_moves_what_is_not_the_containers() {
            let scene = Scene::new();
            let (own, others) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V1));
            let zoo = scene.zoo(&[&own], &["doze"]);
            let stranger = scene.zoo(&[&others], &["doze"]);
            let host = Host::system().unwrap();
            let handle = host.container(own.target().to_str().unwrap()).unwrap();
            let gone = i32::MAX;
            for tid in [stranger.tid(0), zoo.keeper(), gone] {
                assert_eq!(out_and_back(&host, handle.container(), tid).unwrap(), []);
            }
            assert!(others.holds(stranger.tid(0)));
            assert!(!own.file("iceaxe-rescue").exists() && !others.file("iceaxe-rescue").exists());
        }

        #[test]
        #[serial_test::serial]
        fn what_a_killed_rescue_left_aside_comes_home_with_the_next() {
            let scene = Scene::new();
            let own = scene.cgroup(Hierarchy::V1);
            let aside = own.child("iceaxe-rescue");
            let zoo = scene.zoo(&[&own], &["doze", "doze"]);
            aside.admit(zoo.tid(0));
            let host = Host::system().unwrap();
            let handle = host.container(own.target().to_str().unwrap()).unwrap();
            assert_eq!(
                out_and_back(&host, handle.container(), zoo.tid(1)).unwrap().len(),
                2
            );
            assert!(own.holds(zoo.tid(0)) && own.holds(zoo.tid(1)));
            assert!(!aside.dir.exists());
        }

        /// What the step stands on: a task in the refrigerator is woken by being attached to a thawed cgroup alone.
        #[test]
        #[serial_test::serial]
        fn a_task_in_the_refrigerator_is_woken_by_its_way_out() {
            let scene = Scene::new();
            let top = scene.cgroup(Hierarchy::V1);
            let (own, thawed) = (top.child("own"), top.child("thawed"));
            let zoo = scene.zoo(&[&own], &["pipe", "busy"]);
            freeze(&own).ends(0, "confirmed");
            for index in [0, 1] {
                let tid = zoo.tid(index);
                let turns = timeslices(tid);
                fs::write(thawed.file("tasks"), tid.to_string()).unwrap();
                eventually("it is on a CPU", || timeslices(tid) > turns);
            }
            assert!(own.asks());
            zoo.answers(0);
            zoo.goes_on(1);
        }
    }
}
