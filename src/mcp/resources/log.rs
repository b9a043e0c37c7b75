//! What the newest attempt of a task has said so far.

use std::time::Duration;

use magpie_core::ids::{PeerId, TaskId};
use magpie_core::progress::{AttemptRecord, Progress};
use magpie_core::stream::{Inlet, Taken};
use magpie_core::task::TaskState;
use serde::Serialize;
use serde_json::Value;

use super::events::{SLACK, WINDOW, out_of_step};
use crate::mcp::answer::ToolError;
use crate::mcp::link::{self, NodeLink};
use crate::messages::stream::{StreamReply, StreamRequest, TaskPiece, Unread};

/// What is shown of a log: its end.
const SHOWN_BYTES_MAX: usize = 48 * 1024;
/// Questions of one reading: a worker keeps a mebibyte of an attempt, and answers 32 KiB at a time.
const ASKS_MAX: usize = 64;
/// Sentences about what is missing.
const MISSING_LEN_MAX: usize = 8;

#[derive(Debug, Serialize)]
struct LogShown {
    task_id: String,
    state: String,
    /// The attempt that said it, by the epoch of its lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    log: String,
    /// Bytes that came before what is shown.
    bytes_before: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    /// What is not kept any more, or not told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    /// How to read all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<String>,
    /// Fields that hold what tasks wrote: data, not instructions.
    untrusted: [&'static str; 2],
}

/// The end of the log as it is by now.
pub async fn read(id: TaskId, link: &NodeLink) -> Result<Value, ToolError> {
    let (mut reader, mut shown) = (LogReader::new(id), LogShown::new(id));
    for _ in 0..ASKS_MAX {
        let said = reader.next(link, 0).await?;
        let is_all = said.over || said.taken.is_none();
        shown.take(said);
        if is_all {
            break;
        }
    }
    serde_json::to_value(shown.finished()).map_err(|error| ToolError::internal(&error))
}

impl LogShown {
    fn new(id: TaskId) -> Self {
        Self {
            task_id: id.to_string(),
            state: String::new(),
            epoch: None,
            log: String::new(),
            bytes_before: 0,
            progress: None,
            missing: Vec::new(),
            rest: None,
            untrusted: ["log", "progress.message"],
        }
    }

    fn take(&mut self, said: Said) {
        self.state = said.state.to_string();
        if let Some(taken) = said.taken {
            self.take_records(taken);
        }
        if let Some(Unread { epoch, why, log_tail, .. }) = said.unread {
            self.epoch = Some(epoch.0);
            self.log.push_str(&log_tail);
            self.say_missing(why);
        }
    }

    fn take_records(&mut self, taken: Taken<AttemptRecord>) {
        if self.epoch.is_some_and(|epoch| epoch != taken.epoch.0) {
            // Another attempt has begun: of the one before it nothing is shown.
            (self.log, self.bytes_before, self.progress) = (String::new(), 0, None);
        }
        self.epoch = Some(taken.epoch.0);
        if let Some(gone) = taken.gone {
            self.say_missing(gone.to_string());
        }
        for record in taken.records {
            match record {
                AttemptRecord::Log(text) => self.log.push_str(&text),
                AttemptRecord::Progress(progress) => self.progress = Some(progress),
            }
        }
        self.cut(2 * SHOWN_BYTES_MAX);
    }

    fn say_missing(&mut self, what: String) {
        if self.missing.len() < MISSING_LEN_MAX {
            self.missing.push(what);
        }
    }

    /// Keeps the end, at most `bytes_max`.
    fn cut(&mut self, bytes_max: usize) {
        let start = self.log.ceil_char_boundary(self.log.len().saturating_sub(bytes_max));
        self.log.drain(..start);
        self.bytes_before += start;
    }

    fn finished(mut self) -> Self {
        self.cut(SHOWN_BYTES_MAX);
        let (is_cut, id) = (self.bytes_before > 0, &self.task_id);
        self.rest = is_cut.then(|| format!("nodectl task logs {id} prints all that is kept"));
        self
    }
}

/// Follows what the attempts of a task say.
#[derive(Debug)]
pub struct LogReader {
    id: TaskId,
    inlet: Inlet,
    said_by: Option<PeerId>,
}

/// What came of one question.
pub struct Said {
    pub state: TaskState,
    pub taken: Option<Taken<AttemptRecord>>,
    /// The task has ended, and nothing follows.
    pub over: bool,
    pub unread: Option<Unread>,
}

impl LogReader {
    pub fn new(id: TaskId) -> Self {
        Self { id, inlet: Inlet::new(None), said_by: None }
    }

    /// What follows, after a wait for it.
    pub async fn next(&mut self, link: &NodeLink, wait_ms: u64) -> Result<Said, ToolError> {
        let (ask, said_by, ended) = (self.inlet.ask(WINDOW), self.said_by, self.inlet.has_ended());
        let request = StreamRequest::Task { id: self.id, ask, said_by, ended, wait_ms };
        let patience = Duration::from_millis(wait_ms) + SLACK;
        let StreamReply::Task(TaskPiece { state, said_by, piece, over, unread }) =
            link.stream(request, patience).await?
        else {
            return Err(link::unexpected());
        };
        let taken = piece.map(|piece| self.inlet.take(piece)).transpose().map_err(|error| out_of_step(&error))?;
        if taken.is_some() {
            self.said_by = said_by;
        }
        Ok(Said { state, taken, over, unread })
    }

    /// How far it is: the attempt and its last record.
    pub fn at(&self) -> (u64, u64) {
        self.inlet.checkpoint().map_or((0, 0), |at| (at.epoch.0, at.seq))
    }
}

#[cfg(test)]
mod tests {
    use magpie_core::ids::LedgerTag;
    use magpie_core::stream::StreamEpoch;

    use super::*;

    fn said(epoch: u64, texts: &[&str]) -> Said {
        let records = texts.iter().map(|text| AttemptRecord::Log((*text).to_owned())).collect();
        let epoch = StreamEpoch(epoch);
        let taken = Taken { epoch, left: None, gone: None, first: 1, records, ended: false };
        Said { state: TaskState::Running, taken: Some(taken), over: false, unread: None }
    }

    fn shown() -> LogShown {
        LogShown::new(TaskId { ulid: 1, ledger: LedgerTag([0; 5]) })
    }

    #[test]
    fn the_end_of_the_newest_attempt_is_shown() {
        let mut log = shown();
        log.take(said(1, &["first ", "attempt"]));
        log.take(said(2, &["second\n"]));
        log.take(said(2, &["and on"]));
        let log = log.finished();
        assert_eq!((log.epoch, log.log.as_str(), log.bytes_before, log.rest), (Some(2), "second\nand on", 0, None));
    }

    #[test]
    fn a_long_log_is_cut_between_two_characters_and_says_so() {
        let mut log = shown();
        for _ in 0..30 {
            log.take(said(1, &["ä".repeat(5_000).as_str(), "x"]));
        }
        let log = log.finished();
        assert!(log.log.len() <= SHOWN_BYTES_MAX && log.log.len() > SHOWN_BYTES_MAX - 4);
        assert_eq!(log.bytes_before + log.log.len(), 30 * 10_001);
        assert!(log.rest.unwrap().contains("nodectl task logs"));
    }

    #[test]
    fn what_its_worker_does_not_tell_any_more_is_the_end_that_its_home_has() {
        let mut log = shown();
        let unread = Unread { epoch: StreamEpoch(3), why: "gone".into(), away: false, log_tail: "the end".into() };
        log.take(Said { state: TaskState::Succeeded, taken: None, over: true, unread: Some(unread) });
        let log = log.finished();
        assert_eq!((log.epoch, log.log.as_str(), log.missing), (Some(3), "the end", vec!["gone".to_owned()]));
    }
}
