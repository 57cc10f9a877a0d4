//! podman with its default cgroups, those of systemd. With runc a container is in `/machine.slice/libpod-ID.scope`;
//! crun makes `container` below that, and freezes there. There is no daemon that could hang: what dies is conmon.

use crate::boot::{BEAT, Boot, Layout, ROOTFS};
use crate::engines::Vessel;
use crate::in_each_layout;
use crate::story::{self, FORMS};

in_each_layout! {
    without_conmon_what_podman_paused_by_crun_is_thawed
    without_conmon_what_podman_paused_by_runc_is_thawed
    what_iceaxe_froze_crun_thaws
    what_iceaxe_froze_runc_thaws
    podman_unpauses_by_crun_what_iceaxe_thawed_before
}

fn without_conmon_what_podman_paused_by_crun_is_thawed(layout: Layout) {
    without_conmon_it_is_thawed(layout, "crun");
}

fn without_conmon_what_podman_paused_by_runc_is_thawed(layout: Layout) {
    without_conmon_it_is_thawed(layout, "runc");
}

#[track_caller]
fn without_conmon_it_is_thawed(layout: Layout, runtime: &str) {
    let boot = Boot::start(layout);
    let vessels = FORMS.map(|(form, _)| container(&boot, runtime, form));
    for vessel in &vessels {
        pause(&boot, vessel);
        let conmon = boot.parent(vessel.pid);
        assert_eq!(boot.comm(conmon), "conmon");
        boot.end(conmon);
    }
    story::thaw_each(&boot, "podman", &FORMS, &vessels);
}

fn what_iceaxe_froze_crun_thaws(layout: Layout) {
    what_iceaxe_froze_it_thaws(layout, "crun");
}

fn what_iceaxe_froze_runc_thaws(layout: Layout) {
    what_iceaxe_froze_it_thaws(layout, "runc");
}

/// podman itself refuses to unpause what it did not pause.
#[track_caller]
fn what_iceaxe_froze_it_thaws(layout: Layout, runtime: &str) {
    let boot = Boot::start(layout);
    let web = container(&boot, runtime, "web");
    story::freeze(&boot, "podman", &web);
    boot.ended(["podman", "unpause", &web.name])
        .failed("is not paused");
    boot.run([runtime, "resume", &web.id]);
    story::is_thawed(&boot, &web);
    // Nothing is left that podman stumbles over.
    pause(&boot, &web);
    boot.run(["podman", "unpause", &web.name]);
    story::is_thawed(&boot, &web);
}

fn podman_unpauses_by_crun_what_iceaxe_thawed_before(layout: Layout) {
    let boot = Boot::start(layout);
    let web = container(&boot, "crun", "web");
    pause(&boot, &web);
    boot.iceaxe(&["thaw", &web.name, "--json"]).is(0, "confirmed");
    boot.run(["podman", "unpause", &web.name]);
    story::is_thawed(&boot, &web);
    pause(&boot, &web);
}

#[track_caller]
fn pause(boot: &Boot, vessel: &Vessel) {
    story::pause(boot, vessel, || {
        boot.run(["podman", "pause", &vessel.name]);
    });
}

/// A container of this name that beats. It is privileged and without a limit of processes, as a machine for tests
/// need not have what the opposite takes: on v2 crun loads a filter for devices, for which it raises a limit first,
/// and on v2 without controllers nothing counts processes.
#[track_caller]
pub(crate) fn container(boot: &Boot, runtime: &str, name: &str) -> Vessel {
    let volume = boot.volume(name);
    let mount = format!("{volume}:/vol");
    let mut words = vec![
        "podman",
        "--runtime",
        runtime,
        "run",
        "--detach",
        "--network=none",
        "--pids-limit=0",
    ];
    words.extend([
        "--privileged",
        "--name",
        name,
        "--volume",
        &mount,
        "--rootfs",
        ROOTFS,
        BEAT,
    ]);
    let id = boot.run(words);
    let pid = boot.run(["podman", "inspect", "--format", "{{.State.Pid}}", name]);
    boot.vessel(name, &id, pid.parse().unwrap(), &volume)
}
