//! What is never frozen, or only when it is said outright. Refused means untouched.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use kit::{Cgroup, Hierarchy, Scene, eventually, freeze, iceaxe, letter, mount_of, program, thaw};
use nix::sys::signal::Signal;

use super::lease::{guard_of, is_there};

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
        program("zoo").into(),
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
        program("zoo").into(),
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
    for name in ["web.slice", "web.service", "init.scope", "session-7.scope"] {
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

/// Where every guard of this machine is, which is thawed at the end: else no iceaxe could make another one.
struct GuardsThawed(PathBuf);

impl GuardsThawed {
    fn new() -> Self {
        Self(mount_of(Hierarchy::V2).join("iceaxe/cgroup.freeze"))
    }
}

impl Drop for GuardsThawed {
    fn drop(&mut self) {
        // It goes with its last guard.
        let _ = std::fs::write(&self.0, "0");
    }
}

/// Wherever it is, and whatever is said.
fn a_guard_is_never_frozen_nor_killed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let held = scene.cgroup(hierarchy);
    let outer = scene.cgroup(hierarchy);
    let inner = outer.child("inner");
    freeze(&held).arg("--for=5m").ends(0, "confirmed");
    let guard = guard_of(&held);
    let guards = [format!("{}:/iceaxe", Hierarchy::V2.word())];
    let mut targets: Vec<String> = guards
        .into_iter()
        .filter(|_| hierarchy == Hierarchy::V2)
        .collect();
    for _ in 0..2 {
        for target in &targets {
            for force in ["--force=host-daemon", "--force"] {
                for verb in ["freeze", "kill"] {
                    let report = iceaxe(verb)
                        .arg(target)
                        .arg(force)
                        .arg("--json")
                        .ends(11, "refused");
                    assert!(report["error"].as_str().unwrap().contains("guard"), "{report}");
                }
            }
            let run = iceaxe("hold").arg(target).arg("--force").arg("--").itself().run();
            assert_eq!((run.code, run.out.as_str()), (Some(125), ""), "{run:?}");
        }
        // It may have stayed where it was started.
        inner.admit(guard);
        targets = [&inner, &outer]
            .map(|cgroup| cgroup.target().into_string().unwrap())
            .into();
    }
    assert!(is_there(guard) && !inner.asks() && !outer.asks());
    thaw(&held).ends(0, "confirmed");
    eventually("it goes", || !is_there(guard));
}

/// By hand anybody who may can freeze their cgroup, and the next guard with it.
fn what_somebody_froze_of_the_guards_keeps_no_guard(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let [held, other] = [0, 1].map(|_| scene.cgroup(hierarchy));
    freeze(&held).arg("--for=5m").ends(0, "confirmed");
    let guards = GuardsThawed::new();
    std::fs::write(&guards.0, "1").unwrap();
    freeze(&other).arg("--for=5m").ends(0, "confirmed");
    assert_eq!(std::fs::read_to_string(&guards.0).unwrap(), "0\n");
    let pids = [&held, &other].map(guard_of);
    for cgroup in [&held, &other] {
        thaw(cgroup).ends(0, "confirmed");
    }
    eventually("they go", || !pids.into_iter().any(is_there));
}

/// A name is a process's own word.
fn what_only_calls_itself_a_guard_is_frozen_when_it_is_said(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&cgroup], &["--comm", "iceaxe-guard"], &["doze"]);
    refused(&cgroup, None);
    freeze(&cgroup).arg("--force=host-daemon").ends(0, "confirmed");
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
    let own = scene.cgroup(hierarchy);
    let zoo = scene.zoo_with(&[&own], &["--comm", "iceaxe-guard", "--pidns"], &["doze"]);
    freeze(&own).ends(0, "confirmed");
    thaw(&own).ends(0, "confirmed");
    zoo.goes_on(0);
}

fn what_no_runtime_made_is_frozen_without_a_word_and_not_killed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy).child("run-u7.scope");
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    freeze(&cgroup).ends(0, "confirmed");
    thaw(&cgroup).ends(0, "confirmed");
    let kill = || iceaxe("kill").arg(cgroup.target()).arg("--json");
    kill().ends(11, "refused");
    zoo.goes_on(0);
    kill().arg("--force=not-container").ends(0, "confirmed");
}

/// Who waits for somebody else's change of it looks again after that.
fn what_came_in_while_a_freeze_waited_counts_too(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let [cgroup, elsewhere] = [0, 1].map(|_| scene.cgroup(hierarchy));
    let _stuck = scene.zoo(&[&cgroup], &["dstate"]);
    let daemon = scene.zoo_with(&[&elsewhere], &["--comm", "sshd"], &["doze"]);
    let first = freeze(&cgroup).start();
    eventually("the first has asked", || cgroup.asks());
    let second = freeze(&cgroup).start();
    let lock = std::fs::metadata("/run/iceaxe/.lock").unwrap();
    eventually("the second waits for it", || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", second.worker()))
            .into_iter()
            .flatten();
        let mut open = fds.flatten().filter_map(|fd| std::fs::metadata(fd.path()).ok());
        open.any(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
    });
    cgroup.admit(daemon.tid(0));
    first.signal(Signal::SIGTERM);
    first.end();
    let report = second.end().is(11, "refused");
    assert!(report["error"].as_str().unwrap().contains("sshd"), "{report}");
    assert!(!cgroup.asks());
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
    a_guard_is_never_frozen_nor_killed,
    what_only_calls_itself_a_guard_is_frozen_when_it_is_said,
    what_no_runtime_made_is_frozen_without_a_word_and_not_killed,
    what_came_in_while_a_freeze_waited_counts_too,
    a_plain_force_lifts_all_rules_that_can_be,
    the_rules_hold_for_what_is_below,
}

mod only_v2 {
    mod v2 {
        #[test]
        #[serial_test::serial]
        fn what_somebody_froze_of_the_guards_keeps_no_guard() {
            super::super::what_somebody_froze_of_the_guards_keeps_no_guard(kit::Hierarchy::V2);
        }
    }
}
