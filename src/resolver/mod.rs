//! From what an operator types to the one container that it means, with every daemon dead. An answer is certain, or
//! it is an error that names the candidates. Reads only; no daemon is asked and no lock is waited for.

mod census;
mod details;
mod docker;
mod ids;
mod lines;
pub mod naming;
mod paths;
mod pids;
mod place;
mod runc;
mod shim;
mod state;
pub mod target;
mod words;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Candidate, Error, Result};
use crate::host::Host;
use census::Census;
use place::WriteAt;
use target::Target;

pub use details::{Believed, Details, Pending};
pub(crate) use lines::cgroup_lines;

/// How long one source of names may take before a name counts as uncertain.
const BUDGET: Duration = Duration::from_secs(2);

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
}

/// A container: its cgroups, held open, so that what was verified is what is written.
#[derive(Debug)]
pub struct Container {
    /// Who it is.
    pub identity: Identity,
    /// The cgroups that are its own, in either hierarchy, each level that can ask for a freeze.
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

/// Every container on a host.
#[derive(Debug)]
pub struct Listing {
    /// Each, or who it is and why it can't be told.
    pub containers: Vec<std::result::Result<Found, (Identity, Error)>>,
    /// The sources that could not be read.
    pub incomplete: Vec<String>,
}

/// One reading of a target: a container whose process lives, and the cgroup that it is in.
#[derive(Debug)]
struct Located {
    identity: Identity,
    first: Cgroup,
    /// The other hierarchy's path on record.
    other: Option<PathBuf>,
}

/// Finds the container that `target` means.
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::NotRunning`]; [`Error::Ambiguous`] where it means more than one or may do so;
/// [`Error::Unsupported`] where the hierarchy is missing or the caller may not look.
pub fn resolve(host: &Host, target: &Target, nesting: Nesting) -> Result<Found> {
    match target {
        Target::Bare(word) => words::bare(host, word),
        Target::Id(id) => ids::by_id(host, id),
        Target::Name(name) => words::by_name(host, name),
        Target::Pid(pid) => pids::by_pid(host, *pid, nesting),
        Target::In(hierarchy, path) => paths::by_cgroup(host, *hierarchy, target::trimmed(path)).map(found),
        Target::Cgroup(path) => paths::by_path_in_either(host, target::trimmed(path)).map(found),
        Target::Path(path) => paths::by_directory(host, target::trimmed(path)),
        Target::Pod(pod) => Err(Error::Unsupported(format!(
            "{pod}: Kubernetes pods are not resolved yet: name the container by its ID"
        ))),
    }
}

/// Lists every container, each once.
#[must_use]
pub fn all(host: &Host) -> Listing {
    let census = Census::take(host);
    let mut seen = BTreeSet::new();
    let mut containers = Vec::new();
    for (id, runtime) in census.ids() {
        let (live, dead) = ids::locate(host, &census, id);
        let is_live = !live.is_empty();
        for located in live {
            let identity = located.identity.clone();
            match completed(host, located) {
                Ok(container) if seen.insert(container.freeze_point().id()) => {
                    containers.push(Ok(found(container)))
                }
                Ok(_) => {}
                Err(error) => containers.push(Err((identity, error))),
            }
        }
        if let Some(error) = dead.into_iter().next().filter(|_| !is_live) {
            let identity = Identity {
                id: Some(id.to_owned()),
                runtime: runtime.map(str::to_owned),
                ..Identity::default()
            };
            containers.push(Err((identity, error)));
        }
    }
    Listing {
        containers,
        incomplete: census.incomplete,
    }
}

fn found(container: Container) -> Found {
    Found {
        container,
        notes: Vec::new(),
    }
}

fn completed(host: &Host, located: Located) -> Result<Container> {
    place::complete(
        host,
        located.identity,
        located.first,
        located.other.as_deref(),
        WriteAt::Runtime,
    )
}

fn no_such(word: &str) -> Error {
    Error::NotFound(format!("\"{}\"", word.escape_debug()))
}

/// One container out of what was found: a cgroup found twice, also once in each hierarchy, is one.
fn only(host: &Host, word: &str, mut live: Vec<Located>) -> Result<Found> {
    live.sort_by_key(|located| located.first.hierarchy());
    let mut containers: Vec<Container> = Vec::new();
    for located in live {
        let known: Vec<CgroupId> = containers
            .iter()
            .flat_map(|one| &one.own)
            .map(Cgroup::id)
            .collect();
        if !known.contains(&located.first.id()) {
            containers.push(completed(host, located)?);
        }
    }
    match (containers.pop(), containers.is_empty()) {
        (Some(container), true) => Ok(found(container)),
        (Some(last), false) => {
            containers.push(last);
            let ids: BTreeSet<_> = containers.iter().map(|one| &one.identity.id).collect();
            let distinct = ids.len() == containers.len();
            let candidates = introduced(
                host,
                containers.iter().map(|one| described(one, distinct)).collect(),
            );
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

fn described(container: &Container, id_is_enough: bool) -> (Identity, Candidate) {
    let at = container.freeze_point();
    let path = format!("v{}:{}", at.hierarchy().version(), at.path().display());
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

/// The containers with these IDs, as candidates.
fn candidates(host: &Host, census: &Census, ids: &[&str]) -> Vec<Candidate> {
    let each = ids.iter().map(|id| {
        let (live, _) = ids::locate(host, census, id);
        let identity = live
            .into_iter()
            .next()
            .map(|located| located.identity)
            .unwrap_or_default();
        let candidate = Candidate {
            runtime: runtime_of(&identity),
            name: identity.name.clone(),
            id: (*id).to_owned(),
            unambiguous: format!("id:{id}"),
        };
        (identity, candidate)
    });
    introduced(host, each.collect())
}

/// Candidates with the names and runtimes that their engines have on record, as far as those can be read in time.
fn introduced(host: &Host, candidates: Vec<(Identity, Candidate)>) -> Vec<Candidate> {
    let (identities, mut candidates): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
    let records = Details::start(host, identities);
    for candidate in &mut candidates {
        let Some(details) = records.next(BUDGET) else {
            break;
        };
        if details.believed.is_some() {
            candidate.runtime = "docker".to_owned(); // it alone keeps a belief on disk
        }
        candidate.name = candidate.name.take().or(details.name);
    }
    candidates
}
