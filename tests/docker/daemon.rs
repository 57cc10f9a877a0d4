//! A dockerd with a containerd of its own, for one test.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::MutexGuard;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::container::Container;
use crate::engines::{self, BEATING, Ended, Layout, Places, Program, Room, Scratch, find, starttime};
use crate::kit::{Cgroup, Hierarchy, PATIENCE, eventually, letter, mount_of, parent_of};

/// The image that all containers are made of.
const IMAGE: &str = "bb:1";
/// How long a healthy dockerd may take for any command; the slowest one here takes some 300 ms.
const HEALTHY: Duration = Duration::from_secs(20);

/// The daemons. When they go, also by a panic, their containers are thawed, everything of theirs is ended, and what
/// they made is removed.
#[derive(Debug)]
pub(crate) struct Docker {
    layout: Layout,
    scratch: Scratch,
    room: Room,
    containerd: RefCell<Program>,
    dockerd: RefCell<Program>,
    /// The paths of the cgroups that are cleared away.
    cgroups: RefCell<BTreeSet<PathBuf>>,
    shims: RefCell<BTreeSet<(i32, u64)>>,
    places: Places,
    _turn: Option<MutexGuard<'static, ()>>,
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
        Self::open(self.layout, Places::Own, &[], None)
    }

    #[track_caller]
    fn open(layout: Layout, places: Places, args: &[String], turn: Option<MutexGuard<'static, ()>>) -> Self {
        let scratch = Scratch::new();
        let room = Room::open(layout, places);
        let of = |own: &str, default: &str| match places {
            Places::Own => scratch.join(own).display().to_string(),
            Places::Default => default.to_owned(),
        };
        let address = scratch.join("containerd.sock");
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\n  address = {:?}\n",
            of("containerd", "/var/lib/containerd"),
            of("run", "/run/containerd"),
            address
        );
        let mut command = room.command(find("containerd"));
        command
            .arg("--config")
            .arg(scratch.file("containerd.toml", &config));
        let mut containerd = Program::start(&command);
        answers(&address, &mut containerd);
        let mut command = room.command(find("dockerd"));
        command
            .arg("--containerd")
            .arg(&address)
            .args(["--exec-root", &of("exec", "/run/docker")]);
        command.args(["--data-root", &of("data", "/var/lib/docker")]);
        command.arg("--pidfile").arg(scratch.join("docker.pid"));
        command
            .arg("--config-file")
            .arg(scratch.file("daemon.json", "{}"));
        let socket = scratch.join("docker.sock");
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.args([
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--storage-driver=vfs",
        ]);
        command
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(args);
        let mut dockerd = Program::start(&command);
        answers(&socket, &mut dockerd);
        let docker = Self {
            layout,
            scratch,
            room,
            containerd: RefCell::new(containerd),
            dockerd: RefCell::new(dockerd),
            cgroups: RefCell::default(),
            shims: RefCell::default(),
            places,
            _turn: turn,
        };
        docker.import();
        docker
    }

    fn import(&self) {
        let (rootfs, archive) = (self.scratch.dir("rootfs"), self.scratch.join("image.tar"));
        engines::fill(&rootfs);
        let mut tar = engines::busybox("tar");
        tar.arg("-c")
            .arg("-f")
            .arg(&archive)
            .arg("-C")
            .arg(&rootfs)
            .arg(".");
        Program::start(&tar).answer(HEALTHY).answered().well();
        self.docker(["import", &archive.display().to_string(), IMAGE]);
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Docker's own directory of one container, as it is seen from outside.
    pub(crate) fn data_of(&self, id: &str) -> PathBuf {
        let data = match self.places {
            Places::Own => self.scratch.join("data"),
            Places::Default => self.room.path("/var/lib/docker"),
        };
        data.join("containers").join(id)
    }

    /// The directory of runc's record of one container, as it is seen from outside.
    pub(crate) fn record_of(&self, id: &str) -> PathBuf {
        let exec = match self.places {
            Places::Own => self.scratch.join("exec"),
            Places::Default => self.room.path("/run/docker"),
        };
        exec.join("runtime-runc/moby").join(id)
    }

    /// A docker command at work.
    #[track_caller]
    pub(crate) fn client<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let mut command = Command::new(find("docker"));
        command.env(
            "DOCKER_HOST",
            format!("unix://{}", self.scratch.join("docker.sock").display()),
        );
        // Nobody's settings.
        command
            .env("DOCKER_CONFIG", self.scratch.dir("client"))
            .env_remove("DOCKER_CONTEXT");
        command.args(args);
        Program::start(&command)
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
        self.note(&container);
        container.goes_on();
        container
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.scratch.dir(Path::new("volumes").join(name))
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
        self.note(&again);
        again.goes_on();
        again
    }

    /// A cgroup of the test's own, which is cleared away with the daemons.
    #[track_caller]
    pub(crate) fn own_cgroup(&self, hierarchy: Hierarchy) -> Cgroup {
        let path = own_path();
        let cgroup = Cgroup {
            hierarchy,
            dir: mount_of(hierarchy).join(path.strip_prefix("/").unwrap()),
            path,
        };
        fs::create_dir(&cgroup.dir).unwrap();
        self.cgroups.borrow_mut().insert(cgroup.path.clone());
        cgroup
    }

    /// Remembers what is to be cleared away after a container.
    fn note(&self, container: &Container<'_>) {
        self.cgroups
            .borrow_mut()
            .extend(container.cgroups.iter().map(|cgroup| cgroup.path.clone()));
        let shim = parent_of(container.pid).unwrap();
        self.shims.borrow_mut().insert((shim, starttime(shim).unwrap()));
    }

    /// The iceaxe command at work, where the daemons are.
    #[track_caller]
    pub(crate) fn iceaxe_at_work<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let mut command = self.room.command(env!("CARGO_BIN_EXE_iceaxe"));
        Program::start(command.args(args))
    }

    /// How an iceaxe command ends.
    #[track_caller]
    pub(crate) fn iceaxe<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        self.iceaxe_at_work(args).answer(PATIENCE).answered()
    }

    /// How an iceaxe command ends that is started from within a cgroup.
    #[track_caller]
    pub(crate) fn iceaxe_in<'a>(&self, cgroup: &Cgroup, args: impl IntoIterator<Item = &'a str>) -> Ended {
        let mut command = Command::new("sh");
        command
            .args(["-ec", "echo 0 > \"$0\"; exec \"$@\""])
            .arg(cgroup.file("cgroup.procs"));
        command
            .args(self.room.prefix())
            .arg(env!("CARGO_BIN_EXE_iceaxe"))
            .args(args);
        Program::start(&command).answer(PATIENCE).answered()
    }

    /// Where docker freezes.
    pub(crate) fn freezes(&self) -> Hierarchy {
        match self.layout {
            Layout::AsFound => Hierarchy::available(),
            Layout::V2 => Hierarchy::V2,
        }
    }

    /// The directory of a cgroup as it is seen where the daemons are.
    pub(crate) fn seen(&self, cgroup: &Cgroup) -> PathBuf {
        match self.layout {
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

    /// Stops dockerd, as a bug or a full disk does.
    #[track_caller]
    pub(crate) fn wedge(&self) {
        let dockerd = self.dockerd.borrow();
        dockerd.signal(Signal::SIGSTOP);
        eventually("dockerd is stopped", || letter(dockerd.pid()) == Some('T'));
    }

    /// Lets dockerd go on.
    #[track_caller]
    pub(crate) fn unwedge(&self) {
        self.dockerd.borrow().signal(Signal::SIGCONT);
        self.docker(["version"]);
    }

    pub(crate) fn dockerd(&self) -> i32 {
        self.dockerd.borrow().pid()
    }

    pub(crate) fn kill_dockerd(&self) {
        self.dockerd.borrow_mut().kill();
    }

    pub(crate) fn kill_containerd(&self) {
        self.containerd.borrow_mut().kill();
    }

    /// Kills the shims of all containers, and waits until these have nobody above them but whoever adopts orphans.
    #[track_caller]
    pub(crate) fn kill_shims(&self, containers: &[Container<'_>]) {
        self.end_shims();
        for container in containers {
            eventually("the container is an orphan", || {
                let parent = parent_of(container.pid).expect("a container outlives its shim");
                let comm = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
                !comm.starts_with("containerd-shim")
            });
        }
    }

    fn end_shims(&self) {
        for (pid, started) in self.shims.take() {
            if starttime(pid) == Some(started) {
                // It has ended meanwhile, then.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// The sockets of shims, which containerd has in one place whatever its configuration says.
    fn sockets(&self) -> Vec<PathBuf> {
        let bundles = match self.places {
            Places::Own => self.scratch.join("run"),
            Places::Default => return Vec::new(), // they go with the room
        };
        let bundles = fs::read_dir(bundles.join("io.containerd.runtime.v2.task/moby"))
            .into_iter()
            .flatten()
            .flatten();
        let addresses = bundles.filter_map(|bundle| fs::read_to_string(bundle.path().join("address")).ok());
        addresses
            .filter_map(|address| Some(PathBuf::from(address.strip_prefix("unix://")?)))
            .collect()
    }
}

impl Drop for Docker {
    #[allow(clippy::print_stderr, reason = "a failed test shows what dockerd had to say")]
    fn drop(&mut self) {
        if thread::panicking() {
            let said = self.dockerd.borrow().errors();
            let worth_reading = said.lines().filter(|line| line.contains("level=error"));
            worth_reading.for_each(|line| eprintln!("dockerd: {line}"));
        }
        // Daemons first: they would take each end for something to be handled.
        self.kill_dockerd();
        self.kill_containerd();
        self.end_shims();
        for socket in self.sockets() {
            // Its shim has removed it, then.
            let _ = fs::remove_file(socket);
        }
        engines::end_all(&self.cgroups.take());
    }
}

/// The path of a cgroup that no other test has.
fn own_path() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::SeqCst);
    PathBuf::from(format!("/iceaxe-test-docker-{}-{number}", std::process::id()))
}

/// Waits until somebody accepts at a socket.
#[track_caller]
fn answers(socket: &Path, daemon: &mut Program) {
    eventually("the daemon answers", || {
        assert!(daemon.is_running(), "{}", daemon.errors());
        UnixStream::connect(socket).is_ok()
    });
}
