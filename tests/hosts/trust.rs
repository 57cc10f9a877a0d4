//! Whose word a cgroup's name is: root's where root alone can make cgroups, and nobody else's anywhere. A record of
//! root's engines counts wherever the cgroup is.

use std::fs::{self, Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use iceaxe::Error;
use iceaxe::host::Hierarchy;

use crate::kit::Layout::{Hybrid, V2};
use crate::kit::{MadeUp, host, process, spelled};
use crate::records::youki_state;
use crate::scene::{Expected, Scene, ask, container};

const USER: u32 = 1555;
/// Who is root in a user namespace, as the host has it.
const MAPPED: u32 = 100_000;
/// Who has no number in a user namespace.
const NOBODY: u32 = 65_534;

/// A prefix of an ID as docker prints it.
fn short(id: &str) -> String {
    spelled(id)[..12].to_owned()
}

/// What root's docker runs at the usual place, under this name.
fn docker(host: &MadeUp, id: &str, name: &str, pid: i32) -> Expected {
    let path = format!("/docker/{id}");
    let start = u64::try_from(pid).unwrap() * 3;
    host.docker(id, name, &process(pid, "app").started(start), &path);
    container("docker", id, &format!("v2:{path}"))
}

/// Somebody at a path, the first of their PID namespace.
fn somebody(host: &MadeUp, pid: i32, path: &str) {
    let start = u64::try_from(pid).unwrap() * 5;
    host.run(&process(pid, "app").started(start), &host.lines(path));
}

/// Gives one cgroup to somebody, and none below it.
fn give(host: &MadeUp, path: &str, uid: u32) {
    chown(host.cgroup_dir(Hierarchy::V2, path), Some(uid), Some(uid)).unwrap();
}

/// Every pattern by which a name could be told, below a path.
fn namesakes(host: &MadeUp, path: &str, name: &str) {
    let patterns = [
        ":youki:NAME",
        "youki-NAME.scope",
        "crun-NAME.scope",
        "runc-NAME.scope",
        "NAME",
        "lxc.payload.NAME",
        "lxc.payload.NAME-1",
        "machine-NAME.scope",
    ];
    for (number, pattern) in (0..).zip(patterns) {
        somebody(
            host,
            5000 + number,
            &format!("{path}/{}", pattern.replace("NAME", name)),
        );
    }
}

/// What somebody else than root calls cgroups below `path`, who is `owner`.
fn decoys_below(path: &str, owner: Option<u32>) -> Scene {
    let host = host(V2);
    let outer = docker(&host, "ID1", "outer", 3000);
    let web = docker(&host, "ID2", "web", 3100);
    namesakes(&host, path, "web");
    namesakes(&host, &format!("{path}/more"), "nobody");
    for (pid, id) in [
        (5100, "docker/ID2"),
        (5101, "docker-ID2.scope"),
        (5102, "libpod-ID3"),
    ] {
        somebody(&host, pid, &format!("{path}/{id}"));
    }
    if let Some(owner) = owner {
        give(&host, path, owner);
    }
    let alone = container("podman", "ID3", &format!("v2:{path}/libpod-ID3"));
    Scene::of(host)
        .means("outer", &outer.named("outer"))
        .all_mean(&["web", "name:web"], &web.named("web"))
        .all_mean(&["ID2", "id:ID2", &short("ID2"), "2fe8"], &web)
        .refuses("nobody")
        .refuses("name:nobody")
        .refuses("id:nobody")
        .means_with_a_note("ID3", &alone, &["libpod-ID3"])
        .refuses(&short("ID3"))
}

/// Inside a container.
pub(crate) fn inside_another() -> Scene {
    decoys_below("/docker/ID1", None)
}

/// In a cgroup of a user's.
pub(crate) fn given_away() -> Scene {
    decoys_below("/users/u1555", Some(USER))
}

#[test]
fn what_a_container_calls_its_cgroups_is_nobodys_name() {
    inside_another().holds();
}

#[test]
fn what_a_user_calls_cgroups_of_theirs_is_nobodys_name() {
    given_away().holds();
    // It is enough that somebody else may write to one above.
    for mode in [0o775, 0o777, 0o1777] {
        let scene = decoys_below("/users/shared/deeper", None);
        let dir = scene.host.cgroup_dir(Hierarchy::V2, "/users/shared");
        set_permissions(dir, Permissions::from_mode(mode)).unwrap();
        scene.holds();
    }
}

/// It is not its name that its owner gives.
#[test]
fn who_owns_a_cgroup_does_not_spoil_its_name() {
    let host = host(V2);
    for (pid, path) in [
        (3000, "/lxc.payload.web"),
        (3100, "/docker/ID1"),
        (3200, "/machine.slice/libpod-ID2.scope"),
    ] {
        somebody(&host, pid, path);
        give(&host, path, MAPPED);
        let dir = host.cgroup_dir(Hierarchy::V2, path);
        set_permissions(dir, Permissions::from_mode(0o775)).unwrap();
    }
    let web = container("lxc", "", "v2:/lxc.payload.web").without_id();
    let (first, second) = (
        container("docker", "ID1", "v2:/docker/ID1"),
        container("podman", "ID2", "v2:/machine.slice/libpod-ID2.scope"),
    );
    Scene::of(host)
        .all_mean(&["web", "name:web"], &web.named("web"))
        .means_with_a_note("ID1", &first, &["record"])
        .means_with_a_note(&short("ID1"), &first, &["record"])
        .means_with_a_note("ID2", &second, &["record"])
        .means_with_a_note(&short("ID2"), &second, &["record"])
        .holds();
}

/// In a user namespace the cgroup that is mounted as the root is the container's, or nobody's.
#[test]
fn the_root_of_the_view_is_trusted_whoever_owns_it() {
    for owner in [MAPPED, NOBODY] {
        let host = host(V2);
        somebody(&host, 3000, "/lxc.payload.web");
        somebody(&host, 3100, "/docker/ID1");
        let second = docker(&host, "ID2", "db", 3200);
        give(&host, "/", owner);
        let web = container("lxc", "", "v2:/lxc.payload.web").without_id();
        let first = container("docker", "ID1", "v2:/docker/ID1");
        Scene::of(host)
            .means("web", &web.named("web"))
            .all_mean(&["ID1", &short("ID1")], &first)
            .means("db", &second.named("db"))
            .all_mean(&["ID2", &short("ID2")], &second)
            .holds();
    }
}

/// Without a cgroup namespace, what is in there lies below a container that is iceaxe's own.
#[test]
fn what_is_in_iceaxes_own_container_is_not_anothers_word() {
    let path = "/docker/ID4/docker/ID1";
    let inner = container("docker", "ID1", &format!("v2:{path}"));
    for is_inside in [true, false] {
        let host = host(V2);
        docker(&host, "ID4", "box", 3000);
        somebody(&host, 3100, path);
        if is_inside {
            let ours = process(900, "iceaxe").started(80_000_000);
            host.run(&ours, &host.lines("/docker/ID4/user.slice"));
        }
        let scene = Scene::of(host).means_with_a_note("ID1", &inner, &["docker/ID1"]);
        match is_inside {
            true => scene.means_with_a_note(&short("ID1"), &inner, &["docker/ID1"]),
            false => scene.refuses(&short("ID1")),
        }
        .holds();
    }
}

/// A runtime that keeps records has none of it.
#[test]
fn a_name_without_the_record_that_its_runtime_keeps_is_a_candidate_and_no_more() {
    for path in [
        "/:youki:web",
        "/system.slice/youki-web.scope",
        "/system.slice/crun-web.scope",
        "/system.slice/runc-web.scope",
        "/web",
    ] {
        let host = host(V2);
        somebody(&host, 3000, path);
        Scene::of(host)
            .fails("web", "Ambiguous", &[path])
            .fails("id:web", "Ambiguous", &[path])
            .holds();
    }
}

/// A runtime that keeps records has none of it, and the ID is a whole one: it means what bears it where nothing else can be
/// meant.
#[test]
fn a_scope_of_runcs_or_cruns_without_a_record_has_a_whole_id_that_nobody_else_can_have() {
    for path in ["/system.slice/runc-ID2.scope", "/system.slice/crun-ID2.scope"] {
        let host = host(V2);
        docker(&host, "ID1", "web", 3000);
        somebody(&host, 3100, path);
        let found = container(&path[14..18], "ID2", &format!("v2:{path}"));
        Scene::of(host)
            .means_with_a_note("ID2", &found, &["alone"])
            .fails(&short("ID2"), "Ambiguous", &[path])
            .holds();
    }
    for path in ["/system.slice/runc-ID2.scope", "/system.slice/crun-ID2.scope"] {
        let host = host(V2);
        docker(&host, "ID2", "web", 3000);
        host.end(3000);
        somebody(&host, 3100, path);
        let record = host.path("run/docker/runtime-runc/moby/ID2");
        fs::remove_dir_all(record).unwrap();
        // It is stopped, as docker's record says.
        Scene::of(host).fails("ID2", "NotRunning", &["docker"]).holds();
    }
}

/// A container of root's runtime may be anywhere, and its record says so.
#[test]
fn a_record_of_roots_counts_in_a_cgroup_that_is_somebody_elses() {
    for path in ["/users/u1555/web", "/docker/ID1/web", "/docker/ID1/ID2"] {
        let host = host(V2);
        docker(&host, "ID1", "outer", 3000);
        let id = if path.ends_with("ID2") { "ID2" } else { "web" };
        host.runc("run/runc", id, &process(3100, "app").started(7), path, &[]);
        if path.starts_with("/users") {
            give(&host, "/users/u1555", USER);
        }
        let web = container("runc", id, &format!("v2:{path}"));
        Scene::of(host).all_mean(&[id, &format!("id:{id}")], &web).holds();
    }
}

/// What is meant to be copied into a shell does nothing there, whatever a container calls its cgroups.
#[test]
fn a_candidate_is_written_so_that_a_shell_makes_nothing_of_it() {
    let host = host(V2);
    docker(&host, "ID1", "outer", 3000);
    for (pid, path) in [
        (3100, "/docker/ID1/$(reboot)/:youki:web"),
        (3101, "/docker/ID1/$(reboot)/docker/ID2"),
        (3102, "/docker/ID1/`reboot`/docker/ID2"),
        (3103, "/a$(reboot).slice/docker-ID3.scope"),
        (3104, "/elsewhere$(reboot)"),
    ] {
        somebody(&host, pid, path);
    }
    let looked = host.open();
    for (typed, least) in [
        ("web", 1),
        ("id:web", 1),
        ("ID2", 2),
        (&short("ID2"), 2),
        ("pid:3101", 2),
        ("b7d2", 1),
    ] {
        let Err(Error::Ambiguous { candidates, .. }) = ask(&looked, &spelled(typed)) else {
            panic!("{typed} is no candidate");
        };
        assert!(candidates.len() >= least, "{typed}: {candidates:?}");
        for one in candidates {
            let written = one.unambiguous;
            assert!(!written.contains(['$', '`', '(']), "{typed}: {written}");
            let again = ask(&looked, &written).map(|found| found.len());
            assert_eq!(again.unwrap(), 1, "{written}");
        }
    }
    let text = ask(&looked, "pid:3104").unwrap_err().to_string();
    assert!(text.contains("v2:%/elsewhere%24%28reboot%29"), "{text}");
}

/// A container makes as many cgroups of one ID as it likes, above a container that is inside of it.
#[test]
fn a_whole_id_means_what_one_cgroup_alone_bears_however_many_empty_ones_do() {
    let inside = "/docker/ID1/kubelet/kubepods/podPOD-UID/ID3";
    for (empty, decoys, is_meant) in [(15, 0, true), (15, 1, false), (14, 1, false), (40, 0, false)] {
        let host = host(V2);
        docker(&host, "ID1", "node", 3000);
        somebody(&host, 3100, inside);
        for number in 0..empty {
            host.cgroup(Hierarchy::V2, &format!("/docker/ID1/{number}/ID3"));
        }
        for number in 0..decoys {
            somebody(&host, 5000 + number, &format!("/docker/ID1/x{number}/ID3"));
        }
        let inner = container("containerd", "ID3", &format!("v2:{inside}"));
        let scene = Scene::of(host);
        match is_meant {
            true => scene.means_with_a_note("ID3", &inner, &[inside]),
            false => scene.fails("ID3", "Ambiguous", &["ID3"]),
        }
        .holds();
    }
}

/// A record that does not say since when its process runs, and another process has the number by now: it has called its
/// own cgroup after the container of root's.
#[test]
fn a_number_that_was_taken_over_in_a_decoy_is_not_the_container_on_record() {
    for (place, path) in [
        (r#"{"cgroup_path":":youki:web"}"#, "/docker/ID1/:youki:web"),
        (r#"{"cgroup_path":":youki:web"}"#, "/users/u1555/:youki:web"),
        (
            r#"{"cgroup_path":"/docker/ID1/:youki:web"}"#,
            "/docker/ID1/:youki:web",
        ),
        ("{}", "/docker/ID1/:youki:web"),
        ("{}", "/docker/ID1/web"),
        ("{}", "/users/u1555/youki-web.scope"),
    ] {
        let host = host(V2);
        docker(&host, "ID1", "outer", 3000);
        somebody(&host, 4600, path);
        host.file("run/youki/web/state.json", &youki_state("web", 4600))
            .file("run/youki/web/youki_config.json", place);
        if path.starts_with("/users") {
            give(&host, "/users/u1555", USER);
        }
        Scene::of(host).refuses("web").refuses("id:web").holds();
    }
    // What root alone can have called so is the container.
    let host = host(V2);
    somebody(&host, 4600, "/:youki:web");
    host.file("run/youki/web/state.json", &youki_state("web", 4600));
    let web = container("youki", "web", "v2:/:youki:web");
    Scene::of(host).all_mean(&["web", "id:web"], &web).holds();
}

/// Who has the number of a container's first process and does not say since when may be somebody else.
#[test]
fn a_process_that_hangs_in_a_decoy_is_not_the_container_on_record() {
    for (path, is_it) in [("/docker/ID1/ID2", false), ("/docker/ID2", true)] {
        let host = host(V2);
        docker(&host, "ID1", "outer", 3000);
        docker(&host, "ID2", "web", 3100);
        host.end(3100);
        host.run(&process(3100, "app").started(7), &host.lines(path));
        fs::remove_file(host.path("proc/3100/task/3100/stat")).unwrap();
        host.fifo("proc/3100/task/3100/stat");
        let web = container("docker", "ID2", "v2:/docker/ID2");
        let scene = Scene::of(host);
        match is_it {
            true => scene.all_mean(&["ID2", "web"], &web),
            false => scene.refuses("ID2").refuses("web").refuses(&short("ID2")),
        }
        .holds();
    }
}

/// On a hybrid host a cgroup counts in each hierarchy by itself.
#[test]
fn a_left_over_of_lxcs_does_not_hide_the_container_beside_it() {
    for number in [1, 2] {
        let host = host(Hybrid);
        let path = format!("/lxc.payload.web-{number}");
        for left_over in std::iter::once("/lxc.payload.web".to_owned())
            .chain((1..number).map(|number| format!("/lxc.payload.web-{number}")))
        {
            host.cgroup(Hierarchy::V1, &left_over);
            host.cgroup(Hierarchy::V2, &left_over);
        }
        somebody(&host, 3000, &path);
        host.file("var/lib/lxc/web/config", "lxc.uts.name = web\n");
        let web = container("lxc", "", &format!("v1:{path}"))
            .and(&format!("v2:{path}"))
            .without_id();
        Scene::of(host)
            .all_mean(&["web", "name:web"], &web.named("web"))
            .holds();
    }
}
