//! A dockerd with a containerd of its own.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::engines::{Layout, Places, Program, Room, Scratch, find, of_process};
use kit::{eventually, letter};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The names of the sockets in the test's directory.
const ADDRESS: &str = "containerd.sock";
const SOCKET: &str = "docker.sock";

/// The daemons, and where they are. They end with this, and their shims and containers do not.
#[derive(Debug)]
pub(crate) struct Daemons {
    layout: Layout,
    places: Places,
    scratch: Scratch,
    room: Room,
    args: Vec<String>,
    containerd: RefCell<Program>,
    dockerd: RefCell<Program>,
}

impl Daemons {
    /// Starts them, dockerd with `args` besides.
    #[track_caller]
    pub(crate) fn start(layout: Layout, places: Places, args: &[String]) -> Self {
        let scratch = Scratch::new();
        let room = Room::open(layout, places);
        let of = |own: &str, default: &str| match places {
            Places::Own => scratch.join(own).display().to_string(),
            Places::Default => default.to_owned(),
        };
        let address = scratch.join(ADDRESS);
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
        scratch.file("daemon.json", "{}");
        let mut all = vec![
            format!("--containerd={}", address.display()),
            format!("--exec-root={}", of("exec", "/run/docker")),
            format!("--data-root={}", of("data", "/var/lib/docker")),
            format!("--pidfile={}", scratch.join("docker.pid").display()),
            format!("--config-file={}", scratch.join("daemon.json").display()),
            format!("--host=unix://{}", scratch.join(SOCKET).display()),
        ];
        let fixed = [
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--storage-driver=vfs",
            "--exec-opt=native.cgroupdriver=cgroupfs",
        ];
        all.extend(fixed.map(str::to_owned));
        all.extend_from_slice(args);
        let dockerd = dockerd(&room, &all, &scratch);
        Self {
            layout,
            places,
            scratch,
            room,
            args: all,
            containerd: RefCell::new(containerd),
            dockerd: RefCell::new(dockerd),
        }
    }

    /// Starts dockerd again after its death, so that it leaves the containers alone that run.
    #[track_caller]
    pub(crate) fn restart_dockerd(&self) {
        let mut args = self.args.clone();
        args.push("--live-restore".to_owned());
        self.dockerd.replace(dockerd(&self.room, &args, &self.scratch));
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
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

    /// The bundles of all containers, as they are seen from outside.
    fn bundles(&self) -> Vec<PathBuf> {
        let state = match self.places {
            Places::Own => self.scratch.join("run"),
            Places::Default => self.room.path("/run/containerd"),
        };
        let bundles = fs::read_dir(state.join("io.containerd.runtime.v2.task/moby"));
        bundles
            .into_iter()
            .flatten()
            .flatten()
            .map(|bundle| bundle.path())
            .collect()
    }

    /// The paths of the cgroups of all containers that run, whoever started them.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for bundle in self.bundles() {
            let pid = fs::read_to_string(bundle.join("init.pid"))
                .ok()
                .and_then(|text| text.parse().ok());
            let id = bundle
                .file_name()
                .expect("a bundle is called by its ID")
                .to_owned();
            // The number may be another's by now, and that one's cgroup is nobody's business here.
            let found = pid
                .map(of_process)
                .unwrap_or_default()
                .into_iter()
                .map(|cgroup| cgroup.path);
            paths.extend(found.filter(|path| path.file_name() == Some(&id)));
        }
        paths
    }

    /// A docker command at work.
    #[track_caller]
    pub(crate) fn client<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let mut command = Command::new(find("docker"));
        self.be_meant(&mut command);
        command.args(args);
        Program::start(&command)
    }

    /// Has docker's and containerd's command lines speak to these daemons, wherever below `command` they are run.
    #[track_caller]
    pub(crate) fn be_meant(&self, command: &mut Command) {
        command.env(
            "DOCKER_HOST",
            format!("unix://{}", self.scratch.join(SOCKET).display()),
        );
        // Nobody's settings.
        command
            .env("DOCKER_CONFIG", self.scratch.dir("client"))
            .env("CONTAINERD_ADDRESS", self.scratch.join(ADDRESS))
            .env_remove("DOCKER_CONTEXT");
    }

    /// What stands before a command line for its program to run where the daemons are.
    pub(crate) fn prefix(&self) -> Vec<OsString> {
        self.room.prefix()
    }

    /// A program where the daemons are.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.room.command(program)
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
    }

    pub(crate) fn dockerd(&self) -> i32 {
        self.dockerd.borrow().pid()
    }

    /// What dockerd has said so far.
    pub(crate) fn said(&self) -> String {
        self.dockerd.borrow().errors()
    }

    pub(crate) fn kill_dockerd(&self) {
        self.dockerd.borrow_mut().kill();
    }

    pub(crate) fn kill_containerd(&self) {
        self.containerd.borrow_mut().kill();
    }

    /// Kills the shims. They are known by the containerd that they work for, whose address nobody else has.
    pub(crate) fn kill_shims(&self) {
        let address = self.scratch.join(ADDRESS);
        let pids = fs::read_dir("/proc").unwrap().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(); // it is gone
            let mut words = words.split(|&byte| byte == 0);
            let is_shim = words
                .next()
                .is_some_and(|word| word.ends_with(b"containerd-shim-runc-v2"));
            if is_shim && words.any(|word| word == address.as_os_str().as_bytes()) {
                // It has ended meanwhile, then.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Removes the sockets of shims, which containerd has in one place whatever its configuration says.
    pub(crate) fn remove_sockets(&self) {
        if self.places == Places::Default {
            return; // they go with the room
        }
        for bundle in self.bundles() {
            let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
            if let Some(socket) = address.strip_prefix("unix://") {
                // Its shim has removed it, then.
                let _ = fs::remove_file(socket);
            }
        }
    }
}

/// A dockerd that answers.
#[track_caller]
fn dockerd(room: &Room, args: &[String], scratch: &Scratch) -> Program {
    let mut dockerd = Program::start(room.command(find("dockerd")).args(args));
    answers(&scratch.join(SOCKET), &mut dockerd);
    dockerd
}

/// Waits until somebody accepts at a socket.
#[track_caller]
fn answers(socket: &Path, daemon: &mut Program) {
    eventually("the daemon answers", || {
        assert!(daemon.is_running(), "{}", daemon.errors());
        UnixStream::connect(socket).is_ok()
    });
}
