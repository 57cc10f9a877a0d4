//! Root in one container makes cgroups that are called as the runtimes call others' containers. They are nobody's: names
//! and IDs mean whom the engines mean by them, and nobody where they mean nobody.

use std::fs;

use kit::Hierarchy;
use kit::engines::Vessel;
use kit::engines::decoys::{self, Decoys};

use crate::boot::{Boot, Layout};
use crate::{docker, in_each_layout, in_layout, lxc, nspawn};

in_each_layout! {
    a_name_that_reads_as_an_option_is_listed_in_a_form_that_is_none
    what_a_container_of_lxc_calls_its_cgroups_takes_no_name_and_no_id
    what_a_container_of_lxc_calls_its_cgroups_is_no_container
    a_container_of_lxc_that_lives_beside_a_left_over_is_found
}
// With v1 it has no cgroup of its own that could freeze.
in_layout! { hybrid_machine Hybrid: what_a_machine_calls_its_cgroups_takes_no_name }
in_layout! { v2_machine V2: what_a_machine_calls_its_cgroups_takes_no_name }

/// Where a container finds the script that makes decoys when it is told to.
const SCRIPT: [&str; 2] = ["/bin/sh", "/vol/decoys.sh"];

/// Puts the script for these hierarchies into the volume of `evil`.
#[track_caller]
fn give_script(boot: &Boot, hierarchies: &[Hierarchy]) {
    let volume = boot.file(&boot.volume("evil"));
    fs::write(volume.join("decoys.sh"), decoys::script(hierarchies)).unwrap();
}

/// A container of LXC's that makes decoys.
#[track_caller]
fn evil(boot: &Boot) -> Vessel {
    give_script(boot, boot.hierarchies());
    lxc::container_with(boot, "evil", &SCRIPT.join(" "))
}

/// The engines' containers whose names and IDs are taken: docker's, LXC's, LXC's beside a left-over of the same name, and
/// a machine whose unit is called otherwise.
#[track_caller]
fn victims(boot: &Boot) -> Vec<Vessel> {
    docker::start(boot);
    let mut victims = docker::containers(boot, &["web"]);
    victims.push(lxc::container(boot, "mail"));
    leave_over(boot, "shop");
    victims.push(lxc::container(boot, "shop"));
    if boot.layout() != Layout::V1 {
        victims.push(nspawn::machine_in(boot, "base", "front.service"));
    }
    victims
}

/// Has an empty cgroup stand where LXC would put a container of this name.
#[track_caller]
fn leave_over(boot: &Boot, name: &str) {
    for top in boot.tops() {
        fs::create_dir(top.dir.join(format!("lxc.payload.{name}"))).unwrap();
    }
}

fn what_a_container_of_lxc_calls_its_cgroups_takes_no_name_and_no_id(layout: Layout) {
    let boot = Boot::start(layout);
    let victims = victims(&boot);
    let evil = evil(&boot);
    let iceaxe = |args: &[&str]| boot.iceaxe(args);
    // Each pattern alone, as two of them would be in each other's way.
    let each: Vec<Vec<String>> = victims
        .iter()
        .map(|victim| decoys::called(&victim.name))
        .collect();
    for number in 0..each[0].len() {
        let names: Vec<String> = each.iter().map(|names| names[number].clone()).collect();
        let decoys = Decoys::of(&evil, &names, &iceaxe);
        for victim in &victims {
            decoys.are_not_frozen_but(&victim.name, victim);
        }
    }
    let names = [each.concat(), decoys::of_id(&victims[0].id)].concat();
    let decoys = Decoys::of(&evil, &names, &iceaxe);
    for victim in &victims {
        decoys.are_not_meant_but(&victim.name, victim);
        decoys.are_not_meant_but(&format!("name:{}", victim.name), victim);
    }
    let id = &victims[0].id;
    for target in [id, &id[..12], &id[..9], &format!("id:{id}")] {
        decoys.are_not_meant_but(target, &victims[0]);
    }
    for victim in &victims {
        decoys.live_on_when_it_is_killed(&victim.name, victim);
    }
}

fn what_a_container_of_lxc_calls_its_cgroups_is_no_container(layout: Layout) {
    let boot = Boot::start(layout);
    let evil = evil(&boot);
    let iceaxe = |args: &[&str]| boot.iceaxe(args);
    let each = decoys::each_called("web");
    let alone: Vec<String> = each.iter().map(|(_, cgroup)| cgroup.clone()).collect();
    let decoys = Decoys::of(&evil, &[alone, decoys::called("web")].concat(), &iceaxe);
    let names = each.iter().map(|(name, _)| name.as_str()).chain(["web"]);
    for target in names.flat_map(|name| [name.to_owned(), format!("name:{name}"), format!("id:{name}")]) {
        decoys.are_not_meant(&target);
    }
    assert!(boot.asking().is_empty(), "{:?}", boot.asking());
    evil.goes_on();
}

fn a_container_of_lxc_that_lives_beside_a_left_over_is_found(layout: Layout) {
    let boot = Boot::start(layout);
    for left_over in ["web", "mail", "mail-1"] {
        leave_over(&boot, left_over);
    }
    for (name, own) in [("web", "lxc.payload.web-1"), ("mail", "lxc.payload.mail-2")] {
        let vessel = lxc::container(&boot, name);
        assert!(vessel.cgroups[0].path.ends_with(own), "{vessel:?}");
        for target in [name, &format!("name:{name}")] {
            let report = boot.iceaxe(&["freeze", target, "--json"]).is(0, "confirmed");
            assert_eq!(report["name"], name, "{report}");
            vessel.is_frozen();
            boot.iceaxe(&["thaw", target, "--json"]).is(0, "confirmed");
            vessel.is_thawed();
        }
    }
    let listed = boot.iceaxe(&["list", "--json"]).well();
    let names = ["web", "mail"].map(|name| format!("\"name\":\"{name}\""));
    let is_each = listed.lines().count() == 2 && names.iter().all(|name| listed.contains(name));
    assert!(is_each, "{listed}");
}

/// Whoever may name a container gives its name to the command line of who passes the list on.
fn a_name_that_reads_as_an_option_is_listed_in_a_form_that_is_none(layout: Layout) {
    let boot = Boot::start(layout);
    let names = ["--all", "--rescue=kill", "-n"];
    let each = names.map(|name| lxc::container(&boot, name));
    let listed = boot.iceaxe(&["list", "--quiet"]).well();
    assert_eq!(listed.lines().count(), names.len(), "{listed}");
    assert!(!listed.lines().any(|line| line.starts_with('-')), "{listed}");
    let xargs = "iceaxe list --quiet | xargs iceaxe freeze && iceaxe list --quiet | iceaxe thaw -";
    let ended = boot.ended(["sh", "-c", xargs]);
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    for (name, vessel) in names.iter().zip(&each) {
        assert!(ended.err.contains(name) || ended.out.contains(name), "{ended:?}");
        boot.iceaxe(&["freeze", "--json", "--", name]).is(0, "confirmed");
        vessel.is_frozen();
        boot.iceaxe(&["thaw", "--json", &format!("name:{name}")])
            .is(0, "confirmed");
        vessel.is_thawed();
    }
}

fn what_a_machine_calls_its_cgroups_takes_no_name(layout: Layout) {
    let boot = Boot::start(layout);
    let mail = lxc::container(&boot, "mail");
    // Of v1's freezer it has the root, which is the host's as well.
    give_script(&boot, &[Hierarchy::V2]);
    let evil = nspawn::machine_running(&boot, "evil", &SCRIPT);
    let iceaxe = |args: &[&str]| boot.iceaxe(args);
    for name in decoys::called("mail") {
        Decoys::of(&evil, &[name], &iceaxe).are_not_frozen_but("mail", &mail);
    }
    let each = decoys::each_called("web");
    let names: Vec<String> = each.iter().map(|(_, cgroup)| cgroup.clone()).collect();
    let decoys = Decoys::of(&evil, &[names, decoys::called("mail")].concat(), &iceaxe);
    for (name, _) in &each {
        decoys.are_not_meant(name);
    }
    decoys.live_on_when_it_is_killed("mail", &mail);
}
