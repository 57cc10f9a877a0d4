//! Sentences about what is so: `status`, `list`, `explain`.

use std::collections::BTreeSet;
use std::path::Path;

use super::{duration, effective, escaped, holdout, noun, path, requested, who};
use crate::error::{Error, short_id};
use crate::report::{
    Advice, CgroupStatus, Dying, Effective, Explanation, Holder, Holding, Holds, Outsider, Requested, Status,
};
use crate::resolver::{Believed, Runtime};
use crate::store::Kind;
use crate::verifier::{Class, Holdout};

/// How many processes are named in one line, and how many tasks of a kind in an explanation; the JSON output has all.
const MOST_OUTSIDERS: usize = 10;
const MOST_TASKS: usize = 20;

/// A status for a screen: the answer first, then what it rests on.
pub(crate) fn status(target: &str, status: &Status, holdouts: &[Holdout]) -> String {
    let who = called(target, status);
    let mut text = format!("{who}: {}", effective(status.effective));
    if status.agree == Some(false) {
        let engine = status.runtime.map(Runtime::name).unwrap_or("its engine");
        text += &format!(
            ", but {engine} believes {}",
            status.believed.map_or("otherwise", Believed::word)
        );
    }
    text.push('\n');
    text += &all_held(status);
    text += &states(status);
    holdouts
        .iter()
        .for_each(|task| text += &format!("  {}\n", holdout(task)));
    if let Some(outsiders) = status.outside.as_deref().filter(|all| !all.is_empty()) {
        text += &format!("  {}\n", outside(outsiders));
    }
    text
}

/// Who holds it, a line each.
fn all_held(status: &Status) -> String {
    let is_thawed = |holder: &Holding| {
        holder.through.is_none() && status.requested == Some(Requested::Thawed)
            || status.effective == Some(Effective::Thawed)
    };
    let lines = status
        .holders
        .iter()
        .map(|holder| format!("  held       {}\n", held(holder, is_thawed(holder))));
    lines.collect()
}

/// One who holds it frozen, or would, had nobody else thawed it.
fn held(holder: &Holding, is_thawed: bool) -> String {
    let kind = match holder.kind {
        Kind::Freeze => "a freeze",
        Kind::Lease => "a lease",
        Kind::Hold => "a hold",
    };
    let mut text = format!("by {kind} for {}", duration(holder.held_for_us));
    if let Some(left) = holder.left_us {
        text += &format!(", which ends in {}", duration(left));
    }
    if let Some(by) = holder.by {
        text += &format!(", by process {by}");
    }
    if let Some(comm) = &holder.by_comm {
        text += &format!(" {}", escaped(comm));
    }
    let command = holder
        .command
        .as_deref()
        .map(|command| format!(" ({})", escaped(command)));
    let command = command.unwrap_or_default();
    text += &match holder.command_pid {
        Some(pid) => format!(", until process {pid}{command} has ended"),
        None => command,
    };
    if !holder.filesystems.is_empty() {
        let paths: Vec<String> = holder.filesystems.iter().map(|at| path(at)).collect();
        text += &format!(", with the file systems of {}", paths.join(", "));
    }
    if let Some(through) = &holder.through {
        text += &format!(", through its ancestor {}", escaped(through));
    }
    if is_thawed {
        text += "; somebody else has thawed it";
    } else if !holder.answered_for {
        text += "; nobody answers for it any more: iceaxe recover";
    }
    text
}

/// Who a status is about.
fn called(target: &str, status: &Status) -> String {
    who(
        target,
        status.name.as_deref(),
        status.runtime.map(Runtime::name),
        status.id.as_deref(),
    )
}

/// The four states, a line each, and a line for each cgroup.
fn states(status: &Status) -> String {
    let mut text = String::new();
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
    text += &format!("  believed   {}\n", status.believed.map_or("-", Believed::word));
    for cgroup in &status.cgroups {
        text += &format!(
            "  v{}  {}: {}requested {}, effective {}",
            cgroup.version,
            path(&cgroup.dir),
            shared(cgroup.shared),
            requested(cgroup.requested),
            effective(cgroup.effective)
        );
        if !cgroup.frozen_by.is_empty() {
            let by: Vec<String> = cgroup.frozen_by.iter().map(|by| path(by)).collect();
            text += &format!(", frozen by {}", by.join(", "));
        }
        text.push('\n');
    }
    text
}

/// What is said of a cgroup that is not the container's own.
pub(super) fn shared(is_shared: bool) -> &'static str {
    if is_shared { "shared with others, " } else { "" }
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

/// A note on processes that may be outside too, and can't be asked; empty where there are none.
pub(crate) fn silent_outside(target: &str, silent: &[i32]) -> String {
    if silent.is_empty() {
        return String::new();
    }
    let silent: Vec<String> = silent.iter().map(ToString::to_string).collect();
    format!(
        "iceaxe: note: whether they are of the PID namespace of {} can't be told, as they do not answer: {}\n",
        escaped(target),
        silent.join(", ")
    )
}

/// The columns of `list`.
pub(crate) const COLUMNS: [&str; 11] = [
    "NAME",
    "ID",
    "RUNTIME",
    "REQUESTED",
    "EFFECTIVE",
    "BELIEVED",
    "TASKS",
    "FROZEN-FOR",
    "HELD-BY",
    "MEMORY",
    "POD",
];

/// A container's row in `list`. A mark says that its engine believes otherwise.
pub(crate) fn row(status: &Status) -> [String; COLUMNS.len()] {
    let mark = if status.agree == Some(false) { " !" } else { "" };
    COLUMNS.map(|column| match column {
        "ID" => field("short-id", status),
        "BELIEVED" => field("believed", status) + mark,
        "MEMORY" => memory(status).unwrap_or_else(none),
        "NAME" => called_otherwise(status).unwrap_or_else(|| field("name", status)),
        column => field(&column.to_ascii_lowercase(), status),
    })
}

/// What a cgroup that is no container's is called: as a target is written.
fn called_otherwise(status: &Status) -> Option<String> {
    if status.name.is_some() || status.id.is_some() {
        return None;
    }
    status.written()
}

/// What is not known.
fn none() -> String {
    "-".to_owned()
}

/// A field of a container by its name, as one word of text; an unknown name is shown as it is, in its braces.
fn field(name: &str, status: &Status) -> String {
    let text = |value: Option<&str>| value.map(escaped);
    let bytes = |value: Option<u64>| value.map(|value| value.to_string());
    let value = match name {
        "name" => text(status.name.as_deref()),
        "id" => text(status.id.as_deref()),
        "short-id" => text(status.id.as_deref().map(short_id)),
        "runtime" => text(status.runtime.map(Runtime::name)),
        "pid" => status.pid.map(|pid| pid.to_string()),
        "image" => text(status.image.as_deref()),
        "pod" => text(status.pod.as_deref()),
        "labels" => status.labels.as_ref().map(|labels| {
            let all: Vec<String> = labels
                .iter()
                .map(|(key, value)| escaped(&format!("{key}={value}")))
                .collect();
            all.join(",")
        }),
        "requested" => Some(requested(status.requested).to_owned()),
        "effective" => Some(effective(status.effective).to_owned()),
        "believed" => text(status.believed.map(Believed::word)),
        "agree" => status.agree.map(|agree| agree.to_string()),
        "tasks" => status.tasks.map(|tasks| tasks.total.to_string()),
        "frozen-for" => status.frozen_for_us.map(duration),
        "held-by" => (!status.holders.is_empty()).then(|| {
            let all: Vec<String> = status.holders.iter().map(held_by).collect();
            all.join(",")
        }),
        "memory" => bytes(status.memory.and_then(|memory| memory.current)),
        "limit" => bytes(status.memory.and_then(|memory| memory.limit)),
        "dir" => status.cgroups.first().map(|cgroup| path(&cgroup.dir)),
        other => Some(format!("{{{}}}", escaped(other))),
    };
    value.unwrap_or_else(none)
}

/// `lease:812:4m12s`: the process that answers for it, and how long it lasts. A mark says that none does.
pub(super) fn held_by(holder: &Holding) -> String {
    let kind = match holder.kind {
        Kind::Freeze => "freeze",
        Kind::Lease => "lease",
        Kind::Hold => "hold",
    };
    let mut text = format!("{kind}:{}", holder.by.unwrap_or(0));
    if let Some(left) = holder.left_us {
        text += &format!(":{}", duration(left));
    }
    if !holder.answered_for {
        text.push('!');
    }
    text
}

/// `1.2MiB/64.0MiB`.
fn memory(status: &Status) -> Option<String> {
    let memory = status.memory?;
    let current = size(memory.current?);
    Some(match memory.limit {
        Some(limit) => format!("{current}/{}", size(limit)),
        None => current,
    })
}

/// `1.2MiB`.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes}B")
    } else {
        format!("{}.{}{}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// A line by a pattern: `{name}`, or `{{.Name}}` as docker writes it, is that field; `\\t` and `\\n` are what they are
/// elsewhere.
pub(crate) fn formatted(format: &str, status: &Status) -> String {
    let mut text = String::new();
    let mut rest = format;
    while let Some(at) = rest.find(['{', '\\']) {
        text += &rest[..at];
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("\\t") {
            text.push('\t');
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("\\n") {
            text.push('\n');
            rest = after;
            continue;
        }
        let (open, close) = if rest.starts_with("{{.") {
            ("{{.", "}}")
        } else {
            ("{", "}")
        };
        let name = rest.strip_prefix(open).and_then(|rest| rest.split_once(close));
        match name {
            Some((name, after)) => {
                text += &field(&name.trim().to_ascii_lowercase(), status);
                rest = after;
            }
            None => {
                let mut chars = rest.chars();
                text.extend(chars.next());
                rest = chars.as_str();
            }
        }
    }
    text + rest
}

/// The containers as measurements in Prometheus's text format, for the node exporter's textfile collector.
pub(crate) fn measurements(all: &[Status], incomplete: usize) -> String {
    type Measure = fn(&Status) -> Option<u64>;
    let measures: [(&str, &str, Measure); 5] = [
        (
            "requested",
            "Whether its own cgroups ask for a freeze.",
            |status| Some(u64::from(status.requested? == Requested::Frozen)),
        ),
        ("frozen", "Whether its tasks are held, by whomever.", |status| {
            Some(u64::from(status.effective? == Effective::Frozen))
        }),
        (
            "freezing",
            "Whether a freeze is asked for and not settled.",
            |status| Some(u64::from(status.effective? == Effective::Freezing)),
        ),
        ("disagrees", "Whether its engine believes otherwise.", |status| {
            Some(u64::from(!status.agree?))
        }),
        ("tasks", "Its tasks.", |status| {
            Some(u64::from(status.tasks?.total))
        }),
    ];
    let mut text = String::new();
    // Whatever is on record twice: a file with one series twice is refused as a whole.
    let mut seen = BTreeSet::new();
    let all = all.iter().map(|status| (labels(status), status));
    let all: Vec<_> = all.filter(|(labels, _)| seen.insert(labels.clone())).collect();
    for (name, help, measure) in measures {
        let samples = all.iter().filter_map(|(labels, status)| {
            let value = measure(status)?;
            Some(format!("iceaxe_container_{name}{{{labels}}} {value}\n"))
        });
        let samples: String = samples.collect();
        // A head without a sample is an error to some that read the format.
        if !samples.is_empty() {
            text += &format!("# HELP iceaxe_container_{name} {help}\n# TYPE iceaxe_container_{name} gauge\n");
            text += &samples;
        }
    }
    text += "# HELP iceaxe_list_incomplete Sources that could not be read.\n# TYPE iceaxe_list_incomplete gauge\n";
    text += &format!("iceaxe_list_incomplete {incomplete}\n");
    text
}

/// The labels of a measurement, each value quoted as the format has it. Where a container is makes each series one of its
/// own, as two can have the same name; what is not known has no label.
fn labels(status: &Status) -> String {
    let place = status.cgroups.first().map(CgroupStatus::place);
    let hierarchy = place.map(|(hierarchy, _)| format!("v{}", hierarchy.version()));
    let path = place.map(|(_, path)| lossless(path));
    let runtime = status.runtime.map(|runtime| runtime.to_string());
    let labels = [
        ("id", &status.id),
        ("name", &status.name),
        ("runtime", &runtime),
        ("pod", &status.pod),
        ("hierarchy", &hierarchy),
        ("path", &path),
    ];
    let known = labels.into_iter().filter_map(|(label, value)| {
        let value = value.as_deref().filter(|value| !value.is_empty())?;
        // The format has an escape for a line break too, which is no character that is left as it is.
        let quoted = escaped(value).replace('\\', "\\\\").replace('"', "\\\"");
        Some(format!("{label}=\"{quoted}\""))
    });
    known.collect::<Vec<_>>().join(",")
}

/// A path in which each byte that is no text is told from all others.
fn lossless(path: &Path) -> String {
    let chunks = path.as_os_str().as_encoded_bytes().utf8_chunks();
    let text = chunks.map(|chunk| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii()));
    text.collect()
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

/// An explanation for a screen: the reason first, then the four states, the tasks, and what to do.
pub(crate) fn explanation(all: &Explanation) -> String {
    let state = &all.status;
    let mut text = format!("{}: {}\n", called(&all.target, state), reason(all));
    text += &all_held(state);
    text += &states(state);
    for holder in &all.held_by {
        text += &format!("  held by    {} ({})\n", escaped(&holder.cgroup), kind(holder));
    }
    if let Some(us) = all
        .frozen_at_most_us
        .filter(|_| state.effective != Some(Effective::Thawed))
    {
        text += &format!(
            "  since      at most {} (the kernel's running total)\n",
            duration(us)
        );
    }
    for task in all.holdouts.iter().take(MOST_TASKS) {
        text += &format!("  {}\n    {}\n", holdout(task), escaped(&task.meaning));
    }
    if all.holdouts.len() > MOST_TASKS {
        text += &format!("  and {} more\n", all.holdouts.len() - MOST_TASKS);
    }
    for task in &all.dying {
        text += &format!("  {}\n", dying(task));
    }
    if !all.ladder.is_empty() {
        text += "what to do, mildest first:\n";
    }
    for Advice { step, what, command } in &all.ladder {
        text += &format!(
            "  {:<9}  {}\n             {}\n",
            step.word(),
            escaped(what),
            escaped(command)
        );
    }
    text
}

/// `process 41 x has TERM pending and dies when it is thawed`.
pub(crate) fn dying(task: &Dying) -> String {
    format!(
        "process {} {} has {} pending and dies when it is thawed",
        task.pid,
        escaped(&task.comm),
        task.signals.join(", ")
    )
}

fn kind(holder: &Holder) -> &'static str {
    match holder.kind {
        Holds::Own => "its own request",
        Holds::Ancestor => "an ancestor, which holds all below it",
        Holds::Shared => "shared with others, in the other hierarchy",
        Holds::Inner => "inside of it, which holds only what is in there",
    }
}

/// Why it is as it is, in half a sentence.
fn reason(all: &Explanation) -> String {
    let state = &all.status;
    let by_others = all
        .held_by
        .iter()
        .find(|holder| matches!(holder.kind, Holds::Ancestor | Holds::Shared));
    let own = state.requested == Some(Requested::Frozen);
    // Those count as frozen where they are; that they rest has other reasons.
    let rests = |task: &&Holdout| matches!(task.class, Class::Stopped | Class::Traced | Class::VforkParent);
    let (resting, blocking): (Vec<&Holdout>, Vec<&Holdout>) = all.holdouts.iter().partition(rests);
    let classes = |tasks: &[&Holdout]| {
        let mut words: Vec<&str> = tasks.iter().map(|task| task.class.word()).collect();
        words.sort_unstable();
        words.dedup();
        words.join(", ")
    };
    let holder = state.holders.iter().find(|holder| holder.answered_for);
    match (state.effective, by_others) {
        (Some(Effective::Frozen), _) if let Some(holder) = holder => holder_in_short(holder),
        (Some(Effective::Frozen), Some(by)) if own => {
            format!("frozen, by its own request and by {}", escaped(&by.cgroup))
        }
        (Some(Effective::Frozen), Some(by)) => {
            format!(
                "frozen by {}: a thaw of its own changes nothing",
                escaped(&by.cgroup)
            )
        }
        (Some(Effective::Frozen), None) => "frozen, by its own request".to_owned(),
        (Some(Effective::Freezing), _) if blocking.is_empty() => "freezing, and on its way".to_owned(),
        (Some(Effective::Freezing), _) => {
            let n = blocking.len();
            let tasks = u32::try_from(n).map_or("tasks", noun);
            format!("freezing, and held up by {n} {tasks}: {}", classes(&blocking))
        }
        (Some(Effective::Thawed), _) => {
            let any = |class: Class| all.holdouts.iter().any(|task| task.class == class);
            if any(Class::Unmounted) {
                "thawed as far as can be seen, but held by a freezer whose hierarchy is not mounted"
                    .to_owned()
            } else if any(Class::LeftBehind) {
                "thawed, but the kernel left a task behind in the freezer".to_owned()
            } else if let Some(inner) = all.held_by.iter().find(|holder| holder.kind == Holds::Inner) {
                format!("thawed, but a part of it is frozen by {}", escaped(&inner.cgroup))
            } else if all.holdouts.is_empty() {
                "thawed, and nothing holds it".to_owned()
            } else {
                let all: Vec<&Holdout> = resting.into_iter().chain(blocking).collect();
                format!("thawed, but not all of it moves: {}", classes(&all))
            }
        }
        (None, _) => "the kernel does not say".to_owned(),
    }
}

/// Who holds it, and until when, in half a sentence.
fn holder_in_short(holder: &Holding) -> String {
    let by = holder.by.unwrap_or(0);
    let command = holder
        .command
        .as_deref()
        .map_or("its command".to_owned(), escaped);
    let left = holder.left_us.map(duration);
    match (holder.kind, left) {
        (Kind::Hold, None) => format!("held by iceaxe (process {by}) until {command} has ended"),
        (Kind::Hold, Some(left)) => {
            format!("held by iceaxe (process {by}) until {command} has ended, for at most {left} more")
        }
        (Kind::Lease, Some(left)) => format!("frozen by iceaxe (guard {by}) for {left} more"),
        (Kind::Lease, None) => format!("frozen by iceaxe (guard {by}) for a time"),
        (Kind::Freeze, _) => format!("frozen by iceaxe (process {by}) until somebody thaws it"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::PathBuf;

    use prom_text_format_parser::Scrape;

    use super::*;

    /// What nobody sees on a screen, or what moves the rest of it.
    fn is_harmless(line: &str) -> bool {
        !line.contains(|c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}'))
    }

    #[test]
    fn nothing_that_a_container_chose_breaks_a_line_or_a_column() {
        let evil = "x\n\x1b[2J\r\u{202e}\t\"y\\";
        let word = || Some(evil.to_owned());
        let mut status = Status::unknown();
        (status.id, status.name) = (word(), word());
        (status.image, status.pod) = (word(), word());
        status.labels = Some([(evil.to_owned(), evil.to_owned())].into());
        let rows = [row(&Status::unknown()), row(&status), row(&Status::unknown())];
        let drawn = table(COLUMNS, &rows);
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), 4, "{drawn}");
        assert!(lines.iter().all(|line| is_harmless(line)), "{drawn:?}");
        assert_eq!(lines[1], lines[3], "{drawn}");
        let line = formatted("{id} {name} {runtime} {image} {pod} {believed} {labels}", &status);
        assert!(is_harmless(&line), "{line:?}");
        let measured = measurements(std::slice::from_ref(&status), 0);
        assert!(measured.lines().all(is_harmless), "{measured:?}");
        let values = measured.lines().filter(|line| !line.starts_with('#'));
        assert!(
            values.into_iter().all(|line| line.starts_with("iceaxe_")),
            "{measured:?}"
        );
        let json = serde_json::to_string(&status).unwrap();
        assert!(is_harmless(&json.replace('\u{202e}', "")), "{json:?}");
    }

    #[test]
    fn each_measurement_is_a_series_of_its_own_and_no_label_is_empty() {
        let cgroup = |version: u8, path: &[u8]| CgroupStatus {
            version,
            path: PathBuf::from(OsStr::from_bytes(path)),
            dir: PathBuf::new(),
            shared: false,
            requested: None,
            effective: None,
            frozen_by: Vec::new(),
        };
        let status = |name: Option<&str>, version: u8, path: &[u8]| {
            let mut status = Status::unknown();
            status.name = name.map(str::to_owned);
            (status.requested, status.effective) = (Some(Requested::Frozen), Some(Effective::Frozen));
            status.cgroups = vec![cgroup(version, path)];
            status
        };
        let web = status(Some("web"), 1, b"/docker/a");
        let all = [
            web.clone(),
            status(Some("web"), 1, b"/docker/b"),
            status(Some("web"), 2, b"/docker/a"),
            status(None, 2, b"/a \"b\" \\ c"),
            status(None, 2, b"/\xff"),
            status(None, 2, b"/\xfe"),
            status(Some("\u{1b}[2J\n"), 2, b"/x,y=\"z\"}"),
            web, // once more
        ];
        let text = measurements(&all, 3);
        let parsed = Scrape::parse(&text).unwrap();
        let names: Vec<_> = parsed.metrics.iter().map(|metric| metric.name.as_str()).collect();
        let expected = [
            "iceaxe_container_requested",
            "iceaxe_container_frozen",
            "iceaxe_container_freezing",
            "iceaxe_list_incomplete",
        ];
        assert_eq!(names, expected, "{text}");
        for metric in &parsed.metrics[..3] {
            let series: BTreeSet<_> = metric
                .samples
                .iter()
                .map(|sample| format!("{:?}", sample.labels))
                .collect();
            assert_eq!((metric.samples.len(), series.len()), (7, 7), "{text}");
            assert!(!text.contains("=\"\""), "{text}");
        }
    }
}
