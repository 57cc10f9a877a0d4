//! The cgroups that an engine made for its containers, by plain files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Cgroup, Hierarchy, PATIENCE, mount_of};

const PAUSE: Duration = Duration::from_millis(2);
const TOP: &str = "/sys/fs/cgroup";

/// Where the hierarchies are mounted, all of them.
fn hierarchies() -> Vec<PathBuf> {
    let is_one = |dir: &Path| dir.join("cgroup.procs").exists();
    let top = PathBuf::from(TOP);
    if is_one(&top) {
        return vec![top];
    }
    let entries = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|dir| is_one(dir)).collect()
}

/// The cgroups that can freeze a process, each as the process's own line has it; a root is none.
pub fn of_process(pid: i32) -> Vec<Cgroup> {
    cgroups_in(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default()) // it is gone
}

/// The cgroups that can freeze, in the lines of a process's `cgroup` file; a root is none.
pub fn cgroups_in(lines: &str) -> Vec<Cgroup> {
    let path = |hierarchy: Hierarchy| {
        lines.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let fits = match hierarchy {
                Hierarchy::V1 => controllers.split(',').any(|name| name == "freezer"),
                Hierarchy::V2 => number == "0",
            };
            (fits && path != "/").then(|| PathBuf::from(path))
        })
    };
    [Hierarchy::V1, Hierarchy::V2]
        .into_iter()
        .filter_map(|hierarchy| {
            let path = path(hierarchy)?;
            Some(Cgroup {
                hierarchy,
                dir: mount_of(hierarchy).join(path.strip_prefix("/").unwrap()),
                path,
            })
        })
        .collect()
}

/// The cgroup above one.
#[track_caller]
pub fn above(cgroup: &Cgroup) -> Cgroup {
    let up = |path: &Path| path.parent().expect("the root has none").to_owned();
    Cgroup {
        hierarchy: cgroup.hierarchy,
        dir: up(&cgroup.dir),
        path: up(&cgroup.path),
    }
}

/// One below another.
pub fn below(cgroup: &Cgroup, name: &str) -> Cgroup {
    Cgroup {
        hierarchy: cgroup.hierarchy,
        dir: cgroup.dir.join(name),
        path: cgroup.path.join(name),
    }
}

/// Whether there is one in each hierarchy, as docker and runc have it on a hybrid host.
pub fn is_in_v1_and_v2(cgroups: &[Cgroup]) -> bool {
    matches!(cgroups, [one, other] if one.hierarchy != other.hierarchy)
}

/// Thaws everything at and below these paths in any hierarchy: what v1 holds can't die.
pub fn thaw_all(paths: &BTreeSet<PathBuf>) {
    paths
        .iter()
        .flat_map(|path| everywhere(path))
        .for_each(|dir| thaw(&dir));
}

/// Thaws everything at and below these paths in any hierarchy, ends whoever lives there, and removes it.
pub fn end_all(paths: &BTreeSet<PathBuf>) {
    let left: Vec<&PathBuf> = paths.iter().filter(|path| !end(path)).collect();
    assert!(
        left.is_empty() || thread::panicking(),
        "could not be removed: {left:?}"
    );
}

/// Whether it is gone in the end.
fn end(path: &Path) -> bool {
    let dirs = everywhere(path);
    dirs.iter().for_each(|dir| thaw(dir));
    let began = Instant::now();
    loop {
        let pids: Vec<i32> = dirs.iter().flat_map(|dir| processes(dir)).collect();
        for pid in pids {
            // It has ended meanwhile, then.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        // Not yet empty, then: once more.
        dirs.iter().for_each(|dir| drop(remove(dir)));
        let gone = dirs.iter().all(|dir| !dir.exists());
        if gone || began.elapsed() > PATIENCE {
            return gone;
        }
        thread::sleep(PAUSE);
    }
}

/// The directories that a path has in the hierarchies.
fn everywhere(path: &Path) -> Vec<PathBuf> {
    let below = path
        .strip_prefix("/")
        .expect("a cgroup's path begins with a slash");
    assert!(below.components().next().is_some(), "not the root");
    hierarchies()
        .into_iter()
        .map(|top| top.join(below))
        .filter(|dir| dir.exists())
        .collect()
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn thaw(dir: &Path) {
    for (file, value) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        let file = dir.join(file);
        if file.exists() {
            // It was removed meanwhile, then.
            let _ = fs::write(file, value);
        }
    }
    children(dir).iter().for_each(|dir| thaw(dir));
}

fn processes(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    children(dir).iter().for_each(|dir| pids.extend(processes(dir)));
    pids
}

fn remove(dir: &Path) -> std::io::Result<()> {
    children(dir).iter().try_for_each(|dir| remove(dir))?;
    fs::remove_dir(dir)
}
