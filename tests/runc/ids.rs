//! runc containers by their IDs, their processes and their places.

use kit::engines::{Layout, Vessel};
use kit::in_each_layout;

use crate::bundles::{Runc, own_digits, own_id};

in_each_layout! {
    a_paused_container_is_thawed_by_each_form
    an_id_of_runc_is_taken_whole_or_not_at_all
    a_container_whose_record_nobody_can_find_is_a_candidate_with_its_path
    a_freeze_and_a_thaw_keep_runc_in_step
    a_container_is_listed_once_and_nothing_is_believed_of_it
    a_cgroup_that_is_not_called_by_the_id_is_found_by_id_and_process
    a_cgroup_that_two_containers_share_is_frozen_for_neither
    a_container_in_another_is_listed_as_a_chain_and_chosen_by_inner_and_outer
    a_process_in_an_unnamed_container_inside_a_named_one_is_in_both
    the_parent_of_containers_is_no_container_whatever_it_is_called
}

fn a_paused_container_is_thawed_by_each_form(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    for target in [
        web.id.clone(),
        format!("id:{}", web.id),
        format!("pid:{}", web.pid),
    ] {
        runc.ended(["pause", &web.id]).well();
        web.is_frozen();
        let report = runc.iceaxe(["thaw", &target, "--json"]).is(0, "confirmed");
        assert_eq!(
            (&report["id"], &report["runtime"]),
            (&web.id.as_str().into(), &"runc".into()),
            "{report}"
        );
        web.is_thawed();
        assert_eq!(runc.says(&web), "running");
    }
    // It has an ID and no name.
    runc.iceaxe(["thaw", &format!("name:{}", web.id)])
        .refuses(3, &["no such container"]);
}

/// A cgroup of that name could be anything: runc keeps a record of each container.
fn a_container_whose_record_nobody_can_find_is_a_candidate_with_its_path(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    let elsewhere = runc.hide_record(&web.id);
    let path = format!("{}:/{}", web.cgroups[0].hierarchy.word(), web.id);
    for target in [web.id.clone(), format!("id:{}", web.id)] {
        for verb in ["freeze", "thaw", "status", "kill"] {
            runc.iceaxe([verb, &target]).refuses(4, &[&path]);
        }
    }
    web.is_thawed();
    runc.iceaxe(["freeze", &path, "--json"]).is(0, "confirmed");
    web.is_frozen();
    runc.iceaxe(["thaw", &path, "--json"]).is(0, "confirmed");
    web.is_thawed();
    // A name is no ID.
    runc.iceaxe(["thaw", &format!("name:{}", web.id)])
        .refuses(3, &["no such container"]);
    assert!(elsewhere.is_dir());
}

fn an_id_of_runc_is_taken_whole_or_not_at_all(layout: Layout) {
    let runc = Runc::new(layout);
    // One of them looks like the beginning of an engine's ID.
    let digits = own_digits()[..20].to_owned();
    for web in [
        runc.container("web"),
        runc.container_at(&digits, &format!("/{}", own_id("digits"))),
    ] {
        runc.ended(["pause", &web.id]).well();
        let less = &web.id[..web.id.len() - 1];
        for target in [
            less,
            &web.id[..12],
            &format!("id:{less}"),
            &format!("{}0", web.id),
        ] {
            runc.iceaxe(["thaw", target]).refuses(3, &["no such container"]);
        }
        web.is_frozen();
        runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
        web.is_thawed();
    }
}

fn a_freeze_and_a_thaw_keep_runc_in_step(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    web.is_frozen();
    assert_eq!(runc.says(&web), "paused");
    runc.ended(["resume", &web.id]).well();
    web.is_thawed();
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
    runc.iceaxe(["thaw", &web.id, "--json"]).is(0, "confirmed");
    web.is_thawed();
    assert_eq!(runc.says(&web), "running");
    runc.ended(["pause", &web.id]).well();
    runc.iceaxe(["freeze", &web.id, "--json"]).is(0, "unchanged");
}

fn a_container_is_listed_once_and_nothing_is_believed_of_it(layout: Layout) {
    let runc = Runc::new(layout);
    let web = runc.container("web");
    runc.ended(["pause", &web.id]).well();
    let ended = runc.iceaxe(["list", "--json"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let lines = ended.out.lines().filter(|line| line.contains(&web.id));
    let entries: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(
        (&entry["id"], &entry["runtime"]),
        (&web.id.as_str().into(), &"runc".into()),
        "{entry}"
    );
    assert_eq!(entry["pid"], web.pid, "{entry}");
    assert_eq!(entry["effective"], "frozen", "{entry}");
    for null in ["name", "believed", "agree"] {
        assert!(entry[null].is_null(), "{null} in {entry}");
    }
}

fn a_cgroup_that_is_not_called_by_the_id_is_found_by_id_and_process(layout: Layout) {
    let runc = Runc::new(layout);
    let id = own_id("web");
    let web = runc.container_at(&id, &format!("/{}/a b:c (deleted)", own_id("parent")));
    for target in [
        id.clone(),
        format!("pid:{}", web.pid),
        format!("cgroup:{}", web.cgroups[0].path.display()),
    ] {
        runc.ended(["pause", &id]).well();
        web.is_frozen();
        let report = runc.iceaxe(["thaw", &target, "--json"]).is(0, "confirmed");
        if !target.starts_with("cgroup:") {
            assert_eq!(
                (&report["id"], &report["runtime"]),
                (&id.as_str().into(), &"runc".into()),
                "{report}"
            );
        }
        web.is_thawed();
    }
    assert_eq!(runc.status(&id)["pid"], web.pid);
}

fn a_cgroup_that_two_containers_share_is_frozen_for_neither(layout: Layout) {
    let runc = Runc::new(layout);
    let path = format!("/{}", own_id("shared"));
    let (one, other) = (
        runc.container_at(&own_id("one"), &path),
        runc.container_at(&own_id("other"), &path),
    );
    assert_eq!(one.cgroups, other.cgroups);
    for target in [&one.id, &other.id] {
        runc.iceaxe(["freeze", target])
            .refuses(4, &[&one.id, &other.id, &path]);
        assert!(!one.asks());
    }
    one.goes_on();
    other.goes_on();
    // It is one cgroup all the same, and can be asked for as one.
    let target = format!("cgroup:{path}");
    runc.iceaxe(["freeze", &target, "--json"]).is(0, "confirmed");
    one.is_frozen();
    other.is_frozen();
    runc.iceaxe(["thaw", &target, "--json"]).is(0, "confirmed");
    one.is_thawed();
    other.is_thawed();
}

fn a_container_in_another_is_listed_as_a_chain_and_chosen_by_inner_and_outer(layout: Layout) {
    let runc = Runc::new(layout);
    let (outer, id) = (own_digits(), own_digits());
    let path = format!("/{}/{outer}/docker/{id}", own_id("docker"));
    let inner = runc.container_at(&id, &path);
    let pid = format!("pid:{}", inner.pid);
    runc.ended(["pause", &id]).well();
    runc.iceaxe(["thaw", &pid])
        .refuses(4, &[&outer[..12], &id[..12], "--outer", "--inner"]);
    inner.is_frozen();
    let report = runc
        .iceaxe(["thaw", &pid, "--inner", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["id"], id.as_str(), "{report}");
    inner.is_thawed();
    let report = runc
        .iceaxe(["freeze", &pid, "--outer", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["id"], outer.as_str(), "{report}");
    inner.stands();
    assert!(!inner.asks());
    runc.iceaxe(["thaw", &pid, "--inner"]).refuses(8, &[&outer]);
    let report = runc
        .iceaxe(["thaw", &pid, "--outer", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["id"], outer.as_str(), "{report}");
    inner.is_thawed();
}

fn a_process_in_an_unnamed_container_inside_a_named_one_is_in_both(layout: Layout) {
    let runc = Runc::new(layout);
    let digits = own_digits();
    let parent = format!("/{}/{digits}", own_id("outer"));
    let outer = runc.container_at(&digits, &parent);
    let inner = runc.container_at(&own_id("inner"), &format!("{parent}/sub"));
    let pid = format!("pid:{}", inner.pid);
    runc.iceaxe(["freeze", &pid])
        .refuses(4, &[&outer.id[..12], &inner.id, "--outer", "--inner"]);
    let report = runc
        .iceaxe(["freeze", "--inner", &pid, "--json"])
        .is(0, "confirmed");
    assert_eq!(
        (&report["id"], &report["runtime"]),
        (&inner.id.as_str().into(), &"runc".into()),
        "{report}"
    );
    inner.is_frozen();
    outer.goes_on();
    runc.iceaxe(["thaw", &inner.id, "--json"]).is(0, "confirmed");
    inner.is_thawed();
}

fn the_parent_of_containers_is_no_container_whatever_it_is_called(layout: Layout) {
    let runc = Runc::new(layout);
    let parent = own_id("parent");
    let each = ["a", "b"].map(|name| runc.container_at(&own_id(name), &format!("/{parent}/{name}")));
    for target in [parent.clone(), format!("id:{parent}")] {
        runc.iceaxe(["freeze", &target])
            .refuses(3, &["no such container"]);
    }
    for version in each[0].cgroups.iter().map(|cgroup| cgroup.hierarchy.version()) {
        runc.iceaxe(["freeze", &format!("v{version}:/{parent}")])
            .refuses(11, &["2 containers"]);
    }
    each.iter().for_each(Vessel::is_thawed);
}
