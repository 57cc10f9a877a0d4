//! A caller that may have hardly anything: iceaxe makes room for itself where the kernel lets it, and where it does not a
//! container's own request is cleared all the same.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::chown;

use kit::{Hierarchy, Scene, iceaxe, program, thaw};

/// Nobody's.
const USER: u32 = 12_345;

fn a_dozen_open_files_are_enough_to_clear_a_request(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let id = format!("{:064x}", u64::from(std::process::id()) << 32 | 0x11);
    let cgroup = scene.cgroup(hierarchy).child(format!("docker-{id}.scope"));
    let zoo = scene.zoo(&[&cgroup], &["doze", "doze"]);
    for target in [cgroup.target(), OsString::from(format!("id:{id}"))] {
        for most in [12, 16] {
            cgroup.freeze();
            let thaw = iceaxe("thaw").arg("--json").arg("--timeout=300ms").arg(&target);
            let run = thaw.with_files(most).run();
            assert!(matches!(run.code, Some(0 | 9)), "{most}: {run:?}");
            assert!(!cgroup.asks(), "{most}: {run:?}");
            zoo.goes_on(0);
            zoo.goes_on(1);
        }
    }
}

fn a_limit_on_open_files_that_may_be_raised_is_raised(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze", "doze"]);
    let zoo_itself = program("zoo");
    let few: [&OsStr; 4] = [
        zoo_itself.as_ref(),
        "--files".as_ref(),
        "12".as_ref(),
        "exec".as_ref(),
    ];
    for (verb, outcome) in [("freeze", "confirmed"), ("thaw", "confirmed")] {
        let command = iceaxe(verb)
            .arg("--json")
            .arg("--timeout=2s")
            .arg(cgroup.target());
        command.through(&few).ends(0, outcome);
    }
}

/// Neither a process nor a thread is to be had by a user whose limit is reached.
fn without_a_thread_a_request_is_cleared(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "doze"]);
    chown(cgroup.switch(), Some(USER), None).unwrap();
    cgroup.freeze();
    let (zoo_itself, user) = (program("zoo"), USER.to_string());
    let alone: [&OsStr; 4] = [
        zoo_itself.as_ref(),
        "--alone-as".as_ref(),
        user.as_ref(),
        "exec".as_ref(),
    ];
    let run = thaw(&cgroup).timeout("300ms").through(&alone).run();
    assert!(run.err.contains("no child process could be made"), "{run:?}");
    assert!(matches!(run.code, Some(0 | 9)), "{run:?}");
    assert!(!cgroup.asks(), "{run:?}");
    zoo.goes_on(0);
    zoo.goes_on(1);
}

on_each_hierarchy! {
    a_dozen_open_files_are_enough_to_clear_a_request,
    a_limit_on_open_files_that_may_be_raised_is_raised,
    without_a_thread_a_request_is_cleared,
}
