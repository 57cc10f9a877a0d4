//! The rules on what is never frozen. They are checked right before the write, on the open cgroup, so that what is
//! checked is what is written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::cgroup::{Cgroup, Descent};
use crate::error::{Error, Force, Result};
use crate::host::{Hierarchy, Host};
use crate::resolver::{Container, Identity, Runtime, naming};
use crate::store::{Process, Store};
use crate::verifier::{Sighting, Sightings, Witness};

/// What a guard of iceaxe calls itself. That is its own word: only with a record it is known to be one.
pub const GUARD: &str = "iceaxe-guard";
/// The v2 cgroup of the guards, right below the root, where nobody but root can make one.
pub const GUARDS: &str = "iceaxe";

/// Daemons that a host is lost without, as `comm` shows them: cut to 15 bytes.
const DAEMONS: [&str; 16] = [
    GUARD,
    "dockerd",
    "containerd",
    "containerd-shim",
    "conmon",
    "crio",
    "kubelet",
    "sshd",
    "sshd-session",
    "sshd-auth",
    "systemd",
    "systemd-journal",
    "systemd-logind",
    "systemd-udevd",
    "dbus-daemon",
    "init",
];

/// Says whether `cgroup`, which is `identity`'s, may be frozen, with the rules in `lifted` left out.
///
/// # Errors
///
/// [`Error::Refused`] with the rule; [`Error::Gone`].
pub fn check(host: &Host, cgroup: &Cgroup, identity: &Identity, lifted: &[Force]) -> Result<()> {
    let dir = cgroup.dir().display();
    if cgroup.is_root() {
        return refuse(format!("{dir} is the root cgroup"), None);
    }
    let witness = Witness::new(host);
    let tids = cgroup.tids_below()?;
    if let Some((pid, what)) = ours(witness).into_iter().find(|(pid, _)| tids.contains(pid)) {
        return refuse(format!("{dir} holds {what} (process {pid})"), None);
    }
    let tasks = witness.look_at_all(tids);
    if let Some(guard) = guard_among(host, cgroup, &tasks) {
        return refuse(
            format!("{dir} {guard}, which thaws what others have frozen"),
            None,
        );
    }
    if let Some(kernel) = tasks.seen.values().find(|task| task.is_kernel_thread()) {
        return refuse(
            format!("{dir} holds the kernel thread {} {}", kernel.tid, kernel.comm),
            None,
        );
    }
    // A machine that systemd has on record is one, whatever its unit is called.
    let is_machine = identity.runtime == Some(Runtime::Machine) && identity.record.is_some();
    if !lifted.contains(&Force::NotContainer)
        && !is_machine
        && let Some(why) = why_no_container(cgroup)?.or_else(|| several(witness, cgroup, &tasks))
    {
        return refuse(format!("{dir} is no container: {why}"), Some(Force::NotContainer));
    }
    if !lifted.contains(&Force::Sandbox) && identity.is_sandbox {
        return refuse(
            format!("{dir} is the sandbox of a pod, and no application of it"),
            Some(Force::Sandbox),
        );
    }
    if lifted.contains(&Force::HostDaemon) {
        return Ok(());
    }
    // One that does not answer shows its name all the same.
    let unseen = witness.describe_unseen(&tasks.unseen);
    let unnamed = unseen
        .iter()
        .find(|task| task.comm.is_empty())
        .map(|task| task.tid);
    if let Some(tid) = unnamed.or(tasks.unseen.iter().nth(unseen.len()).copied()) {
        return refuse(
            format!("{dir} holds task {tid}, which can't be looked at and may be a daemon of the host"),
            Some(Force::HostDaemon),
        );
    }
    let unseen = unseen.iter().map(|task| (task.tid, task.comm.as_str()));
    let mut all = tasks
        .seen
        .values()
        .map(|task| (task.tid, task.comm.as_str()))
        .chain(unseen);
    match all.find(|&(tid, comm)| is_host_daemon(witness, tid, comm)) {
        Some((tid, comm)) => refuse(
            format!("{dir} holds {comm} (process {tid}) of the host"),
            Some(Force::HostDaemon),
        ),
        None => Ok(()),
    }
}

/// The guard of some iceaxe that is among these tasks, or why the cgroup is the guards' own. What calls itself a guard and is
/// on no record is one without a record, or a liar: it counts as a daemon of the host, and where it is a container's own
/// process it does not count at all.
fn guard_among(host: &Host, cgroup: &Cgroup, tasks: &Sightings) -> Option<String> {
    if cgroup.hierarchy() == Hierarchy::V2 && cgroup.path() == Path::new("/").join(GUARDS) {
        return Some("is that of the guards of iceaxe".to_owned());
    }
    let called: Vec<Process> = tasks
        .seen
        .values()
        .filter(|task| task.comm == GUARD)
        .map(|task| Process {
            pid: task.tid,
            start: task.start,
        })
        .collect();
    if called.is_empty() {
        return None; // so that no record is read where there is none
    }
    // Records that can't be read name nobody: force is needed all the same.
    let entries = Store::open(host).ok().flatten()?.entries().ok()?.0;
    let mut owners = entries.iter().flat_map(|entry| &entry.record.owners);
    let guard = owners.find(|owner| called.contains(owner))?;
    Some(format!("holds a guard of iceaxe (process {})", guard.pid))
}

/// Which of these cgroups, each to be written now, holds what iceaxe itself lives by: asked once more for all of them when
/// each has been checked, as that takes its time with many.
pub(super) fn holds_us(host: &Host, cgroups: &[&Cgroup]) -> Vec<(usize, Error)> {
    let mut found = Vec::new();
    for (pid, what) in ours(Witness::new(host)) {
        let Some(lines) = crate::resolver::task_lines(host, pid) else {
            continue; // it has just ended
        };
        for (at, cgroup) in cgroups.iter().enumerate() {
            let is_inside = lines
                .path(cgroup.hierarchy())
                .is_some_and(|path| path.starts_with(cgroup.path()));
            if is_inside && found.iter().all(|(other, _)| *other != at) {
                let rule = format!("{} holds {what} (process {pid})", cgroup.dir().display());
                found.push((at, Error::Refused { rule, force: None }));
            }
        }
    }
    found
}

/// Says whether what is in the cgroups `tops` may be killed: what is killed does not come back.
///
/// # Errors
///
/// [`Error::Refused`]: nobody is known to have made it for a container; a process of it has tasks elsewhere too.
pub(super) fn check_kill(
    host: &Host,
    container: &Container,
    tops: &[&Cgroup],
    tasks: &BTreeMap<i32, Sighting>,
) -> Result<()> {
    check_is_container(container)?;
    let witness = Witness::new(host);
    let inside: BTreeSet<i32> = tasks.keys().copied().collect();
    let mut checked = BTreeSet::new();
    let leaders = witness.proc().leaders_of(inside.iter().copied());
    let one_of_each = leaders.into_iter().filter(|(_, leader)| checked.insert(*leader));
    let one_of_each = one_of_each.map(|(tid, _)| tid).collect();
    // On v1 a process can have tasks in several cgroups, and a signal ends all of them.
    for (tid, outside) in witness.threads_outside(one_of_each, &inside) {
        // One that was not there when the others were listed is inside nevertheless; one that is gone, or whose cgroups
        // can't be read, is no reason against it: each signal is checked again before it is sent.
        let lines = crate::resolver::task_lines(host, outside);
        let is_inside = |top: &&Cgroup| {
            let path = lines.as_ref().and_then(|lines| lines.path(top.hierarchy()));
            path.is_none_or(|path| path.starts_with(top.path()))
        };
        if !tops.iter().any(is_inside) {
            let rule = format!("the process of task {tid} has another task, {outside}, in another cgroup");
            return refuse(rule, Some(Force::NotContainer));
        }
    }
    Ok(())
}

/// Refuses what nobody is known to have made for a container.
pub(super) fn check_is_container(container: &Container) -> Result<()> {
    if container.identity.runtime.is_some() {
        return Ok(());
    }
    let dir = container.freeze_point().dir().display();
    let rule = format!("{dir} is no container that a runtime is known to have made");
    refuse(rule, Some(Force::NotContainer))
}

fn refuse(rule: String, force: Option<Force>) -> Result<()> {
    Err(Error::Refused { rule, force })
}

/// What iceaxe itself lives by, as the /proc that is worked with numbers it: this process, its parents, the leader of
/// its session. Others of the session are no reason: whatever was started from the same shell is one of them.
fn ours(witness: Witness<'_>) -> Vec<(i32, &'static str)> {
    let mut ours: Vec<(i32, &'static str)> = Vec::new();
    for (nth, stat) in witness.proc().ancestry().into_iter().enumerate() {
        match nth {
            0 => ours.push((stat.pid, "iceaxe itself")),
            _ => ours.push((stat.pid, "a parent of iceaxe")),
        }
        if nth == 0 && stat.session > 0 {
            ours.push((stat.session, "the leader of iceaxe's session"));
        }
        // What it comes from is one too, also where that does not answer.
        if stat.ppid > 0 {
            ours.push((stat.ppid, "a parent of iceaxe"));
        }
    }
    ours
}

/// Whether a cgroup that is not called after a container holds the first processes of several, each in one below it. Who
/// names a cgroup that two share as their own means both.
fn several(witness: Witness<'_>, cgroup: &Cgroup, tasks: &Sightings) -> Option<String> {
    let is_shared = || cgroup.tids().is_ok_and(|own| !own.is_empty()); // else it is gone
    if naming::innermost(cgroup.path()).is_some() || is_shared() {
        return None;
    }
    let first = witness.proc().first_in_namespace_at(tasks.seen.keys().copied());
    let depths: Vec<usize> = first.into_values().collect();
    // One container's own containers are deeper than it is.
    let outermost = depths.iter().min()?;
    let count = depths.iter().filter(|depth| *depth == outermost).count();
    (count > 1).then(|| format!("the first processes of {count} containers are in it"))
}

/// Why a cgroup is not one container's, as far as its name and what is below it tell.
fn why_no_container(cgroup: &Cgroup) -> Result<Option<String>> {
    if naming::innermost(cgroup.path()).is_some() {
        return Ok(None);
    }
    if let Some(kind) = naming::parent(cgroup.path()) {
        return Ok(Some(format!("{} is {kind}", cgroup.path().display())));
    }
    let mut container = None;
    cgroup.walk(&mut |below| {
        if container.is_none() {
            container = naming::innermost(below.path());
        }
        Ok(if container.is_some() {
            Descent::Stop
        } else {
            Descent::Into
        })
    })?;
    Ok(container.map(|container| format!("the container {container} is below it")))
}

/// Whether a task is a daemon of the host: in the PID namespace of that /proc. A container's own sshd is its own
/// business. Where it can't be told, the careful answer.
fn is_host_daemon(witness: Witness<'_>, tid: i32, comm: &str) -> bool {
    DAEMONS.contains(&comm) && !witness.proc().is_in_inner_namespace(tid)
}
