//! Freezes and thaws many times what does not keep still: tasks that fork, exec, sleep, spin, stop and trace as fast as
//! they can, and visitors from outside. Each verdict is held against what the tasks themselves wrote meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use kit::{Cgroup, Hierarchy, is_gone};

use crate::artifacts::Program;
use crate::command::{cargo, is_root, limited, output};
use crate::group::{self, Bars};
use crate::layout::Layout;
use crate::stats::{Times, ms};
use crate::verdict::{Pulse, Verdict};
use crate::workload::{AWAKE, Bench};
use crate::{Result, artifacts, dist, holds, packages};

const ROUNDS: u32 = 2000;
/// A twentieth, which every run of the tests does.
const FEW_ROUNDS: u32 = ROUNDS / 20;
const KINDS: [&str; 19] = [
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
    "churn",
    "execs",
    "vforks",
    "stops",
    "traces",
];
/// What v1 can't freeze: an exec from a thread waits for the others of its process to die, which frozen ones do not, and
/// nothing wakes it out of that (`de_thread()`, fs/exec.c). v2 lets them die.
const ONLY_V2: &str = "reexec";
/// How long a freeze lasts, at least: the slowest pulse is 2 ms.
const STILL: Duration = Duration::from_millis(20);
const SHORT: Duration = Duration::from_millis(1);
/// A command's own limit for a target (10 s, 5 s) and a second to say so.
const DEADLINES: [(&str, Duration); 2] = [
    ("freeze", Duration::from_secs(11)),
    ("thaw", Duration::from_secs(6)),
];
/// A command that hangs in spite of its limit must not hang this program.
const HARD_LIMIT: Duration = Duration::from_secs(60);
/// So many failed rounds tell enough.
const ENOUGH: usize = 10;

/// What was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often to freeze and thaw; of the rest it does the same part.
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where holds and leases are killed comes from it.
    #[arg(long, value_name = "N", default_value_t = now())]
    seed: u64,
    #[command(flatten)]
    install: packages::Install,
}

/// Builds the release and does as many rounds with it as were asked for, in each hierarchy of this machine.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.install.needs(&[packages::BUILD, packages::SOAK]);
    if !is_root() {
        return Err("only root can freeze".to_owned());
    }
    let layout = Layout::found()?;
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
    let plan = Plan {
        rounds: options.rounds,
        seed: options.seed,
        bars: Bars::Held,
    };
    rounds(layout, &programs, &plan).map(drop)
}

/// A seed that is another one each time.
fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default(); // a clock that is before 1970 has no news
    since.as_secs()
}

/// What is done in each hierarchy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    rounds: u32,
    seed: u64,
    bars: Bars,
}

impl Plan {
    /// What every run of the tests does, with programs that were not built for speed.
    pub(crate) fn few() -> Self {
        Self {
            rounds: FEW_ROUNDS,
            seed: now(),
            bars: Bars::Measured,
        }
    }

    /// The same part of so many rounds as is done of all.
    fn share(&self, of: u32) -> u32 {
        (of * self.rounds).div_ceil(ROUNDS)
    }
}

/// Does so many rounds in each hierarchy of `layout`, which is the machine's; returns in how many hierarchies.
pub(crate) fn rounds(layout: Layout, programs: &[Program], plan: &Plan) -> Result<u32> {
    for layout in layout.lacks() {
        if layout != Layout::Hybrid {
            println!("not selected in soak: {layout}, which this machine has not");
        }
    }
    let zoo = &dist::only(programs, "zoo")?.path;
    let iceaxe = &dist::only(programs, "iceaxe")?.path;
    let iceaxe = &iceaxe
        .canonicalize()
        .map_err(|error| format!("{}: {error}", iceaxe.display()))?;
    let mut hierarchies = 0;
    let mut failures = Vec::new();
    for &hierarchy in layout.hierarchies() {
        let version = hierarchy.word();
        let mut kinds = KINDS.to_vec();
        if hierarchy == Hierarchy::V2 {
            kinds.push(ONLY_V2);
        }
        let bench = Bench::open(layout.hierarchies(), zoo, &kinds)?;
        failures.extend(soak(bench, hierarchy, iceaxe, plan.rounds)?);
        println!("\n{version}: holds and leases, seed {}", plan.seed);
        let share = |of| plan.share(of);
        failures.extend(holds::soak(hierarchy, iceaxe, zoo, plan.seed, share)?);
        println!();
        failures.extend(group::soak(hierarchy, iceaxe, zoo, plan.bars, share)?);
        hierarchies += 1;
    }
    if failures.is_empty() {
        Ok(hierarchies)
    } else {
        Err(format!("soak:\n  {}", failures.join("\n  ")))
    }
}

/// Does so many rounds in one hierarchy; returns what failed.
fn soak(mut bench: Bench, hierarchy: Hierarchy, iceaxe: &Path, rounds: u32) -> Result<Vec<String>> {
    let cgroup = bench.cgroups.iter().find(|cgroup| cgroup.hierarchy == hierarchy);
    let target = cgroup.ok_or("no such hierarchy")?.target();
    let target = &target.to_string_lossy();
    println!("{target}: {rounds} rounds");
    let mut soak = Soak {
        iceaxe,
        bench: &bench,
        froze: Times::default(),
        thawed: Times::default(),
        words: BTreeMap::new(),
        late: 0,
    };
    let mut failures = Vec::new();
    let start = Instant::now();
    let mut told = 0;
    for round in 0..rounds {
        if let Err(error) = soak.round(target) {
            println!("round {round}: {target}: {error}");
            failures.push(format!("round {round}: {target}: {error}"));
            bench.cgroups.iter().for_each(Cgroup::thaw);
        }
        if failures.len() >= ENOUGH {
            break;
        }
        // 7 and 20 have no common factor: all pauses from 0 to 19 ms come equally often.
        thread::sleep(Duration::from_millis(u64::from(round) * 7 % 20));
        let minute = start.elapsed().as_secs() / 60;
        if minute > told {
            told = minute;
            println!("{minute} min: {}", soak.summary());
        }
    }
    println!("{}", soak.summary());
    match bench.shut_the_door() {
        Ok(visits) => println!("{visits} visitors came from outside"),
        Err(error) => failures.push(error),
    }
    Ok(failures)
}

struct Soak<'s> {
    iceaxe: &'s Path,
    bench: &'s Bench,
    froze: Times,
    thawed: Times,
    /// How often each word was said of a task, by verb.
    words: BTreeMap<(&'static str, String), u64>,
    /// Who came to a place that was frozen.
    late: usize,
}

impl Soak<'_> {
    fn round(&mut self, target: &str) -> Result<()> {
        let frozen = self.act("freeze", target)?;
        let at_first = self.pulses(frozen.proofs.keys().copied())?;
        thread::sleep(STILL);
        // Everybody who is there, too: who is missing in the report and goes on is worse than who is in it.
        let here = self.bench.tids();
        self.late += here.iter().filter(|tid| !frozen.proofs.contains_key(tid)).count();
        let before = self.pulses(here.iter().chain(frozen.proofs.keys()).copied())?;
        let mut wrong: Vec<String> = before
            .iter()
            .filter_map(|(&tid, &pulse)| frozen.refuted(tid, pulse))
            .collect();
        wrong.extend(
            at_first
                .iter()
                .filter(|(tid, pulse)| frozen.holds(**tid) && before.get(*tid) != Some(*pulse))
                .map(|(tid, pulse)| {
                    format!(
                        "{tid} went on while it was frozen: {pulse:?}, {:?}",
                        before.get(tid)
                    )
                }),
        );
        if !wrong.is_empty() {
            return Err(format!("freeze: {}", self.told(&wrong, &frozen)));
        }
        let thawed = self.act("thaw", target)?;
        if self.bench.cgroups.iter().any(Cgroup::asks) {
            return Err("thaw: a freeze is still asked for".to_owned());
        }
        let start = Instant::now();
        loop {
            let silent = self.silent(&thawed)?;
            if silent.is_empty() {
                return Ok(());
            }
            if start.elapsed() > AWAKE {
                return Err(format!("thaw: no beat since: {}", self.told(&silent, &thawed)));
            }
            thread::sleep(SHORT);
        }
    }

    /// The tasks in a thaw's report that are still there, are such as beat, and have not done so since.
    fn silent(&self, thawed: &Verdict) -> Result<Vec<String>> {
        let here = self.bench.tids();
        let mut silent = Vec::new();
        for (tid, word) in &thawed.proofs {
            let pulse = self.bench.pulse(*tid)?;
            if here.contains(tid) && pulse.is_felt() && !thawed.borne_out_by(pulse) && !is_gone(*tid) {
                silent.push(format!("{tid} is {word}: {pulse:?}"));
            }
        }
        Ok(silent)
    }

    fn pulses(&self, tids: impl Iterator<Item = i32>) -> Result<BTreeMap<i32, Pulse>> {
        let tids: BTreeSet<i32> = tids.collect();
        tids.into_iter()
            .map(|tid| Ok((tid, self.bench.pulse(tid)?)))
            .collect()
    }

    fn act(&mut self, verb: &'static str, target: &str) -> Result<Verdict> {
        let start = Instant::now();
        let told = output(limited(HARD_LIMIT, self.iceaxe).args(["--json", "--verbose", verb, target]));
        let took = start.elapsed();
        let verdict = told.and_then(|told| Verdict::read(&told));
        let late = DEADLINES.iter().any(|(of, limit)| *of == verb && took > *limit);
        match verdict {
            Err(error) => return Err(format!("{verb}: after {} ms: {error}", ms(took))),
            Ok(_) if late => return Err(format!("{verb}: took {} ms", ms(took))),
            Ok(_) => {}
        }
        let verdict = verdict?;
        match verb {
            "freeze" => self.froze.push(took),
            _ => self.thawed.push(took),
        }
        for word in verdict.proofs.values() {
            *self.words.entry((verb, word.clone())).or_default() += 1;
        }
        Ok(verdict)
    }

    /// What was found, and what can still be seen of those tasks.
    fn told(&self, found: &[String], verdict: &Verdict) -> String {
        let mut text = format!("verdict at {}", verdict.at);
        for line in found {
            text += &format!("\n    {line}");
            let Some(tid) = line.split(' ').next() else {
                continue;
            };
            for file in ["stat", "wchan", "stack", "cgroup"] {
                // It may be gone.
                let seen = fs::read_to_string(format!("/proc/{tid}/task/{tid}/{file}")).unwrap_or_default();
                text += &format!("\n      {file}: {}", seen.trim_end().replace('\n', " | "));
            }
        }
        text
    }

    fn summary(&self) -> String {
        let text = |name: &str, verb: &str, times: &Times| {
            let (median, most) = (ms(times.median()), ms(times.max()));
            let words = self.words.iter().filter(|((of, _), _)| *of == verb);
            let words: Vec<String> = words
                .map(|((_, word), count)| format!("{count} {word}"))
                .collect();
            format!(
                "{} {name} (median {median} ms, longest {most} ms; tasks: {})",
                times.len(),
                words.join(", ")
            )
        };
        format!(
            "{}, {}; {} tasks came while it was frozen",
            text("freezes", "freeze", &self.froze),
            text("thaws", "thaw", &self.thawed),
            self.late
        )
    }
}
