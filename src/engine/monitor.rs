//! Watches that what is held stays frozen until its hold is over: who thaws it meanwhile breaks what it was held for.
//! Notices come at once, as in [`super::follow`], and each request is read several times a second besides.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::follow::event;
use super::follow::points::{Points, Which};
use super::look;
use super::scope::Scope;
use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::resolver::Container;
use crate::verifier::{Place, Witness};

/// Between two readings of the requests that no notice tells of.
pub const ROUND: Duration = Duration::from_millis(250);

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
    is_doubted: bool,
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
                is_doubted: true, // until the first look
            });
        }
        monitor
    }

    /// What becomes readable when something stirs.
    #[must_use]
    pub fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.points.notices()
    }

    /// Which of them were thawed by somebody since the last look. Each is told once, and watched no more.
    pub fn look(&mut self) -> Vec<Broken> {
        let mut stirred = self.points.stirred();
        self.points.read(Which::All, &mut stirred);
        let host = self.host;
        let mut broken = Vec::new();
        self.held.retain_mut(|held| {
            if !held.is_doubted && !stirred.contains(&held.id) {
                return true;
            }
            let fate = held.fate(host).unwrap_or(Fate::Thawed); // nothing shows that it is held
            held.is_doubted = fate == Fate::Doubted;
            if fate == Fate::Thawed {
                broken.push(Broken {
                    id: held.id,
                    time: event::now(),
                });
            }
            matches!(fate, Fate::Held | Fate::Doubted)
        });
        broken
    }
}

/// What became of a container that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is held.
    Held,
    /// Its request is gone, and what is left of it is about to end, or somebody else holds it: it is looked at again.
    Doubted,
    /// It ended.
    Ended,
    /// It runs.
    Thawed,
}

impl Held<'_> {
    fn fate(&self, host: &Host) -> Result<Fate> {
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
        // Who kills a frozen container thaws it, so that it dies.
        let tasks = match look(host, self.container) {
            Err(Error::Gone(_)) => return Ok(Fate::Ended),
            tasks => tasks?,
        };
        let witness = Witness::new(host);
        let mut alive: BTreeSet<bool> = tasks
            .seen
            .values()
            .filter(|task| witness.place(task) != Place::Dead)
            .map(|task| !task.killed)
            .collect();
        alive.extend((!tasks.unseen.is_empty()).then_some(true));
        Ok(match (alive.contains(&true), alive.is_empty()) {
            (true, _) => Fate::Thawed,
            (false, false) => Fate::Doubted,
            (false, true) => Fate::Ended,
        })
    }
}
