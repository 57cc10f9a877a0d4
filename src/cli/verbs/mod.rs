//! The verbs, a file each: what each is told to do, in which order, and what is printed of it.

use std::ffi::OsString;

use super::context::Context;

pub(super) mod change;
pub(super) mod demo;
pub(super) mod explain;
pub(super) mod hold;
pub(super) mod list;
pub(super) mod path;
pub(super) mod recover;
pub(super) mod resync;
pub(super) mod status;
pub(super) mod tree;
pub(super) mod watch;

/// A verb with what was typed for it.
pub(super) trait Run {
    /// The targets as typed, in which `-` means those on standard input.
    fn targets(&self) -> &[OsString] {
        &[]
    }

    /// Whether a guard must be there before anything is done, as what is done ends by itself.
    fn needs_guard(&self) -> bool {
        false
    }

    /// Does it in the worker, prints what there is to print, and returns the exit code.
    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8;
}
