//! From a container's shim to its record, where no configuration leads there: the shim's working directory is the
//! container's bundle. It leads to a record that root's engine wrote, and is none itself.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde::Deserialize;

use super::cgroup_trust::CgroupTrust;
use super::lines::{Lines, cgroup_lines};
use super::runtime::Runtime;
use super::runtime::record::{Record, Root};
use super::state::StateDir;
use crate::host::{Hierarchy, Host};

/// `comm` of containerd's shim, cut to 15 bytes.
const SHIM: &str = "containerd-shim";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    root: Option<PathBuf>,
}

/// The record of the container `id` that the shim which started `pid` leads to: where its engine keeps its records is
/// told by the bundle that the shim works in, `<state>/io.containerd.runtime.v2.task/<namespace>/<id>`, whose
/// `options.json` names the root. `None` where there is none, or where it can't be read.
pub(super) fn record(host: &Host, pid: i32, id: &str) -> Option<Record> {
    let proc = host.proc();
    let shim = proc.stat(proc.stat(pid)?.ppid)?;
    if !shim.comm.starts_with(SHIM) || !is_roots(host, shim.pid) {
        return None;
    }
    let bundle = host.inside(&proc.working_dir(shim.pid)?);
    let namespace = bundle.parent()?.file_name()?;
    // A bundle without options, or one that can't be read, uses the default root, which was looked through already.
    let options: Options = StateDir::open(&bundle).ok()??.json("options.json").ok()??;
    let runtime = if namespace == OsStr::new("moby") {
        Runtime::Docker
    } else {
        Runtime::Containerd
    };
    let root = Root::open(&host.inside(&options.root?).join(namespace), runtime).ok()??;
    root.record(id).ok()? // unreadable: as if there were none
}

/// Whether a process is root's on the host itself: it runs as root in the PID namespace of this /proc, and in no
/// container's cgroup. Its name is its own word, and so is where it works; both count only then.
fn is_roots(host: &Host, pid: i32) -> bool {
    let trust = CgroupTrust::new(host);
    let is_outside = |lines: Lines| {
        [Hierarchy::V1, Hierarchy::V2].into_iter().all(|hierarchy| {
            let line = lines.path(hierarchy).filter(|_| host.mount(hierarchy).is_some());
            line.is_none_or(|line| trust.in_children(hierarchy, line).is_full())
        })
    };
    let proc = host.proc();
    proc.is_of_host_root(pid) && cgroup_lines(host, pid).is_some_and(is_outside)
}
