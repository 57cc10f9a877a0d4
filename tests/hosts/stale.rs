//! Records of what does not run any more. None of them is a match, whoever has the process's number now.

use std::fs::{self, File};
use std::time::{Duration, UNIX_EPOCH};

use iceaxe::host::Hierarchy;

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{BOOT, MadeUp, host, process};
use crate::scene::{Scene, container};

const RECORD: &str = "run/docker/runtime-runc/moby/ID1/state.json";

/// A host with labr-d1, and labr-d2 beside it.
fn with_two() -> MadeUp {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "nginx").started(88_004),
        "/docker/ID2",
    );
    host
}

/// labr-d1 does not run, however it is asked for, and labr-d2 does.
fn first_is_gone(host: MadeUp, words: &[&str]) -> Scene {
    let second = container("docker", "ID2", "v1:/docker/ID2").and("v2:/docker/ID2");
    let scene = ["ID1", "id:ID1", "labr-d1", "name:labr-d1", "8d96", "8d9621220cb4"]
        .iter()
        .fold(Scene::of(host), |scene, typed| {
            scene.fails(typed, "NotRunning", words)
        });
    scene
        .means("ID2", &second)
        .means("labr-d2", &second.named("labr-d2"))
}

/// F13: its process is gone.
pub(crate) fn dead() -> Scene {
    let host = with_two();
    host.end(21794);
    first_is_gone(host, &["21794", "ID1"]).fails("pid:21794", "NotFound", &["21794"])
}

/// F13: its number belongs to a process of the host.
pub(crate) fn number_taken() -> Scene {
    let host = with_two();
    host.end(21794);
    let other = process(21794, "cron").started(249_396).of_host();
    host.run(&other, &host.lines("/system.slice/cron.service"));
    first_is_gone(host, &["21794", "249396", "87982"]).fails("pid:21794", "NotFound", &["cron.service"])
}

/// F13: its number belongs to another container.
pub(crate) fn number_taken_by_a_container() -> Scene {
    let host = with_two();
    host.end(21794);
    host.run(
        &process(21794, "worker").started(249_396).child_of(21900),
        &host.lines("/docker/ID2"),
    );
    let second = container("docker", "ID2", "v1:/docker/ID2").and("v2:/docker/ID2");
    first_is_gone(host, &["21794", "249396"]).means("pid:21794", &second)
}

/// F13: a zombie, which v1 shows in the root.
pub(crate) fn zombie() -> Scene {
    let host = with_two();
    host.end(21794);
    let dead = process(21794, "sleep").state('Z', "0");
    host.run(&dead, &["6:freezer:/", "0::/docker/ID1 (deleted)"]);
    fs::remove_dir_all(host.cgroup_dir(Hierarchy::V2, "/docker/ID1")).unwrap();
    first_is_gone(host, &["21794"]).fails("pid:21794", "NotRunning", &["21794"])
}

/// F13: a zombie on v2, with its cgroup gone.
pub(crate) fn zombie_on_v2() -> Scene {
    let host = host(V2);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.end(21794);
    host.run(
        &process(21794, "sleep").state('Z', "0"),
        &["6:freezer:/", "0::/docker/ID1 (deleted)"],
    );
    fs::remove_dir_all(host.cgroup_dir(Hierarchy::V2, "/docker/ID1")).unwrap();
    Scene::of(host)
        .fails("ID1", "NotRunning", &["21794"])
        .fails("labr-d1", "NotRunning", &["21794"])
        .fails("pid:21794", "NotRunning", &["21794"])
}

/// F13: a record of before the boot, and at the same tick after it another process got the number.
pub(crate) fn before_the_boot() -> Scene {
    let host = with_two();
    host.end(21794);
    host.run(
        &process(21794, "cron").of_host(),
        &host.lines("/system.slice/cron.service"),
    );
    let record = File::options().write(true).open(host.path(RECORD)).unwrap();
    record
        .set_modified(UNIX_EPOCH + Duration::from_secs(BOOT - 3600))
        .unwrap();
    first_is_gone(host, &["ID1"]).fails("pid:21794", "NotFound", &["cron.service"])
}

/// F13: after a reboot docker's own record is all that is left, and says that it runs.
pub(crate) fn after_a_reboot() -> Scene {
    let host = with_two();
    host.end(21794);
    for path in [
        RECORD,
        "run/containerd/io.containerd.runtime.v2.task/moby/ID1/config.json",
    ] {
        fs::remove_dir_all(host.path(path).parent().unwrap()).unwrap();
    }
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        fs::remove_dir_all(host.cgroup_dir(hierarchy, "/docker/ID1")).unwrap();
    }
    let second = container("docker", "ID2", "v1:/docker/ID2").and("v2:/docker/ID2");
    Scene::of(host)
        .fails("ID1", "NotRunning", &["ID1"])
        .fails("labr-d1", "NotRunning", &["labr-d1", "ID1"])
        .means("ID2", &second)
}

/// Its first process was moved out of its cgroup by hand.
pub(crate) fn moved_away() -> Scene {
    let host = with_two();
    host.end(21794);
    host.run(&process(21794, "sleep"), &host.lines("/elsewhere"));
    // Where the record is damaged just so that it names the new place, it is right.
    let there = container("docker", "ID1", "v1:/elsewhere").and("v2:/elsewhere");
    Scene::of(host)
        .can_mean("ID1", &[&there], &["/docker/ID1", "/elsewhere"])
        .can_mean("labr-d1", &[&there], &["/docker/ID1", "/elsewhere"])
        .fails_or("pid:21794", "NotFound", &["/elsewhere"], &there)
}

/// crun's record of a dead container, and podman's name for it.
pub(crate) fn dead_crun() -> Scene {
    let host = host(V2);
    host.crun(
        "run/crun",
        "ID1",
        &process(424, "sleep").started(197_376),
        "/machine.slice/libpod-ID1.scope/container",
    );
    host.podman_names(&[("ID1", "labr-pm"), ("ID2", "labr-stopped")]);
    host.end(424);
    Scene::of(host)
        .fails("ID1", "NotRunning", &["424"])
        .fails("labr-pm", "NotRunning", &["ID1"])
        .fails("labr-stopped", "NotRunning", &["ID2"])
}

#[test]
fn a_dead_containers_record_is_no_match() {
    dead().holds();
}

#[test]
fn a_number_that_a_daemon_took_over_is_no_match() {
    number_taken().holds();
}

#[test]
fn a_number_that_another_container_took_over_is_no_match() {
    number_taken_by_a_container().holds();
}

#[test]
fn a_zombie_in_the_root_is_no_match() {
    zombie().holds();
}

#[test]
fn a_zombie_in_a_removed_cgroup_is_no_match() {
    zombie_on_v2().holds();
}

#[test]
fn a_record_from_before_the_boot_is_no_match() {
    before_the_boot().holds();
}

#[test]
fn after_a_reboot_what_docker_believes_runs_is_known_and_does_not() {
    after_a_reboot().holds();
}

#[test]
fn a_container_whose_first_process_was_moved_away_is_refused_with_both_places() {
    moved_away().holds();
}

#[test]
fn a_dead_podman_container_is_known_by_name() {
    dead_crun().holds();
}
