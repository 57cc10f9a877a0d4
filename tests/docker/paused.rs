//! What docker does with a container that iceaxe froze or thawed: what it must not undo, and what it does not notice.

use std::time::{SystemTime, UNIX_EPOCH};

use kit::engines::Layout;
use kit::{eventually, in_each_layout, is_gone};

use crate::docker::Docker;

in_each_layout! {
    docker_stops_what_iceaxe_froze
    an_unpause_by_docker_breaks_off_a_hold_and_its_end_does_not
    an_update_by_docker_leaves_it_frozen
    dockers_events_tell_what_docker_did_and_nothing_else
    a_thaw_while_dockerd_is_down_is_not_noticed_by_the_next_one_and_told
}

fn docker_stops_what_iceaxe_froze(layout: Layout) {
    let docker = Docker::start(layout);
    let [web, beside] = &docker.containers(["web", "beside"])[..] else {
        unreachable!()
    };
    for container in [web, beside] {
        container.iceaxe("freeze").is(0, "confirmed");
    }
    docker.docker(["stop", "--time", "1", &web.name]);
    eventually("it has ended", || is_gone(web.pid));
    assert_eq!(docker.inspect(&web.name, "{{.State.Status}}"), "exited");
    for verb in ["status", "thaw"] {
        docker.iceaxe([verb, &web.name]).refuses(3, &["not running"]);
    }
    beside.is_frozen();
}

fn an_unpause_by_docker_breaks_off_a_hold_and_its_end_does_not(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.pause();
    let held = docker.iceaxe_with_docker(&["hold", &web.name, "--", "docker", "unpause", &web.name]);
    assert_eq!(held.code(), Some(122), "{held:?}");
    assert!(held.err.contains("was thawed by somebody else at "), "{held:?}");
    web.is_thawed();
    let held = docker.iceaxe_with_docker(&["hold", &web.name, "--", "docker", "rm", "--force", &web.name]);
    assert_eq!(held.code(), Some(0), "{held:?}");
}

fn an_update_by_docker_leaves_it_frozen(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.iceaxe("freeze").is(0, "confirmed");
    docker.docker(["update", "--pids-limit", "40", &web.name]);
    web.is_frozen();
    web.iceaxe("thaw").is(0, "confirmed");
    docker.docker(["update", "--pids-limit", "41", &web.name]);
    web.is_thawed();
}

fn dockers_events_tell_what_docker_did_and_nothing_else(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.pause();
    for verb in ["thaw", "freeze"] {
        web.iceaxe(verb).is(0, "confirmed");
    }
    docker.docker(["unpause", &web.name]);
    for verb in ["freeze", "thaw"] {
        web.iceaxe(verb).is(0, "confirmed");
    }
    let until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 1;
    let events = docker.docker([
        "events",
        "--since=0",
        &format!("--until={until}"),
        "--format={{.Action}}",
        &format!("--filter=container={}", web.name),
    ]);
    let of_freezing: Vec<&str> = events.lines().filter(|event| event.contains("pause")).collect();
    assert_eq!(of_freezing, ["pause", "unpause"], "{events}");
}

fn a_thaw_while_dockerd_is_down_is_not_noticed_by_the_next_one_and_told(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.pause();
    docker.kill_dockerd();
    let run = web.iceaxe("thaw");
    run.is(0, "confirmed");
    assert!(
        run.err.contains("docker still believes that it is paused"),
        "{run:?}"
    );
    web.is_thawed();
    docker.restart_dockerd();
    // Its shim was not asked either, and says what it remembers.
    web.is_seen("paused", "thawed");
    docker.ended(["unpause", &web.name]).failed("not paused");
    web.is_thawed();
    web.iceaxe("freeze").is(0, "confirmed");
    docker.docker(["unpause", &web.name]);
    web.is_thawed();
    web.is_seen("running", "thawed");
}
