//! crun's records, `<root>/<id>/status`, with a copy of the specification beside it in `config.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::kind::Runtime;
use super::pattern::{Home, IdKind, pattern};
use super::record::{About, CgroupOnRecord, Record, Root, Writer};
use super::row::{Format, RuntimeRow};
use crate::error::Result;
use crate::resolver::state::StateFile;

/// The row of crun.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[pattern("crun-", IdKind::Id, ".scope", Home::Nowhere).with_level("container")],
    has_own_root: true,
    format: Some(Format {
        fits: |text| text.is_none(),
        read: record,
    }),
    ..RuntimeRow::of(Runtime::Crun)
};

/// The fields that are read of a `status`.
#[derive(Debug, Deserialize)]
struct Status {
    pid: i32,
    #[serde(rename = "process-start-time")]
    start: u64,
    #[serde(rename = "cgroup-path", default)]
    cgroup: Option<PathBuf>,
    #[serde(default)]
    rootfs: Option<PathBuf>,
    #[serde(default)]
    bundle: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// The record of one container; `None` where there is none. It does not hold the ID: its directory's name is it.
///
/// # Errors
///
/// The record is there and can't be read or understood.
fn record(root: &Root, id: &str, _: Option<&StateFile>) -> Result<Option<Record>> {
    let name = PathBuf::from(id).join("status");
    let Some(file) = root.dir.read(&name)? else {
        return Ok(None);
    };
    let status: Status = root.dir.understood(&name, &file.text)?;
    let spec: Option<Spec> = root.dir.json(PathBuf::from(id).join("config.json"))?;
    let spec = spec.unwrap_or_default();
    Ok(Some(Record {
        runtime: root.runtime,
        id: id.to_owned(),
        dir: root.dir.path().join(id),
        trust: root.trust_in(file.owner),
        written: file.written,
        pid: status.pid,
        start: Some(status.start),
        place: status
            .cgroup
            .filter(|path| !path.as_os_str().is_empty())
            .map_or(CgroupOnRecord::Nothing, |path| {
                CgroupOnRecord::Path(Path::new("/").join(path))
            }),
        about: About {
            annotations: spec.annotations.unwrap_or_default(),
            rootfs: status.rootfs,
            bundle: status.bundle,
            writer: Some(Writer::Crun),
            data_root: None,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_has_process_cgroup_and_annotations() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join("web").join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("web")).unwrap();
        put(
            "status",
            r#"{"pid":424,"process-start-time":197376,"cgroup-path":"/machine.slice/libpod-x.scope/container",
            "scope":"libpod-x.scope","rootfs":"/r","systemd-cgroup":true,"bundle":"/b","owner":"root"}"#,
        );
        let root = Root::open(dir.path(), Runtime::Crun).unwrap().unwrap();
        let record = root.record("web").unwrap().unwrap();
        assert_eq!((record.pid, record.start), (424, Some(197_376)));
        assert!(matches!(&record.place, CgroupOnRecord::Path(path) if path.ends_with("container")));
        assert_eq!(record.about.rootfs, Some(PathBuf::from("/r")));
        put(
            "config.json",
            r#"{"annotations":{"io.container.manager":"libpod"}}"#,
        );
        let record = root.record("web").unwrap().unwrap();
        assert_eq!(record.about.annotations["io.container.manager"], "libpod");
        assert!(root.record("db").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_record_panics(cut in 0_usize..90, junk in proptest::collection::vec(any::<u8>(), 0..40)) {
            let whole = r#"{"pid":424,"process-start-time":197376,"cgroup-path":"/a","rootfs":"/r","bundle":null}"#;
            let mut bytes = whole.as_bytes().to_vec();
            let at = cut.min(bytes.len());
            bytes.splice(at.., junk);
            let _ = serde_json::from_slice::<Status>(&bytes); // only that it returns
        }
    }
}
