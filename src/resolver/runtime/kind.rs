//! The runtimes and engines that iceaxe knows, by the names that it prints for them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A runtime or an engine whose containers are known by their cgroups or their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Runtime {
    /// Docker Engine.
    Docker,
    /// Podman, root's or a user's.
    Podman,
    /// containerd, by whichever client: the kubelet, nerdctl, ctr.
    Containerd,
    /// CRI-O.
    #[serde(rename = "cri-o")]
    Crio,
    /// LXC, also below LXD and Incus.
    Lxc,
    /// A machine of systemd's, as systemd-nspawn makes them.
    Machine,
    /// runc, called without an engine.
    Runc,
    /// crun, called without an engine.
    Crun,
    /// youki, called without an engine.
    Youki,
    /// Kata Containers, whose processes are in a virtual machine.
    Kata,
}

impl Runtime {
    /// The name that is printed, in text and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Lxc => "lxc",
            Self::Machine => "machine",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Youki => "youki",
            Self::Kata => "kata",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
