//! What a freeze leaves word of: the record of each, made before the first write, and the guard that answers for it.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::Duration;

use super::text;
use crate::cgroup::{Cgroup, CgroupId};
use crate::cli::context::Context;
use crate::engine::{self, Holders, described};
use crate::error::{Error, Result};
use crate::freezer::Saved;
use crate::hold::{self, Release};
use crate::host::Filesystem;
use crate::patience::{Clock, Patience};
use crate::report::{Outcome, Report, Verb};
use crate::resolver::Container;
use crate::store::{
    Disk, DiskRecordFile, Fate, HoldRecord, Kind, Listing, Lock, Process, RecordFile, SCHEMA, Store, boot,
    boottime_us,
};

/// How long it may take to prove that what is not to stay is thawed.
const PROOF: Duration = Duration::from_secs(2);

/// Keeps the records of one call.
pub(super) struct Recorder<'c> {
    context: &'c Context<'c>,
    kind: Kind,
    /// How long it may last.
    lasting: Option<Duration>,
    command: Option<String>,
    filesystems: Vec<PathBuf>,
    /// Whether it goes on where no record can be made.
    does_without: bool,
    store: Option<Store>,
    owners: Vec<Process>,
    boot: String,
    /// What was on record when the locks were had.
    listing: RefCell<Listing>,
    /// Whether it was said that no record is kept.
    is_told: Cell<bool>,
    /// In the order of the freeze, each with the cgroup that a freeze of it writes.
    kept: RefCell<Vec<(CgroupId, Kept)>>,
}

/// What is on record of one target.
struct Kept {
    record: HoldRecord,
    entry: Option<RecordFile>,
    /// What it takes the place of: leases, and what was left behind.
    instead_of: Vec<RecordFile>,
    /// Whether it could not be rolled back: it may be frozen, and who looks for what was left finds it.
    is_stuck: bool,
}

/// What is asked of a freeze besides.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    /// How long it may last.
    pub(super) lasting: Option<Duration>,
    /// What it is held for.
    pub(super) command: Option<String>,
    /// The file systems that are frozen besides.
    pub(super) filesystems: Vec<PathBuf>,
    /// Whether it is done without a record, where none can be made.
    pub(super) no_record: bool,
}

impl<'c> Recorder<'c> {
    /// Gets ready to keep records.
    ///
    /// # Errors
    ///
    /// Of a lease or a hold: no record can be made, or no guard is there.
    pub(super) fn new(context: &'c Context<'c>, kind: Kind, asked: Asked) -> Result<Self> {
        let host = context.host;
        let mut owners: Vec<Process> = Process::this(host).into_iter().collect();
        if context.link.is_child() {
            owners.extend(Process::parent(host));
        }
        if kind != Kind::Freeze {
            let guard = context.guard()?.hear()?;
            owners.extend(guard.process);
            if let Some(note) = guard.note {
                context.err(format!("iceaxe: note: {note}\n"));
            }
        }
        let does_without = kind == Kind::Freeze || asked.no_record;
        let mut recorder = Self {
            context,
            kind,
            lasting: asked.lasting,
            command: asked.command,
            filesystems: asked.filesystems,
            does_without,
            store: None,
            owners,
            boot: boot(host),
            listing: RefCell::default(),
            is_told: Cell::new(false),
            kept: RefCell::default(),
        };
        match Store::make(host) {
            Ok(store) => recorder.store = Some(store),
            Err(error) if does_without => recorder.unrecorded(&error),
            Err(error) => return Err(refused(&error)),
        }
        Ok(recorder)
    }

    fn unrecorded(&self, error: &Error) {
        if !self.is_told.replace(true) {
            self.context.err(format!(
                "iceaxe: note: no record of it is kept, as iceaxe status and iceaxe recover need it: {error}\n"
            ));
        }
    }

    /// Keeps others from changing these meanwhile. In the order of their cgroups: two that want the same ones do not wait
    /// for each other.
    ///
    /// # Errors
    ///
    /// Somebody else changes one of them until the limit ([`is_busy`]); else as [`Recorder::new`].
    pub(super) fn lock(&self, containers: &[(&str, &Container)], clock: &Clock<'_>) -> Result<Vec<Lock<'_>>> {
        let Some(store) = &self.store else {
            return Ok(Vec::new());
        };
        let mut ids: Vec<_> = containers
            .iter()
            .map(|(_, container)| container.freeze_point().id())
            .collect();
        ids.sort_unstable();
        let mut locks = Vec::new();
        for id in ids {
            match store.lock(id, clock) {
                Ok(Some(lock)) => locks.push(lock),
                Ok(None) => break, // the freeze itself says that it was given up
                Err(error) if self.does_without && !is_busy(&error) => {
                    self.unrecorded(&error);
                    return Ok(locks);
                }
                Err(error) if is_busy(&error) => return Err(error),
                Err(error) => return Err(refused(&error)),
            }
        }
        // From here on nobody else comes to hold one of them.
        match store.listing() {
            Ok(listing) => drop(self.listing.replace(listing)),
            Err(error) if self.does_without => self.unrecorded(&error),
            Err(error) => return Err(refused(&error)),
        }
        Ok(locks)
    }

    /// Makes the record of one that is about to be frozen, and tells the guard.
    ///
    /// # Errors
    ///
    /// As [`Recorder::new`].
    pub(super) fn keep(&self, target: &str, container: &Container, standing: &Saved) -> Result<()> {
        let (others, left) = self.others(standing);
        let others = if standing.requested {
            others
        } else {
            self.end_stale(target, others)
        };
        let is_theirs = standing.requested && others.is_empty() && left.is_empty();
        // One that is not told yet may be taken back.
        let is_kept = others
            .iter()
            .any(|other| other.record.kind == Kind::Freeze && !other.is_pending);
        if self.kind == Kind::Freeze && (is_theirs || is_kept) {
            return Ok(()); // it is frozen already, and stays so
        }
        let mut base = standing.clone();
        let mut all = others.iter().chain(&left);
        base.requested &= all.all(|other| other.record.standing.requested);
        if standing.requested {
            self.note(target, &others, &left);
        }
        let now = boottime_us();
        let identity = &container.identity;
        let lasting = self
            .lasting
            .map(|lasting| u64::try_from(lasting.as_micros()).unwrap_or(u64::MAX));
        let record = HoldRecord {
            schema: SCHEMA,
            kind: self.kind,
            target: target.to_owned(),
            id: identity.id.clone(),
            name: identity.name.clone(),
            runtime: identity.runtime,
            standing: base,
            boot: self.boot.clone(),
            since_us: now,
            until_us: lasting.map(|us| now.saturating_add(us)),
            owners: self.owners.clone(),
            command: self.command.clone(),
            filesystems: self.filesystems.clone(),
        };
        let entry = match self.store.as_ref().map(|store| store.add(&record)) {
            Some(Err(error)) if self.does_without => {
                self.unrecorded(&error);
                None
            }
            Some(Err(error)) => return Err(refused(&error)),
            Some(Ok(entry)) => Some(entry),
            None => None,
        };
        let told = match self.kind {
            Kind::Freeze => Ok(()),
            Kind::Lease | Kind::Hold => self.context.guard()?.keep(&record, entry.as_ref()),
        };
        let is_lease = |other: &RecordFile| other.record.kind == Kind::Lease && self.kind == Kind::Lease;
        let kept = Kept {
            record,
            entry,
            instead_of: others.into_iter().filter(is_lease).chain(left).collect(),
            is_stuck: false,
        };
        self.kept.borrow_mut().push((container.freeze_point().id(), kept));
        told
    }

    /// Ends those that were told to stand on a cgroup that nothing asks to freeze: who thawed it needed no record, as an
    /// engine does, and ended them. They would keep the last one out from thawing. Those that are left.
    fn end_stale(&self, target: &str, others: Vec<RecordFile>) -> Vec<RecordFile> {
        let (pending, stale): (Vec<RecordFile>, Vec<RecordFile>) =
            others.into_iter().partition(|other| other.is_pending);
        for (store, other) in self
            .store
            .iter()
            .flat_map(|store| stale.iter().map(move |other| (store, other)))
        {
            // What can't be removed is on a file system where no record could be made either.
            if store.remove(other).is_ok_and(|found| found) && other.record.kind != Kind::Freeze {
                let (target, other) = (text::escaped(target), text::escaped(&described(other)));
                self.context.err(format!(
                    "iceaxe: note: {target} was thawed meanwhile, which ended {other}\n"
                ));
            }
        }
        pending
    }

    /// Who else holds that cgroup, as the records have it, and what was left behind on it.
    fn others(&self, standing: &Saved) -> (Vec<RecordFile>, Vec<RecordFile>) {
        let Some(store) = &self.store else {
            return (Vec::new(), Vec::new());
        };
        let now = boottime_us();
        let (mut others, mut left) = (Vec::new(), Vec::new());
        for entry in store.on_in(&self.listing.borrow(), &[standing.id]) {
            match store.fate(&entry, self.context.host, &self.boot, now) {
                Fate::Stands | Fate::Unguarded => others.push(entry),
                Fate::Over => left.push(entry),
                Fate::Past => {}
            }
        }
        (others, left)
    }

    /// Says what becomes of one that is frozen already.
    fn note(&self, target: &str, others: &[RecordFile], left: &[RecordFile]) {
        let target = text::escaped(target);
        let lasting = others.iter().find(|other| other.record.kind != Kind::Lease);
        let note = match (self.kind, lasting) {
            (_, None) if let Some(left) = left.first() => {
                let left = text::escaped(&described(left));
                format!("{target} was left frozen by {left}, which this takes the place of")
            }
            (Kind::Freeze, _) => return,
            (kind, Some(other)) => {
                let other = text::escaped(&described(other));
                let stays = match kind {
                    Kind::Lease => "at the end of this lease it stays frozen until that is over too",
                    _ => "at the end of this hold it stays frozen until that is over too",
                };
                format!("{target} is held by {other} too: {stays}")
            }
            (Kind::Lease, None) if others.is_empty() => {
                format!(
                    "{target} was frozen before, by others than iceaxe, and stays so at the end of this lease"
                )
            }
            (_, None) if others.is_empty() => format!("{target} was frozen before, and stays so"),
            (_, None) => return, // a lease is renewed
        };
        self.context.err(format!("iceaxe: note: {note}\n"));
    }

    /// Takes back the freeze of one that nobody was told of; what it asked for before is in `before`.
    ///
    /// # Errors
    ///
    /// It may be frozen: it stays on record.
    pub(super) fn take_back(&self, container: &Container, before: &Saved) -> Result<()> {
        let id = container.freeze_point().id();
        if !self.kept.borrow().iter().any(|(other, _)| *other == id) {
            return engine::put_back(self.context.host, before); // it is on no record
        }
        self.drop_one(id);
        match self.kept.borrow().iter().any(|(other, _)| *other == id) {
            true => Err(Error::Unsupported("it did not stay thawed".to_owned())),
            false => Ok(()),
        }
    }

    /// Takes away the record of one that is not frozen.
    pub(super) fn drop(&self, container: &Container) {
        self.drop_one(container.freeze_point().id());
    }

    /// One that asks for a freeze still is left as a holder leaves it: another one may have counted on this one meanwhile,
    /// and gone.
    fn drop_one(&self, id: CgroupId) {
        let mut all = self.kept.borrow_mut();
        let Some(at) = all.iter().position(|(other, _)| *other == id) else {
            return;
        };
        let (_, mut kept) = all.remove(at);
        std::mem::drop(all);
        let host = self.context.host;
        if !kept.record.standing.requested && engine::still_asks(host, &kept.record.standing) {
            let leaving = [Release {
                record: &kept.record,
                container: None,
                entry: kept.entry.as_ref(),
            }];
            let store = self.store.as_ref();
            let reports = hold::release_all(host, store, &leaving, Patience::of(PROOF), &mut |_, _, _| {});
            if reports.iter().any(hold::may_be_frozen) {
                kept.is_stuck = true;
                self.kept.borrow_mut().insert(at, (id, kept));
            }
            return;
        }
        if let (Some(entry), Some(store)) = (&kept.entry, &self.store)
            && let Err(error) = store.remove(entry)
        {
            self.context
                .err(format!("iceaxe: note: a record is left over: {error}\n"));
        }
    }

    /// Takes away all of those that were put back. Without a word more the guard tries what could not be.
    pub(super) fn drop_all(&self) {
        let kept = self.kept.borrow();
        let put_back = kept.iter().filter(|(_, kept)| !kept.is_stuck);
        let all: Vec<CgroupId> = put_back.map(|(id, _)| *id).collect();
        std::mem::drop(kept);
        all.into_iter().for_each(|id| self.drop_one(id));
        self.dismiss_if_done();
    }

    /// Takes away the records of all that are not frozen.
    pub(super) fn sort_out(&self, containers: &[(&str, &Container)], reports: &[Report]) {
        for ((_, container), report) in containers.iter().zip(reports) {
            match report.outcome {
                outcome if outcome.exit() == 0 => {}
                Outcome::Stuck => {
                    let id = container.freeze_point().id();
                    let mut all = self.kept.borrow_mut();
                    let stuck = all.iter_mut().filter(|(other, _)| *other == id);
                    stuck.for_each(|(_, kept)| kept.is_stuck = true);
                }
                _ => self.drop(container),
            }
        }
        self.dismiss_if_done();
    }

    fn dismiss_if_done(&self) {
        if self.kept.borrow().is_empty() {
            self.dismiss();
        }
    }

    /// Tells the guard that what is to be frozen is. From then on it keeps the limit, whomever this process waits for.
    pub(super) fn frozen(&self) {
        // Of a plain freeze there is none, and no limit.
        if let (Kind::Lease | Kind::Hold, Ok(guard)) = (self.kind, self.context.guard()) {
            guard.frozen();
        }
    }

    /// How long the first of them may be frozen still; `None` where there is no limit.
    pub(super) fn left(&self) -> Option<Duration> {
        let kept = self.kept.borrow();
        let until = kept.iter().filter_map(|(_, kept)| kept.record.until_us).min()?;
        Some(Duration::from_micros(until.saturating_sub(boottime_us())))
    }

    /// Says that all is frozen and told. What was ended meanwhile is let go, and said.
    ///
    /// # Errors
    ///
    /// The guard is gone.
    pub(super) fn settle(&self) -> Result<()> {
        let mut kept = self.kept.borrow_mut();
        let mut ended = Vec::new();
        for (id, kept) in kept.iter_mut().filter(|(_, kept)| !kept.is_stuck) {
            let mut is_gone = false;
            if let (Some(store), Some(entry)) = (&self.store, &mut kept.entry)
                && store.settle(entry).is_err()
            {
                // Where nothing can be renamed it stays as it is, which is as good while this process lives.
                is_gone = store.again(entry).is_ok_and(|now| now.is_none());
            }
            // Asked after that: a thaw that comes later takes the record away itself.
            if is_gone || !engine::still_asks(self.context.host, &kept.record.standing) {
                ended.push((*id, kept.record.target.clone()));
                kept.entry = kept.entry.take().filter(|_| !is_gone);
                continue;
            }
            for other in &kept.instead_of {
                let store = self.store.as_ref();
                // Its guard, or recover, ends it at its time: it is not the last one.
                store.inspect(|store| std::mem::drop(store.remove(other)));
            }
        }
        std::mem::drop(kept);
        for (id, target) in ended {
            self.drop_one(id);
            let target = text::escaped(&target);
            self.context
                .err(format!("iceaxe: note: {target} was thawed meanwhile\n"));
        }
        let kept = self.kept.borrow();
        // Where none is frozen as it was asked for the guard tries at once to thaw what may be.
        if self.kind == Kind::Lease && kept.iter().any(|(_, kept)| !kept.is_stuck) {
            self.context.guard()?.commit()?;
        }
        std::mem::drop(kept);
        self.dismiss_if_done();
        if let Some(store) = &self.store {
            let _ = store.prune(self.context.host); // the next one does
        }
        Ok(())
    }

    /// Lets go of one that somebody else has thawed.
    pub(super) fn let_go(&self, entry: Option<&RecordFile>) {
        if let (Some(store), Some(entry)) = (&self.store, entry)
            && let Err(error) = store.remove(entry)
        {
            self.context
                .err(format!("iceaxe: note: a record is left over: {error}\n"));
        }
    }

    /// Makes the record of a file system that is about to be frozen. `None` where none can be made and that was said to be
    /// good enough.
    ///
    /// # Errors
    ///
    /// As [`Recorder::new`].
    pub(super) fn keep_filesystem(&self, filesystem: &Filesystem) -> Result<Option<DiskRecordFile>> {
        let kept = self.kept.borrow();
        let disk = Disk {
            schema: SCHEMA,
            path: filesystem.path().to_owned(),
            filesystem: filesystem.id().clone(),
            boot: self.boot.clone(),
            until_us: kept.iter().filter_map(|(_, kept)| kept.record.until_us).min(),
            owners: self.owners.clone(),
        };
        match self.store.as_ref().map(|store| store.add_disk(&disk)) {
            Some(Err(error)) if self.does_without => {
                self.unrecorded(&error);
                Ok(None)
            }
            Some(Err(error)) => Err(refused(&error)),
            Some(Ok(entry)) => Ok(Some(entry)),
            None => Ok(None),
        }
    }

    /// Takes away the record of a file system that is not frozen.
    pub(super) fn drop_filesystem(&self, entry: Option<&DiskRecordFile>) {
        if let (Some(store), Some(entry)) = (&self.store, entry)
            && let Err(error) = store.remove_disk(entry)
        {
            self.context
                .err(format!("iceaxe: note: a record is left over: {error}\n"));
        }
    }

    /// Lets the guard go, unless something may be frozen: it tries to thaw that.
    pub(super) fn dismiss_unless(&self, is_left: bool) {
        if !is_left && !self.kept.borrow().iter().any(|(_, kept)| kept.is_stuck) {
            self.dismiss();
        }
    }

    fn dismiss(&self) {
        if let Ok(guard) = self.context.guard() {
            guard.dismiss();
        }
    }

    /// What is answered for, in the order of the freeze.
    pub(super) fn records(&self) -> Vec<(CgroupId, HoldRecord, Option<RecordFile>)> {
        let kept = self.kept.borrow();
        let each = kept
            .iter()
            .filter(|(_, kept)| !kept.is_stuck)
            .map(|(id, kept)| (*id, kept.record.clone(), kept.entry.clone()));
        each.collect()
    }

    /// The records.
    pub(super) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }
}

/// Whether somebody else changes the container.
pub(super) fn is_busy(error: &Error) -> bool {
    matches!(error, Error::Io { cause, .. } if cause.kind() == std::io::ErrorKind::ResourceBusy)
}

fn refused(error: &Error) -> Error {
    Error::Unsupported(format!(
        "no record of it can be kept, by which iceaxe recover finds it: {error} (--no-record does without)"
    ))
}

/// What was on record when a thaw was done.
pub(super) struct Ended {
    store: Store,
    listing: Listing,
    boot: String,
    now_us: u64,
}

impl Ended {
    /// Looks; `None` where there is nothing. What can't be read holds up no thaw: recover finds it.
    pub(super) fn look(context: &Context<'_>) -> Option<Self> {
        let store = Store::open(context.host).ok()??;
        let listing = store.listing().ok()?;
        Some(Self {
            store,
            listing,
            boot: boot(context.host),
            now_us: boottime_us(),
        })
    }

    /// Says what a thaw would end.
    pub(super) fn plan(&self, container: &Container, report: &mut Report) {
        let ids: Vec<_> = container.own.iter().map(Cgroup::id).collect();
        let entries = self.store.on_in(&self.listing, &ids);
        let current = entries.iter().filter(|entry| entry.record.boot == self.boot);
        report
            .hints
            .extend(current.filter_map(|entry| broken_off("this would have", entry)));
    }

    /// Takes away what a thaw has ended, after its verdict; says what that was.
    pub(super) fn end(&self, container: &Container, report: &mut Report) {
        let ids: Vec<_> = container.own.iter().map(Cgroup::id).collect();
        for entry in self.store.on_in(&self.listing, &ids) {
            let record = &entry.record;
            // Its freeze was done before it was listed. If that is asked for no more, the thaw has ended it; else it is of a
            // freeze that came later.
            let mut at = container.own.iter().filter(|own| own.id() == record.standing.id);
            let is_asked = |own: &Cgroup| match own.requested() {
                Err(Error::Gone(_)) => false,   // which ends it too
                asked => asked.unwrap_or(true), // it can't be told: who looks for what was left finds it
            };
            if record.boot == self.boot && at.any(is_asked) {
                continue;
            }
            let is_ended = self.store.remove_settled(&entry).is_ok_and(|found| found);
            if !is_ended || record.boot != self.boot {
                continue;
            }
            if !record.standing.requested && report.verb == Verb::Thaw {
                let age = entry.age_us(self.now_us);
                report.frozen_for_us = Some(report.frozen_for_us.map_or(age, |other| other.max(age)));
            }
            report.hints.extend(broken_off("this has", &entry));
        }
    }
}

/// What a thaw does to who holds it.
fn broken_off(what: &str, entry: &RecordFile) -> Option<String> {
    let holder = described(entry);
    match entry.record.kind {
        Kind::Freeze => None,
        Kind::Lease => Some(format!("{what} ended {holder}")),
        Kind::Hold => Some(format!(
            "{what} broken off {holder}: its command goes on over what runs, and the hold ends with 122"
        )),
    }
}

/// Takes away the records of a process whose work was put back. What can't be read or removed stays on record, which thaws
/// nothing: recover finds it over.
pub(super) fn forget(host: &crate::host::Host, of: Process, standing: &Saved) {
    let Ok(Some(store)) = Store::open(host) else {
        return;
    };
    let Ok(entries) = store.on(&[standing.id]) else {
        return;
    };
    for entry in entries.iter().filter(|entry| entry.record.owners.contains(&of)) {
        let _ = store.remove(entry); // it stays on record, as said
    }
}

/// Whether another one than this process holds it too.
pub(super) fn is_held_by_others(host: &crate::host::Host, of: Process, standing: &Saved) -> bool {
    let Ok(Some(store)) = Store::open(host) else {
        return false;
    };
    let Ok(entries) = store.on(&[standing.id]) else {
        return false;
    };
    let (boot, now) = (boot(host), boottime_us());
    entries.iter().any(|entry| {
        !entry.record.owners.contains(&of)
            && matches!(
                store.fate(entry, host, &boot, now),
                Fate::Stands | Fate::Unguarded
            )
    })
}

/// Whether what a process had on record was ended. What can't be read was not.
pub(super) fn is_ended(host: &crate::host::Host, of: Process, standing: &Saved) -> bool {
    let Ok(Some(store)) = Store::open(host) else {
        return false;
    };
    let Ok(entries) = store.on(&[standing.id]) else {
        return false;
    };
    let mut owners = entries.iter().flat_map(|entry| &entry.record.owners);
    !owners.any(|owner| *owner == of)
}

/// What the next iceaxe says of what was left behind.
pub(super) fn left_behind(context: &Context<'_>, holders: &Holders) {
    for (entry, fate) in holders.left_behind() {
        let what = match fate {
            Fate::Unguarded => "has lost its guard",
            _ => "was left behind by a process that was killed",
        };
        let target = text::escaped(&entry.record.target);
        let holder = text::escaped(&described(entry));
        context.err(format!(
            "iceaxe: note: {target}: {holder} {what}: iceaxe recover sees to it\n"
        ));
    }
    // A record of a file system that can't be read is left out here: `recover` says so, and keeps it.
    let disks = Store::open(context.host)
        .ok()
        .flatten()
        .and_then(|store| store.disks().ok());
    let (boot, now) = (boot(context.host), boottime_us());
    let is_left = |entry: &DiskRecordFile| entry.fate(context.host, &boot, now) == Fate::Over;
    for entry in disks.unwrap_or_default().0.into_iter().filter(is_left) {
        let path = text::escaped(&entry.disk.path.display().to_string());
        context.err(format!(
            "iceaxe: note: the file system of {path} was left frozen: iceaxe recover sees to it\n"
        ));
    }
}
