//! What is below a cgroup.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::mem::take;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::{Cgroup, CgroupId, LEAF, open_below};
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};

/// The deepest tree that is walked: more levels than any container makes. A walk takes a directory and a few bytes for
/// each, and the path of the one that it is at.
const DEEPEST: usize = 10_000;
/// The most names of cgroups that a walk keeps for later, in bytes: those beside the way to where it is.
const MOST_NAMES: usize = 8 << 20;
/// The longest path of a cgroup that is walked, in bytes. A name has at most 255, and each cgroup of a walk has its path.
const LONGEST_WAY: usize = 256 << 10;
/// The most levels of a path that can be opened: it has at most 4,096 bytes, two for each.
const LONGEST: usize = 2048;

/// How a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descent {
    /// Below the cgroup that was shown.
    Into,
    /// Beside it.
    Past,
    /// Not at all.
    Stop,
}

/// The tasks of a cgroup and all below.
#[derive(Debug, Default)]
pub struct Tasks {
    /// Those that were listed.
    pub tids: BTreeSet<i32>,
    /// Why those are not all: what one cgroup below refuses, or where it is too deep. `None` where they are.
    pub missed: Option<Error>,
}

/// Whether the time that a walk has is over.
fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

/// A level of a walk: a cgroup, and those below it that are still to be shown.
struct Level {
    id: CgroupId,
    /// Their names, each with a NUL behind it.
    names: Vec<u8>,
}

impl Level {
    /// Lists what is right below a cgroup, as far as its names have `room` and until a moment; whether that is all.
    fn of(cgroup: &Cgroup, room: usize, until: Option<Instant>) -> Result<(Self, bool)> {
        let mut names = Vec::new();
        let is_whole = cgroup.each_child(&mut |name| {
            let fits = names.len() + name.len() < room && !is_over(until);
            if fits {
                names.extend(name);
                names.push(0);
            }
            fits
        })?;
        Ok((Self { id: cgroup.id, names }, is_whole))
    }

    /// The next one of those below.
    fn next(&mut self) -> Option<OsString> {
        self.names.pop()?;
        let begin = memchr::memrchr(0, &self.names).map_or(0, |end| end + 1);
        let name = OsStr::from_bytes(&self.names[begin..]).to_owned();
        self.names.truncate(begin);
        Some(name)
    }
}

impl Cgroup {
    /// The names of the cgroups right below.
    pub(crate) fn children(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.each_child(&mut |name| {
            names.push(OsStr::from_bytes(name).to_owned());
            true
        })?;
        Ok(names)
    }

    /// Shows the name of each cgroup right below, until `visit` wants no more; whether all were shown.
    fn each_child(&self, visit: &mut dyn FnMut(&[u8]) -> bool) -> Result<bool> {
        if self.is_leaf() {
            return Ok(true);
        }
        let gone = |errno: Errno| self.failed("list", "", errno.into());
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listing = Dir::openat(&self.fd, ".", flags, Mode::empty()).map_err(gone)?;
        for entry in listing.iter() {
            let entry = entry.map_err(gone)?;
            let name = entry.file_name().to_bytes();
            let is_child = entry.file_type() == Some(Type::Directory) && name != b"." && name != b"..";
            if is_child && !visit(name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether it has no cgroup below, told without listing it.
    fn is_leaf(&self) -> bool {
        self.ground.genuine && fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == LEAF)
    }

    /// The one right below of that name.
    fn child(&self, name: &OsStr) -> Result<Self> {
        let dir = self.dir.join(name);
        let fd = open_below(self.fd.as_fd(), name, &dir)?;
        Self::from_fd(self.ground, self.hierarchy, fd, dir, self.path.join(name))
    }

    /// Opens the one right below of that name, which takes over this one's paths until it gives them back: in a deep tree
    /// they are long, and a copy for each level would be many.
    fn descend(&mut self, name: &OsStr) -> Result<Self> {
        self.dir.push(name);
        let opened = open_below(self.fd.as_fd(), name, &self.dir)
            .and_then(|fd| Self::from_fd(self.ground, self.hierarchy, fd, PathBuf::new(), PathBuf::new()));
        match opened {
            Ok(mut child) => {
                self.path.push(name);
                (child.dir, child.path) = (take(&mut self.dir), take(&mut self.path));
                Ok(child)
            }
            Err(error) => {
                self.dir.pop();
                Err(error)
            }
        }
    }

    /// Takes its paths back from the one right below that had taken them over.
    fn take_back(&mut self, child: Self) {
        (self.dir, self.path) = (child.dir, child.path);
        self.dir.pop();
        self.path.pop();
    }

    /// Opens the one right above, which takes over this one's paths. `None` where that is not the one that is meant: this
    /// one was removed, and so is all that is left below that.
    fn parent(&mut self, id: CgroupId) -> Option<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, "..", flags, Mode::empty()).ok()?; // it was removed, then
        let parent = Self::from_fd(self.ground, self.hierarchy, fd, PathBuf::new(), PathBuf::new());
        let mut parent = parent.ok().filter(|parent| parent.id == id)?; // looked for from the top, then
        (parent.dir, parent.path) = (take(&mut self.dir), take(&mut self.path));
        parent.dir.pop();
        parent.path.pop();
        Some(parent)
    }

    /// Shows every cgroup below to `visit`, parents before children, which says how to go on. Two directories are held
    /// open, however deep or wide it is below: a container can make as many cgroups as it likes. A branch that is deeper
    /// or wider than anybody works with is left there, and its cgroup returned: it keeps no other from being seen.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] for this cgroup; what `visit` says. A branch that vanishes meanwhile is left out.
    pub fn walk(&self, visit: &mut dyn FnMut(&Self) -> Result<Descent>) -> Result<Option<PathBuf>> {
        self.walk_until(None, visit)
    }

    /// A [`Cgroup::walk`] whose listings end at a moment: a container can make one that takes longer than a caller has.
    /// A directory that was not listed whole by then is left like a branch that is too wide.
    fn walk_until(
        &self,
        until: Option<Instant>,
        visit: &mut dyn FnMut(&Self) -> Result<Descent>,
    ) -> Result<Option<PathBuf>> {
        let (top, is_whole) = Level::of(self, MOST_NAMES, until)?;
        let mut cut = (!is_whole).then(|| self.path.clone());
        let mut kept = top.names.len();
        let mut levels = vec![top];
        // Where the walk is, if it is not at its top.
        let mut at: Option<Self> = None;
        while let Some(level) = levels.last_mut() {
            let before = level.names.len();
            let Some(name) = level.next() else {
                levels.pop();
                at = self.ascend(at, &mut levels)?;
                continue;
            };
            kept -= before - level.names.len();
            let opened = match &mut at {
                Some(at) => at.descend(&name),
                None => self.child(&name),
            };
            let child = match opened {
                Err(Error::Gone(_)) => continue,
                opened => opened?,
            };
            let descent = match visit(&child) {
                Err(Error::Gone(_)) => Descent::Past,
                descent => descent?,
            };
            let below = match descent {
                Descent::Stop => return Ok(cut),
                // One that was made since then is as good as one that is made after the walk.
                Descent::Into if !child.was_leaf => match Level::of(&child, MOST_NAMES - kept, until) {
                    Err(Error::Gone(_)) => None,
                    below => Some(below?),
                },
                Descent::Into | Descent::Past => None,
            };
            let below = below.filter(|(level, is_whole)| !level.names.is_empty() || !is_whole);
            let is_deep = levels.len() > DEEPEST || child.path.as_os_str().len() > LONGEST_WAY;
            match below {
                Some((level, true)) if !is_deep => {
                    kept += level.names.len();
                    levels.push(level);
                    at = Some(child);
                    continue;
                }
                Some(_) => drop(cut.get_or_insert_with(|| child.path.clone())),
                None => {}
            }
            if let Some(at) = &mut at {
                at.take_back(child);
            }
        }
        Ok(cut)
    }

    /// From a cgroup of a walk to the one above it whose level is the last that is left; `None` where that is the walk's
    /// top. What was removed meanwhile is looked for from the top, and the levels below it are left out.
    fn ascend(&self, from: Option<Self>, levels: &mut Vec<Level>) -> Result<Option<Self>> {
        let Some(mut from) = from else {
            return Ok(None);
        };
        if let [_, .., above] = levels.as_slice()
            && let Some(parent) = from.parent(above.id)
        {
            return Ok(Some(parent));
        }
        while levels.len() > 1 {
            let names = from.path.strip_prefix(&self.path).unwrap_or(&from.path).iter();
            let mut there = self.try_clone();
            for name in names.take(levels.len() - 1) {
                there = there.and_then(|mut above| above.descend(name));
            }
            match there {
                Err(Error::Gone(_)) => drop(levels.pop()),
                there => return there.map(Some),
            }
        }
        Ok(None)
    }

    /// Shows the path of every cgroup below to `visit`, level by level. What has nothing below it is not opened, and
    /// where the kernel counts them nothing is looked at once all have been seen: a flat tree of ten thousand is a
    /// matter of one listing. A branch whose path is longer than can be opened is left there, and its
    /// cgroup returned. One that the caller may not list is shown to `closed`, with the reason: whoever owns a cgroup can
    /// close it, and keeps no other from being seen.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] for this cgroup; a branch that vanishes meanwhile is left out.
    pub fn paths_below(
        &self,
        host: &Host,
        visit: &mut dyn FnMut(&Path),
        closed: &mut dyn FnMut(&Path, Error),
    ) -> Result<Option<PathBuf>> {
        let total = self.descendants(host);
        let mut seen = 0;
        let mut level: Vec<PathBuf> = Vec::new();
        let mut cut = None;
        self.paths_in(&self.children()?, &self.path, visit, &mut level);
        for _ in 0..LONGEST {
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
                    Err(error @ Error::Unsupported(_)) => closed(path, error),
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
        self.ground.genuine && stat.is_ok_and(|stat| stat.st_nlink == LEAF)
    }

    /// The user who owns a cgroup below this one, which need not be open to the caller.
    pub(crate) fn owner_of(&self, path: &Path) -> Option<u32> {
        let below = path.strip_prefix(&self.path).unwrap_or(path);
        let stat = nix::sys::stat::fstatat(&self.fd, below, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW);
        stat.ok().map(|stat| stat.st_uid) // gone: nobody does
    }

    /// The TIDs in this cgroup and all below.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::tids`] for this cgroup; those below that vanish are left out. Why some could not be listed.
    pub fn tids_below(&self) -> Result<BTreeSet<i32>> {
        match self.tasks_below(None)? {
            Tasks { tids, missed: None } => Ok(tids),
            Tasks {
                missed: Some(missed), ..
            } => Err(missed),
        }
    }

    /// The tasks of this cgroup and all below, as far as they can be listed until a moment. What one cgroup below refuses
    /// to show costs its own tasks.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::tids`] for this cgroup.
    pub fn tasks_below(&self, until: Option<Instant>) -> Result<Tasks> {
        let mut all = Tasks {
            tids: self.tids()?.into_iter().collect(),
            missed: None,
        };
        let mut is_late = false;
        let walked = self.walk_until(until, &mut |cgroup| {
            match cgroup.tids() {
                Ok(tids) => all.tids.extend(tids),
                Err(error @ Error::Gone(_)) => return Err(error),
                Err(error) => drop(all.missed.get_or_insert(error)),
            }
            is_late = is_over(until);
            Ok(if is_late { Descent::Stop } else { Descent::Into })
        });
        let because = |why: &str| {
            Error::Unsupported(format!(
                "the tasks of {} can't all be listed: {why}",
                self.dir.display()
            ))
        };
        let missed = match walked {
            Ok(cut) if is_late || cut.is_some() && is_over(until) => {
                Some(because("it has too many cgroups inside"))
            }
            Ok(None) => None,
            Ok(Some(cut)) => Some(because(&format!("what is below {} is too deep", cut.display()))),
            Err(error) => Some(error),
        };
        all.missed = all.missed.or(missed);
        Ok(all)
    }
}
