//! Cgroups by their own paths.

use std::path::Path;

use super::place::{self, Point, WriteAt};
use super::{Container, Found, Identity, Located, Resolver, census, found, naming, words};
use crate::cgroup::Cgroup;
use crate::error::{Candidate, Error, Result};
use crate::host::{Hierarchy, Host};

/// A cgroup by its path in one hierarchy.
pub(super) fn by_cgroup(host: &Host, hierarchy: Hierarchy, path: &Path) -> Result<Container> {
    let first = Cgroup::open(host, hierarchy, path).map_err(absent)?;
    let identity = match naming::last(path) {
        Some(named) => Identity {
            name: named.is_name.then(|| named.id.clone()),
            id: Some(named.id),
            runtime: named.runtime.map(str::to_owned),
            pid: census::first_process(host, &first),
            ..Identity::default()
        },
        None => Identity::default(),
    };
    if first.is_root() {
        // It holds everything, so that no other cgroup is its own; the safety rules have the last word on it.
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
        point: Point::Named,
        other: None,
        lines: None,
        user: None,
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
            let each = |version: u8| Candidate {
                runtime: "cgroup".to_owned(),
                name: None,
                id: path.display().to_string(),
                unambiguous: format!("v{version}:{}", path.display()),
            };
            Err(Error::Ambiguous {
                why: format!("{} is in both hierarchies, with different tasks", path.display()),
                candidates: vec![each(1), each(2)],
            })
        }
        _ if host.mounts().is_empty() => Err(Error::Unsupported(
            "no cgroup freezer is mounted on this host".to_owned(),
        )),
        _ => Err(Error::NotFound(format!("no cgroup {}", path.display()))),
    }
}

/// A directory below a cgroup mount, or docker's way to write a name.
pub(super) fn by_directory(resolver: &Resolver<'_>, path: &Path) -> Result<Found> {
    let host = resolver.host;
    // A v1 freezer can be mounted below a v2 mount's directory: the longest fits best.
    let mount = host
        .mounts()
        .iter()
        .filter(|mount| path.starts_with(&mount.dir))
        .max_by_key(|mount| mount.dir.components().count());
    if let Some(mount) = mount {
        let below = path.strip_prefix(&mount.dir).unwrap_or(path); // it does start so
        return by_cgroup(host, mount.hierarchy, &Path::new("/").join(below)).map(found);
    }
    match (path.file_name().and_then(|name| name.to_str()), path.parent()) {
        (Some(name), Some(parent)) if parent.parent().is_none() => words::by_name(resolver, name),
        _ => Err(Error::Usage(format!(
            "{} is not below a mounted cgroup freezer",
            path.display()
        ))),
    }
}
