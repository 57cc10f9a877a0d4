//! Many targets at once: `--all` and `--filter`, from what is on the host rather than from what was typed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use super::options::{Nested, Select};
use super::survey::choose;
use super::targets::{self, Held, Targets};
use super::text;
use crate::cli::context::{Context, unresolved};
use crate::error::Error;
use crate::fleet::Filter;
use crate::report::{Requested, Status, Verb};
use crate::resolver::{Believed, Purpose, Runtime, Trust};

/// What a verb is to act on.
pub(super) struct Selection {
    /// The targets as typed; where nothing was, the IDs that more than one container has.
    words: Vec<OsString>,
    /// The containers that were found by their conditions, each as it would be typed.
    held: Vec<(String, Held)>,
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

/// What it means to a verb that nothing is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nothing {
    /// All that is meant is as it is wanted.
    IsFine,
    /// What was to be frozen or ended is not there.
    IsMissing,
}

impl Nothing {
    /// What it means to a verb that `--allow-none` was or was not given to.
    pub(super) fn allowed(is_allowed: bool) -> Self {
        if is_allowed { Self::IsFine } else { Self::IsMissing }
    }
}

/// The containers that are selected, where nothing was typed.
pub(super) fn select(
    context: &Context<'_>,
    args: &Select,
    typed: &[OsString],
    all: All,
    nothing: Nothing,
) -> Selection {
    if !args.all && args.filter.is_empty() {
        return Selection {
            words: typed.to_vec(),
            held: Vec::new(),
            code: None,
        };
    }
    let mut held = Vec::new();
    let mut bearers: BTreeMap<String, usize> = BTreeMap::new();
    let filters = args.filter.clone();
    let is_meant = move |status: &Status| {
        let asks = status.requested == Some(Requested::Frozen);
        let is_wanted = match all {
            All::Every => true,
            All::Asking => asks,
            All::Disagreeing => match status.believed {
                Some(believed) => (believed == Believed::Paused) != asks,
                None => matches!(
                    status.runtime,
                    Some(Runtime::Docker | Runtime::Podman | Runtime::Containerd | Runtime::Lxc)
                ),
            },
        };
        is_wanted && Filter::all_meet(&filters, status)
    };
    let incomplete = choose(context, Arc::new(is_meant), &mut |status, found| {
        let Some(word) = status.written_outright() else {
            return;
        };
        // No engine of root's can be asked about what a container or a user has made.
        let is_roots = |held: &Held| held.container.identity.trust == Trust::Full;
        let found = found.filter(|held| !matches!(all, All::Disagreeing) || is_roots(held));
        *bearers.entry(word.clone()).or_default() += 1;
        held.extend(found.map(|found| (word, found)));
    });
    for source in &incomplete {
        context.err(format!(
            "iceaxe: not every container could be looked at: {}\n",
            text::escaped(source)
        ));
    }
    let mut code = (!incomplete.is_empty()).then_some(1);
    if held.is_empty() {
        let none = none(&args.filter, all);
        match (nothing, code) {
            (Nothing::IsMissing, None) => {
                let mut report = unresolved(context.verb, "", &Error::NotFound(none.clone()));
                report.error = Some(none);
                report.hints.push("--allow-none makes that a success".to_owned());
                context.err(text::trouble(&report));
                code = Some(report.exit());
            }
            _ => context.err(format!("iceaxe: note: {none}\n")),
        }
    }
    // Which of several with one ID is meant, or that none is, is decided where it is for what is typed.
    let (held, doubtful): (Vec<_>, Vec<_>) = held
        .into_iter()
        .partition(|(word, _)| bearers.get(word).is_none_or(|&count| count == 1));
    let mut words: Vec<OsString> = doubtful.into_iter().map(|(word, _)| word.into()).collect();
    words.dedup();
    Selection { words, held, code }
}

/// That nothing is meant, in words.
pub(super) fn none(filters: &[Filter], all: All) -> String {
    let met: Vec<String> = filters
        .iter()
        .map(|filter| text::escaped(&filter.to_string()))
        .collect();
    let met = met.join(", ");
    match (all, met.is_empty()) {
        (All::Every, true) => "no container runs".to_owned(),
        (All::Every, false) => format!("no container meets {met}"),
        (All::Asking, true) => "no container is frozen by its own request".to_owned(),
        (All::Asking, false) => format!("no container that meets {met} is frozen by its own request"),
        (All::Disagreeing, true) => "no container is out of step with its engine".to_owned(),
        (All::Disagreeing, false) => format!("no container that meets {met} is out of step with its engine"),
    }
}

impl Selection {
    /// Resolves what was typed. What was selected is found already: it is acted on as it was found, by the descriptors
    /// of its cgroups, so that nothing that took its place meanwhile is.
    pub(super) fn resolve(
        self,
        context: &Context<'_>,
        (verb, purpose): (Verb, Purpose),
        nested: Nested,
    ) -> Targets {
        let mut targets = targets::resolve(context, (verb, purpose), &self.words, nested);
        targets.add(context, verb, self.held);
        targets
    }
}
