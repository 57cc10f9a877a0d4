//! A data root on a file system that never answers, as a dead network disk: names cost their budget, once, and say
//! that they are not certain; IDs and processes work as ever.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::container::Container;
use crate::docker::Docker;
use crate::engines::{Layout, PROMPT};

/// A FUSE file system whose server reads no request, mounted over a directory until it is dropped.
struct Dead {
    dir: PathBuf,
    _server: OwnedFd,
}

impl Dead {
    #[track_caller]
    fn over(dir: PathBuf) -> Self {
        let server: OwnedFd = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap()
            .into();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let (source, none) = (Some("dead"), MsFlags::empty());
        mount(source, &dir, Some("fuse"), none, Some(options.as_str())).unwrap();
        Self { dir, _server: server }
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        // Whoever waits is told that it is gone when the server's descriptor is.
        umount2(&self.dir, MntFlags::MNT_DETACH).unwrap();
    }
}

/// A paused container whose daemons are gone, and whose data root does not answer.
#[track_caller]
fn unattended(docker: &Docker) -> (Container<'_>, Dead) {
    let web = docker.container("web");
    web.pause();
    docker.kill_dockerd();
    docker.kill_containerd();
    let dead = Dead::over(docker.data_of(&web.id).parent().unwrap().to_owned());
    (web, dead)
}

#[test]
fn a_data_root_that_never_answers_leaves_ids_and_processes_working() {
    let docker = Docker::start(Layout::AsFound);
    let (web, _dead) = unattended(&docker);
    for target in [
        web.id.clone(),
        format!("id:{}", web.id),
        format!("id:{}", web.short()),
        format!("pid:{}", web.pid),
    ] {
        let ended = docker.iceaxe(["thaw", &target, "--json"]);
        assert!(ended.took < PROMPT / 2, "{target}: {ended:?}");
        ended.is(0, "confirmed");
        web.is_thawed();
        web.cgroups[0].freeze();
    }
    let ended = docker.iceaxe(["status", &web.id]);
    assert!(ended.took < PROMPT && ended.code() == Some(0), "{ended:?}");
}

#[test]
fn a_data_root_that_never_answers_costs_names_their_budget_once() {
    let docker = Docker::start(Layout::AsFound);
    let (web, _dead) = unattended(&docker);
    docker
        .iceaxe(["thaw", &web.name])
        .refuses(4, &["not certain", "docker's records"]);
    // A prefix could be somebody's name; what it would mean is said.
    let id = format!("id:{}", web.id);
    docker
        .iceaxe(["thaw", web.short()])
        .refuses(4, &["not certain", &id]);
    let names = [
        "thaw",
        &web.name,
        "another",
        "and-one-more",
        web.short(),
        &id,
        "--json",
    ];
    let ended = docker.iceaxe(names);
    assert!(ended.took < PROMPT, "{ended:?}");
    assert_eq!(ended.code(), Some(12), "{ended:?}");
    web.is_thawed();
    let listed = docker.iceaxe(["list", "--json"]);
    assert!(listed.took < PROMPT && listed.code() == Some(1), "{listed:?}");
    assert!(listed.out.contains(&web.id), "{listed:?}");
}
