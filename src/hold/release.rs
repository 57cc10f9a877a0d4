//! The end of a hold or a lease: the last holder of a container thaws it, and nobody else does. What was ended by a thaw
//! meanwhile, or is another container by now, is left alone.

use crate::cgroup::Cgroup;
use crate::engine::{self, Watcher, described, others, release};
use crate::error::{Error, Result};
use crate::freezer::Saved;
use crate::host::Host;
use crate::patience::Patience;
use crate::report::{Outcome, Report, Verb};
use crate::resolver::target::Target;
use crate::resolver::{self, Container, Nesting};
use crate::store::{HoldRecord, Lock, RecordFile, Store, boottime_us};

/// One who leaves.
#[derive(Debug)]
pub struct Release<'l> {
    /// What is answered for.
    pub record: &'l HoldRecord,
    /// Its container; where there is none it is found by its cgroup.
    pub container: Option<&'l Container>,
    /// Where it is on file.
    pub entry: Option<&'l RecordFile>,
}

/// Ends these records, in their order. What must be thawed is thawed and proven; what could not be thawed stays on file. A
/// report each.
pub fn release_all(
    host: &Host,
    store: Option<&Store>,
    leaving: &[Release<'_>],
    patience: Patience<'_>,
    watcher: Watcher<'_>,
) -> Vec<Report> {
    // A change of somebody else's is waited for, but not for long: what is over is to be thawed.
    let clock = patience.at_most(LOCK).start();
    let ids = leaving.iter().map(|one| one.record.standing.id);
    let lock = |id| store.and_then(|store| store.lock(id, &clock).ok().flatten());
    let _locks: Vec<Lock<'_>> = ids.filter_map(lock).collect();
    let mut found = Vec::new();
    let mut reports: Vec<Report> = Vec::new();
    for one in leaving {
        let mut report = blank(one.record);
        // Where the records can't be read, what is known here is done.
        match rest_of(host, store, one).unwrap_or(Rest::Thaw) {
            Rest::Thaw => match one.container {
                Some(_) => found.push((reports.len(), None)),
                None => match find(host, &one.record.standing) {
                    Ok(container) => found.push((reports.len(), Some(container))),
                    Err(error) => fail(host, &mut report, &one.record.standing, &error),
                },
            },
            Rest::Leave(why) => {
                report.end(Outcome::Unchanged);
                report.hints.push(why);
            }
        }
        reports.push(report);
    }
    let held: Vec<(usize, &Container)> = found
        .iter()
        .filter_map(|(at, container)| Some((*at, container.as_ref().or(leaving[*at].container)?)))
        .collect();
    let to_thaw: Vec<(&str, &Container, &Saved)> = held
        .iter()
        .map(|(at, container)| {
            (
                leaving[*at].record.target.as_str(),
                *container,
                &leaving[*at].record.standing,
            )
        })
        .collect();
    let thawed = release(host, &to_thaw, patience, &mut |nth, report, step| {
        watcher(held[nth].0, report, step)
    });
    for ((at, _), report) in held.iter().zip(thawed) {
        reports[*at] = report;
    }
    for (one, report) in leaving.iter().zip(&mut reports) {
        if report.outcome.is_gone() {
            gone(report); // nothing of it is left to be thawed
        }
        report.frozen_for_us = Some(boottime_us().saturating_sub(one.record.since_us));
        if let (Some(store), Some(entry), false) = (store, one.entry, may_be_frozen(report))
            && let Err(error) = store.remove(entry)
        {
            report.hints.push(format!("its record is left over: {error}"));
        }
    }
    reports
}

/// Whether a record could not be ended: it stays on file, and is tried again.
#[must_use]
pub fn may_be_frozen(report: &Report) -> bool {
    matches!(
        report.outcome,
        Outcome::Stuck | Outcome::Error | Outcome::Usage | Outcome::Denied
    )
}

/// How long a change of somebody else's is waited for.
const LOCK: std::time::Duration = std::time::Duration::from_millis(500);

/// What is to be done at an end.
enum Rest {
    Thaw,
    Leave(String),
}

fn rest_of(host: &Host, store: Option<&Store>, one: &Release<'_>) -> Result<Rest> {
    let Some(store) = store else {
        return Ok(Rest::Thaw);
    };
    let standing = &one.record.standing;
    if let Some(entry) = one.entry
        && store.again(entry)?.is_none()
    {
        return Ok(Rest::Leave(
            "somebody ended it before: it was thawed meanwhile".to_owned(),
        ));
    }
    let others = others(host, store, standing, one.entry)?;
    Ok(match others.first() {
        None => Rest::Thaw,
        Some(other) => Rest::Leave(format!("it stays frozen: {} holds it too", described(other))),
    })
}

fn blank(record: &HoldRecord) -> Report {
    let mut report = Report::blank(Verb::Thaw, &record.target);
    report.id.clone_from(&record.id);
    report.name.clone_from(&record.name);
    report.runtime = record.runtime;
    report
}

/// The container whose cgroup that is; gone where another one has its path.
fn find(host: &Host, standing: &Saved) -> Result<Container> {
    let gone = |dir| Err(Error::Gone(dir));
    let cgroup = Cgroup::open(host, standing.hierarchy, &standing.path)?;
    if cgroup.id() != standing.id {
        return gone(cgroup.dir().to_owned());
    }
    let target = Target::In(standing.hierarchy, standing.path.clone());
    let found = resolver::resolve(host, &target, Nesting::Refuse)?.container;
    match found.own.iter().any(|own| own.id() == standing.id) {
        true => Ok(found),
        false => gone(cgroup.dir().to_owned()),
    }
}

fn gone(report: &mut Report) {
    report.end(Outcome::Ended);
    report.error = None;
    report.hints = vec!["the container that was frozen is gone".to_owned()];
}

/// Where its container can't be looked at, what stood before is put back at least.
fn fail(host: &Host, report: &mut Report, standing: &Saved, error: &Error) {
    if let Error::Gone(_) | Error::NotFound(_) = error {
        gone(report);
        return;
    }
    match engine::put_back(host, standing) {
        Ok(()) => {
            report.end(Outcome::Released);
            report.error = Some(format!("thawed, but no task is proven to run again: {error}"));
        }
        Err(failed) => {
            report.end(Outcome::Stuck);
            report.error = Some(format!("it could not be thawed: {failed}"));
        }
    }
}
