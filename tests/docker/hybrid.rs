//! Promises for hosts with both hierarchies. They need such a machine: a v1 freezer at /sys/fs/cgroup/freezer and v2 at
//! /sys/fs/cgroup/unified.

use std::fs;

use kit::engines::{HANGS, Layout, is_in_v1_and_v2};
use kit::{Hierarchy, eventually, mount_of};
use serde_json::Value;

use crate::container::Container;
use crate::docker::Docker;

/// A container with a cgroup of its own in both.
#[track_caller]
fn in_both(docker: &Docker) -> Container<'_> {
    in_both_called(docker, "web")
}

/// The same by another name.
#[track_caller]
fn in_both_called<'d>(docker: &'d Docker, name: &str) -> Container<'d> {
    let web = docker.container(name);
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

/// A container of which a process was moved in one hierarchy, to the root or to a cgroup of its own: its first one, or
/// another.
#[track_caller]
fn strayed<'d>(docker: &'d Docker, strays: Hierarchy, to_root: bool, first: bool) -> Container<'d> {
    let web = in_both_called(docker, &format!("{}-{to_root}-{first}", strays.word()));
    docker.docker(["exec", "--detach", &web.name, "sleep", "12345"]);
    let tids = || web.cgroups[0].tids();
    eventually("all are in it", || tids().len() > 2);
    let who = *tids().iter().find(|&&tid| (tid == web.pid) == first).unwrap();
    let place = match to_root {
        true => mount_of(strays),
        false => docker.own_cgroup(strays).dir,
    };
    fs::write(place.join("cgroup.procs"), who.to_string()).unwrap();
    web
}

/// Its one line in the list.
#[track_caller]
fn listed(docker: &Docker, web: &Container<'_>) -> Value {
    let filter = format!("id={}", web.id);
    let listed = docker.iceaxe(["list", "--json", "--filter", &filter]).well();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    serde_json::from_str(&listed).unwrap()
}

/// The cgroups that are told, each with whether others live in it too.
fn told(status: &Value) -> Vec<(Value, &str, bool)> {
    let all = status["cgroups"].as_array().unwrap().iter();
    let each = all.map(|cgroup| {
        let path = cgroup["path"].as_str().unwrap();
        (
            cgroup["version"].clone(),
            path,
            cgroup["shared"].as_bool().unwrap(),
        )
    });
    each.collect()
}

#[test]
fn a_container_of_which_a_process_was_moved_is_one_line_and_the_root_is_not_its_own() {
    let docker = Docker::start(Layout::AsFound);
    for (to_root, first) in [(true, false), (false, false), (true, true)] {
        let web = strayed(&docker, Hierarchy::V2, to_root, first);
        let (line, status) = (listed(&docker, &web), docker.status(&web.name));
        let path = web.cgroups[0].path.to_str().unwrap();
        let own = [(1.into(), path, false), (2.into(), path, false)];
        for said in [&line, &status] {
            let told = told(said);
            assert!(own.iter().all(|own| told.contains(own)), "{said}");
            assert_eq!(told[0], own[0], "{said}");
            assert_eq!(told.contains(&(2.into(), "/", true)), to_root, "{said}");
            assert_eq!(told.len(), 3, "{said}");
            // The one that strayed counts, and so does the third one while it is there.
            assert!(said["tasks"]["total"].as_u64() >= Some(2), "{said}");
        }
        let said = docker.iceaxe(["status", &web.name]).well();
        let root = format!(
            "  v2  {}: shared with others, ",
            mount_of(Hierarchy::V2).display()
        );
        assert_eq!(said.contains(&root), to_root, "{said}");
        web.pause();
        web.iceaxe("thaw").is(0, "confirmed");
        web.is_thawed();
    }
    let web = strayed(&docker, Hierarchy::V1, true, false);
    let (line, status) = (listed(&docker, &web), docker.status(&web.name));
    assert_eq!(told(&line), told(&status));
    assert!(told(&line).iter().all(|(_, path, _)| *path != "/"), "{line}");
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
