//! A hold: freeze, run a command, thaw exactly what was frozen, whatever happens.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kit::{Cgroup, Hierarchy, Iceaxe, Running, Scene, eventually, freeze, iceaxe, program, thaw};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::lease::{end, guard_of, is_there, lateness, records_of, stopped_early};

/// `iceaxe hold CGROUP...`, without its command.
fn hold(cgroups: &[&Cgroup]) -> Iceaxe {
    let command = iceaxe("hold").arg("--timeout=30s");
    cgroups
        .iter()
        .fold(command, |command, cgroup| command.arg(cgroup.target()))
}

/// Held for something that goes on until it is ended.
#[track_caller]
fn held(cgroups: &[&Cgroup], options: &[&str]) -> Running {
    let command = options
        .iter()
        .fold(hold(cgroups), |command, option| command.arg(option));
    let command = command.arg("--").itself().arg("demo-task").arg("sleeper");
    let running = command.input("go").start();
    eventually("the command runs", || {
        cgroups.iter().all(|cgroup| cgroup.asks()) && command_of(&running).is_some()
    });
    running
}

/// The command's process, once it is called what it does: from then on it ends with its parent.
fn command_of(running: &Running) -> Option<i32> {
    let is_it = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(); // it has just ended, then
        comm.trim() == "sleeper"
    };
    running.children().into_iter().find(is_it)
}

fn the_command_runs_while_all_is_frozen_and_then_it_is_thawed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1].map(|_| scene.cgroup(hierarchy));
    let zoos = cgroups.each_ref().map(|cgroup| scene.zoo(&[cgroup], &["doze"]));
    let command = hold(&[&cgroups[0], &cgroups[1]]).arg("--").itself();
    let command = command.arg("status").arg("--json");
    let run = cgroups
        .iter()
        .fold(command, |command, cgroup| command.arg(cgroup.target()))
        .run();
    assert_eq!(run.code, Some(0), "{run:?}");
    let seen: Vec<Value> = run.json();
    assert_eq!(seen.len(), 2, "{run:?}");
    for status in seen {
        assert_eq!(status["effective"], "frozen", "{status}");
        assert_eq!(status["holders"][0]["kind"], "hold", "{status}");
    }
    // The last frozen is the first thawed.
    let thawed: Vec<&str> = run
        .err
        .lines()
        .filter(|line| line.starts_with("thawed"))
        .collect();
    let names = cgroups
        .each_ref()
        .map(|cgroup| cgroup.target().into_string().unwrap());
    assert!(
        thawed.len() == 2 && thawed[0].contains(&names[1]) && thawed[1].contains(&names[0]),
        "{run:?}"
    );
    zoos.iter().for_each(|zoo| zoo.goes_on(0));
    assert!(
        cgroups
            .iter()
            .all(|cgroup| !cgroup.asks() && records_of(cgroup).is_empty())
    );
}

fn the_commands_code_is_the_holds(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let run = hold(&[&cgroup])
        .arg("--")
        .itself()
        .arg("status")
        .arg(format!("{}:/nobody-at-all", hierarchy.word()))
        .run();
    assert_eq!(run.code, Some(3), "{run:?}");
    let run = hold(&[&cgroup]).arg("--").arg("/no/such/program").run();
    assert_eq!(run.code, Some(127), "{run:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let run = hold(&[&cgroup]).arg("--").arg(file.path()).run();
    assert_eq!(run.code, Some(126), "{run:?}");
    let run = hold(&[&cgroup]).run();
    assert_eq!(run.code, Some(125), "{run:?}");
    let run = iceaxe("hold").arg("-").arg("--").itself().run();
    assert_eq!(run.code, Some(125), "{run:?}");
    let run = hold(&[&cgroup]).arg("--max=soon").arg("--").itself().run();
    assert_eq!(run.code, Some(125), "{run:?}");
    assert!(!cgroup.asks());
}

fn the_command_has_the_priority_that_iceaxe_was_started_with(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let running = held(&[&cgroup], &[]);
    let nice = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ').nth(16);
        fields.unwrap().to_owned()
    };
    let command = command_of(&running).unwrap();
    assert_eq!(nice(command), nice(std::process::id().try_into().unwrap()));
    assert_eq!(nice(running.pid()), "-20");
    running.signal(Signal::SIGTERM);
    running.end();
}

fn what_is_read_by_the_command_comes_through(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let other = scene.cgroup(hierarchy);
    other.freeze();
    let run = hold(&[&cgroup])
        .input(other.target().into_string().unwrap())
        .arg("--")
        .itself()
        .arg("thaw")
        .arg("-")
        .run();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.out.starts_with("thawed"), "{run:?}");
    assert!(!other.asks());
}

fn a_command_that_takes_too_long_is_ended(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let running = held(&[&cgroup], &["--max=2s"]);
    let command = command_of(&running);
    let run = running.end();
    assert_eq!(run.code, Some(124), "{run:?}");
    assert!(!cgroup.asks() && !command.is_some_and(is_there), "{run:?}");
    zoo.goes_on(0);
}

fn a_signal_is_passed_on_to_the_command(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for (signal, code) in [
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
        (Signal::SIGINT, 130),
    ] {
        let running = held(&[&cgroup], &[]);
        running.signal(signal);
        let run = running.end();
        assert_eq!(run.code, Some(code), "{run:?}");
        assert!(!cgroup.asks() && records_of(&cgroup).is_empty(), "{run:?}");
    }
    zoo.goes_on(0);
}

fn an_iceaxe_that_is_killed_leaves_nothing_frozen(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for both in [false, true] {
        let running = held(&[&cgroup], &[]);
        let (command, worker) = (command_of(&running).unwrap(), running.worker());
        let guard = guard_of(&cgroup);
        if both {
            kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
        }
        running.signal(Signal::SIGKILL);
        running.end();
        if both {
            end(worker);
        }
        eventually("it is thawed", || !cgroup.asks());
        eventually("nothing is left", || {
            records_of(&cgroup).is_empty() && !is_there(guard) && !is_there(command)
        });
    }
    zoo.goes_on(0);
}

/// Held for a program of the zoo, which does not end with its parent; its process.
#[track_caller]
fn held_for(cgroup: &Cgroup, options: &[&str], word: &str) -> (Running, i32) {
    let command = options
        .iter()
        .fold(hold(&[cgroup]), |command, option| command.arg(option));
    let running = command.arg("--").arg(program("zoo")).arg(word).start();
    let is_it = |pid: &i32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(); // it has just ended, then
        comm.trim() == word
    };
    let mut found = None;
    eventually("the command runs, and is what it is called", || {
        found = running.children().into_iter().find(is_it);
        cgroup.asks() && found.is_some()
    });
    (running, found.unwrap())
}

fn an_iceaxe_that_is_killed_leaves_no_command_to_go_on(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for (word, least) in [("idle", 0), ("deaf", 2)] {
        let (running, command) = held_for(&cgroup, &[], word);
        let guard = guard_of(&cgroup);
        let began = Instant::now();
        running.signal(Signal::SIGKILL);
        eventually("it is thawed", || !cgroup.asks());
        let thawed = began.elapsed();
        eventually("the command has ended", || !is_there(command));
        let ended = began.elapsed();
        running.end();
        eventually("the guard goes", || !is_there(guard));
        assert!(thawed < Duration::from_millis(1000), "{thawed:?}");
        assert!(
            ended >= Duration::from_secs(least) && ended < Duration::from_secs(least + 1),
            "{ended:?}"
        );
    }
    zoo.goes_on(0);
}

/// Whether a process goes on that was started with this word.
fn goes_on_with(word: &str) -> bool {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.any(|pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(); // it is gone, then
        let mut words = line.split(|&byte| byte == 0);
        words.next_back().is_some() && words.next_back() == Some(word.as_bytes()) && is_there(pid)
    })
}

/// Whenever it is: before its command is there, when it is just being started, when it runs.
fn an_iceaxe_that_is_killed_at_any_moment_leaves_no_command(hierarchy: Hierarchy) {
    const ROUNDS: u32 = 24;
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for round in 0..ROUNDS {
        let mark = format!("{}-{round}", cgroup.target().display());
        let command = hold(&[&cgroup]).arg("--").arg(program("zoo")).arg("idle");
        let running = command.arg(&mark).start();
        eventually("it is asked for", || cgroup.asks());
        sleep(Duration::from_micros(300) * round);
        running.signal(Signal::SIGKILL);
        eventually("nothing goes on", || !cgroup.asks() && !goes_on_with(&mark));
        running.end();
        eventually("nothing is left", || records_of(&cgroup).is_empty());
    }
    zoo.goes_on(0);
}

/// One that is stopped can't end before it goes on; the worker is killed too.
fn a_stopped_command_is_ended_by_the_guard_alone(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let (running, command) = held_for(&cgroup, &[], "idle");
    for (signal, pids) in [
        (Signal::SIGSTOP, [command, running.worker(), running.pid()]),
        (Signal::SIGKILL, [running.worker(), running.pid(), running.pid()]),
    ] {
        for pid in pids {
            kill(Pid::from_raw(pid), signal).unwrap();
        }
    }
    // The command has the pipes that its end is told by.
    eventually("all is thawed and ended", || !cgroup.asks() && !is_there(command));
    running.end();
}

fn a_command_that_may_goes_on_without_its_iceaxe(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let (running, command) = held_for(&cgroup, &["--let-run"], "idle");
    let guard = guard_of(&cgroup);
    running.signal(Signal::SIGKILL);
    eventually("all but the command is gone", || {
        !cgroup.asks() && !is_there(guard)
    });
    assert!(is_there(command));
    end(command); // which has the pipes that the end is told by
    running.end();
}

fn boottime_us() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    u64::try_from(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000).unwrap()
}

fn a_stopped_worker_keeps_nothing_frozen_past_the_limit(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for both in [false, true] {
        let (running, command) = held_for(&cgroup, &["--max=2s"], "idle");
        let until = records_of(&cgroup)[0]["until_us"].as_u64().unwrap();
        let worker = running.worker();
        kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
        if both {
            running.signal(Signal::SIGSTOP);
        }
        eventually("it is thawed", || !cgroup.asks());
        let late = boottime_us().checked_sub(until);
        assert!(late.is_some_and(|late| late < 1_500_000), "{late:?} us"); // a second is promised
        zoo.goes_on(0);
        kill(Pid::from_raw(worker), Signal::SIGCONT).unwrap();
        running.signal(Signal::SIGCONT);
        let run = running.end();
        assert_eq!(run.code, Some(124), "{run:?}");
        eventually("nothing is left", || {
            !is_there(command) && records_of(&cgroup).is_empty()
        });
    }
}

fn a_worker_that_is_killed_is_made_up_for_at_the_commands_end(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let running = held(&[&cgroup], &[]);
    kill(Pid::from_raw(running.worker()), Signal::SIGKILL).unwrap();
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(123), "{run:?}");
    assert!(!cgroup.asks() && records_of(&cgroup).is_empty(), "{run:?}");
    zoo.goes_on(0);
}

fn where_all_are_killed_recover_thaws(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let running = held(&[&cgroup], &[]);
    let (command, worker, guard) = (command_of(&running).unwrap(), running.worker(), guard_of(&cgroup));
    for pid in [worker, guard, running.pid()] {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }
    for pid in [worker, guard, running.pid()] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    running.end();
    eventually("all have ended", || {
        ![worker, guard, command].into_iter().any(is_there)
    });
    assert!(cgroup.asks());
    let run = iceaxe("recover").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(!cgroup.asks() && records_of(&cgroup).is_empty(), "{run:?}");
    zoo.goes_on(0);
}

fn of_nested_holds_the_last_one_out_thaws(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let first = held(&[&cgroup], &[]);
    let second = held(&[&cgroup], &[]);
    first.signal(Signal::SIGTERM);
    let run = first.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    assert!(run.err.contains("stays frozen") && cgroup.asks(), "{run:?}");
    second.signal(Signal::SIGTERM);
    second.end();
    assert!(!cgroup.asks() && records_of(&cgroup).is_empty());
    zoo.goes_on(0);
}

fn what_was_frozen_before_stays_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1].map(|_| scene.cgroup(hierarchy));
    let _zoo = scene.zoo(&[&cgroups[0]], &["doze"]);
    cgroups[0].freeze();
    freeze(&cgroups[1]).ends(0, "confirmed");
    let running = held(&[&cgroups[0], &cgroups[1]], &[]);
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    assert!(cgroups.iter().all(Cgroup::asks), "{run:?}");
}

/// Ends what is held and its command, and returns what was said.
#[track_caller]
fn ended(running: Running) -> String {
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    run.err
}

/// A pod that is held, and a container of it.
fn a_hold_below_another_gives_back_what_it_found(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let outer = scene.cgroup(hierarchy);
    let inner = outer.child("inner");
    let zoo = scene.zoo(&[&inner], &["doze"]);
    let (first, second) = (held(&[&outer], &[]), held(&[&inner], &[]));
    let said = ended(second);
    let target = outer.target().into_string().unwrap();
    let before = format!("it was frozen by {target} before, and stays so");
    assert!(said.contains(&before), "{said}");
    assert!(outer.asks() && !inner.asks() && records_of(&inner).is_empty());
    zoo.stands(0);
    ended(first);
    zoo.goes_on(0);
}

fn a_hold_around_another_gives_back_what_it_found(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let outer = scene.cgroup(hierarchy);
    let inner = outer.child("inner");
    let [beside, inside] = [&outer, &inner].map(|cgroup| scene.zoo(&[cgroup], &["doze"]));
    let (first, second) = (held(&[&inner], &[]), held(&[&outer], &[]));
    let said = ended(second);
    assert!(said.contains("before, and stays so"), "{said}");
    assert!(!outer.asks() && inner.asks() && records_of(&outer).is_empty());
    beside.goes_on(0);
    inside.stands(0);
    ended(first);
    inside.goes_on(0);
}

fn what_somebody_else_froze_around_it_meanwhile_is_no_thaw(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let outer = scene.cgroup(hierarchy);
    let inner = outer.child("inner");
    let _zoo = scene.zoo(&[&inner], &["doze"]);
    let running = held(&[&inner], &[]);
    outer.freeze();
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(123), "{run:?}");
    assert!(outer.asks() && !inner.asks(), "{run:?}");
}

fn recover_does_not_miss_who_was_killed_just_before(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for _ in 0..20 {
        let running = held(&[&cgroup], &[]);
        for pid in [guard_of(&cgroup), running.worker(), running.pid()] {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        let run = iceaxe("recover").run();
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(!cgroup.asks() && records_of(&cgroup).is_empty(), "{run:?}");
        running.end();
    }
    zoo.goes_on(0);
}

/// One is frozen by another hold already, which ends while this one waits for the other target.
fn a_hold_that_fails_leaves_nothing_to_one_that_is_gone(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1].map(|_| scene.cgroup(hierarchy));
    let zoo = scene.zoo(&[&cgroups[0]], &["doze"]);
    let _stuck = scene.zoo(&[&cgroups[1]], &["dstate"]);
    let first = held(&[&cgroups[0]], &[]);
    let second = hold(&[&cgroups[0], &cgroups[1]]).timeout("2s");
    let second = second.arg("--").itself().arg("--version").start();
    eventually("the second one waits", || {
        cgroups[1].asks() && records_of(&cgroups[0]).len() == 2
    });
    let said = ended(first);
    assert!(said.contains("stays frozen") && cgroups[0].asks(), "{said}");
    let run = second.end();
    assert_eq!(run.code, Some(125), "{run:?}");
    assert!(!cgroups.iter().any(Cgroup::asks), "{run:?}");
    assert!(cgroups.iter().all(|cgroup| records_of(cgroup).is_empty()));
    zoo.goes_on(0);
}

/// Its worker could not say that nothing was thawed.
fn a_worker_that_is_stopped_is_killed_for_the_guards_sake(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let running = held(&[&cgroup], &[]);
    kill(Pid::from_raw(running.worker()), Signal::SIGSTOP).unwrap();
    end(command_of(&running).unwrap());
    let run = running.end();
    assert_eq!(run.code, Some(123), "{run:?}");
    assert!(run.err.contains("the guard thaws it"), "{run:?}");
    eventually("the guard thaws it", || !cgroup.asks());
    zoo.goes_on(0);
    eventually("nothing is left", || records_of(&cgroup).is_empty());
}

fn a_command_that_does_not_end_at_the_limit_keeps_nothing_frozen(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let command = hold(&[&cgroup]).arg("--max=500ms").arg("--");
    let running = command.arg(program("zoo")).arg("deaf").start();
    eventually("it is held", || cgroup.asks());
    let began = Instant::now();
    eventually("it is thawed", || !cgroup.asks());
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    let run = running.end();
    assert_eq!(run.code, Some(124), "{run:?}");
    assert!(records_of(&cgroup).is_empty(), "{run:?}");
}

fn where_no_other_process_can_be_made_the_command_is_not_run(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    for most in 4..16 {
        let (zoo, most) = (program("zoo"), most.to_string());
        let few: [&OsStr; 4] = [
            zoo.as_ref(),
            "--descriptors".as_ref(),
            most.as_ref(),
            "exec".as_ref(),
        ];
        let command = hold(&[&cgroup]).through(&few);
        let run = command.arg("--").itself().arg("--version").run();
        let was_run = run.out.starts_with("iceaxe");
        assert_eq!(run.code, Some(if was_run { 0 } else { 125 }), "{most}: {run:?}");
        eventually("it is not frozen", || !cgroup.asks());
    }
}

/// A caller may have the ends of its children ignored, and its own children have it from there.
fn the_commands_end_is_seen_whatever_was_ignored(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroup = scene.cgroup(hierarchy);
    let zoo = program("zoo");
    let ignoring: [&OsStr; 3] = [zoo.as_ref(), "--ignore-children".as_ref(), "exec".as_ref()];
    let command = hold(&[&cgroup]).through(&ignoring).arg("--").itself();
    let run = command.arg("status").arg("v9:/").run();
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(!cgroup.asks(), "{run:?}");
}

/// Thaws what is held, which is to be said at once; then somebody freezes it, which is theirs.
#[track_caller]
fn broken_off(cgroup: &Cgroup, thaw: impl FnOnce()) {
    let running = held(&[cgroup], &[]);
    thaw();
    eventually("it is said while the command runs", || {
        running.said().contains("was thawed by somebody else at 20")
    });
    assert!(command_of(&running).is_some());
    eventually("nobody holds it", || records_of(cgroup).is_empty());
    cgroup.freeze();
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(122), "{run:?}");
    assert!(run.err.contains("ended with 143 itself"), "{run:?}");
    assert!(run.err.contains("thawed meanwhile") && cgroup.asks(), "{run:?}");
    cgroup.thaw();
}

fn an_operators_thaw_ends_every_hold_and_says_so(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze"]);
    broken_off(&cgroup, || {
        let planned = thaw(&cgroup).arg("--dry-run").ends(0, "planned");
        assert!(
            planned["hints"]
                .to_string()
                .contains("would have broken off a hold"),
            "{planned}"
        );
        let report = thaw(&cgroup).ends(0, "confirmed");
        assert!(report["hints"].to_string().contains("a hold"), "{report}");
    });
    // Behind iceaxe's back, as an engine does.
    broken_off(&cgroup, || cgroup.thaw());
}

/// What it did not freeze itself is to stay frozen for it all the same.
fn a_thaw_of_what_was_frozen_before_is_told_too(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let [cgroup, other] = [0, 1].map(|_| scene.cgroup(hierarchy));
    let zoo = scene.zoo(&[&cgroup], &["doze"]);
    cgroup.freeze();
    let running = held(&[&cgroup, &other], &[]);
    cgroup.thaw();
    eventually("it is said", || {
        running.said().contains("was thawed by somebody else")
    });
    end(command_of(&running).unwrap());
    let run = running.end();
    assert_eq!(run.code, Some(122), "{run:?}");
    assert!(!cgroup.asks() && !other.asks(), "{run:?}");
    zoo.goes_on(0);
}

/// A task whose timer ran out while it was frozen ends at once when it runs: the container lives on without it.
fn a_thaw_just_before_the_commands_end_is_told_though_a_task_ends_by_it(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze", &format!("nap:{}", NAP.as_millis())]);
    cgroup.freeze();
    sleep(NAP); // its time is over, and it has yet to see that
    assert_eq!(cgroup.tids().len(), 2);
    let command = hold(&[&cgroup]).arg("--").itself();
    let run = command.arg("thaw").arg("--quiet").arg(cgroup.target()).run();
    assert_eq!(run.code, Some(122), "{run:?}");
    assert!(run.err.contains("was thawed by somebody else at 20"), "{run:?}");
    assert!(cgroup.tids().len() == 1 && !cgroup.asks());
}

/// Longer than it takes to freeze a task that has just been made.
const NAP: Duration = Duration::from_secs(1);

/// Who kills a frozen container thaws it for that.
fn a_target_that_ends_is_not_thawed_by_somebody(hierarchy: Hierarchy) {
    let (_scene, cgroup, _zoo) = Scene::of(hierarchy, &["doze", "threads:2"]);
    let running = held(&[&cgroup], &[]);
    let killed = iceaxe("kill").arg("--force=not-container").arg(cgroup.target());
    let killed = killed.arg("--json").run();
    assert_eq!(killed.code, Some(0), "{killed:?}");
    assert!(cgroup.tids().is_empty());
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    assert!(!run.err.contains("thawed by somebody else"), "{run:?}");
}

/// An ancestor holds it too: it runs only when that is thawed.
fn what_still_stands_still_is_not_thawed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let outer = scene.cgroup(hierarchy);
    let inner = outer.child("inner");
    let zoo = scene.zoo(&[&inner], &["doze"]);
    let running = held(&[&inner], &[]);
    outer.freeze();
    inner.thaw();
    zoo.stands(0);
    assert!(!running.said().contains("thawed by somebody else"));
    outer.thaw();
    eventually("it is said", || {
        running.said().contains("was thawed by somebody else")
    });
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(122), "{run:?}");
}

fn explain_and_status_say_first_who_holds_it_and_until_when(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let outer = scene.cgroup(hierarchy);
    let cgroup = outer.child("inner");
    let _zoo = scene.zoo(&[&cgroup], &["doze"]);
    let running = held(&[&cgroup], &["--max=60s"]);
    let (pid, command) = (running.pid(), command_of(&running).unwrap());
    let target = cgroup.target().into_string().unwrap();
    let explained = iceaxe("explain").arg(&target).run();
    let lines: Vec<&str> = explained.out.lines().collect();
    assert!(
        lines[0].contains(&format!("held by iceaxe (process {pid}) until "))
            && lines[0].contains("for at most"),
        "{explained:?}"
    );
    assert!(
        lines[1].starts_with("  held       by a hold for "),
        "{explained:?}"
    );
    assert!(
        lines[1].contains(&format!(", until process {command} (")),
        "{explained:?}"
    );
    let told = &iceaxe("explain").arg(&target).arg("--json").run().json()[0];
    let holder = &told["holders"][0];
    assert_eq!(
        (&holder["by"], &holder["by_comm"]),
        (&pid.into(), &"iceaxe".into()),
        "{told}"
    );
    assert_eq!(holder["command_pid"], command, "{told}");
    let steps = told["ladder"].as_array().unwrap();
    let commands: Vec<&str> = steps
        .iter()
        .map(|step| step["command"].as_str().unwrap())
        .collect();
    let (end, thaw) = (format!("kill -TERM {pid}"), format!("iceaxe thaw {target}"));
    assert_eq!(
        commands,
        [&format!("iceaxe explain {target}"), &end, &thaw],
        "{told}"
    );
    assert!(
        steps[2]["what"].as_str().unwrap().contains("breaks off the hold"),
        "{told}"
    );
    let status = iceaxe("status").arg(&target).run();
    let second = status.out.lines().nth(1).unwrap();
    assert!(second.starts_with("  held       by a hold for "), "{status:?}");
    let watch = iceaxe("watch").arg(&target).arg("--timeout=0").run();
    assert_eq!(watch.json()[0]["holders"][0]["by"], pid, "{watch:?}");
    ended(running);
    // Through an ancestor it is held as well.
    let running = held(&[&outer], &[]);
    let told = &iceaxe("explain").arg(&target).arg("--json").run().json()[0];
    let through = outer.target().into_string().unwrap();
    assert_eq!(told["holders"][0]["through"], through, "{told}");
    assert_eq!(told["holders"][0]["by"], running.pid(), "{told}");
    ended(running);
}

fn a_lease_that_will_not_thaw_says_so_at_once(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let [cgroup, theirs] = [0, 1].map(|_| scene.cgroup(hierarchy));
    freeze(&cgroup).ends(0, "confirmed");
    theirs.freeze();
    for (cgroup, why) in [
        (&cgroup, "is held by a freeze"),
        (&theirs, "was frozen before, by others"),
    ] {
        let run = freeze(cgroup).arg("--for=60s").run();
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(
            run.err.contains(why) && run.err.contains("at the end of this lease"),
            "{run:?}"
        );
        thaw(cgroup).ends(0, "confirmed");
    }
}

fn where_one_cannot_be_frozen_the_command_is_not_run(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups = [0, 1].map(|_| scene.cgroup(hierarchy));
    let _stuck = scene.zoo(&[&cgroups[1]], &["dstate"]);
    let command = hold(&[&cgroups[0], &cgroups[1]]).timeout("300ms");
    let run = command.arg("--").itself().arg("--version").run();
    assert_eq!((run.code, run.out.as_str()), (Some(125), ""), "{run:?}");
    assert!(!cgroups.iter().any(Cgroup::asks), "{run:?}");
    assert!(
        cgroups.iter().all(|cgroup| records_of(cgroup).is_empty()),
        "{run:?}"
    );
    let command = hold(&[&cgroups[0], &cgroups[1]])
        .timeout("300ms")
        .arg("--best-effort");
    let run = command.arg("--").itself().arg("--version").run();
    assert!(run.code == Some(0) && run.out.starts_with("iceaxe"), "{run:?}");
    assert!(!cgroups.iter().any(Cgroup::asks), "{run:?}");
}

fn a_container_that_was_made_anew_is_left_alone(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let first = parent.child("again");
    let running = held(&[&first], &[]);
    fs::remove_dir(&first.dir).unwrap();
    let second = parent.child("again");
    second.freeze();
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    assert!(run.err.contains("gone"), "{run:?}");
    assert!(second.asks(), "{run:?}");
}

fn a_full_disk_keeps_nothing_frozen(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let elsewhere = kit::with_room("32k");
    let root = elsewhere.root().to_str().unwrap().to_owned();
    let running = held(&[&cgroup], &["--root", &root]);
    let mut filler = fs::File::create(elsewhere.records().join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    // A second one finds no room, and says so.
    let refused = hold(&[&cgroup]).arg("--root").arg(&root).arg("--").itself().run();
    assert_eq!(refused.code, Some(125), "{refused:?}");
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.code, Some(143), "{run:?}");
    assert!(!cgroup.asks(), "{run:?}");
    let left: Vec<_> = fs::read_dir(elsewhere.records()).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|file| file.file_name() == "filler" || file.file_name() == ".lock"),
        "{left:?}"
    );
    zoo.goes_on(0);
}

fn a_hold_of_many_ends_with_its_command(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let cgroups: Vec<Cgroup> = (0..40).map(|_| scene.cgroup(hierarchy)).collect();
    let running = held(&cgroups.iter().collect::<Vec<_>>(), &[]);
    end(command_of(&running).unwrap());
    let run = running.end();
    assert_eq!(run.code, Some(137), "{run:?}");
    assert!(!cgroups.iter().any(Cgroup::asks), "{run:?}");
}

fn what_was_thawed_without_iceaxe_is_held_by_nobody(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for options in [&["--for=10m"][..], &[]] {
        let command = options
            .iter()
            .fold(freeze(&cgroup), |command, option| command.arg(option));
        command.ends(0, "confirmed");
        cgroup.thaw();
        let run = hold(&[&cgroup]).arg("--").itself().arg("--version").run();
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(!cgroup.asks() && records_of(&cgroup).is_empty(), "{run:?}");
    }
    zoo.goes_on(0);
}

fn a_stopped_iceaxe_keeps_nothing_frozen_past_the_limit(hierarchy: Hierarchy) {
    let (_scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    let running = held(&[&cgroup], &["--max=2s"]);
    let command = command_of(&running);
    running.signal(Signal::SIGSTOP);
    eventually("it is thawed", || !cgroup.asks());
    zoo.goes_on(0);
    running.signal(Signal::SIGCONT);
    let run = running.end();
    assert_eq!(run.code, Some(124), "{run:?}");
    assert!(!command.is_some_and(is_there), "{run:?}");
}

/// Nor does it where its guard is stopped too: the worker does not wait for either.
fn an_iceaxe_that_is_stopped_before_its_command_runs_keeps_nothing_frozen_past_the_limit(
    hierarchy: Hierarchy,
) {
    let (scene, cgroup, zoo) = Scene::of(hierarchy, &["doze"]);
    for has_guard in [true, false] {
        let command = hold(&[&cgroup]).arg("--max=500ms").arg("--").itself();
        let running = stopped_early(&scene, hierarchy, &cgroup, command.arg("--version"));
        let until = records_of(&cgroup)[0]["until_us"].as_u64().unwrap();
        let guard = guard_of(&cgroup);
        if !has_guard {
            kill(Pid::from_raw(guard), Signal::SIGSTOP).unwrap();
        }
        let late = lateness(&cgroup, until);
        assert!(late < Duration::from_millis(1500), "{late:?}"); // a second is promised
        zoo.goes_on(0);
        running.signal(Signal::SIGCONT);
        let run = running.end();
        if !has_guard {
            kill(Pid::from_raw(guard), Signal::SIGCONT).unwrap();
        }
        assert_eq!(run.code, Some(125), "{run:?}");
        assert!(run.out.is_empty(), "{run:?}");
        eventually("nothing is left", || records_of(&cgroup).is_empty());
        assert!(!cgroup.asks());
    }
}

on_each_hierarchy!(
    an_iceaxe_that_is_stopped_before_its_command_runs_keeps_nothing_frozen_past_the_limit,
    an_iceaxe_that_is_killed_leaves_no_command_to_go_on,
    an_iceaxe_that_is_killed_at_any_moment_leaves_no_command,
    a_stopped_command_is_ended_by_the_guard_alone,
    a_command_that_may_goes_on_without_its_iceaxe,
    a_stopped_worker_keeps_nothing_frozen_past_the_limit,
    a_hold_that_fails_leaves_nothing_to_one_that_is_gone,
    a_worker_that_is_stopped_is_killed_for_the_guards_sake,
    a_command_that_does_not_end_at_the_limit_keeps_nothing_frozen,
    where_no_other_process_can_be_made_the_command_is_not_run,
    the_commands_end_is_seen_whatever_was_ignored,
    a_hold_below_another_gives_back_what_it_found,
    a_hold_around_another_gives_back_what_it_found,
    what_somebody_else_froze_around_it_meanwhile_is_no_thaw,
    recover_does_not_miss_who_was_killed_just_before,
    the_command_has_the_priority_that_iceaxe_was_started_with,
    a_hold_of_many_ends_with_its_command,
    what_was_thawed_without_iceaxe_is_held_by_nobody,
    a_stopped_iceaxe_keeps_nothing_frozen_past_the_limit,
    the_command_runs_while_all_is_frozen_and_then_it_is_thawed,
    the_commands_code_is_the_holds,
    what_is_read_by_the_command_comes_through,
    a_command_that_takes_too_long_is_ended,
    a_signal_is_passed_on_to_the_command,
    an_iceaxe_that_is_killed_leaves_nothing_frozen,
    a_worker_that_is_killed_is_made_up_for_at_the_commands_end,
    where_all_are_killed_recover_thaws,
    of_nested_holds_the_last_one_out_thaws,
    what_was_frozen_before_stays_frozen,
    an_operators_thaw_ends_every_hold_and_says_so,
    a_thaw_of_what_was_frozen_before_is_told_too,
    a_thaw_just_before_the_commands_end_is_told_though_a_task_ends_by_it,
    a_target_that_ends_is_not_thawed_by_somebody,
    what_still_stands_still_is_not_thawed,
    explain_and_status_say_first_who_holds_it_and_until_when,
    a_lease_that_will_not_thaw_says_so_at_once,
    where_one_cannot_be_frozen_the_command_is_not_run,
    a_container_that_was_made_anew_is_left_alone,
    a_full_disk_keeps_nothing_frozen,
);
