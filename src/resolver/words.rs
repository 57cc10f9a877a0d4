//! What a bare word means: an ID, a name or the beginning of an ID, in this order.

use super::census::Census;
use super::ids::{by_prefix, exactly, full_ids, locate, unsure};
use super::{BUDGET, Found, Located, candidates, details, docker, no_such, only, target};
use crate::error::{Error, Result};
use crate::host::Host;

/// An ID, a name or the beginning of an ID.
pub(super) fn bare(host: &Host, word: &str) -> Result<Found> {
    let census = Census::take(host);
    let (mut exact, mut dead) = exactly(host, word);
    if exact.is_empty() {
        let (live, more) = locate(host, &census, word);
        exact.extend(live.into_iter().filter(|located| located.identity.name.is_none()));
        dead.extend(more);
    }
    let prefixed: Vec<&str> = match target::is_hex(word.as_bytes()) {
        true => full_ids(&census, word).filter(|&id| id != word).collect(),
        false => Vec::new(),
    };
    let mut named = names(host, &census, word);
    let mut notes = std::mem::take(&mut named.notes);
    let mut note_prefixes = |what: &str| {
        let each = prefixed
            .iter()
            .map(|id| format!("{word} is taken for {what}; it also begins the ID {id} (id:{id})"));
        notes.extend(each);
    };
    let mut found = if !exact.is_empty() {
        note_prefixes("an ID");
        let others = named
            .ids
            .iter()
            .filter(|&id| exact.iter().all(|one| one.identity.id.as_ref() != Some(id)));
        notes.extend(
            others.map(|id| format!("{word} is taken for an ID; it is also the name of {id} (name:{word})")),
        );
        only(host, word, exact)?
    } else if !named.is_empty() {
        if word.len() >= target::SHORT_ID && !prefixed.is_empty() {
            let ids: Vec<&str> = named.ids.iter().map(String::as_str).chain(prefixed).collect();
            return Err(Error::Ambiguous {
                why: format!("\"{word}\" is a name and the beginning of an ID"),
                candidates: candidates(host, &census, &ids),
            });
        }
        note_prefixes("a name");
        named_container(host, &census, word, named)?
    } else if !named.unsure.is_empty() {
        return Err(unsure(word, &named.unsure, candidates(host, &census, &prefixed)));
    } else if !prefixed.is_empty() {
        by_prefix(host, word, &census)?
    } else if !census.incomplete.is_empty() {
        return Err(unsure(word, &census.incomplete, Vec::new()));
    } else {
        return Err(dead.into_iter().next().unwrap_or_else(|| no_such(word)));
    };
    found.notes.extend(notes);
    Ok(found)
}

/// A name.
pub(super) fn by_name(host: &Host, name: &str) -> Result<Found> {
    let census = Census::take(host);
    let mut named = names(host, &census, name);
    let notes = std::mem::take(&mut named.notes);
    if named.is_empty() {
        return Err(match named.unsure.is_empty() {
            true => no_such(name),
            false => unsure(name, &named.unsure, Vec::new()),
        });
    }
    let mut found = named_container(host, &census, name, named)?;
    found.notes.extend(notes);
    Ok(found)
}

/// What the sources of names say.
#[derive(Debug, Default)]
struct Names {
    /// The IDs of the containers with that name.
    ids: Vec<String>,
    /// Those that are named by their cgroup.
    live: Vec<Located>,
    /// Why a name that is not found may be there all the same.
    unsure: Vec<String>,
    /// What an operator should know of a name that is found.
    notes: Vec<String>,
}

impl Names {
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.live.is_empty()
    }
}

/// Asks every source of names: the cgroups that are named by a name, and docker's records within their budget.
fn names(host: &Host, census: &Census, name: &str) -> Names {
    let mut names = Names::default();
    let (live, _) = locate(host, census, name);
    names.live = live
        .into_iter()
        .filter(|located| located.identity.name.is_some())
        .collect();
    let wanted = name.to_owned();
    let from = details::beside(host, move |host| docker_names(host, &wanted));
    // Too late is no answer.
    match from.and_then(|from| from.recv_timeout(BUDGET).ok()) {
        Some(Ok((ids, unreadable))) => {
            names.ids = ids;
            // dockerd gives a name once: one that is found in a data root is certain there.
            match names.is_empty() {
                true => names.unsure = unreadable,
                false => names.notes = unreadable,
            }
        }
        Some(Err(error)) => names.unsure.push(error.to_string()),
        None => names.unsure.push(format!(
            "docker's records could not be read within {} s",
            BUDGET.as_secs()
        )),
    }
    if !names.is_empty() {
        names.notes.append(&mut names.unsure);
    }
    names
}

/// The IDs of docker's containers with a name, and what could not be read.
fn docker_names(host: &Host, name: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut ids, mut unsure) = (Vec::new(), Vec::new());
    for root in docker::data_roots(host, &Census::take(host))? {
        let (called, unreadable) = docker::ids_called(&root, name)?;
        ids.extend(called);
        if unreadable > 0 {
            unsure.push(format!(
                "{unreadable} records in {} can't be read",
                root.join("containers").display()
            ));
        }
    }
    Ok((ids, unsure))
}

/// The one running container among those that have a name.
fn named_container(host: &Host, census: &Census, name: &str, named: Names) -> Result<Found> {
    let mut live = named.live;
    let mut dead = Vec::new();
    for id in named.ids {
        let (mut some, none) = locate(host, census, &id);
        if some.is_empty() && none.is_empty() {
            dead.push(Error::NotRunning(format!(
                "\"{name}\" is docker's {id}, of which no process runs"
            )));
        }
        dead.extend(none);
        for located in &mut some {
            located.identity.name = Some(name.to_owned());
            located
                .identity
                .runtime
                .get_or_insert_with(|| "docker".to_owned());
        }
        live.extend(some);
    }
    if live.is_empty() {
        return Err(dead.into_iter().next().unwrap_or_else(|| no_such(name)));
    }
    only(host, name, live)
}
