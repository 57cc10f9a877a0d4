//! Fifty containers that freeze as one: how long that takes, what becomes of the others where one can't be frozen, and what
//! the guard of as many costs while it waits.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kit::{Hierarchy, is_gone};
use serde_json::Value;

use crate::Result;
use crate::bench::{Bar, number};
use crate::command::{limited, output};
use crate::stats::{Times, ms};
use crate::workload::Workload;

const CONTAINERS: usize = 50;
const TASKS: usize = 10;
const ROUNDS: u32 = 200;
const STUCK_ROUNDS: u32 = 40;
/// What each of the tasks does, what that is called, and whether there is a bar on it.
const KINDS: [(&str, &str, bool); 3] = [
    ("sleep", "idle", true),
    ("busy", "busy-looping", true),
    ("doze", "short sleepers", false),
];
const LIMIT: Duration = Duration::from_secs(120);
/// How long the guard is watched.
const WATCHED: Duration = Duration::from_secs(3);
/// How long a guard may take to go: one that leaves its cgroup waits for whoever changes any.
const GOES: Duration = Duration::from_secs(10);

// The bars that the project has set itself.
const MOST_SPAN: Duration = Duration::from_millis(20);
const MOST_GUARD_KIB: u64 = 2048;

/// Whether a time may be too long: what was not built for speed is only measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bars {
    Held,
    Measured,
}

/// Measures and checks it in one hierarchy; returns what failed.
pub(crate) fn soak(
    hierarchy: Hierarchy,
    iceaxe: &Path,
    zoo: &Path,
    bars: Bars,
    share: impl Fn(u32) -> u32,
) -> Result<Vec<String>> {
    let version = hierarchy.word();
    let mut failures = Vec::new();
    println!(
        "{:<28} {:>6} {:>9} {:>9} {:>9} {:>9}",
        format!("{version}, {CONTAINERS} times {TASKS} tasks"),
        "rounds",
        "median",
        "95%",
        "longest",
        "skew"
    );
    for (kind, name, has_bar) in KINDS {
        let group = Group::open(hierarchy, iceaxe, zoo, |_| vec![kind; TASKS])?;
        let (spans, skews) = group.toggle(share(ROUNDS))?;
        println!(
            "{name:<28} {:>6} {:>9} {:>9} {:>9} {:>9}",
            spans.len(),
            ms(spans.median()),
            ms(spans.percentile(95)),
            ms(spans.max()),
            ms(skews.median())
        );
        if has_bar && bars == Bars::Held {
            let span = spans.median().as_secs_f64() * 1000.0;
            let bar = Bar::most("all frozen, in ms", span, MOST_SPAN.as_secs_f64() * 1000.0);
            println!("{}", bar.line());
            if !bar.is_met() {
                failures.push(format!("{version}: {name}: {}", bar.line()));
            }
        }
        if kind == "sleep" {
            for containers in [1, CONTAINERS] {
                if let Err(error) = group.guard(containers) {
                    failures.push(format!("{version}: the guard of {containers}: {error}"));
                }
            }
        }
    }
    let stuck = |nth| {
        if nth == CONTAINERS / 2 {
            vec!["dstate", "doze"]
        } else {
            vec!["doze"]
        }
    };
    let group = Group::open(hierarchy, iceaxe, zoo, stuck)?;
    let rounds = share(STUCK_ROUNDS);
    for round in 0..rounds {
        if let Err(error) = group.cannot_freeze() {
            failures.push(format!(
                "{version}: one that can't be frozen, round {round}: {error}"
            ));
            break;
        }
    }
    println!("one that can't be frozen     {rounds:>6}");
    Ok(failures)
}

struct Group<'g> {
    iceaxe: &'g Path,
    workloads: Vec<Workload>,
}

impl<'g> Group<'g> {
    fn open(
        hierarchy: Hierarchy,
        iceaxe: &'g Path,
        zoo: &Path,
        kinds: impl Fn(usize) -> Vec<&'static str>,
    ) -> Result<Self> {
        let mut workloads = Vec::new();
        for nth in 0..CONTAINERS {
            let workload = Workload::open(hierarchy, zoo, &kinds(nth))?;
            // Until all are there, and else those to come would hardly get a CPU.
            workload.ask();
            workloads.push(workload);
        }
        urge(MOST_URGENT)?;
        workloads.iter().for_each(|workload| workload.thaw());
        Ok(Self { iceaxe, workloads })
    }

    fn iceaxe(&self, words: &[&str], containers: usize) -> Command {
        let mut command = limited(LIMIT, self.iceaxe);
        command.args(words).args(
            self.workloads[..containers]
                .iter()
                .map(|workload| workload.target()),
        );
        command
    }

    fn asking(&self) -> usize {
        self.workloads.iter().filter(|workload| workload.asks()).count()
    }

    /// Freezes and thaws all; from the first write to the last one settled, and from the first settled to the last.
    fn toggle(&self, rounds: u32) -> Result<(Times, Times)> {
        let (mut spans, mut skews) = (Times::default(), Times::default());
        for round in 0..rounds {
            let json = output(&mut self.iceaxe(&["freeze", "--json", "--timeout=60s"], CONTAINERS))?;
            let asking = self.asking();
            if asking != CONTAINERS {
                return Err(format!("round {round}: {asking} of {CONTAINERS} are frozen"));
            }
            let (span, skew) = times(&json).ok_or_else(|| format!("round {round}: no times in {json}"))?;
            spans.push(span);
            skews.push(skew);
            output(&mut self.iceaxe(&["thaw", "--json", "--timeout=60s"], CONTAINERS))?;
            // 7 and 20 have no common factor: all pauses from 0 to 19 ms come equally often.
            thread::sleep(Duration::from_millis(u64::from(round) * 7 % 20));
        }
        Ok((spans, skews))
    }

    /// Freezes all but one that can't be: none is.
    fn cannot_freeze(&self) -> Result<()> {
        let mut command = self.iceaxe(&["freeze", "--timeout=300ms"], CONTAINERS);
        let ended = command
            .stdout(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run iceaxe: {error}"))?;
        let (code, asking) = (ended.status.code(), self.asking());
        if code != Some(6) || asking != 0 {
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            return Err(format!(
                "{asking} of {CONTAINERS} are frozen, code {code:?}: {said}"
            ));
        }
        Ok(())
    }

    /// What the guard of so many costs.
    fn guard(&self, containers: usize) -> Result<()> {
        output(&mut self.iceaxe(&["freeze", "--for=10m", "--timeout=60s"], containers))?;
        let guard = guard_of(&self.workloads[0])?;
        let (before, rss) = (cpu_of(guard)?, rss_of(guard)?);
        thread::sleep(WATCHED);
        let used = cpu_of(guard)? - before;
        output(&mut self.iceaxe(&["thaw", "--timeout=60s"], containers))?;
        println!(
            "guard of {containers}: {rss} KiB of its own, {used} ticks in {} s",
            WATCHED.as_secs()
        );
        let start = Instant::now();
        while !is_gone(guard.cast_signed()) {
            if start.elapsed() > GOES {
                return Err("it does not go".to_owned());
            }
            thread::sleep(Duration::from_millis(1));
        }
        if rss > MOST_GUARD_KIB || used > 0 {
            return Err(format!(
                "{rss} KiB of its own, {used} ticks of CPU time while it waited"
            ));
        }
        Ok(())
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.workloads.iter().for_each(|workload| workload.ask()); // as it was made
        let _ = urge(USUAL); // it is only slower without
    }
}

// Nice values. As iceaxe gives itself the first before it writes anything, this is for what is around it alone.
const MOST_URGENT: &str = "-20";
const USUAL: &str = "0";

/// Sets how urgent this program is, and what it starts from now on: it shares the CPUs with hundreds of busy tasks.
fn urge(nice: &str) -> Result<()> {
    let own = std::process::id().to_string();
    output(limited(LIMIT, "renice").args(["-n", nice, "-p", &own])).map(drop)
}

/// From the first write to the last one settled, and from the first settled to the last. A report says when it was proven, by
/// the clock of all, how long that took, and how long the settling had taken before that.
fn times(json: &str) -> Option<(Duration, Duration)> {
    let mut written = Vec::new();
    let mut settled = Vec::new();
    for line in json.lines() {
        let at = number(line, "verified_at_us")?.checked_sub(number(line, "verify_us")?)?;
        settled.push(at);
        written.push(at.checked_sub(number(line, "settle_us")?)?);
    }
    let (first, last) = (settled.iter().min()?, settled.iter().max()?);
    let span = last.checked_sub(*written.iter().min()?)?;
    Some((Duration::from_micros(span), Duration::from_micros(last - first)))
}

/// The guard that a container's record names: the last of those who answer for it.
fn guard_of(workload: &Workload) -> Result<u32> {
    let prefix = workload.records()?;
    let names = fs::read_dir("/run/iceaxe").into_iter().flatten().flatten(); // there is none, then
    let mut texts = names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let text = texts.next().ok_or("there is no record")?;
    let record: Value = serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))?;
    let last = record["owners"].as_array().and_then(|owners| owners.last());
    let pid = last.and_then(|last| last["pid"].as_u64());
    pid.and_then(|pid| u32::try_from(pid).ok())
        .ok_or_else(|| format!("no guard in {text}"))
}

/// The CPU time of a process, in ticks.
fn cpu_of(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).map_err(|_| "the guard is gone")?;
    let fields = text
        .rsplit_once(") ")
        .map(|(_, rest)| rest.split(' '))
        .into_iter()
        .flatten();
    let ticks: Option<Vec<u64>> = fields.skip(11).take(2).map(|ticks| ticks.parse().ok()).collect();
    ticks
        .map(|ticks| ticks.iter().sum())
        .ok_or_else(|| format!("not understood: {text}"))
}

/// The memory that a process has to itself, in KiB.
fn rss_of(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|_| "the guard is gone")?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.ok_or_else(|| format!("no RssAnon in {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_is_from_the_first_write_to_the_last_settled() {
        let line = |settle, verify, at| {
            format!(r#"{{"settle_us":{settle},"verify_us":{verify},"verified_at_us":{at},"last":0}}"#)
        };
        // Written at 100 and 130, settled at 300 and 230.
        let json = format!("{}\n{}\n", line(200, 50, 350), line(100, 500, 730));
        assert_eq!(
            times(&json),
            Some((Duration::from_micros(200), Duration::from_micros(70)))
        );
        assert_eq!(times(&json.replace("730", "null")), None);
        assert_eq!(times(""), None);
    }
}
