//! Containers of users. What is on record of them is their users' own word: it may name what is theirs and nothing
//! else. Each of these needs root, which alone can make another user's files.

use crate::kit::Layout::V2;
use crate::kit::{MadeUp, Process, host, process};
use crate::records::{crun_status, docker_config, runc_state};
use crate::scene::{Expected, Scene, container};

const USER: u32 = 1555;
const SERVICE: &str = "/user.slice/user-1555.slice/user@1555.service";

/// A host with a container of user 1555, one of root and an sshd.
fn shared() -> (MadeUp, Expected, Expected) {
    let host = host(V2);
    let path = format!("{SERVICE}/user.slice/libpod-ID1.scope/container");
    host.crun("run/user/1555/crun", "ID1", &users(3000), &path);
    host.docker(
        "ID2",
        "labr-root",
        &process(21900, "nginx").started(88_004),
        "/docker/ID2",
    );
    host.run(
        &process(700, "sshd").of_host(),
        &host.lines("/system.slice/ssh.service"),
    );
    let first = container("podman", "ID1", &format!("v2:{path}"))
        .and(&format!("v2:{SERVICE}/user.slice/libpod-ID1.scope"));
    (host, first, container("docker", "ID2", "v2:/docker/ID2"))
}

fn users(pid: i32) -> Process {
    process(pid, "sleep")
        .started(u64::try_from(pid).unwrap() * 7)
        .of_user(USER)
}

/// Gives the user what is the user's.
fn given(host: &MadeUp) {
    host.give_to("run/user/1555", USER);
    let theirs = host.cgroup_dir(iceaxe::host::Hierarchy::V2, SERVICE);
    host.give_to(theirs.strip_prefix(host.root()).unwrap().to_str().unwrap(), USER);
}

/// F08.
pub(crate) fn rootless() -> Scene {
    let (host, first, root) = shared();
    given(&host);
    Scene::of(host)
        .all_mean(&["ID1", "pid:3000", "user:1555/ID1", "user:1555/8d96"], &first)
        .can_mean("8d96", &[&first], &["/user.slice/libpod-ID1.scope"])
        .all_mean(&["ID2", "2f", "pid:21900"], &root)
        .means("labr-root", &root.named("labr-root"))
}

/// F08: the user's records name what is not the user's.
pub(crate) fn evil() -> Scene {
    let (host, first, root) = shared();
    let sshd = process(700, "sshd");
    let theirs = users(3000);
    let status = |id: &str, process: &Process, path: &str| {
        host.file(
            &format!("run/user/1555/crun/{id}/status"),
            &crun_status(id, process, path, ""),
        );
    };
    status("to-ssh", &sshd, "/system.slice/ssh.service");
    status("to-ssh-by-own-pid", &theirs, "/system.slice/ssh.service");
    status(
        "climbing",
        &theirs,
        &format!("{SERVICE}/../../../system.slice/ssh.service"),
    );
    status("to-root", &process(21900, "nginx").started(88_004), "/docker/ID2");
    status("to-everything", &theirs, "/");
    status("to-all-users", &theirs, "/user.slice");
    status("to-own-slice", &theirs, "/user.slice/user-1555.slice");
    // In the very name of root's container, and of none.
    status(
        "ID2",
        &theirs,
        &format!("{SERVICE}/user.slice/libpod-ID1.scope/container"),
    );
    status("ID4", &sshd, "/system.slice/ssh.service");
    // What root's container is called: in a record that contradicts itself, and in one that can't be read.
    status("labr-root", &theirs, "/docker/ID2");
    host.file("run/user/1555/runc/labr-root/state.json", "{\"id\":");
    host.dir("run/user/1555/crun/fifo")
        .fifo("run/user/1555/crun/fifo/status");
    host.dir("run/user/1555/crun/fifo-too")
        .fifo("run/user/1555/crun/fifo-too/state.json");
    host.dir("run/user/1555/crun/linked")
        .link("run/user/1555/crun/linked/status", "/etc/shadow");
    host.link(
        "run/user/1555/crun/roots-own",
        "../../../docker/runtime-runc/moby/ID2",
    );
    let dirs = [(
        String::new(),
        "/sys/fs/cgroup/system.slice/ssh.service".to_owned(),
    )];
    host.file(
        "run/user/1555/runc/runc-to-ssh/state.json",
        &runc_state("runc-to-ssh", &sshd, &dirs, &[]),
    );
    given(&host);
    let mut scene = Scene::of(host)
        .all_mean(&["ID1", "pid:3000"], &first)
        .means("labr-root", &root.named("labr-root"))
        .all_mean(&["ID2", "2fe818c966e8", "pid:21900"], &root);
    for id in [
        "to-ssh",
        "to-ssh-by-own-pid",
        "climbing",
        "to-root",
        "to-everything",
        "to-all-users",
        "to-own-slice",
        "fifo",
        "fifo-too",
        "linked",
        "roots-own",
        "runc-to-ssh",
        "ID4",
    ] {
        scene = scene.refuses_or(id, &[&first]);
    }
    scene.fails("pid:700", "NotFound", &["ssh.service"])
}

#[test]
fn a_users_container_is_found() {
    rootless().holds();
}

#[test]
fn a_users_record_can_name_nothing_that_is_not_the_users() {
    evil().holds();
}

/// A container of root's that is called as a user calls one of theirs, rightly.
#[test]
fn a_users_container_that_bears_the_name_of_roots_is_not_taken_for_it() {
    let (host, _, root) = shared();
    let path = format!("{SERVICE}/user.slice/theirs");
    host.crun("run/user/1555/crun", "labr-root", &users(3100), &path);
    given(&host);
    let theirs = container("crun", "labr-root", &format!("v2:{path}"));
    Scene::of(host)
        .all_mean(&["labr-root", "name:labr-root"], &root.named("labr-root"))
        .can_mean("id:labr-root", &[], &["user:1555/labr-root"])
        .all_mean(&["user:1555/labr-root", "pid:3100"], &theirs)
        .holds();
}

/// A user's record says that root's docker keeps its names where the user does.
#[test]
fn a_user_gives_roots_containers_no_names() {
    let (host, _, root) = shared();
    let path = format!("{SERVICE}/user.slice/docker-ID3.scope");
    let theirs = users(3200);
    let dirs = [(String::new(), format!("/sys/fs/cgroup{path}"))];
    let state = runc_state("ID3", &theirs, &dirs, &[]).replace(
        "\"mounts\":[]",
        "\"mounts\":[{\"source\":\"/home/u/d/containers/ID3/hosts\"}]",
    );
    assert!(state.contains("/home/u/d"), "{state}");
    host.run(&theirs, &host.lines(&path))
        .file("run/user/1555/docker/runtime-runc/moby/ID3/state.json", &state);
    let named = docker_config("ID2", "/test", &process(21900, "nginx"));
    host.file("home/u/d/containers/ID2/config.v2.json", &named);
    given(&host);
    Scene::of(host)
        .fails("test", "NotFound", &["test"])
        .fails("name:test", "NotFound", &["test"])
        .means("labr-root", &root.named("labr-root"))
        .holds();
}

/// A user's container says that it is in root's pod.
#[test]
fn a_user_puts_no_container_into_roots_pod() {
    let (host, _, _) = shared();
    let cri = |name: &'static str| {
        [
            ("io.kubernetes.cri.sandbox-namespace", "prod"),
            ("io.kubernetes.cri.sandbox-name", "web-0"),
            ("io.kubernetes.cri.container-type", "container"),
            ("io.kubernetes.cri.container-name", name),
        ]
    };
    let app = process(3300, "app").started(5);
    host.runc(
        "run/containerd/runc/k8s.io",
        "ID3",
        &app,
        "/kubepods/podPOD-UID/ID3",
        &cri("app"),
    );
    let path = format!("{SERVICE}/user.slice/theirs");
    let theirs = users(3400);
    host.runc("run/user/1555/runc", "theirs", &theirs, &path, &cri("side"));
    given(&host);
    let app = container("containerd", "ID3", "v2:/kubepods/podPOD-UID/ID3");
    Scene::of(host)
        .means("prod/web-0", &app.named("app"))
        .fails("prod/web-0/side", "NotFound", &["side"])
        .holds();
}

/// Two containers have one cgroup on record, and one of them ended.
#[test]
fn a_record_that_is_over_keeps_no_process_from_its_container() {
    let (host, _, _) = shared();
    let live = process(3500, "app").started(6);
    host.runc("run/runc", "web", &live, "/labr/x", &[]);
    let state = runc_state(
        "zweb",
        &process(3600, "app").started(7),
        &host.recorded("/labr/x"),
        &[],
    );
    host.file("run/runc/zweb/state.json", &state);
    let web = container("runc", "web", "v2:/labr/x");
    Scene::of(host)
        .all_mean(&["web", "pid:3500"], &web)
        .fails("zweb", "NotRunning", &["zweb"])
        .holds();
}
