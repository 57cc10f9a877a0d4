//! What a report claims of each task, and what the task's own pulse says to that.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Result;

/// What a task wrote of itself, in microseconds of the clock of `verified_at_us`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pulse {
    /// When the task that has this number now came to be.
    pub(crate) born: u64,
    /// When it beat last.
    pub(crate) last: u64,
    /// How often it has.
    pub(crate) beats: u64,
}

impl Pulse {
    /// The three words of a record.
    pub(crate) fn of(record: &[u8; 24]) -> Self {
        let mut words = record.chunks_exact(8).map(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            u64::from_ne_bytes(bytes)
        });
        let mut next = || words.next().unwrap_or_default();
        Self {
            born: next(),
            last: next(),
            beats: next(),
        }
    }

    /// Whether the task is one that beats.
    pub(crate) fn is_felt(self) -> bool {
        self.beats > 0
    }
}

/// A report of a freeze or a thaw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// When it was found to be so.
    pub(crate) at: u64,
    /// What is said of each task.
    pub(crate) proofs: BTreeMap<i32, String>,
}

impl Verdict {
    /// Reads the object that `iceaxe --json --verbose` prints.
    pub(crate) fn read(json: &str) -> Result<Self> {
        let odd = || format!("not understood: {}", json.trim_end());
        let report: Value = serde_json::from_str(json).map_err(|error| format!("{error}: {}", odd()))?;
        let proof = |(tid, word): (&String, &Value)| Some((tid.parse().ok()?, word.as_str()?.to_owned()));
        let proofs = report["proofs"].as_object().ok_or_else(odd)?.iter().map(proof);
        Ok(Self {
            at: report["verified_at_us"].as_u64().ok_or_else(odd)?,
            proofs: proofs.collect::<Option<_>>().ok_or_else(odd)?,
        })
    }

    /// What is wrong with it, as a freeze, in the light of a pulse that was taken before the thaw.
    pub(crate) fn refuted(&self, tid: i32, pulse: Pulse) -> Option<String> {
        if pulse.last <= self.at {
            return None;
        }
        let since = format!("beat {} us after the verdict", pulse.last - self.at);
        match self.proofs.get(&tid).map(String::as_str) {
            // Somebody else by now, to whom the number fell.
            Some("exited") | None if pulse.born > self.at => None,
            None => Some(format!("{tid} was there, is not in the report, and {since}")),
            Some(word) => Some(format!("{tid} is {word} and {since}")),
        }
    }

    /// Whether it says that the task stands still.
    pub(crate) fn holds(&self, tid: i32) -> bool {
        self.proofs
            .get(&tid)
            .is_some_and(|word| word == "frozen" || word == "new")
    }

    /// Whether a pulse bears out what a thaw says of a task that is still there.
    pub(crate) fn borne_out_by(&self, pulse: Pulse) -> bool {
        pulse.last > self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"schema":1,"verb":"freeze","proofs":{"41":"frozen","42":"exited"},"holdouts":[],"verified_at_us":700,"writes":[]}"#;

    fn pulse(born: u64, last: u64) -> Pulse {
        Pulse { born, last, beats: 3 }
    }

    #[test]
    fn the_claims_are_read_from_the_report() {
        let verdict = Verdict::read(REPORT).unwrap();
        let words: Vec<(i32, &str)> = verdict
            .proofs
            .iter()
            .map(|(tid, word)| (*tid, word.as_str()))
            .collect();
        assert_eq!((verdict.at, words), (700, vec![(41, "frozen"), (42, "exited")]));
        let empty = REPORT.replace(r#""41":"frozen","42":"exited""#, "");
        assert!(Verdict::read(&empty).unwrap().proofs.is_empty());
        for broken in [
            REPORT.replace(r#"{"41":"frozen","42":"exited"}"#, "null"),
            REPORT.replace("700", "null"),
            REPORT.replace("\"41\"", "\"x\""),
        ] {
            assert!(Verdict::read(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_beat_after_the_verdict_refutes_it_but_not_that_of_a_later_arrival() {
        let verdict = Verdict::read(REPORT).unwrap();
        for (tid, pulse, wrong) in [
            (41, pulse(5, 700), false),
            (41, pulse(5, 701), true),
            (41, pulse(701, 702), true), // a frozen task can't have ended
            (42, pulse(5, 701), true),
            (42, pulse(701, 702), false),
            (43, pulse(701, 702), false),
            (43, pulse(5, 702), true),
            (43, pulse(5, 6), false),
        ] {
            assert_eq!(verdict.refuted(tid, pulse).is_some(), wrong, "{tid} {pulse:?}");
        }
    }

    #[test]
    fn records_are_three_words() {
        let mut record = [0; 24];
        for (word, bytes) in [9_u64, 8, 7].into_iter().zip(record.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        assert_eq!(
            Pulse::of(&record),
            Pulse {
                born: 9,
                last: 8,
                beats: 7
            }
        );
    }
}
