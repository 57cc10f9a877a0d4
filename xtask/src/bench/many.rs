//! Measures the binary on many containers at once: 1,000 cgroups with five tasks each, thawed and listed, beside a C
//! loop (`records.c`) that opens, reads and writes the same files as often. Only those that were made for it are meant.

mod replay;

use std::fs;
use std::path::{Path, PathBuf};

use crate::bench::records::crowd::{self, Crowd};
use crate::bench::records::shape::Member;
use crate::bench::{Bar, Options, command, compile, in_both, in_mib, timed};
use crate::command::{find, is_root, output, target_dir};
use crate::layout::Layout;
use crate::stats::{Times, ms, ratio};
use crate::{Result, dist, packages};
use replay::Replay;

/// The containers that the project's bar speaks of, and their tasks.
pub(crate) const COUNT: &str = "1000";
const TASKS: u32 = 5;
/// Of so many it is seen what is opened for each.
const FEW: usize = 10;
const ROUNDS: u32 = 15;
/// No ID that anybody else gives begins so.
const PREFIX: &str = "1cea8e1cea8e";

// The bars that the project has set itself.
const MOST_LOOPS: f64 = 1.3;
const MOST_MEMORY: u64 = 32 << 20;

/// Measures in the machine's own layout, and in v2 alone; returns how many bars were missed.
pub(crate) fn run(options: &Options, count: u32) -> Result<u32> {
    options
        .install
        .needs(&[packages::BUILD, packages::HOST, &[("strace", "strace")]]);
    if !is_root() {
        return Err("only root can make cgroups".to_owned());
    }
    let programs = Programs::build(options.binary.as_deref())?;
    let many = format!("--many={count}");
    let binary = programs.iceaxe.to_string_lossy();
    in_both(options, &[&many, "--binary", &binary], |layout| {
        measure(&programs, layout, count as usize)
    })
}

struct Programs {
    iceaxe: PathBuf,
    helper: PathBuf,
    peak: PathBuf,
    strace: PathBuf,
}

impl Programs {
    fn build(binary: Option<&Path>) -> Result<Self> {
        Ok(Self {
            iceaxe: match binary {
                Some(binary) => binary.to_owned(),
                None => dist::build()?,
            },
            helper: compile("records")?,
            peak: compile("peak")?,
            strace: find("strace").ok_or("no strace")?,
        })
    }

    /// A verb on all that were made for this.
    fn iceaxe(&self, words: &[&str]) -> std::process::Command {
        let mut command = command(&self.iceaxe, words);
        command.arg("--filter").arg(format!("id={PREFIX}"));
        command.stderr(std::process::Stdio::null());
        command
    }

    fn freeze(&self) -> Result<()> {
        output(&mut self.iceaxe(&["freeze", "--all", "--force", "--quiet", "--timeout=60s"])).map(drop)
    }
}

/// Measures everything, prints it, and returns how many bars were missed.
fn measure(programs: &Programs, layout: Layout, count: usize) -> Result<u32> {
    let mut crowd = Crowd::open(layout, &programs.helper, "many", TASKS, None)?;
    grow(&mut crowd, FEW)?;
    let few = crowd.members().to_vec();
    let log = target_dir().join("bench").join("trace");
    let list: &[&str] = &["list", "--json"];
    let thaw: &[&str] = &["thaw", "--all"];
    let mut replays = Vec::new();
    for words in [list, thaw] {
        programs.freeze()?;
        replays.push(Replay::of(&programs.strace, &log, &programs.iceaxe(words))?);
    }
    println!("making {count} containers with {TASKS} tasks each");
    grow(&mut crowd, count)?;
    let mut bars = Vec::new();
    let mut failures = Vec::new();
    let mut table = String::new();
    let mut memory = 0;
    for (name, words, replay) in [("list", list, &replays[0]), ("thaw --all", thaw, &replays[1])] {
        let script = target_dir().join("bench").join("loop");
        fs::write(&script, replay.script(&few, crowd.members()))
            .map_err(|error| format!("cannot write {}: {error}", script.display()))?;
        let mut floor = command(&programs.helper, &["loop".as_ref(), script.as_os_str()]);
        let (mut ours, mut floors) = (Times::default(), Times::default());
        for _ in 0..ROUNDS {
            programs.freeze()?;
            floors.push(timed(&mut floor)?);
            programs.freeze()?;
            ours.push(timed(&mut programs.iceaxe(words))?);
        }
        failures.extend(wrong(programs, words, crowd.members())?);
        programs.freeze()?;
        memory = memory.max(peak(programs, words)?);
        table += &format!(
            "{name:<12} {:>10} {:>10} {:>10} {:>10} {:>8}\n",
            ms(ours.median()),
            ms(ours.percentile(0)),
            ms(floors.median()),
            ms(floors.percentile(0)),
            replay.per_container(&few),
        );
        bars.push(Bar::most(
            if name == "list" {
                "list, in C loops"
            } else {
                "thaw --all, in C loops"
            },
            ratio(ours.median(), floors.median()),
            MOST_LOOPS,
        ));
    }
    bars.push(Bar::most(
        "memory of each, in MiB",
        in_mib(memory),
        in_mib(MOST_MEMORY),
    ));
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "\nLinux {}, {layout}, {count} containers with {TASKS} tasks, whole processes, in ms",
        release.trim()
    );
    println!(
        "{:<12} {:>10} {:>10} {:>10} {:>10} {:>8}",
        "", "median", "shortest", "C loop", "shortest", "files"
    );
    print!("{table}");
    failures.iter().for_each(|failure| println!("{failure}"));
    println!("\n{:<26} {:>8} {:>8}", "bar", "measured", "at most");
    bars.iter().for_each(|bar| println!("{}", bar.line()));
    let missed: u32 = bars.iter().map(|bar| u32::from(!bar.is_met())).sum();
    Ok(missed + u32::from(!failures.is_empty()))
}

/// Makes more, until there are `count`, in cgroups that are called as docker's are where systemd makes them.
fn grow(crowd: &mut Crowd, count: usize) -> Result<()> {
    for number in crowd.members().len()..count {
        let id = format!("{PREFIX}{}", &crowd::id(number as u64)[PREFIX.len()..]);
        crowd.add(&format!("docker-{id}.scope"), id)?;
    }
    Ok(())
}

/// The most memory that a process of it had.
fn peak(programs: &Programs, words: &[&str]) -> Result<u64> {
    let mut command = command(&programs.peak, &[&programs.iceaxe]);
    command.args(words).arg("--filter").arg(format!("id={PREFIX}"));
    let kib = output(&mut command)?;
    let kib: u64 = kib.trim().parse().map_err(|_| format!("{kib:?} is no size"))?;
    Ok(kib << 10)
}

/// What is said that is not so: each is to be told of once, with all its tasks. A fast wrong answer is worth nothing.
fn wrong(programs: &Programs, words: &[&str], members: &[Member]) -> Result<Option<String>> {
    programs.freeze()?;
    let mut words = words.to_vec();
    if !words.contains(&"--json") {
        words.push("--json");
    }
    let text = output(&mut programs.iceaxe(&words))?;
    let tasks = format!("\"tasks\":{{\"total\":{TASKS},");
    let good = |member: &&Member| {
        let id = format!("\"id\":\"{}\"", member.id);
        let mut lines = text.lines().filter(|line| line.contains(&id));
        lines.next().is_some_and(|line| line.contains(&tasks)) && lines.next().is_none()
    };
    let good = members.iter().filter(good).count();
    Ok((good != members.len()).then(|| format!("{}: {good} of {} are told of", words[0], members.len())))
}
