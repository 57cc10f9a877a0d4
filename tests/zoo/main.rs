//! Puts tasks into any state and keeps them there: `zoo [--in CGROUP-DIR]... [--beats FILE] [--pulses FILE]
//! [--comm NAME] [--pidns] [--pid PID] KIND...`
//!
//! The first process is the keeper. It stays outside the cgroups, so that it can always act; each KIND is a child that
//! enters the cgroups before it becomes what it is. The keeper prints `task INDEX TID` for each task, then `ready`, and
//! obeys lines on standard input: `poke I`, `release I`, `seize I`, `siginfo I`, `detach I`, answered by `ok` or `error`.
//! At the end of its input it thaws the cgroups that it was given, and kills and awaits its tasks: one that v1 holds
//! can't die. If the keeper dies the tasks die with it as soon as the kernel lets them.
//!
//! `zoo --in CGROUP-DIR exec PROGRAM ARG...` enters and becomes PROGRAM; `parent` instead of `exec` enters, and starts
//! PROGRAM as a child in the cgroup that it came from. `zoo --in CGROUP-DIR visit` stays outside and sends visitors until
//! the end of its input. With `--join PID` its children are in the PID namespace of PID, and `inside PROGRAM ARG...` runs
//! PROGRAM there with a /proc of that. `brief`, `reexec` and `rise` are programs that other tasks become, `serve DIR` and
//! `look FILE` serve a file system of FUSE there and ask about a file without end, `idle` is one that goes on until it is
//! ended, and `deaf` one that SIGTERM does not end. `headless FILE` ends its first thread, and another one lives on that adds a
//! byte to FILE a hundred times a second. With `--descriptors N` or `--ignore-children` what is executed has so few of them, or
//! has their ends ignored; with `--files N` it may not have more unless it may raise that, which `--and-no-more` takes from it,
//! with `--as-modes-say` the modes of files and directories hold for it as for a user, and with `--alone-as USER` it can have no
//! other process or thread.

mod fuse;
mod kind;
mod mayfly;
mod sys;

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdin, dup2_stdout, pipe2, write};

use fuse::Server;
use kind::{Kind, Life};
use sys::{Beats, Trap};

/// How long tasks may take to get into their states; an emulated machine is slow.
const SETTLING: Duration = Duration::from_secs(30);
/// How long they may take to die.
const DYING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// How long `headless` sleeps between two heartbeats.
const BEAT: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    match Plan::read(std::env::args_os().skip(1)).and_then(Plan::run) {
        Ok(code) => code,
        Err(error) => {
            // Whoever started it reads standard output; if nobody does, the code says it.
            let _ = writeln!(io::stdout(), "error {error}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for.
#[derive(Debug, Default)]
struct Plan {
    cgroups: Vec<PathBuf>,
    beats: Option<PathBuf>,
    pulses: Option<PathBuf>,
    comm: Option<String>,
    new_pid_namespace: bool,
    /// The PID namespace that children are in.
    joined: Option<File>,
    /// The number of the first child.
    pid: Option<i32>,
    /// Who executes.
    user: Option<u32>,
    words: Vec<OsString>,
}

impl Plan {
    fn read(args: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let mut plan = Self::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .ok_or_else(|| io::Error::other("an option without its value"))
            };
            match arg.to_str() {
                Some("--in") => plan.cgroups.push(value()?.into()),
                Some("--beats") => plan.beats = Some(value()?.into()),
                Some("--pulses") => plan.pulses = Some(value()?.into()),
                Some("--comm") => plan.comm = Some(value()?.to_string_lossy().into_owned()),
                Some("--pid") => {
                    let pid = value()?.to_string_lossy().parse();
                    plan.pid = Some(pid.map_err(io::Error::other)?);
                }
                Some("--pidns") => plan.new_pid_namespace = true,
                Some("--join") => {
                    let namespace = format!("/proc/{}/ns/pid", value()?.to_string_lossy());
                    plan.joined = Some(File::open(namespace)?);
                }
                Some("--descriptors") => {
                    let most = value()?.to_string_lossy().parse().map_err(io::Error::other)?;
                    let (_, highest) = getrlimit(Resource::RLIMIT_NOFILE)?;
                    setrlimit(Resource::RLIMIT_NOFILE, most, highest)?;
                }
                Some("--files") => {
                    let most = value()?.to_string_lossy().parse().map_err(io::Error::other)?;
                    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
                }
                Some("--and-no-more") => sys::give_up(&[sys::CAP_SYS_RESOURCE])?,
                Some("--as-modes-say") => sys::give_up(&[sys::CAP_DAC_OVERRIDE, sys::CAP_DAC_READ_SEARCH])?,
                Some("--alone-as") => {
                    let user = value()?.to_string_lossy().parse();
                    plan.user = Some(user.map_err(io::Error::other)?);
                    setrlimit(Resource::RLIMIT_NPROC, 1, 1)?;
                }
                Some("--ignore-children") => sys::ignore(Signal::SIGCHLD)?,
                _ => {
                    plan.words.push(arg);
                    plan.words.extend(args);
                    break;
                }
            }
        }
        Ok(plan)
    }

    fn run(self) -> io::Result<ExitCode> {
        if let Some(path) = &self.pulses {
            let highest = fs::read_to_string("/proc/sys/kernel/pid_max")?;
            let highest = highest.trim_end().parse().map_err(io::Error::other)?;
            sys::take_pulses(&shared(path)?, highest)?;
        }
        match self.words.first().and_then(|word| word.to_str()) {
            Some("brief") => {
                mayfly::live();
                Ok(ExitCode::SUCCESS)
            }
            Some("rise") => {
                match kind::rise(self.beats.as_deref(), self.words.get(1).map(OsString::as_os_str))? {}
            }
            Some(word @ ("deaf" | "idle")) => {
                if word == "deaf" {
                    sys::ignore(Signal::SIGTERM)?;
                }
                // From now on it is what it is called.
                prctl::set_name(&CString::new(word)?)?;
                loop {
                    nix::unistd::pause();
                }
            }
            Some("serve") => {
                self.enter()?;
                match fuse::serve_at(self.words.get(1).map(Path::new))? {}
            }
            Some("look") => {
                self.enter()?;
                // What it finds matters to nobody.
                loop {
                    let _ = self.words.get(1).map(fs::metadata);
                }
            }
            Some("reexec") => match mayfly::reexec(self.pulses.as_deref())? {},
            Some("visit") => {
                let visits = mayfly::visit(&self.cgroups, self.pulses.as_deref())?;
                say(&format!("visits {visits}"))?;
                Ok(ExitCode::SUCCESS)
            }
            Some("headless") => {
                let file = self.words.get(1).ok_or_else(|| io::Error::other("no file"))?;
                let mut file = File::options().append(true).create(true).open(file)?;
                thread::spawn(move || {
                    while file.write_all(b"\n").is_ok() {
                        thread::sleep(BEAT);
                    }
                });
                sys::exit_thread()
            }
            Some("exec") => {
                self.enter()?;
                Err(self.program()?.exec())
            }
            Some("inside") => self.inside(),
            Some("parent") => {
                let mut program = self.program()?;
                self.enter()?;
                // Through a second zoo, which goes back: the first one is the parent that stays inside.
                let status = program.status()?;
                Ok(ExitCode::from(
                    status
                        .code()
                        .and_then(|code| u8::try_from(code).ok())
                        .unwrap_or(255),
                ))
            }
            _ => self.keep(),
        }
    }

    /// The program to run; a `parent` runs it through another zoo that enters the roots of the same hierarchies.
    fn program(&self) -> io::Result<Command> {
        let words = self.words.get(1..).unwrap_or_default();
        let (program, rest) = words
            .split_first()
            .ok_or_else(|| io::Error::other("no program"))?;
        if self.words[0] != "parent" {
            let Some(user) = self.user else {
                let mut command = Command::new(program);
                command.args(rest);
                return Ok(command);
            };
            // By a descriptor: that user may not be let into the directory that it is in. It is open until the exec.
            let opened = File::open(program)?.into_raw_fd();
            let mut command = Command::new(format!("/proc/self/fd/{opened}"));
            command.args(rest).uid(user);
            return Ok(command);
        }
        let mut command = Command::new(std::env::current_exe()?);
        for dir in &self.cgroups {
            command.arg("--in").arg(root_of(dir));
        }
        command.arg("exec").args(words);
        Ok(command)
    }

    /// Runs the program in the PID namespace that is joined, with a /proc of that.
    fn inside(&self) -> io::Result<ExitCode> {
        if let Some(namespace) = &self.joined {
            setns(namespace, CloneFlags::CLONE_NEWPID)?;
        }
        let Some(child) = sys::fork()? else {
            let none = None::<&str>;
            let own = unshare(CloneFlags::CLONE_NEWNS)
                .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
                .and_then(|()| mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none));
            let error = own
                .map_err(io::Error::from)
                .and_then(|()| Err(self.program()?.exec()));
            let error: io::Result<()> = error;
            let _ = writeln!(io::stderr(), "zoo: inside: {error:?}"); // who reads it is the test
            sys::exit(1);
        };
        match waitpid(child, None)? {
            WaitStatus::Exited(_, code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(255))),
            _ => Ok(ExitCode::from(255)),
        }
    }

    fn enter(&self) -> io::Result<()> {
        self.cgroups.iter().try_for_each(|dir| enter(dir))
    }

    fn keep(self) -> io::Result<ExitCode> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        prctl::set_child_subreaper(true)?;
        let file = self.beats.as_deref().map(shared).transpose()?;
        let beats = Beats::map(file.as_ref())?;
        if self.new_pid_namespace {
            unshare(CloneFlags::CLONE_NEWPID)?;
        }
        if let Some(namespace) = &self.joined {
            setns(namespace, CloneFlags::CLONE_NEWPID)?;
        }
        let mut keeper = Keeper {
            beats,
            cgroups: self.cgroups.clone(),
            tasks: Vec::new(),
        };
        let end = keeper.admit_all(&self).and_then(|()| keeper.serve());
        let shut = keeper.shut();
        end.and(shut).map(|()| ExitCode::SUCCESS)
    }
}

/// One child, and the keeper's ends of what connects them.
#[derive(Debug)]
struct Animal {
    kind: Kind,
    pid: Pid,
    /// Where its first task's heartbeat is.
    slot: usize,
    poke: OwnedFd,
    trap: Option<Trap>,
    /// Whose answer it waits for.
    server: Option<Server>,
}

struct Keeper {
    beats: Beats,
    cgroups: Vec<PathBuf>,
    tasks: Vec<Animal>,
}

impl Keeper {
    fn admit_all(&mut self, plan: &Plan) -> io::Result<()> {
        for (index, word) in plan.words.iter().enumerate() {
            let kind: Kind = word.to_string_lossy().parse().map_err(io::Error::other)?;
            self.admit(kind, plan)?;
            let animal = self.tasks.last().ok_or_else(|| io::Error::other("nobody came"))?;
            for slot in animal.slot..animal.slot + animal.kind.tasks() {
                say(&format!("task {index} {}", self.tid(slot)))?;
            }
        }
        say("ready")
    }

    fn tid(&self, slot: usize) -> u64 {
        self.beats.slot(slot).tid.load(Ordering::SeqCst)
    }

    fn admit(&mut self, kind: Kind, plan: &Plan) -> io::Result<()> {
        let slot = self.beats.taken() + 1;
        let (poked, poke) = if kind == Kind::Socket {
            let (one, other) = UnixStream::pair()?;
            (OwnedFd::from(one), OwnedFd::from(other))
        } else {
            pipe2(OFlag::O_CLOEXEC)?
        };
        let (trap, swamp) = if kind == Kind::Dstate {
            let (from, to) = pipe2(OFlag::O_CLOEXEC)?;
            write(&to, b"x")?;
            let trap = Trap::set(from)?;
            let before = others_of_ours();
            trap.spring()?;
            self.await_that("the reader is in the trap", || {
                let mut new = others_of_ours().into_iter().filter(|tid| !before.contains(tid));
                new.any(|tid| syscall(tid) == Some(libc::SYS_read) && letter(tid) == Some('S'))
            })?;
            (Some(trap), Some(to))
        } else {
            (None, None)
        };
        let server = matches!(kind, Kind::Hung).then(Server::start).transpose()?;
        let forked = match plan.pid.filter(|_| self.tasks.is_empty()) {
            Some(pid) => sys::fork_as(pid)?,
            None => sys::fork()?,
        };
        let Some(pid) = forked else {
            let life = Life {
                beats: self.beats,
                poked,
                swamp,
                server,
                shown: plan.beats.clone(),
                freezers: self.cgroups.iter().map(|dir| freezer_of(dir)).collect(),
                pulses: plan.pulses.clone(),
            };
            drop(poke);
            let error = match become_one_of(plan).and_then(|()| kind.live(&life)) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            // Standard error is the test's: what goes wrong here is seen there, and by the keeper as a death.
            let _ = writeln!(io::stderr(), "zoo: {kind:?}: {error}");
            sys::exit(1);
        };
        let wanted = kind.tasks();
        let beats = self.beats;
        self.tasks.push(Animal {
            kind: kind.clone(),
            pid,
            slot,
            poke,
            trap,
            server,
        });
        self.await_that("its tasks are there", || {
            beats.taken() >= slot + wanted - 1 && {
                (slot..slot + wanted).all(|slot| beats.slot(slot).tid.load(Ordering::SeqCst) != 0)
            }
        })?;
        if plan.new_pid_namespace || plan.joined.is_some() {
            // It knows only its number in there.
            beats
                .slot(slot)
                .tid
                .store(u64::from(pid.as_raw().unsigned_abs()), Ordering::SeqCst);
        }
        self.await_that("it is in its state", || match &self.tasks.last() {
            Some(Animal {
                server: Some(server), ..
            }) => server.is_waited_for(),
            _ => is_so(&kind, pid, beats, slot),
        })
    }

    fn await_that(&self, what: &str, so: impl Fn() -> bool) -> io::Result<()> {
        let began = Instant::now();
        while !so() {
            // One that hangs would not show its letter.
            let dead = self
                .tasks
                .last()
                .is_some_and(|animal| animal.server.is_none() && letter(animal.pid.as_raw()) == Some('Z'));
            let dies_by_nature = self
                .tasks
                .last()
                .is_some_and(|animal| matches!(animal.kind, Kind::DeadLeader(_)));
            if began.elapsed() > SETTLING || (dead && !dies_by_nature) {
                let who = self
                    .tasks
                    .last()
                    .map(|animal| format!("{:?} {}", animal.kind, animal.pid));
                return Err(io::Error::other(format!(
                    "{}: not so: {what}",
                    who.unwrap_or_default()
                )));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Obeys until its input ends, and meanwhile collects whoever ends, as any parent should.
    fn serve(&self) -> io::Result<()> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        let deaths = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let stdin = io::stdin();
        loop {
            reap();
            let mut fds = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(deaths.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, PollTimeout::NONE)?;
            while deaths.read_signal()?.is_some() {}
            if !fds[0].any().unwrap_or(false) {
                continue;
            }
            let mut line = String::new();
            if stdin.lock().read_line(&mut line)? == 0 {
                return Ok(());
            }
            match self.obey(line.trim_end()) {
                Ok(()) => say("ok")?,
                Err(error) => say(&format!("error {}: {error}", line.trim_end()))?,
            }
        }
    }

    fn obey(&self, line: &str) -> io::Result<()> {
        let odd = || io::Error::other("not understood");
        let (word, index) = line.split_once(' ').ok_or_else(odd)?;
        let index: usize = index.parse().map_err(|_| odd())?;
        let animal = self.tasks.get(index).ok_or_else(odd)?;
        match word {
            "poke" if animal.kind == Kind::Futex => {
                sys::futex_wake(&self.beats.slot(animal.slot).futex);
                Ok(())
            }
            "poke" => write(&animal.poke, b"x").map(drop).map_err(io::Error::from),
            "release" => match (&animal.trap, &animal.server) {
                (Some(trap), _) => trap.release(),
                (None, Some(server)) => server.answer(),
                (None, None) => Err(odd()),
            },
            "seize" => {
                sys::seize(animal.pid)?;
                waitpid(animal.pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))?;
                Ok(())
            }
            "siginfo" => sys::siginfo(animal.pid),
            "detach" => sys::detach(animal.pid),
            _ => Err(odd()),
        }
    }

    /// Thaws, kills, awaits.
    fn shut(&self) -> io::Result<()> {
        let began = Instant::now();
        for dir in &self.cgroups {
            thaw_up(dir);
        }
        for animal in &self.tasks {
            if let Some(trap) = &animal.trap {
                // It was released before, then.
                let _ = trap.release();
            }
            if let Some(server) = &animal.server {
                let _ = server.answer(); // as above
            }
        }
        loop {
            for animal in &self.tasks {
                // It ended before, then.
                let _ = kill(animal.pid, Signal::SIGKILL);
            }
            // Orphans of theirs have come to the keeper.
            for pid in children_of_ours() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL); // as above
            }
            if reap() {
                return Ok(());
            }
            if began.elapsed() > DYING {
                return Err(io::Error::other("somebody does not die"));
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Collects whoever has ended; returns whether nobody is left.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => return false,
            Err(Errno::ECHILD) => return true,
            Ok(_) | Err(_) => {}
        }
    }
}

/// What a child does before it is what it is to be.
fn become_one_of(plan: &Plan) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    if let Some(comm) = &plan.comm {
        let comm = std::ffi::CString::new(comm.as_str())?;
        prctl::set_name(&comm)?;
    }
    plan.enter()
}

fn enter(dir: &Path) -> io::Result<()> {
    let file = dir.join("cgroup.procs");
    fs::write(&file, "0").map_err(|error| io::Error::other(format!("{}: {error}", file.display())))
}

fn freezer_of(dir: &Path) -> PathBuf {
    let v1 = dir.join("freezer.state");
    if v1.exists() {
        v1
    } else {
        dir.join("cgroup.freeze")
    }
}

/// Thaws a test's cgroup and what it lies in, up to the topmost one that a test made: only those have the prefix.
fn thaw_up(dir: &Path) {
    for above in dir
        .ancestors()
        .filter(|above| above.to_string_lossy().contains("/iceaxe-test-"))
    {
        for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = above.join(file);
            if file.exists() {
                // It was removed meanwhile, then.
                let _ = fs::write(file, value);
            }
        }
    }
}

/// The root of the hierarchy that `dir` is in: the last directory upwards that has its files.
fn root_of(dir: &Path) -> &Path {
    let inside = |dir: &&Path| dir.join("cgroup.procs").exists();
    dir.ancestors().take_while(inside).last().unwrap_or(dir)
}

fn is_so(kind: &Kind, pid: Pid, beats: Beats, first: usize) -> bool {
    let slot = beats.slot(first);
    let beating = |slots: std::ops::Range<usize>| {
        slots
            .into_iter()
            .all(|index| kind::beats(&beats.slot(index).beats))
    };
    let shows = kind.look().is_none_or(|(wanted, calls)| {
        letter(pid.as_raw()) == Some(wanted)
            && (calls.is_empty() || syscall(pid.as_raw()).is_some_and(|call| calls.contains(&call)))
    });
    shows
        && match kind {
            Kind::Zombie => letter_of(slot.word.load(Ordering::SeqCst)) == Some('Z'),
            Kind::DeadLeader(n) => letter(pid.as_raw()) == Some('Z') && beating(first..first + n),
            Kind::Threads(n) => beating(first..first + n),
            Kind::Vfork => beating(first + 1..first + 2),
            kind if kind.look().is_none() => beating(first..first + 1),
            _ => true,
        }
}

fn letter_of(pid: u64) -> Option<char> {
    letter(i32::try_from(pid).ok()?)
}

fn letter(tid: i32) -> Option<char> {
    let text = fs::read(format!("/proc/{tid}/task/{tid}/stat")).ok()?; // it is gone
    String::from_utf8_lossy(&text).rsplit(") ").next()?.chars().next()
}

/// The number of the system call that a task is in.
fn syscall(tid: i32) -> Option<i64> {
    let text = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?; // it is gone
    text.split(' ').next()?.parse().ok()
}

/// The keeper's own threads but the first.
fn others_of_ours() -> Vec<i32> {
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let listed = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    listed
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&tid| tid != me)
        .collect()
}

/// The keeper's children and those that it adopted.
fn children_of_ours() -> Vec<i32> {
    let me = std::process::id();
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: BTreeMap<i32, u32> = pids.filter_map(|pid| Some((pid, parent_of(pid)?))).collect();
    parents
        .into_iter()
        .filter(|(_, parent)| *parent == me)
        .map(|(pid, _)| pid)
        .collect()
}

/// By `status`, which one that hangs shows too.
fn parent_of(pid: i32) -> Option<u32> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?; // it is gone
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// A file that others have open too, or will have.
fn shared(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}
