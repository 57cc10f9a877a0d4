//! Measures the binary that is handed out, as whole processes, beside runc and beside the floor (`floor.c`), all on the
//! same runc container and by turns in one run, so that what disturbs one disturbs all.

mod many;
mod records;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bundle::{Container, TASKS};
use crate::command::{find, is_root, output, shown, target_dir, workspace};
use crate::layout::{Layout, View};
use crate::stats::{Times, ms, ratio};
use crate::{Result, dist, packages};

const ROUNDS: u32 = 200;
/// Toggles of which the settling is measured.
const TOGGLES: u32 = 200;
/// A round is six processes of up to 50 ms.
const LIMIT: Duration = Duration::from_secs(1800);

// The bars that the project has set itself.
const MOST_FLOORS: f64 = 4.0;
const MOST_RUNCS: f64 = 0.6;
const MOST_SETTLING: Duration = Duration::from_millis(3);
const MOST_MEMORY: u64 = 6 << 20;

/// What was asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    #[arg(conflicts_with_all = ["records", "many"])]
    rounds: u32,
    /// Measure it beside N docker containers and C loops that read their records.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = records::COUNT)]
    #[arg(value_parser = clap::value_parser!(u32).range(10..), conflicts_with = "many")]
    records: Option<u32>,
    /// Measure it on N containers at once, with five tasks each, beside C loops that read and write the same files.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = many::COUNT)]
    #[arg(value_parser = clap::value_parser!(u32).range(10..))]
    many: Option<u32>,
    /// A binary that is measured in the place of the one that is built.
    #[arg(long, value_name = "FILE", requires = "many")]
    pub(crate) binary: Option<PathBuf>,
    /// Only in the layout that this process sees: the way in which the task calls itself for another one.
    #[arg(long, hide = true)]
    pub(crate) here: bool,
    /// Where docker's data root lies in truth, for the task that calls itself in namespaces of its own.
    #[arg(long, hide = true, requires = "records")]
    pub(crate) data: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) install: packages::Install,
}

/// Measures what was asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    let missed = match (options.records, options.many) {
        (Some(count), _) => records::run(options, count)?,
        (_, Some(count)) => many::run(options, count)?,
        _ => run_toggles(options)?,
    };
    match missed {
        0 => Ok(()),
        _ => Err("a bar was missed".to_owned()),
    }
}

/// Measures in the machine's own layout, and in v2 alone; returns how many bars were missed.
fn run_toggles(options: &Options) -> Result<u32> {
    options.install.needs(&[
        packages::BUILD,
        packages::HOST,
        packages::RUNC,
        &[("strace", "strace")],
    ]);
    if !is_root() {
        return Err("only root can freeze".to_owned());
    }
    let programs = Programs::build()?;
    let rounds = options.rounds.to_string();
    in_both(options, &["--rounds", &rounds], |layout| {
        measure(&programs, layout, options.rounds)
    })
}

/// Measures in the machine's own layout, and by this program with these words in v2 alone; returns how many bars were
/// missed.
pub(crate) fn in_both(
    options: &Options,
    words: &[&str],
    measure: impl Fn(Layout) -> Result<u32>,
) -> Result<u32> {
    let found = Layout::found()?;
    let missed = measure(found)?;
    if options.here || found == Layout::V2 {
        return Ok(missed);
    }
    let own = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = View::of(Layout::V2)?.run(LIMIT, &own);
    command.args(["bench", "--here"]).args(words);
    Ok(missed + u32::from(shown(&mut command).is_err()))
}

struct Programs {
    iceaxe: PathBuf,
    floor: PathBuf,
    peak: PathBuf,
}

impl Programs {
    fn build() -> Result<Self> {
        Ok(Self {
            iceaxe: dist::build()?,
            floor: compile("floor")?,
            peak: compile("peak")?,
        })
    }
}

/// Builds one of the C programs next to this one, and returns its path.
pub(crate) fn compile(name: &str) -> Result<PathBuf> {
    let dir = target_dir().join("bench");
    fs::create_dir_all(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    let mut cc = Command::new("cc");
    let source = workspace().join("xtask").join(format!("{name}.c"));
    cc.args(["-O2", "-static", "-o"]).arg(dir.join(name)).arg(source);
    output(&mut cc).map(|_| dir.join(name))
}

/// One of those compared: how it freezes and how it thaws.
struct Contender {
    name: &'static str,
    freeze: Command,
    thaw: Command,
    froze: Times,
    thawed: Times,
}

impl Contender {
    fn all(programs: &Programs, container: &Container) -> [Self; 3] {
        let new = |name, freeze, thaw| Self {
            name,
            freeze,
            thaw,
            froze: Times::default(),
            thawed: Times::default(),
        };
        let floor = |request: &str| {
            let mut command = Command::new(&programs.floor);
            command.arg(container.dir()).args([request, container.version()]);
            command
        };
        let iceaxe = |verb: &str| command(&programs.iceaxe, &[verb, &container.target()]);
        [
            new("floor", floor("1"), floor("0")),
            new("iceaxe", iceaxe("freeze"), iceaxe("thaw")),
            new("runc", container.runc("pause"), container.runc("resume")),
        ]
    }

    fn round(&mut self) -> Result<()> {
        self.froze.push(timed(&mut self.freeze)?);
        self.thawed.push(timed(&mut self.thaw)?);
        Ok(())
    }
}

/// Measures everything, prints it, and returns how many bars were missed.
fn measure(programs: &Programs, layout: Layout, rounds: u32) -> Result<u32> {
    let container = Container::start(layout)?;
    let mut contenders = Contender::all(programs, &container);
    for round in 0..rounds {
        // Each goes first, second and last equally often.
        contenders.rotate_left(1);
        for contender in &mut contenders {
            contender
                .round()
                .map_err(|error| format!("round {round}: {error}"))?;
        }
    }
    contenders.sort_by_key(|contender| contender.name);
    let settling = settling(programs, &container)?;
    let memory = memory(programs, &container)?;
    let opens = opens(programs, &container)?;
    let size = fs::metadata(&programs.iceaxe)
        .map_err(|error| format!("{}: {error}", programs.iceaxe.display()))?
        .len();

    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "\nLinux {}, {layout}, {TASKS} idle tasks, {rounds} rounds by turns, whole processes, in ms",
        release.trim()
    );
    print!("{}", table(&contenders));
    let [floor, iceaxe, runc] = contenders.each_ref().map(|contender| contender.thawed.median());
    let bars = [
        Bar::most("thaw, in floors", ratio(iceaxe, floor), MOST_FLOORS),
        Bar::most("thaw, in runc resumes", ratio(iceaxe, runc), MOST_RUNCS),
        Bar::most(
            "settling, 95%, in ms",
            in_ms(settling.percentile(95)),
            in_ms(MOST_SETTLING),
        ),
        Bar::most("binary, in MiB", in_mib(size), in_mib(dist::MOST_BYTES)),
        Bar::most("memory of a thaw, in MiB", in_mib(memory), in_mib(MOST_MEMORY)),
    ];
    println!("\n{:<26} {:>8} {:>8}", "bar", "measured", "at most");
    bars.iter().for_each(|bar| println!("{}", bar.line()));
    println!(
        "settling over {} toggles: median {}, 95% {}, longest {} ms",
        settling.len(),
        ms(settling.median()),
        ms(settling.percentile(95)),
        ms(settling.max())
    );
    match opens {
        Some(opens) => println!("files opened by a thaw: {opens}"),
        None => println!("files opened by a thaw: not counted, no strace"),
    }
    Ok(bars.iter().map(|bar| u32::from(!bar.is_met())).sum())
}

fn table(contenders: &[Contender; 3]) -> String {
    let [floor, _, runc] = contenders.each_ref().map(|contender| contender.thawed.median());
    let mut text = format!(
        "{:<8} {:>9} {:>9} {:>9} {:>9} {:>12} {:>12}\n",
        "", "freeze", "95%", "thaw", "95%", "thaw/floor", "thaw/runc"
    );
    for contender in contenders {
        let (froze, thawed) = (&contender.froze, &contender.thawed);
        text += &format!(
            "{:<8} {:>9} {:>9} {:>9} {:>9} {:>12.2} {:>12.2}\n",
            contender.name,
            ms(froze.median()),
            ms(froze.percentile(95)),
            ms(thawed.median()),
            ms(thawed.percentile(95)),
            ratio(thawed.median(), floor),
            ratio(thawed.median(), runc)
        );
    }
    text
}

/// How long the kernel took to settle, as iceaxe says, over toggles 1 to 20 ms apart: the kernel's own rhythm of 10 ms
/// would show as a step.
fn settling(programs: &Programs, container: &Container) -> Result<Times> {
    let mut times = Times::default();
    for toggle in 0..TOGGLES {
        // 7 and 20 have no common factor, so all pauses from 1 to 20 ms come equally often, and in no order.
        std::thread::sleep(Duration::from_millis(1 + u64::from(toggle) * 7 % 20));
        let verb = if toggle % 2 == 0 { "freeze" } else { "thaw" };
        let json = output(&mut command(
            &programs.iceaxe,
            &["--json", verb, &container.target()],
        ))?;
        let settle = number(&json, "settle_us").ok_or_else(|| format!("no settle_us in {json}"))?;
        times.push(Duration::from_micros(settle));
    }
    Ok(times)
}

/// The most memory that a process of a thaw had.
fn memory(programs: &Programs, container: &Container) -> Result<u64> {
    let mut most = 0;
    for _ in 0..5 {
        timed(&mut command(&programs.iceaxe, &["freeze", &container.target()]))?;
        let iceaxe = programs.iceaxe.to_string_lossy();
        let kib = output(&mut command(
            &programs.peak,
            &[&iceaxe, "thaw", &container.target()],
        ))?;
        let kib: u64 = kib.trim().parse().map_err(|_| format!("{kib:?} is no size"))?;
        most = most.max(kib << 10);
    }
    Ok(most)
}

/// The number of files that a thaw opens, where strace is there to count.
fn opens(programs: &Programs, container: &Container) -> Result<Option<usize>> {
    let Some(strace) = find("strace") else {
        return Ok(None);
    };
    timed(&mut command(&programs.iceaxe, &["freeze", &container.target()]))?;
    let trace = target_dir().join("bench").join("trace");
    let (trace_name, iceaxe) = (trace.to_string_lossy(), programs.iceaxe.to_string_lossy());
    let words = [
        "-f",
        "-qq",
        "-e",
        "trace=open,openat,openat2",
        "-o",
        &trace_name,
        &iceaxe,
        "thaw",
        &container.target(),
    ];
    output(&mut command(&strace, &words))?;
    let text = fs::read_to_string(&trace).map_err(|error| format!("{}: {error}", trace.display()))?;
    Ok(Some(text.lines().filter(|line| line.contains("open")).count()))
}

pub(crate) fn command(program: &Path, words: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

/// The time from before the start of a program until after its end; it must end well.
pub(crate) fn timed(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status();
    let took = start.elapsed();
    match status {
        Ok(status) if status.success() => Ok(took),
        Ok(status) => Err(format!("{}: {status}", crate::command::line(command))),
        Err(error) => Err(format!("{}: {error}", crate::command::line(command))),
    }
}

/// The whole number that a JSON object has under `key`.
pub(crate) fn number(json: &str, key: &str) -> Option<u64> {
    serde_json::from_str::<Value>(json).ok()?[key].as_u64()
}

fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

pub(crate) fn in_mib(bytes: u64) -> f64 {
    let hundredths = u32::try_from((bytes * 100) >> 20).unwrap_or(u32::MAX);
    f64::from(hundredths) / 100.0
}

/// A bar and what was measured.
pub(crate) struct Bar {
    name: &'static str,
    measured: f64,
    most: f64,
}

impl Bar {
    pub(crate) fn most(name: &'static str, measured: f64, most: f64) -> Self {
        Self { name, measured, most }
    }

    pub(crate) fn is_met(&self) -> bool {
        self.measured <= self.most
    }

    pub(crate) fn line(&self) -> String {
        let verdict = if self.is_met() { "met" } else { "MISSED" };
        format!(
            "{:<26} {:>8.2} {:>8.2} {verdict}",
            self.name, self.measured, self.most
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_out_of_json() {
        let json = r#"{"schema":1,"settle_us":310,"verify_us":null,"last":7}"#;
        assert_eq!(number(json, "settle_us"), Some(310));
        assert_eq!(number(json, "last"), Some(7));
        assert_eq!(number(json, "verify_us"), None);
        assert_eq!(number(json, "none"), None);
    }

    #[test]
    fn a_bar_is_met_up_to_its_own_height() {
        assert!(Bar::most("x", 4.0, 4.0).is_met() && !Bar::most("x", 4.01, 4.0).is_met());
        assert!(
            !Bar::most("x", f64::NAN, 4.0).is_met(),
            "nothing measured is not met"
        );
        assert_eq!(in_mib(MOST_MEMORY).to_string(), "6");
    }
}
