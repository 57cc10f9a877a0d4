//! Freezes and thaws containers by talking to their cgroups directly, with no daemon, and proves from /proc, task by
//! task, what it claims.
//!
//! ```no_run
//! use std::time::Duration;
//! use iceaxe::{Host, Patience};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::system()?;
//! let web = host.resolve("web")?;
//! let frozen = web.freeze(Patience::of(Duration::from_secs(10)))?; // proven; dropping it thaws
//! let report = frozen.thaw(Patience::of(Duration::from_secs(5)))?; // the proof, task by task, is inside
//! assert_eq!(report.outcome, iceaxe::report::Outcome::Confirmed);
//! # Ok(())
//! # }
//! ```
//!
//! [`engine`] does the same for any number of containers at once: requests first, then one wait for all.
//!
//! It asks no daemon and opens no socket; what it takes a lock for and keeps records of is in [`ledger`], which only a caller
//! who wants holds needs. It does not start a thread but for reading
//! an engine's records, and never waits without a limit; a `write(2)` that hangs in the kernel hangs its caller, which
//! is why the command line works in a child process.

pub mod cgroup;
#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod error;
pub mod fleet;
pub mod freezer;
pub mod hold;
pub mod host;
pub mod ledger;
pub mod patience;
pub mod report;
pub mod resolver;
mod signaller;
#[cfg(feature = "cli")]
mod supervisor;
pub mod verifier;

pub use engine::{Frozen, Handle, NotConfirmed};
pub use error::{Error, Result};
pub use host::Host;
pub use patience::Patience;
pub use report::{Report, Status};
