//! Follows what the attempts of a task say, through cuts and restarts, each record once.

use std::time::{Duration, Instant};

use magpie_core::ids::{PeerId, TaskId};
use magpie_core::limits;
use magpie_core::progress::AttemptRecord;
use magpie_core::stream::{Checkpoint, Inlet, Taken};
use magpie_core::task::TaskState;

use crate::cli::connection::{NodeLink, unexpected};
use crate::cli::deadline::Deadline;
use crate::cli::exit::CommandError;
use crate::cli::stream::{WINDOW, take};
use crate::messages::stream::{StreamReply, StreamRequest, TaskPiece, Unread};
use crate::messages::{Answer, Body};

/// What a node may take beyond the wait.
const SLACK: Duration = Duration::from_secs(10);
/// How long a worker that does not answer is waited for when its task has ended.
const AWAY: Duration = Duration::from_secs(10);
const AWAY_PAUSE: Duration = Duration::from_millis(500);

pub struct TaskReader<'a> {
    link: &'a NodeLink,
    id: TaskId,
    inlet: Inlet,
    said_by: Option<PeerId>,
    /// Since when the worker of a task that has ended does not answer.
    away: Option<Instant>,
}

/// What came of one question.
pub struct Told {
    pub state: TaskState,
    pub taken: Option<Taken<AttemptRecord>>,
    /// The task has ended, and nothing follows but this.
    pub over: bool,
    pub unread: Option<Unread>,
}

impl<'a> TaskReader<'a> {
    pub fn new(link: &'a NodeLink, id: TaskId, after: Option<Checkpoint>) -> Self {
        Self { link, id, inlet: Inlet::new(after), said_by: None, away: None }
    }

    /// The last record that was taken.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.inlet.checkpoint()
    }

    /// Waits for more, at most `wait`; what is away meanwhile is asked again until `deadline`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn next(&mut self, wait: Duration, deadline: Deadline) -> Result<Told, CommandError> {
        loop {
            let told = self.ask(wait, deadline).await?;
            let away = told.unread.as_ref().is_some_and(|unread| unread.away);
            if !away || wait.is_zero() {
                return Ok(told);
            }
            if self.away.get_or_insert_with(Instant::now).elapsed() >= AWAY || deadline.has_passed() {
                return Ok(told);
            }
            tokio::time::sleep(deadline.cap(AWAY_PAUSE)).await;
        }
    }

    async fn ask(&mut self, wait: Duration, deadline: Deadline) -> Result<Told, CommandError> {
        let wait = deadline.cap(wait.min(Duration::from_millis(limits::STREAM_WAIT_MS_MAX)));
        let (ask, said_by, ended) = (self.inlet.ask(WINDOW), self.said_by, self.inlet.has_ended());
        let request = StreamRequest::Task { id: self.id, ask, said_by, ended, wait_ms: wait.as_millis() as u64 };
        let answer = self.link.insist(&Body::Stream(request), wait + SLACK, deadline).await?;
        let Answer::Stream(StreamReply::Task(TaskPiece { state, said_by, piece, over, unread })) = answer else {
            return Err(unexpected());
        };
        let taken = take(&mut self.inlet, piece)?;
        if taken.is_some() {
            (self.said_by, self.away) = (said_by, None);
        }
        Ok(Told { state, taken, over, unread })
    }
}
