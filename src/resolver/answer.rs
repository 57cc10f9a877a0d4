//! From what was found to an answer: one container, or an error that names the candidates.

use std::collections::BTreeSet;

use super::container::{Container, Found, Identity, Located, Probe, runtime_of};
use super::lookup::Resolver;
use super::place::{self, WriteAt};
use super::target;
use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};

pub(super) fn completed(host: &Host, located: Located) -> Result<Container> {
    place::complete(host, located, WriteAt::Runtime)
}

pub(super) fn no_such(word: &str) -> Error {
    Error::NotFound(format!("\"{}\"", word.escape_debug()))
}

/// The containers that were found under one ID or name, each once: whoever was found by a cgroup of each hierarchy is one,
/// v1's, also where a process of it strayed in one of them, so that the other's cgroup is not its alone.
pub(super) fn each_once(host: &Host, live: Vec<Located>) -> Vec<Result<Probe>> {
    let (v1, v2): (Vec<_>, Vec<_>) = live
        .into_iter()
        .partition(|located| located.first.hierarchy() == Hierarchy::V1);
    let mut known: Vec<CgroupId> = Vec::new();
    let mut all = Vec::new();
    for located in v1.into_iter().chain(v2) {
        if known.contains(&located.first.id()) {
            continue;
        }
        let probe = place::probe(host, located, WriteAt::Runtime);
        if let Ok(Probe { container, .. }) = &probe {
            known.extend(container.own.iter().chain(&container.shared).map(Cgroup::id));
        }
        all.push(probe);
    }
    all
}

/// Takes the one container out of what was found: a cgroup found twice, also once in each hierarchy, is one.
pub(super) fn only(resolver: &Resolver<'_>, word: &str, live: Vec<Located>) -> Result<Found> {
    // A container without its engine's record is told by its cgroup's name, where root alone can have given that.
    let told = live
        .iter()
        .filter(|one| one.lacks_record() && one.identity.trust.is_full())
        .map(|one| {
            format!(
                "{word} is told by its cgroup {} alone: its engine's record was not found",
                one.first.dir().display()
            )
        });
    let notes: Vec<String> = told.take(1).collect();
    let each = each_once(resolver.host, live).into_iter();
    let mut containers = each
        .map(|one| one.map(|probe| probe.container))
        .collect::<Result<Vec<Container>>>()?;
    match (containers.pop(), containers.is_empty()) {
        (Some(container), true) => Ok(Found { container, notes }),
        (Some(last), false) => {
            containers.push(last);
            let mut ids = BTreeSet::new();
            let distinct = containers
                .iter()
                .all(|one| ids.insert(one.identity.id.as_deref()));
            let candidates =
                resolver.introduced(containers.iter().map(|one| described(one, distinct)).collect());
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

/// A container of which one cgroup is known, as a candidate.
pub(super) fn described_first(located: &Located) -> Candidate {
    let at = &located.first;
    let path = target::cgroup(at.hierarchy(), at.path());
    Candidate {
        runtime: runtime_of(&located.identity),
        name: located.identity.name.clone(),
        id: located.identity.id.clone().unwrap_or_else(|| path.clone()),
        unambiguous: path,
    }
}

pub(super) fn described(container: &Container, id_is_enough: bool) -> (Identity, Candidate) {
    let at = container.freeze_point();
    let path = target::cgroup(at.hierarchy(), at.path());
    let id = container.identity.id.clone();
    let candidate = Candidate {
        runtime: runtime_of(&container.identity),
        name: container.identity.name.clone(),
        unambiguous: match &id {
            Some(id) if id_is_enough => format!("id:{id}"),
            _ => path.clone(),
        },
        id: id.unwrap_or(path),
    };
    (container.identity.clone(), candidate)
}

/// A word whose meaning can't be certain, as a source could not be read.
pub(super) fn uncertain(word: &str, sources: &[String], candidates: Vec<Candidate>) -> Error {
    let word = word.escape_debug();
    Error::Ambiguous {
        why: format!("what \"{word}\" means is not certain: {}", sources.join("; ")),
        candidates,
    }
}
