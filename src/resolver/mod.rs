//! From what an operator types to the one container that it means, with every daemon dead. An answer is certain, or
//! it is an error that names the candidates. Reads only; no daemon is asked and no lock is waited for.

mod answer;
mod by_id;
mod by_path;
mod by_pid;
mod by_pod;
mod by_user;
mod by_word;
mod cgroup_trust;
mod check;
mod container;
mod details;
mod everything;
mod index;
mod lines;
mod lookup;
mod matches;
mod names;
pub mod naming;
mod passwd;
mod place;
mod resolve;
mod runtime;
mod shim;
pub(crate) mod state;
pub mod target;
mod timeout;
mod trust;

pub use container::{Container, Found, Identity, Probe};
pub use details::{OfUsers, Pending};
pub use everything::{Everything, Unknown};
pub(crate) use lines::{Lines, cgroup_lines, task_lines};
pub use lookup::{Nesting, Purpose, Resolver};
pub use resolve::resolve;
pub(crate) use resolve::resolve_directory;
pub use runtime::Runtime;
pub use runtime::details::Details;
pub use runtime::record::{About, Believed};
pub use trust::Trust;
