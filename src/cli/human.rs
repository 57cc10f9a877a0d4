//! Sentences for people. They say what the report says and never more; what a container chose (names, comm) is
//! escaped on the way to the screen.

use std::fmt::Write as _;
use std::path::Path;

use crate::engine::Step;
use crate::engine::report::{Counts, Effective, Outcome, Outsider, Report, Requested, Status};
use crate::error::{Error, short_id};
use crate::verifier::Holdout;

/// How many processes are named in one line; the JSON output has all.
const MOST_OUTSIDERS: usize = 10;

/// Escapes what would move the cursor or turn the text around.
pub(crate) fn escaped(text: &str) -> String {
    let dangerous = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
    };
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
        report.runtime.as_deref(),
        report.id.as_deref(),
    )
}

/// The verdict on a thaw or a freeze, in a line; `None` where there is nothing to say but an error.
pub(crate) fn verdict(report: &Report) -> Option<String> {
    let who = who_of(report);
    let freeze = report.verb == "freeze";
    let head = match report.outcome {
        Outcome::Confirmed if freeze => format!("froze {who}"),
        Outcome::Confirmed => format!("thawed {who}"),
        Outcome::Unchanged if freeze => format!("{who} was frozen already"),
        Outcome::Unchanged => format!("{who} was thawed already"),
        Outcome::Released => format!("released {who}, not proven to run"),
        Outcome::Held => format!("{who} is still frozen"),
        Outcome::RolledBack => format!("did not freeze {who}"),
        Outcome::Gone => format!("{who} is gone"),
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
    if let Some(counts) = report.tasks.filter(|_| report.outcome != Outcome::Gone) {
        let _ = write!(line, ": {}", tasks(counts, report)); // writing to a String can't fail
    }
    if let (Some(settle), Some(verify)) = (report.settle_us, report.verify_us)
        && !matches!(report.outcome, Outcome::Planned | Outcome::Gone)
    {
        let _ = write!(line, "; {}", duration(settle + verify)); // as above
    }
    Some(line)
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
                (thawed.holdouts, "still held"),
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
            "  v{} {}: {} -> {}\n",
            cgroup.version,
            path(&cgroup.path),
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
        text += &format!(
            "iceaxe: cannot {} {}: {}\n",
            act(&report.verb),
            escaped(&report.target),
            escaped(error)
        );
    }
    if report.exit != 0 {
        report
            .holdouts
            .iter()
            .for_each(|task| text += &format!("  {}\n", holdout(task)));
    }
    for hint in &report.hints {
        text += &format!("hint: {}\n", escaped(hint));
    }
    text
}

/// What could not be done, in words.
fn act(verb: &str) -> &str {
    match verb {
        "status" => "tell the status of",
        "path" => "tell the path of",
        other => other,
    }
}

/// `task 42 mysqld (process 41): D in nfs_wait, uninterruptible`.
pub(crate) fn holdout(task: &Holdout) -> String {
    let place = task
        .wchan
        .as_ref()
        .map(|wchan| format!(" in {wchan}"))
        .unwrap_or_default();
    let stack = if task.stack.is_empty() {
        String::new()
    } else {
        format!(" [{}]", task.stack.join(" < "))
    };
    format!(
        "task {} {} (process {}): {}{place}, {}{stack}",
        task.tid,
        escaped(&task.comm),
        task.pid,
        task.state,
        task.class
    )
}

/// A step of `--trace`, `us` after the start.
pub(crate) fn step(target: &str, us: u64, step: &Step) -> Option<String> {
    let what = match step {
        Step::Standing(_) => return None,
        Step::Writing(write) => format!("writing {} to {}", write.value, path(&write.file)),
        Step::Written(_) => "write returned".to_owned(),
        Step::Settled => "settled".to_owned(),
        Step::Released => "released".to_owned(),
        Step::Task { tid, proof } => format!("task {tid} {}", proof.word()),
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

/// A status for a screen: the answer first, then what it rests on.
pub(crate) fn status(target: &str, status: &Status, holdouts: &[Holdout]) -> String {
    let who = who(
        target,
        status.name.as_deref(),
        status.runtime.as_deref(),
        status.id.as_deref(),
    );
    let mut text = format!("{who}: {}", effective(status.effective));
    if status.agree == Some(false) {
        let engine = status.runtime.as_deref().unwrap_or("its engine");
        text += &format!(
            ", but {engine} believes {}",
            escaped(status.believed.as_deref().unwrap_or("otherwise"))
        );
    }
    text.push('\n');
    text += &format!(
        "  requested  {}\n  effective  {}\n",
        requested(status.requested),
        effective(status.effective)
    );
    if let Some(tasks) = status.tasks {
        text += &format!(
            "  observed   {} {}: {} frozen, {} running",
            tasks.total,
            noun(tasks.total),
            tasks.frozen,
            tasks.running
        );
        for (n, word) in [
            (tasks.unprovable, "cannot show"),
            (tasks.unknown, "unknown"),
            (tasks.holdouts, "holding out"),
        ] {
            if n > 0 {
                text += &format!(", {n} {word}");
            }
        }
        text.push('\n');
    }
    text += &format!(
        "  believed   {}\n",
        escaped(status.believed.as_deref().unwrap_or("-"))
    );
    for cgroup in &status.cgroups {
        text += &format!(
            "  v{}  {}: requested {}, effective {}",
            cgroup.version,
            path(&cgroup.dir),
            requested(cgroup.requested),
            effective(cgroup.effective)
        );
        if !cgroup.frozen_by.is_empty() {
            let by: Vec<String> = cgroup.frozen_by.iter().map(|by| path(by)).collect();
            text += &format!(", frozen by {}", by.join(", "));
        }
        text.push('\n');
    }
    holdouts
        .iter()
        .for_each(|task| text += &format!("  {}\n", holdout(task)));
    if let Some(outsiders) = status.outside.as_deref().filter(|all| !all.is_empty()) {
        text += &format!("  {}\n", outside(outsiders));
    }
    text
}

/// `2 processes of its PID namespace are outside of its cgroup, and are not frozen with it: 41 sh (v1:/), 42 sleep
/// (v1:/x)`.
fn outside(all: &[Outsider]) -> String {
    let (processes, are) = if all.len() == 1 {
        ("process", "is")
    } else {
        ("processes", "are")
    };
    let mut named: Vec<String> = all
        .iter()
        .take(MOST_OUTSIDERS)
        .map(|one| format!("{} {} ({})", one.pid, escaped(&one.comm), escaped(&one.cgroup)))
        .collect();
    if all.len() > MOST_OUTSIDERS {
        named.push(format!("and {} more", all.len() - MOST_OUTSIDERS));
    }
    format!(
        "{} {processes} of its PID namespace {are} outside of its cgroup, and {are} not frozen with it: {}",
        all.len(),
        named.join(", ")
    )
}

/// A note that nobody knows whether there are such processes.
pub(crate) fn unseen_outside(target: &str, error: &Error) -> String {
    format!(
        "iceaxe: note: whether processes of its PID namespace are outside of the cgroup of {} can't be told: {}\n",
        escaped(target),
        escaped(&error.to_string())
    )
}

/// The columns of `list`.
pub(crate) const COLUMNS: [&str; 7] = [
    "NAME",
    "ID",
    "RUNTIME",
    "REQUESTED",
    "EFFECTIVE",
    "BELIEVED",
    "TASKS",
];

/// A container's row in `list`.
pub(crate) fn row(status: &Status) -> [String; 7] {
    let text = |value: Option<&str>| value.map_or_else(|| "-".to_owned(), escaped);
    let mark = if status.agree == Some(false) { " !" } else { "" };
    [
        text(status.name.as_deref()),
        text(status.id.as_deref().map(short_id)),
        text(status.runtime.as_deref()),
        requested(status.requested).to_owned(),
        effective(status.effective).to_owned(),
        format!("{}{mark}", text(status.believed.as_deref())),
        status
            .tasks
            .map_or_else(|| "-".to_owned(), |tasks| tasks.total.to_string()),
    ]
}

/// Lines up rows under their heads.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let heads = heads.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().chain([&heads]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in [&heads].into_iter().chain(rows) {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::report::ThawedCounts;

    #[test]
    fn the_verdict_is_one_line() {
        let mut report = Report::blank("thaw", "web");
        report.runtime = Some("docker".to_owned());
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
