//! From what is typed to one container, or to an error that names what it could mean.

use kit::engines::{BEATING, Layout};
use kit::in_each_layout;

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    a_rename_is_seen_at_once
    a_name_that_nobody_has_is_not_found
    a_stopped_container_is_known_but_not_running
    a_stopped_container_in_the_default_places_is_known_by_its_id
    a_restarted_container_is_the_new_one
    an_id_that_is_not_unique_is_ambiguous_and_names_its_candidates
    a_name_that_is_anothers_short_id_is_ambiguous
    a_short_name_that_also_begins_an_id_means_the_name_and_says_so
    a_name_in_two_data_roots_is_ambiguous_and_each_id_means_its_own
    a_name_is_found_in_the_default_places_too
}

fn a_rename_is_seen_at_once(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let shop = docker.name("shop");
    docker.docker(["rename", &web.name, &shop]);
    assert_eq!(docker.status(&shop)["id"], web.id.as_str());
    assert_eq!(docker.status(web.short())["name"], shop.as_str());
    docker
        .iceaxe(["status", &web.name])
        .refuses(3, &["no such container"]);
    docker
        .iceaxe(["thaw", &format!("name:{}", web.name)])
        .refuses(3, &["no such container"]);
}

fn a_name_that_nobody_has_is_not_found(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    web.pause();
    let name = &web.name;
    let (less, more, upper) = (&name[..name.len() - 1], format!("{name}0"), name.to_uppercase());
    let (less_outright, as_id) = (format!("name:{less}"), format!("id:{name}"));
    for target in [
        less,
        &more,
        &upper,
        &less_outright,
        &as_id,
        &web.id.to_uppercase(),
    ] {
        docker.iceaxe(["thaw", target]).refuses(3, &["no such container"]);
    }
    web.is_frozen();
}

fn stopped(docker: &Docker) -> Container<'_> {
    let web = docker.container("web");
    docker.docker(["kill", &web.name]);
    docker.docker(["wait", &web.name]);
    web
}

fn a_stopped_container_is_known_but_not_running(layout: Layout) {
    let docker = Docker::start(layout);
    let web = stopped(&docker);
    // Without a container that runs nothing on this host leads to the data root.
    let _other = docker.container("other");
    for verb in ["thaw", "freeze", "status", "path"] {
        for target in [&web.name, &format!("name:{}", web.name), &web.id] {
            docker
                .iceaxe([verb, target])
                .refuses(3, &["known but not running"]);
        }
        docker.iceaxe([verb, web.short()]).refuses(3, &[]);
    }
}

fn a_stopped_container_in_the_default_places_is_known_by_its_id(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = stopped(&docker);
    for target in [
        &web.name,
        &format!("name:{}", web.name),
        &web.id,
        &format!("id:{}", web.id),
    ] {
        docker
            .iceaxe(["thaw", target])
            .refuses(3, &["known but not running"]);
    }
}

fn a_restarted_container_is_the_new_one(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    docker.docker(["kill", &web.name]);
    docker.docker(["wait", &web.name]);
    docker.docker(["start", &web.name]);
    let again = docker.again(&web);
    assert_ne!(again.pid, web.pid);
    again.pause();
    docker.wedge();
    let report = again.iceaxe("thaw").is(0, "confirmed");
    assert_eq!(report["id"], web.id.as_str());
    again.is_thawed();
    docker
        .iceaxe(["status", &format!("pid:{}", web.pid)])
        .refuses(3, &[]);
}

fn an_id_that_is_not_unique_is_ambiguous_and_names_its_candidates(layout: Layout) {
    let docker = Docker::start(layout);
    let mut all: Vec<Container<'_>> = Vec::new();
    // At the seventeenth at the latest two begin with the same digit.
    let (one, other) = loop {
        let next = docker.container(&format!("web-{}", all.len()));
        next.pause();
        if let Some(same) = all.iter().position(|known| known.id[..1] == next.id[..1]) {
            break (all.remove(same), next);
        }
        all.push(next);
    };
    let digit = &one.id[..1];
    let named = [
        format!("id:{}", one.id),
        format!("id:{}", other.id),
        one.name.clone(),
        other.name.clone(),
    ];
    let mut words: Vec<&str> = named.iter().map(String::as_str).collect();
    words.extend([one.short(), other.short(), "docker"]);
    for target in [digit, &format!("id:{digit}")] {
        docker.iceaxe(["thaw", target]).refuses(4, &words);
    }
    assert!(one.asks() && other.asks());
    docker.iceaxe(["thaw", &named[0], "--json"]).is(0, "confirmed");
    one.is_thawed();
    other.is_frozen();
}

fn a_name_that_is_anothers_short_id_is_ambiguous(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let impostor = docker.container_called(web.short(), &[], BEATING);
    web.pause();
    impostor.pause();
    let (ids, target) = (
        [format!("id:{}", web.id), format!("id:{}", impostor.id)],
        web.short(),
    );
    docker.iceaxe(["thaw", target]).refuses(
        4,
        &[
            &ids[0],
            &ids[1],
            web.short(),
            impostor.short(),
            &web.name,
            "docker",
        ],
    );
    assert!(web.asks() && impostor.asks());
    // One digit less or more is no name.
    docker
        .iceaxe(["thaw", &web.id[..13], "--json"])
        .is(0, "confirmed");
    web.is_thawed();
    impostor.is_frozen();
    docker
        .iceaxe(["thaw", &format!("name:{target}"), "--json"])
        .is(0, "confirmed");
    impostor.is_thawed();
}

fn a_short_name_that_also_begins_an_id_means_the_name_and_says_so(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let short = docker.container_called(&web.id[..6], &[], BEATING);
    web.pause();
    short.pause();
    let ended = docker.iceaxe(["thaw", &web.id[..6], "--json"]);
    assert_eq!(ended.is(0, "confirmed")["id"], short.id.as_str());
    assert!(
        ended.err.contains("note: ") && ended.err.contains(&format!("id:{}", web.id)),
        "{ended:?}"
    );
    short.is_thawed();
    web.is_frozen();
}

fn a_name_in_two_data_roots_is_ambiguous_and_each_id_means_its_own(layout: Layout) {
    let docker = Docker::start(layout);
    let beside = docker.another();
    let (one, other) = (docker.container("web"), beside.container("web"));
    one.pause();
    other.pause();
    let ids = [format!("id:{}", one.id), format!("id:{}", other.id)];
    for target in [&one.name, &format!("name:{}", one.name)] {
        docker
            .iceaxe(["thaw", target])
            .refuses(4, &[&ids[0], &ids[1], "docker"]);
    }
    docker.wedge();
    beside.wedge();
    docker.iceaxe(["thaw", &ids[1], "--json"]).is(0, "confirmed");
    other.is_thawed();
    one.is_frozen();
    docker.iceaxe(["thaw", &ids[0], "--json"]).is(0, "confirmed");
    one.is_thawed();
    assert_eq!(docker.status(&ids[0])["name"], one.name.as_str());
}

fn a_name_is_found_in_the_default_places_too(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let web = docker.container("web");
    web.pause();
    docker.kill_dockerd();
    docker.kill_containerd();
    docker.orphan(std::slice::from_ref(&web));
    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
    web.is_seen("paused", "thawed");
}
