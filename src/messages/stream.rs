//! To those who follow: what attempts say while they run, and the events of a home.

use magpie_core::ids::{ContentId, LedgerTag, PeerId, TaskId};
use magpie_core::lease::Fence;
use magpie_core::progress::AttemptRecord;
use magpie_core::queue::EventView;
use magpie_core::stream::{Ask, Piece, StreamEpoch};
use magpie_core::task::TaskState;
use serde::{Deserialize, Serialize};

/// A ledger numbers its records once, whichever node serves it: its events are of one epoch for ever.
pub const EVENTS_EPOCH: StreamEpoch = StreamEpoch(1);

/// Each is answered when there is something new, at the latest after its wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamRequest {
    /// What the attempts of a task say, one after the other. Its home asks the worker. The epochs are those of leases.
    Task {
        id: TaskId,
        ask: Ask,
        /// Who said what the reader has.
        #[serde(default)]
        said_by: Option<PeerId>,
        /// The reader has all of the attempt that its checkpoint names.
        #[serde(default)]
        ended: bool,
        wait_ms: u64,
    },
    /// From a home to a worker: what one attempt says.
    Attempt { fence: Fence, ask: Ask, wait_ms: u64 },
    /// The synced records of a home.
    Events(EventsAsk),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsAsk {
    /// None: the node's that is asked.
    #[serde(default)]
    pub home: Option<LedgerTag>,
    pub ask: Ask,
    /// The event that the reader took last: another copy of the ledger has another.
    #[serde(default)]
    pub event: Option<ContentId>,
    /// Without a checkpoint: begin so many before the newest.
    #[serde(default)]
    pub last: Option<u64>,
    pub wait_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamReply {
    Task(TaskPiece),
    Attempt(AttemptPiece),
    /// None: nothing new.
    Events(Option<Piece<EventView>>),
}

/// What a home knows for a follower of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskPiece {
    pub state: TaskState,
    /// Who said the piece: the next question names it.
    #[serde(default)]
    pub said_by: Option<PeerId>,
    /// None: nothing new.
    #[serde(default)]
    pub piece: Option<Piece<AttemptRecord>>,
    /// The task has ended, and nothing follows.
    #[serde(default)]
    pub over: bool,
    #[serde(default)]
    pub unread: Option<Unread>,
}

/// What the newest attempt of a task that is over said, and nobody tells any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    pub epoch: StreamEpoch,
    pub why: String,
    /// Its worker may come back.
    pub away: bool,
    /// The end of its log, as its home recorded it with the outcome.
    #[serde(default)]
    pub log_tail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptPiece {
    Said(Piece<AttemptRecord>),
    NothingNew,
    /// This worker ran no such attempt, or has not kept what it said.
    NotKept,
}
