//! Kubernetes: pods by the kubelet's links and by annotations, on each runtime and with both of the kubelet's drivers.
//! ID1 is the application, ID2 its side-car, ID3 the sandbox, ID4 an earlier run of the application.

use iceaxe::engine::check_safety;
use iceaxe::error::Force;

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{MadeUp, host, process};
use crate::records::{STORE, spec};
use crate::scene::{Expected, Scene, ask, container, kind};

const SLICE: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podPOD_UID.slice";

/// containerd's annotations of a container of the pod.
fn cri<'a>(namespace: &'a str, pod: &'a str, name: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut annotations = vec![
        ("io.kubernetes.cri.sandbox-id", "ID3"),
        ("io.kubernetes.cri.sandbox-name", pod),
        ("io.kubernetes.cri.sandbox-namespace", namespace),
        ("io.kubernetes.cri.sandbox-uid", "POD-UID"),
    ];
    match name {
        "" => annotations.push(("io.kubernetes.cri.container-type", "sandbox")),
        name => annotations.extend([
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.container-name", name),
        ]),
    }
    annotations
}

/// The pod prod/web-0 on containerd, where `path` says what the cgroup of a container is; ID4 is another pod's.
fn pod(host: &MadeUp, path: &dyn Fn(&str) -> String) {
    for (id, name, pid) in [("ID1", "app", 3100), ("ID2", "side", 3200), ("ID3", "", 3000)] {
        let one = process(pid, "app").started(u64::try_from(pid).unwrap() * 2);
        host.runc(
            "run/containerd/runc/k8s.io",
            id,
            &one,
            &path(id),
            &cri("prod", "web-0", name),
        );
        let bundle = format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
        host.file(
            &format!("{bundle}/config.json"),
            &spec(&path(id), &cri("prod", "web-0", name)),
        )
        .fifo(&format!("{bundle}/log"));
    }
}

fn links(host: &MadeUp) {
    host.log_link("web-0", "prod", "app", "ID1")
        .log_link("web-0", "prod", "side", "ID2")
        .log_link("web-0", "prod", "app", "ID4");
}

fn promised(host: MadeUp, app: &Expected, side: &Expected, sandbox: &Expected) -> Scene {
    Scene::of(host)
        .all_mean(
            &["ID1", "8d96", "pid:3100", "prod/web-0/app", "pod:prod/web-0/app"],
            app,
        )
        .all_mean(&["ID2", "pid:3200", "prod/web-0/side"], side)
        .means_each("prod/web-0", &[app, side])
        .means_each("pod:prod/web-0", &[app, side])
        .all_mean(&["ID3", "pid:3000"], &sandbox.clone().sandbox())
        .fails("prod/web-0/none", "NotFound", &["none"])
        .fails("prod/web-1", "NotFound", &["web-1"])
        .fails("prod/web", "NotFound", &["prod/web"])
        .fails("test/web-0", "NotFound", &["test/web-0"])
        .fails("pod:test/web-0/app", "NotFound", &["test/web-0"])
}

/// F09 (a).
pub(crate) fn cgroupfs() -> Scene {
    let host = host(Hybrid);
    let path = |id: &str| format!("/kubepods/burstable/podPOD-UID/{id}");
    pod(&host, &path);
    links(&host);
    let at =
        |id: &str| container("containerd", id, &format!("v1:{}", path(id))).and(&format!("v2:{}", path(id)));
    promised(host, &at("ID1"), &at("ID2"), &at("ID3"))
}

/// F09 (b).
pub(crate) fn systemd() -> Scene {
    let host = host(V2);
    let path = |id: &str| format!("{SLICE}/cri-containerd-{id}.scope");
    pod(&host, &path);
    links(&host);
    let at = |id: &str| container("containerd", id, &format!("v2:{}", path(id)));
    promised(host, &at("ID1"), &at("ID2"), &at("ID3"))
}

/// F09 (c): a guaranteed pod has no level for its quality of service.
pub(crate) fn guaranteed() -> Scene {
    let host = host(V2);
    let path = |id: &str| format!("/kubepods.slice/kubepods-podPOD_UID.slice/cri-containerd-{id}.scope");
    pod(&host, &path);
    links(&host);
    let at = |id: &str| container("containerd", id, &format!("v2:{}", path(id)));
    promised(host, &at("ID1"), &at("ID2"), &at("ID3"))
}

/// F09 without the kubelet's links.
pub(crate) fn by_annotations_alone() -> Scene {
    let host = host(V2);
    let path = |id: &str| format!("{SLICE}/cri-containerd-{id}.scope");
    pod(&host, &path);
    let at = |id: &str| container("containerd", id, &format!("v2:{}", path(id)));
    promised(host, &at("ID1"), &at("ID2"), &at("ID3"))
}

/// F09 (d): CRI-O, whose sandbox is an empty cgroup.
pub(crate) fn crio() -> Scene {
    let host = host(V2);
    for (id, name, pid) in [("ID1", "app", 3100), ("ID2", "side", 3200)] {
        let one = process(pid, "app")
            .started(u64::try_from(pid).unwrap() * 2)
            .child_of(3090);
        let path = format!("{SLICE}/crio-{id}.scope/container");
        let annotations = [
            ("io.kubernetes.cri-o.ContainerType", "container"),
            ("io.kubernetes.cri-o.KubeName", "web-0"),
            ("io.kubernetes.cri-o.Namespace", "prod"),
            ("io.kubernetes.cri-o.ContainerName", name),
            ("io.kubernetes.cri-o.SandboxID", "ID3"),
            ("io.kubernetes.pod.name", "web-0"),
            ("io.kubernetes.pod.namespace", "prod"),
            ("io.kubernetes.container.name", name),
        ];
        host.crun("run/crun", id, &one, &path)
            .file(&format!("run/crun/{id}/config.json"), &spec(&path, &annotations))
            .file(
                &format!("{STORE}/{id}/userdata/config.json"),
                &spec(&path, &annotations),
            );
    }
    host.run(
        &process(3090, "conmon").of_host(),
        &host.lines(&format!("{SLICE}/crio-conmon-ID1.scope")),
    );
    host.cgroup(iceaxe::host::Hierarchy::V2, &format!("{SLICE}/crio-ID3"));
    links(&host);
    host.file(
        &format!("{STORE}/containers.json"),
        &crate::records::containers_json(&[
            ("ID1", "k8s_app_web-0_prod_POD-UID_0"),
            ("ID3", "k8s_POD_web-0_prod_POD-UID_0"),
        ]),
    );
    let at = |id: &str| {
        let scope = format!("v2:{SLICE}/crio-{id}.scope");
        container("cri-o", id, &format!("{scope}/container")).and(&scope)
    };
    let (app, side) = (at("ID1"), at("ID2"));
    Scene::of(host)
        .all_mean(&["ID1", "8d96", "pid:3100", "prod/web-0/app"], &app)
        .means("prod/web-0/side", &side)
        .means_each("prod/web-0", &[&app, &side])
        .means(
            "k8s_app_web-0_prod_POD-UID_0",
            &app.named("k8s_app_web-0_prod_POD-UID_0"),
        )
        .fails("ID3", "NotRunning", &["ID3"])
        .fails("pid:3090", "NotFound", &["crio-conmon-ID1.scope"])
}

/// cri-dockerd: docker's containers in the pod's slice, with the kubelet's links and names that say it all.
pub(crate) fn cri_dockerd() -> Scene {
    let host = host(V2);
    let path = |id: &str| format!("{SLICE}/docker-{id}.scope");
    let name = "k8s_app_web-0_prod_POD-UID_0";
    host.docker("ID1", name, &process(3100, "app"), &path("ID1"));
    host.docker(
        "ID3",
        "k8s_POD_web-0_prod_POD-UID_0",
        &process(3000, "pause").started(5),
        &path("ID3"),
    );
    host.log_link("web-0", "prod", "app", "ID1");
    let app = container("docker", "ID1", &format!("v2:{}", path("ID1")));
    Scene::of(host)
        .all_mean(&["ID1", "pid:3100", "prod/web-0", "prod/web-0/app"], &app)
        .means(name, &app.named(name))
        .fails("prod/web-0/POD", "NotFound", &["web-0"])
}

/// A pod with a name so long that its links lack the end of the ID.
pub(crate) fn long_names() -> Scene {
    let host = host(V2);
    let path = |id: &str| format!("{SLICE}/cri-containerd-{id}.scope");
    let long = "w".repeat(200);
    for (id, pid) in [("ID1", 3100), ("ID2", 3200)] {
        let one = process(pid, "app").started(u64::try_from(pid).unwrap());
        host.runc("run/containerd/runc/k8s.io", id, &one, &path(id), &[]);
    }
    // The ID is cut after 255 - 200 - "_prod_app-".len() = 45 digits, and after 5.
    host.log_link(&long, "prod", "app", "ID1");
    let longer = "w".repeat(240);
    host.log_link(&longer, "prod", "app", "ID2");
    let at = |id: &str| container("containerd", id, &format!("v2:{}", path(id)));
    Scene::of(host)
        .means(&format!("prod/{long}/app"), &at("ID1"))
        .means(&format!("prod/{long}"), &at("ID1"))
        .means_at_most(&format!("prod/{longer}"), &at("ID2"))
}

#[test]
fn a_pod_means_its_applications_and_never_its_sandbox() {
    cgroupfs().holds();
}

#[test]
fn a_pod_of_systemds_driver_is_found() {
    systemd().holds();
}

#[test]
fn a_guaranteed_pod_is_found() {
    guaranteed().holds();
}

#[test]
fn a_pod_is_found_by_annotations_where_the_kubelet_left_no_links() {
    by_annotations_alone().holds();
}

#[test]
fn a_pod_of_cri_o_is_found_and_its_empty_sandbox_does_not_run() {
    crio().holds();
}

#[test]
fn a_pod_of_cri_dockerd_is_found() {
    cri_dockerd().holds();
}

#[test]
fn a_link_that_lacks_the_end_of_the_id_still_means_its_container() {
    long_names().holds();
}

#[test]
fn a_sandbox_alone_is_frozen_only_by_force() {
    let scene = cgroupfs();
    let host = scene.host.open();
    let found = ask(&host, "id:b7d20c5a1f6e").unwrap();
    let sandbox = &found[0].container;
    let check = |lifted: &[Force]| check_safety(&host, sandbox.freeze_point(), &sandbox.identity, lifted);
    assert_eq!(kind(&check(&[]).unwrap_err()), "Refused");
    check(&[Force::Sandbox]).unwrap();
}
