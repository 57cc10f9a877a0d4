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
