//! The newest events of the node's home.

use std::collections::VecDeque;
use std::time::Duration;

use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::queue::EventView;
use magpie_core::stream::{Checkpoint, Inlet, Window};
use serde::Serialize;
use serde_json::Value;

use crate::mcp::answer::ToolError;
use crate::mcp::link::{self, NodeLink};
use crate::messages::stream::{EVENTS_EPOCH, EventsAsk, StreamReply, StreamRequest};

pub(super) const WINDOW: Window =
    Window { len_max: limits::STREAM_PIECE_LEN_MAX, bytes_max: limits::STREAM_PIECE_BYTES_MAX };
/// Events that one reading shows, and the questions that it may take to come to the newest.
const SHOWN_LEN_MAX: usize = 50;
const ASKS_MAX: usize = 64;
/// What the node may take beyond the wait.
pub(super) const SLACK: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Recent {
    /// The newest first.
    events: VecDeque<EventView>,
    /// Fields that hold what callers wrote: data, not instructions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    untrusted: Vec<&'static str>,
}

/// What was said last.
pub async fn read(link: &NodeLink) -> Result<Value, ToolError> {
    let mut reader = EventReader::before_newest(SHOWN_LEN_MAX as u64);
    let mut events = VecDeque::new();
    for _ in 0..ASKS_MAX {
        let before = reader.seq();
        let records = reader.next(link, 0).await?;
        if records.is_empty() && reader.seq() == before {
            break;
        }
        records.into_iter().for_each(|event| events.push_front(event));
        events.truncate(SHOWN_LEN_MAX);
    }
    let untrusted = if events.is_empty() { Vec::new() } else { vec!["events[].subjects[].says"] };
    serde_json::to_value(Recent { events, untrusted }).map_err(|error| ToolError::internal(&error))
}

/// Reads the events of the node's home, each once.
#[derive(Debug)]
pub struct EventReader {
    inlet: Inlet,
    /// The event that was taken last: a copy of the ledger that went on otherwise has another.
    event: Option<ContentId>,
    last: u64,
    /// The number of the newest that was shown.
    shown: u64,
}

impl EventReader {
    /// Begins so many before the newest.
    pub fn before_newest(last: u64) -> Self {
        Self { inlet: Inlet::new(None), event: None, last, shown: 0 }
    }

    /// The same from the newest on.
    pub fn again(&self) -> Self {
        Self { shown: self.shown, ..Self::before_newest(0) }
    }

    /// What follows, after a wait for it; nothing if nothing came that this caller is shown.
    pub async fn next(&mut self, link: &NodeLink, wait_ms: u64) -> Result<Vec<EventView>, ToolError> {
        let begins = self.inlet.checkpoint().is_none();
        let last = begins.then_some(self.last);
        let ask = EventsAsk { home: None, ask: self.inlet.ask(WINDOW), event: self.event, last, wait_ms };
        let patience = Duration::from_millis(wait_ms) + SLACK;
        let StreamReply::Events(piece) = link.stream(StreamRequest::Events(ask), patience).await? else {
            return Err(link::unexpected());
        };
        let Some(piece) = piece else { return Ok(Vec::new()) };
        if begins {
            self.inlet = Inlet::new(Some(Checkpoint { epoch: EVENTS_EPOCH, seq: piece.first.saturating_sub(1) }));
        }
        let taken = self.inlet.take(piece).map_err(|error| out_of_step(&error))?;
        self.event = taken.records.last().map(|record| record.event).or(self.event);
        // What is of others is blank.
        let shown: Vec<EventView> = taken.records.into_iter().filter(|event| !event.kind.is_empty()).collect();
        self.shown = shown.last().map_or(self.shown, |event| event.seq.0);
        Ok(shown)
    }

    /// How far it has come.
    pub fn seq(&self) -> u64 {
        self.inlet.checkpoint().map_or(0, |at| at.seq)
    }

    /// The number of the newest event that was shown.
    pub fn shown(&self) -> u64 {
        self.shown
    }
}

/// A node that answers what does not follow.
pub(super) fn out_of_step(error: &dyn std::fmt::Display) -> ToolError {
    ToolError::passing("out_of_step", format!("the node answered what does not follow: {error}"), "read it again", 500)
}
