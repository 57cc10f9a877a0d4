//! Holds and leases whose processes are killed at any point, and whose disk is filled: what was frozen comes back, what
//! somebody else had frozen stays so, and nothing is left over. The kernel's files, the records' directory and the tasks'
//! own heartbeats say so.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kit::Hierarchy;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;
use crate::command::{limited, output};
use crate::janitor::Janitor;
use crate::stats::{Times, ms};
use crate::workload::Workload;

/// Who works at one time: what a round does most is to wait.
const WORKERS: usize = 6;
const TASKS: [&str; 2] = ["doze", "threads:2"];
/// How much later than its time a thing may come back.
const LATE: Duration = Duration::from_secs(1);
/// How much later records and processes may still be there, which hold nothing: a process that leaves its cgroup waits for
/// whoever changes any.
const LEFT: Duration = Duration::from_secs(10);
/// How long a program may take that is not killed, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether it has come back.
const LOOK: Duration = Duration::from_millis(3);
/// Unkilled runs of a worker by which it knows how long one takes.
const TRIALS: u32 = 3;
/// In so many parts of that time, and a quarter more, one may be killed.
const PARTS: u64 = 1000;
/// So many failed rounds of a set tell enough.
const ENOUGH: usize = 10;
/// By this the processes of a round are known.
const MARK: &str = "ICEAXE_SOAK";
/// The room for records that can be filled.
const ROOM: &str = "32k";

/// What a round does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Hold,
    Lease,
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victims {
    Nobody,
    /// The process that was started.
    Started,
    /// The process that does the work for it.
    Worker,
    /// Both of them.
    Both,
    /// These and the guard; `recover` is to make up for it.
    All,
}

/// A set of rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Hold,
    Lease,
    Recover,
    FullDisk,
}

impl Set {
    const ALL: [(Self, u32); 4] = [
        (Self::Hold, 1000),
        (Self::Lease, 1000),
        (Self::Recover, 200),
        (Self::FullDisk, 200),
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Lease => "freeze --for",
            Self::Recover => "guard killed too",
            Self::FullDisk => "full disk",
        }
    }
}

/// Numbers that look like chance and come again with the same seed (Vigna's splitmix64).
struct Dice(u64);

impl Dice {
    fn of(seed: u64, set: Set, round: u32) -> Self {
        let mut dice = Self(seed ^ (set as u64) << 56 ^ u64::from(round) << 16);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn one_of(&mut self, most: u64) -> bool {
        self.below(most) == 0
    }
}

/// What is done in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Round {
    set: Set,
    number: u32,
    act: Act,
    victims: Victims,
    /// How long it is frozen for.
    lasting: Duration,
    /// When the victims are killed, in parts of the time that an unkilled one takes.
    at: u64,
    /// When the disk is filled, in parts of a millisecond after the record is there.
    filled_at: u64,
    /// Whether somebody else had frozen the first one before.
    is_theirs: bool,
    targets: usize,
}

impl Round {
    fn draw(seed: u64, set: Set, number: u32) -> Self {
        let mut dice = Dice::of(seed, set, number);
        let act = match set {
            Set::Hold => Act::Hold,
            Set::Lease => Act::Lease,
            Set::Recover | Set::FullDisk if dice.one_of(2) => Act::Hold,
            Set::Recover | Set::FullDisk => Act::Lease,
        };
        let victims = match (set, dice.below(10)) {
            (Set::Recover, _) => Victims::All,
            (_, 0) => Victims::Nobody,
            (_, 1..=3) => Victims::Started,
            (_, 4..=5) => Victims::Worker,
            _ => Victims::Both,
        };
        let lasting = match act {
            Act::Hold => dice.below(20),
            Act::Lease => 200 + dice.below(600),
        };
        Self {
            set,
            number,
            act,
            victims,
            lasting: Duration::from_millis(lasting),
            at: dice.below(PARTS + PARTS / 4),
            filled_at: dice.below(4000),
            is_theirs: dice.one_of(4),
            targets: if dice.one_of(3) { 2 } else { 1 },
        }
    }
}

impl Round {
    /// How long it waits for its command.
    fn runs_for(&self) -> Duration {
        match self.act {
            Act::Hold => self.lasting,
            Act::Lease => Duration::ZERO,
        }
    }
}

/// How far a round had come when its victims were killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    Unkilled,
    Unrecorded,
    Unasked,
    Asked,
    Ended,
}

/// What was seen of a set.
#[derive(Debug, Default)]
struct Seen {
    rounds: u32,
    points: BTreeMap<Point, u32>,
    /// From when it should have come back to when it had.
    late: Times,
    failures: Vec<String>,
}

/// Who does rounds, with cgroups of its own.
struct Worker {
    iceaxe: PathBuf,
    workloads: Vec<Workload>,
    elsewhere: Option<Elsewhere>,
    /// How long one takes that is not killed, its command left out.
    takes: Duration,
}

/// Does so many of these rounds, of 2,000 of the whole soak, in one hierarchy.
pub(crate) fn soak(
    hierarchy: Hierarchy,
    iceaxe: &Path,
    zoo: &Path,
    seed: u64,
    share: impl Fn(u32) -> u32,
) -> Result<Vec<String>> {
    let version = hierarchy.word();
    let mut failures = Vec::new();
    let mut table = format!(
        "{:<18} {:>6} {:>6} {:>9} {:>9} {:>6} {:>6} {:>6} {:>9} {:>9} {:>9}\n",
        version,
        "rounds",
        "failed",
        "unkilled",
        "unwritten",
        "unasked",
        "asked",
        "ended",
        "late, ms",
        "95%",
        "longest"
    );
    for (set, rounds) in Set::ALL {
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(Worker::new(hierarchy, iceaxe, zoo, set)?);
        }
        let seen = rounds_of(set, share(rounds), seed, workers)?;
        let count = |point| seen.points.get(&point).copied().unwrap_or_default();
        table += &format!(
            "{:<18} {:>6} {:>6} {:>9} {:>9} {:>6} {:>6} {:>6} {:>9} {:>9} {:>9}\n",
            set.name(),
            seen.rounds,
            seen.failures.len(),
            count(Point::Unkilled),
            count(Point::Unrecorded),
            count(Point::Unasked),
            count(Point::Asked),
            count(Point::Ended),
            ms(seen.late.median()),
            ms(seen.late.percentile(95)),
            ms(seen.late.max()),
        );
        failures.extend(seen.failures);
    }
    print!("{table}");
    let left = processes(iceaxe, None);
    if !left.is_empty() {
        failures.push(format!("{version}: these are left running: {left:?}"));
    }
    Ok(failures)
}

fn rounds_of(set: Set, rounds: u32, seed: u64, workers: Vec<Worker>) -> Result<Seen> {
    let next = AtomicU32::new(0);
    let seen = Mutex::new(Seen::default());
    let work = |mut worker: Worker| -> Result<Worker> {
        worker.try_out(set, seed)?;
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= rounds {
                return Ok(worker);
            }
            let round = Round::draw(seed, set, number);
            let ended = worker.round(&round);
            if ended.is_err() {
                worker.clear_up();
            }
            // Nobody panics with it.
            let Ok(mut seen) = seen.lock() else {
                return Err("a worker panicked".to_owned());
            };
            seen.rounds += 1;
            match ended {
                Ok((point, late)) => {
                    *seen.points.entry(point).or_default() += 1;
                    seen.late.push(late);
                }
                Err(error) => {
                    let target = worker.workloads[0].target();
                    let target = target.display();
                    println!("seed {seed}: {round:?}: {target}: {error}");
                    seen.failures
                        .push(format!("seed {seed}: {} {number}: {target}: {error}", set.name()));
                    if seen.failures.len() >= ENOUGH {
                        next.store(rounds, Ordering::SeqCst);
                    }
                }
            }
        }
    };
    // The tasks die with the thread that started them: they are made and dropped in this one.
    let ended: Vec<Result<Worker>> = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(|| work(worker)))
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(ended) => ended,
            Err(_) => Err("a worker panicked".to_owned()),
        });
        joined.collect()
    });
    ended.into_iter().collect::<Result<Vec<_>>>()?;
    seen.into_inner().map_err(|_| "a worker panicked".to_owned())
}

impl Worker {
    fn new(hierarchy: Hierarchy, iceaxe: &Path, zoo: &Path, set: Set) -> Result<Self> {
        let open = || Workload::open(hierarchy, zoo, &TASKS);
        Ok(Self {
            iceaxe: iceaxe.to_owned(),
            workloads: vec![open()?, open()?],
            elsewhere: (set == Set::FullDisk).then(Elsewhere::new).transpose()?,
            takes: Duration::ZERO,
        })
    }

    /// Learns how long an unkilled one takes.
    fn try_out(&mut self, set: Set, seed: u64) -> Result<()> {
        for number in 0..TRIALS {
            let round = Round {
                victims: Victims::Nobody,
                ..Round::draw(!seed, set, number)
            };
            let start = Instant::now();
            let mut child = self
                .command(&round, "trial")
                .spawn()
                .map_err(|error| error.to_string())?;
            child.wait().map_err(|error| error.to_string())?;
            let own = start.elapsed().saturating_sub(round.runs_for());
            self.takes = if number == 0 { own } else { self.takes.min(own) };
            for workload in &self.workloads {
                output(
                    limited(LIMIT, &self.iceaxe)
                        .args(self.root())
                        .arg("thaw")
                        .arg(workload.target()),
                )?;
            }
        }
        Ok(())
    }

    fn root(&self) -> Vec<PathBuf> {
        let root = self.elsewhere.as_ref().map(|elsewhere| elsewhere.dir.clone());
        root.map(|root| vec!["--root".into(), root]).unwrap_or_default()
    }

    fn records_dir(&self) -> PathBuf {
        let root = self
            .elsewhere
            .as_ref()
            .map_or(Path::new("/"), |elsewhere| &elsewhere.dir);
        root.join("run/iceaxe")
    }

    fn command(&self, round: &Round, mark: &str) -> Command {
        let mut command = Command::new(&self.iceaxe);
        command.env(MARK, mark).args(self.root());
        match round.act {
            Act::Hold => command.args(["hold", "--timeout=30s"]),
            Act::Lease => command.args(["freeze", "--timeout=30s"]),
        };
        if round.act == Act::Lease {
            command.arg(format!("--for={}ms", round.lasting.as_millis()));
        }
        command.args(
            self.workloads[..round.targets]
                .iter()
                .map(|workload| workload.target()),
        );
        if round.act == Act::Hold {
            command.args(["--", "sleep", &format!("{:.3}", round.lasting.as_secs_f64())]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Does one round; how far it had come, and how much later than it should it came back.
    fn round(&mut self, round: &Round) -> Result<(Point, Duration)> {
        let mark = format!(
            "{}-{:?}-{}",
            self.workloads[0].target().display(),
            round.set,
            round.number
        );
        if round.is_theirs {
            self.workloads[0].ask();
        }
        let start = Instant::now();
        let mut command = self.command(round, &mark);
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot run iceaxe: {error}"))?;
        let (point, victims) = self.interfere(round, &mark, start, &mut child)?;
        let said = ended(&mut child)?;
        let end = Instant::now();
        if round.victims == Victims::Nobody && round.set != Set::FullDisk && said.code != Some(0) {
            return Err(format!("not killed, {said}"));
        }
        let mut due = match round.act {
            Act::Hold => end,
            Act::Lease => end + round.lasting,
        };
        if round.victims == Victims::All {
            self.recover(&victims)?;
            due = due.max(Instant::now());
        }
        let back = self
            .wait(round, &mark, due)
            .map_err(|error| format!("{error}; {said}"))?;
        let is_early = back.duration_since(start) < round.lasting;
        if is_early && round.act == Act::Lease && said.code == Some(0) && !round.is_theirs {
            return Err(format!(
                "thawed {} ms after its start, before its time",
                ms(back - start)
            ));
        }
        if round.is_theirs {
            self.workloads[0].thaw();
        }
        self.workloads.iter().try_for_each(Workload::goes_on)?;
        if let Some(elsewhere) = &self.elsewhere {
            elsewhere.empty()?;
        }
        Ok((point, back.saturating_duration_since(due)))
    }

    /// Fills the disk and kills, each at its time.
    fn interfere(
        &mut self,
        round: &Round,
        mark: &str,
        start: Instant,
        child: &mut Child,
    ) -> Result<(Point, Vec<u32>)> {
        let takes = self.takes + round.runs_for();
        let kill_at = start + takes.mul_f64(round.at as f64 / PARTS as f64);
        if round.victims == Victims::All || self.elsewhere.is_some() {
            // The record first.
            while self.records(self.workloads.len())?.is_empty()
                && !has_ended(child)?
                && start.elapsed() < LIMIT
            {
                thread::sleep(Duration::from_micros(100));
            }
        }
        if let Some(elsewhere) = &self.elsewhere {
            thread::sleep(Duration::from_micros(round.filled_at));
            elsewhere.fill()?;
        }
        if round.victims == Victims::Nobody {
            return Ok((Point::Unkilled, Vec::new()));
        }
        thread::sleep(kill_at.saturating_duration_since(Instant::now()));
        let started = child.id();
        let mut victims = vec![started];
        if round.victims != Victims::Started {
            send(Signal::SIGSTOP, &victims);
            victims.extend(match round.victims {
                Victims::Worker | Victims::Both => children_of(started, &self.iceaxe),
                _ => processes(&self.iceaxe, Some(mark)),
            });
            send(Signal::SIGSTOP, &victims);
        }
        let point = if has_ended(child)? {
            Point::Ended
        } else if self.asks(round) {
            Point::Asked
        } else if self.records(round.targets)?.is_empty() {
            Point::Unrecorded
        } else {
            Point::Unasked
        };
        if round.victims == Victims::Worker {
            victims.remove(0);
        }
        if point == Point::Ended {
            victims.retain(|victim| *victim != started); // its number may be another's by now
        }
        // Who was stopped on its last way out too: it would stay so.
        send(Signal::SIGKILL, &victims);
        if round.victims == Victims::Worker {
            send(Signal::SIGCONT, &[started]);
        }
        Ok((point, victims))
    }

    /// Has `recover` make up for it once all are gone.
    fn recover(&self, victims: &[u32]) -> Result<()> {
        let start = Instant::now();
        // One that is dying is there for as long.
        while victims
            .iter()
            .any(|pid| Path::new("/proc").join(pid.to_string()).exists())
        {
            if start.elapsed() > LIMIT {
                return Err("those that were killed do not end".to_owned());
            }
            thread::sleep(LOOK);
        }
        let mut command = limited(LIMIT, &self.iceaxe);
        // The guard that it makes may be another round's, too.
        output(command.args(self.root()).arg("recover")).map(drop)
    }

    /// Waits until all is as before; when the last one was thawed.
    fn wait(&self, round: &Round, mark: &str, due: Instant) -> Result<Instant> {
        let mut back = None;
        loop {
            if round.is_theirs && !self.workloads[0].asks() {
                return Err("what somebody else had frozen was thawed".to_owned());
            }
            if back.is_none() && !self.asks(round) {
                back = Some(Instant::now());
                if back > Some(due + LATE) {
                    return Err("it came back too late".to_owned());
                }
            }
            let left = match back {
                None => vec!["it is frozen".to_owned()],
                Some(_) => {
                    let mut left = self.records(round.targets)?;
                    left.extend(processes(&self.iceaxe, Some(mark)).into_iter().map(shown));
                    left
                }
            };
            if let (Some(back), true) = (back, left.is_empty()) {
                return Ok(back);
            }
            let limit = if back.is_none() { LATE } else { LEFT };
            if Instant::now() > due + limit {
                let seconds = limit.as_secs();
                return Err(format!(
                    "{seconds} s after its time there is left: {}",
                    left.join(", ")
                ));
            }
            thread::sleep(LOOK);
        }
    }

    /// Whether one is asked to freeze that nobody else had frozen.
    fn asks(&self, round: &Round) -> bool {
        let own = &self.workloads[usize::from(round.is_theirs)..round.targets];
        own.iter().any(|workload| workload.asks())
    }

    /// The names of what is on record of the first cgroups, drafts too.
    fn records(&self, targets: usize) -> Result<Vec<String>> {
        let prefixes: Vec<String> = self.workloads[..targets]
            .iter()
            .map(Workload::records)
            .collect::<Result<_>>()?;
        // There is none yet, then.
        let names = fs::read_dir(self.records_dir()).into_iter().flatten().flatten();
        let names = names.filter_map(|name| name.file_name().into_string().ok());
        let of_these = |name: &String| {
            let name = name.trim_start_matches('.');
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        };
        Ok(names.filter(of_these).collect())
    }

    /// Makes all as it was before, as far as that can be done.
    fn clear_up(&mut self) {
        // The next round tells what could not be done.
        for workload in &self.workloads {
            let _ = output(
                limited(LIMIT, &self.iceaxe)
                    .args(self.root())
                    .arg("thaw")
                    .arg(workload.target()),
            );
            workload.thaw();
        }
        let _ = self.elsewhere.as_ref().map(Elsewhere::empty);
        let records = self.records(self.workloads.len()).unwrap_or_default();
        for name in records {
            let _ = fs::remove_file(self.records_dir().join(name));
        }
    }
}

/// How a command ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    err: String,
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "it ended with {:?} and said {:?}",
            self.code,
            self.err.trim_end()
        )
    }
}

/// Sends it; a process that is gone needs none.
fn send(signal: Signal, pids: &[u32]) {
    for pid in pids {
        let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}

fn has_ended(child: &mut Child) -> Result<bool> {
    let state = child
        .try_wait()
        .map_err(|error| format!("cannot wait for iceaxe: {error}"))?;
    Ok(state.is_some())
}

/// Waits for its end.
fn ended(child: &mut Child) -> Result<Said> {
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .map_err(|error| format!("cannot wait for iceaxe: {error}"))?
        {
            break status;
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill(); // it has just ended, then
            let _ = child.wait();
            return Err("iceaxe does not end".to_owned());
        }
        thread::sleep(Duration::from_micros(500));
    };
    let mut err = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr
            .read_to_end(&mut err)
            .map_err(|error| format!("cannot read from iceaxe: {error}"))?;
    }
    Ok(Said {
        code: status.code(),
        err: String::from_utf8_lossy(&err).into_owned(),
    })
}

/// The children of a process that run this program.
fn children_of(pid: u32, program: &Path) -> Vec<u32> {
    // One that is gone has none.
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter(|pid| is_of(*pid, program)).collect()
}

/// What can be seen of a process.
fn shown(pid: u32) -> String {
    // It has just ended, then.
    let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let (stat, stack) = (of("stat"), of("stack"));
    let fields: Vec<&str> = stat.split(' ').skip(2).take(2).collect();
    format!(
        "{pid} ({}, {})",
        fields.join(" of "),
        stack.trim_end().replace('\n', " ")
    )
}

fn is_of(pid: u32, program: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
}

/// The processes of this program, or those of them with this mark.
fn processes(program: &Path, mark: Option<&str>) -> Vec<u32> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_program = pids.filter(|pid: &u32| is_of(*pid, program));
    let word = mark.map(|mark| format!("{MARK}={mark}").into_bytes());
    let is_meant = |pid: &u32| {
        let Some(word) = &word else { return true };
        // It has just ended, then.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|other| other == word)
    };
    of_program.filter(is_meant).collect()
}

/// The host once more below another directory, with little room for records.
struct Elsewhere {
    dir: PathBuf,
    _janitor: Janitor,
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Elsewhere {
    fn new() -> Result<Self> {
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("iceaxe-soak-{}-{number}", std::process::id()));
        fs::create_dir(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
        let shown = dir.display();
        let janitor = Janitor::hire(&format!("umount -l {shown}\nrmdir {shown}"))?;
        // What is mounted below from there on is mounted there alone. Without the others of its kind: each would have all of
        // those before.
        let script = format!(
            "mount --bind / {shown} && mount --make-private {shown} && mount --bind /proc {shown}/proc \
             && mount --rbind /sys {shown}/sys \
             && mount -t tmpfs -o mode=755,size={ROOM} iceaxe-soak {shown}/run"
        );
        output(limited(LIMIT, "sh").args(["-c", &script]))?;
        Ok(Self {
            dir,
            _janitor: janitor,
        })
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("run/filler")
    }

    fn fill(&self) -> Result<()> {
        let mut filler =
            File::create(self.filler()).map_err(|error| format!("cannot fill the disk: {error}"))?;
        while filler.write_all(&[0; 512]).is_ok() {}
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        fs::remove_file(self.filler()).map_err(|error| format!("cannot empty the disk: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_rounds_and_another_one_others() {
        let draw = |seed| {
            (0..50)
                .map(|number| Round::draw(seed, Set::FullDisk, number))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn every_way_to_be_killed_comes_in_a_few_rounds() {
        let rounds = |set| {
            (0..50)
                .map(move |number| Round::draw(1, set, number))
                .collect::<Vec<_>>()
        };
        for victims in [Victims::Nobody, Victims::Started, Victims::Worker, Victims::Both] {
            assert!(
                rounds(Set::Hold).iter().any(|round| round.victims == victims),
                "{victims:?}"
            );
        }
        assert!(
            rounds(Set::Recover)
                .iter()
                .all(|round| round.victims == Victims::All)
        );
        let parts: std::collections::BTreeSet<u64> = rounds(Set::Lease)
            .iter()
            .map(|round| round.at * 5 / PARTS)
            .collect();
        assert_eq!(parts.len(), 7, "{parts:?}");
    }
}
