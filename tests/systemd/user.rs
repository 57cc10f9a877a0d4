//! A user of the host with a session of their own, as a login gives it, and their podman.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use kit::engines::{Ended, Vessel};

use crate::boot::{BEAT, Boot, ROOTFS};

/// How long a user's command may take.
const HEALTHY: Duration = Duration::from_secs(20);

/// A user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) home: String,
}

impl User {
    /// One who has an account and a home.
    #[track_caller]
    pub(crate) fn known(boot: &Boot, number: u32) -> Self {
        let (name, home) = (format!("user{number}"), format!("/srv/home/{number}"));
        let add = |file: &str, line: String| {
            let file = boot.file(file);
            let mut file = File::options().append(true).open(file).unwrap();
            writeln!(file, "{line}").unwrap();
        };
        add(
            "/etc/passwd",
            format!("{name}:x:{number}:{number}::{home}:/bin/sh"),
        );
        add("/etc/shadow", format!("{name}:*:19000:0:99999:7:::"));
        add("/etc/group", format!("{name}:x:{number}:"));
        fs::create_dir_all(boot.file(&home)).unwrap();
        Self { number, name, home }
    }

    /// One who is logged in, with a systemd of their own.
    #[track_caller]
    pub(crate) fn log_in(boot: &Boot, number: u32) -> Self {
        let user = Self::known(boot, number);
        let rootfs = format!("{}/rootfs", user.home);
        boot.run(["cp", "-a", ROOTFS, &rootfs]);
        user.own(boot, &user.home);
        boot.run(["loginctl", "enable-linger", &user.name]);
        boot.run(["systemctl", "start", &format!("user@{number}.service")]);
        user
    }

    /// Gives them everything at and below a path.
    #[track_caller]
    fn own(&self, boot: &Boot, path: &str) {
        let owner = format!("{0}:{0}", self.number);
        boot.run(["chown", "--recursive", &owner, path]);
    }

    /// How a command ends that they type.
    #[track_caller]
    pub(crate) fn ended(&self, boot: &Boot, words: &[&str]) -> Ended {
        let (number, home) = (self.number, &self.home);
        let state = format!("/run/user/{number}");
        let before = [
            "setpriv".to_owned(),
            format!("--reuid={number}"),
            format!("--regid={number}"),
            "--clear-groups".to_owned(),
            "env".to_owned(),
            format!("--chdir={home}"),
            format!("HOME={home}"),
            format!("XDG_RUNTIME_DIR={state}"),
            format!("DBUS_SESSION_BUS_ADDRESS=unix:path={state}/bus"),
        ];
        let words = words.iter().map(|&word| word.to_owned());
        boot.asked(before.into_iter().chain(words), HEALTHY).answered()
    }

    /// A container of their podman's that beats. It shares the numbers of processes and what shows them, as not all of
    /// that is to be seen where systemd runs in namespaces, and then none may be mounted.
    #[track_caller]
    pub(crate) fn container(&self, boot: &Boot, name: &str) -> Vessel {
        let volume = boot.volume(&format!("{}-{name}", self.name));
        self.own(boot, &volume);
        let (mount, rootfs) = (format!("{volume}:/vol"), format!("{}/rootfs", self.home));
        let run = [
            "podman",
            "--runtime=crun",
            "run",
            "--detach",
            "--network=none",
            "--pid=host",
            "--pids-limit=0",
            "--name",
            name,
            "--volume",
            &mount,
            "--rootfs",
            &rootfs,
            BEAT,
        ];
        let id = self.ended(boot, &run).well();
        let inspect = ["podman", "inspect", "--format", "{{.State.Pid}}", name];
        let pid = self.ended(boot, &inspect).well().parse().unwrap();
        let vessel = boot.vessel(name, &id, pid, &volume);
        let theirs = format!("user@{}.service", self.number);
        let is_theirs = |path: &Path| path.iter().any(|part| part == theirs.as_str());
        assert!(is_theirs(&vessel.cgroups[0].path), "{vessel:?}");
        vessel
    }
}
