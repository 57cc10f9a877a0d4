//! Several containers freeze as one, or none of them does.

use kit::{Cgroup, Hierarchy, Iceaxe, Scene, freeze, iceaxe};

/// `iceaxe freeze --json` of all of them.
fn freeze_all(cgroups: &[Cgroup], limit: &str) -> Iceaxe {
    let command = iceaxe("freeze").arg("--json").timeout(limit);
    cgroups
        .iter()
        .fold(command, |command, cgroup| command.arg(cgroup.target()))
}

fn one_that_cannot_be_frozen_leaves_none_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1, 2].map(|_| scene.cgroup(hierarchy));
    let stuck = scene.zoo(&[&cgroups[1]], &["dstate", "doze"]);
    let other = scene.zoo(&[&cgroups[2]], &["doze"]);
    let run = freeze_all(&cgroups, "700ms").run();
    assert_eq!(run.code, Some(6), "{run:?}");
    for (at, report) in run.json().iter().enumerate() {
        assert_eq!(report["outcome"], "rolled_back", "{report}");
        let error = report["error"].as_str().unwrap();
        assert_eq!(error.starts_with("all or nothing"), at != 1, "{error}");
        assert!(report["skew_us"].is_null(), "{report}");
    }
    assert!(!cgroups.iter().any(Cgroup::asks), "{run:?}");
    stuck.goes_on(1);
    other.goes_on(0);
}

fn one_that_was_frozen_before_stays_so_when_another_cannot_be(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1, 2].map(|_| scene.cgroup(hierarchy));
    let _stuck = scene.zoo(&[&cgroups[1]], &["dstate"]);
    freeze(&cgroups[0]).ends(0, "confirmed");
    let run = freeze_all(&cgroups, "300ms").run();
    let outcomes: Vec<_> = run
        .json()
        .iter()
        .map(|report| report["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["unchanged", "rolled_back", "rolled_back"], "{run:?}");
    let asks: Vec<bool> = cgroups.iter().map(Cgroup::asks).collect();
    assert_eq!(asks, [true, false, false], "{run:?}");
}

fn best_effort_freezes_the_others(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1, 2].map(|_| scene.cgroup(hierarchy));
    let stuck = scene.zoo(&[&cgroups[1]], &["dstate", "doze"]);
    let run = freeze_all(&cgroups, "700ms").arg("--best-effort").run();
    assert_eq!(run.code, Some(12), "{run:?}");
    let ends: Vec<_> = run.json().iter().map(|report| report["exit"].clone()).collect();
    assert_eq!(ends, [0, 6, 0], "{run:?}");
    assert!(cgroups[0].asks() && !cgroups[1].asks() && cgroups[2].asks());
    stuck.goes_on(1);
}

fn where_one_is_not_found_nothing_is_written(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let missing = format!("{}:/iceaxe-test-nobody", hierarchy.word());
    let run = freeze(&cgroup).arg(&missing).run();
    assert_eq!(run.code, Some(12), "{run:?}");
    let report = run
        .json()
        .into_iter()
        .find(|report| report["outcome"] == "rolled_back");
    let report = report.unwrap();
    assert!(report["writes"].as_array().unwrap().is_empty(), "{report}");
    assert!(report["error"].as_str().unwrap().contains(&missing), "{report}");
    assert!(!cgroup.asks());
    let run = freeze(&cgroup).arg(&missing).arg("--best-effort").run();
    assert_eq!(run.code, Some(12), "{run:?}");
    assert!(cgroup.asks());
}

fn how_far_apart_they_froze_is_told(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups: Vec<_> = (0..10).map(|_| scene.cgroup(hierarchy)).collect();
    let _zoos: Vec<_> = cgroups
        .iter()
        .map(|cgroup| scene.zoo(&[cgroup], &["busy", "doze"]))
        .collect();
    let run = freeze_all(&cgroups, "30s").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    let skews: Vec<u64> = run
        .json()
        .iter()
        .map(|report| report["skew_us"].as_u64().unwrap())
        .collect();
    assert!(
        skews.iter().all(|&skew| skew == skews[0] && skew > 0),
        "{skews:?}"
    );
    cgroups.iter().for_each(Cgroup::thaw);
    let run = cgroups
        .iter()
        .fold(iceaxe("freeze"), |command, cgroup| command.arg(cgroup.target()))
        .run();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.err.contains("after the first"), "{run:?}");
}

on_each_hierarchy!(
    one_that_cannot_be_frozen_leaves_none_frozen,
    one_that_was_frozen_before_stays_so_when_another_cannot_be,
    best_effort_freezes_the_others,
    where_one_is_not_found_nothing_is_written,
    how_far_apart_they_froze_is_told,
);
