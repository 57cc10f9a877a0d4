//! docker's records, `<data-root>/containers/<id>/config.v2.json`: names, images, labels, and what dockerd believes.
//! The records may lie on a disk that hangs: none is read on the way to a container that was named by its ID.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread;

use memchr::memmem;
use serde::Deserialize;

use super::details::Details;
use super::kind::Runtime;
use super::kube;
use super::names::{NameHolder, Names};
use super::pattern::{BareParent, Home, IdKind, pattern};
use super::record::{Believed, Root, namespaces};
use super::row::RuntimeRow;
use crate::error::Result;
use crate::host::{Host, MountLine, mount_lines};
use crate::resolver::state::{Budget, StateDir};
use crate::resolver::target::{SHORT_ID, is_full_id, is_hex};
use crate::resolver::trust::Trust;

/// The row of docker.
pub(super) static ROW: RuntimeRow = RuntimeRow {
    patterns: &[pattern("docker-", IdKind::Full, ".scope", Home::Slices)],
    bare_below: &[BareParent {
        name: "docker",
        tells: true,
        is_home: true,
    }],
    parents: &["docker"],
    usual: &[("/docker/", ""), ("/system.slice/docker-", ".scope")],
    system_roots: Some(roots),
    user_roots: Some(roots),
    ..RuntimeRow::of(Runtime::Docker)
};

/// The fields that are read of a `config.v2.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(rename = "ID")]
    pub(crate) id: String,
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
    pid: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inner {
    image: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

impl Config {
    /// The container's name, which docker keeps with a slash in front.
    fn name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    fn image(&self) -> Option<String> {
        self.config.image.clone()
    }

    fn labels(&self) -> BTreeMap<String, String> {
        self.config.labels.clone().unwrap_or_default()
    }

    fn log(&self) -> Option<PathBuf> {
        Some(self.log.clone()).filter(|log| !log.as_os_str().is_empty())
    }

    /// Adds what it says to what is known of its container.
    pub(crate) fn add_to(&self, details: &mut Details) {
        details.name = Some(self.name().to_owned()).filter(|name| !name.is_empty());
        details.pod = kube::of_docker_name(self.name()).map(|pod| pod.to_string());
        details.image = self.image();
        details.labels = Some(self.labels());
        details.believed = Some(self.believed());
        details.log = self.log();
    }

    /// The container's first process, as dockerd has written it down last; `None` where none runs.
    fn pid(&self) -> Option<i32> {
        Some(self.state.pid).filter(|&pid| pid > 0)
    }

    /// The state that dockerd has written down last.
    fn believed(&self) -> Believed {
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

/// The directory in which dockerd keeps runc's records, if `daemon.json` says it.
pub(crate) fn configured_exec_root(host: &Host) -> Result<Option<PathBuf>> {
    Ok(daemon_json(host)?.exec_root.map(|path| host.inside(&path)))
}

/// The usual data root and the one that `daemon.json` names.
///
/// # Errors
///
/// `daemon.json` can't be read or understood.
pub(crate) fn data_roots(host: &Host) -> Result<BTreeSet<PathBuf>> {
    let mut roots = BTreeSet::from([host.path("/var/lib/docker")]);
    roots.extend(daemon_json(host)?.data_root.map(|path| host.inside(&path)));
    Ok(roots)
}

/// The exec-roots at which a dockerd has mounted the network namespaces of its containers, `<exec-root>/netns/<12 digits>`.
/// Two mount tables are read: the caller's own, and that of the host's first process, in which nobody but root mounts
/// a namespace: a container's own table is the container's word. The mounts outlive dockerd and the shim.
pub(crate) fn mounted_exec_roots(host: &Host) -> BTreeSet<PathBuf> {
    let mut roots = BTreeSet::new();
    let own = host.read_proc("self/mountinfo").unwrap_or_default(); // it may not be read: nothing is told
    let hosts = host.proc().mountinfo(1);
    for (text, seen_from) in [(own, host.root()), (hosts, Path::new("/"))] {
        let namespaces = mount_lines(&text).filter(MountLine::is_namespace);
        let found = namespaces.filter_map(|line| root_of_namespace(&line.dir));
        let of_host = found.filter_map(|root| Some(Path::new("/").join(root.strip_prefix(seen_from).ok()?)));
        roots.extend(of_host.map(|root| host.inside(&root)));
    }
    roots
}

/// `<exec-root>` of `<exec-root>/netns/<12 digits>`.
fn root_of_namespace(dir: &Path) -> Option<PathBuf> {
    let netns = dir.parent()?;
    let name = dir.file_name()?.as_bytes();
    let fits = name.len() == SHORT_ID && is_hex(name) && netns.file_name() == Some(OsStr::new("netns"));
    fits.then(|| netns.parent().map(Path::to_owned)).flatten()
}

/// `<data-root>` of `<data-root>/containers/<id>/hostname`, or `hosts`, or `resolv.conf`.
pub(crate) fn root_in(source: &Path) -> Option<PathBuf> {
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

/// A data root, opened when it is needed.
#[derive(Debug)]
pub(crate) struct DataRoot {
    path: PathBuf,
    containers: OnceCell<Option<StateDir>>,
}

impl DataRoot {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            containers: OnceCell::new(),
        }
    }

    /// The record of one container, as far as `budget` goes where there is one; `None` where there is no record.
    ///
    /// # Errors
    ///
    /// The record can't be read or understood; the budget is used up.
    pub(crate) fn config(&self, id: &str, budget: Option<&Budget>) -> Result<Option<Config>> {
        if self.containers.get().is_none() {
            let _ = self.containers.set(containers_in(&self.path)?); // it was empty
        }
        let Some(Some(containers)) = self.containers.get() else {
            return Ok(None);
        };
        let config: Option<Config> = containers.json_within(record_of(OsStr::new(id)), budget)?;
        Ok(config.filter(|config| config.id == id)) // dockerd itself refuses another ID there
    }
}

fn containers_in(data_root: &Path) -> Result<Option<StateDir>> {
    StateDir::open(&data_root.join("containers"))
}

fn record_of(id: &OsStr) -> PathBuf {
    Path::new(id).join("config.v2.json")
}

/// A container that has a name.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) name: String,
    pub(crate) id: String,
    /// The first process, as dockerd has it on record.
    pub(crate) pid: Option<i32>,
}

/// The containers that are found in a data root.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The containers that have one of the wanted names.
    pub(crate) called: Vec<Called>,
    /// The IDs of all its containers.
    pub(crate) ids: HashSet<OsString>,
    /// How many records can't be read.
    pub(crate) unreadable: usize,
}

/// So many records are worth a thread: each takes some 10 µs (on Linux 6.18, out of the page cache).
const SHARE: usize = 1000;
/// More threads than that gain nothing.
const MOST_THREADS: usize = 4;

/// Looks through the records in a data root for containers with these names. A record that does not have one of them
/// is not parsed: ten thousand are read in the time that the disk takes for them. A user's data root has a budget.
///
/// # Errors
///
/// The data root can't be listed; the budget is used up by its list.
pub(crate) fn scan(data_root: &Path, names: &BTreeSet<String>, budget: Option<&Budget>) -> Result<Scan> {
    let mut scan = Scan::default();
    let Some(containers) = containers_in(data_root)? else {
        return Ok(scan);
    };
    let mut ids = containers.names_within(budget)?;
    ids.retain(|id| is_full_id(id.as_bytes()));
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get().min(MOST_THREADS));
    let share = ids.len().div_ceil(threads).max(SHARE);
    let mut called: Vec<Result<Called>> = Vec::new();
    thread::scope(|scope| {
        let look = |ids: &[OsString]| {
            ids.iter()
                .filter_map(|id| called_so(&containers, id, names, budget).transpose())
                .collect()
        };
        let mut shares = ids.chunks(share);
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares
            .map(|ids| (ids, thread::Builder::new().spawn_scoped(scope, move || look(ids))))
            .collect();
        called = look(own);
        for (ids, thread) in others {
            let theirs: Vec<_> = match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(theirs)) => theirs,
                _ => look(ids), // no thread was to be had
            };
            called.extend(theirs);
        }
    });
    for one in called {
        match one {
            Ok(one) => scan.called.push(one),
            Err(_) => scan.unreadable += 1, // counted: a name that is not found is then not certain
        }
    }
    scan.ids = ids.into_iter().collect();
    Ok(scan)
}

/// The name and the ID of a container that has one of these names.
fn called_so(
    containers: &StateDir,
    id: &OsStr,
    names: &BTreeSet<String>,
    budget: Option<&Budget>,
) -> Result<Option<Called>> {
    let name = record_of(id);
    let file = containers.read_within(&name, budget)?;
    let Some(file) = file.filter(|file| may_be_called(&file.text, names)) else {
        return Ok(None);
    };
    let config: Config = containers.understood(&name, &file.text)?;
    // dockerd itself refuses another's; what it was called before nobody knows.
    if OsStr::new(&config.id) != id {
        return Err(containers.odd("understand", &name, "it is the record of another container"));
    }
    let called = Called {
        name: config.name().to_owned(),
        pid: config.pid(),
        id: config.id,
    };
    Ok(names.contains(&called.name).then_some(called))
}

/// The containers whose names have `part` in them, each with its ID and its name. Records that can't be read have none.
///
/// # Errors
///
/// The data root can't be listed.
pub(crate) fn names_with(data_root: &Path, part: &str) -> Result<Vec<(String, String)>> {
    let Some(containers) = containers_in(data_root)? else {
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for id in containers
        .names()?
        .into_iter()
        .filter(|id| is_full_id(id.as_bytes()))
    {
        let name = record_of(&id);
        let Ok(Some(file)) = containers.read(&name) else {
            continue; // as the doc says
        };
        if memmem::find(&file.text, part.as_bytes()).is_some()
            && let Ok(config) = containers.understood::<Config>(&name, &file.text)
            && config.name().contains(part)
            && OsStr::new(&config.id) == id
        {
            all.push((config.id.clone(), config.name().to_owned()));
        }
    }
    Ok(all)
}

/// Whether a record has to be parsed to know what its container is called. dockerd writes `"Name":"/web"`, and in its
/// alphabet of names there is nothing to be escaped; what does not look so is parsed, and shows whether it is torn.
fn may_be_called(text: &[u8], names: &BTreeSet<String>) -> bool {
    const KEY: &[u8] = b"\"Name\":\"/";
    let whole = text.starts_with(b"{") && text.trim_ascii_end().ends_with(b"}");
    let mut named = false;
    for at in memmem::find_iter(text, KEY) {
        let rest = &text[at + KEY.len()..];
        let name = &rest[..memchr::memchr(b'"', rest).unwrap_or(rest.len())];
        named = true;
        if std::str::from_utf8(name).map_or(true, |name| name.contains('\\') || names.contains(name)) {
            return true;
        }
    }
    !whole || !named
}

/// Adds the containers in a data root that have one of the wanted names; the IDs of all that are there.
pub(crate) fn in_data_root(
    root: &Path,
    wanted: &BTreeSet<String>,
    budget: Option<&Budget>,
    names: &mut Names,
) -> HashSet<OsString> {
    let scan = names.noted(scan(root, wanted, budget));
    for Called { name, id, pid } in scan.called {
        let holder = NameHolder::Id {
            id,
            runtime: Runtime::Docker,
            pid,
        };
        names.hold(&name, holder);
    }
    if scan.unreadable > 0 {
        names.unread_records.push(format!(
            "{} records in {} can't be read",
            scan.unreadable,
            root.join("containers").display()
        ));
    }
    scan.ids
}

/// The directories of records of a docker whose exec-root is at the usual place below a directory for state.
fn roots(state: &Path, trust: Trust, incomplete: &mut Vec<String>) -> Vec<Root> {
    roots_of(&state.join("docker"), trust, incomplete)
}

/// The roots of a docker with this exec-root: one per configured runtime, with one namespace each.
pub(super) fn roots_of(exec_root: &Path, trust: Trust, incomplete: &mut Vec<String>) -> Vec<Root> {
    let names = StateDir::open(exec_root).and_then(|dir| dir.map_or(Ok(Vec::new()), |dir| dir.names()));
    match names {
        Ok(names) => names
            .iter()
            .filter(|name| name.as_bytes().starts_with(b"runtime-"))
            .flat_map(|name| namespaces(&exec_root.join(name), |_| Runtime::Docker, trust, incomplete))
            .collect(),
        Err(error) => {
            incomplete.push(error.to_string());
            Vec::new()
        }
    }
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
        let names = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
        let scanned = scan(root.path(), &names(&["web", "db"]), None).unwrap();
        let called: Vec<_> = scanned
            .called
            .iter()
            .map(|one| (one.name.as_str(), one.id.as_str()))
            .collect();
        assert_eq!(called, [("web", ID)]);
        assert_eq!((scanned.unreadable, scanned.ids.len()), (2, 3));
        let scanned = scan(root.path(), &names(&["/web"]), None).unwrap();
        assert_eq!((scanned.called.len(), scanned.unreadable), (0, 1));
        let scanned = scan(&root.path().join("absent"), &names(&["web"]), None).unwrap();
        assert_eq!((scanned.called.len(), scanned.unreadable), (0, 0));
    }

    #[test]
    fn no_more_records_are_looked_through_than_a_budget_has() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..40 {
            let dir = root.path().join("containers").join(format!("{number:064x}"));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("config.v2.json"), "").unwrap();
        }
        let names = BTreeSet::from(["web".to_owned()]);
        let scanned = scan(root.path(), &names, Some(&Budget::of(4 << 10))).unwrap_err();
        assert!(scanned.to_string().contains("more is not read"), "{scanned}");
        // A file of no size takes its time too.
        let budget = Budget::of(15 << 10);
        let scanned = scan(root.path(), &names, Some(&budget)).unwrap();
        assert_eq!((scanned.ids.len(), scanned.unreadable), (40, 40));
        assert!(!budget.take(1 << 10));
        let budget = Budget::of(100 << 10);
        scan(root.path(), &names, Some(&budget)).unwrap();
        assert!(budget.take(1 << 10));
    }

    #[test]
    fn only_a_record_that_can_have_the_name_is_parsed() {
        let names = BTreeSet::from(["web".to_owned()]);
        for (text, expected) in [
            (r#"{"ID":"x","Name":"/web"}"#, true),
            (r#"{"Config":{"Labels":{"Name":"/db"}},"Name":"/web"}"#, true),
            (r#"{"Name": "/web"}"#, true), // not as dockerd writes it
            (r#"{"Name":"/w\u0065b"}"#, true),
            (r#"{"ID":"x","Name":"/webs"}"#, false),
            (r#"{"ID":"x","Name":"/we"#, true),
            (r#"{"ID":"x"}"#, true),
            ("", true),
        ] {
            assert_eq!(may_be_called(text.as_bytes(), &names), expected, "{text}");
        }
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
