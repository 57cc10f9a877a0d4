//! What is particular to a runtime or an engine: where its records and names are, and what they look like.

pub(super) mod crun;
pub(super) mod docker;
mod kind;
pub(super) mod kube;
pub(super) mod lxc;
pub(super) mod machine;
pub(super) mod nerdctl;
pub(super) mod podman;
pub(super) mod record;
pub(super) mod roots;
pub(super) mod runc;
pub(super) mod youki;

pub use kind::Runtime;
