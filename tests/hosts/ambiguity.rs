//! Targets that mean more than one container, and those that only look so.

use std::fs;

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{host, process};
use crate::records::docker_config;
use crate::scene::{Expected, Scene, container};

fn docker(id: &str) -> Expected {
    container("docker", id, &format!("v1:/docker/{id}")).and(&format!("v2:/docker/{id}"))
}

/// F14: ID3 begins with b7, ID4 with b4.
pub(crate) fn two_of_one_prefix() -> Scene {
    let host = host(Hybrid);
    host.docker("ID3", "labr-three", &process(3001, "sleep"), "/docker/ID3");
    host.docker(
        "ID4",
        "labr-four",
        &process(3002, "sleep").started(2),
        "/docker/ID4",
    );
    let (third, fourth) = (docker("ID3"), docker("ID4"));
    let words = ["id:ID3", "id:ID4", "labr-three", "labr-four"];
    Scene::of(host)
        .can_mean("b", &[&third, &fourth], &words)
        .can_mean("id:b", &[&third, &fourth], &words)
        .all_mean(&["b7", "b7d20c5a1f6e", "id:b7"], &third)
        .all_mean(&["b4", "id:b46"], &fourth)
        .fails("name:b", "NotFound", &["b"])
}

/// F14: a prefix of a running and of a dead container is the running one's.
pub(crate) fn one_of_two_is_dead() -> Scene {
    let host = host(Hybrid);
    host.docker("ID3", "labr-three", &process(3001, "sleep"), "/docker/ID3");
    host.docker(
        "ID4",
        "labr-four",
        &process(3002, "sleep").started(2),
        "/docker/ID4",
    );
    host.end(3002);
    Scene::of(host)
        .all_mean(&["b", "b7"], &docker("ID3"))
        .fails("b4", "NotRunning", &["3002"])
}

/// F14: ID2 is called by what is ID1's short ID, then by its beginning.
pub(crate) fn name_that_is_a_prefix(name: &str) -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker("ID2", name, &process(21900, "sleep").started(2), "/docker/ID2");
    let (first, second) = (docker("ID1"), docker("ID2"));
    let scene = Scene::of(host)
        .means(&format!("name:{name}"), &second.named(name))
        .means(&format!("id:{name}"), &first)
        .all_mean(&["ID1", "8d9621220cb", "8d9621220cb4d"], &first)
        .means("labr-d1", &first.named("labr-d1"));
    match name.len() {
        12.. => scene.can_mean(name, &[&first, &second], &["id:ID1", "id:ID2"]),
        _ => scene.means_rather_than(name, &second.named(name), &first),
    }
}

/// F14: ID2 is called by ID1's whole ID.
pub(crate) fn name_that_is_an_id() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker("ID2", "ID1", &process(21900, "sleep").started(2), "/docker/ID2");
    Scene::of(host)
        .all_mean(&["ID1", "id:ID1"], &docker("ID1"))
        .means("name:ID1", &docker("ID2").named("ID1"))
}

/// F14: digits are a name or an ID, never a process.
pub(crate) fn digits() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "12", &process(21794, "sleep"), "/docker/ID1");
    host.docker("ID2", "labr-d2", &process(12, "nginx").started(2), "/docker/ID2");
    let (first, second) = (docker("ID1"), docker("ID2"));
    Scene::of(host)
        .all_mean(&["12", "name:12"], &first.named("12"))
        .means("pid:12", &second)
        .all_mean(&["8"], &first)
        .fails("21794", "NotFound", &["21794"])
}

/// F14: containerd lets one ID exist in each namespace.
pub(crate) fn one_id_in_three_namespaces() -> Scene {
    let host = host(Hybrid);
    let mut each = Vec::new();
    for (namespace, pid) in [("default", 4001), ("k8s.io", 4002), ("moby", 4003)] {
        let one = process(pid, "sleep").started(u64::try_from(pid).unwrap());
        let path = format!("/{namespace}/labr-x");
        host.runc(
            &format!("run/containerd/runc/{namespace}"),
            "labr-x",
            &one,
            &path,
            &[],
        );
        each.push(container("containerd", "labr-x", &format!("v1:{path}")).and(&format!("v2:{path}")));
    }
    let words = ["v1:/default/labr-x", "v1:/k8s.io/labr-x", "v1:/moby/labr-x"];
    let all: Vec<&Expected> = each.iter().collect();
    Scene::of(host)
        .can_mean("labr-x", &all, &words)
        .can_mean("id:labr-x", &all, &words)
        .means("pid:4001", &each[0])
        .means("pid:4002", &each[1])
}

/// F14: two dockers gave one name. The second one's data root shows in what its container's files are mounted from.
pub(crate) fn two_data_roots() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "web", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "sleep").started(2),
        "/docker/ID2",
    );
    second_data_root(&host, "ID2");
    host.file(
        "srv/docker2/containers/ID2/config.v2.json",
        &docker_config("ID2", "/web", &process(21900, "sleep")),
    );
    let (first, second) = (docker("ID1"), docker("ID2"));
    Scene::of(host)
        .can_mean("web", &[&first, &second], &["id:ID1", "id:ID2"])
        .can_mean("name:web", &[&first, &second], &["id:ID1", "id:ID2"])
        .means("ID1", &first)
        .means("ID2", &second)
}

/// The same, and one of the two does not run.
pub(crate) fn two_data_roots_and_one_is_dead() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "web", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "sleep").started(2),
        "/docker/ID2",
    );
    second_data_root(&host, "ID2");
    host.file(
        "srv/docker2/containers/ID2/config.v2.json",
        &docker_config("ID2", "/web", &process(21900, "sleep")),
    );
    host.end(21794);
    Scene::of(host).means("web", &docker("ID2").named("web"))
}

/// Moves docker's record of a container to another data root.
fn second_data_root(host: &crate::kit::MadeUp, id: &str) {
    let state = host.path(&format!("run/docker/runtime-runc/moby/{id}/state.json"));
    let text = fs::read_to_string(&state).unwrap();
    let source = crate::kit::spelled(&format!("/srv/docker2/containers/{id}/hosts"));
    let mounted = format!(r#""mounts":[{{"source":"{source}"}}]"#);
    assert!(text.contains(r#""mounts":[]"#));
    fs::write(&state, text.replace(r#""mounts":[]"#, &mounted)).unwrap();
    fs::remove_dir_all(host.path(&format!("var/lib/docker/containers/{id}"))).unwrap();
}

/// F14: podman's container is runc's too.
pub(crate) fn found_twice() -> Scene {
    let host = host(Hybrid);
    let path = "/libpod_parent/libpod-ID1";
    let one = process(7000, "sleep");
    host.runc("run/runc", "ID1", &one, path, &[]);
    host.podman_names(&[("ID1", "labr-pm")]);
    host.file(
        "run/crun/ID1/status",
        &crate::records::crun_status("ID1", &one, path, ""),
    );
    let first = container("podman", "ID1", &format!("v1:{path}")).and(&format!("v2:{path}"));
    Scene::of(host)
        .all_mean(&["ID1", "8d96", "pid:7000"], &first)
        .means("labr-pm", &first.named("labr-pm"))
}

/// One name with two runtimes, and an ID that is a name.
pub(crate) fn one_name_twice() -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "web", &process(21794, "sleep"), "/docker/ID1");
    host.docker("ID2", "db", &process(21900, "sleep").started(2), "/docker/ID2");
    let podmans = "/libpod_parent/libpod-ID3";
    host.runc(
        "run/runc",
        "ID3",
        &process(7000, "sleep").started(3),
        podmans,
        &[],
    );
    host.podman_names(&[("ID3", "web")]);
    host.runc("run/runc", "db", &process(7001, "sleep").started(4), "/db", &[]);
    let third = container("podman", "ID3", &format!("v1:{podmans}")).and(&format!("v2:{podmans}"));
    let bare = container("runc", "db", "v1:/db").and("v2:/db");
    Scene::of(host)
        .can_mean("web", &[&docker("ID1"), &third], &["id:ID1", "id:ID3"])
        .can_mean("name:web", &[&docker("ID1"), &third], &["id:ID1", "id:ID3"])
        .means_rather_than("db", &bare, &docker("ID2"))
        .means("id:db", &bare)
        .means("name:db", &docker("ID2").named("db"))
}

/// A cgroup that is in both hierarchies with different tasks.
pub(crate) fn one_path_twice() -> Scene {
    let host = host(Hybrid);
    host.run(&process(7000, "a"), &["6:freezer:/same", "0::/x"]);
    host.run(&process(7001, "b"), &["6:freezer:/y", "0::/same"]);
    let plain = |place: &str| container("", "", place).of_whichever_runtime().without_id();
    Scene::of(host)
        .fails("cgroup:/same", "Ambiguous", &["v1:/same", "v2:/same"])
        .means("v1:/same", &plain("v1:/same").and("v2:/x"))
        .means("v2:/same", &plain("v2:/same").and("v1:/y"))
        .fails("cgroup:/none", "NotFound", &["/none"])
}

/// Several hosts of docker in docker.
pub(crate) fn docker_in_docker() -> Scene {
    let host = host(V2);
    host.docker("ID1", "outer", &process(21794, "dockerd"), "/docker/ID1");
    host.run(
        &process(21900, "sleep").started(2),
        &host.lines("/docker/ID1/docker/ID2"),
    );
    host.run(
        &process(22000, "sleep").started(3),
        &host.lines("/docker/ID1/docker/ID2/docker/ID3"),
    );
    let outer = container("docker", "ID1", "v2:/docker/ID1");
    let middle = container("docker", "ID2", "v2:/docker/ID1/docker/ID2");
    let inner = container("docker", "ID3", "v2:/docker/ID1/docker/ID2/docker/ID3");
    Scene::of(host)
        .means("pid:21794", &outer)
        .can_mean("pid:21900", &[&outer, &middle], &["ID1", "ID2"])
        .can_mean("pid:22000", &[&outer, &middle, &inner], &["ID1", "ID2", "ID3"])
        .means("pid:22000 --outer", &outer)
        .means("pid:22000 --inner", &inner)
        .means("ID2", &middle)
        .can_mean("2fe8", &[&middle], &["v2:/docker/ID1/docker/ID2"])
        .means("ID3", &inner)
        .means("outer", &outer.named("outer"))
}

#[test]
fn a_prefix_of_two_ids_is_ambiguous_with_both_named() {
    two_of_one_prefix().holds();
}

#[test]
fn a_prefix_of_a_dead_containers_id_hides_nothing() {
    one_of_two_is_dead().holds();
}

#[test]
fn a_name_that_is_anothers_short_id_is_ambiguous() {
    name_that_is_a_prefix("8d9621220cb4").holds();
}

#[test]
fn a_name_that_is_less_than_a_short_id_is_a_name_with_a_note() {
    name_that_is_a_prefix("8d96").holds();
}

#[test]
fn a_whole_id_is_never_a_name() {
    name_that_is_an_id().holds();
}

#[test]
fn digits_are_never_a_process() {
    digits().holds();
}

#[test]
fn one_id_in_three_namespaces_is_ambiguous() {
    one_id_in_three_namespaces().holds();
}

#[test]
fn one_name_in_two_data_roots_is_ambiguous() {
    two_data_roots().holds();
}

#[test]
fn of_two_data_roots_the_running_container_is_meant() {
    two_data_roots_and_one_is_dead().holds();
}

#[test]
fn a_container_on_record_with_three_runtimes_is_one() {
    found_twice().holds();
}

#[test]
fn one_name_with_two_engines_is_ambiguous_and_an_id_goes_before_a_name() {
    one_name_twice().holds();
}

#[test]
fn one_path_in_two_hierarchies_is_ambiguous_where_the_tasks_differ() {
    one_path_twice().holds();
}

#[test]
fn of_nested_containers_each_is_found_by_its_id() {
    docker_in_docker().holds();
}
