//! The iceaxe command, never waited for longer than a hard limit.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use super::{Cgroup, PATIENCE, PAUSE, eventually, parent_of, program};

/// No command of these tests may take longer.
const HARD_LIMIT: Duration = Duration::from_secs(90);

/// A command that is being put together.
#[derive(Debug)]
pub struct Iceaxe {
    args: Vec<OsString>,
    input: Vec<u8>,
    output: Output,
    on_a_terminal: bool,
    inside: Vec<OsString>,
}

#[derive(Debug)]
enum Output {
    Kept,
    Closed,
    Heard,
    Pipe(PipeWriter),
}

/// `iceaxe VERB`.
pub fn iceaxe(verb: &str) -> Iceaxe {
    Iceaxe {
        args: vec![verb.into()],
        input: Vec::new(),
        output: Output::Kept,
        on_a_terminal: false,
        inside: Vec::new(),
    }
}

/// `iceaxe freeze CGROUP --json`, with patience for a slow machine.
pub fn freeze(cgroup: &Cgroup) -> Iceaxe {
    iceaxe("freeze")
        .arg(cgroup.target())
        .arg("--json")
        .arg("--timeout=30s")
}

/// `iceaxe thaw CGROUP --json`, with patience for a slow machine.
pub fn thaw(cgroup: &Cgroup) -> Iceaxe {
    iceaxe("thaw")
        .arg(cgroup.target())
        .arg("--json")
        .arg("--timeout=30s")
}

/// `iceaxe status CGROUP --json`, answered: the object.
#[track_caller]
pub fn status(cgroup: &Cgroup) -> Value {
    let run = iceaxe("status").arg(cgroup.target()).arg("--json").run();
    assert_eq!(run.code, Some(0), "{run:?}");
    let mut lines = run.json();
    assert_eq!(lines.len(), 1, "{run:?}");
    lines.remove(0)
}

impl Iceaxe {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// The iceaxe program itself, as a word: it is the one program that is anywhere.
    pub fn itself(self) -> Self {
        self.arg(program("iceaxe"))
    }

    /// Another time limit than the patient one.
    pub fn timeout(mut self, limit: &str) -> Self {
        self.args
            .retain(|arg| !arg.to_string_lossy().starts_with("--timeout="));
        self.arg(format!("--timeout={limit}"))
    }

    /// What it reads.
    pub fn input(mut self, input: impl AsRef<[u8]>) -> Self {
        self.input = input.as_ref().to_owned();
        self
    }

    /// Nobody reads what it prints: its standard output is a pipe without a reader.
    pub fn unheard(mut self) -> Self {
        self.output = Output::Closed;
        self
    }

    /// What it prints goes here.
    pub fn into_pipe(mut self, pipe: PipeWriter) -> Self {
        self.output = Output::Pipe(pipe);
        self
    }

    /// Its standard error is a terminal.
    pub fn on_a_terminal(mut self) -> Self {
        self.on_a_terminal = true;
        self
    }

    /// Started by this command line, which ends where iceaxe's own begins.
    pub fn through<S: AsRef<OsStr>>(mut self, prefix: &[S]) -> Self {
        self.inside = prefix.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Started with at most so many open files, and without the right to have more.
    pub fn with_files(self, most: u32) -> Self {
        let (zoo, most) = (program("zoo"), most.to_string());
        let few: [&OsStr; 5] = [
            zoo.as_ref(),
            "--files".as_ref(),
            most.as_ref(),
            "--and-no-more".as_ref(),
            "exec".as_ref(),
        ];
        self.through(&few)
    }

    #[track_caller]
    pub fn start(self) -> Running {
        let mut words = self.inside;
        words.push(program("iceaxe").into_os_string());
        words.extend(self.args);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let is_heard = matches!(self.output, Output::Heard);
        match self.output {
            Output::Kept | Output::Heard => command.stdout(Stdio::piped()),
            Output::Pipe(writer) => command.stdout(writer),
            Output::Closed => {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                command.stdout(writer)
            }
        };
        let mut terminal = None;
        if self.on_a_terminal {
            let (ours, theirs) = open_terminal();
            command.stderr(theirs);
            terminal = Some(ours);
        }
        let mut child = command.spawn().unwrap();
        drop(command); // and with it this process's own handle on the terminal, which would keep it from ending
        // What it does not read it need not read.
        let _ = child.stdin.take().unwrap().write_all(&self.input);
        let out = if is_heard {
            None
        } else {
            child.stdout.take().map(collected)
        };
        let err = terminal
            .map(collected)
            .or_else(|| child.stderr.take().map(collected));
        Running {
            child,
            out,
            err,
            words,
        }
    }

    #[track_caller]
    pub fn run(self) -> Run {
        self.start().end()
    }

    /// Starts it to be heard line by line.
    #[track_caller]
    pub fn listen(mut self) -> Heard {
        self.output = Output::Heard;
        let mut running = self.start();
        let (to, lines) = mpsc::channel();
        let out = BufReader::new(running.child.stdout.take().unwrap());
        thread::spawn(move || {
            // Nobody listens any more: the pipe is closed.
            out.lines()
                .map_while(Result::ok)
                .all(|line| to.send(line).is_ok())
        });
        Heard { running, lines }
    }

    /// Runs it on one target, and checks code and outcome of its one line.
    #[track_caller]
    pub fn ends(self, exit: i32, outcome: &str) -> Value {
        self.run().is(exit, outcome)
    }
}

/// Both ends of a new terminal: what is written to the second is read from the first.
fn open_terminal() -> (File, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let mut how = File::options();
    how.read(true).write(true).custom_flags(libc::O_NOCTTY);
    let theirs = how.open(OsStr::from_bytes(name.as_bytes())).unwrap();
    (File::from(ours), theirs)
}

/// What is read of a pipe as it comes.
#[derive(Debug)]
struct Collected {
    text: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collected {
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap()).into_owned()
    }

    fn whole(self) -> String {
        let Self { text, thread } = self;
        thread.join().unwrap();
        let text = text.lock().unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn collected(mut from: impl Read + Send + 'static) -> Collected {
    let text = Arc::default();
    let to: Arc<Mutex<Vec<u8>>> = Arc::clone(&text);
    let thread = thread::spawn(move || {
        let mut piece = [0; 1 << 16];
        // What came before an error is what there is.
        while let Ok(count @ 1..) = from.read(&mut piece) {
            to.lock().unwrap().extend(&piece[..count]);
        }
    });
    Collected { text, thread }
}

/// A command at work. It ends with the test.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Option<Collected>,
    err: Option<Collected>,
    words: Vec<OsString>,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// The child in which it does its work: its first.
    #[track_caller]
    pub fn worker(&self) -> i32 {
        let mut found = None;
        eventually("iceaxe has a child", || {
            found = self.children().first().copied();
            found.is_some()
        });
        found.unwrap()
    }

    /// Its children, by their numbers.
    pub fn children(&self) -> Vec<i32> {
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut children: Vec<i32> = pids.filter(|&pid| parent_of(pid) == Some(self.pid())).collect();
        children.sort_unstable();
        children
    }

    /// What it has written to standard error so far.
    pub fn said(&self) -> String {
        self.err.as_ref().map(Collected::so_far).unwrap_or_default()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Run {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < HARD_LIMIT, "it does not end: {:?}", self.words);
            thread::sleep(PAUSE);
        };
        let text = |from: Option<Collected>| from.map(Collected::whole).unwrap_or_default();
        Run {
            code: status.code(),
            signal: status.signal(),
            took: began.elapsed(),
            out: text(self.out.take()),
            err: text(self.err.take()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that goes on, and what it says.
#[derive(Debug)]
pub struct Heard {
    pub running: Running,
    lines: Receiver<String>,
}

impl Heard {
    /// Its next line, which is JSON.
    #[track_caller]
    pub fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("{error}: {:?} says no more", self.running.words));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The next of its lines that is so.
    #[track_caller]
    pub fn next_that(&self, is_so: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let line = self.next();
            if is_so(&line) {
                return line;
            }
            assert!(began.elapsed() < PATIENCE, "not said: the last was {line}");
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(self) -> Run {
        let mut run = self.running.end();
        run.out = self.lines.iter().map(|line| line + "\n").collect();
        run
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// From when its end was waited for.
    pub took: Duration,
    pub out: String,
    pub err: String,
}

impl Run {
    /// Its JSON lines.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parsed = self.out.lines().map(serde_json::from_str);
        parsed
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the code and the outcome of its one line, and returns the line.
    #[track_caller]
    pub fn is(&self, exit: i32, outcome: &str) -> Value {
        let mut lines = self.json();
        assert_eq!(lines.len(), 1, "{self:?}");
        let report = lines.remove(0);
        let found = (self.code, report["exit"].as_i64(), report["outcome"].as_str());
        assert_eq!(
            found,
            (Some(exit), Some(i64::from(exit)), Some(outcome)),
            "{self:?}"
        );
        report
    }
}
