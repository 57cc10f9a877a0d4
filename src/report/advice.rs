//! What an operator can do about a container that does not freeze or thaw, mildest first.

use serde::{Deserialize, Serialize};

/// A step of a rescue, in rising danger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RescueStep {
    /// Give it more time.
    Wait,
    /// Clear its requests again, also those inside of it.
    Rekick,
    /// Clear the requests of its ancestors, which thaws others too.
    Ancestors,
    /// Let a stopped tracer go on.
    Tracer,
    /// On v1, move a task that sits in the freezer with no request standing out and back.
    Move,
    /// End the container.
    Kill,
}

impl RescueStep {
    /// All of them, mildest first.
    pub const ALL: [Self; 6] = [
        Self::Wait,
        Self::Rekick,
        Self::Ancestors,
        Self::Tracer,
        Self::Move,
        Self::Kill,
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Rekick => "rekick",
            Self::Ancestors => "ancestors",
            Self::Tracer => "tracer",
            Self::Move => "move",
            Self::Kill => "kill",
        }
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The step of a rescue that is as dangerous.
    pub step: RescueStep,
    /// What it does, and to whom else.
    pub what: String,
    /// The command.
    pub command: String,
}
