//! The zoo from outside: its keeper's process, and its tasks by their numbers.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use super::{Cgroup, PATIENCE, PAUSE, eventually, memory_file, stands_still};

/// The length of a slot of the heartbeat file: task, beats, word, futex.
const SLOT: u64 = 32;

/// A zoo's first process. It stays outside of the cgroups and ends its tasks when its input does.
#[derive(Debug)]
pub(super) struct Keeper {
    child: Mutex<Child>,
    input: Mutex<Option<ChildStdin>>,
    output: Mutex<BufReader<ChildStdout>>,
    beats: File,
}

impl Keeper {
    fn line(&self) -> String {
        let mut line = String::new();
        self.output.lock().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn order(&self, order: &str) -> String {
        writeln!(self.input.lock().unwrap().as_ref().unwrap(), "{order}").unwrap();
        self.line()
    }

    /// Ends it, and its tasks with it. Their cgroups must be thawed.
    pub(super) fn close(&self) {
        drop(self.input.lock().unwrap().take());
        let began = Instant::now();
        let mut child = self.child.lock().unwrap();
        while let Ok(None) = child.try_wait() {
            if began.elapsed() > PATIENCE {
                // Its tasks die with it.
                let _ = child.kill();
                let _ = child.wait();
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Tasks in states of their own, in the order of their kinds.
#[derive(Debug)]
pub struct Zoo {
    keeper: Arc<Keeper>,
    /// Of each kind the tasks, and the slot of the first one.
    tasks: Vec<(Vec<i32>, u64)>,
}

impl Zoo {
    #[track_caller]
    pub(super) fn open(
        program: &Path,
        cgroups: &[&Cgroup],
        options: &[&str],
        kinds: &[&str],
    ) -> (Self, Arc<Keeper>) {
        let beats = memory_file();
        let mut command = Command::new(program);
        for cgroup in cgroups {
            command.arg("--in").arg(&cgroup.dir);
        }
        command.arg("--beats").arg(beats.path()).args(options).args(kinds);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keeper = Arc::new(Keeper {
            input: Mutex::new(child.stdin.take()),
            output: Mutex::new(BufReader::new(child.stdout.take().unwrap())),
            child: Mutex::new(child),
            beats: beats.reopen().unwrap(),
        });
        let mut tasks: Vec<(Vec<i32>, u64)> = kinds.iter().map(|_| (Vec::new(), 0)).collect();
        let mut slot = 1;
        loop {
            let line = keeper.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["task", index, tid] => {
                    let entry = &mut tasks[index.parse::<usize>().unwrap()];
                    if entry.0.is_empty() {
                        entry.1 = slot;
                    }
                    entry.0.push(tid.parse().unwrap());
                    slot += 1;
                }
                ["ready"] => break,
                _ => {
                    keeper.close();
                    panic!("the zoo does not open: {line:?}, kinds {kinds:?}");
                }
            }
        }
        (
            Self {
                keeper: Arc::clone(&keeper),
                tasks,
            },
            keeper,
        )
    }

    /// The first task of a kind.
    pub fn tid(&self, index: usize) -> i32 {
        self.tasks[index].0[0]
    }

    /// All tasks of a kind.
    pub fn tids(&self, index: usize) -> &[i32] {
        &self.tasks[index].0
    }

    /// All tasks.
    pub fn all(&self) -> Vec<i32> {
        self.tasks.iter().flat_map(|(tids, _)| tids.clone()).collect()
    }

    /// The process that keeps them.
    pub fn keeper(&self) -> i32 {
        i32::try_from(self.keeper.child.lock().unwrap().id()).unwrap()
    }

    fn read(&self, slot: u64, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.keeper
            .beats
            .read_exact_at(&mut bytes, slot * SLOT + word * 8)
            .unwrap();
        u64::from_ne_bytes(bytes)
    }

    /// The heartbeat of the task number `nth` of a kind.
    pub fn beats_of(&self, index: usize, nth: usize) -> u64 {
        self.read(self.tasks[index].1 + nth as u64, 1)
    }

    /// The heartbeat of a kind's first task.
    pub fn beats(&self, index: usize) -> u64 {
        self.beats_of(index, 0)
    }

    /// What a kind has to say besides.
    pub fn word(&self, index: usize) -> u64 {
        self.read(self.tasks[index].1, 2)
    }

    /// Waits until each task of a kind has beaten again.
    #[track_caller]
    pub fn goes_on(&self, index: usize) {
        for nth in 0..self.tasks[index].0.len() {
            let before = self.beats_of(index, nth);
            eventually(&format!("task {nth} of kind {index} goes on"), || {
                self.beats_of(index, nth) > before
            });
        }
    }

    /// Watches for a while that no task of a kind beats.
    #[track_caller]
    pub fn stands(&self, index: usize) {
        let sum = || {
            (0..self.tasks[index].0.len())
                .map(|nth| self.beats_of(index, nth))
                .sum()
        };
        stands_still(&format!("kind {index}"), sum);
    }

    #[track_caller]
    fn obeyed(&self, order: &str, index: usize) {
        assert_eq!(self.keeper.order(&format!("{order} {index}")), "ok", "{order}");
    }

    /// Gives a waiting task what it waits for.
    #[track_caller]
    pub fn poke(&self, index: usize) {
        self.obeyed("poke", index);
    }

    /// Gives a waiting task what it waits for, and waits until it has taken it.
    #[track_caller]
    pub fn answers(&self, index: usize) {
        let before = self.beats(index);
        self.poke(index);
        eventually(&format!("kind {index} answers"), || self.beats(index) > before);
    }

    /// Ends an uninterruptible sleep.
    #[track_caller]
    pub fn release(&self, index: usize) {
        self.obeyed("release", index);
    }

    /// The same for a keeper that is stopped: it obeys when it goes on.
    #[track_caller]
    pub fn release_later(&self, index: usize) {
        writeln!(
            self.keeper.input.lock().unwrap().as_ref().unwrap(),
            "release {index}"
        )
        .unwrap();
    }

    /// Makes the keeper its tracer and stops it.
    #[track_caller]
    pub fn seize(&self, index: usize) {
        self.obeyed("seize", index);
    }

    /// Asks as its tracer what stopped it.
    #[track_caller]
    pub fn siginfo(&self, index: usize) {
        self.obeyed("siginfo", index);
    }

    /// Lets a tracee go.
    #[track_caller]
    pub fn detach(&self, index: usize) {
        self.obeyed("detach", index);
    }
}
