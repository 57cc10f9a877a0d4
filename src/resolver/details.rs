//! Reads an engine's record of a container: name, image, labels, what it believes, where things lie. The record is on a
//! disk that may hang: it is read in a thread of its own, which is waited for only so long.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::container::Identity;
use super::passwd;
use super::runtime::details::{Details, noted};
use super::runtime::docker::{self, DataRoot};
use super::runtime::podman::{self, DatabaseRecord, Stored, Stores};
use super::runtime::record::{About, Pod, Writer};
use super::runtime::{DetailsQuery, Runtime, crio};
use super::state::Budget;
use super::target::is_full_id;
use super::timeout::with_timeout;
use super::trust::Trust;
use crate::host::Host;

impl Details {
    /// Reads the details of one container; `None` where that takes longer than `limit`.
    #[must_use]
    pub fn of(host: &Host, identity: Identity, limit: Duration) -> Option<Self> {
        Pending::start(host, [identity]).next(limit)
    }
}

/// Details that are being read, one container's after the other, in a thread of its own. One that hangs stays behind.
#[derive(Debug)]
pub struct Pending {
    to: Sender<Vec<(usize, Identity)>>,
    from: Receiver<(usize, Details)>,
    /// How many were asked for.
    asked: usize,
    /// The container whose details are taken next.
    at: usize,
    /// How long they were waited for, since the last time that it was forgiven.
    waited: Duration,
}

impl Pending {
    /// Begins with those of several containers; more can be asked for.
    #[must_use]
    pub fn start(host: &Host, identities: impl IntoIterator<Item = Identity>) -> Self {
        Self::sharing(host, identities, &Arc::default())
    }

    /// Begins with those of several containers beside others who read such: what users' engines have is read once for all of
    /// them.
    #[must_use]
    pub fn sharing(
        host: &Host,
        identities: impl IntoIterator<Item = Identity>,
        users: &Arc<OfUsers>,
    ) -> Self {
        let users = Arc::clone(users);
        let (to, wanted) = mpsc::channel::<Vec<(usize, Identity)>>();
        let (done, from) = mpsc::channel();
        let read_all = move |host: &Host| {
            let disk = EngineRecords::new(host, users);
            let mut wanted = wanted.iter().flatten();
            // A receiver that is gone wants no more of them.
            wanted.all(|(at, identity)| done.send((at, disk.read(&identity))).is_ok())
        };
        // Without a thread the channel is closed, and there are no details.
        drop(with_timeout(host, read_all));
        let mut pending = Self {
            to,
            from,
            asked: 0,
            at: 0,
            waited: Duration::ZERO,
        };
        pending.ask(identities);
        pending
    }

    /// Asks for more containers', all at once: each time the thread has to be woken.
    pub fn ask(&mut self, identities: impl IntoIterator<Item = Identity>) {
        let wanted: Vec<_> = (self.asked..).zip(identities).collect();
        self.asked += wanted.len();
        let _ = self.to.send(wanted); // without a thread there are none, which `next` says
    }

    /// Gives those that follow the whole limit again: what gets on, however slowly, does not hang.
    pub fn renew(&mut self) {
        self.waited = Duration::ZERO;
    }

    /// The next container's; `None` where it would take longer than what is left of `limit`, which is for all of them.
    #[must_use]
    pub fn next(&mut self, limit: Duration) -> Option<Details> {
        let wanted = self.at;
        self.at += 1;
        loop {
            let began = Instant::now();
            let answer = self.from.recv_timeout(limit.saturating_sub(self.waited));
            self.waited += began.elapsed();
            // A sender that is gone without a word could not be started, which is no answer either.
            let (at, details) = answer.ok()?;
            // Earlier ones may come after they were given up.
            if at == wanted {
                return Some(details);
            }
        }
    }
}

/// How long the files of one user's engines are waited for, while root's containers wait for their own.
const OF_USER: Duration = Duration::from_millis(500);

/// The parts of users' files that were read, kept for the next container. They have a bound, whoever asks how often: a
/// user can make such files as many and as large as they like.
#[derive(Debug, Default)]
pub struct OfUsers {
    budget: Budget,
    /// The stores of each user's podman, once they are read.
    podman: Mutex<BTreeMap<u32, Arc<Mutex<Option<Stores>>>>>,
}

impl OfUsers {
    /// What podman's list has of a container in one user's stores, what its database has, and what can't be read.
    fn in_store(&self, host: &Host, user: u32, id: &str, record: Option<&Path>) -> InStore {
        let stores = Arc::clone(locked(&self.podman).entry(user).or_default());
        let mut stores = locked(&stores);
        let stores = stores.get_or_insert_with(|| Stores::read(host, Trust::User(user), &self.budget));
        let mut found = InStore::look(stores, id, record);
        let size = |recorded: &DatabaseRecord| recorded.size();
        if !found
            .recorded
            .as_ref()
            .is_none_or(|recorded| self.budget.take(size(recorded)))
        {
            found.recorded = None;
            let why = format!("more is not kept of what the engines of user {user} have on record");
            found.unread.push(why);
        }
        found
    }
}

/// Locks, also after a panic: a thread that panics while it holds the lock leaves nothing half done, as a store is read
/// or it is not.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A container's records in podman's stores, and what of the stores can't be read.
#[derive(Default)]
struct InStore {
    stored: Option<Stored>,
    recorded: Option<DatabaseRecord>,
    unread: Vec<String>,
}

impl InStore {
    fn look(stores: &Stores, id: &str, record: Option<&Path>) -> Self {
        let mut unread = stores.unread.clone();
        let recorded = stores.recorded(id, record).unwrap_or_else(|error| {
            unread.push(error);
            None
        });
        Self {
            stored: stores.get(id, record).cloned(),
            recorded,
            unread,
        }
    }
}

/// The engines' records that were read, kept for the next container.
struct EngineRecords<'h> {
    host: &'h Host,
    users: Arc<OfUsers>,
    docker: OnceCell<(Vec<DataRoot>, Option<String>)>,
    /// Root's stores of podman's.
    podman: OnceCell<Stores>,
    /// The users whose files did not come in time.
    late: RefCell<BTreeSet<u32>>,
}

impl<'h> EngineRecords<'h> {
    fn new(host: &'h Host, users: Arc<OfUsers>) -> Self {
        Self {
            host,
            users,
            docker: OnceCell::new(),
            podman: OnceCell::new(),
            late: RefCell::default(),
        }
    }

    fn read(&self, identity: &Identity) -> Details {
        let host = self.host;
        let mut details = Details::default();
        let Some(id) = identity.id.as_deref() else {
            return details; // a cgroup that no runtime names has no record
        };
        let full = is_full_id(id.as_bytes());
        // A name that nobody vouches for is not looked up in any engine's records.
        if identity.trust == Trust::None {
            return details;
        }
        let about = identity.about.clone();
        let pod = about.pod();
        details.pod = pod.as_ref().map(Pod::to_string);
        details.image = about.image();
        details.name = pod.as_ref().and_then(|pod| pod.container.clone());
        details.unpauses_what_is_thawed = about.writer == Some(Writer::Crun);
        details.rootfs.clone_from(&about.rootfs);
        details.bundle.clone_from(&about.bundle);
        details.labels =
            Some(about.annotations.clone()).filter(|labels| about.writer.is_some() || !labels.is_empty());
        match identity.runtime {
            None | Some(Runtime::Docker) if full => self.of_docker(id, identity.trust, &about, &mut details),
            Some(Runtime::Podman) if full => self.of_podman(id, identity, &about, &mut details),
            Some(Runtime::Crio) if full => self.of_crio(id, identity, &about, &mut details),
            Some(runtime) => {
                let known = DetailsQuery {
                    host,
                    id,
                    about: &about,
                    pod: pod.as_ref(),
                };
                if let Some(add) = runtime.row().details {
                    add(&known, &mut details);
                }
            }
            None => {}
        }
        details
    }

    fn of_docker(&self, id: &str, trust: Trust, about: &About, details: &mut Details) {
        let mut config = None;
        if trust.is_full() {
            let (roots, unread) = self.docker.get_or_init(|| {
                let read = docker::data_roots(self.host);
                let (paths, unread) = read.map_or_else(
                    |error| (BTreeSet::new(), Some(error.to_string())),
                    |roots| (roots, None),
                );
                (paths.into_iter().map(DataRoot::new).collect(), unread)
            });
            details.unreadable.extend(unread.clone());
            for root in roots {
                config = config.or_else(|| noted(details, root.config(id, None)));
            }
            if let Some(root) = about.data_root.as_ref().filter(|_| config.is_none()) {
                config = noted(details, DataRoot::new(self.host.inside(root)).config(id, None));
            }
        } else if let Some(user) = trust.user() {
            config = self.of_users_docker(id, user, details);
        }
        if let Some(config) = config {
            config.add_to(details);
        }
    }

    /// The record that a user's docker has, read in a thread of its own: it is on the user's own file system.
    fn of_users_docker(&self, id: &str, user: u32, details: &mut Details) -> Option<docker::Config> {
        let (id, users) = (id.to_owned(), Arc::clone(&self.users));
        let read = move |host: &Host| {
            let home = passwd::home(host, user)?;
            let root = home.map(|home| DataRoot::new(home.join(".local/share/docker")));
            root.map_or(Ok(None), |root| root.config(&id, Some(&users.budget)))
        };
        self.of_user(user, details, read)
            .and_then(|read| noted(details, read))
    }

    /// Reads a user's files; `None` where that takes too long, or did so before.
    fn of_user<T: Send + 'static>(
        &self,
        user: u32,
        details: &mut Details,
        read: impl FnOnce(&Host) -> T + Send + 'static,
    ) -> Option<T> {
        let late = || format!("the files of user {user}'s engines could not be read in time");
        if self.late.borrow().contains(&user) {
            details.unreadable.push(late());
            return None;
        }
        let answer = with_timeout(self.host, read).wait_for(OF_USER);
        if answer.is_none() {
            self.late.borrow_mut().insert(user);
            details.unreadable.push(late());
        }
        answer
    }

    /// podman keeps labels, its own pods and what it believes in its database alone.
    fn of_podman(&self, id: &str, identity: &Identity, about: &About, details: &mut Details) {
        let (stored, recorded) = self.in_store(id, identity, details);
        podman::add_to(details, stored, recorded, about);
    }

    fn of_crio(&self, id: &str, identity: &Identity, about: &About, details: &mut Details) {
        let (stored, _) = self.in_store(id, identity, details);
        crio::add_to(details, stored, about);
    }

    /// What podman's lists have of a container, and what its database has, in the stores of whose word it is.
    fn in_store(
        &self,
        id: &str,
        identity: &Identity,
        details: &mut Details,
    ) -> (Option<Stored>, Option<DatabaseRecord>) {
        let record = identity.record.as_deref();
        let found = match identity.trust.user() {
            None => {
                let read = || Stores::read(self.host, Trust::Full, &Budget::default());
                InStore::look(self.podman.get_or_init(read), id, record)
            }
            Some(user) => {
                let (id, record) = (id.to_owned(), identity.record.clone());
                let users = Arc::clone(&self.users);
                let read = move |host: &Host| users.in_store(host, user, &id, record.as_deref());
                self.of_user(user, details, read).unwrap_or_default()
            }
        };
        details.unreadable.extend(found.unread);
        (found.stored, found.recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;
    const LIMIT: Duration = Duration::from_secs(60);

    /// A host on which a user has `count` containers of an engine, and the identities of those.
    fn host(
        runtime: Runtime,
        count: usize,
        put: &dyn Fn(&Path, &str),
    ) -> (tempfile::TempDir, Host, Vec<Identity>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "ann:x:1000:1000::/home/ann:/bin/sh\n",
        )
        .unwrap();
        let ids: Vec<String> = (0..count).map(|number| format!("{number:064x}")).collect();
        for id in &ids {
            put(&dir.path().join("home/ann/.local/share"), id);
        }
        let host = Host::made_up(dir.path()).unwrap();
        let record = dir.path().join("run/user/1000/crun/x");
        let identity = |id: &String| Identity {
            id: Some(id.clone()),
            runtime: Some(runtime),
            trust: Trust::User(USER),
            record: Some(record.clone()),
            ..Identity::default()
        };
        let identities = ids.iter().map(identity).collect();
        (dir, host, identities)
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The details of each, where so many bytes may be read of users' files.
    fn read(host: &Host, identities: &[Identity], bytes: u64) -> Vec<Details> {
        let users = Arc::new(OfUsers {
            budget: Budget::of(bytes),
            ..OfUsers::default()
        });
        let mut pending = Pending::sharing(host, identities.to_vec(), &users);
        let each = identities.iter().map(|_| pending.next(LIMIT).unwrap());
        each.collect()
    }

    #[test]
    fn a_users_list_is_read_once_and_no_more_than_its_budget() {
        let put = |share: &Path, id: &str| {
            let list = format!(
                r#"[{{"id":"{id}","names":["web"],"metadata":"{}"}}]"#,
                "x".repeat(9000)
            );
            let dir = format!("containers/storage/{id}-containers/containers.json");
            write(&share.join(dir), &list);
        };
        let (_dir, host, identities) = host(Runtime::Podman, 3, &put);
        // Each of three is asked for.
        for details in read(&host, &identities, 30_000) {
            assert_eq!(details.name.as_deref(), Some("web"));
            assert!(details.unreadable.is_empty(), "{:?}", details.unreadable);
        }
        for details in read(&host, &identities, 20_000) {
            assert_eq!(details.name, None);
            let unread = details.unreadable.join("; ");
            assert!(unread.contains("more is not read"), "{unread}");
        }
    }

    #[test]
    fn no_more_is_read_of_a_users_docker_than_its_budget() {
        let put = |share: &Path, id: &str| {
            let labels = "x".repeat(9000);
            let config = format!(r#"{{"ID":"{id}","Name":"/web","Config":{{"Labels":{{"a":"{labels}"}}}}}}"#);
            write(
                &share.join(format!("docker/containers/{id}/config.v2.json")),
                &config,
            );
        };
        let (_dir, host, identities) = host(Runtime::Docker, 3, &put);
        let read = read(&host, &identities, 20_000);
        let names: Vec<_> = read.iter().map(|details| details.name.as_deref()).collect();
        assert_eq!(names, [Some("web"), Some("web"), None]);
        let unread = read[2].unreadable.join("; ");
        assert!(unread.contains("more is not read"), "{unread}");
    }
}
