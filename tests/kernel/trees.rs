//! Cgroups inside a container: as deep and as wide as it likes to make them.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, chown};

use kit::{
    Cgroup, Hierarchy, Iceaxe, Running, Scene, eventually, freeze, iceaxe, status, tasks_add_up, thaw,
};
use kit::{is_as_quick, is_quick, program, usually_cleared_after};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde_json::{Value, json};

/// More levels than were ever walked by recursion.
const LEVELS: usize = 1010;
/// So many of the longest name are a longer path than is walked.
const TOO_DEEP: usize = 1040;
/// More than there are descriptors for.
const WIDTH: usize = 3000;
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const DESCRIPTORS: u32 = 1024;
/// What a thaw needs at most, in KiB.
const MEMORY: u64 = 16 << 10;

/// A chain of cgroups of one name below a cgroup, made and removed level by level: no path need lead to its end, and tests
/// that run beside this one need their descriptors.
struct Chain {
    cgroup: Cgroup,
    name: String,
    levels: usize,
    /// The deepest one.
    end: OwnedFd,
}

impl Chain {
    #[track_caller]
    fn below(cgroup: &Cgroup, name: &str, levels: usize) -> Self {
        let mut end = openat(AT_FDCWD, &cgroup.dir, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            mkdirat(&end, name, Mode::S_IRWXU).unwrap();
            end = openat(&end, name, DIRECTORY, Mode::empty()).unwrap();
        }
        Self {
            cgroup: cgroup.clone(),
            name: name.to_owned(),
            levels,
            end,
        }
    }

    /// Such a chain whose last `asking` ones ask for a freeze each.
    #[track_caller]
    fn asking_below(cgroup: &Cgroup, name: &str, levels: usize, asking: usize) -> Self {
        let chain = Self::below(cgroup, name, levels);
        let (file, value) = match cgroup.hierarchy {
            Hierarchy::V1 => ("freezer.state", "FROZEN"),
            Hierarchy::V2 => ("cgroup.freeze", "1"),
        };
        let mut at = chain.end.try_clone().unwrap();
        for _ in 0..asking {
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let mut request = File::from(openat(&at, file, flags, Mode::empty()).unwrap());
            request.write_all(value.as_bytes()).unwrap();
            at = openat(&at, "..", DIRECTORY, Mode::empty()).unwrap();
        }
        chain
    }

    /// Opens a file of the deepest one.
    #[track_caller]
    fn open(&self, file: &str, flags: OFlag) -> File {
        File::from(openat(&self.end, file, flags | OFlag::O_CLOEXEC, Mode::empty()).unwrap())
    }

    /// Moves a process into the deepest one.
    #[track_caller]
    fn admit(&self, pid: i32) {
        let mut procs = self.open("cgroup.procs", OFlag::O_WRONLY);
        procs.write_all(pid.to_string().as_bytes()).unwrap();
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.cgroup.thaw();
        let mut inside = String::new();
        self.open("cgroup.procs", OFlag::O_RDONLY)
            .read_to_string(&mut inside)
            .unwrap();
        inside
            .lines()
            .for_each(|pid| self.cgroup.admit(pid.parse().unwrap()));
        for _ in 0..self.levels {
            self.end = openat(&self.end, "..", DIRECTORY, Mode::empty()).unwrap();
            // A task that is just dying still counts for a moment.
            eventually("the chain is removed", || {
                unlinkat(&self.end, self.name.as_str(), UnlinkatFlags::RemoveDir) != Err(Errno::EBUSY)
            });
        }
    }
}

/// The container that is meant by an ID of this process's.
fn container(scene: &Scene, hierarchy: Hierarchy, number: u32) -> (Cgroup, String) {
    let id = format!("{:08x}{number:056x}", std::process::id());
    let cgroup = scene.cgroup(hierarchy).child(format!("docker-{id}.scope"));
    (cgroup, id)
}

#[track_caller]
fn listed(id: &str) -> Value {
    let run = iceaxe("list").arg("--json").run();
    let mut lines = run.json().into_iter();
    lines
        .find(|line| line["id"] == id)
        .unwrap_or_else(|| panic!("{id} is not listed: {run:?}"))
}

/// A thaw that was started, and whose worker took no more memory than it may until its end.
#[track_caller]
fn started_in_little_memory(start: impl Fn() -> Running) -> Running {
    for _ in 0..5 {
        let running = start();
        let worker = running.worker();
        let mut peak = 0;
        eventually("the worker ends", || {
            let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let Some(now) = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()) else {
                return true;
            };
            peak = now;
            false
        });
        assert!(peak <= MEMORY, "{peak} KiB");
        // One that had ended before it could be looked at shows nothing.
        if peak > 0 {
            return running;
        }
        running.end();
    }
    panic!("no worker could be looked at");
}

fn levels_without_end_keep_no_container_from_its_thaw(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (cgroup, id) = container(&scene, hierarchy, 1);
    let zoo = scene.zoo(&[&cgroup], &["doze", "doze"]);
    let chain = Chain::below(&cgroup, "a", LEVELS);
    chain.admit(zoo.tid(1));
    for target in [cgroup.target(), format!("id:{id}").into()] {
        cgroup.freeze();
        let report = iceaxe("thaw").arg("--json").arg(&target).run().is(0, "confirmed");
        tasks_add_up(&report, &[(&["ran", "restored"], 2)]);
        let report = iceaxe("freeze")
            .arg("--json")
            .arg(&target)
            .run()
            .is(0, "confirmed");
        tasks_add_up(&report, &[(&["frozen"], 2)]);
    }
    let told = listed(&id);
    assert_eq!(
        (&told["effective"], &told["tasks"]["frozen"]),
        (&json!("frozen"), &json!(2)),
        "{told}"
    );
    let run = iceaxe("tree").arg("--json").run();
    let path = cgroup.path.to_str().unwrap();
    let below = run
        .json()
        .iter()
        .filter(|node| node["path"].as_str().unwrap().starts_with(path))
        .count();
    assert_eq!((run.code, below), (Some(0), LEVELS + 1), "{}", run.err);
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
    zoo.goes_on(1);
}

/// No path leads to the end, and the kernel does not tell in which cgroup a task there is.
fn a_way_longer_than_any_path_is_walked(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (cgroup, id) = container(&scene, hierarchy, 2);
    let (other, others) = container(&scene, hierarchy, 3);
    let beside = scene.zoo(&[&other], &["doze"]);
    let zoo = scene.zoo(&[&cgroup], &["doze", "doze"]);
    let chain = Chain::below(&cgroup, &"a".repeat(200), 25);
    chain.admit(zoo.tid(1));
    cgroup.freeze();
    other.freeze();
    let report = thaw(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["ran", "restored"], 2)]);
    cgroup.ask();
    assert_eq!(listed(&others)["effective"], "frozen");
    assert_eq!(listed(&id)["requested"], "frozen");
    let filter = format!("id={:08x}", std::process::id());
    let run = iceaxe("thaw")
        .arg("--json")
        .arg("--all")
        .arg("--filter")
        .arg(&filter)
        .run();
    let ends: Vec<_> = run.json().iter().map(|report| report["exit"].clone()).collect();
    assert_eq!(ends, [json!(0), json!(0)], "{run:?}");
    assert_eq!(run.code, Some(0), "{run:?}");
    beside.goes_on(0);
    zoo.goes_on(1);
}

fn thousands_inside_that_ask_cost_neither_descriptors_nor_memory(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (cgroup, id) = container(&scene, hierarchy, 4);
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    for number in 0..WIDTH {
        cgroup.child(format!("inner-{number}")).ask();
    }
    let under = |command: Iceaxe| command.with_files(DESCRIPTORS);
    let running = started_in_little_memory(|| {
        cgroup.freeze();
        under(thaw(&cgroup)).start()
    });
    let report = running.end().is(8, "held");
    assert!(!cgroup.asks(), "{report}");
    let error = report["error"].as_str().unwrap();
    assert!(error.contains(&format!("and {} more", WIDTH - 16)), "{error}");
    zoo.goes_on(0);
    // Everything else that looks at the host goes on too.
    let (other, others) = container(&scene, hierarchy, 5);
    let beside = scene.zoo(&[&other], &["doze"]);
    other.freeze();
    let run = under(iceaxe("list").arg("--json").arg("--all-cgroups")).run();
    assert_eq!(run.code, Some(0), "{}", run.err);
    let inner = run.json().iter().filter(|line| line["id"].is_null()).count();
    assert!(inner >= WIDTH, "{inner}");
    let run = under(
        iceaxe("thaw")
            .arg("--json")
            .arg("--filter")
            .arg(format!("id={others}")),
    )
    .run();
    run.is(0, "confirmed");
    beside.goes_on(0);
    // And all are cleared where that is asked for.
    let report = under(thaw(&cgroup).arg("--recursive")).run().is(0, "confirmed");
    assert_eq!(
        report["writes"].as_array().map(Vec::len),
        Some(WIDTH),
        "{}",
        report["error"]
    );
    assert_eq!(status(&cgroup)["frozen_by"], json!([]));
    assert_eq!(listed(&id)["effective"], "thawed");
    freeze(&cgroup).ends(0, "confirmed");
}

/// Each of them has a path of more than 100,000 bytes.
fn deep_ones_that_ask_cost_no_memory_by_their_names(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let _chain = Chain::asking_below(&cgroup, &"a".repeat(255), LEVELS, LEVELS / 2);
    let running = started_in_little_memory(|| {
        cgroup.freeze();
        thaw(&cgroup).start()
    });
    let report = running.end().is(8, "held");
    let error = report["error"].as_str().unwrap();
    assert!(error.contains(&format!("and {} more", LEVELS / 2 - 1)), "{error}");
    assert!(!cgroup.asks(), "{report}");
    zoo.goes_on(0);
}

/// Theirs take more room in a list than one has.
fn as_many_inside_of_one_hide_no_other_that_asks(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (crowd, id) = container(&scene, hierarchy, 6);
    let mut end = crowd.clone();
    for _ in 0..14 {
        end = end.child("a".repeat(250));
    }
    for number in 0..1300 {
        end.child(format!("inner-{number}")).ask();
    }
    let others = [scene.cgroup(hierarchy), scene.cgroup(hierarchy)];
    others.iter().for_each(|other| other.ask());
    let run = iceaxe("list").arg("--json").arg("--all-cgroups").run();
    assert_eq!(run.code, Some(1), "{run:?}");
    let lines = run.json();
    for other in &others {
        let path = &json!([other.path]);
        let is_it = |line: &&Value| {
            line["cgroups"]
                .as_array()
                .unwrap()
                .iter()
                .any(|cgroup| cgroup["path"] == path[0])
        };
        assert!(lines.iter().any(|line| is_it(&line)), "{}", run.err);
    }
    assert!(run.err.contains(&format!("docker-{id}.scope ask")), "{}", run.err);
}

/// The walk that asks whose requests they are does not come to an end, and one of them was seen.
fn what_is_too_deep_to_be_looked_at_hides_no_request_that_was_seen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let inner = cgroup.child("inner");
    let _zoo = scene.zoo(&[&cgroup, &inner], &["doze"]);
    let _chain = Chain::below(&cgroup, &"a".repeat(255), TOO_DEEP);
    inner.ask();
    cgroup.freeze();
    let report = thaw(&cgroup).ends(8, "held");
    assert!(!cgroup.asks(), "{report}");
    let error = report["error"].as_str().unwrap();
    let inner = inner.target().into_string().unwrap();
    assert!(error.contains(&inner) && error.contains("too deep"), "{error}");
}

/// Root can be kept out by no mode, and others can.
fn a_cgroup_that_a_user_closes_hides_nobody_elses(hierarchy: Hierarchy) {
    const USER: u32 = 1555;
    let scene = Scene::new();
    let closed = scene.cgroup(hierarchy);
    closed.child("inside");
    chown(&closed.dir, Some(USER), Some(USER)).unwrap();
    fs::set_permissions(&closed.dir, Permissions::from_mode(0o700)).unwrap();
    let (cgroup, id) = container(&scene, hierarchy, 7);
    let _zoo = scene.zoo(&[&cgroup], &["doze"]);
    let zoo = program("zoo");
    let as_modes_say = [zoo.as_os_str(), "--as-modes-say".as_ref(), "exec".as_ref()];
    let run = iceaxe("list").arg("--json").through(&as_modes_say).run();
    assert!(run.json().iter().any(|line| line["id"] == id), "{run:?}");
    let name = closed.dir.file_name().unwrap().to_str().unwrap();
    assert!(!run.err.contains(name), "{run:?}");
    let freeze = iceaxe("freeze").arg("--dry-run").arg(format!("id:{}", &id[..60]));
    let run = freeze.through(&as_modes_say).run();
    // Root's own places are closed to it too, which is another matter.
    assert!(!run.err.contains(name), "{run:?}");
}

fn a_thaw_is_as_quick_beside_trees_without_end(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let healthy = scene.cgroup(hierarchy);
    let _zoo = scene.zoo(&[&healthy], &["doze"; 5]);
    let before = usually_cleared_after(&healthy);
    let (deep, wide) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let _tasks = scene.zoo(&[&deep], &["doze"]);
    let _chain = Chain::below(&deep, "a", LEVELS);
    let _others = scene.zoo(&[&wide], &["doze"]);
    for number in 0..WIDTH {
        wide.child(format!("inner-{number}")).ask();
    }
    is_as_quick(&healthy, before);
    is_quick(&deep, before);
    is_quick(&wide, before);
}

on_each_hierarchy! {
    a_cgroup_that_a_user_closes_hides_nobody_elses,
    a_thaw_is_as_quick_beside_trees_without_end,
    a_way_longer_than_any_path_is_walked,
    as_many_inside_of_one_hide_no_other_that_asks,
    deep_ones_that_ask_cost_no_memory_by_their_names,
    levels_without_end_keep_no_container_from_its_thaw,
    what_is_too_deep_to_be_looked_at_hides_no_request_that_was_seen,
    thousands_inside_that_ask_cost_neither_descriptors_nor_memory,
}
