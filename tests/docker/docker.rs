//! What a test does with docker and with iceaxe, and how all of it is cleared away.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use kit::engines::{self, BEATING, Ended, Layout, Places, Program, Vessel, busybox, find};
use kit::{Cgroup, Hierarchy, PATIENCE, eventually, mount_of, parent_of};
use serde_json::Value;

use crate::container::Container;
use crate::daemons::Daemons;

/// The image that all containers are made of.
const IMAGE: &str = "bb:1";
/// How long a healthy dockerd may take for any command; the slowest one here takes some 300 ms.
const HEALTHY: Duration = Duration::from_secs(20);

/// One test's docker. When it goes, also by a panic, its containers are thawed, everything of theirs is ended, and
/// what was made is removed.
#[derive(Debug)]
pub(crate) struct Docker {
    daemons: Daemons,
    /// The paths of the cgroups that are cleared away.
    cgroups: RefCell<BTreeSet<PathBuf>>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Deref for Docker {
    type Target = Daemons;

    fn deref(&self) -> &Daemons {
        &self.daemons
    }
}

impl Docker {
    /// With its files in a directory of its own, which no configuration names.
    #[track_caller]
    pub(crate) fn start(layout: Layout) -> Self {
        Self::open(layout, Places::Own, &[], Some(engines::turn()))
    }

    /// With its files in the default places.
    #[track_caller]
    pub(crate) fn in_default_places(layout: Layout) -> Self {
        Self::open(layout, Places::Default, &[], Some(engines::turn()))
    }

    /// With its containers' cgroups below one of its own, whose path is returned with it.
    #[track_caller]
    pub(crate) fn with_a_parent(layout: Layout) -> (Self, PathBuf) {
        let turn = engines::turn();
        let parent = own_path();
        let args = [format!("--cgroup-parent={}", parent.display())];
        let docker = Self::open(layout, Places::Own, &args, Some(turn));
        docker.cgroups.borrow_mut().insert(parent.clone());
        (docker, parent)
    }

    /// Another one beside this one.
    #[track_caller]
    pub(crate) fn another(&self) -> Self {
        Self::open(self.layout(), Places::Own, &[], None)
    }

    #[track_caller]
    fn open(layout: Layout, places: Places, args: &[String], turn: Option<MutexGuard<'static, ()>>) -> Self {
        let daemons = Daemons::start(layout, places, args);
        let docker = Self {
            daemons,
            cgroups: RefCell::default(),
            _turn: turn,
        };
        docker.import();
        docker
    }

    fn import(&self) {
        let (rootfs, archive) = (self.scratch().dir("rootfs"), self.scratch().join("image.tar"));
        engines::fill(&rootfs);
        let mut tar = busybox("tar");
        tar.arg("-c")
            .arg("-f")
            .arg(&archive)
            .arg("-C")
            .arg(&rootfs)
            .arg(".");
        Program::start(&tar).answer(HEALTHY).answered().well();
        self.docker(["import", &archive.display().to_string(), IMAGE]);
    }

    /// How a docker command ends.
    #[track_caller]
    pub(crate) fn ended<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        self.client(args).answer(HEALTHY).answered()
    }

    /// What a docker command that must succeed prints.
    #[track_caller]
    pub(crate) fn docker<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        self.ended(args).well()
    }

    /// What dockerd says of a container.
    #[track_caller]
    pub(crate) fn inspect(&self, container: &str, what: &str) -> String {
        self.docker(["inspect", "--format", what, container])
    }

    /// A name that nobody else on this machine has.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{name}-{}", std::process::id())
    }

    /// Makes a container and waits until it beats. Its name begins with `name`.
    #[track_caller]
    pub(crate) fn container(&self, name: &str) -> Container<'_> {
        self.container_with(name, &[], BEATING)
    }

    /// The same with further options for `docker run`, and a script of its own.
    #[track_caller]
    pub(crate) fn container_with(&self, name: &str, options: &[&str], script: &str) -> Container<'_> {
        self.container_called(&self.name(name), options, script)
    }

    /// The same with just this name.
    #[track_caller]
    pub(crate) fn container_called(&self, name: &str, options: &[&str], script: &str) -> Container<'_> {
        self.made(name, self.making(name, options, script))
    }

    /// Several at once, which takes less time than one after the other.
    #[track_caller]
    pub(crate) fn containers<S: AsRef<str>>(&self, names: impl IntoIterator<Item = S>) -> Vec<Container<'_>> {
        let names: Vec<String> = names.into_iter().map(|name| self.name(name.as_ref())).collect();
        let making: Vec<Program> = names.iter().map(|name| self.making(name, &[], BEATING)).collect();
        names
            .iter()
            .zip(making)
            .map(|(name, making)| self.made(name, making))
            .collect()
    }

    fn making(&self, name: &str, options: &[&str], script: &str) -> Program {
        let mount = format!("{}:/vol", self.volume(name).display());
        let mut args = vec!["run", "--detach", "--name", name, "--volume", &mount];
        if !options.iter().any(|option| option.starts_with("--network")) {
            args.push("--network=none"); // its loopback device is there all the same
        }
        args.extend(options);
        args.extend([IMAGE, "sh", "-c", script]);
        self.client(args)
    }

    #[track_caller]
    fn made(&self, name: &str, making: Program) -> Container<'_> {
        let id = making.answer(HEALTHY).answered().well();
        let container = Container::of(self, name, id, self.volume(name));
        self.cgroups
            .borrow_mut()
            .extend(container.cgroups.iter().map(|cgroup| cgroup.path.clone()));
        container.goes_on();
        container
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.scratch().dir(Path::new("volumes").join(name))
    }

    /// A container after its restart.
    #[track_caller]
    pub(crate) fn again(&self, container: &Container<'_>) -> Container<'_> {
        let again = Container::of(
            self,
            &container.name,
            container.id.clone(),
            container.volume.clone(),
        );
        again.goes_on();
        again
    }

    /// A cgroup of the test's own, which is cleared away with the daemons.
    #[track_caller]
    pub(crate) fn own_cgroup(&self, hierarchy: Hierarchy) -> Cgroup {
        self.own_cgroups(&[hierarchy]).remove(0)
    }

    /// One with the same path in each of these hierarchies.
    #[track_caller]
    pub(crate) fn own_cgroups(&self, hierarchies: &[Hierarchy]) -> Vec<Cgroup> {
        let path = own_path();
        self.cgroups.borrow_mut().insert(path.clone());
        let make = |&hierarchy: &Hierarchy| {
            let cgroup = Cgroup {
                hierarchy,
                dir: mount_of(hierarchy).join(path.strip_prefix("/").unwrap()),
                path: path.clone(),
            };
            fs::create_dir(&cgroup.dir).unwrap();
            cgroup
        };
        hierarchies.iter().map(make).collect()
    }

    /// An iceaxe command at work where the daemons are.
    #[track_caller]
    pub(crate) fn begin<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let mut command = self.command(kit::program("iceaxe"));
        Program::start(command.args(args))
    }

    /// How an iceaxe command ends, run where the daemons are.
    #[track_caller]
    pub(crate) fn iceaxe<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        self.begin(args).answer(PATIENCE).answered()
    }

    /// `iceaxe resync` where the daemons are, with this PATH.
    pub(crate) fn resync(&self, path: &str, args: &[&str]) -> Command {
        let mut command = self.command("env");
        self.be_meant(&mut command);
        command
            .arg(format!("PATH={path}"))
            .arg(kit::program("iceaxe"))
            .arg("resync")
            .args(args);
        command
    }

    /// How an iceaxe command ends that may run docker's own.
    #[track_caller]
    pub(crate) fn iceaxe_with_docker(&self, args: &[&str]) -> Ended {
        let mut command = self.command("env");
        self.be_meant(&mut command);
        command.arg(kit::program("iceaxe")).args(args);
        Program::start(&command).answer(PATIENCE).answered()
    }

    /// How an iceaxe command ends that is started from within cgroups.
    #[track_caller]
    pub(crate) fn iceaxe_in<'a>(&self, cgroups: &[Cgroup], args: impl IntoIterator<Item = &'a str>) -> Ended {
        let join = "while test \"$1\" != --; do echo 0 > \"$1\"; shift; done; shift; exec \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-ec", join, "sh"])
            .args(cgroups.iter().map(|cgroup| cgroup.file("cgroup.procs")))
            .arg("--")
            .args(self.prefix())
            .arg(kit::program("iceaxe"))
            .args(args);
        Program::start(&command).answer(PATIENCE).answered()
    }

    /// A command of containerd's own command line, for the containerd that is below this docker.
    #[track_caller]
    pub(crate) fn ctr<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        let mut command = self.command(find("ctr"));
        self.be_meant(&mut command);
        Program::start(command.args(args)).answer(HEALTHY).answered()
    }

    /// A container of containerd's alone that beats, in its default namespace. Where it keeps its record is told by no
    /// configuration: this is for default places.
    #[track_caller]
    pub(crate) fn container_without_docker(&self, name: &str) -> Vessel {
        let id = self.name(name);
        let volume = self.volume(&id);
        let mount = format!(
            "--mount=type=bind,src={},dst=/vol,options=rbind:rw",
            volume.display()
        );
        let rootfs = self.scratch().join("rootfs");
        self.cgroups.borrow_mut().insert(Path::new("/default").join(&id));
        // A machine's v2 need not have a controller by which shares could be given.
        let run = [
            "run",
            "--detach",
            "--cpu-shares=0",
            "--env=PATH=/bin",
            &mount,
            "--rootfs",
        ];
        let what = [rootfs.to_str().unwrap(), &id, "sh", "-c", BEATING];
        self.ctr(run.into_iter().chain(what)).well();
        let list = self.ctr(["tasks", "list"]).well();
        let mut rows = list
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row[0] == id).expect("it is listed");
        let vessel = Vessel::new(&id, id.clone(), row[1].parse().unwrap(), volume);
        vessel.goes_on();
        vessel
    }

    /// Where docker freezes.
    pub(crate) fn freezes(&self) -> Hierarchy {
        match self.layout() {
            Layout::AsFound => Hierarchy::available(),
            Layout::V2 => Hierarchy::V2,
        }
    }

    /// The directory of a cgroup as it is seen where the daemons are.
    pub(crate) fn seen(&self, cgroup: &Cgroup) -> PathBuf {
        match self.layout() {
            Layout::AsFound => cgroup.dir.clone(),
            Layout::V2 => Path::new("/sys/fs/cgroup").join(cgroup.path.strip_prefix("/").unwrap()),
        }
    }

    /// What `iceaxe status` says of a target that it must know.
    #[track_caller]
    pub(crate) fn status(&self, target: &str) -> Value {
        let ended = self.iceaxe(["status", target, "--json"]);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        ended.object()
    }

    /// Lets a stopped dockerd go on, and waits until it answers.
    #[track_caller]
    pub(crate) fn unwedge(&self) {
        self.daemons.unwedge();
        self.docker(["version"]);
    }

    /// Kills the shims, and waits until nobody but who adopts orphans is above these containers.
    #[track_caller]
    pub(crate) fn orphan(&self, containers: &[Container<'_>]) {
        self.kill_shims();
        for container in containers {
            eventually("the container is an orphan", || {
                let parent = parent_of(container.pid).expect("a container outlives its shim");
                let comm = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
                !comm.starts_with("containerd-shim")
            });
        }
    }
}

impl Drop for Docker {
    #[allow(clippy::print_stderr, reason = "a failed test shows what dockerd had to say")]
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.said();
            let worth_reading = said.lines().filter(|line| line.contains("level=error"));
            worth_reading.for_each(|line| eprintln!("dockerd: {line}"));
        }
        engines::thaw_all(&self.cgroups.borrow());
        // Daemons first: they would take each end for something to be handled.
        self.kill_dockerd();
        self.kill_containerd();
        // Also of containers that were made and never handed out, as their test failed.
        let mut cgroups = self.cgroups.take();
        cgroups.extend(self.daemons.cgroups());
        self.kill_shims();
        self.remove_sockets();
        engines::end_all(&cgroups);
    }
}

/// The path of a cgroup that no other test has.
fn own_path() -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::SeqCst);
    PathBuf::from(format!("/iceaxe-test-docker-{}-{number}", std::process::id()))
}
