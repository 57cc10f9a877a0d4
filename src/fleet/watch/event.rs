//! What happened to a container that is followed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::engine::monotonic_us;
use crate::report::{Effective, States, Status};

/// What happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Happening {
    /// It was there when the watch began.
    Present,
    /// It started, or was found later.
    Started,
    /// Its cgroup is gone, or empty.
    Ended,
    /// A freeze of it is asked for and not settled.
    Freezing,
    /// It is held.
    Frozen,
    /// Nothing holds it any more.
    Thawed,
    /// It is as held as before, but who asks for that is not the same.
    Changed,
    /// It was thawed by somebody else than iceaxe, which still answers for its freeze: the records say so.
    Overridden,
}

impl Happening {
    /// What it is that changed between two looks. Who did it is not in the cgroups.
    pub(super) fn between(before: &Status, after: &Status) -> Option<Self> {
        if before.effective != after.effective {
            return Some(match after.effective {
                Some(Effective::Frozen) => Self::Frozen,
                Some(Effective::Freezing) => Self::Freezing,
                Some(Effective::Thawed) => Self::Thawed,
                None => Self::Changed,
            });
        }
        let is_same = before.requested == after.requested && before.frozen_by == after.frozen_by;
        (!is_same).then_some(Self::Changed)
    }
}

/// Something that happened, with all that is so then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    /// What.
    pub event: Happening,
    /// When it was seen, as RFC 3339 has it, in UTC.
    pub time: String,
    /// CLOCK_MONOTONIC then, in microseconds.
    pub seen_at_us: Option<u64>,
    /// What was so before.
    pub before: States,
    /// What is so. What the engine believes is told where the watch of it begins, and not later: it writes its record only
    /// after it froze.
    #[serde(flatten)]
    pub status: Status,
}

impl Event {
    pub(super) fn new(event: Happening, before: States, status: Status) -> Self {
        Self {
            event,
            time: now(),
            seen_at_us: monotonic_us(),
            before,
            status,
        }
    }
}

/// The time now, in UTC.
pub(crate) fn now() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()) // before 1970: a clock not set
}

/// A time since 1970 as `2026-11-26T01:18:25.123456Z`.
fn rfc3339(since: Duration) -> String {
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day at the end; 719,468 days are from March of the year 0 to 1970.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        era * 400 + year + next,
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_micros()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn what_happened_is_told_by_what_holds_it_before_by_who_asks() {
        let state = |effective, requested, by: &[&str]| Status {
            effective: Some(effective),
            requested: Some(requested),
            frozen_by: by.iter().map(PathBuf::from).collect(),
            ..Status::unknown()
        };
        use crate::report::Requested;
        use Effective::{Freezing, Frozen, Thawed};
        let running = state(Thawed, Requested::Thawed, &[]);
        let asked = state(Freezing, Requested::Frozen, &[]);
        let frozen = state(Frozen, Requested::Frozen, &[]);
        let held = state(Frozen, Requested::Thawed, &["/docker"]);
        for (before, after, happening) in [
            (&running, &running, None),
            (&running, &asked, Some(Happening::Freezing)),
            (&running, &held, Some(Happening::Frozen)),
            (&asked, &frozen, Some(Happening::Frozen)),
            (&frozen, &held, Some(Happening::Changed)),
            (&held, &running, Some(Happening::Thawed)),
            (&asked, &running, Some(Happening::Thawed)),
        ] {
            assert_eq!(
                Happening::between(before, after),
                happening,
                "{before:?} {after:?}"
            );
        }
    }
}
