//! The promises on the commonest hosts: systemd boots in each layout of the cgroup mounts, engines run under it as
//! they do anywhere, and iceaxe is typed as root there. The kernel's files, the containers' heartbeats and the engines
//! themselves say whether it spoke the truth.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has failed"
)]

mod boot;
mod decoys;
mod docker;
mod files;
mod hung;
mod lxc;
mod nspawn;
mod podman;
mod recover;
mod rootless;
mod story;
mod together;
mod user;

/// Makes each function a test in one layout.
macro_rules! in_layout {
    ($layout:ident $variant:ident: $($name:ident)*) => {
        kit::promises! { $layout = crate::boot::Layout::$variant => $($name)* }
    };
}
pub(crate) use in_layout;

/// Makes each function a test in each layout.
macro_rules! in_each_layout {
    ($($name:ident)*) => {
        crate::in_layout! { v1 V1: $($name)* }
        crate::in_layout! { hybrid Hybrid: $($name)* }
        crate::in_layout! { v2 V2: $($name)* }
    };
}
pub(crate) use in_each_layout;
