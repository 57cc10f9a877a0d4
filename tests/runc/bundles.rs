//! runc, and the bundles that it makes containers of.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kit::PATIENCE;
use kit::engines::{self, BEATING, Ended, Layout, Places, Program, Room, Scratch, Vessel, find};
use serde_json::{Value, json};

/// Where runc keeps its records where nothing else is said.
const ROOT: &str = "/run/runc";
/// How long runc may take where nothing hangs; its own waits end after some 10 s.
const HEALTHY: Duration = Duration::from_secs(20);

/// What a test makes with runc. When it goes, also by a panic, everything is thawed, ended and removed.
#[derive(Debug)]
pub(crate) struct Runc {
    room: Room,
    scratch: Scratch,
    /// Records and paths of cgroups that are cleared away.
    records: RefCell<BTreeSet<PathBuf>>,
    cgroups: RefCell<BTreeSet<PathBuf>>,
    _turn: MutexGuard<'static, ()>,
}

impl Runc {
    #[track_caller]
    pub(crate) fn new(layout: Layout) -> Self {
        let turn = engines::turn();
        let (room, scratch) = (Room::open(layout, Places::Own), Scratch::new());
        engines::fill(&scratch.dir("rootfs"));
        Self {
            room,
            scratch,
            records: RefCell::default(),
            cgroups: RefCell::default(),
            _turn: turn,
        }
    }

    /// How a runc command ends, if it does.
    #[track_caller]
    pub(crate) fn asked<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        limit: Duration,
    ) -> engines::Asked {
        self.started(args).answer(limit)
    }

    /// A runc command at work.
    #[track_caller]
    pub(crate) fn started<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Program {
        let mut command = self.room.command(find("runc"));
        Program::start(command.args(args))
    }

    /// How a runc command ends that must end.
    #[track_caller]
    pub(crate) fn ended<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        self.asked(args, HEALTHY).answered()
    }

    /// The status in runc's own words.
    #[track_caller]
    pub(crate) fn says(&self, vessel: &Vessel) -> Value {
        self.ended(["state", &vessel.id]).object()["status"].clone()
    }

    /// How an iceaxe command ends.
    #[track_caller]
    pub(crate) fn iceaxe<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        let mut command = self.room.command(kit::program("iceaxe"));
        Program::start(command.args(args)).answer(PATIENCE).answered()
    }

    /// What `iceaxe status` says of a target that it must know.
    #[track_caller]
    pub(crate) fn status(&self, target: &str) -> Value {
        let ended = self.iceaxe(["status", target, "--json"]);
        assert_eq!(ended.code(), Some(0), "{ended:?}");
        ended.object()
    }

    /// A container whose cgroup is called by its ID.
    #[track_caller]
    pub(crate) fn container(&self, name: &str) -> Vessel {
        let id = own_id(name);
        self.container_at(&id, &format!("/{id}"))
    }

    /// A container with this ID and this `cgroupsPath`.
    #[track_caller]
    pub(crate) fn container_at(&self, id: &str, cgroups_path: &str) -> Vessel {
        self.container_with(id, cgroups_path, &[])
    }

    /// The same with annotations.
    #[track_caller]
    pub(crate) fn container_with(
        &self,
        id: &str,
        cgroups_path: &str,
        annotations: &[(&str, &str)],
    ) -> Vessel {
        self.attempt(id, cgroups_path, annotations).well();
        let pid = fs::read_to_string(self.pid_file(id)).unwrap().parse().unwrap();
        let vessel = Vessel::new(id, id.to_owned(), pid, self.volume(id));
        let own = vessel
            .cgroups
            .iter()
            .all(|cgroup| cgroup.path == Path::new(cgroups_path));
        assert!(
            own,
            "its process is gone, and the number is another's: {vessel:?}"
        );
        vessel.goes_on();
        vessel
    }

    /// How making such a container ends.
    #[track_caller]
    pub(crate) fn attempt(&self, id: &str, cgroups_path: &str, annotations: &[(&str, &str)]) -> Ended {
        let bundle = self.bundle(id, cgroups_path, annotations, &self.volume(id));
        // Before it is there: what is half made must go, too.
        self.records.borrow_mut().insert(self.record(id));
        self.cleared_away(cgroups_path);
        self.ended([
            "run".as_ref(),
            "--detach".as_ref(),
            "--pid-file".as_ref(),
            self.pid_file(id).as_os_str(),
            "--bundle".as_ref(),
            bundle.as_os_str(),
            id.as_ref(),
        ])
    }

    /// Has the topmost cgroup of a path, with all below it, thawed, ended and removed in the end.
    pub(crate) fn cleared_away(&self, cgroups_path: &str) {
        self.cgroups.borrow_mut().insert(top(Path::new(cgroups_path)));
    }

    fn pid_file(&self, id: &str) -> PathBuf {
        self.scratch.join(format!("{id}.pid"))
    }

    fn volume(&self, id: &str) -> PathBuf {
        self.scratch.dir(Path::new("volumes").join(id))
    }

    /// Puts a container's record where no engine keeps one, as with `runc --root`.
    #[track_caller]
    pub(crate) fn hide_record(&self, id: &str) -> PathBuf {
        let elsewhere = self.scratch.dir("root").join(id);
        fs::create_dir(&elsewhere).unwrap();
        for entry in fs::read_dir(self.record(id)).unwrap() {
            let from = entry.unwrap().path();
            if from.is_file() {
                fs::copy(&from, elsewhere.join(from.file_name().unwrap())).unwrap();
            }
        }
        fs::remove_dir_all(self.record(id)).unwrap();
        elsewhere
    }

    /// The directory of a container's record.
    pub(crate) fn record(&self, id: &str) -> PathBuf {
        Path::new(ROOT).join(id)
    }

    #[track_caller]
    fn bundle(&self, id: &str, cgroups_path: &str, annotations: &[(&str, &str)], volume: &Path) -> PathBuf {
        // A second attempt is made with the same one.
        let bundle = self.scratch.dir(Path::new("bundles").join(id));
        let _ = fs::remove_file(bundle.join("config.json"));
        self.ended(["spec", "--bundle", &bundle.display().to_string()])
            .well();
        let file = bundle.join("config.json");
        let mut spec: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        spec["root"] = json!({"path": self.scratch.join("rootfs"), "readonly": false});
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sh", "-c", BEATING]);
        spec["linux"]["cgroupsPath"] = json!(cgroups_path);
        for (key, value) in annotations {
            spec["annotations"][*key] = json!(value);
        }
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind", "rw"]}),
        );
        fs::write(&file, spec.to_string()).unwrap();
        bundle
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        for record in self.records.take() {
            // runc has removed it, then.
            let _ = fs::remove_dir_all(record);
        }
        engines::end_all(&self.cgroups.take());
    }
}

/// An ID that nobody else on this machine has.
pub(crate) fn own_id(name: &str) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!(
        "iceaxe-test-runc-{}-{}-{name}",
        std::process::id(),
        MADE.fetch_add(1, Ordering::SeqCst)
    )
}

/// An ID as the engines make them, which nobody else has.
pub(crate) fn own_digits() -> String {
    let mut bytes = [0; 32];
    let random = fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut &random, &mut bytes).unwrap();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The topmost part of a cgroup's path.
fn top(path: &Path) -> PathBuf {
    Path::new("/").join(path.iter().nth(1).expect("not the root"))
}
