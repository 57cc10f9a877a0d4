//! A runtime's record, checked against what runs: the process lives, is the one that the record means, and is in the
//! cgroup that the record says; the cgroup is that container's alone, and its user's if the record is a user's word.

use std::path::{Path, PathBuf};

use super::cgroup_trust::CgroupTrust;
use super::container::{FreezeLevel, Identity, Located};
use super::lines::{Lines, cgroup_lines, task_lines, within_namespace};
use super::runtime::record::{CgroupOnRecord, Record, RecordedCgroup};
use super::runtime::roots::{self, SlowRoots, SystemRoots, all_records};
use super::{naming, target};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host, Stat};

/// The first process of a container on record, which is the one that the record means.
struct First {
    /// The cgroups of the process, as a thread of it has them that is not about to end.
    lines: Lines,
    /// Whether none of its threads is left but one that is on its way out. v1 shows the root as its cgroup then
    /// (`proc_cgroup_show()`, kernel/cgroup/cgroup.c): it can wait for a child that is held elsewhere.
    is_exiting: bool,
    /// Whether it does not say since when it lives, as it hangs.
    is_silent: bool,
}

impl First {
    /// Finds the process: it lives, or a thread of it does, and it started when the record says.
    fn find(host: &Host, record: &Record, gone: &dyn Fn(String) -> Error) -> Result<Self> {
        let pid = record.pid;
        let proc = host.proc();
        // A process that does not answer lives, and does not say since when.
        let stat = proc.stat_of(pid);
        let is_silent = stat.is_err();
        let stat = stat.unwrap_or_default();
        match (&stat, record.start) {
            (None, _) if !is_silent => return Err(gone(format!("its process {pid} is gone"))),
            (Some(stat), Some(start)) if stat.starttime != start => {
                return Err(gone(format!(
                    "process {pid} is another one now: it started at tick {} and the container's at {start}",
                    stat.starttime
                )));
            }
            (Some(_) | None, _) => {}
        }
        let is_ended = stat.as_ref().is_some_and(Stat::is_ended);
        let thread = if is_ended {
            proc.living_thread(pid)
        } else {
            Some(pid)
        };
        let is_dead = stat.is_some_and(|stat| matches!(stat.state, 'Z' | 'X' | 'x'));
        let lines = match thread {
            None if is_dead => return Err(gone(format!("its process {pid} is dead"))),
            Some(tid) if tid != pid => task_lines(host, tid),
            _ => cgroup_lines(host, pid),
        };
        Ok(Self {
            lines: lines.ok_or_else(|| gone(format!("its process {pid} is gone")))?,
            is_exiting: thread.is_none(),
            is_silent,
        })
    }
}

/// Checks a record against what runs: the process lives, started when the record says, and is where it says. Where no
/// start time can be compared, its cgroup must bear the ID by a name that is not somebody else's word.
pub(super) fn by_record(host: &Host, record: Record) -> Result<Located> {
    let (pid, id) = (record.pid, record.id.as_str());
    let gone = |why: String| Error::NotRunning(format!("{id} ({}): {why}", record.dir.display()));
    let First {
        lines,
        is_exiting,
        is_silent,
    } = First::find(host, &record, &gone)?;
    let mut recorded: Vec<(Hierarchy, PathBuf)> = Vec::new();
    // Another process can have the number by now. The name of its cgroup stands in for the start time, where only root or
    // the record's own author can have given it.
    let is_unsure = record.start.is_none() || is_silent;
    let names = is_unsure.then(|| CgroupTrust::new(host));
    let counts = |hierarchy: Hierarchy, path: &Path| {
        names.as_ref().is_none_or(|names| {
            let trust = names.in_name(hierarchy, path);
            trust.is_full() || (trust == record.trust && trust.user().is_some())
        })
    };
    let own_in = |hierarchy: Hierarchy, line: &Path| {
        let mut named = naming::chain(line).into_iter();
        named.find(|named| named.id == id && counts(hierarchy, &named.path))
    };
    let mut unnamed = is_unsure;
    for hierarchy in by_version(host) {
        let Some(line) = lines.path(hierarchy) else {
            continue;
        };
        let line = within_namespace(line)?;
        let own = own_in(hierarchy, line);
        let is_named = own.is_some();
        unnamed &= !bearing(line, id).is_some_and(|top| counts(hierarchy, &top));
        match record.place.cgroup(host, hierarchy, line) {
            // crun keeps the tasks a level below its scope and freezes there, also where the record lost its end.
            RecordedCgroup::At(path)
                if matches!(record.place, CgroupOnRecord::Path(_))
                    && own.as_ref().is_some_and(|own| {
                        own.path == path && own.level().is_some_and(|level| line.starts_with(level))
                    }) =>
            {
                recorded.push((hierarchy, own.and_then(|own| own.level()).unwrap_or(path)));
            }
            // A cgroup above the one that bears the ID is not the container's alone, whatever a record says.
            RecordedCgroup::At(path) if own.is_none_or(|own| path.starts_with(own.path)) => {
                if !is_named {
                    check_unnamed(host, hierarchy, &path, &record)?;
                }
                recorded.push((hierarchy, path));
            }
            RecordedCgroup::At(_) => {}
            RecordedCgroup::Elsewhere(path) if is_exiting && line.parent().is_none() => {
                recorded.push((hierarchy, path));
            }
            // Of the second hierarchy the tasks' own word is taken; and so it is where crun runs in another one than
            // v1's, as it keeps one path for all.
            RecordedCgroup::Elsewhere(path)
                if recorded.is_empty()
                    && !is_named
                    && !(matches!(record.place, CgroupOnRecord::Path(_)) && line.parent().is_none()) =>
            {
                if host.booted().is_some_and(|booted| record.written < booted) {
                    return Err(gone(format!(
                        "the record is older than this boot, and process {pid} is another one now"
                    )));
                }
                return Err(Error::Ambiguous {
                    why: format!(
                        "the record in {} says {}, but its process {pid} is in {}",
                        record.dir.display(),
                        path.display(),
                        line.display()
                    ),
                    candidates: Vec::new(),
                });
            }
            RecordedCgroup::Elsewhere(_) | RecordedCgroup::Nothing => {}
        }
    }
    if unnamed {
        let why = match is_silent {
            true => "it does not say since when it runs",
            false => "the record has no start time",
        };
        return Err(gone(format!(
            "process {pid} may be another one now: none of its cgroups bears the ID by a name that can be believed, and {why}"
        )));
    }
    // A record of another mount namespace names nothing here; the kernel's own line does, if it is named by the ID.
    let by_name = recorded.is_empty();
    if by_name {
        recorded = by_version(host)
            .filter_map(|hierarchy| Some((hierarchy, lines.path(hierarchy)?)))
            .filter_map(|(hierarchy, path)| Some((hierarchy, own_in(hierarchy, path)?.path)))
            .collect();
    }
    let mut recorded = recorded.into_iter();
    let Some((hierarchy, path)) = recorded.next() else {
        return Err(Error::Unsupported(format!(
            "{id} has no cgroup of its own: its process {pid} can't be frozen alone"
        )));
    };
    // The level that a runtime adds below its scope is the one on record; the scope is the container's too.
    let top = top_of(&path, id).unwrap_or_else(|| path.clone());
    let first = Cgroup::open(host, hierarchy, &top)?;
    if let Some(user) = record.trust.user() {
        check_owner(&record, user, &first)?;
    }
    if bearing(&path, id).is_none() {
        refuse_shared(host, hierarchy, &path, id)?;
    }
    let other = recorded.next().map(|(_, path)| top_of(&path, id).unwrap_or(path));
    // podman and others run runc in its default root; the cgroup is named by whom.
    let named = naming::chain(&path).into_iter().find(|named| named.id == id);
    let named = named.and_then(|named| named.runtime);
    let runtime = named.unwrap_or(record.runtime);
    let trust = record.trust;
    let mut about = record.about;
    if !trust.is_full() {
        // A path that a user wrote can lead anywhere.
        (about.rootfs, about.bundle) = (None, None);
    }
    let identity = Identity {
        id: Some(record.id),
        name: None,
        runtime: Some(runtime),
        pid: Some(pid),
        record: Some(record.dir),
        is_sandbox: about.is_sandbox(),
        about,
        trust,
    };
    Ok(Located {
        identity,
        first,
        point: if by_name {
            FreezeLevel::Named
        } else {
            FreezeLevel::At(path)
        },
        other,
        lines: Some(lines),
    })
}

/// The uppermost cgroup of a path that says whose it is: its name is the ID, or is called after it.
fn bearing(path: &Path, id: &str) -> Option<PathBuf> {
    let is_called = |path: &&Path| path.file_name().is_some_and(|name| name == id);
    let called = path.ancestors().filter(is_called).last().map(Path::to_owned);
    let named = naming::chain(path).into_iter().find(|named| named.id == id);
    let all = called.into_iter().chain(named.map(|named| named.path));
    all.min_by_key(|path| path.as_os_str().len())
}

/// Refuses a cgroup on record that bears another container's name, or that others live below: it does not say itself
/// whose it is, and a record can be spoilt.
fn check_unnamed(host: &Host, hierarchy: Hierarchy, path: &Path, record: &Record) -> Result<()> {
    let refuse = |why: String| {
        Err(Error::Ambiguous {
            why: format!(
                "the record of {} in {} says {}, and {why}",
                record.id,
                record.dir.display(),
                path.display()
            ),
            candidates: Vec::new(),
        })
    };
    let nearest = naming::innermost(path);
    if let Some(other) = nearest.filter(|named| named.path == path || named.level().as_deref() == Some(path))
    {
        return refuse(format!("that is {other}'s"));
    }
    if let Some(kind) = naming::parent(path) {
        return refuse(format!("that is {kind}"));
    }
    let (mut inner, mut unlisted) = (None, None);
    let top = Cgroup::open(host, hierarchy, path)?;
    let mut see = |below: &Path| {
        if inner.is_none() {
            inner = naming::last(below).filter(|named| named.runtime.is_some());
        }
    };
    top.paths_below(host, &mut see, &mut |_, error| unlisted = Some(error))?;
    if let Some(error) = unlisted {
        return Err(error);
    }
    // A container's own containers are below its own processes, which are in it or beside them.
    match inner {
        Some(inner) if top.tids()?.is_empty() => refuse(format!("below that is {inner}")),
        _ => Ok(()),
    }
}

/// The scope that a runtime's own level on record lies in.
fn top_of(path: &Path, id: &str) -> Option<PathBuf> {
    let named = naming::last(path.parent()?)?;
    (named.id == id && named.level().as_deref() == Some(path)).then_some(named.path)
}

/// Refuses a cgroup that is not the user's whose word it is: a record below /run/user could otherwise aim root's hand
/// at any cgroup.
fn check_owner(record: &Record, user: u32, cgroup: &Cgroup) -> Result<()> {
    if is_users(user, cgroup)? {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "the record of {} in {} is the word of user {user}, and {} is not theirs",
        record.id,
        record.dir.display(),
        cgroup.dir().display()
    )))
}

/// Whether a cgroup is one of a user's: below the service that systemd delegates to them, or owned.
pub(super) fn is_users(user: u32, cgroup: &Cgroup) -> Result<bool> {
    let theirs = format!("/user.slice/user-{user}.slice/user@{user}.service");
    Ok(cgroup.path().starts_with(theirs) || cgroup.owner()? == user)
}

/// The hierarchies that the host has, v1 first, as the runtimes use them.
pub(super) fn by_version(host: &Host) -> impl Iterator<Item = Hierarchy> {
    [Hierarchy::V1, Hierarchy::V2]
        .into_iter()
        .filter(|&hierarchy| host.mount(hierarchy).is_some())
}

/// The records of all containers whose cgroup, as recorded, is `path` or holds it: root's, and where there are none the
/// users'.
fn records_above(host: &Host, hierarchy: Hierarchy, path: &Path) -> Vec<(PathBuf, Record)> {
    let above = |record: Record| match record.place.cgroup(host, hierarchy, path) {
        RecordedCgroup::At(own) => {
            let is_theirs = |user| is_users(user, &Cgroup::open(host, hierarchy, &own).ok()?).ok(); // gone
            let counts = record
                .trust
                .user()
                .is_none_or(|user| is_theirs(user) == Some(true));
            counts.then_some((own, record))
        }
        _ => None,
    };
    // A record that can't be read names no cgroup, and a source that does not answer has none to show.
    let system = SystemRoots::open(host);
    let mut of_root: Vec<_> = system
        .all
        .iter()
        .flat_map(all_records)
        .filter_map(above)
        .collect();
    let limit = if of_root.is_empty() {
        roots::LIMIT
    } else {
        roots::GRACE
    };
    let configured = system.configured.all(limit).unwrap_or_default();
    of_root.extend(configured.into_iter().filter_map(above));
    if !of_root.is_empty() {
        return of_root;
    }
    let users: Vec<SlowRoots> = roots::users(host)
        .unwrap_or_default()
        .into_iter()
        .map(|user| roots::of_user(host, user))
        .collect();
    let asked: Vec<_> = users.iter().map(SlowRoots::begin_all).collect();
    let answered = asked
        .into_iter()
        .flat_map(|answer| answer(roots::LIMIT).unwrap_or_default());
    answered.filter_map(above).collect()
}

/// Refuses a cgroup that a second running container has on record as its own: what freezes one freezes both.
fn refuse_shared(host: &Host, hierarchy: Hierarchy, path: &Path, id: &str) -> Result<()> {
    let proc = host.proc();
    let is_running = |record: &Record| {
        // A process that does not answer runs.
        let Ok(stat) = proc.stat_of(record.pid) else {
            return true;
        };
        stat.is_some_and(|stat| record.start.is_none_or(|start| stat.starttime == start))
    };
    let other = records_above(host, hierarchy, path)
        .into_iter()
        .find(|(own, record)| own == path && record.id != id && is_running(record));
    match other {
        None => Ok(()),
        Some((_, other)) => Err(Error::Ambiguous {
            why: format!(
                "{} is the cgroup of {id} and of {}: written as {}, a target means both",
                path.display(),
                other.id,
                target::cgroup(hierarchy, path)
            ),
            candidates: Vec::new(),
        }),
    }
}

/// The container on record whose cgroup holds `path`, where the cgroup's own name says nothing.
pub(super) fn recorded_at(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<Option<Located>> {
    let mut above = records_above(host, hierarchy, path);
    above.sort_unstable_by_key(|(own, _)| std::cmp::Reverse(own.components().count()));
    let mut failed = None;
    for (_, record) in above {
        match by_record(host, record) {
            Ok(located) => return Ok(Some(located)),
            Err(Error::NotRunning(_)) => {} // it is no match
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}
