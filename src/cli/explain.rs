//! `explain`: why each target is as it is, and what to do.

use std::ffi::OsString;

use super::args::Status;
use super::{Context, human, json, status};
use crate::engine;

/// Runs `explain`.
pub(super) fn run(context: &Context<'_>, args: &Status, typed: &[OsString]) -> u8 {
    status::answer(context, "explain", args, typed, |target, container, details| {
        let explanation = engine::explain(context.host, target, container, details)?;
        Ok(if context.cli.json {
            json(&explanation)
        } else {
            human::explanation(&explanation)
        })
    })
}
