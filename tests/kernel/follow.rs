//! `watch`: who is told what, and when it ends. Each test means only its own containers: a machine has others.

use kit::{Cgroup, Heard, Hierarchy, Scene, eventually, freeze, has_keys, iceaxe, is_gone, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A change must be told within a second; a machine that is busy with other things gets three.
const PROMPT_US: u64 = 3_000_000;

/// `iceaxe watch CGROUP`, which has told of what was there.
#[track_caller]
fn watch(cgroup: &Cgroup) -> Heard {
    let heard = iceaxe("watch").arg(cgroup.target()).listen();
    assert_eq!(heard.next()["event"], "present");
    heard
}

/// The next event of that kind, which tells what was and what is so.
#[track_caller]
fn told(heard: &Heard, event: &str) -> Value {
    heard.next_that(|line| line["event"] == event)
}

fn now_us() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    u64::try_from(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000).unwrap()
}

#[track_caller]
fn is_prompt(event: &Value, since: u64) {
    let took = event["seen_at_us"].as_u64().unwrap() - since;
    assert!(took < PROMPT_US, "{took} us: {event}");
}

#[track_caller]
fn says(event: &Value, requested: &str, effective: &str, by: &[&Cgroup]) {
    let by: Vec<&str> = by.iter().map(|by| by.path.to_str().unwrap()).collect();
    assert_eq!(
        (&event["requested"], &event["effective"], &event["frozen_by"]),
        (&json!(requested), &json!(effective), &json!(by)),
        "{event}"
    );
}

fn a_thaw_behind_the_back_of_a_lease_is_told_as_such(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze"]);
    let heard = watch(&cgroup);
    let lease = || freeze(&cgroup).arg("--for").arg("10m").ends(0, "confirmed");
    lease();
    told(&heard, "frozen");
    cgroup.thaw();
    let event = told(&heard, "overridden");
    assert_eq!(event["holders"][0]["kind"], "lease", "{event}");
    // One by iceaxe is none: the next event is of the freeze after it.
    thaw(&cgroup).ends(0, "unchanged");
    lease();
    thaw(&cgroup).ends(0, "confirmed");
    told(&heard, "thawed");
    let doubted = std::time::Instant::now();
    eventually("time for doubts is over", || doubted.elapsed().as_millis() > 1500);
    lease();
    // v1 may be seen on its way.
    let event = heard.next_that(|line| line["event"] != "freezing");
    assert_eq!(event["event"], "frozen", "{event}");
    thaw(&cgroup).ends(0, "confirmed");
}

fn a_freeze_and_a_thaw_by_somebody_else_are_told_at_once(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze", "busy"]);
    let heard = watch(&cgroup);
    for _ in 0..3 {
        let asked = now_us();
        cgroup.ask();
        let event = told(&heard, "frozen");
        is_prompt(&event, asked);
        says(&event, "frozen", "frozen", &[]);
        zoo.stands(0);
        let asked = now_us();
        cgroup.thaw();
        let event = told(&heard, "thawed");
        is_prompt(&event, asked);
        says(&event, "thawed", "thawed", &[]);
        assert_eq!(
            event["before"],
            json!({"requested": "frozen", "effective": "frozen"}),
            "{event}"
        );
    }
}

fn a_freeze_by_an_ancestor_is_told_with_its_name(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let own = top.child("between").child("own");
    let _zoo = scene.zoo(&[&own], &["doze"]);
    let heard = watch(&own);
    let asked = now_us();
    top.ask();
    let event = told(&heard, "frozen");
    is_prompt(&event, asked);
    says(&event, "thawed", "frozen", &[&top]);
    // It is as frozen as before: what changes is who asks for it.
    own.ask();
    says(&told(&heard, "changed"), "frozen", "frozen", &[&top]);
    top.thaw();
    says(&told(&heard, "changed"), "frozen", "frozen", &[]);
    own.thaw();
    says(&told(&heard, "thawed"), "thawed", "thawed", &[]);
}

fn a_freeze_is_freezing_until_the_last_task_is_held(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["dstate", "doze"]);
    let heard = watch(&cgroup);
    let asked = now_us();
    cgroup.ask();
    let event = told(&heard, "freezing");
    is_prompt(&event, asked);
    says(&event, "frozen", "freezing", &[]);
    assert_eq!(event["tasks"]["total"], 2, "{event}");
    zoo.release(0);
    says(&told(&heard, "frozen"), "frozen", "frozen", &[]);
    cgroup.thaw();
    says(&told(&heard, "thawed"), "thawed", "thawed", &[]);
}

fn who_starts_ends_and_starts_anew_is_told(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let id = |number: u8| format!("{:08x}{number:056x}", std::process::id());
    // What is there when the watch begins is present: who starts must come later.
    let first = parent.child(format!("docker-{}.scope", id(1)));
    let _first = scene.zoo(&[&first], &["doze"]);
    let all = iceaxe("watch").listen();
    all.next_that(|line| line["id"] == id(1).as_str() && line["event"] == "present");
    let id = id(2);
    let own = |event: &str| all.next_that(|line| line["id"] == id.as_str() && line["event"] == event);
    let mut made = Vec::new();
    for _ in 0..2 {
        let cgroup = parent.child(format!("docker-{id}.scope"));
        let zoo = scene.zoo(&[&cgroup], &["doze"]);
        let event = own("started");
        says(&event, "thawed", "thawed", &[]);
        assert_eq!(event["runtime"], "docker", "{event}");
        cgroup.ask();
        says(&own("frozen"), "frozen", "frozen", &[]);
        cgroup.thaw();
        own("thawed");
        kill(Pid::from_raw(zoo.tid(0)), Signal::SIGKILL).unwrap();
        eventually("its task is gone", || is_gone(zoo.tid(0)));
        eventually("it is removed", || std::fs::remove_dir(&cgroup.dir).is_ok());
        let event = own("ended");
        assert_eq!(
            (&event["effective"], &event["before"]["effective"]),
            (&json!(null), &json!("thawed")),
            "{event}"
        );
        made.push(zoo);
    }
}

fn what_is_frozen_when_the_watch_begins_is_present_as_it_is(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let own = top.child("own");
    let _zoo = scene.zoo(&[&own], &["doze"]);
    top.freeze();
    let run = iceaxe("watch").arg(own.target()).arg("--timeout=0").run();
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{run:?}");
    let lines = run.json();
    assert_eq!(lines.len(), 1, "{run:?}");
    assert_eq!(lines[0]["event"], "present", "{run:?}");
    says(&lines[0], "thawed", "frozen", &[&top]);
    assert_eq!(
        lines[0]["before"],
        json!({"requested": null, "effective": null}),
        "{run:?}"
    );
    has_keys(
        &lines[0],
        &[
            "schema",
            "event",
            "time",
            "seen_at_us",
            "before",
            "id",
            "name",
            "runtime",
            "pid",
            "cgroups",
            "tasks",
        ],
    );
}

on_each_hierarchy! {
    a_thaw_behind_the_back_of_a_lease_is_told_as_such,
    a_freeze_and_a_thaw_by_somebody_else_are_told_at_once,
    a_freeze_by_an_ancestor_is_told_with_its_name,
    a_freeze_is_freezing_until_the_last_task_is_held,
    who_starts_ends_and_starts_anew_is_told,
    what_is_frozen_when_the_watch_begins_is_present_as_it_is,
}

mod any {
    use super::*;
    use serial_test::serial;

    use kit::PATIENCE;

    #[test]
    #[serial]
    fn a_signal_ends_it_as_it_ends_any_program() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let heard = watch(&cgroup);
            heard.running.signal(signal);
            let run = heard.end();
            assert_eq!(
                (run.signal, run.err.as_str()),
                (Some(signal as i32), ""),
                "{run:?}"
            );
        }
    }

    #[test]
    #[serial]
    fn it_ends_well_when_nobody_reads_it() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        let run = iceaxe("watch").arg(cgroup.target()).unheard().run();
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{run:?}");
    }

    /// It has nothing to say then, and no write that could fail.
    #[test]
    #[serial]
    fn it_ends_well_when_its_reader_goes_while_nothing_happens() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        let (mut reader, writer) = std::io::pipe().unwrap();
        let running = iceaxe("watch").arg(cgroup.target()).into_pipe(writer).start();
        // Something was said.
        std::io::Read::read_exact(&mut reader, &mut [0]).unwrap();
        drop(reader);
        let run = running.end();
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{run:?}");
    }

    #[test]
    #[serial]
    fn that_the_work_hangs_or_dies_is_said() {
        let scene = Scene::new();
        let cgroup = scene.cgroup(Hierarchy::available());
        for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
            let heard = watch(&cgroup);
            let worker = Pid::from_raw(heard.running.worker());
            kill(worker, signal).unwrap();
            let run = heard.end();
            // It is gone, or ends now that it finds nobody to work for.
            let _ = kill(worker, Signal::SIGCONT);
            eventually("the worker is gone", || is_gone(worker.as_raw()));
            assert_eq!(run.code, Some(1), "{run:?}");
            assert!(run.err.contains("cannot watch any longer"), "{run:?}");
            assert!(run.took < PATIENCE, "{run:?}");
        }
    }

    #[test]
    #[serial]
    fn who_is_not_there_is_no_watch() {
        let run = iceaxe("watch").arg("v2:/no-such-cgroup").arg("pid:4194304").run();
        assert_ne!(run.code, Some(0), "{run:?}");
        assert_eq!(run.out, "", "{run:?}");
        assert!(run.err.contains("cannot follow pid:4194304: "), "{run:?}");
    }

    #[test]
    #[serial]
    fn a_name_that_moves_the_cursor_is_data_in_json() {
        let scene = Scene::new();
        let name = "a\u{1b}[2J\"}{\r\u{202e}b";
        let cgroup = scene.cgroup(Hierarchy::available()).child(name);
        let heard = iceaxe("watch").arg(cgroup.target()).listen();
        let event = heard.next();
        assert_eq!(
            event["cgroups"][0]["path"],
            cgroup.path.to_str().unwrap(),
            "{event}"
        );
    }
}
