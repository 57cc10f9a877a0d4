//! [`Names`]: the containers that have a name, as a source of names says it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::kind::Runtime;
use crate::error::{Error, Result};
use crate::resolver::trust::caller;

/// A container that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameHolder {
    /// The one with this ID.
    Id {
        id: String,
        runtime: Runtime,
        /// The first process, where the engine that has the name on record has it too.
        pid: Option<i32>,
    },
    /// LXC's, at this place.
    Lxc(ConfiguredPlace),
}

/// The answer of one source of names, or of all of them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// The names that were asked for, and found.
    held: BTreeMap<String, Vec<NameHolder>>,
    /// The names of all of LXC's containers.
    pub(crate) lxc: BTreeSet<String>,
    /// Whether LXC can have others, as not all of its containers could be listed.
    pub(crate) is_lxc_unread: bool,
    /// The sources that could not be read: a name, found or not, may be there too.
    pub(crate) unread_sources: Vec<String>,
    /// Records of a source that could not be read: a name that was not found there may be there all the same.
    pub(crate) unread_records: Vec<String>,
    /// Whether a source did not answer in time.
    pub(crate) late: bool,
}

impl Names {
    /// The containers with a name.
    pub(crate) fn of(&self, name: &str) -> &[NameHolder] {
        self.held.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether LXC has a container of that name configured.
    pub(crate) fn is_lxc(&self, name: &str) -> bool {
        self.lxc.contains(name)
    }

    /// Adds a container that has `name`.
    pub(crate) fn hold(&mut self, name: &str, holder: NameHolder) {
        let held = self.held.entry(name.to_owned()).or_default();
        if !held.contains(&holder) {
            held.push(holder);
        }
    }

    /// Adds what another source says.
    pub(crate) fn add(&mut self, other: Self) {
        for (name, holders) in other.held {
            holders.into_iter().for_each(|holder| self.hold(&name, holder));
        }
        self.lxc.extend(other.lxc);
        self.is_lxc_unread |= other.is_lxc_unread;
        self.unread_sources.extend(other.unread_sources);
        self.unread_records.extend(other.unread_records);
    }

    /// Takes what could not be read as a reason to be unsure.
    pub(crate) fn noted<T: Default>(&mut self, read: Result<T>) -> T {
        read.unwrap_or_else(|error| {
            if !is_roots_own(&error) {
                self.unread_sources.push(error.to_string());
            }
            T::default()
        })
    }
}

/// Whether what could not be read is root's, and may not be read by the user who asks: it is of no container that the user
/// could act on.
pub(crate) fn is_roots_own(error: &Error) -> bool {
    matches!(error, Error::Unsupported(_)) && caller() != 0
}

/// The cgroup of a container of LXC's whose configuration says it outright.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfiguredPlace {
    /// The cgroup that LXC freezes.
    pub(crate) path: PathBuf,
    /// The level below that holds the tasks.
    pub(crate) inner: Option<PathBuf>,
}
