//! From what an operator types to the one container that it means, with every daemon dead. An answer is certain, or
//! it is an error that names the candidates. Reads only; no daemon is asked and no lock is waited for.

mod beside;
mod bolt;
mod census;
mod check;
mod crun;
mod details;
mod docker;
mod ids;
mod kube;
mod lines;
mod lxc;
mod machine;
mod names;
pub mod naming;
mod nerdctl;
mod paths;
mod pids;
mod place;
mod podman;
mod pods;
mod record;
mod roots;
mod runc;
mod shim;
pub(crate) mod state;
pub mod target;
mod trust;
mod users;
mod words;
mod youki;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};
use beside::BUDGET;
use census::Census;
use names::{Asked, Names};
use place::{Point, WriteAt};
use roots::SystemRoots;
use target::Target;

pub use details::{Believed, Details, OfUsers, Pending};
pub(crate) use lines::{Lines, cgroup_lines, task_lines};
pub use record::About;
pub use trust::Trust;

/// Who a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its whole ID; `None` for a cgroup that no runtime's pattern or record names.
    pub id: Option<String>,
    /// Its name, where it was found by it.
    pub name: Option<String>,
    /// Its runtime.
    pub runtime: Option<String>,
    /// Its first process.
    pub pid: Option<i32>,
    /// The directory of its runtime's record.
    pub record: Option<PathBuf>,
    /// Whether it is a Kubernetes pod's sandbox, which holds the pod's namespaces and runs nothing of its own.
    pub is_sandbox: bool,
    /// What else its runtime has on record.
    pub about: About,
    /// Whose word all this is.
    pub trust: Trust,
}

impl Identity {
    /// Who a container is by the name of its cgroup, which is the word of whom `trust` says. A name that nobody is believed
    /// of is not told; a whole ID is hard to mistake for another, and is how such a container is written.
    fn of_cgroup(named: naming::Named, trust: Trust, pid: Option<i32>) -> Self {
        let is_believed = trust != Trust::None;
        let is_whole = target::is_full_id(named.id.as_bytes());
        Self {
            name: named.id_as_name().filter(|_| is_believed),
            runtime: named.runtime.map(str::to_owned),
            id: Some(named.id).filter(|_| is_believed || is_whole),
            pid,
            trust,
            ..Self::default()
        }
    }
}

/// A container: its cgroups, held open, so that what was verified is what is written.
#[derive(Debug)]
pub struct Container {
    /// Who it is.
    pub identity: Identity,
    /// The cgroups that are its own, in either hierarchy, each level that can ask for a freeze. All its tasks in a
    /// hierarchy are in the first one there, or below.
    pub own: Vec<Cgroup>,
    /// The one of `own` that a freeze writes.
    pub freeze_at: usize,
    /// The cgroups that its tasks share with others; they are read and never written.
    pub shared: Vec<Cgroup>,
}

impl Container {
    /// Where a freeze writes.
    #[must_use]
    pub fn freeze_point(&self) -> &Cgroup {
        &self.own[self.freeze_at]
    }

    /// Refuses what is no container by its runtime, as what Kata runs is: only its cgroup can be meant.
    pub(crate) fn may_be_acted_on(&self) -> Result<()> {
        match naming::refusal(self.identity.runtime.as_deref()) {
            Some(why) => Err(Error::Unsupported(format!(
                "{}: {why}",
                self.freeze_point().dir().display()
            ))),
            None => Ok(()),
        }
    }

    /// The first one of its own in each hierarchy, which holds the others there.
    pub(crate) fn tops(&self) -> impl Iterator<Item = &Cgroup> {
        self.own.iter().enumerate().filter_map(|(at, cgroup)| {
            let mut before = self.own[..at].iter();
            before
                .all(|other| other.hierarchy() != cgroup.hierarchy())
                .then_some(cgroup)
        })
    }
}

/// A container, and what was read of it on the way to it. It is good for a look right then; whoever acts reads anew.
#[derive(Debug)]
pub struct Glimpse {
    /// The container.
    pub container: Container,
    /// Its tasks, where all of its cgroups were listed.
    pub(crate) tids: Option<BTreeSet<i32>>,
    /// The cgroups of its first process.
    pub(crate) lines: Option<Lines>,
}

impl Glimpse {
    /// One of a container that was found in another way.
    pub(crate) fn of(host: &Host, container: Container) -> Self {
        let lines = container.identity.pid.and_then(|pid| cgroup_lines(host, pid));
        Self {
            container,
            tids: None,
            lines,
        }
    }
}

/// What a target means.
#[derive(Debug)]
pub struct Found {
    /// The container.
    pub container: Container,
    /// What the target could also have meant, at a lower rank.
    pub notes: Vec<String>,
}

/// Which container `pid:` means where containers are nested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nesting {
    /// None: the chain is listed.
    #[default]
    Refuse,
    /// The one that holds the others.
    Outer,
    /// The one next to the process.
    Inner,
}

/// One reading of a target: a container whose process lives, and the cgroup that it is in.
#[derive(Debug)]
struct Located {
    identity: Identity,
    first: Cgroup,
    /// Which level its runtime freezes.
    point: Point,
    /// The other hierarchy's path on record.
    other: Option<PathBuf>,
    /// The cgroups of its first process, where they were read.
    lines: Option<Lines>,
}

impl Located {
    /// Whether its runtime must have had a record of it, and none was found.
    fn lacks_record(&self) -> bool {
        let leaves_none = matches!(
            self.identity.runtime.as_deref(),
            Some("lxc" | "machine" | naming::KATA)
        );
        self.identity.record.is_none() && !leaves_none
    }
}

/// What a target is resolved for, which says how sure its meaning must be while a source of names can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// To thaw it or to look at it: what was found is meant, with a note on what could not be read.
    Look,
    /// To freeze or to end it, which would stop the wrong container: what is not certain is an error.
    #[default]
    Freeze,
}

/// Finds containers. What it has read once it does not read again, so that a disk that hangs costs its budget once,
/// however many targets there are; what it knows is of the time when it was first asked.
#[derive(Debug)]
pub struct Resolver<'h> {
    host: &'h Host,
    purpose: Purpose,
    /// Every name among the targets.
    wanted: BTreeSet<String>,
    /// The sources of names, once they are being read.
    asked: OnceCell<Asked>,
    roots: OnceCell<Arc<SystemRoots>>,
    census: OnceCell<Arc<Census>>,
    names: OnceCell<Names>,
}

impl<'h> Resolver<'h> {
    /// Prepares to find these targets, and reads nothing yet.
    pub fn new<'t>(host: &'h Host, targets: impl IntoIterator<Item = &'t Target>) -> Self {
        Self {
            host,
            purpose: Purpose::default(),
            wanted: targets.into_iter().filter_map(Target::name).collect(),
            asked: OnceCell::new(),
            roots: OnceCell::new(),
            census: OnceCell::new(),
            names: OnceCell::new(),
        }
    }

    /// Says what the targets are resolved for; unless said otherwise, to be frozen.
    #[must_use]
    pub fn with_purpose(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// Finds the container that `target` means; of a pod all its containers.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::NotRunning`]; [`Error::Ambiguous`] where it means more than one or may do so;
    /// [`Error::Unsupported`] where the hierarchy is missing or the caller may not look.
    pub fn resolve(&self, target: &Target, nesting: Nesting) -> Result<Vec<Found>> {
        let host = self.host;
        host.check_freezer()?;
        // Names are looked for all at once, and this one was not among them.
        if target.name().is_some_and(|name| !self.wanted.contains(&name)) {
            let resolver = Resolver::new(host, [target]).with_purpose(self.purpose);
            return resolver.resolve(target, nesting);
        }
        let one = match target {
            Target::Pod(pod) => return pods::by_pod(self, pod),
            Target::Bare(word) => words::bare(self, word),
            Target::Id(id) => ids::by_id(self, id),
            Target::Name(name) => words::by_name(self, name),
            Target::User(user, inner) => users::of_user(self, user, inner),
            Target::Pid(pid) => pids::by_pid(self, *pid, nesting),
            Target::In(hierarchy, path) => {
                paths::by_cgroup(host, *hierarchy, target::trimmed(path)).map(found)
            }
            Target::Cgroup(path) => paths::by_path_or_directory(self, target::trimmed(path)).map(found),
            Target::Path(path) => paths::by_directory(self, target::trimmed(path)),
        }?;
        if !matches!(target, Target::In(..) | Target::Cgroup(_) | Target::Path(_)) {
            one.container.may_be_acted_on()?;
        }
        Ok(vec![one])
    }

    /// Everything that can be a container, by its ID. It can be shared by threads that look at a part each.
    #[must_use]
    pub fn everything(&self) -> Everything {
        let census = Arc::clone(self.census());
        let mut ids = census.all_ids(self.host);
        ids.sort_unstable();
        Everything {
            host: self.host.another(),
            ids,
            census,
        }
    }

    /// Whether a source of names did not answer in time.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.names.get().is_some_and(|names| names.late)
    }

    fn roots(&self) -> &Arc<SystemRoots> {
        self.roots.get_or_init(|| Arc::new(SystemRoots::open(self.host)))
    }

    fn census(&self) -> &Arc<Census> {
        let take = || Arc::new(Census::take(self.host, Arc::clone(self.roots())));
        self.census.get_or_init(take)
    }

    /// Begins to read the sources of names, which takes its time beside everything else.
    fn ask_names(&self) {
        self.asked.get_or_init(|| Asked::start(self.host, &self.wanted));
    }

    fn names(&self) -> &Names {
        self.ask_names();
        self.names.get_or_init(|| match self.asked.get() {
            Some(asked) => asked.answered(self.census()),
            None => Names::default(), // it was asked a line above
        })
    }

    /// The containers with these IDs, as candidates.
    fn candidates(&self, ids: &[&str]) -> Vec<Candidate> {
        let each = ids.iter().map(|id| {
            let mut live = ids::locate(self.host, self.census(), id).live.into_iter();
            let identity = live.next().map(|located| located.identity).unwrap_or_default();
            let candidate = Candidate {
                runtime: runtime_of(&identity),
                name: identity.name.clone(),
                id: (*id).to_owned(),
                unambiguous: match identity.name {
                    Some(_) => format!("name:{id}"),
                    None => format!("id:{id}"),
                },
            };
            (identity, candidate)
        });
        self.introduced(each.collect())
    }

    /// Candidates with the names and runtimes that their engines have on record, as far as those can be read in time.
    fn introduced(&self, candidates: Vec<(Identity, Candidate)>) -> Vec<Candidate> {
        let (identities, mut candidates): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
        // What hung before would hang again.
        if self.is_late() {
            return candidates;
        }
        let mut records = Pending::start(self.host, identities);
        for candidate in &mut candidates {
            let Some(details) = records.next(BUDGET) else {
                break;
            };
            // Those two alone keep a belief on disk, and podman's cgroups bear its name.
            if details.believed.is_some() && candidate.runtime != "podman" {
                candidate.runtime = "docker".to_owned();
            }
            candidate.name = candidate.name.take().or(details.name);
        }
        candidates
    }
}

/// What is known by an ID, and is no container that can be told.
#[derive(Debug)]
pub struct Unknown {
    /// The ID.
    pub id: String,
    /// The runtime, where its place says it.
    pub runtime: Option<&'static str>,
    /// Why.
    pub why: Error,
}

/// What can be a container on a host. Which of it is one is found when it is looked at, so that ten thousand need not be
/// held open together.
#[derive(Debug)]
pub struct Everything {
    host: Host,
    census: Arc<Census>,
    ids: Vec<String>,
}

impl Everything {
    /// The IDs, sorted.
    #[must_use]
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// The containers with one of the IDs, or why there is none.
    #[must_use]
    pub fn containers(&self, id: &str) -> Vec<std::result::Result<Glimpse, Unknown>> {
        let traces = ids::locate_all(&self.host, &self.census, id);
        let unknown = |why| Unknown {
            id: id.to_owned(),
            runtime: self.census.runtime_of(id),
            why,
        };
        if traces.live.is_empty() {
            return traces
                .reason_of_roots()
                .map(|error| Err(unknown(error)))
                .into_iter()
                .collect();
        }
        let each = each_once(&self.host, traces.live).into_iter();
        each.map(|one| one.map_err(unknown)).collect()
    }

    /// The sources of root's that could not be read.
    #[must_use]
    pub fn incomplete(&self) -> &[String] {
        &self.census.incomplete
    }
}

/// Finds the one container that `target` means.
///
/// # Errors
///
/// As [`Resolver::resolve`]; [`Error::Ambiguous`] for a pod of several containers.
pub fn resolve(host: &Host, target: &Target, nesting: Nesting) -> Result<Found> {
    let mut all = Resolver::new(host, [target]).resolve(target, nesting)?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(one), false) => {
            all.push(one);
            Err(Error::Ambiguous {
                why: format!("it means {} containers", all.len()),
                candidates: all.iter().map(|one| described(&one.container, true).1).collect(),
            })
        }
        (None, _) => Err(Error::NotFound("it means none".to_owned())),
    }
}

fn found(container: Container) -> Found {
    Found {
        container,
        notes: Vec::new(),
    }
}

fn completed(host: &Host, located: Located) -> Result<Container> {
    place::complete(host, located, WriteAt::Runtime)
}

fn no_such(word: &str) -> Error {
    Error::NotFound(format!("\"{}\"", word.escape_debug()))
}

/// The containers that were found under one ID or name, each once: whoever was found by a cgroup of each hierarchy is one,
/// v1's, also where a process of it strayed in one of them, so that the other's cgroup is not its alone.
fn each_once(host: &Host, live: Vec<Located>) -> Vec<Result<Glimpse>> {
    let (v1, v2): (Vec<_>, Vec<_>) = live
        .into_iter()
        .partition(|located| located.first.hierarchy() == Hierarchy::V1);
    let mut known: Vec<CgroupId> = Vec::new();
    let mut all = Vec::new();
    for located in v1.into_iter().chain(v2) {
        if known.contains(&located.first.id()) {
            continue;
        }
        let glimpse = place::glimpse(host, located, WriteAt::Runtime);
        if let Ok(Glimpse { container, .. }) = &glimpse {
            known.extend(container.own.iter().chain(&container.shared).map(Cgroup::id));
        }
        all.push(glimpse);
    }
    all
}

/// One container out of what was found: a cgroup found twice, also once in each hierarchy, is one.
fn only(resolver: &Resolver<'_>, word: &str, live: Vec<Located>) -> Result<Found> {
    // What the engine's record does not say is told by the cgroup's name, where root alone can have given it.
    let told = live
        .iter()
        .filter(|one| one.lacks_record() && one.identity.trust.is_full())
        .map(|one| {
            format!(
                "{word} is told by its cgroup {} alone: its engine's record was not found",
                one.first.dir().display()
            )
        });
    let notes: Vec<String> = told.take(1).collect();
    let each = each_once(resolver.host, live).into_iter();
    let mut containers = each
        .map(|one| one.map(|glimpse| glimpse.container))
        .collect::<Result<Vec<Container>>>()?;
    match (containers.pop(), containers.is_empty()) {
        (Some(container), true) => Ok(Found { container, notes }),
        (Some(last), false) => {
            containers.push(last);
            let mut ids = BTreeSet::new();
            let distinct = containers
                .iter()
                .all(|one| ids.insert(one.identity.id.as_deref()));
            let candidates =
                resolver.introduced(containers.iter().map(|one| described(one, distinct)).collect());
            Err(Error::Ambiguous {
                why: format!(
                    "\"{}\" means {} containers",
                    word.escape_debug(),
                    containers.len()
                ),
                candidates,
            })
        }
        (None, _) => Err(no_such(word)),
    }
}

/// A container of which one cgroup is known, as a candidate.
fn described_first(located: &Located) -> Candidate {
    let at = &located.first;
    let path = target::cgroup(at.hierarchy(), at.path());
    Candidate {
        runtime: runtime_of(&located.identity),
        name: located.identity.name.clone(),
        id: located.identity.id.clone().unwrap_or_else(|| path.clone()),
        unambiguous: path,
    }
}

fn described(container: &Container, id_is_enough: bool) -> (Identity, Candidate) {
    let at = container.freeze_point();
    let path = target::cgroup(at.hierarchy(), at.path());
    let id = container.identity.id.clone();
    let candidate = Candidate {
        runtime: runtime_of(&container.identity),
        name: container.identity.name.clone(),
        unambiguous: match &id {
            Some(id) if id_is_enough => format!("id:{id}"),
            _ => path.clone(),
        },
        id: id.unwrap_or(path),
    };
    (container.identity.clone(), candidate)
}

fn runtime_of(identity: &Identity) -> String {
    identity.runtime.clone().unwrap_or_else(|| "container".to_owned())
}
