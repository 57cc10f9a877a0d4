//! Freezes and thaws containers by talking to their cgroups directly, with no daemon, and proves from /proc, task by
//! task, what it claims.
//!
//! ```no_run
//! use std::time::Duration;
//! use iceaxe::{Host, Proof};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let host = Host::system()?;
//! let cgroup = host.cgroup("/sys/fs/cgroup/my-test")?; // or host.container("web")?
//! let frozen = cgroup.freeze(Duration::from_secs(2))?; // proven; dropping it puts back what stood before
//! assert!(frozen.tasks().all(|(_, proof)| proof == Proof::Frozen));
//! let thawed = frozen.thaw(Duration::from_secs(2))?;
//! assert!(thawed.proofs.iter().flatten().all(|(_, proof)| matches!(proof, Proof::Ran | Proof::Restored)));
//! # Ok(())
//! # }
//! ```
//!
//! Three rooms do the work: the [`resolver`] finds the cgroups of a container, the [`freezer`] writes to them, the [`verifier`]
//! looks at the tasks. The [`engine`] does a verb on any number of containers with them: requests first, then one wait for all.
//!
//! It asks no daemon and opens no socket. It takes locks and keeps records, which are in [`store`], only for a caller who wants
//! holds. It starts threads for reading, never waits without a limit, and a `write(2)` that hangs in the kernel hangs its caller,
//! which is why the command line works in a child process.

mod api;
pub mod cgroup;
#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod error;
pub mod fleet;
pub mod freezer;
pub mod hold;
pub mod host;
pub mod patience;
pub mod report;
pub mod resolver;
mod signaller;
pub mod store;
#[cfg(feature = "cli")]
mod supervisor;
pub mod verifier;

pub use api::{Frozen, Handle, NotAllConfirmed, NotConfirmed};
pub use error::{Error, Force, Result};
pub use host::Host;
pub use patience::Patience;
pub use report::{Outcome, Report, Status};
pub use verifier::Proof;
