//! `hold`: freezes, has a command run, and thaws exactly what it froze, whatever happens.

use std::cell::Cell;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::{PathBufValueParser, TypedValueParser};

use super::Run;
use super::change;
use crate::cgroup::CgroupId;
use crate::cli::act::Way;
use crate::cli::context::{Context, number, unresolved};
use crate::cli::disks::{self, Disks, GRACE, STUCK};
use crate::cli::options::{Lift, Nested, Options, duration};
use crate::cli::recorder::{Asked, Recorder};
use crate::cli::targets::{self, Targets};
use crate::cli::text;
use crate::engine::{FreezeOptions, Step, Together};
use crate::error::Error;
use crate::hold::{self, Broken, Monitor, Release, guard};
use crate::patience::Patience;
use crate::report::{Outcome, Report, Verb};
use crate::resolver::{Container, Purpose};
use crate::store::{HoldRecord, Kind, RecordFile, boottime_us};
use crate::supervisor::{Meanwhile, Message, News};

#[derive(Debug, Args)]
pub(crate) struct Hold {
    /// What to freeze
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<OsString>,
    /// What to run meanwhile
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    #[command(flatten)]
    pub(crate) nested: Nested,
    /// End the command after this time, and thaw
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) max: Option<Duration>,
    #[command(flatten)]
    pub(crate) lift: Lift,
    /// Then write out what is not on the disk of this path's file system yet
    #[arg(long, value_name = "PATH", value_parser = absolute())]
    pub(crate) sync: Vec<PathBuf>,
    /// Then freeze the file system of this path too: who writes to it waits
    #[arg(long, value_name = "PATH", value_parser = absolute())]
    pub(crate) fsfreeze: Vec<PathBuf>,
    /// Where one cannot be frozen, hold the others nevertheless
    #[arg(long)]
    pub(crate) best_effort: bool,
    /// Go on where no record of it can be kept
    #[arg(long)]
    pub(crate) no_record: bool,
    /// Where iceaxe is killed, let the command go on, with thawed containers
    #[arg(long)]
    pub(crate) let_run: bool,
}

/// A path that means the same to a process with another working directory.
fn absolute() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

impl Run for Hold {
    fn targets(&self) -> &[OsString] {
        &self.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        run(context, self, typed)
    }

    fn needs_guard(&self) -> bool {
        true
    }
}

/// The limits where none is given.
const FREEZE: Duration = Duration::from_secs(10);
const THAW: Duration = Duration::from_secs(5);

/// How long after a thaw its record is left there, for an iceaxe that did it.
const DOUBT: Duration = Duration::from_millis(750);

/// The codes of a hold's own.
pub(in crate::cli) const BROKEN: u8 = 122;
pub(in crate::cli) const NOT_THAWED: u8 = 123;
pub(in crate::cli) const NOT_RUN: u8 = 125;

/// What a hold ends with, given the code of the work and that of the command, if it was run.
pub(in crate::cli) fn code(work: u8, command: Option<u8>, is_plan: bool) -> u8 {
    match (work, command) {
        (0, Some(command)) => command,
        (BROKEN, Some(_)) => BROKEN,
        (_, Some(_)) => NOT_THAWED,
        (0, None) if is_plan => 0,
        (_, None) => NOT_RUN,
    }
}

/// Runs `hold`: 0 where all is as it was before.
fn run(context: &Context<'_>, args: &Hold, typed: &[OsString]) -> u8 {
    let targets = targets::resolve(context, (Verb::Hold, Purpose::Freeze), typed, args.nested);
    let disks = match Disks::open(context, &args.sync, &args.fsfreeze) {
        Ok(disks) => disks,
        Err(error) => return not_run(context, &targets, &error),
    };
    if context.options.dry_run {
        disks.plan(context);
        return freeze(context, args, &targets, None);
    }
    if !context.link.is_child() {
        let error =
            Error::Unsupported("no process could be made that runs COMMAND beside the work".to_owned());
        return not_run(context, &targets, &error);
    }
    let asked = Asked {
        lasting: args.max,
        no_record: args.no_record,
        filesystems: args.fsfreeze.clone(),
        command: args
            .command
            .first()
            .map(|word| word.to_string_lossy().into_owned()),
    };
    let recorder = match Recorder::new(context, Kind::Hold, asked) {
        Ok(recorder) => recorder,
        Err(error) => return not_run(context, &targets, &error),
    };
    let code = freeze(context, args, &targets, Some(&recorder));
    let mut held = recorder.records();
    if held.is_empty() || code != 0 && !args.best_effort {
        recorder.drop_all();
        return code.max(1);
    }
    remember(context, &targets, &held);
    let found = targets.found();
    let watched = held.iter().filter_map(|(id, record, _)| {
        let (_, _, container) = of(&found, *id)?;
        Some((*container, record.standing.id))
    });
    let mut monitor = Monitor::over(context.host, watched);
    let mut on_disk = disks.freeze(context, &recorder);
    // The limit counts from the freeze on, as the record has it: the guard goes by that.
    let most = args.max.map(|_| left(&held));
    if on_disk == 0 && most.is_some_and(|most| most.is_zero()) {
        context.err("iceaxe: cannot hold: --max was over before COMMAND could be run\n");
        on_disk = 1;
    }
    if on_disk == 0 && !is_whole(context, args, &targets, &recorder, &held, &mut monitor) {
        on_disk = 1;
    }
    let is_said = Cell::new(false);
    let mut broken_off = BrokenOff::default();
    if on_disk == 0 {
        let notices = monitor.notices().and_then(|fd| fd.try_clone_to_owned().ok()); // else it is looked at in time
        let mut at_limit = || {
            if disks.is_frozen() && !is_said.replace(true) {
                context.err(
                    "iceaxe: note: file systems are thawed before COMMAND has ended: it may wait for one\n",
                );
            }
            // They are thawed once more when it has ended, and what failed is told then.
            disks.thaw(context, &recorder);
        };
        let mut look = || {
            // What is thawed at its end is thawed in time, whoever does it.
            if most.is_none() || !left(&held).is_zero() {
                broken_off.tell(context, &held, &monitor.look());
                broken_off.let_go(&recorder, DOUBT);
            }
        };
        let meanwhile = Meanwhile {
            notices: notices.as_ref().map(AsFd::as_fd),
            every: hold::ROUND,
            look: &mut look,
        };
        context.link.run(context.say, most, &mut at_limit, meanwhile);
        let limit = most.map_or(Duration::MAX, |_| left(&held));
        if !limit.is_zero() {
            // The command may have ended right after somebody's thaw.
            broken_off.tell(context, &held, &monitor.last_look(limit));
        }
    }
    broken_off.let_go(&recorder, Duration::ZERO);
    // One without a record is known to be over here alone.
    held.retain(|(_, record, entry)| entry.is_some() || !broken_off.is_of(record));
    on_disk = on_disk.max(disks.thaw(context, &recorder));
    let code = thaw(context, &targets, &recorder, &held, on_disk).max(on_disk);
    if code == 0 && !broken_off.ids.is_empty() {
        BROKEN
    } else {
        code
    }
}

/// Whether all of them are still frozen, or those that are not need not be; says which are not.
fn is_whole(
    context: &Context<'_>,
    args: &Hold,
    targets: &Targets,
    recorder: &Recorder<'_>,
    held: &[(CgroupId, HoldRecord, Option<RecordFile>)],
    monitor: &mut Monitor<'_>,
) -> bool {
    let broken = monitor.look();
    for Broken { id, time } in &broken {
        let Some((_, record, entry)) = held.iter().find(|(_, record, _)| record.standing.id == *id) else {
            continue;
        };
        let target = text::escaped(&record.target);
        context.err(format!(
            "iceaxe: note: {target} was thawed meanwhile, at {time}\n"
        ));
        recorder.let_go(entry.as_ref());
    }
    let is_whole = broken.is_empty() && held.len() == targets.found().len();
    if !is_whole && !args.best_effort {
        context.err("iceaxe: cannot hold: a target was thawed before COMMAND could be run\n");
    }
    is_whole || args.best_effort
}

/// Those whose hold somebody broke off by a thaw.
#[derive(Default)]
struct BrokenOff {
    /// When each was seen, and where it is on file: `iceaxe thaw` says whose hold it was, by that, and takes it away.
    seen: Vec<(Instant, Option<RecordFile>)>,
    /// The cgroups of all of them.
    ids: Vec<CgroupId>,
}

impl BrokenOff {
    /// Says of those that somebody thawed while the command runs, at that moment.
    fn tell(
        &mut self,
        context: &Context<'_>,
        held: &[(CgroupId, HoldRecord, Option<RecordFile>)],
        broken: &[Broken],
    ) {
        for Broken { id, time } in broken {
            let Some((_, record, entry)) = held.iter().find(|(_, record, _)| record.standing.id == *id)
            else {
                continue;
            };
            self.ids.push(*id);
            self.seen.push((Instant::now(), entry.clone()));
            context.err(format!(
                "iceaxe: {} was thawed by somebody else at {time}, while COMMAND runs: what COMMAND does from here on, \
                 it does to what runs\n",
                text::escaped(&record.target)
            ));
        }
    }

    fn is_of(&self, record: &HoldRecord) -> bool {
        self.ids.contains(&record.standing.id)
    }

    /// Ends the hold of those that were seen so long ago: what is frozen since then is somebody else's.
    fn let_go(&mut self, recorder: &Recorder<'_>, seen_for: Duration) {
        self.seen.retain(|(at, entry)| {
            let is_due = at.elapsed() >= seen_for;
            if is_due {
                recorder.let_go(entry.as_ref());
            }
            !is_due
        });
    }
}

/// What is said at the end of a hold that somebody broke off.
pub(in crate::cli) fn told_broken(command: Option<u8>) -> String {
    let end = match command {
        Some(124) => "was ended at its limit".to_owned(),
        Some(code) => format!("ended with {code}"),
        None => "was not run".to_owned(),
    };
    format!("iceaxe: a target was thawed by somebody else while COMMAND ran, which {end} itself\n")
}

/// How long the first of them may be frozen still.
fn left(held: &[(CgroupId, HoldRecord, Option<RecordFile>)]) -> Duration {
    let until = held.iter().filter_map(|(_, record, _)| record.until_us).min();
    Duration::from_micros(until.unwrap_or(0).saturating_sub(boottime_us()))
}

/// Says of each why the command is not run.
fn not_run(context: &Context<'_>, targets: &Targets, error: &Error) -> u8 {
    for (index, typed, _) in targets.found() {
        context.end(index, &unresolved(Verb::Hold, typed, error));
    }
    for (index, report) in targets.lost() {
        context.end(index, report);
    }
    NOT_RUN
}

/// Tells the guard what it is to know of the command; called in the process that runs that.
pub(in crate::cli) fn tell(options: &Options, args: &Hold, guard: Option<&guard::Line>, news: News) {
    match (news, guard) {
        (News::Alone, _) if args.fsfreeze.is_empty() => {}
        (News::Alone, guard) => disks::thaw_alone(&options.root, guard),
        (News::Ended, Some(guard)) if !args.let_run => guard.command_ended(),
        (News::Ended, _) => {}
    }
}

/// Freezes all of them as one; 0 where they are.
fn freeze(context: &Context<'_>, args: &Hold, targets: &Targets, recorder: Option<&Recorder<'_>>) -> u8 {
    let together = if args.best_effort {
        Together::BestEffort
    } else {
        Together::AllOrNothing
    };
    let options = FreezeOptions {
        force: change::lifted(&args.lift.force),
        mode: change::mode(context.options.dry_run),
        together,
        ..FreezeOptions::default()
    };
    let way = Way::at_once(context.timeout(FREEZE));
    change::freeze_all(context, targets, None, &way, recorder, &options)
}

/// What the process that supervises is to put back if this one dies while the command runs.
fn remember(context: &Context<'_>, targets: &Targets, held: &[(CgroupId, HoldRecord, Option<RecordFile>)]) {
    let found = targets.found();
    for (id, record, _) in held.iter().filter(|(_, record, _)| !record.standing.requested) {
        let Some((index, typed, _)) = of(&found, *id) else {
            continue;
        };
        let mut undone = Report::blank(Verb::Thaw, typed);
        undone.outcome = Outcome::Released;
        undone.error = Some(
            "the process that did the work was killed: thawed, but no task is proven to run again".to_owned(),
        );
        let mut unheard = undone.clone();
        unheard.outcome = Outcome::Stuck;
        unheard.error = Some(
            "nothing was heard in time from the process that does the work: it is killed, and the guard thaws it"
                .to_owned(),
        );
        (context.say)(&Message::LastWords(number(*index), context.told(&unheard)));
        // It is plain data, which can always be said in JSON.
        if let Ok(text) = serde_json::to_vec(&record.standing) {
            (context.say)(&Message::Undo(number(*index), text, context.told(&undone)));
        }
    }
}

/// The target whose freeze point that is.
fn of<'f, 't>(
    found: &'f [(usize, &'t str, &'t Container)],
    id: CgroupId,
) -> Option<&'f (usize, &'t str, &'t Container)> {
    found
        .iter()
        .find(|(_, _, container)| container.freeze_point().id() == id)
}

/// Thaws what this hold froze, the last first, each to what it was before; 0 where that is proven of all.
fn thaw(
    context: &Context<'_>,
    targets: &Targets,
    recorder: &Recorder<'_>,
    held: &[(CgroupId, HoldRecord, Option<RecordFile>)],
    on_disk: u8,
) -> u8 {
    let found = targets.found();
    let each: Vec<(u32, &str, &Container, &HoldRecord, Option<&RecordFile>)> = held
        .iter()
        .rev()
        .filter_map(|(id, record, entry)| {
            let (index, typed, container) = of(&found, *id)?;
            Some((number(*index), *typed, *container, record, entry.as_ref()))
        })
        .collect();
    let leaving: Vec<Release<'_>> = each
        .iter()
        .map(|(_, _, container, record, entry)| Release {
            record,
            container: Some(container),
            entry: *entry,
        })
        .collect();
    let limit = context.timeout(THAW);
    context.within(limit + GRACE);
    // No signal breaks it off, nor the end of who supervises.
    let reports = hold::release_all(
        context.host,
        recorder.store(),
        &leaving,
        Patience::of(limit),
        &mut |nth, report, step| {
            let (index, ..) = each[nth];
            match step {
                Step::Writing(write) => {
                    let mut stuck = report.clone();
                    stuck.outcome = Outcome::Stuck;
                    let file = write.file.display();
                    stuck.error = Some(format!(
                        "write {} to {file}: the write did not return",
                        write.value
                    ));
                    (context.say)(&Message::LastWords(index, context.told(&stuck)));
                }
                Step::Done => (context.say)(&Message::LastWords(index, context.told(report))),
                _ => {}
            }
        },
    );
    let mut code = 0;
    for ((index, ..), report) in each.iter().zip(&reports) {
        (context.say)(&Message::End(*index, context.told(report)));
        code = code.max(report.exit());
    }
    // What could not be thawed is left to the guard, which tries until it can.
    recorder.dismiss_unless(on_disk == STUCK || reports.iter().any(hold::may_be_frozen));
    code
}
