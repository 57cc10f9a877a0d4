//! The host as others see it: below another directory with a /run of its own, read-only or of a certain size, or with
//! other cgroup mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

/// The host's file system below a directory, until it is dropped.
#[derive(Debug)]
pub struct Elsewhere {
    dir: TempDir,
}

/// Where no record can be made.
#[track_caller]
pub fn without_records() -> Elsewhere {
    Elsewhere::with_run(MsFlags::MS_RDONLY, "mode=755")
}

/// Where records have so much room.
#[track_caller]
pub fn with_room(size: &str) -> Elsewhere {
    Elsewhere::with_run(MsFlags::empty(), &format!("mode=755,size={size}"))
}

impl Elsewhere {
    #[track_caller]
    fn with_run(flags: MsFlags, options: &str) -> Self {
        let elsewhere = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let none = None::<&str>;
        let root = elsewhere.root();
        mount(Some("/"), root, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
        // What is mounted below from here on is mounted there alone.
        mount(none, root, none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        let run = root.join("run");
        mount(Some("iceaxe-test"), &run, Some("tmpfs"), flags, Some(options)).unwrap();
        elsewhere
    }

    /// From now on nothing can be written there.
    #[track_caller]
    pub fn set_read_only(&self) {
        let none = None::<&str>;
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &self.root().join("run"), none, flags, none).unwrap();
    }

    /// Where that host's root is.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Where its records are.
    pub fn records(&self) -> PathBuf {
        self.root().join("run/iceaxe")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        // The directory's own removal tells if it is still mounted.
        let _ = umount2(self.root(), MntFlags::MNT_DETACH);
    }
}

/// Runs `work` in a thread with mounts of its own, which what it starts has too.
pub fn with_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let alone = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(alone).join().unwrap())
}

/// Shows what is at `from` at `to` too.
#[track_caller]
pub fn bind(from: &Path, to: &Path) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// Takes away every mount of a cgroup hierarchy in this thread's own mounts, but those at or below `kept`.
#[track_caller]
pub fn unmount_cgroups(kept: &[&Path]) {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let mut places: Vec<String> = text
        .lines()
        .filter(|line| {
            line.split_once(" - ")
                .is_some_and(|(_, kind)| kind.starts_with("cgroup"))
        })
        .map(|line| line.split(' ').nth(4).unwrap().replace("\\040", " "))
        .filter(|place| !kept.iter().any(|kept| Path::new(place).starts_with(kept)))
        .collect();
    places.reverse(); // what is mounted below another goes first
    for place in places {
        umount2(place.as_str(), MntFlags::MNT_DETACH).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
}
