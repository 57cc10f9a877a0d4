//! What the tests on a real kernel need: cgroups of their own, tasks in any state, the iceaxe command under a hard time
//! limit, and an oracle of plain reads. Nothing here goes through the iceaxe crate, so that it can't agree with iceaxe
//! by sharing its mistakes.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has failed"
)]
#![expect(missing_docs, reason = "short names that the tests read as sentences")]

mod bar;
mod cgroup;
mod command;
mod elsewhere;
pub mod engines;
mod report;
mod task;
mod zoo;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

pub use bar::{CLEARED, cleared_after, is_as_quick, is_quick, usually_cleared_after};
pub use cgroup::{Cgroup, Hierarchy, mount_of, mount_of_controller};
pub use command::{Heard, Iceaxe, Run, Running, freeze, iceaxe, status, thaw};
pub use elsewhere::{bind, unmount_cgroups, with_own_mounts, with_room, without_records};
pub use report::{counted, has_keys, tasks_add_up};
pub use task::{
    find_kernel_thread, is_gone, letter, parent_of, pending_signals, stop_in_its_pause, timeslices, wchan,
};
pub use zoo::Zoo;

/// How long anything may take that is bound to come; an emulated machine is ten times slower than a real one.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long something is watched that is to stand still: a dozing task beats every 2 ms.
const STILL: Duration = Duration::from_millis(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// Where iceaxe, or the zoo, lies: beside the test program, as in a virtual machine, or in the directory above, where
/// cargo puts it.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let places = own.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    let found = places.clone().find(|place| place.is_file());
    found.unwrap_or_else(|| panic!("none of these is there: {:?}", places.collect::<Vec<_>>()))
}

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "not so after {PATIENCE:?}: {what}");
        thread::sleep(PAUSE);
    }
}

/// Watches for a while that a number stays the same.
#[track_caller]
pub fn stands_still(what: &str, mut number: impl FnMut() -> u64) {
    let first = number();
    let began = Instant::now();
    while began.elapsed() < STILL {
        thread::sleep(PAUSE);
        assert_eq!(number(), first, "it moved: {what}");
    }
}

/// A new file in memory, where there is such a place: a file on a disk would make tasks wait for it, which no freezer can
/// end.
#[track_caller]
pub fn memory_file() -> NamedTempFile {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        NamedTempFile::new_in(memory)
    } else {
        NamedTempFile::new()
    }
    .unwrap()
}

/// The running kernel, `(6, 12)`.
pub fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.trim().parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Whether v1 freezes sleepers and stopped tasks where they are and turns them into a state of its own: since
/// f5d39b020809, Linux 6.1. Before, it counts them as frozen and leaves them alone.
pub fn freezes_in_place() -> bool {
    kernel() >= (6, 1)
}

/// Cgroups and tasks of one test. When it goes, also by a panic, everything is thawed first, since a task that v1
/// holds can't die; then the tasks end, then the cgroups are removed.
#[derive(Debug, Default)]
pub struct Scene {
    cgroups: RefCell<Vec<Cgroup>>,
    keepers: RefCell<Vec<Arc<zoo::Keeper>>>,
    moved: RefCell<Vec<(Hierarchy, i32)>>,
    zoo: Option<PathBuf>,
}

impl Scene {
    pub fn new() -> Self {
        Self::default()
    }

    /// A scene with one new cgroup and a task of each of these kinds in it.
    #[track_caller]
    pub fn of(hierarchy: Hierarchy, kinds: &[&str]) -> (Self, Cgroup, Zoo) {
        let scene = Self::new();
        let cgroup = scene.cgroup(hierarchy);
        let zoo = scene.zoo(&[&cgroup], kinds);
        (scene, cgroup, zoo)
    }

    /// A scene whose tasks are this program's.
    pub fn with_zoo(program: &Path) -> Self {
        let mut scene = Self::default();
        scene.zoo = Some(program.to_owned());
        scene
    }

    /// A new cgroup right below the hierarchy's root.
    #[track_caller]
    pub fn cgroup(&self, hierarchy: Hierarchy) -> Cgroup {
        let cgroup = Cgroup::make(hierarchy);
        self.cgroups.borrow_mut().push(cgroup.clone());
        cgroup
    }

    /// A new cgroup with the path that `namesake` has in the other hierarchy.
    #[track_caller]
    pub fn cgroup_called(&self, hierarchy: Hierarchy, namesake: &Cgroup) -> Cgroup {
        let cgroup = Cgroup::make_called(hierarchy, &namesake.path);
        self.cgroups.borrow_mut().push(cgroup.clone());
        cgroup
    }

    /// Tasks of these kinds, each in all of `cgroups`.
    #[track_caller]
    pub fn zoo(&self, cgroups: &[&Cgroup], kinds: &[&str]) -> Zoo {
        self.zoo_with(cgroups, &[], kinds)
    }

    /// The same with further options of the zoo.
    #[track_caller]
    pub fn zoo_with(&self, cgroups: &[&Cgroup], options: &[&str], kinds: &[&str]) -> Zoo {
        let program = self.zoo.clone().unwrap_or_else(|| program("zoo"));
        let (zoo, keeper) = Zoo::open(&program, cgroups, options, kinds);
        self.keepers.borrow_mut().push(keeper);
        zoo
    }

    /// Moves a kernel thread into `cgroup`; it goes back to the root when the scene goes.
    #[track_caller]
    pub fn borrow_kernel_thread(&self, cgroup: &Cgroup) -> i32 {
        let tid = find_kernel_thread();
        self.moved.borrow_mut().push((cgroup.hierarchy, tid));
        cgroup.admit(tid);
        tid
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let cgroups = self.cgroups.take();
        cgroups.iter().for_each(|cgroup| thaw_below(&cgroup.dir));
        for (hierarchy, tid) in self.moved.take() {
            // It is in the root already, then.
            let _ = fs::write(mount_of(hierarchy).join("cgroup.procs"), tid.to_string());
        }
        self.keepers.take().iter().for_each(|keeper| keeper.close());
        let left: Vec<&Cgroup> = cgroups.iter().filter(|cgroup| !removed(&cgroup.dir)).collect();
        if !left.is_empty() && !thread::panicking() {
            panic!("could not be removed: {left:?}");
        }
    }
}

/// Thaws a directory's cgroup and all below it, by plain writes.
fn thaw_below(dir: &Path) {
    for (file, value) in [("cgroup.freeze", "0"), ("freezer.state", "THAWED")] {
        let file = dir.join(file);
        if file.exists() {
            // It was removed meanwhile, then.
            let _ = fs::write(file, value);
        }
    }
    below(dir).for_each(|dir| thaw_below(&dir));
}

fn below(dir: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

/// Removes a cgroup and all below it; a task that is just dying still counts for a moment.
pub fn removed(dir: &Path) -> bool {
    let began = Instant::now();
    loop {
        for inner in below(dir) {
            removed(&inner);
        }
        match fs::remove_dir(dir) {
            Ok(()) => return true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return true,
            Err(_) if began.elapsed() > PATIENCE => return false,
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
