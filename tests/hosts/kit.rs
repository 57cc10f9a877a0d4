//! Builds made-up hosts: directories of plain files in the place of /proc, /sys/fs/cgroup, /run and /var. In every path
//! and text that the kit is given, `ID1` to `ID4`, `PODID`, `POD-UID` and `POD_UID` stand for what they name.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

use iceaxe::Host;
use iceaxe::host::Hierarchy;
use tempfile::TempDir;

pub(crate) const ID1: &str = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";
pub(crate) const ID2: &str = "2fe818c966e839ca6e65b68dc365e6cd60a765fed4512be9bc12368602040a72";
pub(crate) const ID3: &str = "b7d20c5a1f6e4d3c2b1a09f8e7d6c5b4a3928170605f4e3d2c1b0a9f8e7d6c5b";
pub(crate) const ID4: &str = "b46f11aa22bb33cc44dd55ee66ff77008899aabbccddeeff0011223344556677";
const WORDS: [(&str, &str); 7] = [
    ("ID1", ID1),
    ("ID2", ID2),
    ("ID3", ID3),
    ("ID4", ID4),
    (
        "PODID",
        "31fc7d886c12aa0b94e751bd67fc0d0c359dad06a1e1055e2ea0d4b5a7c9f3e2",
    ),
    ("POD-UID", "3d6f1c2e-8a4b-4f6e-9c1d-0123456789ab"),
    ("POD_UID", "3d6f1c2e_8a4b_4f6e_9c1d_0123456789ab"),
];
/// When every made-up host was started: November 2023, before any clock that these tests run by.
pub(crate) const BOOT: u64 = 1_700_000_000;

/// `text` with the words replaced by what they stand for.
pub(crate) fn spelled(text: &str) -> String {
    WORDS.iter().fold(text.to_owned(), |text, (word, meaning)| {
        text.replace(word, meaning)
    })
}

/// How the freezer hierarchies are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The v1 freezer alone.
    V1,
    /// Both.
    Hybrid,
    /// v2 at the top.
    V2,
}

/// A process and its only task.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) start: u64,
    comm: String,
    parent: i32,
    letter: char,
    wchan: String,
    uid: u32,
    of_host: bool,
}

/// A process of a container, asleep, started by one that is not in it.
pub(crate) fn process(pid: i32, comm: &str) -> Process {
    Process {
        pid,
        start: 87_982,
        comm: comm.to_owned(),
        parent: 1,
        letter: 'S',
        wchan: "hrtimer_nanosleep".to_owned(),
        uid: 0,
        of_host: false,
    }
}

impl Process {
    /// When it started, in ticks after the boot.
    pub(crate) fn started(self, start: u64) -> Self {
        Self { start, ..self }
    }

    pub(crate) fn child_of(self, parent: i32) -> Self {
        Self { parent, ..self }
    }

    /// Its state letter and where it waits in the kernel.
    pub(crate) fn state(self, letter: char, wchan: &str) -> Self {
        let wchan = wchan.to_owned();
        Self {
            letter,
            wchan,
            ..self
        }
    }

    pub(crate) fn of_user(self, uid: u32) -> Self {
        Self { uid, ..self }
    }

    /// It is in the host's own PID namespace.
    pub(crate) fn of_host(self) -> Self {
        Self {
            of_host: true,
            ..self
        }
    }

    fn stat(&self) -> String {
        let Self {
            pid,
            start,
            comm,
            parent,
            letter,
            ..
        } = self;
        format!(
            "{pid} ({comm}) {letter} {parent} {pid} {pid} 0 -1 4194560 969 0 0 0 1 1 0 0 20 0 1 0 {start} 2322432 316 \
             18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        )
    }

    fn status(&self) -> String {
        let Self {
            pid,
            comm,
            parent,
            uid,
            ..
        } = self;
        let inner = if self.of_host { "" } else { "\t1" };
        format!(
            "Name:\t{comm}\nTgid:\t{pid}\nPid:\t{pid}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n\
             Gid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t{pid}{inner}\n\
             voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t1\n"
        )
    }

    fn uid_map(&self) -> String {
        match self.uid {
            0 => "         0          0 4294967295\n".to_owned(),
            uid => format!("         0 {uid:>10}          1\n         1     100000      65536\n"),
        }
    }
}

/// A host in a directory that goes with it.
#[derive(Debug)]
pub(crate) struct MadeUp {
    root: TempDir,
    layout: Layout,
}

/// The process that looks at the host.
const OURS: i32 = 900;

/// A host with PID 1 and who looks at it, and nothing else.
pub(crate) fn host(layout: Layout) -> MadeUp {
    // Memory is quicker where there is such a file system, and the mutations write a lot.
    let root = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let host = MadeUp { root, layout };
    for hierarchy in host.hierarchies() {
        let dir = host.mount(hierarchy).unwrap();
        fs::create_dir_all(&dir).unwrap();
        for name in ["tasks", "cgroup.procs", "cgroup.threads", "cgroup.controllers"] {
            if (name == "tasks") == (hierarchy == Hierarchy::V1) || name == "cgroup.procs" {
                fs::write(dir.join(name), "").unwrap();
            }
        }
    }
    host.file(
        "proc/stat",
        &format!("cpu  1 2 3 4\nctxt 99\nbtime {BOOT}\nprocesses 99\n"),
    );
    host.file("proc/uptime", "900000.00 900000.00\n");
    let init = process(1, "systemd").started(3).child_of(0).of_host();
    host.run(&init, &host.lines("/init.scope"));
    let iceaxe = process(OURS, "iceaxe").started(80_000_000).of_host();
    host.run(&iceaxe, &host.lines("/user.slice/user-0.slice/session-1.scope"));
    host.link("proc/self", &OURS.to_string());
    for pid in [1, OURS] {
        for (kind, inode) in [("cgroup", 4_026_531_835_u32), ("pid", 4_026_531_836)] {
            host.link(&format!("proc/{pid}/ns/{kind}"), &format!("{kind}:[{inode}]"));
        }
    }
    host
}

impl MadeUp {
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// The host as the library sees it.
    pub(crate) fn open(&self) -> Host {
        Host::made_up(self.root()).unwrap()
    }

    /// A place on it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(spelled(path).trim_start_matches('/'))
    }

    /// A file with its directories.
    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, spelled(text)).unwrap();
        self
    }

    /// A symbolic link.
    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(spelled(target), path).unwrap();
        self
    }

    /// A FIFO, at which a plain open would wait for ever.
    pub(crate) fn fifo(&self, path: &str) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        make_fifo(&path);
        self
    }

    pub(crate) fn dir(&self, path: &str) -> &Self {
        fs::create_dir_all(self.path(path)).unwrap();
        self
    }

    /// Gives everything at and below `path` to a user, which only root can.
    pub(crate) fn give_to(&self, path: &str, uid: u32) -> &Self {
        let mut left = vec![self.path(path)];
        while let Some(path) = left.pop() {
            let failed = |error| {
                panic!(
                    "only root can make the files of user {uid}: chown {}: {error}",
                    path.display()
                )
            };
            lchown(&path, Some(uid), Some(uid)).unwrap_or_else(failed);
            if path.is_dir() && !path.is_symlink() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        self
    }

    fn hierarchies(&self) -> impl Iterator<Item = Hierarchy> + use<> {
        let layout = self.layout;
        [Hierarchy::V1, Hierarchy::V2]
            .into_iter()
            .filter(move |&hierarchy| match hierarchy {
                Hierarchy::V1 => layout != Layout::V2,
                Hierarchy::V2 => layout != Layout::V1,
            })
    }

    /// Where a hierarchy is mounted, from the host's own root.
    fn mounted_at(&self, hierarchy: Hierarchy) -> Option<&'static str> {
        match (self.layout, hierarchy) {
            (Layout::V1 | Layout::Hybrid, Hierarchy::V1) => Some("/sys/fs/cgroup/freezer"),
            (Layout::Hybrid, Hierarchy::V2) => Some("/sys/fs/cgroup/unified"),
            (Layout::V2, Hierarchy::V2) => Some("/sys/fs/cgroup"),
            (Layout::V1, Hierarchy::V2) | (Layout::V2, Hierarchy::V1) => None,
        }
    }

    fn mount(&self, hierarchy: Hierarchy) -> Option<PathBuf> {
        Some(self.path(self.mounted_at(hierarchy)?))
    }

    /// The directory of a cgroup, there or not.
    pub(crate) fn cgroup_dir(&self, hierarchy: Hierarchy, path: &str) -> PathBuf {
        let mount = self.mount(hierarchy).expect("the layout has the hierarchy");
        mount.join(spelled(path).trim_start_matches('/'))
    }

    /// The lines of a process whose path is the same everywhere, as the kernel of this layout shows them.
    pub(crate) fn lines(&self, path: &str) -> Vec<String> {
        match self.layout {
            Layout::V1 => vec![
                format!("9:name=systemd:{path}"),
                format!("6:freezer:{path}"),
                format!("4:memory:{path}"),
            ],
            Layout::Hybrid => vec![
                format!("9:name=systemd:{path}"),
                format!("6:freezer:{path}"),
                format!("4:memory:{path}"),
                format!("0::{path}"),
            ],
            // Kernels with v1 compiled in show its hierarchies, unmounted as they are.
            Layout::V2 => vec!["6:freezer:/".to_owned(), format!("0::{path}")],
        }
    }

    /// runc's `cgroup_paths` for a path that is the same everywhere.
    pub(crate) fn recorded(&self, path: &str) -> Vec<(String, String)> {
        let mut paths: Vec<(String, String)> = Vec::new();
        for (key, hierarchy) in [("freezer", Hierarchy::V1), ("", Hierarchy::V2)] {
            if let Some(mount) = self.mounted_at(hierarchy) {
                paths.push((key.to_owned(), format!("{mount}{path}")));
            }
        }
        if self.layout != Layout::V2 {
            paths.push(("memory".to_owned(), format!("/sys/fs/cgroup/memory{path}")));
        }
        paths
    }

    /// A cgroup and those above it, each with its files.
    pub(crate) fn cgroup(&self, hierarchy: Hierarchy, path: &str) -> PathBuf {
        let top = self.mount(hierarchy).expect("the layout has the hierarchy");
        let mut dir = top;
        for part in spelled(path).split('/').filter(|part| !part.is_empty()) {
            dir.push(part);
            if dir.is_dir() {
                continue;
            }
            fs::create_dir(&dir).unwrap();
            let files: &[(&str, &str)] = match hierarchy {
                Hierarchy::V1 => &[
                    ("tasks", ""),
                    ("cgroup.procs", ""),
                    ("freezer.state", "THAWED\n"),
                    ("freezer.self_freezing", "0\n"),
                    ("freezer.parent_freezing", "0\n"),
                ],
                Hierarchy::V2 => &[
                    ("cgroup.procs", ""),
                    ("cgroup.threads", ""),
                    ("cgroup.controllers", ""),
                    ("cgroup.type", "domain\n"),
                    ("cgroup.freeze", "0\n"),
                    ("cgroup.events", "populated 0\nfrozen 0\n"),
                ],
            };
            for (name, text) in files {
                fs::write(dir.join(name), text).unwrap();
            }
        }
        dir
    }

    /// Has a cgroup ask for a freeze, settled in it and in all below.
    pub(crate) fn frozen(&self, hierarchy: Hierarchy, path: &str) -> &Self {
        let top = self.cgroup(hierarchy, path);
        let asks = match hierarchy {
            Hierarchy::V1 => "freezer.self_freezing",
            Hierarchy::V2 => "cgroup.freeze",
        };
        fs::write(top.join(asks), "1\n").unwrap();
        let mut left = vec![top.clone()];
        while let Some(dir) = left.pop() {
            match hierarchy {
                Hierarchy::V1 => {
                    fs::write(dir.join("freezer.state"), "FROZEN\n").unwrap();
                    if dir != top {
                        fs::write(dir.join("freezer.parent_freezing"), "1\n").unwrap();
                    }
                }
                Hierarchy::V2 => {
                    let events = fs::read_to_string(dir.join("cgroup.events")).unwrap();
                    fs::write(dir.join("cgroup.events"), events.replace("frozen 0", "frozen 1")).unwrap();
                }
            }
            let below = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
            left.extend(below.filter(|path| path.is_dir()));
        }
        self
    }

    /// A process whose /proc/PID/cgroup has these lines; the dead are in no cgroup.
    pub(crate) fn run(&self, process: &Process, lines: &[impl AsRef<str>]) -> &Self {
        let Process { pid, letter, .. } = process;
        let text: String = lines
            .iter()
            .map(|line| format!("{}\n", spelled(line.as_ref())))
            .collect();
        for dir in [format!("proc/{pid}"), format!("proc/{pid}/task/{pid}")] {
            self.file(&format!("{dir}/stat"), &process.stat());
            self.file(&format!("{dir}/status"), &process.status());
            self.file(&format!("{dir}/cgroup"), &text);
            self.file(&format!("{dir}/wchan"), &process.wchan);
            self.file(&format!("{dir}/schedstat"), "969000 5 7\n");
            self.file(&format!("{dir}/uid_map"), &process.uid_map());
        }
        if !matches!(letter, 'Z' | 'X') {
            for (hierarchy, path) in text.lines().filter_map(place) {
                if self.mounted_at(hierarchy).is_some() && !path.starts_with("/..") {
                    self.join(*pid, hierarchy, path);
                }
            }
        }
        self
    }

    /// Lists a process in a cgroup, and it as populated with all above.
    fn join(&self, pid: i32, hierarchy: Hierarchy, path: &str) {
        let mut dir = self.cgroup(hierarchy, path);
        let lists = match hierarchy {
            Hierarchy::V1 => ["tasks", "cgroup.procs"],
            Hierarchy::V2 => ["cgroup.threads", "cgroup.procs"],
        };
        for name in lists {
            let mut list = fs::OpenOptions::new().append(true).open(dir.join(name)).unwrap();
            writeln!(list, "{pid}").unwrap();
        }
        while let Ok(events) = fs::read_to_string(dir.join("cgroup.events")) {
            fs::write(
                dir.join("cgroup.events"),
                events.replace("populated 0", "populated 1"),
            )
            .unwrap();
            dir.pop();
        }
    }
}

impl MadeUp {
    /// Ends a process: it is gone from /proc and from its cgroups, which stay.
    pub(crate) fn end(&self, pid: i32) -> &Self {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
        for hierarchy in self.hierarchies() {
            forget(&self.mount(hierarchy).unwrap(), &pid.to_string());
        }
        self
    }
}

/// Takes a process out of a cgroup and all below, and tells whether any is left there.
fn forget(dir: &Path, pid: &str) -> bool {
    let mut is_populated = false;
    for name in ["tasks", "cgroup.threads", "cgroup.procs"] {
        if let Ok(list) = fs::read_to_string(dir.join(name)) {
            let left: String = list
                .lines()
                .filter(|line| *line != pid)
                .map(|line| format!("{line}\n"))
                .collect();
            is_populated |= !left.is_empty();
            fs::write(dir.join(name), left).unwrap();
        }
    }
    for below in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        is_populated |= below.is_dir() && forget(&below, pid);
    }
    if let Ok(events) = fs::read_to_string(dir.join("cgroup.events"))
        && !is_populated
    {
        fs::write(
            dir.join("cgroup.events"),
            events.replace("populated 1", "populated 0"),
        )
        .unwrap();
    }
    is_populated
}

/// The freezer hierarchy and the path of one line of /proc/PID/cgroup.
fn place(line: &str) -> Option<(Hierarchy, &str)> {
    if let Some(path) = line.strip_prefix("0::") {
        return Some((Hierarchy::V2, path));
    }
    let mut parts = line.splitn(3, ':').skip(1);
    let controllers = parts.next()?;
    let freezes = controllers.split(',').any(|name| name == "freezer");
    Some((Hierarchy::V1, parts.next()?)).filter(|_| freezes)
}

pub(crate) fn make_fifo(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}
