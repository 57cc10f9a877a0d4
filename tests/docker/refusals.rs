//! What a freeze refuses, and leaves untouched.

use crate::daemon::Docker;
use crate::engines::{BEATING, Layout, above};
use crate::in_each_layout;

in_each_layout! {
    a_freeze_of_the_parent_of_containers_is_refused_unless_forced
    a_freeze_of_a_cgroup_with_a_dockerd_is_refused_by_its_own_rule
    a_freeze_of_iceaxes_own_cgroup_is_refused_whatever_is_forced
}

fn a_freeze_of_the_parent_of_containers_is_refused_unless_forced(layout: Layout) {
    let (docker, parent) = Docker::with_a_parent(layout);
    let web = docker.container("web");
    let holder = above(&web.cgroups[0]);
    let target = format!("{}:{}", holder.hierarchy.word(), parent.display());
    for target in [
        &target,
        &format!("cgroup:{}", parent.display()),
        &docker.seen(&holder).display().to_string(),
    ] {
        for force in [&[][..], &["--force=host-daemon"], &["--force=sandbox"]] {
            let ended = docker.iceaxe(
                ["freeze", target, "--json"]
                    .into_iter()
                    .chain(force.iter().copied()),
            );
            ended.is(11, "refused");
            assert!(ended.err.contains("not-container"), "{ended:?}");
        }
    }
    assert!(!holder.asks());
    web.is_thawed();
    // docker's own parent, with all that others have in it: by a rehearsal alone.
    let _there = docker.container_with("plain", &["--cgroup-parent=/docker"], BEATING);
    docker
        .iceaxe(["freeze", "--dry-run", "cgroup:/docker", "--json"])
        .is(11, "refused");
    docker
        .iceaxe(["freeze", &target, "--force=not-container", "--json"])
        .is(0, "confirmed");
    assert!(holder.asks() && holder.is_frozen());
    web.stands();
    docker.iceaxe(["thaw", &target, "--json"]).is(0, "confirmed");
    web.is_thawed();
}

fn a_freeze_of_a_cgroup_with_a_dockerd_is_refused_by_its_own_rule(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let cgroup = docker.own_cgroup(web.cgroups[0].hierarchy);
    cgroup.admit(docker.dockerd());
    for force in [&[][..], &["--force=not-container"], &["--force=sandbox"]] {
        let ended = docker.iceaxe(
            ["freeze", cgroup.target().to_str().unwrap(), "--json"]
                .into_iter()
                .chain(force.iter().copied()),
        );
        let report = ended.is(11, "refused");
        assert!(
            report["error"]
                .as_str()
                .is_some_and(|error| error.contains("dockerd")),
            "{report}"
        );
        assert!(ended.err.contains("host-daemon"), "{ended:?}");
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
        docker.iceaxe_in(&cgroup, args).is(11, "refused");
        assert!(!cgroup.asks());
    }
    // Nor a container that it was started in.
    docker
        .iceaxe_in(&web.cgroups[0], ["freeze", &web.name, "--json", "--force"])
        .is(11, "refused");
    web.is_thawed();
}
