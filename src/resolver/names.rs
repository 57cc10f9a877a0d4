//! Who is called by a name: every source of names there is, each read in a thread of its own and waited for as long as
//! its budget lasts. They are read once, for all the names that are asked for.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use super::beside::{BUDGET, Reading, beside};
use super::census::Census;
use super::passwd;
use super::runtime::Runtime;
use super::runtime::record::Record;
use super::runtime::{docker, lxc, nerdctl, podman};
use super::state::Budget;
use super::trust::caller;
use crate::error::{Error, Result};
use crate::host::Host;

/// A container that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// The one with this ID.
    Id {
        id: String,
        runtime: Runtime,
        /// Its first process, where the engine that has the name on record has it too.
        pid: Option<i32>,
    },
    /// LXC's, at this place.
    Lxc(lxc::Place),
}

/// What one source, or all, say.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names that were asked for, and found.
    held: BTreeMap<String, Vec<Holder>>,
    /// The names of all of LXC's containers.
    lxc: BTreeSet<String>,
    /// Whether LXC can have others, as not all of its containers could be listed.
    pub(super) is_lxc_unread: bool,
    /// The sources that could not be read: a name, found or not, may be there too.
    pub(super) unsure: Vec<String>,
    /// Records of a source that could not be read: a name that was not found there may be there all the same.
    pub(super) torn: Vec<String>,
    /// Whether a source did not answer in time.
    pub(super) late: bool,
}

impl Names {
    /// The containers with a name.
    pub(super) fn of(&self, name: &str) -> &[Holder] {
        self.held.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether LXC has a container of that name configured.
    pub(super) fn is_lxc(&self, name: &str) -> bool {
        self.lxc.contains(name)
    }

    fn hold(&mut self, name: &str, holder: Holder) {
        let held = self.held.entry(name.to_owned()).or_default();
        if !held.contains(&holder) {
            held.push(holder);
        }
    }

    fn add(&mut self, other: Self) {
        for (name, holders) in other.held {
            holders.into_iter().for_each(|holder| self.hold(&name, holder));
        }
        self.lxc.extend(other.lxc);
        self.is_lxc_unread |= other.is_lxc_unread;
        self.unsure.extend(other.unsure);
        self.torn.extend(other.torn);
    }

    /// Takes what could not be read as a reason to be unsure.
    fn noted<T: Default>(&mut self, read: Result<T>) -> T {
        read.unwrap_or_else(|error| {
            if !is_roots_own(&error) {
                self.unsure.push(error.to_string());
            }
            T::default()
        })
    }
}

/// Whether what could not be read is root's, and may not be read by the user who asks: it is of no container that the user
/// could act on.
pub(super) fn is_roots_own(error: &Error) -> bool {
    matches!(error, Error::Unsupported(_)) && caller() != 0
}

const LXC: &str = "LXC's configurations";

/// The sources while they are read.
#[derive(Debug)]
pub(super) struct Asked {
    sources: Vec<(&'static str, Reading<Names>)>,
    census: Sender<Arc<Census>>,
}

impl Asked {
    /// Begins to look for `names`.
    pub(super) fn start(host: &Host, names: &BTreeSet<String>) -> Self {
        let (census, from) = mpsc::channel();
        let names = Arc::new(names.clone());
        let begin = |read: fn(&Host, &BTreeSet<String>) -> Names| {
            let names = Arc::clone(&names);
            beside(host, move |host| read(host, &names))
        };
        let (for_docker, for_caller) = (Arc::clone(&names), Arc::clone(&names));
        let sources = vec![
            (
                "docker's records",
                beside(host, move |host| of_docker(host, &for_docker, &from)),
            ),
            ("podman's store", begin(of_podman)),
            ("nerdctl's names", begin(of_nerdctl)),
            (LXC, begin(of_lxc)),
        ];
        let mut asked = Self { sources, census };
        // Run by a user, that user's own engines count as root's do.
        let caller = caller();
        if caller != 0 {
            let names = Arc::clone(&for_caller);
            let own = beside(host, move |host| {
                of_user(host, caller, &names, &Budget::default())
            });
            asked.sources.push(("the stores of your own engines", own));
        }
        asked
    }

    /// Waits for them. The census tells docker's source of data roots that no configuration names.
    pub(super) fn answered(&self, census: &Arc<Census>) -> Names {
        let _ = self.census.send(Arc::clone(census)); // nobody is there where no thread could be had
        let mut all = Names::default();
        for (source, reading) in &self.sources {
            match reading.wait() {
                Some(names) => all.add(names),
                None => {
                    all.late = true;
                    all.is_lxc_unread |= *source == LXC;
                    let why = format!("{source} could not be read within {} s", BUDGET.as_secs());
                    all.unsure.push(why);
                }
            }
        }
        all
    }
}

fn of_docker(host: &Host, wanted: &BTreeSet<String>, census: &Receiver<Arc<Census>>) -> Names {
    let mut names = Names::default();
    let mut ids = Vec::new();
    let roots = names.noted(docker::data_roots(host));
    for root in &roots {
        ids.push(in_data_root(root, wanted, None, &mut names));
    }
    // Without one there is nobody who would wait for more.
    let Ok(census) = census.recv() else {
        return names;
    };
    let is_known = |id: &str| ids.iter().any(|known| known.contains(OsStr::new(id)));
    let further = further_roots(host, &census, &roots, &is_known);
    // Where such a docker has the names is in its container's record.
    names.torn.extend(further.torn.iter().map(ToString::to_string));
    for root in &further.roots {
        in_data_root(root, wanted, None, &mut names);
    }
    names
}

fn in_data_root(
    root: &Path,
    wanted: &BTreeSet<String>,
    budget: Option<&Budget>,
    names: &mut Names,
) -> HashSet<OsString> {
    let scan = names.noted(docker::scan(root, wanted, budget));
    for docker::Called { name, id, pid } in scan.called {
        let holder = Holder::Id {
            id,
            runtime: Runtime::Docker,
            pid,
        };
        names.hold(&name, holder);
    }
    if scan.unreadable > 0 {
        names.torn.push(format!(
            "{} records in {} can't be read",
            scan.unreadable,
            root.join("containers").display()
        ));
    }
    scan.ids
}

fn of_podman(host: &Host, wanted: &BTreeSet<String>) -> Names {
    let mut names = Names::default();
    for store in names.noted(podman::stores(host)) {
        let stored = podman::stored(&store, None);
        in_store(stored, wanted, &mut names);
    }
    names
}

fn in_store(stored: Result<Vec<podman::Stored>>, wanted: &BTreeSet<String>, names: &mut Names) {
    for container in names.noted(stored) {
        for name in container
            .names
            .iter()
            .flatten()
            .filter(|name| wanted.contains(*name))
        {
            let holder = Holder::Id {
                id: container.id.clone(),
                runtime: Runtime::Podman,
                pid: None,
            };
            names.hold(name, holder);
        }
    }
}

/// What the engines of one user have: all of it, and whether it can be read, is that user's word. No more than is left of
/// `budget` is read.
pub(super) fn of_user(host: &Host, user: u32, wanted: &BTreeSet<String>, budget: &Budget) -> Names {
    let mut names = Names::default();
    if let Some(home) = names.noted(passwd::home(host, user)) {
        let stored = podman::stored(&podman::store_at(&home), Some(budget));
        in_store(stored, wanted, &mut names);
        in_data_root(
            &home.join(".local/share/docker"),
            wanted,
            Some(budget),
            &mut names,
        );
    }
    names
}

fn of_nerdctl(host: &Host, wanted: &BTreeSet<String>) -> Names {
    let mut names = Names::default();
    for namespace in names.noted(nerdctl::namespaces(host)) {
        for name in wanted {
            if let Some(id) = names.noted(nerdctl::id(&namespace, name)) {
                let holder = Holder::Id {
                    id,
                    runtime: Runtime::Containerd,
                    pid: None,
                };
                names.hold(name, holder);
            }
        }
    }
    names
}

fn of_lxc(host: &Host, wanted: &BTreeSet<String>) -> Names {
    let mut names = Names::default();
    let (instances, roots) = (lxc::instances(host), lxc::roots(host));
    names.is_lxc_unread = instances.is_err() || roots.is_err();
    names.lxc = names.noted(instances);
    for root in names.noted(roots) {
        let all = root.names();
        names.is_lxc_unread |= all.is_err();
        let all = names.noted(all);
        names
            .lxc
            .extend(all.into_iter().filter_map(|name| name.into_string().ok())); // it can't have been asked for
        for name in wanted {
            let config = names.noted(lxc::config(host, &root, name));
            if let Some(place) = config.and_then(|config| config.place()) {
                names.hold(name, Holder::Lxc(place));
            }
        }
    }
    names
}

/// The data roots of dockers that no configuration tells of.
#[derive(Debug, Default)]
pub(super) struct FurtherRoots {
    pub(super) roots: BTreeSet<PathBuf>,
    /// The records that would have led to one, and can't be read.
    pub(super) torn: Vec<Error>,
}

/// Of so many containers below one cgroup the data root is looked for in vain: those of one dockerd are below one, and
/// where its disk is not mounted here no other of them will show it.
const KIN: usize = 16;

/// The data roots that the records of running containers lead to and that are not among `known`. Containers that
/// `is_known` are not asked.
pub(super) fn further_roots(
    host: &Host,
    census: &Census,
    known: &BTreeSet<PathBuf>,
    is_known: &dyn Fn(&str) -> bool,
) -> FurtherRoots {
    let mut further = FurtherRoots::default();
    let mut fruitless: BTreeMap<Option<&Path>, usize> = BTreeMap::new();
    for id in census.may_be_dockers().filter(|id| !is_known(id)) {
        let kin = fruitless.entry(census.parent(id)).or_default();
        if *kin >= KIN {
            continue;
        }
        match data_root_of(host, census, id) {
            Ok(Some(root)) if !known.contains(&root) && further.roots.insert(root.clone()) => {}
            Ok(_) => *kin += 1,
            Err(error) => {
                further.torn.push(error);
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
pub(super) fn data_root_of(host: &Host, census: &Census, id: &str) -> Result<Option<PathBuf>> {
    let records: Vec<Record> = census.records(host, id).into_iter().collect::<Result<_>>()?;
    let of_root = records.into_iter().find(|record| record.trust.is_full());
    let root = of_root.and_then(|record| record.about.data_root);
    Ok(root.map(|root| host.inside(&root)))
}
