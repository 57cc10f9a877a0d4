//! Installs what the tests need and this machine lacks.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{IsTerminal, Write, stdin};
use std::time::Duration;

use crate::Result;
use crate::command::{find, is_root, limited, output, shown};

/// A need: the program (or whole path) that shows whether it is met, and the Debian package that meets it.
pub(crate) type Need = (&'static str, &'static str);

/// To run the suites on this machine's kernel.
pub(crate) const HOST: &[Need] = &[
    ("unshare", "util-linux"),
    ("mountpoint", "util-linux"),
    ("timeout", "coreutils"),
];
/// To link programs, static ones too.
pub(crate) const BUILD: &[Need] = &[("cc", "gcc"), ("/usr/include/stdio.h", "libc6-dev")];
/// To give the records a disk of their own.
pub(crate) const SOAK: &[Need] = &[("mount", "mount"), ("umount", "mount")];
/// To run runc containers.
pub(crate) const RUNC: &[Need] = &[
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
];
/// To run docker containers.
pub(crate) const DOCKER: &[Need] = &[
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("iptables", "iptables"),
];
/// To boot systemd in namespaces, and to run containers of every engine under it.
pub(crate) const SYSTEMD: &[Need] = &[
    ("unshare", "util-linux"),
    ("/lib/systemd/systemd", "systemd"),
    ("systemd-nspawn", "systemd-container"),
    ("dbus-daemon", "dbus"),
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "containerd"),
    ("podman", "podman"),
    ("conmon", "conmon"),
    ("crun", "crun"),
    ("runc", "runc"),
    ("lxc-start", "lxc"),
    ("busybox", "busybox-static"),
    ("iptables", "iptables"),
    ("strace", "strace"),
];
/// To boot other kernels.
pub(crate) const VM: &[Need] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("dpkg-deb", "dpkg"),
    ("tar", "tar"),
];

/// Fetching and installing all of it takes a minute or two; a mirror that answers slowly has ten times as long.
const LIMIT: Duration = Duration::from_secs(1200);

/// Whether what is missing may be installed without a question.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Install {
    /// Install what is missing also where that upgrades or removes packages that this machine has.
    #[arg(long)]
    yes: bool,
}

impl Install {
    /// Installs what is missing for `needs`, and says before what that changes. What is not installed is not an error
    /// here: the suites that need it will not be selected, and say why.
    pub(crate) fn needs(self, needs: &[&[Need]]) {
        let missing: BTreeSet<Need> = missing(needs).into_iter().collect();
        let packages: BTreeSet<&str> = missing.iter().map(|(_, package)| *package).collect();
        let lacks: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        if packages.is_empty() {
            return;
        }
        let packages: Vec<&str> = packages.into_iter().collect();
        println!("missing here: {}", lacks.join(" "));
        if !is_root() || find("apt-get").is_none() {
            let packages = packages.join(" ");
            println!("not installed, as that needs root and apt-get: {packages}");
            return;
        }
        println!("to be installed with apt-get: {}", packages.join(" "));
        if let Err(error) = self.install(&packages) {
            println!("not installed: {error}");
        }
    }

    fn install(self, packages: &[&str]) -> Result<()> {
        let apt = |words: &[&str]| {
            let mut command = limited(LIMIT, "apt-get");
            command.args(["-q", "-o", "Dpkg::Use-Pty=0"]).args(words);
            command
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("LC_ALL", "C");
            command
        };
        // An update that fails in part can still leave lists that are good enough.
        if let Err(error) = shown(&mut apt(&["update"])) {
            println!("{error}");
        }
        let install = [&["install", "--yes", "--no-install-recommends"], packages].concat();
        let changes = Changes::of(&output(apt(&["--simulate"]).args(&install))?);
        print!("{changes}");
        match changes.consent(self.yes || in_ci(), stdin().is_terminal()) {
            Consent::Given => {}
            Consent::Asked if confirmed() => {}
            Consent::Asked => return Err("not wanted".to_owned()),
            Consent::Lacking => {
                return Err(
                    "packages of this machine would be upgraded or removed, which needs --yes".to_owned(),
                );
            }
        }
        shown(&mut apt(&install))
    }
}

/// Whether this is a CI's run, which nobody can answer.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

/// Asks whether to go on.
fn confirmed() -> bool {
    print!("upgrade and remove these? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdout()
        .flush()
        .and_then(|()| stdin().read_line(&mut answer));
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// What an installation would change, by the names of packages.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    installed: Vec<String>,
    upgraded: Vec<String>,
    removed: Vec<String>,
}

/// What an installation needs before it is done.
#[derive(Debug, PartialEq, Eq)]
enum Consent {
    Given,
    Asked,
    /// And nobody can be asked.
    Lacking,
}

impl Changes {
    /// Reads what `apt-get --simulate` prints: `Inst NAME (NEW ...)`, `Inst NAME [OLD] (NEW ...)`, `Remv NAME [OLD]`.
    fn of(simulated: &str) -> Self {
        let mut changes = Self::default();
        for line in simulated.lines() {
            let mut words = line.split(' ');
            let (verb, name, next) = (words.next(), words.next(), words.next());
            let names = match (verb, next) {
                (Some("Inst"), Some(old)) if old.starts_with('[') => &mut changes.upgraded,
                (Some("Inst"), _) => &mut changes.installed,
                (Some("Remv" | "Purg"), _) => &mut changes.removed,
                _ => continue,
            };
            names.extend(name.map(str::to_owned));
        }
        changes
    }

    fn consent(&self, is_given: bool, can_ask: bool) -> Consent {
        match (self.upgraded.is_empty() && self.removed.is_empty(), can_ask) {
            (is_harmless, _) if is_harmless || is_given => Consent::Given,
            (_, true) => Consent::Asked,
            (_, false) => Consent::Lacking,
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("new", &self.installed),
            ("upgraded", &self.upgraded),
            ("removed", &self.removed),
        ];
        all.iter()
            .filter(|(_, names)| !names.is_empty())
            .try_for_each(|(what, names)| writeln!(f, "{what}: {}", names.join(" ")))
    }
}

/// Those of `needs` that are not met.
pub(crate) fn missing(needs: &[&[Need]]) -> Vec<Need> {
    needs
        .iter()
        .flat_map(|needs| needs.iter())
        .copied()
        .filter(|(program, _)| find(program).is_none())
        .collect()
}

/// Whether `needs` are met, or which are not.
pub(crate) fn met(needs: &[Need]) -> Result<()> {
    match &missing(&[needs])[..] {
        [] => Ok(()),
        some => Err(format!(
            "no {}",
            some.iter()
                .map(|(program, _)| *program)
                .collect::<Vec<_>>()
                .join(", no ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_is_read_from_the_simulation() {
        let text = "Reading package lists...\n\
            Inst libc6 [2.36-9] (2.36-10 Debian:12.9/stable [amd64]) [libc-bin:amd64 on libc6:amd64]\n\
            Inst runc (1.1.5 Debian:12.9/stable [amd64])\nRemv docker-ce [5:27.1]\nConf runc (1.1.5)\n";
        let changes = Changes::of(text);
        assert_eq!(
            changes.to_string(),
            "new: runc\nupgraded: libc6\nremoved: docker-ce\n"
        );
        assert_eq!(Changes::of("Conf runc (1.1.5)\n").to_string(), "");
    }

    #[test]
    fn only_what_upgrades_or_removes_is_asked_for() {
        let harmless = Changes::of("Inst runc (1)");
        assert_eq!(harmless.consent(false, false), Consent::Given);
        for text in ["Inst runc [1] (2)", "Remv runc [1]"] {
            let changes = Changes::of(text);
            assert_eq!(changes.consent(true, false), Consent::Given, "{text}");
            assert_eq!(changes.consent(false, true), Consent::Asked, "{text}");
            assert_eq!(changes.consent(false, false), Consent::Lacking, "{text}");
        }
    }

    #[test]
    fn only_what_is_missing_is_named() {
        let needs: &[Need] = &[("sh", "dash"), ("no-such-program", "no-such-package")];
        assert_eq!(missing(&[needs]), [("no-such-program", "no-such-package")]);
        assert_eq!(met(needs), Err("no no-such-program".to_owned()));
        assert_eq!(met(&needs[..1]), Ok(()));
    }
}
