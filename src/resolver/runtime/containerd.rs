//! containerd, and nerdctl's names, `<data-root>/<address>/names/<namespace>/<name>`: a file per name with the ID in it.
//! The address is a hash of the path of containerd's socket.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::details::{Details, noted};
use super::kind::Runtime;
use super::kube;
use super::names::{NameHolder, Names};
use super::pattern::{BareParent, Home, IdKind, pattern};
use super::record::{Root, namespaces as namespaces_of_records};
use super::row::{DetailsQuery, NameSource, RuntimeRow};
use crate::error::Result;
use crate::host::Host;
use crate::resolver::state::{self, StateDir};
use crate::resolver::target::is_full_id;
use crate::resolver::trust::Trust;

/// The row of containerd.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[
        pattern("cri-containerd-", IdKind::Full, ".scope", Home::Slices),
        pattern("nerdctl-", IdKind::Full, ".scope", Home::Slices),
    ],
    bare_below: &[
        BareParent {
            name: "default",
            tells: true,
            is_home: true,
        },
        BareParent {
            name: "k8s.io",
            tells: true,
            is_home: true,
        },
        // docker's own namespace of it.
        BareParent {
            name: "moby",
            tells: false,
            is_home: true,
        },
    ],
    usual: &[
        ("/default/", ""),
        ("/k8s.io/", ""),
        ("/moby/", ""),
        ("/system.slice/nerdctl-", ".scope"),
        ("/system.slice/cri-containerd-", ".scope"),
    ],
    system_roots: Some(roots),
    names: Some(NameSource {
        called: "nerdctl's names",
        read: names,
    }),
    details: Some(add_to),
    ..RuntimeRow::of(Runtime::Containerd)
};

#[derive(Debug, Default, Deserialize)]
struct Settings {
    data_root: Option<PathBuf>,
}

/// Where root's nerdctl keeps its data.
fn data_roots(host: &Host) -> Result<Vec<PathBuf>> {
    let mut roots = vec![host.path("/var/lib/nerdctl")];
    if let Some(etc) = StateDir::open(&host.path("/etc/nerdctl"))?
        && let Some(file) = etc.read_config("nerdctl.toml")?
    {
        let settings: Settings = state::toml(&etc, "nerdctl.toml", &file.text)?;
        roots.extend(settings.data_root.map(|root| host.inside(&root)));
    }
    Ok(roots)
}

/// The directories with a file per name, one for each address and namespace.
fn namespaces(host: &Host) -> Result<Vec<StateDir>> {
    let mut all = Vec::new();
    for root in data_roots(host)? {
        let Some(root) = StateDir::open(&root)? else {
            continue;
        };
        for address in root.names()? {
            let Some(names) = root.below(Path::new(&address).join("names"))? else {
                continue;
            };
            for namespace in names.names()? {
                all.extend(names.below(&namespace)?);
            }
        }
    }
    Ok(all)
}

/// The ID of the container with a name in one of these directories.
///
/// # Errors
///
/// The file can't be read, or what is in it is no ID.
fn id(namespace: &StateDir, name: &str) -> Result<Option<String>> {
    let Some(file) = namespace.read(OsStr::new(name))? else {
        return Ok(None);
    };
    let id = file.text.trim_ascii();
    match std::str::from_utf8(id) {
        Ok(text) if is_full_id(id) => Ok(Some(text.to_owned())),
        _ => Err(namespace.odd("understand", name.as_ref(), "it holds no container ID")),
    }
}

/// The name of the container with an ID: nerdctl keeps it under the name.
///
/// # Errors
///
/// The names can't be listed.
fn name_of(host: &Host, wanted: &str) -> Result<Option<String>> {
    for namespace in namespaces(host)? {
        for name in namespace.names()? {
            let name = name.to_string_lossy();
            // A name whose file can't be read is not the container's.
            if matches!(id(&namespace, &name), Ok(Some(id)) if id == wanted) {
                return Ok(Some(name.into_owned()));
            }
        }
    }
    Ok(None)
}

/// Looks for names among nerdctl's.
fn names(host: &Host, wanted: &BTreeSet<String>) -> Names {
    let mut names = Names::default();
    for namespace in names.noted(namespaces(host)) {
        for name in wanted {
            if let Some(id) = names.noted(id(&namespace, name)) {
                let holder = NameHolder::Id {
                    id,
                    runtime: Runtime::Containerd,
                    pid: None,
                };
                names.hold(name, holder);
            }
        }
    }
    names
}

/// The engine whose containers are in a namespace of containerd.
fn runtime_of(namespace: &str) -> Runtime {
    match namespace {
        "moby" | "plugins.moby" => Runtime::Docker,
        _ => Runtime::Containerd,
    }
}

/// The directories of records of root's containerd, one for each namespace.
fn roots(state: &Path, trust: Trust, incomplete: &mut Vec<String>) -> Vec<Root> {
    namespaces_of_records(&state.join("containerd/runc"), runtime_of, trust, incomplete)
}

/// Adds what containerd's clients have of a container. It keeps a log where whoever made the container asked for one.
fn add_to(known: &DetailsQuery<'_>, details: &mut Details) {
    if !is_full_id(known.id.as_bytes()) {
        return;
    }
    if let Some(pod) = known.pod {
        details.log = kube::log(known.host, pod, known.id);
        return;
    }
    let label = |key: &str| known.about.annotations.get(key).cloned();
    details.name = label("nerdctl/name").or_else(|| noted(details, name_of(known.host, known.id)));
    details.log = label("nerdctl/log-uri").and_then(|uri| uri.strip_prefix("file://").map(PathBuf::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_to_an_id() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        let names = dir.path().join("var/lib/nerdctl/1935db59/names/default");
        std::fs::create_dir_all(&names).unwrap();
        let full = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";
        std::fs::write(names.join("web"), full).unwrap();
        std::fs::write(names.join("torn"), "8d96").unwrap();
        let host = Host::made_up(dir.path()).unwrap();
        let [namespace] = &namespaces(&host).unwrap()[..] else {
            panic!("one namespace");
        };
        assert_eq!(id(namespace, "web").unwrap().as_deref(), Some(full));
        assert_eq!(id(namespace, "db").unwrap(), None);
        assert!(
            id(namespace, "torn")
                .unwrap_err()
                .to_string()
                .contains("no container ID")
        );
    }
}
