//! `recover`: finishes what was left by those who were killed. It may be run at any time, twice at once too.

use std::cell::Cell;
use std::ffi::OsString;
use std::time::Duration;

use clap::Args;

use super::Run;
use crate::cli::context::{Context, joined, json};
use crate::cli::{disks, text};
use crate::engine::{self, described};
use crate::error::{Error, Result};
use crate::hold::{self, Release};
use crate::patience::Patience;
use crate::report::{Outcome, Report, Verb};
use crate::store::{DiskRecordFile, Fate, Process, RecordFile, Store, boot, boottime_us};

// It has no options of its own.
#[derive(Debug, Args)]
pub(crate) struct Recover {}

impl Run for Recover {
    fn run(&self, context: &Context<'_>, _: &[OsString]) -> u8 {
        run(context)
    }

    fn needs_guard(&self) -> bool {
        true
    }
}

/// How long each may take to thaw, and to be proven, where no limit is given.
const THAW: Duration = Duration::from_secs(5);
/// How long those who were killed may take to be gone: no more than the grace of the others.
const DYING: Duration = Duration::from_secs(1);
/// How often it is looked whether one is.
const LOOK: Duration = Duration::from_millis(1);
/// How much longer one may take until it is told.
const GRACE: Duration = Duration::from_secs(3);

/// Runs `recover`.
fn run(context: &Context<'_>) -> u8 {
    match recover(context) {
        Ok(code) => code,
        Err(error) => {
            context.err(format!("iceaxe: cannot recover: {error}\n"));
            engine::untouched_end(&error).exit()
        }
    }
}

fn recover(context: &Context<'_>) -> Result<u8> {
    let host = context.host;
    context.within(GRACE);
    let Some(store) = Store::open(host)? else {
        return Ok(nothing(context));
    };
    await_killed(context, &store)?;
    let (entries, mut odd) = store.entries()?;
    let (frozen_disks, odd_disks) = store.disks()?;
    odd.extend(odd_disks);
    let mut codes: Vec<u8> = Vec::new();
    for odd in &odd {
        context.err(format!(
            "iceaxe: cannot recover what is not understood: {}\n",
            text::escaped(odd)
        ));
        codes.push(1);
    }
    let (boot, now) = (boot(host), boottime_us());
    let guarded = Cell::new(false);
    let mut found = false;
    // Before anything else, as a hold has it: who waits for a file system can't be thawed for good.
    for entry in frozen_disks {
        let fate = entry.fate(host, &boot, now);
        if fate != Fate::Stands {
            found = true;
            codes.extend(end_disk(context, &store, &entry, fate));
        }
    }
    for entry in entries {
        let fate = store.fate(&entry, host, &boot, now);
        if fate == Fate::Stands && !entry.is_gone(host) {
            continue;
        }
        found = true;
        if context.options.dry_run {
            context.out(planned(context, &entry, fate));
            continue;
        }
        context.within(context.timeout(THAW) + GRACE);
        match fate {
            // Nobody could thaw it from here, and a guard would only say so.
            Fate::Unguarded if host.mount(entry.record.standing.hierarchy).is_none() => {
                let report = unreachable(&entry);
                codes.push(report.exit());
                let last_words = context.told(&report);
                context.out(last_words.out);
                context.err(last_words.err);
            }
            Fate::Unguarded => match guard_again(context, &store, &entry, &guarded) {
                Ok(told) => {
                    context.out(told);
                    codes.push(0);
                }
                Err(error) => {
                    context.err(format!(
                        "iceaxe: cannot guard {}: {error}\n",
                        text::escaped(&entry.record.target)
                    ));
                    codes.push(1);
                }
            },
            Fate::Past | Fate::Stands => {
                if let Err(error) = store.remove(&entry) {
                    context.err(format!("iceaxe: cannot recover: {error}\n"));
                    codes.push(1);
                }
            }
            Fate::Over => {
                let report = end(context, &store, &entry);
                codes.push(report.exit());
                let last_words = context.told(&report);
                context.out(last_words.out);
                context.err(last_words.err);
            }
        }
    }
    let_go(context, guarded.get());
    if !context.options.dry_run {
        let is_alive = |pid: i32| Process::is_there(host, pid);
        store.sweep(is_alive)?;
    }
    if !found && odd.is_empty() {
        return Ok(nothing(context));
    }
    Ok(joined(codes))
}

/// Waits for those who were killed just before, and may do their last: what they leave behind is seen then.
fn await_killed(context: &Context<'_>, store: &Store) -> Result<()> {
    let clock = Patience::of(DYING).start();
    let (entries, disks) = (store.entries()?.0.into_iter(), store.disks()?.0.into_iter());
    let owners = entries.flat_map(|entry| entry.record.owners);
    for owner in owners.chain(disks.flat_map(|entry| entry.disk.owners)) {
        while owner.is_killed(context.host) && !clock.is_over() {
            clock.pause(LOOK, &[]);
        }
    }
    Ok(())
}

/// Lets the guard go that nothing was given to.
fn let_go(context: &Context<'_>, guarded: bool) {
    match context.guard() {
        // One lease that could not be given to it ends none of the others. Where the guard is gone, recover finds them.
        Ok(guard) if guarded => drop(guard.commit()),
        Ok(guard) => guard.dismiss(),
        Err(_) => {} // nothing was given to one that could not be made
    }
}

fn nothing(context: &Context<'_>) -> u8 {
    let_go(context, false);
    // No record is no proof where the host itself can't be looked at: --root may say the wrong directory.
    if let Err(error) = context.host.check_freezer() {
        context.err(format!("iceaxe: cannot recover: {error}\n"));
        return engine::untouched_end(&error).exit();
    }
    if !context.options.quiet && !context.options.json {
        context.err("iceaxe: note: nothing was left behind\n");
    }
    0
}

fn planned(context: &Context<'_>, entry: &RecordFile, fate: Fate) -> String {
    let what = match fate {
        Fate::Unguarded => "would be given a guard",
        Fate::Over => "would be thawed",
        Fate::Past | Fate::Stands => "is gone; its record would be taken away",
    };
    if context.options.json {
        let mut report = report_of(entry);
        report.outcome = Outcome::Planned;
        report.hints.push(what.to_owned());
        return json(&report);
    }
    format!(
        "{}: {} {what}\n",
        text::escaped(&entry.record.target),
        text::escaped(&described(entry))
    )
}

/// What is said of a cgroup whose hierarchy is not mounted.
fn unreachable(entry: &RecordFile) -> Report {
    let standing = &entry.record.standing;
    let mut report = report_of(entry);
    let error = Error::Unsupported(format!(
        "{} can't be reached, and its record stays: no cgroup v{} freezer is mounted on this host",
        standing.path.display(),
        standing.hierarchy.version()
    ));
    report.outcome = engine::untouched_end(&error);
    report.error = Some(error.to_string());
    report
}

fn report_of(entry: &RecordFile) -> Report {
    let mut report = Report::blank(Verb::Recover, &entry.record.target);
    report.id.clone_from(&entry.record.id);
    report.name.clone_from(&entry.record.name);
    report.runtime = entry.record.runtime;
    report
}

/// Thaws a file system whose hold is over; its code, where anything was done.
fn end_disk(context: &Context<'_>, store: &Store, entry: &DiskRecordFile, fate: Fate) -> Option<u8> {
    let path = entry.disk.path.display().to_string();
    let named = format!(
        "the file system of {} (device {})",
        text::escaped(&path),
        entry.disk.filesystem.device
    );
    let mut report = Report::blank(Verb::Recover, &path);
    if context.options.dry_run {
        let what = match fate {
            Fate::Past => "is of another boot; its record would be taken away",
            _ => "would be thawed",
        };
        report.outcome = Outcome::Planned;
        report.hints.push(format!("{named} {what}"));
        context.out(if context.options.json {
            json(&report)
        } else {
            format!("{named} {what}\n")
        });
        return None;
    }
    context.within(context.timeout(THAW) + GRACE);
    let done = match fate {
        Fate::Past => store.remove_disk(entry),
        _ => disks::thaw_on_record(store, entry, context.timeout(THAW)),
    };
    match done {
        Ok(()) => {
            report.outcome = Outcome::Confirmed;
            if context.options.json {
                context.out(json(&report));
            } else if !context.options.quiet && fate != Fate::Past {
                context.out(format!("thawed {named}, which was left behind\n"));
            }
        }
        Err(error) => {
            report.outcome = Outcome::Stuck;
            report.error = Some(error.to_string());
            report.hints.push(
                "it stays on record: mount it again, or enter the mount namespace that it is mounted in, and iceaxe \
                 recover there"
                    .to_owned(),
            );
            let last_words = context.told(&report);
            context.out(last_words.out);
            context.err(last_words.err);
        }
    }
    Some(report.exit())
}

/// Thaws what is over.
fn end(context: &Context<'_>, store: &Store, entry: &RecordFile) -> Report {
    let leaving = [Release {
        record: &entry.record,
        container: None,
        entry: Some(entry),
    }];
    let patience: Patience<'_> = context.patience(context.timeout(THAW));
    let mut reports = hold::release_all(context.host, Some(store), &leaving, patience, &mut |_, _, _| {});
    let mut report = reports.pop().unwrap_or_else(|| report_of(entry));
    report.hints.push(format!("{} was left behind", described(entry)));
    report
}

/// Gives a lease whose guard was killed another one, until the same time.
fn guard_again(
    context: &Context<'_>,
    store: &Store,
    entry: &RecordFile,
    guarded: &Cell<bool>,
) -> Result<String> {
    let guard = context.guard()?;
    let answer = guard.hear_once()?;
    if let (Some(note), false) = (&answer.note, guarded.get()) {
        context.err(format!("iceaxe: note: {note}\n"));
    }
    let host = context.host;
    let clock = Patience::of(context.timeout(THAW)).start();
    let Some(_lock) = store.lock(entry.record.standing.id, &clock)? else {
        return Err(Error::Usage("broken off by a signal".to_owned()));
    };
    // Another one may have been here first, and a thaw may have ended it.
    let still = store.again(entry)?;
    if still.is_none_or(|still| still.fate(host, &boot(host), boottime_us()) != Fate::Unguarded) {
        return Ok(String::new());
    }
    let mut record = entry.record.clone();
    record.owners = [Process::this(host), answer.process]
        .into_iter()
        .flatten()
        .collect();
    let mut new = store.add(&record)?;
    guard.keep(&record, Some(&new))?;
    guarded.set(true);
    store.settle(&mut new)?;
    guard.commit()?;
    store.remove(entry)?;
    let left = record.until_us.unwrap_or(0).saturating_sub(boottime_us());
    if context.options.json {
        let mut report = report_of(entry);
        report.outcome = Outcome::Unchanged;
        report.hints.push("it has a guard again".to_owned());
        return Ok(json(&report));
    }
    if context.options.quiet {
        return Ok(format!("{}\n", entry.record.target));
    }
    let target = text::escaped(&record.target);
    Ok(format!(
        "{target} has a guard again, which thaws it in {}\n",
        text::duration(left)
    ))
}
