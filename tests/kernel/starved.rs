//! A task that is thawed and gets no CPU: it has left the freezer and is not proven to run.

use std::fs;
use std::path::{Path, PathBuf};

use kit::{Hierarchy, Scene, eventually, freeze, tasks_add_up, thaw};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::explain::{explain, ladder, of};

const THROTTLE: &str = "/proc/sys/kernel/sched_rt_runtime_us";

/// Takes what protects ordinary tasks from real-time ones away from one CPU, and the caller, with what it starts, off
/// that CPU. Both end with it.
struct Monopoly {
    cpu: usize,
    throttle: String,
    server: Option<(PathBuf, String)>,
    debugfs: tempfile::TempDir,
    before: CpuSet,
}

impl Monopoly {
    fn on_the_last_cpu() -> Self {
        let before = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let cpu = (0..CpuSet::count())
            .rev()
            .find(|&cpu| before.is_set(cpu).unwrap())
            .unwrap();
        let mut others = before;
        others.unset(cpu).unwrap();
        assert!(
            (0..CpuSet::count()).any(|cpu| others.is_set(cpu).unwrap()),
            "this test needs two CPUs"
        );
        let debugfs = tempfile::tempdir().unwrap();
        mount(
            Some("debugfs"),
            debugfs.path(),
            Some("debugfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        // Since 6.12 every CPU gives ordinary tasks 50 ms of each second, whatever the throttle says.
        let server = debugfs.path().join(format!("sched/fair_server/cpu{cpu}/runtime"));
        let server = fs::read_to_string(&server).ok().map(|runtime| (server, runtime));
        let monopoly = Self {
            cpu,
            throttle: fs::read_to_string(THROTTLE).unwrap(),
            server,
            debugfs,
            before,
        };
        fs::write(THROTTLE, "-1").unwrap();
        if let Some((server, _)) = &monopoly.server {
            fs::write(server, "0").unwrap();
        }
        sched_setaffinity(Pid::from_raw(0), &others).unwrap();
        monopoly
    }
}

impl Drop for Monopoly {
    fn drop(&mut self) {
        // Each is tried whatever became of the others.
        let _ = fs::write(THROTTLE, self.throttle.trim());
        if let Some((server, runtime)) = &self.server {
            let _ = fs::write(server, runtime.trim());
        }
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
        let _ = umount2(Path::new(self.debugfs.path()), MntFlags::MNT_DETACH);
    }
}

fn a_task_that_gets_no_cpu_is_woken_and_not_run(hierarchy: Hierarchy) {
    let monopoly = Monopoly::on_the_last_cpu();
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &[&format!("pinned:{}", monopoly.cpu)]);
    freeze(&cgroup).ends(0, "confirmed");
    zoo.stands(0);
    {
        // It ends by itself, should nobody be able to end it.
        let above = Scene::new();
        let hog = above.zoo(&[], &[&format!("hog:{}:20000", monopoly.cpu)]);
        hog.goes_on(0);
        let report = thaw(&cgroup).timeout("300ms").ends(9, "released");
        tasks_add_up(&report, &[(&["woken"], 1)]);
        assert_eq!(report["holdouts"][0]["tid"], zoo.tid(0), "{report}");
        assert_eq!(
            report["after"],
            json!({"requested": "thawed", "effective": "thawed"}),
            "{report}"
        );
        assert!(!cgroup.asks());
        zoo.stands(0);
        // Asked again it is still only woken, though nothing had to be written.
        let report = thaw(&cgroup).timeout("300ms").ends(9, "released");
        assert_eq!(report["writes"], json!([]), "{report}");
        hog.goes_on(0);
    }
    zoo.goes_on(0);
    let report = thaw(&cgroup).ends(0, "unchanged");
    tasks_add_up(&report, &[(&["ran"], 1)]);
}

fn a_starved_task_that_gets_its_cpu_in_time_is_confirmed(hierarchy: Hierarchy) {
    let monopoly = Monopoly::on_the_last_cpu();
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &[&format!("pinned:{}", monopoly.cpu)]);
    freeze(&cgroup).ends(0, "confirmed");
    let above = Scene::new();
    let hog = above.zoo(&[], &[&format!("hog:{}:20000", monopoly.cpu)]);
    hog.goes_on(0);
    let running = thaw(&cgroup).start();
    eventually("it asks no more", || !cgroup.asks());
    zoo.stands(0);
    drop(above);
    let report = running.end().is(0, "confirmed");
    tasks_add_up(&report, &[(&["ran"], 1)]);
    zoo.goes_on(0);
}

fn a_task_that_gets_no_cpu_to_freeze_is_starved_and_who_has_its_cpu_is_named(hierarchy: Hierarchy) {
    let monopoly = Monopoly::on_the_last_cpu();
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let pinned = format!("pinned:{}", monopoly.cpu);
    let zoo = scene.zoo(&[&cgroup], &[pinned.as_str(); 3]);
    let tids: Vec<i32> = (0..3).map(|index| zoo.tid(index)).collect();
    {
        let above = Scene::new();
        let hog = above.zoo(&[], &[&format!("hog:{}:20000", monopoly.cpu)]);
        hog.goes_on(0);
        let all_are_starved = |report: &Value, found: &[Value]| {
            for &tid in &tids {
                assert_eq!(of(report, tid)["class"], "starved", "{report}");
                assert!(found.contains(&of(report, tid)["by"]["pid"]), "{report}");
            }
        };
        // A freeze looks for it for some 150 ms, which an emulated machine can need more than.
        let report = freeze(&cgroup).timeout("300ms").ends(6, "rolled_back");
        all_are_starved(&report, &[json!(hog.tid(0)), Value::Null]);
        assert!(!cgroup.asks());
        cgroup.ask();
        let report = explain(&cgroup);
        assert_eq!(report["effective"], "freezing", "{report}");
        all_are_starved(&report, &[json!(hog.tid(0))]);
        let command = format!("chrt --other --pid 0 {}", hog.tid(0));
        assert!(ladder(&report).contains(&("wait", command.as_str())), "{report}");
        hog.goes_on(0);
    }
    eventually("with a CPU it freezes", || cgroup.is_frozen());
    thaw(&cgroup).ends(0, "confirmed");
    zoo.goes_on(0);
}

/// Real-time tasks leave the others a twentieth of each second, iceaxe too.
fn on_a_host_whose_cpus_are_all_taken_a_request_is_cleared_and_proven(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "sleep"]);
    cgroup.freeze();
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let hogs = (0..CpuSet::count()).filter(|&cpu| all.is_set(cpu).unwrap());
    let hogs: Vec<String> = hogs.map(|cpu| format!("hog:{cpu}:8000")).collect();
    let above = Scene::new();
    let hogs: Vec<&str> = hogs.iter().map(String::as_str).collect();
    above.zoo(&[], &hogs);
    let report = thaw(&cgroup).ends(0, "confirmed");
    tasks_add_up(&report, &[(&["ran", "restored"], 2)]);
    assert!(!cgroup.asks());
    drop(above);
    zoo.goes_on(0);
}

on_each_hierarchy! {
    on_a_host_whose_cpus_are_all_taken_a_request_is_cleared_and_proven,
    a_task_that_gets_no_cpu_is_woken_and_not_run,
    a_task_that_gets_no_cpu_to_freeze_is_starved_and_who_has_its_cpu_is_named,
    a_starved_task_that_gets_its_cpu_in_time_is_confirmed,
}
