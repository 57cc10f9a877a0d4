//! Which containers there are, by their IDs alone: the names of directories in the runtimes' roots and in the cgroup
//! trees. Taking it is one listing per directory and opens no record; a record is opened when it is asked for. What
//! could not be listed is said, since a prefix is only unique where everything was.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::beside::{Reading, Source, beside};
use super::check::user_of;
use super::naming;
use super::record::Record;
use super::roots::{self, Root, SystemRoots};
use super::shim;
use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::host::{Hierarchy, Host};
use crate::verifier::Witness;

/// The containers of a host.
#[derive(Debug)]
pub(super) struct Census {
    roots: Arc<SystemRoots>,
    /// The roots of users' engines. They can hang: a record of these is read beside the work.
    users: Arc<Vec<Root>>,
    entries: HashMap<String, Entry>,
    /// What could not be listed, and why.
    pub(super) incomplete: Vec<String>,
    /// The same of what is users' own, or too deep for any runtime: it makes nothing uncertain that is found elsewhere.
    pub(super) doubtful: Vec<String>,
}

/// Where one ID was seen.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// In these roots.
    roots: Vec<usize>,
    /// In these of users'.
    users: Vec<usize>,
    /// As these cgroups.
    pub(super) cgroups: Vec<(Hierarchy, PathBuf)>,
}

impl Census {
    /// Lists everything.
    pub(super) fn take(host: &Host, roots: Arc<SystemRoots>) -> Self {
        // They are listed while the rest is.
        let users = UserRoots::start(host);
        let mut incomplete = roots.incomplete.clone();
        let mut doubtful = Vec::new();
        let mut entries: HashMap<String, Entry> = HashMap::new();
        for (index, root) in roots.all.iter().enumerate() {
            for name in listed(root, &mut incomplete) {
                entries.entry(name).or_default().roots.push(index);
            }
        }
        for mount in host.mounts() {
            let root = Cgroup::open(host, mount.hierarchy, "/".as_ref());
            if let Err(error) = root.and_then(|root| walk(host, &root, &mut entries, &mut doubtful)) {
                incomplete.push(error.to_string());
            }
        }
        let users = users.listed(&mut doubtful);
        let mut user_roots = Vec::new();
        for (index, (root, names)) in users.into_iter().enumerate() {
            for name in names {
                entries.entry(name).or_default().users.push(index);
            }
            user_roots.push(root);
        }
        Self {
            roots,
            users: Arc::new(user_roots),
            entries,
            incomplete,
            doubtful,
        }
    }

    /// All that could not be listed.
    pub(super) fn unlisted(&self) -> Vec<String> {
        self.incomplete.iter().chain(&self.doubtful).cloned().collect()
    }

    /// Every ID, and its runtime where its place says it.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        self.entries
            .iter()
            .map(|(id, entry)| (id.as_str(), self.runtime(entry)))
    }

    /// The runtime of one ID, where its place says it.
    pub(super) fn runtime_of(&self, id: &str) -> Option<&'static str> {
        self.runtime(self.entries.get(id)?)
    }

    fn runtime(&self, entry: &Entry) -> Option<&'static str> {
        let by_root = entry.roots.first().map(|&index| self.roots.all[index].runtime);
        by_root
            .or_else(|| entry.users.first().map(|&index| self.users[index].runtime))
            .or_else(|| {
                let mut named = entry.cgroups.iter().filter_map(|(_, path)| naming::last(path));
                named.find_map(|named| named.runtime)
            })
    }

    /// The IDs that begin so, sorted.
    pub(super) fn beginning<'c>(&'c self, prefix: &'c str) -> impl Iterator<Item = &'c str> {
        let mut ids: Vec<&str> = self.entries.keys().map(String::as_str).collect();
        ids.retain(|id| id.starts_with(prefix));
        ids.sort_unstable();
        ids.into_iter()
    }

    /// Where one ID was seen.
    pub(super) fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Whether the cgroup that bears an ID is where the kubelet has the pods.
    pub(super) fn is_in_a_pod(&self, id: &str) -> bool {
        let cgroups = self.entries.get(id).into_iter().flat_map(|entry| &entry.cgroups);
        cgroups
            .flat_map(|(_, path)| path.iter())
            .any(|part| part.as_bytes().starts_with(b"kubepods"))
    }

    /// The cgroup above the one that bears an ID.
    pub(super) fn parent(&self, id: &str) -> Option<&Path> {
        self.entries.get(id)?.cgroups.first()?.1.parent()
    }

    /// The records of one ID, root's and then the users'.
    pub(super) fn records(&self, host: &Host, id: &str) -> Vec<(Word, Result<Record>)> {
        let Some(entry) = self.entries.get(id) else {
            return Vec::new();
        };
        let roots = entry.roots.iter().map(|&index| &self.roots.all[index]);
        let records = roots.filter_map(|root| root.record(id).transpose());
        let mut records: Vec<_> = records.map(|record| (Word::Roots, record)).collect();
        if entry.users.is_empty() {
            return records;
        }
        if self.roots.are_users_late() {
            records.push((Word::Users, Err(USERS.late())));
        } else {
            let (roots, indices, wanted) = (Arc::clone(&self.users), entry.users.clone(), id.to_owned());
            let read = beside(host, move |_| {
                let roots = indices.iter().map(|&index| &roots[index]);
                roots
                    .filter_map(|root| root.record(&wanted).transpose())
                    .collect::<Vec<_>>()
            });
            match read.wait() {
                Some(theirs) => records.extend(theirs.into_iter().map(|record| (Word::Users, record))),
                None => {
                    self.roots.users_are_late();
                    records.push((Word::Users, Err(USERS.late())));
                }
            }
        }
        records
    }

    /// A readable record of one ID that is root's word.
    pub(super) fn record(&self, host: &Host, id: &str) -> Option<Record> {
        let records = self.records(host, id).into_iter();
        let mut good = records.filter_map(|(_, record)| record.ok()); // an unreadable one is reported where it is resolved
        good.find(|record| record.user.is_none())
    }

    /// The first process of a container that is known by its cgroup, one of root's.
    pub(super) fn a_process(&self, host: &Host, id: &str) -> Option<i32> {
        let cgroups = self.entries.get(id)?.cgroups.iter();
        let mut roots = cgroups.filter(|(_, path)| user_of(path).is_none());
        roots.find_map(|(hierarchy, path)| {
            let cgroup = Cgroup::open(host, *hierarchy, path).ok()?; // gone: no process
            let is_roots = cgroup.owner().is_ok_and(|owner| owner == 0);
            is_roots.then(|| first_process(host, &cgroup)).flatten()
        })
    }
}

/// Whose word a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Roots,
    Users,
}

/// What is said where users' roots can't be read in time.
pub(super) const USERS: Source = Source("the records of users' own engines, below /run/user,");

/// Roots with the names in them, and what could not be listed.
type Listed = (Vec<(Root, Vec<String>)>, Vec<String>);

/// The roots of users' engines with the names in them, which are being listed.
struct UserRoots(Option<Reading<Listed>>);

impl UserRoots {
    /// Begins to list them. Where nobody is logged in there is nothing to do.
    fn start(host: &Host) -> Self {
        if !roots::has_users(host) {
            return Self(None);
        }
        Self(Some(beside(host, |host| {
            let mut incomplete = Vec::new();
            let roots = roots::of_users(host, &mut incomplete);
            let each = roots.into_iter().map(|root| {
                let names = listed(&root, &mut incomplete);
                (root, names)
            });
            let each = each.collect();
            (each, incomplete)
        })))
    }

    /// Waits for them.
    fn listed(self, incomplete: &mut Vec<String>) -> Vec<(Root, Vec<String>)> {
        match self.0.map(|reading| reading.wait()) {
            None => Vec::new(),
            Some(Some((roots, unread))) => {
                incomplete.extend(unread);
                roots
            }
            Some(None) => {
                incomplete.push(USERS.late().to_string());
                Vec::new()
            }
        }
    }
}

fn listed(root: &Root, incomplete: &mut Vec<String>) -> Vec<String> {
    match root.dir.names() {
        Ok(names) => names
            .into_iter()
            .filter_map(|name| name.into_string().ok())
            .collect(), // no ID
        Err(error) => {
            incomplete.push(error.to_string());
            Vec::new()
        }
    }
}

fn walk(
    host: &Host,
    root: &Cgroup,
    entries: &mut HashMap<String, Entry>,
    doubtful: &mut Vec<String>,
) -> Result<()> {
    let hierarchy = root.hierarchy();
    let cut = root.paths_below(host, &mut |path| {
        if let Some(named) = naming::last(path) {
            let entry = entries.entry(named.id).or_default();
            entry.cgroups.push((hierarchy, named.path));
        }
    })?;
    // What a container nests inside itself keeps no other from being certain.
    if let Some(cut) = cut.filter(|cut| naming::chain(cut).is_empty()) {
        let top: PathBuf = cut.iter().take(3).collect();
        // No runtime makes one there; what is found elsewhere is as certain as ever.
        doubtful.push(format!(
            "the cgroups below {} are too deep to be listed",
            top.display()
        ));
    }
    Ok(())
}

/// The process that the others in a cgroup come from: the oldest of those whose parent is not in it.
pub(super) fn first_process(host: &Host, cgroup: &Cgroup) -> Option<i32> {
    let witness = Witness::new(host);
    let tids = cgroup.tids_below().ok()?; // gone: no process
    let (stats, silent) = witness.stats(tids.iter().copied());
    let first = stats
        .iter()
        .filter(|stat| !tids.contains(&stat.ppid))
        .min_by_key(|stat| (stat.starttime, stat.pid));
    // Where it does not answer its children show that they are none.
    first.map(|stat| stat.pid).or_else(|| silent.first().copied())
}

/// The record that a shim's bundle leads to, for a container whose engine keeps its records elsewhere.
pub(super) fn record_by_shim(host: &Host, pid: i32, id: &str) -> Option<Record> {
    shim::runc_root(host, pid)?.record(id).ok()? // unreadable: as if there were none
}
