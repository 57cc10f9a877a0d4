//! podman's containers, run by runc and by crun, and its pods.

use iceaxe::cgroup::Cgroup;
use iceaxe::engine::{check_safety, status};
use iceaxe::host::Hierarchy;
use iceaxe::report::{Effective, Requested};
use iceaxe::resolver::Identity;

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{host, process};
use crate::scene::{Expected, Scene, ask, container, kind, told};

const SCOPE: &str = "/machine.slice/libpod-ID1.scope";

/// F06: two containers of a pod and its infra container; ID3 is the latter's.
pub(crate) fn pod_on_cgroupfs() -> Scene {
    let host = host(Hybrid);
    let pod = "/libpod_parent/PODID";
    for (id, pid) in [("ID1", 8429), ("ID2", 8500), ("ID3", 8401)] {
        let one = process(pid, "sleep")
            .started(u64::try_from(pid).unwrap() * 3)
            .child_of(8400);
        host.runc(
            "run/runc",
            id,
            &one,
            &format!("{pod}/libpod-{id}"),
            &[("io.container.manager", "libpod")],
        );
        host.file(
            &format!("run/containers/storage/overlay-containers/{id}/userdata/pidfile"),
            &pid.to_string(),
        );
    }
    host.run(
        &process(8400, "conmon").of_host(),
        &host.lines(&format!("{pod}/conmon")),
    );
    host.podman_names(&[
        ("ID1", "labr-pm-inpod"),
        ("ID2", "labr-pm-second"),
        ("ID3", "31fc7d886c12-infra"),
    ]);
    let at = |id: &str| {
        container("podman", id, &format!("v1:{pod}/libpod-{id}")).and(&format!("v2:{pod}/libpod-{id}"))
    };
    let (first, second, infra) = (at("ID1"), at("ID2"), at("ID3"));
    Scene::of(host)
        .all_mean(&["ID1", "8d96", "pid:8429"], &first)
        .all_mean(
            &["labr-pm-inpod", "name:labr-pm-inpod"],
            &first.named("labr-pm-inpod"),
        )
        .means("ID2", &second)
        .means("labr-pm-second", &second.named("labr-pm-second"))
        .means("31fc7d886c12-infra", &infra.named("31fc7d886c12-infra"))
        .fails("pid:8400", "NotFound", &["/libpod_parent/PODID/conmon"])
        .fails("id:PODID", "NotFound", &["PODID"]) // a pod is no container
        .fails("31fc7d886c12", "NotFound", &["31fc7d886c12"])
        .fails("labr-pm", "NotFound", &["labr-pm"])
}

fn crun_scope() -> (Scene, Expected) {
    let host = host(V2);
    host.crun(
        "run/crun",
        "ID1",
        &process(424, "sleep").started(197_376),
        &format!("{SCOPE}/container"),
    );
    host.crun(
        "run/crun",
        "ID2",
        &process(500, "nginx").started(197_400),
        "/machine.slice/libpod-ID2.scope/container",
    );
    let conmon = process(420, "conmon").of_host();
    host.run(&conmon, &host.lines("/machine.slice/libpod-conmon-ID1.scope"));
    host.podman_names(&[("ID1", "labr-pm-crun"), ("ID2", "labr-pm-other")]);
    let first = container("podman", "ID1", &format!("v2:{SCOPE}/container")).and(&format!("v2:{SCOPE}"));
    (Scene::of(host), first)
}

/// F07.
pub(crate) fn crun_on_systemd() -> Scene {
    let (scene, first) = crun_scope();
    let second = container("podman", "ID2", "v2:/machine.slice/libpod-ID2.scope/container")
        .and("v2:/machine.slice/libpod-ID2.scope");
    scene
        .all_mean(&["ID1", "8d96", "pid:424"], &first)
        .means("labr-pm-crun", &first.named("labr-pm-crun"))
        .means("labr-pm-other", &second.named("labr-pm-other"))
        .fails("pid:420", "NotFound", &["libpod-conmon-ID1.scope"])
}

/// podman with runc below systemd: no level below the scope.
pub(crate) fn runc_on_systemd() -> Scene {
    let host = host(V2);
    host.runc("run/runc", "ID1", &process(424, "sleep"), SCOPE, &[]);
    host.podman_names(&[("ID1", "labr-pm-runc")]);
    let first = container("podman", "ID1", &format!("v2:{SCOPE}"));
    Scene::of(host)
        .all_mean(&["ID1", "pid:424"], &first)
        .means("labr-pm-runc", &first.named("labr-pm-runc"))
}

/// A store of the vfs driver, and the one of containers that a reboot ends.
pub(crate) fn other_stores() -> Scene {
    let host = host(Hybrid);
    for (id, pid) in [("ID1", 424), ("ID2", 500)] {
        let one = process(pid, "sleep").started(u64::try_from(pid).unwrap());
        host.runc("run/runc", id, &one, &format!("/libpod_parent/libpod-{id}"), &[]);
    }
    host.file(
        "var/lib/containers/storage/vfs-containers/containers.json",
        &crate::records::containers_json(&[("ID1", "labr-vfs")]),
    );
    host.file(
        "run/containers/storage/overlay-containers/volatile-containers.json",
        &crate::records::containers_json(&[("ID2", "labr-volatile")]),
    );
    let at = |id: &str| {
        container("podman", id, &format!("v1:/libpod_parent/libpod-{id}"))
            .and(&format!("v2:/libpod_parent/libpod-{id}"))
    };
    Scene::of(host)
        .means("labr-vfs", &at("ID1").named("labr-vfs"))
        .means_at_most("labr-volatile", &at("ID2").named("labr-volatile"))
}

#[test]
fn a_container_of_a_pod_is_found_and_the_pod_and_conmon_are_none() {
    pod_on_cgroupfs().holds();
}

#[test]
fn the_cgroup_of_all_conmons_is_never_frozen() {
    let scene = pod_on_cgroupfs();
    let host = scene.host.open();
    let path = crate::kit::spelled("/libpod_parent/PODID/conmon");
    let conmon = Cgroup::open(&host, Hierarchy::V1, path.as_ref()).unwrap();
    let error = check_safety(&host, &conmon, &Identity::default(), &[]).unwrap_err();
    assert_eq!(kind(&error), "Refused");
    assert!(told(&error).contains("conmon"), "{error}");
}

#[test]
fn crun_is_frozen_below_its_scope_where_it_would_do_it_itself() {
    crun_on_systemd().holds();
}

#[test]
fn runc_is_frozen_at_its_scope() {
    runc_on_systemd().holds();
}

#[test]
fn names_are_found_in_every_store() {
    other_stores().holds();
}

/// Freezes some levels and checks what is told of the whole.
#[track_caller]
fn frozen_at(levels: &[&str]) {
    let (scene, _) = crun_scope();
    for level in levels {
        scene.host.frozen(Hierarchy::V2, level);
    }
    let host = scene.host.open();
    let found = ask(&host, "labr-pm-crun").unwrap();
    let (status, _) = status(&host, &found[0].container, None).unwrap();
    assert_eq!(status.requested, Some(Requested::Frozen));
    assert_eq!(status.effective, Some(Effective::Frozen));
}

#[test]
fn a_freeze_by_podman_itself_is_seen() {
    frozen_at(&["/machine.slice/libpod-ID1.scope/container"]);
}

#[test]
fn a_freeze_one_level_too_high_is_seen() {
    frozen_at(&[SCOPE]);
}

#[test]
fn a_freeze_of_both_levels_is_seen() {
    frozen_at(&[SCOPE, "/machine.slice/libpod-ID1.scope/container"]);
}
