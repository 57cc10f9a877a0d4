//! [`Resolver`]: what is read once for all the targets of a call.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::container::{Identity, runtime_of};
use super::details::Pending;
use super::index::Index;
use super::matches::locate;
use super::names::NameSearch;
use super::runtime::Runtime;
use super::runtime::names::Names;
use super::runtime::roots::SystemRoots;
use super::target::Target;
use super::timeout::BUDGET;
use crate::error::Candidate;
use crate::host::Host;

/// The container that `pid:` means where containers are nested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nesting {
    /// No container: the error lists the chain.
    #[default]
    Refuse,
    /// The container that holds the others.
    Outer,
    /// The container next to the process.
    Inner,
}

/// The purpose of resolving a target, which says how sure its meaning must be while a source of names can't be read.
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
    pub(super) host: &'h Host,
    pub(super) purpose: Purpose,
    /// Every name among the targets.
    pub(super) wanted: BTreeSet<String>,
    /// The sources of names, once they are being read.
    asked: OnceCell<NameSearch>,
    roots: OnceCell<Arc<SystemRoots>>,
    index: OnceCell<Arc<Index>>,
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
            index: OnceCell::new(),
            names: OnceCell::new(),
        }
    }

    /// Says what the targets are resolved for; unless said otherwise, to be frozen.
    #[must_use]
    pub fn with_purpose(self, purpose: Purpose) -> Self {
        Self { purpose, ..self }
    }

    /// Whether a source of names did not answer in time.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.names.get().is_some_and(|names| names.late)
    }

    pub(super) fn roots(&self) -> &Arc<SystemRoots> {
        self.roots.get_or_init(|| Arc::new(SystemRoots::open(self.host)))
    }

    pub(super) fn index(&self) -> &Arc<Index> {
        let take = || Arc::new(Index::take(self.host, Arc::clone(self.roots())));
        self.index.get_or_init(take)
    }

    /// Begins to read the sources of names, which takes its time beside everything else.
    pub(super) fn ask_names(&self) {
        self.asked
            .get_or_init(|| NameSearch::start(self.host, &self.wanted));
    }

    pub(super) fn names(&self) -> &Names {
        self.ask_names();
        self.names.get_or_init(|| match self.asked.get() {
            Some(asked) => asked.answered(self.index()),
            None => Names::default(), // it was asked a line above
        })
    }

    /// The containers with these IDs, as candidates.
    pub(super) fn candidates(&self, ids: &[&str]) -> Vec<Candidate> {
        let each = ids.iter().map(|id| {
            let mut live = locate(self.host, self.index(), id).live.into_iter();
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
    pub(super) fn introduced(&self, candidates: Vec<(Identity, Candidate)>) -> Vec<Candidate> {
        let (identities, mut candidates): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
        // A disk that hung before would hang again.
        if self.is_late() {
            return candidates;
        }
        let mut records = Pending::start(self.host, identities);
        for candidate in &mut candidates {
            let Some(details) = records.next(BUDGET) else {
                break;
            };
            // docker and podman alone keep a belief on disk, and podman's cgroups bear its name.
            if details.believed.is_some() && candidate.runtime != Runtime::Podman.name() {
                candidate.runtime = Runtime::Docker.name().to_owned();
            }
            candidate.name = candidate.name.take().or(details.name);
        }
        candidates
    }
}
