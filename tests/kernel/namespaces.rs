//! iceaxe in a PID namespace with a /proc of its own, as in a container that has containers: v1 lists the tasks that have a
//! number there, and none is not the same as nobody.

use std::ffi::OsStr;

use kit::{
    Hierarchy, Iceaxe, Scene, Zoo, eventually, freeze, iceaxe, pending_signals, program, tasks_add_up, thaw,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A PID namespace, by the process that keeps it.
struct Namespace {
    keeper: Zoo,
}

impl Namespace {
    fn new(scene: &Scene) -> Self {
        Self {
            keeper: scene.zoo_with(&[], &["--pidns"], &["sleep"]),
        }
    }

    fn pid(&self) -> String {
        self.keeper.tid(0).to_string()
    }

    /// The command in there.
    fn inside(&self, command: Iceaxe) -> Iceaxe {
        let (zoo, pid) = (program("zoo"), self.pid());
        let inside: [&OsStr; 4] = [zoo.as_ref(), "--join".as_ref(), pid.as_ref(), "inside".as_ref()];
        command.through(&inside)
    }
}

fn an_empty_cgroup_is_frozen_and_thawed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let namespace = Namespace::new(&scene);
    let cgroup = scene.cgroup(hierarchy);
    // Whether it is empty can't be told from there on v1.
    let freeze = freeze(&cgroup).arg("--force");
    let report = namespace.inside(freeze).ends(0, "confirmed");
    tasks_add_up(&report, &[]);
    assert!(cgroup.asks());
    let run = namespace.inside(thaw(&cgroup)).run();
    let code = if hierarchy == Hierarchy::V1 { 9 } else { 0 };
    assert_eq!(run.code, Some(code), "{run:?}");
    assert!(!cgroup.asks());
}

/// Whom nobody can see there may be anybody.
fn a_cgroup_of_others_is_not_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let namespace = Namespace::new(&scene);
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    let report = namespace.inside(freeze(&cgroup)).ends(5, "denied");
    assert!(
        report["error"].as_str().unwrap().contains("PID namespace"),
        "{report}"
    );
    assert!(!cgroup.asks());
    zoo.goes_on(0);
}

fn who_is_killed_leaves_an_empty_cgroup(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let namespace = Namespace::new(&scene);
    let cgroup = scene.cgroup(hierarchy);
    scene.zoo_with(&[&cgroup], &["--join", &namespace.pid()], &["doze", "sleep"]);
    let command = iceaxe("kill").arg("--json").arg("--force").arg(cgroup.target());
    let report = namespace.inside(command).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["exited"], 2)]);
    assert!(cgroup.tids().is_empty());
}

fn a_task_that_dies_of_its_thaw_did_as_it_should(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let namespace = Namespace::new(&scene);
    let cgroup = scene.cgroup(hierarchy);
    // In a third of all tries its end came between two looks.
    for _ in 0..6 {
        let zoo = scene.zoo_with(&[&cgroup], &["--join", &namespace.pid()], &["sleep"]);
        cgroup.freeze();
        kill(Pid::from_raw(zoo.tid(0)), Signal::SIGKILL).unwrap();
        if hierarchy == Hierarchy::V1 {
            eventually("it is to die", || pending_signals(zoo.tid(0)) != 0);
        }
        let report = namespace.inside(thaw(&cgroup)).ends(0, "confirmed");
        assert!(!cgroup.asks(), "{report}");
        eventually("it died", || cgroup.tids().is_empty());
    }
}

on_each_hierarchy! {
    a_cgroup_of_others_is_not_frozen,
    a_task_that_dies_of_its_thaw_did_as_it_should,
    an_empty_cgroup_is_frozen_and_thawed,
    who_is_killed_leaves_an_empty_cgroup,
}
