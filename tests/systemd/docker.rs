//! docker with the systemd driver: `/system.slice/docker-ID.scope`.

use kit::PATIENCE;
use kit::engines::{HANGS, Program, Vessel};

use crate::boot::{BEAT, Boot, Layout, ROOTFS};
use crate::in_each_layout;
use crate::story::{self, FORMS};

const IMAGE: &str = "bb:1";
/// Where dockerd has runc keep its records.
const RUNC: [&str; 3] = ["runc", "--root", "/run/docker/runtime-runc/moby"];

in_each_layout! {
    a_wedged_docker_keeps_nobody_from_thawing
    what_iceaxe_froze_dockers_runtime_thaws
}

fn a_wedged_docker_keeps_nobody_from_thawing(layout: Layout) {
    let boot = booted(layout);
    let vessels = containers(&boot, &FORMS.map(|(form, _)| form));
    for vessel in &vessels {
        story::pause(&boot, vessel, || {
            boot.run(["docker", "pause", &vessel.name]);
        });
    }
    for unit in ["docker", "containerd"] {
        boot.wedge(boot.main_process(unit));
    }
    let unpause = boot.asked(["docker", "unpause", &vessels[0].name], HANGS);
    assert!(unpause.hung(), "{unpause:?}");
    story::thaw_each(&boot, "docker", &FORMS, &vessels);
    for vessel in &vessels {
        let status = boot.status(&vessel.name);
        assert_eq!(
            (&status["believed"], &status["agree"]),
            (&"paused".into(), &false.into()),
            "{status}"
        );
    }
}

/// docker itself refuses to unpause what it did not pause.
fn what_iceaxe_froze_dockers_runtime_thaws(layout: Layout) {
    let boot = booted(layout);
    let web = &containers(&boot, &["web"])[0];
    story::freeze(&boot, "docker", web);
    boot.ended(["docker", "unpause", &web.name])
        .failed("is not paused");
    boot.run([&RUNC[..], &["resume", &web.id]].concat());
    story::is_thawed(&boot, web);
    // Nothing is left that docker stumbles over.
    story::pause(&boot, web, || {
        boot.run(["docker", "pause", &web.name]);
    });
    boot.run(["docker", "unpause", &web.name]);
    story::is_thawed(&boot, web);
}

/// Boots with a dockerd that has the image.
#[track_caller]
fn booted(layout: Layout) -> Boot {
    let boot = Boot::start(layout);
    start(&boot);
    boot
}

/// Starts dockerd, and gives it the image.
#[track_caller]
pub(crate) fn start(boot: &Boot) {
    boot.run(["systemctl", "start", "docker"]);
    let archive = "/srv/image.tar";
    boot.run(["busybox", "tar", "-c", "-f", archive, "-C", ROOTFS, "."]);
    boot.run(["docker", "import", archive, IMAGE]);
    let driver = boot.run(["docker", "info", "--format", "{{.CgroupDriver}}"]);
    assert_eq!(driver, "systemd");
}

/// Containers of these names that beat.
#[track_caller]
pub(crate) fn containers(boot: &Boot, names: &[&str]) -> Vec<Vessel> {
    let begin = |name: &&str| -> Program {
        let volume = format!("{}:/vol", boot.volume(name));
        let words = [
            "docker",
            "run",
            "--detach",
            "--network=none",
            "--name",
            name,
            "--volume",
            &volume,
            IMAGE,
            BEAT,
        ];
        boot.start_command(words)
    };
    // All at once, which takes less time than one after the other.
    let begun: Vec<Program> = names.iter().map(begin).collect();
    let made = names.iter().zip(begun).map(|(name, run)| {
        let id = run.answer(PATIENCE).answered().well();
        let pid = boot.run(["docker", "inspect", "--format", "{{.State.Pid}}", name]);
        boot.vessel(name, &id, pid.parse().unwrap(), &boot.volume(name))
    });
    made.collect()
}
