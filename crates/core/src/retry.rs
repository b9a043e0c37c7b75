//! How often and how soon a failed attempt is tried again.

use serde::{Deserialize, Serialize};

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
