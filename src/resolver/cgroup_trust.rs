//! Whose word the names of cgroups are: that of whoever may create entries above them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::lines::cgroup_lines_of_self;
use super::naming;
use super::trust::Trust;
use crate::cgroup::Cgroup;
use crate::host::{Hierarchy, Host};

/// The trust in the names of cgroups. A cgroup's name is the word of whoever can create entries in a directory
/// above it, up to the root of the caller's own view, which is trusted whoever owns it; who owns the cgroup itself says
/// nothing about its name. What is inside a container's cgroup is that container's word, but for the cgroups that hold
/// this process: what contains the caller does not lie to it about the caller's own containers.
#[derive(Debug)]
pub(super) struct CgroupTrust<'h> {
    host: &'h Host,
    /// The cgroups of this process.
    own: Vec<(Hierarchy, PathBuf)>,
    /// The trust in what is created right below a cgroup. Thousands of containers share a parent.
    known: RefCell<HashMap<(Hierarchy, PathBuf), Trust>>,
}

impl<'h> CgroupTrust<'h> {
    /// Reads where this process is, and nothing else yet.
    pub(super) fn new(host: &'h Host) -> Self {
        let lines = cgroup_lines_of_self(host);
        let each = [Hierarchy::V1, Hierarchy::V2].into_iter();
        let own = each.filter_map(|hierarchy| Some((hierarchy, lines.as_ref()?.path(hierarchy)?.to_owned())));
        Self {
            host,
            own: own.collect(),
            known: RefCell::default(),
        }
    }

    /// The trust in the name of the cgroup at `path`.
    pub(super) fn in_name(&self, hierarchy: Hierarchy, path: &Path) -> Trust {
        path.parent()
            .map_or(Trust::Full, |parent| self.in_children(hierarchy, parent))
    }

    /// Whether the cgroup that is named so is where its runtime puts its cgroups, on the host or in a container that this
    /// process is in.
    pub(super) fn is_at_home(&self, hierarchy: Hierarchy, named: &naming::Named) -> bool {
        let own = self.own.iter().filter(|(at, _)| *at == hierarchy);
        let around = own.flat_map(|(_, own)| naming::chain(own));
        let mut within = around.filter_map(|container| {
            let below = named.path.strip_prefix(&container.path).ok()?;
            naming::last(&Path::new("/").join(below))
        });
        named.is_at_home || within.any(|named| named.is_at_home)
    }

    /// The trust in what is created right below the cgroup at `path`.
    pub(super) fn in_children(&self, hierarchy: Hierarchy, path: &Path) -> Trust {
        let Some(parent) = path.parent() else {
            return Trust::Full;
        };
        let key = (hierarchy, path.to_owned());
        if let Some(&known) = self.known.borrow().get(&key) {
            return known;
        }
        let above = self.in_children(hierarchy, parent);
        let trust = self.narrowed(above, hierarchy, path);
        self.known.borrow_mut().insert(key, trust);
        trust
    }

    /// The trust in the names below a cgroup, given the trust in the cgroup's own name.
    fn narrowed(&self, above: Trust, hierarchy: Hierarchy, path: &Path) -> Trust {
        let holds_caller = || {
            self.own
                .iter()
                .any(|(at, own)| *at == hierarchy && own.starts_with(path))
        };
        if above == Trust::None || (naming::may_be_a_container(path) && !holds_caller()) {
            return Trust::None;
        }
        let above = match user_by_path(path) {
            Some(user) if above.is_full() => Trust::in_user(user),
            _ => above,
        };
        // A cgroup that is gone, or can't be looked at, has no name that could be believed.
        let Ok(access) = Cgroup::open(self.host, hierarchy, path).and_then(|cgroup| cgroup.access()) else {
            return Trust::None;
        };
        if access.others_may_create {
            return Trust::None;
        }
        match (above, Trust::in_user(access.owner)) {
            (Trust::Full, owner) => owner,
            (user, Trust::Full) => user,
            (user, owner) if user == owner => user,
            _ => Trust::None,
        }
    }
}

/// The user whose own service manager a cgroup belongs to: systemd delegates everything below to that user.
pub(super) fn user_by_path(path: &Path) -> Option<u32> {
    let mut parts = path.iter().skip(1);
    (parts.next()? == "user.slice").then_some(())?;
    let user = parts
        .next()?
        .to_str()?
        .strip_prefix("user-")?
        .strip_suffix(".slice")?;
    let service = parts.next()?.to_str()?;
    (service == format!("user@{user}.service")).then(|| user.parse().ok())? // no user's number
}
