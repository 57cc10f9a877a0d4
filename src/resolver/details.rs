//! What an engine has on record of a container: name, image, labels, what it believes, where things lie. On a disk
//! that may hang, so it is read beside the work and waited for only so long.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use super::target::is_full_id;
use super::{Identity, census, docker, runc, shim};
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
}

/// Details that are being read.
#[derive(Debug)]
pub struct Pending {
    from: Option<Receiver<Details>>,
    since: Instant,
}

impl Details {
    /// Begins to read in a thread of its own. One that hangs stays behind.
    #[must_use]
    pub fn start(host: &Host, identity: &Identity) -> Pending {
        let from = if identity.id.is_some() {
            let identity = identity.clone();
            beside(host, move |host| read(host, &identity))
        } else {
            // A cgroup that no runtime names has no record, and needs no thread to find none.
            let (to, from) = mpsc::channel();
            to.send(Self::default()).ok().map(|()| from) // the receiver is right here
        };
        Pending {
            from,
            since: Instant::now(),
        }
    }
}

impl Pending {
    /// What was read until `limit` after the start; `None` where it was not all read by then.
    #[must_use]
    pub fn wait(self, limit: Duration) -> Option<Details> {
        // A sender that is gone without a word panicked, which is no answer either.
        self.from?
            .recv_timeout(limit.saturating_sub(self.since.elapsed()))
            .ok()
    }
}

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
        .stack_size(512 << 10)
        .spawn(run)
        .ok()?; // none can be had
    Some(from)
}

fn read(host: &Host, identity: &Identity) -> Details {
    let mut details = Details::default();
    let Some(id) = identity.id.as_deref() else {
        return details;
    };
    let mut record = identity.record.as_deref().and_then(|dir| {
        // What can't be read is missing from the details, and they are comfort.
        runc::Root::open(dir.parent()?, "").ok()??.record(id).ok()?
    });
    if record.is_none() && is_full_id(id.as_bytes()) {
        record = identity.pid.and_then(|pid| census::record_by_shim(host, pid, id));
    }
    if let Some(record) = &record {
        details.rootfs = record.state.rootfs();
        details.bundle = record.state.bundle();
        let mut labels = record.state.labels();
        labels.remove("bundle");
        details.labels = Some(labels);
    }
    if is_full_id(id.as_bytes()) && matches!(identity.runtime.as_deref(), None | Some("docker")) {
        let mut roots = docker::configured_data_roots(host).unwrap_or_default(); // as above
        roots.extend(
            record
                .iter()
                .flat_map(|record| record.state.sources())
                .filter_map(docker::root_in)
                .map(|root| host.inside(&root)),
        );
        let mut config = roots.iter().find_map(|root| docker::config(root, id).ok()?);
        if config.is_none()
            && let Some(pid) = identity.pid
        {
            let sources = shim::mount_sources(host, pid);
            config = sources
                .iter()
                .find_map(|source| docker::config(&host.inside(&docker::root_in(source)?), id).ok()?);
        }
        if let Some(config) = config {
            details.name = Some(config.name().to_owned()).filter(|name| !name.is_empty());
            details.image = config.image();
            details.labels = Some(config.labels());
            details.believed = Some(config.believed());
            details.log = config.log();
        }
    }
    details
}
