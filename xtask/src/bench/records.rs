//! Measures the binary on a host with very many containers: 10,000 docker containers' records, each with its live
//! process, all of this machine's kernel and seen by nobody else. Whole processes, beside a C loop (`records.c`) that
//! reads the same files, all in the page cache.

pub(crate) mod crowd;
pub(crate) mod shape;
pub(crate) mod trace;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bench::{Bar, Options, command, compile, in_mib, timed};
use crate::command::{find, is_root, limited, output, shown, target_dir};
use crate::layout::Layout;
use crate::stats::{Times, ms, ratio};
use crate::{Result, dist, packages};
use crowd::Crowd;
use trace::Trace;

/// The containers that the project's bar speaks of.
pub(crate) const COUNT: &str = "10000";
/// A host with few containers.
const FEW: usize = 10;
/// What is left of the PIDs for the rest of the machine.
const SPARE_PIDS: u32 = 2_000;
/// Of a command that takes a few milliseconds.
const ROUNDS: u32 = 200;
/// Of a command that reads all records, and may take seconds.
const SCANS: u32 = 15;
/// Making and removing 10,000 containers takes a minute, measuring them another.
const LIMIT: Duration = Duration::from_secs(1800);

// The bars that the project has set itself.
const MOST_FEWS: f64 = 1.2;
const MOST_LOOPS: f64 = 1.3;
const MOST_LISTINGS: f64 = 1.0;
const MOST_MEMORY: u64 = 32 << 20;

/// Measures all of it, in a mount namespace in which docker's places are empty: the machine's own stay untouched. Returns
/// how many bars were missed.
pub(crate) fn run(options: &Options, count: u32) -> Result<u32> {
    let Some(data) = &options.data else {
        return enter(options.install, count);
    };
    let programs = Programs::build()?;
    measure(&programs, Layout::found()?, count as usize, data)
}

/// The data root is on a disk, as on a host, and the rest in memory, as /run is.
const ROOM: &str = "mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 lib /var/lib
if [ -d /etc/docker ]; then mount -t tmpfs -o mode=755 none /etc/docker; fi
mkdir /var/lib/docker
mount --bind \"$1\" /var/lib/docker
shift
exec \"$@\"";

fn enter(install: packages::Install, count: u32) -> Result<u32> {
    install.needs(&[
        packages::BUILD,
        packages::HOST,
        &[("strace", "strace"), ("find", "findutils")],
    ]);
    if !is_root() {
        return Err("only root can make cgroups and mounts".to_owned());
    }
    check_pids(count)?;
    let data = target_dir()
        .join("bench")
        .join(format!("records-{}", std::process::id()));
    fs::create_dir_all(&data).map_err(|error| format!("cannot create {}: {error}", data.display()))?;
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = limited(LIMIT, "unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", ROOM, "sh"]);
    command.arg(&data).arg(own);
    command.args(["bench", &format!("--records={count}"), "--data"]);
    let result = shown(command.arg(&data));
    let _ = fs::remove_dir(&data); // the records were removed with it already, unless the namespace could not be had
    result.map(|()| 0)
}

fn check_pids(count: u32) -> Result<()> {
    let most = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    match most.trim().parse::<u32>() {
        Ok(most) if count > most.saturating_sub(SPARE_PIDS) => Err(format!(
            "{count} processes are too many here: /proc/sys/kernel/pid_max is {most}"
        )),
        _ => Ok(()),
    }
}

struct Programs {
    iceaxe: PathBuf,
    helper: PathBuf,
    peak: PathBuf,
    strace: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        Ok(Self {
            iceaxe: dist::build()?,
            helper: compile("records")?,
            peak: compile("peak")?,
            strace: find("strace").ok_or("no strace")?,
        })
    }
}

/// A command line of iceaxe.
struct Question {
    name: &'static str,
    words: Vec<String>,
}

impl Question {
    fn new(name: &'static str, words: &[&str]) -> Self {
        Self {
            name,
            words: words.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// One run, or why it failed.
    fn time(&self, programs: &Programs) -> Result<Duration> {
        timed(command(&programs.iceaxe, &self.words).stderr(std::process::Stdio::null()))
    }

    /// The most memory that a process of it had.
    fn memory(&self, programs: &Programs) -> Result<u64> {
        let mut words = vec![programs.iceaxe.to_string_lossy().into_owned()];
        words.extend(self.words.iter().cloned());
        let kib = output(&mut command(&programs.peak, &words))?;
        let kib: u64 = kib.trim().parse().map_err(|_| format!("{kib:?} is no size"))?;
        Ok(kib << 10)
    }
}

/// What is asked: of one container, by its ID; by other words; and of all.
struct Questions {
    by_id: [Question; 3],
    by_prefix: [Question; 2],
    by_name: Question,
    list: Question,
}

impl Questions {
    fn of(member: &shape::Member) -> Self {
        let (id, short, name) = (member.id.as_str(), &member.id[..12], member.name.as_str());
        Self {
            by_id: [
                Question::new("path ID", &["path", id]),
                Question::new("status ID", &["status", id]),
                Question::new("thaw --dry-run ID", &["thaw", "--dry-run", id]),
            ],
            by_prefix: [
                Question::new("path id:PREFIX", &["path", &format!("id:{short}")]),
                Question::new("path PREFIX", &["path", short]),
            ],
            by_name: Question::new("path NAME", &["path", name]),
            list: Question::new("list --json", &["list", "--json"]),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Question> {
        let by = self.by_id.iter().chain(&self.by_prefix);
        by.chain([&self.by_name, &self.list])
    }
}

/// A question's times with few containers, with all, and of the C loop.
#[derive(Default)]
struct Line {
    few: Times,
    all: Times,
    floor: Times,
}

impl Line {
    fn text(&self, name: &str) -> String {
        let cell = |times: &Times| match times.len() {
            0 => "-".to_owned(),
            _ => format!("{} {:>9}", ms(times.median()), ms(times.percentile(0))),
        };
        format!(
            "{name:<18} {:>20} {:>20} {:>20}\n",
            cell(&self.few),
            cell(&self.all),
            cell(&self.floor)
        )
    }
}

/// Measures everything, prints it, and returns how many bars were missed.
fn measure(programs: &Programs, layout: Layout, count: usize, data: &Path) -> Result<u32> {
    let mut crowd = Crowd::open(layout, &programs.helper, "records", 1, Some(data))?;
    crowd.grow(FEW)?;
    let few = crowd.members().to_vec();
    let asked = &few[FEW / 2];
    let questions = Questions::of(asked);
    let mut lines: Vec<Line> = questions.all().map(|_| Line::default()).collect();
    let mut failures = Vec::new();

    for (question, line) in questions.all().zip(&mut lines) {
        repeat(ROUNDS, question.name, &mut failures, || {
            line.few.push(question.time(programs)?);
            Ok(())
        });
    }
    let log = target_dir().join("bench").join("trace");
    let traces = questions
        .all()
        .map(|question| Trace::of(&programs.strace, &log, &programs.iceaxe, &question.words()))
        .collect::<Result<Vec<Trace>>>()?;

    println!("making {count} containers");
    crowd.grow(count)?;
    failures.extend(wrong_answers(programs, &crowd, asked, &questions));
    let script = target_dir().join("bench").join("loop");
    for ((question, line), trace) in questions.all().zip(&mut lines).zip(&traces) {
        fs::write(&script, trace.script(&few, crowd.members()))
            .map_err(|error| format!("cannot write {}: {error}", script.display()))?;
        let is_by_id = questions.by_id.iter().any(|one| one.name == question.name);
        let rounds = if is_by_id { ROUNDS } else { SCANS };
        let mut floor = command(&programs.helper, &["loop".as_ref(), script.as_os_str()]);
        repeat(rounds, question.name, &mut failures, || {
            line.floor.push(timed(&mut floor)?);
            line.all.push(question.time(programs)?);
            Ok(())
        });
    }
    let memory = questions
        .all()
        .map(|question| question.memory(programs))
        .collect::<Result<Vec<u64>>>();
    let memory = memory.map(|each| each.into_iter().max()).unwrap_or_else(|error| {
        failures.push(error);
        None
    });

    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "\nLinux {}, {layout}, docker containers, whole processes, median and shortest in ms",
        release.trim()
    );
    println!("{:<18} {FEW:>20} {count:>20} {:>20}", "containers:", "C loop");
    for (question, line) in questions.all().zip(&lines) {
        print!("{}", line.text(question.name));
    }
    for (question, trace) in questions.all().zip(&traces) {
        let again = trace.listed.iter().filter(|&(_, &times)| times > 1);
        again.for_each(|(dir, times)| println!("{}: {dir} is listed {times} times", question.name));
    }
    for failure in &failures {
        // A list that is not complete has a line for each container.
        println!("{}", failure.lines().next().unwrap_or_default());
    }
    let bars = bars(&questions, &lines, &traces, memory);
    println!("\n{:<26} {:>8} {:>8}", "bar", "measured", "at most");
    bars.iter().for_each(|bar| println!("{}", bar.line()));
    let missed: u32 = bars.iter().map(|bar| u32::from(!bar.is_met())).sum();
    Ok(missed + u32::from(!failures.is_empty()))
}

/// Does it `rounds` times; the first failure ends it, and is kept.
fn repeat(rounds: u32, name: &str, failures: &mut Vec<String>, mut round: impl FnMut() -> Result<()>) {
    for number in 0..rounds {
        if let Err(error) = round() {
            failures.push(format!("{name}: round {number}: {error}"));
            return;
        }
    }
}

/// What iceaxe says that is not so. A fast wrong answer is worth nothing.
fn wrong_answers(
    programs: &Programs,
    crowd: &Crowd,
    asked: &shape::Member,
    questions: &Questions,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let wanted = crowd.freeze_point(asked);
    let paths = questions.all().filter(|question| question.words[0] == "path");
    for question in paths {
        match output(&mut command(&programs.iceaxe, &question.words)) {
            Ok(text) if Path::new(text.trim()) == wanted => {}
            Ok(text) => wrong.push(format!("{}: {} is wrong", question.name, text.trim())),
            Err(error) => wrong.push(error),
        }
    }
    let mut list: Command = command(&programs.iceaxe, &questions.list.words);
    match list.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let listed: Vec<&str> = text.lines().filter_map(id_of).collect();
            let ours: BTreeSet<&str> = crowd.members().iter().map(|member| member.id.as_str()).collect();
            let seen: Vec<&&str> = listed.iter().filter(|&id| ours.contains(id)).collect();
            let distinct: BTreeSet<_> = seen.iter().collect();
            if seen.len() != ours.len() || distinct.len() != ours.len() {
                wrong.push(format!(
                    "list: {} of {} containers, in {} lines",
                    distinct.len(),
                    ours.len(),
                    seen.len()
                ));
            }
        }
        Err(error) => wrong.push(format!("cannot run list: {error}")),
    }
    wrong
}

/// The ID in a line of the list.
fn id_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"id\":\"")?;
    rest.split_once('"').map(|(id, _)| id)
}

fn bars(questions: &Questions, lines: &[Line], traces: &[Trace], memory: Option<u64>) -> Vec<Bar> {
    let line = |name: &str| {
        let at = questions.all().position(|question| question.name == name);
        at.and_then(|at| lines.get(at))
    };
    let growth = |name| line(name).map_or(f64::NAN, |line| quotient(&line.all, &line.few));
    let loops = |name| line(name).map_or(f64::NAN, |line| quotient(&line.all, &line.floor));
    let listings = |name: &str| {
        let at = questions.all().position(|question| question.name == name);
        let most = at.and_then(|at| traces.get(at)?.listed.values().max().copied());
        most.map_or(f64::NAN, |most| {
            f64::from(u32::try_from(most).unwrap_or(u32::MAX))
        })
    };
    vec![
        Bar::most("path ID, all/few", growth("path ID"), MOST_FEWS),
        Bar::most("status ID, all/few", growth("status ID"), MOST_FEWS),
        Bar::most("thaw ID, all/few", growth("thaw --dry-run ID"), MOST_FEWS),
        Bar::most("id:PREFIX, listings", listings("path id:PREFIX"), MOST_LISTINGS),
        Bar::most("PREFIX, listings", listings("path PREFIX"), MOST_LISTINGS),
        Bar::most("NAME, in C loops", loops("path NAME"), MOST_LOOPS),
        Bar::most("list, in C loops", loops("list --json"), MOST_LOOPS),
        Bar::most(
            "memory of each, in MiB",
            memory.map_or(f64::NAN, in_mib),
            in_mib(MOST_MEMORY),
        ),
    ]
}

/// How many times the median of `floor` goes into that of `times`. Nothing measured is no number, and meets no bar.
fn quotient(times: &Times, floor: &Times) -> f64 {
    match times.len().min(floor.len()) {
        0 => f64::NAN,
        _ => ratio(times.median(), floor.median()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_by_its_ids() {
        assert_eq!(id_of(r#"{"schema":1,"id":"8d96","name":"web"}"#), Some("8d96"));
        assert_eq!(id_of(r#"{"schema":1,"id":null}"#), None);
    }

    #[test]
    fn what_was_not_measured_meets_no_bar() {
        let questions = Questions::of(&shape::Member {
            id: "8d96".repeat(16),
            name: "web".to_owned(),
            pids: vec!["1".to_owned()],
            start: "1".to_owned(),
        });
        let lines: Vec<Line> = questions.all().map(|_| Line::default()).collect();
        let bars = bars(&questions, &lines, &[], None);
        assert!(bars.iter().all(|bar| !bar.is_met()));
    }
}
