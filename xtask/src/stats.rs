//! Medians and percentiles of measured times.

use std::time::Duration;

/// Times of one thing, measured many times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Times {
    sorted: Vec<Duration>,
}

impl Times {
    /// Adds one.
    pub(crate) fn push(&mut self, time: Duration) {
        let at = self.sorted.partition_point(|other| *other <= time);
        self.sorted.insert(at, time);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest that at least `percent` of them do not exceed (nearest rank); zero where there are none.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The middle one.
    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// The largest.
    pub(crate) fn max(&self) -> Duration {
        self.percentile(100)
    }
}

/// `1.234`, in milliseconds.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1000.0)
}

/// How many times `floor` goes into `time`.
pub(crate) fn ratio(time: Duration, floor: Duration) -> f64 {
    time.as_secs_f64() / floor.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut times = Times::default();
        assert_eq!(times.median(), Duration::ZERO);
        for ms in [5, 3, 1, 2, 4, 10, 9, 8, 7, 6] {
            times.push(Duration::from_millis(ms));
        }
        for (percent, wanted) in [(50, 5), (95, 10), (90, 9), (100, 10), (1, 1)] {
            assert_eq!(
                times.percentile(percent),
                Duration::from_millis(wanted),
                "{percent}"
            );
        }
        assert_eq!(times.len(), 10);
    }
}
