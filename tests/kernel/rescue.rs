//! A thaw that climbs: mildest first, as far as it was told, and it says which step did it.

use serde_json::{Value, json};

use crate::kit::{Cgroup, Hierarchy, Scene, iceaxe, is_gone, thaw};

fn rescue(cgroup: &Cgroup, up_to: Option<&str>) -> crate::kit::Iceaxe {
    thaw(cgroup)
        .timeout("500ms")
        .arg(up_to.map_or("--rescue".to_owned(), |step| format!("--rescue={step}")))
}

#[track_caller]
fn tried(report: &Value) -> Vec<&str> {
    let tried = report["rescue"]["tried"].as_array();
    let tried = tried.unwrap_or_else(|| panic!("no rescue: {report}"));
    tried.iter().map(|step| step.as_str().unwrap()).collect()
}

fn a_thaw_that_needs_no_rescue_tries_nothing(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&own], &["doze"]);
    own.freeze();
    let report = rescue(&own, None).ends(0, "confirmed");
    assert_eq!(report["rescue"], json!({"tried": [], "worked": null}), "{report}");
    zoo.goes_on(0);
    let report = thaw(&own).ends(0, "unchanged");
    assert_eq!(report["rescue"], json!(null), "{report}");
}

fn a_frozen_ancestor_is_thawed_and_said_to_have_been_it(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let own = top.child("own");
    let zoo = scene.zoo(&[&own], &["doze"]);
    own.freeze();
    top.freeze();
    let report = rescue(&own, Some("rekick")).ends(8, "held");
    assert_eq!(tried(&report), ["rekick"], "{report}");
    assert_eq!(report["rescue"]["worked"], json!(null), "{report}");
    assert!(top.asks());
    own.ask();
    let report = rescue(&own, None).ends(0, "confirmed");
    assert_eq!(report["rescue"]["worked"], "ancestors", "{report}");
    assert_eq!(report["before"]["effective"], "frozen", "{report}");
    // Its own request first, then the ancestor's.
    assert_eq!(report["writes"].as_array().unwrap().len(), 2, "{report}");
    assert!(!top.asks());
    zoo.goes_on(0);
}

fn a_cgroup_inside_is_thawed_by_the_second_kick(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let inner = own.child("inner");
    let zoo = scene.zoo(&[&inner], &["doze"]);
    inner.freeze();
    let report = rescue(&own, None).ends(0, "confirmed");
    assert_eq!(report["rescue"]["worked"], "rekick", "{report}");
    assert!(!inner.asks());
    zoo.goes_on(0);
}

fn nothing_is_killed_unless_it_is_asked_for(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&own], &["dstate", "doze"]);
    let report = rescue(&own, None).ends(9, "released");
    assert_eq!(tried(&report), ["wait"], "{report}");
    zoo.goes_on(1);
    // Nor what is no container.
    let report = rescue(&own, Some("kill")).ends(9, "released");
    assert_eq!(tried(&report), ["wait", "kill"], "{report}");
    zoo.goes_on(1);
    zoo.release(0);
}

fn a_container_is_killed_where_nothing_milder_helps(hierarchy: Hierarchy) {
    let scene = Scene::new();
    // A name that runtimes give.
    let name = format!("/docker-{}.scope", "c0ffee00".repeat(8));
    let parent = scene.cgroup(hierarchy);
    let own = parent.child(name.trim_start_matches('/'));
    let zoo = scene.zoo(&[&own], &["dstate", "doze"]);
    let report = iceaxe("thaw")
        .arg(own.target())
        .arg("--json")
        .arg("--timeout=500ms")
        .arg("--rescue=kill")
        .run();
    let lines = report.json();
    let report = &lines[0];
    assert_eq!(tried(report), ["wait", "kill"], "{report}");
    // Its D task dies when it is let go.
    assert_eq!(
        (&report["exit"], &report["outcome"]),
        (&json!(9), &json!("released")),
        "{report}"
    );
    assert!(is_gone(zoo.tid(1)), "{report}");
    zoo.release(0);
    crate::kit::eventually("it dies", || is_gone(zoo.tid(0)));
}

on_each_hierarchy! {
    a_thaw_that_needs_no_rescue_tries_nothing,
    a_frozen_ancestor_is_thawed_and_said_to_have_been_it,
    a_cgroup_inside_is_thawed_by_the_second_kick,
    nothing_is_killed_unless_it_is_asked_for,
    a_container_is_killed_where_nothing_milder_helps,
}
