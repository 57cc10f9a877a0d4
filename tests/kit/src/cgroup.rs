//! A test's own cgroup, by plain files.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::eventually;

/// One of the two kinds of trees that freeze.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    V1,
    V2,
}

impl Hierarchy {
    /// The first that this machine has.
    #[track_caller]
    pub fn available() -> Self {
        [Self::V1, Self::V2]
            .into_iter()
            .find(|&hierarchy| find(hierarchy).is_some())
            .expect("a cgroup freezer is mounted")
    }

    /// `v1` or `v2`, as targets are written.
    pub fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    pub fn version(self) -> u64 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// Where a hierarchy is mounted.
#[track_caller]
pub fn mount_of(hierarchy: Hierarchy) -> PathBuf {
    find(hierarchy).unwrap_or_else(|| panic!("no {hierarchy:?} freezer is mounted, which this test is for"))
}

/// Where the v1 hierarchy of a controller is mounted.
#[track_caller]
pub fn mount_of_controller(name: &str) -> PathBuf {
    find_v1(name).unwrap_or_else(|| panic!("no v1 {name} hierarchy is mounted, which this test is for"))
}

fn find(hierarchy: Hierarchy) -> Option<PathBuf> {
    match hierarchy {
        Hierarchy::V1 => find_v1("freezer"),
        Hierarchy::V2 => find_kind(|kind| kind.starts_with("cgroup2 ")),
    }
}

fn find_v1(controller: &str) -> Option<PathBuf> {
    find_kind(|kind| {
        let words = kind.strip_prefix("cgroup ").map(|rest| rest.split(' '));
        let options = words.and_then(|mut words| words.nth(1)).unwrap_or_default();
        options.split(',').any(|option| option == controller)
    })
}

/// The whole hierarchy whose end of the line, from the kind of file system on, fits.
fn find_kind(fits: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let words: Vec<&str> = place.split(' ').collect();
        (fits(kind) && words.get(3) == Some(&"/")).then(|| PathBuf::from(words[4]))
    })
}

/// A cgroup that a test made. It is removed by the scene that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    pub hierarchy: Hierarchy,
    pub dir: PathBuf,
    pub path: PathBuf,
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Cgroup {
    #[track_caller]
    pub(super) fn make(hierarchy: Hierarchy) -> Self {
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let name = format!("iceaxe-test-{}-{number}", std::process::id());
        Self::make_called(hierarchy, Path::new(&name))
    }

    #[track_caller]
    pub(super) fn make_called(hierarchy: Hierarchy, path: &Path) -> Self {
        let root = Self {
            hierarchy,
            dir: mount_of(hierarchy),
            path: PathBuf::from("/"),
        };
        root.child(path.strip_prefix("/").unwrap_or(path))
    }

    /// A new cgroup below this one.
    #[track_caller]
    pub fn child(&self, name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref();
        let child = Self {
            hierarchy: self.hierarchy,
            dir: self.dir.join(name),
            path: self.path.join(name),
        };
        fs::create_dir(&child.dir).unwrap_or_else(|error| panic!("{}: {error}", child.dir.display()));
        child
    }

    pub fn remove(&self) {
        fs::remove_dir(&self.dir).unwrap_or_else(|error| panic!("{}: {error}", self.dir.display()));
    }

    /// As it is typed: `v1:/iceaxe-test-7-0`.
    pub fn target(&self) -> OsString {
        let mut target = OsString::from(self.hierarchy.word());
        target.push(":");
        target.push(&self.path);
        target
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let file = self.file(name);
        fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
            .trim()
            .to_owned()
    }

    #[track_caller]
    pub fn write(&self, name: &str, value: &str) {
        let file = self.file(name);
        fs::write(&file, value).unwrap_or_else(|error| panic!("{value} > {}: {error}", file.display()));
    }

    /// Moves a whole process into it.
    #[track_caller]
    pub fn admit(&self, pid: i32) {
        self.write("cgroup.procs", &pid.to_string());
    }

    /// Moves one thread into it.
    #[track_caller]
    pub fn admit_thread(&self, tid: i32) {
        let file = match self.hierarchy {
            Hierarchy::V1 => "tasks",
            Hierarchy::V2 => "cgroup.threads",
        };
        self.write(file, &tid.to_string());
    }

    /// The tasks in it, those below left out.
    #[track_caller]
    pub fn tids(&self) -> Vec<i32> {
        let file = match self.hierarchy {
            Hierarchy::V1 => "tasks",
            Hierarchy::V2 => "cgroup.threads",
        };
        self.read(file)
            .lines()
            .map(|line| line.parse().unwrap())
            .collect()
    }

    /// The file that freezes and thaws.
    pub fn switch(&self) -> PathBuf {
        match self.hierarchy {
            Hierarchy::V1 => self.file("freezer.state"),
            Hierarchy::V2 => self.file("cgroup.freeze"),
        }
    }

    /// What is written to it for a freeze.
    pub fn frozen_word(&self) -> &'static str {
        match self.hierarchy {
            Hierarchy::V1 => "FROZEN",
            Hierarchy::V2 => "1",
        }
    }

    /// What is written to it for a thaw.
    pub fn thawed_word(&self) -> &'static str {
        match self.hierarchy {
            Hierarchy::V1 => "THAWED",
            Hierarchy::V2 => "0",
        }
    }

    /// Asks for a freeze by hand.
    #[track_caller]
    pub fn ask(&self) {
        fs::write(self.switch(), self.frozen_word()).unwrap();
    }

    /// Freezes by hand and waits until the kernel says so.
    #[track_caller]
    pub fn freeze(&self) {
        self.ask();
        eventually("the kernel calls it frozen", || self.is_frozen());
    }

    /// Thaws by hand.
    #[track_caller]
    pub fn thaw(&self) {
        fs::write(self.switch(), self.thawed_word()).unwrap();
    }

    /// Whether it asks for a freeze itself.
    #[track_caller]
    pub fn asks(&self) -> bool {
        let file = match self.hierarchy {
            Hierarchy::V1 => "freezer.self_freezing",
            Hierarchy::V2 => "cgroup.freeze",
        };
        self.read(file) == "1"
    }

    /// Whether the kernel calls it frozen. On v1 this reads `freezer.state`, which has an effect on kernels that have
    /// cff5f49d433f and not its revert (6.7 to 6.15 as released; no stable one that is tested here): it may let tasks
    /// out. So it is asked only where the answer must be FROZEN, never to find out.
    #[track_caller]
    pub fn is_frozen(&self) -> bool {
        match self.hierarchy {
            Hierarchy::V1 => self.read("freezer.state") == "FROZEN",
            Hierarchy::V2 => self.read("cgroup.events").lines().any(|line| line == "frozen 1"),
        }
    }

    /// Whether `tid` is in it, in its own words.
    pub fn holds(&self, tid: i32) -> bool {
        self.tids().contains(&tid)
    }
}

impl AsRef<Path> for Cgroup {
    fn as_ref(&self) -> &Path {
        &self.dir
    }
}
