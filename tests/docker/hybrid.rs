//! Promises for hosts with both hierarchies. They need such a machine: a v1 freezer at /sys/fs/cgroup/freezer and v2 at
//! /sys/fs/cgroup/unified.

use crate::container::Container;
use crate::docker::Docker;
use crate::engines::{HANGS, Layout, is_in_v1_and_v2};

/// A container with a cgroup of its own in both.
#[track_caller]
fn in_both(docker: &Docker) -> Container<'_> {
    let web = docker.container("web");
    assert!(
        is_in_v1_and_v2(&web.cgroups),
        "this test is for a hybrid machine: {web:?}"
    );
    web
}

#[test]
fn a_freeze_in_v2_alone_is_seen_and_cleared_where_docker_is_blind() {
    let docker = Docker::start(Layout::AsFound);
    let web = in_both(&docker);
    web.cgroups[1].freeze();
    web.stands();
    assert_eq!(docker.inspect(&web.name, "{{.State.Status}}"), "running");
    assert!(docker.client(["exec", &web.name, "true"]).answer(HANGS).hung());
    web.is_seen("running", "frozen");
    let status = docker.status(&web.name);
    let each: Vec<(&str, &str)> = status["cgroups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|cgroup| {
            (
                cgroup["requested"].as_str().unwrap(),
                cgroup["effective"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(each, [("thawed", "thawed"), ("frozen", "frozen")], "{status}");
    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
    web.is_seen("running", "thawed");
    docker.docker(["exec", &web.name, "true"]);
}

#[test]
fn a_freeze_in_both_hierarchies_is_cleared_in_both() {
    let docker = Docker::start(Layout::AsFound);
    let web = in_both(&docker);
    // v2 first: what v1 holds can't enter v2's frozen place.
    web.cgroups[1].freeze();
    docker.docker(["pause", &web.name]);
    docker.wedge();
    assert!(web.cgroups.iter().all(|cgroup| cgroup.asks()));
    let report = web.iceaxe("thaw").is(0, "confirmed");
    let files: Vec<&str> = report["writes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|write| write["file"].as_str().unwrap())
        .collect();
    let expected: Vec<String> = [1, 0]
        .iter()
        .map(|&at: &usize| web.cgroups[at].switch().display().to_string())
        .collect();
    assert_eq!(files, expected, "v2 first, then v1");
    web.is_thawed();
}

#[test]
fn a_docker_unpause_that_leaves_the_other_half_frozen_is_finished_by_a_thaw() {
    let docker = Docker::start(Layout::AsFound);
    let web = in_both(&docker);
    web.cgroups[1].freeze();
    docker.docker(["pause", &web.name]);
    docker.docker(["unpause", &web.name]);
    web.stands();
    web.is_seen("running", "frozen");
    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
}

#[test]
fn a_bare_cgroup_that_holds_the_same_tasks_in_both_hierarchies_is_one() {
    let (docker, parent) = Docker::with_a_parent(Layout::AsFound);
    let web = in_both(&docker);
    for path in [&web.cgroups[0].path, &parent] {
        let target = format!("cgroup:{}", path.display());
        docker.status(&target);
    }
}
