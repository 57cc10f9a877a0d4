//! runc's own records, `<root>/<id>/state.json`: the best single file there is, as it has the process with its start
//! time and the cgroups. docker, containerd, podman and bare runc each have a root of their own. A record outlives
//! every daemon, and its container too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::state::StateDir;
use crate::error::Result;
use crate::host::{Hierarchy, Host};

/// A directory with one directory per container.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) dir: StateDir,
    /// Who runs runc here.
    pub(super) runtime: &'static str,
}

/// One container's record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) runtime: &'static str,
    pub(super) id: String,
    /// The directory of the record.
    pub(super) dir: PathBuf,
    pub(super) state: State,
}

/// What is read of a `state.json`.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    id: String,
    pub(super) init_process_pid: i32,
    pub(super) init_process_start: u64,
    #[serde(default)]
    cgroup_paths: Option<BTreeMap<String, PathBuf>>,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    rootfs: Option<PathBuf>,
    labels: Option<Vec<String>>,
    mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Deserialize)]
struct Mount {
    source: Option<PathBuf>,
}

/// The directories, below the root, where freezers are mounted on the hosts that are common.
const MOUNTS: [&str; 3] = ["sys/fs/cgroup/freezer", "sys/fs/cgroup/unified", "sys/fs/cgroup"];

/// What a record says of the cgroup in one hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Its process is in it.
    At(PathBuf),
    /// Its process is elsewhere, unless the record speaks of another mount namespace.
    Elsewhere(PathBuf),
    /// It says nothing.
    Nothing,
}

impl State {
    /// The cgroup that runc made in a hierarchy, given the one that its process is in: the same or one above. The
    /// record has it as an absolute directory, in whichever way the hierarchy was mounted for runc.
    pub(super) fn cgroup(&self, host: &Host, hierarchy: Hierarchy, line: &Path) -> Recorded {
        let key = match hierarchy {
            Hierarchy::V1 => "freezer",
            Hierarchy::V2 => "",
        };
        let Some(recorded) = self.cgroup_paths.as_ref().and_then(|paths| paths.get(key)) else {
            return Recorded::Nothing;
        };
        let mount = host
            .mount(hierarchy)
            .and_then(|mount| mount.dir.strip_prefix(host.root()).ok());
        let mounts = mount.into_iter().chain(MOUNTS.map(Path::new));
        let below: Vec<PathBuf> = mounts
            .filter_map(|mount| {
                Some(Path::new("/").join(recorded.strip_prefix("/").ok()?.strip_prefix(mount).ok()?))
            })
            .filter(|path| path.parent().is_some())
            .collect();
        match below.iter().find(|path| line.starts_with(path)) {
            Some(path) => Recorded::At(path.clone()),
            None => below
                .into_iter()
                .next()
                .map_or(Recorded::Nothing, Recorded::Elsewhere),
        }
    }

    /// The container's root file system.
    pub(super) fn rootfs(&self) -> Option<PathBuf> {
        self.config.rootfs.clone()
    }

    /// The bundle, which runc keeps among the annotations.
    pub(super) fn bundle(&self) -> Option<PathBuf> {
        self.labels().remove("bundle").map(PathBuf::from)
    }

    /// The annotations.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.config.labels.iter().flatten();
        labels
            .filter_map(|label| label.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// Whether it is a pod's sandbox, as containerd's and CRI-O's annotations have it.
    pub(super) fn is_sandbox(&self) -> bool {
        let labels = self.labels();
        let kind = labels
            .get("io.kubernetes.cri.container-type")
            .or_else(|| labels.get("io.kubernetes.cri-o.ContainerType"));
        kind.is_some_and(|kind| kind == "sandbox")
    }

    /// What is mounted into the container from outside.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Path> {
        self.config
            .mounts
            .iter()
            .flatten()
            .filter_map(|mount| mount.source.as_deref())
    }
}

impl Root {
    /// Opens a root; `None` where there is none.
    pub(super) fn open(path: &Path, runtime: &'static str) -> Result<Option<Self>> {
        Ok(StateDir::open(path)?.map(|dir| Self { dir, runtime }))
    }

    /// The record of one container; `None` where there is none.
    ///
    /// # Errors
    ///
    /// It is there and can't be read or understood, or is another container's.
    pub(super) fn record(&self, id: &str) -> Result<Option<Record>> {
        let Some(dir) = self.dir.below(OsStr::new(id))? else {
            return Ok(None);
        };
        let Some(state) = dir.json::<State>("state.json")? else {
            return Ok(None);
        };
        if state.id != id {
            return Err(crate::error::Error::Io {
                act: "understand".to_owned(),
                path: dir.path().join("state.json"),
                cause: std::io::Error::new(
                    std::io::ErrorKind::InvalidData,
                    "it is the record of another container",
                ),
            });
        }
        Ok(Some(Record {
            runtime: self.runtime,
            id: id.to_owned(),
            dir: dir.path().to_owned(),
            state,
        }))
    }
}

/// The roots that are where they are by default. Few, however many containers there are: one per runtime and
/// namespace.
pub(super) fn usual_roots(host: &Host, incomplete: &mut Vec<String>) -> Vec<Root> {
    let mut roots = docker_roots(&host.path("/run/docker"), incomplete);
    roots.extend(namespaces(
        &host.path("/run/containerd/runc"),
        |name| if name == "moby" { "docker" } else { "containerd" },
        incomplete,
    ));
    match Root::open(&host.path("/run/runc"), "runc") {
        Ok(root) => roots.extend(root),
        Err(error) => incomplete.push(error.to_string()),
    }
    roots
}

/// The roots of a docker with this exec-root: one per configured runtime, with one namespace each.
pub(super) fn docker_roots(exec_root: &Path, incomplete: &mut Vec<String>) -> Vec<Root> {
    let names = StateDir::open(exec_root).and_then(|dir| dir.map_or(Ok(Vec::new()), |dir| dir.names()));
    match names {
        Ok(names) => {
            let runtimes = names
                .iter()
                .filter(|name| name.as_bytes().starts_with(b"runtime-"));
            runtimes
                .flat_map(|name| namespaces(&exec_root.join(name), |_| "docker", incomplete))
                .collect()
        }
        Err(error) => {
            incomplete.push(error.to_string());
            Vec::new()
        }
    }
}

fn namespaces(
    path: &Path,
    runtime: impl Fn(&str) -> &'static str,
    incomplete: &mut Vec<String>,
) -> Vec<Root> {
    let open = || -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        let Some(dir) = StateDir::open(path)? else {
            return Ok(roots);
        };
        for name in dir.names()? {
            if let Some(below) = dir.below(&name)? {
                roots.push(Root {
                    dir: below,
                    runtime: runtime(&name.to_string_lossy()),
                });
            }
        }
        Ok(roots)
    };
    open().unwrap_or_else(|error| {
        incomplete.push(error.to_string());
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";

    fn root_with(id: &str, text: &str) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(id)).unwrap();
        std::fs::write(dir.path().join(id).join("state.json"), text).unwrap();
        let root = Root::open(dir.path(), "runc").unwrap().unwrap();
        (dir, root)
    }

    #[test]
    fn a_record_has_process_cgroups_bundle_and_mounts() {
        let text = format!(
            r#"{{"id":"{ID}","init_process_pid":21794,"init_process_start":87982,"created":"2026-11-23T15:44:20Z",
            "cgroup_paths":{{"freezer":"/sys/fs/cgroup/freezer/docker/{ID}","":"/elsewhere/docker/{ID}"}},
            "config":{{"rootfs":"/r","labels":["bundle=/run/b","a=b=c"],"mounts":[{{"source":"/var/lib/docker/containers/{ID}/hosts"}},{{}}]}}}}"#
        );
        let (_dir, root) = root_with(ID, &text);
        let state = root.record(ID).unwrap().unwrap().state;
        assert_eq!((state.init_process_pid, state.init_process_start), (21794, 87982));
        assert_eq!(state.bundle(), Some(PathBuf::from("/run/b")));
        assert_eq!(state.labels()["a"], "b=c");
        assert_eq!(state.sources().count(), 1);
        assert!(root.record("other").unwrap().is_none());
    }

    #[test]
    fn a_recorded_cgroup_must_hold_its_process() {
        let host_dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host_dir.path().join("proc")).unwrap();
        let host = Host::made_up(host_dir.path()).unwrap();
        let check = |recorded: &str, line: &str, expected: Recorded| {
            let text = format!(
                r#"{{"id":"x","init_process_pid":1,"init_process_start":1,"cgroup_paths":{{"freezer":"{recorded}"}}}}"#
            );
            let state: State = serde_json::from_str(&text).unwrap();
            assert_eq!(
                state.cgroup(&host, Hierarchy::V1, Path::new(line)),
                expected,
                "{recorded} {line}"
            );
        };
        let at = |path: &str| Recorded::At(PathBuf::from(path));
        check("/sys/fs/cgroup/freezer/a/b", "/a/b", at("/a/b"));
        check("/sys/fs/cgroup/freezer/a/b", "/a/b/below", at("/a/b"));
        check("/sys/fs/cgroup/unified/a", "/a", at("/a"));
        check(
            "/sys/fs/cgroup/freezer/a/b",
            "/b",
            Recorded::Elsewhere(PathBuf::from("/a/b")),
        );
        check(
            "/sys/fs/cgroup/freezer/a",
            "/",
            Recorded::Elsewhere(PathBuf::from("/a")),
        );
        check(
            "/sys/fs/cgroup/freezer",
            "/a",
            Recorded::Elsewhere(PathBuf::from("/freezer")),
        ); // no cgroup of its own
        check("/mnt/freezer/a", "/a", Recorded::Nothing);
        let state: State =
            serde_json::from_str(r#"{"id":"x","init_process_pid":1,"init_process_start":1}"#).unwrap();
        assert_eq!(
            state.cgroup(&host, Hierarchy::V2, Path::new("/a")),
            Recorded::Nothing
        );
    }

    #[test]
    fn a_record_of_another_container_is_an_error() {
        let (_dir, root) = root_with(
            "web",
            r#"{"id":"db","init_process_pid":1,"init_process_start":1}"#,
        );
        assert!(
            root.record("web")
                .unwrap_err()
                .to_string()
                .contains("another container")
        );
    }

    proptest! {
        #[test]
        fn no_record_panics(cut in 0_usize..200, junk in proptest::collection::vec(any::<u8>(), 0..40)) {
            let whole = r#"{"id":"web","init_process_pid":7,"init_process_start":9,"cgroup_paths":{"":"/sys/fs/cgroup/x"},"config":{"labels":null}}"#;
            let mut bytes = whole.as_bytes().to_vec();
            let at = cut.min(bytes.len());
            bytes.splice(at.., junk);
            let _ = serde_json::from_slice::<State>(&bytes); // only that it returns
        }
    }
}
