//! Freezes and thaws containers by talking to their cgroups directly, with no daemon, and proves from /proc, task by
//! task, what it claims.

pub mod cgroup;
pub mod error;
pub mod host;
