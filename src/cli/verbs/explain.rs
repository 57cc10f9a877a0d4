//! `explain`: why each target is as it is, and what to do.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;

use super::Run;
use super::status;
use super::status::Status;
use crate::cli::context::{Context, json};
use crate::cli::text;
use crate::engine::{self, Holders};
use crate::report::Verb;

// Its options are those of `status`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    #[command(flatten)]
    status: Status,
}

impl Run for Explain {
    fn targets(&self) -> &[OsString] {
        &self.status.targets
    }

    fn run(&self, context: &Context<'_>, typed: &[OsString]) -> u8 {
        run(context, &self.status, typed)
    }
}

/// Runs `explain`.
fn run(context: &Context<'_>, args: &Status, typed: &[OsString]) -> u8 {
    let holders = Holders::read(context.host);
    status::answer(
        context,
        Verb::Explain,
        args,
        typed,
        &|target, container, details| {
            let mut explanation = engine::explain(context.host, target, container, details, &holders)?;
            let root = &context.options.root;
            if root != Path::new("/") {
                for advice in &mut explanation.ladder {
                    let root = format!("iceaxe --root {} ", engine::quoted(&root.display().to_string()));
                    advice.command = advice.command.replacen("iceaxe ", &root, 1);
                }
            }
            Ok(if context.options.json {
                json(&explanation)
            } else {
                text::explanation(&explanation)
            })
        },
    )
}
