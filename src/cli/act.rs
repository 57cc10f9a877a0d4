//! Acts on what was resolved, and tells how each target ended. What is to be said if a write never returns is said before
//! it is done.

use std::time::{Duration, Instant};

use super::batches::Plan;
use super::options::Parallel;
use super::recorder::{self, Recorder};
use super::targets::Targets;
use super::text;
use crate::cli::context::{Context, DIFFERENT, joined, number};
use crate::engine::{self, Step, Watcher, quoted};
use crate::freezer::{Saved, Write};
use crate::patience::Patience;
use crate::report::{Effective, Outcome, Report, Requested, Verb};
use crate::resolver::{Believed, Container, Details, Runtime};
use crate::supervisor::Message;

/// How long after its limit the work may take to look why (200 ms), to undo (300 ms) and to say so, on a host that is busy
/// with other things, before it counts as hanging.
const GRACE: Duration = Duration::from_millis(1400);
/// And how much longer for each target: a look at a few hundred tasks.
const GRACE_EACH: Duration = Duration::from_millis(20);
/// From so many writes of one target on its last words stay as they are.
const MANY_WRITES: usize = 16;
/// From so many targets on each has the same last words for its write and for what comes after: others would cost as much as
/// the write.
const MANY_TARGETS: usize = 64;
/// How long the verdict waits for the engine's record, which may be on a disk that hangs.
const NAME: Duration = Duration::from_millis(250);

/// Does a verb's work on containers, each with its target as typed.
pub(super) type Engine<'e> = &'e dyn Fn(&[(&str, &Container)], Patience<'_>, Watcher<'_>) -> Vec<Report>;

/// How a verb does it.
pub(super) struct Way {
    /// The limit for each target.
    pub(super) timeout: Duration,
    /// Whether the steps are printed.
    pub(super) trace: bool,
    pub(super) plan: Plan,
}

impl Way {
    /// All at once, and without words on the way.
    pub(super) fn at_once(timeout: Duration) -> Self {
        Self {
            timeout,
            trace: false,
            plan: Plan::new(Parallel { parallel: None }),
        }
    }
}

/// Does it, and returns the exit code.
pub(super) fn act(
    context: &Context<'_>,
    targets: &Targets,
    code: Option<u8>,
    way: &Way,
    recorder: Option<&Recorder<'_>>,
    engine: Engine<'_>,
) -> u8 {
    let mut ends = Ends::new(code);
    for (index, report) in targets.lost() {
        ends.tell(context, index, report);
    }
    let found = targets.found();
    let mut records = targets.records(context.host);
    let containers: Vec<(&str, &Container)> = found
        .iter()
        .map(|(_, typed, container)| (*typed, *container))
        .collect();
    // A freeze first waits for whoever changes the same container.
    let turn = if recorder.is_some() {
        way.timeout
    } else {
        Duration::ZERO
    };
    let limit = turn + way.timeout + GRACE + GRACE_EACH * number(containers.len());
    let mut all_last_words = Announcer {
        context,
        found: &found,
        limit,
        trace: way.trace,
        started: Instant::now(),
        standing: found.iter().map(|_| None).collect(),
        last: None,
    };
    let batches = way.plan.start(context, &containers, limit);
    let mut reports = batches.run(
        &|containers, watcher| engine(containers, context.patience(way.timeout), watcher),
        &mut |nth, report, step| all_last_words.step(nth, report, step),
        &mut |lot, reports| {
            if let Some(recorder) = recorder.filter(|_| lot.end == found.len()) {
                recorder.frozen();
            }
            let ended = if recorder.is_none() {
                recorder::Ended::look(context)
            } else {
                None
            };
            for (report, (_, _, container)) in reports.iter_mut().zip(&found[lot.clone()]) {
                let is_over = report.after.requested == Some(Requested::Thawed) || report.outcome.is_gone();
                match &ended {
                    Some(ended) if report.outcome == Outcome::Planned => ended.plan(container, report),
                    Some(ended) if is_over => ended.end(container, report),
                    _ => {}
                }
                learn(report, records.next(NAME));
            }
            if lot.end == found.len() && !context.is_cancelled() {
                (context.say)(&Message::Committed);
            }
            for (report, (index, _, _)) in reports.iter_mut().zip(&found[lot]) {
                if targets.is_selected(*index) {
                    skip_gone(report);
                }
                // Freezes are one set: they count, and are told, when all are done.
                if report.verb != Verb::Freeze {
                    ends.tell(context, *index, report);
                }
            }
        },
    );
    // Once for all that follows: who gives up, or is killed, from here on is met by the question whether all was printed.
    let is_cancelled = context.is_cancelled();
    let mut unsaid = Vec::new();
    for ((report, before), (index, _, container)) in
        reports.iter_mut().zip(all_last_words.standing).zip(&found)
    {
        if report.verb != Verb::Freeze {
            continue; // it is told already
        }
        let froze = report.outcome == Outcome::Confirmed;
        if let Some(before) = before.filter(|_| froze) {
            if is_cancelled {
                undo(context, report, recorder, container, &before);
            } else {
                unsaid.push((report.target.clone(), *container, before));
            }
        }
        ends.tell(context, *index, report);
    }
    let told = !context.options.quiet && !context.options.json;
    if let Some(skew) = reports.iter().find_map(|report| report.skew_us).filter(|_| told) {
        context.err(text::skew(
            reports.iter().filter(|report| report.skew_us.is_some()).count(),
            skew,
        ));
    }
    if !is_cancelled {
        hand_over(context, recorder, &unsaid);
    } else if let Some(recorder) = recorder {
        recorder.drop_all();
    }
    ends.joined(context)
}

/// Makes sure that who is to print the freezes has done so, and gives them to who keeps their records. What was not said is
/// undone: who is to print it may be killed with the words still on their way.
fn hand_over(context: &Context<'_>, recorder: Option<&Recorder<'_>>, frozen: &[(String, &Container, Saved)]) {
    let left = recorder.and_then(Recorder::left);
    let is_said = frozen.is_empty() && recorder.is_none() || context.link.is_printed(context.say, left);
    if !is_said {
        for (target, container, before) in frozen {
            let target = text::escaped(target);
            // Where neither a signal came at the last moment nor the time was over nobody is left to be told.
            let why = match left {
                Some(_) if !context.is_cancelled() => "its time was over before its freeze could be told",
                _ => "broken off by a signal",
            };
            context.err(match take_back(context, recorder, container, before) {
                Ok(()) => format!("iceaxe: {target}: {why}; rolled back\n"),
                Err(error) => format!("iceaxe: {target} may be frozen: {error}\n"),
            });
        }
    }
    match recorder {
        Some(recorder) if is_said => {
            if let Err(error) = recorder.settle() {
                context.err(format!(
                    "iceaxe: note: {error}: iceaxe recover thaws it at its time\n"
                ));
            }
        }
        Some(recorder) => recorder.drop_all(),
        None => {}
    }
}

/// Leaves last words for each target at each step: what is to be said, and put back, if nothing more is heard.
struct Announcer<'a> {
    context: &'a Context<'a>,
    found: &'a [(usize, &'a str, &'a Container)],
    /// How long each may take from its write on.
    limit: Duration,
    /// Whether the steps are printed.
    trace: bool,
    started: Instant,
    /// What stood before the freeze of each.
    standing: Vec<Option<Saved>>,
    /// Whose write was the last.
    last: Option<usize>,
}

impl Announcer<'_> {
    /// Takes note of a step of the target at that place.
    fn step(&mut self, nth: usize, report: &Report, step: &Step) {
        let (index, typed, _) = self.found[nth];
        if self.trace
            && let Some(line) = text::step(typed, elapsed_us(self.started), step)
        {
            self.context.err(line + "\n");
        }
        match step {
            Step::Saved(before) => {
                let error = "the process that did the work was killed; rolled back";
                let undone = ended(report, Outcome::RolledBack, error, None);
                self.undo(index, before, &undone);
                self.standing[nth] = Some(before.clone());
            }
            Step::Writing(write) => self.write_begins(nth, report, write),
            Step::Written(_) if report.writes.len() > MANY_WRITES || self.found.len() > MANY_TARGETS => {}
            Step::Written(_) => {
                let error = "the write returned, but nothing was heard since: a read of the state hangs in the \
                             kernel, or the process that does it was killed";
                self.last_words(index, &ended(report, Outcome::Stuck, error, None));
            }
            // A freeze counts when all are told; until then it is undone with the others.
            Step::Done if report.verb == Verb::Freeze && report.outcome == Outcome::Confirmed => {
                let error = "it was frozen, but the work on another target hangs";
                let hint = Some("it is thawed again when that returns");
                self.last_words(index, &ended(report, Outcome::Stuck, error, hint));
            }
            Step::Done => self.last_words(index, report),
            Step::Killing => {
                if let Some(before) = &self.standing[nth] {
                    let error = "the process that did the work was killed while it killed";
                    let hint = Some("it is thawed; iceaxe kill it again");
                    let broken = ended(report, Outcome::Released, error, hint);
                    self.undo(index, before, &broken);
                }
            }
            Step::Rescuing(_) => self.context.within(self.limit),
            Step::Dying(all) => {
                for task in all {
                    let (typed, dying) = (text::escaped(typed), text::dying(task));
                    self.context.err(format!("iceaxe: note: {typed}: {dying}\n"));
                }
            }
            Step::Settled | Step::Released | Step::TellingEngine | Step::Task { .. } => {}
        }
    }

    fn write_begins(&mut self, nth: usize, report: &Report, write: &Write) {
        // Each target has its own time from its own request on. The last words of many writes of one are as good as that of
        // the first few, and would cost more than the writes.
        if self.last.replace(nth) != Some(nth) {
            self.context.within(self.limit);
        } else if report.writes.len() > MANY_WRITES {
            return;
        }
        let hint = match report.verb {
            Verb::Thaw | Verb::Kill => "the write is still on its way: look again with iceaxe status",
            _ => "the write is still on its way, and is undone when it returns",
        };
        let file = write.file.display();
        let what = if self.found.len() > MANY_TARGETS {
            "nothing was heard since it was begun: it may not have returned"
        } else {
            "the write did not return"
        };
        let error = format!("write {} to {file}: {what}", write.value);
        let stuck = ended(report, Outcome::Stuck, &error, Some(hint));
        self.last_words(self.found[nth].0, &stuck);
    }

    /// What is said if nothing more is heard.
    fn last_words(&self, index: usize, last_words: &Report) {
        (self.context.say)(&Message::LastWords(number(index), self.context.told(last_words)));
    }

    /// What is put back, and said then, if this process dies.
    fn undo(&self, index: usize, before: &Saved, undone: &Report) {
        // It is plain data, which can always be said in JSON.
        if let Ok(text) = serde_json::to_vec(before) {
            (self.context.say)(&Message::Undo(number(index), text, self.context.told(undone)));
        }
    }
}

/// A report as far as it got, with another end.
fn ended(report: &Report, outcome: Outcome, error: &str, hint: Option<&str>) -> Report {
    let mut report = report.clone();
    report.end(outcome);
    report.error = Some(error.to_owned());
    report.hints.extend(hint.map(str::to_owned));
    report
}

/// How the targets of a verb ended.
#[derive(Default)]
struct Ends {
    codes: Vec<u8>,
    tally: text::Tally,
}

impl Ends {
    /// None so far but what comes before all targets.
    fn new(code: Option<u8>) -> Self {
        Self {
            codes: code.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Tells of one.
    fn tell(&mut self, context: &Context<'_>, index: usize, report: &Report) {
        context.end(index, report);
        self.codes.push(report.exit());
        self.tally.add(report);
    }

    /// The exit code of all. Where they differ it is said how many ended how, but to a program.
    fn joined(self, context: &Context<'_>) -> u8 {
        let code = joined(self.codes);
        if code == DIFFERENT && !context.options.json {
            context.err(format!("iceaxe: {}\n", self.tally.line()));
        }
        code
    }
}

/// What ended after it was selected, and before anything was written, is nothing that was meant any more.
fn skip_gone(report: &mut Report) {
    if report.outcome.is_gone() && report.writes.is_empty() {
        report.outcome = Outcome::Ended;
        report.error = None;
        report.hints = vec!["it ended before anything was written: skipped".to_owned()];
    }
}

/// Puts back what stood before a freeze that nobody is left to be told of.
fn undo(
    context: &Context<'_>,
    report: &mut Report,
    recorder: Option<&Recorder<'_>>,
    container: &Container,
    before: &Saved,
) {
    report.error = Some("broken off by a signal; rolled back".to_owned());
    report.outcome = Outcome::RolledBack;
    if let Err(error) = take_back(context, recorder, container, before) {
        report.error = Some(format!(
            "broken off by a signal; and it could not be rolled back: {error}"
        ));
        report.outcome = Outcome::Stuck;
    }
}

/// Undoes a freeze whose lock is given back: others may have come to count on it.
fn take_back(
    context: &Context<'_>,
    recorder: Option<&Recorder<'_>>,
    container: &Container,
    before: &Saved,
) -> crate::error::Result<()> {
    match recorder {
        Some(recorder) => recorder.take_back(container, before),
        None => engine::put_back(context.host, before),
    }
}

/// Adds what the engine has on record: the name, and what it will get wrong now.
fn learn(report: &mut Report, details: Option<Details>) {
    let Some(details) = details else { return };
    if report.name.is_none() {
        report.name = details.name;
    }
    if report.verb == Verb::Freeze && report.exit() == 0 && report.runtime == Some(Runtime::Lxc) {
        report.hints.push(
            "lxc-unfreeze does nothing for what lxc-freeze did not freeze: iceaxe thaw it, or lxc-freeze it first".to_owned(),
        );
    }
    let engine = report.runtime.map(Runtime::name).unwrap_or("the engine");
    let thawed = matches!(report.after.effective, Some(Effective::Thawed));
    let frozen = matches!(report.after.effective, Some(Effective::Frozen));
    match details.believed {
        Some(Believed::Paused) if thawed && report.verb == Verb::Thaw && details.unpauses_what_is_thawed => {
            report.hints.push(format!(
                "{engine} still believes that it is paused: its own unpause brings it back in step"
            ));
        }
        Some(Believed::Paused) if thawed && report.verb == Verb::Thaw => report.hints.push(format!(
            "{engine} still believes that it is paused, and its own unpause will fail with \"container not paused\": \
             with the engine well again, iceaxe resync {} brings it back in step",
            quoted(&report.target)
        )),
        Some(Believed::Running) if frozen && report.verb == Verb::Freeze => report.hints.push(format!(
            "{engine} does not know that it is frozen: a stop or restart now kills it without its shutdown; \
             iceaxe thaw it first"
        )),
        _ => {}
    }
}

fn elapsed_us(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
