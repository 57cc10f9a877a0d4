//! Containers by their IDs: a runtime's record, checked against what runs, or a cgroup that is named by the ID.

use std::path::Path;

use super::beside::beside;
use super::census::{self, Census, Word};
use super::check::{self, by_record};
use super::docker::DataRoot;
use super::place::Point;
use super::record::Record;
use super::{Identity, Located, Resolver, docker, naming, no_such, only, roots, shim, target};
use crate::cgroup::Cgroup;
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};
use crate::verifier::Witness;

/// The containers with one ID, and why its other traces are no match.
#[derive(Debug, Default)]
pub(super) struct Traces {
    pub(super) live: Vec<Located>,
    pub(super) dead: Vec<Error>,
    /// What users claim and is not so, or can't be read: it spoils nothing.
    lies: Vec<Error>,
    /// Whether a record was read and is no match. Its cgroup's name says less than it does; where a record could not
    /// be read, the name and the tasks in it are the best word there is.
    is_rejected: bool,
}

impl Traces {
    /// Those that run.
    pub(super) fn of(live: Vec<Located>) -> Self {
        Self {
            live,
            ..Self::default()
        }
    }

    fn add(&mut self, host: &Host, word: Word, record: Result<Record>) {
        let is_users = word == Word::Users || record.as_ref().is_ok_and(|record| record.user.is_some());
        let checked = record.map(|record| by_record(host, record));
        let is_rejected = checked.as_ref().is_ok_and(Result::is_err);
        match checked.and_then(|located| located) {
            Ok(located) => self.live.push(located),
            Err(error) if is_users && !matches!(error, Error::NotRunning(_)) => self.lies.push(error),
            Err(error) => {
                self.is_rejected |= is_rejected;
                self.dead.push(error);
            }
        }
    }

    /// Why a record under that ID can't be followed: a container with it may run all the same.
    pub(super) fn unread(&self) -> Vec<String> {
        let is_over = |error: &&Error| matches!(error, Error::NotRunning(_) | Error::Gone(_));
        let unread = self.dead.iter().filter(|error| !is_over(error));
        unread.map(ToString::to_string).collect()
    }

    /// Adds another's.
    pub(super) fn extend(&mut self, other: Self) {
        self.live.extend(other.live);
        self.dead.extend(other.dead);
        self.lies.extend(other.lies);
        self.is_rejected |= other.is_rejected;
    }

    /// The same, of root's word alone.
    pub(super) fn reason_of_roots(self) -> Option<Error> {
        self.dead.into_iter().next()
    }

    /// Why there is none.
    pub(super) fn reason(self) -> Option<Error> {
        self.dead.into_iter().chain(self.lies).next()
    }
}

/// An ID, whole or its beginning.
pub(super) fn by_id(resolver: &Resolver<'_>, id: &str) -> Result<super::Found> {
    let host = resolver.host;
    let mut exact = exactly(resolver, id);
    if !exact.live.is_empty() {
        return only(resolver, id, exact.live);
    }
    let census = resolver.census();
    let traces = locate(host, census, id);
    if !traces.live.is_empty() {
        return only(resolver, id, traces.live);
    }
    exact.extend(traces);
    if full_ids(census, id).any(|full| full != id) {
        let unread = exact.unread();
        if !unread.is_empty() {
            let ids: Vec<&str> = full_ids(census, id).collect();
            return Err(unsure(id, &unread, resolver.candidates(&ids)));
        }
        return by_prefix(resolver, id);
    }
    let unlisted = census.unlisted();
    if exact.dead.is_empty() && !unlisted.is_empty() {
        return Err(unsure(id, &unlisted, Vec::new()));
    }
    if exact.dead.is_empty()
        && let Some(found) = unrecorded(resolver, id)?
    {
        return Ok(found);
    }
    Err(exact
        .reason()
        .or_else(|| stopped(host, id))
        .unwrap_or_else(|| no_such(id)))
}

/// A container whose runtime keeps its records where nobody told: its cgroup is called by its ID and nothing else, as
/// runc and crun have it where no other path is asked for, and the first process of a PID namespace is in it.
pub(super) fn unrecorded(resolver: &Resolver<'_>, id: &str) -> Result<Option<super::Found>> {
    let host = resolver.host;
    // A whole ID of an engine's is known by every cgroup that bears it.
    if !target::is_id(id.as_bytes()) || target::is_full_id(id.as_bytes()) {
        return Ok(None);
    }
    let witness = Witness::new(host);
    let mut live = Vec::new();
    for mount in host.mounts() {
        let root = Cgroup::open(host, mount.hierarchy, "/".as_ref())?;
        let mut paths = Vec::new();
        root.paths_below(host, &mut |path| {
            if path.file_name().is_some_and(|name| name == id) && naming::parent(path).is_none() {
                paths.push(path.to_owned());
            }
        })?; // what is too deep to be listed is no runtime's
        for path in paths {
            let Ok(first) = Cgroup::open(host, mount.hierarchy, &path) else {
                continue; // gone
            };
            // In the cgroup itself: what has its processes only below is a parent of others.
            let own = first.tids().unwrap_or_default(); // gone: nobody is in it
            let is_it = |pid: &i32| own.contains(pid) && witness.is_first_in_namespace(*pid);
            let Some(pid) = census::first_process(host, &first).filter(is_it) else {
                continue;
            };
            let identity = Identity {
                id: Some(id.to_owned()),
                pid: Some(pid),
                ..Identity::default()
            };
            live.push(Located {
                identity,
                user: check::user_of(first.path()),
                first,
                point: Point::Named,
                other: None,
                lines: None,
            });
        }
    }
    if live.is_empty() {
        return Ok(None);
    }
    let mut found = only(resolver, id, live)?;
    found.notes.push(format!(
        "{id} is told by its cgroup {} alone: its runtime's record was not found",
        found.container.freeze_point().dir().display()
    ));
    Ok(Some(found))
}

/// Why a whole ID is no running container, where docker has it on record or containerd runs it in another way.
fn stopped(host: &Host, id: &str) -> Option<Error> {
    if !target::is_full_id(id.as_bytes()) {
        return None;
    }
    if shim::is_of_kata(host, id) {
        return naming::refusal(Some("kata")).map(|why| Error::Unsupported(format!("{id}: {why}")));
    }
    let wanted = id.to_owned();
    let known = beside(host, move |host| {
        let roots = docker::configured_data_roots(host).unwrap_or_default(); // unreadable: nothing is known
        roots
            .into_iter()
            .any(|root| matches!(DataRoot::new(root).config(&wanted), Ok(Some(_))))
    });
    // Too late is not known.
    known
        .wait()?
        .then(|| Error::NotRunning(format!("docker's {id}, of which no process runs")))
}

/// The whole IDs that begin so.
pub(super) fn full_ids<'c>(census: &'c Census, prefix: &'c str) -> impl Iterator<Item = &'c str> {
    let ids = census.beginning(prefix);
    ids.filter(|id| target::is_full_id(id.as_bytes()))
}

pub(super) fn by_prefix(resolver: &Resolver<'_>, prefix: &str) -> Result<super::Found> {
    let census = resolver.census();
    let mut all = Traces::default();
    for id in full_ids(census, prefix) {
        all.extend(locate(resolver.host, census, id));
    }
    let notes = census.doubtful.clone();
    if !census.incomplete.is_empty() {
        let ids: Vec<&str> = all
            .live
            .iter()
            .filter_map(|located| located.identity.id.as_deref())
            .collect();
        return Err(unsure(prefix, &census.incomplete, resolver.candidates(&ids)));
    }
    if all.live.is_empty() {
        return Err(all.reason().unwrap_or_else(|| no_such(prefix)));
    }
    let mut found = only(resolver, prefix, all.live)?;
    found.notes.extend(notes);
    Ok(found)
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
/// for a whole ID the usual cgroups. The records of users' engines are asked where root's have none.
pub(super) fn exactly(resolver: &Resolver<'_>, id: &str) -> Traces {
    let host = resolver.host;
    let mut traces = Traces::default();
    if !target::is_id(id.as_bytes()) {
        return traces;
    }
    // What can't be opened hides nothing else, and an ID that is found is certain.
    for root in &resolver.roots().all {
        if let Some(record) = root.record(id).transpose() {
            traces.add(host, Word::Roots, record);
        }
    }
    if traces.live.is_empty() && !traces.is_rejected && target::is_full_id(id.as_bytes()) {
        for path in naming::usual_paths(id) {
            for mount in host.mounts() {
                by_named(host, mount.hierarchy, &path, &mut traces);
            }
        }
    }
    if traces.live.is_empty()
        && !traces.is_rejected
        && roots::has_users(host)
        && !resolver.roots().are_users_late()
    {
        let wanted = id.to_owned();
        let read = beside(host, move |host| {
            let roots = roots::of_users(host, &mut Vec::new());
            let records = roots.iter().filter_map(|root| root.record(&wanted).transpose());
            records.collect::<Vec<_>>()
        });
        match read.wait() {
            Some(records) => records
                .into_iter()
                .for_each(|record| traces.add(host, Word::Users, record)),
            None => {
                resolver.roots().users_are_late();
                traces.lies.push(census::USERS.late());
            }
        }
    }
    traces
}

/// The containers that a census has under an ID, and why its other traces are no match.
pub(super) fn locate(host: &Host, census: &Census, id: &str) -> Traces {
    let mut traces = Traces::default();
    for (word, record) in census.records(host, id) {
        traces.add(host, word, record);
    }
    if traces.live.is_empty() && !traces.is_rejected {
        for (hierarchy, path) in census.entry(id).iter().flat_map(|entry| &entry.cgroups) {
            by_named(host, *hierarchy, path, &mut traces);
        }
    }
    traces
}

/// A cgroup that is named after a container, where no record tells more: its name and the tasks in it are the
/// kernel's word.
pub(super) fn by_named(host: &Host, hierarchy: Hierarchy, path: &Path, traces: &mut Traces) {
    let Some(named) = naming::last(path) else {
        return;
    };
    let first = match Cgroup::open(host, hierarchy, path) {
        Ok(first) => first,
        Err(Error::Gone(_)) => return,
        Err(error) => return traces.dead.push(error),
    };
    if named.runtime.is_none() {
        let below = first.children().unwrap_or_default(); // gone: nothing is below
        if below.iter().any(|name| naming::is_in_podmans_pod(name)) {
            return; // a pod, not a container
        }
    }
    // Beside the level of its tasks there can be who looks after them.
    let level = named
        .level()
        .and_then(|level| Cgroup::open(host, hierarchy, &level).ok()); // it has none
    let first_in = |cgroup: &Cgroup| census::first_process(host, cgroup);
    let Some(pid) = level.as_ref().and_then(first_in).or_else(|| first_in(&first)) else {
        return traces.dead.push(Error::NotRunning(format!(
            "{}: {} has no process",
            named.id,
            first.dir().display()
        )));
    };
    let identity = Identity {
        name: named.is_name.then(|| named.id.clone()),
        id: Some(named.id),
        runtime: named.runtime.map(str::to_owned),
        pid: Some(pid),
        ..Identity::default()
    };
    let user = check::user_of(first.path());
    traces.live.push(Located {
        identity,
        first,
        user,
        point: Point::Named,
        other: None,
        lines: None,
    });
}
