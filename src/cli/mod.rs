//! The command line: a thin layer over the library. One file per verb; every sentence is in `text`.

mod act;
mod args;
mod batches;
mod context;
mod disks;
mod options;
mod recorder;
mod select;
mod survey;
mod targets;
mod text;
mod verbs;

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

use crate::engine::{self, untouched_end};
use crate::error::{Error, Result};
use crate::freezer::Saved;
use crate::hold::guard;
use crate::host::Host;
use crate::report::Verb;
use crate::store::Process;
use crate::supervisor::{
    self, Announce, ChildCommand, Ended, LastWords, MOST_URGENT, Message, News, raise_limit,
};
use args::{Cli, Request};
use context::{Context, joined, number, unheard, unresolved};
use options::Color;

pub use crate::supervisor::Streams;

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
            return if is_hold(argv) { verbs::hold::NOT_RUN } else { 2 };
        }
        Err(help) => {
            streams.out(help.to_string().as_bytes());
            return 0;
        }
    };
    if let Request::DemoTask(task) = &cli.request {
        return verbs::demo::task(&task.kind);
    }
    let (options, (verb, work)) = (&cli.options, cli.request.parts());
    let colour = match options.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            streams.is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    let shows_progress = streams.shows_progress && !options.quiet;
    // Read before there is a child: it has no standard input.
    let typed = match targets::typed(verb, work.targets()) {
        Ok(typed) => typed,
        Err(error) => {
            let code = if verb == Verb::Hold {
                verbs::hold::NOT_RUN
            } else {
                2
            };
            return complain(streams, &error, code);
        }
    };
    // It is there before anybody does anything.
    let guard = (work.needs_guard() && !options.dry_run).then(|| guard::post(&options.root));
    let line = guard.as_ref().and_then(|guard| guard.as_ref().ok());
    let (words, tell, ends): (&[OsString], &dyn Fn(News), bool) = match &cli.request {
        Request::Hold(args) => (
            &args.command,
            &|news| verbs::hold::tell(options, args, line, news),
            !args.let_run,
        ),
        _ => (&[], &|_| {}, false),
    };
    let is_terminal = streams.is_terminal;
    let priority = rustix::process::getpriority_process(None).unwrap_or(0); // of oneself it is always told
    let mut command = ChildCommand::new(
        words,
        priority,
        tell,
        line.filter(|_| ends)
            .map(|line| (line.number(), guard::announce as Announce)),
    );
    // What is to be helped may have hundreds of tasks for each CPU, and each word goes through both processes. Without the
    // right to it it takes longer, no more.
    let _ = rustix::process::setpriority_process(None, MOST_URGENT);
    let all_last_words = match verb {
        Verb::Watch => BTreeMap::from([(u32::MAX, unwatched())]),
        _ => typed
            .iter()
            .enumerate()
            .map(|(index, target)| (number(index), unheard(options, verb, &target.to_string_lossy())))
            .collect(),
    };
    let ended = supervisor::supervise(streams, all_last_words, &mut command, &|say, link| {
        raise_limit();
        let host = match Host::enter(&options.root) {
            Ok(host) => host,
            Err(error) => {
                say(&Message::Err(format!("iceaxe: {error}\n").into_bytes()));
                return untouched_end(&error).exit();
            }
        };
        let context = Context {
            options,
            verb,
            colour,
            is_terminal,
            shows_progress,
            host: &host,
            priority,
            guard: guard.as_ref(),
            say,
            link,
        };
        if let Err(code) = can_look(&context, &typed) {
            return code;
        }
        work.run(&context, &typed)
    });
    let code = match ended {
        Ended::Code(code) => code,
        Ended::Silent(worker, all_last_words) => {
            give_up(worker, matches!(guard, Some(Ok(_))));
            execute(streams, all_last_words)
        }
        Ended::Signal(signal, worker, all_last_words) => {
            if !all_last_words.is_empty() {
                give_up(worker, matches!(guard, Some(Ok(_))));
                execute(streams, all_last_words);
            }
            supervisor::die_by(signal)
        }
        Ended::Died(mut all_last_words, undo) => {
            let died = "the process that did the work died";
            let (standing, undone): (Vec<_>, Vec<_>) = undo
                .into_iter()
                .map(|(index, (standing, undone))| (standing, (index, undone)))
                .unzip();
            if !standing.is_empty() && put_back(streams, &cli, &standing) == 0 {
                all_last_words.extend(undone);
            }
            if all_last_words.is_empty() {
                return complain(streams, format_args!("{died} before it said its end"), 1);
            }
            complain(streams, died, 0);
            let code = execute(streams, all_last_words.into_values().collect());
            // What was told may not have come to stay: who answers for it was not told of its end.
            code.max(1)
        }
    };
    let code = if verb == Verb::Hold {
        let code = verbs::hold::code(code, command.code(), options.dry_run);
        if code == verbs::hold::BROKEN {
            streams.err(verbs::hold::told_broken(command.code()).as_bytes());
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
    if context.verb == Verb::Recover {
        return Ok(());
    }
    let Err(error) = context.host.check_freezer() else {
        return Ok(());
    };
    let verb = context.verb;
    if typed.is_empty() {
        let report = unresolved(verb, "", &error);
        context.err(text::trouble(&report));
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

/// Whether a command line that is not understood is one of a hold.
fn is_hold(argv: Vec<OsString>) -> bool {
    let lenient = Cli::command().ignore_errors(true).try_get_matches_from(argv);
    lenient.is_ok_and(|matches| matches.subcommand_name() == Some("hold"))
}

/// What is printed if a watch is not heard of any more.
fn unwatched() -> LastWords {
    // What was told before of any of its targets is as it is.
    let err = "iceaxe: cannot watch any longer: a read hangs, or the process that does the work was killed: what was told \
               last may not be so any more\n";
    LastWords {
        err: err.as_bytes().to_vec(),
        code: 1,
        ..LastWords::default()
    }
}

/// Prints the last words that are in force.
fn execute(streams: &mut Streams<'_>, all_last_words: Vec<LastWords>) -> u8 {
    for last_words in &all_last_words {
        streams.out(&last_words.out);
        streams.err(&last_words.err);
    }
    if all_last_words.is_empty() {
        return complain(
            streams,
            "nothing was heard in time from the process that does the work",
            1,
        );
    }
    joined(all_last_words.iter().map(|last_words| last_words.code))
}

/// Puts back, in another child, what a dead one had changed.
fn put_back(streams: &mut Streams<'_>, cli: &Cli, undo: &[Vec<u8>]) -> u8 {
    let ended = supervisor::supervise(
        streams,
        BTreeMap::new(),
        &mut ChildCommand::default(),
        &|say, _| {
            let back = || -> Result<()> {
                let host = Host::enter(&cli.options.root)?;
                let me = Process::parent(&host);
                // What a hold has on record no more was ended: who froze it since did so for others.
                let is_recorded = matches!(&cli.request, Request::Hold(hold) if !hold.no_record);
                let mut failed = Ok(());
                for text in undo {
                    let standing: Saved =
                        serde_json::from_slice(text).map_err(|error| Error::Usage(error.to_string()))?;
                    let is_over = |me| {
                        recorder::is_held_by_others(&host, me, &standing)
                            || is_recorded && recorder::is_ended(&host, me, &standing)
                    };
                    if !me.is_some_and(is_over)
                        && let Err(error) = engine::put_back(&host, &standing)
                    {
                        failed = Err(error);
                        continue; // it stays on record
                    }
                    me.inspect(|&me| recorder::forget(&host, me, &standing));
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
        },
    );
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
