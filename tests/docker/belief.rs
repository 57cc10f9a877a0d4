//! What docker believes beside what is so, and the documented way to bring the two back in step.

use kit::engines::Layout;
use kit::{Hierarchy, in_each_layout};

use crate::docker::Docker;

in_each_layout! {
    a_freeze_behind_dockers_back_is_told_apart_from_dockers_belief
    a_thaw_behind_dockers_back_is_brought_back_in_step_by_a_freeze_and_an_unpause
    a_container_that_docker_froze_and_thawed_itself_agrees
}

fn a_freeze_behind_dockers_back_is_told_apart_from_dockers_belief(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let run = web.iceaxe("freeze");
    let report = run.is(0, "confirmed");
    web.is_frozen();
    // One hierarchy alone, the one that docker would write.
    let asking: Vec<Hierarchy> = web
        .cgroups
        .iter()
        .filter(|one| one.asks())
        .map(|one| one.hierarchy)
        .collect();
    assert_eq!(asking, [web.cgroups[0].hierarchy]);
    assert_eq!(report["writes"].as_array().map(Vec::len), Some(1), "{report}");
    assert!(
        run.err.contains("docker does not know that it is frozen"),
        "{run:?}"
    );
    assert_eq!(
        docker.inspect(&web.name, "{{.State.Status}} {{.State.Paused}}"),
        "running false"
    );
    docker.ended(["exec", &web.name, "true"]).failed("paused");
    web.is_seen("running", "frozen");
    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
    docker.docker(["exec", &web.name, "true"]);
    web.is_seen("running", "thawed");
}

fn a_thaw_behind_dockers_back_is_brought_back_in_step_by_a_freeze_and_an_unpause(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.pause();
    let run = web.iceaxe("thaw");
    run.is(0, "confirmed");
    assert!(
        run.err.contains("docker still believes that it is paused"),
        "{run:?}"
    );
    web.is_thawed();
    web.is_seen("paused", "thawed");
    docker.ended(["unpause", &web.name]).failed("not paused");
    docker.ended(["exec", &web.name, "true"]).failed("paused");
    web.is_thawed();
    // What the hint says.
    web.iceaxe("freeze").is(0, "confirmed");
    web.is_frozen();
    docker.docker(["unpause", &web.name]);
    web.is_thawed();
    web.is_seen("running", "thawed");
    docker.docker(["exec", &web.name, "true"]);
    docker.docker(["pause", &web.name]);
    web.is_frozen();
    web.is_seen("paused", "frozen");
}

fn a_container_that_docker_froze_and_thawed_itself_agrees(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.is_seen("running", "thawed");
    web.pause();
    web.is_seen("paused", "frozen");
    // Frozen already, and by docker: nothing to write.
    let report = web.iceaxe("freeze").is(0, "unchanged");
    assert_eq!(report["writes"].as_array().map(Vec::len), Some(0), "{report}");
    docker.docker(["unpause", &web.name]);
    web.is_seen("running", "thawed");
    let report = web.iceaxe("thaw").is(0, "unchanged");
    assert_eq!(report["writes"].as_array().map(Vec::len), Some(0), "{report}");
}
