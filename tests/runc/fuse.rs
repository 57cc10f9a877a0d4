//! A file system of FUSE whose server and whose readers are frozen together.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use kit::engines::{Layout, Scratch, turn};
use kit::{Cgroup, Hierarchy, Scene, eventually, iceaxe, in_each_layout, program};
use serde_json::json;

in_each_layout! {
    a_server_and_its_reader_are_frozen_together_in_either_order
    a_reader_whose_server_is_frozen_is_not_told_to_start_it_again
}

fn hierarchy_of(layout: Layout) -> Hierarchy {
    match layout {
        Layout::AsFound => Hierarchy::available(),
        _ => Hierarchy::V2,
    }
}

/// A file system that is served in one cgroup, and asked about in another. When it goes both are thawed first: who waits
/// for a frozen server does not die.
struct Served<'c> {
    cgroups: [&'c Cgroup; 2],
    children: Vec<Child>,
}

impl<'c> Served<'c> {
    #[track_caller]
    fn start(scratch: &Scratch, [server, reader]: [&'c Cgroup; 2]) -> Self {
        let dir = scratch.dir("served");
        let mut served = Self {
            cgroups: [server, reader],
            children: Vec::new(),
        };
        served.admit(server, "serve", &dir);
        let mut line = String::new();
        let out = served.children[0].stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        served.admit(reader, "look", &dir.join("file"));
        eventually("it is in its cgroup", || !reader.tids().is_empty());
        served
    }

    #[track_caller]
    fn admit(&mut self, cgroup: &Cgroup, word: &str, path: &Path) {
        let mut command = Command::new(program("zoo"));
        command.arg("--in").arg(&cgroup.dir).arg(word).arg(path);
        self.children
            .push(command.stdout(Stdio::piped()).spawn().unwrap());
    }

    fn reader(&self) -> u32 {
        self.children[1].id()
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.cgroups.iter().for_each(|cgroup| cgroup.thaw());
        for child in self.children.iter_mut().rev() {
            let _ = child.kill(); // it has ended, then
            let _ = child.wait(); // as above
        }
    }
}

fn a_server_and_its_reader_are_frozen_together_in_either_order(layout: Layout) {
    let (_turn, scene, scratch) = (turn(), Scene::new(), Scratch::new());
    let cgroups = [0, 1].map(|_| scene.cgroup(hierarchy_of(layout)));
    let _served = Served::start(&scratch, cgroups.each_ref());
    for round in 0..6 {
        let [first, second] = [round % 2, 1 - round % 2].map(|at| cgroups[at].target());
        let run = iceaxe("freeze").arg(first).arg(second).arg("--timeout=6s").run();
        assert_eq!(run.code, Some(0), "{round}: {run:?}");
        assert!(cgroups.iter().all(Cgroup::is_frozen), "{round}: {run:?}");
        let thaw = iceaxe("thaw");
        let thaw = cgroups
            .iter()
            .fold(thaw, |thaw, cgroup| thaw.arg(cgroup.target()));
        let run = thaw.run();
        assert_eq!(run.code, Some(0), "{round}: {run:?}");
    }
}

fn a_reader_whose_server_is_frozen_is_not_told_to_start_it_again(layout: Layout) {
    let (_turn, scene, scratch) = (turn(), Scene::new(), Scratch::new());
    let cgroups = [0, 1].map(|_| scene.cgroup(hierarchy_of(layout)));
    let served = Served::start(&scratch, cgroups.each_ref());
    let target = cgroups[0].target().into_string().unwrap();
    let run = iceaxe("freeze").arg(&target).run();
    assert_eq!(run.code, Some(0), "{run:?}");
    let stack = format!("/proc/{}/stack", served.reader());
    eventually("it waits for the server", || {
        fs::read_to_string(&stack).is_ok_and(|stack| stack.contains("request_wait_answer"))
    });
    cgroups[1].ask();
    let explained = iceaxe("explain")
        .arg(cgroups[1].target())
        .arg("--json")
        .run()
        .json();
    let steps = explained[0]["ladder"].as_array().unwrap();
    let looks = |step: &&serde_json::Value| step["command"] == "grep . /sys/fs/fuse/connections/*/waiting";
    let look = steps.iter().find(looks).unwrap();
    let what = look["what"].as_str().unwrap();
    // A machine has others.
    assert!(what.contains(&target) && what.contains(" frozen now. "), "{what}");
    let thaw = format!("iceaxe thaw {target}");
    let thaws = |step: &&serde_json::Value| step["command"] == json!(thaw);
    let thaw = steps.iter().find(thaws).unwrap();
    assert!(
        thaw["what"].as_str().unwrap().contains("need not"),
        "{explained:?}"
    );
    cgroups[0].thaw();
    eventually("it freezes", || cgroups[1].is_frozen());
}
