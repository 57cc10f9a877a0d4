//! What is frozen on whose behalf: a file for each holder of each cgroup in `/run/iceaxe`, and a lock that covers a
//! change. A thaw needs none of it: it only takes away what it has ended.
//!
//! One file per holder, so that taking one away needs no room on a full disk, and what is half done is told by the
//! file's name, which a rename changes at once.

mod disk;
mod lock;
mod record;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupId;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::resolver::state::StateDir;

pub use disk::{Disk, DiskRecordFile};
pub use lock::Lock;
pub use record::{EARLY_US, Fate, HoldRecord, Kind, Process, SCHEMA, boot, boottime_us};

/// Where it is, as the host's own programs say it. A tmpfs: it is empty after a boot, as is the kernel's freezer.
const PLACE: &str = "/run/iceaxe";
/// What the name of one that is not settled ends in.
const PENDING: &str = ".pending";
/// What the name of one that is being written begins with.
const DRAFT: char = '.';

/// The directory with the records.
#[derive(Debug)]
pub struct Store {
    dir: StateDir,
    fd: OwnedFd,
    lock: lock::File,
}

/// The names of the records at one time, in their order.
#[derive(Debug, Default)]
pub struct Listing(Vec<String>);

/// A record on file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFile {
    name: String,
    /// What it says.
    pub record: HoldRecord,
    /// Whether its freeze was not told to be confirmed yet.
    pub is_pending: bool,
}

impl RecordFile {
    /// Whether the two are one record, settled or not.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.name.trim_end_matches(PENDING) == other.name.trim_end_matches(PENDING)
    }
}

impl Store {
    /// Opens it to read; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It can't be opened, or others may write to it.
    pub fn open(host: &Host) -> Result<Option<Self>> {
        match StateDir::open(&host.path(PLACE))? {
            Some(dir) => Self::of(dir).map(Some),
            None => Ok(None),
        }
    }

    /// Opens it to write; it is made where there is none.
    ///
    /// # Errors
    ///
    /// It can't be made or opened, or others may write to it.
    pub fn make(host: &Host) -> Result<Self> {
        let parent = Path::new(PLACE).parent().unwrap_or(Path::new("/"));
        let run = host.open_dir_inside(parent)?;
        let path = host.path(PLACE);
        match mkdirat(&run, "iceaxe", Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::io("make", &path, errno.into())),
        }
        match StateDir::open(&path)? {
            Some(dir) => Self::of(dir),
            None => Err(Error::io("open", &path, Errno::ENOENT.into())),
        }
    }

    fn of(dir: StateDir) -> Result<Self> {
        let fd = crate::host::open_dir(dir.path())?;
        let stat = fstat(&fd).map_err(|errno| Error::io("stat", dir.path(), errno.into()))?;
        let is_others = stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw();
        if is_others || stat.st_mode & 0o022 != 0 {
            return Err(Error::Unsupported(format!(
                "{} is not root's alone, and is not believed",
                dir.path().display()
            )));
        }
        Ok(Self {
            dir,
            fd,
            lock: lock::File::default(),
        })
    }

    /// Every record, and what is there and can't be understood.
    ///
    /// # Errors
    ///
    /// It can't be listed.
    pub fn entries(&self) -> Result<(Vec<RecordFile>, Vec<String>)> {
        let mut entries = Vec::new();
        let mut odd = Vec::new();
        for name in self.names()? {
            match self.entry(&name) {
                Ok(entry) => entries.extend(entry),
                Err(error) => odd.push(error.to_string()),
            }
        }
        Ok((entries, odd))
    }

    /// The records on one of these cgroups. What can't be understood is left out.
    ///
    /// # Errors
    ///
    /// It can't be listed.
    pub fn on(&self, ids: &[CgroupId]) -> Result<Vec<RecordFile>> {
        Ok(self.on_in(&self.listing()?, ids))
    }

    /// What is there now, for many questions.
    ///
    /// # Errors
    ///
    /// It can't be listed.
    pub fn listing(&self) -> Result<Listing> {
        self.names().map(Listing)
    }

    /// Those of a listing on one of these cgroups, as they are now. What can't be understood is left out.
    #[must_use]
    pub fn on_in(&self, listing: &Listing, ids: &[CgroupId]) -> Vec<RecordFile> {
        let names = ids.iter().flat_map(|id| {
            let prefix = prefix(id);
            let from = listing.0.partition_point(|name| *name < prefix);
            let on_it = listing.0[from..].iter();
            on_it.take_while(move |name| name.starts_with(&prefix))
        });
        let entries = names.filter_map(|name| self.entry(name).ok()?); // recover names it
        entries
            .filter(|entry| ids.contains(&entry.record.standing.id))
            .collect()
    }

    fn names(&self) -> Result<Vec<String>> {
        let names = self
            .dir
            .names()?
            .into_iter()
            .filter_map(|name| name.into_string().ok());
        let is_pledge = |name: &String| !name.starts_with(DRAFT) && !name.starts_with(disk::DISK);
        let mut names: Vec<String> = names.filter(is_pledge).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// One by its name, settled or not; `None` where it is gone.
    ///
    /// # Errors
    ///
    /// It can't be read or understood.
    fn entry(&self, name: &str) -> Result<Option<RecordFile>> {
        let settled = name.trim_end_matches(PENDING);
        // In this order: one that is settled between the two looks is seen by the second.
        for name in [format!("{settled}{PENDING}"), settled.to_owned()] {
            let record: Option<HoldRecord> = self.dir.json(&name)?;
            if let Some(record) = record {
                if record.schema != SCHEMA {
                    return Err(self.other_schema(&name, record.schema));
                }
                return Ok(Some(RecordFile {
                    is_pending: name.ends_with(PENDING),
                    name,
                    record,
                }));
            }
        }
        Ok(None)
    }

    fn other_schema(&self, name: &str, schema: u32) -> Error {
        let path = self.path(name);
        Error::Unsupported(format!(
            "{} has the schema {schema}, not {SCHEMA}",
            path.display()
        ))
    }

    /// The same record as it is now; `None` where somebody has ended it.
    ///
    /// # Errors
    ///
    /// It can't be read or understood.
    pub fn again(&self, entry: &RecordFile) -> Result<Option<RecordFile>> {
        self.entry(&entry.name)
    }

    /// What is to become of one, as of `now_us`. Who settles one and ends after it was read has not left it behind.
    #[must_use]
    pub fn fate(&self, entry: &RecordFile, host: &Host, boot: &str, now_us: u64) -> Fate {
        let fate = entry.fate(host, boot, now_us);
        if fate != Fate::Over || !entry.is_pending {
            return fate;
        }
        match self.again(entry) {
            Ok(Some(now)) if !now.is_pending => now.fate(host, boot, now_us),
            Ok(None) => Fate::Past,
            Ok(Some(_)) | Err(_) => fate, // who acts on it looks once more
        }
    }

    /// Puts one on file, not settled.
    ///
    /// # Errors
    ///
    /// The disk is full or read-only; nothing is left of it then.
    pub fn add(&self, record: &HoldRecord) -> Result<RecordFile> {
        let by = record.owners.first().copied().unwrap_or_default();
        let name = format!("{}{}-{}{PENDING}", prefix(&record.standing.id), by.pid, by.start);
        self.put(&name, record)?;
        Ok(RecordFile {
            name,
            record: record.clone(),
            is_pending: true,
        })
    }

    /// Puts a record there under a name that no other has.
    fn put(&self, name: &str, record: &impl Serialize) -> Result<()> {
        let failed = |cause| Error::io("write", &self.path(name), cause);
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let draft = format!("{DRAFT}{name}");
        let written = self
            .link(name, &text)
            .or_else(|_| self.draft(&draft, &text).and_then(|()| self.rename(&draft, name)));
        if let Err(error) = written {
            // It is no record under that name: what can't be taken away does no harm.
            let _ = unlinkat(&self.fd, draft.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(error);
        }
        Ok(())
    }

    /// Writes a record whole before it has a name: who is killed meanwhile leaves nothing. Not every file system can.
    fn link(&self, name: &str, text: &[u8]) -> Result<()> {
        let failed = |cause| Error::io("write", &self.path(name), cause);
        let flags = OFlag::O_WRONLY | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| failed(errno.into()))?;
        let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mut file = File::from(fd);
        file.write_all(text).map_err(failed)?;
        linkat(AT_FDCWD, own.as_str(), &self.fd, name, AtFlags::AT_SYMLINK_FOLLOW)
            .map_err(|errno| failed(errno.into()))
    }

    fn draft(&self, name: &str, text: &[u8]) -> Result<()> {
        let failed = |cause| Error::io("write", &self.path(name), cause);
        // One that was left there by a process of this number is no longer its own.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| failed(errno.into()))?;
        File::from(fd).write_all(text).map_err(failed)
    }

    /// Says of one that its freeze is told to be confirmed. That takes no room.
    ///
    /// # Errors
    ///
    /// It is gone, which says that somebody ended it; the file system is read-only.
    pub fn settle(&self, entry: &mut RecordFile) -> Result<()> {
        let settled = entry.name.trim_end_matches(PENDING).to_owned();
        self.rename(&entry.name, &settled)?;
        entry.name = settled;
        entry.is_pending = false;
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        renameat(&self.fd, from, &self.fd, to)
            .map_err(|errno| Error::io("rename", &self.path(from), errno.into()))
    }

    /// Takes one away; whether it was there. That takes no room, and no lock.
    ///
    /// # Errors
    ///
    /// The file system is read-only.
    pub fn remove(&self, entry: &RecordFile) -> Result<bool> {
        let settled = entry.name.trim_end_matches(PENDING);
        let mut found = false;
        // In this order: as in `entry`.
        for name in [format!("{settled}{PENDING}"), settled.to_owned()] {
            match unlinkat(&self.fd, name.as_str(), UnlinkatFlags::NoRemoveDir) {
                Ok(()) => found = true,
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Error::io("remove", &self.path(&name), errno.into())),
            }
        }
        Ok(found)
    }

    /// Takes away one that a thaw has ended, if it is as it was found: one that was pending may be of a freeze that only
    /// begins, and ends with that. Whether it was there.
    ///
    /// # Errors
    ///
    /// As [`Store::remove`].
    pub fn remove_settled(&self, entry: &RecordFile) -> Result<bool> {
        if entry.is_pending {
            return Ok(false);
        }
        match unlinkat(&self.fd, entry.name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Error::io("remove", &self.path(&entry.name), errno.into())),
        }
    }

    /// Takes away the records on cgroups that are gone, and those of another boot.
    ///
    /// # Errors
    ///
    /// It can't be listed.
    pub fn prune(&self, host: &Host) -> Result<()> {
        let boot = boot(host);
        for entry in self.entries()?.0 {
            if entry.record.boot != boot || entry.is_gone(host) {
                // Another one prunes too, or it can't be removed, which who needs room is told.
                let _ = self.remove(&entry);
            }
        }
        Ok(())
    }

    /// Takes away what a process that was killed had begun to write.
    ///
    /// # Errors
    ///
    /// It can't be listed.
    pub fn sweep(&self, is_alive: impl Fn(i32) -> bool) -> Result<()> {
        let drafts = self.dir.names()?.into_iter();
        for draft in drafts.filter(|name| writer(name).is_some_and(|pid| !is_alive(pid))) {
            // Another one sweeps too, or it can't be removed and does no harm.
            let _ = unlinkat(&self.fd, draft.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        Ok(())
    }

    /// Where one is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a record is on file.
    #[must_use]
    pub fn file(&self, entry: &RecordFile) -> PathBuf {
        self.path(&entry.name)
    }
}

/// Who was writing a draft.
fn writer(name: &OsString) -> Option<i32> {
    let name = std::str::from_utf8(name.as_bytes()).ok()?; // none of ours
    let (_, by) = name.strip_prefix(DRAFT)?.split_once('.')?;
    by.split_once('-')?.0.parse().ok() // as above
}

/// What the names of all records on a cgroup begin with.
fn prefix(id: &CgroupId) -> String {
    format!("{:x}-{:x}.", id.device, id.inode)
}
