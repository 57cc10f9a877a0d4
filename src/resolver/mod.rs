//! From what an operator types to the one container that it means, with every daemon dead. An answer is certain, or
//! it is an error that names the candidates. Reads only; no daemon is asked and no lock is waited for.

mod census;
mod details;
mod docker;
mod lines;
pub mod naming;
mod place;
mod runc;
mod shim;
mod state;
pub mod target;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};
use crate::verifier::Witness;
use census::{Census, Depth};
use lines::within_namespace;
use place::WriteAt;
use runc::{Record, Recorded};
use target::Target;

pub use details::{Believed, Details, Pending};
pub(crate) use lines::cgroup_lines;

/// How long one source of names may take before a name counts as uncertain.
const BUDGET: Duration = Duration::from_secs(2);

/// Who a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its whole ID; `None` for a cgroup that no runtime's pattern or record names.
    pub id: Option<String>,
    /// Its name, where it was found by it.
    pub name: Option<String>,
    /// Its runtime.
    pub runtime: Option<String>,
    /// Its first process.
    pub pid: Option<i32>,
    /// The directory of its runtime's record.
    pub record: Option<PathBuf>,
}

/// A container: its cgroups, held open, so that what was verified is what is written.
#[derive(Debug)]
pub struct Container {
    /// Who it is.
    pub identity: Identity,
    /// The cgroups that are its own, in either hierarchy, each level that can ask for a freeze.
    pub own: Vec<Cgroup>,
    /// The one of `own` that a freeze writes.
    pub freeze_at: usize,
    /// The cgroups that its tasks share with others; they are read and never written.
    pub shared: Vec<Cgroup>,
}

impl Container {
    /// Where a freeze writes.
    #[must_use]
    pub fn freeze_point(&self) -> &Cgroup {
        &self.own[self.freeze_at]
    }
}

/// What a target means.
#[derive(Debug)]
pub struct Found {
    /// The container.
    pub container: Container,
    /// What the target could also have meant, at a lower rank.
    pub notes: Vec<String>,
}

/// Which container `pid:` means where containers are nested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nesting {
    /// None: the chain is listed.
    #[default]
    Refuse,
    /// The one that holds the others.
    Outer,
    /// The one next to the process.
    Inner,
}

/// Every container on a host.
#[derive(Debug)]
pub struct Listing {
    /// Each, or who it is and why it can't be told.
    pub containers: Vec<std::result::Result<Found, (Identity, Error)>>,
    /// The sources that could not be read.
    pub incomplete: Vec<String>,
}

/// One reading of a target: a container whose process lives, and the cgroup that it is in.
#[derive(Debug)]
struct Located {
    identity: Identity,
    first: Cgroup,
    /// The other hierarchy's path on record.
    other: Option<PathBuf>,
}

/// Finds the container that `target` means.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::NotRunning`]; [`Error::Ambiguous`] where it means more than one or may do so;
/// [`Error::Unsupported`] where the hierarchy is missing or the caller may not look.
pub fn resolve(host: &Host, target: &Target, nesting: Nesting) -> Result<Found> {
    match target {
        Target::Bare(word) => bare(host, word),
        Target::Id(id) => by_id(host, id),
        Target::Name(name) => by_name(host, name),
        Target::Pid(pid) => by_pid(host, *pid, nesting),
        Target::In(hierarchy, path) => by_cgroup(host, *hierarchy, target::trimmed(path)).map(found),
        Target::Cgroup(path) => by_path_in_either(host, target::trimmed(path)).map(found),
        Target::Path(path) => by_directory(host, target::trimmed(path)),
        Target::Pod(pod) => Err(Error::Unsupported(format!(
            "{pod}: Kubernetes pods are not resolved yet: name the container by its ID"
        ))),
    }
}

/// Lists every container, each once.
#[must_use]
pub fn all(host: &Host) -> Listing {
    let census = Census::take(host, Depth::Outer);
    let mut seen = BTreeSet::new();
    let mut containers = Vec::new();
    for (id, runtime) in census.ids() {
        let (live, dead) = locate(host, &census, id);
        let is_live = !live.is_empty();
        for located in live {
            let identity = located.identity.clone();
            match completed(host, located) {
                Ok(container) if seen.insert(container.freeze_point().id()) => {
                    containers.push(Ok(found(container)))
                }
                Ok(_) => {}
                Err(error) => containers.push(Err((identity, error))),
            }
        }
        if let Some(error) = dead.into_iter().next().filter(|_| !is_live) {
            let identity = Identity {
                id: Some(id.to_owned()),
                runtime: runtime.map(str::to_owned),
                ..Identity::default()
            };
            containers.push(Err((identity, error)));
        }
    }
    Listing {
        containers,
        incomplete: census.incomplete,
    }
}

fn found(container: Container) -> Found {
    Found {
        container,
        notes: Vec::new(),
    }
}

fn completed(host: &Host, located: Located) -> Result<Container> {
    place::complete(
        host,
        located.identity,
        located.first,
        located.other.as_deref(),
        WriteAt::Runtime,
    )
}

/// An ID, a name or a prefix, in this order.
fn bare(host: &Host, word: &str) -> Result<Found> {
    let (exact, dead) = exactly(host, word)?;
    let named = names(host, word);
    let census = Census::take(host, Depth::Outer);
    let prefixed: Vec<&str> = match target::is_hex(word.as_bytes()) {
        true => full_ids(&census, word).filter(|&id| id != word).collect(),
        false => Vec::new(),
    };
    let mut notes = Vec::new();
    let note_prefixes = |notes: &mut Vec<String>, what: &str| {
        notes.extend(
            prefixed
                .iter()
                .map(|id| format!("{word} is taken for {what}; it also begins the ID {id} (id:{id})")),
        );
    };
    if !exact.is_empty() {
        for id in named
            .iter()
            .flat_map(|named| &named.ids)
            .filter(|&id| exact.iter().all(|one| one.identity.id.as_ref() != Some(id)))
        {
            notes.push(format!(
                "{word} is taken for an ID; it is also the name of {id} (name:{word})"
            ));
        }
        note_prefixes(&mut notes, "an ID");
        return with_notes(only(host, word, exact)?, notes);
    }
    match named {
        Ok(named) if !named.ids.is_empty() => {
            if word.len() >= target::SHORT_ID && !prefixed.is_empty() {
                let mut candidates: Vec<Candidate> = named
                    .ids
                    .iter()
                    .map(|id| candidate(Some("docker"), Some(word), id))
                    .collect();
                candidates.extend(prefixed.iter().map(|id| candidate(None, None, id)));
                return Err(Error::Ambiguous {
                    why: format!("\"{word}\" is a name and the beginning of an ID"),
                    candidates,
                });
            }
            note_prefixes(&mut notes, "a name");
            with_notes(named_container(host, word, named)?, notes)
        }
        Ok(named) => match prefixed.as_slice() {
            [] if !named.unsure.is_empty() || !census.incomplete.is_empty() => {
                Err(unsure(word, &named, &census, &[]))
            }
            [] => Err(dead.into_iter().next().unwrap_or_else(|| no_such(word))),
            _ => by_prefix(host, word, &census),
        },
        Err(why) => {
            let named = Names {
                ids: Vec::new(),
                unsure: vec![why],
            };
            Err(unsure(word, &named, &census, &prefixed))
        }
    }
}

fn with_notes(mut found: Found, notes: Vec<String>) -> Result<Found> {
    found.notes.extend(notes);
    Ok(found)
}

fn no_such(word: &str) -> Error {
    Error::NotFound(format!(": \"{}\"", word.escape_debug()))
}

/// A word whose meaning can't be certain, as a source of names could not be read.
fn unsure(word: &str, named: &Names, census: &Census, prefixed: &[&str]) -> Error {
    let sources: Vec<&str> = named
        .unsure
        .iter()
        .chain(&census.incomplete)
        .map(String::as_str)
        .collect();
    Error::Ambiguous {
        why: format!(
            "what \"{}\" means is not certain: {}",
            word.escape_debug(),
            sources.join("; ")
        ),
        candidates: prefixed.iter().map(|id| candidate(None, None, id)).collect(),
    }
}

fn candidate(runtime: Option<&str>, name: Option<&str>, id: &str) -> Candidate {
    Candidate {
        runtime: runtime.unwrap_or("container").to_owned(),
        name: name.map(str::to_owned),
        id: id.to_owned(),
        unambiguous: format!("id:{id}"),
    }
}

/// An ID, whole or its beginning.
fn by_id(host: &Host, id: &str) -> Result<Found> {
    let (exact, mut dead) = exactly(host, id)?;
    if !exact.is_empty() {
        return only(host, id, exact);
    }
    let full = target::is_full_id(id.as_bytes());
    for depth in [Depth::Outer, Depth::All] {
        let census = Census::take(host, depth);
        if full {
            let (live, more) = locate(host, &census, id);
            dead.extend(more);
            if !live.is_empty() {
                return only(host, id, live);
            }
        } else if target::is_hex(id.as_bytes()) && full_ids(&census, id).next().is_some() {
            return by_prefix(host, id, &census);
        }
    }
    Err(dead.into_iter().next().unwrap_or_else(|| no_such(id)))
}

fn full_ids<'c>(census: &'c Census, prefix: &'c str) -> impl Iterator<Item = &'c str> {
    census
        .ids()
        .map(|(id, _)| id)
        .filter(move |id| target::is_full_id(id.as_bytes()) && id.starts_with(prefix))
}

fn by_prefix(host: &Host, prefix: &str, census: &Census) -> Result<Found> {
    let mut live = Vec::new();
    let mut dead = Vec::new();
    for id in full_ids(census, prefix) {
        let (some, none) = locate(host, census, id);
        live.extend(some);
        dead.extend(none);
    }
    if !census.incomplete.is_empty() {
        let ids: Vec<String> = live
            .iter()
            .filter_map(|located| located.identity.id.clone())
            .collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        return Err(unsure(prefix, &Names::default(), census, &ids));
    }
    if live.is_empty() {
        return Err(dead.into_iter().next().unwrap_or_else(|| no_such(prefix)));
    }
    only(host, prefix, live)
}

/// The containers whose ID is `id`, looked for where a bounded number of files tells: each runtime's own record, and
/// for a whole ID the usual cgroups. With them why the records of others are no match.
fn exactly(host: &Host, id: &str) -> Result<(Vec<Located>, Vec<Error>)> {
    if !target::is_id(id.as_bytes()) {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut live = Vec::new();
    let mut dead = Vec::new();
    for root in census::all_roots(host)? {
        match root.record(id).transpose() {
            None => {}
            Some(record) => match record.and_then(|record| by_record(host, record)) {
                Ok(located) => live.push(located),
                Err(error) => dead.push(error),
            },
        }
    }
    if live.is_empty() && target::is_full_id(id.as_bytes()) {
        for path in naming::usual_paths(id) {
            for mount in host.mounts() {
                live.extend(by_named(host, mount.hierarchy, &path, &mut dead));
            }
        }
    }
    Ok((live, dead))
}

/// The containers that a census has under an ID, and why its other traces are no match.
fn locate(host: &Host, census: &Census, id: &str) -> (Vec<Located>, Vec<Error>) {
    let mut live = Vec::new();
    let mut dead = Vec::new();
    for record in census.records(id) {
        match record.and_then(|record| by_record(host, record)) {
            Ok(located) => live.push(located),
            Err(error) => dead.push(error),
        }
    }
    if live.is_empty() {
        for (hierarchy, named) in census.entry(id).iter().flat_map(|entry| &entry.cgroups) {
            live.extend(by_named(host, *hierarchy, &named.path, &mut dead));
        }
    }
    (live, dead)
}

/// One container out of what was found: a cgroup found twice, also once in each hierarchy, is one.
fn only(host: &Host, word: &str, mut live: Vec<Located>) -> Result<Found> {
    live.sort_by_key(|located| located.first.hierarchy());
    let mut containers: Vec<Container> = Vec::new();
    for located in live {
        let known: Vec<CgroupId> = containers
            .iter()
            .flat_map(|one| &one.own)
            .map(Cgroup::id)
            .collect();
        if !known.contains(&located.first.id()) {
            containers.push(completed(host, located)?);
        }
    }
    match (containers.pop(), containers.is_empty()) {
        (Some(container), true) => Ok(found(container)),
        (Some(last), false) => {
            containers.push(last);
            let ids: BTreeSet<_> = containers.iter().map(|one| &one.identity.id).collect();
            let distinct = ids.len() == containers.len();
            let candidates = containers.iter().map(|one| described(one, distinct)).collect();
            Err(Error::Ambiguous {
                why: format!(
                    "\"{}\" means {} containers",
                    word.escape_debug(),
                    containers.len()
                ),
                candidates,
            })
        }
        (None, _) => Err(no_such(word)),
    }
}

fn described(container: &Container, id_is_enough: bool) -> Candidate {
    let at = container.freeze_point();
    let path = format!("v{}:{}", at.hierarchy().version(), at.path().display());
    let id = container.identity.id.clone();
    Candidate {
        runtime: container
            .identity
            .runtime
            .clone()
            .unwrap_or_else(|| "container".to_owned()),
        name: container.identity.name.clone(),
        unambiguous: match &id {
            Some(id) if id_is_enough => format!("id:{id}"),
            _ => path.clone(),
        },
        id: id.unwrap_or(path),
    }
}

/// Checks a record against what runs: the process lives, started when the record says, and is where it says.
fn by_record(host: &Host, record: Record) -> Result<Located> {
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
    };
    Ok(Located {
        identity,
        first,
        other: recorded.next().map(|(_, path)| path),
    })
}

/// A cgroup that is named after a container, where no record tells more: its name and the tasks in it are the
/// kernel's word.
fn by_named(host: &Host, hierarchy: Hierarchy, path: &Path, dead: &mut Vec<Error>) -> Option<Located> {
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
    };
    Some(Located {
        identity,
        first,
        other: None,
    })
}

/// What the sources of names say.
#[derive(Debug, Default)]
struct Names {
    /// The IDs of the containers with that name.
    ids: Vec<String>,
    /// Why there may be more.
    unsure: Vec<String>,
}

/// Asks every source of names, within its budget.
fn names(host: &Host, name: &str) -> std::result::Result<Names, String> {
    let wanted = name.to_owned();
    let from = details::beside(host, move |host| docker_names(host, &wanted));
    let answer = from.and_then(|from| from.recv_timeout(BUDGET).ok()); // too late is no answer
    answer.unwrap_or_else(|| {
        Err(format!(
            "docker's records could not be read within {} s",
            BUDGET.as_secs()
        ))
    })
}

fn docker_names(host: &Host, name: &str) -> std::result::Result<Names, String> {
    let census = Census::take(host, Depth::Outer);
    let roots = docker::data_roots(host, &census).map_err(|error| error.to_string())?;
    let mut names = Names::default();
    for root in roots {
        let (ids, unreadable) = docker::ids_called(&root, name).map_err(|error| error.to_string())?;
        names.ids.extend(ids);
        if unreadable > 0 {
            names.unsure.push(format!(
                "{unreadable} records in {} can't be read",
                root.join("containers").display()
            ));
        }
    }
    Ok(names)
}

fn by_name(host: &Host, name: &str) -> Result<Found> {
    let census = || Census::take(host, Depth::Outer);
    match names(host, name) {
        Ok(named) if named.ids.is_empty() && !named.unsure.is_empty() => {
            Err(unsure(name, &named, &census(), &[]))
        }
        Ok(named) if named.ids.is_empty() => Err(no_such(name)),
        Ok(named) => named_container(host, name, named),
        Err(why) => Err(unsure(
            name,
            &Names {
                ids: Vec::new(),
                unsure: vec![why],
            },
            &census(),
            &[],
        )),
    }
}

/// The one running container among those that have a name.
fn named_container(host: &Host, name: &str, named: Names) -> Result<Found> {
    let mut live = Vec::new();
    let mut dead = Vec::new();
    for id in named.ids {
        let (some, none) = exactly(host, &id)?;
        let (some, none) = match some.is_empty() {
            true => locate(host, &Census::take(host, Depth::All), &id),
            false => (some, none),
        };
        dead.extend(none);
        if some.is_empty() {
            dead.push(Error::NotRunning(format!(
                "\"{name}\" is docker's {id}, and no process of it runs"
            )));
        }
        live.extend(some.into_iter().map(|mut located| {
            located.identity.name = Some(name.to_owned());
            located
                .identity
                .runtime
                .get_or_insert_with(|| "docker".to_owned());
            located
        }));
    }
    if live.is_empty() {
        return Err(dead.pop().unwrap_or_else(|| no_such(name)));
    }
    only(host, name, live)
}

/// The container that a process is in.
fn by_pid(host: &Host, pid: i32, nesting: Nesting) -> Result<Found> {
    let no_process = || Error::NotFound(format!(": no process {pid}"));
    let stat = Witness::new(host).stat(&pid.to_string()).ok_or_else(no_process)?;
    if matches!(stat.state, 'Z' | 'X' | 'x') {
        return Err(Error::NotRunning(format!("process {pid} is dead")));
    }
    let lines = cgroup_lines(host, pid).ok_or_else(no_process)?;
    let mut places: Vec<(Hierarchy, &Path)> = Vec::new();
    for mount in host.mounts() {
        if let Some(path) = lines.path(mount.hierarchy) {
            places.push((mount.hierarchy, within_namespace(path)?));
        }
    }
    places.sort(); // v1 first, as the runtimes have it
    let chains: Vec<(Hierarchy, Vec<naming::Named>)> = places
        .iter()
        .map(|&(hierarchy, path)| (hierarchy, naming::chain(path)))
        .filter(|(_, chain)| !chain.is_empty())
        .collect();
    if let Some((hierarchy, chain)) = chains.into_iter().next() {
        let named = match (chain.as_slice(), nesting) {
            ([one], _) | ([one, ..], Nesting::Outer) | ([.., one], Nesting::Inner) => one,
            _ => {
                let candidates = chain
                    .iter()
                    .map(|named| Candidate {
                        runtime: named.runtime.unwrap_or("container").to_owned(),
                        name: None,
                        id: named.id.clone(),
                        unambiguous: format!("v{}:{}", hierarchy.version(), named.path.display()),
                    })
                    .collect();
                let why = format!(
                    "process {pid} is in {} containers, one in the other (--outer, --inner)",
                    chain.len()
                );
                return Err(Error::Ambiguous { why, candidates });
            }
        };
        return in_named(host, hierarchy, named);
    }
    for &(hierarchy, path) in &places {
        if let Some(located) = recorded_at(host, hierarchy, path)? {
            return completed(host, located).map(found);
        }
    }
    let places: Vec<String> = places
        .iter()
        .map(|(hierarchy, path)| format!("v{}:{}", hierarchy.version(), path.display()))
        .collect();
    Err(Error::NotFound(format!(
        ": process {pid} is in no container that is known here, but in {}; written so, a target means that cgroup",
        places.join(" and ")
    )))
}

/// The container whose cgroup is named so: by its runtime's record where that fits the cgroup, else by the cgroup.
fn in_named(host: &Host, hierarchy: Hierarchy, named: &naming::Named) -> Result<Found> {
    let id = Cgroup::open(host, hierarchy, &named.path)?.id();
    let (exact, _) = exactly(host, &named.id)?;
    let mut dead = Vec::new();
    let located = exact
        .into_iter()
        .find(|located| located.first.id() == id)
        .or_else(|| by_named(host, hierarchy, &named.path, &mut dead))
        .ok_or_else(|| dead.pop().unwrap_or_else(|| no_such(&named.id)))?;
    completed(host, located).map(found)
}

/// The hierarchies that the host has, v1 first, as the runtimes use them.
fn by_version(host: &Host) -> impl Iterator<Item = Hierarchy> {
    [Hierarchy::V1, Hierarchy::V2]
        .into_iter()
        .filter(|&hierarchy| host.mount(hierarchy).is_some())
}

/// The records of all containers whose cgroup, as recorded, is `path` or holds it.
fn records_above(host: &Host, hierarchy: Hierarchy, path: &Path) -> Vec<(PathBuf, Record)> {
    let census = Census::take(host, Depth::Outer);
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
            why: format!("{} is the cgroup of {id} and of {}", path.display(), other.id),
            candidates: vec![Candidate {
                runtime: "cgroup".to_owned(),
                name: None,
                id: format!("{id} and {}", other.id),
                unambiguous: format!("v{}:{}", hierarchy.version(), path.display()),
            }],
        }),
    }
}

/// The container on record whose cgroup holds `path`, where the cgroup's own name says nothing.
fn recorded_at(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<Option<Located>> {
    let nearest = records_above(host, hierarchy, path)
        .into_iter()
        .max_by_key(|(own, _)| own.components().count());
    nearest.map(|(_, record)| by_record(host, record)).transpose()
}

/// A cgroup by its path in one hierarchy.
fn by_cgroup(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<Container> {
    let first = Cgroup::open(host, hierarchy, path).map_err(absent)?;
    let identity = match naming::last(path) {
        Some(named) => Identity {
            name: named.is_name.then(|| named.id.clone()),
            id: Some(named.id),
            runtime: named.runtime.map(str::to_owned),
            pid: census::first_process(host, &first),
            record: None,
        },
        None => Identity::default(),
    };
    if first.is_root() {
        // It holds everything, so that no other cgroup is its own; the safety rules have the last word on it.
        return Ok(Container {
            identity,
            own: vec![first],
            freeze_at: 0,
            shared: Vec::new(),
        });
    }
    place::complete(host, identity, first, None, WriteAt::Here)
}

fn absent(error: Error) -> Error {
    match error {
        Error::Gone(dir) => Error::NotFound(format!(": no cgroup {}", dir.display())),
        other => other,
    }
}

/// A cgroup by a path that is looked for in both hierarchies.
fn by_path_in_either(host: &Host, path: &Path) -> Result<Container> {
    let open = |hierarchy| match Cgroup::open(host, hierarchy, path) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(Error::Gone(_)) => Ok(None),
        Err(error) => Err(error),
    };
    let mut cgroups = Vec::new();
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        if host.mount(hierarchy).is_some() {
            cgroups.extend(open(hierarchy)?);
        }
    }
    match cgroups.as_slice() {
        [one] => by_cgroup(host, one.hierarchy(), path),
        [v1, v2] => {
            let (first, second) = (v1.tids_below()?, v2.tids_below()?);
            let container = by_cgroup(host, Hierarchy::V1, path)?;
            if container.own.iter().any(|own| own.id() == v2.id()) || (first.is_empty() && second.is_empty())
            {
                return Ok(container);
            }
            let each = |version: u8| Candidate {
                runtime: "cgroup".to_owned(),
                name: None,
                id: path.display().to_string(),
                unambiguous: format!("v{version}:{}", path.display()),
            };
            Err(Error::Ambiguous {
                why: format!("{} is in both hierarchies, with different tasks", path.display()),
                candidates: vec![each(1), each(2)],
            })
        }
        _ if host.mounts().is_empty() => Err(Error::Unsupported(
            "no cgroup freezer is mounted on this host".to_owned(),
        )),
        _ => Err(Error::NotFound(format!(": no cgroup {}", path.display()))),
    }
}

/// A directory below a cgroup mount, or docker's way to write a name.
fn by_directory(host: &Host, path: &Path) -> Result<Found> {
    // A v1 freezer can be mounted below a v2 mount's directory: the longest fits best.
    let mount = host
        .mounts()
        .iter()
        .filter(|mount| path.starts_with(&mount.dir))
        .max_by_key(|mount| mount.dir.components().count());
    if let Some(mount) = mount {
        let below = path.strip_prefix(&mount.dir).unwrap_or(path); // it does start so
        return by_cgroup(host, mount.hierarchy, &Path::new("/").join(below)).map(found);
    }
    match (path.file_name().and_then(|name| name.to_str()), path.parent()) {
        (Some(name), Some(parent)) if parent.parent().is_none() => by_name(host, name),
        _ => Err(Error::Usage(format!(
            "{} is not below a mounted cgroup freezer",
            path.display()
        ))),
    }
}
