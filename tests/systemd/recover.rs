//! The units that docs/holds.md gives for `iceaxe recover`, as they stand there.

use std::fs;

use crate::boot::{Boot, Layout};
use crate::kit::eventually;
use crate::{docker, in_each_layout};

in_each_layout! {
    the_unit_that_finishes_what_was_left_leaves_the_guard_alone
}

const HOLDS: &str = include_str!("../../docs/holds.md");
const UNIT: &str = "iceaxe-recover.service";

/// Of two that are for `/etc/systemd/system`, the one of that name.
#[track_caller]
fn documented(name: &str) -> &'static str {
    let heading = format!("# /etc/systemd/system/{name}\n");
    let (_, unit) = HOLDS.split_once(&heading).expect("the page has it");
    let end = unit.find("\n\n").or(unit.find("\n```")).unwrap();
    &unit[..=end]
}

fn the_unit_that_finishes_what_was_left_leaves_the_guard_alone(layout: Layout) {
    let boot = Boot::start(layout);
    docker::start(&boot);
    let web = docker::containers(&boot, &["web"]).remove(0);
    let path = format!("/run/systemd/system/{UNIT}");
    fs::write(boot.file(&path), documented(UNIT)).unwrap();
    boot.run(["systemctl", "daemon-reload"]);

    boot.iceaxe(&["freeze", "--for=6s", &web.name, "--json"])
        .is(0, "confirmed");
    let guard = |answers: bool| {
        let holder = boot.status(&web.name)["holders"][0].clone();
        assert_eq!(holder["answered_for"], answers, "{holder}");
        i32::try_from(holder["by"].as_i64().unwrap()).unwrap()
    };
    let first = guard(true);
    boot.end(first);
    // By its timer it comes again and again.
    for _ in 0..2 {
        boot.run(["systemctl", "start", UNIT]);
        assert_ne!(guard(true), first);
        assert_eq!(boot.asking().len(), 1);
    }
    web.stands();
    eventually("the lease is over", || boot.asking().is_empty());
    web.goes_on();
    assert_eq!(boot.status(&web.name)["holders"].as_array().unwrap().len(), 0);
    boot.run(["systemctl", "start", UNIT]);
}
