//! The cgroups that matter to one container, read together: its own freeze points, the ancestors and the other
//! cgroups that can hold it, the requests below it. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::cgroup::{Cgroup, CgroupId, Descent};
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host, Kernel};
use crate::report::{CgroupChange, CgroupStatus, Effective, Requested, States};
use crate::resolver::{Container, naming, target};
use crate::verifier::{Place, Sighting, place};

/// One own (or shared) cgroup with what asks for a freeze around it.
#[derive(Debug)]
pub(crate) struct Around {
    /// Whether it asks itself.
    pub(crate) requested: bool,
    /// The ancestors that ask, topmost first, without those that are the container's own.
    pub(crate) ancestors: Vec<Asking>,
    /// The cgroups below that ask and are not the container's own, up to [`MOST_INNER`] of them and [`MOST_INNER_BYTES`]
    /// of their names; the first one always.
    pub(crate) inner: Vec<Asking>,
    /// How many more of those there are.
    more: usize,
    /// Whether v2 called it frozen when that was asked; `None` where it is asked when that is to be known.
    settled: Option<bool>,
}

/// A cgroup that asks for a freeze, by its name: there can be any number of them, and none is held open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// Which hierarchy it is in.
    pub hierarchy: Hierarchy,
    /// Its path in there.
    pub path: PathBuf,
    /// Its directory.
    pub dir: PathBuf,
    /// What it is, whatever it is called.
    pub id: CgroupId,
}

impl Asking {
    fn of(cgroup: &Cgroup) -> Self {
        Self {
            hierarchy: cgroup.hierarchy(),
            path: cgroup.path().to_owned(),
            dir: cgroup.dir().to_owned(),
            id: cgroup.id(),
        }
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// As [`Cgroup::open`]; [`Error::Gone`] where another one has its name by now.
    pub(crate) fn open(&self, host: &Host) -> Result<Cgroup> {
        let cgroup = Cgroup::open(host, self.hierarchy, &self.path)?;
        if cgroup.id() == self.id {
            Ok(cgroup)
        } else {
            Err(Error::Gone(self.dir.clone()))
        }
    }
}

/// So many cgroups that ask for a freeze inside of one are told of by their names.
const MOST_INNER: usize = 1000;
/// So many are in a sentence.
const MOST_IN_WORDS: usize = 16;
/// So many bytes of names are kept of those, which can be as long as a container likes.
const MOST_INNER_BYTES: usize = 256 << 10;
/// So many of one container, or of one unit, are in a list of the whole host.
const MOST_ASKING: usize = 20_000;
/// So many bytes of names are kept of those.
const MOST_ASKING_BYTES: usize = 8 << 20;
/// No longer path can be given to the kernel, or as a target: PATH_MAX is 4,096 with the NUL.
pub(crate) const LONGEST_PATH: usize = 4095;

/// The room for those that are told of by their names.
struct Room {
    names: usize,
    bytes: usize,
}

impl Room {
    /// The room for the cgroups of one container or unit in a list of the whole host.
    fn of_a_part() -> Self {
        Self {
            names: MOST_ASKING,
            bytes: MOST_ASKING_BYTES,
        }
    }

    /// Takes what a cgroup needs; whether there was as much.
    fn take(&mut self, cgroup: &Cgroup) -> bool {
        let bytes = cgroup.path().as_os_str().len() + cgroup.dir().as_os_str().len();
        let has_room = self.names > 0 && bytes <= self.bytes;
        if has_room {
            self.names -= 1;
            self.bytes -= bytes;
        }
        has_room
    }
}

/// What a container's own cgroups say of themselves: it takes a read or two of each, whatever is above and below them.
#[derive(Debug)]
pub(crate) struct Asked {
    /// By index in `Container::own`; `None` for one that is gone, or that could not be read.
    each: Vec<Option<(bool, Option<bool>)>>,
    /// Why one could not be read. What the others say counts all the same.
    unread: Option<Error>,
}

impl Asked {
    /// Reads it.
    pub(crate) fn read(container: &Container) -> Self {
        let mut unread = None;
        let each = container.own.iter().map(|cgroup| {
            let settled = match cgroup.hierarchy() {
                Hierarchy::V1 => None,
                Hierarchy::V2 => cgroup.event("frozen").ok(), // gone, or a kernel that can't freeze it
            };
            match present(cgroup.requested()) {
                Ok(requested) => requested.map(|requested| (requested, settled)),
                Err(error) => {
                    unread.get_or_insert(error);
                    None
                }
            }
        });
        let each = each.collect();
        Self { each, unread }
    }

    /// Whether every cgroup of its own is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.unread.is_none() && self.each.iter().all(Option::is_none)
    }

    /// Whether one of them asks for a freeze, as far as they could be read.
    pub(crate) fn requested(&self) -> bool {
        self.each.iter().flatten().any(|(requested, _)| *requested)
    }

    /// Whether one of them asks for a freeze; `None` where that can't be told.
    pub(crate) fn told(&self) -> Option<bool> {
        let requested = self.requested();
        (requested || self.unread.is_none()).then_some(requested)
    }

    /// Why one could not be read, which is said once.
    pub(crate) fn take_unread(&mut self) -> Option<Error> {
        self.unread.take()
    }

    /// Whether v2 called all that is in its own cgroups there frozen.
    pub(crate) fn is_settled(&self) -> bool {
        let mut told = self
            .each
            .iter()
            .flatten()
            .filter_map(|(_, settled)| *settled)
            .peekable();
        told.peek().is_some() && told.all(|settled| settled)
    }

    /// Those of its own that ask for a freeze.
    pub(crate) fn asking<'c>(&self, container: &'c Container) -> impl Iterator<Item = &'c Cgroup> {
        let own = container.own.iter().zip(&self.each);
        own.filter(|(_, asked)| asked.is_some_and(|(requested, _)| requested))
            .map(|(cgroup, _)| cgroup)
    }
}

impl Around {
    /// Everything else that asks, topmost first.
    pub(crate) fn others(&self) -> Vec<PathBuf> {
        self.ancestors
            .iter()
            .chain(&self.inner)
            .map(|asking| asking.path.clone())
            .collect()
    }

    fn is_asked(&self) -> bool {
        self.requested || !self.ancestors.is_empty()
    }
}

/// All of a container's cgroups, read at one time. A cgroup that is gone has no entry.
#[derive(Debug)]
pub(crate) struct Scope {
    /// By index in `Container::own`.
    pub(crate) own: Vec<Option<Around>>,
    /// By index in `Container::shared`.
    pub(crate) shared: Vec<Option<Around>>,
}

/// The ancestors that did not ask for a freeze when they were read, a moment ago: thousands of containers share a
/// parent. It is for a look at many that are seen as of one time, and lives no longer.
#[derive(Debug, Default)]
pub struct ThawedAncestors(BTreeSet<(Hierarchy, PathBuf)>);

impl Scope {
    pub(crate) fn read(host: &Host, container: &Container) -> Result<Self> {
        Self::read_beside(host, container, &mut ThawedAncestors::default())
    }

    /// The same, without the ancestors that are known not to ask.
    pub(crate) fn read_beside(
        host: &Host,
        container: &Container,
        thawed_ancestors: &mut ThawedAncestors,
    ) -> Result<Self> {
        let ours: Vec<_> = container.own.iter().map(Cgroup::id).collect();
        let mut look =
            |cgroup: &Cgroup, below: Below| present(around(host, cgroup, &ours, below, thawed_ancestors));
        let own = container
            .own
            .iter()
            .map(|cgroup| look(cgroup, Below::Look))
            .collect::<Result<_>>()?;
        // What others freeze below a cgroup that is not this container's alone need not concern it.
        let shared = container
            .shared
            .iter()
            .map(|cgroup| look(cgroup, Below::Ignore))
            .collect::<Result<_>>()?;
        Ok(Self { own, shared })
    }

    /// Puts what its own cgroups said at another time in the place of what they say now, which is returned.
    pub(crate) fn put_asked(&mut self, asked: Asked) -> Asked {
        let own = self.own.iter_mut().zip(asked.each).map(|(around, then)| {
            let around = around.as_mut()?; // gone: it has no state
            let now = (around.requested, around.settled);
            (around.requested, around.settled) = then.unwrap_or(now);
            Some(now)
        });
        Asked {
            each: own.collect(),
            unread: None,
        }
    }

    /// Whether every cgroup of its own is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.own.iter().all(Option::is_none)
    }

    /// Whether a cgroup of its own asks for a freeze.
    pub(crate) fn requested(&self) -> bool {
        self.own.iter().flatten().any(|around| around.requested)
    }

    /// Whether an ancestor, or a cgroup that it shares with others, holds all of it.
    pub(crate) fn is_held_from_outside(&self) -> bool {
        self.own
            .iter()
            .flatten()
            .any(|around| !around.ancestors.is_empty())
            || self.shared.iter().flatten().any(Around::is_asked)
    }

    /// The hierarchy in which a freeze is asked for, by itself before by its ancestors.
    pub(crate) fn asked(&self, container: &Container) -> Option<Hierarchy> {
        let own = container.own.iter().zip(&self.own);
        let first = |asks: fn(&Around) -> bool| {
            own.clone()
                .find(|(_, around)| around.as_ref().is_some_and(asks))
                .map(|(cgroup, _)| cgroup.hierarchy())
        };
        first(|around| around.requested).or_else(|| first(|around| !around.ancestors.is_empty()))
    }

    /// The requests below that are not its own.
    pub(crate) fn inner(&self) -> impl Iterator<Item = &Asking> {
        self.own.iter().flatten().flat_map(|around| &around.inner)
    }

    /// How many more requests there are below, that are not told of by their names.
    fn more_inner(&self) -> usize {
        self.own.iter().flatten().map(|around| around.more).sum()
    }

    /// The ancestors that ask.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &Asking> {
        self.own.iter().flatten().flat_map(|around| &around.ancestors)
    }

    /// Every cgroup but its own that asks, each once, in the form that a target is written in.
    pub(crate) fn holders(&self, container: &Container) -> Vec<String> {
        let shared = container.shared.iter().zip(&self.shared);
        let shared = shared
            .filter(|(_, around)| around.as_ref().is_some_and(|around| around.requested))
            .map(|(cgroup, _)| target::cgroup(cgroup.hierarchy(), cgroup.path()));
        let mut names: Vec<String> = self
            .ancestors()
            .chain(self.inner())
            .chain(self.shared.iter().flatten().flat_map(|around| &around.ancestors))
            .map(written)
            .chain(shared)
            .collect();
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// The same for a sentence: the first of them, and how many more there are.
    pub(crate) fn holders_in_words(&self, container: &Container) -> String {
        let names = self.holders(container);
        let more = names.len().saturating_sub(MOST_IN_WORDS) + self.more_inner();
        let mut words: Vec<String> = names.into_iter().take(MOST_IN_WORDS).collect();
        if more > 0 {
            words.push(format!("and {more} more"));
        }
        words.join(", ")
    }

    /// The paths of [`Scope::holders`] alone.
    pub(crate) fn frozen_by(&self, container: &Container) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self
            .own
            .iter()
            .chain(&self.shared)
            .flatten()
            .flat_map(Around::others)
            .collect();
        paths.extend(
            container
                .shared
                .iter()
                .zip(&self.shared)
                .filter(|(_, a)| a.as_ref().is_some_and(|a| a.requested))
                .map(|(c, _)| c.path().to_owned()),
        );
        let mut seen = BTreeSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        paths
    }

    /// The container's states, given its tasks.
    pub(crate) fn states(
        &self,
        container: &Container,
        tasks: &BTreeMap<i32, Sighting>,
        host: &Host,
    ) -> States {
        if self.is_gone() {
            return States::default();
        }
        let each: Vec<Effective> = self
            .each(container)
            .filter_map(|(cgroup, around)| effective(cgroup, around?, tasks, host))
            .collect();
        let effective = if each.contains(&Effective::Frozen) {
            Effective::Frozen
        } else if each.contains(&Effective::Freezing) {
            Effective::Freezing
        } else {
            Effective::Thawed
        };
        States {
            requested: Some(Requested::of(self.requested())),
            effective: Some(effective),
        }
    }

    fn each<'s>(
        &'s self,
        container: &'s Container,
    ) -> impl Iterator<Item = (&'s Cgroup, Option<&'s Around>)> {
        let own = container.own.iter().zip(self.own.iter().map(Option::as_ref));
        own.chain(
            container
                .shared
                .iter()
                .zip(self.shared.iter().map(Option::as_ref)),
        )
    }

    /// One entry per cgroup, as found.
    pub(crate) fn changes(
        &self,
        container: &Container,
        tasks: &BTreeMap<i32, Sighting>,
        host: &Host,
    ) -> Vec<CgroupChange> {
        self.statuses(container, tasks, host)
            .into_iter()
            .map(|status| CgroupChange {
                version: status.version,
                path: status.path,
                dir: status.dir,
                shared: status.shared,
                before: States {
                    requested: status.requested,
                    effective: status.effective,
                },
                after: States::default(),
                frozen_by: status.frozen_by,
            })
            .collect()
    }

    pub(crate) fn statuses(
        &self,
        container: &Container,
        tasks: &BTreeMap<i32, Sighting>,
        host: &Host,
    ) -> Vec<CgroupStatus> {
        self.each(container)
            .enumerate()
            .map(|(at, (cgroup, around))| CgroupStatus {
                version: cgroup.hierarchy().version(),
                path: cgroup.path().to_owned(),
                dir: cgroup.dir().to_owned(),
                shared: at >= container.own.len(),
                requested: around.map(|around| Requested::of(around.requested)),
                effective: around.and_then(|around| effective(cgroup, around, tasks, host)),
                frozen_by: around.map(Around::others).unwrap_or_default(),
            })
            .collect()
    }
}

/// Every cgroup of the host that asks for a freeze itself, whoever's it is. What can't be read is an error among them,
/// and costs no other; where more of one container or unit ask than can be told of, that costs no other one's.
#[must_use]
pub fn asking(host: &Host) -> Vec<Result<Asking>> {
    let mut found = Vec::new();
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        if host.mount(hierarchy).is_none() {
            continue;
        }
        let mut part: Option<(PathBuf, Room)> = None;
        let mut full: Option<PathBuf> = None;
        let walked = Cgroup::open(host, hierarchy, Path::new("/")).and_then(|root| {
            root.walk(&mut |cgroup| {
                if full.as_ref().is_some_and(|full| cgroup.path().starts_with(full)) {
                    return Ok(Descent::Past);
                }
                let unread = match cgroup.requested() {
                    Ok(false) | Err(Error::Gone(_)) => return Ok(Descent::Into),
                    asked => asked.err(),
                };
                // A walk is through with one before it comes to the next.
                let (top, room) = match part.take() {
                    Some((top, room)) if cgroup.path().starts_with(&top) => part.insert((top, room)),
                    _ => part.insert((part_of(cgroup.path()), Room::of_a_part())),
                };
                if cgroup.path().as_os_str().len() <= LONGEST_PATH && room.take(cgroup) {
                    found.push(unread.map_or_else(|| Ok(Asking::of(cgroup)), Err));
                    return Ok(Descent::Into);
                }
                found.push(Err(Error::Unsupported(format!(
                    "more cgroups below {} ask for a freeze than are told of: the others there are not",
                    target::cgroup(hierarchy, top)
                ))));
                full = Some(top.clone());
                Ok(Descent::Past)
            })
        });
        match walked {
            Ok(None) => {}
            Ok(Some(cut)) => found.push(Err(Error::Unsupported(format!(
                "what is below {} is too deep to be looked at",
                cut.display()
            )))),
            Err(error) => found.push(Err(error)),
        }
    }
    found
}

/// Whose a cgroup is for [`asking`]: the outermost container's that it is in, else that of the unit or user two levels below
/// the root.
fn part_of(path: &Path) -> PathBuf {
    let mut containers = naming::chain(path).into_iter();
    let unit = || path.iter().take(3).collect(); // the root is the first
    containers.next().map_or_else(unit, |container| container.path)
}

/// A cgroup that asks as a target is written.
pub(crate) fn written(asking: &Asking) -> String {
    target::cgroup(asking.hierarchy, &asking.path)
}

/// Shows each cgroup inside a container that asks for a freeze of its own, and none of those below it.
///
/// # Errors
///
/// What `visit` says, or why they can't all be looked at.
pub(crate) fn each_inner(
    container: &Container,
    hierarchy: Hierarchy,
    visit: &mut dyn FnMut(&Cgroup) -> Result<Descent>,
) -> Result<()> {
    let ours: Vec<CgroupId> = container.own.iter().map(Cgroup::id).collect();
    for top in container.tops().filter(|top| top.hierarchy() == hierarchy) {
        let cut = present(top.walk(&mut |cgroup| {
            if ours.contains(&cgroup.id()) || !cgroup.requested()? {
                return Ok(Descent::Into);
            }
            visit(cgroup)
        }))?;
        if let Some(cut) = cut.flatten() {
            return Err(Error::Unsupported(format!(
                "what is below {} is too deep to be looked at",
                cut.display()
            )));
        }
    }
    Ok(())
}

/// Whether the requests below a cgroup matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    Look,
    Ignore,
}

fn present<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::Gone(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn around(
    host: &Host,
    cgroup: &Cgroup,
    ours: &[CgroupId],
    below: Below,
    thawed_ancestors: &mut ThawedAncestors,
) -> Result<Around> {
    let requested = cgroup.requested()?;
    // v1 tells in one read that no ancestor asks; v2 has no such file, and `frozen 0` does not say it: an ancestor's
    // freeze can be on its way.
    let may_be_held = match cgroup.hierarchy() {
        _ if cgroup.is_root() => false,
        Hierarchy::V1 => cgroup.read("freezer.parent_freezing")?.trim() != "0",
        Hierarchy::V2 => true,
    };
    let mut ancestors = Vec::new();
    if may_be_held {
        for path in cgroup.ancestor_paths() {
            let place = (cgroup.hierarchy(), path.to_owned());
            if thawed_ancestors.0.contains(&place) {
                continue;
            }
            let ancestor = Cgroup::open(host, cgroup.hierarchy(), path)?;
            if ours.contains(&ancestor.id()) {
                continue;
            }
            if ancestor.requested()? {
                ancestors.push(Asking::of(&ancestor));
            } else {
                thawed_ancestors.0.insert(place);
            }
        }
    }
    let mut inner = Vec::new();
    let mut more = 0;
    let mut room = Room {
        names: MOST_INNER,
        bytes: MOST_INNER_BYTES,
    };
    if below == Below::Look {
        // What is too deep, or can't be read, has tasks that can't be listed, which is told of those.
        cgroup.walk(&mut |below| {
            let asks = match below.requested() {
                Err(error @ Error::Gone(_)) => return Err(error),
                asks => asks.unwrap_or(false),
            };
            if asks && !ours.contains(&below.id()) {
                if room.take(below) || inner.is_empty() {
                    inner.push(Asking::of(below));
                } else {
                    more += 1;
                }
            }
            Ok(Descent::Into)
        })?;
    }
    Ok(Around {
        requested,
        ancestors,
        inner,
        more,
        settled: None,
    })
}

/// What is in force in a cgroup. v2 says it; of v1 it is told from the requests and the tasks, as on some kernels
/// (6.7 to 6.15, cff5f49d433f) reading `freezer.state` lets tasks out of a FROZEN cgroup.
fn effective(
    cgroup: &Cgroup,
    around: &Around,
    tasks: &BTreeMap<i32, Sighting>,
    host: &Host,
) -> Option<Effective> {
    if !around.is_asked() {
        return Some(Effective::Thawed);
    }
    let met = match cgroup.hierarchy() {
        Hierarchy::V2 => match around.settled {
            Some(settled) => settled,
            None => cgroup.event("frozen").ok()?, // gone or unreadable: can't be told
        },
        Hierarchy::V1 => tasks
            .values()
            .all(|task| counts_as_held_by_v1(place(task, host.kernel()), task, host.kernel())),
    };
    Some(if met {
        Effective::Frozen
    } else {
        Effective::Freezing
    })
}

/// Whether a task under a standing v1 request looks held. An uninterruptible sleep that is not known to be freezable
/// is taken for its own.
pub(crate) fn counts_as_held_by_v1(place: Place, task: &Sighting, kernel: Kernel) -> bool {
    match place {
        Place::Refrigerator | Place::InPlace | Place::FreezableSleep | Place::Vfork | Place::Dead => true,
        // Frozen by v2 first: v1 shows by the letter that it has it too.
        Place::Trap => task.letter == 'D',
        // Up to 6.0 stopped tasks count as frozen as they are.
        Place::Stopped | Place::Traced => kernel.has_frozen_flag(),
        Place::Uninterruptible => task.site.is_none(),
        Place::Running | Place::Asleep | Place::Unseen => false,
    }
}
