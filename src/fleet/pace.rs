//! When the next of many may go, so that what is let go together does not fall over itself. Pure: times and pressures
//! in, a word out. Nothing can keep it from saying, after its limit, that all may go.

use std::time::Duration;

use crate::host::{Percent, Pressure, Resource};

/// How often the pressure is looked at while something is held back by it; the kernel renews it every 2 s.
const LOOK: Duration = Duration::from_millis(500);

/// The pressure from which on nothing more is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// On what.
    pub of: Resource,
    /// See [`Pressure`].
    pub percent: Percent,
}

/// One after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// The least time between the end of one and the next.
    pub gap: Duration,
    /// While the pressure reaches one of these, none is let go.
    pub ceilings: Vec<Ceiling>,
    /// After so long all that are left are let go at once.
    pub limit: Duration,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Let the next one go.
    Next,
    /// Wait so long, and ask again.
    Wait(Duration),
    /// The same, as the pressure has reached this ceiling.
    Held(Duration, Ceiling, Pressure),
    /// Let all go that are left: the time is up.
    Rest,
}

impl Pace {
    /// What is to be done `elapsed` after the beginning and `since` the last one was done with, `None` where there was
    /// none yet. A pressure that can't be told holds nothing back.
    pub fn turn(
        &self,
        elapsed: Duration,
        since: Option<Duration>,
        pressure: &mut dyn FnMut(Resource) -> Option<Pressure>,
    ) -> Turn {
        let left = self.limit.saturating_sub(elapsed);
        if left.is_zero() {
            return Turn::Rest;
        }
        let gap = since.map_or(Duration::ZERO, |since| self.gap.saturating_sub(since));
        if !gap.is_zero() {
            return Turn::Wait(gap.min(left));
        }
        for ceiling in &self.ceilings {
            if let Some(now) = pressure(ceiling.of).filter(|now| now.percent() >= ceiling.percent) {
                return Turn::Held(LOOK.min(left), *ceiling, now);
            }
        }
        Turn::Next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(gap: Duration, ceilings: &[(Resource, u64)], limit: Duration) -> Pace {
        let ceilings = ceilings.iter().map(|&(of, percent)| Ceiling {
            of,
            percent: Percent(percent),
        });
        Pace {
            gap,
            ceilings: ceilings.collect(),
            limit,
        }
    }

    /// When each of `count` goes, on a clock that stands still but for the waits, under a pressure that is a matter of
    /// the time.
    fn times(
        pace: &Pace,
        count: usize,
        pressure: impl Fn(Resource, Duration) -> Option<u64>,
    ) -> Vec<Duration> {
        let (mut now, mut gone): (Duration, Vec<Duration>) = Default::default();
        while gone.len() < count {
            let since = gone.last().map(|&last| now - last);
            let mut pressure = |of| pressure(of, now).map(|hundredths| Pressure::Stall(Percent(hundredths)));
            match pace.turn(now, since, &mut pressure) {
                Turn::Next => gone.push(now),
                Turn::Wait(time) | Turn::Held(time, ..) => {
                    assert!(!time.is_zero(), "it would spin");
                    now += time;
                }
                Turn::Rest => gone.resize(count, now),
            }
        }
        gone
    }

    #[test]
    fn the_first_goes_at_once_and_each_other_after_the_gap() {
        let pace = pace(seconds(2), &[], seconds(60));
        assert_eq!(times(&pace, 3, |_, _| None), [0, 2, 4].map(seconds));
    }

    #[test]
    fn all_that_are_left_go_when_the_time_is_up() {
        let pace = pace(seconds(2), &[], seconds(3));
        assert_eq!(times(&pace, 4, |_, _| None), [0, 2, 3, 3].map(seconds));
    }

    #[test]
    fn nothing_goes_while_any_ceiling_is_reached() {
        let ceilings = [(Resource::Cpu, 4000), (Resource::Io, 3000)];
        let pace = pace(Duration::ZERO, &ceilings, seconds(60));
        let pressure = |of, now| match of {
            Resource::Cpu if now < seconds(5) => Some(4000),
            Resource::Io if now < seconds(7) => Some(9000),
            _ => Some(2999),
        };
        assert_eq!(times(&pace, 2, pressure), [7, 7].map(seconds));
    }

    #[test]
    fn a_ceiling_of_nothing_holds_all_back_until_the_time_is_up() {
        let pace = pace(Duration::ZERO, &[(Resource::Memory, 0)], seconds(9));
        assert_eq!(times(&pace, 3, |_, _| Some(0)), [9, 9, 9].map(seconds));
    }

    #[test]
    fn a_pressure_that_is_not_told_holds_nothing_back() {
        let pace = pace(Duration::ZERO, &[(Resource::Cpu, 0)], seconds(9));
        assert_eq!(times(&pace, 2, |_, _| None), [0, 0].map(seconds));
    }

    proptest! {
        #[test]
        fn no_pressure_keeps_anything_past_the_limit(
            gap in 0_u64..5000,
            limit in 0_u64..20_000,
            percent in 0_u64..20_000,
            count in 1_usize..20,
            pressures in proptest::collection::vec(0_u64..20_000, 1..50),
        ) {
            let limit = Duration::from_millis(limit);
            let pace = pace(Duration::from_millis(gap), &[(Resource::Cpu, percent)], limit);
            let pressure = |_, now: Duration| {
                let at = usize::try_from(now.as_millis() / 300).unwrap() % pressures.len();
                Some(pressures[at])
            };
            let times = times(&pace, count, pressure);
            prop_assert!(times.iter().all(|&time| time <= limit));
            prop_assert!(times.is_sorted());
        }
    }
}
