//! How often and how soon a failed attempt is tried again.

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::task::TaskError;
use crate::time::DurationMs;

/// Exponential back-off: attempt `n` waits `initial * factor^(n-1)`, at most `max_delay`, less up to `jitter` of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub max_attempts: u32,
    pub initial: DurationMs,
    pub factor: f64,
    pub max_delay: DurationMs,
    /// 0 to 1: the part of each delay that chance may take away.
    pub jitter: f64,
    /// Error codes that are retried; empty: all that the executor calls retryable.
    pub retry_on: Vec<String>,
    /// Exit codes of a process after which another attempt is pointless.
    pub permanent_exit: Vec<i32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial: DurationMs(1_000),
            factor: 2.0,
            max_delay: DurationMs(60_000),
            jitter: 0.1,
            retry_on: Vec::new(),
            permanent_exit: Vec::new(),
        }
    }
}

/// Ends that say nothing of the task: the place it ran at was closed. They are retried whatever a policy lists.
pub const PLACE_CLOSED_CODES: [&str; 2] = ["drained", "lease_ended"];

/// A process that ended with an exit code that is none of success.
pub const EXIT_STATUS: &str = "exit_status";

/// A field of a retry policy outside its bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("retry.{field} is {presented}, not {allowed}")]
pub struct RetryPolicyError {
    pub field: &'static str,
    pub presented: String,
    pub allowed: String,
}

impl RetryPolicy {
    /// # Errors
    /// Names the first field outside its bounds ([`limits`]), with what it may be.
    pub fn validate(&self) -> Result<(), RetryPolicyError> {
        let delay_max = DurationMs(limits::RETRY_DELAY_MS_MAX);
        let codes_max = limits::RETRY_CODES_LEN_MAX;
        check("max_attempts", self.max_attempts, 1..=limits::RETRY_ATTEMPTS_MAX)?;
        check("initial", self.initial, DurationMs(0)..=delay_max)?;
        check("factor", self.factor, 1.0..=limits::RETRY_FACTOR_MAX)?;
        check("max_delay", self.max_delay, DurationMs(0)..=delay_max)?;
        check("jitter", self.jitter, 0.0..=1.0)?;
        check("retry_on's length", self.retry_on.len(), 0..=codes_max)?;
        for code in &self.retry_on {
            check("retry_on's code length", code.len(), 1..=limits::NAME_BYTES_MAX)?;
        }
        check("permanent_exit's length", self.permanent_exit.len(), 0..=codes_max)
    }

    /// The wait after `failed_attempts` failures, for `entropy` drawn uniformly: the same arguments give the same wait.
    ///
    /// Never above `max_delay`, even for a policy that [`validate`](Self::validate) refuses.
    pub fn delay(&self, failed_attempts: u32, entropy: u64) -> DurationMs {
        let cap = self.max_delay.0 as f64;
        let factor = self.factor.max(1.0);
        let mut delay = (self.initial.0 as f64).min(cap);
        for _ in 1..failed_attempts.clamp(1, limits::RETRY_ATTEMPTS_MAX) {
            if delay == 0.0 || delay >= cap {
                break;
            }
            delay = (delay * factor).min(cap);
        }
        // The upper 53 bits: as many as an f64 holds exactly, so the draw lies in [0, 1).
        let draw = (entropy >> 11) as f64 / (1u64 << 53) as f64;
        let kept = delay * (1.0 - self.jitter.clamp(0.0, 1.0) * draw);
        DurationMs((kept as u64).min(self.max_delay.0))
    }

    /// Whether `error` may be followed by another attempt: by `retry_on` where it is given, else as the executor says.
    pub fn retries(&self, error: &TaskError, retryable: bool) -> bool {
        if PLACE_CLOSED_CODES.contains(&error.code.as_str()) || self.retry_on.is_empty() {
            return retryable;
        }
        // `permanent_exit` tells exit codes apart, which one word for all of them does not.
        self.retry_on.contains(&error.code) && (retryable || error.code != EXIT_STATUS)
    }
}

fn check<T: PartialOrd + std::fmt::Display>(
    field: &'static str,
    presented: T,
    allowed: std::ops::RangeInclusive<T>,
) -> Result<(), RetryPolicyError> {
    if allowed.contains(&presented) {
        return Ok(());
    }
    let allowed = format!("{} to {}", allowed.start(), allowed.end());
    Err(RetryPolicyError { field, presented: presented.to_string(), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(initial: u64, factor: f64, max_delay: u64, jitter: f64) -> RetryPolicy {
        RetryPolicy {
            initial: DurationMs(initial),
            factor,
            max_delay: DurationMs(max_delay),
            jitter,
            ..RetryPolicy::default()
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let doubling = policy(1_000, 2.0, 10_000, 0.0);
        for (failed_attempts, wait) in
            [(0, 1_000), (1, 1_000), (2, 2_000), (3, 4_000), (4, 8_000), (5, 10_000), (u32::MAX, 10_000)]
        {
            assert_eq!(doubling.delay(failed_attempts, u64::MAX), DurationMs(wait), "after {failed_attempts}");
        }
    }

    #[test]
    fn the_corners_of_a_policy_have_a_wait() {
        for (policy, failed_attempts, wait) in [
            (policy(0, 100.0, 60_000, 0.0), 1_000, 0),
            (policy(0, f64::INFINITY, 60_000, 0.0), 9, 0),
            (policy(5_000, 2.0, 1_000, 0.0), 1, 1_000),
            (policy(1_000, 1.0, 60_000, 0.0), 1_000, 1_000),
            (policy(1, 100.0, limits::RETRY_DELAY_MS_MAX, 0.0), 1_000, limits::RETRY_DELAY_MS_MAX),
            (policy(1_000, f64::NAN, 60_000, f64::NAN), 9, 0),
            (policy(1_000, f64::INFINITY, 60_000, 0.0), 2, 60_000),
        ] {
            assert_eq!(policy.delay(failed_attempts, 0), DurationMs(wait), "{policy:?}");
        }
    }

    #[test]
    fn jitter_takes_away_its_part_and_no_more() {
        let half = policy(1_000, 2.0, 60_000, 0.5);
        assert_eq!(half.delay(1, 0), DurationMs(1_000));
        assert_eq!(half.delay(1, 1 << 63), DurationMs(750));
        assert_eq!(half.delay(1, u64::MAX), DurationMs(500));
    }

    #[test]
    fn fields_out_of_bounds_are_refused_by_name() {
        assert_eq!(RetryPolicy::default().validate(), Ok(()));
        assert_eq!(policy(0, 1.0, limits::RETRY_DELAY_MS_MAX, 1.0).validate(), Ok(()));
        let attempts = |max_attempts| RetryPolicy { max_attempts, ..RetryPolicy::default() };
        let codes = |code: &str, len| RetryPolicy { retry_on: vec![code.to_owned(); len], ..RetryPolicy::default() };
        let week = limits::RETRY_DELAY_MS_MAX;
        for (policy, words) in [
            (attempts(0), "retry.max_attempts is 0, not 1 to 1000"),
            (attempts(1_001), "retry.max_attempts is 1001, not 1 to 1000"),
            (policy(week + 1, 2.0, 1, 0.0), "retry.initial is 604800001ms, not 0ms to 7d"),
            (policy(1, 2.0, week + 1, 0.0), "retry.max_delay is 604800001ms, not 0ms to 7d"),
            (policy(1, 0.5, 1, 0.0), "retry.factor is 0.5, not 1 to 100"),
            (policy(1, f64::NAN, 1, 0.0), "retry.factor is NaN, not 1 to 100"),
            (policy(1, f64::INFINITY, 1, 0.0), "retry.factor is inf, not 1 to 100"),
            (policy(1, 1.0, 1, -0.1), "retry.jitter is -0.1, not 0 to 1"),
            (codes("x", 65), "retry.retry_on's length is 65, not 0 to 64"),
            (codes("", 1), "retry.retry_on's code length is 0, not 1 to 256"),
        ] {
            assert_eq!(policy.validate().unwrap_err().to_string(), words);
        }
    }

    #[test]
    fn listed_codes_decide_where_there_are_any() {
        let timeout = TaskError::new("timeout", "took longer than 1h");
        let all = RetryPolicy::default();
        assert!(all.retries(&timeout, true) && !all.retries(&timeout, false));
        let listed = RetryPolicy { retry_on: vec!["timeout".to_owned()], ..RetryPolicy::default() };
        assert!(listed.retries(&timeout, false));
        assert!(!listed.retries(&TaskError::new("exit_status", "exit status 1"), true));
    }

    #[test]
    fn a_permanent_exit_code_is_permanent_though_exit_codes_are_listed() {
        let listed = RetryPolicy { retry_on: vec![EXIT_STATUS.to_owned()], ..RetryPolicy::default() };
        let exit = TaskError::new(EXIT_STATUS, "exit status 65");
        assert!(listed.retries(&exit, true) && !listed.retries(&exit, false));
    }

    #[test]
    fn a_place_that_was_closed_says_nothing_of_the_task_whatever_is_listed() {
        let listed = RetryPolicy { retry_on: vec!["timeout".to_owned()], ..RetryPolicy::default() };
        for code in PLACE_CLOSED_CODES {
            assert!(listed.retries(&TaskError::new(code, "the node drained"), true), "{code}");
        }
    }

    proptest! {
        #[test]
        fn a_wait_never_exceeds_the_longest(
            initial: u64, factor: f64, max_delay: u64, jitter: f64, failed_attempts: u32, entropy: u64,
        ) {
            let wait = policy(initial, factor, max_delay, jitter).delay(failed_attempts, entropy);
            prop_assert!(wait.0 <= max_delay);
        }

        #[test]
        fn without_jitter_waits_only_grow(
            initial in 0..=limits::RETRY_DELAY_MS_MAX, factor in 1.0..=limits::RETRY_FACTOR_MAX,
            max_delay in 0..=limits::RETRY_DELAY_MS_MAX, entropy: u64,
        ) {
            let policy = policy(initial, factor, max_delay, 0.0);
            prop_assert_eq!(policy.validate(), Ok(()));
            let waits: Vec<DurationMs> = (1..50).map(|failed| policy.delay(failed, entropy)).collect();
            prop_assert!(waits.is_sorted(), "{:?}", waits);
        }

        #[test]
        fn jitter_only_takes_away(jitter in 0.0..=1.0, failed_attempts in 1u32..20, entropy: u64) {
            let plain = policy(1_000, 1.7, 60_000, 0.0).delay(failed_attempts, 0).0 as f64;
            let wait = policy(1_000, 1.7, 60_000, jitter).delay(failed_attempts, entropy).0 as f64;
            prop_assert!(wait <= plain && wait >= plain * (1.0 - jitter) - 2.0);
        }
    }
}
