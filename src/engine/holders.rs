//! Who holds a container frozen, as the records have it.

use std::collections::BTreeMap;

use super::scope::{Asking, written};
use crate::cgroup::CgroupId;
use crate::error::Result;
use crate::freezer::Saved;
use crate::host::{Host, Lock};
use crate::report::{Holding, Requested, Status};
use crate::store::{Fate, HoldRecord, Kind, RecordFile, Store, boot, boottime_us};

/// The children of a process of iceaxe; none on a kernel that does not tell them (`CONFIG_PROC_CHILDREN`).
fn children(host: &Host, pid: i32) -> Vec<i32> {
    let path = format!("{pid}/task/{pid}/children");
    let read = host
        .proc()
        .one(Lock::None, pid, move |reader| reader.whole(&path));
    let text = read.ok().and_then(|text| text.ok()?).unwrap_or_default(); // it does not answer, or is gone
    let words = text.split(u8::is_ascii_whitespace);
    let numbers = words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
    numbers.collect()
}

/// The records as of one moment.
#[derive(Debug)]
pub struct Holders {
    /// In the order of their cgroups.
    entries: Vec<(RecordFile, Fate)>,
    /// Who they are that hold for a time or for a command, by the processes on record: one has a record for each target.
    parties: BTreeMap<i32, Party>,
    now_us: u64,
}

/// A process that holds, and what it runs.
#[derive(Debug, Clone, Default)]
struct Party {
    comm: Option<String>,
    command: Option<i32>,
}

impl Party {
    fn of(host: &Host, record: &HoldRecord, pid: i32) -> Self {
        let is_worker = |child: &i32| record.owners.first().is_some_and(|worker| worker.pid == *child);
        let children = match record.kind {
            Kind::Hold => children(host, pid),
            Kind::Freeze | Kind::Lease => Vec::new(),
        };
        Self {
            comm: host.proc().comm_alive(pid),
            command: children.into_iter().find(|child| !is_worker(child)),
        }
    }
}

impl Holders {
    /// Reads them. What can't be read is as if there were none: what the kernel says needs no record.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let (boot, now_us) = (boot(host), boottime_us());
        let fated = |store: Store| {
            let entries = store.entries().ok()?.0.into_iter();
            let fated = entries.map(|entry| {
                let fate = store.fate(&entry, host, &boot, now_us);
                (entry, fate)
            });
            Some(fated.filter(|(_, fate)| *fate != Fate::Past).collect())
        };
        let mut entries: Vec<_> = Store::open(host)
            .ok()
            .flatten()
            .and_then(fated)
            .unwrap_or_default();
        entries.sort_by_key(|(entry, _)| entry.record.standing.id);
        let mut parties = BTreeMap::new();
        for (entry, fate) in &entries {
            let record = &entry.record;
            if let (Kind::Lease | Kind::Hold, Fate::Stands, Some(pid)) = (record.kind, fate, record.holder())
            {
                parties.entry(pid).or_insert_with(|| Party::of(host, record, pid));
            }
        }
        Self {
            entries,
            parties,
            now_us,
        }
    }

    /// The records on a cgroup.
    fn on(&self, id: CgroupId) -> impl Iterator<Item = &(RecordFile, Fate)> {
        let from = self
            .entries
            .partition_point(|(entry, _)| entry.record.standing.id < id);
        let on_it = self.entries[from..].iter();
        on_it.take_while(move |(entry, _)| entry.record.standing.id == id)
    }

    /// What the target was called whose cgroup that is, by who froze it.
    #[must_use]
    pub fn target(&self, id: CgroupId) -> Option<&str> {
        self.on(id).next().map(|(entry, _)| entry.record.target.as_str())
    }

    /// Adds to a status who holds an ancestor, and it with that.
    pub fn add_through(&self, ancestor: &Asking, status: &mut Status) {
        for (entry, fate) in self.on(ancestor.id) {
            let through = Some(written(ancestor));
            status.holders.push(Holding {
                through,
                ..self.holding(&entry.record, *fate)
            });
        }
    }

    fn holding(&self, record: &HoldRecord, fate: Fate) -> Holding {
        let by = record.holder();
        let party = by
            .and_then(|by| self.parties.get(&by))
            .cloned()
            .unwrap_or_default();
        Holding {
            kind: record.kind,
            by,
            by_comm: party.comm,
            command: record.command.clone(),
            command_pid: party.command,
            filesystems: record.filesystems.clone(),
            through: None,
            held_for_us: self.now_us.saturating_sub(record.since_us),
            left_us: record.until_us.map(|until| until.saturating_sub(self.now_us)),
            answered_for: fate == Fate::Stands,
        }
    }

    /// Adds to a status who holds one of these cgroups, and since when it is frozen.
    pub fn add_to(&self, ids: &[CgroupId], status: &mut Status) {
        for (entry, fate) in ids.iter().flat_map(|id| self.on(*id)) {
            let record = &entry.record;
            let age = entry.age_us(self.now_us);
            let is_thawed = status.requested == Some(Requested::Thawed);
            if !record.standing.requested && !is_thawed {
                status.frozen_for_us = Some(status.frozen_for_us.map_or(age, |other| other.max(age)));
            }
            status.holders.push(self.holding(record, *fate));
        }
    }

    /// Those that nobody answers for any more.
    pub fn left_behind(&self) -> impl Iterator<Item = (&RecordFile, Fate)> {
        let entries = self.entries.iter().map(|(entry, fate)| (entry, *fate));
        entries.filter(|(_, fate)| matches!(fate, Fate::Over | Fate::Unguarded))
    }
}

/// Who holds that cgroup, but for one.
///
/// # Errors
///
/// The records can't be listed.
pub fn others(
    host: &Host,
    store: &Store,
    standing: &Saved,
    but: Option<&RecordFile>,
) -> Result<Vec<RecordFile>> {
    let (boot, now) = (boot(host), boottime_us());
    let mut all = store.on(&[standing.id])?;
    all.retain(|other| {
        let is_it = but.is_some_and(|but| other.is_same(but));
        !is_it
            && matches!(
                store.fate(other, host, &boot, now),
                Fate::Stands | Fate::Unguarded
            )
    });
    Ok(all)
}

/// A holder in a few words.
#[must_use]
pub fn described(entry: &RecordFile) -> String {
    let by = entry.record.holder().unwrap_or(0);
    match (entry.record.kind, &entry.record.command) {
        (Kind::Freeze, _) => format!("a freeze by process {by}"),
        (Kind::Lease, _) => format!("a lease by process {by}"),
        (Kind::Hold, Some(command)) => format!("a hold by process {by} ({command})"),
        (Kind::Hold, None) => format!("a hold by process {by}"),
    }
}
