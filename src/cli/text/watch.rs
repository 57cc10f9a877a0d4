//! The live table of `watch`.

use super::{duration, effective, escaped, path, requested};
use crate::error::short_id;
use crate::report::{Effective, Requested, Status};
use crate::resolver::Runtime;

/// The columns of the table: what matters comes before what somebody else can make long.
const COLUMNS: [&str; 7] = ["EFFECTIVE", "REQUESTED", "SINCE", "NAME", "ID", "RUNTIME", "BY"];
/// So much is shown of a name.
const LONGEST_NAME: usize = 40;
/// Of the notes the last few are shown.
const MOST_NOTES: usize = 3;
/// The narrowest screen that is drawn for.
const NARROWEST: usize = 20;
/// From here on a character may take two columns (Hangul Jamo, and all of the East Asian wide ones); others never do.
const WIDE: char = '\u{1100}';

/// What is shown first.
const RANKS: [Option<Effective>; 4] = [
    Some(Effective::Freezing),
    Some(Effective::Frozen),
    None,
    Some(Effective::Thawed),
];

/// The table for a screen of this size, with a line to spare: what is held first, and what is not shown is counted.
pub(crate) fn screen(
    all: &[(&Status, Option<u64>)],
    notes: &[String],
    height: usize,
    width: usize,
) -> String {
    let ranked = RANKS.map(|state| all.iter().filter(move |(status, _)| status.effective == state));
    let count = |rank: usize| ranked[rank].clone().count();
    let mut lines = vec![format!(
        "{} followed: {} frozen, {} freezing, {} thawed",
        all.len(),
        count(1),
        count(0),
        count(3)
    )];
    let notes = &notes[notes.len().saturating_sub(MOST_NOTES)..];
    // This line, the heads, the line of what is left out, the notes, and the one that the cursor is on.
    let room = height.saturating_sub(4 + notes.len()).max(1);
    let rows: Vec<_> = ranked
        .into_iter()
        .flatten()
        .take(room)
        .map(|&one| row(one))
        .collect();
    lines.extend(super::table(COLUMNS, &rows).lines().map(str::to_owned));
    if all.len() > room {
        lines.push(format!("and {} more", all.len() - room));
    }
    lines.extend(notes.iter().map(|note| format!("note: {}", escaped(note))));
    lines.truncate(height.saturating_sub(1).max(1));
    lines
        .iter()
        .map(|line| fitted(line, width.max(NARROWEST)) + "\n")
        .collect()
}

fn row((status, changed_for_us): (&Status, Option<u64>)) -> [String; COLUMNS.len()] {
    let text = |value: Option<&str>| value.map_or_else(|| "-".to_owned(), escaped);
    let name = status.name.as_deref().map_or_else(|| place(status), escaped);
    [
        effective(status.effective).to_owned(),
        requested(status.requested).to_owned(),
        changed_for_us.map_or_else(|| "-".to_owned(), |us| duration(us / 1_000_000 * 1_000_000)),
        fitted(&name, LONGEST_NAME),
        text(status.id.as_deref().map(short_id)),
        text(status.runtime.map(Runtime::name)),
        by(status),
    ]
}

/// What a cgroup is called that is no container's.
fn place(status: &Status) -> String {
    let written = status.written().filter(|_| status.id.is_none());
    written.unwrap_or_else(|| "-".to_owned())
}

/// Who asks for the freeze.
fn by(status: &Status) -> String {
    let holders = status
        .holders
        .iter()
        .filter(|holder| holder.through.is_none())
        .map(super::state::held_by);
    let mut own: Vec<String> = holders.collect();
    if own.is_empty() {
        own.push("itself".to_owned());
    }
    own.retain(|_| status.requested == Some(Requested::Frozen));
    let all: Vec<String> = own
        .into_iter()
        .chain(status.frozen_by.iter().map(|by| path(by)))
        .collect();
    if all.is_empty() {
        "-".to_owned()
    } else {
        all.join(", ")
    }
}

/// As much of a line as fits. A line that is wrapped would be two to the terminal and one to who draws the next picture.
fn fitted(line: &str, width: usize) -> String {
    let mut left = width;
    line.chars()
        .take_while(|&c| {
            let columns = if c < WIDE { 1 } else { 2 };
            let fits = columns <= left;
            left = left.saturating_sub(columns);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Holding;
    use crate::store::Kind;

    #[test]
    fn who_holds_it_is_named_before_itself() {
        let mut status = Status::unknown();
        status.requested = Some(Requested::Frozen);
        status.frozen_by = vec!["/docker".into()];
        assert_eq!(by(&status), "itself, /docker");
        let holder = Holding {
            kind: Kind::Hold,
            by: Some(812),
            by_comm: None,
            command: None,
            command_pid: None,
            filesystems: Vec::new(),
            through: None,
            held_for_us: 0,
            left_us: Some(48_000_000),
            answered_for: true,
        };
        status.holders = vec![holder.clone()];
        assert_eq!(by(&status), "hold:812:48.0 s, /docker");
        // Through an ancestor it is that one's.
        let through = Some("v2:/docker".to_owned());
        status.holders = vec![Holding { through, ..holder }];
        assert_eq!(by(&status), "itself, /docker");
        status.requested = Some(Requested::Thawed);
        assert_eq!(by(&status), "/docker");
    }

    #[test]
    fn no_line_takes_more_columns_than_there_are() {
        for (line, width, fits) in [
            ("frozen", 6, "frozen"),
            ("frozen", 4, "froz"),
            ("木木木", 5, "木木"),
            ("a木", 2, "a"),
            ("ééé", 2, "éé"),
            ("", 4, ""),
        ] {
            assert_eq!(fitted(line, width), fits, "{line:?} {width}");
        }
    }

    #[test]
    fn a_name_neither_moves_the_cursor_nor_makes_a_line_nor_hides_who_is_frozen() {
        let mut hostile = Status::unknown();
        hostile.name = Some("a\x1b[2J\r\nb\u{202e}".to_owned() + &"木".repeat(300));
        hostile.effective = Some(Effective::Thawed);
        let mut frozen = Status::unknown();
        frozen.name = Some("web".to_owned());
        (frozen.effective, frozen.requested) = (Some(Effective::Frozen), Some(Requested::Thawed));
        frozen.frozen_by = vec!["/docker\x1b[A".into()];
        let mut all = vec![(&hostile, None); 50];
        all.push((&frozen, Some(61_500_000)));
        for (height, width) in [(24, 80), (5, 20), (1, 1), (100, 200)] {
            let text = screen(&all, &["a\x1bnote".to_owned()], height, width);
            assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
            assert!(text.lines().count() < height.max(2), "{height}: {text}");
            let columns = |line: &str| line.chars().map(|c| if c < WIDE { 1 } else { 2 }).sum::<usize>();
            assert!(
                text.lines().all(|line| columns(line) <= width.max(NARROWEST)),
                "{text}"
            );
        }
        let text = screen(&all, &[], 24, 2000);
        assert!(
            text.starts_with("51 followed: 1 frozen, 0 freezing, 50 thawed\n"),
            "{text}"
        );
        let first = text.lines().nth(2).unwrap();
        assert!(first.starts_with("frozen     thawed     61.0 s  web "), "{text}");
        assert!(first.ends_with(" /docker\\u{1b}[A"), "{text}");
        assert!(text.ends_with("and 31 more\n"), "{text}");
    }
}
