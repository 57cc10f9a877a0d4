//! Kata Containers: its processes are in a virtual machine, and no cgroup of the host holds them alone.

use std::path::Path;

use super::kind::Runtime;
use super::pattern::{BareParent, Home, IdKind, pattern};
use super::row::RuntimeRow;
use crate::host::Host;
use crate::resolver::state::StateDir;

/// The row of Kata Containers.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[pattern("kata_", IdKind::Full, "", Home::Pod)],
    bare_below: &[BareParent {
        name: "kata_overhead",
        tells: true,
        is_home: false,
    }],
    leaves_record: false,
    refusal: Some(
        "it is a container of Kata: its processes are in a virtual machine that it shares with its whole pod, and the \
         cgroup holds that machine and the shim that would have to thaw it",
    ),
    ..RuntimeRow::of(Runtime::Kata)
};

/// The directories in which containerd keeps the bundles of its shims, by namespace.
const BUNDLES: [&str; 2] = [
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
];

/// Whether containerd runs a container by Kata, which keeps none of the records that others do.
pub(crate) fn runs(host: &Host, id: &str) -> bool {
    let bundles = BUNDLES
        .iter()
        .filter_map(|dir| StateDir::open(&host.path(dir)).ok()?); // a directory that can't be opened is told of elsewhere
    bundles
        .flat_map(|dir| {
            let names = dir.names().unwrap_or_default(); // told of elsewhere
            names.into_iter().filter_map(move |namespace| {
                let file = Path::new(&namespace).join(id).join("shim-binary-path");
                dir.read(file).ok()? // told of elsewhere
            })
        })
        .any(|file| file.text.windows(4).any(|word| word == b"kata"))
}
