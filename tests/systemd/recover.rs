//! The units that docs/holds.md gives for `iceaxe recover`, as they stand there but for the first minute.

use std::fs;

use kit::eventually;

use crate::boot::{Boot, Layout};
use crate::{docker, in_each_layout};

in_each_layout! {
    the_unit_that_finishes_what_was_left_leaves_the_guard_alone
}

const HOLDS: &str = include_str!("../../docs/holds.md");
const SERVICE: &str = "iceaxe-recover.service";
const TIMER: &str = "iceaxe-recover.timer";

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
    for unit in [SERVICE, TIMER] {
        let path = format!("/run/systemd/system/{unit}");
        let text = documented(unit).replace("OnBootSec=1min", "OnBootSec=1s"); // a minute is long
        fs::write(boot.file(&path), text).unwrap();
    }
    boot.run(["systemctl", "daemon-reload"]);

    boot.iceaxe(&["freeze", "--for=10m", &web.name, "--json"])
        .is(0, "confirmed");
    let holder = || boot.status(&web.name)["holders"][0].clone();
    let guard = || {
        let holder = holder();
        assert_eq!(holder["answered_for"], true, "{holder}");
        i32::try_from(holder["by"].as_i64().unwrap()).unwrap()
    };
    let first = guard();
    boot.end(first);
    boot.run(["systemctl", "start", TIMER]);
    eventually("it has a guard again", || holder()["answered_for"] == true);
    let second = guard();
    assert_ne!(second, first);
    // By the timer it comes again and again. That it has ended is waited for here.
    boot.run(["systemctl", "start", SERVICE]);
    assert_eq!(guard(), second);
    assert_eq!(boot.asking().len(), 1);
    web.stands();
    // It is well: told to end it thaws first.
    boot.run(["busybox", "kill", "-TERM", &second.to_string()]);
    eventually("it is thawed", || boot.asking().is_empty());
    web.goes_on();
    eventually("nothing is left", || holder().is_null());
    boot.run(["systemctl", "start", SERVICE]);
}
