//! The reading end of a stream.

use super::{Ask, Checkpoint, Gone, Piece, StreamEpoch, Window};
use crate::invariant::{InvariantId, check};

/// Takes each record once and in its place, whatever becomes of the answers on their way.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inlet {
    /// Where it stands; none: it has heard nothing yet.
    at: Option<Checkpoint>,
    /// No record follows in this epoch.
    ended: bool,
}

/// What is new in a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<R> {
    pub epoch: StreamEpoch,
    /// The epoch before it, if the sender began anew since, and whether the reader had seen that one's end. What else
    /// was said in it is not known.
    pub left: Option<(StreamEpoch, bool)>,
    /// What is missing before the records.
    pub gone: Option<Gone>,
    /// The number of the first of `records`.
    pub first: u64,
    pub records: Vec<R>,
    /// No record follows in this epoch.
    pub ended: bool,
}

/// A piece that is not taken. The reader asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    #[error("record {expected} is next, presented {presented}")]
    Gap { expected: u64, presented: u64 },
    #[error("it is of epoch {presented}, and {held} has begun")]
    Stale { held: StreamEpoch, presented: StreamEpoch },
    #[error("no sender answers from record {first} on when it keeps those from {kept_from} on")]
    Malformed { first: u64, kept_from: u64 },
}

impl Inlet {
    /// A reader that goes on from `at`; from the beginning of what is kept without it.
    pub fn new(at: Option<Checkpoint>) -> Self {
        Self { at, ended: false }
    }

    /// Where to go on from later: all up to it was taken.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.at
    }

    /// Whether no record follows in the epoch at hand.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What to ask for next.
    pub fn ask(&self, window: Window) -> Ask {
        Ask { after: self.at, window }
    }

    /// Takes what is new in a piece: nothing, of one that was taken before.
    ///
    /// # Errors
    /// If records before it are missing, or it is not one that a sender gives.
    pub fn take<R>(&mut self, piece: Piece<R>) -> Result<Taken<R>, TakeError> {
        let Piece { epoch, first, kept_from, .. } = piece;
        let malformed = TakeError::Malformed { first, kept_from };
        let next = piece.next().filter(|_| kept_from >= 1 && first >= kept_from).ok_or(malformed)?;
        let held = self.at.map(|at| at.epoch);
        if let Some(held) = held.filter(|held| *held > epoch) {
            return Err(TakeError::Stale { held, presented: epoch });
        }
        let goes_on = held == Some(epoch);
        let expected = self.at.filter(|_| goes_on).map_or(1, |at| at.seq.saturating_add(1));
        // A sender that begins with the first it keeps has nothing before it; that stays so whenever it was said.
        if first > expected && first != kept_from {
            return Err(TakeError::Gap { expected, presented: first });
        }
        let gone = (first > expected).then_some(Gone { epoch, from: expected, before: first });
        let known = expected.saturating_sub(first).min(piece.records.len() as u64);
        let left = held.filter(|_| !goes_on).map(|held| (held, self.ended));
        self.ended = piece.ended || (goes_on && self.ended);
        self.at = Some(Checkpoint { epoch, seq: next.max(expected) - 1 });
        let mut records = piece.records;
        records.drain(..known as usize);
        let is_next = records.is_empty() || first + known == gone.map_or(expected, |gone| gone.before);
        check(InvariantId::I22, is_next, "a record was taken out of its place");
        Ok(Taken { epoch, left, gone, first: first + known, records, ended: self.ended })
    }
}
