//! [`Details`]: an engine's record of a container, as it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::record::Believed;
use crate::error::Result;

/// An engine's record of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// The container's name.
    pub name: Option<String>,
    /// The container's image.
    pub image: Option<String>,
    /// The container's labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The pod that it belongs to: `namespace/name` of Kubernetes', the name of podman's.
    pub pod: Option<String>,
    /// The container's state as the engine believes it; `None` where the engine keeps none.
    pub believed: Option<Believed>,
    /// Whether its engine's own unpause works on what is thawed already: crun asks the kernel, the others remember.
    pub unpauses_what_is_thawed: bool,
    /// The container's root file system.
    pub rootfs: Option<PathBuf>,
    /// The runtime's bundle.
    pub bundle: Option<PathBuf>,
    /// The container's log file.
    pub log: Option<PathBuf>,
    /// The records that are there and could not be read.
    pub unreadable: Vec<String>,
}

/// Takes what was read; an error is noted among the unreadable records.
pub(crate) fn noted<T>(details: &mut Details, read: Result<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|error| {
        details.unreadable.push(error.to_string());
        None
    })
}
