//! A root file system with busybox in it, and flock, which Debian's busybox lacks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fills `dir`.
#[track_caller]
pub fn fill(dir: &Path) {
    let busybox = super::find("busybox");
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "vol"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::copy(&busybox, dir.join("bin/busybox")).unwrap();
    let applets = Command::new(&busybox).arg("--list").output().unwrap();
    let applets = String::from_utf8(applets.stdout).unwrap();
    for applet in applets
        .lines()
        .filter(|applet| !["busybox", "flock"].contains(applet))
    {
        symlink("busybox", dir.join("bin").join(applet)).unwrap();
    }
    let flock = super::find("flock");
    fs::copy(&flock, dir.join("bin/flock")).unwrap();
    for library in libraries(&flock) {
        let copy = dir.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&library, copy).unwrap();
    }
}

/// What a program is linked with, the loader among it.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// One of busybox's programs on this machine, which need not have another such program.
pub fn busybox(applet: &str) -> Command {
    let mut command = Command::new(super::find("busybox"));
    command.arg(applet);
    command
}
