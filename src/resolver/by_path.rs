//! Cgroups by their own paths.

use std::io;
use std::path::Path;

use super::cgroup_trust::CgroupTrust;
use super::container::{Container, Found, FreezeLevel, Identity, Located, found};
use super::lookup::Resolver;
use super::place::{self, WriteAt};
use super::timeout::{BUDGET, with_timeout};
use super::{by_word, index, naming, target};
use crate::cgroup::{Cgroup, CgroupId};
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};

/// A cgroup by its path in one hierarchy.
pub(super) fn by_cgroup(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<Container> {
    let first = Cgroup::open(host, hierarchy, path).map_err(absent)?;
    let identity = match naming::last(path) {
        Some(named) => {
            let trust = CgroupTrust::new(host).in_name(hierarchy, path);
            Identity::of_cgroup(named, trust, index::first_process(host, &first))
        }
        None => Identity::default(),
    };
    if first.is_root() {
        // The root holds everything, so that no other cgroup is its own; the safety rules have the last word on it.
        return Ok(Container {
            identity,
            own: vec![first],
            freeze_at: 0,
            shared: Vec::new(),
        });
    }
    let located = Located {
        identity,
        first,
        point: FreezeLevel::Named,
        other: None,
        lines: None,
    };
    place::complete(host, located, WriteAt::Here)
}

fn absent(error: Error) -> Error {
    match error {
        Error::Gone(dir) => Error::NotFound(format!("no cgroup {}", dir.display())),
        other => other,
    }
}

/// A cgroup by a path that is looked for in both hierarchies.
pub(super) fn by_path_in_either(host: &Host, path: &Path) -> Result<Container> {
    let open = |hierarchy| match Cgroup::open(host, hierarchy, path) {
        Ok(cgroup) => Ok(Some(cgroup)),
        Err(Error::Gone(_)) => Ok(None),
        Err(error) => Err(error),
    };
    let mut cgroups = Vec::new();
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        if host.mount(hierarchy).is_some() {
            cgroups.extend(open(hierarchy)?);
        }
    }
    match cgroups.as_slice() {
        [one] => by_cgroup(host, one.hierarchy(), path),
        [v1, v2] => {
            // A second look, where a task came or went in between.
            let same = || Ok::<bool, Error>(v1.tids_below()? == v2.tids_below()?);
            let container = by_cgroup(host, Hierarchy::V1, path)?;
            if container.own.iter().any(|own| own.id() == v2.id()) {
                return Ok(container);
            }
            if same()? || same()? {
                return place::both(container, v2);
            }
            let each = |hierarchy: Hierarchy| Candidate {
                runtime: "cgroup".to_owned(),
                name: None,
                id: path.display().to_string(),
                unambiguous: target::cgroup(hierarchy, path),
            };
            Err(Error::Ambiguous {
                why: format!("{} is in both hierarchies, with different tasks", path.display()),
                candidates: vec![each(Hierarchy::V1), each(Hierarchy::V2)],
            })
        }
        _ => Err(Error::NotFound(format!("no cgroup {}", path.display()))),
    }
}

/// A cgroup by its path in either hierarchy, or the directory that is one: `cgroup:` before either is understood. What is
/// written like a path of a hierarchy is one where that exists.
pub(super) fn by_path_or_directory(resolver: &Resolver<'_>, path: &Path) -> Result<Container> {
    let by_path = by_path_in_either(resolver.host, path);
    match by_path {
        Err(Error::NotFound(_)) => by_mounted_directory(resolver.host, path)?.map_or(by_path, Ok),
        other => other,
    }
}

/// A directory below a cgroup mount, or docker's way to write a name.
pub(super) fn by_directory(resolver: &Resolver<'_>, path: &Path) -> Result<Found> {
    if let Some(container) = by_mounted_directory(resolver.host, path)? {
        return Ok(found(container));
    }
    match (path.file_name().and_then(|name| name.to_str()), path.parent()) {
        (Some(name), Some(parent)) if parent.parent().is_none() => by_word::by_name(resolver, name),
        _ => Err(not_below(path)),
    }
}

/// A directory below a cgroup mount, and nothing else: no name is looked for.
pub(super) fn by_directory_alone(host: &Host, path: &Path) -> Result<Container> {
    by_mounted_directory(host, path)?.ok_or_else(|| not_below(path))
}

fn not_below(path: &Path) -> Error {
    Error::Usage(format!(
        "{} is not below a mounted cgroup freezer",
        path.display()
    ))
}

/// The cgroup that a directory below any mount of a hierarchy is; `None` where it is below none.
fn by_mounted_directory(host: &Host, path: &Path) -> Result<Option<Container>> {
    // A v1 freezer can be mounted below a v2 mount's directory: the longest fits best.
    let mount = host
        .mounts()
        .iter()
        .filter(|mount| path.starts_with(&mount.dir))
        .max_by_key(|mount| mount.dir.components().count());
    if let Some(mount) = mount {
        let below = path.strip_prefix(&mount.dir).unwrap_or(path); // it does start so
        return by_cgroup(host, mount.hierarchy, &Path::new("/").join(below)).map(Some);
    }
    if !host.is_genuine() {
        return Ok(None); // plain files have no mounts
    }
    // A second mount, or one of a part. Any directory can be on a disk that hangs.
    let (wanted, is_name) = (path.to_owned(), path.components().count() == 2);
    let found = match with_timeout(host, move |host| host.cgroup_of_directory(&wanted)).wait() {
        Some(found) => found?,
        None if is_name => None, // what hangs is no cgroup, and the name of its mount can be a container's
        None => {
            let cause = format!("no answer within {} s", BUDGET.as_secs());
            return Err(Error::io(
                "open",
                path,
                io::Error::new(io::ErrorKind::TimedOut, cause),
            ));
        }
    };
    let Some(at) = found else {
        return Ok(None);
    };
    let (device, inode) = at.identity;
    let cgroup = Cgroup::open(host, at.hierarchy, &at.path).map_err(absent)?;
    if cgroup.id() != (CgroupId { device, inode }) {
        return Err(Error::NotFound(format!(
            "{} was moved or removed meanwhile: {} is another cgroup",
            path.display(),
            cgroup.dir().display()
        )));
    }
    by_cgroup(host, at.hierarchy, &at.path).map(Some)
}
