//! Many targets at once: `--all` and `--filter`, from what is on the host rather than from what was typed.

use std::ffi::OsString;

use super::args::Select;
use super::survey::survey;
use super::{Context, human};
use crate::engine::report::Requested;
use crate::engine::{Filter, Status};

/// What a verb is to act on.
pub(super) struct Selection {
    /// The targets as typed, or those that were selected instead, each by its ID or its name.
    pub(super) targets: Vec<OsString>,
    /// The exit code of what could not be looked at.
    pub(super) code: Option<u8>,
}

/// Which containers `--all` means to a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum All {
    /// Every one.
    Every,
    /// Those that are frozen by their own request, which a thaw can do something for.
    Asking,
    /// Those whose engine believes otherwise than they ask for, or would have to be asked.
    Disagreeing,
}

/// The containers that are selected, where nothing was typed.
pub(super) fn select(context: &Context<'_>, args: &Select, typed: &[OsString], all: All) -> Selection {
    if !args.all && args.filter.is_empty() {
        return Selection {
            targets: typed.to_vec(),
            code: None,
        };
    }
    let mut targets = Vec::new();
    let incomplete = survey(context, &mut |statuses| {
        for status in statuses {
            let asks = status.requested == Some(Requested::Frozen);
            let is_wanted = match all {
                All::Every => true,
                All::Asking => asks,
                All::Disagreeing => match status.believed.as_deref() {
                    Some(word) => (word == "paused") != asks,
                    None => matches!(
                        status.runtime.as_deref(),
                        Some("docker" | "podman" | "containerd" | "lxc")
                    ),
                },
            };
            if is_wanted && Filter::all_meet(&args.filter, &status) {
                targets.extend(written(&status));
            }
        }
    });
    for source in &incomplete {
        context.err(format!(
            "iceaxe: not every container could be looked at: {}\n",
            human::escaped(source)
        ));
    }
    if targets.is_empty() {
        context.err(match all {
            All::Every => "iceaxe: note: no container is meant\n",
            All::Asking => "iceaxe: note: no container that is meant is frozen by its own request\n",
            All::Disagreeing => "iceaxe: note: no container that is meant is out of step with its engine\n",
        });
    }
    let code = (!incomplete.is_empty()).then_some(1);
    Selection { targets, code }
}

/// A container by its ID, or by its name where it has none. Every one of a survey has either.
fn written(status: &Status) -> Option<OsString> {
    let id = status.id.as_ref().map(|id| format!("id:{id}"));
    let name = || status.name.as_ref().map(|name| format!("name:{name}"));
    id.or_else(name).map(OsString::from)
}
