//! How an attempt ended, and what it took.

use serde::{Deserialize, Serialize};

use crate::payload::Payload;
use crate::task::{TaskError, is_default};

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptResult {
    Succeeded { output: Payload },
    Failed { error: TaskError, retryable: bool },
}

/// Time that was measured where the work was done, in microseconds. What nobody measured is absent, and not 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    /// Processor time, of all threads and processes of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// Time for which a GPU was busy with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_us: Option<u64>,
}

impl Used {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Of two that were measured the sum; of one that was not, the other.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        };
        Self { cpu_us: sum(self.cpu_us, other.cpu_us), gpu_us: sum(self.gpu_us, other.gpu_us) }
    }
}

/// What a worker reports of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub result: AttemptResult,
    /// The end of what the attempt wrote to its log, at most [`crate::limits::LOG_TAIL_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// Execution time on the worker, without its wait there.
    pub ran_ms: u64,
    /// Of a worker of an earlier version nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub used: Used,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_adds_nothing_and_is_not_written() {
        let (cpu, gpu) = (Used { cpu_us: Some(3), gpu_us: None }, Used { cpu_us: Some(4), gpu_us: Some(0) });
        assert_eq!(cpu.plus(gpu), Used { cpu_us: Some(7), gpu_us: Some(0) });
        assert_eq!(cpu.plus(Used::default()), cpu);
        assert!(Used::default().is_nothing() && !gpu.is_nothing());
        assert_eq!(serde_json::to_string(&cpu).unwrap(), r#"{"cpu_us":3}"#);
        let earlier: Outcome = serde_json::from_str(r#"{"result":{"succeeded":{"output":1}},"ran_ms":2}"#).unwrap();
        assert!(earlier.used.is_nothing());
    }
}
