//! The same through the library: what is frozen by a value is thawed with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use iceaxe::report::{Counts, Outcome, Requested};
use iceaxe::{Host, Patience};
use kit::{Cgroup, Hierarchy, Scene, eventually, freeze, thaw};

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn target(cgroup: &Cgroup) -> String {
    cgroup.target().into_string().unwrap()
}

fn a_frozen_value_thaws_with_proof(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["busy", "pipe"]);
    let host = Host::system().unwrap();
    let container = host.resolve(&target(&cgroup)).unwrap();
    let frozen = container.freeze(patience()).unwrap();
    assert!(matches!(frozen.report().tasks, Some(Counts::Freeze(counts)) if counts.frozen == 2));
    assert!(cgroup.asks());
    zoo.stands(0);
    assert_eq!(container.status().unwrap().requested, Some(Requested::Frozen));
    let report = frozen.thaw(patience()).unwrap();
    assert_eq!(report.outcome, Outcome::Confirmed);
    assert!(matches!(report.tasks, Some(Counts::Thaw(counts)) if counts.ran == 2));
    assert!(!cgroup.asks());
    zoo.goes_on(0);
    zoo.answers(1);
}

fn a_dropped_value_thaws(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    let host = Host::system().unwrap();
    let container = host.resolve(&target(&cgroup)).unwrap();
    let frozen = container.freeze(patience()).unwrap();
    assert!(cgroup.asks());
    drop(frozen);
    assert!(!cgroup.asks());
    zoo.goes_on(0);
}

fn a_panic_thaws(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    let host = Host::system().unwrap();
    let container = host.resolve(&target(&cgroup)).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _frozen = container.freeze(patience()).unwrap();
        assert!(!cgroup.asks(), "as a test that fails while it is frozen");
    }));
    assert!(caught.is_err());
    assert!(!cgroup.asks());
    zoo.goes_on(0);
}

fn a_kept_value_stays_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    let host = Host::system().unwrap();
    let container = host.resolve(&target(&cgroup)).unwrap();
    let report = container.freeze(patience()).unwrap().keep();
    assert_eq!(report.outcome, Outcome::Confirmed);
    assert!(cgroup.asks());
    zoo.stands(0);
    assert_eq!(container.thaw(patience()).unwrap().exit(), 0);
    zoo.goes_on(0);
}

fn what_was_frozen_before_outlives_the_value(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    freeze(&cgroup).ends(0, "confirmed");
    let host = Host::system().unwrap();
    let container = host.resolve(&target(&cgroup)).unwrap();
    let frozen = container.freeze(patience()).unwrap();
    assert_eq!(frozen.report().outcome, Outcome::Unchanged);
    drop(frozen);
    assert!(cgroup.asks());
    zoo.stands(0);
    thaw(&cgroup).ends(0, "confirmed");
}

fn what_does_not_freeze_is_an_error_with_its_report(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["dstate", "doze"]);
    let host = Host::system().unwrap();
    let container = host.resolve(&target(&cgroup)).unwrap();
    let error = container
        .freeze(Patience::of(Duration::from_millis(700)))
        .unwrap_err();
    assert_eq!((error.0.exit(), error.0.holdouts[0].tid), (6, zoo.tid(0)));
    assert!(!cgroup.asks());
    zoo.goes_on(1);
}

/// A handle means the cgroup that it was resolved to, never a successor of the same name.
fn a_successor_of_the_same_name_is_not_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let first = top.child("own");
    let host = Host::system().unwrap();
    let container = host.resolve(&target(&first)).unwrap();
    first.remove();
    let second = top.child("own");
    let zoo = scene.zoo(&[&second], &["doze"]);
    let error = container.freeze(patience()).unwrap_err();
    assert_eq!((error.0.exit(), error.0.outcome), (3, Outcome::Gone));
    assert!(!second.asks());
    zoo.goes_on(0);
    second.freeze();
    let error = container.thaw(patience()).unwrap_err();
    assert_eq!((error.0.exit(), error.0.outcome), (3, Outcome::Gone));
    eventually("the successor is as it was", || second.asks());
}

on_each_hierarchy! {
    a_frozen_value_thaws_with_proof,
    a_dropped_value_thaws,
    a_panic_thaws,
    a_kept_value_stays_frozen,
    what_was_frozen_before_outlives_the_value,
    what_does_not_freeze_is_an_error_with_its_report,
    a_successor_of_the_same_name_is_not_frozen,
}
