//! The promises on real docker containers, with dockerd healthy, wedged and dead. Each test has daemons of its own, in
//! namespaces and a directory of their own, and asks the kernel's files, the containers' heartbeats and dockerd itself
//! whether iceaxe spoke the truth.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has failed"
)]

mod belief;
mod container;
mod daemons;
mod decoys;
mod docker;
mod dying;
mod hung;
mod hybrid;
mod inside;
mod looking;
mod many;
mod names;
mod outside;
mod paused;
mod places;
mod records;
mod refusals;
mod resync;
mod story;
mod witness;

/// Makes each function a test in both layouts: that of this machine, and v2 alone.
macro_rules! in_each_layout {
    ($($name:ident)*) => {
        mod as_found {
            $(
                #[test]
                fn $name() {
                    super::$name(kit::engines::Layout::AsFound);
                }
            )*
        }
        mod v2 {
            $(
                #[test]
                fn $name() {
                    super::$name(kit::engines::Layout::V2);
                }
            )*
        }
    };
}
pub(crate) use in_each_layout;
