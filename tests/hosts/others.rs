//! containerd without an engine, nerdctl, bare runc and crun, youki, and Kata, whose cgroups hold no container's tasks.

use std::fs;

use iceaxe::host::Hierarchy;

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{host, process};
use crate::records::youki_state;
use crate::scene::{Scene, container};

/// `ctr` in several namespaces and with cgroups of any name.
pub(crate) fn ctr() -> Scene {
    let host = host(Hybrid);
    let root = |namespace: &str| format!("run/containerd/runc/{namespace}");
    host.runc(
        &root("default"),
        "labr-c1",
        &process(4001, "sleep"),
        "/default/labr-c1",
        &[],
    );
    host.runc(
        &root("other"),
        "labr-c2",
        &process(4002, "sleep").started(2),
        "/other/labr-c2",
        &[],
    );
    host.runc(
        &root("default"),
        "labr-c3",
        &process(4003, "sleep").started(3),
        "/a/b",
        &[],
    );
    let at =
        |id: &str, path: &str| container("containerd", id, &format!("v1:{path}")).and(&format!("v2:{path}"));
    Scene::of(host)
        .all_mean(
            &["labr-c1", "id:labr-c1", "pid:4001"],
            &at("labr-c1", "/default/labr-c1"),
        )
        .all_mean(&["labr-c2", "pid:4002"], &at("labr-c2", "/other/labr-c2"))
        .all_mean(&["labr-c3", "pid:4003"], &at("labr-c3", "/a/b"))
        .fails("labr-c", "NotFound", &["labr-c"])
}

/// Two containers that were given one cgroup.
pub(crate) fn one_cgroup_for_two() -> Scene {
    let host = host(Hybrid);
    host.runc(
        "run/containerd/runc/default",
        "labr-c3",
        &process(4003, "sleep"),
        "/a/b",
        &[],
    );
    host.runc(
        "run/containerd/runc/default",
        "labr-c4",
        &process(4004, "sleep").started(4),
        "/a/b",
        &[],
    );
    // Where the other one's record is lost, nothing tells that there is another one.
    let shared = container("containerd", "", "v1:/a/b").and("v2:/a/b").without_id();
    Scene::of(host)
        .can_mean("labr-c3", &[&shared], &["labr-c3", "labr-c4", "v1:/a/b"])
        .can_mean("labr-c4", &[&shared], &["labr-c3", "labr-c4", "v1:/a/b"])
        .can_mean("pid:4003", &[&shared], &["labr-c3", "labr-c4"])
}

/// nerdctl's names, in two namespaces.
pub(crate) fn nerdctl() -> Scene {
    let host = host(Hybrid);
    let path = |id: &str, namespace: &str| format!("/{namespace}/{id}");
    for (id, namespace, pid, name) in [
        ("ID1", "default", 4100, "labr-n1"),
        ("ID2", "default", 4200, "twice"),
        ("ID3", "labr", 4300, "twice"),
    ] {
        let one = process(pid, "sleep").started(u64::try_from(pid).unwrap());
        host.runc(
            &format!("run/containerd/runc/{namespace}"),
            id,
            &one,
            &path(id, namespace),
            &[],
        )
        .file(&format!("var/lib/nerdctl/1935db59/names/{namespace}/{name}"), id)
        .dir(&format!("var/lib/nerdctl/1935db59/containers/{namespace}/{id}"));
    }
    let at = |id: &str, namespace: &str| {
        let path = path(id, namespace);
        container("containerd", id, &format!("v1:{path}"))
            .and(&format!("v2:{path}"))
            .of_whichever_runtime()
    };
    let (first, second, third) = (at("ID1", "default"), at("ID2", "default"), at("ID3", "labr"));
    Scene::of(host)
        .all_mean(&["ID1", "pid:4100"], &first)
        .all_mean(&["labr-n1", "name:labr-n1"], &first.named("labr-n1"))
        .can_mean("twice", &[&second, &third], &["id:ID2", "id:ID3"])
        .all_mean(&["ID2"], &second)
}

/// nerdctl with systemd's driver.
pub(crate) fn nerdctl_on_systemd() -> Scene {
    let host = host(V2);
    let path = "/system.slice/nerdctl-ID1.scope";
    host.runc(
        "run/containerd/runc/default",
        "ID1",
        &process(4100, "sleep"),
        path,
        &[],
    )
    .file("var/lib/nerdctl/1935db59/names/default/labr-n1", "ID1");
    let first = container("containerd", "ID1", &format!("v2:{path}")).of_whichever_runtime();
    Scene::of(host)
        .all_mean(&["ID1", "pid:4100"], &first)
        .means("labr-n1", &first.named("labr-n1"))
}

/// runc and crun by hand.
pub(crate) fn bare() -> Scene {
    let host = host(Hybrid);
    host.runc("run/runc", "web", &process(4500, "sleep"), "/labr-runc-none", &[]);
    host.runc(
        "run/runc",
        "a+b_c.d",
        &process(4501, "sleep").started(1),
        "/x/y",
        &[],
    );
    host.crun(
        "run/crun",
        "db",
        &process(4502, "sleep").started(2),
        "/labr-crun-none",
    );
    let at = |runtime: &str, id: &str, path: &str| {
        container(runtime, id, &format!("v1:{path}")).and(&format!("v2:{path}"))
    };
    Scene::of(host)
        .all_mean(
            &["web", "id:web", "pid:4500"],
            &at("runc", "web", "/labr-runc-none"),
        )
        .all_mean(&["a+b_c.d", "pid:4501"], &at("runc", "a+b_c.d", "/x/y"))
        .all_mean(&["db", "id:db", "pid:4502"], &at("crun", "db", "/labr-crun-none"))
        .fails("we", "NotFound", &["we"])
}

/// youki keeps no start time: its process's own cgroup has to bear the ID.
pub(crate) fn youki() -> Scene {
    let host = host(V2);
    for (id, pid, path) in [
        ("labr-y1", 4600, "/:youki:labr-y1"),
        ("labr-y2", 4601, "/system.slice/youki-labr-y2.scope"),
        ("labr-y3", 4602, "/elsewhere"),
    ] {
        let one = process(pid, "sleep").started(u64::try_from(pid).unwrap());
        host.run(&one, &host.lines(path))
            .file(&format!("run/youki/{id}/state.json"), &youki_state(id, pid))
            .file(
                &format!("run/youki/{id}/youki_config.json"),
                &format!(r#"{{"cgroup_path":"{path}"}}"#),
            );
    }
    let at = |id: &str, path: &str| container("youki", id, &format!("v2:{path}"));
    Scene::of(host)
        .all_mean(&["labr-y1", "pid:4600"], &at("labr-y1", "/:youki:labr-y1"))
        .all_mean(
            &["labr-y2", "pid:4601"],
            &at("labr-y2", "/system.slice/youki-labr-y2.scope"),
        )
        .means_at_most("labr-y3", &at("labr-y3", "/elsewhere"))
}

/// Kata: a virtual machine per pod, and the shim that would have to thaw it beside it.
pub(crate) fn kata() -> Scene {
    let host = host(V2);
    let pod = "/kubepods/burstable/podPOD-UID/kata_ID3";
    host.run(&process(4700, "qemu-system-x86").of_host(), &host.lines(pod))
        .run(&process(4701, "containerd-shim").of_host(), &host.lines(pod))
        .run(
            &process(4702, "virtiofsd").of_host(),
            &host.lines("/kata_overhead/ID1"),
        )
        .run(
            &process(4703, "qemu-system-x86").of_host(),
            &host.lines("/kubepods.slice/kata_overhead/ID2"),
        );
    Scene::of(host)
        .fails("pid:4700", "Unsupported", &["Kata"])
        .fails("pid:4701", "Unsupported", &["Kata"])
        .fails("pid:4702", "Unsupported", &["Kata"])
        .fails("ID3", "Unsupported", &["Kata"])
        .fails("ID1", "Unsupported", &["Kata"])
        .fails("b7d2", "Unsupported", &["Kata"])
        .refuses("ID2")
}

#[test]
fn ctrs_containers_are_found_whatever_their_cgroup_is_called() {
    ctr().holds();
}

/// Processes of it are in two cgroups beside it in v2, and beside those one of which nobody can list the tasks.
#[test]
fn a_neighbour_that_cannot_be_listed_hides_no_container() {
    let host = host(Hybrid);
    host.runc("run/runc", "web", &process(4500, "sleep"), "/a/web", &[]);
    for (pid, path) in [(4501, "/a/x"), (4502, "/a/y")] {
        host.run(
            &process(pid, "sleep").child_of(4500),
            &["6:freezer:/a/web", &format!("0::{path}")],
        );
    }
    host.run(&process(4600, "sleep"), &host.lines("/a/neighbour/inside"));
    let threads = host
        .cgroup_dir(Hierarchy::V2, "/a/neighbour/inside")
        .join("cgroup.threads");
    fs::remove_file(&threads).unwrap();
    fs::create_dir(&threads).unwrap();
    let web = ["v2:/a/web", "v2:/a/x", "v2:/a/y"]
        .iter()
        .fold(container("runc", "web", "v1:/a/web"), |web, place| web.and(place));
    Scene::of(host)
        .all_mean(&["web", "id:web", "pid:4500"], &web)
        .holds();
}

#[test]
fn a_cgroup_that_two_containers_share_means_neither() {
    one_cgroup_for_two().holds();
}

#[test]
fn nerdctls_names_are_found_and_one_in_two_namespaces_is_ambiguous() {
    nerdctl().holds();
}

#[test]
fn a_scope_of_nerdctl_is_found() {
    nerdctl_on_systemd().holds();
}

#[test]
fn bare_runtimes_containers_are_found_by_their_whole_ids() {
    bare().holds();
}

#[test]
fn youkis_containers_are_found_where_their_cgroup_proves_them() {
    youki().holds();
}

#[test]
fn katas_cgroups_are_known_and_refused() {
    kata().holds();
}
