//! The command line: a thin layer over the library. One file per verb; every sentence is in `human.rs`.

mod args;
mod child;
mod demo;
mod human;
mod list;
mod path;
mod status;
mod targets;
mod verb;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};

use clap::Parser;

use crate::engine::report::Report;
use crate::engine::{self, untouched_end};
use crate::error::{Error, Result};
use crate::freezer::Standing;
use crate::host::Host;
use args::{Cli, Color, Verb};
use child::{Ended, Line, Message, Will};

/// Runs the command line `argv`, prints what is to be printed, and returns the exit code.
#[must_use]
pub fn run(argv: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed standard output or error is not worth an error of its own.
            let _ = if error.use_stderr() {
                write!(io::stderr(), "{error}")
            } else {
                write!(io::stdout(), "{error}")
            };
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    if let Verb::DemoTask { kind } = &cli.verb {
        return demo::task(kind);
    }
    let colour = match cli.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    // Read before there is a child: it has no standard input.
    let typed = match targets::typed(&cli.verb) {
        Ok(typed) => typed,
        Err(error) => return complain(&error, 2),
    };
    match child::supervise(|line, cancel| {
        let host = match Host::at(&cli.root) {
            Ok(host) => host,
            Err(error) => {
                line.say(&Message::Err(format!("iceaxe: {error}\n").into_bytes()));
                return untouched_end(&error).1;
            }
        };
        let context = Context {
            cli: &cli,
            colour,
            host: &host,
            line,
            cancel,
        };
        match &cli.verb {
            Verb::Thaw(thaw) => verb::thaw(&context, thaw, &typed),
            Verb::Freeze(freeze) => verb::freeze(&context, freeze, &typed),
            Verb::Status(status) => status::run(&context, status, &typed),
            Verb::List => list::run(&context),
            Verb::Path(path) => path::run(&context, path, &typed),
            Verb::Demo => demo::run(&context),
            Verb::DemoTask { .. } => 2, // done above, without a child
        }
    }) {
        Ended::Code(code) => code,
        Ended::Silent(wills) => execute(&wills),
        Ended::Signal(signal, wills) => {
            if !wills.is_empty() {
                execute(&wills);
            }
            child::die_by(signal)
        }
        Ended::Died(wills, undo) => {
            let died = "the process that did the work died";
            match (undo.is_empty(), wills.is_empty()) {
                (false, _) if put_back(&cli, &undo) == 0 => {
                    complain(format_args!("{died}; what it had changed was put back"), 1)
                }
                (_, false) => execute(&wills),
                _ => complain(format_args!("{died} before it said its end"), 1),
            }
        }
    }
}

/// What every verb is given.
struct Context<'c> {
    cli: &'c Cli,
    /// Whether verdicts are coloured; told before there is a child, which has no terminal.
    colour: bool,
    host: &'c Host,
    line: &'c Line,
    cancel: Option<std::os::fd::BorrowedFd<'c>>,
}

impl Context<'_> {
    fn out(&self, text: impl Into<Vec<u8>>) {
        self.line.say(&Message::Out(text.into()));
    }

    fn err(&self, text: impl Into<Vec<u8>>) {
        let text = text.into();
        if !text.is_empty() {
            self.line.say(&Message::Err(text));
        }
    }

    /// Says how long the next message may take.
    fn within(&self, limit: std::time::Duration) {
        self.line.say(&Message::Within(
            u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        ));
    }

    /// What is printed of one target: its line, or its object, and its trouble.
    fn told(&self, report: &Report) -> Will {
        let out = if self.cli.json {
            json(report)
        } else if self.cli.quiet {
            if report.exit == 0 {
                report.target.clone() + "\n"
            } else {
                String::new()
            }
        } else {
            let line = human::verdict(report);
            let line = if self.colour {
                line.map(|line| human::coloured(&line, report.exit))
            } else {
                line
            };
            let mut text = line.map(|line| line + "\n").unwrap_or_default();
            if self.cli.verbose {
                text += &human::details(report);
            }
            text
        };
        Will {
            out: out.into_bytes(),
            err: human::trouble(report).into_bytes(),
            code: report.exit,
        }
    }

    /// Prints a target's end and takes back what was kept for the case that nothing is heard.
    fn end(&self, index: usize, report: &Report) {
        let told = self.told(report);
        self.out(told.out);
        self.err(told.err);
        self.line.say(&Message::Settled(number(index)));
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// One JSON object on a line. What is not UTF-8 in a path can't be said in JSON and is replaced.
fn json(value: &impl serde::Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text + "\n",
        Err(error) => format!("{{\"schema\":1,\"error\":\"{error}\"}}\n"),
    }
}

/// A report on a target that was not resolved.
fn unresolved(verb: &str, target: &str, error: &Error) -> Report {
    let mut report = Report::blank(verb, target);
    (report.outcome, report.exit) = untouched_end(error);
    report.error = Some(error.to_string());
    report.hints = targets::hints(error);
    report
}

/// The exit code of several targets: theirs where it is one and the same, else 12.
fn joined(codes: impl IntoIterator<Item = u8>) -> u8 {
    let mut codes = codes.into_iter();
    let first = codes.next().unwrap_or(0);
    if codes.all(|code| code == first) {
        first
    } else {
        12
    }
}

/// Prints the wills that are in force.
fn execute(wills: &[Will]) -> u8 {
    for will in wills {
        // Nobody is left to tell that it could not be printed; the code still says it.
        let _ = io::stdout().write_all(&will.out);
        let _ = io::stderr().write_all(&will.err);
    }
    if wills.is_empty() {
        return complain("nothing was heard in time from the process that does the work", 1);
    }
    joined(wills.iter().map(|will| will.code))
}

/// Puts back, in another child, what a dead one had changed.
fn put_back(cli: &Cli, undo: &[Vec<u8>]) -> u8 {
    let ended = child::supervise(|line, _| {
        let back = || -> Result<()> {
            let host = Host::at(&cli.root)?;
            for text in undo {
                let standing: Standing =
                    serde_json::from_slice(text).map_err(|error| Error::Usage(error.to_string()))?;
                engine::put_back(&host, &standing)?;
            }
            Ok(())
        };
        match back() {
            Ok(()) => 0,
            Err(error) => {
                line.say(&Message::Err(
                    format!("iceaxe: cannot roll back: {error}\n").into_bytes(),
                ));
                7
            }
        }
    });
    match ended {
        Ended::Code(code) => code,
        _ => 7,
    }
}

fn complain(what: impl std::fmt::Display, code: u8) -> u8 {
    // A closed standard error is not worth an error of its own.
    let _ = writeln!(io::stderr(), "iceaxe: {what}");
    code
}
