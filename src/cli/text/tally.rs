//! How many targets ended how.

use crate::report::{Outcome, Report, Verb};
use std::collections::BTreeMap;

/// The ends of several targets, the good ones first.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<(u8, &'static str), usize>);

impl Tally {
    /// Counts one.
    pub(crate) fn add(&mut self, report: &Report) {
        // Ends with one word are counted together.
        let end = match report.outcome {
            Outcome::Ended => Outcome::Gone,
            Outcome::Usage => Outcome::Error,
            end => end,
        };
        let key = (end as u8, word(report));
        *self.0.entry(key).or_default() += 1;
    }

    /// `12 thawed, 1 unchanged, 1 still frozen`.
    pub(crate) fn line(&self) -> String {
        let each = self.0.iter().map(|((_, word), count)| format!("{count} {word}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

fn word(report: &Report) -> &'static str {
    let verb = report.verb;
    match report.outcome {
        Outcome::Confirmed if verb == Verb::Freeze => "frozen",
        Outcome::Confirmed if !report.signals.is_empty() => "signalled",
        Outcome::Confirmed if verb == Verb::Kill => "killed",
        Outcome::Confirmed => "thawed",
        Outcome::Unchanged => "unchanged",
        Outcome::Released if verb == Verb::Kill => "not all gone",
        Outcome::Released => "not proven to run",
        Outcome::Held => "still frozen",
        Outcome::RolledBack => "rolled back",
        Outcome::Stuck => "may be frozen",
        Outcome::Gone | Outcome::Ended => "gone",
        Outcome::Unhealthy => "not healthy",
        Outcome::Refused => "refused",
        Outcome::NotFound => "not found",
        Outcome::Ambiguous => "ambiguous",
        Outcome::Denied => "not permitted or not supported",
        Outcome::Error | Outcome::Usage => "failed",
        Outcome::Planned => "planned",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_the_good_ones_first() {
        let mut tally = Tally::default();
        for outcome in [
            Outcome::Gone,
            Outcome::Confirmed,
            Outcome::Held,
            Outcome::Unchanged,
            Outcome::Confirmed,
        ] {
            let mut report = Report::blank(Verb::Thaw, "web");
            report.outcome = outcome;
            tally.add(&report);
        }
        assert_eq!(tally.line(), "2 thawed, 1 unchanged, 1 still frozen, 1 gone");
    }
}
