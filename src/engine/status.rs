//! What is so: requested, effective and observed, of one container. Writes nothing, and never reads `freezer.state`.

use std::collections::BTreeMap;
use std::path::Path;

use super::look;
use super::report::{Effective, Memory, Observed, SCHEMA, States, Status};
use super::scope::Scope;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::resolver::{Believed, Container, Details};
use crate::verifier::{Holdout, Place, Sighting, Witness};

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
    let tasks = look(host, container)?;
    let scope = Scope::read(host, container)?;
    if scope.is_gone() {
        return Err(Error::Gone(container.own[container.freeze_at].dir().to_owned()));
    }
    let States { requested, effective } = scope.states(container, &tasks, host);
    let (observed, holdouts) = observe(host, &tasks, effective);
    let believed = details.and_then(|details| details.believed.as_ref());
    let identity = &container.identity;
    let name = identity
        .name
        .clone()
        .or_else(|| details.and_then(|details| details.name.clone()));
    let status = Status {
        schema: SCHEMA,
        id: identity.id.clone(),
        name,
        runtime: identity.runtime.clone(),
        pid: identity.pid,
        image: details.and_then(|details| details.image.clone()),
        labels: details.and_then(|details| details.labels.clone()),
        requested,
        effective,
        believed: believed.map(ToString::to_string),
        agree: believed
            .zip(effective)
            .map(|(believed, effective)| (*believed == Believed::Paused) == (effective == Effective::Frozen)),
        frozen_by: scope.frozen_by(container),
        // The kernel's `frozen_usec` is a running total, and nothing on disk tells which freeze this is.
        frozen_for_us: None,
        cgroups: scope.statuses(container, &tasks, host),
        tasks: Some(observed),
        memory: identity.pid.and_then(|pid| memory(host, pid)),
    };
    Ok((status, holdouts))
}

fn observe(
    host: &Host,
    tasks: &BTreeMap<i32, Sighting>,
    effective: Option<Effective>,
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
            holdouts.push(witness.describe(task));
        } else {
            counts.running += 1;
        }
    }
    (counts, holdouts)
}

/// The memory of the container that `pid` is in: its own line names the cgroup, in v1's memory hierarchy or in v2.
fn memory(host: &Host, pid: i32) -> Option<Memory> {
    let lines = crate::resolver::cgroup_lines(host, pid)?;
    let number = |file: &Path| std::fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let read = |dir: &Path, current: &str, limit: &str| {
        let current = number(&dir.join(current))?;
        // v1 writes "no limit" as the largest whole page count, v2 as "max".
        let limit = number(&dir.join(limit)).filter(|&limit| limit < 1 << 62);
        Some(Memory {
            current: Some(current),
            limit,
        })
    };
    let below = |mount: &Path, path: &Path| path.strip_prefix("/").ok().map(|path| mount.join(path));
    let top = host.path("/sys/fs/cgroup");
    let v1 = lines
        .controller("memory")
        .and_then(|path| below(&top.join("memory"), path));
    let v2 = lines
        .unified()
        .and_then(|path| below(&host.mount(crate::host::Hierarchy::V2)?.dir, path));
    v1.and_then(|dir| read(&dir, "memory.usage_in_bytes", "memory.limit_in_bytes"))
        .or_else(|| v2.and_then(|dir| read(&dir, "memory.current", "memory.max")))
}
