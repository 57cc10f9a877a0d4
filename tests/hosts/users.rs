//! Containers of users. What is on record of them is their users' own word: it may name what is theirs and nothing
//! else. Each of these needs root, which alone can make another user's files.

use crate::kit::Layout::V2;
use crate::kit::{MadeUp, Process, host, process};
use crate::records::{crun_status, runc_state};
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
        .all_mean(&["ID1", "8d96", "pid:3000"], &first)
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
