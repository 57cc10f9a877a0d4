//! Opening and reading files that others made: following no link where none is wanted, and those of a host mounted
//! elsewhere as that host would.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::Host;
use crate::error::{Error, Result};

/// As many links as the kernel follows in one path (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: u32 = 40;

impl Host {
    /// An absolute path as the host's own programs say it, as it is reached from here: links on the way lead to where
    /// they lead for those, also absolute ones, and never out of the host's root.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        if self.root_fd.is_none() {
            return Path::new("/").join(path);
        }
        let mut place = PathBuf::new();
        let mut links = 0;
        let mut left = parts(path);
        while let Some(part) = left.pop() {
            if part == ".." {
                place.pop();
                continue;
            }
            // What is no link, is not there or may not be read stays as it is called; whoever opens it is told.
            match self.root.join(&place).join(&part).read_link() {
                Ok(target) if links < MOST_LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        place.clear();
                    }
                    left.extend(parts(&target));
                }
                _ => place.push(part),
            }
        }
        self.root.join(place)
    }

    /// Opens a directory by its absolute path as the host's own programs say it. No link leads out of the host's root,
    /// whoever changes one meanwhile.
    ///
    /// # Errors
    ///
    /// It is not there, or may not be opened.
    ///
    /// # Kernel
    ///
    /// `openat2()` with `RESOLVE_IN_ROOT`, since Linux 5.6.
    pub fn open_dir_inside(&self, path: &Path) -> Result<OwnedFd> {
        self.open_inside(path, OFlag::O_DIRECTORY)
    }

    /// The same, or a file, which is opened to be read and is not waited for.
    ///
    /// # Errors
    ///
    /// As [`Host::open_dir_inside`]; it is a pipe, a device or a socket.
    pub fn open_file_or_dir_inside(&self, path: &Path) -> Result<OwnedFd> {
        // A look first: to open a device can do something.
        let stat = fstat(&self.open_inside(path, OFlag::O_PATH)?)
            .map_err(|errno| Error::io("stat", path, errno.into()))?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFDIR | SFlag::S_IFREG => self.open_inside(path, OFlag::O_NONBLOCK | OFlag::O_NOCTTY),
            _ => Err(Error::Unsupported(format!(
                "{} is no file or directory of a file system that could be flushed or frozen",
                path.display()
            ))),
        }
    }

    fn open_inside(&self, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        let flags = flags | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let opened = |path: &Path| {
            open(path, flags, Mode::empty()).map_err(|errno| Error::io("open", path, errno.into()))
        };
        let Some(root) = &self.root_fd else {
            return opened(path);
        };
        let below = match path.strip_prefix("/") {
            Ok(below) if below.as_os_str().is_empty() => Path::new("."),
            Ok(below) => below,
            Err(_) => path,
        };
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        match openat2(root, below, how) {
            Ok(fd) => Ok(fd),
            // An older kernel, a filter of system calls that does not know it, or a rename on the way.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => opened(&self.inside(path)),
            Err(errno) => Err(Error::io("open", &self.root.join(below), errno.into())),
        }
    }
}

/// What most files below /proc fit into.
const PROC_FILE: usize = 1024;
/// A number and its end.
const NUMBER: usize = 64;

/// Reads a file to its end, or until it has more than `most` bytes. `size` is that of a regular file: what is read in one
/// piece of that size is all of it.
pub(crate) fn read_whole(fd: &OwnedFd, size: Option<usize>, most: u64) -> std::io::Result<Vec<u8>> {
    let mut text = vec![0; size.map_or(PROC_FILE, |size| size + 1)];
    let mut length = 0;
    loop {
        match nix::unistd::read(fd, &mut text[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if length as u64 > most || Some(length) == size {
            break;
        }
        if length == text.len() {
            text.resize(length * 2, 0);
        }
    }
    text.truncate(length);
    Ok(text)
}

/// Reads a file that the kernel makes as one piece, as it does with those of one process: a read that leaves room is the
/// last.
pub(crate) fn read_piece(fd: &OwnedFd) -> std::io::Result<Vec<u8>> {
    let mut text = vec![0; PROC_FILE];
    let mut length = 0;
    loop {
        match nix::unistd::read(fd, &mut text[length..]) {
            Ok(count) => length += count,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        if length < text.len() {
            text.truncate(length);
            return Ok(text);
        }
        text.resize(length * 2, 0);
    }
}

/// Reads a kernel file that is one number; `None` where it is not there, or says something else.
pub(crate) fn read_number(file: &Path) -> Option<u64> {
    let fd = open(file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?; // not there
    let mut text = [0; NUMBER];
    let count = nix::unistd::read(&fd, &mut text).ok()?; // it is gone
    std::str::from_utf8(&text[..count]).ok()?.trim().parse().ok() // something else
}

pub(crate) fn open_dir(dir: &Path) -> Result<OwnedFd> {
    open(
        dir,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| Error::io("open", dir, errno.into()))
}

/// Opens what is below a directory by a relative path, following no link on the way and leading nowhere else. Where the
/// kernel can do it in one call it does (`openat2`, since Linux 5.6); else, or where a container's system call filter
/// does not know it, name by name.
pub(crate) fn open_beneath(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
) -> std::result::Result<OwnedFd, Errno> {
    let path = or_itself(path);
    match openat2(dir, path, OpenHow::new().flags(flags).resolve(BENEATH)) {
        Err(Errno::ENOSYS | Errno::EPERM) => {}
        result => return result,
    }
    let mut parts = path.components().peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let name = match part {
            Component::Normal(name) => name,
            Component::CurDir => OsStr::new("."),
            _ => return Err(Errno::EXDEV), // as openat2 says of what leads out
        };
        let flags = match parts.peek() {
            Some(_) => OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            None => flags,
        };
        let from = at.as_ref().map_or(dir, AsFd::as_fd);
        at = Some(openat(from, name, flags | OFlag::O_NOFOLLOW, Mode::empty())?);
    }
    at.ok_or(Errno::ENOENT)
}

/// The same of what is on the mount of that directory: `EXDEV` where another one is on the way. There is no other way to
/// be sure of that than `openat2`: `ENOSYS` or `EPERM` where it can't be had.
pub(crate) fn open_on_mount(
    dir: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
) -> std::result::Result<OwnedFd, Errno> {
    let resolve = BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
    openat2(dir, or_itself(path), OpenHow::new().flags(flags).resolve(resolve))
}

const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS);

/// openat2 takes the empty path for no path at all.
fn or_itself(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// The names in a path, the last one first; `..` is one of them.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<OsString> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::fstat;

    fn made_up(fill: impl FnOnce(&Path)) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        fill(dir.path());
        let host = Host::made_up(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn what_another_mount_hides_is_not_on_the_mount() {
        let root = open_dir(Path::new("/")).unwrap();
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let open = |path: &str| open_on_mount(root.as_fd(), Path::new(path), flags).map(drop);
        assert_eq!(open(""), Ok(()));
        assert_eq!(open("proc/self/stat"), Err(Errno::EXDEV));
        assert_eq!(open("no such directory"), Err(Errno::ENOENT));
        assert!(open_beneath(root.as_fd(), Path::new("proc/uptime"), flags).is_ok());
    }

    #[test]
    fn a_file_made_as_one_piece_is_read_whole_however_long_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, PROC_FILE - 1, PROC_FILE, PROC_FILE + 1, 5 * PROC_FILE] {
            let text: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            std::fs::write(dir.path().join("file"), &text).unwrap();
            let fd = openat(
                open_dir(dir.path()).unwrap(),
                "file",
                OFlag::O_RDONLY,
                Mode::empty(),
            )
            .unwrap();
            assert_eq!(read_piece(&fd).unwrap(), text, "{length}");
        }
    }

    #[test]
    fn links_inside_a_host_lead_where_they_lead_for_the_host() {
        let (dir, host) = made_up(|root| {
            std::fs::create_dir_all(root.join("data/docker/containers")).unwrap();
            std::fs::create_dir_all(root.join("var/lib")).unwrap();
            std::fs::create_dir_all(root.join("run")).unwrap();
            symlink("/run", root.join("var/run")).unwrap();
            symlink("/data/docker", root.join("var/lib/docker")).unwrap();
            symlink("../../data", root.join("var/lib/beside")).unwrap();
            symlink("../../../../../../data", root.join("var/lib/above")).unwrap();
            symlink("/var/lib/loop", root.join("var/lib/loop")).unwrap();
        });
        for (path, place) in [
            ("/var/lib/docker", "data/docker"),
            ("/var/lib/docker/containers", "data/docker/containers"),
            ("/var/lib/beside/docker", "data/docker"),
            ("/var/lib/above/docker", "data/docker"),
            ("/var/run", "run"),
            ("/var/run/../data", "data"),
            ("/../../data", "data"),
            ("/", ""),
        ] {
            let expected = dir.path().join(place);
            assert_eq!(host.path(path), expected, "{path}");
            let opened = fstat(host.open_dir_inside(Path::new(path)).unwrap()).unwrap();
            let there = fstat(open_dir(&expected).unwrap()).unwrap();
            assert_eq!(
                (opened.st_dev, opened.st_ino),
                (there.st_dev, there.st_ino),
                "{path}"
            );
        }
        assert_eq!(host.path("/absent/x"), dir.path().join("absent/x"));
        assert_eq!(host.path("/var/lib/loop"), dir.path().join("var/lib/loop"));
        for path in ["/absent", "/var/lib/loop"] {
            let text = host.open_dir_inside(Path::new(path)).unwrap_err().to_string();
            assert!(text.contains(path), "{text}");
        }
    }
}
