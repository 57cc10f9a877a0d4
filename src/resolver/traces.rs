//! What is found under one ID: the containers that run, and why its other traces are no match.

use std::path::Path;

use super::census::{self, Census, Claim};
use super::check::by_record;
use super::container::{Identity, Located, Point};
use super::naming;
use super::runtime::Runtime;
use super::runtime::record::Record;
use super::trust::Trust;
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};

/// The containers with one ID, and why its other traces are no match.
#[derive(Debug, Default)]
pub(super) struct Traces {
    pub(super) live: Vec<Located>,
    pub(super) dead: Vec<Error>,
    /// What users claim and is not so, or can't be read: it spoils nothing.
    lies: Vec<Error>,
    /// Whether a record was read and is no match. Its cgroup's name says less than it does; where a record could not
    /// be read, the name and the tasks in it are the best word there is.
    pub(super) is_rejected: bool,
}

impl Traces {
    /// Those that run.
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
            Err(error) => self.lies.push(error),
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

    /// Why there is none on root's word.
    pub(super) fn reason_of_roots(self) -> Option<Error> {
        self.dead.into_iter().next()
    }

    /// Why there is none.
    pub(super) fn reason(self) -> Option<Error> {
        self.dead.into_iter().chain(self.lies).next()
    }
}

/// What the records in the roots of root's own engines have under an ID: on root's word, and on that of users who wrote
/// there.
fn by_records(host: &Host, census: &Census, id: &str) -> (Traces, Traces) {
    let (mut roots, mut users) = (Traces::default(), Traces::default());
    for record in census.records(host, id) {
        match record.as_ref().map(|record| record.trust) {
            Ok(Trust::User(_) | Trust::None) => users.add_users(host, record),
            Ok(Trust::Full) | Err(_) => roots.add(host, record),
        }
    }
    (roots, users)
}

/// The containers on root's word that a census has under an ID, and why its other traces are no match.
pub(super) fn locate(host: &Host, census: &Census, id: &str) -> Traces {
    or_by_cgroup(host, census, id, by_records(host, census, id).0)
}

fn or_by_cgroup(host: &Host, census: &Census, id: &str, mut traces: Traces) -> Traces {
    if traces.live.is_empty() && !traces.is_rejected {
        for (hierarchy, path) in census.entry(id).iter().flat_map(|entry| &entry.cgroups) {
            by_named(host, *hierarchy, path, Trust::Full, &mut traces);
        }
        // LXC's cgroup can bear a number behind the name.
        let is_lxc = |located: &&mut Located| located.identity.runtime == Some(Runtime::Lxc);
        for located in traces.live.iter_mut().filter(is_lxc) {
            located.identity.name = Some(id.to_owned());
            located.identity.id = Some(id.to_owned());
        }
    }
    traces
}

/// The containers with an ID on users' word, by the records of their engines.
pub(super) fn locate_of_users(host: &Host, census: &Census, id: &str) -> Traces {
    or_of_users(host, census, id, by_records(host, census, id).1)
}

fn or_of_users(host: &Host, census: &Census, id: &str, mut traces: Traces) -> Traces {
    for record in census.users_records(host, id) {
        traces.add_users(host, record);
    }
    traces
}

/// Everything that a census has under an ID, whoever's word it is, and why root's traces of it are no match.
pub(super) fn locate_all(host: &Host, census: &Census, id: &str) -> Traces {
    let (roots, users) = by_records(host, census, id);
    let mut all = or_by_cgroup(host, census, id, roots);
    let mut others = or_of_users(host, census, id, users);
    if all.live.is_empty() && others.live.is_empty() {
        let claims = census.claims(id).iter();
        claims.for_each(|claim| by_claim(host, claim, &mut others));
    }
    all.live.append(&mut others.live);
    all
}

/// A cgroup that is called after a container by somebody who is not believed of more than what is theirs.
pub(super) fn by_claim(host: &Host, claim: &Claim, traces: &mut Traces) {
    by_named(host, claim.hierarchy, &claim.path, claim.trust, traces);
}

/// A cgroup that is named after a container, where no record tells more: the tasks in it are the kernel's word, and its
/// name is that of whom `trust` says.
pub(super) fn by_named(host: &Host, hierarchy: Hierarchy, path: &Path, trust: Trust, traces: &mut Traces) {
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
    traces.live.push(Located {
        identity: Identity::of_cgroup(named, trust, Some(pid)),
        first,
        point: Point::Named,
        other: None,
        lines: None,
    });
}
