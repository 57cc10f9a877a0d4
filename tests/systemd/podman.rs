//! podman with its default cgroups, those of systemd. With runc a container is in `/machine.slice/libpod-ID.scope`;
//! crun makes `container` below that, and freezes there. There is no daemon that could hang: what dies is conmon.

use kit::engines::Vessel;

use crate::boot::{BEAT, Boot, Layout, ROOTFS};
use crate::in_each_layout;
use crate::story::{self, FORMS};

in_each_layout! {
    without_conmon_what_podman_paused_by_crun_is_thawed
    without_conmon_what_podman_paused_by_runc_is_thawed
    what_iceaxe_froze_crun_thaws
    what_iceaxe_froze_runc_thaws
    podman_unpauses_by_crun_what_iceaxe_thawed_before
    what_podman_believes_is_told_with_its_labels_and_its_pod
    resync_freezes_for_podman_with_runc_and_not_with_crun
    resync_thaws_what_podman_does_not_know_to_be_frozen
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

fn what_podman_believes_is_told_with_its_labels_and_its_pod(layout: Layout) {
    let boot = Boot::start(layout);
    boot.run(["podman", "pod", "create", "--infra=false", "--name", "front"]);
    let web = container_with(
        &boot,
        "runc",
        "web",
        &["--pod", "front", "--label", "auto_resume=true"],
    );
    let is_told = |believed: &str, agree: bool| {
        let status = boot.status(&web.name);
        let found = (&status["believed"], &status["agree"], &status["pod"]);
        assert_eq!(
            found,
            (&believed.into(), &agree.into(), &"front".into()),
            "{status}"
        );
        assert_eq!(status["labels"]["auto_resume"], "true", "{status}");
        assert_eq!(status["name"], web.name.as_str(), "{status}");
    };
    is_told("running", true);
    pause(&boot, &web);
    is_told("paused", true);
    boot.iceaxe(&["thaw", &web.name, "--json"]).is(0, "confirmed");
    is_told("paused", false);
    // As the hint of the thaw says.
    boot.iceaxe(&["freeze", &web.name, "--json"]).is(0, "confirmed");
    boot.run(["podman", "unpause", &web.name]);
    is_told("running", true);
    story::is_thawed(&boot, &web);
}

/// runc refuses to resume what is not paused; crun asks the kernel each time.
fn resync_freezes_for_podman_with_runc_and_not_with_crun(layout: Layout) {
    let boot = Boot::start(layout);
    for (runtime, writes) in [("runc", 1), ("crun", 0)] {
        let web = container(&boot, runtime, runtime);
        pause(&boot, &web);
        boot.iceaxe(&["thaw", &web.name, "--json"]).is(0, "confirmed");
        let report = boot
            .iceaxe(&["resync", &web.name, "--yes", "--json"])
            .is(0, "confirmed");
        assert_eq!(report["writes"].as_array().unwrap().len(), writes, "{report}");
        let resync = &report["resync"];
        let command = serde_json::json!(["/usr/bin/podman", "unpause", web.id]);
        assert_eq!(
            (&resync["engine"], &resync["command"], &resync["freezes"]),
            (&"podman".into(), &command, &(writes == 1).into()),
            "{report}"
        );
        assert_eq!(
            (&resync["believed_before"], &resync["believed_after"]),
            (&"paused".into(), &"running".into()),
            "{report}"
        );
        story::is_thawed(&boot, &web);
        boot.run(["podman", "exec", &web.name, "true"]);
        boot.iceaxe(&["resync", &web.name, "--json"]).is(0, "unchanged");
        pause(&boot, &web);
        boot.run(["podman", "unpause", &web.name]);
    }
}

fn resync_thaws_what_podman_does_not_know_to_be_frozen(layout: Layout) {
    let boot = Boot::start(layout);
    let web = container(&boot, "runc", "web");
    story::freeze(&boot, "podman", &web);
    let report = boot
        .iceaxe(&["resync", &web.name, "--yes", "--json"])
        .is(0, "confirmed");
    assert_eq!(report["resync"]["believed_before"], "running", "{report}");
    story::is_thawed(&boot, &web);
    boot.run(["podman", "exec", &web.name, "true"]);
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
    container_with(boot, runtime, name, &[])
}

#[track_caller]
fn container_with(boot: &Boot, runtime: &str, name: &str, options: &[&str]) -> Vessel {
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
    words.extend(options);
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
