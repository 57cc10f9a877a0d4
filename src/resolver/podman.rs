//! podman's and CRI-O's store, `<graphroot>/overlay-containers/containers.json`: one file with the name and the image
//! of every container. Root's is in one place; each user has one at home.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::state::StateDir;
use crate::error::Result;
use crate::host::Host;

/// The administrator's settings of the store, the first one that is there.
const SETTINGS: [&str; 2] = ["/etc/containers", "/usr/share/containers"];

/// One container in a store.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Stored {
    pub(super) id: String,
    #[serde(default)]
    pub(super) names: Option<Vec<String>>,
    #[serde(default)]
    metadata: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    #[serde(rename = "image-name", default)]
    image: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    storage: Storage,
}

#[derive(Debug, Default, Deserialize)]
struct Storage {
    graphroot: Option<PathBuf>,
    runroot: Option<PathBuf>,
}

impl Stored {
    /// The image that it was made of.
    pub(super) fn image(&self) -> Option<String> {
        self.metadata().image.filter(|image| !image.is_empty())
    }

    fn metadata(&self) -> Metadata {
        let text = self.metadata.as_deref().unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default() // other programs keep other texts there
    }
}

/// Where root's stores are: for what lasts, and for what goes with the machine.
pub(super) fn stores(host: &Host) -> Result<BTreeSet<PathBuf>> {
    let mut stores = BTreeSet::from([
        host.path("/var/lib/containers/storage"),
        host.path("/run/containers/storage"),
    ]);
    for dir in SETTINGS {
        let Some(dir) = StateDir::open(&host.path(dir))? else {
            continue;
        };
        let Some(file) = dir.read_config("storage.conf")? else {
            continue;
        };
        let settings: Settings = super::state::toml(&dir, "storage.conf", &file.text)?;
        let Storage { graphroot, runroot } = settings.storage;
        stores.extend(
            graphroot
                .into_iter()
                .chain(runroot)
                .map(|path| host.inside(&path)),
        );
        break;
    }
    Ok(stores)
}

/// The homes of the users who are logged in or have an engine running.
pub(super) fn user_homes(host: &Host) -> Result<Vec<(u32, PathBuf)>> {
    let Some(users) = StateDir::open(&host.path("/run/user"))? else {
        return Ok(Vec::new());
    };
    let wanted: BTreeSet<u32> = users
        .names()?
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok()) // others are no user's
        .collect();
    let mut homes = homes(host)?;
    homes.retain(|(user, _)| *user != 0 && wanted.contains(user));
    for (_, home) in &mut homes {
        *home = host.inside(home);
    }
    Ok(homes)
}

/// The users' homes, as /etc/passwd has them.
fn homes(host: &Host) -> Result<Vec<(u32, PathBuf)>> {
    let Some(file) = StateDir::open(&host.path("/etc"))?
        .map(|etc| etc.read_config("passwd"))
        .transpose()?
        .flatten()
    else {
        return Ok(Vec::new());
    };
    let lines = file.text.split(|&byte| byte == b'\n');
    let homes = lines.filter_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b':').collect();
        let user = std::str::from_utf8(fields.get(2)?).ok()?.parse().ok()?; // no user's line
        let home = Path::new(std::ffi::OsStr::from_bytes(fields.get(5)?));
        home.is_absolute().then(|| (user, home.to_owned()))
    });
    Ok(homes.collect())
}

/// Every container in root's stores, and in the users'.
///
/// # Errors
///
/// As [`stored`].
pub(super) fn all_stored(host: &Host) -> Result<Vec<Stored>> {
    let mut all = Vec::new();
    for store in stores(host)? {
        all.extend(stored(&store)?);
    }
    for (_, home) in user_homes(host)? {
        all.extend(stored(&store_at(&home))?);
    }
    Ok(all)
}

/// The store of the user whose home this is.
pub(super) fn store_at(home: &Path) -> PathBuf {
    home.join(".local/share/containers/storage")
}

/// Every container in a store, in whichever driver's list.
///
/// # Errors
///
/// A list is there and can't be read or understood.
pub(super) fn stored(store: &Path) -> Result<Vec<Stored>> {
    let Some(dir) = StateDir::open(store)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for driver in dir.names()? {
        if !driver.as_bytes().ends_with(b"-containers") {
            continue;
        }
        for file in ["containers.json", "volatile-containers.json"] {
            let list: Option<Vec<Stored>> = dir.json(Path::new(&driver).join(file))?;
            all.extend(list.into_iter().flatten());
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_names_and_images() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("overlay-containers");
        std::fs::create_dir(&list).unwrap();
        std::fs::write(
            list.join("containers.json"),
            r#"[{"id":"ID1","names":["web"],"image":"x","layer":"y","metadata":"{\"image-name\":\"localhost/bb:1\",\"name\":\"web\"}"},
            {"id":"ID2","names":["k8s_POD_web-0_prod_x_0"],"metadata":"{\"pod-name\":\"k8s_web-0_prod_x_0\"}"},{"id":"ID3"}]"#,
        )
        .unwrap();
        let stored = stored(dir.path()).unwrap();
        assert_eq!(stored[0].names.as_deref(), Some(&["web".to_owned()][..]));
        assert_eq!(stored[0].image().as_deref(), Some("localhost/bb:1"));
        assert_eq!(
            (stored.len(), stored[1].image(), stored[2].image()),
            (3, None, None)
        );
        std::fs::write(list.join("containers.json"), "[{").unwrap();
        assert!(
            super::stored(dir.path())
                .unwrap_err()
                .to_string()
                .contains("containers.json")
        );
    }

    #[test]
    fn homes_are_read_of_passwd() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n\nbad:x:y:z\nrel:x:7:7::home:/bin/sh\n",
        )
        .unwrap();
        let host = Host::made_up(dir.path()).unwrap();
        assert_eq!(
            homes(&host).unwrap(),
            [(0, PathBuf::from("/root")), (1000, PathBuf::from("/home/ann"))]
        );
    }
}
