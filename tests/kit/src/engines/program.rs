//! Programs that a test starts: asked for an answer within a limit, or kept running beside it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::PROMPT;

const PAUSE: Duration = Duration::from_millis(1);

/// A program at work. It ends with its handle, and with the test's thread.
#[derive(Debug)]
pub struct Program {
    child: Child,
    out: File,
    err: File,
}

/// What a program said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    /// From when its end was waited for.
    pub took: Duration,
}

/// How a program with a limit ended.
#[derive(Debug)]
pub enum Asked {
    Answered(Ended),
    /// It did not end, and was killed.
    Hung,
}

impl Program {
    /// Starts `command` under a wrapper that has it killed when this thread ends, however it does. Its output goes
    /// into files: a pipe would be held open by whatever it leaves behind.
    #[track_caller]
    pub fn start(command: &Command) -> Self {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let mut bound = Command::new("setpriv");
        bound
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(key, value),
                None => bound.env_remove(key),
            };
        }
        bound
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(err.try_clone().unwrap());
        let child = bound.spawn().unwrap_or_else(|error| panic!("{bound:?}: {error}"));
        Self { child, out, err }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        // It has ended already, then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it ends within `limit`.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let began = Instant::now();
        while self.is_running() {
            if began.elapsed() > limit {
                return false;
            }
            thread::sleep(PAUSE);
        }
        true
    }

    /// What it has said so far on standard error.
    pub fn errors(&self) -> String {
        text(&self.err)
    }

    /// Waits for its end, but not for longer than `limit`.
    pub fn answer(mut self, limit: Duration) -> Asked {
        let began = Instant::now();
        if !self.ends_within(limit) {
            return Asked::Hung;
        }
        let took = began.elapsed();
        let status = self.child.wait().unwrap();
        Asked::Answered(Ended {
            status,
            out: text(&self.out),
            err: text(&self.err),
            took,
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Asked {
    /// The answer of a program that must have one.
    #[track_caller]
    pub fn answered(self) -> Ended {
        match self {
            Self::Answered(ended) => ended,
            Self::Hung => panic!("it did not end"),
        }
    }

    pub fn hung(&self) -> bool {
        matches!(self, Self::Hung)
    }
}

impl Ended {
    /// Its exit code; `None` where a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Checks that it ended well, and returns what it printed.
    #[track_caller]
    pub fn well(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.out.trim_end().to_owned()
    }

    /// Checks that it failed, and said so with this word in it, wherever; docker says some errors on its output.
    #[track_caller]
    pub fn failed(&self, word: &str) {
        let said = self.err.contains(word) || self.out.contains(word);
        assert!(!self.status.success() && said, "no \"{word}\": {self:?}");
    }

    /// The one JSON object that it printed.
    #[track_caller]
    pub fn object(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that iceaxe ended with this code, and that its one report says so and names this outcome.
    #[track_caller]
    pub fn is(&self, exit: i32, outcome: &str) -> Value {
        let report = self.object();
        let found = (self.code(), report["exit"].as_i64(), report["outcome"].as_str());
        assert_eq!(
            found,
            (Some(exit), Some(i64::from(exit)), Some(outcome)),
            "{self:?}"
        );
        report
    }

    /// Checks that iceaxe ended with this code, at once, and that the reason has all these words.
    #[track_caller]
    pub fn refuses(&self, exit: i32, words: &[&str]) {
        assert_eq!(self.code(), Some(exit), "{self:?}");
        assert!(self.took < PROMPT, "{self:?}");
        let missing: Vec<&&str> = words.iter().filter(|word| !self.err.contains(**word)).collect();
        assert!(missing.is_empty(), "without {missing:?}: {self:?}");
    }
}

/// What is in a file that has no name, from its beginning; its offset is the program's, who writes on at it.
fn text(file: &File) -> String {
    let bytes = fs::read(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// When a process started, in ticks since the machine did; with its number this is one process and no other.
pub fn starttime(pid: i32) -> Option<u64> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?; // it is gone
    String::from_utf8_lossy(&text)
        .rsplit_once(") ")?
        .1
        .split(' ')
        .nth(19)?
        .parse()
        .ok()
}
