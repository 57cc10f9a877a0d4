//! systemd-nspawn, registered as a machine. Started by hand its processes are in `payload` below
//! `/machine.slice/machine-NAME.scope`; started as a service, in `payload` below that, and nspawn itself beside them in
//! `supervisor`. It has no pause of its own; systemd freezes the unit, on v2 alone.

use std::collections::BTreeSet;
use std::fs;

use kit::engines::{HANGS, Vessel};
use kit::eventually;

use crate::boot::{BEAT, Boot, Layout};
use crate::in_layout;
use crate::story::{self, NAMES};

in_layout! { v1 V1: without_a_freezer_cgroup_it_is_refused }
in_layout! { hybrid Hybrid: what_systemd_cannot_freeze_iceaxe_freezes_and_thaws }
in_layout! { v2 V2:
    a_wedged_systemd_keeps_nobody_from_thawing
    a_wedged_systemd_keeps_nobody_from_thawing_a_service
    what_iceaxe_froze_systemctl_thaws
    systemd_reads_its_units_again_and_starts_over_and_leaves_it_frozen
    of_a_service_the_supervisor_goes_on
}

fn a_wedged_systemd_keeps_nobody_from_thawing(layout: Layout) {
    let boot = Boot::start(layout);
    let vessels = NAMES.map(|(form, _)| machine(&boot, form));
    for vessel in &vessels {
        pause(&boot, vessel);
    }
    boot.wedge_systemd();
    let thaw = boot.asked(["systemctl", "thaw", &scope(&vessels[0])], HANGS);
    assert!(thaw.hung(), "{thaw:?}");
    story::thaw_each(&boot, "machine", &NAMES, &vessels);
}

/// systemd freezes the service with the supervisor in it.
fn a_wedged_systemd_keeps_nobody_from_thawing_a_service(layout: Layout) {
    let boot = Boot::start(layout);
    let vessels = NAMES.map(|(form, _)| service(&boot, form));
    for vessel in &vessels {
        let unit = service_of(vessel);
        let place = story::pause_somewhere(&boot, vessel, || {
            boot.run(["systemctl", "freeze", &unit]);
        });
        assert!(place.ends_with(unit), "{place:?}");
    }
    boot.wedge_systemd();
    story::thaw_each(&boot, "machine", &NAMES, &vessels);
}

/// The supervisor is no part of the container, and what it has to do for it must be possible.
fn of_a_service_the_supervisor_goes_on(layout: Layout) {
    let boot = Boot::start(layout);
    let web = service(&boot, "web");
    let own = boot.seen(&web.cgroups[0]);
    assert!(own.ends_with("payload"), "{web:?}");
    for form in NAMES {
        story::freeze(&boot, "machine", &web);
        assert_eq!(boot.asking(), BTreeSet::from([own.clone()]));
        story::thaw_each(&boot, "machine", &[form], std::slice::from_ref(&web));
    }
}

fn what_iceaxe_froze_systemctl_thaws(layout: Layout) {
    let boot = Boot::start(layout);
    let web = machine(&boot, "web");
    story::freeze(&boot, "machine", &web);
    boot.run(["systemctl", "thaw", &scope(&web)]);
    story::is_thawed(&boot, &web);
    // Nothing is left that systemd stumbles over.
    pause(&boot, &web);
    boot.run(["systemctl", "thaw", &scope(&web)]);
    story::is_thawed(&boot, &web);
}

fn systemd_reads_its_units_again_and_starts_over_and_leaves_it_frozen(layout: Layout) {
    let boot = Boot::start(layout);
    let web = machine(&boot, "web");
    story::freeze(&boot, "machine", &web);
    let asking = boot.asking();
    for word in ["daemon-reload", "daemon-reexec"] {
        boot.run(["systemctl", word]);
        // It answers only when it is done with that.
        boot.run(["systemctl", "show", "--property=FreezerState", &scope(&web)]);
        assert_eq!(boot.asking(), asking, "after {word}");
        web.stands();
    }
    story::thaw_each(&boot, "machine", &NAMES[..1], std::slice::from_ref(&web));
    pause(&boot, &web);
    boot.run(["systemctl", "thaw", &scope(&web)]);
    story::is_thawed(&boot, &web);
}

/// With v1 in use systemd has no freezer, not even where there is v2 besides.
fn what_systemd_cannot_freeze_iceaxe_freezes_and_thaws(layout: Layout) {
    let boot = Boot::start(layout);
    let web = machine(&boot, "web");
    boot.ended(["systemctl", "freeze", &scope(&web)])
        .failed("does not support freezing");
    for form in NAMES {
        story::freeze(&boot, "machine", &web);
        story::thaw_each(&boot, "machine", &[form], std::slice::from_ref(&web));
    }
}

/// On v1 it is in the root of the freezer's hierarchy, together with the whole host.
fn without_a_freezer_cgroup_it_is_refused(layout: Layout) {
    let boot = Boot::start(layout);
    let web = machine(&boot, "web");
    assert!(web.cgroups.is_empty(), "{web:?}");
    boot.ended(["systemctl", "freeze", &scope(&web)])
        .failed("does not support freezing");
    for (_, target) in NAMES {
        for verb in ["freeze", "thaw", "path"] {
            boot.iceaxe(&[verb, &target(&web)])
                .refuses(5, &["no cgroup of its own"]);
        }
    }
    story::is_thawed(&boot, &web);
}

#[track_caller]
fn pause(boot: &Boot, vessel: &Vessel) {
    story::pause(boot, vessel, || {
        boot.run(["systemctl", "freeze", &scope(vessel)]);
    });
}

fn scope(vessel: &Vessel) -> String {
    format!("machine-{}.scope", escaped(&vessel.name))
}

fn service_of(vessel: &Vessel) -> String {
    format!("systemd-nspawn@{}.service", escaped(&vessel.name))
}

/// In a unit's name a dash stands for a slash.
fn escaped(name: &str) -> String {
    name.replace('-', "\\x2d")
}

/// A machine of this name that beats.
#[track_caller]
pub(crate) fn machine(boot: &Boot, name: &str) -> Vessel {
    machine_running(boot, name, &[BEAT])
}

/// The same, whose first process is this, which beats.
#[track_caller]
pub(crate) fn machine_running(boot: &Boot, name: &str, init: &[&str]) -> Vessel {
    let words = nspawn(boot, name, &[], init);
    boot.run([&["systemd-run".to_owned(), "--quiet".to_owned()], &*words].concat());
    registered(boot, name)
}

/// One in a unit that is called otherwise.
#[track_caller]
pub(crate) fn machine_in(boot: &Boot, name: &str, unit: &str) -> Vessel {
    let words = nspawn(boot, name, &["--keep-unit"], &[BEAT]);
    let unit = format!("--unit={unit}");
    boot.run(
        [
            &[
                "systemd-run",
                "--quiet",
                "--slice=machine.slice",
                "--property=Delegate=yes",
                &unit,
            ]
            .map(str::to_owned)[..],
            &words,
        ]
        .concat(),
    );
    registered(boot, name)
}

/// The same, started as `machinectl start` does, though without a system of its own in it.
#[track_caller]
fn service(boot: &Boot, name: &str) -> Vessel {
    let unit = format!("systemd-nspawn@{}.service", escaped(name));
    let words = nspawn(boot, name, &["--keep-unit"], &[BEAT]);
    let dir = boot.file(&format!("/run/systemd/system/{unit}.d"));
    fs::create_dir_all(&dir).unwrap();
    let settings = format!("[Service]\nExecStart=\nExecStart={}\n", words.join(" "));
    fs::write(dir.join("start.conf"), settings).unwrap();
    boot.run(["systemctl", "daemon-reload"]);
    boot.run(["systemctl", "start", &unit]);
    registered(boot, name)
}

/// The command line for a machine of this name that beats.
#[track_caller]
fn nspawn(boot: &Boot, name: &str, options: &[&str], init: &[&str]) -> Vec<String> {
    // Each wants one for itself.
    let rootfs = format!("/srv/rootfs-of-{name}");
    boot.fill(&rootfs);
    let volume = boot.volume(name);
    let mut words = vec!["systemd-nspawn".to_owned(), "--quiet".to_owned()];
    words.extend(options.iter().map(|&option| option.to_owned()));
    words.push(format!("--machine={name}"));
    words.push(format!("--directory={rootfs}"));
    words.push(format!("--bind={volume}:/vol"));
    words.extend(init.iter().map(|&word| word.to_owned()));
    words
}

/// The machine of this name, when it is there.
#[track_caller]
fn registered(boot: &Boot, name: &str) -> Vessel {
    let mut leader = String::new();
    eventually("the machine is registered", || {
        let ended = boot.ended(["machinectl", "show", "--property=Leader", "--value", name]);
        leader = ended.out.trim().to_owned();
        ended.code() == Some(0) && !leader.is_empty()
    });
    boot.vessel(name, name, leader.parse().unwrap(), &boot.volume(name))
}
