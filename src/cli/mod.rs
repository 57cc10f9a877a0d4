//! The command line: a thin layer over the library. One file per verb; every sentence is in `human`.

mod act;
mod args;
mod child;
mod demo;
mod disks;
mod errand;
mod explain;
mod guard;
mod hold;
mod human;
mod keeper;
mod list;
mod message;
mod path;
mod recover;
mod resync;
mod select;
mod status;
mod streams;
mod survey;
mod targets;
mod tie;
mod tree;
mod turns;
mod verb;
mod watch;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::engine::{self, untouched_end};
use crate::error::{Error, Result};
use crate::freezer::Standing;
use crate::host::Host;
use crate::ledger::Process;
use crate::patience::Patience;
use crate::report::{Outcome, Report, Status};
use args::{Cli, Color, Freeze, Verb};
use child::Ended;
use errand::{Errand, News};
use message::{Message, Will};
use tie::{Say, Tie};

pub use streams::Streams;

/// Runs the command line `argv`, writes what is to be said to `streams`, and returns the exit code.
///
/// It works in a child process, and blocks the signals that end a program: a process with other threads must not call
/// it but for `--help`, `--version` and errors of usage.
#[must_use]
pub fn run(argv: impl IntoIterator<Item = OsString>, mut streams: Streams<'_>) -> u8 {
    let streams = &mut streams;
    let argv: Vec<OsString> = argv.into_iter().collect();
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            streams.err(error.to_string().as_bytes());
            // Its other codes are the command's.
            return if is_hold(argv) { hold::NOT_RUN } else { 2 };
        }
        Err(help) => {
            streams.out(help.to_string().as_bytes());
            return 0;
        }
    };
    if let Verb::DemoTask { kind } = &cli.verb {
        return demo::task(kind);
    }
    let colour = match cli.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            streams.is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    let shows_progress = streams.shows_progress && !cli.quiet;
    // Read before there is a child: it has no standard input.
    let typed = match targets::typed(&cli.verb) {
        Ok(typed) => typed,
        Err(error) => {
            let code = if matches!(cli.verb, Verb::Hold(_)) {
                hold::NOT_RUN
            } else {
                2
            };
            return complain(streams, &error, code);
        }
    };
    let guard = match &cli.verb {
        // It is there before anybody does anything.
        Verb::Freeze(Freeze { lasting: Some(_), .. }) | Verb::Hold(_) | Verb::Recover if !cli.dry_run => {
            Some(guard::post(&cli.root))
        }
        _ => None,
    };
    let line = guard.as_ref().and_then(|guard| guard.as_ref().ok());
    let (words, tell, ends): (&[OsString], &dyn Fn(News), bool) = match &cli.verb {
        Verb::Hold(args) => (
            &args.command,
            &|news| hold::tell(&cli, args, line, news),
            !args.let_run,
        ),
        _ => (&[], &|_| {}, false),
    };
    let is_terminal = streams.is_terminal;
    let priority = rustix::process::getpriority_process(None).unwrap_or(0); // of oneself it is always told
    let mut errand = Errand::new(
        words,
        priority,
        tell,
        line.filter(|_| ends).map(guard::Line::number),
    );
    // What is to be helped may have hundreds of tasks for each CPU, and each word goes through both processes. Without the
    // right to it it takes longer, no more.
    let _ = rustix::process::setpriority_process(None, MOST_URGENT);
    let wills = match cli.verb {
        Verb::Watch(_) => BTreeMap::from([(u32::MAX, unwatched())]),
        _ => typed
            .iter()
            .enumerate()
            .map(|(index, target)| {
                (
                    number(index),
                    unheard(&cli, cli.verb.name(), &target.to_string_lossy()),
                )
            })
            .collect(),
    };
    let ended = child::supervise(streams, wills, &mut errand, &|say, tie| {
        raise_limit();
        let host = match Host::enter(&cli.root) {
            Ok(host) => host,
            Err(error) => {
                say(&Message::Err(format!("iceaxe: {error}\n").into_bytes()));
                return untouched_end(&error).exit();
            }
        };
        let context = Context {
            cli: &cli,
            colour,
            is_terminal,
            shows_progress,
            host: &host,
            priority,
            guard: guard.as_ref(),
            say,
            tie,
        };
        if let Err(code) = can_look(&context, &typed) {
            return code;
        }
        match &cli.verb {
            Verb::Thaw(thaw) => verb::thaw(&context, thaw, &typed),
            Verb::Freeze(freeze) => verb::freeze(&context, freeze, &typed),
            Verb::Status(status) => status::run(&context, status, &typed),
            Verb::Kill(kill) => verb::kill(&context, kill, &typed),
            Verb::Explain(explain) => explain::run(&context, explain, &typed),
            Verb::Hold(hold) => hold::run(&context, hold, &typed),
            Verb::Recover => recover::run(&context),
            Verb::List(args) => list::run(&context, args),
            Verb::Tree(args) => tree::run(&context, args),
            Verb::Watch(_) => watch::run(&context, &typed),
            Verb::Path(path) => path::run(&context, path, &typed),
            Verb::Resync(resync) => resync::run(&context, resync, &typed),
            Verb::Demo => demo::run(&context),
            Verb::DemoTask { .. } => 2, // done above, without a child
        }
    });
    let code = match ended {
        Ended::Code(code) => code,
        Ended::Silent(worker, wills) => {
            give_up(worker, matches!(guard, Some(Ok(_))));
            execute(streams, wills)
        }
        Ended::Signal(signal, worker, wills) => {
            if !wills.is_empty() {
                give_up(worker, matches!(guard, Some(Ok(_))));
                execute(streams, wills);
            }
            child::die_by(signal)
        }
        Ended::Died(mut wills, undo) => {
            let died = "the process that did the work died";
            let (standing, undone): (Vec<_>, Vec<_>) = undo
                .into_iter()
                .map(|(index, (standing, undone))| (standing, (index, undone)))
                .unzip();
            if !standing.is_empty() && put_back(streams, &cli, &standing) == 0 {
                wills.extend(undone);
            }
            if wills.is_empty() {
                return complain(streams, format_args!("{died} before it said its end"), 1);
            }
            complain(streams, died, 0);
            let code = execute(streams, wills.into_values().collect());
            // What was told may not have come to stay: who answers for it was not told of its end.
            code.max(1)
        }
    };
    let code = if matches!(cli.verb, Verb::Hold(_)) {
        let code = hold::code(code, errand.code(), cli.dry_run);
        if code == hold::BROKEN {
            streams.err(hold::told_broken(errand.code()).as_bytes());
        }
        code
    } else {
        code
    };
    streams.verdict(code)
}

/// Refuses the verb on a host where no freezer is mounted, whichever it is: what could not be looked at is not "nothing
/// there". Says where one may have been overlooked. The error is the exit code.
fn can_look(context: &Context<'_>, typed: &[OsString]) -> std::result::Result<(), u8> {
    if let Some(why) = context.host.unlooked() {
        context.err(format!(
            "iceaxe: note: a cgroup hierarchy may be mounted elsewhere: {why}\n"
        ));
    }
    // What was left behind has file systems too, which are thawed without any cgroup.
    if matches!(context.cli.verb, Verb::Recover) {
        return Ok(());
    }
    let Err(error) = context.host.check_freezer() else {
        return Ok(());
    };
    let verb = context.cli.verb.name();
    if typed.is_empty() {
        let report = unresolved(verb, "", &error);
        context.err(human::trouble(&report));
        return Err(report.exit());
    }
    let each = typed.iter().enumerate().map(|(index, word)| {
        let report = unresolved(verb, &word.to_string_lossy(), &error);
        context.end(index, &report);
        report.exit()
    });
    Err(joined(each))
}

/// Ends a process that does not answer, where a guard thaws what it leaves: that waits for its end. Without one it is the
/// only one left to undo what it began.
fn give_up(worker: nix::unistd::Pid, is_guarded: bool) {
    if is_guarded {
        // It has just ended, then.
        let _ = nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGKILL);
    }
}

/// As many open files as any work here needs: four for each of ten thousand containers, and some.
const FILES: u64 = 1 << 16;

/// Lets this process open as many files as it may: who acts on many containers holds them open. With CAP_SYS_RESOURCE that
/// is more than its caller may. Where the limit stays, less is looked at.
fn raise_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let more = most.max(FILES);
        let _ = setrlimit(Resource::RLIMIT_NOFILE, more, more)
            .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    }
}

/// Whether a command line that is not understood is one of a hold.
fn is_hold(argv: Vec<OsString>) -> bool {
    let lenient = Cli::command().ignore_errors(true).try_get_matches_from(argv);
    lenient.is_ok_and(|matches| matches.subcommand_name() == Some("hold"))
}

/// The priority of what iceaxe does itself.
const MOST_URGENT: i32 = -20;

/// What every verb is given.
struct Context<'c> {
    cli: &'c Cli,
    /// Whether verdicts are coloured; told before there is a child, which has no terminal.
    colour: bool,
    /// Whether results go to a terminal.
    is_terminal: bool,
    /// Whether it is shown how far the work is; as above.
    shows_progress: bool,
    host: &'c Host,
    /// The priority that iceaxe was started with, which is that of programs that it runs.
    priority: i32,
    /// The guard, where one was asked for, or why there is none.
    guard: Option<&'c std::io::Result<guard::Line>>,
    say: Say<'c>,
    tie: Tie<'c>,
}

impl Context<'_> {
    /// The guard.
    fn guard(&self) -> Result<&guard::Line> {
        let none = |why: &str| Error::Unsupported(format!("no guard could be made: {why}"));
        match self.guard {
            Some(Ok(line)) => Ok(line),
            Some(Err(error)) => Err(none(&error.to_string())),
            None => Err(none("it was not asked for")),
        }
    }

    /// The limit for each target.
    fn timeout(&self, default: std::time::Duration) -> std::time::Duration {
        self.cli.timeout.unwrap_or(default)
    }

    /// Whether somebody asked to give up.
    fn is_cancelled(&self) -> bool {
        self.patience(std::time::Duration::ZERO).start().is_cancelled()
    }

    /// Patience that ends early when somebody asks to give up.
    fn patience(&self, limit: std::time::Duration) -> Patience<'_> {
        let patience = Patience::of(limit);
        self.tie.cancel.map_or(patience, |cancel| patience.unless(cancel))
    }

    fn out(&self, text: impl Into<Vec<u8>>) {
        (self.say)(&Message::Out(text.into()));
    }

    fn err(&self, text: impl Into<Vec<u8>>) {
        let text = text.into();
        if !text.is_empty() {
            (self.say)(&Message::Err(text));
        }
    }

    /// Says how far the work is, where somebody can see it.
    fn progress(&self, text: impl FnOnce() -> String) {
        if self.shows_progress {
            (self.say)(&Message::Progress(text().into_bytes()));
        }
    }

    /// Says how long the next message may take.
    fn within(&self, limit: std::time::Duration) {
        (self.say)(&Message::Within(
            u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        ));
    }

    /// What is printed of one target.
    fn told(&self, report: &Report) -> Will {
        if self.cli.quiet && self.is_terminal {
            let mut shown = report.clone();
            shown.target = human::escaped(&report.target);
            return told(self.cli, self.colour, &shown);
        }
        told(self.cli, self.colour, report)
    }

    /// What is printed of a target in a line of its own: as it was typed, but on a terminal, which it could do something to.
    fn line(&self, typed: &str) -> String {
        match self.is_terminal {
            true => human::escaped(typed) + "\n",
            false => format!("{typed}\n"),
        }
    }

    /// Prints a target's end and takes back what was kept for the case that nothing is heard.
    fn end(&self, index: usize, report: &Report) {
        (self.say)(&Message::End(number(index), self.told(report)));
    }
}

/// A status or an explanation that can't be told, with all fields of a status.
#[derive(Serialize)]
struct Untold<'r> {
    #[serde(flatten)]
    status: Status,
    verb: &'r str,
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
fn told(cli: &Cli, colour: bool, report: &Report) -> Will {
    let out = if cli.json && matches!(report.verb.as_str(), "status" | "explain") {
        json(&Untold {
            status: Status::unknown(),
            verb: &report.verb,
            target: &report.target,
            outcome: report.outcome,
            hints: &report.hints,
            error: report.error.as_deref(),
            unexplained: (report.verb == "explain").then(Unexplained::default),
        })
    } else if cli.json && !cli.verbose && report.proofs.is_some() {
        json(&Report {
            proofs: None,
            ..report.clone()
        })
    } else if cli.json {
        json(report)
    } else if cli.quiet {
        if report.exit() == 0 && report.outcome != Outcome::Planned {
            report.target.clone() + "\n"
        } else {
            String::new()
        }
    } else {
        let line = human::verdict(report);
        let line = if colour {
            line.map(|line| human::coloured(&line, report.exit()))
        } else {
            line
        };
        let mut text = line.map(|line| line + "\n").unwrap_or_default();
        if cli.verbose {
            text += &human::details(report);
        }
        text
    };
    let (out, err) = (out.into_bytes(), human::trouble(report).into_bytes());
    // A hold's standard output is its command's.
    let (out, err) = match cli.verb {
        Verb::Hold(_) if cli.quiet => (Vec::new(), err),
        Verb::Hold(_) => (Vec::new(), [out, err].concat()),
        _ => (out, err),
    };
    Will {
        out,
        err,
        code: report.exit(),
    }
}

/// What is printed if a watch is not heard of any more.
fn unwatched() -> Will {
    // What was told before of any of its targets is as it is.
    let err = "iceaxe: cannot watch any longer: a read hangs, or the process that does the work was killed: what was told \
               last may not be so any more\n";
    Will {
        err: err.as_bytes().to_vec(),
        code: 1,
        ..Will::default()
    }
}

/// What is printed of a target if nothing at all is heard of it.
fn unheard(cli: &Cli, verb: &str, target: &str) -> Will {
    let mut report = Report::blank(verb, target);
    report.error = Some(
        "nothing was heard in time: a read that comes before anything is written hangs, or the process that does \
         the work was killed; nothing was written"
            .to_owned(),
    );
    told(cli, false, &report)
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
    report.outcome = untouched_end(error);
    report.error = Some(error.to_string());
    report.hints = error.hints();
    report
}

/// The exit code of several targets with different ends.
const DIFFERENT: u8 = 12;

/// The exit code of several targets: theirs where it is one and the same.
fn joined(codes: impl IntoIterator<Item = u8>) -> u8 {
    let mut codes = codes.into_iter();
    let first = codes.next().unwrap_or(0);
    if codes.all(|code| code == first) {
        first
    } else {
        DIFFERENT
    }
}

/// Prints the wills that are in force.
fn execute(streams: &mut Streams<'_>, wills: Vec<Will>) -> u8 {
    for will in &wills {
        streams.out(&will.out);
        streams.err(&will.err);
    }
    if wills.is_empty() {
        return complain(
            streams,
            "nothing was heard in time from the process that does the work",
            1,
        );
    }
    joined(wills.iter().map(|will| will.code))
}

/// Puts back, in another child, what a dead one had changed.
fn put_back(streams: &mut Streams<'_>, cli: &Cli, undo: &[Vec<u8>]) -> u8 {
    let ended = child::supervise(streams, BTreeMap::new(), &mut Errand::default(), &|say, _| {
        let back = || -> Result<()> {
            let host = Host::enter(&cli.root)?;
            let me = Process::parent(&host);
            // What a hold has on record no more was ended: who froze it since did so for others.
            let is_recorded = matches!(&cli.verb, Verb::Hold(hold) if !hold.no_record);
            let mut failed = Ok(());
            for text in undo {
                let standing: Standing =
                    serde_json::from_slice(text).map_err(|error| Error::Usage(error.to_string()))?;
                let is_over = |me| {
                    keeper::is_held_by_others(&host, me, &standing)
                        || is_recorded && keeper::is_ended(&host, me, &standing)
                };
                if !me.is_some_and(is_over)
                    && let Err(error) = engine::put_back(&host, &standing)
                {
                    failed = Err(error);
                    continue; // it stays on record
                }
                me.inspect(|&me| keeper::forget(&host, me, &standing));
            }
            failed
        };
        match back() {
            Ok(()) => 0,
            Err(error) => {
                say(&Message::Err(
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

fn complain(streams: &mut Streams<'_>, what: impl std::fmt::Display, code: u8) -> u8 {
    streams.err(format!("iceaxe: {what}\n").as_bytes());
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argv: &[&str], code: u8, out: &str, err: &str) {
        let (mut written, mut said) = (Vec::new(), Vec::new());
        let streams = Streams::new(&mut written, &mut said, false);
        assert_eq!(run(argv.iter().map(OsString::from), streams), code, "{argv:?}");
        let (written, said) = (
            String::from_utf8(written).unwrap(),
            String::from_utf8(said).unwrap(),
        );
        assert!(
            written.contains(out) && out.is_empty() == written.is_empty(),
            "{argv:?}: {written}"
        );
        assert!(
            said.contains(err) && err.is_empty() == said.is_empty(),
            "{argv:?}: {said}"
        );
    }

    #[test]
    fn usage_errors_end_in_2_and_help_in_0() {
        check(&["iceaxe", "--help"], 0, "demo", "");
        check(&["iceaxe", "--version"], 0, env!("CARGO_PKG_VERSION"), "");
        check(&["iceaxe"], 2, "", "Usage");
        check(&["iceaxe", "thaw"], 2, "", "TARGET");
        check(&["iceaxe", "melt", "web"], 2, "", "melt");
        check(
            &["iceaxe", "freeze", "--force=all-of-it", "web"],
            2,
            "",
            "all-of-it",
        );
        check(&["iceaxe", "thaw", "--timeout", "soon", "web"], 2, "", "soon");
        check(&["iceaxe", "-q", "-v", "thaw", "web"], 2, "", "--verbose");
    }
}
