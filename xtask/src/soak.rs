//! Freezes and thaws mixed tasks for a long time. Every command must end with 0, what is frozen must stand still, and
//! whoever had a heartbeat must have it again after the thaw.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{cargo, is_root, output, target_dir};
use crate::lab::Lab;
use crate::layout::Layout;
use crate::stats::{Times, ms};
use crate::{Result, artifacts, dist, packages};

const MINUTES: u32 = 10;
const KINDS: [&str; 14] = [
    "busy",
    "doze",
    "sleep",
    "futex",
    "pipe",
    "poll",
    "epoll",
    "threads:4",
    "dead-leader:2",
    "stopped",
    "traced",
    "vfork",
    "zombie",
    "storm",
];
/// The slowest heartbeat comes every 2 ms, and tasks may have to share a CPU.
const STILL: Duration = Duration::from_millis(20);
const AWAKE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(1);
/// So many failed rounds tell enough.
const ENOUGH: usize = 10;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    minutes: u32,
}

impl Options {
    /// Reads the words after `soak`.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        crate::number_option(words, "--minutes", MINUTES).map(|minutes| Self { minutes })
    }
}

/// Goes on for as long as was asked for, in all hierarchies of this machine by turns.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::install(&[packages::BUILD]);
    if !is_root() {
        return Err("only root can freeze".to_owned());
    }
    let layout =
        Layout::of_machine().ok_or("/sys/fs/cgroup has neither of the freezers at its usual place")?;
    let limit = Duration::from_secs(1800);
    let words = [
        "build",
        "--release",
        "--package",
        "iceaxe",
        "--features",
        "zoo",
        "--bin",
        "iceaxe",
        "--bin",
        "zoo",
    ];
    let programs = artifacts::build(cargo(limit, &words).arg("--message-format=json-render-diagnostics"))?;
    let iceaxe = &dist::only(&programs, "iceaxe")?.path;
    let lab = Lab::open(
        layout,
        &dist::only(&programs, "zoo")?.path,
        &target_dir().join("soak-beats"),
        &KINDS,
    )?;
    let beating = beating(&lab)?;
    println!(
        "{} tasks with a heartbeat, {}",
        beating.len(),
        lab.targets().join(" and ")
    );

    let mut soak = Soak {
        iceaxe,
        lab: &lab,
        beating,
        froze: Times::default(),
        thawed: Times::default(),
    };
    let mut failures = Vec::new();
    let start = Instant::now();
    let mut told = 0;
    while start.elapsed().as_secs() < u64::from(options.minutes) * 60 && failures.len() < ENOUGH {
        let round = soak.froze.len();
        for target in lab.targets() {
            if let Err(error) = soak.round(&target) {
                println!("round {round}: {error}");
                failures.push(format!("round {round}: {error}"));
                lab.thaw();
            }
        }
        // 7 and 20 have no common factor: all pauses from 0 to 19 ms come equally often.
        thread::sleep(Duration::from_millis(soak.froze.len() as u64 * 7 % 20));
        let minute = start.elapsed().as_secs() / 60;
        if minute > told {
            told = minute;
            println!("{minute} min: {}", soak.summary());
        }
    }
    println!("{}", soak.summary());
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("soak:\n  {}", failures.join("\n  ")))
    }
}

struct Soak<'s> {
    iceaxe: &'s Path,
    lab: &'s Lab,
    beating: Vec<usize>,
    froze: Times,
    thawed: Times,
}

impl Soak<'_> {
    fn round(&mut self, target: &str) -> Result<()> {
        let froze = self.timed("freeze", target)?;
        self.froze.push(froze);
        let before = self.lab.beats()?;
        thread::sleep(STILL);
        let after = self.lab.beats()?;
        if before != after {
            return Err(format!("{target}: a task went on while it was frozen"));
        }
        let thawed = self.timed("thaw", target)?;
        self.thawed.push(thawed);
        let start = Instant::now();
        loop {
            let now = self.lab.beats()?;
            let asleep = self
                .beating
                .iter()
                .filter(|index| now.get(**index) <= after.get(**index))
                .count();
            if asleep == 0 {
                return Ok(());
            }
            if start.elapsed() > AWAKE {
                return Err(format!(
                    "{target}: {asleep} tasks have no heartbeat after the thaw"
                ));
            }
            thread::sleep(SHORT);
        }
    }

    fn timed(&self, verb: &str, target: &str) -> Result<Duration> {
        let start = Instant::now();
        output(Command::new(self.iceaxe).args(["--json", verb, target]))?;
        Ok(start.elapsed())
    }

    fn summary(&self) -> String {
        let text = |name: &str, times: &Times| {
            let (median, most) = (ms(times.median()), ms(times.max()));
            format!("{} {name} (median {median} ms, longest {most} ms)", times.len())
        };
        format!(
            "{}, {}",
            text("freezes", &self.froze),
            text("thaws", &self.thawed)
        )
    }
}

/// The records that have a heartbeat: those that move.
fn beating(lab: &Lab) -> Result<Vec<usize>> {
    let before = lab.beats()?;
    thread::sleep(Duration::from_millis(500));
    let after = lab.beats()?;
    let moved: Vec<usize> = (0..after.len())
        .filter(|index| after.get(*index) > before.get(*index))
        .collect();
    if moved.is_empty() {
        Err("no task has a heartbeat".to_owned())
    } else {
        Ok(moved)
    }
}
