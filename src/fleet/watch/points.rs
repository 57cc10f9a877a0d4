//! The cgroups that can ask for a freeze of the containers that are followed: their requests, held open, and the notices
//! that come where somebody writes them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::uio::pread;

use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Error, Result};
use crate::host::Hierarchy;

/// So many buffers of notices are read at once: who writes without end must not keep it busy for ever.
const MOST_READS: usize = 64;

/// All of them, and what hears of them.
#[derive(Debug)]
pub(crate) struct Points {
    /// In the order of their IDs.
    all: Vec<Point>,
    notices: Option<Inotify>,
    /// Why some of them are only polled.
    pub(crate) lack: Option<String>,
}

/// A cgroup that can ask for a freeze of containers that are followed.
#[derive(Debug)]
struct Point {
    id: CgroupId,
    request: OwnedFd,
    /// What was read last, as it was read.
    read: Option<u8>,
    notices: Option<WatchDescriptor>,
    /// The containers that it holds.
    holds: Vec<CgroupId>,
}

/// Which requests are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that no notice tells of.
    Unnoticed,
    /// All.
    All,
}

impl Points {
    /// None of them yet.
    pub(crate) fn new() -> Self {
        let notices = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        Self {
            all: Vec::new(),
            lack: notices
                .as_ref()
                .err()
                .map(|errno| format!("no inotify(7) is to be had, and all is polled: {errno}")),
            notices: notices.ok(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// What becomes readable when something stirs.
    pub(crate) fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.notices.as_ref().map(AsFd::as_fd)
    }

    /// Whether each change of this one is told.
    pub(crate) fn is_noticed(&self, id: CgroupId) -> bool {
        self.place(id).is_ok_and(|at| self.all[at].notices.is_some())
    }

    fn place(&self, id: CgroupId) -> std::result::Result<usize, usize> {
        self.all.binary_search_by(|point| point.id.cmp(&id))
    }

    /// Whose containers are to be looked at, as somebody wrote something.
    pub(crate) fn stirred(&self) -> BTreeSet<CgroupId> {
        let mut stirred = BTreeSet::new();
        let Some(notices) = &self.notices else {
            return stirred;
        };
        for _ in 0..MOST_READS {
            // EAGAIN: there are no more. What was lost in an overflow is found by the readings.
            let Ok(events) = notices.read_events() else {
                break;
            };
            for event in events {
                let point = self.all.iter().find(|point| point.notices == Some(event.wd));
                stirred.extend(point.into_iter().flat_map(|point| &point.holds));
            }
        }
        stirred
    }

    /// Reads the requests again: of those that no notice tells of, or of all.
    pub(crate) fn read(&mut self, which: Which, stirred: &mut BTreeSet<CgroupId>) {
        for point in &mut self.all {
            if (which == Which::All || point.notices.is_none()) && point.has_changed() {
                stirred.extend(&point.holds);
            }
        }
    }

    /// Adds a container to those that a cgroup holds. `None` where it can't ask for anything.
    ///
    /// # Errors
    ///
    /// Its request can't be opened.
    pub(crate) fn add(&mut self, holds: CgroupId, cgroup: &Cgroup) -> Result<Option<CgroupId>> {
        let id = cgroup.id();
        match self.place(id) {
            Ok(at) if !self.all[at].holds.contains(&holds) => self.all[at].holds.push(holds),
            Ok(_) => {}
            Err(_) if cgroup.is_root() => return Ok(None),
            Err(at) => match self.open(holds, cgroup) {
                Ok(point) => self.all.insert(at, point),
                // It is gone, which the look says; or before 5.2 v2 can't freeze.
                Err(Error::Gone(_) | Error::Unsupported(_)) => return Ok(None),
                Err(error) => return Err(error),
            },
        }
        Ok(Some(id))
    }

    fn open(&mut self, holds: CgroupId, cgroup: &Cgroup) -> Result<Point> {
        // v1 tells nobody what is in force, but who writes to its file is heard of as with any file.
        let (request, notice) = match cgroup.hierarchy() {
            Hierarchy::V1 => ("freezer.self_freezing", "freezer.state"),
            Hierarchy::V2 => ("cgroup.freeze", "cgroup.events"),
        };
        let watch = |notices: &Inotify| notices.add_watch(&cgroup.file(notice), AddWatchFlags::IN_MODIFY);
        let notices = self.notices.as_ref().map(watch);
        if notices == Some(Err(Errno::ENOSPC)) {
            let why = "fs.inotify.max_user_watches is used up: what is beyond it is polled";
            self.lack.get_or_insert_with(|| why.to_owned());
        }
        let mut point = Point {
            id: cgroup.id(),
            request: cgroup.open_file(request)?,
            read: None,
            notices: notices.and_then(std::result::Result::ok), // else it is polled
            holds: vec![holds],
        };
        point.has_changed(); // the first reading
        Ok(point)
    }

    /// Lets go of the points that held nobody else.
    pub(crate) fn let_go(&mut self, id: CgroupId, points: &[CgroupId]) {
        let notices = self.notices.as_ref();
        self.all.retain_mut(|point| {
            if !points.contains(&point.id) {
                return true;
            }
            point.holds.retain(|&held| held != id);
            if let (true, Some(wd), Some(notices)) = (point.holds.is_empty(), point.notices, notices) {
                // A removed file is watched on until this, and one that is not any more need not be.
                let _ = notices.rm_watch(wd);
            }
            !point.holds.is_empty()
        });
    }
}

impl Point {
    /// Reads the request again, and says whether it is another one, or can't be read.
    fn has_changed(&mut self) -> bool {
        let mut text = [0; 8];
        let read = match pread(&self.request, &mut text, 0) {
            Ok(count) if count > 0 => Some(text[0]),
            Ok(_) | Err(_) => None, // the cgroup is gone, which the look says
        };
        std::mem::replace(&mut self.read, read) != read || read.is_none()
    }
}
