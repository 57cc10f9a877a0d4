//! The directories in which the runtimes keep their records, one directory per container. Few, however many
//! containers there are: one per runtime and namespace.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use super::kind::Runtime;
use super::record::{Record, Root};
use super::{ROWS, docker};
use crate::error::Result;
use crate::host::Host;
use crate::resolver::state::{Budget, SPENT, StateDir};
use crate::resolver::timeout::{BUDGET, Source, detach};
use crate::resolver::trust::Trust;
use crate::resolver::trust::caller;

impl Root {
    /// The record of one container; `None` where there is none. Which runtime wrote it is told by the file, as an engine
    /// keeps one root whatever it runs.
    ///
    /// # Errors
    ///
    /// The record is there and can't be read or understood, or is another container's.
    pub(crate) fn record(&self, id: &str) -> Result<Option<Record>> {
        let file = self.dir.read(Path::new(id).join("state.json"))?;
        let text = file.as_ref().map(|file| file.text.as_slice());
        let mut formats = ROWS.iter().filter_map(|row| row.format.as_ref());
        match formats.find(|format| (format.fits)(text)) {
            Some(format) => (format.read)(self, id, file.as_ref()),
            None => Ok(None),
        }
    }
}

/// Records that may lie on a disk that hangs, or where a user can have mounted anything. A thread of their own opens and
/// reads them; a source that was late once is not asked again, as each question would cost as much.
#[derive(Debug)]
pub(crate) struct SlowRoots {
    source: Source,
    asks: Option<Sender<Ask>>,
    is_late: AtomicBool,
}

/// A question to the thread of a slow source.
enum Ask {
    Record(String, Sender<Records>),
    Names(Sender<RecordListing>),
    All(Sender<Vec<Record>>),
}

/// The records of one ID, and what of the source could not be opened.
type Records = Vec<Result<Record>>;

/// The IDs of a source, each with its runtime, and what could not be listed.
#[derive(Debug, Default)]
pub(crate) struct RecordListing {
    pub(crate) ids: Vec<(String, Runtime)>,
    pub(crate) incomplete: Vec<String>,
}

impl SlowRoots {
    /// Prepares to open the roots, which adds what can't be opened in words.
    fn start(
        host: &Host,
        source: Source,
        open: impl FnOnce(&Host, &mut Vec<String>) -> Vec<Root> + Send + 'static,
    ) -> Self {
        let (asks, asked) = mpsc::channel();
        let serve = move |host: &Host| {
            // Without a question no root is opened.
            let mut asked = asked.into_iter().peekable();
            if asked.peek().is_none() {
                return;
            }
            let mut incomplete = Vec::new();
            let roots = open(host, &mut incomplete);
            // A user can have made records as many and as long as they like, and what they say is kept.
            let budget = Budget::default();
            let may_be_kept = |record: &Record| record.trust.is_full() || budget.take(record.about.size());
            for ask in asked {
                // An answer that can't be sent has nobody who waits for it.
                match ask {
                    Ask::Record(id, to) => {
                        let records = roots.iter().filter_map(|root| {
                            let record = root.record(&id).transpose()?;
                            let is_spent = record.as_ref().is_ok_and(|record| !may_be_kept(record));
                            let spent = || root.dir.odd("keep", id.as_ref(), SPENT);
                            Some(if is_spent { Err(spent()) } else { record })
                        });
                        drop(to.send(records.collect()));
                    }
                    Ask::Names(to) => {
                        let mut listing = RecordListing {
                            incomplete: incomplete.clone(),
                            ..RecordListing::default()
                        };
                        for root in &roots {
                            let names = listed(root, &mut listing.incomplete).into_iter();
                            listing.ids.extend(names.map(|name| (name, root.runtime)));
                        }
                        drop(to.send(listing));
                    }
                    Ask::All(to) => {
                        let records = roots.iter().flat_map(all_records).filter(may_be_kept);
                        drop(to.send(records.collect()));
                    }
                }
            }
        };
        Self {
            source,
            asks: detach(host, serve).then_some(asks),
            is_late: AtomicBool::new(false),
        }
    }

    /// The records under one ID; none where the source has none.
    ///
    /// # Errors
    ///
    /// The source does not answer within `limit`, or did not before.
    pub(crate) fn record(&self, id: &str, limit: Duration) -> Result<Records> {
        self.ask(|to| Ask::Record(id.to_owned(), to))(limit)
    }

    /// Begins to list the IDs; what is returned waits for the answer.
    pub(crate) fn names(&self) -> impl FnOnce(Duration) -> Result<RecordListing> {
        self.ask(Ask::Names)
    }

    /// Every record that can be read.
    ///
    /// # Errors
    ///
    /// The source does not answer within `limit`, or did not before.
    pub(crate) fn all(&self, limit: Duration) -> Result<Vec<Record>> {
        self.begin_all()(limit)
    }

    /// Begins to read every record; what is returned waits for the answer.
    pub(crate) fn begin_all(&self) -> impl FnOnce(Duration) -> Result<Vec<Record>> {
        self.ask(Ask::All)
    }

    fn ask<T>(&self, ask: impl FnOnce(Sender<T>) -> Ask) -> impl FnOnce(Duration) -> Result<T> {
        let began = Instant::now();
        let (to, from) = mpsc::channel();
        let is_asked = !self.is_late.load(Ordering::Relaxed)
            && self.asks.as_ref().is_some_and(|asks| asks.send(ask(to)).is_ok());
        move |limit: Duration| {
            let left = limit.saturating_sub(began.elapsed());
            let answer = is_asked.then(|| from.recv_timeout(left).ok()).flatten();
            answer.ok_or_else(|| {
                self.is_late.store(true, Ordering::Relaxed);
                self.source.late()
            })
        }
    }
}

/// The roots of root's own engines, and what of them can't be opened.
#[derive(Debug)]
pub(crate) struct SystemRoots {
    /// The roots at the usual places, which are on a file system in memory.
    pub(crate) all: Vec<Root>,
    /// The roots of docker that its configuration or the mount table tells of, on whichever disk.
    pub(crate) configured: SlowRoots,
    pub(crate) incomplete: Vec<String>,
}

impl SystemRoots {
    /// Opens the usual ones. The others are opened when they are asked for the first time.
    pub(crate) fn open(host: &Host) -> Self {
        // /etc can lie on a disk that hangs too.
        let configured = SlowRoots::start(host, CONFIGURED, |host, incomplete| {
            let mut paths = docker::mounted_exec_roots(host);
            match docker::configured_exec_root(host) {
                Ok(path) => paths.extend(path),
                Err(error) => incomplete.push(error.to_string()),
            }
            paths.remove(&host.path("/run/docker"));
            paths.remove(&host.path("/var/run/docker"));
            let each = paths
                .iter()
                .flat_map(|path| docker::roots_of(path, Trust::Full, incomplete));
            each.collect()
        });
        let mut incomplete = Vec::new();
        let run = host.path("/run");
        let openers = ROWS.iter().filter_map(|row| row.system_roots);
        let opened = openers.flat_map(|open| open(&run, Trust::Full, &mut incomplete));
        let mut all: Vec<Root> = opened.collect();
        all.extend(bare(&run, Trust::Full, &mut incomplete));
        // Run by a user, that user's own engines count as root's do.
        let caller = caller();
        if caller != 0 {
            let dir = host.path(&format!("/run/user/{caller}"));
            all.extend(below(&dir, Trust::in_user(caller), &mut incomplete));
        }
        Self {
            all,
            configured,
            incomplete,
        }
    }
}

const CONFIGURED: Source = Source("the records of docker where daemon.json or the mount table has them");

/// The users who have a directory for the state of a login, each with it.
///
/// # Errors
///
/// `/run/user` can't be listed.
pub(crate) fn users(host: &Host) -> Result<Vec<u32>> {
    let names = StateDir::open(&host.path("/run/user"))
        .and_then(|dir| dir.map_or(Ok(Vec::new()), |dir| dir.names()))?;
    // Other names are no user's, and root's own engines are known by other places.
    let users = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    Ok(users.filter(|&user| user != 0 && user != caller()).collect())
}

/// The records of one user's engines, below the directory that a login gives the user.
pub(crate) fn of_user(host: &Host, user: u32) -> SlowRoots {
    SlowRoots::start(host, USERS, move |host, incomplete| {
        let dir = host.path(&format!("/run/user/{user}"));
        let trust = Trust::in_user(user);
        below(&dir, trust, incomplete)
    })
}

const USERS: Source = Source("the records of a user's own engines, below /run/user,");

/// The roots of a user's engines below `/run/user/<UID>`.
fn below(state: &Path, trust: Trust, incomplete: &mut Vec<String>) -> Vec<Root> {
    let mut roots = bare(state, trust, incomplete);
    let openers = ROWS.iter().filter_map(|row| row.user_roots);
    roots.extend(openers.flat_map(|open| open(state, trust, incomplete)));
    roots
}

/// The roots of the runtimes that keep one called by their own name.
fn bare(state: &Path, trust: Trust, incomplete: &mut Vec<String>) -> Vec<Root> {
    let mut open = |runtime: Runtime| match Root::open(&state.join(runtime.name()), runtime) {
        Ok(root) => root.map(|root| Root { trust, ..root }),
        Err(error) => {
            incomplete.push(error.to_string());
            None
        }
    };
    let runtimes = ROWS.iter().filter(|row| row.has_own_root);
    runtimes.filter_map(|row| open(row.runtime)).collect()
}

/// The IDs that a root has records of.
pub(crate) fn listed(root: &Root, incomplete: &mut Vec<String>) -> Vec<String> {
    match root.dir.names() {
        Ok(names) => names
            .into_iter()
            .filter_map(|name| name.into_string().ok()) // no ID
            .collect(),
        Err(error) => {
            incomplete.push(error.to_string());
            Vec::new()
        }
    }
}

/// Every record of a root that can be read.
pub(crate) fn all_records(root: &Root) -> impl Iterator<Item = Record> {
    let names = root.dir.names().unwrap_or_default(); // what can't be listed is told of where names are looked for
    let each = names.into_iter();
    each.filter_map(|name| root.record(name.to_str()?).ok()?)
}

/// How long the records of users, or of one source of them, are waited for.
pub(crate) const LIMIT: Duration = BUDGET;
/// How long they are waited for where something certain is known already. A disk that does not hang answers within a
/// millisecond or two.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_records_say_is_kept_up_to_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc")).unwrap();
        let long = "x".repeat(12 << 20);
        for id in ["a", "b", "c"] {
            let record = dir.path().join("run/user/1000/youki").join(id);
            std::fs::create_dir_all(&record).unwrap();
            let text =
                format!(r#"{{"id":"{id}","status":"running","pid":7,"annotations":{{"long":"{long}"}}}}"#);
            std::fs::write(record.join("state.json"), text).unwrap();
        }
        let host = Host::made_up(dir.path()).unwrap();
        let patience = Duration::from_secs(60);
        let records = of_user(&host, 1000);
        let each = ["a", "b", "c"].map(|id| records.record(id, patience).unwrap().remove(0));
        assert_eq!(each.each_ref().map(Result::is_ok), [true, true, false]);
        let error = each[2].as_ref().unwrap_err().to_string();
        assert!(error.contains("more is not read"), "{error}");
        assert_eq!(of_user(&host, 1000).all(patience).unwrap().len(), 2);
    }
}
