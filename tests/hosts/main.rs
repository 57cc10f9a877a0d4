//! What targets mean on hosts that are made up of plain files: every runtime's cgroups and records, the real ones'
//! and the stale, torn, hostile and contradictory ones. Needs root, to make files that belong to a user, and nothing
//! else of the machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has failed"
)]

mod ambiguity;
mod docker;
mod fuzz;
mod hostile;
mod kit;
mod kube;
mod limits;
mod lxc;
mod machine;
mod mutation;
mod others;
mod paths;
mod podman;
mod records;
mod scene;
mod stale;
mod trust;
mod users;
