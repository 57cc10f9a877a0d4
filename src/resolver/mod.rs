//! From what an operator types to the one container that it means, with every daemon dead. An answer is certain, or
//! it is an error that names the candidates. Reads only; no daemon is asked and no lock is waited for.

mod answer;
mod beside;
mod bolt;
mod census;
mod check;
mod container;
mod crun;
mod details;
mod docker;
mod everything;
mod ids;
mod kube;
mod lines;
mod lookup;
mod lxc;
mod machine;
mod names;
pub mod naming;
mod nerdctl;
mod passwd;
mod paths;
mod pids;
mod place;
mod podman;
mod pods;
mod record;
mod resolve;
mod roots;
mod runc;
mod shim;
pub(crate) mod state;
pub mod target;
mod traces;
mod trust;
mod users;
mod words;
mod youki;

pub use container::{Container, Found, Glimpse, Identity};
pub use details::{Details, OfUsers, Pending};
pub use everything::{Everything, Unknown};
pub(crate) use lines::{Lines, cgroup_lines, task_lines};
pub use lookup::{Nesting, Purpose, Resolver};
pub use record::{About, Believed};
pub use resolve::resolve;
pub use trust::Trust;
