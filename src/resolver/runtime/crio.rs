//! CRI-O. Its names and images are in the store that podman uses too, the rest is among its annotations.

use std::path::PathBuf;

use super::details::Details;
use super::kind::Runtime;
use super::pattern::{Home, IdKind, pattern};
use super::podman::{Stored, add_stored};
use super::record::About;
use super::row::RuntimeRow;

/// The row of CRI-O.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[
        pattern("crio-", IdKind::Full, ".scope", Home::Slices).with_level("container"),
        pattern("crio-", IdKind::Full, "", Home::Pod),
    ],
    ..RuntimeRow::of(Runtime::Crio)
};

/// Adds what CRI-O has of a container: in its list, and among its annotations.
pub(crate) fn add_to(details: &mut Details, stored: Option<Stored>, about: &About) {
    add_stored(details, stored);
    let get = |key: &str| about.annotations.get(key);
    details.log = get("io.kubernetes.cri-o.LogPath").map(PathBuf::from);
    let labels = get("io.kubernetes.cri-o.Labels").and_then(|text| serde_json::from_str(text).ok()); // not its word
    details.labels = labels.or_else(|| details.labels.take());
}
