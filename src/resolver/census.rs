//! Which containers there are, by their IDs alone: the names of directories in the runtimes' roots and in the cgroup
//! trees. Taking it is one listing per directory and opens no record; a record is opened when it is asked for. What
//! could not be listed is said, since a prefix is only unique where everything was.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::naming::{self, Named};
use super::runc::{self, Record, Root};
use super::{docker, shim};
use crate::cgroup::{Cgroup, Descent};
use crate::error::Result;
use crate::host::{Hierarchy, Host};
use crate::verifier::Witness;

/// The containers of a host.
#[derive(Debug)]
pub(super) struct Census {
    roots: Vec<Root>,
    entries: BTreeMap<String, Entry>,
    /// What could not be listed, and why.
    pub(super) incomplete: Vec<String>,
}

/// Where one ID was seen.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// In these roots.
    roots: Vec<usize>,
    /// As these cgroups.
    pub(super) cgroups: Vec<(Hierarchy, Named)>,
}

impl Census {
    /// Lists everything.
    pub(super) fn take(host: &Host) -> Self {
        let mut census = Self {
            roots: Vec::new(),
            entries: BTreeMap::new(),
            incomplete: Vec::new(),
        };
        census.roots = all_roots(host, &mut census.incomplete);
        for (index, root) in census.roots.iter().enumerate() {
            match root.dir.names() {
                Ok(names) => {
                    for name in names.iter().filter_map(|name| name.to_str()) {
                        census
                            .entries
                            .entry(name.to_owned())
                            .or_default()
                            .roots
                            .push(index);
                    }
                }
                Err(error) => census.incomplete.push(error.to_string()),
            }
        }
        for mount in host.mounts() {
            let walked =
                Cgroup::open(host, mount.hierarchy, "/".as_ref()).and_then(|root| census.walk(&root));
            if let Err(error) = walked {
                census.incomplete.push(error.to_string());
            }
        }
        census
    }

    fn walk(&mut self, root: &Cgroup) -> Result<()> {
        let cut = root.walk(&mut |cgroup| {
            if let Some(named) = naming::last(cgroup.path()) {
                let entry = self.entries.entry(named.id.clone()).or_default();
                entry.cgroups.push((cgroup.hierarchy(), named));
            }
            Ok(Descent::Into)
        })?;
        // What a container nests inside itself keeps no other from being certain.
        if let Some(cut) = cut.filter(|cut| naming::chain(cut).is_empty()) {
            let top: PathBuf = cut.iter().take(3).collect();
            self.incomplete.push(format!(
                "the cgroups below {} are too deep to be listed",
                top.display()
            ));
        }
        Ok(())
    }

    /// Every ID, and its runtime where its place says it.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        self.entries.iter().map(|(id, entry)| {
            let by_root = entry.roots.first().map(|&index| self.roots[index].runtime);
            (
                id.as_str(),
                by_root.or_else(|| entry.cgroups.iter().find_map(|(_, named)| named.runtime)),
            )
        })
    }

    /// Where one ID was seen.
    pub(super) fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// The records of one ID.
    pub(super) fn records(&self, id: &str) -> Vec<Result<Record>> {
        let roots = self
            .entries
            .get(id)
            .map(|entry| entry.roots.as_slice())
            .unwrap_or_default();
        roots
            .iter()
            .filter_map(|&index| self.roots[index].record(id).transpose())
            .collect()
    }

    /// A readable record of one ID.
    pub(super) fn record(&self, id: &str) -> Option<Record> {
        self.records(id).into_iter().find_map(Result::ok) // an unreadable one is reported where it is resolved
    }

    /// The first process of a container that is known by its cgroup.
    pub(super) fn a_process(&self, host: &Host, id: &str) -> Option<i32> {
        self.entries
            .get(id)?
            .cgroups
            .iter()
            .find_map(|(hierarchy, named)| {
                first_process(host, &Cgroup::open(host, *hierarchy, &named.path).ok()?) // gone: no process
            })
    }
}

/// The usual roots and the configured one. What can't be opened is added to `incomplete`, and hides nothing else.
pub(super) fn all_roots(host: &Host, incomplete: &mut Vec<String>) -> Vec<Root> {
    let mut roots = runc::usual_roots(host, incomplete);
    match docker::configured_exec_root(host) {
        Ok(Some(exec_root))
            if exec_root != host.path("/run/docker") && exec_root != host.path("/var/run/docker") =>
        {
            roots.extend(runc::docker_roots(&exec_root, incomplete));
        }
        Ok(_) => {}
        Err(error) => incomplete.push(error.to_string()),
    }
    roots
}

/// The process that the others in a cgroup come from: the oldest of those whose parent is not in it.
pub(super) fn first_process(host: &Host, cgroup: &Cgroup) -> Option<i32> {
    let witness = Witness::new(host);
    let tids = cgroup.tids_below().ok()?; // gone: no process
    let stats = tids.iter().filter_map(|tid| witness.stat(&tid.to_string()));
    stats
        .filter(|stat| !tids.contains(&stat.ppid))
        .min_by_key(|stat| (stat.starttime, stat.pid))
        .map(|stat| stat.pid)
}

/// The record that a shim's bundle leads to, for a container whose engine keeps its records elsewhere.
pub(super) fn record_by_shim(host: &Host, pid: i32, id: &str) -> Option<Record> {
    shim::runc_root(host, pid)?.record(id).ok()? // unreadable: as if there were none
}
