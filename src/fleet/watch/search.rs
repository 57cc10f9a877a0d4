//! Looks for the containers to follow: at first, and where something says that there are others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};

use super::event::{Event, Happening};
use super::{Beat, CHUNK, Followed, Follower, LOOK, SEARCH, Whose, add_holders};
use crate::cgroup::{Cgroup, CgroupId};
use crate::engine::{Holders, ThawedAncestors, quick_status};
use crate::error::Error;
use crate::host::{Hierarchy, Host};
use crate::report::States;
use crate::resolver::target::Target;
use crate::resolver::{Identity, Nesting, Pending, Probe, Purpose, Resolver, Unknown};

/// Containers are looked for so often where nothing says that there are others.
const SURVEY: Duration = Duration::from_secs(10);
/// And each round for so long after their number changed: a cgroup is made before there is a process in it.
const SETTLING: Duration = Duration::from_secs(3);
/// Looking for them may take one part in so many of a CPU.
const SHARE: u32 = 200;
/// How long the engines' records may hold it up, once.
const RECORDS: Duration = Duration::from_secs(2);
/// So many descriptors are left for the looks themselves: a walk takes two for each level.
const SPARE: u64 = 128;

/// When containers are looked for.
#[derive(Debug)]
pub(super) struct Survey {
    /// Whether it was ever done.
    done: bool,
    not_before: Instant,
    at_latest: Instant,
    /// Until when new ones are expected.
    expected: Instant,
    /// How many cgroups there are.
    counts: [Option<u64>; 2],
}

impl Survey {
    /// One that is due.
    pub(super) fn due(now: Instant) -> Self {
        Self {
            done: false,
            not_before: now,
            at_latest: now,
            expected: now,
            counts: [None; 2],
        }
    }

    /// Whether it is to be done now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.not_before && (now >= self.at_latest || now < self.expected)
    }

    /// One has ended: often it comes again.
    pub(super) fn hurry(&mut self, now: Instant) {
        (self.at_latest, self.expected) = (now, now + SETTLING);
    }
}

impl Follower<'_> {
    /// How many cgroups there are says that there are others. It is one small read for each hierarchy, and tells of who
    /// made them in whatever namespace.
    pub(super) fn count(&mut self, now: Instant) {
        let host = self.host;
        let counts = [Hierarchy::V1, Hierarchy::V2].map(|hierarchy| {
            let root = Cgroup::open(host, hierarchy, "/".as_ref()).ok()?; // no such hierarchy here
            root.descendants(host).map(|count| count as u64)
        });
        if std::mem::replace(&mut self.survey.counts, counts) != counts {
            self.survey.expected = now + SETTLING;
        }
    }

    /// Looks for containers that are not followed yet.
    pub(super) fn find(&mut self, beat: Beat<'_>, events: &mut Vec<Event>) {
        let began = cpu_time();
        let mut new = New::default();
        let host = self.host;
        self.end_the_empty(beat, events);
        match std::mem::replace(&mut self.whose, Whose::All) {
            Whose::All => self.find_all(beat, events, &mut new),
            Whose::Targets(mut targets) => {
                for (target, meant) in &mut targets {
                    let is_there = meant.iter().any(|&id| self.place(id).is_ok());
                    if is_there && !matches!(target, Target::Pod(_)) {
                        continue;
                    }
                    beat(SEARCH);
                    let resolver = Resolver::new(host, [&*target]).with_purpose(Purpose::Look);
                    match resolver.resolve(target, Nesting::Refuse) {
                        Ok(found) => {
                            *meant = found
                                .iter()
                                .map(|one| one.container.freeze_point().id())
                                .collect();
                            for one in found {
                                self.add(Probe::of(host, one.container), &mut new);
                            }
                        }
                        Err(Error::NotFound(_) | Error::NotRunning(_) | Error::Gone(_)) => {}
                        Err(error) => self.note(error.to_string()),
                    }
                }
                self.introduce(&mut new, events);
                self.whose = Whose::Targets(targets);
            }
        }
        let now = Instant::now();
        let pause = cpu_time().saturating_sub(began) * SHARE;
        self.survey.done = true;
        self.survey.not_before = now + pause.min(SURVEY);
        self.survey.at_latest = now + SURVEY;
    }

    fn find_all(&mut self, beat: Beat<'_>, events: &mut Vec<Event>, new: &mut New) {
        let everything = Arc::new(Resolver::new(self.host, []).everything());
        for source in everything.incomplete() {
            self.note(source.clone());
        }
        let known = std::mem::take(&mut self.ids);
        for ids in everything.ids().chunks(CHUNK) {
            beat(LOOK);
            let (old, fresh): (Vec<String>, Vec<String>) =
                ids.iter().cloned().partition(|id| known.contains(id));
            self.ids.extend(old);
            let all = Arc::clone(&everything);
            let look = move |_: &Host| -> Vec<_> {
                let each = fresh.iter().map(|id| (id.clone(), all.containers(id)));
                each.collect()
            };
            for (id, found) in self.host.aside(look) {
                for found in found {
                    match found {
                        Ok(probe) => {
                            self.add(probe, new);
                            self.ids.insert(id.clone());
                        }
                        Err(Unknown {
                            why: Error::NotRunning(_) | Error::Gone(_),
                            ..
                        }) => {}
                        Err(Unknown { id, why, .. }) => self.note(format!("{id}: {why}")),
                    }
                }
            }
            self.introduce(new, events);
        }
    }

    /// No notice tells that a cgroup of v1 has become empty: it stays, where its runtime is dead too.
    fn end_the_empty(&mut self, beat: Beat<'_>, events: &mut Vec<Event>) {
        let is_told = |one: &Followed| {
            let hierarchy = one.probe.container.freeze_point().hierarchy();
            hierarchy == Hierarchy::V2 && self.points.is_noticed(one.id)
        };
        let is_empty = |one: &Followed| {
            let tids = one.probe.container.freeze_point().tids_below();
            tids.is_ok_and(|tids| tids.is_empty()) // else: the next look says it
        };
        let all = self.followed.iter().filter(|one| one.status.id.is_some());
        let empty = all.filter(|one| !is_told(one) && is_empty(one));
        let empty: Vec<CgroupId> = empty.map(|one| one.id).collect();
        let (mut thawed_ancestors, mut holders) = (ThawedAncestors::default(), None);
        for id in empty {
            beat(LOOK);
            events.extend(self.look_at(id, &mut thawed_ancestors, &mut holders));
        }
    }

    /// Begins to follow one. What is read of it comes after what says that it changed.
    fn add(&mut self, probe: Probe, new: &mut New) {
        let id = probe.container.freeze_point().id();
        let Err(at) = self.place(id) else {
            return; // it is on record twice
        };
        let own = probe.container.own.iter().chain(&probe.container.shared);
        let mut points = Vec::new();
        for cgroup in own {
            let above = cgroup.ancestor_paths().into_iter();
            let above = above.map(|path| Cgroup::open(self.host, cgroup.hierarchy(), path));
            let mut added = vec![self.points.add(id, cgroup)];
            added.extend(above.map(|ancestor| self.points.add(id, &ancestor?)));
            for point in added {
                match point {
                    Ok(point) => points.extend(point),
                    Err(Error::Gone(_)) => {} // the look says so
                    Err(error) => self.note(error.to_string()),
                }
            }
        }
        if let Some(lack) = self.points.lack.clone() {
            self.note(lack);
        }
        let looked = if self.has_room(probe.container.own.len() + probe.container.shared.len()) {
            quick_status(self.host, &probe, &mut new.thawed_ancestors)
        } else {
            Err(Error::Unsupported(
                "too few descriptors to follow all (ulimit -n): some are left out".to_owned(),
            ))
        };
        match looked {
            Ok((mut status, holdouts)) => {
                add_holders(self.host, id, &mut status, &mut new.holders);
                new.identities.push(probe.container.identity.clone());
                new.ids.push(id);
                let mut one = Followed {
                    id,
                    probe,
                    points,
                    status,
                    again: None,
                    changed: None,
                };
                one.probe.tids = None; // they are of this moment
                one.expect(Instant::now());
                self.followed.insert(at, one);
                self.note_silent(id, &holdouts);
            }
            Err(error) => {
                self.points.let_go(id, &points);
                if !matches!(error, Error::Gone(_)) {
                    self.note(error.to_string());
                }
            }
        }
    }

    /// Whether so many more descriptors leave enough for everything else.
    fn has_room(&self, more: usize) -> bool {
        let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return true; // the next open says it
        };
        let containers = self.followed.iter().map(|one| &one.probe.container);
        let held: usize = containers.map(|one| one.own.len() + one.shared.len()).sum();
        (held + more + self.points.len()) as u64 + SPARE <= limit
    }

    /// Adds what the engines have on record of the new ones, and tells of them.
    fn introduce(&mut self, new: &mut New, events: &mut Vec<Event>) {
        let (ids, identities) = (std::mem::take(&mut new.ids), std::mem::take(&mut new.identities));
        if ids.is_empty() {
            return;
        }
        if !self.late {
            match &mut new.records {
                Some(records) => records.ask(identities),
                none => *none = Some(Pending::start(self.host, identities)),
            }
        }
        let happening = if self.survey.done {
            Happening::Started
        } else {
            Happening::Present
        };
        for id in ids {
            let details = match &mut new.records {
                Some(records) if !self.late => {
                    let details = records.next(RECORDS);
                    records.renew();
                    self.late = details.is_none();
                    details
                }
                _ => None,
            };
            for unreadable in details.iter().flat_map(|details| &details.unreadable) {
                self.note(unreadable.clone());
            }
            let Ok(at) = self.place(id) else {
                continue;
            };
            let one = &mut self.followed[at];
            if let Some(details) = details {
                one.status.add(&details);
            }
            events.push(Event::new(happening, States::default(), one.status.clone()));
        }
        if self.late {
            self.note("the engines' records could not be read in time: names are missing".to_owned());
        }
    }
}

/// What was found and is not told of yet.
#[derive(Default)]
struct New {
    ids: Vec<CgroupId>,
    identities: Vec<Identity>,
    records: Option<Pending>,
    thawed_ancestors: ThawedAncestors,
    holders: Option<Holders>,
}

/// The time that this process has had on a CPU.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from) // it always exists on Linux
}
