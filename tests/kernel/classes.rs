//! What keeps a task from freezing, made for real: each has its class, and what helps.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kit::{Hierarchy, Scene, Zoo, eventually, freeze, mount_of, mount_of_controller, thaw};

use crate::explain::{explain, ladder, of};

/// How often what a busy machine can be too slow for is tried.
const ROUNDS: usize = 5;

/// A v1 cgroup of the CPU controller that has a CPU for five milliseconds of each second. Whoever is in it when it goes
/// gets out of it first, as dying takes a CPU too.
#[derive(Debug)]
struct Quota {
    root: PathBuf,
    dir: PathBuf,
}

impl Quota {
    #[track_caller]
    fn of_next_to_nothing() -> Self {
        let root = mount_of_controller("cpu");
        let dir = root.join(format!("iceaxe-test-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let quota = Self { root, dir };
        for (file, value) in [("cpu.cfs_period_us", "1000000"), ("cpu.cfs_quota_us", "5000")] {
            fs::write(quota.dir.join(file), value).unwrap();
        }
        quota
    }

    #[track_caller]
    fn admit(&self, pid: i32) {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    #[track_caller]
    fn nr_throttled(&self) -> u64 {
        let stat = fs::read_to_string(self.dir.join("cpu.stat")).unwrap();
        let mut lines = stat.lines();
        let count = lines.find_map(|line| line.strip_prefix("nr_throttled ")).unwrap();
        count.parse().unwrap()
    }

    /// Waits until a busy task in it has used up its time with most of a second to go: a new period has begun, and it
    /// stands again for longer than a mere wait for a CPU takes.
    #[track_caller]
    fn is_used_up_by(&self, zoo: &Zoo) {
        let before = self.nr_throttled();
        eventually("a period ends in which it was throttled", || {
            self.nr_throttled() > before
        });
        let mut beats = zoo.beats(0);
        eventually("it stands", || {
            thread::sleep(Duration::from_millis(100));
            let last = std::mem::replace(&mut beats, zoo.beats(0));
            last == beats
        });
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let tasks = fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default();
        for pid in tasks.lines() {
            // It ended, then.
            let _ = fs::write(self.root.join("cgroup.procs"), pid);
        }
        let removed = fs::remove_dir(&self.dir);
        if !thread::panicking() {
            removed.unwrap();
        }
    }
}

/// It needs a CPU to freeze, and its cgroup has used up its share.
fn throttled(hierarchy: Hierarchy) {
    let (_scene, own, zoo) = Scene::of(hierarchy, &["busy"]);
    let quota = Quota::of_next_to_nothing();
    quota.admit(zoo.tid(0));

    // A machine that is busy itself can be slower than a period, in which it freezes.
    let failed = (0..ROUNDS).find_map(|_| {
        quota.is_used_up_by(&zoo);
        let run = freeze(&own).timeout("300ms").run();
        own.thaw();
        (run.code != Some(0)).then_some(run)
    });
    let report = failed.expect("it is kept from freezing").is(6, "rolled_back");
    let task = of(&report, zoo.tid(0));
    assert_eq!(task["class"], "throttled", "{report}");
    let meaning = task["meaning"].as_str().unwrap();
    let stat = quota.dir.join("cpu.stat").display().to_string();
    assert!(
        meaning.contains("nr_throttled") && meaning.contains(&stat),
        "{meaning}"
    );
    assert_eq!(report["after"]["requested"], "thawed", "{report}");

    let held_up = (0..ROUNDS).find_map(|_| {
        quota.is_used_up_by(&zoo);
        own.ask();
        let report = explain(&own);
        own.thaw();
        (report["effective"] == "freezing").then_some(report)
    });
    let report = held_up.expect("it is kept from freezing");
    assert_eq!(of(&report, zoo.tid(0))["class"], "throttled", "{report}");

    // With patience its turn comes.
    quota.is_used_up_by(&zoo);
    freeze(&own).ends(0, "confirmed");
    assert!(own.is_frozen());
    zoo.stands(0);
    drop(quota);
    thaw(&own).ends(0, "confirmed");
    zoo.goes_on(0);
}

fn a_cgroup_into_which_tasks_keep_coming_is_not_proven_and_they_are_why(hierarchy: Hierarchy) {
    assert!(
        (0..2 * ROUNDS).any(|_| is_kept_from_settling(hierarchy)),
        "each time they left it a gap, or were too slow"
    );
}

/// New tasks come faster than they freeze, as they have to wait for a CPU first. Returns false where none came for so
/// long that all were frozen, as a move between cgroups waits for whoever forks just then, or where they got no CPU or came too late.
fn is_kept_from_settling(hierarchy: Hierarchy) -> bool {
    const CROWD: usize = 20;
    const INSIDE: usize = 8;
    let scene = Scene::new();
    let (own, elsewhere) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    // It does not settle before they begin to come.
    let zoo = scene.zoo(&[&own], &["doze", "dstate"]);
    let crowd = scene.zoo(&[&elsewhere], &["pinned:0"; CROWD]);
    let tids: Vec<i32> = (0..CROWD).map(|index| crowd.tid(index)).collect();
    let (came, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let come_and_go = || {
        let going = tids.iter().cycle().skip(CROWD - INSIDE);
        for (&comes, &goes) in tids.iter().cycle().zip(going) {
            if is_over.load(Ordering::SeqCst) {
                break;
            }
            own.admit(comes);
            elsewhere.admit(goes);
            came.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
        }
    };
    let is_kept = thread::scope(|scope| {
        let _end = Over(&is_over);
        let running = freeze(&own).timeout("800ms").start();
        eventually("it asks", || own.asks());
        scope.spawn(come_and_go);
        eventually("they come", || came.load(Ordering::SeqCst) > INSIDE);
        zoo.release(1);
        let run = running.end();
        if run.code == Some(0) {
            thaw(&own).ends(0, "confirmed");
            return false;
        }
        let report = run.is(6, "rolled_back");
        let all = report["holdouts"].as_array().unwrap();
        assert!(!all.is_empty(), "{report}");
        if all.iter().any(|task| task["tid"] == zoo.tid(1)) {
            return false; // they were so slow that it ended before it was released
        }
        for task in all {
            assert!(tids.iter().any(|tid| task["tid"] == *tid), "{report}");
            // On a busy machine one may get no CPU at all while it is watched.
            let class = task["class"].as_str().unwrap();
            assert!(["arriving", "starved"].contains(&class), "{report}");
        }
        let has_arriving = all.iter().any(|task| task["class"] == "arriving");
        own.ask();
        eventually("explain sees them come", || {
            explain(&own)["arriving"].as_u64() > Some(0)
        });
        own.thaw();
        has_arriving
    });
    tids.iter().for_each(|&tid| elsewhere.admit(tid));
    freeze(&own).ends(0, "confirmed");
    zoo.stands(0);
    thaw(&own).ends(0, "confirmed");
    is_kept
}

/// Says that it is over when it goes, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

mod coming {
    use super::a_cgroup_into_which_tasks_keep_coming_is_not_proven_and_they_are_why;

    on_each_hierarchy! {
        a_cgroup_into_which_tasks_keep_coming_is_not_proven_and_they_are_why,
    }
}

mod v1 {
    /// Not selected where no v1 CPU hierarchy can be had.
    mod with_cpu {
        use kit::Hierarchy;

        #[test]
        #[serial_test::serial]
        fn a_task_whose_cpu_quota_is_used_up_is_throttled_and_freezes_with_patience() {
            super::super::throttled(Hierarchy::V1);
        }
    }
}

mod v2 {
    use super::*;

    /// What the advice says, done without a shell, which a virtual machine has not.
    #[track_caller]
    fn obey(command: &str) {
        let (what, file) = command.strip_prefix("echo ").unwrap().split_once(" > ").unwrap();
        assert!(PathBuf::from(file).exists(), "{command}");
        fs::write(file, what).unwrap();
    }

    #[test]
    #[serial_test::serial]
    fn a_kernel_thread_is_named_as_what_keeps_it_from_settling_and_the_advice_helps() {
        let (scene, own, zoo) = Scene::of(Hierarchy::V2, &["doze"]);
        let tid = scene.borrow_kernel_thread(&own);
        freeze(&own).ends(11, "refused");
        assert!(!own.asks());
        // Somebody else is less careful.
        own.ask();
        zoo.stands(0);
        let report = explain(&own);
        assert_eq!(report["effective"], "freezing", "{report}");
        assert_eq!(of(&report, tid)["class"], "kernel-thread", "{report}");
        assert!(!own.is_frozen());
        let steps = ladder(&report);
        let (_, command) = steps.iter().find(|(step, _)| *step == "move").unwrap();
        let root = mount_of(Hierarchy::V2).join("cgroup.procs");
        assert_eq!(*command, format!("echo {tid} > {}", root.display()), "{report}");
        obey(command);
        thaw(&own).ends(0, "confirmed");
        freeze(&own).ends(0, "confirmed");
        zoo.stands(0);
        thaw(&own).ends(0, "confirmed");
        zoo.goes_on(0);
    }
}

mod hybrid {
    use super::*;

    /// A task of a v2 container, which somebody has frozen in a v1 cgroup of his own.
    #[test]
    #[serial_test::serial]
    fn a_task_that_v1_holds_can_not_freeze_in_v2_and_that_is_said() {
        let scene = Scene::new();
        let (one, two) = (scene.cgroup(Hierarchy::V1), scene.cgroup(Hierarchy::V2));
        let zoo = scene.zoo(&[&two], &["busy", "doze"]);
        // With a task of somebody else's in it, so that it is no cgroup of the container's.
        scene.zoo(&[&one], &["doze"]);
        one.admit(zoo.tid(0));
        one.freeze();
        let report = freeze(&two).timeout("300ms").ends(6, "rolled_back");
        assert_eq!(of(&report, zoo.tid(0))["class"], "frozen-elsewhere", "{report}");
        two.ask();
        zoo.stands(1);
        let report = explain(&two);
        assert_eq!(of(&report, zoo.tid(0))["class"], "frozen-elsewhere", "{report}");
        assert!(!two.is_frozen());
    }

    mod with_cpu {
        use super::*;

        #[test]
        #[serial_test::serial]
        fn a_task_whose_v1_cpu_quota_is_used_up_is_throttled_and_freezes_in_v2_with_patience() {
            throttled(Hierarchy::V2);
        }
    }
}
