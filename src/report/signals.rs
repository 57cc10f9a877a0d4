//! What signals do to tasks: those that a kill sent, and those that wait for a task that is frozen.

use serde::{Deserialize, Serialize};

/// When a signal acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acts {
    /// At once.
    Now,
    /// When the container is thawed.
    AfterThaw,
    /// When the process no longer blocks it.
    WhenUnblocked,
    /// When SIGCONT, or its tracer, lets the process go on.
    WhenContinued,
    /// When what the process waits for in the kernel comes.
    WhenWoken,
    /// Not at all.
    Never,
}

/// What a signal does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Does {
    /// It ends the process.
    Ends,
    /// It stops the process.
    Stops,
    /// It lets a stopped process go on.
    Continues,
    /// The process has a handler for it.
    Handles,
    /// Nothing: the process ignores it, or it is the first of its PID namespace and has no handler for it.
    Nothing,
}

/// A signal that was sent to a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub comm: String,
    /// The signal's name, `TERM`.
    pub signal: String,
    /// When it acts.
    pub acts: Acts,
    /// What it does.
    pub does: Does,
}

/// A task that will die when it is thawed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dying {
    /// Its process.
    pub pid: i32,
    /// The task.
    pub tid: i32,
    /// Its name.
    pub comm: String,
    /// The signals that wait for it and end it.
    pub signals: Vec<String>,
}
