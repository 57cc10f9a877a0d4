//! Where the host itself sets limits: another cgroup namespace, what must never be frozen, two freezers, and sources
//! of names that can't be read.

use std::fs;

use iceaxe::cgroup::Cgroup;
use iceaxe::engine::{check_safety, status};
use iceaxe::error::Force;
use iceaxe::host::Hierarchy;
use iceaxe::report::{Effective, Requested};
use iceaxe::resolver::Identity;

use crate::kit::Layout::{Hybrid, V1, V2};
use crate::kit::{MadeUp, host, process};
use crate::scene::{Expected, Scene, ask, ask_to_look, container, kind, parts, told, written};

/// F16: iceaxe is in a cgroup namespace of its own. The name of the level that the others are in is not in the text.
pub(crate) fn other_namespace() -> Scene {
    let host = host(V2);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    for pid in [1, 900, 21794] {
        let shown = match pid {
            1 => "0::/../..\n",
            900 => "0::/\n",
            _ => "0::/../ID1\n",
        };
        for path in [
            format!("proc/{pid}/cgroup"),
            format!("proc/{pid}/task/{pid}/cgroup"),
        ] {
            host.file(&path, shown);
        }
    }
    host.file(
        "proc/900/mountinfo",
        "30 25 0:26 /../.. /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    let words = ["nsenter", "--cgroupns=host"];
    // Without its record, its cgroup's own name is as good as ever.
    let there = container("docker", "ID1", "v2:/docker/ID1");
    Scene::of(host)
        .fails_or("ID1", "Unsupported", &words, &there)
        .fails_or("labr-d1", "Unsupported", &words, &there)
        .fails("pid:21794", "Unsupported", &words)
}

/// F17: nothing of this may be frozen, and `--cgroups=disabled` has no cgroup of its own.
pub(crate) fn protected() -> Scene {
    let host = host(V2);
    host.crun("run/crun", "ID1", &process(5000, "sleep"), "/");
    host.podman_names(&[("ID1", "labr-bare")]);
    for (pid, comm, path) in [
        (5001, "dockerd", "/system.slice/docker.service"),
        (5002, "containerd-shim", "/docker/ID2"),
        (5003, "sshd", "/ssh"),
    ] {
        host.run(&process(pid, comm).of_host(), &host.lines(path));
    }
    host.run(&process(5004, "sshd"), &host.lines("/docker/ID3"));
    host.run(
        &process(901, "sh").of_host(),
        &host.lines("/user.slice/user-0.slice/session-1.scope"),
    );
    Scene::of(host)
        .fails("ID1", "Unsupported", &["ID1", "5000"])
        .fails("labr-bare", "Unsupported", &["ID1"])
        .fails("pid:5000", "Unsupported", &["no cgroup of its own"])
        .fails("pid:1", "NotFound", &["/init.scope"])
        .fails("pid:5001", "NotFound", &["docker.service"])
}

/// What a freeze of a place is refused with.
#[track_caller]
fn refused(scene: &Scene, place: &str, lifted: &[Force]) -> Option<String> {
    let host = scene.host.open();
    let place = crate::kit::spelled(place);
    let (hierarchy, path) = parts(&place);
    let cgroup = Cgroup::open(&host, hierarchy, path.as_ref()).unwrap();
    let error = check_safety(&host, &cgroup, &Identity::default(), lifted).err()?;
    assert_eq!(kind(&error), "Refused", "{error}");
    Some(told(&error))
}

/// F18.
fn half_frozen(hierarchy: Hierarchy) {
    let scene = crate::docker::hybrid_cgroupfs();
    let wchan = match hierarchy {
        Hierarchy::V1 => ('D', "__refrigerator"),
        Hierarchy::V2 => ('S', "do_freezer_trap"),
    };
    fs::remove_dir_all(scene.host.path("proc/21794")).unwrap();
    let held = process(21794, "sleep").state(wchan.0, wchan.1);
    scene.host.run(&held, &scene.host.lines("/docker/ID1"));
    scene.host.frozen(hierarchy, "/docker/ID1");
    let host = scene.host.open();
    let found = ask(&host, "labr-d1").unwrap();
    let (status, _) = status(&host, &found[0].container, None).unwrap();
    assert_eq!(
        (status.requested, status.effective),
        (Some(Requested::Frozen), Some(Effective::Frozen))
    );
    let by_version: Vec<_> = status
        .cgroups
        .iter()
        .map(|cgroup| (cgroup.version, cgroup.requested))
        .collect();
    let asks = |version| match version == hierarchy.version() {
        true => Some(Requested::Frozen),
        false => Some(Requested::Thawed),
    };
    assert_eq!(by_version, [(1, asks(1)), (2, asks(2))]);
}

/// A host with a container of each kind, of which one source of names is broken by `breaking`.
fn partial(breaking: &dyn Fn(&MadeUp)) -> Scene {
    let host = host(Hybrid);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    host.docker(
        "ID2",
        "labr-d2",
        &process(21900, "sleep").started(2),
        "/docker/ID2",
    );
    host.runc(
        "run/runc",
        "ID3",
        &process(7000, "sleep").started(3),
        "/libpod_parent/libpod-ID3",
        &[],
    );
    host.podman_names(&[("ID3", "labr-pm")]);
    breaking(&host);
    let docker =
        |id: &str| container("docker", id, &format!("v1:/docker/{id}")).and(&format!("v2:/docker/{id}"));
    let third =
        container("podman", "ID3", "v1:/libpod_parent/libpod-ID3").and("v2:/libpod_parent/libpod-ID3");
    Scene::of(host)
        .all_mean(&["ID1", "id:ID1", "pid:21794"], &docker("ID1"))
        .all_mean(&["ID2", "pid:21900"], &docker("ID2"))
        .all_mean(&["ID3", "pid:7000"], &third)
}

/// A directory that even root can't open: its link names what is too long for a name.
pub(crate) fn broken(host: &MadeUp, path: &str) {
    if host.path(path).exists() {
        fs::remove_dir_all(host.path(path)).unwrap();
    }
    host.link(path, &"x".repeat(300));
}

/// The first container of a partial host, and podman's.
fn first_and_podmans() -> (Expected, Expected) {
    let first = container("docker", "ID1", "v1:/docker/ID1").and("v2:/docker/ID1");
    let podmans =
        container("podman", "ID3", "v1:/libpod_parent/libpod-ID3").and("v2:/libpod_parent/libpod-ID3");
    (first, podmans)
}

/// F20: docker's records can't be read.
pub(crate) fn without_dockers_records() -> Scene {
    let (first, podmans) = first_and_podmans();
    partial(&|host| broken(host, "var/lib/docker/containers"))
        .can_mean(
            "labr-d1",
            &[&first],
            &["not certain", "/var/lib/docker/containers"],
        )
        .can_mean("labr-pm", &[&podmans], &["not certain"])
        .can_mean("name:labr-pm", &[&podmans], &["not certain"])
        .can_mean("8d96", &[&first], &["not certain", "id:ID1"])
        .fails("none", "Ambiguous", &["not certain"])
}

/// F20: podman's store can't be read.
pub(crate) fn without_podmans_store() -> Scene {
    let (first, podmans) = first_and_podmans();
    partial(&|host| {
        let store = host.path(&format!("{}/containers.json", crate::records::STORE));
        fs::write(store, "[{\"id\":\"").unwrap();
    })
    .can_mean("labr-pm", &[&podmans], &["not certain", "containers.json"])
    .can_mean("8d96", &[&first], &["not certain", "id:ID1"])
    .means_at_most("labr-d1", &first.named("labr-d1"))
}

/// A source of root's that can have a whole ID on record, as that of a container which is stopped, is broken by `breaking`:
/// a cgroup inside another container that bears the ID need not be what is meant.
fn may_be_stopped(breaking: &dyn Fn(&MadeUp), words: &[&str]) {
    let path = "/docker/ID1/docker/ID4";
    for hierarchies in [Hybrid, V2] {
        let host = host(hierarchies);
        host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
        host.run(&process(7100, "sleep").started(4), &host.lines(path));
        let inner = match hierarchies {
            Hybrid => container("docker", "ID4", &format!("v1:{path}")).and(&format!("v2:{path}")),
            _ => container("docker", "ID4", &format!("v2:{path}")),
        };
        let mut scene = Scene::of(host).means_with_a_note("ID4", &inner, &[path]);
        scene.holds();
        breaking(&scene.host);
        scene.promises.clear();
        let at = format!("v{}:{path}", if hierarchies == Hybrid { 1 } else { 2 });
        let words = [words, &["not certain", &at]].concat();
        let scene = scene.fails("ID4", "Ambiguous", &words);
        scene.holds();
        // It can be looked at, and thawed.
        let found = ask_to_look(&scene.host.open(), crate::kit::ID4)
            .unwrap()
            .remove(0);
        assert_eq!(written(found.container.freeze_point()), crate::kit::spelled(&at));
        let notes = found.notes.join("; ");
        assert!(notes.contains(words[0]), "{notes}");
    }
}

/// F20: a runtime's records can't be listed.
pub(crate) fn without_a_root() -> Scene {
    let (first, _) = first_and_podmans();
    partial(&|host| broken(host, "run/crun"))
        .can_mean("8d96", &[&first], &["not certain", "/run/crun", "id:ID1"])
        .fails("none", "Ambiguous", &["not certain", "/run/crun"])
}

#[test]
fn a_path_out_of_the_cgroup_namespace_is_refused_with_the_way_in() {
    other_namespace().holds();
}

#[test]
fn a_container_without_a_cgroup_and_the_hosts_processes_are_no_targets() {
    protected().holds();
}

#[test]
fn what_iceaxe_or_the_host_lives_by_is_never_frozen() {
    let scene = protected();
    let all = Force::ALL;
    let session = "v2:/user.slice/user-0.slice/session-1.scope";
    for (place, lifted, words) in [
        ("v2:/", &all[..], "the root cgroup"),
        (session, &all[..], "iceaxe itself"),
        ("v2:/user.slice", &all[..], "iceaxe itself"),
        ("v2:/init.scope", &all[..], "a parent of iceaxe"),
        (
            "v2:/system.slice/docker.service",
            &[Force::NotContainer][..],
            "dockerd",
        ),
        ("v2:/system.slice", &[][..], "no container"),
        ("v2:/docker", &[Force::HostDaemon][..], "no container"),
        ("v2:/docker/ID2", &[][..], "containerd-shim"),
        ("v2:/ssh", &[][..], "sshd"),
    ] {
        let said = refused(&scene, place, lifted).unwrap_or_else(|| panic!("{place} may be frozen"));
        assert!(said.contains(words), "{place}: {said}");
    }
    assert_eq!(
        refused(&scene, "v2:/docker/ID3", &[]),
        None,
        "a container's own sshd is its own business"
    );
    assert_eq!(refused(&scene, "v2:/ssh", &[Force::HostDaemon]), None);
}

#[test]
fn a_freeze_in_v1_alone_is_seen() {
    half_frozen(Hierarchy::V1);
}

#[test]
fn a_freeze_in_v2_alone_is_seen() {
    half_frozen(Hierarchy::V2);
}

#[test]
fn without_dockers_records_only_ids_and_processes_are_certain() {
    without_dockers_records().holds();
}

#[test]
fn without_podmans_store_only_ids_and_processes_are_certain() {
    without_podmans_store().holds();
}

#[test]
fn without_a_runtimes_root_no_prefix_is_certain() {
    without_a_root().holds();
}

#[test]
fn while_dockers_records_cannot_be_read_a_whole_id_that_nobody_knows_is_not_certain() {
    may_be_stopped(
        &|host| broken(host, "var/lib/docker/containers"),
        &["/var/lib/docker/containers"],
    );
    may_be_stopped(
        &|host| {
            host.file("var/lib/docker/containers/ID4/config.v2.json", "{\"ID\":");
        },
        &["config.v2.json"],
    );
    may_be_stopped(
        &|host| {
            host.file("etc/docker/daemon.json", "{");
        },
        &["daemon.json"],
    );
}

#[test]
fn while_podmans_store_cannot_be_read_a_whole_id_that_nobody_knows_is_not_certain() {
    may_be_stopped(
        &|host| {
            host.file(&format!("{}/containers.json", crate::records::STORE), "[");
        },
        &["containers.json"],
    );
}

#[test]
fn a_hierarchy_that_is_not_there_is_said() {
    let host = host(V1);
    host.docker("ID1", "labr-d1", &process(21794, "sleep"), "/docker/ID1");
    let first = container("docker", "ID1", "v1:/docker/ID1");
    Scene::of(host)
        .all_mean(&["ID1", "cgroup:/docker/ID1"], &first)
        .means("labr-d1", &first.named("labr-d1"))
        .fails("v2:/docker/ID1", "Unsupported", &["v2"])
        .holds();
}
