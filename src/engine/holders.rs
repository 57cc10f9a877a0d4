//! Who holds a container frozen, as the records have it.

use super::report::{Holding, Requested, Status};
use crate::cgroup::CgroupId;
use crate::error::Result;
use crate::freezer::Standing;
use crate::host::Host;
use crate::ledger::{Entry, Fate, Kind, Ledger, boot, boottime_us};

/// The records as of one moment.
#[derive(Debug)]
pub struct Holders {
    /// In the order of their cgroups.
    entries: Vec<(Entry, Fate)>,
    now_us: u64,
}

impl Holders {
    /// Reads them. What can't be read is as if there were none: what the kernel says needs no record.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let (boot, now_us) = (boot(host), boottime_us());
        let fated = |ledger: Ledger| {
            let entries = ledger.entries().ok()?.0.into_iter();
            let fated = entries.map(|entry| {
                let fate = ledger.fate(&entry, host, &boot, now_us);
                (entry, fate)
            });
            Some(fated.filter(|(_, fate)| *fate != Fate::Past).collect())
        };
        let mut entries: Vec<_> = Ledger::open(host)
            .ok()
            .flatten()
            .and_then(fated)
            .unwrap_or_default();
        entries.sort_by_key(|(entry, _)| entry.pledge.standing.id);
        Self { entries, now_us }
    }

    /// Adds to a status who holds one of these cgroups, and since when it is frozen.
    pub fn add_to(&self, ids: &[CgroupId], status: &mut Status) {
        let on = ids.iter().flat_map(|id| {
            let from = self
                .entries
                .partition_point(|(entry, _)| entry.pledge.standing.id < *id);
            let on_it = self.entries[from..].iter();
            on_it.take_while(move |(entry, _)| entry.pledge.standing.id == *id)
        });
        for (entry, fate) in on {
            let pledge = &entry.pledge;
            let age = entry.age_us(self.now_us);
            let is_thawed = status.requested == Some(Requested::Thawed);
            if !pledge.standing.requested && !is_thawed {
                status.frozen_for_us = Some(status.frozen_for_us.map_or(age, |other| other.max(age)));
            }
            status.holders.push(Holding {
                kind: pledge.kind,
                by: pledge.holder(),
                command: pledge.command.clone(),
                held_for_us: age,
                left_us: pledge.until_us.map(|until| until.saturating_sub(self.now_us)),
                answered_for: *fate == Fate::Stands,
            });
        }
    }

    /// Those that nobody answers for any more.
    pub fn left_behind(&self) -> impl Iterator<Item = (&Entry, Fate)> {
        let entries = self.entries.iter().map(|(entry, fate)| (entry, *fate));
        entries.filter(|(_, fate)| matches!(fate, Fate::Over | Fate::Unguarded))
    }
}

/// Who holds that cgroup, but for one.
///
/// # Errors
///
/// The records can't be listed.
pub fn others(host: &Host, ledger: &Ledger, standing: &Standing, but: Option<&Entry>) -> Result<Vec<Entry>> {
    let (boot, now) = (boot(host), boottime_us());
    let mut all = ledger.on(&[standing.id])?;
    all.retain(|other| {
        let is_it = but.is_some_and(|but| other.is_same(but));
        !is_it
            && matches!(
                ledger.fate(other, host, &boot, now),
                Fate::Stands | Fate::Unguarded
            )
    });
    Ok(all)
}

/// A holder in a few words.
#[must_use]
pub fn described(entry: &Entry) -> String {
    let by = entry.pledge.holder().unwrap_or(0);
    match (entry.pledge.kind, &entry.pledge.command) {
        (Kind::Freeze, _) => format!("a freeze by process {by}"),
        (Kind::Lease, _) => format!("a lease by process {by}"),
        (Kind::Hold, Some(command)) => format!("a hold by process {by} ({command})"),
        (Kind::Hold, None) => format!("a hold by process {by}"),
    }
}
