//! How a runtime calls its containers' cgroups, as data. No I/O.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::resolver::target::is_full_id;

/// The name of a cgroup with a container's ID or name in it: `docker-<ID>.scope`.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) prefix: &'static str,
    pub(crate) kind: IdKind,
    pub(crate) suffix: &'static str,
    pub(crate) home: Home,
    /// The level below in which the runtime keeps the tasks, and which it freezes.
    pub(crate) below: Option<&'static str>,
}

/// A [`Pattern`] of a runtime that adds no level of its own.
pub(super) const fn pattern(prefix: &'static str, kind: IdKind, suffix: &'static str, home: Home) -> Pattern {
    Pattern {
        prefix,
        kind,
        suffix,
        home,
        below: None,
    }
}

impl Pattern {
    /// The pattern of a runtime that keeps the tasks in the level `below`.
    pub(super) const fn with_level(self, below: &'static str) -> Self {
        Self {
            below: Some(below),
            ..self
        }
    }
}

/// A cgroup right below which containers are called by a bare ID.
#[derive(Debug)]
pub(crate) struct BareParent {
    /// How it is called.
    pub(crate) name: &'static str,
    /// Whether its name tells the runtime.
    pub(crate) tells: bool,
    /// Whether a name in it counts without a record, where it is right below the hierarchy's root.
    pub(crate) is_home: bool,
}

/// The kind of word between the prefix and the suffix of a [`Pattern`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    /// 64 hex digits.
    Full,
    /// A runtime's own ID.
    Id,
    /// A name.
    Name,
}

/// The place at which a cgroup's name counts for its runtime, where the runtime's record is lost or never readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Right below the hierarchy's root.
    Root,
    /// `/machine.slice`, in which systemd makes the units of machines.
    Machines,
    /// Below slices alone, which only systemd makes.
    Slices,
    /// Below slices and one service, which podman splits.
    Service,
    /// `/libpod_parent`, or a pod's cgroup in it.
    Podman,
    /// The cgroup of a pod, where the kubelet makes those.
    Pod,
    /// Nowhere: the runtime always leaves a record that can be read.
    Nowhere,
}

impl Home {
    /// Whether the cgroup `parent` is such a place.
    pub(crate) fn is(self, parent: &Path) -> bool {
        let mut above = parent.iter().skip(1);
        let is_slice = |name: &OsStr| name.as_bytes().ends_with(b".slice");
        match self {
            Self::Root => parent.parent().is_none(),
            Self::Machines => parent == Path::new("/machine.slice"),
            Self::Slices => parent.parent().is_some() && above.all(is_slice),
            Self::Service => {
                let is_service = |name: &OsStr| name.as_bytes().ends_with(b".service");
                let slices = parent.parent().unwrap_or(parent);
                parent.file_name().is_some_and(is_service) && Self::Slices.is(slices)
            }
            Self::Podman => {
                above.next() == Some(OsStr::new("libpod_parent"))
                    && above.next().is_none_or(|pod| is_full_id(pod.as_bytes()))
                    && above.next().is_none()
            }
            Self::Pod => is_pod(parent),
            Self::Nowhere => false,
        }
    }
}

/// Whether a cgroup is a pod's where the kubelet makes them without systemd: `/kubepods/podUID`,
/// `/kubepods/burstable/podUID`, or the like below `/kubelet`, which kind sets as the root.
pub(crate) fn is_pod(path: &Path) -> bool {
    let mut parts: Vec<&[u8]> = path.iter().skip(1).map(OsStr::as_bytes).collect();
    if parts.first() == Some(&&b"kubelet"[..]) {
        parts.remove(0);
    }
    match parts[..] {
        [b"kubepods", pod] | [b"kubepods", b"burstable" | b"besteffort", pod] => pod.starts_with(b"pod"),
        _ => false,
    }
}
