//! LXC: `/lxc.payload.NAME`, right below the root whatever systemd has there. What pauses is a monitor beside each
//! container.

use std::fs;

use kit::engines::{HANGS, Vessel};

use crate::boot::{BEAT, Boot, Layout, ROOTFS};
use crate::in_each_layout;
use crate::story::{self, NAMES};

in_each_layout! {
    a_wedged_lxc_monitor_keeps_nobody_from_thawing
    what_iceaxe_froze_lxc_thaws_when_it_has_frozen_it_too
    lxc_unfreezes_what_iceaxe_thawed_before
    resync_has_lxc_unfreeze_what_iceaxe_thawed_before
    resync_thaws_what_lxc_does_not_know_to_be_frozen
    a_wedged_lxc_monitor_is_not_waited_for
}

fn a_wedged_lxc_monitor_keeps_nobody_from_thawing(layout: Layout) {
    let boot = Boot::start(layout);
    let vessels = NAMES.map(|(form, _)| container(&boot, form));
    for vessel in &vessels {
        pause(&boot, vessel);
        boot.wedge(boot.parent(vessel.pid));
    }
    let unfreeze = boot.asked(["lxc-unfreeze", "--name", &vessels[0].name], HANGS);
    assert!(unfreeze.hung(), "{unfreeze:?}");
    story::thaw_each(&boot, "lxc", &NAMES, &vessels);
}

/// The monitor does what it is told only if it remembers it otherwise, and says that all is well either way.
fn what_iceaxe_froze_lxc_thaws_when_it_has_frozen_it_too(layout: Layout) {
    let boot = Boot::start(layout);
    let web = container(&boot, "web");
    story::freeze(&boot, "lxc", &web);
    unfreeze(&boot, &web);
    web.stands();
    boot.run(["lxc-freeze", "--name", &web.name]);
    unfreeze(&boot, &web);
    story::is_thawed(&boot, &web);
}

fn lxc_unfreezes_what_iceaxe_thawed_before(layout: Layout) {
    let boot = Boot::start(layout);
    let web = container(&boot, "web");
    pause(&boot, &web);
    boot.iceaxe(&["thaw", &web.name, "--json"]).is(0, "confirmed");
    unfreeze(&boot, &web);
    story::is_thawed(&boot, &web);
    pause(&boot, &web);
}

/// It needs no freeze for that.
fn resync_has_lxc_unfreeze_what_iceaxe_thawed_before(layout: Layout) {
    let boot = Boot::start(layout);
    let web = container(&boot, "web");
    boot.iceaxe(&["resync", &web.name, "--json"]).is(0, "unchanged");
    pause(&boot, &web);
    boot.iceaxe(&["resync", &web.name, "--json"]).is(0, "unchanged");
    boot.iceaxe(&["thaw", &web.name, "--json"]).is(0, "confirmed");
    let report = boot
        .iceaxe(&["resync", &web.name, "--yes", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["writes"], serde_json::json!([]), "{report}");
    let resync = &report["resync"];
    assert_eq!(
        (
            &resync["engine"],
            &resync["believed_before"],
            &resync["believed_after"]
        ),
        (&"lxc".into(), &"paused".into(), &"running".into()),
        "{report}"
    );
    assert_eq!(
        boot.run(["lxc-info", "--name", &web.name, "--state", "--no-humanize"]),
        "RUNNING"
    );
    story::is_thawed(&boot, &web);
    pause(&boot, &web);
}

fn resync_thaws_what_lxc_does_not_know_to_be_frozen(layout: Layout) {
    let boot = Boot::start(layout);
    let web = container(&boot, "web");
    story::freeze(&boot, "lxc", &web);
    let report = boot
        .iceaxe(&["resync", &web.name, "--yes", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["resync"]["believed_before"], "running", "{report}");
    story::is_thawed(&boot, &web);
}

/// LXC keeps what it believes in the monitor's memory alone: without it nobody can tell.
fn a_wedged_lxc_monitor_is_not_waited_for(layout: Layout) {
    let boot = Boot::start(layout);
    let web = container(&boot, "web");
    pause(&boot, &web);
    boot.iceaxe(&["thaw", &web.name, "--json"]).is(0, "confirmed");
    boot.wedge(boot.parent(web.pid));
    let run = boot.iceaxe(&["resync", &web.name, "--yes", "--json"]);
    let report = run.is(1, "error");
    assert!(run.took < HANGS * 2, "{run:?}");
    let error = report["error"].as_str().unwrap();
    assert!(error.contains("lxc could not be asked"), "{error}");
    story::is_thawed(&boot, &web);
}

#[track_caller]
fn unfreeze(boot: &Boot, vessel: &Vessel) {
    boot.run(["lxc-unfreeze", "--name", &vessel.name]);
}

#[track_caller]
fn pause(boot: &Boot, vessel: &Vessel) {
    story::pause(boot, vessel, || {
        boot.run(["lxc-freeze", "--name", &vessel.name]);
    });
}

/// A container of this name that beats.
#[track_caller]
pub(crate) fn container(boot: &Boot, name: &str) -> Vessel {
    container_with(boot, name, BEAT)
}

/// A container of this name whose first process is `init`, which beats.
#[track_caller]
pub(crate) fn container_with(boot: &Boot, name: &str, init: &str) -> Vessel {
    let volume = boot.volume(name);
    let dir = boot.file(&format!("/var/lib/lxc/{name}"));
    fs::create_dir(&dir).unwrap();
    let config = format!(
        "lxc.uts.name = {name}\nlxc.rootfs.path = dir:{ROOTFS}\nlxc.net.0.type = empty\n\
         lxc.apparmor.profile = unconfined\nlxc.mount.entry = {volume} vol none bind 0 0\nlxc.init.cmd = {init}\n"
    );
    fs::write(dir.join("config"), config).unwrap();
    boot.run(["lxc-start", "--name", name]);
    let pid = boot.run(["lxc-info", "--name", name, "--pid", "--no-humanize"]);
    boot.vessel(name, name, pid.parse().unwrap(), &volume)
}
