//! What an engine has on record of a container: name, image, labels, what it believes, where things lie. On a disk
//! that may hang, so it is read beside the work and waited for only so long.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::target::is_full_id;
use super::{Identity, census, docker, runc, shim};
use crate::error::Result;
use crate::host::Host;

/// What an engine has on record of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Believed {
    /// Running and paused.
    Paused,
    /// Running and not paused.
    Running,
    /// Being restarted.
    Restarting,
    /// Not running.
    Exited,
}

impl fmt::Display for Believed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Paused => "paused",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        })
    }
}

/// What an engine has on record of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Its name.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<String>,
    /// Its labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// What the engine believes of its state; `None` where it keeps nothing.
    pub believed: Option<Believed>,
    /// Its root file system.
    pub rootfs: Option<PathBuf>,
    /// The runtime's bundle.
    pub bundle: Option<PathBuf>,
    /// Its log file.
    pub log: Option<PathBuf>,
    /// The records that are there and could not be read.
    pub unreadable: Vec<String>,
}

/// Details that are being read.
#[derive(Debug)]
pub struct Pending {
    from: Receiver<(usize, Details)>,
    since: Instant,
    /// Whose are asked for next.
    at: Cell<usize>,
}

impl Details {
    /// Begins to read those of several containers, one after the other, in a thread of its own. One that hangs stays
    /// behind.
    #[must_use]
    pub fn start(host: &Host, identities: Vec<Identity>) -> Pending {
        let (to, from) = mpsc::channel();
        let read_all = move |host: &Host| {
            let mut each = identities.iter().enumerate();
            // A receiver that is gone wants no more of them.
            each.all(|(at, identity)| to.send((at, read(host, identity))).is_ok())
        };
        // Without a thread the channel is closed, and there are no details.
        drop(beside(host, read_all));
        Pending {
            from,
            since: Instant::now(),
            at: Cell::new(0),
        }
    }
}

impl Pending {
    /// The next container's, if they are read within `limit` of the start of all; `None` where they are not.
    #[must_use]
    pub fn next(&self, limit: Duration) -> Option<Details> {
        let wanted = self.at.replace(self.at.get() + 1);
        loop {
            // A sender that is gone without a word could not be started, which is no answer either.
            let (at, details) = self
                .from
                .recv_timeout(limit.saturating_sub(self.since.elapsed()))
                .ok()?;
            // Earlier ones may come after they were given up.
            if at == wanted {
                return Some(details);
            }
        }
    }
}

/// Enough for a walk of the deepest tree.
const STACK: usize = 4 << 20;

/// Runs `work` in a thread of its own with its own view of the host; `None` where no thread can be had.
pub(super) fn beside<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&Host) -> T + Send + 'static,
) -> Option<Receiver<T>> {
    let host = host.try_clone().ok()?; // no descriptor is free
    let (to, from) = mpsc::channel();
    let run = move || {
        let _ = to.send(work(&host)); // nobody waits any more
    };
    thread::Builder::new()
        .name("records".to_owned())
        .stack_size(STACK)
        .spawn(run)
        .ok()?; // none can be had
    Some(from)
}

fn read(host: &Host, identity: &Identity) -> Details {
    let mut details = Details::default();
    let Some(id) = identity.id.as_deref() else {
        return details; // a cgroup that no runtime names has no record
    };
    let full = is_full_id(id.as_bytes());
    let record = match identity.record.as_deref().and_then(|dir| dir.parent()) {
        Some(root) => noted(
            &mut details,
            runc::Root::open(root, "").and_then(|root| root.map_or(Ok(None), |root| root.record(id))),
        ),
        None => identity
            .pid
            .filter(|_| full)
            .and_then(|pid| census::record_by_shim(host, pid, id)),
    };
    if let Some(record) = &record {
        details.rootfs = record.state.rootfs();
        details.bundle = record.state.bundle();
        let mut labels = record.state.labels();
        labels.remove("bundle");
        details.labels = Some(labels);
    }
    if !full || !matches!(identity.runtime.as_deref(), None | Some("docker")) {
        return details;
    }
    let mut roots = noted(&mut details, docker::configured_data_roots(host).map(Some)).unwrap_or_default();
    let sources = record.iter().flat_map(|record| record.state.sources());
    roots.extend(sources.filter_map(docker::root_in).map(|root| host.inside(&root)));
    let mut config = None;
    for root in &roots {
        config = config.or_else(|| noted(&mut details, docker::config(root, id)));
    }
    if config.is_none()
        && let Some(pid) = identity.pid
    {
        let sources = shim::mount_sources(host, pid);
        let roots = sources.iter().filter_map(|source| docker::root_in(source));
        for root in roots {
            config = config.or_else(|| noted(&mut details, docker::config(&host.inside(&root), id)));
        }
    }
    if let Some(config) = config {
        details.name = Some(config.name().to_owned()).filter(|name| !name.is_empty());
        details.image = config.image();
        details.labels = Some(config.labels());
        details.believed = Some(config.believed());
        details.log = config.log();
    }
    details
}

/// What was read, or nothing and a note of why.
fn noted<T>(details: &mut Details, read: Result<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|error| {
        details.unreadable.push(error.to_string());
        None
    })
}
