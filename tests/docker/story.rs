//! What the project exists for: containers are paused, and whoever should unpause them hangs or is dead.

use kit::engines::{HANGS, Layout};
use kit::in_each_layout;
use kit::tasks_add_up;

use crate::container::{Container, FORMS};
use crate::docker::Docker;

in_each_layout! {
    a_wedged_dockerd_keeps_nobody_from_thawing
    dead_daemons_keep_nobody_from_thawing
    a_dead_shim_keeps_nobody_from_thawing
    one_command_thaws_all_with_dockerd_wedged
    a_pause_that_waited_in_a_wedged_dockerd_is_seen_when_it_has_run
}

/// One paused container for each form of a target, so that each form has its own to bring back.
#[track_caller]
fn paused(docker: &Docker) -> Vec<Container<'_>> {
    let containers = docker.containers(FORMS.map(|(form, _)| form));
    containers.iter().for_each(Container::pause);
    containers
}

/// Thaws each by its form, and checks that it and it alone came back.
#[track_caller]
fn thaw_each(docker: &Docker, containers: &[Container<'_>]) {
    for (at, ((form, target), container)) in FORMS.iter().zip(containers).enumerate() {
        assert!(container.asks(), "nobody thawed {form} before its turn");
        let report = docker
            .iceaxe(["thaw", &target(container), "--json"])
            .is(0, "confirmed");
        assert_eq!(report["id"], container.id.as_str(), "{form}: {report}");
        assert_eq!(report["name"], container.name.as_str(), "{form}: {report}");
        assert_eq!(report["runtime"], "docker", "{form}: {report}");
        assert_eq!(report["before"]["effective"], "frozen", "{form}: {report}");
        assert_eq!(report["after"]["effective"], "thawed", "{form}: {report}");
        // The shell and its sleeper.
        tasks_add_up(
            &report,
            &[(
                &["ran", "restored", "exited", "new"],
                report["tasks"]["total"].as_u64().unwrap(),
            )],
        );
        container.is_thawed();
        containers[at + 1..]
            .iter()
            .for_each(|later| assert!(later.asks(), "{form} thawed {}", later.name));
    }
}

fn a_wedged_dockerd_keeps_nobody_from_thawing(layout: Layout) {
    let docker = Docker::start(layout);
    let containers = paused(&docker);
    docker.wedge();
    let unpause = docker.client(["unpause", &containers[0].name]).answer(HANGS);
    assert!(unpause.hung(), "{unpause:?}");
    containers[0].is_frozen();
    thaw_each(&docker, &containers);
    docker.unwedge();
    for container in &containers {
        container.is_seen("paused", "thawed");
        assert_eq!(docker.inspect(&container.id, "{{.State.Paused}}"), "true");
    }
}

fn dead_daemons_keep_nobody_from_thawing(layout: Layout) {
    let docker = Docker::start(layout);
    let containers = paused(&docker);
    docker.kill_dockerd();
    docker.kill_containerd();
    thaw_each(&docker, &containers);
    containers
        .iter()
        .for_each(|container| container.is_seen("paused", "thawed"));
}

fn a_dead_shim_keeps_nobody_from_thawing(layout: Layout) {
    let docker = Docker::start(layout);
    let containers = paused(&docker);
    // containerd first: it kills the container of a shim that dies.
    docker.kill_dockerd();
    docker.kill_containerd();
    docker.orphan(&containers);
    thaw_each(&docker, &containers);
    containers
        .iter()
        .for_each(|container| container.is_seen("paused", "thawed"));
}

fn one_command_thaws_all_with_dockerd_wedged(layout: Layout) {
    let docker = Docker::start(layout);
    let containers = docker.containers(["a", "b", "c"]);
    containers.iter().for_each(Container::pause);
    docker.wedge();
    let [a, b, c] = &containers[..] else {
        unreachable!()
    };
    let pid = format!("pid:{}", c.pid);
    // One of them is meant twice, and one is not there.
    let ended = docker.iceaxe([
        "thaw",
        &a.name,
        b.short(),
        &pid,
        &a.id,
        "nobody-has-this-name",
        "--json",
    ]);
    assert_eq!(ended.code(), Some(12), "{ended:?}");
    let lines = ended
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut ends: Vec<(String, u64)> = lines
        .map(|line| {
            (
                line["target"].as_str().unwrap().to_owned(),
                line["exit"].as_u64().unwrap(),
            )
        })
        .collect();
    ends.sort();
    let mut expected = [
        (&*a.name, 0),
        (b.short(), 0),
        (&pid, 0),
        ("nobody-has-this-name", 3),
    ]
    .map(|(t, e)| (t.to_owned(), e));
    expected.sort();
    assert_eq!(ends, expected, "{ended:?}");
    containers.iter().for_each(|container| container.is_thawed());
}

fn a_pause_that_waited_in_a_wedged_dockerd_is_seen_when_it_has_run(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    docker.wedge();
    let mut pause = docker.client(["pause", &web.name]);
    assert!(!pause.ends_within(HANGS));
    web.is_seen("running", "thawed");
    web.is_thawed();
    docker.unwedge();
    pause.answer(HANGS).answered().well();
    web.is_frozen();
    web.is_seen("paused", "frozen");
}
