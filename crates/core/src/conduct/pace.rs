//! A rate with a burst: after the generic cell rate algorithm, which is a token bucket that keeps one time.

const NS_PER_S: u128 = 1_000_000_000;

/// So many units a second, and so many at once. It keeps no clock: times are nanoseconds of any clock that only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    per_s: u64,
    burst_ns: u64,
    /// When all that was taken so far has been paid for.
    paid_ns: u64,
}

impl Pace {
    /// `per_s` is at least one.
    pub fn new(per_s: u64, burst: u64) -> Self {
        let mut pace = Self { per_s: per_s.max(1), burst_ns: 0, paid_ns: 0 };
        pace.burst_ns = pace.price_ns(burst);
        pace
    }

    fn price_ns(&self, units: u64) -> u64 {
        let ns = (u128::from(units) * NS_PER_S).div_ceil(u128::from(self.per_s));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// Takes `units` for certain; tells for how many nanoseconds whoever took them waits before it goes on.
    pub fn charge(&mut self, now_ns: u64, units: u64) -> u64 {
        self.paid_ns = self.paid_ns.max(now_ns).saturating_add(self.price_ns(units));
        self.paid_ns.saturating_sub(now_ns).saturating_sub(self.burst_ns)
    }

    /// Takes one unit if it is within the rate just now.
    ///
    /// # Errors
    /// In how many nanoseconds it is.
    pub fn take_or_wait(&mut self, now_ns: u64) -> Result<(), u64> {
        let before = *self;
        match self.charge(now_ns, 1) {
            0 => Ok(()),
            wait_ns => {
                *self = before;
                Err(wait_ns)
            }
        }
    }

    /// Takes `units` if they are within the rate just now.
    pub fn try_take(&mut self, now_ns: u64, units: u64) -> bool {
        let before = *self;
        let within = self.charge(now_ns, units) == 0;
        if !within {
            *self = before;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let mut pace = Pace::new(10, 5);
        assert_eq!((0..100).filter(|_| pace.try_take(0, 1)).count(), 5);
        assert_eq!((0..100).filter(|_| pace.try_take(SECOND_NS / 2, 1)).count(), 5);
        assert_eq!(pace.charge(SECOND_NS / 2, 20), 2 * SECOND_NS, "it waits for what is too much");
        let mut pace = Pace::new(10, 1);
        assert_eq!((pace.take_or_wait(0), pace.take_or_wait(0)), (Ok(()), Err(SECOND_NS / 10)));
        assert_eq!(pace.take_or_wait(SECOND_NS / 10), Ok(()));
        let mut pace = Pace::new(10, 5);
        assert!(!pace.try_take(0, 6), "more than a burst is never within the rate");
        assert_eq!(pace.charge(0, 6), SECOND_NS / 10);
    }

    proptest! {
        #[test]
        fn no_more_passes_than_the_burst_and_the_rate(
            per_s in 1u64..100_000,
            burst in 0u64..1_000,
            asks in prop::collection::vec((0u64..50_000_000, 1u64..50), 1..300),
        ) {
            let (mut pace, mut now_ns, mut passed) = (Pace::new(per_s, burst), 0, 0u128);
            for (pause_ns, units) in asks {
                now_ns += pause_ns;
                passed += if pace.try_take(now_ns, units) { u128::from(units) } else { 0 };
                prop_assert!(passed <= u128::from(burst) + u128::from(now_ns) * u128::from(per_s) / NS_PER_S + 1);
            }
        }

        #[test]
        fn who_waits_as_told_is_no_faster_than_the_rate(per_s in 1u64..100_000, burst in 0u64..100, count in 1u64..300) {
            let (mut pace, mut now_ns) = (Pace::new(per_s, burst), 0);
            for _ in 0..count {
                now_ns += pace.charge(now_ns, 1);
            }
            let least_ns = u128::from(count.saturating_sub(burst)) * NS_PER_S / u128::from(per_s);
            prop_assert!(u128::from(now_ns) + 1 >= least_ns);
        }
    }
}
