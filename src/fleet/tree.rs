//! The cgroup tree with what asks for a freeze in it, of its own or by an ancestor.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cgroup::{Cgroup, Descent};
use crate::engine::LONGEST_PATH;
use crate::error::Result;
use crate::freezer::shown;
use crate::host::{Hierarchy, Host};
use crate::report::SCHEMA;

/// One cgroup of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// [`SCHEMA`].
    pub schema: u32,
    /// 1 or 2.
    pub version: u8,
    /// Its path in the hierarchy.
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    /// How many levels it is below the one that the tree begins with.
    pub depth: usize,
    /// Whether it asks for a freeze itself; `None` where it could not be read.
    pub asks: Option<bool>,
    /// Whether a cgroup above it asks, which holds it too.
    pub inherits: bool,
}

impl Node {
    /// Whether it is held, or asked to be.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.inherits || self.asks == Some(true)
    }
}

/// The tree below `path`, parents before children, each before its next sibling.
///
/// # Errors
///
/// As [`Cgroup::open`]. What vanishes meanwhile is left out, and so is what is below a branch that is too deep to be
/// walked: its cgroup is returned too.
pub fn tree(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<(Vec<Node>, Option<PathBuf>)> {
    let top = Cgroup::open(host, hierarchy, path)?;
    let mut inherits = false;
    for ancestor in top.ancestors(host)? {
        inherits |= ancestor.requested()?;
    }
    let base = path.components().count();
    let node = |cgroup: &Cgroup, inherits: bool| Node {
        schema: SCHEMA,
        version: hierarchy.version(),
        path: cgroup.path().to_owned(),
        depth: cgroup.path().components().count() - base,
        asks: cgroup.requested().ok(), // one that is closed to the caller is told of as not known
        inherits,
    };
    let mut all = vec![node(&top, inherits)];
    // Whether each level of the branch that the walk is in holds what is below it.
    let mut held = vec![all[0].is_frozen()];
    let mut too_long = None;
    let cut = top.walk(&mut |cgroup| {
        let depth = cgroup.path().components().count() - base;
        held.truncate(depth);
        let this = node(cgroup, held.last().copied().unwrap_or(false));
        held.push(this.is_frozen());
        all.push(this);
        // A cgroup below has a longer path, which can't be given to the kernel or as a target.
        if cgroup.path().as_os_str().len() > LONGEST_PATH {
            too_long.get_or_insert_with(|| cgroup.path().to_owned());
            return Ok(Descent::Past);
        }
        Ok(Descent::Into)
    })?;
    Ok((all, cut.or(too_long)))
}
