//! Streams between nodes: records in order, each once, from where a reader stopped.
//!
//! A sender numbers its records from 1 and keeps the newest of them in an [`Outlet`]. A reader asks for what follows its
//! [`Checkpoint`], which acknowledges all up to it, and takes what comes through an [`Inlet`]. So a sender knows nothing
//! of its readers, a cut costs a reader one more question, and nothing is sent that nobody asked for: a slow reader
//! holds up nobody. An answer may be lost, late, doubled or overtaken by another: the inlet takes it once and in its
//! place, or asks again. What is not kept any more is said, with its numbers; so is a sender that began anew.

mod inlet;
mod outlet;
mod shelf;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use inlet::{Inlet, TakeError, Taken};
pub use outlet::Outlet;
pub use shelf::{Shelf, ShelfBounds};

/// Which life of a sender numbered its records: a later one begins again with 1, and knows nothing of the earlier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamEpoch(pub u64);

impl fmt::Display for StreamEpoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The last record that a reader has taken; `seq` 0: none of that epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub epoch: StreamEpoch,
    pub seq: u64,
}

/// What one answer may carry: more comes when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub len_max: u32,
    pub bytes_max: u32,
}

/// A reader's question: what follows what it has. All up to `after` is acknowledged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Checkpoint>,
    pub window: Window,
}

/// Records that follow each other, as a sender answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece<R> {
    pub epoch: StreamEpoch,
    /// The number of the first of `records`, or of the record that comes next if there is none.
    pub first: u64,
    /// The first record that the sender still keeps. It only grows.
    pub kept_from: u64,
    pub records: Vec<R>,
    /// No record follows these in this epoch.
    pub ended: bool,
}

impl<R> Piece<R> {
    /// The number of the record that follows these.
    fn next(&self) -> Option<u64> {
        self.first.checked_add(self.records.len() as u64)
    }
}

/// Records that are not kept any more: the numbers from `from` up to, and without, `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gone {
    pub epoch: StreamEpoch,
    pub from: u64,
    pub before: u64,
}

impl fmt::Display for Gone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, before, .. } = *self;
        match before - from {
            1 => write!(formatter, "record {from} is not kept any more"),
            count => write!(formatter, "records {from} to {} are not kept any more: {count} of them", before - 1),
        }
    }
}

/// A checkpoint that is none of this stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    #[error("the stream ends with record {held}, and record {presented} was to be its last: it lost its end")]
    Ahead { held: u64, presented: u64 },
    #[error("the stream is in epoch {held}, presented a checkpoint of the later epoch {presented}: it is an old copy")]
    Later { held: StreamEpoch, presented: StreamEpoch },
}
