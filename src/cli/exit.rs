//! How a command ends: its exit code, and in words why.

use std::io;
use std::process::ExitCode;

use magpie_core::queue::Refusal;

use crate::client::ClientError;

/// What a script may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    /// The task or workflow failed, is dead, was cancelled or skipped.
    Failed = 1,
    /// Usage or bad input: nothing was changed.
    Usage = 2,
    NotFound = 3,
    Unreachable = 4,
    TimedOut = 5,
    /// By role, quota or overload.
    Refused = 6,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not do what it was asked: what, why, and what to do next.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct CommandError {
    pub exit: Exit,
    what: String,
}

impl CommandError {
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into() }
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Standard output that cannot be written to; a reader that has read enough is no error.
    pub fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Exit::Ok, ""),
            _ => Self::new(Exit::Failed, format!("cannot write to standard output: {error}")),
        }
    }

    /// The same, and what goes on all the same.
    pub fn with_rest(self, rest: Option<String>) -> Self {
        let what = rest.into_iter().fold(self.what, |what, rest| format!("{what}; {rest}"));
        Self { what, ..self }
    }

    /// Whether there is nothing to say.
    pub fn is_silent(&self) -> bool {
        self.what.is_empty()
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => refusal.into(),
            ClientError::TooLarge(_) => Self::usage(error.to_string()),
            ClientError::Unreachable { .. } | ClientError::NotAdmitted { .. } | ClientError::TimedOut { .. } => {
                Self::new(Exit::Unreachable, error.to_string())
            }
            ClientError::Closed => {
                Self::new(Exit::Unreachable, format!("{error}; it may be starting again: try once more"))
            }
            ClientError::Unexpected => {
                Self::new(Exit::Unreachable, format!("{error}; are `node` and `nodectl` of the same version?"))
            }
        }
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        let exit = match &refusal {
            Refusal::NotFound { .. } | Refusal::Pruned { .. } => Exit::NotFound,
            Refusal::Invalid { .. } => Exit::Usage,
            Refusal::NotHome { .. }
            | Refusal::HomeUnreachable { .. }
            | Refusal::HomeAway { .. }
            | Refusal::HomeSuspended { .. }
            | Refusal::Unavailable { .. } => Exit::Unreachable,
            Refusal::Overloaded { .. }
            | Refusal::Draining { .. }
            | Refusal::AlreadyTerminal { .. }
            | Refusal::WrongState { .. }
            | Refusal::QueueChanged { .. }
            | Refusal::IdempotencyConflict { .. }
            | Refusal::Forbidden { .. }
            | Refusal::HomeMoved { .. }
            | Refusal::Unsupported { .. } => Exit::Refused,
        };
        Self::new(exit, refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_read_enough_is_no_error() {
        let error = CommandError::output(&io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.exit, Exit::Ok);
        assert!(error.is_silent());
    }

    #[test]
    fn each_refusal_has_its_exit_code() {
        let overloaded = Refusal::Overloaded { retry_after_ms: 1_000, what: "live tasks".to_owned() };
        let forbidden = Refusal::Forbidden { needs: "operator".to_owned(), has: "agent".to_owned() };
        let unavailable = Refusal::Unavailable { what: "the ledger is restarting".to_owned() };
        for (refusal, exit) in [
            (overloaded, Exit::Refused),
            (forbidden, Exit::Refused),
            (unavailable, Exit::Unreachable),
            (Refusal::Draining { why: "it was told to end".to_owned() }, Exit::Refused),
            (Refusal::invalid("/kind", "no such kind", "write noop"), Exit::Usage),
        ] {
            assert_eq!(CommandError::from(refusal).exit, exit);
        }
    }
}
