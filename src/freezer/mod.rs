//! Writes freeze requests to cgroups, remembers what stood before, and looks whether the kernel calls them settled.
//! It knows control files and not tasks: what the tasks do is the verifier's to say.

pub mod settle;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize, Serializer};

use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Error, Result};
use crate::host::Hierarchy;
use settle::{Look, Notices};

/// One write to a control file, so that it can be repeated by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The control file.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// What was written to it.
    pub value: String,
}

/// What a cgroup asked for before it was changed: a value that can be kept, written down and put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The hierarchy.
    pub hierarchy: Hierarchy,
    /// The path in it.
    #[serde(with = "exact")]
    pub path: PathBuf,
    /// Which cgroup had that path; another one under the same path is left alone.
    pub id: CgroupId,
    /// Whether it asked for a freeze.
    pub requested: bool,
    /// What else held it, or a part of it, frozen then, each in the form of a target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_by: Vec<String>,
}

impl Saved {
    /// What `cgroup` asks for now. What else holds it is not looked for.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::requested`].
    pub fn of(cgroup: &Cgroup) -> Result<Self> {
        Ok(Self {
            hierarchy: cgroup.hierarchy(),
            path: cgroup.path().to_owned(),
            id: cgroup.id(),
            requested: cgroup.requested()?,
            held_by: Vec::new(),
        })
    }

    /// Makes `cgroup` ask for what it asked for then, and checks that it does. A cgroup that is gone asks for nothing
    /// and holds nobody.
    ///
    /// # Errors
    ///
    /// The write failed, or the cgroup still asks for the other thing: it may be frozen.
    pub fn put_back(&self, cgroup: &Cgroup) -> Result<Option<Write>> {
        let put = || {
            if cgroup.id() != self.id {
                return Err(Error::Gone(cgroup.dir().to_owned()));
            }
            if cgroup.requested()? == self.requested {
                return Ok(None);
            }
            let write = request(cgroup, self.wanted())?;
            if cgroup.requested()? != self.requested {
                return Err(Error::Io {
                    act: format!("wrote {} but it did not stay in", write.value),
                    path: write.file,
                    cause: std::io::Error::other("somebody else writes it too"),
                });
            }
            Ok(Some(write))
        };
        match put() {
            Err(Error::Gone(_)) => Ok(None),
            other => other,
        }
    }

    fn wanted(&self) -> Wanted {
        if self.requested {
            Wanted::Frozen
        } else {
            Wanted::Thawed
        }
    }
}

/// Serializes a path for a reader: JSON has no other bytes than UTF-8, so that those are replaced.
pub(crate) fn shown<S: Serializer>(path: &Path, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Serializes a path so that it comes back as it was: as text, or as bytes where it is none.
pub(crate) mod exact {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Serialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(crate) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match path.to_str() {
            Some(text) => Form::Text(text.to_owned()),
            None => Form::Bytes(path.as_os_str().as_bytes().to_vec()),
        };
        form.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => PathBuf::from(text),
            Form::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        })
    }
}

/// The two things that can be asked of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Frozen,
    Thawed,
}

/// The write that asks for a freeze, not done yet.
#[must_use]
pub fn freeze_write(cgroup: &Cgroup) -> Write {
    write_for(cgroup, Wanted::Frozen)
}

/// The write that ends a cgroup's own request, not done yet.
#[must_use]
pub fn thaw_write(cgroup: &Cgroup) -> Write {
    write_for(cgroup, Wanted::Thawed)
}

/// Asks for a freeze of `cgroup` and all below it. Returns when the request stands, not when it is met.
///
/// # Errors
///
/// The write failed; what was requested before still is.
pub fn freeze(cgroup: &Cgroup) -> Result<Write> {
    request(cgroup, Wanted::Frozen)
}

/// Ends the request of `cgroup`. On v1 writing it again also frees a task that the kernel forgot in the refrigerator
/// (`__thaw_task()` on each task, kernel/cgroup/legacy_freezer.c); on v2 the same value again does nothing.
///
/// # Errors
///
/// The write failed; what was requested before still is.
pub fn thaw(cgroup: &Cgroup) -> Result<Write> {
    request(cgroup, Wanted::Thawed)
}

fn request(cgroup: &Cgroup, wanted: Wanted) -> Result<Write> {
    let (name, value) = file_and_value(cgroup.hierarchy(), wanted);
    cgroup.write(name, value)?;
    Ok(write_for(cgroup, wanted))
}

fn write_for(cgroup: &Cgroup, wanted: Wanted) -> Write {
    let (name, value) = file_and_value(cgroup.hierarchy(), wanted);
    Write {
        file: cgroup.file(name),
        value: value.to_owned(),
    }
}

fn file_and_value(hierarchy: Hierarchy, wanted: Wanted) -> (&'static str, &'static str) {
    match (hierarchy, wanted) {
        (Hierarchy::V1, Wanted::Frozen) => ("freezer.state", "FROZEN"),
        (Hierarchy::V1, Wanted::Thawed) => ("freezer.state", "THAWED"),
        (Hierarchy::V2, Wanted::Frozen) => ("cgroup.freeze", "1"),
        (Hierarchy::V2, Wanted::Thawed) => ("cgroup.freeze", "0"),
    }
}

/// Watches one cgroup until the kernel calls it frozen.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    file: OwnedFd,
    notices: Notices,
}

impl Watch {
    /// Opens the file that says so: v1 `freezer.state`, whose reading makes the kernel look at the tasks
    /// (`update_if_frozen()`), v2 `cgroup.events`. Through the same descriptor it is read and waited on, else the
    /// kernel reports a change that was read already.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::open_file`].
    pub fn on(cgroup: &Cgroup) -> Result<Self> {
        let (name, notices) = match cgroup.hierarchy() {
            Hierarchy::V1 => ("freezer.state", Notices::None),
            Hierarchy::V2 => ("cgroup.events", Notices::Sent),
        };
        Ok(Self {
            path: cgroup.file(name),
            file: cgroup.open_file(name)?,
            notices,
        })
    }

    /// Whether changes are reported.
    #[must_use]
    pub fn notices(&self) -> Notices {
        self.notices
    }

    /// What to wait on.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks once.
    ///
    /// # Errors
    ///
    /// What the kernel says, but for a cgroup that was removed.
    pub fn look(&self) -> std::result::Result<Look, Errno> {
        let mut buffer = [0; 256];
        loop {
            match nix::sys::uio::pread(&self.file, &mut buffer, 0) {
                Ok(count) => return Ok(read_look(&String::from_utf8_lossy(&buffer[..count]))),
                Err(Errno::ENODEV) => return Ok(Look::Gone),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Reads either file's text.
fn read_look(text: &str) -> Look {
    if text.trim() == "FROZEN" || text.lines().any(|line| line == "frozen 1") {
        Look::Settled
    } else if matches!(text.trim(), "FREEZING" | "THAWED") || text.lines().any(|line| line == "frozen 0") {
        Look::Unsettled
    } else {
        Look::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_request_is_kept_whatever_its_path_is_called() {
        use std::os::unix::ffi::OsStrExt;
        for name in [&b"/web"[..], b"/m\\x2dn \xff.scope"] {
            let standing = Saved {
                hierarchy: Hierarchy::V2,
                path: PathBuf::from(std::ffi::OsStr::from_bytes(name)),
                id: CgroupId { device: 1, inode: 2 },
                requested: false,
                held_by: vec!["v2:/".to_owned()],
            };
            let text = serde_json::to_string(&standing).unwrap();
            assert_eq!(serde_json::from_str::<Saved>(&text).unwrap(), standing, "{text}");
        }
    }

    #[test]
    fn only_the_kernels_own_words_count_as_settled() {
        for (text, look) in [
            ("FROZEN\n", Look::Settled),
            ("FREEZING\n", Look::Unsettled),
            ("THAWED\n", Look::Unsettled),
            ("populated 1\nfrozen 1\n", Look::Settled),
            ("populated 1\nfrozen 0\n", Look::Unsettled),
            ("populated 1\nfrozen 10\n", Look::Failed),
            ("UNFROZEN\n", Look::Failed),
            ("", Look::Failed),
        ] {
            assert_eq!(read_look(text), look, "{text:?}");
        }
    }
}
