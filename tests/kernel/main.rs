//! What iceaxe promises, on the kernel that this runs on. It needs root and no container engine.
//!
//! The modules `v1`, `v2`, `hybrid` and `any` are the filters by which a machine's tests are selected: those below
//! `v1::` need a v1 freezer hierarchy, those below `v2::` the v2 one, `hybrid::` both, `any::` one of them. Nothing here
//! looks for itself whether it can run.
//!
//! The oracle is plain: control files and /proc as `cat` shows them, and heartbeats that the tasks write.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on has failed"
)]

/// Makes a test of each function on each hierarchy.
macro_rules! on_each_hierarchy {
    ($($promise:ident),* $(,)?) => {
        mod v1 {
            $(
                #[test]
                #[serial_test::serial]
                fn $promise() {
                    super::$promise(kit::Hierarchy::V1);
                }
            )*
        }
        mod v2 {
            $(
                #[test]
                #[serial_test::serial]
                fn $promise() {
                    super::$promise(kit::Hierarchy::V2);
                }
            )*
        }
    };
}

mod ancestry;
mod barrier;
mod classes;
mod crowd;
mod doubly;
mod ends;
mod explain;
mod follow;
mod frozen_time;
mod hold;
mod hung;
mod kill;
mod lease;
mod library;
mod limits;
mod migration;
mod mounts;
mod namespaces;
mod notice;
mod obstinate;
mod output;
mod outside;
mod pace;
mod proof;
mod proofs;
mod quota;
mod rescue;
mod reuse;
mod rollback;
mod safety;
mod sets;
mod signals;
mod starved;
mod targets;
mod threads;
mod trees;
mod turmoil;
mod witness;
