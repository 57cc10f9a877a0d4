//! The verbs, as reports name them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What was to be done to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Clear the requests for a freeze, and prove that the tasks run.
    Thaw,
    /// Ask for a freeze, and prove that no task runs.
    Freeze,
    /// End the tasks, or send them a signal.
    Kill,
    /// Bring the engine in step with the kernel.
    Resync,
    /// Tell what is so.
    Status,
    /// Tell why it is so.
    Explain,
    /// Tell where the container's files are.
    Path,
    /// Tell the cgroups and what asks for a freeze in them.
    Tree,
    /// Tell all containers.
    List,
    /// Tell what happens, as it happens.
    Watch,
    /// Freeze for as long as a command runs.
    Hold,
    /// Thaw what was left behind by holders that are gone.
    Recover,
    /// Show what a thaw proves, on tasks made for it.
    Demo,
}

impl Verb {
    /// The word for it, which is that of the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Thaw => "thaw",
            Self::Freeze => "freeze",
            Self::Kill => "kill",
            Self::Resync => "resync",
            Self::Status => "status",
            Self::Explain => "explain",
            Self::Path => "path",
            Self::Tree => "tree",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Hold => "hold",
            Self::Recover => "recover",
            Self::Demo => "demo",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
