//! Why an attempt failed, as its executor says it.

use magpie_core::limits;
use magpie_core::task::{TaskError, TaskSpec};

use super::stop::{Halt, StopReason};

/// A failed attempt: the code and sentence that the task keeps, and whether another attempt may do better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct AttemptError {
    pub error: TaskError,
    pub retryable: bool,
    /// Nothing of it ran, because this machine refused what it needs, or it was stopped before: it counts as no attempt.
    pub unstarted: bool,
}

impl AttemptError {
    /// The same input would fail again.
    pub fn permanent(code: &str, message: impl Into<String>) -> Self {
        Self { error: TaskError::new(code, cut(message.into())), retryable: false, unstarted: false }
    }

    /// Another attempt may succeed.
    pub fn retryable(code: &str, message: impl Into<String>) -> Self {
        Self { error: TaskError::new(code, cut(message.into())), retryable: true, unstarted: false }
    }

    /// It could not begin here.
    pub(super) fn unstarted(code: &str, message: impl Into<String>) -> Self {
        Self { unstarted: true, ..Self::retryable(code, message) }
    }

    pub(super) fn halted(halt: Halt, spec: &TaskSpec) -> Self {
        match halt {
            Halt::TimedOut => Self::retryable("timeout", format!("ran longer than its timeout of {}", spec.timeout)),
            Halt::Stopped(reason) => Self::retryable(reason.name(), reason.in_words()),
        }
    }

    /// As [`Self::halted`], of one that only prepared: what this node ended was no attempt. A timeout counts, or a task that
    /// never gets ready would be tried for ever.
    pub(super) fn halted_before_it_began(halt: Halt, spec: &TaskSpec) -> Self {
        let unstarted = matches!(halt, Halt::Stopped(StopReason::Drained | StopReason::LeaseEnded));
        Self { unstarted, ..Self::halted(halt, spec) }
    }
}

fn cut(mut message: String) -> String {
    let mut end = message.len().min(limits::ERROR_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_characters() {
        let error = AttemptError::permanent("x", "é".repeat(limits::ERROR_BYTES_MAX));
        assert_eq!(error.error.message.len(), limits::ERROR_BYTES_MAX);
        assert_eq!(AttemptError::permanent("x", "é1".repeat(3_000)).error.message.len(), limits::ERROR_BYTES_MAX - 1);
    }
}
