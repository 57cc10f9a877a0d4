//! The directories in which the runtimes keep their records, one directory per container. Few, however many
//! containers there are: one per runtime and namespace.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::beside::{Source, beside};
use super::record::Record;
use super::state::StateDir;
use super::{crun, docker, runc, youki};
use crate::error::Result;
use crate::host::Host;

/// One of them.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) dir: StateDir,
    /// Whose records these are.
    pub(super) runtime: &'static str,
    /// The user whose word the records are; `None` for root's.
    pub(super) user: Option<u32>,
}

impl Root {
    /// Opens a root; `None` where there is none.
    pub(super) fn open(path: &Path, runtime: &'static str) -> Result<Option<Self>> {
        let root = StateDir::open(path)?.map(|dir| Self {
            dir,
            runtime,
            user: None,
        });
        Ok(root)
    }

    /// The record of one container; `None` where there is none. Which runtime wrote it is told by the file, as an engine
    /// keeps one root whatever it runs.
    ///
    /// # Errors
    ///
    /// It is there and can't be read or understood, or is another container's.
    pub(super) fn record(&self, id: &str) -> Result<Option<Record>> {
        match self.dir.read(Path::new(id).join("state.json"))? {
            Some(file) if runc::is_its(&file.text) => runc::record(self, id, &file).map(Some),
            Some(file) => youki::record(self, id, &file),
            None => crun::record(self, id),
        }
    }
}

const CONFIGURATION: Source = Source("docker's configuration in /etc/docker");

/// The runtimes that keep a root called by their own name below a directory for state.
const BARE: [&str; 3] = ["runc", "crun", "youki"];

/// The roots of root's own engines, and what of them can't be opened.
#[derive(Debug, Default)]
pub(super) struct SystemRoots {
    pub(super) all: Vec<Root>,
    pub(super) incomplete: Vec<String>,
    /// Whether a record of a user's did not come in time. None is asked for again: each would cost as much.
    users_late: AtomicBool,
}

impl SystemRoots {
    /// Opens them.
    pub(super) fn open(host: &Host) -> Self {
        let mut incomplete = Vec::new();
        Self {
            all: of_system(host, &mut incomplete),
            incomplete,
            users_late: AtomicBool::new(false),
        }
    }

    /// Whether the records of users did not come in time once.
    pub(super) fn are_users_late(&self) -> bool {
        self.users_late.load(Ordering::Relaxed)
    }

    /// Says that they did not.
    pub(super) fn users_are_late(&self) {
        self.users_late.store(true, Ordering::Relaxed);
    }
}

/// The roots of root's own engines: the usual ones and the configured one. What can't be opened is added to
/// `incomplete`, and hides nothing else.
fn of_system(host: &Host, incomplete: &mut Vec<String>) -> Vec<Root> {
    let mut roots = of_docker(&host.path("/run/docker"), incomplete);
    // /etc can lie on a disk that hangs.
    let configured = beside(host, docker::configured_exec_root).wait();
    match configured.unwrap_or_else(|| Err(CONFIGURATION.late())) {
        Ok(Some(exec_root))
            if exec_root != host.path("/run/docker") && exec_root != host.path("/var/run/docker") =>
        {
            roots.extend(of_docker(&exec_root, incomplete));
        }
        Ok(_) => {}
        Err(error) => incomplete.push(error.to_string()),
    }
    roots.extend(namespaces(
        &host.path("/run/containerd/runc"),
        runtime_of,
        incomplete,
    ));
    roots.extend(bare(&host.path("/run"), incomplete));
    roots
}

/// Whose containers are in a namespace of containerd.
fn runtime_of(namespace: &str) -> &'static str {
    match namespace {
        "moby" | "plugins.moby" => "docker",
        _ => "containerd",
    }
}

/// Whether any user has a directory for state of a login's.
pub(super) fn has_users(host: &Host) -> bool {
    let names =
        StateDir::open(&host.path("/run/user")).and_then(|dir| dir.map_or(Ok(Vec::new()), |dir| dir.names()));
    // One that can't be listed is told of where it is listed for its names.
    names.map_or(true, |names| {
        names
            .iter()
            .any(|name| name.as_bytes().iter().all(u8::is_ascii_digit))
    })
}

/// The roots of users' engines, below the directories that a login gives them. Whoever owns one can have anything
/// mounted there: this is not for the main path, and a record of these may only name what is its user's.
pub(super) fn of_users(host: &Host, incomplete: &mut Vec<String>) -> Vec<Root> {
    let users = host.path("/run/user");
    let names = match StateDir::open(&users).and_then(|dir| dir.map_or(Ok(Vec::new()), |dir| dir.names())) {
        Ok(names) => names,
        Err(error) => {
            incomplete.push(error.to_string());
            return Vec::new();
        }
    };
    let mut roots = Vec::new();
    for name in &names {
        let Some(user) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue; // no user's
        };
        let dir = users.join(name);
        let theirs = bare(&dir, incomplete)
            .into_iter()
            .chain(of_docker(&dir.join("docker"), incomplete));
        roots.extend(theirs.map(|root| Root {
            user: Some(user),
            ..root
        }));
    }
    roots
}

fn bare(state: &Path, incomplete: &mut Vec<String>) -> Vec<Root> {
    let open = |name| match Root::open(&state.join(name), name) {
        Ok(root) => root,
        Err(error) => {
            incomplete.push(error.to_string());
            None
        }
    };
    BARE.into_iter().filter_map(open).collect()
}

/// The roots of a docker with this exec-root: one per configured runtime, with one namespace each.
fn of_docker(exec_root: &Path, incomplete: &mut Vec<String>) -> Vec<Root> {
    let names = StateDir::open(exec_root).and_then(|dir| dir.map_or(Ok(Vec::new()), |dir| dir.names()));
    match names {
        Ok(names) => names
            .iter()
            .filter(|name| name.as_bytes().starts_with(b"runtime-"))
            .flat_map(|name| namespaces(&exec_root.join(name), |_| "docker", incomplete))
            .collect(),
        Err(error) => {
            incomplete.push(error.to_string());
            Vec::new()
        }
    }
}

fn namespaces(
    path: &Path,
    runtime: impl Fn(&str) -> &'static str,
    incomplete: &mut Vec<String>,
) -> Vec<Root> {
    let open = || -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        let Some(dir) = StateDir::open(path)? else {
            return Ok(roots);
        };
        for name in dir.names()? {
            if let Some(below) = dir.below(&name)? {
                roots.push(Root {
                    dir: below,
                    runtime: runtime(&name.to_string_lossy()),
                    user: None,
                });
            }
        }
        Ok(roots)
    };
    open().unwrap_or_else(|error| {
        incomplete.push(error.to_string());
        Vec::new()
    })
}
