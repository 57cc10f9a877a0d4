//! What a container's surroundings tell where no configuration does: its shim's working directory is its bundle, and
//! what its files are mounted from. Both are read of /proc, off the main path: `mountinfo` waits for a lock that a
//! stuck mount holds.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::roots::Root;
use super::state::StateDir;
use crate::host::{Host, mount_lines};
use crate::verifier::Witness;

/// `comm` of containerd's shim, cut to 15 bytes.
const SHIM: &str = "containerd-shim";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    root: Option<PathBuf>,
}

/// The directory with the runc records of the engine that started `pid`, told by the bundle that its shim works in:
/// `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`, whose `options.json` names the root.
pub(super) fn runc_root(host: &Host, pid: i32) -> Option<Root> {
    let witness = Witness::new(host);
    let shim = witness.stat(witness.stat(pid)?.ppid)?;
    if !shim.comm.starts_with(SHIM) {
        return None;
    }
    let bundle = host.inside(&witness.working_dir(shim.pid)?);
    let namespace = bundle.parent()?.file_name()?;
    // A bundle without options, or one that can't be read, uses the default root, which was looked through already.
    let options: Options = StateDir::open(&bundle).ok()??.json("options.json").ok()??;
    let runtime = if namespace == OsStr::new("moby") {
        "docker"
    } else {
        "containerd"
    };
    Root::open(&host.inside(&options.root?).join(namespace), runtime).ok()?
}

/// The files and directories of the host that are mounted into the mount namespace of `pid`, as far as they lie on
/// file systems that the host has mounted too.
pub(super) fn mount_sources(host: &Host, pid: i32) -> Vec<PathBuf> {
    let witness = Witness::new(host);
    let (inside, outside) = (witness.mountinfo(pid), witness.mountinfo(1));
    let outside: Vec<_> = mount_lines(&outside).collect();
    mount_lines(&inside)
        .filter(|line| line.root != Path::new("/"))
        .filter_map(|line| {
            outside
                .iter()
                .filter(|mount| mount.device == line.device)
                .find_map(|mount| {
                    let below = line.root.strip_prefix(&mount.root).ok()?;
                    Some(mount.dir.join(below))
                })
        })
        .collect()
}

/// Where containerd keeps the bundles of its shims, by namespace.
const BUNDLES: [&str; 2] = [
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
];

/// Whether containerd runs a container by Kata, which keeps none of the records that others do.
pub(super) fn is_of_kata(host: &Host, id: &str) -> bool {
    let bundles = BUNDLES
        .iter()
        .filter_map(|dir| StateDir::open(&host.path(dir)).ok()?); // told of elsewhere
    bundles
        .flat_map(|dir| {
            let names = dir.names().unwrap_or_default(); // as above
            names.into_iter().filter_map(move |namespace| {
                let file = Path::new(&namespace).join(id).join("shim-binary-path");
                dir.read(file).ok()? // as above
            })
        })
        .any(|file| file.text.windows(4).any(|word| word == b"kata"))
}
