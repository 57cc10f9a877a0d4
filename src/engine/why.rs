//! Why a task is not as was asked, where the task alone does not show it: its cgroups and a second look do. Whoever
//! names holdouts refines them here first.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::scope::Scope;
use crate::host::{Hierarchy, Host};
use crate::patience::{Clock, Patience};
use crate::report::Dying;
use crate::resolver::task_lines;
use crate::verifier::{Class, Holdout, On, Party, Sighting, Ticks, Witness};

/// How long tasks that could run are watched: two of the periods in which CPU quotas are given out
/// (`default_cfs_period()`, kernel/sched/fair.c: 100 ms).
const WINDOW: Duration = Duration::from_millis(200);
/// So many are watched.
const MOST_SUSPECTS: usize = 32;
/// Between two looks at a stack.
const SAMPLE: Duration = Duration::from_millis(5);
/// How long they are looked at from their own CPUs, all together.
const CLOSE: Duration = Duration::from_secs(1);
/// How long the host's tasks may be looked through for those that keep a CPU to themselves, once for all suspects.
const SCAN: Duration = Duration::from_millis(150);
/// The same where nobody waits for a container.
const LONG_SCAN: Duration = Duration::from_secs(2);

/// What is known of the container besides its tasks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'k> {
    /// The cgroups around it, as they are now.
    pub(super) scope: &'k Scope,
    /// The hierarchy that was asked for a freeze; `None` where it was to thaw.
    pub(super) asked: Option<Hierarchy>,
    /// The tasks that were there before the request.
    pub(super) before: &'k BTreeMap<i32, Sighting>,
}

/// How tasks that could run are watched for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// From wherever this program runs.
    Afar,
    /// Also from the CPU that they are on, where their stacks can be seen. If something has that CPU to itself this program
    /// stalls there: a verb that changes anything never does it.
    Closely,
}

/// Describes `tasks`, and gives each the class that tells most at once. Of those that could run a second look tells more:
/// it takes time, and is for when nobody is held up by it.
pub(super) fn holdouts<'t>(
    host: &Host,
    known: Known<'_>,
    tasks: impl IntoIterator<Item = &'t Sighting>,
) -> (Vec<Holdout>, Vec<Suspect>) {
    let witness = Witness::new(host);
    let tasks: Vec<&Sighting> = tasks.into_iter().collect();
    let mut all: Vec<Holdout> = witness.describe_all(&tasks);
    for (holdout, task) in all.iter_mut().zip(&tasks) {
        let by = witness.place(task).frozen_by();
        let stands = known.scope.requested() || known.scope.is_held_from_outside();
        match (holdout.class, known.asked) {
            (Class::Frozen, Some(asked)) if by.is_some_and(|by| by != asked) => {
                holdout.reclass(Class::FrozenElsewhere, None);
            }
            (Class::Frozen, None) if !stands && known.scope.inner().next().is_none() => {
                match by.filter(|&by| host.mount(by).is_none()) {
                    Some(unmounted) => {
                        holdout.reclass(Class::Unmounted, None);
                        holdout.on = Some(match unmounted {
                            Hierarchy::V1 => On::V1,
                            Hierarchy::V2 => On::V2,
                        });
                    }
                    None => holdout.reclass(Class::LeftBehind, None),
                }
            }
            (Class::Sleeping | Class::Frozen, Some(_)) if !known.before.contains_key(&task.tid) => {
                holdout.reclass(Class::Arriving, None);
            }
            _ => {}
        }
    }
    let suspects = (0..all.len())
        .filter(|&at| may_run(&all[at]))
        .take(MOST_SUSPECTS)
        .map(|at| Suspect {
            at,
            first: tasks[at].clone(),
            ticks: witness.ticks(tasks[at].tid),
            quotas: quotas(host, tasks[at].tid),
            came: known.asked.is_some() && !known.before.contains_key(&tasks[at].tid),
            faulted: is_after_a_fault(known.before.get(&tasks[at].tid)),
        });
    let suspects = suspects.collect();
    (all, suspects)
}

/// One that could run, as it was at the first look.
#[derive(Debug)]
pub(super) struct Suspect {
    /// Its place among the holdouts.
    at: usize,
    first: Sighting,
    ticks: Option<Ticks>,
    quotas: Vec<Quota>,
    /// Whether it came after the request.
    came: bool,
    /// Whether it waited for a userfaultfd before that.
    faulted: bool,
}

/// Whether a task could run; between two states it is nowhere.
fn may_run(holdout: &Holdout) -> bool {
    matches!(holdout.class, Class::Running | Class::Unknown)
}

/// Looks again at those that could run, of any number of containers at once: who gets no CPU, and who loops in the kernel.
pub(super) fn second_look<'h>(
    host: &Host,
    watch: Watch,
    sets: impl IntoIterator<Item = (&'h mut Vec<Holdout>, Vec<Suspect>)>,
) {
    let witness = Witness::new(host);
    let mut sets: Vec<_> = sets
        .into_iter()
        .filter(|(_, suspects)| !suspects.is_empty())
        .collect();
    if sets.is_empty() {
        return;
    }
    let clock = Patience::of(WINDOW).start();
    while !clock.is_over() {
        clock.pause(SAMPLE, &[]);
        for (all, suspects) in &mut sets {
            for suspect in suspects.iter() {
                // With very many the time is up before the last are looked at.
                if may_run(&all[suspect.at]) && !clock.is_over() {
                    witness.look_for_userfault(&mut all[suspect.at], None);
                }
            }
        }
    }
    let tids: Vec<i32> = sets
        .iter()
        .flat_map(|(_, suspects)| suspects.iter().map(|suspect| suspect.first.tid))
        .collect();
    let rivals = LazyCell::new(|| {
        let cpus = tids.iter().filter_map(|&tid| witness.cpu_of(tid)).collect();
        let limit = match watch {
            Watch::Closely => LONG_SCAN,
            Watch::Afar => SCAN,
        };
        witness.real_time_tasks(&cpus, limit)
    });
    let clock = Patience::of(CLOSE).start();
    let closely = (watch == Watch::Closely).then_some(&clock);
    for (all, suspects) in &mut sets {
        for suspect in suspects.iter() {
            if may_run(&all[suspect.at]) {
                judge(witness, closely, suspect, &|| &*rivals, &mut all[suspect.at]);
            }
        }
    }
}

/// Says of one that could run what the time since the first look showed.
fn judge<'r>(
    witness: Witness<'_>,
    closely: Option<&Clock<'_>>,
    suspect: &Suspect,
    rivals: &dyn Fn() -> &'r BTreeMap<i32, Party>,
    holdout: &mut Holdout,
) {
    let tid = holdout.tid;
    let Ok(Some(now)) = witness.look(tid) else {
        return; // it is gone, or not to be seen any more
    };
    if holdout.class == Class::Unknown {
        // One that goes to sleep and is woken all the time can be met in between every time.
        *holdout = witness.describe(&now);
        if !may_run(holdout) {
            return;
        }
    }
    let had = now.counters.zip(suspect.first.counters);
    let stood_still = had.is_some_and(|(now, then)| now.since(then) == 0);
    let spent = suspect.quotas.iter().find_map(|quota| {
        let (_, count) = throttling(&quota.dir)?;
        (count > quota.nr_throttled || (stood_still && quota.always)).then_some((&quota.dir, count))
    });
    let ticks = LazyCell::new(|| suspect.ticks.zip(witness.ticks(tid)));
    // A tick more or less is the rounding of the two, which the kernel makes to fit their sum.
    let runs_its_own_code = || ticks.is_some_and(|(then, now)| now.user > then.user + 1);
    // Whether all the CPU time that it had since was the kernel's.
    let in_the_kernel = || ticks.is_some_and(|(then, now)| now.user == then.user && now.system > then.system);
    if let Some(clock) = closely.filter(|_| !stood_still && !runs_its_own_code()) {
        witness.look_from_its_cpu(holdout, clock);
    }
    if holdout.class == Class::Userfault {
        // Seen at the last look.
    } else if let Some((dir, count)) = spent {
        holdout.reclass(Class::Throttled, None);
        holdout.meaning += &format!(" (nr_throttled {count} in {})", dir.join("cpu.stat").display());
    } else if stood_still {
        let by = witness.cpu_of(tid).and_then(|cpu| rivals().get(&cpu));
        holdout.reclass(Class::Starved, by.filter(|rival| rival.pid != tid).cloned());
    } else if suspect.came {
        holdout.reclass(Class::Arriving, None);
    } else if in_the_kernel() && suspect.faulted {
        holdout.reclass(Class::Userfault, None);
    } else if in_the_kernel() {
        holdout.reclass(Class::Spinning, None);
    }
}

/// Whether a task waited for a userfaultfd before it was asked to freeze.
fn is_after_a_fault(before: Option<&Sighting>) -> bool {
    before.is_some_and(|before| before.site.as_deref() == Some("handle_userfault"))
}

/// A cgroup that limits the CPU of all in it.
#[derive(Debug)]
struct Quota {
    dir: PathBuf,
    /// How often its tasks had to wait for the next period so far.
    nr_throttled: u64,
    /// Whether they had to in most periods so far: a long one may have begun before the first look, and not be over.
    always: bool,
}

/// The limits that a task is under, in its own cgroup and all above.
fn quotas(host: &Host, tid: i32) -> Vec<Quota> {
    let Some(lines) = task_lines(host, tid) else {
        return Vec::new(); // it is gone
    };
    let v1 = lines.controller("cpu").map(|path| ("/sys/fs/cgroup/cpu", path));
    let v2 = host
        .mount(Hierarchy::V2)
        .zip(lines.unified())
        .map(|(mount, path)| (mount.dir.clone(), path));
    let v1 = v1.map(|(mount, path)| (host.path(mount), path));
    let mut all = Vec::new();
    for (mount, path) in [v1, v2].into_iter().flatten() {
        for level in path.ancestors().filter(|level| *level != Path::new("/")) {
            let dir = mount.join(level.strip_prefix("/").unwrap_or(level));
            let has_limit = read(&dir.join("cpu.cfs_quota_us")).is_some_and(|quota| !quota.starts_with('-'))
                || read(&dir.join("cpu.max")).is_some_and(|quota| !quota.starts_with("max"));
            if let Some((nr_periods, nr_throttled)) = throttling(&dir).filter(|_| has_limit) {
                // Half of all, as the first ones after a task woke need not be.
                let always = nr_throttled > 0 && nr_throttled >= nr_periods / 2;
                all.push(Quota {
                    dir,
                    nr_throttled,
                    always,
                });
            }
        }
    }
    all
}

/// `nr_periods` and `nr_throttled` of a cgroup.
fn throttling(dir: &Path) -> Option<(u64, u64)> {
    let stat = read(&dir.join("cpu.stat"))?;
    let number = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some((number("nr_periods ")?, number("nr_throttled ")?))
}

/// A control file of a controller that is no freezer's; `None` where it is not there.
fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// The tasks that v1 keeps from dying: a fatal signal waits for them, and they die as soon as they are thawed. v2 lets
/// tasks die while it holds them. Those that can't be asked within `limit` are left out.
pub(super) fn dying(host: &Host, tasks: &BTreeMap<i32, Sighting>, limit: Option<Duration>) -> Vec<Dying> {
    let witness = Witness::new(host);
    let mut told = BTreeSet::new();
    let mut all = Vec::new();
    let killed = |task: &&Sighting| task.killed && witness.place(task).frozen_by() == Some(Hierarchy::V1);
    let killed = tasks.values().filter(killed).map(|task| task.tid);
    for (tid, pending) in witness.fatal_signals(killed, limit) {
        // One for the process is every thread's.
        if !pending.signals.is_empty() && told.insert(pending.pid) {
            all.push(Dying {
                pid: pending.pid,
                tid,
                comm: tasks.get(&tid).map(|task| task.comm.clone()).unwrap_or_default(),
                signals: pending.signals,
            });
        }
    }
    all
}

/// What a v2 cgroup's tasks were frozen for altogether since it was made, in microseconds: time from requests to thaws,
/// its own and its ancestors' (`cgroup.stat.local`, Linux 6.18).
pub(super) fn frozen_total_us(cgroup: &crate::cgroup::Cgroup) -> Option<u64> {
    let text = cgroup.read("cgroup.stat.local").ok()?; // this kernel has no such file
    let line = text.lines().find_map(|line| line.strip_prefix("frozen_usec "))?;
    line.trim().parse().ok()
}
