//! A file system that never answers, as a dead network disk. Below a data root: names cost their budget, once, and say
//! that they are not certain; IDs and processes work as ever. Below a container's task: it does not freeze, which is
//! said, and undone.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kit::engines::{Layout, PROMPT, Program, Vessel};
use kit::{Cgroup, Hierarchy, PATIENCE, Scene, eventually, in_each_layout};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::container::Container;
use crate::docker::Docker;

in_each_layout! {
    a_task_that_waits_for_a_file_system_whose_server_fell_silent_blocks_a_freeze_and_is_named
}

/// A FUSE file system whose server reads no request, mounted over a directory until it is dropped.
struct Dead {
    dir: PathBuf,
    server: File,
}

impl Dead {
    #[track_caller]
    fn over(dir: PathBuf) -> Self {
        let server = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let (source, none) = (Some("dead"), MsFlags::empty());
        mount(source, &dir, Some("fuse"), none, Some(options.as_str())).unwrap();
        Self { dir, server }
    }

    /// One whose server answers the kernel's first request, that of the mount, and none after that. (A task that waits
    /// for that one can be frozen by v1 on newer kernels.)
    #[track_caller]
    fn after_a_greeting(dir: PathBuf) -> Self {
        /// `FUSE_INIT` and the protocol's version, include/uapi/linux/fuse.h.
        const INIT: u32 = 26;
        const VERSION: [u32; 2] = [7, 31];
        let dead = Self::over(dir);
        let mut request = [0; 1 << 16];
        let length = (&dead.server).read(&mut request).unwrap();
        assert!(length > 16 && request[4..8] == INIT.to_ne_bytes());
        // struct fuse_out_header, with the request's number, and struct fuse_init_out.
        let mut answer = [0; 16 + 64];
        answer[..4].copy_from_slice(&80_u32.to_ne_bytes());
        answer[8..16].copy_from_slice(&request[8..16]);
        answer[16..20].copy_from_slice(&VERSION[0].to_ne_bytes());
        answer[20..24].copy_from_slice(&VERSION[1].to_ne_bytes());
        assert_eq!((&dead.server).write(&answer).unwrap(), answer.len());
        dead
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

/// Whoever reads its files in /proc hangs with it, and every source of names reads those of some processes.
#[test]
fn a_process_that_hangs_costs_no_name_anything() {
    let docker = Docker::start(Layout::AsFound);
    let [web, other] = &docker.containers(["web", "other"])[..] else {
        unreachable!()
    };
    let before = usually_thawed_after(&docker, web);
    let scene = Scene::new();
    let elsewhere = scene.cgroup(Hierarchy::available());
    let zoo = scene.zoo(&[&elsewhere], &["hung"; DECOYS]);
    // Root in a container calls its own cgroups as it likes.
    let decoys: Vec<Cgroup> = (0..DECOYS)
        .map(|number| other.cgroups[0].child(format!("{number:064x}")))
        .collect();
    for (nth, decoy) in decoys.iter().enumerate() {
        decoy.admit(zoo.tid(nth));
    }
    let beside = usually_thawed_after(&docker, web);
    assert!(
        beside < before.mul_f64(1.5) + A_LOOK,
        "{beside:?}, and {before:?} before"
    );
    for verb in ["freeze", "thaw"] {
        let ended = docker.iceaxe([verb, &web.name, "--json"]);
        assert!(ended.took < PROMPT, "{ended:?}");
        ended.is(0, "confirmed");
    }
    web.is_thawed();
    (0..DECOYS).for_each(|nth| elsewhere.admit(zoo.tid(nth)));
    decoys.iter().for_each(Cgroup::remove);
}

/// So many processes hang, each in a cgroup that is called as a container of docker's is.
const DECOYS: usize = 8;
/// One look at a process that hangs.
const A_LOOK: Duration = Duration::from_millis(20);

/// The median of some thaws by name, each to its end.
#[track_caller]
fn usually_thawed_after(docker: &Docker, container: &Container<'_>) -> Duration {
    let thaw = |_| {
        let ended = docker.iceaxe(["thaw", &container.name, "--json"]);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        ended.took
    };
    let mut all: Vec<Duration> = (0..9).map(thaw).collect();
    all.sort_unstable();
    all[4]
}

#[test]
fn a_data_root_that_never_answers_costs_names_their_budget_once() {
    let docker = Docker::start(Layout::AsFound);
    let (web, _dead) = unattended(&docker);
    docker
        .iceaxe(["thaw", &web.name])
        .refuses(4, &["not certain", "docker's records"]);
    // A prefix could be somebody's name: that is enough for a thaw and no other write.
    let id = format!("id:{}", web.id);
    for verb in ["freeze", "kill", "resync"] {
        docker
            .iceaxe([verb, web.short()])
            .refuses(4, &["not certain", "docker's records", &id]);
    }
    docker
        .iceaxe(["thaw", &web.id[..11]])
        .refuses(4, &["not certain", &id]);
    let ended = docker.iceaxe(["thaw", web.short(), "--json"]);
    assert!(ended.took < PROMPT, "{ended:?}");
    ended.is(0, "confirmed");
    assert!(
        ended.err.contains("note: ") && ended.err.contains("docker's records"),
        "{ended:?}"
    );
    web.is_thawed();
    web.cgroups[0].freeze();
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

/// A user has their engine's directory for state on a disk that hangs. root's container is told by its cgroup alone, as
/// no configuration says where its record is.
#[test]
fn users_records_that_never_answer_delay_no_whole_id_of_roots() {
    let (docker, _) = Docker::with_a_parent(Layout::AsFound);
    let web = docker.container("web");
    let theirs = Theirs::new();
    let _dead = Dead::over(theirs.0.join("runc"));
    for _ in 0..3 {
        docker.iceaxe(["freeze", &web.id, "--json"]).is(0, "confirmed");
        let began = Instant::now();
        let thaw = docker.begin(["thaw", &web.id, "--json"]);
        eventually("its request is cleared", || !web.asks());
        let cleared = began.elapsed();
        let ended = thaw.answer(PATIENCE).answered();
        let answered = began.elapsed();
        ended.is(0, "confirmed");
        assert!(cleared < CLEARED, "cleared after {cleared:?}: {ended:?}");
        assert!(answered < ANSWERED, "answered after {answered:?}: {ended:?}");
        web.is_thawed();
    }
}

/// How long a thaw's write may take, and the whole of it. On an idle machine it is 20 ms.
const CLEARED: Duration = Duration::from_millis(500);
const ANSWERED: Duration = Duration::from_secs(1);

/// The directory for state of a user who has none. It goes when it is dropped.
struct Theirs(PathBuf);

impl Theirs {
    #[track_caller]
    fn new() -> Self {
        let theirs = Self(PathBuf::from("/run/user/54321"));
        fs::create_dir_all(theirs.0.join("runc")).unwrap();
        theirs
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
        let _ = fs::remove_dir("/run/user"); // others are in it, then
    }
}

/// A process in a container's cgroups that asks a file system something. When it goes the container is thawed first:
/// one that v1 holds can't be ended.
struct Asking<'v> {
    vessel: &'v Vessel,
    program: Program,
}

impl<'v> Asking<'v> {
    #[track_caller]
    fn about(path: &Path, vessel: &'v Vessel) -> Self {
        let mut command = Command::new("sh");
        command
            .args([
                "-ec",
                "for dir; do echo 0 > \"$dir/cgroup.procs\"; done; exec stat \"$0\"",
            ])
            .arg(path)
            .args(vessel.cgroups.iter().map(|cgroup| &cgroup.dir));
        let program = Program::start(&command);
        eventually("it waits for the file system", || {
            let stack = fs::read_to_string(format!("/proc/{}/stack", program.pid()));
            stack.unwrap_or_default().contains("fuse_") // it is not there yet
        });
        Self { vessel, program }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.vessel.cgroups.iter().for_each(kit::Cgroup::thaw);
    }
}

/// What is said of one task.
#[track_caller]
fn of(report: &Value, pid: i32) -> &Value {
    let tasks = report["holdouts"].as_array().unwrap();
    let found = tasks.iter().find(|task| task["pid"] == pid);
    found.unwrap_or_else(|| panic!("nothing of {pid}: {report}"))
}

fn a_task_that_waits_for_a_file_system_whose_server_fell_silent_blocks_a_freeze_and_is_named(layout: Layout) {
    let docker = Docker::start(layout);
    let web = docker.container("web");
    let dead = Dead::after_a_greeting(docker.scratch().dir("dead"));
    let asking = Asking::about(&dead.dir.join("file"), &web);
    let is_named = |report: &Value| {
        let task = of(report, asking.program.pid());
        assert_eq!(
            (&task["class"], &task["on"], &task["state"]),
            (&json!("uninterruptible"), &json!("fuse"), &json!("D")),
            "{report}"
        );
        let stack = task["stack"].as_array().unwrap();
        let in_fuse = |function: &Value| function.as_str().is_some_and(|name| name.starts_with("fuse_"));
        assert!(stack.iter().any(in_fuse), "{report}");
    };
    let ended = docker.iceaxe(["freeze", &web.name, "--json", "--timeout=300ms"]);
    assert!(ended.took < Duration::from_millis(1300), "{ended:?}");
    is_named(&ended.is(6, "rolled_back"));
    web.is_thawed();

    web.cgroups[0].ask();
    web.stands();
    let explained = docker.iceaxe(["explain", &web.name, "--json"]).object();
    assert_eq!(explained["effective"], "freezing", "{explained}");
    is_named(&explained);
    let steps = explained["ladder"].as_array().unwrap();
    let looks_for_it = |advice: &Value| advice["command"] == "grep . /sys/fs/fuse/connections/*/waiting";
    assert!(steps.iter().any(looks_for_it), "{explained}");
    // With the file system gone it settles.
    drop(dead);
    eventually("it freezes", || web.cgroups[0].is_frozen());
    docker.iceaxe(["thaw", &web.name, "--json"]).is(0, "confirmed");
    web.is_thawed();
}
