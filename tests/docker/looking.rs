//! `list` and `path`: looking at containers with no daemon.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kit::engines::Layout;
use kit::has_keys;
use kit::in_each_layout;
use serde_json::Value;

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    a_list_shows_every_running_container_with_its_states_and_what_docker_believes
    a_list_is_the_same_with_all_daemons_dead
    path_prints_what_exists
}

/// One running, one paused by docker, one frozen behind its back, one thawed behind its back, one stopped.
#[track_caller]
fn five(docker: &Docker) -> Vec<Container<'_>> {
    let all = docker.containers(["runs", "paused", "frozen", "thawed", "stopped"]);
    all[1].pause();
    all[3].pause();
    docker.docker(["kill", &all[4].name]);
    docker.docker(["wait", &all[4].name]);
    all[2].iceaxe("freeze").is(0, "confirmed");
    all[3].iceaxe("thaw").is(0, "confirmed");
    all
}

/// What the list must say: requested, effective, believed, agree.
const EXPECTED: [(&str, &str, &str, bool); 4] = [
    ("thawed", "thawed", "running", true),
    ("frozen", "frozen", "paused", true),
    ("frozen", "frozen", "running", false),
    ("thawed", "thawed", "paused", false),
];

#[track_caller]
fn listed(docker: &Docker) -> Vec<Value> {
    let ended = docker.iceaxe(["list", "--json"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn is_complete(docker: &Docker, all: &[Container<'_>]) {
    let listed = listed(docker);
    let of = |id: &str| {
        listed
            .iter()
            .filter(|entry| entry["id"] == id)
            .collect::<Vec<_>>()
    };
    for (container, (requested, effective, believed, agree)) in all.iter().zip(EXPECTED) {
        let entries = of(&container.id);
        assert_eq!(entries.len(), 1, "{} is listed once: {listed:?}", container.name);
        let entry = entries[0];
        has_keys(
            entry,
            &[
                "schema",
                "id",
                "name",
                "runtime",
                "pid",
                "image",
                "labels",
                "requested",
                "effective",
            ],
        );
        has_keys(
            entry,
            &[
                "believed",
                "agree",
                "frozen_by",
                "frozen_for_us",
                "cgroups",
                "tasks",
                "memory",
            ],
        );
        assert_eq!(entry["schema"], 1);
        assert_eq!(entry["name"], container.name.as_str());
        assert_eq!(entry["runtime"], "docker");
        assert_eq!(entry["pid"], container.pid);
        assert_eq!(entry["image"], "bb:1");
        let states = (
            &entry["requested"],
            &entry["effective"],
            &entry["believed"],
            &entry["agree"],
        );
        assert_eq!(
            states,
            (
                &requested.into(),
                &effective.into(),
                &believed.into(),
                &agree.into()
            ),
            "{entry}"
        );
        let dirs: Vec<&str> = entry["cgroups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cgroup| cgroup["dir"].as_str().unwrap())
            .collect();
        assert_eq!(dirs.len(), container.cgroups.len(), "{entry}");
        let tasks = &entry["tasks"];
        let frozen = if effective == "frozen" {
            &tasks["total"]
        } else {
            &Value::from(0)
        };
        assert_eq!(&tasks["frozen"], frozen, "{entry}");
        assert!(tasks["total"].as_u64() > Some(0), "{entry}");
    }
    assert!(
        of(&all[4].id).is_empty(),
        "one that does not run is not listed: {listed:?}"
    );
    let table = docker.iceaxe(["list"]).well();
    for container in &all[..4] {
        let row = table
            .lines()
            .find(|line| line.contains(container.short()))
            .expect("it is in the table");
        assert!(
            row.split_whitespace().next() == Some(container.name.as_str()),
            "{table}"
        );
    }
}

fn a_list_shows_every_running_container_with_its_states_and_what_docker_believes(layout: Layout) {
    let docker = Docker::start(layout);
    let all = five(&docker);
    is_complete(&docker, &all);
}

fn a_list_is_the_same_with_all_daemons_dead(layout: Layout) {
    let docker = Docker::start(layout);
    let all = five(&docker);
    docker.kill_dockerd();
    docker.kill_containerd();
    docker.orphan(&all[..4]);
    is_complete(&docker, &all);
}

fn path_prints_what_exists(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.pause();
    docker.wedge();
    let path = |option: &str| docker.iceaxe(["path", option, &web.name]).well();
    let seen: Vec<String> = web
        .cgroups
        .iter()
        .map(|cgroup| docker.seen(cgroup).display().to_string())
        .collect();
    assert_eq!(
        docker.iceaxe(["path", &web.name]).well(),
        seen[0],
        "where docker freezes"
    );
    assert_eq!(path("--all").lines().collect::<Vec<_>>(), seen);
    assert_eq!(path("--pid"), web.pid.to_string());
    for (option, inside) in [
        ("--rootfs", "/bin/busybox"),
        ("--bundle", "/config.json"),
        ("--log", ""),
    ] {
        let printed = path(option);
        assert!(
            Path::new(&printed).starts_with(docker.scratch().path()),
            "{option}: {printed}"
        );
        assert!(
            Path::new(&(printed.clone() + inside)).is_file(),
            "{option}: {printed}"
        );
    }
    assert!(path("--log").contains(&web.id));
    // What it prints as the root is the one that the container has.
    let root = fs::metadata(path("--rootfs") + "/bin/busybox").unwrap();
    let own = fs::metadata(format!("/proc/{}/root/bin/busybox", web.pid)).unwrap();
    assert_eq!((root.dev(), root.ino()), (own.dev(), own.ino()));
    web.is_frozen();
}
