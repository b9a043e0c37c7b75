//! The streams that one node sends, within one bound.

use std::collections::BTreeMap;

use super::{Ask, CheckpointError, Outlet, Piece, StreamEpoch};

/// Outlets by what they tell of. What ended and was read to its end goes first when room is needed, then what ended
/// longest ago, then the oldest records of whoever has the most.
#[derive(Debug, Clone)]
pub struct Shelf<K, R> {
    outlets: BTreeMap<K, Placed<R>>,
    bytes: usize,
    ends: u64,
    ended_len: usize,
    bounds: ShelfBounds,
}

/// What a shelf holds at most.
#[derive(Debug, Clone, Copy)]
pub struct ShelfBounds {
    /// Of one stream.
    pub stream_bytes_max: usize,
    pub bytes_max: usize,
    /// Streams that have ended.
    pub ended_len_max: usize,
}

#[derive(Debug, Clone)]
struct Placed<R> {
    outlet: Outlet<R>,
    /// Counts the ends; 0: it goes on.
    ended: u64,
}

impl<K: Ord + Copy, R: Clone> Shelf<K, R> {
    pub fn new(bounds: ShelfBounds) -> Self {
        Self { outlets: BTreeMap::new(), bytes: 0, ends: 0, ended_len: 0, bounds }
    }

    /// A stream begins. One that began before goes on.
    pub fn begin(&mut self, key: K, epoch: StreamEpoch) {
        let fresh = || Placed { outlet: Outlet::new(epoch, self.bounds.stream_bytes_max), ended: 0 };
        self.outlets.entry(key).or_insert_with(fresh);
    }

    /// Takes the next record of a stream that goes on.
    pub fn push(&mut self, key: K, record: R, bytes: usize) {
        let Some(placed) = self.outlets.get_mut(&key) else { return };
        let before = placed.outlet.bytes();
        placed.outlet.push(record, bytes);
        self.bytes = self.bytes - before + placed.outlet.bytes();
        self.make_room();
    }

    /// No record follows in this stream.
    pub fn end(&mut self, key: K) {
        let Some(placed) = self.outlets.get_mut(&key).filter(|placed| placed.ended == 0) else { return };
        self.ends += 1;
        self.ended_len += 1;
        placed.ended = self.ends;
        placed.outlet.end();
        self.make_room();
    }

    /// As [`Outlet::read`]. `None`: it is not kept, or never began.
    pub fn read(&mut self, key: K, ask: &Ask) -> Option<Result<Option<Piece<R>>, CheckpointError>> {
        self.outlets.get_mut(&key).map(|placed| placed.outlet.read(ask))
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn make_room(&mut self) {
        while self.ended_len > self.bounds.ended_len_max || self.bytes > self.bounds.bytes_max {
            match self.least_missed() {
                Some(key) => self.remove(key),
                None => return self.shorten_largest(),
            }
        }
    }

    /// Of those that ended, the one that nobody will miss, or the oldest.
    fn least_missed(&self) -> Option<K> {
        let ended = self.outlets.iter().filter(|(_, placed)| placed.ended > 0);
        ended.min_by_key(|(_, placed)| (!placed.outlet.is_done(), placed.ended)).map(|(key, _)| *key)
    }

    fn remove(&mut self, key: K) {
        if let Some(placed) = self.outlets.remove(&key) {
            self.bytes -= placed.outlet.bytes();
            self.ended_len -= usize::from(placed.ended > 0);
        }
    }

    fn shorten_largest(&mut self) {
        while self.bytes > self.bounds.bytes_max {
            let largest = self.outlets.values_mut().max_by_key(|placed| placed.outlet.bytes());
            let Some(placed) = largest.filter(|placed| placed.outlet.bytes() > 0) else { return };
            let before = placed.outlet.bytes();
            placed.outlet.forget_oldest();
            self.bytes -= before - placed.outlet.bytes();
        }
    }
}
