//! Containers by their IDs: a runtime's record, checked against what runs, or a cgroup that is named by the ID.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::answer::{described_first, no_such, only, uncertain};
use super::cgroup_trust::CgroupTrust;
use super::container::{Found, Located, runtime_of};
use super::index::{self, Index};
use super::lookup::{Purpose, Resolver};
use super::matches::{Matches, by_claim, by_named, locate, locate_of_users};
use super::names;
use super::runtime::Runtime;
use super::runtime::docker::DataRoot;
use super::runtime::kata;
use super::runtime::names::is_roots_own;
use super::runtime::{docker, podman, roots};
use super::timeout::{BUDGET, with_timeout};
use super::trust::Trust;
use super::{naming, target};
use crate::cgroup::Cgroup;
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};

/// The reading of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The word is an ID, or a name.
    Any,
    /// The word is a name.
    Name,
}

/// The container with an ID, of which the whole or the beginning is given.
pub(super) fn by_id(resolver: &Resolver<'_>, id: &str) -> Result<Found> {
    let host = resolver.host;
    let mut exact = exactly(resolver, id);
    if !exact.live.is_empty() {
        return only(resolver, id, exact.live);
    }
    let index = resolver.index();
    let matches = locate(host, index, id);
    if !matches.live.is_empty() {
        return only(resolver, id, matches.live);
    }
    exact.extend(matches);
    let ids = index.full_ids(host, id);
    if ids.iter().any(|full| full != id) {
        let unread = exact.unread();
        if !unread.is_empty() {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            return Err(uncertain(id, &unread, resolver.candidates(&ids)));
        }
        return by_prefix(resolver, id);
    }
    if let Some(reason) = exact.reason_of_roots() {
        return Err(reason);
    }
    let mut unlisted = index.incomplete.clone();
    if let Some(reason) = stopped(host, index, id, &mut unlisted) {
        return Err(reason);
    }
    let users = locate_of_users(host, index, id);
    of_others(resolver, (id, Reading::Any), unlisted, users)
}

/// The container of a word that nothing of root's knows, as far as root's sources could be read: that of one user, or a
/// cgroup that bears the whole ID; else the error lists what the word could mean.
pub(super) fn of_others(
    resolver: &Resolver<'_>,
    (word, reading): (&str, Reading),
    unlisted: Vec<String>,
    mut users: Matches,
) -> Result<Found> {
    let host = resolver.host;
    let index = resolver.index();
    let is_whole = target::is_full_id(word.as_bytes());
    if is_whole {
        let claims = index.claims(word);
        // A cgroup at which a user's record has the container already is not another one.
        let known: BTreeSet<_> = users.live.iter().map(|located| located.first.id()).collect();
        for claim in claims.iter().take(MOST_CANDIDATES) {
            let mut matches = Matches::default();
            by_claim(host, claim, &mut matches);
            let new = matches
                .live
                .into_iter()
                .filter(|located| !known.contains(&located.first.id()));
            users.live.extend(new);
        }
        // Which of them is the container nobody can say who has not looked at all.
        if claims.len() > MOST_CANDIDATES {
            return Err(Error::Ambiguous {
                why: format!(
                    "\"{word}\" is in no engine's records, and {} cgroups are called by it, of which {MOST_CANDIDATES} \
                     are looked at",
                    claims.len()
                ),
                candidates: users.live.iter().map(|one| candidate_of(word, one)).collect(),
            });
        }
    }
    if !users.live.is_empty() {
        if resolver.purpose == Purpose::Freeze && !unlisted.is_empty() {
            let candidates = users
                .live
                .iter()
                .map(|located| candidate_of(word, located))
                .collect();
            return Err(uncertain(word, &unlisted, candidates));
        }
        if resolver.purpose == Purpose::Freeze && !is_whole {
            return Err(Error::Ambiguous {
                why: format!(
                    "\"{}\" is what a user calls a container, and no engine of root's knows it",
                    word.escape_debug()
                ),
                candidates: users
                    .live
                    .iter()
                    .map(|located| candidate_of(word, located))
                    .collect(),
            });
        }
        let at: Vec<String> = users.live.iter().map(whose).collect();
        let each: Vec<Candidate> = users.live.iter().map(|one| candidate_of(word, one)).collect();
        let mut found = only(resolver, word, users.live).map_err(|error| match error {
            Error::Ambiguous { why, .. } => Error::Ambiguous {
                why,
                candidates: each,
            },
            other => other,
        })?;
        found.notes.extend(
            at.first()
                .map(|whose| format!("no engine of root's knows {word}; it is {whose}")),
        );
        found.notes.extend(unlisted);
        return Ok(found);
    }
    if !unlisted.is_empty() {
        return Err(uncertain(word, &unlisted, Vec::new()));
    }
    if let Some(error) = claimed(resolver, word, reading)? {
        return Err(error);
    }
    Err(users.reason().unwrap_or_else(|| no_such(word)))
}

/// The owner of a container that root's engines do not know, in words.
fn whose(located: &Located) -> String {
    let dir = located.first.dir().display();
    match located.identity.trust {
        Trust::User(user) => format!("user {user}'s, at {dir}"),
        Trust::Full => format!("told by its cgroup {dir} alone"),
        Trust::None => format!("told alone by the name of {dir}, which a container or a user can have given"),
    }
}

/// How a container of a user's, or one that only its cgroup tells, is written so that it means nothing else.
fn candidate_of(word: &str, located: &Located) -> Candidate {
    let at = &located.first;
    let path = target::cgroup(at.hierarchy(), at.path());
    Candidate {
        runtime: runtime_of(&located.identity),
        name: None,
        id: located.identity.id.clone().unwrap_or_else(|| path.clone()),
        unambiguous: match located.identity.trust {
            Trust::User(user) => format!("user:{user}/{word}"),
            Trust::Full | Trust::None => path,
        },
    }
}

/// So many cgroups that bear one name are shown. A container can make as many as it likes.
const MOST_CANDIDATES: usize = 16;

/// How a container inside another one is written.
const INSIDE: &str =
    ": a container inside another one is written by its path, or by its name to iceaxe in that one";

/// Why a word means nothing for certain, where cgroups are called so and no record is of them: who may have given such a
/// name is not known, or not believed. `None` where there is no such cgroup.
fn claimed(resolver: &Resolver<'_>, word: &str, reading: Reading) -> Result<Option<Error>> {
    let host = resolver.host;
    let mut all: Vec<(PathBuf, Candidate)> = Vec::new();
    let mut add = |hierarchy: Hierarchy, path: &Path, runtime: Option<Runtime>| {
        let is_known = all.iter().any(|(known, _)| known == path);
        let is_empty = || {
            let cgroup = Cgroup::open(host, hierarchy, path);
            cgroup
                .and_then(|cgroup| cgroup.tids_below())
                .is_ok_and(|tids| tids.is_empty())
        };
        if all.len() >= MOST_CANDIDATES || is_known || is_empty() {
            return;
        }
        let candidate = Candidate {
            runtime: runtime.map_or("container", Runtime::name).to_owned(),
            name: None,
            id: word.to_owned(),
            unambiguous: target::cgroup(hierarchy, path),
        };
        all.push((path.to_owned(), candidate));
    };
    let index = resolver.index();
    let is_id_meant = reading == Reading::Any;
    let begun = (is_id_meant && target::is_hex(word.as_bytes())).then(|| index.claims_beginning(word));
    let mut is_inside = false;
    for claim in index.claims(word).iter().chain(begun.into_iter().flatten()) {
        let named = naming::last(&claim.path);
        if !is_id_meant && named.as_ref().is_none_or(|named| !named.is_name) {
            continue;
        }
        let parent = claim.path.parent();
        is_inside |= parent.is_some_and(|parent| naming::innermost(parent).is_some());
        let runtime = named.and_then(|named| named.runtime);
        add(claim.hierarchy, &claim.path, runtime);
    }
    if is_id_meant {
        for (hierarchy, path) in unrecorded(host, word)? {
            add(hierarchy, &path, None);
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    Ok(Some(Error::Ambiguous {
        why: format!(
            "\"{}\" is in no engine's records; a cgroup that bears it proves nothing{}",
            word.escape_debug(),
            if is_inside { INSIDE } else { "" }
        ),
        candidates: all.into_iter().map(|(_, candidate)| candidate).collect(),
    }))
}

/// The cgroups that are called by a word and nothing else, as runc and crun have it where no other path is asked for,
/// and in which the first process of a PID namespace is.
fn unrecorded(host: &Host, id: &str) -> Result<Vec<(Hierarchy, PathBuf)>> {
    let mut found = Vec::new();
    // A whole ID of an engine's is known by every cgroup that bears it.
    if !target::is_id(id.as_bytes()) || target::is_full_id(id.as_bytes()) {
        return Ok(found);
    }
    let proc = host.proc();
    for mount in host.mounts() {
        let root = Cgroup::open(host, mount.hierarchy, "/".as_ref())?;
        let mut paths = Vec::new();
        let mut see = |path: &Path| {
            let is_called_so = path.file_name().is_some_and(|name| name == id);
            if paths.len() < MOST_CANDIDATES && is_called_so && naming::parent(path).is_none() {
                paths.push(path.to_owned());
            }
        };
        // A cgroup too deep to be listed is no runtime's, and one that is closed to the caller makes no candidate.
        root.paths_below(host, &mut see, &mut |_, _| {})?;
        for path in paths {
            let Ok(first) = Cgroup::open(host, mount.hierarchy, &path) else {
                continue; // gone
            };
            // In the cgroup itself: what has its processes only below is a parent of others.
            let own = first.tids().unwrap_or_default(); // gone: nobody is in it
            let is_it = |pid: &i32| own.contains(pid) && proc.is_first_in_namespace(*pid);
            if index::first_process(host, &first).is_some_and(|pid| is_it(&pid)) {
                found.push((mount.hierarchy, path));
            }
        }
    }
    Ok(found)
}

/// Why a whole ID is no running container, where docker or podman has it on record, or containerd runs it in another way.
/// The records that can't be read, and so may have it, are added to `unread`.
fn stopped(host: &Host, index: &Arc<Index>, id: &str, unread: &mut Vec<String>) -> Option<Error> {
    if !target::is_full_id(id.as_bytes()) {
        return None;
    }
    if kata::runs(host, id) {
        return Runtime::Kata
            .refusal()
            .map(|why| Error::Unsupported(format!("{id}: {why}")));
    }
    let (wanted, index) = (id.to_owned(), Arc::clone(index));
    let known = with_timeout(host, move |host| {
        let mut unread = Vec::new();
        let engine = recording(host, &index, &wanted, &mut unread);
        (engine, unread)
    });
    match known.wait() {
        Some((Some(engine), _)) => Some(Error::NotRunning(format!(
            "{engine}'s {id}, of which no process runs"
        ))),
        Some((None, more)) => {
            unread.extend(more);
            None
        }
        None => {
            let limit = BUDGET.as_secs();
            unread.push(format!(
                "the records of docker and podman could not be read within {limit} s"
            ));
            None
        }
    }
}

/// The engine of root's that has a whole ID on record on its disk. What can't be read is added to `unread`.
fn recording(host: &Host, index: &Index, id: &str, unread: &mut Vec<String>) -> Option<Runtime> {
    let mut noted = |error: Error| {
        if !is_roots_own(&error) {
            unread.push(error.to_string());
        }
    };
    // Records that can't be read are noted, so that nothing is frozen for them.
    let mut roots = docker::data_roots(host).map_err(&mut noted).unwrap_or_default();
    let further = names::further_roots(host, index, &roots, &|_| false);
    further.unreadable.into_iter().for_each(&mut noted);
    roots.extend(further.roots);
    for root in roots {
        match DataRoot::new(root).config(id, None) {
            Ok(Some(_)) => return Some(Runtime::Docker),
            Ok(None) => {}
            Err(error) => noted(error),
        }
    }
    let stores = podman::stores(host).map_err(&mut noted).unwrap_or_default();
    for store in stores {
        match podman::stored(&store, None) {
            Ok(list) if list.iter().any(|one| one.id == id) => return Some(Runtime::Podman),
            Ok(_) => {}
            Err(error) => noted(error),
        }
    }
    None
}

pub(super) fn by_prefix(resolver: &Resolver<'_>, prefix: &str) -> Result<Found> {
    let index = resolver.index();
    let mut all = Matches::default();
    for id in index.full_ids(resolver.host, prefix) {
        all.extend(locate(resolver.host, index, &id));
    }
    let mut notes = index.doubtful.clone();
    if !index.incomplete.is_empty() {
        // Of twelve digits there is hardly ever a second one.
        if resolver.purpose == Purpose::Freeze || prefix.len() < target::SHORT_ID || all.live.is_empty() {
            let ids: Vec<&str> = all
                .live
                .iter()
                .filter_map(|located| located.identity.id.as_deref())
                .collect();
            return Err(uncertain(prefix, &index.incomplete, resolver.candidates(&ids)));
        }
        notes.extend(index.incomplete.iter().cloned());
    }
    // A container that its cgroup alone tells needs enough of its ID.
    if prefix.len() < target::SHORT_ID {
        let (certain, told): (Vec<_>, Vec<_>) =
            all.live.into_iter().partition(|located| !located.lacks_record());
        all.live = certain;
        if let (true, Some(one)) = (all.live.is_empty(), told.first()) {
            let candidates = told.iter().map(described_first).collect();
            let why = format!(
                "\"{prefix}\" is too short for {}, whose record was not found",
                one.first.dir().display()
            );
            return Err(Error::Ambiguous { why, candidates });
        }
    }
    if all.live.is_empty() {
        return Err(all.reason().unwrap_or_else(|| no_such(prefix)));
    }
    let mut found = only(resolver, prefix, all.live)?;
    found.notes.extend(notes);
    Ok(found)
}

/// The containers on root's word whose ID is `id`, looked for where a bounded number of files tells: each runtime's own
/// record, and for a whole ID the usual cgroups.
pub(super) fn exactly(resolver: &Resolver<'_>, id: &str) -> Matches {
    let host = resolver.host;
    let mut matches = Matches::default();
    if !target::is_id(id.as_bytes()) {
        return matches;
    }
    let roots = resolver.roots();
    // A root that can't be opened hides nothing else, and an ID that is found is certain.
    for root in &roots.all {
        if let Some(record) = root.record(id).transpose() {
            matches.add(host, record);
        }
    }
    if matches.live.is_empty() && !matches.is_rejected {
        let mut told = Matches::default();
        if target::is_full_id(id.as_bytes()) {
            let trust = CgroupTrust::new(host);
            for path in naming::usual_paths(id) {
                for mount in host.mounts() {
                    if trust.in_name(mount.hierarchy, &path).is_full() {
                        by_named(host, mount.hierarchy, &path, Trust::Full, &mut told);
                    }
                }
            }
        }
        let limit = if told.live.is_empty() {
            roots::LIMIT
        } else {
            roots::GRACE
        };
        // A source that does not answer is told of where its IDs are listed.
        for record in roots.configured.record(id, limit).unwrap_or_default() {
            matches.add(host, record);
        }
        if matches.live.is_empty() && !matches.is_rejected {
            matches.extend(told);
        }
    }
    matches
}
