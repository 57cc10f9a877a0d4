//! Installs what the tests need and this machine lacks.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::command::{find, is_root, limited, shown};

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

/// Installs what is missing for `needs`, and says so before it does. What can't be installed is not an error here: the
/// suites that need it will not be selected, and say why.
pub(crate) fn install(needs: &[&[Need]]) {
    let missing: BTreeSet<Need> = missing(needs).into_iter().collect();
    let packages: BTreeSet<&str> = missing.iter().map(|(_, package)| *package).collect();
    let lacks: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    if packages.is_empty() {
        return;
    }
    let packages: Vec<&str> = packages.into_iter().collect();
    println!("missing here: {}", lacks.join(" "));
    if !is_root() || find("apt-get").is_none() {
        println!(
            "not installed, as that needs root and apt-get: {}",
            packages.join(" ")
        );
        return;
    }
    println!("to be installed with apt-get: {}", packages.join(" "));
    let apt = |words: &[&str]| {
        let mut command = limited(LIMIT, "apt-get");
        shown(
            command
                .args(["-q", "-o", "Dpkg::Use-Pty=0"])
                .args(words)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    // An update that fails in part can still leave lists that are good enough.
    let install = ["install", "--yes", "--no-install-recommends"];
    for result in [apt(&["update"]), apt(&[&install[..], &packages].concat())] {
        if let Err(error) = result {
            println!("{error}");
        }
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
pub(crate) fn met(needs: &[Need]) -> crate::Result<()> {
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
    fn only_what_is_missing_is_named() {
        let needs: &[Need] = &[("sh", "dash"), ("no-such-program", "no-such-package")];
        assert_eq!(missing(&[needs]), [("no-such-program", "no-such-package")]);
        assert_eq!(met(needs), Err("no no-such-program".to_owned()));
        assert_eq!(met(&needs[..1]), Ok(()));
    }
}
