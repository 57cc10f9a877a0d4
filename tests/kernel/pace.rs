//! One after the other: in an order, with gaps, held back by the host's pressure, and never for ever; and so many at a
//! time.

use std::fs;

use kit::{Cgroup, Hierarchy, Iceaxe, Scene, Zoo, eventually, iceaxe, removed};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

on_each_hierarchy! {
    each_is_thawed_after_the_one_before_it_and_the_gap,
    they_go_by_their_names_where_that_is_asked_for,
    the_one_that_was_started_first_goes_first_where_that_is_asked_for,
    the_one_that_is_frozen_longest_goes_first_where_that_is_on_record,
    no_pressure_keeps_anything_frozen_past_the_limit,
    a_signal_leaves_the_rest_frozen_and_says_so,
    what_ends_before_its_turn_is_skipped_and_said,
    no_more_than_asked_for_are_worked_on_at_once,
    all_are_asked_before_any_is_waited_for,
    a_freeze_in_lots_is_undone_as_a_whole,
    a_terminal_is_shown_how_far_it_is,
}

/// Frozen cgroups, each with a dozing task.
fn frozen(scene: &Scene, hierarchy: Hierarchy) -> Vec<(Cgroup, Zoo)> {
    let each = (0..3).map(|_| {
        let cgroup = scene.cgroup(hierarchy);
        let zoo = scene.zoo(&[&cgroup], &["doze"]);
        cgroup.freeze();
        (cgroup, zoo)
    });
    each.collect()
}

/// A verb on cgroups, in this order.
fn on<'c>(verb: &str, all: impl IntoIterator<Item = &'c Cgroup>) -> Iceaxe {
    let command = iceaxe(verb).arg("--timeout=30s");
    all.into_iter()
        .fold(command, |command, cgroup| command.arg(cgroup.target()))
}

/// When each was proven to be thawed, in the order in which they are told of.
#[track_caller]
fn verified(reports: &[Value]) -> Vec<u64> {
    reports
        .iter()
        .map(|report| report["verified_at_us"].as_u64().unwrap())
        .collect()
}

/// Whose reports these are, as places in `all`.
#[track_caller]
fn told(reports: &[Value], all: &[(Cgroup, Zoo)]) -> Vec<usize> {
    let place = |report: &Value| {
        let of = |(cgroup, _): &(Cgroup, Zoo)| report["target"] == cgroup.target().to_str().unwrap();
        all.iter().position(of).unwrap()
    };
    reports.iter().map(place).collect()
}

fn each_is_thawed_after_the_one_before_it_and_the_gap(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all = frozen(&scene, hierarchy);
    let order = [2, 0, 1].map(|at: usize| &all[at].0);
    let run = on("thaw", order)
        .arg("--json")
        .arg("--stagger")
        .arg("--gap=300ms")
        .run();
    let reports = run.json();
    assert_eq!(
        (run.code, told(&reports, &all)),
        (Some(0), vec![2, 0, 1]),
        "{run:?}"
    );
    let times = verified(&reports);
    assert!(
        times.windows(2).all(|pair| pair[1] >= pair[0] + 300_000),
        "{times:?}"
    );
    all.iter().for_each(|(_, zoo)| zoo.goes_on(0));
}

fn they_go_by_their_names_where_that_is_asked_for(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all = frozen(&scene, hierarchy);
    let run = on("thaw", all.iter().rev().map(|(cgroup, _)| cgroup))
        .arg("--json")
        .arg("--stagger")
        .arg("--order=name")
        .run();
    let reports = run.json();
    let mut names: Vec<_> = all.iter().map(|(cgroup, _)| cgroup.target()).collect();
    names.sort();
    let found: Vec<&str> = reports
        .iter()
        .map(|report| report["target"].as_str().unwrap())
        .collect();
    assert_eq!(
        (run.code, found),
        (Some(0), names.iter().map(|name| name.to_str().unwrap()).collect()),
        "{run:?}"
    );
    assert!(verified(&reports).is_sorted(), "{reports:?}");
}

/// In ticks of 10 ms.
fn uptime() -> String {
    fs::read_to_string("/proc/uptime")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned()
}

fn the_one_that_was_started_first_goes_first_where_that_is_asked_for(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let mut all = Vec::new();
    for _ in 0..3 {
        let cgroup = scene.cgroup(hierarchy);
        let zoo = scene.zoo(&[&cgroup], &["doze"]);
        let then = uptime();
        // Two that start in one tick can't be told apart.
        eventually("a tick has passed", || uptime() != then);
        cgroup.freeze();
        all.push((cgroup, zoo));
    }
    let run = on("thaw", [1, 2, 0].map(|at: usize| &all[at].0))
        .arg("--json")
        .arg("--stagger")
        .arg("--order=oldest")
        .run();
    let reports = run.json();
    assert_eq!(
        (run.code, told(&reports, &all)),
        (Some(0), vec![0, 1, 2]),
        "{run:?}"
    );
    assert!(verified(&reports).is_sorted(), "{reports:?}");
}

fn the_one_that_is_frozen_longest_goes_first_where_that_is_on_record(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all = [0, 1, 2].map(|_| {
        let cgroup = scene.cgroup(hierarchy);
        let zoo = scene.zoo(&[&cgroup], &["doze"]);
        (cgroup, zoo)
    });
    // The last that was started is the first that is frozen.
    for (cgroup, _) in all.iter().rev() {
        kit::freeze(cgroup).ends(0, "confirmed");
    }
    let run = on("thaw", [1, 2, 0].map(|at: usize| &all[at].0))
        .arg("--json")
        .arg("--stagger")
        .arg("--order=oldest")
        .run();
    let reports = run.json();
    assert_eq!(
        (run.code, told(&reports, &all)),
        (Some(0), vec![2, 1, 0]),
        "{run:?}"
    );
}

fn no_pressure_keeps_anything_frozen_past_the_limit(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all = frozen(&scene, hierarchy);
    // No pressure is below nothing.
    let run = on("thaw", all.iter().map(|(cgroup, _)| cgroup))
        .arg("--json")
        .arg("--stagger=2s")
        .arg("--ceiling=cpu=0")
        .run();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.took.as_millis() >= 1900, "{run:?}");
    assert!(
        run.err.contains("2.0 s are over: 3 that are left go at once"),
        "{run:?}"
    );
    assert!(
        run.json().iter().all(|report| report["outcome"] == "confirmed"),
        "{run:?}"
    );
    all.iter().for_each(|(_, zoo)| zoo.goes_on(0));
}

fn a_signal_leaves_the_rest_frozen_and_says_so(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all = frozen(&scene, hierarchy);
    let running = on("thaw", all.iter().map(|(cgroup, _)| cgroup))
        .arg("--json")
        .arg("--stagger")
        .arg("--gap=60s")
        .start();
    eventually("the first is thawed", || !all[0].0.asks());
    all[0].1.goes_on(0);
    running.signal(Signal::SIGTERM);
    let run = running.end();
    assert_eq!(run.signal, Some(Signal::SIGTERM as i32), "{run:?}");
    let ends: Vec<_> = run
        .json()
        .iter()
        .map(|report| report["outcome"].clone())
        .collect();
    assert_eq!(ends, ["confirmed", "error", "error"], "{run:?}");
    for (cgroup, zoo) in &all[1..] {
        let target = cgroup.target().into_string().unwrap();
        let said = format!(
            "cannot thaw {target}: broken off by a signal before anything was written: it still asks for a freeze"
        );
        assert!(run.err.contains(&said), "{run:?}");
        assert!(cgroup.asks());
        zoo.stands(0);
    }
}

fn what_ends_before_its_turn_is_skipped_and_said(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let prefix = format!("{:012x}", std::process::id());
    let all: Vec<_> = (1..=3)
        .map(|number| {
            let cgroup = parent.child(format!("docker-{prefix}{number:052x}.scope"));
            let zoo = scene.zoo(&[&cgroup], &["doze"]);
            cgroup.freeze();
            (cgroup, zoo)
        })
        .collect();
    let running = iceaxe("thaw")
        .arg(format!("--filter=id={prefix}"))
        .arg("--json")
        .arg("--stagger=60s")
        .arg("--gap=2s")
        .start();
    eventually("the first is thawed", || !all[0].0.asks());
    let (second, zoo) = &all[1];
    kill(Pid::from_raw(zoo.tid(0)), Signal::SIGKILL).unwrap();
    second.thaw();
    assert!(removed(&second.dir));
    let run = running.end();
    let ends: Vec<_> = run
        .json()
        .iter()
        .map(|report| (report["outcome"].clone(), report["exit"].clone()))
        .collect();
    let end = |outcome: &str| (outcome.into(), 0.into());
    assert_eq!(
        (run.code, ends),
        (Some(0), vec![end("confirmed"), end("gone"), end("confirmed")]),
        "{run:?}"
    );
    assert!(
        run.err.contains("it ended before anything was written: skipped"),
        "{run:?}"
    );
    all[2].1.goes_on(0);
}

/// The words `writing` and `verdict` of each target, in their order, from `--trace`.
fn steps(err: &str, all: &[&Cgroup]) -> Vec<(usize, String)> {
    let step = |line: &str| {
        let place = |cgroup: &&Cgroup| line.contains(&format!(" {}: ", cgroup.target().to_str().unwrap()));
        let at = all.iter().position(place)?;
        let word = line.rsplit_once(": ")?.1.split(' ').next()?;
        matches!(word, "writing" | "verdict").then(|| (at, word.to_owned()))
    };
    err.lines().filter_map(step).collect()
}

fn no_more_than_asked_for_are_worked_on_at_once(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all: Vec<_> = (0..5).map(|_| scene.cgroup(hierarchy)).collect();
    let all: Vec<&Cgroup> = all.iter().collect();
    // Those that freeze as one are all asked at once.
    let run = on("freeze", all.iter().copied()).arg("--parallel=2").run();
    assert_eq!(run.code, Some(2), "{run:?}");
    for words in [&["freeze", "--best-effort"][..], &["thaw"]] {
        let verb = words[0];
        let command = on(verb, all.iter().copied());
        let command = words[1..].iter().fold(command, |command, word| command.arg(word));
        let run = command.arg("--parallel=2").arg("--trace").run();
        assert_eq!(run.code, Some(0), "{run:?}");
        let mut under_way = std::collections::BTreeSet::new();
        let mut most = 0;
        for (at, word) in steps(&run.err, &all) {
            match word.as_str() {
                "writing" => drop(under_way.insert(at)),
                _ => assert!(under_way.remove(&at), "{run:?}"),
            }
            most = most.max(under_way.len());
        }
        assert_eq!(most, 2, "{verb}: {run:?}");
    }
}

fn all_are_asked_before_any_is_waited_for(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all = frozen(&scene, hierarchy);
    let cgroups: Vec<&Cgroup> = all.iter().map(|(cgroup, _)| cgroup).collect();
    let run = on("thaw", cgroups.iter().copied()).arg("--trace").run();
    let steps = steps(&run.err, &cgroups);
    let words: Vec<&str> = steps.iter().map(|(_, word)| word.as_str()).collect();
    assert_eq!(
        words,
        ["writing", "writing", "writing", "verdict", "verdict", "verdict"],
        "{run:?}"
    );
}

fn a_freeze_in_lots_is_undone_as_a_whole(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let (first, second) = (scene.cgroup(hierarchy), scene.cgroup(hierarchy));
    let third = scene.cgroup(hierarchy);
    let (web, _stuck) = (
        scene.zoo(&[&first], &["doze"]),
        scene.zoo(&[&second], &["dstate"]),
    );
    let running = on("freeze", [&first, &second, &third])
        .arg("--json")
        .arg("--best-effort")
        .arg("--parallel=1")
        .start();
    eventually("the second asks", || second.asks());
    assert!(first.asks() && !third.asks());
    running.signal(Signal::SIGINT);
    let run = running.end();
    assert_eq!(run.signal, Some(Signal::SIGINT as i32), "{run:?}");
    assert!(!first.asks() && !second.asks() && !third.asks(), "{run:?}");
    let ends: Vec<_> = run
        .json()
        .iter()
        .map(|report| report["outcome"].clone())
        .collect();
    assert_eq!(ends, ["rolled_back"; 3], "{run:?}");
    assert_eq!(run.json()[2]["writes"], Value::Array(Vec::new()), "{run:?}");
    web.goes_on(0);
}

fn a_terminal_is_shown_how_far_it_is(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let all = frozen(&scene, hierarchy);
    let run = on("thaw", all.iter().map(|(cgroup, _)| cgroup))
        .arg("--stagger=1500ms")
        .arg("--ceiling=cpu=0")
        .on_a_terminal()
        .run();
    assert_eq!(run.code, Some(0), "{run:?}");
    let (drawn, rest) = run.err.split_once("are over").unwrap();
    assert!(
        drawn.contains("\r\u{1b}[K0 of 3; held back: cpu pressure "),
        "{run:?}"
    );
    // The line made room for what was printed.
    let last = drawn.rsplit_once('\r').unwrap().1;
    assert!(last.starts_with("\u{1b}[Kiceaxe: note: "), "{run:?}");
    assert!(!rest.contains("0 of 3"), "{run:?}");
    // What is done in less than a second has no such line.
    let quick = on("thaw", all.iter().map(|(cgroup, _)| cgroup))
        .on_a_terminal()
        .run();
    assert_eq!((quick.code, quick.err.as_str()), (Some(0), ""), "{quick:?}");
}
