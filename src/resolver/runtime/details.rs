//! What an engine has on record of a container, as it is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::record::Believed;
use crate::error::Result;

/// What an engine has on record of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Its name.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The pod that it belongs to: `namespace/name` of Kubernetes', the name of podman's.
    pub pod: Option<String>,
    /// What the engine believes of its state; `None` where it keeps nothing.
    pub believed: Option<Believed>,
    /// Whether its engine's own unpause works on what is thawed already: crun asks the kernel, the others remember.
    pub unpauses_what_is_thawed: bool,
    /// Its root file system.
    pub rootfs: Option<PathBuf>,
    /// The runtime's bundle.
    pub bundle: Option<PathBuf>,
    /// Its log file.
    pub log: Option<PathBuf>,
    /// The records that are there and could not be read.
    pub unreadable: Vec<String>,
}

/// What was read, or nothing and a note of why.
pub(crate) fn noted<T>(details: &mut Details, read: Result<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|error| {
        details.unreadable.push(error.to_string());
        None
    })
}
