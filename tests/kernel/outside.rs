//! Tasks of a PID namespace that are not where its other tasks are: no freeze reaches them, and `status` names them.

use std::fs;

use kit::{Cgroup, Hierarchy, Scene, freeze, iceaxe, is_gone, status, thaw};
use serde_json::{Value, json};

fn target(cgroup: &Cgroup) -> String {
    cgroup.target().into_string().unwrap()
}

/// What is told of one task that is outside.
fn told(pid: i32, tid: i32, cgroup: &Cgroup) -> Value {
    let comm = fs::read_to_string(format!("/proc/{tid}/comm")).unwrap();
    json!({"pid": pid, "tid": tid, "comm": comm.trim_end(), "cgroup": target(cgroup)})
}

fn a_process_that_was_moved_away_is_named_and_not_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let [own, elsewhere] = [0, 1].map(|_| scene.cgroup(hierarchy));
    let zoo = scene.zoo_with(&[&own], &["--pidns"], &["doze", "doze", "doze"]);
    assert_eq!(status(&own)["outside"], json!([]));
    elsewhere.admit(zoo.tid(1));
    assert_eq!(
        status(&own)["outside"],
        json!([told(zoo.tid(1), zoo.tid(1), &elsewhere)])
    );
    let run = iceaxe("status").arg(own.target()).run();
    let line = format!(
        "1 process of its PID namespace is outside of its cgroup, and is not frozen with it: {} ",
        zoo.tid(1)
    );
    assert!(
        run.out.contains(&line) && run.out.contains(&target(&elsewhere)),
        "{run:?}"
    );
    let report = freeze(&own).ends(0, "confirmed");
    assert_eq!(report["tasks"]["total"], 2, "{report}");
    zoo.goes_on(1);
    [0, 2].into_iter().for_each(|index| zoo.stands(index));
    assert_eq!(status(&own)["outside"].as_array().map(Vec::len), Some(1));
    thaw(&own).ends(0, "confirmed");
}

/// As a runtime does that nests: what is below is frozen too.
fn a_process_in_a_cgroup_below_is_inside(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&own], &["--pidns"], &["doze", "doze"]);
    own.child("below").admit(zoo.tid(1));
    assert_eq!(status(&own)["outside"], json!([]));
}

/// Between two looks others come and go.
fn who_is_forked_inside_meanwhile_is_not_outside(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&own], &["--pidns"], &["storm", "storm"]);
    for _ in 0..25 {
        assert_eq!(status(&own)["outside"], json!([]));
    }
    assert!(!is_gone(zoo.tid(0)));
}

/// Seen from the other one, the first is elsewhere.
fn each_of_two_cgroups_has_the_other_outside(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let [one, other] = [0, 1].map(|_| scene.cgroup(hierarchy));
    let zoo = scene.zoo_with(&[&one], &["--pidns"], &["doze", "doze"]);
    other.admit(zoo.tid(1));
    assert_eq!(
        status(&one)["outside"],
        json!([told(zoo.tid(1), zoo.tid(1), &other)])
    );
    assert_eq!(
        status(&other)["outside"],
        json!([told(zoo.tid(0), zoo.tid(0), &one)])
    );
}

fn a_dead_leader_is_nobody(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&own], &["--pidns"], &["doze", "dead-leader:2"]);
    let leader = fs::read_to_string(own.file("cgroup.procs")).unwrap();
    let dead: Vec<i32> = leader
        .lines()
        .map(|line| line.parse().unwrap())
        .filter(|&pid| is_gone(pid))
        .collect();
    assert_eq!(dead.len(), 1, "{leader}");
    assert_eq!(status(&own)["outside"], json!([]));
    zoo.goes_on(0);
}

/// A cgroup of the host's own tasks is no container with a namespace to be outside of.
fn of_the_hosts_own_pid_namespace_nothing_is_told(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    assert_eq!(status(&own)["outside"], Value::Null);
    let _zoo = scene.zoo(&[&own], &["doze"]);
    assert_eq!(status(&own)["outside"], Value::Null);
    let run = iceaxe("status").arg(own.target()).run();
    assert!(
        !run.out.contains("PID namespace") && run.err.is_empty(),
        "{run:?}"
    );
}

/// v1 has threads of one process in several cgroups.
fn a_thread_that_was_moved_away_is_named_with_its_process(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let [own, elsewhere] = [0, 1].map(|_| scene.cgroup(hierarchy));
    let zoo = scene.zoo_with(&[&own], &["--pidns"], &["doze", "threads:3"]);
    let pid = zoo.tid(1);
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let thread = threads
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse::<i32>()
                .unwrap()
        })
        .find(|&tid| tid != pid)
        .unwrap();
    elsewhere.admit_thread(thread);
    assert_eq!(status(&own)["outside"], json!([told(pid, thread, &elsewhere)]));
}

on_each_hierarchy! {
    a_process_that_was_moved_away_is_named_and_not_frozen,
    a_process_in_a_cgroup_below_is_inside,
    who_is_forked_inside_meanwhile_is_not_outside,
    each_of_two_cgroups_has_the_other_outside,
    a_dead_leader_is_nobody,
    of_the_hosts_own_pid_namespace_nothing_is_told,
}

mod threads {
    mod v1 {
        #[test]
        #[serial_test::serial]
        fn a_thread_that_was_moved_away_is_named_with_its_process() {
            super::super::a_thread_that_was_moved_away_is_named_with_its_process(kit::Hierarchy::V1);
        }
    }
}
