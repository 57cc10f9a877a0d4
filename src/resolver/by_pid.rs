//! The container that a process is in.

use std::path::Path;

use super::answer::{completed, no_such};
use super::by_id::exactly;
use super::cgroup_trust::CgroupTrust;
use super::check::{by_record, recorded_at};
use super::container::{Found, Located, found};
use super::lines::{Lines, cgroup_lines, task_lines, within_namespace};
use super::lookup::{Nesting, Resolver};
use super::matches::{Matches, by_named, locate_of_users};
use super::runtime::Runtime;
use super::target::{self, is_full_id};
use super::{index, naming, shim};
use crate::cgroup::Cgroup;
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host, Stat};

/// The container that a process is in.
pub(super) fn by_pid(resolver: &Resolver<'_>, pid: i32, nesting: Nesting) -> Result<Found> {
    let host = resolver.host;
    let no_process = || Error::NotFound(format!("no process {pid}"));
    let proc = host.proc();
    // A process that does not answer lives.
    let stat = match proc.stat_of(pid) {
        Ok(None) => return Err(no_process()),
        Ok(stat) => stat,
        Err(_) => None,
    };
    // The first thread of a process can have ended before the others.
    let is_ended = stat.as_ref().is_some_and(Stat::is_ended);
    let thread = if is_ended { proc.living_thread(pid) } else { None };
    if thread.is_none() && stat.is_some_and(|stat| matches!(stat.state, 'Z' | 'X' | 'x')) {
        return Err(Error::NotRunning(format!("process {pid} is dead")));
    }
    let lines = match thread {
        Some(tid) => task_lines(host, tid),
        None => cgroup_lines(host, pid),
    };
    let lines = lines.ok_or_else(no_process)?;
    let mut places: Vec<(Hierarchy, &Path)> = Vec::new();
    // v1 first, as the runtimes have it.
    for mount in [Hierarchy::V1, Hierarchy::V2]
        .into_iter()
        .filter_map(|hierarchy| host.mount(hierarchy))
    {
        if let Some(path) = lines.path(mount.hierarchy) {
            places.push((mount.hierarchy, within_namespace(path)?));
        }
    }
    let chains: Vec<(Hierarchy, Vec<naming::Named>)> = places
        .iter()
        .map(|&(hierarchy, path)| (hierarchy, naming::chain(path)))
        .filter(|(_, chain)| !chain.is_empty())
        .collect();
    // The longest: a container inside another need not be named in both hierarchies.
    let longest = chains.into_iter().rev().max_by_key(|(_, chain)| chain.len());
    if let Some((hierarchy, mut chain)) = longest {
        // The cgroup of a container inside the last one need not bear its ID: its record tells.
        let inner = unnamed_inside(resolver, hierarchy, &lines, &chain)?;
        chain.extend(inner);
        let named = match (chain.as_slice(), nesting) {
            ([one], _) | ([one, ..], Nesting::Outer) | ([.., one], Nesting::Inner) => one,
            _ => {
                let candidates = chain
                    .iter()
                    .map(|named| Candidate {
                        runtime: named.runtime.map_or("container", Runtime::name).to_owned(),
                        name: None,
                        id: named.id.clone(),
                        unambiguous: target::cgroup(hierarchy, &named.path),
                    })
                    .collect();
                let why = format!(
                    "process {pid} is in {} containers, one in the other (--outer, --inner)",
                    chain.len()
                );
                return Err(Error::Ambiguous { why, candidates });
            }
        };
        return in_named(resolver, hierarchy, named, pid);
    }
    for &(hierarchy, path) in &places {
        if let Some(located) = recorded_at(host, hierarchy, path)? {
            // A record that says one cgroup and means another means nothing of this process.
            let at = lines.path(located.first.hierarchy());
            if !at.is_some_and(|at| at.starts_with(located.first.path())) {
                continue;
            }
            return completed(host, located).map(found);
        }
    }
    if !places.is_empty() && places.iter().all(|(_, path)| path.parent().is_none()) {
        return Err(Error::Unsupported(format!(
            "process {pid} has no cgroup of its own in a hierarchy that freezes: it is in the root, and can't be frozen alone"
        )));
    }
    let places: Vec<String> = places
        .iter()
        .map(|&(hierarchy, path)| target::cgroup(hierarchy, path))
        .collect();
    Err(Error::NotFound(format!(
        "process {pid} is in no container that is known here, but in {}; written so, a target means that cgroup",
        places.join(" and ")
    )))
}

/// The container on record whose cgroup is below the last of a chain, and holds the process too.
fn unnamed_inside(
    resolver: &Resolver<'_>,
    hierarchy: Hierarchy,
    lines: &Lines,
    chain: &[naming::Named],
) -> Result<Option<naming::Named>> {
    let (Some(last), Some(path)) = (chain.last(), lines.path(hierarchy)) else {
        return Ok(None);
    };
    // At its own levels there is nobody else, and no record has to be read.
    if path == last.path || last.level().as_deref() == Some(path) {
        return Ok(None);
    }
    let located = recorded_at(resolver.host, hierarchy, path)?;
    let inside = located.filter(|located| {
        let at = located.first.path();
        located.first.hierarchy() == hierarchy
            && at != last.path
            && at.starts_with(&last.path)
            && path.starts_with(at)
    });
    Ok(inside.map(|located| naming::Named {
        runtime: None,
        id: located.identity.id.unwrap_or_default(),
        is_name: false,
        path: located.first.path().to_owned(),
        below: None,
        is_at_home: false,
    }))
}

/// The container whose cgroup is named so: by its runtime's record where that fits the cgroup, else by the cgroup.
fn in_named(resolver: &Resolver<'_>, hierarchy: Hierarchy, named: &naming::Named, pid: i32) -> Result<Found> {
    let host = resolver.host;
    let id = Cgroup::open(host, hierarchy, &named.path)?.id();
    let trust = CgroupTrust::new(host).in_name(hierarchy, &named.path);
    let mut known = exactly(resolver, &named.id).live;
    known.extend(by_shim(host, hierarchy, named));
    if trust.user().is_some() && known.iter().all(|located| located.first.id() != id) {
        known = locate_of_users(host, resolver.index(), &named.id).live;
    }
    // The first process itself is the container's wherever it is shown: v1 shows the root for one that is on its way out.
    let is_it = |located: &Located| located.first.id() == id || located.identity.pid == Some(pid);
    let located = match known.into_iter().find(is_it) {
        Some(located) => located,
        None => {
            let mut matches = Matches::default();
            by_named(host, hierarchy, &named.path, trust, &mut matches);
            match matches.live.pop() {
                Some(located) => located,
                None => return Err(matches.reason().unwrap_or_else(|| no_such(&named.id))),
            }
        }
    };
    completed(host, located).map(found)
}

/// The container that the record of an engine with a shim has of a cgroup that bears a whole ID.
fn by_shim(host: &Host, hierarchy: Hierarchy, named: &naming::Named) -> Option<Located> {
    is_full_id(named.id.as_bytes()).then_some(())?;
    let cgroup = Cgroup::open(host, hierarchy, &named.path).ok()?; // it is gone
    let record = shim::record(host, index::first_process(host, &cgroup)?, &named.id)?;
    by_record(host, record).ok() // it is no match
}
