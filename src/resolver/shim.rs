//! What a container's surroundings tell where no configuration does: its shim's working directory is its bundle, and
//! what its files are mounted from. Both are read of /proc, off the main path: `mountinfo` waits for a lock that a
//! stuck mount holds.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::runc::Root;
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
    let shim = witness.stat(&witness.stat(&pid.to_string())?.ppid.to_string())?;
    if !shim.comm.starts_with(SHIM) {
        return None;
    }
    let bundle = host.inside(&host.read_proc_link(&format!("{}/cwd", shim.pid))?);
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
    let read = |path: &str| host.read_proc(path).unwrap_or_default(); // gone: nothing is told
    let (inside, outside) = (read(&format!("{pid}/mountinfo")), read("1/mountinfo"));
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
