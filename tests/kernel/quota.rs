//! Tasks that may use a CPU for only a small part of the time: each has to run once to freeze, and again to be thawed.

use std::fs;
use std::path::{Path, PathBuf};

use kit::{Cgroup, Hierarchy, Scene, eventually, freeze, mount_of, removed, tasks_add_up, thaw};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// Of so many microseconds,
const PERIOD: u32 = 500_000;
/// it may run for so many. At 2 ms of each second runc gives up on every other freeze.
const QUOTA: u32 = 2_000;

/// A cgroup whose tasks may use a CPU that long, in whichever hierarchy has the `cpu` controller. It ends with this.
struct Quota {
    cgroup: Cgroup,
    /// Where the hierarchy is mounted for this alone: the machine's own mount may be anywhere or out of sight.
    mount: Option<TempDir>,
    /// The file by which v2 was told to hand the controller out.
    handed_out: Option<PathBuf>,
}

impl Quota {
    fn new() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let v2 = mountinfo.contains(" - cgroup2 ").then(|| mount_of(Hierarchy::V2));
        let listed = |dir: &Path, file: &str| {
            let list = fs::read_to_string(dir.join(file)).unwrap();
            list.split_whitespace().any(|name| name == "cpu")
        };
        let name = format!("iceaxe-test-{}-quota", std::process::id());
        let Some(dir) = v2.filter(|dir| listed(dir, "cgroup.controllers")) else {
            let mount = mounted();
            let root = Cgroup {
                hierarchy: Hierarchy::V1,
                dir: mount.path().to_owned(),
                path: "/".into(),
            };
            let quota = Self {
                cgroup: root.child(name),
                mount: Some(mount),
                handed_out: None,
            };
            quota.cgroup.write("cpu.cfs_period_us", &PERIOD.to_string());
            quota.cgroup.write("cpu.cfs_quota_us", &QUOTA.to_string());
            return quota;
        };
        let switch = dir.join("cgroup.subtree_control");
        let handed_out = (!listed(&dir, "cgroup.subtree_control")).then(|| switch.clone());
        fs::write(&switch, "+cpu").unwrap();
        let root = Cgroup {
            hierarchy: Hierarchy::V2,
            dir,
            path: "/".into(),
        };
        let quota = Self {
            cgroup: root.child(name),
            mount: None,
            handed_out,
        };
        quota.cgroup.write("cpu.max", &format!("{QUOTA} {PERIOD}"));
        quota
    }

    /// How often its tasks had to wait for the next period.
    fn throttled(&self) -> u64 {
        let text = self.cgroup.read("cpu.stat");
        let count = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        count.unwrap().parse().unwrap()
    }
}

/// The v1 hierarchy that the controller is in.
fn mounted() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    // `4:cpu,cpuacct:/`: it can be mounted again only with all that is mounted with it.
    let mut lists = text.lines().filter_map(|line| line.split(':').nth(1));
    let options = lists.find(|list| list.split(',').any(|name| name == "cpu"));
    mount(
        Some("cgroup"),
        dir.path(),
        Some("cgroup"),
        MsFlags::empty(),
        Some(options.unwrap_or("cpu")),
    )
    .unwrap();
    dir
}

impl Drop for Quota {
    fn drop(&mut self) {
        // Each is tried whatever became of the others; the tasks are gone with the scene, which goes first.
        let _ = removed(&self.cgroup.dir);
        if let Some(switch) = &self.handed_out {
            let _ = fs::write(switch, "-cpu");
        }
        if let Some(mount) = &self.mount {
            let _ = umount2(mount.path(), MntFlags::MNT_DETACH);
        }
    }
}

/// In v2 the quota is that of the cgroup around, so that one and the same hierarchy can have both.
fn under(quota: &Quota, scene: &Scene, hierarchy: Hierarchy) -> (Cgroup, Vec<Cgroup>) {
    if (hierarchy, quota.cgroup.hierarchy) == (Hierarchy::V2, Hierarchy::V2) {
        let own = quota.cgroup.child("own");
        return (own.clone(), vec![own]);
    }
    let own = scene.cgroup(hierarchy);
    (own.clone(), vec![own, quota.cgroup.clone()])
}

fn a_throttled_task_is_frozen_and_thawed_when_its_turn_comes(hierarchy: Hierarchy) {
    let quota = Quota::new();
    let scene = Scene::new();
    let (own, all) = under(&quota, &scene, hierarchy);
    let zoo = scene.zoo(&all.iter().collect::<Vec<_>>(), &["busy"]);
    for _ in 0..3 {
        let before = quota.throttled();
        eventually("it has to wait", || quota.throttled() > before);
        let report = freeze(&own).ends(0, "confirmed");
        tasks_add_up(&report, &[(&["frozen"], 1)]);
        zoo.stands(0);
        let report = thaw(&own).ends(0, "confirmed");
        tasks_add_up(&report, &[(&["ran"], 1)]);
        zoo.goes_on(0);
    }
}

/// Whether its turn comes in time is a matter of luck, and since Linux 6.18 it goes to sleep on its way out of the
/// kernel, past the freezer; that it is not left half frozen is not.
fn a_throttled_task_is_frozen_in_time_or_let_go(hierarchy: Hierarchy) {
    let quota = Quota::new();
    let scene = Scene::new();
    let (own, all) = under(&quota, &scene, hierarchy);
    let zoo = scene.zoo(&all.iter().collect::<Vec<_>>(), &["busy"]);
    for _ in 0..3 {
        let before = quota.throttled();
        eventually("it has to wait", || quota.throttled() > before);
        let run = freeze(&own).timeout("30ms").run();
        if run.code == Some(0) {
            run.is(0, "confirmed");
            assert!(own.asks());
            zoo.stands(0);
            thaw(&own).ends(0, "confirmed");
        } else {
            let report = run.is(6, "rolled_back");
            assert_eq!(report["holdouts"][0]["tid"], zoo.tid(0), "{report}");
        }
        assert!(!own.asks());
        zoo.goes_on(0);
    }
}

on_each_hierarchy! {
    a_throttled_task_is_frozen_and_thawed_when_its_turn_comes,
    a_throttled_task_is_frozen_in_time_or_let_go,
}
