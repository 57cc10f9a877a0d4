//! A process that hangs in an exec until a file system's server answers: whoever reads most files of its /proc directory
//! hangs too. A thaw does not wait for it, and nobody else's verdict is the worse for it.

use std::fs;
use std::time::{Duration, Instant};

use kit::{CLEARED, cleared_after, is_as_quick, is_quick, usually_cleared_after};
use kit::{Cgroup, Hierarchy, Scene, Zoo, freeze, iceaxe, status, tasks_add_up, thaw, with_room};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::explain::{explain, of};

/// Within that time all containers of the host are listed.
const LISTED: Duration = Duration::from_secs(3);
const MANY: usize = 100;

/// Two tasks that doze, and one between them that hangs.
struct Sick {
    _scene: Scene,
    cgroup: Cgroup,
    zoo: Zoo,
}

/// The place of the one that hangs among its zoo's kinds.
const HUNG: usize = 1;

impl Sick {
    #[track_caller]
    fn on(hierarchy: Hierarchy) -> Self {
        let scene = Scene::new();
        let cgroup = scene.cgroup(hierarchy);
        Self::with(scene, cgroup)
    }

    #[track_caller]
    fn with(scene: Scene, cgroup: Cgroup) -> Self {
        let zoo = scene.zoo(&[&cgroup], &["doze", "hung", "doze"]);
        Self {
            _scene: scene,
            cgroup,
            zoo,
        }
    }

    fn tid(&self) -> i32 {
        self.zoo.tid(HUNG)
    }
}

fn a_thaw_writes_first_and_leaves_behind_who_hangs(hierarchy: Hierarchy) {
    let sick = Sick::on(hierarchy);
    let (cleared, run) = cleared_after(&sick.cgroup, "1s");
    let report = run.is(9, "released");
    assert!(cleared < CLEARED, "cleared after {cleared:?}: {report}");
    tasks_add_up(&report, &[(&["ran", "restored"], 2), (&["unknown"], 1)]);
    let named = of(&report, sick.tid());
    assert_eq!(named["class"], "hung", "{report}");
    assert!(
        named["meaning"].as_str().unwrap().contains("does not answer"),
        "{report}"
    );
    sick.zoo.goes_on(0);
    sick.zoo.goes_on(2);
    // It hangs no more, and is looked at as anybody else.
    sick.zoo.release(HUNG);
    sick.zoo.goes_on(HUNG);
    sick.cgroup.ask();
    thaw(&sick.cgroup).ends(0, "confirmed");
}

fn no_other_container_is_the_worse_for_one_that_hangs(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let id = |number: u32| format!("{:08x}{number:056x}", std::process::id());
    let other = parent.child(format!("docker-{}.scope", id(1)));
    let cgroup = parent.child(format!("docker-{}.scope", id(2)));
    let healthy = scene.zoo(&[&other], &["doze", "doze"]);
    let sick = Sick::with(scene, cgroup);
    freeze(&other).ends(0, "confirmed");
    healthy.stands(0);
    let began = Instant::now();
    let run = iceaxe("list").arg("--json").run();
    assert!(began.elapsed() < LISTED, "{run:?}");
    let lines = run.json();
    let listed = |number| {
        let is_it = |line: &&Value| line["id"] == id(number);
        lines
            .iter()
            .find(is_it)
            .unwrap_or_else(|| panic!("{number} is not listed: {run:?}"))
    };
    assert_eq!(
        (&listed(1)["effective"], &listed(1)["tasks"]["frozen"]),
        (&json!("frozen"), &json!(2)),
        "{run:?}"
    );
    assert_eq!(
        (&listed(2)["effective"], &listed(2)["tasks"]["unknown"]),
        (&json!("thawed"), &json!(1)),
        "{run:?}"
    );
    assert!(run.err.contains(&sick.tid().to_string()), "{run:?}");
    assert_eq!(status(&other)["effective"], "frozen");
    assert_eq!(explain(&other)["effective"], "frozen");
    let run = iceaxe("thaw")
        .arg("--json")
        .arg("--all")
        .arg("--filter")
        .arg(format!("id={}", id(1)))
        .run();
    run.is(0, "confirmed");
    healthy.goes_on(0);
    freeze(&other).ends(0, "confirmed");
    let (cleared, run) = cleared_after(&other, "1s");
    run.is(0, "confirmed");
    assert!(cleared < CLEARED, "{cleared:?}");
    let run = iceaxe("kill").arg("--json").arg(format!("id:{}", id(1))).run();
    run.is(0, "confirmed");
    assert!(other.tids().is_empty());
}

/// More of them, each in a container of its own, than one would care to wait 20 ms for.
fn however_many_hang_the_others_are_listed_and_proven(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let id = |number: usize| format!("{:08x}{number:056x}", std::process::id());
    let hung = scene.zoo(&[&parent], &["hung"; MANY]);
    for number in 0..MANY {
        parent
            .child(format!("docker-{}.scope", id(number)))
            .admit(hung.tid(number));
    }
    let other = parent.child(format!("docker-{}.scope", id(MANY)));
    let healthy = scene.zoo(&[&other], &["doze", "doze"]);
    let filtered = |verb| {
        let run = iceaxe(verb).arg("--json").arg("--filter");
        run.arg(format!("id={}", id(MANY))).run()
    };
    filtered("freeze").is(0, "confirmed");
    healthy.stands(0);
    let began = Instant::now();
    let run = iceaxe("list").arg("--json").run();
    assert!(began.elapsed() < LISTED, "{:?}", began.elapsed());
    let lines = run.json();
    let line = lines.iter().find(|line| line["id"] == id(MANY)).unwrap();
    assert_eq!(
        (&line["effective"], &line["tasks"]["frozen"]),
        (&json!("frozen"), &json!(2)),
        "{line}"
    );
    filtered("thaw").is(0, "confirmed");
    healthy.goes_on(0);
}

fn what_can_not_be_looked_at_is_named_by_all_that_look(hierarchy: Hierarchy) {
    let sick = Sick::on(hierarchy);
    let report = explain(&sick.cgroup);
    assert_eq!(of(&report, sick.tid())["class"], "hung", "{report}");
    let told = status(&sick.cgroup);
    assert_eq!(
        (&told["tasks"]["total"], &told["tasks"]["unknown"]),
        (&json!(3), &json!(1)),
        "{told}"
    );
    let began = Instant::now();
    let report = freeze(&sick.cgroup).timeout("300ms").ends(6, "rolled_back");
    assert!(began.elapsed() < LISTED, "{report}");
    assert!(!sick.cgroup.asks(), "{report}");
    assert_eq!(of(&report, sick.tid())["class"], "hung", "{report}");
    sick.zoo.goes_on(0);
}

/// A container as runc has it on record, whose first process hangs.
fn a_container_whose_first_process_hangs_is_found_by_its_id_and_thawed(hierarchy: Hierarchy) {
    let elsewhere = with_room("1m");
    let id = format!("{:064x}", u64::from(std::process::id()) << 32 | 0xbe);
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy).child(&id);
    let sick = Sick::with(scene, cgroup);
    sick.cgroup.admit(sick.tid());
    let record = elsewhere.root().join("run/runc").join(&id);
    fs::create_dir_all(&record).unwrap();
    let paths = match hierarchy {
        Hierarchy::V1 => json!({"freezer": sick.cgroup.dir}),
        Hierarchy::V2 => json!({"": sick.cgroup.dir}),
    };
    // When it started can't be read while it hangs.
    let state =
        json!({"id": id, "init_process_pid": sick.tid(), "init_process_start": 1, "cgroup_paths": paths});
    fs::write(record.join("state.json"), state.to_string()).unwrap();
    sick.cgroup.ask();
    let thaw = || {
        iceaxe("thaw")
            .arg("--json")
            .arg("--timeout=1s")
            .arg("--root")
            .arg(elsewhere.root())
    };
    let began = Instant::now();
    let report = thaw().arg(format!("id:{id}")).run().is(9, "released");
    assert!(began.elapsed() < Duration::from_secs(4), "{report}");
    assert!(!sick.cgroup.asks(), "{report}");
    sick.cgroup.ask();
    let run = thaw().arg("--all").arg("--filter").arg(format!("id={id}")).run();
    run.is(9, "released");
    assert!(!sick.cgroup.asks());
}

fn a_thaw_is_as_quick_as_on_a_healthy_host(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let healthy = scene.cgroup(hierarchy);
    let _zoo = scene.zoo(&[&healthy], &["doze"; 5]);
    let before = usually_cleared_after(&healthy);
    let sick = Sick::on(hierarchy);
    is_as_quick(&healthy, before);
    is_quick(&sick.cgroup, before);
}

fn a_watch_shows_the_others_and_names_who_hangs(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let id = |number: u32| format!("{:08x}{number:056x}", std::process::id());
    let other = parent.child(format!("docker-{}.scope", id(3)));
    let cgroup = parent.child(format!("docker-{}.scope", id(4)));
    let _healthy = scene.zoo(&[&other], &["doze"]);
    let sick = Sick::with(scene, cgroup);
    let watch = iceaxe("watch").listen();
    for number in [3, 4] {
        watch.next_that(|line| line["id"] == id(number) && line["event"] == "present");
    }
    other.freeze();
    watch.next_that(|line| line["id"] == id(3) && line["event"] == "frozen");
    watch.running.signal(Signal::SIGTERM);
    let run = watch.end();
    assert!(run.err.contains(&sick.tid().to_string()), "{run:?}");
}

on_each_hierarchy! {
    a_thaw_is_as_quick_as_on_a_healthy_host,
    a_watch_shows_the_others_and_names_who_hangs,
    a_container_whose_first_process_hangs_is_found_by_its_id_and_thawed,
    a_thaw_writes_first_and_leaves_behind_who_hangs,
    however_many_hang_the_others_are_listed_and_proven,
    no_other_container_is_the_worse_for_one_that_hangs,
    what_can_not_be_looked_at_is_named_by_all_that_look,
}
