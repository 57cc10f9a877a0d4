//! From a bare word to its container: the word is an ID, a name or the beginning of an ID, in this order.

use std::ffi::OsStr;
use std::path::Path;

use super::answer::{described, no_such, only, uncertain};
use super::by_id::{Reading, by_prefix, of_others};
use super::cgroup_trust::CgroupTrust;
use super::container::{Found, FreezeLevel, Identity, Located};
use super::index::{Claim, Index};
use super::lines::cgroup_lines;
use super::lookup::{Purpose, Resolver};
use super::matches::{Matches, by_claim, locate};
use super::runtime::Runtime;
use super::runtime::names::{ConfiguredPlace, NameHolder};
use super::runtime::{lxc, machine};
use super::trust::Trust;
use super::{by_user, check, index, naming, target};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::Host;

/// The container that a word means as an ID, a name or the beginning of an ID.
pub(super) fn bare(resolver: &Resolver<'_>, word: &str) -> Result<Found> {
    resolver.ask_names();
    let index = resolver.index();
    let mut exact = locate(resolver.host, index, word);
    exact.live.retain(|located| located.identity.name.is_none());
    let begun = match target::is_hex(word.as_bytes()) {
        true => index.full_ids(resolver.host, word),
        false => Vec::new(),
    };
    let prefixed: Vec<&str> = begun
        .iter()
        .map(String::as_str)
        .filter(|&id| id != word)
        .collect();
    let named = ContainersByName::find(resolver, word);
    // A container that is called by the beginning of its own ID is not another.
    let prefixed: Vec<&str> = prefixed
        .into_iter()
        .filter(|id| named.ids().all(|own| own != id))
        .collect();
    let also_begins = |what: &str| -> Vec<String> {
        let note = |id: &&str| format!("{word} is taken for {what}; it also begins the ID {id} (id:{id})");
        prefixed.iter().map(note).collect()
    };
    if !exact.live.is_empty() {
        let mut notes = also_begins("an ID");
        let others = named
            .ids()
            .filter(|id| exact.live.iter().all(|one| one.identity.id.as_ref() != Some(id)));
        notes.extend(
            others.map(|id| format!("{word} is taken for an ID; it is also the name of {id} (name:{word})")),
        );
        let places = named.live.iter().map(|one| one.first.dir().display().to_string());
        notes.extend(
            places
                .map(|dir| format!("{word} is taken for an ID; it is also the name of {dir} (name:{word})")),
        );
        return Ok(noted(only(resolver, word, exact.live)?, notes));
    }
    // A record under that very ID that can't be read: what else is found need not be what is meant.
    let unread = exact.unread();
    let may_be_taken = resolver.purpose == Purpose::Look && !named.is_empty();
    let is_something_else = !named.is_empty() || !prefixed.is_empty();
    if !unread.is_empty() && is_something_else && !may_be_taken {
        let ids: Vec<&str> = named.ids().map(String::as_str).chain(prefixed).collect();
        return Err(uncertain(word, &unread, resolver.candidates(&ids)));
    }
    if !named.is_empty() {
        if word.len() >= target::SHORT_ID && !prefixed.is_empty() {
            let ids: Vec<&str> = named.ids().map(String::as_str).chain(prefixed).collect();
            return Err(Error::Ambiguous {
                why: format!("\"{word}\" is a name and the beginning of an ID"),
                candidates: resolver.candidates(&ids),
            });
        }
        let notes = also_begins("a name").into_iter().chain(unread).collect();
        return Ok(noted(named.container(resolver, word)?, notes));
    }
    let unread = named.unread(resolver);
    if !prefixed.is_empty() {
        let may_be_taken = resolver.purpose == Purpose::Look && word.len() >= target::SHORT_ID;
        if !unread.is_empty() && !may_be_taken {
            return Err(uncertain(word, &unread, resolver.candidates(&prefixed)));
        }
        return Ok(noted(by_prefix(resolver, word)?, unread));
    }
    let reason = exact.reason_of_roots().or(named.reason);
    nothing_of_roots(resolver, (word, Reading::Any), unread, reason)
}

/// The container that a word means as a name.
pub(super) fn by_name(resolver: &Resolver<'_>, name: &str) -> Result<Found> {
    resolver.ask_names();
    let named = ContainersByName::find(resolver, name);
    if !named.is_empty() {
        return named.container(resolver, name);
    }
    let unread = named.unread(resolver);
    nothing_of_roots(resolver, (name, Reading::Name), unread, named.reason)
}

/// The container that a word means which no running container of root's is called by: a user's, or an error. `reason` is why
/// a container of root's that is known by the word does not run.
fn nothing_of_roots(
    resolver: &Resolver<'_>,
    (word, reading): (&str, Reading),
    unread: Vec<String>,
    reason: Option<Error>,
) -> Result<Found> {
    match reason {
        Some(_) if !unread.is_empty() => Err(uncertain(word, &unread, Vec::new())),
        Some(reason) => Err(reason),
        None => {
            let users = by_user::called(resolver, word, reading);
            of_others(resolver, (word, reading), unread, users)
        }
    }
}

fn noted(mut found: Found, notes: Vec<String>) -> Found {
    found.notes.extend(notes);
    found
}

/// The containers of root's that are called by one name.
struct ContainersByName<'r> {
    /// The containers that a source of names has.
    holders: &'r [NameHolder],
    /// The containers that are named by their cgroup.
    live: Vec<Located>,
    /// Why what is known by that name can't be had.
    reason: Option<Error>,
    /// Two containers of LXC's that the cgroup can be either's of.
    doubt: Option<(String, String)>,
}

fn is_lxc(located: &Located) -> bool {
    located.identity.runtime == Some(Runtime::Lxc)
}

impl<'r> ContainersByName<'r> {
    fn find(resolver: &'r Resolver<'_>, name: &str) -> Self {
        let index = resolver.index();
        let mut live = locate(resolver.host, index, name).live;
        live.retain(|located| located.identity.name.is_some());
        let names = resolver.names();
        let mut doubt = None;
        // What is called `web-1` can be the second cgroup of LXC's `web`, whose first one is empty then.
        if let Some(without) = lxc::without_number(name)
            && names.is_lxc(without)
            && live.iter().any(is_lxc)
            && locate(resolver.host, index, without).live.is_empty()
        {
            match names.is_lxc(name) || names.is_lxc_unread {
                true => doubt = Some((name.to_owned(), without.to_owned())),
                false => live.retain(|located| !is_lxc(located)),
            }
        }
        let is_left_over = || {
            let cgroups = index.entry(name).into_iter().flat_map(|entry| &entry.cgroups);
            let mut named = cgroups.filter_map(|(_, path)| naming::last(path));
            named.any(|named| named.runtime == Some(Runtime::Lxc))
        };
        if live.is_empty() && (names.is_lxc(name) || is_left_over()) {
            live = numbered(resolver, name);
            let others = live.iter().filter_map(|located| {
                let named = naming::last(located.first.path())?;
                let is_anothers = names.is_lxc(&named.id) || !names.is_lxc(name) || names.is_lxc_unread;
                is_anothers.then_some(named.id)
            });
            doubt = others.map(|other| (name.to_owned(), other)).next();
        }
        let mut reason = None;
        if live.is_empty() {
            match machine(resolver.host, name) {
                Ok(found) => live.extend(found),
                Err(error) => reason = Some(error),
            }
            if live.is_empty() && reason.is_none() && (names.is_lxc(name) || is_left_over()) {
                let why = format!("\"{name}\" is LXC's, and no process runs in a cgroup of it");
                reason = Some(Error::NotRunning(why));
            }
        }
        Self {
            holders: names.of(name),
            live,
            reason,
            doubt,
        }
    }

    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.live.is_empty()
    }

    fn ids(&self) -> impl Iterator<Item = &String> {
        self.holders.iter().filter_map(|holder| match holder {
            NameHolder::Id { id, .. } => Some(id),
            NameHolder::Lxc(_) => None,
        })
    }

    /// Why nobody can say what a name means that was not found.
    fn unread(&self, resolver: &Resolver<'_>) -> Vec<String> {
        let names = resolver.names();
        let index = resolver.index();
        let sources = names
            .unread_sources
            .iter()
            .chain(&names.unread_records)
            .chain(&index.incomplete);
        sources.cloned().collect()
    }

    /// The container that runs.
    fn container(self, resolver: &Resolver<'_>, name: &str) -> Result<Found> {
        let host = resolver.host;
        let index = resolver.index();
        let mut all = Matches::of(self.live);
        for holder in self.holders {
            match holder {
                NameHolder::Id { id, runtime, pid } => {
                    let mut matches = locate(host, index, id);
                    if matches.live.is_empty() {
                        matches
                            .live
                            .extend(pid.and_then(|pid| by_first_process(host, index, id, pid)));
                    }
                    if matches.live.is_empty() && matches.dead.is_empty() {
                        matches.dead.push(Error::NotRunning(format!(
                            "\"{name}\" is {runtime}'s {id}, of which no process runs"
                        )));
                    }
                    for located in &mut matches.live {
                        located.identity.name = Some(name.to_owned());
                        located.identity.runtime.get_or_insert(*runtime);
                    }
                    all.extend(matches);
                }
                NameHolder::Lxc(place) => lxc_container(resolver, name, place, &mut all),
            }
        }
        let names = resolver.names();
        if all.live.is_empty() {
            if !index.incomplete.is_empty() {
                return Err(uncertain(name, &index.incomplete, Vec::new()));
            }
            let reason = all.reason().or(self.reason);
            return Err(reason.unwrap_or_else(|| no_such(name)));
        }
        let mut found = only(resolver, name, all.live)?;
        if let Some((one, other)) = self.doubt {
            return Err(Error::Ambiguous {
                why: format!(
                    "{} can be the cgroup of LXC's {one} and of its {other}",
                    found.container.freeze_point().path().display()
                ),
                candidates: vec![described(&found.container, false).1],
            });
        }
        if !names.unread_sources.is_empty() && resolver.purpose == Purpose::Freeze {
            // Another container can have the same name where nobody could look.
            let id = found.container.identity.id.clone();
            let candidates = match id.as_deref() {
                Some(id)
                    if self
                        .holders
                        .iter()
                        .any(|holder| matches!(holder, NameHolder::Id { .. })) =>
                {
                    resolver.candidates(&[id])
                }
                _ => vec![described(&found.container, true).1],
            };
            return Err(uncertain(name, &names.unread_sources, candidates));
        }
        // An engine gives a name once: one that is found in its records is certain there.
        found
            .notes
            .extend(names.unread_sources.iter().chain(&names.unread_records).cloned());
        Ok(found)
    }
}

/// The container whose engine has its first process on record, where the runtime's own record is out of reach: the process
/// is in a cgroup that root alone can have called by the ID.
fn by_first_process(host: &Host, index: &Index, id: &str, pid: i32) -> Option<Located> {
    let lines = cgroup_lines(host, pid)?; // it is gone
    let mut claims = index.claims(id).iter().filter(|claim| claim.trust.is_full());
    let holds = |claim: &&Claim| {
        let line = lines.path(claim.hierarchy);
        line.is_some_and(|line| line.starts_with(&claim.path))
    };
    let mut matches = Matches::default();
    by_claim(host, claims.find(holds)?, &mut matches);
    matches.live.pop()
}

/// LXC's container whose configuration says where its cgroup is.
fn lxc_container(resolver: &Resolver<'_>, name: &str, place: &ConfiguredPlace, all: &mut Matches) {
    let host = resolver.host;
    for hierarchy in check::by_version(host) {
        let Ok(first) = Cgroup::open(host, hierarchy, &place.path) else {
            continue; // it has none in this one, or does not run
        };
        let Some(pid) = index::first_process(host, &first) else {
            continue;
        };
        if !host.proc().is_in_inner_namespace(pid) {
            all.dead.push(Error::Ambiguous {
                why: format!(
                    "{} is the cgroup of LXC's {name} by its configuration, and process {pid} in it is of the host's",
                    first.dir().display()
                ),
                candidates: Vec::new(),
            });
            continue;
        }
        let identity = Identity {
            id: Some(name.to_owned()),
            name: Some(name.to_owned()),
            runtime: Some(Runtime::Lxc),
            pid: Some(pid),
            trust: Trust::Full,
            ..Identity::default()
        };
        all.live.push(Located {
            identity,
            first,
            point: place.inner.clone().map_or(FreezeLevel::Named, FreezeLevel::Above),
            other: Some(place.path.clone()),
            lines: None,
        });
    }
    if all.live.is_empty() && all.dead.is_empty() {
        all.dead.push(Error::NotRunning(format!(
            "\"{name}\" is LXC's, and no process runs in {}",
            place.path.display()
        )));
    }
}

/// The machine that systemd has registered under a name, where its unit is not called after it.
fn machine(host: &Host, name: &str) -> Result<Option<Located>> {
    let Some(machine) = machine::machine(host, name)? else {
        return Ok(None);
    };
    let stat = machine.leader.and_then(|leader| host.proc().stat(leader));
    let lines = stat.as_ref().and_then(|stat| cgroup_lines(host, stat.pid));
    let (Some(stat), Some(lines)) = (stat, lines) else {
        return Err(Error::NotRunning(format!(
            "\"{name}\" is a machine of systemd's, of which no process runs"
        )));
    };
    let trust = CgroupTrust::new(host);
    for hierarchy in check::by_version(host) {
        let Some(line) = lines.path(hierarchy) else {
            continue;
        };
        // Of two levels that are called after the unit, the upper one is the unit: below it the machine names what it likes.
        let mut levels: Vec<&Path> = line.ancestors().filter(|path| path.parent().is_some()).collect();
        levels.reverse();
        let is_unit = |path: &&Path| path.file_name().and_then(OsStr::to_str) == machine.unit.as_deref();
        let unit = levels.into_iter().find(is_unit);
        if let Some(path) = unit.filter(|path| trust.in_name(hierarchy, path).is_full()) {
            let identity = Identity {
                id: Some(name.to_owned()),
                name: Some(name.to_owned()),
                runtime: Some(Runtime::Machine),
                pid: Some(stat.pid),
                record: Some(host.path("/run/systemd/machines").join(name)),
                trust: Trust::Full,
                ..Identity::default()
            };
            return Ok(Some(Located {
                identity,
                first: Cgroup::open(host, hierarchy, path)?,
                point: FreezeLevel::Named,
                other: None,
                lines: None,
            }));
        }
    }
    Err(Error::Unsupported(format!(
        "the machine \"{name}\" has no cgroup of its own in a hierarchy that freezes: its process {} can't be frozen alone",
        stat.pid
    )))
}

/// The cgroups of LXC's container `name` that have a number behind their names, as an empty one was in the way.
fn numbered(resolver: &Resolver<'_>, name: &str) -> Vec<Located> {
    let host = resolver.host;
    let index = resolver.index();
    let begin = format!("{name}-");
    let mut all = Vec::new();
    for id in index
        .beginning(&begin)
        .filter(|id| lxc::without_number(id) == Some(name))
    {
        let live = locate(host, index, id).live.into_iter();
        all.extend(live.filter(is_lxc).map(|mut located| {
            located.identity.name = Some(name.to_owned());
            located.identity.id = Some(name.to_owned());
            located
        }));
    }
    all
}
