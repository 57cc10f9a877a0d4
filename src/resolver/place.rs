//! From one cgroup to all that are the container's own. The other hierarchy's is found from what its tasks say,
//! never from an equal path; one that others live in too is reported and not written.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::container::{Container, FreezeLevel, Identity, Located, Probe};
use super::lines::{lines_of_tasks, within_namespace};
use super::naming;
use super::runtime::Runtime;
use crate::cgroup::{Cgroup, CgroupId, Tasks};
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};

/// How long a container's tasks are listed to find its cgroups in the other hierarchy: it can have any number of cgroups
/// inside, and a thaw waits for it. Some thousand are listed in that time (Linux 6.18); each task that was not is asked.
const LISTING: Duration = Duration::from_millis(20);

/// By so much more tasks are asked at once where they are, each time that those before did not lead to all.
const MORE: usize = 16;

/// Which of two hierarchies a freeze writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteAt {
    /// v1 where the container has its own cgroup there, as the runtimes do.
    Runtime,
    /// The hierarchy that the target names.
    Here,
}

/// Finds the cgroups of a container from one of them, which has been found.
pub(super) fn complete(host: &Host, located: Located, write_at: WriteAt) -> Result<Container> {
    probe(host, located, write_at).map(|probe| probe.container)
}

/// Finds the cgroups of a container from one of them, and keeps what was read on the way.
pub(super) fn probe(host: &Host, located: Located, write_at: WriteAt) -> Result<Probe> {
    let Located {
        identity,
        first,
        point,
        other,
        lines,
    } = located;
    let hierarchy = first.hierarchy();
    let OtherSide {
        own: theirs,
        shared,
        listed,
    } = match host.mount(hierarchy.other()) {
        Some(_) => other_side(host, &identity, &first, other.as_deref())?,
        None => OtherSide::default(),
    };
    let is_machine = identity.runtime == Some(Runtime::Machine);
    let here = levels(host, first, &point, is_machine)?;
    let mut there = Levels::default();
    for cgroup in theirs {
        let more = levels(host, cgroup, &point, is_machine)?;
        there.freeze_at = there.own.len() + more.freeze_at;
        there.own.extend(more.own);
    }
    let (mut first, second) =
        if write_at == WriteAt::Runtime && hierarchy == Hierarchy::V2 && !there.own.is_empty() {
            (there, here)
        } else {
            (here, there)
        };
    first.own.extend(second.own);
    let container = Container {
        identity,
        own: first.own,
        freeze_at: first.freeze_at,
        shared,
    };
    let tids_in = |cgroup: &Cgroup| listed.iter().find(|(id, _)| *id == cgroup.id());
    let each: Option<Vec<_>> = container.tops().map(tids_in).collect();
    let tids = each.map(|each| each.into_iter().flat_map(|(_, tids)| tids).copied().collect());
    Ok(Probe {
        container,
        tids,
        lines,
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

/// The levels of a container in one hierarchy, the one that holds all its tasks first.
#[derive(Debug, Default)]
struct Levels {
    own: Vec<Cgroup>,
    freeze_at: usize,
}

/// A cgroup, and the level below it that its runtime made too, where there is one.
///
/// A machine's unit can be called anything: the level of its tasks is `payload` whatever its name.
fn levels(host: &Host, top: Cgroup, point: &FreezeLevel, is_machine: bool) -> Result<Levels> {
    let named = naming::last(top.path());
    let below = match point {
        FreezeLevel::At(path) | FreezeLevel::Above(path) if path.starts_with(top.path()) => {
            (path != top.path()).then(|| path.clone())
        }
        _ if is_machine => Some(top.path().join("payload")),
        _ => named.as_ref().and_then(naming::Named::level),
    };
    let hierarchy = top.hierarchy();
    let open = |path: &Path| match Cgroup::open(host, hierarchy, path) {
        Ok(inner) => Ok(Some(inner)),
        Err(Error::Gone(_)) => Ok(None), // its runtime has none here
        Err(error) => Err(error),
    };
    let Some(inner) = below.map(|path| open(&path)).transpose()?.flatten() else {
        return Ok(Levels {
            own: vec![top],
            freeze_at: 0,
        });
    };
    let is_a_unit = is_machine || named.is_some_and(|named| named.runtime == Some(Runtime::Machine));
    // systemd freezes the whole unit. Where nspawn itself lives in it too, it is not the container's: the level of the
    // container's tasks comes first then, and the unit's own request is still one that holds it.
    if is_a_unit && open(&top.path().join("supervisor"))?.is_some() {
        return Ok(Levels {
            own: vec![inner, top],
            freeze_at: 0,
        });
    }
    let freeze_at = match point {
        FreezeLevel::Above(_) => 0,
        FreezeLevel::Named | FreezeLevel::At(_) => usize::from(!is_a_unit),
    };
    Ok(Levels {
        own: vec![top, inner],
        freeze_at,
    })
}

/// A container's cgroups in the other hierarchy.
#[derive(Debug, Default)]
struct OtherSide {
    own: Vec<Cgroup>,
    shared: Vec<Cgroup>,
    /// The tasks of each cgroup that was listed, in either hierarchy.
    listed: Vec<(CgroupId, BTreeSet<i32>)>,
}

fn other_side(
    host: &Host,
    identity: &Identity,
    first: &Cgroup,
    recorded: Option<&Path>,
) -> Result<OtherSide> {
    let hierarchy = first.hierarchy().other();
    let until = Instant::now() + LISTING;
    let Tasks { tids: tasks, missed } = first.tasks_below(Some(until))?;
    let is_whole = missed.is_none();
    let mut left = tasks.clone();
    let mut found: Vec<(Cgroup, BTreeSet<i32>)> = Vec::new();
    // The cgroups there whose tasks could not all be listed.
    let mut parts: Vec<CgroupId> = Vec::new();
    let mut read = VecDeque::new();
    // Reads that are handed to another thread may as well be many.
    let mut at_once = if host.is_aside() { 1 } else { MORE };
    while let Some(tid) = left.first().copied() {
        if read.is_empty() {
            // Most often one task leads to where all are; where it does not, each is asked.
            read.extend(lines_of_tasks(host, left.iter().copied().take(at_once)));
            at_once *= MORE;
        }
        // Tasks that were found in a cgroup meanwhile need not be asked.
        let Some((asked, lines)) = read.pop_front() else {
            break; // each has an answer
        };
        if asked != tid {
            continue;
        }
        left.remove(&tid);
        // A task that is gone says nothing.
        let Some(lines) = lines else {
            continue;
        };
        let Some(path) = lines.path(hierarchy) else {
            continue;
        };
        let level = level(within_namespace(path)?, identity, recorded);
        match Cgroup::open(host, hierarchy, &level) {
            Ok(cgroup) => {
                // The root's tasks are everybody's: they need not be listed to know that.
                let members = match cgroup.is_root() {
                    true => Ok(Tasks::default()),
                    false => cgroup.tasks_below(Some(until)),
                };
                let Tasks {
                    tids: members,
                    missed,
                } = match members {
                    Err(Error::Gone(_)) => continue, // its last task left meanwhile
                    members => members?,
                };
                parts.extend(missed.map(|_| cgroup.id()));
                left.retain(|tid| !members.contains(tid));
                if found.iter().all(|(known, _)| known.id() != cgroup.id()) {
                    found.push((cgroup, members));
                }
            }
            Err(Error::Gone(_)) => {} // its last task left meanwhile
            Err(error) => return Err(error),
        }
    }
    // Who else is below may be too many to be listed, or refuse it: then each is told by itself.
    if found.len() > 1
        && let Some(common) = common(host, hierarchy, &found)
        && let Ok(Tasks {
            tids: members,
            missed: None,
        }) = common.tasks_below(Some(Instant::now() + LISTING))
        && is_exclusive(host, &members, first, &tasks, is_whole)?
    {
        return Ok(OtherSide {
            own: vec![common],
            ..OtherSide::default()
        });
    }
    let mut side = OtherSide::default();
    for (cgroup, members) in found {
        let named = naming::last(cgroup.path()).map(|named| named.id);
        let is_named = named.is_some() && named == identity.id;
        // Who else may be where not all could be listed is told by its name alone.
        let may_be_own = !cgroup.is_root() && (is_named || !parts.contains(&cgroup.id()));
        if may_be_own && is_exclusive(host, &members, first, &tasks, is_whole)? {
            side.listed.push((cgroup.id(), members));
            // A cgroup with strayed tasks comes after the one that bears the container's name.
            match is_named {
                true => side.own.insert(0, cgroup),
                false => side.own.push(cgroup),
            }
        } else {
            side.shared.push(cgroup);
        }
    }
    match is_whole && parts.is_empty() {
        true => side.listed.push((first.id(), tasks)),
        false => side.listed.clear(), // who looks at all of them lists them itself
    }
    Ok(side)
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

/// The nearest cgroup that holds some others and is not the root.
fn common(host: &Host, hierarchy: Hierarchy, cgroups: &[(Cgroup, BTreeSet<i32>)]) -> Option<Cgroup> {
    let ((first, _), rest) = cgroups.split_first()?;
    let above = first
        .path()
        .ancestors()
        .find(|above| rest.iter().all(|(cgroup, _)| cgroup.path().starts_with(above)))?;
    above.parent()?;
    Cgroup::open(host, hierarchy, above).ok() // gone, or closed to the caller: it is nobody's alone then
}

/// Whether the members of a cgroup are only the container's tasks. `tasks` are those of `first`, read before, all where that
/// `is_whole`; tasks that came since are looked for in a second reading then, and who is not in that is asked.
fn is_exclusive(
    host: &Host,
    members: &BTreeSet<i32>,
    first: &Cgroup,
    tasks: &BTreeSet<i32>,
    is_whole: bool,
) -> Result<bool> {
    if members.is_subset(tasks) {
        return Ok(true);
    }
    let now = match is_whole {
        true => first.tasks_below(Some(Instant::now() + LISTING))?.tids,
        false => BTreeSet::new(), // each is asked for its own place
    };
    let unknown = members.iter().copied();
    let unknown = unknown.filter(|tid| !tasks.contains(tid) && !now.contains(tid));
    let unknown: Vec<i32> = unknown.collect();
    // In pieces, as the first one that is elsewhere is enough.
    let are_inside = |tids: &[i32]| {
        let lines = lines_of_tasks(host, tids.iter().copied());
        lines.into_iter().all(|(tid, lines)| match lines {
            Some(lines) => lines
                .path(first.hierarchy())
                .is_some_and(|path| path.starts_with(first.path())),
            None => !host.has_process(tid), // gone, or it may not be read
        })
    };
    Ok(unknown.chunks(MORE).all(are_inside))
}
