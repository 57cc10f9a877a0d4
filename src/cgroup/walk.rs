//! What is below a cgroup.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use super::{Cgroup, open_below};
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};

/// The deepest tree that is walked. Each level costs two descriptors and less than a KiB of stack.
const DEEPEST: usize = 1000;

/// Whether a walk goes on below a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descent {
    /// It does.
    Into,
    /// It does not.
    Past,
}

impl Cgroup {
    /// The names of the cgroups right below.
    pub(crate) fn children(&self) -> Result<Vec<OsString>> {
        if self.is_leaf() {
            return Ok(Vec::new());
        }
        let gone = |errno: Errno| self.failed("list", "", errno.into());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(gone)?;
        let mut names = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(gone)?;
            let name = entry.file_name().to_bytes();
            if entry.file_type() == Some(Type::Directory) && name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        Ok(names)
    }

    /// Whether it has no cgroup below, told without listing it: kernfs counts a directory's own subdirectories as its
    /// links (`kernfs_refresh_inode()`, fs/kernfs/inode.c, since 3.14), besides `.` and its name.
    fn is_leaf(&self) -> bool {
        self.ground.genuine && fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 2)
    }

    /// Shows every cgroup below to `visit`, parents before children, which says whether to go on below that one. One
    /// directory is held open for each level, however many there are on it: a container can make as many as it likes.
    /// A branch that is deeper than anybody works with is left there, and its cgroup returned: it keeps no other from
    /// being seen.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] for this cgroup; a branch that vanishes meanwhile is left out.
    pub fn walk(&self, visit: &mut dyn FnMut(Self) -> Result<Descent>) -> Result<Option<PathBuf>> {
        self.walk_at(0, visit)
    }

    fn walk_at(
        &self,
        depth: usize,
        visit: &mut dyn FnMut(Self) -> Result<Descent>,
    ) -> Result<Option<PathBuf>> {
        if depth > DEEPEST {
            return Ok(Some(self.path.clone()));
        }
        let mut cut = None;
        for name in self.children()? {
            let open = || {
                let dir = self.dir.join(&name);
                let fd = open_below(self.fd.as_fd(), &name, &dir)?;
                Self::from_fd(self.ground, self.hierarchy, fd, dir, self.path.join(&name))
            };
            let below = open().and_then(|child| {
                let again = child.try_clone()?;
                match visit(child)? {
                    Descent::Into => again.walk_at(depth + 1, visit),
                    Descent::Past => Ok(None),
                }
            });
            match below {
                Ok(below) => cut = cut.or(below),
                Err(Error::Gone(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(cut)
    }

    /// Shows the path of every cgroup below to `visit`, level by level. What has nothing below it is not opened, and
    /// where the kernel counts them nothing is looked at once all have been seen: a flat tree of ten thousand is a
    /// matter of one listing. Deep branches are cut as by [`Cgroup::walk`].
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] for this cgroup; a branch that vanishes meanwhile is left out.
    pub fn paths_below(&self, host: &Host, visit: &mut dyn FnMut(&Path)) -> Result<Option<PathBuf>> {
        let total = self.descendants(host);
        let mut seen = 0;
        let mut level: Vec<PathBuf> = Vec::new();
        let mut cut = None;
        self.paths_in(&self.children()?, &self.path, visit, &mut level);
        for _ in 0..DEEPEST {
            seen += level.len();
            if level.is_empty() || total == Some(seen) {
                return Ok(cut);
            }
            let mut next = Vec::new();
            for path in &level {
                let below = path.strip_prefix(&self.path).unwrap_or(path);
                if self.is_leaf_below(below) {
                    continue;
                }
                let dir = self.dir.join(below);
                let names = open_below(self.fd.as_fd(), below, &dir)
                    .and_then(|fd| Self::from_fd(self.ground, self.hierarchy, fd, dir, path.clone()))
                    .and_then(|cgroup| cgroup.children());
                match names {
                    Ok(names) => self.paths_in(&names, path, visit, &mut next),
                    Err(Error::Gone(_)) => {}
                    // Longer than a path can be.
                    Err(Error::Io { cause, .. }) if cause.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                        cut.get_or_insert_with(|| path.clone());
                    }
                    Err(error) => return Err(error),
                }
            }
            level = next;
        }
        Ok(cut.or_else(|| level.into_iter().next()))
    }

    fn paths_in(
        &self,
        names: &[OsString],
        parent: &Path,
        visit: &mut dyn FnMut(&Path),
        all: &mut Vec<PathBuf>,
    ) {
        for name in names {
            let path = parent.join(name);
            visit(&path);
            all.push(path);
        }
    }

    /// How many cgroups are below; `None` where the kernel does not say. v2 counts those of each cgroup
    /// (`cgroup.stat`, since Linux 4.14), v1 those of the whole hierarchy, with some that are removed already.
    pub(crate) fn descendants(&self, host: &Host) -> Option<usize> {
        let text = match self.hierarchy {
            Hierarchy::V2 => self.read("cgroup.stat").ok()?, // then nothing is known, and all are looked at
            Hierarchy::V1 if self.is_root() => {
                let text = String::from_utf8_lossy(&host.read_proc("cgroups")?).into_owned();
                let line = text.lines().find(|line| line.starts_with("freezer\t"))?;
                let all: usize = line.split('\t').nth(2)?.parse().ok()?; // as above
                return all.checked_sub(1);
            }
            Hierarchy::V1 => return None,
        };
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("nr_descendants "))?;
        line.trim().parse().ok() // as above
    }

    /// Whether one below has nothing below it, as in [`Cgroup::is_leaf`].
    fn is_leaf_below(&self, path: &Path) -> bool {
        let stat = nix::sys::stat::fstatat(&self.fd, path, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
        self.ground.genuine && stat.is_ok_and(|stat| stat.st_nlink == 2)
    }

    /// The TIDs in this cgroup and all below.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::tids`] for this cgroup; those below that vanish are left out. [`Error::Unsupported`] where some are
    /// too deep to be listed.
    pub fn tids_below(&self) -> Result<BTreeSet<i32>> {
        let mut tids: BTreeSet<i32> = self.tids()?.into_iter().collect();
        let cut = self.walk(&mut |cgroup| {
            tids.extend(cgroup.tids()?);
            Ok(Descent::Into)
        })?;
        match cut {
            None => Ok(tids),
            Some(_) => Err(Error::Unsupported(format!(
                "the tasks of {} can't all be listed: it has cgroups more than {DEEPEST} deep",
                self.dir.display()
            ))),
        }
    }
}
