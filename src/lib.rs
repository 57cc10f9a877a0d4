//! Freezes and thaws containers by talking to their cgroups directly, with no daemon, and proves from /proc, task by
//! task, what it claims.

pub mod cgroup;
#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod error;
pub mod freezer;
pub mod host;
pub mod patience;
pub mod resolver;
pub mod verifier;
