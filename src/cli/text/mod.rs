//! Sentences for people. They say what the report says and never more; what a container chose (names, comm) is
//! escaped on the way to the screen.

mod resync;
mod state;
mod tally;
mod tree;
mod watch;

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::engine::Step;
use crate::error::short_id;
use crate::report::{Acts, Counts, Does, Effective, Outcome, Report, Requested, Rescue, Sent, Verb};
use crate::resolver::Runtime;
use crate::verifier::Holdout;

use resync::resynced;
pub(crate) use resync::{planned, proceed};
pub(crate) use state::{
    COLUMNS, dying, explanation, formatted, measurements, row, silent_outside, status, table, unseen_outside,
};
pub(crate) use tally::Tally;
pub(crate) use tree::tree;
pub(crate) use watch::screen;

/// How many processes are named in one line; the JSON output has all.
const MOST_SENT: usize = 10;

/// The characters that format others, and those that separate lines and paragraphs (Cf, Zl and Zp of Unicode 16), with the
/// blanks that some fonts have for letters.
const INVISIBLE: [RangeInclusive<char>; 24] = [
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// Escapes what would move the cursor, turn the text around or not be seen.
pub(crate) fn escaped(text: &str) -> String {
    let dangerous = |c: char| c.is_control() || INVISIBLE.iter().any(|range| range.contains(&c));
    text.chars()
        .fold(String::with_capacity(text.len()), |mut out, c| {
            if dangerous(c) {
                out.extend(c.escape_unicode());
            } else {
                out.push(c);
            }
            out
        })
}

/// A path, escaped.
pub(crate) fn path(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

/// `web (docker 5978aaee22d5)`, with as much of it as is known.
pub(crate) fn who(target: &str, name: Option<&str>, runtime: Option<&str>, id: Option<&str>) -> String {
    let called = escaped(name.unwrap_or(target));
    let inside: Vec<String> = [runtime.map(str::to_owned), id.map(|id| escaped(short_id(id)))]
        .into_iter()
        .flatten()
        .filter(|part| *part != called)
        .collect();
    if inside.is_empty() {
        called
    } else {
        format!("{called} ({})", inside.join(" "))
    }
}

fn who_of(report: &Report) -> String {
    who(
        &report.target,
        report.name.as_deref(),
        report.runtime.map(Runtime::name),
        report.id.as_deref(),
    )
}

/// The verdict on a thaw, a freeze or a kill, in a line; `None` where there is nothing to say but an error.
pub(crate) fn verdict(report: &Report) -> Option<String> {
    let who = who_of(report);
    let freeze = report.verb == Verb::Freeze;
    match report.verb {
        Verb::Kill => return killed(report, &who),
        Verb::Resync => return resynced(report, &who),
        _ => {}
    }
    let head = match report.outcome {
        Outcome::Confirmed if freeze => format!("froze {who}"),
        Outcome::Confirmed if report.after.effective == Some(Effective::Frozen) => {
            format!("took back the freeze of {who}")
        }
        Outcome::Confirmed => format!("thawed {who}"),
        Outcome::Unchanged if freeze => format!("{who} was frozen already"),
        // Nothing was looked at: another holder, or who froze it before, keeps it so.
        Outcome::Unchanged if report.after.effective.is_none() => format!("left {who} as it is"),
        Outcome::Unchanged => format!("{who} was thawed already"),
        Outcome::Released => format!("released {who}, not proven to run"),
        // Its own tasks are not: a cgroup inside is, which need not have any.
        Outcome::Held if report.after.effective == Some(Effective::Thawed) => {
            format!("thawed {who}, but not what is frozen inside it")
        }
        Outcome::Held => format!("{who} is still frozen"),
        Outcome::RolledBack => format!("did not freeze {who}"),
        Outcome::Gone | Outcome::Ended => format!("{who} is gone"),
        Outcome::Stuck => format!("{who} may be frozen"),
        Outcome::Planned if report.writes.is_empty() => format!("nothing to write for {who}"),
        Outcome::Planned => {
            let writes: Vec<String> = report
                .writes
                .iter()
                .map(|write| format!("{} to {}", write.value, path(&write.file)))
                .collect();
            format!("would write {} for {who}", writes.join(", "))
        }
        _ => return None,
    };
    let mut line = head;
    if let Some(counts) = report.tasks.filter(|_| !report.outcome.is_gone()) {
        let _ = write!(line, ": {}", tasks(counts, report)); // writing to a String can't fail
    }
    if let Some(pulses) = report.pulses.filter(|&pulses| pulses > 0) {
        let _ = write!(line, "; thawed for a moment and asked again, {pulses} times"); // as above
    }
    Some(line + &took(report))
}

/// `killed web (docker 5978aaee22d5): 12 tasks: 12 exited, and nothing of it ran in between; 3.1 ms`, or
/// `sent TERM to web (docker 5978aaee22d5): process 41 nginx handles it when thawed`.
fn killed(report: &Report, who: &str) -> Option<String> {
    if !report.signals.is_empty() {
        let planned = report.outcome == Outcome::Planned;
        let sent = if planned { "would send" } else { "sent" };
        let name = &report.signals[0].signal;
        let mut each: Vec<String> = report.signals.iter().take(MOST_SENT).map(effect).collect();
        if report.signals.len() > MOST_SENT {
            each.push(format!("and {} more", report.signals.len() - MOST_SENT));
        }
        return Some(format!("{sent} {name} to {who}: {}", each.join(", ")));
    }
    let head = match report.outcome {
        Outcome::Confirmed => format!("killed {who}"),
        Outcome::Released => format!("killed {who}, not all of it is gone"),
        Outcome::Held => format!("killed {who}, it is still frozen"),
        Outcome::RolledBack => format!("did not kill {who}"),
        Outcome::Gone | Outcome::Ended => format!("{who} is gone"),
        Outcome::Stuck => format!("{who} may be frozen"),
        Outcome::Planned => format!("would kill {who}"),
        _ => return None,
    };
    let mut line = head;
    if let Some(counts) = report.tasks {
        let _ = write!(line, ": {}", tasks(counts, report)); // writing to a String can't fail
    }
    match report.ran_between {
        Some(false) => line += ", and nothing of it ran in between",
        Some(true) => line += ", and some of it may have run in between",
        None => {}
    }
    Some(line + &took(report))
}

/// `process 41 nginx handles it when thawed`.
fn effect(sent: &Sent) -> String {
    let does = match sent.does {
        Does::Ends => "ends",
        Does::Stops => "stops",
        Does::Continues => "goes on",
        Does::Handles => "handles it",
        Does::Nothing => "does nothing about it",
    };
    let acts = match sent.acts {
        Acts::Now => " at once",
        Acts::AfterThaw => " when thawed",
        Acts::WhenUnblocked => " when it no longer blocks it",
        Acts::WhenContinued => " when it is let go on",
        Acts::WhenWoken => " when what it waits for in the kernel comes",
        Acts::Never => "",
    };
    format!("process {} {} {does}{acts}", sent.pid, escaped(&sent.comm))
}

/// `; 0.8 ms`, where anything was timed.
fn took(report: &Report) -> String {
    let mut line = String::new();
    if let (Some(settle), Some(verify)) = (report.settle_us, report.verify_us)
        && !matches!(report.outcome, Outcome::Planned | Outcome::Gone | Outcome::Ended)
    {
        let _ = write!(line, "; {}", duration(settle + verify)); // as above
    }
    line
}

/// A verdict in green, yellow (not all is as wanted) or red (somebody must look); the words say the same.
pub(crate) fn coloured(line: &str, exit: u8) -> String {
    let colour = match exit {
        0 => 32,
        1 | 7 => 31,
        _ => 33,
    };
    format!("\x1b[{colour}m{line}\x1b[0m")
}

/// `12 tasks: 8 ran, 3 restored, 1 stopped (cannot show)`.
fn tasks(counts: Counts, report: &Report) -> String {
    let named = |parts: &[(u32, &str)]| {
        let parts: Vec<String> = parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}"))
            .collect();
        parts.join(", ")
    };
    let (total, parts) = match counts {
        Counts::Thaw(thawed) => {
            let mut parts = named(&[
                (thawed.ran, "ran"),
                (thawed.restored, "restored"),
                (thawed.woken, "woken, not seen on a CPU"),
                (thawed.released, "released, not seen"),
            ]);
            let classes: Vec<(u32, String)> = report
                .unprovable_classes
                .iter()
                .map(|(class, n)| (*n, format!("{class} (cannot show)")))
                .collect();
            let classes: Vec<(u32, &str)> = classes.iter().map(|(n, text)| (*n, text.as_str())).collect();
            let rest = named(&[
                (thawed.unknown, "unknown (no evidence here)"),
                (thawed.exited, "exited"),
                (thawed.new, "new"),
                (
                    thawed.holdouts,
                    if report.verb == Verb::Kill {
                        "not gone"
                    } else {
                        "still held"
                    },
                ),
            ]);
            for more in [named(&classes), rest] {
                if !more.is_empty() {
                    parts = if parts.is_empty() {
                        more
                    } else {
                        format!("{parts}, {more}")
                    };
                }
            }
            (thawed.total, parts)
        }
        Counts::Freeze(frozen) => (
            frozen.total,
            named(&[
                (frozen.frozen, "frozen"),
                (frozen.new, "new and frozen"),
                (frozen.unprovable, "cannot show"),
                (frozen.unknown, "unknown (no evidence here)"),
                (frozen.exited, "exited"),
                (frozen.holdouts, "not frozen"),
            ]),
        ),
    };
    let noun = noun(total);
    if parts.is_empty() {
        format!("{total} {noun}")
    } else {
        format!("{total} {noun}: {parts}")
    }
}

fn noun(tasks: u32) -> &'static str {
    if tasks == 1 { "task" } else { "tasks" }
}

/// `0.8 ms`, `12 ms`, `3.1 s`.
pub(crate) fn duration(us: u64) -> String {
    match us {
        0..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

/// How far apart several froze.
pub(crate) fn skew(count: usize, us: u64) -> String {
    let apart = duration(us);
    format!("iceaxe: note: {count} frozen together, the last {apart} after the first\n")
}

/// The lines that `-v` adds.
pub(crate) fn details(report: &Report) -> String {
    let mut text = String::new();
    for write in &report.writes {
        let done = if report.outcome == Outcome::Planned {
            "would write"
        } else {
            "wrote"
        };
        text += &format!("  {done} {} to {}\n", write.value, path(&write.file));
    }
    for cgroup in &report.cgroups {
        text += &format!(
            "  v{} {}: {}{} -> {}\n",
            cgroup.version,
            path(&cgroup.path),
            state::shared(cgroup.shared),
            effective(cgroup.before.effective),
            effective(cgroup.after.effective)
        );
    }
    text
}

/// What goes to standard error of a target that did not end well: the error, who holds out, what to do.
pub(crate) fn trouble(report: &Report) -> String {
    let mut text = String::new();
    if let Some(error) = &report.error {
        let act = match (report.verb, report.outcome) {
            (Verb::Kill, Outcome::Released | Outcome::Held) => "confirm the end of",
            (Verb::Resync, _) => "bring back in step",
            (verb, _) => act(verb),
        };
        // What is done to no target in particular has none.
        let what = match report.target.as_str() {
            "" => act.trim_end_matches(" of").to_owned(),
            target => format!("{act} {}", escaped(target)),
        };
        text += &format!("iceaxe: cannot {what}: {}\n", escaped(error));
    }
    if report.exit() != 0 {
        report
            .holdouts
            .iter()
            .for_each(|task| text += &format!("  {}\n", holdout(task)));
    }
    if let Some(rescue) = report.rescue.as_ref().filter(|rescue| !rescue.tried.is_empty()) {
        text += &format!("rescue: {}\n", rescued(rescue));
    }
    for hint in &report.hints {
        text += &format!("hint: {}\n", escaped(hint));
    }
    text
}

/// `tried wait, rekick, ancestors: ancestors worked`.
fn rescued(rescue: &Rescue) -> String {
    let tried: Vec<&str> = rescue
        .tried
        .iter()
        .map(|rescue_step| rescue_step.word())
        .collect();
    let end = match rescue.worked {
        Some(rescue_step) => format!("{} worked", rescue_step.word()),
        None => "none worked".to_owned(),
    };
    format!("tried {}: {end}", tried.join(", "))
}

/// What could not be done, in words.
pub(crate) fn act(verb: Verb) -> &'static str {
    match verb {
        Verb::Status => "tell the status of",
        Verb::Path => "tell the path of",
        Verb::Tree => "show the tree of",
        Verb::Watch => "follow",
        other => other.word(),
    }
}

/// `task 42 mysqld (process 41): D in nfs_wait, uninterruptible on nfs`.
pub(crate) fn holdout(task: &Holdout) -> String {
    let place = task.wchan.as_ref().map(|wchan| format!(" in {wchan}"));
    let on = task.on.as_ref().map(|on| format!(" on {}", on.word()));
    let by = task.by.as_ref().map(|by| match &by.comm {
        Some(comm) => format!(" by {} {}", by.pid, escaped(comm)),
        None => format!(" by {}", by.pid),
    });
    let stack = (!task.stack.is_empty()).then(|| format!(" [{}]", task.stack.join(" < ")));
    format!(
        "task {} {} (process {}): {}{}, {}{}{}{}",
        task.tid,
        escaped(&task.comm),
        task.pid,
        task.state,
        place.unwrap_or_default(),
        task.class.word(),
        on.unwrap_or_default(),
        by.unwrap_or_default(),
        stack.unwrap_or_default()
    )
}

/// A step of `--trace`, `us` after the start.
pub(crate) fn step(target: &str, us: u64, step: &Step) -> Option<String> {
    let what = match step {
        Step::Saved(_) | Step::Dying(_) | Step::Killing => return None,
        Step::Rescuing(rescue_step) => format!("rescue: {}", rescue_step.word()),
        Step::Writing(write) => format!("writing {} to {}", write.value, path(&write.file)),
        Step::Written(_) => "write returned".to_owned(),
        Step::Settled => "settled".to_owned(),
        Step::Released => "released".to_owned(),
        Step::Task { tid, proof } => format!("task {tid} {}", proof.word()),
        Step::TellingEngine => "telling its engine to unpause it".to_owned(),
        Step::Done => "verdict".to_owned(),
    };
    Some(format!("{:>10} {}: {what}", duration(us), escaped(target)))
}

pub(crate) fn requested(state: Option<Requested>) -> &'static str {
    match state {
        Some(Requested::Frozen) => "frozen",
        Some(Requested::Thawed) => "thawed",
        None => "-",
    }
}

pub(crate) fn effective(state: Option<Effective>) -> &'static str {
    match state {
        Some(Effective::Frozen) => "frozen",
        Some(Effective::Freezing) => "freezing",
        Some(Effective::Thawed) => "thawed",
        None => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::ThawedCounts;

    #[test]
    fn the_verdict_is_one_line() {
        let mut report = Report::blank(Verb::Thaw, "web");
        report.runtime = Some(Runtime::Docker);
        report.id = Some("5978aaee22d5".to_owned() + &"0".repeat(52));
        report.outcome = Outcome::Confirmed;
        report.settle_us = Some(310);
        report.verify_us = Some(520);
        report.unprovable_classes = [("stopped".to_owned(), 1)].into();
        report.tasks = Some(Counts::Thaw(ThawedCounts {
            total: 12,
            ran: 8,
            restored: 3,
            unprovable: 1,
            ..ThawedCounts::default()
        }));
        assert_eq!(
            verdict(&report).unwrap(),
            "thawed web (docker 5978aaee22d5): 12 tasks: 8 ran, 3 restored, 1 stopped (cannot show); 0.8 ms"
        );
    }

    #[test]
    fn nothing_that_a_container_chose_moves_the_cursor() {
        assert_eq!(escaped("a\x1b[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c\\u{a}d");
        assert_eq!(escaped("naïve 木"), "naïve 木");
        assert_eq!(escaped("\u{61c}\u{e0041}\u{2066}"), "\\u{61c}\\u{e0041}\\u{2066}");
    }

    #[test]
    fn durations_are_short() {
        for (us, text) in [
            (0, "0.0 ms"),
            (830, "0.8 ms"),
            (12_345, "12 ms"),
            (3_140_000, "3.1 s"),
        ] {
            assert_eq!(duration(us), text);
        }
    }
}
