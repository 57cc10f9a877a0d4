//! systemd as the first process of namespaces of its own, over this machine's root file system, with all its cgroups
//! below one that the test made in each hierarchy. It boots in some 1 s.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use kit::engines::{self, Asked, BEATING, Ended, Program, Vessel, cgroups_in};
use kit::{Cgroup, Hierarchy, PATIENCE, eventually, mount_of, parent_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long any command of a healthy engine may take; the slowest one here, the first `docker run`, takes some 500 ms.
const HEALTHY: Duration = Duration::from_secs(20);
/// What becomes systemd.
const INSIDE: &str = include_str!("inside.sh");
/// Moves itself into the cgroups whose files stand before `--`, then becomes what stands after it.
const JOIN: &str = "while test \"$1\" != --; do echo 0 > \"$1\"; shift; done; shift; exec \"$@\"";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The root file system that containers share where they can, as it is called inside, and its heartbeat's program.
pub(crate) const ROOTFS: &str = "/srv/rootfs";
pub(crate) const BEAT: &str = "/bin/beat";

/// How the cgroup hierarchies are mounted for systemd and everything below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The v1 controllers and systemd's own hierarchy.
    V1,
    /// The same, and v2 without controllers at `unified`.
    Hybrid,
    /// v2 alone.
    V2,
}

impl Layout {
    /// Those that freeze, the one that engines use first.
    pub(crate) fn hierarchies(self) -> &'static [Hierarchy] {
        match self {
            Self::V1 => &[Hierarchy::V1],
            Self::Hybrid => &[Hierarchy::V1, Hierarchy::V2],
            Self::V2 => &[Hierarchy::V2],
        }
    }

    /// What it is called in the script, and what tells systemd of it. In a container it reads its own command line
    /// where it reads the kernel's otherwise.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &[
                "v1",
                "systemd.unified_cgroup_hierarchy=0",
                "systemd.legacy_systemd_cgroup_controller=1",
            ],
            Self::Hybrid => &[
                "hybrid",
                "systemd.unified_cgroup_hierarchy=0",
                "systemd.legacy_systemd_cgroup_controller=0",
            ],
            Self::V2 => &["v2", "systemd.unified_cgroup_hierarchy=1"],
        }
    }

    /// Where a hierarchy is mounted inside.
    fn mount(self, hierarchy: Hierarchy) -> &'static Path {
        Path::new(match (self, hierarchy) {
            (_, Hierarchy::V1) => "/sys/fs/cgroup/freezer",
            (Self::V2, Hierarchy::V2) => "/sys/fs/cgroup",
            (_, Hierarchy::V2) => "/sys/fs/cgroup/unified",
        })
    }
}

/// A booted systemd. When it goes, also by a panic, everything in it is thawed and ended, and its cgroups are removed;
/// what it wrote was in memory.
#[derive(Debug)]
pub(crate) struct Boot {
    layout: Layout,
    /// The path of the cgroup that holds all of it, in every hierarchy.
    path: PathBuf,
    holder: Program,
    /// systemd.
    first: i32,
    /// The files by which commands join the operator's cgroups.
    session: Vec<PathBuf>,
    _turn: MutexGuard<'static, ()>,
}

impl Boot {
    /// Boots, and waits until it is done.
    #[track_caller]
    pub(crate) fn start(layout: Layout) -> Self {
        let turn = engines::turn();
        let path = own_path();
        let joins = make(&path);
        let mut command = join(&joins);
        command.args([
            "unshare", "--cgroup", "--pid", "--mount", "--net", "--uts", "--ipc",
        ]);
        command.args(["--fork", "--kill-child", "--propagation", "private"]);
        command.args(["sh", "-ec", INSIDE, "sh"]).args(layout.words());
        let mut boot = Self {
            layout,
            path,
            holder: Program::start(&command),
            first: 0,
            session: Vec::new(),
            _turn: turn,
        };
        boot.session = boot.booted();
        boot.furnish();
        boot
    }

    /// Waits until the operator's unit runs, which is ordered last, and returns the files by which others join it.
    #[track_caller]
    fn booted(&mut self) -> Vec<PathBuf> {
        let units = own_dirs(&self.path).map(|dir| dir.join("system.slice/operator.service/cgroup.procs"));
        let units: Vec<PathBuf> = units.collect();
        let mut operator = None;
        eventually("systemd has booted", || {
            assert!(self.holder.is_running(), "{}", self.holder.errors());
            let pids = units
                .iter()
                .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
            // It has been moved into all of them before it becomes this.
            operator = pids.into_iter().find(|pid: &i32| comm(*pid) == "sleep");
            operator.is_some()
        });
        let operator = operator.unwrap();
        self.first = parent_of(operator).expect("systemd is above its units");
        assert_eq!(parent_of(self.first), Some(self.holder.pid()));
        let lines = fs::read_to_string(format!("/proc/{operator}/cgroup")).unwrap();
        let joins = hierarchies().into_iter().filter_map(|(controllers, mount)| {
            let path = lines.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (found, path) = (parts.next()?, parts.next()?);
                (found == controllers).then(|| path.to_owned())
            })?;
            Some(mount.join(path.strip_prefix('/').unwrap()).join("cgroup.procs"))
        });
        joins.collect()
    }

    /// Puts the tested iceaxe and a root file system for containers into it.
    #[track_caller]
    fn furnish(&self) {
        fs::copy(kit::program("iceaxe"), self.file("/usr/local/bin/iceaxe")).unwrap();
        self.fill(ROOTFS);
    }

    /// Makes a root file system for containers.
    #[track_caller]
    pub(crate) fn fill(&self, path: &str) {
        let rootfs = self.file(path);
        engines::fill(&rootfs);
        // Without it systemd-nspawn does not take it for a root file system.
        fs::create_dir(rootfs.join("usr")).unwrap();
        let beat = rootfs.join(BEAT.strip_prefix('/').unwrap());
        fs::write(&beat, format!("#!/bin/sh\n{BEATING}\n")).unwrap();
        fs::set_permissions(beat, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Where a path of in there is seen from outside.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        format!("/proc/{}/root{path}", self.first).into()
    }

    /// What a container is to see as /vol, made where it is not there yet: as it is called inside.
    #[track_caller]
    pub(crate) fn volume(&self, name: &str) -> String {
        let volume = format!("/srv/volumes/{name}");
        fs::create_dir_all(self.file(&volume)).unwrap();
        volume
    }

    /// A command at work, as the one of an operator who has logged in. It ends with its handle.
    #[track_caller]
    pub(crate) fn start_command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Program {
        let mut command = join(&self.session);
        let target = self.first.to_string();
        command.args([
            "nsenter", "--target", &target, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
        ]);
        // It is a child in the namespace's numbers, whose parent alone can be killed.
        command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        command
            .args(["env", "-i", PATH, "HOME=/root", "TERM=dumb"])
            .args(words);
        Program::start(&command)
    }

    /// How a command ends that may hang.
    #[track_caller]
    pub(crate) fn asked<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> Asked {
        self.start_command(words).answer(limit)
    }

    /// How a command ends that must end.
    #[track_caller]
    pub(crate) fn ended<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ended {
        self.asked(words, HEALTHY).answered()
    }

    /// What a command prints that must succeed.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> String {
        self.ended(words).well()
    }

    /// How an iceaxe command ends.
    #[track_caller]
    pub(crate) fn iceaxe(&self, args: &[&str]) -> Ended {
        self.asked([&["iceaxe"], args].concat(), PATIENCE).answered()
    }

    /// What `iceaxe status` says of a target that it must know.
    #[track_caller]
    pub(crate) fn status(&self, target: &str) -> Value {
        let ended = self.iceaxe(&["status", target, "--json"]);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        ended.object()
    }

    /// The main process of a service, in the numbers of in there.
    #[track_caller]
    pub(crate) fn main_process(&self, unit: &str) -> i32 {
        self.run(["systemctl", "show", "--property=MainPID", "--value", unit])
            .parse()
            .unwrap()
    }

    /// The parent of a process, both in the numbers of in there.
    #[track_caller]
    pub(crate) fn parent(&self, pid: i32) -> i32 {
        self.stat(pid)[1].parse().unwrap()
    }

    /// The fields of `stat` after the name.
    #[track_caller]
    fn stat(&self, pid: i32) -> Vec<String> {
        let text = fs::read_to_string(self.file(&format!("/proc/{pid}/stat"))).unwrap();
        let (_, after) = text.rsplit_once(") ").unwrap();
        after.split(' ').map(str::to_owned).collect()
    }

    /// Stops a process, given in the numbers of in there, as a bug or a full disk does.
    #[track_caller]
    pub(crate) fn wedge(&self, pid: i32) {
        self.run(["busybox", "kill", "-STOP", &pid.to_string()]);
        eventually("it is stopped", || self.stat(pid)[0] == "T");
    }

    /// Stops systemd itself, which takes such a signal from outside alone.
    #[track_caller]
    pub(crate) fn wedge_systemd(&self) {
        kill(Pid::from_raw(self.first), Signal::SIGSTOP).unwrap();
        eventually("systemd is stopped", || self.stat(1)[0] == "T");
    }

    /// What a process, given in the numbers of in there, calls itself.
    #[track_caller]
    pub(crate) fn comm(&self, pid: i32) -> String {
        let comm = fs::read_to_string(self.file(&format!("/proc/{pid}/comm"))).unwrap();
        comm.trim_end().to_owned()
    }

    /// Kills a process, given in the numbers of in there.
    #[track_caller]
    pub(crate) fn end(&self, pid: i32) {
        self.run(["busybox", "kill", "-KILL", &pid.to_string()]);
        let proc = self.file(&format!("/proc/{pid}"));
        eventually("it has ended", || !proc.exists());
    }

    /// The container whose first process is `pid`, in the numbers of in there, and which sees `volume` as /vol.
    /// Waits until it beats.
    #[track_caller]
    pub(crate) fn vessel(&self, name: &str, id: &str, pid: i32, volume: &str) -> Vessel {
        let mut vessel = Vessel {
            name: name.to_owned(),
            id: id.to_owned(),
            pid,
            cgroups: Vec::new(),
            volume: self.file(volume),
        };
        // Some engines move it to where it stays after they have told its number.
        vessel.goes_on();
        let lines = fs::read_to_string(self.file(&format!("/proc/{pid}/cgroup"))).unwrap();
        let freezes = |cgroup: &Cgroup| {
            // The boot's own cgroup is the root in there.
            self.layout.hierarchies().contains(&cgroup.hierarchy) && cgroup.path != self.path
        };
        vessel.cgroups = cgroups_in(&lines).into_iter().filter(freezes).collect();
        vessel
    }

    /// The directory of a cgroup as it is called inside.
    pub(crate) fn seen(&self, cgroup: &Cgroup) -> PathBuf {
        self.layout
            .mount(cgroup.hierarchy)
            .join(cgroup.path.strip_prefix(&self.path).unwrap())
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Those that freeze, the one that engines use first.
    pub(crate) fn hierarchies(&self) -> &'static [Hierarchy] {
        self.layout.hierarchies()
    }

    /// What is each hierarchy's root inside.
    pub(crate) fn tops(&self) -> impl Iterator<Item = Cgroup> {
        self.hierarchies().iter().map(|&hierarchy| Cgroup {
            hierarchy,
            dir: mount_of(hierarchy).join(self.path.strip_prefix("/").unwrap()),
            path: self.path.clone(),
        })
    }

    /// All cgroups that ask for a freeze, by the kernel's files, whoever froze them: their directories as they are
    /// called inside.
    #[track_caller]
    pub(crate) fn asking(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        for top in self.tops() {
            for cgroup in with_all_below(top) {
                // One that has been removed meanwhile asks for nothing.
                if cgroup.switch().exists() && cgroup.asks() {
                    found.insert(self.seen(&cgroup));
                }
            }
        }
        found
    }
}

impl Drop for Boot {
    #[allow(
        clippy::print_stderr,
        reason = "a failed test shows what the engines had to say"
    )]
    fn drop(&mut self) {
        let all = BTreeSet::from([self.path.clone()]);
        engines::thaw_all(&all);
        if thread::panicking() && !self.session.is_empty() {
            // It has not been stopped, then.
            let _ = kill(Pid::from_raw(self.first), Signal::SIGCONT);
            let journal = self.asked(["journalctl", "--no-pager", "--lines=15"], HEALTHY);
            if let Asked::Answered(ended) = journal {
                eprintln!("the journal: {}", ended.out);
            }
        }
        // With systemd all of its namespace ends.
        self.holder.kill();
        engines::end_all(&all);
    }
}

fn comm(pid: i32) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default(); // it is gone
    comm.trim_end().to_owned()
}

/// A cgroup and all below it.
fn with_all_below(cgroup: Cgroup) -> Vec<Cgroup> {
    let entries = fs::read_dir(&cgroup.dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut all: Vec<Cgroup> = dirs
        .flat_map(|entry| with_all_below(engines::below(&cgroup, entry.file_name().to_str().unwrap())))
        .collect();
    all.push(cgroup);
    all
}

/// Every hierarchy of this machine: its controllers as /proc/PID/cgroup has them, and where it is mounted.
fn hierarchies() -> BTreeMap<String, PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = fs::read_to_string("/proc/self/cgroup").unwrap();
    let lists = lines.lines().map(|line| line.split(':').nth(1).unwrap());
    let mount = |list: &str| {
        mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let (root, dir) = (place.split(' ').nth(3)?, place.split(' ').nth(4)?);
            let options: Vec<&str> = kind.split(' ').nth(2)?.split(',').collect();
            let fits = match kind.split(' ').next()? {
                "cgroup2" => list.is_empty(),
                "cgroup" => list.split(',').all(|word| options.contains(&word)),
                _ => false,
            };
            (fits && root == "/").then(|| PathBuf::from(dir))
        })
    };
    lists
        .filter_map(|list| Some((list.to_owned(), mount(list)?)))
        .collect()
}

/// The directories that a path has in the hierarchies.
fn own_dirs(path: &Path) -> impl Iterator<Item = PathBuf> {
    hierarchies()
        .into_values()
        .map(move |mount| mount.join(path.strip_prefix("/").unwrap()))
}

/// Makes a cgroup in every hierarchy, and returns the files by which they are joined.
#[track_caller]
fn make(path: &Path) -> Vec<PathBuf> {
    let made = own_dirs(path).map(|dir| {
        fs::create_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        // A v1 cpuset takes nobody before it has these, and hands them down only where it is told to.
        for name in ["cpuset.cpus", "cpuset.mems"] {
            if dir.join("cgroup.clone_children").exists() && dir.join(name).exists() {
                let value = fs::read_to_string(dir.parent().unwrap().join(name)).unwrap();
                fs::write(dir.join(name), value).unwrap();
                fs::write(dir.join("cgroup.clone_children"), "1").unwrap();
            }
        }
        dir.join("cgroup.procs")
    });
    made.collect()
}

/// A command that joins these first. Its program and arguments are appended.
fn join(files: &[PathBuf]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", JOIN, "sh"]).args(files).arg("--");
    command
}

/// The path of a cgroup that no other test has.
fn own_path() -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::SeqCst);
    PathBuf::from(format!("/iceaxe-test-systemd-{}-{number}", std::process::id()))
}
