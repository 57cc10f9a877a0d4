//! runc's records, `<root>/<id>/state.json`: the best single file there is, as it has the process with its start time
//! and the cgroups. docker, containerd, podman, CRI-O and bare runc each have roots of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::docker;
use super::kind::Runtime;
use super::pattern::{Home, IdKind, pattern};
use super::record::{About, CgroupOnRecord, Record, Root, Writer};
use super::row::{Format, RuntimeRow};
use crate::error::Result;
use crate::resolver::state::StateFile;

/// The row of runc.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[pattern("runc-", IdKind::Id, ".scope", Home::Nowhere)],
    has_own_root: true,
    format: Some(Format {
        fits: |text| text.is_some_and(is_its),
        read: record,
    }),
    ..RuntimeRow::of(Runtime::Runc)
};

/// The fields that are read of a `state.json`.
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    init_process_pid: i32,
    init_process_start: u64,
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

/// Whether a `state.json` is runc's: others do not call the first process so.
fn is_its(text: &[u8]) -> bool {
    memchr::memmem::find(text, b"\"init_process_pid\"").is_some()
}

/// The record of one container.
///
/// # Errors
///
/// The record can't be understood, or is another container's.
fn record(root: &Root, id: &str, file: Option<&StateFile>) -> Result<Option<Record>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let name = PathBuf::from(id).join("state.json");
    let state: State = root.dir.understood(&name, &file.text)?;
    if state.id != id {
        return Err(root
            .dir
            .odd("understand", &name, "it is the record of another container"));
    }
    let mut annotations = annotations(state.config.labels.unwrap_or_default());
    // runc keeps the bundle among them.
    let bundle = annotations.remove("bundle").map(PathBuf::from);
    let sources = state
        .config
        .mounts
        .iter()
        .flatten()
        .filter_map(|mount| mount.source.as_deref());
    let data_root = sources.filter_map(docker::root_in).next();
    Ok(Some(Record {
        runtime: root.runtime,
        id: state.id,
        dir: root.dir.path().join(id),
        trust: root.trust_in(file.owner),
        written: file.written,
        pid: state.init_process_pid,
        start: Some(state.init_process_start),
        place: CgroupOnRecord::Dirs(state.cgroup_paths.unwrap_or_default()),
        about: About {
            annotations,
            rootfs: state.config.rootfs,
            bundle,
            writer: Some(Writer::Runc),
            data_root,
        },
    }))
}

fn annotations(labels: Vec<String>) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    for (key, value) in labels.iter().filter_map(|label| label.split_once('=')) {
        annotations.insert(key.to_owned(), value.to_owned());
    }
    annotations
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
        let root = Root::open(dir.path(), Runtime::Runc).unwrap().unwrap();
        (dir, root)
    }

    #[test]
    fn a_record_has_process_cgroups_bundle_and_data_root() {
        let text = format!(
            r#"{{"id":"{ID}","init_process_pid":21794,"init_process_start":87982,"created":"2026-11-23T15:44:20Z",
            "cgroup_paths":{{"freezer":"/sys/fs/cgroup/freezer/docker/{ID}","":"/elsewhere/docker/{ID}"}},
            "config":{{"rootfs":"/r","labels":["bundle=/run/b","a=b=c"],"mounts":[{{"source":"/srv/d/containers/{ID}/hosts"}},{{}}]}}}}"#
        );
        let (_dir, root) = root_with(ID, &text);
        let record = root.record(ID).unwrap().unwrap();
        assert_eq!((record.pid, record.start), (21794, Some(87982)));
        assert_eq!(record.about.bundle, Some(PathBuf::from("/run/b")));
        assert_eq!(record.about.annotations["a"], "b=c");
        assert_eq!(record.about.data_root, Some(PathBuf::from("/srv/d")));
        assert!(root.record("other").unwrap().is_none());
    }

    #[test]
    fn a_record_of_another_container_is_an_error() {
        let (_dir, root) = root_with(
            "web",
            r#"{"id":"db","init_process_pid":1,"init_process_start":1}"#,
        );
        let text = root.record("web").unwrap_err().to_string();
        assert!(text.contains("another container"), "{text}");
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
