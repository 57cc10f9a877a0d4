//! [`Matches`]: the containers that run under one ID, and why other records and cgroups with that ID are no match.

use std::path::Path;

use super::check::by_record;
use super::container::{FreezeLevel, Identity, Located};
use super::index::{self, Claim, Index};
use super::naming;
use super::runtime::Runtime;
use super::runtime::record::Record;
use super::trust::Trust;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};

/// The containers with one ID, and why other records and cgroups with that ID are no match.
#[derive(Debug, Default)]
pub(super) struct Matches {
    /// The containers that run.
    pub(super) live: Vec<Located>,
    /// Why a record or a cgroup on root's word is no match.
    pub(super) dead: Vec<Error>,
    /// Why a record on a user's word is no match, or can't be read: no container of root's is less certain for it.
    untrusted: Vec<Error>,
    /// Whether a record was read and is no match. A cgroup's name says less than a record; where no record could be read,
    /// the cgroup's name and its tasks are the best word there is.
    pub(super) is_rejected: bool,
}

impl Matches {
    /// The matches with these running containers and nothing else.
    pub(super) fn of(live: Vec<Located>) -> Self {
        Self {
            live,
            ..Self::default()
        }
    }

    /// Adds a record of root's.
    pub(super) fn add(&mut self, host: &Host, record: Result<Record>) {
        let is_users = record.as_ref().is_ok_and(|record| !record.trust.is_full());
        if is_users {
            return self.add_users(host, record);
        }
        let checked = record.map(|record| by_record(host, record));
        let is_rejected = checked.as_ref().is_ok_and(Result::is_err);
        match checked.and_then(|located| located) {
            Ok(located) => self.live.push(located),
            Err(error) => {
                self.is_rejected |= is_rejected;
                self.dead.push(error);
            }
        }
    }

    /// Adds a record of a user's.
    fn add_users(&mut self, host: &Host, record: Result<Record>) {
        match record.and_then(|record| by_record(host, record)) {
            Ok(located) => self.live.push(located),
            Err(error) => self.untrusted.push(error),
        }
    }

    /// Why a record under that ID can't be followed: a container with it may run all the same.
    pub(super) fn unread(&self) -> Vec<String> {
        let is_over = |error: &&Error| matches!(error, Error::NotRunning(_) | Error::Gone(_));
        let unread = self.dead.iter().filter(|error| !is_over(error));
        unread.map(ToString::to_string).collect()
    }

    /// Adds the matches of another ID or source.
    pub(super) fn extend(&mut self, other: Self) {
        self.live.extend(other.live);
        self.dead.extend(other.dead);
        self.untrusted.extend(other.untrusted);
        self.is_rejected |= other.is_rejected;
    }

    /// The first reason why there is no container on root's word.
    pub(super) fn reason_of_roots(self) -> Option<Error> {
        self.dead.into_iter().next()
    }

    /// The first reason why there is no container, on anybody's word.
    pub(super) fn reason(self) -> Option<Error> {
        self.dead.into_iter().chain(self.untrusted).next()
    }
}

/// Checks the records under an ID in the roots of root's own engines: first those on root's word, then those that users
/// wrote there.
fn by_records(host: &Host, index: &Index, id: &str) -> (Matches, Matches) {
    let (mut roots, mut users) = (Matches::default(), Matches::default());
    for record in index.records(host, id) {
        match record.as_ref().map(|record| record.trust) {
            Ok(Trust::User(_) | Trust::None) => users.add_users(host, record),
            Ok(Trust::Full) | Err(_) => roots.add(host, record),
        }
    }
    (roots, users)
}

/// The containers on root's word that the index has under an ID.
pub(super) fn locate(host: &Host, index: &Index, id: &str) -> Matches {
    or_by_cgroup(host, index, id, by_records(host, index, id).0)
}

fn or_by_cgroup(host: &Host, index: &Index, id: &str, mut matches: Matches) -> Matches {
    if matches.live.is_empty() && !matches.is_rejected {
        for (hierarchy, path) in index.entry(id).iter().flat_map(|entry| &entry.cgroups) {
            by_named(host, *hierarchy, path, Trust::Full, &mut matches);
        }
        // LXC's cgroup can bear a number behind the name.
        let is_lxc = |located: &&mut Located| located.identity.runtime == Some(Runtime::Lxc);
        for located in matches.live.iter_mut().filter(is_lxc) {
            located.identity.name = Some(id.to_owned());
            located.identity.id = Some(id.to_owned());
        }
    }
    matches
}

/// The containers with an ID on users' word, by the records of their engines.
pub(super) fn locate_of_users(host: &Host, index: &Index, id: &str) -> Matches {
    or_of_users(host, index, id, by_records(host, index, id).1)
}

fn or_of_users(host: &Host, index: &Index, id: &str, mut matches: Matches) -> Matches {
    for record in index.users_records(host, id) {
        matches.add_users(host, record);
    }
    matches
}

/// Everything that a index has under an ID, whoever's word it is, and why root's matches of it are no match.
pub(super) fn locate_all(host: &Host, index: &Index, id: &str) -> Matches {
    let (roots, users) = by_records(host, index, id);
    let mut all = or_by_cgroup(host, index, id, roots);
    let mut others = or_of_users(host, index, id, users);
    if all.live.is_empty() && others.live.is_empty() {
        let claims = index.claims(id).iter();
        claims.for_each(|claim| by_claim(host, claim, &mut others));
    }
    all.live.append(&mut others.live);
    all
}

/// A cgroup that is called after a container by somebody who is not believed of more than what is theirs.
pub(super) fn by_claim(host: &Host, claim: &Claim, matches: &mut Matches) {
    by_named(host, claim.hierarchy, &claim.path, claim.trust, matches);
}

/// A cgroup that is named after a container, where no record tells more: the tasks in it are the kernel's word, and its
/// name is that of whom `trust` says.
pub(super) fn by_named(host: &Host, hierarchy: Hierarchy, path: &Path, trust: Trust, matches: &mut Matches) {
    let Some(named) = naming::last(path) else {
        return;
    };
    let first = match Cgroup::open(host, hierarchy, path) {
        Ok(first) => first,
        Err(Error::Gone(_)) => return,
        Err(error) => return matches.dead.push(error),
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
    let first_in = |cgroup: &Cgroup| index::first_process(host, cgroup);
    let Some(pid) = level.as_ref().and_then(first_in).or_else(|| first_in(&first)) else {
        return matches.dead.push(Error::NotRunning(format!(
            "{}: {} has no process",
            named.id,
            first.dir().display()
        )));
    };
    matches.live.push(Located {
        identity: Identity::of_cgroup(named, trust, Some(pid)),
        first,
        point: FreezeLevel::Named,
        other: None,
        lines: None,
    });
}
