//! The verbs, a file each: what each is told to do, in which order, and what is printed of it.

pub(in crate::cli) mod change;
pub(in crate::cli) mod demo;
pub(in crate::cli) mod explain;
pub(in crate::cli) mod hold;
pub(in crate::cli) mod list;
pub(in crate::cli) mod path;
pub(in crate::cli) mod recover;
pub(in crate::cli) mod resync;
pub(in crate::cli) mod status;
pub(in crate::cli) mod tree;
pub(in crate::cli) mod watch;
