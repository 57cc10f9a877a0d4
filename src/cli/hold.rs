//! `hold`: freezes, has a command run, and thaws exactly what it froze, whatever happens.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::act::Way;
use super::args::Hold;
use super::child;
use super::keeper::{Asked, Keeper};
use super::message::Message;
use super::targets::{self, Targets};
use super::{Context, human, number, verb};
use crate::cgroup::CgroupId;
use crate::engine::report::{Outcome, Report};
use crate::engine::{self, FreezeOptions, Leaving, Step, Together};
use crate::error::{Error, Result};
use crate::host::{Filesystem, Host};
use crate::ledger::{Entry, Kind, Pledge, boottime_us};
use crate::patience::Patience;
use crate::resolver::{Container, Purpose};

/// The limits where none is given.
const FREEZE: Duration = Duration::from_secs(10);
const THAW: Duration = Duration::from_secs(5);
/// How much longer a thaw may take until it is told.
const GRACE: Duration = Duration::from_secs(3);

/// How long a file system may take to be flushed, frozen or thawed.
const DISK: Duration = Duration::from_secs(30);

/// The code of what may be frozen.
const STUCK: u8 = 7;
/// The codes of a hold's own.
pub(super) const NOT_THAWED: u8 = 123;
pub(super) const NOT_RUN: u8 = 125;

/// What a hold ends with, given the code of the work and that of the command, if it was run.
pub(super) fn code(work: u8, command: Option<u8>, is_plan: bool) -> u8 {
    match (work, command) {
        (0, Some(command)) => command,
        (_, Some(_)) => NOT_THAWED,
        (0, None) if is_plan => 0,
        (_, None) => NOT_RUN,
    }
}

/// Runs `hold`: 0 where all is as it was before.
pub(super) fn run(context: &Context<'_>, args: &Hold, typed: &[OsString]) -> u8 {
    let targets = targets::resolve(context, ("hold", Purpose::Freeze), typed, args.nested);
    let disks = match Disks::open(context, args) {
        Ok(disks) => disks,
        Err(error) => return not_run(context, &targets, &error),
    };
    if context.cli.dry_run {
        disks.plan(context);
        return freeze(context, args, &targets, None);
    }
    if !context.tie.is_child() {
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
    let keeper = match Keeper::new(context, Kind::Hold, asked) {
        Ok(keeper) => keeper,
        Err(error) => return not_run(context, &targets, &error),
    };
    let code = freeze(context, args, &targets, Some(&keeper));
    let held = keeper.pledges();
    if held.is_empty() || code != 0 && !args.best_effort {
        keeper.drop_all();
        return code.max(1);
    }
    remember(context, &targets, &held);
    let mut on_disk = disks.freeze(context);
    // The limit counts from the freeze on, as the record has it: the guard goes by that.
    let most = args.max.map(|_| left(&held));
    if on_disk == 0 && most.is_some_and(|most| most.is_zero()) {
        context.err("iceaxe: cannot hold: --max was over before COMMAND could be run\n");
        on_disk = 1;
    }
    let is_said = Cell::new(false);
    if on_disk == 0 {
        context.tie.run(context.say, most, &mut || {
            if disks.frozen.get() > 0 && !is_said.replace(true) {
                context.err(
                    "iceaxe: note: file systems are thawed before COMMAND has ended: it may wait for one\n",
                );
            }
            // They are thawed once more when it has ended, and what failed is told then.
            disks.thaw(context);
        });
    }
    on_disk = on_disk.max(disks.thaw(context));
    thaw(context, &targets, &keeper, &held, on_disk).max(on_disk)
}

/// How long the first of them may be frozen still.
fn left(held: &[(CgroupId, Pledge, Option<Entry>)]) -> Duration {
    let until = held.iter().filter_map(|(_, pledge, _)| pledge.until_us).min();
    Duration::from_micros(until.unwrap_or(0).saturating_sub(boottime_us()))
}

/// Says of each why the command is not run.
fn not_run(context: &Context<'_>, targets: &Targets, error: &Error) -> u8 {
    for (index, typed, _) in targets.found() {
        context.end(index, &super::unresolved("hold", typed, error));
    }
    for (index, report) in targets.lost() {
        context.end(index, report);
    }
    NOT_RUN
}

/// The file systems that are flushed and frozen besides.
struct Disks {
    sync: Vec<Filesystem>,
    freeze: Vec<Filesystem>,
    /// How many of those are frozen, or may be: the first ones.
    frozen: Cell<usize>,
}

impl Disks {
    fn open(context: &Context<'_>, args: &Hold) -> Result<Self> {
        context.within(GRACE * number(args.sync.len() + args.fsfreeze.len() + 1));
        let open = |path: &PathBuf| Filesystem::open(context.host, path);
        let mut disks = Self {
            sync: args.sync.iter().map(open).collect::<Result<_>>()?,
            freeze: Vec::new(),
            frozen: Cell::new(0),
        };
        for path in &args.fsfreeze {
            let disk = open(path)?;
            check(context, &disk)?;
            // One that is named twice is frozen once.
            if !disks.freeze.iter().any(|other| other.is_same(&disk)) {
                disks.freeze.push(disk);
            }
        }
        Ok(disks)
    }

    /// Says what would be done.
    fn plan(&self, context: &Context<'_>) {
        let sync = self.sync.iter().map(|disk| ("flush", disk));
        for (act, disk) in sync.chain(self.freeze.iter().map(|disk| ("freeze", disk))) {
            let path = human::escaped(&disk.path().display().to_string());
            context.err(format!("iceaxe: note: would {act} the file system of {path}\n"));
        }
    }

    /// Flushes, then freezes; 0 where all of it was done.
    fn freeze(&self, context: &Context<'_>) -> u8 {
        let flush = |disk: &Filesystem| {
            context.within(DISK + GRACE);
            disk.sync(DISK)
        };
        let freeze = |(nth, disk): (usize, &Filesystem)| {
            context.within(DISK * 2 + GRACE);
            let guard = context.guard()?;
            guard.keep_filesystem(disk.path())?;
            let done = disk.freeze(DISK);
            if matches!(&done, Err(Error::Io { cause, .. }) if cause.raw_os_error().is_some()) {
                // The kernel said no: who had frozen it before thaws it. One that does not answer may be frozen later.
                guard.keep_filesystems(nth);
            } else {
                self.frozen.set(nth + 1);
            }
            done
        };
        let done = self.sync.iter().try_for_each(flush);
        match done.and_then(|()| self.freeze.iter().enumerate().try_for_each(freeze)) {
            Ok(()) => 0,
            Err(error) => {
                context.err(format!("iceaxe: cannot hold: {error}\n"));
                1
            }
        }
    }

    /// Thaws those that were frozen, before anything else is; 0 where all are.
    fn thaw(&self, context: &Context<'_>) -> u8 {
        let mut code = 0;
        for disk in &self.freeze[..self.frozen.get()] {
            context.within(DISK + GRACE);
            if let Err(error) = disk.thaw(DISK) {
                context.err(format!(
                    "iceaxe: {error}: it may be frozen: fsfreeze --unfreeze it\n"
                ));
                code = STUCK;
            }
        }
        if let (Ok(guard), 0, false) = (context.guard(), code, self.freeze.is_empty()) {
            guard.keep_filesystems(0);
        }
        code
    }
}

/// Thaws the file systems of a hold whose worker died, from another process: who is to do it may hang.
pub(super) fn thaw_disks(root: &Path, paths: &[PathBuf]) {
    let work = || {
        let Ok(host) = Host::enter(root) else { return 1 };
        for path in paths {
            // Nobody is left to be told; the guard tries too.
            let _ = Filesystem::open(&host, path).and_then(|disk| disk.thaw(DISK));
        }
        0
    };
    let _ = child::apart(&[], work); // as above
}

/// Refuses to freeze what iceaxe, the guard or the host itself can't do without.
fn check(context: &Context<'_>, disk: &Filesystem) -> Result<()> {
    let mut ours = vec![
        (PathBuf::from("/"), "the root"),
        (context.host.path("/"), "the root"),
        (context.host.path("/run"), "the records"),
        (context.host.path("/run/iceaxe"), "the records"),
        (PathBuf::from("/proc/self/exe"), "iceaxe itself"),
    ];
    // This process has let go of its own.
    let streams = [
        "iceaxe's standard input",
        "iceaxe's standard output",
        "iceaxe's standard error",
    ];
    ours.extend(streams.into_iter().enumerate().map(|(fd, what)| {
        let stream = format!("/proc/{}/fd/{fd}", nix::unistd::getppid());
        (PathBuf::from(stream), what)
    }));
    for (path, what) in ours {
        // What can't be opened so is no file that is written to: a pipe or a terminal is on no disk.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let Ok(fd) = nix::fcntl::open(&path, flags, Mode::empty()) else {
            continue;
        };
        if disk.holds(&fd) {
            return Err(Error::Refused {
                rule: format!("the file system of {} is that of {what}", disk.path().display()),
                force: None,
            });
        }
    }
    Ok(())
}

/// Freezes all of them as one; 0 where they are.
fn freeze(context: &Context<'_>, args: &Hold, targets: &Targets, keeper: Option<&Keeper<'_>>) -> u8 {
    let together = if args.best_effort {
        Together::BestEffort
    } else {
        Together::AllOrNothing
    };
    let options = FreezeOptions {
        force: verb::lifted(&args.lift.force),
        mode: verb::mode(context.cli.dry_run),
        together,
        ..FreezeOptions::default()
    };
    let way = Way::at_once(context.timeout(FREEZE));
    verb::freeze_all(context, targets, None, &way, keeper, &options)
}

/// What the process that supervises is to put back if this one dies while the command runs.
fn remember(context: &Context<'_>, targets: &Targets, held: &[(CgroupId, Pledge, Option<Entry>)]) {
    let found = targets.found();
    for (id, pledge, _) in held.iter().filter(|(_, pledge, _)| !pledge.standing.requested) {
        let Some((index, typed, _)) = of(&found, *id) else {
            continue;
        };
        let mut undone = Report::blank("thaw", typed);
        (undone.outcome, undone.exit) = (Outcome::Released, 9);
        undone.error = Some(
            "the process that did the work was killed: thawed, but no task is proven to run again".to_owned(),
        );
        let mut unheard = undone.clone();
        (unheard.outcome, unheard.exit) = (Outcome::Stuck, 7);
        unheard.error = Some(
            "nothing was heard in time from the process that does the work: it is killed, and the guard thaws it"
                .to_owned(),
        );
        (context.say)(&Message::Will(number(*index), context.told(&unheard)));
        // It is plain data, which can always be said in JSON.
        if let Ok(text) = serde_json::to_vec(&pledge.standing) {
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
    keeper: &Keeper<'_>,
    held: &[(CgroupId, Pledge, Option<Entry>)],
    on_disk: u8,
) -> u8 {
    let found = targets.found();
    let each: Vec<(u32, &str, &Container, &Pledge, Option<&Entry>)> = held
        .iter()
        .rev()
        .filter_map(|(id, pledge, entry)| {
            let (index, typed, container) = of(&found, *id)?;
            Some((number(*index), *typed, *container, pledge, entry.as_ref()))
        })
        .collect();
    let leaving: Vec<Leaving<'_>> = each
        .iter()
        .map(|(_, _, container, pledge, entry)| Leaving {
            pledge,
            container: Some(container),
            entry: *entry,
        })
        .collect();
    let limit = context.timeout(THAW);
    context.within(limit + GRACE);
    // No signal breaks it off, nor the end of who supervises.
    let reports = engine::part(
        context.host,
        keeper.ledger(),
        &leaving,
        Patience::of(limit),
        &mut |nth, report, step| {
            let (index, ..) = each[nth];
            match step {
                Step::Writing(write) => {
                    let mut stuck = report.clone();
                    (stuck.outcome, stuck.exit) = (Outcome::Stuck, 7);
                    let file = write.file.display();
                    stuck.error = Some(format!(
                        "write {} to {file}: the write did not return",
                        write.value
                    ));
                    (context.say)(&Message::Will(index, context.told(&stuck)));
                }
                Step::Done => (context.say)(&Message::Will(index, context.told(report))),
                _ => {}
            }
        },
    );
    let mut code = 0;
    for ((index, ..), report) in each.iter().zip(&reports) {
        (context.say)(&Message::End(*index, context.told(report)));
        code = code.max(report.exit);
    }
    // What could not be thawed is left to the guard, which tries until it can.
    keeper.dismiss_unless(on_disk == STUCK || reports.iter().any(engine::may_be_frozen));
    code
}
