//! Reads state files of runtimes and engines. Among them are FIFOs, sockets, links and files of any size, written by
//! whoever: each is opened without waiting and without following, and must be a regular file of a sane size.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::host::{open_beneath, open_dir, read_whole};

/// The largest file that is read: runc's are 40 KB, and a podman store of 10,000 containers is 5 MB.
const LARGEST: u64 = 16 << 20;

/// So much is read of all that users' engines have in their stores: what is parsed takes about twice as much memory.
const OF_USERS: u64 = 32 << 20;
/// A file counts for so much at least, so that files without end come to an end: each takes some 10 µs to be opened.
const A_FILE: u64 = 1 << 10;
/// A name in a directory counts for so much besides its own length, which is about what it takes to keep it.
const A_NAME: u64 = 64;

/// Why no more is read of what has a budget.
pub(crate) const SPENT: &str = "more is not read of what users' engines keep; 32 MiB of it were read already";

/// How many bytes may still be read of sources that anybody can make as large as they like, and as many.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Self {
        Self::of(OF_USERS)
    }
}

impl Budget {
    pub(crate) fn of(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    /// Takes `bytes` of what is left; false where that is not enough.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let rest = |left: u64| left.checked_sub(bytes);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rest)
            .is_ok()
    }
}

/// An open directory with state files.
#[derive(Debug)]
pub(crate) struct StateDir {
    fd: OwnedFd,
    path: PathBuf,
}

/// What is read of a state file.
#[derive(Debug)]
pub(crate) struct StateFile {
    /// All of it.
    pub(crate) text: Vec<u8>,
    /// Whose it is.
    pub(crate) owner: u32,
    /// When it was written, in seconds since 1970.
    pub(crate) written: i64,
}

impl StateDir {
    /// Opens one by its path, which its administrator may have made a link; `None` where there is none.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        match open_dir(path) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: path.to_owned(),
            })),
            Err(Error::Io { cause, .. }) if is_absent(&cause) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a directory in it, following nothing; `None` where there is none.
    pub(crate) fn below(&self, name: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = self.path.join(&name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match open_beneath(self.fd.as_fd(), name.as_ref(), flags) {
            Ok(fd) => Ok(Some(Self { fd, path })),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(Error::io("open", &path, errno.into())),
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it.
    pub(crate) fn names(&self) -> Result<Vec<OsString>> {
        self.names_within(None)
    }

    /// The names in it, where `budget` has enough left for them.
    ///
    /// # Errors
    ///
    /// It can't be listed; the budget is used up.
    pub(crate) fn names_within(&self, budget: Option<&Budget>) -> Result<Vec<OsString>> {
        let failed = |errno: Errno| Error::io("list", &self.path, errno.into());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(failed)?;
        let mut names = Vec::new();
        for entry in dir.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.spend(budget, "".as_ref(), name.len() as u64 + A_NAME)?;
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Takes `bytes` of a budget, if there is one.
    fn spend(&self, budget: Option<&Budget>, name: &Path, bytes: u64) -> Result<()> {
        match budget.is_none_or(|budget| budget.take(bytes)) {
            true => Ok(()),
            false => Err(self.odd("read", name, SPENT)),
        }
    }

    /// Reads a file in it as JSON; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It is no regular file, too large, or not the JSON that was expected.
    pub(crate) fn json<T: DeserializeOwned>(&self, name: impl AsRef<Path>) -> Result<Option<T>> {
        self.json_within(name, None)
    }

    /// Reads a file in it as JSON where `budget` has enough left for it; `None` where there is none.
    ///
    /// # Errors
    ///
    /// As [`StateDir::json`]; the budget is used up.
    pub(crate) fn json_within<T: DeserializeOwned>(
        &self,
        name: impl AsRef<Path>,
        budget: Option<&Budget>,
    ) -> Result<Option<T>> {
        let read = self.read_within(&name, budget)?;
        read.map(|file| self.understood(name, &file.text)).transpose()
    }

    /// Reads an administrator's own file as JSON, which may be a link to where it is kept.
    ///
    /// # Errors
    ///
    /// As [`StateDir::json`].
    pub(crate) fn config<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let read = self.read_file(name.as_ref(), Links::Follow)?;
        read.map(|file| self.understood(name, &file.text)).transpose()
    }

    /// A text that was read of a file in it, as JSON.
    pub(crate) fn understood<T: DeserializeOwned>(&self, name: impl AsRef<Path>, text: &[u8]) -> Result<T> {
        serde_json::from_slice(text).map_err(|error| self.odd("understand", name.as_ref(), error.to_string()))
    }

    /// An error about what is in a file in it.
    pub(crate) fn odd(&self, act: &str, name: &Path, what: impl Into<String>) -> Error {
        Error::Io {
            act: act.to_owned(),
            path: self.path.join(name),
            cause: std::io::Error::new(std::io::ErrorKind::InvalidData, what.into()),
        }
    }

    /// Reads a file in it, or below it by a path without any link; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It is no regular file, or too large.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> Result<Option<StateFile>> {
        self.read_within(name, None)
    }

    /// Reads a file in it where `budget` has enough left for it; `None` where there is none.
    ///
    /// # Errors
    ///
    /// As [`StateDir::read`]; the budget is used up.
    pub(crate) fn read_within(
        &self,
        name: impl AsRef<Path>,
        budget: Option<&Budget>,
    ) -> Result<Option<StateFile>> {
        let name = name.as_ref();
        let Some((fd, stat)) = self.open_file(name, Links::Never)? else {
            return Ok(None);
        };
        let said = u64::try_from(stat.st_size).unwrap_or(u64::MAX).max(A_FILE);
        self.spend(budget, name, said)?;
        let file = self.read_opened(name, &fd, &stat)?;
        // A file system of the user's own says what it likes of a size.
        self.spend(budget, name, (file.text.len() as u64).saturating_sub(said))?;
        Ok(Some(file))
    }

    /// Reads an administrator's own file, which may be a link to where it is kept.
    ///
    /// # Errors
    ///
    /// As [`StateDir::read`].
    pub(crate) fn read_config(&self, name: &str) -> Result<Option<StateFile>> {
        self.read_file(name.as_ref(), Links::Follow)
    }

    /// Opens a file in it, or below it by a path without any link, to be read piece by piece; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It is no regular file.
    pub(crate) fn file(&self, name: impl AsRef<Path>) -> Result<Option<File>> {
        let opened = self.open_file(name.as_ref(), Links::Never)?;
        Ok(opened.map(|(fd, _)| File::from(fd)))
    }

    fn read_file(&self, name: &Path, links: Links) -> Result<Option<StateFile>> {
        match self.open_file(name, links)? {
            Some((fd, stat)) => self.read_opened(name, &fd, &stat).map(Some),
            None => Ok(None),
        }
    }

    fn read_opened(&self, name: &Path, fd: &OwnedFd, stat: &FileStat) -> Result<StateFile> {
        let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
        if size > LARGEST {
            return Err(self.odd("read", name, "it is larger than 16 MiB"));
        }
        let text = read_whole(fd, usize::try_from(size).ok(), LARGEST)
            .map_err(|cause| Error::io("read", &self.path.join(name), cause))?;
        if text.len() as u64 > LARGEST {
            return Err(self.odd("read", name, "it is larger than 16 MiB"));
        }
        Ok(StateFile {
            text,
            owner: stat.st_uid,
            written: stat.st_mtime,
        })
    }

    fn open_file(&self, name: &Path, links: Links) -> Result<Option<(OwnedFd, FileStat)>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let opened = match links {
            Links::Never => open_beneath(self.fd.as_fd(), name, flags),
            Links::Follow => openat(&self.fd, name, flags, Mode::empty()),
        };
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(Errno::ELOOP) => return Err(self.odd("read", name, "it is a symbolic link")),
            Err(errno) => return Err(Error::io("read", &self.path.join(name), errno.into())),
        };
        let stat = fstat(&fd).map_err(|errno| Error::io("stat", &self.path.join(name), errno.into()))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(self.odd("read", name, "it is no regular file"));
        }
        Ok(Some((fd, stat)))
    }
}

/// Whether symbolic links lead on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Follow,
    Never,
}

/// An administrator's own file of settings, which was read from `dir`.
///
/// # Errors
///
/// It is not the TOML that was expected.
pub(crate) fn toml<T: DeserializeOwned>(dir: &StateDir, name: &str, text: &[u8]) -> Result<T> {
    let odd = |what: String| dir.odd("understand", name.as_ref(), what);
    let text = std::str::from_utf8(text).map_err(|error| odd(error.to_string()))?;
    ::toml::from_str(text).map_err(|error| odd(error.message().to_owned()))
}

fn is_absent(cause: &std::io::Error) -> bool {
    matches!(cause.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn dir_with(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path());
        let state = StateDir::open(dir.path()).unwrap().unwrap();
        (dir, state)
    }

    fn read(state: &StateDir, name: &str) -> Result<Option<serde_json::Value>> {
        state.json(name)
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let (_dir, state) = dir_with(|dir| {
            nix::unistd::mkfifo(&dir.join("fifo"), Mode::S_IRWXU).unwrap();
            std::fs::write(dir.join("file"), "{\"a\":1}").unwrap();
            symlink(dir.join("file"), dir.join("link")).unwrap();
            std::fs::create_dir(dir.join("dir")).unwrap();
        });
        assert_eq!(read(&state, "file").unwrap().unwrap()["a"], 1);
        assert!(read(&state, "absent").unwrap().is_none());
        for name in ["fifo", "link", "dir"] {
            let text = read(&state, name).unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn torn_deep_and_huge_json_is_an_error_with_its_path() {
        let (_dir, state) = dir_with(|dir| {
            std::fs::write(dir.join("torn"), "{\"id\":\"8d96").unwrap();
            std::fs::write(dir.join("empty"), "").unwrap();
            std::fs::write(dir.join("deep"), "[".repeat(100_000)).unwrap();
            std::fs::File::create(dir.join("huge"))
                .unwrap()
                .set_len(20 << 20)
                .unwrap();
        });
        for name in ["torn", "empty", "deep", "huge"] {
            let text = read(&state, name).unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn a_link_is_followed_at_the_top_and_nowhere_below() {
        let (dir, _) = dir_with(|dir| {
            std::fs::create_dir_all(dir.join("real/web")).unwrap();
            symlink(dir.join("real"), dir.join("top")).unwrap();
            symlink(dir.join("real/web"), dir.join("real/link")).unwrap();
        });
        let top = StateDir::open(&dir.path().join("top")).unwrap().unwrap();
        assert!(top.below(OsStr::new("web")).unwrap().is_some());
        assert!(top.below(OsStr::new("link")).unwrap().is_none());
    }
}
