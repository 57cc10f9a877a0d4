//! From one cgroup to all that are the container's own. The other hierarchy's is found from what its tasks say,
//! never from an equal path; one that others live in too is reported and not written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::lines::{task_lines, within_namespace};
use super::{Container, Identity, naming};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};

/// Which of two hierarchies freeze writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteAt {
    /// v1 where the container has its own cgroup there, as the runtimes do.
    Runtime,
    /// Where it was said outright.
    Here,
}

/// Finds the cgroups of the container whose own `first` is. `recorded` is the other hierarchy's path as its runtime
/// has it, which its tasks must confirm.
pub(super) fn complete(
    host: &Host,
    identity: Identity,
    first: Cgroup,
    recorded: Option<&Path>,
    write_at: WriteAt,
) -> Result<Container> {
    let hierarchy = first.hierarchy();
    let (theirs, shared) = match host.mount(hierarchy.other()) {
        Some(_) => other_side(host, &identity, &first, recorded)?,
        None => (Vec::new(), Vec::new()),
    };
    let mut here = levels(host, first)?;
    let mut there = Vec::new();
    for cgroup in theirs {
        there.extend(levels(host, cgroup)?);
    }
    // The last level is the one that the runtime freezes.
    let mut own = Vec::new();
    let freeze_at;
    if write_at == WriteAt::Runtime && hierarchy == Hierarchy::V2 && !there.is_empty() {
        freeze_at = there.len() - 1;
        own.append(&mut there);
        own.append(&mut here);
    } else {
        freeze_at = here.len() - 1;
        own.append(&mut here);
        own.append(&mut there);
    }
    Ok(Container {
        identity,
        own,
        freeze_at,
        shared,
    })
}

/// A container whose tasks are all in `cgroup` of the other hierarchy too, though it may not be named so there: it and
/// what is the container's below are own.
pub(super) fn both(mut container: Container, cgroup: &Cgroup) -> Result<Container> {
    container
        .own
        .retain(|own| own.hierarchy() != cgroup.hierarchy() || !own.path().starts_with(cgroup.path()));
    container.shared.retain(|shared| {
        !shared.path().starts_with(cgroup.path()) || shared.hierarchy() != cgroup.hierarchy()
    });
    container.own.push(cgroup.try_clone()?);
    Ok(container)
}

/// A cgroup, and the level below it in which its runtime keeps the tasks, where there is one.
fn levels(host: &Host, cgroup: Cgroup) -> Result<Vec<Cgroup>> {
    let below = naming::last(cgroup.path())
        .and_then(|named| named.below)
        .map(|name| cgroup.path().join(name));
    let hierarchy = cgroup.hierarchy();
    let mut levels = vec![cgroup];
    if let Some(path) = below {
        match Cgroup::open(host, hierarchy, &path) {
            Ok(inner) => levels.push(inner),
            Err(Error::Gone(_)) => {} // its runtime has none here
            Err(error) => return Err(error),
        }
    }
    Ok(levels)
}

fn other_side(
    host: &Host,
    identity: &Identity,
    first: &Cgroup,
    recorded: Option<&Path>,
) -> Result<(Vec<Cgroup>, Vec<Cgroup>)> {
    let hierarchy = first.hierarchy().other();
    let tasks = first.tids_below()?;
    let mut left = tasks.clone();
    let mut found: Vec<Cgroup> = Vec::new();
    while let Some(tid) = left.pop_first() {
        // A task that is gone says nothing.
        let Some(lines) = task_lines(host, tid) else {
            continue;
        };
        let Some(path) = lines.path(hierarchy) else {
            continue;
        };
        let level = level(within_namespace(path)?, identity, recorded);
        match Cgroup::open(host, hierarchy, &level) {
            Ok(cgroup) => {
                // The root's tasks are everybody's: they need not be listed to know that.
                if !cgroup.is_root() {
                    let members = cgroup.tids_below()?;
                    left.retain(|tid| !members.contains(tid));
                }
                if found.iter().all(|known| known.id() != cgroup.id()) {
                    found.push(cgroup);
                }
            }
            Err(Error::Gone(_)) => {} // its last task left meanwhile
            Err(error) => return Err(error),
        }
    }
    if found.len() > 1
        && let Some(common) = common(host, hierarchy, &found)?
        && is_exclusive(host, &common, first, &tasks)?
    {
        return Ok((vec![common], Vec::new()));
    }
    let mut own = Vec::new();
    let mut shared = Vec::new();
    for cgroup in found {
        if !cgroup.is_root() && is_exclusive(host, &cgroup, first, &tasks)? {
            own.push(cgroup);
        } else {
            shared.push(cgroup);
        }
    }
    Ok((own, shared))
}

/// The level of a task's path that is the container's: the one on record, else the one that is named after it, else
/// the task's own.
fn level(path: &Path, identity: &Identity, recorded: Option<&Path>) -> PathBuf {
    if let Some(recorded) = recorded.filter(|recorded| path.starts_with(recorded)) {
        return recorded.to_owned();
    }
    let named = naming::chain(path)
        .into_iter()
        .find(|named| Some(&named.id) == identity.id.as_ref());
    named.map_or_else(|| path.to_owned(), |named| named.path)
}

fn common(host: &Host, hierarchy: Hierarchy, cgroups: &[Cgroup]) -> Result<Option<Cgroup>> {
    let Some((first, rest)) = cgroups.split_first() else {
        return Ok(None);
    };
    let above = first
        .path()
        .ancestors()
        .find(|above| rest.iter().all(|cgroup| cgroup.path().starts_with(above)));
    match above.filter(|above| above.parent().is_some()) {
        Some(above) => Cgroup::open(host, hierarchy, above).map(Some),
        None => Ok(None),
    }
}

/// Whether only the container's tasks are in `cgroup` and below. `tasks` are those of `first`, read before; tasks that
/// came since are looked for in a second reading.
fn is_exclusive(host: &Host, cgroup: &Cgroup, first: &Cgroup, tasks: &BTreeSet<i32>) -> Result<bool> {
    let members = cgroup.tids_below()?;
    if members.is_subset(tasks) {
        return Ok(true);
    }
    let now = first.tids_below()?;
    Ok(members
        .iter()
        .filter(|tid| !tasks.contains(tid) && !now.contains(tid))
        .all(|&tid| {
            match task_lines(host, tid) {
                Some(lines) => lines
                    .path(first.hierarchy())
                    .is_some_and(|path| path.starts_with(first.path())),
                None => true, // it is gone
            }
        }))
}
