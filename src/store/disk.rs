//! A file system that is frozen besides containers, a record each: who thaws the containers ends none of it.

use std::path::PathBuf;

use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::record::{Fate, LATE_US, Process, SCHEMA};
use super::{Kind, Store};
use crate::error::{Error, Result};
use crate::freezer::exact;
use crate::host::{FilesystemId, Host};

/// What the names of these records begin with: those of cgroups begin with a number.
pub(super) const DISK: &str = "filesystem-";

/// A file system that a hold has frozen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The path that was typed.
    #[serde(with = "exact")]
    pub path: PathBuf,
    /// Which file system that led to then.
    pub filesystem: FilesystemId,
    /// The boot that it was frozen in.
    pub boot: String,
    /// CLOCK_BOOTTIME in microseconds when its hold is over.
    pub until_us: Option<u64>,
    /// The processes that answer for it.
    pub owners: Vec<Process>,
}

/// A file system on file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecordFile {
    name: String,
    /// What it says.
    pub disk: Disk,
}

impl DiskRecordFile {
    /// What is to become of it, as of `now_us`: as of the hold that it belongs to.
    #[must_use]
    pub fn fate(&self, host: &Host, boot: &str, now_us: u64) -> Fate {
        let disk = &self.disk;
        if disk.boot != boot {
            return Fate::Past;
        }
        let latest = Kind::Hold.grace_us() + LATE_US;
        let is_overdue = disk
            .until_us
            .is_some_and(|until| now_us > until.saturating_add(latest));
        if !is_overdue && disk.owners.iter().any(|owner| owner.is_alive(host)) {
            Fate::Stands
        } else {
            Fate::Over
        }
    }
}

impl Store {
    /// Puts a file system on file that is about to be frozen.
    ///
    /// # Errors
    ///
    /// As [`Store::add`].
    pub fn add_disk(&self, disk: &Disk) -> Result<DiskRecordFile> {
        let by = disk.owners.first().copied().unwrap_or_default();
        let name = format!("{DISK}{}.{}-{}", disk.filesystem.device, by.pid, by.start);
        self.put(&name, disk)?;
        Ok(DiskRecordFile {
            name,
            disk: disk.clone(),
        })
    }

    /// Every file system on file, and what is there and can't be understood.
    ///
    /// # Errors
    ///
    /// It can't be listed.
    pub fn disks(&self) -> Result<(Vec<DiskRecordFile>, Vec<String>)> {
        let names = self.dir.names()?.into_iter();
        let names = names.filter_map(|name| name.into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(DISK)).collect();
        names.sort_unstable();
        let (mut disks, mut odd) = (Vec::new(), Vec::new());
        for name in names {
            match self.dir.json::<Disk>(&name) {
                Ok(Some(disk)) if disk.schema == SCHEMA => disks.push(DiskRecordFile { name, disk }),
                Ok(Some(disk)) => odd.push(self.other_schema(&name, disk.schema).to_string()),
                Ok(None) => {} // it was taken away just now
                Err(error) => odd.push(error.to_string()),
            }
        }
        Ok((disks, odd))
    }

    /// Takes away one that is thawed; one that is gone already was thawed by somebody else who answers for it.
    ///
    /// # Errors
    ///
    /// The file system of the records is read-only.
    pub fn remove_disk(&self, entry: &DiskRecordFile) -> Result<()> {
        match unlinkat(&self.fd, entry.name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::io("remove", &self.path(&entry.name), errno.into())),
        }
    }
}
