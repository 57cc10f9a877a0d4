//! Processes that live in a container's PID namespace and not in its cgroup: docker has them by its options, an
//! administrator by `nsenter`. They are named, and no freeze claims them.

use std::fs;
use std::path::Path;
use std::process::Command;

use kit::engines::{BEATING, Layout, Program};
use kit::{Cgroup, Hierarchy, eventually, in_each_layout, parent_of};
use serde_json::{Value, json};

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    who_comes_by_exec_is_inside_and_by_nsenter_outside_and_runs_on
    a_container_that_shares_the_pid_namespace_is_named_with_its_own_cgroup
    a_process_that_was_moved_out_by_hand_is_named_with_where_it_is
    a_container_in_the_hosts_pid_namespace_has_nobody_outside
}

/// The cgroup that a process is in, as its own line has it and a target is written.
#[track_caller]
fn place(pid: i32, hierarchy: Hierarchy) -> String {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = lines.lines().find_map(|line| match hierarchy {
        Hierarchy::V1 => Some(line.split_once(":freezer:")?.1),
        Hierarchy::V2 => line.strip_prefix("0::"),
    });
    format!("{}:{}", hierarchy.word(), path.unwrap())
}

#[track_caller]
fn outsiders(docker: &Docker, container: &Container<'_>) -> Vec<Value> {
    let status = docker.status(&container.name);
    let outside = status["outside"].as_array();
    outside.unwrap_or_else(|| panic!("{status}")).clone()
}

/// A `docker exec` of something that lasts, by its number.
#[track_caller]
fn executed(docker: &Docker, container: &Container<'_>) -> i32 {
    docker.docker(["exec", "--detach", &container.name, "sleep", "12345"]);
    let mut found = None;
    eventually("it is in the container", || {
        let is_it = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(); // it is gone
            words == b"sleep\x0012345\0"
        };
        found = container.cgroups[0].tids().into_iter().find(is_it);
        found.is_some()
    });
    found.unwrap()
}

/// A shell that beats, in the container's PID namespace and nowhere else of it, and its number. It ends with the
/// namespace.
#[track_caller]
fn entered(container: &Container<'_>, beats: &Path) -> (Program, i32) {
    let mut command = Command::new("nsenter");
    command.arg(format!("--pid=/proc/{}/ns/pid", container.pid));
    command
        .args(["sh", "-c", "while :; do echo >> \"$0\"; sleep 0.01; done"])
        .arg(beats);
    let program = Program::start(&command);
    let mut found = None;
    // nsenter itself stays where it was.
    eventually("it has entered", || {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        found = pids.find(|&pid| parent_of(pid) == Some(program.pid()));
        found.is_some() && beats.exists()
    });
    (program, found.unwrap())
}

/// Checks that `pid` and what it started are told, and nobody else.
#[track_caller]
fn is_told_alone(outsiders: &[Value], pid: i32, place: &str) {
    assert!(
        outsiders.iter().any(|one| one["pid"] == pid),
        "{pid}: {outsiders:?}"
    );
    for one in outsiders {
        // A sleeper that is only just forked is called as the shell still, and as busybox when it has just begun, which
        // starts it as /proc/self/exe.
        let of_it = ["sh", "exe", "sleep"].iter().any(|name| one["comm"] == *name);
        assert!(of_it && one["cgroup"] == place, "{pid} {place}: {outsiders:?}");
    }
}

fn who_comes_by_exec_is_inside_and_by_nsenter_outside_and_runs_on(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    executed(&docker, &web);
    assert_eq!(outsiders(&docker, &web), [] as [Value; 0]);
    let beats = docker.scratch().join("beats");
    let (_nsenter, pid) = entered(&web, &beats);
    let place = place(pid, web.cgroups[0].hierarchy);
    is_told_alone(&outsiders(&docker, &web), pid, &place);
    let printed = docker.iceaxe(["status", &web.name]).well();
    let line = printed.lines().find(|line| line.contains("of its PID namespace"));
    let line = line.unwrap_or_else(|| panic!("{printed}"));
    for word in [format!("{pid} sh ({place})"), "outside of its cgroup".to_owned()] {
        assert!(line.contains(&word), "{word}: {line}");
    }
    let ended = docker.iceaxe(["list", "--json"]);
    let listed = ended.out.lines().find(|line| line.contains(&web.id)).unwrap();
    let listed: Value = serde_json::from_str(listed).unwrap();
    assert_eq!(listed.get("outside"), Some(&Value::Null), "{listed}");

    web.iceaxe("freeze").is(0, "confirmed");
    web.is_frozen();
    let length = || fs::metadata(&beats).unwrap().len();
    let before = length();
    eventually("who is outside goes on", || length() > before + 3);
    is_told_alone(&outsiders(&docker, &web), pid, &place);
    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
}

fn a_container_that_shares_the_pid_namespace_is_named_with_its_own_cgroup(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let shared = format!("--pid=container:{}", web.name);
    let side = docker.container_with("side", &[&shared], BEATING);
    for (one, other) in [(&web, &side), (&side, &web)] {
        let cgroup = &other.cgroups[0];
        let place = format!("{}:{}", cgroup.hierarchy.word(), cgroup.path.display());
        is_told_alone(&outsiders(&docker, one), other.pid, &place);
    }
    web.iceaxe("freeze").is(0, "confirmed");
    web.is_frozen();
    side.is_thawed();
    web.iceaxe("thaw").is(0, "confirmed");
    web.is_thawed();
}

fn a_process_that_was_moved_out_by_hand_is_named_with_where_it_is(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let pid = executed(&docker, &web);
    let elsewhere: Vec<Cgroup> = web
        .cgroups
        .iter()
        .map(|cgroup| docker.own_cgroup(cgroup.hierarchy))
        .collect();
    elsewhere.iter().for_each(|cgroup| cgroup.admit(pid));
    let told = json!({
        "pid": pid,
        "tid": pid,
        "comm": "sleep",
        "cgroup": elsewhere[0].target().to_str().unwrap(),
    });
    assert_eq!(outsiders(&docker, &web), [told]);
    web.iceaxe("freeze").is(0, "confirmed");
    web.is_frozen();
    assert!(elsewhere.iter().all(|cgroup| !cgroup.asks() && cgroup.holds(pid)));
    web.iceaxe("thaw").is(0, "confirmed");
}

fn a_container_in_the_hosts_pid_namespace_has_nobody_outside(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container_with("web", &["--pid=host"], BEATING);
    let status = docker.status(&web.name);
    assert_eq!(status.get("outside"), Some(&Value::Null), "{status}");
    let printed = docker.iceaxe(["status", &web.name]).well();
    assert!(!printed.contains("PID namespace"), "{printed}");
}
