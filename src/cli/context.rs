//! What every verb is given, and what is printed of each target: lines, JSON objects, and what is left to be said in case that
//! nothing more is heard.

use serde::Serialize;

use super::options::Options;
use super::text;
use crate::engine::untouched_end;
use crate::error::{Error, Result};
use crate::hold::guard;
use crate::host::Host;
use crate::patience::Patience;
use crate::report::{Outcome, Report, Status, Verb};
use crate::supervisor::{LastWords, Link, Message, Say};

/// What every verb is given.
pub(super) struct Context<'c> {
    pub(super) options: &'c Options,
    /// The verb that was typed.
    pub(super) verb: Verb,
    /// Whether verdicts are coloured; told before there is a child, which has no terminal.
    pub(super) colour: bool,
    /// Whether results go to a terminal.
    pub(super) is_terminal: bool,
    /// Whether a line shows how far the work is; told before there is a worker, which has no terminal.
    pub(super) shows_progress: bool,
    pub(super) host: &'c Host,
    /// The priority that iceaxe was started with, which is that of programs that it runs.
    pub(super) priority: i32,
    /// The guard, where one was asked for, or why there is none.
    pub(super) guard: Option<&'c std::io::Result<guard::Line>>,
    pub(super) say: Say<'c>,
    pub(super) link: Link<'c>,
}

impl Context<'_> {
    /// The guard.
    pub(super) fn guard(&self) -> Result<&guard::Line> {
        let none = |why: &str| Error::Unsupported(format!("no guard could be made: {why}"));
        match self.guard {
            Some(Ok(line)) => Ok(line),
            Some(Err(error)) => Err(none(&error.to_string())),
            None => Err(none("it was not asked for")),
        }
    }

    /// The limit for each target.
    pub(super) fn timeout(&self, default: std::time::Duration) -> std::time::Duration {
        self.options.timeout.unwrap_or(default)
    }

    /// Whether somebody asked to give up.
    pub(super) fn is_cancelled(&self) -> bool {
        self.patience(std::time::Duration::ZERO).start().is_cancelled()
    }

    /// Patience that ends early when somebody asks to give up.
    pub(super) fn patience(&self, limit: std::time::Duration) -> Patience<'_> {
        let patience = Patience::of(limit);
        self.link
            .cancel
            .map_or(patience, |cancel| patience.unless(cancel))
    }

    pub(super) fn out(&self, text: impl Into<Vec<u8>>) {
        (self.say)(&Message::Out(text.into()));
    }

    pub(super) fn err(&self, text: impl Into<Vec<u8>>) {
        let text = text.into();
        if !text.is_empty() {
            (self.say)(&Message::Err(text));
        }
    }

    /// Says how far the work is, where somebody can see it.
    pub(super) fn progress(&self, text: impl FnOnce() -> String) {
        if self.shows_progress {
            (self.say)(&Message::Progress(text().into_bytes()));
        }
    }

    /// Says how long the next message may take.
    pub(super) fn within(&self, limit: std::time::Duration) {
        (self.say)(&Message::Within(
            u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        ));
    }

    /// What is printed of one target.
    pub(super) fn told(&self, report: &Report) -> LastWords {
        if self.options.quiet && self.is_terminal {
            let mut shown = report.clone();
            shown.target = text::escaped(&report.target);
            return told(self.options, self.verb, self.colour, &shown);
        }
        told(self.options, self.verb, self.colour, report)
    }

    /// What is printed of a target in a line of its own: as it was typed, but on a terminal, which it could do something to.
    pub(super) fn line(&self, typed: &str) -> String {
        match self.is_terminal {
            true => text::escaped(typed) + "\n",
            false => format!("{typed}\n"),
        }
    }

    /// Prints a target's end and takes back what was kept for the case that nothing is heard.
    pub(super) fn end(&self, index: usize, report: &Report) {
        (self.say)(&Message::End(number(index), self.told(report)));
    }
}

/// A status or an explanation that can't be told, with all fields of a status.
#[derive(Serialize)]
struct Untold<'r> {
    #[serde(flatten)]
    status: Status,
    verb: Verb,
    target: &'r str,
    #[serde(flatten)]
    outcome: Outcome,
    hints: &'r [String],
    error: Option<&'r str>,
    #[serde(flatten)]
    unexplained: Option<Unexplained>,
}

/// What an explanation has besides.
#[derive(Default, Serialize)]
struct Unexplained {
    held_by: Vec<()>,
    frozen_at_most_us: Option<u64>,
    holdouts: Vec<()>,
    arriving: Option<u32>,
    dying: Vec<()>,
    ladder: Vec<()>,
}

/// What is printed of one target: its line, or its object, and its trouble.
pub(super) fn told(options: &Options, verb: Verb, colour: bool, report: &Report) -> LastWords {
    let out = if options.json && matches!(report.verb, Verb::Status | Verb::Explain) {
        json(&Untold {
            status: Status::unknown(),
            verb: report.verb,
            target: &report.target,
            outcome: report.outcome,
            hints: &report.hints,
            error: report.error.as_deref(),
            unexplained: (report.verb == Verb::Explain).then(Unexplained::default),
        })
    } else if options.json && !options.verbose && report.proofs.is_some() {
        json(&Report {
            proofs: None,
            ..report.clone()
        })
    } else if options.json {
        json(report)
    } else if options.quiet {
        if report.exit() == 0 && report.outcome != Outcome::Planned {
            report.target.clone() + "\n"
        } else {
            String::new()
        }
    } else {
        let line = text::verdict(report);
        let line = if colour {
            line.map(|line| text::coloured(&line, report.exit()))
        } else {
            line
        };
        let mut text = line.map(|line| line + "\n").unwrap_or_default();
        if options.verbose {
            text += &text::details(report);
        }
        text
    };
    let (out, err) = (out.into_bytes(), text::trouble(report).into_bytes());
    // A hold's standard output is its command's.
    let (out, err) = match verb {
        Verb::Hold if options.quiet => (Vec::new(), err),
        Verb::Hold => (Vec::new(), [out, err].concat()),
        _ => (out, err),
    };
    LastWords {
        out,
        err,
        code: report.exit(),
    }
}

/// One JSON object on a line. What is not UTF-8 in a path can't be said in JSON and is replaced.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text + "\n",
        Err(error) => format!("{{\"schema\":1,\"error\":\"{error}\"}}\n"),
    }
}

/// A report on a target that was not resolved.
pub(super) fn unresolved(verb: Verb, target: &str, error: &Error) -> Report {
    let mut report = Report::blank(verb, target);
    report.outcome = untouched_end(error);
    report.error = Some(error.to_string());
    report.hints = error.hints();
    report
}

/// The exit code of several targets with different ends.
pub(super) const DIFFERENT: u8 = 12;

/// The exit code of several targets: theirs where it is one and the same.
pub(super) fn joined(codes: impl IntoIterator<Item = u8>) -> u8 {
    let mut codes = codes.into_iter();
    let first = codes.next().unwrap_or(0);
    if codes.all(|code| code == first) {
        first
    } else {
        DIFFERENT
    }
}

/// What is printed of a target if nothing at all is heard of it.
pub(super) fn unheard(options: &Options, verb: Verb, target: &str) -> LastWords {
    let mut report = Report::blank(verb, target);
    report.error = Some(
        "nothing was heard in time: a read that comes before anything is written hangs, or the process that does \
         the work was killed; nothing was written"
            .to_owned(),
    );
    told(options, verb, false, &report)
}

pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
