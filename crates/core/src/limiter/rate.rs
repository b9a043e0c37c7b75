//! How often something may start: a rate, and the generic cell rate algorithm (ITU-T I.371) over it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::time::Wall;

/// `60/min`: so many starts in any period, evenly spaced. `60/min burst 10`: up to ten of them at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    count: u32,
    period: Period,
    burst: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    Second,
    Minute,
    Hour,
    Day,
}

impl Period {
    const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
            Self::Day => "d",
        }
    }

    fn us(self) -> u64 {
        match self {
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
            Self::Day => 86_400_000_000,
        }
    }
}

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a rate: write 10/s, 60/min, 500/h or 1000/d (1 to {max}), and burst 5 after it for starts at once", max = limits::RATE_COUNT_MAX)]
pub struct ParseRateError(String);

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let wrong = || ParseRateError(text.chars().take(40).collect());
        let (rate, burst) = match text.split_once(" burst ") {
            Some((rate, burst)) => (rate, burst.trim().parse().map_err(|_| wrong())?),
            None => (text, 1),
        };
        let (count, period) = rate.split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.trim().parse().map_err(|_| wrong())?;
        let period = Period::ALL.into_iter().find(|known| known.name() == period.trim()).ok_or_else(wrong)?;
        let bounded = (1..=limits::RATE_COUNT_MAX).contains(&count) && (1..=count).contains(&burst);
        if bounded { Ok(Self { count, period, burst }) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Rate {
    type Error = ParseRateError;

    fn try_from(text: String) -> Result<Self, ParseRateError> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.count, self.period.name())?;
        if self.burst > 1 { write!(formatter, " burst {}", self.burst) } else { Ok(()) }
    }
}

/// A start this late does not put off those behind it.
const LATE_US: u64 = limits::STALL_MS * 1_000;

/// When a rate's next start is due if all so far had been evenly spaced, in Unix microseconds: all that is remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RateMark(pub u64);

impl Rate {
    /// Time from one start to the next.
    pub fn interval_us(self) -> u64 {
        self.period.us().div_ceil(u64::from(self.count))
    }

    /// Starts at once after a pause.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// Starts that a home may have in hand without using them: a burst, or those of a second.
    pub fn at_hand(self) -> u64 {
        u64::from(self.burst).max(1_000_000 / self.interval_us().max(1)).max(1)
    }

    /// How far ahead of even spacing starts may be.
    fn ahead_us(self) -> u64 {
        u64::from(self.burst - 1) * self.interval_us()
    }

    /// The mark of a rate of which nothing is known: as if the burst had just been used.
    pub fn used_up(self, now: Wall) -> RateMark {
        RateMark(now.0 * 1_000 + self.ahead_us())
    }

    /// When the next start may be: `now` or before if at once.
    pub fn next_start(self, mark: RateMark, now: Wall) -> Wall {
        Wall(self.bounded(mark, now).0.saturating_sub(self.ahead_us()).div_ceil(1_000))
    }

    /// Whether a start may be now.
    pub fn allows(self, mark: RateMark, now: Wall) -> bool {
        self.next_start(mark, now) <= now
    }

    /// The mark after a start at `now`.
    pub fn started(self, mark: RateMark, now: Wall) -> RateMark {
        let (due_us, now_us) = (self.bounded(mark, now).0, now.0 * 1_000);
        // A home looks once a tick: what is late for that alone is caught up.
        let from_us = if due_us + LATE_US >= now_us { due_us } else { now_us };
        RateMark(from_us + self.interval_us())
    }

    /// A wall clock that was set back must not stop a rate for longer than a used-up burst does.
    pub fn bounded(self, mark: RateMark, now: Wall) -> RateMark {
        RateMark(mark.0.min(now.0 * 1_000 + self.ahead_us() + self.interval_us()))
    }
}

impl RateMark {
    /// The mark as if one start less had been.
    #[must_use]
    pub fn given_back(self, interval_us: u64) -> Self {
        Self(self.0.saturating_sub(interval_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Wall = Wall(1_795_230_000_000);

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    #[test]
    fn rates_read_as_they_are_written() {
        for text in ["10/s", "60/min", "500/h", "1000/d", "60/min burst 10"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for text in ["", "60", "60/minute", "0/s", "-1/s", "60/min burst 0", "60/min burst 61", "1000001/s", "1.5/s"] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("write 10/s, 60/min"), "{error}");
        }
    }

    #[test]
    fn starts_are_evenly_spaced_and_a_burst_goes_at_once() {
        let starts = |rate: Rate, during_ms: u64| {
            let (mut mark, mut at) = (RateMark::default(), Vec::new());
            for ms in 0..during_ms {
                let now = Wall(START.0 + ms);
                while rate.allows(mark, now) {
                    mark = rate.started(mark, now);
                    at.push(ms);
                }
            }
            at
        };
        assert_eq!(starts(rate("60/min"), 2_950), [0, 1_000, 2_000]);
        assert_eq!(starts(rate("2/s burst 2"), 1_200), [0, 0, 500, 1_000]);
        assert_eq!(starts(rate("60/min"), 60_000).len(), 60);
    }

    #[test]
    fn a_home_has_the_starts_of_a_second_or_a_burst_in_hand() {
        let at_hand = ["60/min", "500/h", "60/min burst 10", "1000/s", "1000000/s"].map(|text| rate(text).at_hand());
        assert_eq!(at_hand, [1, 1, 10, 1_000, 1_000_000]);
    }

    #[test]
    fn a_home_that_looks_once_a_tick_reaches_the_rate() {
        for text in ["1000/s", "60/min", "7/s"] {
            let (rate, mut mark, mut starts) = (rate(text), RateMark::default(), 0);
            for tick in 0..600 {
                // Ticks come late, too.
                let now = Wall(START.0 + tick * limits::TICK_MS + tick % 7 * 10);
                while rate.allows(mark, now) {
                    mark = rate.started(mark, now);
                    starts += 1;
                }
            }
            let expected = 60_000_000 / rate.interval_us();
            assert!(starts >= expected - expected / 100 && starts <= expected + 1, "{starts} of {expected} at {text}");
        }
    }

    #[test]
    fn nothing_known_is_used_up() {
        let rate = rate("60/min burst 10");
        let mark = rate.used_up(START);
        assert!(rate.allows(mark, START));
        assert_eq!(rate.next_start(rate.started(mark, START), START), Wall(START.0 + 1_000));
    }

    #[test]
    fn a_clock_set_back_stops_a_rate_for_one_interval_at_most() {
        let rate = rate("60/min");
        let mark = rate.started(RateMark::default(), Wall(START.0 + 3_600_000));
        assert!(rate.next_start(mark, START) <= Wall(START.0 + 1_000));
    }

    proptest! {
        #[test]
        fn no_period_sees_more_than_the_count_the_burst_and_what_was_late(
            count in 1u32..500, period in 0usize..3, burst in 1u32..20, steps in prop::collection::vec(0u64..400, 1..100),
        ) {
            let period = Period::ALL[period];
            let rate = Rate { count, period, burst: burst.min(count) };
            let (mut now, mut mark, mut starts) = (START, RateMark::default(), Vec::new());
            for step in steps {
                now.0 += step;
                while rate.allows(mark, now) {
                    mark = rate.started(mark, now);
                    starts.push(now.0 * 1_000);
                }
            }
            let most = u64::from(count) + 1 + (rate.ahead_us() + LATE_US) / rate.interval_us();
            let mut first = 0;
            for (place, start) in starts.iter().enumerate() {
                while starts[first] + period.us() <= *start {
                    first += 1;
                }
                let within = (place - first + 1) as u64;
                prop_assert!(within <= most, "{within} starts of {rate}");
            }
        }

        #[test]
        fn a_start_given_back_may_be_used_again(count in 1u32..2_000, burst in 1u32..20) {
            let rate = Rate { count, period: Period::Minute, burst: burst.min(count) };
            let mut mark = RateMark::default();
            while rate.allows(mark, START) {
                mark = rate.started(mark, START);
            }
            prop_assert!(rate.allows(mark.given_back(rate.interval_us()), START));
        }
    }
}
