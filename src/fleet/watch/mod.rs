//! Follows containers: who starts and ends, who is frozen and thawed, as it happens. Reads only, and never `freezer.state`.
//!
//! Two things say where to look. Notices (inotify) come at once: each write of a request, and on v2 each change of what is
//! in force. They are hints, and may be missing: the requests themselves are read several times a second through files
//! that are held open, which is cheap. What is so is then told by the same look as in a listing.

mod event;
mod points;
mod search;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::cgroup::CgroupId;
use crate::engine::{Holders, ThawedAncestors, micros, quick_status};
use crate::error::Error;
use crate::host::Host;
use crate::report::{Effective, Requested, States, Status};
use crate::resolver::Probe;
use crate::resolver::target::Target;
use crate::verifier::{Class, Holdout};
use search::Survey;

pub(crate) use event::now;
pub use event::{Event, Happening};
pub(crate) use points::{Points, Which};

/// Between two readings of the requests that no notice tells of: a pread(2) of each of a thousand takes 2.4 ms together
/// (Linux 6.18).
const ROUND: Duration = Duration::from_millis(250);
/// Where notices come, only each so many rounds, which is still within a second.
const NOTICED_ROUNDS: u32 = 3;
/// Between two looks at one that is not settled; doubled each time, up to the second.
const AGAIN: [Duration; 2] = [ROUND, Duration::from_secs(2)];
/// How long after a thaw a record may be there that iceaxe's own thaw takes away.
const DOUBT: Duration = Duration::from_millis(750);
/// So many are looked at before it is said that it gets on.
const CHUNK: usize = 32;
/// How long a look, or a search, may take before it counts as hanging: the sources of names have 2 s each.
const LOOK: Duration = Duration::from_secs(10);
const SEARCH: Duration = Duration::from_secs(20);
/// More than so many different notes are no help to anybody.
const MOST_NOTES: usize = 100;

/// A container that is followed.
#[derive(Debug)]
pub struct Followed {
    /// The cgroup that a freeze would write.
    id: CgroupId,
    probe: Probe,
    /// The cgroups whose requests matter to it.
    points: Vec<CgroupId>,
    status: Status,
    /// When it is looked at again though nothing stirred, and how long after the last time that is.
    again: Option<(Instant, Duration)>,
    changed: Option<Instant>,
}

impl Followed {
    /// What was so when it was looked at.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// How long ago something changed; `None` where nothing did since it was found.
    #[must_use]
    pub fn changed_for_us(&self) -> Option<u64> {
        self.changed.map(|at| micros(at.elapsed()))
    }
}

/// Which containers are followed.
#[derive(Debug)]
enum Whose {
    /// Every one.
    All,
    /// What these mean, each with the containers that it meant last.
    Targets(Vec<(Target, Vec<CgroupId>)>),
}

/// Is told how long it may take until the next word.
type Beat<'b> = &'b mut dyn FnMut(Duration);

/// Follows containers.
#[derive(Debug)]
pub struct Follower<'h> {
    host: &'h Host,
    whose: Whose,
    /// In the order of the cgroups' IDs, which is on v2 that of their age.
    followed: Vec<Followed>,
    points: Points,
    /// The IDs that need not be looked up again.
    ids: BTreeSet<String>,
    /// What could not be looked at or followed, each said once.
    notes: Vec<String>,
    told: usize,
    /// Whether the engines' records did not come in time: they are not asked for again.
    late: bool,
    rounds: u32,
    next_round: Instant,
    survey: Survey,
    /// Those that were thawed while iceaxe's own records said otherwise, and when they are asked again.
    doubted: Vec<(Instant, CgroupId)>,
}

impl<'h> Follower<'h> {
    /// Follows every container of the host.
    #[must_use]
    pub fn all(host: &'h Host) -> Self {
        Self::new(host, Whose::All)
    }

    /// Follows what these targets mean, also what they come to mean: a container that starts anew, a pod's next one.
    #[must_use]
    pub fn of(host: &'h Host, targets: Vec<Target>) -> Self {
        let targets = targets.into_iter().map(|target| (target, Vec::new())).collect();
        Self::new(host, Whose::Targets(targets))
    }

    fn new(host: &'h Host, whose: Whose) -> Self {
        let now = Instant::now();
        Self {
            host,
            whose,
            followed: Vec::new(),
            points: Points::new(),
            ids: BTreeSet::new(),
            notes: Vec::new(),
            told: 0,
            late: false,
            rounds: 0,
            next_round: now,
            survey: Survey::due(now),
            doubted: Vec::new(),
        }
    }

    /// What becomes readable when something stirs.
    #[must_use]
    pub fn notices(&self) -> Option<BorrowedFd<'_>> {
        self.points.notices()
    }

    /// How long nothing is to be done unless something stirs.
    #[must_use]
    pub fn rests(&self) -> Duration {
        self.next_round.saturating_duration_since(Instant::now())
    }

    /// The containers that are followed.
    pub fn followed(&self) -> impl Iterator<Item = &Followed> {
        self.followed.iter()
    }

    /// What could not be looked at, or not be followed: what is new of it.
    pub fn new_notes(&mut self) -> &[String] {
        let from = std::mem::replace(&mut self.told, self.notes.len());
        &self.notes[from..]
    }

    /// All of it.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Looks at what stirred and at what is due, and says what happened since the last time. `beat` is told how long it
    /// may take until it is told again.
    pub fn look(&mut self, beat: &mut dyn FnMut(Duration)) -> Vec<Event> {
        beat(LOOK);
        let now = Instant::now();
        let mut stirred = self.points.stirred();
        if now >= self.next_round {
            self.next_round = now + ROUND;
            let which = if self.rounds.is_multiple_of(NOTICED_ROUNDS) {
                Which::All
            } else {
                Which::Unnoticed
            };
            self.points.read(which, &mut stirred);
            let is_due = |one: &Followed| one.again.is_some_and(|(at, _)| at <= now);
            let due = self.followed.iter().filter(|one| is_due(one));
            stirred.extend(due.map(|one| one.id));
            self.rounds = self.rounds.wrapping_add(1);
            self.count(now);
        }
        let mut events = Vec::new();
        let (mut thawed_ancestors, mut holders) = (ThawedAncestors::default(), None);
        for (nth, id) in stirred.into_iter().enumerate() {
            if nth % CHUNK == CHUNK - 1 {
                beat(LOOK);
            }
            let event = self.look_at(id, &mut thawed_ancestors, &mut holders);
            if event
                .as_ref()
                .is_some_and(|event| event.event == Happening::Thawed)
            {
                self.doubted.push((now + DOUBT, id));
            }
            events.extend(event);
        }
        self.ask_again(now, &mut events);
        if events.iter().any(|event| event.event == Happening::Ended) {
            self.survey.hurry(now);
        }
        if self.survey.is_due(now) {
            beat(SEARCH);
            self.find(beat, &mut events);
            beat(LOOK);
        }
        events
    }

    /// Tells of those that were thawed a while ago, and that iceaxe still answers for: it takes a record away when it has
    /// thawed.
    fn ask_again(&mut self, now: Instant, events: &mut Vec<Event>) {
        if self.doubted.iter().all(|(at, _)| *at > now) {
            return;
        }
        let holders = Holders::read(self.host);
        let (due, later) = self.doubted.drain(..).partition(|(at, _)| *at <= now);
        self.doubted = later;
        let due: Vec<(Instant, CgroupId)> = due;
        for (_, id) in due {
            let Ok(at) = self.place(id) else { continue };
            let mut status = self.followed[at].status.clone();
            status.holders.clear();
            holders.add_to(&[id], &mut status);
            if status.effective == Some(Effective::Thawed) && !status.holders.is_empty() {
                events.push(Event::new(Happening::Overridden, states(&status), status));
            }
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Tells of tasks that do not answer.
    fn note_silent(&mut self, id: CgroupId, holdouts: &[Holdout]) {
        let who = self
            .place(id)
            .ok()
            .and_then(|at| self.followed[at].status.id.clone());
        for task in holdouts.iter().filter(|task| task.class == Class::Hung) {
            self.note(format!(
                "{}: task {} ({}) does not answer: nothing is known of it",
                who.clone().unwrap_or_default(),
                task.tid,
                task.comm
            ));
        }
    }

    /// Looks at one; `holders` is read once for many, where it is needed.
    fn look_at(
        &mut self,
        id: CgroupId,
        thawed_ancestors: &mut ThawedAncestors,
        holders: &mut Option<Holders>,
    ) -> Option<Event> {
        let now = Instant::now();
        let at = self.place(id).ok()?;
        let one = &mut self.followed[at];
        match quick_status(self.host, &one.probe, thawed_ancestors) {
            Ok((mut status, holdouts)) if !is_over(&status) => {
                add_holders(self.host, id, &mut status, holders);
                let event = one.now(status, now);
                self.note_silent(id, &holdouts);
                event
            }
            Ok(_) | Err(Error::Gone(_)) => Some(self.end(at)),
            Err(error) => {
                one.again = Some((now + AGAIN[1], AGAIN[1]));
                let who = one.status.id.clone().unwrap_or_default();
                self.note(format!("{who}: {error}"));
                None
            }
        }
    }

    /// Where one is among those that are followed, or would be.
    fn place(&self, id: CgroupId) -> Result<usize, usize> {
        self.followed.binary_search_by(|one| one.id.cmp(&id))
    }

    /// Lets one go.
    fn end(&mut self, at: usize) -> Event {
        let one = self.followed.remove(at);
        self.points.let_go(one.id, &one.points);
        let mut status = one.status;
        if let Some(id) = &status.id {
            self.ids.remove(id);
        }
        let before = states(&status);
        (status.requested, status.effective, status.tasks, status.memory) = (None, None, None, None);
        (status.believed, status.agree) = (None, None);
        status.frozen_by.clear();
        Event::new(Happening::Ended, before, status)
    }
}

/// Adds who holds one that asks for a freeze; the records are read once for many.
fn add_holders(host: &Host, id: CgroupId, status: &mut Status, holders: &mut Option<Holders>) {
    if status.requested == Some(Requested::Frozen) {
        let holders = holders.get_or_insert_with(|| Holders::read(host));
        holders.add_to(&[id], status);
    }
}

impl Followed {
    /// Takes what is so now, and says what happened.
    fn now(&mut self, mut status: Status, now: Instant) -> Option<Event> {
        let old = &self.status;
        status.name.clone_from(&old.name);
        status.image.clone_from(&old.image);
        status.labels.clone_from(&old.labels);
        status.pod.clone_from(&old.pod);
        let happening = Happening::between(old, &status);
        let before = states(old);
        self.status = status;
        self.expect(now);
        let happening = happening?;
        self.changed = Some(now);
        self.again = self.again.map(|_| (now + AGAIN[0], AGAIN[0]));
        Some(Event::new(happening, before, self.status.clone()))
    }

    /// A freeze that is not settled is looked at again: v1 tells nobody when it is.
    fn expect(&mut self, now: Instant) {
        let is_settled = self.status.effective != Some(Effective::Freezing);
        self.again = (!is_settled).then(|| {
            let pause = self
                .again
                .map_or(AGAIN[0], |(_, pause)| (pause * 2).min(AGAIN[1]));
            (now + pause, pause)
        });
    }
}

/// Whether nobody is left in a container. A cgroup that is followed as such may be empty.
fn is_over(status: &Status) -> bool {
    status.id.is_some() && status.tasks.is_some_and(|tasks| tasks.total == 0)
}

fn states(status: &Status) -> States {
    States {
        requested: status.requested,
        effective: status.effective,
    }
}
