//! youki's records, `<root>/<id>/state.json`, and where its cgroup is in `youki_config.json`. They are written in
//! place, so that a reader can meet a short one, and have no start time: the process's own cgroup must bear the ID.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::kind::Runtime;
use super::pattern::{Home, IdKind, pattern};
use super::record::{About, CgroupOnRecord, Record, Root, Writer};
use super::row::{Format, RuntimeRow};
use crate::error::Result;
use crate::resolver::state::StateFile;

/// The row of youki.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[
        pattern("youki-", IdKind::Id, ".scope", Home::Nowhere),
        pattern(":youki:", IdKind::Id, "", Home::Nowhere),
    ],
    has_own_root: true,
    format: Some(Format {
        fits: |text| text.is_some(),
        read: record,
    }),
    ..RuntimeRow::of(Runtime::Youki)
};

/// The fields that are read of a `state.json`.
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    /// Not told by, but there: what has none is not youki's.
    #[serde(rename = "status")]
    _status: String,
    pid: Option<i32>,
    #[serde(default)]
    bundle: Option<PathBuf>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    cgroup_path: Option<PathBuf>,
}

/// The record of one container; `None` where it has no process.
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
    let Some(pid) = state.pid else {
        return Ok(None);
    };
    let config: Option<Config> = root.dir.json(PathBuf::from(id).join("youki_config.json"))?;
    Ok(Some(Record {
        runtime: root.runtime,
        id: state.id,
        dir: root.dir.path().join(id),
        trust: root.trust_in(file.owner),
        written: file.written,
        pid,
        start: None,
        place: config
            .and_then(|config| config.cgroup_path)
            .map_or(CgroupOnRecord::Nothing, |path| {
                CgroupOnRecord::Path(Path::new("/").join(path))
            }),
        about: About {
            annotations: state.annotations.unwrap_or_default(),
            rootfs: None,
            bundle: state.bundle,
            writer: Some(Writer::Youki),
            data_root: None,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_needs_a_process_and_its_own_id() {
        let dir = tempfile::tempdir().unwrap();
        let put = |id: &str, name: &str, text: &str| {
            std::fs::create_dir_all(dir.path().join(id)).unwrap();
            std::fs::write(dir.path().join(id).join(name), text).unwrap();
        };
        put(
            "web",
            "state.json",
            r#"{"ociVersion":"1.0","id":"web","status":"running","pid":7,"bundle":"/b"}"#,
        );
        put("web", "youki_config.json", r#"{"cgroup_path":":youki:web"}"#);
        put(
            "made",
            "state.json",
            r#"{"id":"made","status":"creating","pid":null,"bundle":"/b"}"#,
        );
        put(
            "other",
            "state.json",
            r#"{"id":"web","status":"running","pid":7}"#,
        );
        put("short", "state.json", r#"{"id":"sh"#);
        let root = Root::open(dir.path(), Runtime::Youki).unwrap().unwrap();
        let record = root.record("web").unwrap().unwrap();
        assert_eq!((record.pid, record.start), (7, None));
        assert!(matches!(&record.place, CgroupOnRecord::Path(path) if path == Path::new("/:youki:web")));
        assert!(root.record("made").unwrap().is_none());
        let text = root.record("other").unwrap_err().to_string();
        assert!(text.contains("another container"), "{text}");
        assert!(root.record("short").is_err());
    }
}
