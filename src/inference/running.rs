//! A device process at work: its stream, its log, and its end.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use magpie_core::limits::{DEVICE_STOP_TIMEOUT_MS, LOG_TAIL_BYTES_MAX};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::conversation::{ConversationError, Pending, ReplyReader, write_all};

/// A line of the log that is longer comes in pieces.
const LOG_LINE_BYTES_MAX: u64 = 4 * 1024;
/// What the log of a process that has ended may still take to come out of the pipe.
const LOG_REST_MS: u64 = 500;

/// How a device process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceExit {
    /// `exit status: 1`, `signal: 9 (SIGKILL)`, and what broke the conversation, if that came first.
    pub cause: String,
    /// The end of what it logged.
    pub log: String,
}

impl fmt::Display for DeviceExit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.cause)?;
        let last = self.log.trim_end().rsplit('\n').next().unwrap_or_default();
        if last.is_empty() { Ok(()) } else { write!(formatter, ", last words: {last}") }
    }
}

/// The process's side of a conversation.
pub(super) struct Running {
    pub child: Child,
    pub log: Log,
    pub replies: ReplyReader<OwnedReadHalf>,
}

impl Running {
    /// Passes requests and replies on until one side ends.
    pub async fn converse(
        mut self,
        output: OwnedWriteHalf,
        mut frames: mpsc::Receiver<Vec<u8>>,
        pending: &Pending,
    ) -> DeviceExit {
        let writing = async {
            match write_all(output, &mut frames).await {
                // The node has closed its side; the process ends, which ends the replies.
                Ok(()) => std::future::pending().await,
                Err(error) => ConversationError::Broken(error),
            }
        };
        let broken = tokio::select! {
            error = self.replies.settle_all(pending) => error,
            error = writing => error,
        };
        self.end(Some(broken)).await
    }

    /// Sees the process out, with a kill if it has broken the conversation without ending.
    pub async fn end(mut self, broken: Option<ConversationError>) -> DeviceExit {
        let spoke_nonsense = !matches!(broken, None | Some(ConversationError::Ended | ConversationError::Broken(_)));
        if spoke_nonsense {
            // Already gone is as good.
            let _ = self.child.start_kill();
        }
        let waited = timeout(Duration::from_millis(DEVICE_STOP_TIMEOUT_MS), self.child.wait()).await;
        let ended = match waited {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                let _ = self.child.start_kill();
                "killed: it closed its stream and went on".to_owned()
            }
        };
        let cause = match broken {
            Some(error) if spoke_nonsense => format!("{error}; killed"),
            _ => ended,
        };
        DeviceExit { cause, log: self.log.finish().await }
    }
}

/// The end of what a process logs, kept while it is passed on.
pub(super) struct Log {
    tail: Arc<Mutex<String>>,
    following: JoinHandle<()>,
}

impl Log {
    pub fn follow(stderr: Option<ChildStderr>) -> Self {
        let tail = Arc::new(Mutex::new(String::new()));
        let kept = tail.clone();
        let following = tokio::spawn(async move {
            let Some(stderr) = stderr else { return };
            let mut lines = BufReader::new(stderr);
            let mut line = Vec::new();
            while (&mut lines).take(LOG_LINE_BYTES_MAX).read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line);
                tracing::info!(target: "magpie::device", "{}", text.trim_end());
                keep_tail(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), &text);
                line.clear();
            }
        });
        Self { tail, following }
    }

    /// The tail, once the process has ended and closed its end of the pipe.
    async fn finish(mut self) -> String {
        // A child of the process may hold the pipe open for ever.
        let _ = timeout(Duration::from_millis(LOG_REST_MS), &mut self.following).await;
        std::mem::take(&mut *self.tail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.following.abort();
    }
}

fn keep_tail(tail: &mut String, text: &str) {
    tail.push_str(text);
    let over = tail.len().saturating_sub(LOG_TAIL_BYTES_MAX);
    let cut = (over..=tail.len()).find(|place| tail.is_char_boundary(*place)).unwrap_or(tail.len());
    tail.drain(..cut);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_its_end_whole_characters() {
        let mut tail = String::new();
        for _ in 0..LOG_TAIL_BYTES_MAX {
            keep_tail(&mut tail, "aü");
        }
        assert!((LOG_TAIL_BYTES_MAX - 3..=LOG_TAIL_BYTES_MAX).contains(&tail.len()));
        assert!(tail.ends_with("aü"));
    }

    #[test]
    fn an_exit_quotes_the_last_line_of_the_log() {
        let exit = DeviceExit { cause: "exit status: 1".to_owned(), log: "first\nsecond\n".to_owned() };
        assert_eq!(exit.to_string(), "exit status: 1, last words: second");
        assert_eq!(DeviceExit { log: String::new(), ..exit }.to_string(), "exit status: 1");
    }
}
