//! Containers in unusual places: under other parents, in each other, in the machine's network, held by a parent or by
//! a cgroup inside.

use kit::engines::{BEATING, Layout, above, below};
use kit::{Cgroup, Hierarchy, Scene, eventually, in_each_layout, letter};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::{Container, FORMS};
use crate::docker::Docker;

in_each_layout! {
    a_container_under_another_parent_is_thawed_by_each_form
    a_container_in_the_network_of_its_host_is_thawed
    a_frozen_parent_is_named_and_left_alone_unless_ancestors_are_asked_for
    a_container_in_anothers_cgroup_is_told_apart_from_it
    a_container_in_anothers_cgroup_is_found_by_its_short_id_and_listed
    a_paused_container_inside_another_stays_paused_unless_asked_for
    a_cgroup_that_a_container_froze_itself_stays_frozen_unless_asked_for
    a_container_that_is_removed_during_its_thaw_is_no_error
    a_container_that_is_removed_while_its_thaw_waits_is_gone
}

fn a_container_under_another_parent_is_thawed_by_each_form(layout: Layout) {
    let (docker, parent) = Docker::with_a_parent(layout);
    let web = docker.container("web");
    assert!(
        web.cgroups
            .iter()
            .all(|cgroup| cgroup.path == parent.join(&web.id)),
        "{web:?}"
    );
    web.pause();
    docker.kill_dockerd();
    docker.kill_containerd();
    docker.orphan(std::slice::from_ref(&web));
    for (form, target) in FORMS {
        let report = docker
            .iceaxe(["thaw", &target(&web), "--json"])
            .is(0, "confirmed");
        let expected = (&web.id.as_str().into(), &web.name.as_str().into());
        assert_eq!((&report["id"], &report["name"]), expected, "{form}: {report}");
        web.is_thawed();
        web.cgroups[0].freeze();
    }
}

fn a_container_in_the_network_of_its_host_is_thawed(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container_with("web", &["--network=host"], BEATING);
    web.pause();
    docker.wedge();
    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
}

fn a_frozen_parent_is_named_and_left_alone_unless_ancestors_are_asked_for(layout: Layout) {
    let (docker, parent) = Docker::with_a_parent(layout);
    let [web, beside] = &docker.containers(["web", "beside"])[..] else {
        unreachable!()
    };
    web.pause();
    let parent_cgroup = above(&web.cgroups[0]);
    parent_cgroup.freeze();
    beside.stands();
    let status = docker.status(&beside.name);
    assert_eq!(
        (&status["requested"], &status["effective"]),
        (&"thawed".into(), &"frozen".into()),
        "{status}"
    );
    let path = parent.display().to_string();
    assert_eq!(status["frozen_by"], serde_json::json!([path]), "{status}");
    let ended = web.iceaxe("thaw");
    let report = ended.is(8, "held");
    assert!(
        report["error"]
            .as_str()
            .is_some_and(|error| error.contains(&path)),
        "{report}"
    );
    assert!(ended.err.contains("--ancestors"), "{ended:?}");
    assert!(!web.asks() && parent_cgroup.asks());
    web.stands();
    docker
        .iceaxe(["thaw", &web.name, "--ancestors", "--json"])
        .is(0, "confirmed");
    assert!(!parent_cgroup.asks());
    web.is_thawed();
    beside.is_thawed();
}

/// A container whose cgroup is made in another's.
#[track_caller]
fn nested(docker: &Docker) -> (Container<'_>, Container<'_>) {
    let outer = docker.container("outer");
    let parent = format!("--cgroup-parent={}", outer.cgroups[0].path.display());
    let inner = docker.container_with("inner", &[&parent], BEATING);
    assert_eq!(inner.cgroups[0].path, outer.cgroups[0].path.join(&inner.id));
    (outer, inner)
}

fn a_container_in_anothers_cgroup_is_told_apart_from_it(layout: Layout) {
    let docker = Docker::start(layout);
    let (outer, inner) = nested(&docker);
    inner.pause();
    docker.wedge();
    outer.goes_on();
    for target in [&inner.name, &inner.id, &format!("id:{}", inner.short())] {
        let report = docker.iceaxe(["thaw", target, "--json"]).is(0, "confirmed");
        assert_eq!(report["id"], inner.id.as_str(), "{report}");
        inner.is_thawed();
        inner.cgroups[0].freeze();
    }
    let pid = format!("pid:{}", inner.pid);
    docker
        .iceaxe(["thaw", &pid])
        .refuses(4, &[outer.short(), inner.short(), "--outer", "--inner"]);
    assert!(inner.asks());
    let report = docker
        .iceaxe(["thaw", &pid, "--inner", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["id"], inner.id.as_str());
    inner.is_thawed();
    // The outer one holds both.
    let report = docker
        .iceaxe(["freeze", &pid, "--outer", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["id"], outer.id.as_str());
    outer.is_frozen();
    inner.stands();
    let status = docker.status(&inner.name);
    assert_eq!(
        (&status["requested"], &status["effective"]),
        (&"thawed".into(), &"frozen".into()),
        "{status}"
    );
    let ended = docker.iceaxe(["thaw", &inner.name, "--json"]);
    ended.is(8, "held");
    assert!(ended.err.contains(&outer.id), "{ended:?}");
    docker.iceaxe(["thaw", &outer.name, "--json"]).is(0, "confirmed");
    outer.is_thawed();
    inner.is_thawed();
}

fn a_container_in_anothers_cgroup_is_found_by_its_short_id_and_listed(layout: Layout) {
    let docker = Docker::start(layout);
    let (outer, inner) = nested(&docker);
    assert_eq!(docker.status(inner.short())["id"], inner.id.as_str());
    let listed = docker.iceaxe(["list", "--quiet"]).well();
    assert!(
        [&outer, &inner]
            .iter()
            .all(|one| listed.lines().any(|line| line == one.id)),
        "{listed}"
    );
}

fn a_paused_container_inside_another_stays_paused_unless_asked_for(layout: Layout) {
    let docker = Docker::start(layout);
    let (outer, inner) = nested(&docker);
    inner.pause();
    outer.pause();
    docker.wedge();
    let ended = docker.iceaxe(["thaw", &outer.name, "--json"]);
    ended.is(8, "held");
    assert!(
        ended.err.contains(&inner.id) && ended.err.contains("--recursive"),
        "{ended:?}"
    );
    outer.is_thawed();
    inner.is_frozen();
    docker
        .iceaxe(["thaw", &outer.name, "--recursive", "--json"])
        .is(0, "confirmed");
    inner.is_thawed();
}

/// Makes a cgroup in its own, moves a sleeper there and freezes it. It mounts the hierarchy itself, with its own cgroup
/// as the root: a privileged container has it mounted, but needs more rights than some machines can give.
fn self_freezer(hierarchy: Hierarchy) -> String {
    let (mount, file, value) = match hierarchy {
        Hierarchy::V1 => ("-t cgroup -o freezer", "freezer.state", "FROZEN"),
        Hierarchy::V2 => ("-t cgroup2", "cgroup.freeze", "1"),
    };
    format!(
        "set -e; mkdir /tmp/own; mount {mount} none /tmp/own; mkdir /tmp/own/within; sleep 10000 &
         echo $! > /tmp/own/within/cgroup.procs; echo {value} > /tmp/own/within/{file}; {}",
        BEATING
    )
}

fn a_cgroup_that_a_container_froze_itself_stays_frozen_unless_asked_for(layout: Layout) {
    let docker = Docker::start(layout);
    let rights = [
        "--cap-add=SYS_ADMIN",
        "--security-opt=apparmor=unconfined",
        "--cgroupns=private",
    ];
    let web = docker.container_with("web", &rights, &self_freezer(docker.freezes()));
    let within = below(&web.cgroups[0], "within");
    eventually("it froze its own", || within.is_frozen());
    web.pause();
    docker.wedge();
    let ended = web.iceaxe("thaw");
    let report = ended.is(8, "held");
    assert!(
        report["error"]
            .as_str()
            .is_some_and(|error| error.contains("/within")),
        "{report}"
    );
    assert!(ended.err.contains("--recursive"), "{ended:?}");
    web.is_thawed();
    assert!(within.asks() && within.is_frozen());
    docker
        .iceaxe(["thaw", &web.name, "--recursive", "--json"])
        .is(0, "confirmed");
    assert!(!within.asks());
    web.is_thawed();
}

fn a_container_that_is_removed_during_its_thaw_is_no_error(layout: Layout) {
    let docker = Docker::start(layout);
    // In each round the removal has come somewhat further when the thaw begins.
    for round in 0..4 {
        let web = docker.container("web");
        web.pause();
        let mut removal = docker.client(["rm", "--force", &web.name]);
        removal.ends_within(std::time::Duration::from_millis(round * 15));
        let ended = docker.iceaxe(["thaw", &web.id, "--json"]);
        let report = ended.object();
        let end = (ended.code(), report["outcome"].as_str());
        let fine = [
            (Some(0), Some("confirmed")),
            (Some(0), Some("unchanged")),
            (Some(0), Some("gone")),
            (Some(3), Some("not_found")),
        ];
        assert!(fine.contains(&end), "round {round}: {ended:?}");
        removal.answer(kit::PATIENCE).answered().well();
        assert!(web.cgroups.iter().all(|cgroup| !cgroup.dir.exists()));
    }
}

fn a_container_that_is_removed_while_its_thaw_waits_is_gone(layout: Layout) {
    let (docker, _) = Docker::with_a_parent(layout);
    let web = docker.container("web");
    let scene = Scene::new();
    let cgroups: Vec<&Cgroup> = web.cgroups.iter().collect();
    // The thaw waits for a task that can't be woken.
    let zoo = scene.zoo(&cgroups, &["dstate"]);
    web.cgroups[0].ask();
    let thaw = kit::iceaxe("thaw")
        .arg(&web.name)
        .arg("--json")
        .arg("--timeout=20s");
    let thaw = thaw.through(&docker.prefix()).start();
    let worker = thaw.worker();
    eventually("it has written", || !web.asks());
    let signal = |pid: i32, signal: Signal| kill(Pid::from_raw(pid), signal).unwrap();
    // It does not look while the container goes.
    signal(worker, Signal::SIGSTOP);
    eventually("it is stopped", || letter(worker) == Some('T'));
    signal(zoo.tid(0), Signal::SIGKILL);
    zoo.release(0);
    docker.docker(["rm", "--force", &web.name]);
    assert!(web.cgroups.iter().all(|cgroup| !cgroup.dir.exists()));
    signal(worker, Signal::SIGCONT);
    let report = thaw.end().is(0, "gone");
    assert_eq!(report["id"], web.id.as_str(), "{report}");
}
