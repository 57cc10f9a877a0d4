//! Many containers at once: which are meant, and what becomes of the others. Every test means only its own, by their
//! IDs: a machine has others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kit::{Cgroup, Hierarchy, Iceaxe, Scene, freeze, has_keys, iceaxe, removed};
use prom_text_format_parser::Scrape;
use serde_json::{Value, json};

/// Three containers with tasks of their own, by names that runtimes give, and a prefix that all their IDs have.
struct Three {
    all: Vec<Cgroup>,
    prefix: String,
}

impl Three {
    fn in_scene(scene: &Scene, hierarchy: Hierarchy) -> Self {
        let parent = scene.cgroup(hierarchy);
        let prefix = format!("{:08x}{:04x}", std::process::id(), parent.path.as_os_str().len());
        let all = (1..=3).map(|number| {
            let id = format!("{prefix}{number:052x}");
            parent.child(format!("docker-{id}.scope"))
        });
        Self {
            all: all.collect(),
            prefix,
        }
    }

    fn id(&self, index: usize) -> String {
        format!("{}{:052x}", self.prefix, index + 1)
    }

    /// `iceaxe list` of them.
    fn listed(&self) -> Iceaxe {
        iceaxe("list").arg("--filter").arg(format!("id={}", self.prefix))
    }

    /// A verb on those of them that `filters` leave.
    fn meant(&self, verb: &str, filters: &[&str]) -> Iceaxe {
        let own = format!("id={}", self.prefix);
        let mut command = iceaxe(verb).arg("--json").arg("--filter").arg(own);
        for filter in filters {
            command = command.arg("--filter").arg(filter);
        }
        command
    }
}

#[track_caller]
fn ids(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["id"].as_str().unwrap()).collect()
}

fn only_what_is_frozen_and_meant_is_thawed(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    let zoos: Vec<_> = three
        .all
        .iter()
        .map(|cgroup| scene.zoo(&[cgroup], &["doze"]))
        .collect();
    freeze(&three.all[0]).ends(0, "confirmed");
    freeze(&three.all[1]).ends(0, "confirmed");
    let run = three.meant("list", &[]).arg("--frozen").run();
    assert_eq!(ids(&run.json()), [three.id(0), three.id(1)], "{run:?}");
    // One of them alone, by a second filter of another key.
    let not_second = format!("id!={}", three.id(1));
    let run = three.meant("thaw", &[&not_second]).run();
    let lines = run.json();
    assert_eq!(
        (run.code, ids(&lines)),
        (Some(0), vec![three.id(0).as_str()]),
        "{run:?}"
    );
    zoos[0].goes_on(0);
    zoos[1].stands(0);
    let run = three.meant("thaw", &[]).arg("--all").run();
    assert_eq!(ids(&run.json()), [three.id(1)], "{run:?}");
    zoos[1].goes_on(0);
    let run = three.meant("thaw", &[]).arg("--all").run();
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{run:?}");
    assert!(run.err.contains("no container"), "{run:?}");
}

fn all_are_frozen_and_killed_only_by_force(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    let zoos: Vec<_> = three
        .all
        .iter()
        .map(|cgroup| scene.zoo(&[cgroup], &["doze"]))
        .collect();
    for verb in ["freeze", "kill"] {
        let run = three.meant(verb, &[]).arg("--all").run();
        assert_eq!(run.code, Some(11), "{run:?}");
        zoos.iter().for_each(|zoo| zoo.goes_on(0));
    }
    let run = three.meant("freeze", &[]).arg("--all").arg("--force").run();
    assert_eq!((run.code, run.json().len()), (Some(0), 3), "{run:?}");
    zoos.iter().for_each(|zoo| zoo.stands(0));
    let run = three.meant("explain", &["state=frozen"]).run();
    let lines = run.json();
    assert_eq!(lines.len(), 3, "{run:?}");
    lines
        .iter()
        .for_each(|line| has_keys(line, &["held_by", "ladder"]));
    let run = three.meant("kill", &["state=frozen"]).run();
    assert_eq!((run.code, run.json().len()), (Some(0), 3), "{run:?}");
    assert!(three.all.iter().all(|cgroup| cgroup.tids().is_empty()));
}

fn a_list_is_ordered_written_and_checked_as_it_is_told(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    scene.zoo(&[&three.all[0]], &["doze"]);
    scene.zoo(&[&three.all[1]], &["doze", "doze", "doze"]);
    scene.zoo(&[&three.all[2]], &["doze", "doze"]);
    let run = three.meant("list", &[]).arg("--sort=tasks").run();
    assert_eq!(
        ids(&run.json()),
        [three.id(1), three.id(2), three.id(0)],
        "{run:?}"
    );
    let run = three
        .listed()
        .arg("--sort=tasks")
        .arg(r"--format={{.ID}}\t{tasks}")
        .run();
    let lines: Vec<String> = [(1, 3), (2, 2), (0, 1)]
        .map(|(index, tasks)| format!("{}\t{tasks}\n", three.id(index)))
        .into();
    assert_eq!(run.out, lines.concat(), "{run:?}");
    let run = three.meant("list", &[]).arg("--check").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    freeze(&three.all[2]).ends(0, "confirmed");
    let run = three.meant("list", &[]).arg("--check").run();
    assert_eq!(run.code, Some(8), "{run:?}");
    let run = three.listed().arg("--prometheus").run();
    let frozen = format!(
        "iceaxe_container_frozen{{id=\"{}\",runtime=\"docker\",hierarchy=\"{}\",path=\"{}\"}} 1\n",
        three.id(2),
        hierarchy.word(),
        three.all[2].path.display()
    );
    assert!(run.out.contains(&frozen), "{run:?}");
}

/// Two of one name, and a cgroup that is no container's with a name that the format would have to quote.
fn each_measurement_is_a_series_of_its_own(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    let namesake = scene
        .cgroup(hierarchy)
        .child(three.all[1].path.file_name().unwrap());
    let odd = scene.cgroup(hierarchy).child("a \"b\" \\ {c}\u{202e}");
    let all = [&three.all[0], &three.all[1], &namesake, &odd];
    let _zoos = all.map(|cgroup| scene.zoo(&[cgroup], &["doze"]));
    odd.freeze();
    let run = iceaxe("list").arg("--prometheus").arg("--all-cgroups").run();
    let parsed = Scrape::parse(&run.out).unwrap_or_else(|error| panic!("{error:?}: {run:?}"));
    let tasks = parsed
        .metrics
        .iter()
        .find(|metric| metric.name == "iceaxe_container_tasks");
    let tasks = tasks.unwrap();
    let series: BTreeSet<_> = tasks
        .samples
        .iter()
        .map(|sample| format!("{:?}", sample.labels))
        .collect();
    assert_eq!(series.len(), tasks.samples.len(), "{run:?}");
    let ours = |text: &str| series.iter().filter(|labels| labels.contains(text)).count();
    assert_eq!(ours(&three.id(1)), 2, "{run:?}");
    assert_eq!(ours("u{202e}"), 1, "{run:?}");
    assert!(
        !run.out.contains("=\"\"") && !run.out.contains('\u{202e}'),
        "{run:?}"
    );
}

fn what_is_frozen_and_no_container_is_listed_too(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let slice = scene.cgroup(hierarchy).child("user.slice");
    scene.zoo(&[&slice], &["doze"]);
    slice.ask();
    let run = iceaxe("list")
        .arg("--json")
        .arg("--frozen")
        .arg("--all-cgroups")
        .run();
    let path = slice.path.to_str().unwrap();
    let lines = run.json();
    let found: Vec<&Value> = lines
        .iter()
        .filter(|line| line["cgroups"][0]["path"] == path)
        .collect();
    assert_eq!(found.len(), 1, "{run:?}");
    assert_eq!(
        (&found[0]["requested"], &found[0]["runtime"]),
        (&json!("frozen"), &json!(null)),
        "{run:?}"
    );
}

/// Runs a command again and again while `change` does.
#[track_caller]
fn is_complete_during(change: impl Fn() + Sync, commands: &[&[&str]]) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                change();
            }
        });
        let mut bad = None;
        for words in (0..15).flat_map(|_| commands) {
            let run = words[1..]
                .iter()
                .fold(iceaxe(words[0]), |command, word| command.arg(word))
                .run();
            let said = run
                .err
                .lines()
                .find(|line| !line.starts_with("iceaxe: note: no container"));
            if run.code != Some(0) || said.is_some() {
                bad = Some((words, run));
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed); // the other one ends first where this fails
        assert!(bad.is_none(), "{bad:?}");
    });
}

fn cgroups_that_come_and_go_make_no_list_incomplete(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let change = || {
        let some: Vec<_> = (0..8).map(|number| parent.child(format!("{number}"))).collect();
        some.iter().for_each(Cgroup::ask);
        some.iter().for_each(Cgroup::remove);
    };
    is_complete_during(
        change,
        &[&["list", "--all-cgroups", "--json"], &["tree", "--json"]],
    );
}

fn containers_that_come_and_go_make_no_answer_about_all_fail(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let parent = scene.cgroup(hierarchy);
    let change = || {
        let cgroup = parent.child(format!("docker-{:064x}.scope", std::process::id()));
        let lives = iceaxe("demo-task").arg("sleeper").input("go").start();
        cgroup.admit(lives.pid());
        thread::sleep(Duration::from_millis(20)); // as long as it lives
        drop(lives);
        assert!(removed(&cgroup.dir));
    };
    let all: [&[&str]; 4] = [
        &["list", "--json"],
        &["status", "--all", "--json"],
        &["explain", "--all", "--json"],
        &["thaw", "--all", "--json"],
    ];
    is_complete_during(change, &all);
}

fn a_tree_tells_what_is_frozen_by_itself_and_by_an_ancestor(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let top = scene.cgroup(hierarchy);
    let asking = top.child("asking");
    asking.child("below");
    top.child("beside").child("deep");
    asking.ask();
    let run = iceaxe("tree").arg(top.target()).run();
    let drawn = format!(
        "{} {}\n├─asking  frozen (itself)\n│ └─below  frozen (by an ancestor)\n└─… 1 thawed\n",
        hierarchy.word(),
        top.path.display()
    );
    assert_eq!((run.code, run.out.as_str()), (Some(0), drawn.as_str()), "{run:?}");
    let run = iceaxe("tree").arg(top.target()).arg("--json").run();
    let told: Vec<(Value, Value)> = run
        .json()
        .iter()
        .filter(|node| node["asks"] == true || node["inherits"] == true)
        .map(|node| (node["path"].clone(), node["asks"].clone()))
        .collect();
    let path = |name: &str| json!(top.path.join(name).to_str().unwrap());
    assert_eq!(
        told,
        [
            (path("asking"), json!(true)),
            (path("asking/below"), json!(false))
        ],
        "{run:?}"
    );
}

fn an_id_that_two_containers_have_means_neither_and_keeps_no_other(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    let namesake = scene
        .cgroup(hierarchy)
        .child(three.all[1].path.file_name().unwrap());
    let each = [&three.all[0], &three.all[1], &namesake];
    let zoos = each.map(|cgroup| scene.zoo(&[cgroup], &["doze"]));
    // The namesake is not frozen: whose word the ID is does not depend on the state.
    three.all[..2].iter().for_each(Cgroup::freeze);
    let run = three.meant("thaw", &[]).run();
    let mut ends: Vec<_> = run
        .json()
        .iter()
        .map(|report| report["outcome"].clone())
        .collect();
    ends.sort_by_key(ToString::to_string);
    assert_eq!(
        (run.code, ends),
        (Some(12), vec![json!("ambiguous"), json!("confirmed")]),
        "{run:?}"
    );
    assert!(!three.all[0].asks() && three.all[1].asks());
    zoos[0].goes_on(0);
    zoos[1].stands(0);
}

fn ends_that_differ_are_counted_for_people(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    let thaw = || {
        let all = three.all[..2].iter().map(Cgroup::target);
        all.fold(iceaxe("thaw"), Iceaxe::arg)
    };
    let missing = format!("{}:/iceaxe-test-nobody", hierarchy.word());
    three.all[0].ask();
    let run = thaw().arg(&missing).run();
    assert_eq!(run.code, Some(12), "{run:?}");
    assert_eq!(
        run.err.lines().last(),
        Some("iceaxe: 1 thawed, 1 unchanged, 1 not found"),
        "{run:?}"
    );
    let run = thaw().arg(&missing).arg("--json").run();
    assert!(
        run.code == Some(12) && !run.err.contains("unchanged, "),
        "{run:?}"
    );
    // As it was wanted is as good as done.
    three.all[0].ask();
    let run = thaw().run();
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{run:?}");
}

fn a_filter_that_selects_nothing_is_named_and_freezes_nothing(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    for (verb, code) in [
        ("thaw", 0),
        ("status", 0),
        ("explain", 0),
        ("resync", 0),
        ("list", 0),
        ("freeze", 3),
        ("kill", 3),
    ] {
        let run = three.meant(verb, &["name=iceaxe-test-nobody"]).run();
        assert_eq!((run.code, run.out.as_str()), (Some(code), ""), "{verb}: {run:?}");
        let is_named = run.err.contains("name=iceaxe-test-nobody");
        assert_eq!(is_named, verb != "list", "{verb}: {run:?}"); // its JSON is for programs
    }
    let run = three.listed().run();
    assert!(run.code == Some(0) && run.err.contains(&three.prefix), "{run:?}");
    for verb in ["freeze", "kill"] {
        let run = three.meant(verb, &[]).arg("--allow-none").run();
        assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{verb}: {run:?}");
        assert!(run.err.contains(&three.prefix), "{verb}: {run:?}");
    }
}

fn a_filter_that_means_nothing_is_an_error_of_usage(hierarchy: Hierarchy) {
    let scene = Scene::new();
    let three = Three::in_scene(&scene, hierarchy);
    for filter in ["colour=red", "memory=5", "name"] {
        let run = three.meant("thaw", &[filter]).run();
        assert_eq!(run.code, Some(2), "{run:?}");
    }
}

on_each_hierarchy! {
    only_what_is_frozen_and_meant_is_thawed,
    all_are_frozen_and_killed_only_by_force,
    a_list_is_ordered_written_and_checked_as_it_is_told,
    each_measurement_is_a_series_of_its_own,
    what_is_frozen_and_no_container_is_listed_too,
    cgroups_that_come_and_go_make_no_list_incomplete,
    containers_that_come_and_go_make_no_answer_about_all_fail,
    a_tree_tells_what_is_frozen_by_itself_and_by_an_ancestor,
    an_id_that_two_containers_have_means_neither_and_keeps_no_other,
    ends_that_differ_are_counted_for_people,
    a_filter_that_selects_nothing_is_named_and_freezes_nothing,
    a_filter_that_means_nothing_is_an_error_of_usage,
}
