//! Finds who is called by a name: every source of names is read in a thread of its own, which is waited for as long as its
//! budget lasts. The sources are read once, for all the names that are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use super::index::Index;
use super::passwd;
use super::runtime::names::Names;
use super::runtime::record::Record;
use super::runtime::{ROWS, Runtime, docker, podman};
use super::state::Budget;
use super::timeout::{Awaited, BUDGET, with_timeout};
use super::trust::caller;
use crate::error::{Error, Result};
use crate::host::Host;

/// The sources while they are read.
#[derive(Debug)]
pub(super) struct NameSearch {
    sources: Vec<SearchedSource>,
    index: Sender<Arc<Index>>,
}

/// One source while it is read.
#[derive(Debug)]
struct SearchedSource {
    /// The runtime whose names these are; `None` for those of all the caller's own engines.
    runtime: Option<Runtime>,
    /// The words that errors have for the source.
    called: &'static str,
    reading: Awaited<Names>,
}

impl NameSearch {
    /// Begins to look for `names`.
    pub(super) fn start(host: &Host, names: &BTreeSet<String>) -> Self {
        let (index, from) = mpsc::channel();
        let names = Arc::new(names.clone());
        let for_docker = Arc::clone(&names);
        let mut sources = vec![SearchedSource {
            runtime: Some(Runtime::Docker),
            called: "docker's records",
            reading: with_timeout(host, move |host| of_docker(host, &for_docker, &from)),
        }];
        let rows = ROWS
            .iter()
            .filter_map(|row| Some((row.runtime, row.names.as_ref()?)));
        sources.extend(rows.map(|(runtime, source)| {
            let names = Arc::clone(&names);
            SearchedSource {
                runtime: Some(runtime),
                called: source.called,
                reading: with_timeout(host, move |host| (source.read)(host, &names)),
            }
        }));
        // Run by a user, that user's own engines count as root's do.
        let caller = caller();
        if caller != 0 {
            let own = move |host: &Host| of_user(host, caller, &names, &Budget::default());
            sources.push(SearchedSource {
                runtime: None,
                called: "the stores of your own engines",
                reading: with_timeout(host, own),
            });
        }
        Self { sources, index }
    }

    /// Waits for them. The index tells docker's source of data roots that no configuration names.
    pub(super) fn answered(&self, index: &Arc<Index>) -> Names {
        let _ = self.index.send(Arc::clone(index)); // nobody is there where no thread could be had
        let mut all = Names::default();
        for source in &self.sources {
            match source.reading.wait() {
                Some(names) => all.add(names),
                None => {
                    all.late = true;
                    all.is_lxc_unread |= source.runtime == Some(Runtime::Lxc);
                    let why = format!(
                        "{} could not be read within {} s",
                        source.called,
                        BUDGET.as_secs()
                    );
                    all.unread_sources.push(why);
                }
            }
        }
        all
    }
}

fn of_docker(host: &Host, wanted: &BTreeSet<String>, index: &Receiver<Arc<Index>>) -> Names {
    let mut names = Names::default();
    let mut ids = Vec::new();
    let roots = names.noted(docker::data_roots(host));
    for root in &roots {
        ids.push(docker::in_data_root(root, wanted, None, &mut names));
    }
    // Without one there is nobody who would wait for more.
    let Ok(index) = index.recv() else {
        return names;
    };
    let is_known = |id: &str| ids.iter().any(|known| known.contains(OsStr::new(id)));
    let further = further_roots(host, &index, &roots, &is_known);
    // The way to such a docker's names is in the record of a container of its own.
    names
        .unread_records
        .extend(further.unreadable.iter().map(ToString::to_string));
    for root in &further.roots {
        docker::in_data_root(root, wanted, None, &mut names);
    }
    names
}

/// The names that the engines of one user have: all of them, and whether they can be read, is that user's word. No more
/// than is left of `budget` is read.
pub(super) fn of_user(host: &Host, user: u32, wanted: &BTreeSet<String>, budget: &Budget) -> Names {
    let mut names = Names::default();
    if let Some(home) = names.noted(passwd::home(host, user)) {
        let stored = podman::stored(&podman::store_at(&home), Some(budget));
        podman::names_in(stored, wanted, &mut names);
        docker::in_data_root(
            &home.join(".local/share/docker"),
            wanted,
            Some(budget),
            &mut names,
        );
    }
    names
}

/// The data roots of dockers that no configuration tells of.
#[derive(Debug, Default)]
pub(super) struct FurtherRoots {
    pub(super) roots: BTreeSet<PathBuf>,
    /// The records that would have led to one, and can't be read.
    pub(super) unreadable: Vec<Error>,
}

/// The most containers below one cgroup whose data root is looked for in vain: those of one dockerd are below one, and
/// where its disk is not mounted here no other of them will show it.
const KIN: usize = 16;

/// The data roots that the records of running containers lead to and that are not among `known`. Containers that
/// `is_known` are not asked.
pub(super) fn further_roots(
    host: &Host,
    index: &Index,
    known: &BTreeSet<PathBuf>,
    is_known: &dyn Fn(&str) -> bool,
) -> FurtherRoots {
    let mut further = FurtherRoots::default();
    let mut fruitless: BTreeMap<Option<&Path>, usize> = BTreeMap::new();
    for id in index.may_be_dockers().filter(|id| !is_known(id)) {
        let kin = fruitless.entry(index.parent(id)).or_default();
        if *kin >= KIN {
            continue;
        }
        match data_root_of(host, index, id) {
            Ok(Some(root)) if !known.contains(&root) && further.roots.insert(root.clone()) => {}
            Ok(_) => *kin += 1,
            Err(error) => {
                further.unreadable.push(error);
                *kin += 1;
            }
        }
    }
    further
}

/// The data root that one container's files are mounted from, as its runtime has it on record. What is mounted in its
/// processes' namespace is their own word, and not asked.
///
/// # Errors
///
/// The runtime's record is there and can't be read.
pub(super) fn data_root_of(host: &Host, index: &Index, id: &str) -> Result<Option<PathBuf>> {
    let records: Vec<Record> = index.records(host, id).into_iter().collect::<Result<_>>()?;
    let of_root = records.into_iter().find(|record| record.trust.is_full());
    let root = of_root.and_then(|record| record.about.data_root);
    Ok(root.map(|root| host.inside(&root)))
}
