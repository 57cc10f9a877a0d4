//! podman's and CRI-O's store, `<graphroot>/overlay-containers/containers.json`: one file with the name and the image
//! of every container. Root's is in one place; each user has one at home. What else podman 4 knows is in the database
//! beside it, `<graphroot>/libpod/bolt_state.db`; podman 5 has another one, which is not read.

mod bolt;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::details::Details;
use super::kind::Runtime;
use super::names::{NameHolder, Names};
use super::pattern::{Home, IdKind, pattern};
use super::record::About;
use super::record::Believed;
use super::row::{NameSource, RuntimeRow};
use crate::error::Result;
use crate::host::Host;
use crate::resolver::passwd;
use crate::resolver::state::{Budget, StateDir};
use crate::resolver::trust::Trust;
use crate::resolver::trust::caller;
use bolt::Database;

/// The row of podman.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[
        pattern("libpod-", IdKind::Full, ".scope", Home::Slices).with_level("container"),
        pattern("libpod-payload-", IdKind::Full, "", Home::Service),
        pattern("libpod-", IdKind::Full, "", Home::Podman),
    ],
    parents: &["libpod_parent"],
    usual: &[
        ("/machine.slice/libpod-", ".scope"),
        ("/libpod_parent/libpod-", ""),
    ],
    names: Some(NameSource {
        called: "podman's store",
        read: names,
    }),
    ..RuntimeRow::of(Runtime::Podman)
};

/// Where podman 4 keeps its records in a store.
const DATABASE: &str = "libpod/bolt_state.db";

/// The administrator's settings of the store, the first one that is there.
const SETTINGS: [&str; 2] = ["/etc/containers", "/usr/share/containers"];

/// One container in a store.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stored {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) names: Option<Vec<String>>,
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
    pub(crate) fn image(&self) -> Option<String> {
        self.metadata().image.filter(|image| !image.is_empty())
    }

    fn metadata(&self) -> Metadata {
        let text = self.metadata.as_deref().unwrap_or_default();
        serde_json::from_str(text).unwrap_or_default() // other programs keep other texts there
    }
}

/// The part of a container's record that podman alone has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DatabaseRecord {
    pub(crate) labels: BTreeMap<String, String>,
    /// The name of the pod that it is in.
    pub(crate) pod: Option<String>,
    /// The image that it was made of.
    pub(crate) image: Option<String>,
    /// The container's state as of podman's last command.
    pub(crate) believed: Option<Believed>,
}

/// The fields that are read of a container's configuration, which holds all that it was made with.
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    /// The ID of its pod.
    #[serde(default)]
    pod: Option<String>,
    #[serde(rename = "rootfsImageName", default)]
    image: Option<String>,
}

#[derive(Debug, Deserialize)]
struct State {
    state: i64,
}

#[derive(Debug, Deserialize)]
struct PodConfig {
    name: String,
}

impl DatabaseRecord {
    /// About how many bytes it takes to keep it.
    pub(crate) fn size(&self) -> u64 {
        let labels = self.labels.iter().map(|(key, value)| key.len() + value.len());
        let rest = [&self.pod, &self.image].into_iter().flatten().map(String::len);
        labels.chain(rest).sum::<usize>() as u64
    }
}

impl State {
    /// podman's numbers are 1 configured, 2 created, 3 running, 4 stopped, 5 paused, 6 exited, 7 removing, 8 stopping;
    /// 0 is unknown to itself. What is being stopped runs.
    fn believed(&self) -> Option<Believed> {
        match self.state {
            3 | 8 => Some(Believed::Running),
            5 => Some(Believed::Paused),
            1 | 2 | 4 | 6 | 7 => Some(Believed::Exited),
            _ => None,
        }
    }
}

/// Reads a container's record in podman's database; `None` where it has none.
///
/// # Errors
///
/// The database can't be read or understood.
fn recorded(database: &Database, id: &str) -> Result<Option<DatabaseRecord>> {
    database.view(|view| {
        let Some(config) = view.get(&["ctr", id, "config"])? else {
            return Ok(None);
        };
        let config: Config = understood(database, &config)?;
        let state = view.get(&["ctr", id, "state"])?;
        let state: Option<State> = state.map(|text| understood(database, &text)).transpose()?;
        let pod = match config.pod.filter(|pod| !pod.is_empty()) {
            Some(pod) => view.get(&["pod", &pod, "config"])?,
            None => None,
        };
        let pod: Option<PodConfig> = pod.map(|text| understood(database, &text)).transpose()?;
        Ok(Some(DatabaseRecord {
            labels: config.labels.unwrap_or_default(),
            pod: pod.map(|pod| pod.name),
            image: config.image.filter(|image| !image.is_empty()),
            believed: state.and_then(|state| state.believed()),
        }))
    })
}

fn understood<T: serde::de::DeserializeOwned>(database: &Database, text: &[u8]) -> Result<T> {
    serde_json::from_slice(text).map_err(|error| database.odd(error.to_string()))
}

/// The stores of root, or of one user, and which container is in which.
#[derive(Debug)]
pub(crate) struct Stores {
    stores: Vec<PodmanStore>,
    /// By the ID, with the store's index.
    held: HashMap<String, (usize, Stored)>,
    /// The stores that could not be read, and why.
    pub(crate) unread: Vec<String>,
}

#[derive(Debug)]
struct PodmanStore {
    path: PathBuf,
    /// Where its user's runtimes keep their records; `None` for root's.
    records: Option<PathBuf>,
    database: OnceCell<(Option<Database>, Option<String>)>,
}

impl Stores {
    /// Reads the lists of the stores that have what `trust` is the trust in: root's (and the caller's own), or one user's,
    /// as far as `budget` goes.
    pub(crate) fn read(host: &Host, trust: Trust, budget: &Budget) -> Self {
        let mut all = Self {
            stores: Vec::new(),
            held: HashMap::new(),
            unread: Vec::new(),
        };
        if trust.is_full() {
            match stores(host) {
                Ok(paths) => paths.into_iter().for_each(|path| all.add(path, None, None)),
                Err(error) => all.unread.push(error.to_string()),
            }
        }
        let caller = caller();
        if let Some(user) = trust
            .user()
            .or(Some(caller).filter(|&caller| caller != 0 && trust.is_full()))
        {
            match passwd::home(host, user) {
                Ok(Some(home)) => {
                    let records = host.path(&format!("/run/user/{user}"));
                    all.add(store_at(&home), Some(records), Some(budget));
                }
                Ok(None) => {}
                Err(error) => all.unread.push(error.to_string()),
            }
        }
        all
    }

    /// Adds a store; who is in an earlier one is not in it.
    fn add(&mut self, path: PathBuf, records: Option<PathBuf>, budget: Option<&Budget>) {
        match stored(&path, budget) {
            Ok(list) => {
                for one in list {
                    self.held
                        .entry(one.id.clone())
                        .or_insert((self.stores.len(), one));
                }
            }
            Err(error) => self.unread.push(error.to_string()),
        }
        self.stores.push(PodmanStore {
            path,
            records,
            database: OnceCell::new(),
        });
    }

    /// A container, whose runtime's record is at `record`. What a user's store has of one of others is not believed.
    pub(crate) fn get(&self, id: &str, record: Option<&Path>) -> Option<&Stored> {
        self.holding(id, record).map(|(_, stored)| stored)
    }

    fn holding(&self, id: &str, record: Option<&Path>) -> Option<(&PodmanStore, &Stored)> {
        let (index, stored) = self.held.get(id)?;
        let store = self.stores.get(*index)?;
        let may_say = match (&store.records, record) {
            (Some(theirs), Some(record)) => record.starts_with(theirs),
            (Some(_), None) => false, // whose it is nobody says
            (None, _) => true,
        };
        may_say.then_some((store, stored))
    }

    /// Reads a container's record in the database of its store. Root's stores are two, one of which goes with
    /// the machine; they have one database.
    ///
    /// # Errors
    ///
    /// The database can't be read or understood, as text.
    pub(crate) fn recorded(
        &self,
        id: &str,
        record: Option<&Path>,
    ) -> std::result::Result<Option<DatabaseRecord>, String> {
        let Some((holder, _)) = self.holding(id, record) else {
            return Ok(None);
        };
        for store in self.stores.iter().filter(|store| store.records == holder.records) {
            let (database, unread) = store.database.get_or_init(|| match store.open() {
                Ok(database) => (database, None),
                Err(error) => (None, Some(error.to_string())),
            });
            if let Some(unread) = unread {
                return Err(unread.clone());
            }
            let Some(database) = database else { continue };
            if let Some(found) = recorded(database, id).map_err(|error| error.to_string())? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl PodmanStore {
    fn open(&self) -> Result<Option<Database>> {
        match StateDir::open(&self.path)? {
            Some(dir) => Database::open(&dir, DATABASE),
            None => Ok(None),
        }
    }
}

/// The paths of root's stores: one for what lasts, and one for what a reboot takes away.
pub(crate) fn stores(host: &Host) -> Result<BTreeSet<PathBuf>> {
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
        let settings: Settings = crate::resolver::state::toml(&dir, "storage.conf", &file.text)?;
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

/// The store of the user whose home this is.
pub(crate) fn store_at(home: &Path) -> PathBuf {
    home.join(".local/share/containers/storage")
}

/// Every container in a store, in whichever driver's list, as far as `budget` goes: a user's store has one.
///
/// # Errors
///
/// A list is there and can't be read or understood; the budget is used up.
pub(crate) fn stored(store: &Path, budget: Option<&Budget>) -> Result<Vec<Stored>> {
    let Some(dir) = StateDir::open(store)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for driver in dir.names_within(budget)? {
        if !driver.as_bytes().ends_with(b"-containers") {
            continue;
        }
        for file in ["containers.json", "volatile-containers.json"] {
            let list: Option<Vec<Stored>> = dir.json_within(Path::new(&driver).join(file), budget)?;
            all.extend(list.into_iter().flatten());
        }
    }
    Ok(all)
}

fn names(host: &Host, wanted: &BTreeSet<String>) -> Names {
    let mut names = Names::default();
    for store in names.noted(stores(host)) {
        let stored = stored(&store, None);
        names_in(stored, wanted, &mut names);
    }
    names
}

/// Adds the containers of a store that have one of the wanted names.
pub(crate) fn names_in(stored: Result<Vec<Stored>>, wanted: &BTreeSet<String>, names: &mut Names) {
    for container in names.noted(stored) {
        for name in container
            .names
            .iter()
            .flatten()
            .filter(|name| wanted.contains(*name))
        {
            let holder = NameHolder::Id {
                id: container.id.clone(),
                runtime: Runtime::Podman,
                pid: None,
            };
            names.hold(name, holder);
        }
    }
}

/// Adds what podman's list has of a container.
pub(crate) fn add_stored(details: &mut Details, stored: Option<Stored>) {
    if let Some(container) = stored {
        details.image = details.image.take().or_else(|| container.image());
        let name = container.names.iter().flatten().next().cloned();
        details.name = details.name.take().or(name);
    }
}

/// Adds what podman has of a container: in its list, and in its database, which alone has the labels, podman's own pods and
/// what podman believes.
pub(crate) fn add_to(
    details: &mut Details,
    stored: Option<Stored>,
    recorded: Option<DatabaseRecord>,
    about: &About,
) {
    add_stored(details, stored);
    details.labels = None;
    if let Some(recorded) = recorded {
        details.labels = Some(recorded.labels);
        details.pod = details.pod.take().or(recorded.pod);
        details.image = details.image.take().or(recorded.image);
        details.believed = recorded.believed;
    }
    details.log = about.bundle.as_ref().map(|bundle| bundle.join("ctr.log"));
}

#[cfg(test)]
mod tests {
    use super::bolt::made::{Entry, PAGE, branch, file, leaf};
    use super::*;
    use crate::resolver::Identity;

    const WEB: &str = "8d9621220cb4d6f5d5706cf3bd23e19c4612719c2b2ca9c2beb608738789e11a";
    const DB: &str = "2fe818c966e839ca6e65b68dc365e6cd60a765fed4512be9bc12368602040a72";
    const POD: &str = "3d6f1c2e966e839ca6e65b68dc365e6cd60a765fed4512be9bc12368602040a7";

    /// podman's database with two containers, the second one in a pod and with so long a configuration that its page
    /// goes on for another.
    fn database(state: &str) -> Vec<u8> {
        let spec = "s".repeat(PAGE);
        let config = format!(
            r#"{{"spec":{{"hostname":"{spec}"}},"id":"{DB}","name":"db","pod":"{POD}","labels":{{"auto_resume":"true"}},
            "rootfsImageName":"docker.io/library/redis:7"}}"#
        );
        let bare = format!(r#"{{"id":"{WEB}","name":"web","rootfs":"/r"}}"#);
        let pod = format!(r#"{{"id":"{POD}","name":"prod-web","labels":{{}}}}"#);
        file(&[
            (2, leaf(&[("ctr", Entry::Bucket(3)), ("pod", Entry::Bucket(8))])),
            (3, branch(&[(DB, 4), (WEB, 5)])),
            (4, leaf(&[(DB, Entry::Bucket(6))])),
            (
                5,
                leaf(&[(
                    WEB,
                    Entry::Inline(leaf(&[
                        ("config", Entry::Value(&bare)),
                        ("state", Entry::Value("{\"state\":0}")),
                    ])),
                )]),
            ),
            (
                6,
                leaf(&[("config", Entry::Value(&config)), ("state", Entry::Value(state))]),
            ),
            (8, leaf(&[(POD, Entry::Bucket(9))])),
            (9, leaf(&[("config", Entry::Value(&pod))])),
        ])
    }

    /// A host with root's store and ann's, each with a list and a database if it is given one.
    fn host(roots: (&str, Option<&[u8]>), anns: (&str, Option<&[u8]>)) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::create_dir_all(dir.path().join("run/user/1000")).unwrap();
        put("etc/passwd", b"ann:x:1000:1000::/home/ann:/bin/sh\n");
        for (store, (list, database)) in [
            ("var/lib/containers/storage", roots),
            ("home/ann/.local/share/containers/storage", anns),
        ] {
            put(
                &format!("{store}/overlay-containers/containers.json"),
                list.as_bytes(),
            );
            if let Some(bytes) = database {
                put(&format!("{store}/{DATABASE}"), bytes);
            }
        }
        let host = Host::made_up(dir.path()).unwrap();
        (dir, host)
    }

    fn list(ids: &[&str]) -> String {
        let all: Vec<_> = ids
            .iter()
            .map(|id| serde_json::json!({"id": id, "names": ["web"]}))
            .collect();
        serde_json::Value::from(all).to_string()
    }

    #[test]
    fn the_database_has_labels_pod_image_and_belief() {
        let believed = |state: &str| {
            let (_dir, host) = host((&list(&[WEB, DB]), Some(&database(state))), ("[]", None));
            let stores = Stores::read(&host, Trust::Full, &Budget::default());
            let bare = stores.recorded(WEB, None).unwrap().unwrap();
            assert_eq!(bare, DatabaseRecord::default());
            stores.recorded(DB, None).unwrap().unwrap()
        };
        let found = believed(r#"{"state":5,"pid":4711}"#);
        assert_eq!(
            found.labels,
            BTreeMap::from([("auto_resume".to_owned(), "true".to_owned())])
        );
        assert_eq!(found.pod.as_deref(), Some("prod-web"));
        assert_eq!(found.image.as_deref(), Some("docker.io/library/redis:7"));
        assert_eq!(found.believed, Some(Believed::Paused));
        for (state, expected) in [
            (0, None),
            (1, Some(Believed::Exited)),
            (2, Some(Believed::Exited)),
            (3, Some(Believed::Running)),
            (4, Some(Believed::Exited)),
            (6, Some(Believed::Exited)),
            (7, Some(Believed::Exited)),
            (8, Some(Believed::Running)),
            (9, None),
            (-1, None),
        ] {
            let found = believed(&format!(r#"{{"state":{state}}}"#));
            assert_eq!(found.believed, expected, "{state}");
        }
    }

    #[test]
    fn details_have_what_the_database_has() {
        let details = |databases: Option<&[u8]>| {
            let (_dir, host) = host((&list(&[DB]), databases), ("[]", None));
            let identity = Identity {
                id: Some(DB.to_owned()),
                runtime: Some(Runtime::Podman),
                trust: Trust::Full,
                ..Identity::default()
            };
            Details::of(&host, identity, std::time::Duration::from_secs(60)).unwrap()
        };
        let found = details(Some(&database(r#"{"state":5}"#)));
        assert_eq!(found.name.as_deref(), Some("web"));
        assert_eq!(found.pod.as_deref(), Some("prod-web"));
        assert_eq!(found.labels.unwrap()["auto_resume"], "true");
        assert_eq!(found.image.as_deref(), Some("docker.io/library/redis:7"));
        assert_eq!(found.believed, Some(Believed::Paused));
        assert!(found.unreadable.is_empty(), "{:?}", found.unreadable);
        let without = details(None);
        assert_eq!(
            (without.labels, without.pod, without.believed),
            (None, None, None)
        );
        let torn = details(Some(b"torn"));
        assert_eq!((torn.name.as_deref(), torn.believed), (Some("web"), None));
        assert!(
            torn.unreadable[0].contains("bolt_state.db"),
            "{:?}",
            torn.unreadable
        );
    }

    #[test]
    fn a_container_is_looked_up_where_its_owner_keeps_it() {
        let theirs = database(r#"{"state":5}"#);
        let roots = database(r#"{"state":3}"#);
        let (dir, host) = host((&list(&[DB]), Some(&roots)), (&list(&[DB, WEB]), Some(&theirs)));
        let record = |at: &str| Some(dir.path().join(at));
        let of = |trust, id: &str, at: Option<PathBuf>| {
            Stores::read(&host, trust, &Budget::default())
                .recorded(id, at.as_deref())
                .unwrap()
        };
        // A user's list may name root's containers, and changes nothing by it.
        let found = of(Trust::Full, DB, record("run/runc/x")).unwrap();
        assert_eq!(found.believed, Some(Believed::Running));
        assert!(of(Trust::User(1000), WEB, record("run/user/1000/crun/x")).is_some());
        assert!(of(Trust::Full, WEB, record("run/crun/x")).is_none());
        assert!(of(Trust::User(1000), WEB, record("run/user/1001/crun/x")).is_none());
        assert!(of(Trust::User(1001), WEB, record("run/user/1001/crun/x")).is_none());
        assert!(of(Trust::Full, POD, None).is_none());
    }

    #[test]
    fn without_its_database_nothing_is_told_and_a_torn_one_is_named() {
        let (_dir, without) = host((&list(&[WEB]), None), ("[]", None));
        let stores = Stores::read(&without, Trust::Full, &Budget::default());
        assert_eq!(stores.recorded(WEB, None), Ok(None));
        assert!(stores.get(WEB, None).is_some());
        for torn in [&b"SQLite format 3"[..], &database(r#"{"state":"#)] {
            let (_dir, host) = host((&list(&[DB]), Some(torn)), ("[", None));
            let stores = Stores::read(&host, Trust::Full, &Budget::default());
            let error = stores.recorded(DB, None).unwrap_err();
            assert!(error.contains("storage/libpod/bolt_state.db"), "{error}");
            assert!(stores.get(DB, None).is_some());
            let users = Stores::read(&host, Trust::User(1000), &Budget::default());
            assert!(users.unread[0].contains("/home/ann/"), "{:?}", users.unread);
        }
        let (dir, odd) = host((&list(&[DB]), None), ("[]", None));
        std::fs::create_dir_all(dir.path().join("var/lib/containers/storage").join(DATABASE)).unwrap();
        let stores = Stores::read(&odd, Trust::Full, &Budget::default());
        for _ in 0..2 {
            let error = stores.recorded(DB, None).unwrap_err();
            assert!(error.contains("no regular file"), "{error}");
        }
    }

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
        let stored = stored(dir.path(), None).unwrap();
        assert_eq!(stored[0].names.as_deref(), Some(&["web".to_owned()][..]));
        assert_eq!(stored[0].image().as_deref(), Some("localhost/bb:1"));
        assert_eq!(
            (stored.len(), stored[1].image(), stored[2].image()),
            (3, None, None)
        );
        std::fs::write(list.join("containers.json"), "[{").unwrap();
        assert!(
            super::stored(dir.path(), None)
                .unwrap_err()
                .to_string()
                .contains("containers.json")
        );
    }
}
