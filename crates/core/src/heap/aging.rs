//! Aging without re-keying.
//!
//! The effective priority of a task, (p + 1) * f^(age / I), falls while the task waits. Its logarithm is
//! ln(p + 1) + (arrival / I) * |ln f| - (now / I) * |ln f|, and the last term is the same for all tasks: so what comes
//! before it orders any two of them at any time, and a task's key is fixed when it arrives.
//!
//! All arithmetic is in integers: the same arguments give the same key on every machine.

use crate::task::Priority;
use crate::time::{DurationMs, Wall};

/// The place of a task in its queue: the least runs first. Natural logarithms with 24 binary places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgingKey(pub i64);

/// How fast waiting makes up for priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aging {
    /// |ln f| / I per millisecond, with 56 binary places.
    per_ms: u64,
}

/// Settings under which keys would not tell tasks apart, or would not fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AgingError {
    #[error("priority_boost_factor {0} is not between 0.01 and 1")]
    BoostFactor(f64),
    #[error("aging_interval {interval} is too short for priority_boost_factor {boost_factor}: at least {least}")]
    Interval { interval: DurationMs, boost_factor: f64, least: DurationMs },
}

const KEY_PLACES: u32 = 24;
const SLOPE_PLACES: u32 = 56;
const LOG2_PLACES: u32 = 40;
/// ln 2, with 62 binary places.
const LN_2: u128 = 3_196_577_161_300_663_915;
const LN_2_PLACES: u32 = 62;
/// Up to the year 10889; later arrivals count as that.
const ARRIVAL_MS_MAX: u64 = (1 << 48) - 1;
/// 2^-10 per millisecond: with it the key of the last arrival is below 2^62 + 2^28.
const SLOPE_MAX: u64 = 1 << (SLOPE_PLACES - 10);

const BOOST_FACTOR_DEFAULT: f64 = 0.9;
const INTERVAL_DEFAULT: DurationMs = DurationMs(60_000);

/// ln(p + 1) of every priority p.
static LN_OF_PRIORITY: [i64; Priority::MAX as usize + 1] = {
    let mut table = [0; Priority::MAX as usize + 1];
    let mut priority = 0;
    while priority < table.len() {
        table[priority] = ln(log2(priority as u64 + 1), KEY_PLACES) as i64;
        priority += 1;
    }
    table
};

/// log2 of `number` > 0 with [`LOG2_PLACES`] binary places, one place per squaring (J. C. Majithia, D. Levan, 1973).
const fn log2(number: u64) -> u64 {
    let shift = number.leading_zeros();
    let mut result = 63 - shift as u64;
    let mut mantissa = (number << shift) as u128;
    let mut place = 0;
    while place < LOG2_PLACES {
        mantissa = (mantissa * mantissa) >> 63;
        let above_two = mantissa >> 64;
        mantissa >>= above_two;
        result = result << 1 | above_two as u64;
        place += 1;
    }
    result
}

const fn ln(log2: u64, places: u32) -> u64 {
    ((log2 as u128 * LN_2) >> (LOG2_PLACES + LN_2_PLACES - places)) as u64
}

/// -log2 of a float between 0.01 and 1, from its exponent and mantissa.
fn minus_log2(factor: f64) -> u64 {
    const MANTISSA_BITS: u32 = 52;
    const EXPONENT_BIAS: u64 = 1023;
    let bits = factor.to_bits();
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1) | 1 << MANTISSA_BITS;
    let minus_exponent = EXPONENT_BIAS + u64::from(MANTISSA_BITS) - (bits >> MANTISSA_BITS);
    (minus_exponent << LOG2_PLACES) - log2(mantissa)
}

impl Aging {
    /// A task that waited `interval` longer counts as one of `boost_factor` times its priority number. 1 means no aging.
    ///
    /// # Errors
    /// If `boost_factor` is not between 0.01 and 1, or a millisecond of waiting would count for more than 2^-10.
    pub fn new(boost_factor: f64, interval: DurationMs) -> Result<Self, AgingError> {
        if !(0.01..=1.0).contains(&boost_factor) {
            return Err(AgingError::BoostFactor(boost_factor));
        }
        let per_interval = ln(minus_log2(boost_factor), SLOPE_PLACES);
        let least = DurationMs(per_interval.div_ceil(SLOPE_MAX).max(1));
        if interval < least {
            return Err(AgingError::Interval { interval, boost_factor, least });
        }
        Ok(Self { per_ms: per_interval / interval.0 })
    }

    /// The key of a task of `priority` that arrived at `arrival`. It grows with both.
    pub fn key(self, priority: Priority, arrival: Wall) -> AgingKey {
        let arrival_ms = arrival.0.min(ARRIVAL_MS_MAX);
        let aged = (u128::from(arrival_ms) * u128::from(self.per_ms)) >> (SLOPE_PLACES - KEY_PLACES);
        AgingKey(LN_OF_PRIORITY[usize::from(priority.get())] + aged as i64)
    }
}

impl Default for Aging {
    /// `priority_boost_factor` 0.9 over `aging_interval` 1m.
    fn default() -> Self {
        Self::new(BOOST_FACTOR_DEFAULT, INTERVAL_DEFAULT).expect("0.9 over a minute is within the bounds")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const YEAR_MS: u64 = 31_556_952_000;
    const NOVEMBER_2026: u64 = 1_795_230_000_000;

    fn priority(number: u16) -> Priority {
        Priority::try_from(number).unwrap()
    }

    fn effective(number: u16, age_ms: u64, boost_factor: f64, interval: DurationMs) -> f64 {
        (f64::from(number) + 1.0) * boost_factor.powf(age_ms as f64 / interval.0 as f64)
    }

    proptest! {
        #[test]
        fn effective_priority_orders_two_tasks_as_their_keys_do_at_any_time(
            p in 0u16..=1_000, q in 0u16..=1_000,
            p_ms in 0u64..7_200_000, q_ms in 0u64..7_200_000,
            waited_ms in 0u64..7_200_000,
            boost_factor in 0.5f64..=1.0, interval_ms in 30_000u64..600_000,
        ) {
            let interval = DurationMs(interval_ms);
            let aging = Aging::new(boost_factor, interval).unwrap();
            let now = NOVEMBER_2026 + 7_200_000 + waited_ms;
            let (p_at, q_at) = (NOVEMBER_2026 + p_ms, NOVEMBER_2026 + q_ms);
            let p_effective = effective(p, now - p_at, boost_factor, interval);
            let q_effective = effective(q, now - q_at, boost_factor, interval);
            let apart = (p_effective / q_effective).ln().abs();
            // Closer than a few units of the last place, rounding decides.
            prop_assume!(apart > 4.0 / f64::from(1 << KEY_PLACES));
            let by_key = aging.key(priority(p), Wall(p_at)).cmp(&aging.key(priority(q), Wall(q_at)));
            prop_assert_eq!(Some(by_key), p_effective.partial_cmp(&q_effective));
        }

        #[test]
        fn keys_grow_with_priority_and_with_arrival(
            number in 0u16..1_000, at in any::<u64>(), later in 0u64..YEAR_MS,
            boost_factor in 0.01f64..=1.0, interval_ms in 5_000u64..86_400_000,
        ) {
            let aging = Aging::new(boost_factor, DurationMs(interval_ms)).unwrap();
            let key = aging.key(priority(number), Wall(at));
            prop_assert!(key < aging.key(priority(number + 1), Wall(at)));
            prop_assert!(key <= aging.key(priority(number), Wall(at.saturating_add(later))));
        }

        #[test]
        fn by_default_each_millisecond_tells(number in 0u16..=1_000, at in 0..ARRIVAL_MS_MAX) {
            let aging = Aging::default();
            prop_assert!(aging.key(priority(number), Wall(at)) < aging.key(priority(number), Wall(at + 1)));
        }

        #[test]
        fn logarithms_are_those_of_floats(number in 1u64..1 << 53, factor in 0.01f64..=1.0) {
            let places = f64::from(1u32 << 31) * f64::from(1u32 << (LOG2_PLACES - 31));
            prop_assert!((log2(number) as f64 / places - (number as f64).log2()).abs() < 1e-11);
            prop_assert!((minus_log2(factor) as f64 / places + factor.log2()).abs() < 1e-11);
        }
    }

    #[test]
    fn an_urgent_task_passes_one_that_waited_until_it_waited_long_enough() {
        let aging = Aging::default();
        // 0.9^n < 1 / 501 from n = 59.0 minutes on: then priority 500 has caught up with a fresh 0.
        let urgent = aging.key(priority(0), Wall(NOVEMBER_2026));
        assert!(urgent < aging.key(priority(500), Wall(NOVEMBER_2026 - 59 * 60_000)));
        assert!(urgent > aging.key(priority(500), Wall(NOVEMBER_2026 - 60 * 60_000)));
    }

    #[test]
    fn a_factor_of_one_is_no_aging() {
        let aging = Aging::new(1.0, DurationMs(1)).unwrap();
        assert_eq!(aging.key(priority(7), Wall(0)), aging.key(priority(7), Wall(NOVEMBER_2026)));
    }

    #[test]
    fn settings_out_of_bounds_are_refused_with_the_bound() {
        for factor in [0.0, 0.009, 1.1, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Aging::new(factor, INTERVAL_DEFAULT), Err(AgingError::BoostFactor(_))), "{factor}");
        }
        let refused = Aging::new(0.5, DurationMs(100)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "aging_interval 100ms is too short for priority_boost_factor 0.5: at least 710ms"
        );
        assert!(Aging::new(0.5, DurationMs(710)).is_ok());
        assert!(Aging::new(0.9, DurationMs(0)).is_err());
    }

    #[test]
    fn the_last_arrival_at_the_steepest_slope_fits() {
        let aging = Aging { per_ms: SLOPE_MAX };
        let (last, earlier) = (Wall(u64::MAX), Wall(ARRIVAL_MS_MAX - 1));
        assert!(aging.key(priority(1_000), last) > aging.key(priority(1_000), earlier));
    }
}
