//! The promises on plain runc containers, in runc's default root, under IDs that nobody else has. The kernel's files,
//! the containers' heartbeats and runc itself say whether iceaxe spoke the truth.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up has failed"
)]

mod bundles;
mod disks;
mod fuse;
mod ids;
mod paused;
mod pods;
mod records;
mod stuck;
mod users;
