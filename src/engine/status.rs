//! What is so: requested, effective and observed, of one container. Writes nothing, and never reads `freezer.state`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::time::Duration;

use super::look;
use super::scope::{Scope, ThawedAncestors};
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host, read_number};
use crate::report::{Effective, Memory, Observed, Outsider, SCHEMA, States, Status};
use crate::resolver::{Believed, Container, Details, Lines, Probe, cgroup_lines, naming, target};
use crate::verifier::{Holdout, Place, Sighting, Sightings, Stray, Witness};

/// How long all processes of the host may take to be looked through; one takes 5.5 µs (of 5,000, on Linux 6.18).
const SCAN: Duration = Duration::from_secs(1);

/// Reads the state of a container, and of each task of it that is not as the requests have it.
///
/// # Errors
///
/// Its cgroups can't be read, or are gone.
pub fn status(
    host: &Host,
    container: &Container,
    details: Option<&Details>,
) -> Result<(Status, Vec<Holdout>)> {
    let sightings = look(host, container)?;
    let scope = Scope::read(host, container)?;
    let pid = container.identity.pid;
    let lines = pid.and_then(|pid| cgroup_lines(host, pid));
    let (mut status, holdouts) = told(host, container, sightings, &scope, lines.as_ref())?;
    if let Some(details) = details {
        status.add(details);
    }
    Ok((status, holdouts))
}

/// The same of a container that was found this very moment, for a listing: what was read on the way to it is not read
/// again, nor are the ancestors that its neighbours have too. The engines' records can be added later.
///
/// # Errors
///
/// As [`status`].
pub fn quick_status(
    host: &Host,
    probe: &Probe,
    thawed_ancestors: &mut ThawedAncestors,
) -> Result<(Status, Vec<Holdout>)> {
    let container = &probe.container;
    let sightings = match &probe.tids {
        // None at all is for whoever lists them anew to explain.
        Some(tids) if !tids.is_empty() => Witness::new(host).look_at_all(tids.iter().copied()),
        _ => look(host, container)?,
    };
    let scope = Scope::read_beside(host, container, thawed_ancestors)?;
    // One that was found by its cgroup's name alone was not asked where else it is.
    let asked = || cgroup_lines(host, container.identity.pid?);
    let lines = probe.lines.is_none().then(asked).flatten();
    let lines = probe.lines.as_ref().or(lines.as_ref());
    told(host, container, sightings, &scope, lines)
}

fn told(
    host: &Host,
    container: &Container,
    sightings: Sightings,
    scope: &Scope,
    lines: Option<&Lines>,
) -> Result<(Status, Vec<Holdout>)> {
    let Sightings { seen: tasks, unseen } = sightings;
    if scope.is_gone() {
        return Err(Error::Gone(container.own[container.freeze_at].dir().to_owned()));
    }
    let States { requested, effective } = scope.states(container, &tasks, host);
    let (mut observed, mut holdouts) = observe(host, &tasks, effective, scope.asked(container));
    let hidden = u32::try_from(unseen.len()).unwrap_or(u32::MAX);
    observed.total = observed.total.saturating_add(hidden);
    observed.unknown = observed.unknown.saturating_add(hidden);
    holdouts.extend(Witness::new(host).describe_unseen(&unseen));
    let identity = &container.identity;
    let status = Status {
        schema: SCHEMA,
        id: identity.id.clone(),
        name: identity.name.clone(),
        runtime: identity.runtime,
        pid: identity.pid,
        image: None,
        labels: None,
        pod: None,
        requested,
        effective,
        believed: None,
        agree: None,
        frozen_by: scope.frozen_by(container),
        // The kernel's `frozen_usec` is a running total, and nothing on disk tells which freeze this is.
        frozen_for_us: None,
        holders: Vec::new(),
        cgroups: scope.statuses(container, &tasks, host),
        tasks: Some(observed),
        memory: memory(host, container, lines),
        outside: None,
    };
    Ok((status, holdouts))
}

impl Status {
    /// Adds what an engine has on record.
    pub fn add(&mut self, details: &Details) {
        self.name = self.name.take().or_else(|| details.name.clone());
        self.image.clone_from(&details.image);
        self.labels.clone_from(&details.labels);
        self.pod.clone_from(&details.pod);
        self.believed = details.believed;
        self.agree = details
            .believed
            .zip(self.effective)
            .map(|(believed, effective)| (believed == Believed::Paused) == (effective == Effective::Frozen));
    }
}

/// Who lives in a container's PID namespace, and not in its cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Those that were found.
    pub found: Vec<Outsider>,
    /// The processes that may be others of them, and do not answer.
    pub silent: Vec<i32>,
}

/// Looks for the processes of a container's PID namespace that are outside of the cgroup which a freeze writes: moved
/// by hand, entered from elsewhere, or another container's that shares the namespace. A freeze does not reach them.
/// `None` where the namespace is the host's own.
///
/// # Errors
///
/// The cgroup can't be read or is gone; not every process could be looked at, or not within a second.
pub fn outside(host: &Host, container: &Container) -> Result<Option<Outside>> {
    let at = container.freeze_point();
    let inside = at.tids_below()?;
    let witness = Witness::new(host);
    let recorded = container.identity.pid.filter(|pid| inside.contains(pid));
    let Some(first) = recorded.or_else(|| oldest(witness, &inside)) else {
        return Ok(None); // nobody is in it
    };
    let strays = witness
        .strays(first, &inside, SCAN)
        .map_err(|cause| Error::io("look through", host.proc_dir(), cause))?;
    let outsider = |stray: Stray| {
        let lines = cgroup_lines(host, stray.tid)?; // it is gone
        let path = lines.path(at.hierarchy())?;
        // What was read of one that exits meanwhile is no place of it.
        witness.proc().comm_alive(stray.tid)?;
        // It came after the others were listed, then.
        (!path.starts_with(at.path())).then(|| Outsider {
            pid: stray.pid,
            tid: stray.tid,
            comm: stray.comm,
            cgroup: target::cgroup(at.hierarchy(), path),
        })
    };
    Ok(strays.map(|strays| Outside {
        found: strays.found.into_iter().filter_map(outsider).collect(),
        silent: strays.silent,
    }))
}

/// When a container's first process started, in clock ticks since the boot; `None` where it is gone.
#[must_use]
pub fn started(host: &Host, container: &Container) -> Option<u64> {
    let witness = Witness::new(host);
    let first = || oldest(witness, &container.freeze_point().tids_below().ok()?); // gone, or not to be read
    let pid = container.identity.pid.or_else(first)?;
    witness.proc().stat(pid).map(|stat| stat.starttime)
}

pub(super) fn oldest(witness: Witness<'_>, tids: &BTreeSet<i32>) -> Option<i32> {
    let seen = witness.look_at_all(tids.iter().copied()).seen;
    seen.values()
        .min_by_key(|task| (task.start, task.tid))
        .map(|task| task.tid)
}

fn observe(
    host: &Host,
    tasks: &BTreeMap<i32, Sighting>,
    effective: Option<Effective>,
    by: Option<Hierarchy>,
) -> (Observed, Vec<Holdout>) {
    let witness = Witness::new(host);
    let mut counts = Observed::default();
    let mut holdouts = Vec::new();
    let frozen = effective == Some(Effective::Frozen);
    let asked = frozen || effective == Some(Effective::Freezing);
    for task in tasks.values() {
        counts.total += 1;
        let is_holdout = match witness.place(task) {
            Place::Trap | Place::Refrigerator | Place::InPlace => {
                counts.frozen += 1;
                continue;
            }
            // The kernel counts these as frozen where they are; that they are shows nowhere.
            Place::Stopped | Place::Traced | Place::Vfork | Place::FreezableSleep if frozen => {
                counts.frozen += 1;
                continue;
            }
            // v2 knows no such thing: whoever it asks is woken, and a kernel thread sleeps on.
            Place::FreezableSleep if asked && by == Some(Hierarchy::V2) => true,
            Place::Stopped | Place::Traced | Place::Vfork | Place::FreezableSleep | Place::Dead => {
                counts.unprovable += 1;
                continue;
            }
            Place::Unseen => {
                counts.unknown += 1;
                continue;
            }
            Place::Uninterruptible => true,
            Place::Running | Place::Asleep => asked,
        };
        if is_holdout {
            counts.holdouts += 1;
            holdouts.push(task);
        } else {
            counts.running += 1;
        }
    }
    (counts, witness.describe_all(&holdouts))
}

/// The memory of a container: v1's cgroup is the one of its first process's path that is named after it, else the whole
/// path; v2's is its own.
fn memory(host: &Host, container: &Container, lines: Option<&Lines>) -> Option<Memory> {
    let v1 = lines
        .and_then(|lines| lines.controller("memory"))
        // Outside of the caller's cgroup namespace the names are missing.
        .filter(|path| path.components().all(|part| part != Component::ParentDir))
        .and_then(|path| {
            let named = naming::chain(path)
                .into_iter()
                .find(|named| Some(&named.id) == container.identity.id.as_ref());
            // A path that is not the container's own by its name or by its place is others' too.
            let is_own = |path: &Path| container.own.iter().any(|own| own.path() == path);
            let level = named
                .map(|named| named.path)
                .or_else(|| is_own(path).then(|| path.to_owned()))?;
            let top = host.path("/sys/fs/cgroup/memory");
            Some(top.join(level.strip_prefix("/").unwrap_or(&level)))
        });
    let by_v1 = v1.and_then(|dir| {
        let number = |name: &str| read_number(&dir.join(name));
        // "No limit" is the largest whole page count.
        let limit = |limit: &u64| *limit < 1 << 62;
        Some(Memory {
            current: Some(number("memory.usage_in_bytes")?),
            limit: number("memory.limit_in_bytes").filter(limit),
        })
    });
    by_v1.or_else(|| {
        let own = container
            .own
            .iter()
            .find(|own| own.hierarchy() == Hierarchy::V2)?;
        // "No limit" is "max".
        let number = |name| own.read(name).ok()?.trim().parse().ok(); // no such controller here, or it is gone
        Some(Memory {
            current: Some(number("memory.current")?),
            limit: number("memory.max"),
        })
    })
}
