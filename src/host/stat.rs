//! What `/proc/TID/stat` and `schedstat` say of a task, as far as anybody here asks. Thousands are read in a listing: a
//! reader of all 52 fields took a tenth of its time. Pure: bytes in, numbers out.

use std::io;

/// The fields of a `stat` line that are used; proc(5) has their meanings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) ppid: i32,
    pub(crate) session: i32,
    pub(crate) flags: u32,
    pub(crate) utime: u64,
    pub(crate) stime: u64,
    pub(crate) starttime: u64,
    /// The signals that wait for this task alone.
    pub(crate) signal: u64,
    /// Where it was last; `None` where this kernel does not tell, as with the next one.
    pub(crate) processor: Option<i32>,
    pub(crate) policy: Option<u32>,
}

/// The fields behind the name, by their numbers in proc(5): the state is the third.
const STATE: usize = 3;
const PPID: usize = 4;
const SESSION: usize = 6;
const FLAGS: usize = 9;
const UTIME: usize = 14;
const STIME: usize = 15;
const STARTTIME: usize = 22;
const SIGNAL: usize = 31;
const PROCESSOR: usize = 39;
const POLICY: usize = 41;

/// Reads a `stat` line. The name is any bytes, and is between the first parenthesis and the last one.
pub(crate) fn parse_stat(line: &[u8]) -> io::Result<Stat> {
    read(line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a stat line"))
}

fn read(line: &[u8]) -> Option<Stat> {
    let open = memchr::memchr(b'(', line)?;
    let close = memchr::memrchr(b')', line).filter(|&close| close > open)?;
    let pid = line[..open].strip_suffix(b" ")?;
    let mut fields: [&[u8]; POLICY + 1] = [b""; POLICY + 1];
    let rest = line[close + 1..].strip_prefix(b" ")?.trim_ascii_end();
    for (at, field) in (STATE..=POLICY).zip(rest.split(|&byte| byte == b' ')) {
        fields[at] = field;
    }
    let [state] = fields[STATE] else { return None };
    let signed = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<i32>().ok();
    Some(Stat {
        pid: signed(pid)?,
        comm: String::from_utf8_lossy(&line[open + 1..close]).into_owned(),
        state: char::from(*state),
        ppid: signed(fields[PPID])?,
        session: signed(fields[SESSION])?,
        flags: u32::try_from(number(fields[FLAGS])?).ok()?,
        utime: number(fields[UTIME])?,
        stime: number(fields[STIME])?,
        starttime: number(fields[STARTTIME])?,
        signal: number(fields[SIGNAL])?,
        processor: signed(fields[PROCESSOR]),
        policy: number(fields[POLICY]).and_then(|policy| policy.try_into().ok()), // no policy
    })
}

/// Reads `schedstat`: the time on a CPU in nanoseconds, and how often it was put on one. The time that it waited for that
/// is between them.
pub(crate) fn parse_schedstat(line: &[u8]) -> Option<(u64, u64)> {
    let mut fields = line.trim_ascii_end().split(|&byte| byte == b' ');
    let (on_cpu, _, slices) = (fields.next()?, fields.next()?, fields.next()?);
    Some((number(on_cpu)?, number(slices)?))
}

/// A number without a sign.
fn number(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    field.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::FromRead;
    use proptest::prelude::*;

    const LINE: &str = "7 (a) R (b)) S 1 7 7 0 -1 4194560 969 0 0 0 11 12 0 0 20 0 1 0 87982 2322432 316 18446744073709551615 0 0 0 0 0 256 0 0 0 0 0 0 17 1 0 3 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn the_last_parenthesis_ends_the_name() {
        let stat = parse_stat(LINE.as_bytes()).unwrap();
        assert_eq!((stat.comm.as_str(), stat.state), ("a) R (b)", 'S'));
    }

    /// Whether another reader finds the same in a line, or nothing as well.
    #[track_caller]
    fn agrees(line: &[u8]) {
        let own = parse_stat(line).unwrap();
        let other = procfs::process::Stat::from_read(line).unwrap();
        let others = Stat {
            pid: other.pid,
            comm: other.comm,
            state: other.state,
            ppid: other.ppid,
            session: other.session,
            flags: other.flags,
            utime: other.utime,
            stime: other.stime,
            starttime: other.starttime,
            signal: other.signal,
            processor: other.processor,
            policy: other.policy,
        };
        assert_eq!(own, others);
    }

    #[test]
    fn each_field_is_what_another_reader_finds() {
        agrees(LINE.as_bytes());
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            // One that ends meanwhile has none.
            if let Ok(line) = std::fs::read(entry.path().join("stat"))
                && line.contains(&b'(')
            {
                agrees(&line);
            }
        }
    }

    #[test]
    fn what_is_no_stat_line_is_an_error() {
        for line in [
            "",
            "7",
            "7 (a)",
            "7 (a) S",
            "(a) S 1",
            "7(a) S 1 7 7 0 -1 1",
            "7 )a( S 1",
            &LINE.replace("4194560", "x"),
            &LINE.replace("87982", "-1"),
            &LINE.replace(" S ", " SS "),
            &LINE.replace(" 256 ", "  "),
        ] {
            assert!(parse_stat(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_schedstat_has_three_numbers() {
        assert_eq!(parse_schedstat(b"123 45 6\n"), Some((123, 6)));
        for line in ["", "1", "1 2", "1 2 x", "-1 2 3", "99999999999999999999 1 1"] {
            assert_eq!(parse_schedstat(line.as_bytes()), None, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_stat_line_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_stat(&line), parse_schedstat(&line)); // only that they return
        }

        #[test]
        fn no_stat_like_line_panics(line in "[0-9]{0,3} ?\\(?[a-z() é]{0,9}\\)? ?[RSD]?( -?[0-9]{1,20}){0,60}") {
            let _ = parse_stat(line.as_bytes()); // only that it returns
        }
    }
}
