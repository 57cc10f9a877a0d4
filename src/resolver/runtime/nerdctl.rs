//! nerdctl's names, `<data-root>/<address>/names/<namespace>/<name>`: a file per name with the ID in it. The address
//! is a hash of the path of containerd's socket.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Result;
use crate::host::Host;
use crate::resolver::state::{self, StateDir};
use crate::resolver::target::is_full_id;

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
pub(crate) fn namespaces(host: &Host) -> Result<Vec<StateDir>> {
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
pub(crate) fn id(namespace: &StateDir, name: &str) -> Result<Option<String>> {
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
pub(crate) fn name_of(host: &Host, wanted: &str) -> Result<Option<String>> {
    for namespace in namespaces(host)? {
        for name in namespace.names()? {
            let name = name.to_string_lossy();
            // One that can't be read is not its.
            if matches!(id(&namespace, &name), Ok(Some(id)) if id == wanted) {
                return Ok(Some(name.into_owned()));
            }
        }
    }
    Ok(None)
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
