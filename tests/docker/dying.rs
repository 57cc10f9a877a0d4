//! Containers whose first process is half dead: its main thread has ended and others live on, or it is on its way out and
//! waits for a child that can't die. They are there, by each form of a target.

use std::fs;
use std::process::Command;

use kit::engines::{Ended, Layout};
use kit::{eventually, in_each_layout, letter, program};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::container::{Container, FORMS};
use crate::docker::Docker;

in_each_layout! {
    a_container_whose_first_thread_has_ended_is_found_by_each_form
}

/// The options that put a program of this machine and what it is linked with into a container.
fn options_with(program: &str) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    libraries
        .chain([program])
        .map(|file| format!("--volume={file}:{file}:ro"))
        .collect()
}

fn a_container_whose_first_thread_has_ended_is_found_by_each_form(layout: Layout) {
    let docker = Docker::in_default_places(layout);
    let zoo = program("zoo").display().to_string();
    let options = options_with(&zoo);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let script = format!(
        "until test -e /vol/go; do echo >> /vol/beats; sleep 0.01; done; exec {zoo} headless /vol/beats"
    );
    let web = docker.container_with("web", &options, &script);
    fs::write(web.volume.join("go"), "").unwrap();
    eventually("its first thread has ended", || letter(web.pid) == Some('Z'));
    web.goes_on();
    for (form, target) in FORMS {
        let target = target(&web);
        is_web(
            &docker.iceaxe(["freeze", &target, "--json"]),
            "confirmed",
            &web,
            form,
        );
        web.is_frozen();
        is_web(
            &docker.iceaxe(["thaw", &target, "--json"]),
            "confirmed",
            &web,
            form,
        );
        web.is_thawed();
        assert_eq!(docker.status(&target)["id"], *web.id, "{form}");
    }
    is_listed_once(&docker, &web);
}

#[track_caller]
fn is_web(ended: &Ended, outcome: &str, web: &Container<'_>, form: &str) {
    let report = ended.is(0, outcome);
    assert_eq!(report["id"], *web.id, "{form}: {report}");
}

#[track_caller]
fn is_listed_once(docker: &Docker, web: &Container<'_>) {
    let ended = docker.iceaxe(["list", "--json"]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    let lines = ended.out.lines().filter(|line| line.contains(&web.id));
    assert_eq!(lines.count(), 1, "{ended:?}");
}

/// For machines that have v1, whose freezer alone keeps who is killed from dying.
mod hybrid {
    use super::*;
    use kit::{Hierarchy, parent_of};

    #[test]
    fn a_container_whose_first_process_waits_for_a_child_that_is_held_elsewhere_is_found_by_each_form() {
        for layout in [Layout::AsFound, Layout::V2] {
            let docker = Docker::in_default_places(layout);
            let web = docker.container_with("web", &[], &format!("sleep 10000 & {}", kit::engines::BEATING));
            let sleeper = sleeper_of(&web);
            let elsewhere = docker.own_cgroups(&[Hierarchy::V1, Hierarchy::V2]);
            elsewhere.iter().for_each(|cgroup| cgroup.admit(sleeper));
            elsewhere[0].freeze();
            kill(Pid::from_raw(web.pid), Signal::SIGKILL).unwrap();
            eventually("it waits for its child", || {
                let stack = fs::read_to_string(format!("/proc/{}/stack", web.pid));
                stack.unwrap_or_default().contains("zap_pid_ns_processes")
            });
            for (form, target) in FORMS {
                let target = target(&web);
                let status = docker.iceaxe(["status", &target, "--json"]);
                assert_eq!(status.code(), Some(0), "{form}: {status:?}");
                assert_eq!(status.object()["id"], *web.id, "{form}: {status:?}");
                is_web(
                    &docker.iceaxe(["thaw", &target, "--json"]),
                    "unchanged",
                    &web,
                    form,
                );
            }
            is_listed_once(&docker, &web);
            elsewhere[0].thaw();
            docker.docker(["wait", &web.name]);
        }
    }

    /// The child of its first process that does not beat.
    #[track_caller]
    fn sleeper_of(web: &Container<'_>) -> i32 {
        let mut found = None;
        eventually("it has its sleeper", || {
            let tids = web.cgroups[0].tids();
            let is_it = |tid: &i32| {
                let words = fs::read(format!("/proc/{tid}/cmdline")).unwrap_or_default(); // it has just ended
                parent_of(*tid) == Some(web.pid) && words.starts_with(b"sleep\x0010000\0")
            };
            found = tids.into_iter().find(is_it);
            found.is_some()
        });
        found.unwrap()
    }
}
