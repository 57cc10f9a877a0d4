//! Many at once: which containers are meant, by what docker has on record of them, with all its daemons dead.

use kit::engines::{BEATING, Layout};
use kit::in_each_layout;

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    those_with_a_label_are_thawed_and_no_others
}

/// Pauses containers by docker, and ends all that docker runs but them.
#[track_caller]
fn pause_and_bereave(docker: &Docker, all: &[Container<'_>]) {
    all.iter().for_each(Container::pause);
    docker.kill_dockerd();
    docker.kill_containerd();
    docker.orphan(all);
}

/// Thaws all that meet a filter, and returns the names of those that are told of.
#[track_caller]
fn thawed(docker: &Docker, filter: &str) -> Vec<String> {
    let own = format!("name=*-{}", std::process::id());
    let ended = docker.iceaxe(["thaw", "--json", "--filter", filter, "--filter", &own]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let lines = ended.out.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .map(|line: serde_json::Value| line["name"].as_str().unwrap().to_owned())
        .collect()
}

fn those_with_a_label_are_thawed_and_no_others(layout: Layout) {
    let docker = Docker::start(layout);
    let with = |name, label| docker.container_with(name, &["--label", label], BEATING);
    let all = [
        with("web", "auto_resume=true"),
        with("db", "auto_resume=false"),
        docker.container("plain"),
    ];
    pause_and_bereave(&docker, &all);
    let [web, db, plain] = &all;
    assert_eq!(thawed(&docker, "label=auto_resume=true"), [web.name.as_str()]);
    web.is_thawed();
    db.is_frozen();
    plain.is_frozen();
    let mut rest = thawed(&docker, "label!=auto_resume=true");
    rest.sort();
    assert_eq!(rest, [db.name.as_str(), plain.name.as_str()]);
    all.iter().for_each(|container| container.is_thawed());
}

/// Not in v2 alone, which has no memory controller where the machine has it in v1.
#[test]
fn those_under_80_percent_of_their_memory_are_thawed_and_no_others() {
    let docker = Docker::start(Layout::AsFound);
    let full = format!("head -c 14000000 /dev/zero >/dev/shm/full; {BEATING}");
    let with = |name, limit, script: &str| docker.container_with(name, &["--memory", limit], script);
    let all = [with("light", "256m", BEATING), with("full", "16m", &full)];
    pause_and_bereave(&docker, &all);
    let [light, full] = &all;
    assert_eq!(thawed(&docker, "memory<80%"), [light.name.as_str()]);
    light.is_thawed();
    full.is_frozen();
}
