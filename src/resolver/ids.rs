//! Containers by their IDs: a runtime's record, checked against what runs, or a cgroup that is named by the ID.

use std::path::{Path, PathBuf};

use super::census::{self, Census};
use super::lines::{cgroup_lines, within_namespace};
use super::runc::{Record, Recorded};
use super::{BUDGET, Found, Identity, Located, candidates, details, docker, naming, no_such, only, target};
use crate::cgroup::Cgroup;
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};
use crate::verifier::Witness;

/// An ID, whole or its beginning.
pub(super) fn by_id(host: &Host, id: &str) -> Result<Found> {
    let (exact, mut dead) = exactly(host, id);
    if !exact.is_empty() {
        return only(host, id, exact);
    }
    let census = Census::take(host);
    let (live, more) = locate(host, &census, id);
    dead.extend(more);
    if !live.is_empty() {
        return only(host, id, live);
    }
    if full_ids(&census, id).any(|full| full != id) {
        return by_prefix(host, id, &census);
    }
    if dead.is_empty() && !census.incomplete.is_empty() {
        return Err(unsure(id, &census.incomplete, Vec::new()));
    }
    Err(dead
        .into_iter()
        .next()
        .or_else(|| stopped(host, id))
        .unwrap_or_else(|| no_such(id)))
}

/// Why a whole ID is no running container, where docker has it on record.
fn stopped(host: &Host, id: &str) -> Option<Error> {
    if !target::is_full_id(id.as_bytes()) {
        return None;
    }
    let wanted = id.to_owned();
    let known = details::beside(host, move |host| {
        let roots = docker::configured_data_roots(host).unwrap_or_default(); // unreadable: nothing is known
        roots
            .iter()
            .any(|root| matches!(docker::config(root, &wanted), Ok(Some(_))))
    });
    // Too late is not known.
    known?
        .recv_timeout(BUDGET)
        .ok()?
        .then(|| Error::NotRunning(format!("docker's {id}, of which no process runs")))
}

/// The whole IDs that begin so.
pub(super) fn full_ids<'c>(census: &'c Census, prefix: &'c str) -> impl Iterator<Item = &'c str> {
    let ids = census.ids().map(|(id, _)| id);
    ids.filter(move |id| target::is_full_id(id.as_bytes()) && id.starts_with(prefix))
}

pub(super) fn by_prefix(host: &Host, prefix: &str, census: &Census) -> Result<Found> {
    let mut live = Vec::new();
    let mut dead = Vec::new();
    for id in full_ids(census, prefix) {
        let (some, none) = locate(host, census, id);
        live.extend(some);
        dead.extend(none);
    }
    if !census.incomplete.is_empty() {
        let ids: Vec<&str> = live
            .iter()
            .filter_map(|located| located.identity.id.as_deref())
            .collect();
        return Err(unsure(prefix, &census.incomplete, candidates(host, census, &ids)));
    }
    if live.is_empty() {
        return Err(dead.into_iter().next().unwrap_or_else(|| no_such(prefix)));
    }
    only(host, prefix, live)
}

/// A word whose meaning can't be certain, as a source could not be read.
pub(super) fn unsure(word: &str, sources: &[String], candidates: Vec<Candidate>) -> Error {
    let word = word.escape_debug();
    Error::Ambiguous {
        why: format!("what \"{word}\" means is not certain: {}", sources.join("; ")),
        candidates,
    }
}

/// The containers whose ID is `id`, looked for where a bounded number of files tells: each runtime's own record, and
/// for a whole ID the usual cgroups. With them why the records of others are no match.
pub(super) fn exactly(host: &Host, id: &str) -> (Vec<Located>, Vec<Error>) {
    if !target::is_id(id.as_bytes()) {
        return (Vec::new(), Vec::new());
    }
    let mut live = Vec::new();
    let mut dead = Vec::new();
    // What can't be opened hides nothing else, and an ID that is found is certain.
    for root in census::all_roots(host, &mut Vec::new()) {
        match root.record(id).transpose() {
            None => {}
            Some(record) => match record.and_then(|record| by_record(host, record)) {
                Ok(located) => live.push(located),
                Err(error) => dead.push(error),
            },
        }
    }
    if live.is_empty() && !is_rejected(&dead) && target::is_full_id(id.as_bytes()) {
        for path in naming::usual_paths(id) {
            for mount in host.mounts() {
                live.extend(by_named(host, mount.hierarchy, &path, &mut dead));
            }
        }
    }
    (live, dead)
}

/// The containers that a census has under an ID, and why its other traces are no match.
pub(super) fn locate(host: &Host, census: &Census, id: &str) -> (Vec<Located>, Vec<Error>) {
    let mut live = Vec::new();
    let mut dead = Vec::new();
    for record in census.records(id) {
        match record.and_then(|record| by_record(host, record)) {
            Ok(located) => live.push(located),
            Err(error) => dead.push(error),
        }
    }
    if live.is_empty() && !is_rejected(&dead) {
        for (hierarchy, named) in census.entry(id).iter().flat_map(|entry| &entry.cgroups) {
            live.extend(by_named(host, *hierarchy, &named.path, &mut dead));
        }
    }
    (live, dead)
}

/// Whether a record was read and is no match. Its cgroup's name says less than it does; where a record could not be
/// read, the name and the tasks in it are the best word there is.
fn is_rejected(dead: &[Error]) -> bool {
    dead.iter().any(|error| {
        matches!(
            error,
            Error::NotRunning(_) | Error::Ambiguous { .. } | Error::Unsupported(_)
        )
    })
}

/// Checks a record against what runs: the process lives, started when the record says, and is where it says.
pub(super) fn by_record(host: &Host, record: Record) -> Result<Located> {
    let Record {
        runtime,
        id,
        dir,
        state,
    } = record;
    let pid = state.init_process_pid;
    let gone = |why: String| Error::NotRunning(format!("{id} ({}): {why}", dir.display()));
    match Witness::new(host).stat(&pid.to_string()) {
        None => return Err(gone(format!("its process {pid} is gone"))),
        Some(stat) if stat.starttime != state.init_process_start => {
            return Err(gone(format!(
                "process {pid} is another one now: it started at tick {} and the container's at {}",
                stat.starttime, state.init_process_start
            )));
        }
        Some(stat) if matches!(stat.state, 'Z' | 'X' | 'x') => {
            return Err(gone(format!("its process {pid} is dead")));
        }
        Some(_) => {}
    }
    let lines = cgroup_lines(host, pid).ok_or_else(|| gone(format!("its process {pid} is gone")))?;
    let mut recorded: Vec<(Hierarchy, PathBuf)> = Vec::new();
    for hierarchy in by_version(host) {
        let Some(line) = lines.path(hierarchy) else {
            continue;
        };
        let line = within_namespace(line)?;
        match state.cgroup(host, hierarchy, line) {
            Recorded::At(path) => recorded.push((hierarchy, path)),
            // Of the second hierarchy the tasks' own word is taken.
            Recorded::Elsewhere(path)
                if recorded.is_empty() && naming::chain(line).iter().all(|named| named.id != id) =>
            {
                return Err(Error::Ambiguous {
                    why: format!(
                        "the record in {} says {}, but its process {pid} is in {}",
                        dir.display(),
                        path.display(),
                        line.display()
                    ),
                    candidates: Vec::new(),
                });
            }
            Recorded::Elsewhere(_) | Recorded::Nothing => {}
        }
    }
    // A record of another mount namespace names nothing here; the kernel's own line does, if it is named by the ID.
    if recorded.is_empty() {
        recorded = by_version(host)
            .filter_map(|hierarchy| Some((hierarchy, lines.path(hierarchy)?)))
            .filter_map(|(hierarchy, path)| {
                let named = naming::chain(path).into_iter().find(|named| named.id == id)?;
                Some((hierarchy, named.path))
            })
            .collect();
    }
    let mut recorded = recorded.into_iter();
    let Some((hierarchy, path)) = recorded.next() else {
        return Err(Error::Unsupported(format!(
            "{id} has no cgroup of its own: its process {pid} can't be frozen alone"
        )));
    };
    let first = Cgroup::open(host, hierarchy, &path)?;
    if !path.to_string_lossy().contains(&id) {
        refuse_shared(host, hierarchy, &path, &id)?;
    }
    // podman and others run runc in its default root; the cgroup is named by whom.
    let runtime = naming::innermost(&path)
        .and_then(|named| named.runtime)
        .unwrap_or(runtime);
    let identity = Identity {
        id: Some(id),
        name: None,
        runtime: Some(runtime.to_owned()),
        pid: Some(pid),
        record: Some(dir),
        is_sandbox: state.is_sandbox(),
    };
    Ok(Located {
        identity,
        first,
        other: recorded.next().map(|(_, path)| path),
    })
}

/// A cgroup that is named after a container, where no record tells more: its name and the tasks in it are the
/// kernel's word.
pub(super) fn by_named(
    host: &Host,
    hierarchy: Hierarchy,
    path: &Path,
    dead: &mut Vec<Error>,
) -> Option<Located> {
    let named = naming::last(path)?;
    let first = match Cgroup::open(host, hierarchy, path) {
        Ok(first) => first,
        Err(Error::Gone(_)) => return None,
        Err(error) => {
            dead.push(error);
            return None;
        }
    };
    let Some(pid) = census::first_process(host, &first) else {
        dead.push(Error::NotRunning(format!(
            "{}: {} has no process",
            named.id,
            first.dir().display()
        )));
        return None;
    };
    let identity = Identity {
        name: named.is_name.then(|| named.id.clone()),
        id: Some(named.id),
        runtime: named.runtime.map(str::to_owned),
        pid: Some(pid),
        record: None,
        is_sandbox: false,
    };
    Some(Located {
        identity,
        first,
        other: None,
    })
}

/// The hierarchies that the host has, v1 first, as the runtimes use them.
pub(super) fn by_version(host: &Host) -> impl Iterator<Item = Hierarchy> {
    [Hierarchy::V1, Hierarchy::V2]
        .into_iter()
        .filter(|&hierarchy| host.mount(hierarchy).is_some())
}

/// The records of all containers whose cgroup, as recorded, is `path` or holds it.
fn records_above(host: &Host, hierarchy: Hierarchy, path: &Path) -> Vec<(PathBuf, Record)> {
    let census = Census::take(host);
    let records = census.ids().flat_map(|(id, _)| census.records(id)).flatten(); // an unreadable one names no cgroup
    let above = records.filter_map(|record| match record.state.cgroup(host, hierarchy, path) {
        Recorded::At(own) => Some((own, record)),
        _ => None,
    });
    above.collect()
}

/// Refuses a cgroup that a second running container has on record as its own: what freezes one freezes both.
fn refuse_shared(host: &Host, hierarchy: Hierarchy, path: &Path, id: &str) -> Result<()> {
    let witness = Witness::new(host);
    let is_running = |record: &Record| {
        let stat = witness.stat(&record.state.init_process_pid.to_string());
        stat.is_some_and(|stat| stat.starttime == record.state.init_process_start)
    };
    let other = records_above(host, hierarchy, path)
        .into_iter()
        .find(|(own, record)| own == path && record.id != id && is_running(record));
    match other {
        None => Ok(()),
        Some((_, other)) => Err(Error::Ambiguous {
            why: format!(
                "{} is the cgroup of {id} and of {}: written as v{}:{}, a target means both",
                path.display(),
                other.id,
                hierarchy.version(),
                path.display()
            ),
            candidates: Vec::new(),
        }),
    }
}

/// The container on record whose cgroup holds `path`, where the cgroup's own name says nothing.
pub(super) fn recorded_at(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<Option<Located>> {
    let nearest = records_above(host, hierarchy, path)
        .into_iter()
        .max_by_key(|(own, _)| own.components().count());
    nearest.map(|(_, record)| by_record(host, record)).transpose()
}
