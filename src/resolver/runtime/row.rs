//! [`RuntimeRow`]: all that the resolver knows of a runtime.

use std::collections::BTreeSet;
use std::path::Path;

use super::details::Details;
use super::kind::Runtime;
use super::names::Names;
use super::pattern::{BareParent, Pattern};
use super::record::{About, Pod, Record, Root};
use crate::error::Result;
use crate::host::Host;
use crate::resolver::state::StateFile;
use crate::resolver::trust::Trust;

/// A runtime, by what it leaves on a host. What does not apply to it stays as [`RuntimeRow::of`] has it.
#[derive(Debug)]
pub(crate) struct RuntimeRow {
    pub(crate) runtime: Runtime,
    /// The names of the runtime's cgroups.
    pub(crate) patterns: &'static [Pattern],
    /// The cgroups right below which its containers are called by a bare ID.
    pub(crate) bare_below: &'static [BareParent],
    /// Cgroups right below the hierarchy's root that hold its containers and are none.
    pub(crate) parents: &'static [&'static str],
    /// The usual paths of a container with a whole ID: what is in front of the ID, and what is behind it.
    pub(crate) usual: &'static [(&'static str, &'static str)],
    /// Whether a container of the runtime always has a record that can be found.
    pub(crate) leaves_record: bool,
    /// Whether the runtime keeps records in a directory of its own name, below `/run` or a user's `/run/user/<UID>`.
    pub(crate) has_own_root: bool,
    /// Opens the further directories of records below `/run`.
    pub(crate) system_roots: Option<OpenRoots>,
    /// Opens the further directories of records below a user's `/run/user/<UID>`.
    pub(crate) user_roots: Option<OpenRoots>,
    /// How its records look.
    pub(crate) format: Option<Format>,
    /// The source of its containers' names.
    pub(crate) names: Option<NameSource>,
    /// Adds the engine's record of a container.
    pub(crate) details: Option<fn(&DetailsQuery<'_>, &mut Details)>,
    /// The reason why its containers can't be frozen by their cgroups, where they can't.
    pub(crate) refusal: Option<&'static str>,
}

/// Opens directories of records below one for state, and adds to the list what can't be opened.
pub(crate) type OpenRoots = fn(&Path, Trust, &mut Vec<String>) -> Vec<Root>;

/// A runtime's format of records.
#[derive(Debug)]
pub(crate) struct Format {
    /// Whether a record is in this format, by the text of its `state.json`; `None` where it has no such file.
    pub(crate) fits: fn(Option<&[u8]>) -> bool,
    /// Reads the record of the container with an ID, whose `state.json` was read already.
    pub(crate) read: fn(&Root, &str, Option<&StateFile>) -> Result<Option<Record>>,
}

/// A source of names.
#[derive(Debug)]
pub(crate) struct NameSource {
    /// The words that errors have for the source.
    pub(crate) called: &'static str,
    /// Looks for names.
    pub(crate) read: fn(&Host, &BTreeSet<String>) -> Names,
}

/// A container whose engine's records are to be read.
#[derive(Debug)]
pub(crate) struct DetailsQuery<'k> {
    pub(crate) host: &'k Host,
    pub(crate) id: &'k str,
    /// The rest of the runtime's record.
    pub(crate) about: &'k About,
    /// The Kubernetes pod that it belongs to.
    pub(crate) pod: Option<&'k Pod>,
}

impl RuntimeRow {
    /// The row of a runtime that leaves a record, and of which nothing else is known yet.
    pub(super) const fn of(runtime: Runtime) -> Self {
        Self {
            runtime,
            patterns: &[],
            bare_below: &[],
            parents: &[],
            usual: &[],
            leaves_record: true,
            has_own_root: false,
            system_roots: None,
            user_roots: None,
            format: None,
            names: None,
            details: None,
            refusal: None,
        }
    }
}
