//! A runtime's own record of one container: its first process, its cgroup, what it is made of. Every runtime writes such a
//! record, and it can be stale: `check` compares it with the running process.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::kind::Runtime;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::host::{Hierarchy, Host};
use crate::resolver::state::StateDir;
use crate::resolver::trust::Trust;

/// The state of a container that an engine has on record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Believed {
    /// Running and paused.
    Paused,
    /// Running and not paused.
    Running,
    /// Being restarted.
    Restarting,
    /// Not running.
    Exited,
}

impl Believed {
    /// The word for it, in text and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        }
    }
}

impl fmt::Display for Believed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A directory with one record per container.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) dir: StateDir,
    /// The runtime that keeps its records in the directory.
    pub(crate) runtime: Runtime,
    /// The most that the records are trusted.
    pub(crate) trust: Trust,
}

impl Root {
    /// Opens a root of root's own engines; `None` where there is none.
    pub(crate) fn open(path: &Path, runtime: Runtime) -> Result<Option<Self>> {
        let root = StateDir::open(path)?.map(|dir| Self {
            dir,
            runtime,
            trust: Trust::Full,
        });
        Ok(root)
    }

    /// The trust in a record that `owner` owns the file of.
    pub(crate) fn trust_in(&self, owner: u32) -> Trust {
        match self.trust {
            Trust::Full => Trust::in_user(owner),
            other => other,
        }
    }
}

/// The record of one container.
#[derive(Debug)]
pub(crate) struct Record {
    /// The runtime that keeps the record, as far as the record's place tells.
    pub(crate) runtime: Runtime,
    pub(crate) id: String,
    /// The directory that it is in.
    pub(crate) dir: PathBuf,
    /// Whose word the record is.
    pub(crate) trust: Trust,
    /// When it was written, in seconds since 1970.
    pub(crate) written: i64,
    /// The container's first process.
    pub(crate) pid: i32,
    /// When that started, in the ticks of `/proc/PID/stat`; `None` where the runtime does not keep it.
    pub(crate) start: Option<u64>,
    pub(crate) place: CgroupOnRecord,
    pub(crate) about: About,
}

/// The container's cgroup, as a record says it.
#[derive(Debug, Clone)]
pub(crate) enum CgroupOnRecord {
    /// runc's `cgroup_paths`: directories by controller, as they were mounted for it; v2's has no name.
    Dirs(BTreeMap<String, PathBuf>),
    /// A path that is the same in every hierarchy.
    Path(PathBuf),
    /// The record names no cgroup.
    Nothing,
}

/// The rest of a container's record, besides where it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// The root file system, as the host's programs say it.
    pub rootfs: Option<PathBuf>,
    /// The runtime's bundle, likewise.
    pub bundle: Option<PathBuf>,
    /// The runtime that wrote the record.
    pub(crate) writer: Option<Writer>,
    /// The data root of the docker that its files are mounted from.
    pub(crate) data_root: Option<PathBuf>,
}

/// A runtime that writes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    Runc,
    Crun,
    Youki,
}

/// The directories, below the root, where freezers are mounted on the hosts that are common.
const MOUNTS: [&str; 3] = ["sys/fs/cgroup/freezer", "sys/fs/cgroup/unified", "sys/fs/cgroup"];

/// A record's word on the cgroup in one hierarchy, compared with where the container's process is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RecordedCgroup {
    /// The process is in this cgroup.
    At(PathBuf),
    /// The process is not in this cgroup, unless the record speaks of another mount namespace.
    Elsewhere(PathBuf),
    /// The record names no cgroup there.
    Nothing,
}

impl CgroupOnRecord {
    /// The cgroup that the runtime made in a hierarchy, given the one that its process is in: the same or one above.
    pub(crate) fn cgroup(&self, host: &Host, hierarchy: Hierarchy, line: &Path) -> RecordedCgroup {
        let candidates: Vec<PathBuf> = match self {
            Self::Nothing => Vec::new(),
            Self::Path(path) => vec![path.clone()],
            Self::Dirs(dirs) => {
                let key = match hierarchy {
                    Hierarchy::V1 => "freezer",
                    Hierarchy::V2 => "",
                };
                dirs.get(key)
                    .map(|dir| below_mounts(host, hierarchy, dir))
                    .unwrap_or_default()
            }
        };
        // The root is nobody's.
        let mut candidates = candidates.into_iter().filter(|path| path.parent().is_some());
        let Some(first) = candidates.next() else {
            return RecordedCgroup::Nothing;
        };
        if line.starts_with(&first) {
            return RecordedCgroup::At(first);
        }
        match candidates.find(|path| line.starts_with(path)) {
            Some(path) => RecordedCgroup::At(path),
            None => RecordedCgroup::Elsewhere(first),
        }
    }
}

/// A directory as the paths that it can mean in a hierarchy, in whichever way that was mounted for who wrote it.
fn below_mounts(host: &Host, hierarchy: Hierarchy, dir: &Path) -> Vec<PathBuf> {
    let mount = host
        .mount(hierarchy)
        .and_then(|mount| mount.dir.strip_prefix(host.root()).ok());
    let mounts = mount.into_iter().chain(MOUNTS.map(Path::new));
    mounts
        .filter_map(|mount| Some(Path::new("/").join(dir.strip_prefix("/").ok()?.strip_prefix(mount).ok()?)))
        .collect()
}

impl About {
    /// About how many bytes it takes to keep it.
    pub(crate) fn size(&self) -> u64 {
        let annotations = self
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len());
        let paths = [&self.rootfs, &self.bundle, &self.data_root]
            .into_iter()
            .flatten();
        let paths = paths.map(|path| path.as_os_str().len());
        annotations.chain(paths).sum::<usize>() as u64
    }

    /// The Kubernetes pod that it belongs to, as containerd's, CRI-O's or cri-dockerd's annotations have it.
    pub(crate) fn pod(&self) -> Option<Pod> {
        let get = |key: &str| self.annotations.get(key).cloned();
        let pod = |namespace: &str, name: &str, container: &str| {
            Some(Pod {
                namespace: get(namespace)?,
                name: get(name)?,
                container: get(container),
            })
        };
        pod(
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.cri.sandbox-name",
            "io.kubernetes.cri.container-name",
        )
        .or_else(|| {
            pod(
                "io.kubernetes.cri-o.Namespace",
                "io.kubernetes.cri-o.KubeName",
                "io.kubernetes.cri-o.ContainerName",
            )
        })
        .or_else(|| {
            pod(
                "io.kubernetes.pod.namespace",
                "io.kubernetes.pod.name",
                "io.kubernetes.container.name",
            )
        })
    }

    /// Whether it is a pod's sandbox, as containerd's and CRI-O's annotations have it.
    pub(crate) fn is_sandbox(&self) -> bool {
        let kind = [
            "io.kubernetes.cri.container-type",
            "io.kubernetes.cri-o.ContainerType",
        ]
        .iter()
        .find_map(|key| self.annotations.get(*key));
        kind.is_some_and(|kind| kind == "sandbox")
    }

    /// The container's image, where an annotation names it.
    pub(crate) fn image(&self) -> Option<String> {
        let keys = [
            "io.kubernetes.cri.image-name",
            "io.kubernetes.cri-o.ImageName",
            "org.opencontainers.image.ref.name",
        ];
        keys.iter().find_map(|key| self.annotations.get(*key).cloned())
    }
}

/// The Kubernetes pod that a container belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The pod's name.
    pub(crate) name: String,
    /// The container's name in it; `None` for the sandbox.
    pub(crate) container: Option<String>,
}

impl fmt::Display for Pod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The directories of records below `path`, one for each namespace; adds to `incomplete` what can't be opened.
pub(super) fn namespaces(
    path: &Path,
    runtime: impl Fn(&str) -> Runtime,
    trust: Trust,
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
                    trust,
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

    #[test]
    fn a_recorded_cgroup_must_hold_its_process() {
        let host_dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(host_dir.path().join("proc")).unwrap();
        let host = Host::made_up(host_dir.path()).unwrap();
        let check = |place: &CgroupOnRecord, line: &str, expected: RecordedCgroup| {
            let found = place.cgroup(&host, Hierarchy::V1, Path::new(line));
            assert_eq!(found, expected, "{place:?} {line}");
        };
        let dir = |recorded: &str| {
            CgroupOnRecord::Dirs(BTreeMap::from([("freezer".to_owned(), PathBuf::from(recorded))]))
        };
        let at = |path: &str| RecordedCgroup::At(PathBuf::from(path));
        let elsewhere = |path: &str| RecordedCgroup::Elsewhere(PathBuf::from(path));
        check(&dir("/sys/fs/cgroup/freezer/a/b"), "/a/b", at("/a/b"));
        check(&dir("/sys/fs/cgroup/freezer/a/b"), "/a/b/below", at("/a/b"));
        check(&dir("/sys/fs/cgroup/unified/a"), "/a", at("/a"));
        check(&dir("/sys/fs/cgroup/freezer/a/b"), "/b", elsewhere("/a/b"));
        check(&dir("/sys/fs/cgroup/freezer/a"), "/", elsewhere("/a"));
        check(&dir("/sys/fs/cgroup/freezer"), "/a", elsewhere("/freezer")); // no cgroup of its own
        check(&dir("/mnt/freezer/a"), "/a", RecordedCgroup::Nothing);
        check(
            &CgroupOnRecord::Dirs(BTreeMap::new()),
            "/a",
            RecordedCgroup::Nothing,
        );
        check(&CgroupOnRecord::Path(PathBuf::from("/a/b")), "/a/b/c", at("/a/b"));
        check(
            &CgroupOnRecord::Path(PathBuf::from("/a/b")),
            "/a",
            elsewhere("/a/b"),
        );
        check(
            &CgroupOnRecord::Path(PathBuf::from("/")),
            "/a",
            RecordedCgroup::Nothing,
        );
        check(&CgroupOnRecord::Nothing, "/a", RecordedCgroup::Nothing);
    }
}
