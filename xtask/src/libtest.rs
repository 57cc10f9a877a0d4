//! Reads what Rust's test runner prints.

use std::time::Duration;

use crate::command::Line;

/// What one or more runs of the test runner came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Closing lines seen: one a test binary.
    pub(crate) runs: u32,
    /// Tests that passed.
    pub(crate) passed: u32,
    /// Tests that failed.
    pub(crate) failed: u32,
    /// Tests that were not run because they are marked so.
    pub(crate) ignored: u32,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
    /// How long the run waited for each test: from the end of the test before, in the order of their ends, to its own.
    /// Of tests that ran one after the other this is the time that each took; a test beside others adds what it took
    /// longer than they.
    pub(crate) times: Vec<(Duration, String)>,
}

impl Tally {
    /// Counts the closing lines (`test result: ok. 3 passed; 1 failed; ...`) and collects the lists of failures.
    pub(crate) fn of(lines: &[Line]) -> Self {
        let mut tally = Self::default();
        let mut listed = Vec::new();
        let mut before = Duration::ZERO;
        for Line { text: line, at } in lines {
            if line.starts_with("running ") {
                before = *at;
            }
            if let Some((name, _)) = line
                .strip_prefix("test ")
                .and_then(|rest| rest.split_once(" ... "))
            {
                tally.times.push((*at - before, name.to_owned()));
                before = *at;
            } else if let Some(result) = line.strip_prefix("test result: ") {
                tally.runs += 1;
                tally.passed += number_before(result, "passed");
                tally.failed += number_before(result, "failed");
                tally.ignored += number_before(result, "ignored");
                tally.failures.append(&mut listed);
            } else if line == "failures:" {
                // The heading stands twice: over what the failed tests printed, and then over their names.
                listed.clear();
            } else if let Some(name) = line.strip_prefix("    ")
                && !name.starts_with(' ')
            {
                listed.push(name.to_owned());
            }
        }
        tally.failures.truncate(tally.failed as usize);
        tally
    }

    /// Adds another run's.
    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
        self.times.extend(other.times);
    }
}

/// The number in `3 passed;`.
fn number_before(text: &str, word: &str) -> u32 {
    let words: Vec<&str> = text
        .split([' ', ';', '.'])
        .filter(|part| !part.is_empty())
        .collect();
    let pair = words.windows(2).find(|pair| pair[1] == word);
    pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of which one comes a second.
    fn lines(text: &str) -> Vec<Line> {
        let line = |(text, second): (&str, u64)| Line {
            text: text.to_owned(),
            at: Duration::from_secs(second),
        };
        text.lines().zip(1..).map(line).collect()
    }

    #[test]
    fn closing_lines_of_several_binaries_add_up() {
        let text = "running 2 tests\ntest a ... ok\ntest b ... ok\n\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s\n\n\
            running 0 tests\n\n\
            test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        assert_eq!(
            Tally::of(&lines(text)),
            Tally {
                runs: 2,
                passed: 2,
                ignored: 1,
                times: ["a", "b"]
                    .map(|name| (Duration::from_secs(1), name.to_owned()))
                    .to_vec(),
                ..Tally::default()
            }
        );
    }

    #[test]
    fn a_test_took_the_time_since_the_end_of_the_one_before() {
        let text = "noise\nrunning 2 tests\nit says so\ntest a ... ok\n\
            test b has been running for over 60 seconds\n\ntest b - should panic ... FAILED\n";
        let times = Tally::of(&lines(text)).times;
        let times: Vec<(u64, &str)> = times
            .iter()
            .map(|(took, name)| (took.as_secs(), name.as_str()))
            .collect();
        assert_eq!(times, [(2, "a"), (3, "b - should panic")]);
    }

    #[test]
    fn failures_are_named_and_what_they_printed_is_not() {
        let text = "test v1::a ... FAILED\n\nfailures:\n\n---- v1::a stdout ----\n    an indented line\nleft: 1\n\n\n\
            failures:\n    v1::a\n    v1::b\n\n\
            test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s\n";
        let tally = Tally::of(&lines(text));
        assert_eq!((tally.passed, tally.failed), (3, 2));
        assert_eq!(tally.failures, ["v1::a", "v1::b"]);
    }

    #[test]
    fn a_runner_that_died_has_no_closing_line() {
        assert_eq!(Tally::of(&lines("running 2 tests\ntest a ... ok\n")).runs, 0);
    }
}
