//! What can go wrong, one variant per thing an operator can act on. Every message names the path and the value;
//! the cause is in the text and not in `source()`, so that it is said once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// One of several containers that a target could mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The runtime's name, `docker` or `runc`.
    pub runtime: String,
    /// The name, where the runtime has names.
    pub name: Option<String>,
    /// The whole ID.
    pub id: String,
    /// How to write this one so that it means nothing else.
    pub unambiguous: String,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self
            .name
            .as_deref()
            .map(|name| format!(" {name}"))
            .unwrap_or_default();
        write!(
            f,
            "{}{name} {}: {}",
            self.runtime,
            short_id(&self.id),
            self.unambiguous
        )
    }
}

/// An ID as docker shows it: 12 of 64 hex digits. Others are shown whole.
pub(crate) fn short_id(id: &str) -> &str {
    let is_hex = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { &id[..12] } else { id }
}

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The target, or an option, is not written in a form that means anything.
    #[error("{0}")]
    Usage(String),
    /// Nothing that is known on this host has that name.
    #[error("no such container: {0}")]
    NotFound(String),
    /// A record of it exists, but its process is gone or belongs to something else now.
    #[error("known but not running: {0}")]
    NotRunning(String),
    /// The target means more than one container, or it is not certain that it means only one.
    #[error("{why}")]
    Ambiguous {
        /// What makes it ambiguous.
        why: String,
        /// What it can mean.
        candidates: Vec<Candidate>,
    },
    /// This host can't do it, or the caller may not.
    #[error("{0}")]
    Unsupported(String),
    /// A safety rule forbids it.
    #[error("refused: {rule}")]
    Refused {
        /// The rule, and what broke it.
        rule: String,
        /// The word after `--force=` that lifts the rule; `None` where nothing does.
        force: Option<Force>,
    },
    /// The cgroup was removed meanwhile (`ENODEV`, or `ENOENT` through its directory's descriptor).
    #[error("{0}: the cgroup is gone")]
    Gone(PathBuf),
    /// A system call on a path failed.
    #[error("{act} {path}: {cause}")]
    Io {
        /// What was tried, `read` or `write THAWED to`.
        act: String,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
    },
}

/// A safety rule that `--force` can lift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Force {
    /// The cgroup is no container: a slice, a service, `init.scope`.
    NotContainer,
    /// A daemon of the host lives in it.
    HostDaemon,
    /// It is a pod's sandbox alone.
    Sandbox,
}

impl Force {
    /// All of them, which is what a plain `--force` means.
    pub const ALL: [Self; 3] = [Self::NotContainer, Self::HostDaemon, Self::Sandbox];

    /// The word after `--force=`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotContainer => "not-container",
            Self::HostDaemon => "host-daemon",
            Self::Sandbox => "sandbox",
        }
    }
}

impl Error {
    /// What an operator can do about it.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            Self::Ambiguous { candidates, .. } => candidates.iter().map(ToString::to_string).collect(),
            Self::Refused {
                force: Some(force), ..
            } => vec![format!("--force={} lifts this rule", force.word())],
            _ => Vec::new(),
        }
    }

    /// An [`Error::Io`], or what its errno means for a cgroup or a caller.
    pub(crate) fn io(act: &str, path: &Path, cause: io::Error) -> Self {
        match cause.raw_os_error() {
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => {
                Self::Unsupported(format!("{act} {}: {cause}", path.display()))
            }
            _ => Self::Io {
                act: act.to_owned(),
                path: path.to_owned(),
                cause,
            },
        }
    }
}
