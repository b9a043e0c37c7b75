//! The sending end of a stream.

use std::collections::VecDeque;

use super::{Ask, Checkpoint, CheckpointError, Piece, StreamEpoch};

/// Numbers records and keeps the newest of them, within a bound in bytes, for readers that come back.
#[derive(Debug, Clone)]
pub struct Outlet<R> {
    epoch: StreamEpoch,
    /// The records that are kept, with their bytes; the first has the number `kept_from`.
    records: VecDeque<(R, usize)>,
    kept_from: u64,
    bytes: usize,
    bytes_max: usize,
    acknowledged: u64,
    ended: bool,
}

impl<R: Clone> Outlet<R> {
    pub fn new(epoch: StreamEpoch, bytes_max: usize) -> Self {
        Self { epoch, records: VecDeque::new(), kept_from: 1, bytes: 0, bytes_max, acknowledged: 0, ended: false }
    }

    /// Takes the next record, which counts `bytes`, and lets the oldest go if there is no room: its number. After the
    /// end nothing is taken.
    pub fn push(&mut self, record: R, bytes: usize) -> Option<u64> {
        if self.ended {
            return None;
        }
        self.records.push_back((record, bytes));
        self.bytes += bytes;
        // The newest stays, however large: a reader that keeps up loses nothing.
        while self.bytes > self.bytes_max && self.records.len() > 1 {
            self.forget_oldest();
        }
        Some(self.newest())
    }

    /// Lets the oldest record go.
    pub fn forget_oldest(&mut self) {
        if let Some((_, bytes)) = self.records.pop_front() {
            self.kept_from += 1;
            self.bytes -= bytes;
        }
    }

    /// No record follows.
    pub fn end(&mut self) {
        self.ended = true;
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes of the records that are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the oldest record that is kept, or of the next one.
    pub fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// The number of the last record; 0: there was none.
    pub fn newest(&self) -> u64 {
        self.kept_from + self.records.len() as u64 - 1
    }

    /// The highest number up to which a reader has taken all. A sender that may lose nothing sends within a window
    /// beyond it.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether a reader has seen the end.
    pub fn is_done(&self) -> bool {
        self.ended && self.acknowledged == self.newest()
    }

    /// What follows a reader's checkpoint. `None`: nothing yet. A checkpoint of an earlier epoch is answered from the
    /// beginning of this one.
    ///
    /// # Errors
    /// If the checkpoint is none of this stream.
    pub fn read(&mut self, ask: &Ask) -> Result<Option<Piece<R>>, CheckpointError> {
        let (epoch, newest) = (self.epoch, self.newest());
        let taken = match ask.after {
            Some(Checkpoint { epoch: presented, .. }) if presented > epoch => {
                return Err(CheckpointError::Later { held: epoch, presented });
            }
            Some(Checkpoint { epoch: presented, seq }) if presented == epoch => seq,
            Some(_) | None => 0,
        };
        if taken > newest {
            return Err(CheckpointError::Ahead { held: newest, presented: taken });
        }
        self.acknowledged = self.acknowledged.max(taken);
        let first = self.kept_from.max(taken + 1);
        let mut room = ask.window.bytes_max as usize;
        // The first is given whatever it takes: a reader with a small window must get on, too.
        let fits = |(index, (_, bytes)): &(usize, &(R, usize))| {
            let fits = *index == 0 || *bytes <= room;
            room = room.saturating_sub(*bytes);
            fits
        };
        let kept = self.records.range((first - self.kept_from) as usize..).take(ask.window.len_max.max(1) as usize);
        let records: Vec<R> = kept.enumerate().take_while(fits).map(|(_, (record, _))| record.clone()).collect();
        let ended = self.ended && first + records.len() as u64 == newest + 1;
        let is_news = !records.is_empty() || ended;
        Ok(is_news.then_some(Piece { epoch, first, kept_from: self.kept_from, records, ended }))
    }
}
