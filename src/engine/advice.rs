//! What to do about a container that is held or does not settle, in rising danger. Pure: facts in, advice out.

use std::path::Path;

use crate::report::{Advice, Effective, Holder, Holding, Holds, Requested, RescueStep, Status};
use crate::store::Kind;
use crate::verifier::{Class, Holdout, On};

/// What the advice rests on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'f> {
    pub(super) status: &'f Status,
    pub(super) held_by: &'f [Holder],
    pub(super) holdouts: &'f [Holdout],
    /// What else is frozen on this host, as targets; looked for only where one of `holdouts` may wait for it.
    pub(super) others: &'f [String],
    /// The root cgroup's directory in the hierarchy that was asked; `None` where the host has none.
    pub(super) root: Option<&'f Path>,
}

/// What to do, mildest first; empty where nothing is wrong.
pub(super) fn advise(target: &str, facts: &Facts<'_>) -> Vec<Advice> {
    let Facts {
        status,
        held_by,
        holdouts,
        others,
        root,
    } = facts;
    let target = quoted(target);
    let mut all: Vec<Advice> = Vec::new();
    let mut add = |step: RescueStep, what: &str, command: String| {
        if !all.iter().any(|advice| advice.command == command) {
            let advice = Advice {
                step,
                what: what.to_owned(),
                command,
            };
            all.insert(all.partition_point(|other| other.step <= step), advice);
        }
    };
    let holds = |kind: Holds| held_by.iter().filter(move |holder| holder.kind == kind);
    if status.effective == Some(Effective::Freezing) && !holdouts.is_empty() {
        add(
            RescueStep::Wait,
            "look again: what is on its way may settle",
            format!("iceaxe explain {target}"),
        );
    }
    let holders = || status.holders.iter().filter(|holder| holder.answered_for);
    let is_held = status.effective != Some(Effective::Thawed);
    for holder in holders().filter(|_| is_held) {
        for (step, what, command) in about_holder(holder, &target) {
            add(step, &what, command);
        }
    }
    if status.requested == Some(Requested::Frozen) {
        let own = holders().filter(|holder| holder.through.is_none());
        let broken: Vec<String> = own.filter_map(broken_by_a_thaw).collect();
        let what = match broken.is_empty() {
            true => "clear its own requests, and prove that it runs".to_owned(),
            false => format!("clear its own requests, which {}", broken.join(" and ")),
        };
        add(RescueStep::Rekick, &what, format!("iceaxe thaw {target}"));
    }
    for other in others.iter().take(MOST_OTHERS) {
        add(
            RescueStep::Rekick,
            "thaw this, if the server of the file system is in it: a frozen server answers when it is thawed, and need not \
             be started again",
            format!("iceaxe thaw {}", quoted(other)),
        );
    }
    if holds(Holds::Inner).next().is_some() {
        add(
            RescueStep::Rekick,
            "also clear the requests of the cgroups inside, such as a paused inner container's",
            format!("iceaxe thaw --recursive {target}"),
        );
    }
    if holds(Holds::Ancestor).next().is_some() {
        add(
            RescueStep::Ancestors,
            "clear the requests of its ancestors too, which thaws all else below them",
            format!("iceaxe thaw --ancestors {target}"),
        );
    }
    for holder in holds(Holds::Shared) {
        add(
            RescueStep::Ancestors,
            "thaw the cgroup that it shares with others, and them with it",
            format!("iceaxe thaw {}", quoted(&holder.cgroup)),
        );
    }
    // What no runtime made is killed only when that is said.
    let kill = match status.runtime {
        Some(_) => format!("iceaxe kill {target}"),
        None => format!("iceaxe kill --force=not-container {target}"),
    };
    for task in *holdouts {
        for (step, what, command) in about(task, &target, &kill, *root) {
            let is_about_servers = !others.is_empty() && task.on == Some(On::Fuse);
            match step {
                RescueStep::Wait if is_about_servers => add(step, &about_servers(others), command),
                _ => add(step, what, command),
            }
        }
    }
    all
}

/// So many of what else is frozen are named.
const MOST_OTHERS: usize = 4;

/// What helps a task that waits for a FUSE server while something else is frozen.
fn about_servers(others: &[String]) -> String {
    let mut named: Vec<&str> = others.iter().take(MOST_OTHERS).map(String::as_str).collect();
    if others.len() > MOST_OTHERS {
        named.push("more");
    }
    let (names, is) = (named.join(", "), if others.len() == 1 { "is" } else { "are" });
    format!(
        "find the file system whose server is silent (a number above 0). That may be frozen itself: {names} {is} frozen now. \
         If it is not, start it again; writing 1 to abort beside it fails all its requests"
    )
}

/// What to do about one that holds it: let it come to its end, or end it.
fn about_holder(holder: &Holding, target: &str) -> Vec<(RescueStep, String, String)> {
    let command = holder.command.as_deref().unwrap_or("its command");
    let look = format!("iceaxe explain {target}");
    let left = holder.left_us.map(|us| us / 1_000_000 + 1);
    match (holder.kind, holder.by) {
        (Kind::Hold, by) => {
            let latest = left.map_or(String::new(), |left| format!(", within {left} s"));
            let wait = format!("wait: it is thawed when {command} has ended{latest}");
            let mut all = vec![(RescueStep::Wait, wait, look)];
            all.extend(by.map(|by| {
                let end = format!(
                    "end that hold in order: {command} is asked to end, then all that it holds is thawed"
                );
                (RescueStep::Rekick, end, format!("kill -TERM {by}"))
            }));
            all
        }
        (Kind::Lease, _) => {
            let when = left.map_or("at the end of its lease".to_owned(), |left| {
                format!("within {left} s")
            });
            vec![(RescueStep::Wait, format!("wait: its lease is over {when}"), look)]
        }
        (Kind::Freeze, _) => Vec::new(),
    }
}

/// What a thaw does to one who holds it.
fn broken_by_a_thaw(holder: &Holding) -> Option<String> {
    let by = holder.by.unwrap_or(0);
    match (holder.kind, &holder.command) {
        (Kind::Hold, Some(command)) => Some(format!(
            "breaks off the hold by process {by}: {command} goes on, over what runs then"
        )),
        (Kind::Hold, None) => Some(format!("breaks off the hold by process {by}")),
        (Kind::Lease, _) => Some(format!("ends the lease by process {by}")),
        (Kind::Freeze, _) => None,
    }
}

/// What helps a task of its class.
fn about(
    task: &Holdout,
    target: &str,
    kill: &str,
    root: Option<&Path>,
) -> Vec<(RescueStep, &'static str, String)> {
    let mut all = Vec::new();
    let by = task.by.as_ref().map(|party| party.pid);
    let wait = |what| (RescueStep::Wait, what, format!("iceaxe explain {target}"));
    let kill = |what| (RescueStep::Kill, what, kill.to_owned());
    let kill_stuck = kill("end the container; what waits in the kernel dies when its wait ends");
    match task.class {
        Class::Uninterruptible => {
            match task.on {
                Some(On::Nfs | On::Cifs) => all.push((
                    RescueStep::Wait,
                    "bring the server or the network back: the task goes on by itself; which mounts there are",
                    "grep -E ' (nfs4?|cifs|smb3) ' /proc/self/mounts".to_owned(),
                )),
                Some(On::Fuse) => all.push((
                    RescueStep::Wait,
                    "find the file system whose server is silent (a number above 0), and start that again; writing 1 to \
                     abort beside it fails all its requests",
                    "grep . /sys/fs/fuse/connections/*/waiting".to_owned(),
                )),
                Some(On::Disk) => all.push((
                    RescueStep::Wait,
                    "see whether the device answers",
                    "cat /proc/diskstats; dmesg | tail".to_owned(),
                )),
                Some(On::PipeLock | On::Lock) => all.push((
                    RescueStep::Wait,
                    "another task holds the lock: see which tasks wait in the kernel, and where (in the kernel's log)",
                    "echo w > /proc/sysrq-trigger; dmesg | tail -50".to_owned(),
                )),
                _ => all.push(wait("wait: the sleep may end")),
            }
            all.push(kill_stuck);
        }
        Class::VforkParent => {
            all.push(match by {
                Some(child) => (
                    RescueStep::Wait,
                    "look why its child does not go on",
                    format!("iceaxe explain pid:{child}"),
                ),
                None => wait("wait until its child runs a program or ends"),
            });
        }
        Class::Traced => {
            if let Some(tracer) = by {
                all.push((
                    RescueStep::Tracer,
                    "let its tracer go on, in case that is stopped itself",
                    format!("kill -CONT {tracer}"),
                ));
                all.push((
                    RescueStep::Kill,
                    "end its tracer, which lets go of it",
                    format!("kill -TERM {tracer}"),
                ));
            }
        }
        Class::Stopped => all.push((
            RescueStep::Tracer,
            "let it go on, once it is thawed",
            format!("kill -CONT {}", task.pid),
        )),
        Class::KernelThread => all.extend(root.map(|root| {
            let file = root.join("cgroup.procs");
            (
                RescueStep::Move,
                "move the kernel thread where it belongs, to the root cgroup; then thaw this one, and freeze it again, as \
                 the kernel does not look again by itself",
                format!("echo {} > {}", task.tid, quoted(&file.display().to_string())),
            )
        })),
        Class::Throttled => all.push(wait(
            "wait: it gets a CPU with its next period; or raise the container's CPU limit",
        )),
        Class::Starved => all.push(match by {
            Some(rival) => (
                RescueStep::Wait,
                "make the real-time task an ordinary one, which lets others have the CPU",
                format!("chrt --other --pid 0 {rival}"),
            ),
            None => wait("wait until the CPU is less busy"),
        }),
        Class::Arriving => all.push(wait(
            "wait: what starts processes in it (a health check, an exec) must come to an end",
        )),
        Class::Userfault => {
            all.push(wait(
                "bring back whoever serves its userfaultfd (a migration, a snapshot), which ends it",
            ));
            all.push(kill("end the container: a fatal signal ends the loop"));
        }
        Class::Spinning => {
            all.push(wait("wait: it may get out of it"));
            all.push(kill("end the container: a fatal signal ends most such loops"));
        }
        Class::LeftBehind => {
            all.push((
                RescueStep::Rekick,
                "clear its requests again: the kernel wakes each task once more",
                format!("iceaxe thaw {target}"),
            ));
            all.push((
                RescueStep::Move,
                "on v1, move the task out of its cgroup and back, which wakes it",
                format!("iceaxe thaw --rescue=move {target}"),
            ));
            all.push(kill("end the container"));
        }
        Class::Unmounted => {
            let mount = match task.on {
                Some(On::V1) => "mount -t cgroup -o freezer freezer /mnt",
                _ => "mount -t cgroup2 cgroup2 /mnt",
            };
            all.push((
                RescueStep::Rekick,
                "mount its hierarchy, anywhere: what asks there can be seen and cleared then",
                format!("{mount} && iceaxe thaw {target}"),
            ));
        }
        Class::FrozenElsewhere => all.push((
            RescueStep::Rekick,
            "clear the requests in both hierarchies; a freeze in one alone then settles",
            format!("iceaxe thaw {target}"),
        )),
        Class::Running | Class::Sleeping => all.push(wait("wait: it may be on its way")),
        Class::Exiting => all.push((
            RescueStep::Wait,
            "find what is dead and not taken note of: its parent (PPID) is who keeps it, a docker exec or an nsenter",
            "ps -eo pid,ppid,stat,comm | grep ' Z'".to_owned(),
        )),
        Class::Hung => {
            all.push((
                RescueStep::Wait,
                "find the FUSE file system whose server is silent (a number above 0), and start that again; writing 1 to \
                 abort beside it fails all its requests",
                "grep . /sys/fs/fuse/connections/*/waiting".to_owned(),
            ));
            all.push((
                RescueStep::Wait,
                "or bring the server of a network file system back; which mounts there are",
                "grep -E ' (nfs4?|cifs|smb3) ' /proc/self/mounts".to_owned(),
            ));
            all.push(kill_stuck);
        }
        Class::Frozen | Class::Zombie | Class::Unknown => {}
    }
    all
}

/// Where to read on about tasks that are not as asked.
pub(super) fn see_explain(target: &str) -> String {
    format!(
        "iceaxe explain {} says what that means, and what to do",
        quoted(target)
    )
}

/// One word for a shell.
pub(crate) fn quoted(target: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:._-@+=,".contains(c);
    if !target.is_empty() && target.chars().all(plain) {
        target.to_owned()
    } else {
        format!("'{}'", target.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(class: Class, on: Option<On>) -> Holdout {
        Holdout {
            pid: 41,
            tid: 42,
            comm: "x".to_owned(),
            state: 'D',
            wchan: None,
            class,
            stack: Vec::new(),
            on,
            by: None,
            meaning: String::new(),
        }
    }

    fn steps(status: &Status, held_by: &[Holder], holdouts: &[Holdout]) -> Vec<(RescueStep, String)> {
        let facts = Facts {
            status,
            held_by,
            holdouts,
            others: &[],
            root: Some(Path::new("/sys/fs/cgroup/unified")),
        };
        let all = advise("we b", &facts);
        all.into_iter()
            .map(|advice| (advice.step, advice.command))
            .collect()
    }

    #[test]
    fn advice_comes_mildest_first_and_once() {
        let mut status = Status::unknown();
        status.requested = Some(Requested::Frozen);
        status.effective = Some(Effective::Freezing);
        let ancestor = Holder {
            kind: Holds::Ancestor,
            cgroup: "v1:/a".to_owned(),
        };
        let holdouts = [
            task(Class::Uninterruptible, None),
            task(Class::Uninterruptible, Some(On::Fuse)),
            task(Class::Uninterruptible, None),
        ];
        let all = steps(&status, &[ancestor], &holdouts);
        let commands: Vec<&str> = all.iter().map(|(_, command)| command.as_str()).collect();
        assert_eq!(
            commands,
            [
                "iceaxe explain 'we b'",
                "grep . /sys/fs/fuse/connections/*/waiting",
                "iceaxe thaw 'we b'",
                "iceaxe thaw --ancestors 'we b'",
                "iceaxe kill --force=not-container 'we b'",
            ]
        );
        assert!(all.is_sorted_by_key(|(step, _)| *step));
    }

    /// On a hybrid host /sys/fs/cgroup itself is no cgroup.
    #[test]
    fn a_kernel_thread_is_moved_to_the_root_of_the_hierarchy_that_was_asked() {
        let status = Status::unknown();
        assert_eq!(
            steps(&status, &[], &[task(Class::KernelThread, None)]),
            [(
                RescueStep::Move,
                "echo 42 > /sys/fs/cgroup/unified/cgroup.procs".to_owned()
            )]
        );
    }

    #[test]
    fn nothing_is_advised_where_nothing_is_wrong() {
        let mut status = Status::unknown();
        status.requested = Some(Requested::Thawed);
        status.effective = Some(Effective::Thawed);
        assert_eq!(steps(&status, &[], &[]), []);
    }

    #[test]
    fn a_target_is_one_word_for_a_shell() {
        assert_eq!(quoted("v2:/docker/5978"), "v2:/docker/5978");
        assert_eq!(quoted("it's; rm -rf"), "'it'\\''s; rm -rf'");
    }
}
