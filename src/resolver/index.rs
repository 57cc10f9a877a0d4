//! [`Index`]: which containers there are, by their IDs alone, which are the names of directories in the runtimes' roots and
//! in the cgroup trees. To fill the index takes one listing per directory and opens no record; a record is opened when it is
//! asked for. The index says what could not be listed, as the beginning of an ID is unique only where everything was.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::cgroup_trust::CgroupTrust;
use super::runtime::Runtime;
use super::runtime::lxc;
use super::runtime::record::Record;
use super::runtime::roots::{self, RecordListing, SlowRoots, SystemRoots, listed};
use super::timeout::with_timeout;
use super::trust::Trust;
use super::{naming, shim};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::host::{Hierarchy, Host};

/// The containers of a host.
#[derive(Debug)]
pub(super) struct Index {
    roots: Arc<SystemRoots>,
    entries: HashMap<String, IndexEntry>,
    /// The directories of root's that could not be listed, and why.
    pub(super) incomplete: Vec<String>,
    /// The cgroups that are too deep to be any runtime's, or that a user has closed to the caller: they make no container
    /// uncertain that is found elsewhere.
    pub(super) doubtful: Vec<String>,
    /// The records of users' engines, listed when somebody asks for them.
    users: OnceLock<Users>,
}

/// The places at which one ID was seen.
#[derive(Debug, Default)]
pub(super) struct IndexEntry {
    /// The roots that have a record of the ID.
    roots: Vec<usize>,
    /// The runtime, where a configured root has a record of the ID.
    configured: Option<Runtime>,
    /// The cgroups that bear the ID where the runtime makes its cgroups, by names that root alone can have given.
    pub(super) cgroups: Vec<(Hierarchy, PathBuf)>,
    /// The cgroups that bear the ID by names that prove nothing.
    pub(super) claims: Vec<Claim>,
}

/// A cgroup that bears a container's ID or name, which alone proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) hierarchy: Hierarchy,
    pub(super) path: PathBuf,
    /// Whose word the name is. Even root's proves nothing where the runtime does not put its cgroups.
    pub(super) trust: Trust,
}

/// The records of users' engines.
#[derive(Debug, Default)]
struct Users {
    each: Vec<SlowRoots>,
    /// By the ID, the users' indices, each with the runtime.
    ids: HashMap<String, Vec<(usize, Runtime)>>,
}

impl Users {
    /// Lists the records of all users, each beside the others. What can't be listed is unknown of that user alone.
    fn list(host: &Host) -> Self {
        let users = roots::users(host).unwrap_or_default(); // there are none that could be told apart
        let mut all = Self {
            each: users.iter().map(|&user| roots::of_user(host, user)).collect(),
            ..Self::default()
        };
        let asked: Vec<_> = all.each.iter().map(SlowRoots::names).collect();
        for (index, answer) in asked.into_iter().enumerate() {
            for (id, runtime) in answer(roots::LIMIT).unwrap_or_default().ids {
                all.ids.entry(id).or_default().push((index, runtime));
            }
        }
        all
    }
}

impl Index {
    /// Lists the records and the cgroups of root's engines.
    pub(super) fn take(host: &Host, roots: Arc<SystemRoots>) -> Self {
        // The configured root is listed while the others are.
        let configured = roots.configured.names();
        let mut incomplete = roots.incomplete.clone();
        let mut doubtful = Vec::new();
        let mut entries: HashMap<String, IndexEntry> = HashMap::new();
        for (index, root) in roots.all.iter().enumerate() {
            for name in listed(root, &mut incomplete) {
                entries.entry(name).or_default().roots.push(index);
            }
        }
        let trust = CgroupTrust::new(host);
        for mount in host.mounts() {
            let root = Cgroup::open(host, mount.hierarchy, "/".as_ref());
            let unlisted = [&mut incomplete, &mut doubtful];
            if let Err(error) = root.and_then(|root| walk(host, &root, &trust, &mut entries, unlisted)) {
                incomplete.push(error.to_string());
            }
        }
        assign_lxc(host, &mut entries);
        match configured(roots::LIMIT) {
            Ok(RecordListing {
                ids,
                incomplete: unlisted,
            }) => {
                for (id, runtime) in ids {
                    entries.entry(id).or_default().configured = Some(runtime);
                }
                incomplete.extend(unlisted);
            }
            Err(error) => incomplete.push(error.to_string()),
        }
        Self {
            roots,
            entries,
            incomplete,
            doubtful,
            users: OnceLock::new(),
        }
    }

    fn users(&self, host: &Host) -> &Users {
        self.users.get_or_init(|| Users::list(host))
    }

    /// Every ID on root's word, and its runtime where its place says it.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&str, Option<Runtime>)> {
        let known = self.entries.iter().filter(|(_, entry)| entry.is_on_roots_word());
        known.map(|(id, entry)| (id.as_str(), self.runtime(entry)))
    }

    /// The whole IDs that can be docker's, those of root's word first. Of the others the shim of a process may lead to a
    /// record of root's, where that is kept at a place that no configuration names.
    pub(super) fn may_be_dockers(&self) -> impl Iterator<Item = &str> {
        let known = self
            .ids()
            .filter(|(_, runtime)| matches!(runtime, None | Some(Runtime::Docker)));
        let known = known.map(|(id, _)| id);
        known
            .chain(self.claimed())
            .filter(|id| super::target::is_full_id(id.as_bytes()))
    }

    /// The IDs that only a cgroup bears which root alone can have made, elsewhere than where runtimes do: those of the upper
    /// cgroups, so many at most. What is called so by others is not looked into: each look can cost time, and they can make
    /// any number.
    fn claimed(&self) -> impl Iterator<Item = &str> {
        let claimed = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.is_on_roots_word() && entry.is_claimed_by_root());
        let depth = |entry: &IndexEntry| {
            let claims = entry.claims.iter();
            claims.map(|claim| claim.path.components().count()).min()
        };
        let mut ids: Vec<_> = claimed.map(|(id, entry)| (depth(entry), id.as_str())).collect();
        ids.sort_unstable();
        ids.into_iter().take(MOST_CLAIMED).map(|(_, id)| id)
    }

    /// Every ID, whoever's word it is.
    pub(super) fn all_ids(&self, host: &Host) -> Vec<String> {
        let users = self
            .users(host)
            .ids
            .keys()
            .filter(|id| !self.entries.contains_key(*id));
        self.entries.keys().chain(users).cloned().collect()
    }

    /// The runtime of one ID, where its place says it.
    pub(super) fn runtime_of(&self, id: &str) -> Option<Runtime> {
        let of_user = || Some(self.users.get()?.ids.get(id)?.first()?.1);
        self.entries
            .get(id)
            .and_then(|entry| self.runtime(entry))
            .or_else(of_user)
    }

    fn runtime(&self, entry: &IndexEntry) -> Option<Runtime> {
        let by_root = entry.roots.first().map(|&index| self.roots.all[index].runtime);
        by_root.or(entry.configured).or_else(|| {
            let mut named = entry.cgroups.iter().filter_map(|(_, path)| naming::last(path));
            named.find_map(|named| named.runtime)
        })
    }

    /// The IDs on root's word that begin so, sorted.
    pub(super) fn beginning<'c>(&'c self, prefix: &'c str) -> impl Iterator<Item = &'c str> {
        let mut ids: Vec<&str> = self.ids().map(|(id, _)| id).collect();
        ids.retain(|id| id.starts_with(prefix));
        ids.sort_unstable();
        ids.into_iter()
    }

    /// The whole IDs that begin so and that a record of root's, or a name that root alone can have given, is of; sorted.
    pub(super) fn full_ids(&self, host: &Host, prefix: &str) -> Vec<String> {
        let is_whole = |id: &&str| super::target::is_full_id(id.as_bytes());
        let known = self.beginning(prefix).filter(is_whole);
        let led = self.claimed().filter(|id| is_whole(id) && id.starts_with(prefix));
        let led = led.filter(|id| self.record(host, id).is_some());
        let mut ids: Vec<String> = known.chain(led).map(str::to_owned).collect();
        ids.sort_unstable();
        ids
    }

    /// The places at which one ID was seen.
    pub(super) fn entry(&self, id: &str) -> Option<&IndexEntry> {
        self.entries.get(id)
    }

    /// The cgroups that are called by a whole ID which begins so, and prove nothing by it.
    pub(super) fn claims_beginning<'c>(&'c self, prefix: &'c str) -> impl Iterator<Item = &'c Claim> {
        let is_meant = move |id: &str| super::target::is_full_id(id.as_bytes()) && id.starts_with(prefix);
        let entries = self.entries.iter().filter(move |(id, _)| is_meant(id));
        entries.flat_map(|(_, entry)| &entry.claims)
    }

    /// The cgroups that are called by an ID or a name, and prove nothing by it.
    pub(super) fn claims(&self, id: &str) -> &[Claim] {
        self.entries.get(id).map_or(&[], |entry| &entry.claims)
    }

    /// Whether the cgroup that bears an ID is where the kubelet has the pods.
    pub(super) fn is_in_a_pod(&self, id: &str) -> bool {
        let cgroups = self.entries.get(id).into_iter().flat_map(|entry| &entry.cgroups);
        cgroups
            .flat_map(|(_, path)| path.iter())
            .any(|part| part.as_bytes().starts_with(b"kubepods"))
    }

    /// The cgroup above the one that bears an ID.
    pub(super) fn parent(&self, id: &str) -> Option<&Path> {
        let entry = self.entries.get(id)?;
        let claimed = entry.claims.first().map(|claim| &claim.path);
        entry.cgroups.first().map(|(_, path)| path).or(claimed)?.parent()
    }

    /// The records of one ID in the roots of root's own engines. Where they have none, the shim of a process in a cgroup
    /// that bears the ID leads to one.
    pub(super) fn records(&self, host: &Host, id: &str) -> Vec<Result<Record>> {
        let Some(entry) = self.entries.get(id) else {
            return Vec::new();
        };
        let roots = entry.roots.iter().map(|&index| &self.roots.all[index]);
        let mut records: Vec<_> = roots.filter_map(|root| root.record(id).transpose()).collect();
        if entry.configured.is_some() {
            match self.roots.configured.record(id, roots::LIMIT) {
                Ok(more) => records.extend(more),
                Err(error) => records.push(Err(error)),
            }
        }
        if records.is_empty() {
            records.extend(self.record_by_shim(host, id, entry).map(Ok));
        }
        records
    }

    fn record_by_shim(&self, host: &Host, id: &str, entry: &IndexEntry) -> Option<Record> {
        if !super::target::is_full_id(id.as_bytes()) {
            return None; // only engines with shims give such IDs
        }
        let claimed = entry.claims.iter().filter(|claim| claim.trust.is_full());
        let claimed = claimed.map(|claim| (claim.hierarchy, &claim.path));
        let cgroups = entry.cgroups.iter().map(|(hierarchy, path)| (*hierarchy, path));
        cgroups
            .chain(claimed)
            .take(MOST_CLAIMS)
            .find_map(|(hierarchy, path)| {
                let cgroup = Cgroup::open(host, hierarchy, path).ok()?; // gone: no process
                shim::record(host, first_process(host, &cgroup)?, id)
            })
    }

    /// The records of one ID in the roots of users' engines.
    pub(super) fn users_records(&self, host: &Host, id: &str) -> Vec<Result<Record>> {
        let users = self.users(host);
        let holders = users.ids.get(id).into_iter().flatten();
        let mut indices: Vec<usize> = holders.map(|(index, _)| *index).collect();
        indices.dedup();
        let each = indices
            .into_iter()
            .map(|index| users.each[index].record(id, roots::LIMIT));
        each.flat_map(|answer| answer.unwrap_or_else(|error| vec![Err(error)]))
            .collect()
    }

    /// A readable record of one ID that is root's word.
    pub(super) fn record(&self, host: &Host, id: &str) -> Option<Record> {
        let records = self.records(host, id).into_iter();
        let mut good = records.filter_map(Result::ok); // an unreadable one is reported where it is resolved
        good.find(|record| record.trust.is_full())
    }
}

impl IndexEntry {
    /// Whether a record of root's, or a name that root alone can have given, is of this ID.
    fn is_on_roots_word(&self) -> bool {
        !self.roots.is_empty() || self.configured.is_some() || !self.cgroups.is_empty()
    }

    /// Whether root alone can have made one of the cgroups whose names prove nothing.
    fn is_claimed_by_root(&self) -> bool {
        self.claims.iter().any(|claim| claim.trust.is_full())
    }
}

/// The most IDs that are looked into of those that are found elsewhere than where runtimes make cgroups.
const MOST_CLAIMED: usize = 256;
/// The most cgroups with one ID whose shims are asked for a record.
const MOST_CLAIMS: usize = 8;
/// So long the tasks of one container are listed, and so long they are looked at, for its first process: it can have any
/// number of them, and of cgroups inside, and is not to wait for that before it is thawed.
const FIRST: Duration = Duration::from_millis(20);

fn walk(
    host: &Host,
    root: &Cgroup,
    trust: &CgroupTrust<'_>,
    entries: &mut HashMap<String, IndexEntry>,
    [incomplete, doubtful]: [&mut Vec<String>; 2],
) -> Result<()> {
    let hierarchy = root.hierarchy();
    let mut see = |path: &Path| {
        if let Some(named) = naming::last(path) {
            let is_at_home = trust.is_at_home(hierarchy, &named);
            let trust = trust.in_name(hierarchy, &named.path);
            let entry = entries.entry(named.id).or_default();
            match trust {
                Trust::Full if is_at_home => entry.cgroups.push((hierarchy, named.path)),
                trust => entry.claims.push(Claim {
                    hierarchy,
                    path: named.path,
                    trust,
                }),
            }
        }
    };
    let mut of_others = None;
    let mut closed = |path: &Path, error: Error| {
        if !naming::chain(path).is_empty() {
            return; // what a container closes is inside itself
        }
        let is_roots = root.owner_of(path) == Some(0) && trust.in_name(hierarchy, path).is_full();
        if is_roots {
            incomplete.push(error.to_string());
        } else {
            // No name below is anybody's word but its owner's.
            of_others.get_or_insert(error);
        }
    };
    let cut = root.paths_below(host, &mut see, &mut closed)?;
    doubtful.extend(of_others.map(|error| error.to_string()));
    // Cgroups that a container nests inside itself keep no other container from being certain.
    if let Some(cut) = cut.filter(|cut| naming::chain(cut).is_empty()) {
        let top: PathBuf = cut.iter().take(3).collect();
        // No runtime makes one there; what is found elsewhere is as certain as ever.
        doubtful.push(format!(
            "the cgroups below {} are too deep to be listed",
            top.display()
        ));
    }
    Ok(())
}

/// Puts LXC's cgroups to the containers that they are of, as far as LXC's own files tell: those below a parent that root has
/// configured for them are believed, and one with a number behind its name is that container's which had to make way for a
/// left-over cgroup, where none is called so with the number.
fn assign_lxc(host: &Host, entries: &mut HashMap<String, IndexEntry>) {
    let is_lxc = |path: &Path| naming::last(path).is_some_and(|named| named.runtime == Some(Runtime::Lxc));
    let is_numbered = |name: &String, entry: &IndexEntry| {
        lxc::without_number(name).is_some() && entry.cgroups.iter().any(|(_, path)| is_lxc(path))
    };
    let is_claimed = |claim: &Claim| claim.trust.is_full() && is_lxc(&claim.path);
    let unsettled: Vec<(String, BTreeSet<PathBuf>)> = entries
        .iter()
        .filter(|(name, entry)| is_numbered(name, entry) || entry.claims.iter().any(is_claimed))
        .map(|(name, entry)| {
            let claims = entry.claims.iter().filter(|claim| is_claimed(claim));
            let parents = claims.filter_map(|claim| claim.path.parent().map(Path::to_owned));
            (name.clone(), parents.collect())
        })
        .collect();
    if unsettled.is_empty() {
        return;
    }
    // Where LXC's files can't be read in time, or at all, no claim is believed.
    let settled = with_timeout(host, move |host| lxc::settled(host, unsettled)).wait();
    for lxc::Settled { name, parents, owner } in settled.unwrap_or_default() {
        let Some(entry) = entries.get_mut(&name) else {
            continue; // each is of one
        };
        let is_believed = |claim: &mut Claim| {
            is_claimed(claim) && claim.path.parent().is_some_and(|parent| parents.contains(parent))
        };
        let believed = entry.claims.extract_if(.., is_believed);
        let believed: Vec<_> = believed.map(|claim| (claim.hierarchy, claim.path)).collect();
        entry.cgroups.extend(believed);
        if let Some(owner) = owner {
            let moved: Vec<_> = entry.cgroups.extract_if(.., |(_, path)| is_lxc(path)).collect();
            entries.entry(owner).or_default().cgroups.extend(moved);
        }
    }
    entries.retain(|_, entry| entry.is_on_roots_word() || !entry.claims.is_empty());
}

/// The process that the others in a cgroup come from, as far as they are listed and looked at in a short time: the oldest of
/// those whose parent is not in it.
pub(super) fn first_process(host: &Host, cgroup: &Cgroup) -> Option<i32> {
    let proc = host.proc();
    let listed = cgroup.tasks_below(Some(Instant::now() + FIRST)).ok()?; // gone: no process
    let tids = match listed.missed {
        // Not one task was listed in time: whether there is any has to be known.
        Some(_) if listed.tids.is_empty() => cgroup.tasks_below(None).ok()?.tids, // gone: no process
        _ => listed.tids,
    };
    let (stats, silent) = proc.stats(tids.iter().copied(), FIRST);
    let first = stats
        .iter()
        .filter(|stat| !tids.contains(&stat.ppid))
        .min_by_key(|stat| (stat.starttime, stat.pid));
    // A first process that does not answer is silent: its children have a parent in the cgroup.
    first.map(|stat| stat.pid).or_else(|| silent.first().copied())
}
