//! Watches that what is held stays frozen until its hold is over: who thaws it meanwhile breaks what it was held for.
//! Notices come at once, as in [`crate::fleet::Follower`], and each request is read several times a second besides.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::cgroup::{Cgroup, CgroupId};
use crate::engine::{Scope, look, tids};
use crate::error::{Error, Result};
use crate::fleet::{Points, Which, now};
use crate::host::Host;
use crate::resolver::Container;
use crate::verifier::Sighting;

/// Between two readings of the requests that no notice tells of.
pub const ROUND: Duration = Duration::from_millis(250);

/// How long a container of which a task has ended may take to end as a whole: its first process ends before the others are
/// told to.
const DYING: Duration = Duration::from_millis(500);

/// Between two looks at one that is ending.
const GLANCE: Duration = Duration::from_millis(10);

/// Watches over what is held.
#[derive(Debug)]
pub struct Monitor<'c> {
    host: &'c Host,
    points: Points,
    held: Vec<Held<'c>>,
}

/// A container that is to stay frozen.
#[derive(Debug)]
struct Held<'c> {
    container: &'c Container,
    /// The cgroup that asks for its freeze.
    id: CgroupId,
    /// What became of it, as of the last look.
    fate: Fate,
    /// Its tasks when the watch began; none where they could not be listed.
    tids: BTreeSet<i32>,
    /// Since when nothing asks for its freeze.
    lost: Option<(Instant, String)>,
}

/// A container that somebody thawed while it was held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The cgroup that asked for its freeze.
    pub id: CgroupId,
    /// When that was seen, as RFC 3339 has it, in UTC.
    pub time: String,
}

impl<'c> Monitor<'c> {
    /// Begins to watch `held`: each container with the cgroup that asks for its freeze.
    #[must_use]
    pub fn over(host: &'c Host, held: impl IntoIterator<Item = (&'c Container, CgroupId)>) -> Self {
        let mut monitor = Self {
            host,
            points: Points::new(),
            held: Vec::new(),
        };
        for (container, id) in held {
            if let Some(by) = container.own.iter().find(|own| own.id() == id) {
                // One that can't be watched is looked at in each round.
                let _ = monitor.points.add(id, by);
            }
            monitor.held.push(Held {
                container,
                id,
                fate: Fate::Doubted, // until the first look
                tids: tids(container).unwrap_or_default(),
                lost: None,
            });
        }
        monitor
    }

    /// What becomes readable when something stirs.
    #[must_use]
    pub fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.points.notices()
    }

    /// Which of them were thawed by somebody since the last look, when no other look follows: a container that runs and of
    /// which a task has ended is looked at until it is told whether it ends as a whole, for `limit` at most.
    pub fn last_look(&mut self, limit: Duration) -> Vec<Broken> {
        let began = Instant::now();
        let limit = limit.min(DYING + GLANCE);
        let mut broken = self.look();
        while began.elapsed() < limit && self.held.iter().any(|held| held.fate == Fate::Dying) {
            std::thread::sleep(GLANCE);
            broken.extend(self.look());
        }
        broken
    }

    /// Which of them were thawed by somebody since the last look. Each is told once, and watched no more.
    pub fn look(&mut self) -> Vec<Broken> {
        let mut stirred = self.points.stirred();
        self.points.read(Which::All, &mut stirred);
        let host = self.host;
        let mut broken = Vec::new();
        self.held.retain_mut(|held| {
            if held.fate == Fate::Held && !stirred.contains(&held.id) {
                return true;
            }
            held.fate = held.look(host).unwrap_or(Fate::Thawed); // nothing shows that it is held
            if held.fate == Fate::Thawed {
                let seen = held.lost.take().map(|(_, time)| time);
                broken.push(Broken {
                    id: held.id,
                    time: seen.unwrap_or_else(now),
                });
            }
            matches!(held.fate, Fate::Held | Fate::Doubted | Fate::Dying)
        });
        broken
    }
}

/// What became of a container that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is held.
    Held,
    /// The container's request is gone, and another cgroup holds it: it is looked at again.
    Doubted,
    /// The container runs, and a task of it has ended: it may be about to end as a whole, and is looked at again.
    Dying,
    /// It ended.
    Ended,
    /// It runs.
    Thawed,
}

impl Held<'_> {
    /// What has become of the container by now.
    fn look(&mut self, host: &Host) -> Result<Fate> {
        let by = self.container.own.iter().find(|own| own.id() == self.id);
        match by.map(Cgroup::requested) {
            Some(Ok(true)) => return Ok(Fate::Held),
            Some(Ok(false)) => {}
            Some(Err(Error::Gone(_))) | None => return Ok(Fate::Ended),
            Some(Err(error)) => return Err(error),
        }
        let scope = Scope::read(host, self.container)?;
        if scope.requested() || scope.is_held_from_outside() {
            return Ok(Fate::Doubted);
        }
        // Who kills a frozen container thaws it, so that it dies; and of what is frozen nothing ends by itself.
        let tasks = match look(host, self.container) {
            Err(Error::Gone(_)) => return Ok(Fate::Ended),
            tasks => tasks?,
        };
        let lives = |task: &&Sighting| !task.killed && !task.is_exiting();
        let alive: BTreeSet<i32> = tasks
            .seen
            .values()
            .filter(lives)
            .map(|task| task.tid)
            .chain(tasks.unseen.iter().copied())
            .collect();
        let lost = self.lost.get_or_insert_with(|| (Instant::now(), now()));
        let is_dying = !self.tids.is_subset(&alive) && lost.0.elapsed() < DYING;
        Ok(match (alive.is_empty(), is_dying) {
            (true, _) if tasks.seen.is_empty() => Fate::Ended,
            (true, _) | (false, true) => Fate::Dying,
            (false, false) => Fate::Thawed,
        })
    }
}
