//! docker's records, `<data-root>/containers/<id>/config.v2.json`: names, images, labels, and what dockerd believes.
//! They may lie on a disk that hangs, so nothing here is read on the way to a container that was named by its ID.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::census::Census;
use super::details::Believed;
use super::shim;
use super::state::StateDir;
use super::target::is_full_id;
use crate::error::Result;
use crate::host::Host;

/// What is read of a `config.v2.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    #[serde(rename = "ID")]
    pub(super) id: String,
    #[serde(rename = "Name", default)]
    name: String,
    #[serde(rename = "LogPath", default)]
    log: PathBuf,
    #[serde(rename = "State", default)]
    state: State,
    #[serde(rename = "Config", default)]
    config: Inner,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    running: bool,
    paused: bool,
    restarting: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

impl Config {
    /// Its name, which docker keeps with a slash in front.
    pub(super) fn name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    pub(super) fn image(&self) -> Option<String> {
        self.config.image.clone()
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        self.config.labels.clone().unwrap_or_default()
    }

    pub(super) fn log(&self) -> Option<PathBuf> {
        Some(self.log.clone()).filter(|log| !log.as_os_str().is_empty())
    }

    /// What dockerd has written down last.
    pub(super) fn believed(&self) -> Believed {
        match self.state {
            State { restarting: true, .. } => Believed::Restarting,
            State {
                running: true,
                paused: true,
                ..
            } => Believed::Paused,
            State { running: true, .. } => Believed::Running,
            _ => Believed::Exited,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DaemonJson {
    #[serde(rename = "data-root")]
    data_root: Option<PathBuf>,
    #[serde(rename = "exec-root")]
    exec_root: Option<PathBuf>,
}

fn daemon_json(host: &Host) -> Result<DaemonJson> {
    let Some(etc) = StateDir::open(&host.path("/etc/docker"))? else {
        return Ok(DaemonJson::default());
    };
    Ok(etc.config("daemon.json")?.unwrap_or_default())
}

/// Where dockerd keeps runc's records if `daemon.json` says it.
pub(super) fn configured_exec_root(host: &Host) -> Result<Option<PathBuf>> {
    Ok(daemon_json(host)?.exec_root.map(|path| host.inside(&path)))
}

/// The usual data root and the one that `daemon.json` names.
pub(super) fn configured_data_roots(host: &Host) -> Result<BTreeSet<PathBuf>> {
    let mut roots = BTreeSet::from([host.path("/var/lib/docker")]);
    roots.extend(daemon_json(host)?.data_root.map(|path| host.inside(&path)));
    Ok(roots)
}

/// Every data root that a container on this host shows: the configured ones, and for those of its containers that are
/// in none of them the one that their own files are mounted from.
pub(super) fn data_roots(host: &Host, census: &Census) -> Result<BTreeSet<PathBuf>> {
    let mut roots = configured_data_roots(host)?;
    let mut unknown: BTreeSet<&str> = BTreeSet::new();
    for (id, runtime) in census.ids() {
        if is_full_id(id.as_bytes()) && matches!(runtime, None | Some("docker")) {
            unknown.insert(id);
        }
    }
    while let Some(id) = unknown.pop_first() {
        if roots.iter().any(|root| root.join("containers").join(id).is_dir()) {
            continue;
        }
        if let Some(root) = data_root_of(host, census, id) {
            roots.insert(root);
        }
    }
    Ok(roots)
}

/// The data root that one container's files are mounted from.
fn data_root_of(host: &Host, census: &Census, id: &str) -> Option<PathBuf> {
    if let Some(record) = census.record(id) {
        return record
            .state
            .sources()
            .find_map(root_in)
            .map(|root| host.inside(&root));
    }
    let pid = census.a_process(host, id)?;
    shim::mount_sources(host, pid)
        .iter()
        .find_map(|source| root_in(source))
        .map(|root| host.inside(&root))
}

/// `<data-root>` of `<data-root>/containers/<id>/hostname`, or `hosts`, or `resolv.conf`.
pub(super) fn root_in(source: &Path) -> Option<PathBuf> {
    let name = source.file_name()?.as_bytes();
    if !matches!(name, b"hostname" | b"hosts" | b"resolv.conf") {
        return None;
    }
    let container = source.parent()?;
    let containers = container.parent()?;
    let fits = is_full_id(container.file_name()?.as_bytes())
        && containers.file_name() == Some(OsStr::new("containers"));
    fits.then(|| containers.parent().map(Path::to_owned)).flatten()
}

/// The record of one container in a data root; `None` where there is none.
///
/// # Errors
///
/// It can't be read or understood.
pub(super) fn config(data_root: &Path, id: &str) -> Result<Option<Config>> {
    let Some(containers) = StateDir::open(&data_root.join("containers"))? else {
        return Ok(None);
    };
    config_in(&containers, OsStr::new(id))
}

fn config_in(containers: &StateDir, id: &OsStr) -> Result<Option<Config>> {
    let Some(dir) = containers.below(id)? else {
        return Ok(None);
    };
    let config: Option<Config> = dir.json("config.v2.json")?;
    Ok(config.filter(|config| OsStr::new(&config.id) == id)) // dockerd itself refuses another ID there
}

/// The IDs of the containers called `name` in a data root, and how many records can't be read.
pub(super) fn ids_called(data_root: &Path, name: &str) -> Result<(Vec<String>, usize)> {
    let mut ids = Vec::new();
    let mut unreadable = 0;
    let Some(containers) = StateDir::open(&data_root.join("containers"))? else {
        return Ok((ids, 0));
    };
    for entry in containers.names()? {
        if !is_full_id(entry.as_bytes()) {
            continue;
        }
        match config_in(&containers, &entry) {
            Ok(Some(config)) if config.name() == name => ids.push(config.id),
            Ok(_) => {}
            Err(_) => unreadable += 1, // counted: a name that is not found is then not certain
        }
    }
    Ok((ids, unreadable))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";

    #[test]
    fn a_data_root_is_told_from_its_own_files_and_nothing_else() {
        let path = |text: &str| PathBuf::from(text.replace("ID", ID));
        for name in ["hostname", "hosts", "resolv.conf"] {
            assert_eq!(
                root_in(&path(&format!("/srv/d/containers/ID/{name}"))),
                Some(PathBuf::from("/srv/d"))
            );
        }
        for other in [
            "/srv/d/containers/ID/secrets",
            "/srv/d/volumes/ID/hosts",
            "/containers/x/hosts",
            "/etc/hosts",
            "hosts",
        ] {
            assert_eq!(root_in(&path(other)), None, "{other}");
        }
    }

    #[test]
    fn names_beliefs_and_labels_are_read() {
        let text = |state: &str| {
            format!(
                r#"{{"ID":"{ID}","Name":"/web","LogPath":"","State":{state},"Config":{{"Image":"bb:1","Labels":{{"a":"b"}}}}}}"#
            )
        };
        for (state, believed) in [
            (r#"{"Running":true,"Paused":true}"#, Believed::Paused),
            (r#"{"Running":true,"Paused":false}"#, Believed::Running),
            (r#"{"Running":true,"Restarting":true}"#, Believed::Restarting),
            (r#"{"Running":false}"#, Believed::Exited),
        ] {
            let config: Config = serde_json::from_str(&text(state)).unwrap();
            assert_eq!((config.name(), config.believed()), ("web", believed));
            assert_eq!(
                (
                    config.image().as_deref(),
                    config.labels()["a"].as_str(),
                    config.log()
                ),
                (Some("bb:1"), "b", None)
            );
        }
    }

    #[test]
    fn a_name_is_found_among_torn_records() {
        let root = tempfile::tempdir().unwrap();
        let put = |id: &str, text: &str| {
            let dir = root.path().join("containers").join(id);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("config.v2.json"), text).unwrap();
        };
        put(ID, &format!(r#"{{"ID":"{ID}","Name":"/web"}}"#));
        put(&ID.replace("8d", "9d"), r#"{"ID":"9d"#);
        put(
            &ID.replace("8d", "7d"),
            &format!(r#"{{"ID":"{ID}","Name":"/web"}}"#),
        ); // another's ID
        assert_eq!(ids_called(root.path(), "web").unwrap(), (vec![ID.to_owned()], 1));
        assert_eq!(ids_called(root.path(), "/web").unwrap(), (Vec::new(), 1));
        assert_eq!(
            ids_called(&root.path().join("absent"), "web").unwrap(),
            (Vec::new(), 0)
        );
    }

    proptest! {
        #[test]
        fn no_record_panics(cut in 0_usize..120, junk in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = format!(r#"{{"ID":"{ID}","Name":"/web","State":{{"Running":true}}}}"#).into_bytes();
            let at = cut.min(bytes.len());
            bytes.splice(at.., junk);
            if let Ok(config) = serde_json::from_slice::<Config>(&bytes) {
                let _ = (config.name(), config.believed()); // only that they return
            }
        }
    }
}
