//! docker's containers, in both drivers and below any parent, and docker in something else.

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{host, process};
use crate::scene::{Scene, container};

/// F01. With a second container, so that there is another to be confused with.
pub(crate) fn hybrid_cgroupfs() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "nginx").started(88_004),
        "/docker/ID2",
    );
    host.run(
        &process(21901, "nginx").started(88_010).child_of(21900),
        &host.lines("/docker/ID2"),
    );
    let first = container("docker", "ID1", "v1:/docker/ID1").and("v2:/docker/ID1");
    let second = container("docker", "ID2", "v1:/docker/ID2").and("v2:/docker/ID2");
    Scene::of(host)
        .all_mean(
            &["ID1", "id:ID1", "8d9621220cb4", "8d", "id:8d9", "pid:21794"],
            &first,
        )
        .all_mean(
            &["labr-d1", "name:labr-d1", "/labr-d1", "name:/labr-d1"],
            &first.named("labr-d1"),
        )
        .all_mean(&["ID2", "2fe818c966e8", "pid:21900", "pid:21901"], &second)
        .means("labr-d2", &second.named("labr-d2"))
        .fails("labr-d3", "NotFound", &["labr-d3"])
        .fails("labr-d", "NotFound", &["labr-d"])
        .fails("8e", "NotFound", &["8e"])
        .fails("name:8d9621220cb4", "NotFound", &["8d9621220cb4"])
        .fails("id:labr-d1", "NotFound", &["labr-d1"])
        .fails("21794", "NotFound", &["21794"])
        .fails("pid:4711", "NotFound", &["4711"])
}

/// F02.
pub(crate) fn v2_cgroupfs() -> Scene {
    let host = host(V2);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "nginx").started(88_004),
        "/docker/ID2",
    );
    let first = container("docker", "ID1", "v2:/docker/ID1");
    let second = container("docker", "ID2", "v2:/docker/ID2");
    Scene::of(host)
        .all_mean(
            &["ID1", "8d96", "pid:21794", "v2:/docker/ID1", "cgroup:/docker/ID1"],
            &first,
        )
        .means("labr-d1", &first.named("labr-d1"))
        .all_mean(&["ID2", "pid:21900"], &second)
        .fails("v1:/docker/ID1", "Unsupported", &["v1"])
}

/// F03.
pub(crate) fn v2_systemd() -> Scene {
    let host = host(V2);
    host.docker(
        "ID1",
        "labr-d1",
        &process(21794, "sleep"),
        "/system.slice/docker-ID1.scope",
    );
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "nginx").started(88_004),
        "/system.slice/docker-ID2.scope",
    );
    let first = container("docker", "ID1", "v2:/system.slice/docker-ID1.scope");
    let second = container("docker", "ID2", "v2:/system.slice/docker-ID2.scope");
    Scene::of(host)
        .all_mean(
            &["ID1", "8d96", "pid:21794", "v2:/system.slice/docker-ID1.scope"],
            &first,
        )
        .means("labr-d1", &first.named("labr-d1"))
        .means("labr-d2", &second.named("labr-d2"))
}

/// Row 12 of the paths: a Swarm's task differs by its name alone.
pub(crate) fn swarm() -> Scene {
    let host = host(V2);
    let task = "web.1.x7g2k9q0p4m1n8b5v3c6z2l1k";
    host.docker("ID1", task, &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "web.2.a7g2k9q0p4m1n8b5v3c6z2l1k",
        &process(21900, "nginx").started(2),
        "/docker/ID2",
    );
    let first = container("docker", "ID1", "v2:/docker/ID1");
    Scene::of(host)
        .means(task, &first.named(task))
        .fails("web", "NotFound", &["web"])
        .fails("web.1", "NotFound", &["web.1"])
}

/// F04 (a).
pub(crate) fn absolute_parent() -> Scene {
    let host = host(Hybrid);
    host.docker("ID2", "labr-d2", &process(21900, "sleep"), "/labrparent/ID2");
    host.docker(
        "ID1",
        "labr-d1",
        &process(21794, "sleep").started(88_004),
        "/labrparent/ID1",
    );
    let second = container("docker", "ID2", "v1:/labrparent/ID2").and("v2:/labrparent/ID2");
    Scene::of(host)
        .all_mean(&["ID2", "2fe8", "pid:21900"], &second)
        .means("labr-d2", &second.named("labr-d2"))
}

/// F04 (b): the memory line shows another path, and the freezer's counts.
pub(crate) fn relative_parent() -> Scene {
    let host = host(Hybrid);
    let lines = [
        "6:freezer:/labrrel/ID2",
        "4:memory:/outer/7ccd/labrrel/ID2",
        "0::/outer/7ccd/labrrel/ID2",
    ];
    let recorded = [
        ("freezer", "/sys/fs/cgroup/freezer/labrrel/ID2"),
        ("memory", "/sys/fs/cgroup/memory/outer/7ccd/labrrel/ID2"),
        ("", "/sys/fs/cgroup/unified/outer/7ccd/labrrel/ID2"),
    ];
    let recorded = recorded.map(|(key, dir)| (key.to_owned(), dir.to_owned()));
    host.docker_at(
        "ID2",
        "labr-d2",
        &process(21900, "sleep"),
        &lines.map(str::to_owned),
        &recorded,
    );
    host.docker(
        "ID1",
        "labr-d1",
        &process(21794, "sleep").started(88_004),
        "/docker/ID1",
    );
    let second = container("docker", "ID2", "v1:/labrrel/ID2").and("v2:/outer/7ccd/labrrel/ID2");
    Scene::of(host)
        .all_mean(&["ID2", "2fe8", "pid:21900"], &second)
        .means("labr-d2", &second.named("labr-d2"))
}

/// F04 (c).
pub(crate) fn slice_parent() -> Scene {
    let host = host(V2);
    let path = "/labrtop.slice/labrtop-sub.slice/docker-ID2.scope";
    host.docker("ID2", "labr-d2", &process(21900, "sleep"), path);
    host.docker(
        "ID1",
        "labr-d1",
        &process(21794, "sleep").started(88_004),
        "/labrtop.slice/docker-ID1.scope",
    );
    let second = container("docker", "ID2", &format!("v2:{path}"));
    Scene::of(host)
        .all_mean(&["ID2", "2fe8", "pid:21900"], &second)
        .means("labr-d2", &second.named("labr-d2"))
}

/// F05: runc's record without systemd's driver, of a directory that is literally called so.
pub(crate) fn colons() -> Scene {
    let host = host(Hybrid);
    host.runc(
        "run/runc",
        "labr-sysd",
        &process(5000, "sleep"),
        "/system.slice:labr:labr-sysd",
        &[],
    );
    host.runc(
        "run/runc",
        "labr-other",
        &process(5001, "sleep").started(9),
        "/system.slice:labr:labr-other",
        &[],
    );
    let odd = container("runc", "labr-sysd", "v1:/system.slice:labr:labr-sysd")
        .and("v2:/system.slice:labr:labr-sysd");
    Scene::of(host)
        .all_mean(&["labr-sysd", "id:labr-sysd", "pid:5000"], &odd)
        .fails("labr", "NotFound", &["labr"]) // no prefix but of 64 hex digits
}

/// F15: docker in something that is mounted in another place; its record is the inner host's, and here as well.
pub(crate) fn nested_in_a_payload() -> Scene {
    let host = host(V2);
    let inner = process(216, "sleep").started(5_555);
    let there = process(1859, "sleep").started(77_001);
    host.docker("ID1", "labr-in", &inner, "/system.slice/docker-ID1.scope");
    std::fs::remove_dir_all(host.path("proc/216")).unwrap();
    std::fs::remove_dir_all(host.cgroup_dir(iceaxe::host::Hierarchy::V2, "/system.slice/docker-ID1.scope"))
        .unwrap();
    host.run(
        &process(216, "cron").started(400).of_host(),
        &host.lines("/system.slice/cron.service"),
    );
    host.run(&there, &host.lines("/payload/system.slice/docker-ID1.scope"));
    let nested = container("docker", "ID1", "v2:/payload/system.slice/docker-ID1.scope");
    Scene::of(host)
        .all_mean(
            &["pid:1859", "v2:/payload/system.slice/docker-ID1.scope"],
            &nested,
        )
        .means_at_most("ID1", &nested)
        .means_at_most("labr-in", &nested)
        .fails("pid:216", "NotFound", &["cron.service"])
}

/// F15: `--cgroup-parent /docker/ID1`.
pub(crate) fn in_anothers_cgroup() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "sleep").started(88_004),
        "/docker/ID1/ID2",
    );
    let outer = container("docker", "ID1", "v1:/docker/ID1").and("v2:/docker/ID1");
    let inner = container("docker", "ID2", "v1:/docker/ID1/ID2").and("v2:/docker/ID1/ID2");
    Scene::of(host)
        .can_mean(
            "pid:21900",
            &[&outer, &inner],
            &["ID1", "ID2", "--outer", "--inner"],
        )
        .means("pid:21900 --outer", &outer)
        .means("pid:21900 --inner", &inner)
        .means("pid:21794", &outer)
        .all_mean(&["ID1", "pid:21794 --outer", "pid:21794 --inner"], &outer)
        .means("ID2", &inner)
        .means("labr-d2", &inner.named("labr-d2"))
}

#[test]
fn a_container_is_found_by_id_prefix_name_and_process_on_a_hybrid_host() {
    hybrid_cgroupfs().holds();
}

#[test]
fn on_v2_the_root_of_the_old_freezer_is_no_answer() {
    v2_cgroupfs().holds();
}

#[test]
fn a_scope_of_systemds_driver_is_found() {
    v2_systemd().holds();
}

#[test]
fn a_task_of_a_swarm_is_found_by_its_whole_name() {
    swarm().holds();
}

#[test]
fn an_absolute_cgroup_parent_is_followed() {
    absolute_parent().holds();
}

#[test]
fn a_relative_cgroup_parent_is_that_of_the_freezer_and_not_of_memory() {
    relative_parent().holds();
}

#[test]
fn a_slice_as_cgroup_parent_is_followed() {
    slice_parent().holds();
}

#[test]
fn colons_alone_are_no_unit_of_systemd() {
    colons().holds();
}

#[test]
fn the_record_of_a_nested_docker_is_not_trusted() {
    nested_in_a_payload().holds();
}

#[test]
fn a_process_in_two_containers_is_in_neither_until_it_is_said() {
    in_anothers_cgroup().holds();
}
