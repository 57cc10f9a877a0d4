//! How each runtime names a container's cgroup: one row per pattern. Names alone, no I/O: that a directory is called
//! so proves nothing about who lives in it.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::runtime::pattern::{Home, IdKind, is_pod};
use super::runtime::{ROWS, Runtime, RuntimeRow};
use super::target::{is_full_id, is_id};
use crate::error::short_id;

/// A container as its cgroup's path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The runtime, where the name says it.
    pub runtime: Option<Runtime>,
    /// The container's ID, or its name where the runtime names cgroups by it.
    pub id: String,
    /// Whether `id` is a name.
    pub is_name: bool,
    /// The path of the cgroup that is named so.
    pub path: PathBuf,
    /// The level below that its runtime freezes.
    pub below: Option<&'static str>,
    /// Whether the cgroup is at a place where its runtime puts cgroups, so that the name can count without a record.
    pub(crate) is_at_home: bool,
}

impl Named {
    /// The container's name, where its runtime calls cgroups by it.
    pub(super) fn id_as_name(&self) -> Option<String> {
        self.is_name.then(|| self.id.clone())
    }

    /// The level below in which its runtime keeps the tasks.
    pub(super) fn level(&self) -> Option<PathBuf> {
        self.below.map(|below| self.path.join(below))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = short_id(&self.id);
        match self.runtime {
            Some(runtime) => write!(f, "{runtime} {short}"),
            None => f.write_str(short),
        }
    }
}

/// The containers that a path names, outermost first.
pub(crate) fn chain(path: &Path) -> Vec<Named> {
    let mut named = Vec::new();
    let mut at = PathBuf::with_capacity(path.as_os_str().len() + 1);
    at.push("/");
    let mut parent: Option<&OsStr> = None;
    let mut components = path.iter().skip(1).peekable();
    while let Some(component) = components.next() {
        at.push(component);
        let is_pod = components.peek().is_some_and(|below| is_in_podmans_pod(below));
        if let Some(parts) = read(parent, component).filter(|parts| parts.runtime.is_some() || !is_pod) {
            named.push(parts.at(&at));
        }
        parent = Some(component);
    }
    named
}

/// Whether a cgroup of this name is in one of podman's pods, which bear a bare ID too.
pub(super) fn is_in_podmans_pod(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name == b"conmon" || name.starts_with(b"libpod-")
}

/// The container that a path's last component names.
pub(crate) fn last(path: &Path) -> Option<Named> {
    let parent = path.parent().and_then(Path::file_name);
    read(parent, path.file_name()?).map(|parts| parts.at(path))
}

/// Whether a cgroup can be a container's by its name: what is below it is then that container's own business.
pub(super) fn may_be_a_container(path: &Path) -> bool {
    last(path).is_some()
}

/// The container nearest to the leaf.
pub(crate) fn innermost(path: &Path) -> Option<Named> {
    chain(path).pop()
}

/// A cgroup's name, taken apart.
struct NameParts {
    runtime: Option<Runtime>,
    id: String,
    is_name: bool,
    below: Option<&'static str>,
    /// `None` for a bare ID, which has a home for each engine.
    home: Option<Home>,
}

impl NameParts {
    /// The container that the cgroup at `path`, whose last name this is, is called after.
    fn at(self, path: &Path) -> Named {
        let parent = path.parent().unwrap_or(path);
        Named {
            is_at_home: self
                .home
                .map_or_else(|| is_home_of_bare_ids(parent), |home| home.is(parent)),
            runtime: self.runtime,
            id: self.id,
            is_name: self.is_name,
            path: path.to_owned(),
            below: self.below,
        }
    }
}

/// Whether docker, containerd or the kubelet puts cgroups that are called by a bare ID right below the cgroup `parent`.
fn is_home_of_bare_ids(parent: &Path) -> bool {
    let at_top = parent.parent().is_some_and(|above| above.parent().is_none());
    let is_home = |row: &&RuntimeRow| {
        let mut homes = row.bare_below.iter().filter(|one| one.is_home);
        homes.any(|one| parent.file_name() == Some(OsStr::new(one.name)))
    };
    (at_top && ROWS.iter().any(is_home)) || is_pod(parent)
}

fn read(parent: Option<&OsStr>, component: &OsStr) -> Option<NameParts> {
    let name = component.to_str()?;
    if is_full_id(name.as_bytes()) {
        // A pod of podman's.
        if parent == Some(OsStr::new("libpod_parent")) {
            return None;
        }
        return Some(NameParts {
            runtime: bare(parent),
            id: name.to_owned(),
            is_name: false,
            below: None,
            home: None,
        });
    }
    let mut patterns = ROWS
        .iter()
        .flat_map(|row| row.patterns.iter().map(|pattern| (row.runtime, pattern)));
    patterns.find_map(|(runtime, pattern)| {
        let middle = name.strip_prefix(pattern.prefix)?.strip_suffix(pattern.suffix)?;
        let fits = match pattern.kind {
            IdKind::Full => is_full_id(middle.as_bytes()),
            IdKind::Id => is_id(middle.as_bytes()),
            IdKind::Name => !middle.is_empty(),
        };
        // An escape can bring characters that no name of a machine or container has.
        let is_sane = |id: &str| !id.chars().any(|c| c.is_control() || c == '/');
        let id = if pattern.kind == IdKind::Name && !pattern.suffix.is_empty() {
            unescape(middle)
        } else {
            middle.to_owned()
        };
        (fits && is_sane(&id)).then_some(NameParts {
            runtime: Some(runtime),
            id,
            is_name: pattern.kind == IdKind::Name,
            below: pattern.below,
            home: Some(pattern.home),
        })
    })
}

/// The runtime whose cgroup it is that is called by a bare ID, told by the name of its parent.
fn bare(parent: Option<&OsStr>) -> Option<Runtime> {
    let parent = parent?.as_bytes();
    let tells = |row: &&&RuntimeRow| {
        row.bare_below
            .iter()
            .any(|one| one.tells && one.name.as_bytes() == parent)
    };
    match ROWS.iter().find(tells) {
        Some(row) => Some(row.runtime),
        // In a pod's cgroup CRI-O's and Kata's have names of their own.
        None => parent.starts_with(b"pod").then_some(Runtime::Containerd),
    }
}

/// Undoes systemd's `\x2d` in a unit's name; for reading only, a directory keeps it.
fn unescape(name: &str) -> String {
    let mut out = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = rest
            .strip_prefix(b"\\x")
            .and_then(|hex| hex.get(..2))
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) => {
                out.push(code);
                rest = &rest[4..];
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The paths at which a container with this whole ID usually is, for a look without listing anything: places where the name
/// alone counts.
pub(super) fn usual_paths(id: &str) -> Vec<PathBuf> {
    let usual = ROWS.iter().flat_map(|row| row.usual);
    usual
        .map(|(front, behind)| PathBuf::from(format!("{front}{id}{behind}")))
        .collect()
}

/// Cgroups right below the root that hold containers of several runtimes, and are none.
const PARENTS: [&str; 4] = ["kubepods", "machine", "user", "system"];

/// The kind of cgroup that a path is, if it holds others and is no container.
pub(crate) fn parent(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy();
    if let Some(kind) = unit_kind(&name) {
        return Some(kind);
    }
    let at_top = path.parent() == Some(Path::new("/"));
    let mut parents = PARENTS.iter().chain(ROWS.iter().flat_map(|row| row.parents));
    let is_one = at_top && (parents.any(|parent| *parent == name) || name.starts_with("kubepods"));
    is_one.then_some("a parent of containers")
}

/// The kind of systemd unit that a name is, if such a unit never is a container.
fn unit_kind(name: &str) -> Option<&'static str> {
    if name.ends_with(".slice") {
        Some("a slice")
    } else if name.ends_with(".service") {
        Some("a service")
    } else if name == "init.scope" || (name.starts_with("session-") && name.ends_with(".scope")) {
        Some("a scope of the system's own")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";
    const OTHER: &str = "2fe818c966e839ca6e65b68dc365e6cd60a765fed4512be9bc12368602040a72";

    #[track_caller]
    fn check(path: &str, expected: &[(Option<&str>, &str)]) {
        let path = path.replace("ID2", OTHER).replace("ID", ID);
        let found = chain(Path::new(&path));
        let found: Vec<_> = found
            .iter()
            .map(|named| (named.runtime.map(Runtime::name), named.id.as_str()))
            .collect();
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn each_runtimes_pattern_is_read() {
        check("/docker/ID", &[(Some("docker"), ID)]);
        check("/system.slice/docker-ID.scope", &[(Some("docker"), ID)]);
        check("/a.slice/a-b.slice/docker-ID.scope", &[(Some("docker"), ID)]);
        check("/abs/ID", &[(None, ID)]);
        check("/default/ID", &[(Some("containerd"), ID)]);
        check(
            "/machine.slice/libpod-ID.scope/container",
            &[(Some("podman"), ID)],
        );
        check("/libpod_parent/libpod-ID", &[(Some("podman"), ID)]);
        check("/x.service/libpod-payload-ID", &[(Some("podman"), ID)]);
        check(
            "/kubepods/burstable/pod3d6f1c2e-8a4b-4f6e-9c1d-0123456789ab/ID",
            &[(Some("containerd"), ID)],
        );
        check(
            "/kubepods.slice/kubepods-podx.slice/cri-containerd-ID.scope",
            &[(Some("containerd"), ID)],
        );
        check(
            "/kubepods.slice/kubepods-podx.slice/crio-ID.scope/container",
            &[(Some("cri-o"), ID)],
        );
        check("/lxc.payload.web", &[(Some("lxc"), "web")]);
        check(
            "/machine.slice/machine-labr\\x2dm1.scope/payload",
            &[(Some("machine"), "labr-m1")],
        );
        check(
            "/machine.slice/systemd-nspawn@labr\\x2dm1.service/payload",
            &[(Some("machine"), "labr-m1")],
        );
        check("/:youki:web", &[(Some("youki"), "web")]);
        check("/system.slice/youki-web.scope", &[(Some("youki"), "web")]);
        check("/kubepods/podx/kata_ID", &[(Some("kata"), ID)]);
        check("/kata_overhead/ID", &[(Some("kata"), ID)]);
        check("/system.slice/nerdctl-ID.scope", &[(Some("containerd"), ID)]);
        check("/system.slice/runc-web.scope", &[(Some("runc"), "web")]);
        check("/system.slice/crun-web.scope/container", &[(Some("crun"), "web")]);
    }

    #[test]
    fn a_name_counts_only_where_its_runtime_puts_its_cgroups() {
        for (path, expected) in [
            ("/docker/ID", true),
            ("/system.slice/docker-ID.scope", true),
            ("/a.slice/a-b.slice/docker-ID.scope", true),
            ("/docker-ID.scope", false),
            ("/a/docker-ID.scope", false),
            ("/abs/ID", false),
            ("/docker/ID2/docker/ID", false),
            ("/system.slice/docker-ID2.scope/a.slice/docker-ID.scope", false),
            ("/machine.slice/libpod-ID.scope", true),
            ("/libpod_parent/libpod-ID", true),
            ("/libpod_parent/ID2/libpod-ID", true),
            ("/libpod_parent/ID2/x/libpod-ID", false),
            ("/libpod_parent/x/libpod-ID", false),
            ("/system.slice/web.service/libpod-payload-ID", true),
            ("/web.service/libpod-payload-ID", false),
            ("/kubepods/podx/ID", true),
            ("/kubepods/burstable/podx/ID", true),
            ("/kubelet/kubepods/besteffort/podx/crio-ID", true),
            ("/kubepods/x/podx/ID", false),
            ("/a/kubepods/podx/ID", false),
            (
                "/kubepods.slice/kubepods-podx.slice/cri-containerd-ID.scope",
                true,
            ),
            ("/lxc.payload.web", true),
            ("/a/lxc.payload.web", false),
            ("/machine.slice/machine-web.scope", true),
            ("/machine.slice/systemd-nspawn@web.service", true),
            ("/machine-web.scope", false),
            ("/a/machine.slice/machine-web.scope", false),
            ("/system.slice/runc-web.scope", false),
            ("/system.slice/crun-web.scope", false),
            ("/system.slice/youki-web.scope", false),
            ("/:youki:web", false),
        ] {
            let spelled = path.replace("ID2", OTHER).replace("ID", ID);
            let named = last(Path::new(&spelled)).unwrap();
            assert_eq!(named.is_at_home, expected, "{path}");
        }
    }

    #[test]
    fn where_a_whole_id_usually_is_its_name_counts() {
        for path in usual_paths(ID) {
            let named = last(&path).unwrap();
            assert!(named.is_at_home && named.id == ID, "{named:?}");
        }
    }

    #[test]
    fn units_of_the_system_are_no_containers() {
        for name in ["system.slice", "nginx.service", "init.scope", "session-4.scope"] {
            assert!(unit_kind(name).is_some(), "{name}");
        }
        for name in ["docker-5978.scope", "web", "machine-x.scope", "lxc.payload.web"] {
            assert!(unit_kind(name).is_none(), "{name}");
        }
    }

    #[test]
    fn a_pod_of_podmans_is_no_container() {
        check("/libpod_parent/ID", &[]);
        check("/libpod_parent/ID/conmon", &[]);
        check("/libpod_parent/ID/libpod-ID2", &[(Some("podman"), OTHER)]);
        check("/x/ID/libpod-ID2", &[(Some("podman"), OTHER)]);
        check(
            "/docker/ID/libpod-ID2",
            &[(Some("docker"), ID), (Some("podman"), OTHER)],
        );
    }

    #[test]
    fn nested_containers_come_outermost_first() {
        check(
            "/docker/ID/docker/ID2",
            &[(Some("docker"), ID), (Some("docker"), OTHER)],
        );
        check("/docker/ID/ID2", &[(Some("docker"), ID), (None, OTHER)]);
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        for path in [
            "/",
            "/docker",
            "/system.slice",
            "/libpod_parent/conmon",
            "/machine.slice/libpod-conmon-ID.scope",
            "/crio-conmon-ID.scope",
            "/lxc.monitor.web",
            "/docker-8d96.scope",
            "/a/b",
        ] {
            check(path, &[]);
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = chain(Path::new(OsStr::from_bytes(&path))); // only that it returns
        }

        #[test]
        fn no_escape_panics(name in "(\\\\x?[0-9a-zé]{0,3}|.){0,9}") {
            let _ = unescape(&name); // only that it returns
        }
    }
}
