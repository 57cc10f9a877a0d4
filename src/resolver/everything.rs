//! Everything that can be a container on a host, by its ID.

use std::sync::Arc;

use super::answer::each_once;
use super::container::Probe;
use super::index::Index;
use super::lookup::Resolver;
use super::matches;
use super::runtime::Runtime;
use crate::error::Error;
use crate::host::Host;

impl Resolver<'_> {
    /// Everything that can be a container, by its ID. It can be shared by threads that look at a part each.
    #[must_use]
    pub fn everything(&self) -> Everything {
        let index = Arc::clone(self.index());
        let mut ids = index.all_ids(self.host);
        ids.sort_unstable();
        Everything {
            host: self.host.another(),
            ids,
            index,
        }
    }
}

/// An ID that is known, and whose container can't be told.
#[derive(Debug)]
pub struct Unknown {
    /// The ID.
    pub id: String,
    /// The runtime, where its place says it.
    pub runtime: Option<Runtime>,
    /// Why.
    pub why: Error,
}

/// All that can be a container on a host. Which of it is one is found when it is looked at, so that ten thousand need not be
/// held open together.
#[derive(Debug)]
pub struct Everything {
    host: Host,
    index: Arc<Index>,
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
    pub fn containers(&self, id: &str) -> Vec<std::result::Result<Probe, Unknown>> {
        let found = matches::locate_all(&self.host, &self.index, id);
        let unknown = |why| Unknown {
            id: id.to_owned(),
            runtime: self.index.runtime_of(id),
            why,
        };
        if found.live.is_empty() {
            return found
                .reason_of_roots()
                .map(|error| Err(unknown(error)))
                .into_iter()
                .collect();
        }
        let each = each_once(&self.host, found.live).into_iter();
        each.map(|one| one.map_err(unknown)).collect()
    }

    /// The sources of root's that could not be read.
    #[must_use]
    pub fn incomplete(&self) -> &[String] {
        &self.index.incomplete
    }
}
