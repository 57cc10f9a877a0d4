//! What is never frozen, or only when it is said outright. Refused means untouched.

use crate::kit::{Cgroup, Hierarchy, Scene, eventually, freeze, iceaxe, letter, thaw, zoo_program};

#[track_caller]
fn refused(cgroup: &Cgroup, force: Option<&str>) -> serde_json::Value {
    let command = freeze(cgroup);
    let report = match force {
        Some(force) => command.arg(force),
        None => command,
    }
    .ends(11, "refused");
    assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    assert!(!cgroup.asks());
    report
}

fn the_root_is_never_frozen(hierarchy: Hierarchy) {
    let target = format!("{}:/", hierarchy.word());
    iceaxe("freeze").arg(&target).arg("--json").ends(11, "refused");
    iceaxe("freeze")
        .arg(&target)
        .arg("--json")
        .arg("--force")
        .ends(11, "refused");
}

fn iceaxe_never_freezes_itself(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let below = own.child("below");
    let inside = [
        zoo_program().into(),
        "--in".into(),
        below.dir.clone().into_os_string(),
        "exec".into(),
    ];
    for cgroup in [&below, &own] {
        let report = freeze(cgroup).arg("--force").through(&inside).ends(11, "refused");
        assert!(report["error"].as_str().unwrap().contains("iceaxe"), "{report}");
        assert!(!cgroup.asks());
    }
}

fn iceaxe_never_freezes_its_parent(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let inside = [
        zoo_program().into(),
        "--in".into(),
        cgroup.dir.clone().into_os_string(),
        "parent".into(),
    ];
    let report = freeze(&cgroup)
        .arg("--force")
        .through(&inside)
        .ends(11, "refused");
    assert!(report["error"].as_str().unwrap().contains("parent"), "{report}");
    assert!(!cgroup.asks());
}

fn a_kernel_thread_is_never_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let own = scene.cgroup(hierarchy);
    let below = own.child("below");
    let tid = scene.borrow_kernel_thread(&below);
    let zoo = scene.zoo(&[&own], &["doze"]);
    for force in [None, Some("--force")] {
        let report = refused(&own, force);
        assert!(
            report["error"].as_str().unwrap().contains("kernel thread"),
            "{report}"
        );
        assert!(
            report["error"].as_str().unwrap().contains(&tid.to_string()),
            "{report}"
        );
    }
    assert_eq!(letter(tid), Some('S'));
    zoo.goes_on(0);
}

fn a_slice_is_frozen_only_when_it_is_said(hierarchy: Hierarchy) {
    let scene = Scene::new();
    for name in ["web.slice", "web.service", "init.scope"] {
        let cgroup = scene.cgroup(hierarchy).child(name);
        let zoo = scene.zoo(&[&cgroup], &["doze"]);
        let report = refused(&cgroup, None);
        assert!(report["error"].as_str().unwrap().contains(name), "{report}");
        refused(&cgroup, Some("--force=host-daemon"));
        freeze(&cgroup).arg("--force=not-container").ends(0, "confirmed");
        zoo.stands(0);
        // Thawing is made easy.
        thaw(&cgroup).ends(0, "confirmed");
        zoo.goes_on(0);
    }
}

fn a_daemon_of_the_host_is_frozen_only_when_it_is_said(hierarchy: Hierarchy) {
    let scene = Scene::new();
    for name in ["dockerd", "containerd-shim", "sshd"] {
        let cgroup = scene.cgroup(hierarchy);
        let zoo = scene.zoo_with(&[&cgroup], &["--comm", name], &["doze"]);
        let report = refused(&cgroup, None);
        assert!(report["error"].as_str().unwrap().contains(name), "{report}");
        refused(&cgroup, Some("--force=not-container"));
        freeze(&cgroup).arg("--force=host-daemon").ends(0, "confirmed");
        thaw(&cgroup).ends(0, "confirmed");
        zoo.goes_on(0);
    }
}

fn a_daemon_in_a_pid_namespace_of_its_own_is_its_own_business(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&cgroup], &["--comm", "sshd", "--pidns"], &["doze"]);
    freeze(&cgroup).ends(0, "confirmed");
    zoo.stands(0);
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
}

fn a_plain_force_lifts_all_rules_that_can_be(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy).child("system.slice");
    let zoo = scene.zoo_with(&[&cgroup], &["--comm", "dockerd"], &["doze"]);
    freeze(&cgroup).arg("--force").ends(0, "confirmed");
    zoo.stands(0);
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
}

/// A task that came into the cgroup right before the write counts too.
fn the_rules_hold_for_what_is_below(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let deep = top.child("a").child("b");
    let zoo = scene.zoo_with(&[&deep], &["--comm", "kubelet"], &["doze"]);
    refused(&top, None);
    eventually("it runs", || letter(zoo.tid(0)) == Some('S'));
    zoo.goes_on(0);
}

on_each_hierarchy! {
    the_root_is_never_frozen,
    iceaxe_never_freezes_itself,
    iceaxe_never_freezes_its_parent,
    a_kernel_thread_is_never_frozen,
    a_slice_is_frozen_only_when_it_is_said,
    a_daemon_of_the_host_is_frozen_only_when_it_is_said,
    a_daemon_in_a_pid_namespace_of_its_own_is_its_own_business,
    a_plain_force_lifts_all_rules_that_can_be,
    the_rules_hold_for_what_is_below,
}
