//! What a freeze refuses, and leaves untouched.

use kit::engines::{BEATING, Ended, Layout, above};
use kit::in_each_layout;

use crate::docker::Docker;

in_each_layout! {
    a_freeze_of_the_parent_of_containers_is_refused_unless_forced
    a_freeze_of_a_cgroup_with_a_dockerd_is_refused_by_its_own_rule
    a_freeze_of_iceaxes_own_cgroup_is_refused_whatever_is_forced
}

/// How `iceaxe freeze TARGET --json` ends with some rules lifted.
#[track_caller]
fn freeze(docker: &Docker, target: &str, forces: &[&str]) -> Ended {
    docker.iceaxe(["freeze", target, "--json"].iter().chain(forces))
}

fn a_freeze_of_the_parent_of_containers_is_refused_unless_forced(layout: Layout) {
    let (docker, parent) = Docker::with_a_parent(layout);
    let web = docker.container("web");
    let holder = above(&web.cgroups[0]);
    let hierarchy = holder.hierarchy.word();
    let target = format!("{hierarchy}:{}", parent.display());
    for target in [&target, &docker.seen(&holder).display().to_string()] {
        for forces in [&[][..], &["--force=host-daemon"], &["--force=sandbox"]] {
            let ended = freeze(&docker, target, forces);
            ended.is(11, "refused");
            assert!(
                ended.err.contains("not-container"),
                "it says what lifts the rule: {ended:?}"
            );
        }
    }
    assert!(!holder.asks());
    web.is_thawed();
    // docker's own parent, with all that others have in it: by a rehearsal alone.
    let _there = docker.container_with("plain", &["--cgroup-parent=/docker"], BEATING);
    freeze(&docker, &format!("{hierarchy}:/docker"), &["--dry-run"]).is(11, "refused");
    freeze(&docker, &target, &["--force=not-container"]).is(0, "confirmed");
    assert!(holder.asks() && holder.is_frozen());
    web.stands();
    docker.iceaxe(["thaw", &target, "--json"]).is(0, "confirmed");
    web.is_thawed();
}

fn a_freeze_of_a_cgroup_with_a_dockerd_is_refused_by_its_own_rule(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let cgroup = docker.own_cgroup(web.cgroups[0].hierarchy);
    let target = cgroup.target().into_string().unwrap();
    cgroup.admit(docker.dockerd());
    for forces in [&[][..], &["--force=not-container"], &["--force=sandbox"]] {
        let ended = freeze(&docker, &target, forces);
        let report = ended.is(11, "refused");
        assert!(
            report["error"]
                .as_str()
                .is_some_and(|error| error.contains("dockerd")),
            "{report}"
        );
        assert!(
            ended.err.contains("host-daemon"),
            "it says what lifts the rule: {ended:?}"
        );
    }
    assert!(!cgroup.asks());
    docker.docker(["version"]);
    above(&cgroup).admit(docker.dockerd());
}

fn a_freeze_of_iceaxes_own_cgroup_is_refused_whatever_is_forced(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let cgroup = docker.own_cgroup(web.cgroups[0].hierarchy);
    let target = cgroup.target().into_string().unwrap();
    for force in [
        &[][..],
        &["--force"],
        &["--force=not-container", "--force=host-daemon"],
    ] {
        let args = ["freeze", &target, "--json"]
            .into_iter()
            .chain(force.iter().copied());
        docker
            .iceaxe_in(std::slice::from_ref(&cgroup), args)
            .is(11, "refused");
        assert!(!cgroup.asks());
    }
    // Nor a container that it was started in.
    docker
        .iceaxe_in(&web.cgroups[..1], ["freeze", &web.name, "--json", "--force"])
        .is(11, "refused");
    web.is_thawed();
}
