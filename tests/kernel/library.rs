//! The same through the library: what is frozen by a value is thawed with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use iceaxe::report::{Counts, Outcome, Requested};
use iceaxe::{Force, Frozen, Host, Patience, Proof};
use kit::{Hierarchy, Scene, eventually, freeze, thaw};

fn patience() -> Patience<'static> {
    Patience::of(Duration::from_secs(30))
}

fn a_frozen_value_thaws_with_proof(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["busy", "pipe"]);
    let host = Host::system().unwrap();
    let container = host.cgroup(&cgroup.dir).unwrap();
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
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let host = Host::system().unwrap();
    let container = host.cgroup(&cgroup.dir).unwrap();
    let frozen = container.freeze(patience()).unwrap();
    assert!(cgroup.asks());
    drop(frozen);
    assert!(!cgroup.asks());
    zoo.goes_on(0);
}

fn a_panic_thaws(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let host = Host::system().unwrap();
    let container = host.cgroup(&cgroup.dir).unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _frozen = container.freeze(patience()).unwrap();
        assert!(!cgroup.asks(), "as a test that fails while it is frozen");
    }));
    assert!(caught.is_err());
    assert!(!cgroup.asks());
    zoo.goes_on(0);
}

fn a_kept_value_stays_frozen(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let host = Host::system().unwrap();
    let container = host.cgroup(&cgroup.dir).unwrap();
    let report = container.freeze(patience()).unwrap().keep();
    assert_eq!(report.outcome, Outcome::Confirmed);
    assert!(cgroup.asks());
    zoo.stands(0);
    assert_eq!(container.thaw(patience()).unwrap().exit(), 0);
    zoo.goes_on(0);
}

fn what_was_frozen_before_outlives_the_value(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    freeze(&cgroup).ends(0, "confirmed");
    let host = Host::system().unwrap();
    let container = host.cgroup(&cgroup.dir).unwrap();
    let frozen = container.freeze(patience()).unwrap();
    assert_eq!(frozen.report().outcome, Outcome::Unchanged);
    drop(frozen);
    assert!(cgroup.asks());
    zoo.stands(0);
    thaw(&cgroup).ends(0, "confirmed");
}

fn what_does_not_freeze_is_an_error_with_its_report(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let host = Host::system().unwrap();
    let container = host.cgroup(&cgroup.dir).unwrap();
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
    let container = host.cgroup(&first.dir).unwrap();
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

fn send<T: Send + 'static>(value: T) -> T {
    std::thread::spawn(move || value).join().unwrap()
}

fn a_frozen_value_is_owned_and_may_go_to_another_thread(hierarchy: Hierarchy) {
    fn frozen(cgroup: &std::path::Path) -> Frozen {
        let host = Host::system().unwrap();
        host.cgroup(cgroup).unwrap().freeze(patience()).unwrap()
    }
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["busy"]);
    let frozen = send(frozen(&cgroup.dir));
    assert_eq!(frozen.tasks().collect::<Vec<_>>(), [(zoo.tid(0), Proof::Frozen)]);
    let thawed = frozen.thaw(Duration::from_secs(30)).unwrap();
    assert_eq!(thawed.proofs.unwrap()[&zoo.tid(0)], Proof::Ran);
    zoo.goes_on(0);
}

fn a_value_of_what_was_frozen_before_thaws_nothing(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    freeze(&cgroup).ends(0, "confirmed");
    let host = Host::system().unwrap();
    let frozen = host.cgroup(&cgroup.dir).unwrap().freeze(patience()).unwrap();
    assert_eq!(frozen.thaw(patience()).unwrap().outcome, Outcome::Unchanged);
    assert!(cgroup.asks());
    zoo.stands(0);
    thaw(&cgroup).ends(0, "confirmed");
}

fn of_several_that_freeze_as_one_none_stays_frozen_alone(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [scene.cgroup(hierarchy), scene.cgroup(hierarchy)];
    let zoo = scene.zoo(&[&cgroups[0]], &["doze"]);
    let host = Host::system().unwrap();
    let handles = cgroups.each_ref().map(|cgroup| host.cgroup(&cgroup.dir).unwrap());
    let frozen = host.freeze_all(&handles, patience()).unwrap();
    assert!(cgroups.iter().all(kit::Cgroup::asks));
    drop(frozen);
    assert!(!cgroups.iter().any(kit::Cgroup::asks));
    let stubborn = scene.zoo(&[&cgroups[1]], &["dstate"]);
    let error = host.freeze_all(&handles, Duration::from_millis(700)).unwrap_err();
    assert_eq!(error.0[1].holdouts[0].tid, stubborn.tid(0));
    assert!(!cgroups.iter().any(kit::Cgroup::asks));
    zoo.goes_on(0);
}

/// Nothing of a container that is gone runs, which keeps no other from freezing; but the set is not frozen as it was asked.
fn of_several_of_which_one_is_gone_none_stays_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let (healthy, gone) = (top.child("healthy"), top.child("gone"));
    let zoo = scene.zoo(&[&healthy], &["doze"]);
    let host = Host::system().unwrap();
    let handles = [&healthy, &gone].map(|cgroup| host.cgroup(&cgroup.dir).unwrap());
    gone.remove();
    let error = host.freeze_all(&handles, patience()).unwrap_err();
    let ends: Vec<Outcome> = error.0.iter().map(|report| report.outcome).collect();
    assert_eq!(ends, [Outcome::RolledBack, Outcome::Gone], "{error}");
    assert!(!healthy.asks());
    zoo.goes_on(0);
}

fn a_rule_is_lifted_for_the_handle_that_lifts_it_alone(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let slices = [top.child("one.slice"), top.child("other.slice")];
    let zoo = scene.zoo(&[&slices[0], &slices[1]], &["doze"]);
    let host = Host::system().unwrap();
    let [one, other] = slices.each_ref().map(|cgroup| host.cgroup(&cgroup.dir).unwrap());
    let lifted = one.clone().lifting(Force::NotContainer);
    let error = host.freeze_all([&lifted, &other], patience()).unwrap_err();
    assert_eq!(error.0[1].outcome, Outcome::Refused, "{error}");
    assert!(!slices.iter().any(kit::Cgroup::asks));
    drop(lifted.freeze(patience()).unwrap());
    zoo.goes_on(0);
}

/// A name as docker prints it begins with a slash too.
fn what_is_no_directory_of_a_cgroup_is_not_taken_for_a_name() {
    let host = Host::system().unwrap();
    for path in ["/web", "web", "/tmp"] {
        let error = host.cgroup(path).unwrap_err();
        assert!(matches!(error, iceaxe::Error::Usage(_)), "{path}: {error}");
    }
}

mod any {
    #[test]
    fn what_is_no_directory_of_a_cgroup_is_not_taken_for_a_name() {
        super::what_is_no_directory_of_a_cgroup_is_not_taken_for_a_name();
    }
}

on_each_hierarchy! {
    of_several_of_which_one_is_gone_none_stays_frozen,
    a_rule_is_lifted_for_the_handle_that_lifts_it_alone,
    a_frozen_value_is_owned_and_may_go_to_another_thread,
    a_value_of_what_was_frozen_before_thaws_nothing,
    of_several_that_freeze_as_one_none_stays_frozen_alone,
    a_frozen_value_thaws_with_proof,
    a_dropped_value_thaws,
    a_panic_thaws,
    a_kept_value_stays_frozen,
    what_was_frozen_before_outlives_the_value,
    what_does_not_freeze_is_an_error_with_its_report,
    a_successor_of_the_same_name_is_not_frozen,
}
