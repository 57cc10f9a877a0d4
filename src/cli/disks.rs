//! The file systems of a hold: flushed, frozen besides its containers, and thawed before anything else, by whoever is left.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::recorder::Recorder;
use super::text;
use crate::cli::context::{Context, number};
use crate::error::{Error, Result};
use crate::hold::guard;
use crate::host::{Filesystem, Host};
use crate::store::{DiskRecordFile, Store};
use crate::supervisor;

/// How long a file system may take to be flushed, frozen or thawed.
const DISK: Duration = Duration::from_secs(30);

/// The file systems that are flushed and frozen besides.
pub(super) struct Disks {
    sync: Vec<Filesystem>,
    freeze: Vec<Filesystem>,
    /// Where each of those is on file that are frozen, or may be: the first ones.
    entries: RefCell<Vec<Option<DiskRecordFile>>>,
}

impl Disks {
    pub(super) fn open(context: &Context<'_>, sync: &[PathBuf], fsfreeze: &[PathBuf]) -> Result<Self> {
        context.within(GRACE * number(sync.len() + fsfreeze.len() + 1));
        let open = |path: &PathBuf| Filesystem::open(context.host, path);
        let mut disks = Self {
            sync: sync.iter().map(open).collect::<Result<_>>()?,
            freeze: Vec::new(),
            entries: RefCell::default(),
        };
        for path in fsfreeze {
            let disk = open(path)?;
            check(context, &disk)?;
            // One that is named twice is frozen once.
            if !disks.freeze.iter().any(|other| other.is_same(&disk)) {
                disks.freeze.push(disk);
            }
        }
        Ok(disks)
    }

    /// Says what would be done.
    pub(super) fn plan(&self, context: &Context<'_>) {
        let sync = self.sync.iter().map(|disk| ("flush", disk));
        for (act, disk) in sync.chain(self.freeze.iter().map(|disk| ("freeze", disk))) {
            let path = text::escaped(&disk.path().display().to_string());
            context.err(format!("iceaxe: note: would {act} the file system of {path}\n"));
        }
    }

    /// Flushes, then freezes; 0 where all of it was done.
    pub(super) fn freeze(&self, context: &Context<'_>, recorder: &Recorder<'_>) -> u8 {
        let flush = |disk: &Filesystem| {
            context.within(DISK + GRACE);
            disk.sync(DISK)
        };
        let freeze = |(nth, disk): (usize, &Filesystem)| {
            context.within(DISK * 2 + GRACE);
            let guard = context.guard()?;
            let entry = recorder.keep_filesystem(disk)?;
            let done = match guard.keep_filesystem(disk, entry.clone()) {
                Ok(()) => disk.freeze(DISK),
                Err(error) => {
                    recorder.drop_filesystem(entry.as_ref());
                    return Err(error);
                }
            };
            if matches!(&done, Err(Error::Io { cause, .. }) if cause.raw_os_error().is_some()) {
                // The kernel said no: who had frozen it before thaws it. One that does not answer may be frozen later.
                guard.keep_filesystems(nth);
                recorder.drop_filesystem(entry.as_ref());
            } else {
                self.entries.borrow_mut().push(entry);
            }
            done
        };
        let done = self.sync.iter().try_for_each(flush);
        match done.and_then(|()| self.freeze.iter().enumerate().try_for_each(freeze)) {
            Ok(()) => 0,
            Err(error) => {
                context.err(format!("iceaxe: cannot hold: {error}\n"));
                1
            }
        }
    }

    /// Whether any of them is frozen, or may be.
    pub(super) fn is_frozen(&self) -> bool {
        !self.entries.borrow().is_empty()
    }

    /// Thaws those that were frozen, before anything else is; 0 where all are.
    pub(super) fn thaw(&self, context: &Context<'_>, recorder: &Recorder<'_>) -> u8 {
        let mut code = 0;
        for (disk, entry) in self.freeze.iter().zip(self.entries.borrow_mut().iter_mut()) {
            context.within(DISK + GRACE);
            match disk.thaw(DISK) {
                Ok(()) => recorder.drop_filesystem(entry.take().as_ref()),
                Err(error) => {
                    context.err(format!(
                        "iceaxe: {error}: it may be frozen: fsfreeze --unfreeze it\n"
                    ));
                    code = STUCK;
                }
            }
        }
        if let (Ok(guard), 0, false) = (context.guard(), code, self.freeze.is_empty()) {
            guard.keep_filesystems(0);
        }
        code
    }
}

/// Has the file systems of a hold whose worker died thawed. The guard has descriptors of them. Where it is dead too they are
/// found by their records, from another process: who is to do it may hang.
pub(super) fn thaw_alone(root: &Path, guard: Option<&guard::Line>) {
    if guard.is_some_and(|guard| guard.thaw_filesystems().is_ok()) {
        return;
    }
    let me = nix::unistd::getpid().as_raw();
    let work = || {
        // What can't be thawed here stays on record, for recover.
        let Ok(host) = Host::enter(root) else { return 1 };
        let Ok(Some(store)) = Store::open(&host) else {
            return 1;
        };
        let disks = store.disks().map(|(disks, _)| disks).unwrap_or_default();
        let is_mine = |entry: &DiskRecordFile| {
            let mut owners = entry.disk.owners.iter();
            owners.any(|owner| owner.pid == me && owner.is_alive(&host))
        };
        for entry in disks.iter().filter(|entry| is_mine(entry)) {
            let _ = thaw_on_record(&store, entry, DISK);
        }
        0
    };
    let _ = supervisor::apart(&[], work); // as above
}

/// Thaws a file system that is on record, through whatever mount of it there is, and takes the record away.
///
/// # Errors
///
/// It can't be reached, or not be thawed: it stays on record.
pub(super) fn thaw_on_record(store: &Store, entry: &DiskRecordFile, limit: Duration) -> Result<()> {
    Filesystem::find(&entry.disk.path, &entry.disk.filesystem)?.thaw(limit)?;
    store.remove_disk(entry)
}

/// Refuses to freeze what iceaxe, the guard or the host itself can't do without.
fn check(context: &Context<'_>, disk: &Filesystem) -> Result<()> {
    let mut ours = vec![
        (PathBuf::from("/"), "the root"),
        (context.host.path("/"), "the root"),
        (context.host.path("/run"), "the records"),
        (context.host.path("/run/iceaxe"), "the records"),
        (PathBuf::from("/proc/self/exe"), "iceaxe itself"),
    ];
    // This process has let go of its own.
    let streams = [
        "iceaxe's standard input",
        "iceaxe's standard output",
        "iceaxe's standard error",
    ];
    ours.extend(streams.into_iter().enumerate().map(|(fd, what)| {
        let stream = format!("/proc/{}/fd/{fd}", nix::unistd::getppid());
        (PathBuf::from(stream), what)
    }));
    for (path, what) in ours {
        // What can't be opened so is no file that is written to: a pipe or a terminal is on no disk.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let Ok(fd) = nix::fcntl::open(&path, flags, Mode::empty()) else {
            continue;
        };
        if disk.holds(&fd) {
            return Err(Error::Refused {
                rule: format!("the file system of {} is that of {what}", disk.path().display()),
                force: None,
            });
        }
    }
    Ok(())
}

/// How much longer a thaw may take until it is told.
pub(in crate::cli) const GRACE: Duration = Duration::from_secs(3);

/// The code of what may be frozen.
pub(in crate::cli) const STUCK: u8 = 7;
