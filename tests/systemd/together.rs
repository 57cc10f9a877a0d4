//! A host with all of the engines.

use std::collections::BTreeSet;

use kit::engines::Vessel;
use serde_json::Value;

use crate::boot::{Boot, Layout};
use crate::{docker, in_each_layout, lxc, nspawn, podman, story};

in_each_layout! {
    each_engines_container_is_listed_once
}

fn each_engines_container_is_listed_once(layout: Layout) {
    let boot = Boot::start(layout);
    docker::start(&boot);
    let mut vessels = docker::containers(&boot, &["in-docker"]);
    vessels
        .extend(["crun", "runc"].map(|runtime| podman::container(&boot, runtime, &format!("by-{runtime}"))));
    vessels.push(lxc::container(&boot, "in-lxc"));
    let mut runtimes = vec!["docker", "podman", "podman", "lxc"];
    // On v1 it has no cgroup that freezes.
    if layout != Layout::V1 {
        vessels.push(nspawn::machine(&boot, "in-nspawn"));
        runtimes.push("machine");
    }
    let expect = |state: &str| -> BTreeSet<[String; 4]> {
        let rows = runtimes.iter().zip(&vessels);
        rows.map(|(runtime, vessel)| [runtime, &*vessel.id, &*vessel.name, state].map(str::to_owned))
            .collect()
    };
    assert_eq!(listed(&boot), expect("thawed"));
    let names: Vec<&str> = vessels.iter().map(|vessel| &*vessel.name).collect();
    assert_eq!(boot.iceaxe(&[&["freeze"], &*names].concat()).code(), Some(0));
    vessels.iter().for_each(Vessel::stands);
    assert_eq!(listed(&boot), expect("frozen"));
    assert_eq!(boot.asking().len(), vessels.len(), "{:?}", boot.asking());
    assert_eq!(boot.iceaxe(&[&["thaw"], &*names].concat()).code(), Some(0));
    vessels.iter().for_each(|vessel| story::is_thawed(&boot, vessel));
}

/// Runtime, ID, name and effective state of each container in the list, checked to be there once.
#[track_caller]
fn listed(boot: &Boot) -> BTreeSet<[String; 4]> {
    let text = boot.iceaxe(&["list", "--json"]).well();
    let row = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        ["runtime", "id", "name", "effective"].map(|key| line[key].as_str().unwrap_or("null").to_owned())
    };
    let rows: BTreeSet<[String; 4]> = text.lines().map(row).collect();
    assert_eq!(rows.len(), text.lines().count(), "one is listed twice: {text}");
    rows
}
