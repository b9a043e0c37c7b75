//! Entries between the callers of `append`, who never wait, and the writer, who does nothing else.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use magpie_core::ids::LogIndex;
use magpie_core::limits;
use magpie_core::task::Durability;

use super::log::{AppendError, LogEntry, QueueRoom};

#[derive(Debug)]
pub(super) struct LogQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    next: LogIndex,
    closing: bool,
    /// Entries before it are to be cut off.
    cut: LogIndex,
    /// The writer is gone: nothing that is appended would be written.
    stopped: bool,
}

/// What the writer has to do.
#[derive(Debug)]
pub(super) enum Work {
    /// In order, at least one.
    Commit(Vec<LogEntry>),
    /// The time that the writer gave has come.
    Sync,
    /// Nothing is queued, and old entries are to be cut off; while something is, that is done beside each commit.
    Cut,
    /// The owner closed the log and nothing is left.
    Close,
}

impl LogQueue {
    pub(super) fn new(next: LogIndex) -> Self {
        let cut = LogIndex(0);
        let state = State { entries: VecDeque::new(), bytes: 0, next, closing: false, cut, stopped: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// No code under this lock can panic half way through a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_index(&self) -> LogIndex {
        self.state().next
    }

    pub(super) fn room(&self) -> QueueRoom {
        self.state().room()
    }

    /// Asks for all entries before `before` to be cut off.
    pub(super) fn cut(&self, before: LogIndex) {
        let mut state = self.state();
        state.cut = state.cut.max(before);
        drop(state);
        self.changed.notify_all();
    }

    /// The first entry that is to stay.
    pub(super) fn cut_before(&self) -> LogIndex {
        self.state().cut
    }

    /// Forgets a cut that is made, or cannot be made now, unless a later one was asked for meanwhile.
    pub(super) fn forget_cut(&self, before: LogIndex) {
        let mut state = self.state();
        if state.cut == before {
            state.cut = LogIndex(0);
        }
    }

    /// Takes all of `entries` or none.
    pub(super) fn push(&self, entries: Vec<LogEntry>) -> Result<(), AppendError> {
        let mut state = self.state();
        let next = check_sequence(state.next, &entries)?;
        if state.stopped || state.closing {
            return Err(AppendError::Closed);
        }
        let bytes: usize = entries.iter().map(|entry| entry.body.len()).sum();
        let room = state.room();
        if entries.len() > room.entries || bytes > room.bytes {
            return Err(AppendError::Full { entries, room });
        }
        state.next = next;
        state.bytes += bytes;
        state.entries.extend(entries);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for entries or a cut that leaves more than the log from `first` on, until `sync_due` at most.
    pub(super) fn take(&self, sync_due: Option<Instant>, first: LogIndex) -> Work {
        let mut state = self.state();
        loop {
            if !state.entries.is_empty() {
                return Work::Commit(state.take_batch());
            }
            if state.closing {
                return Work::Close;
            }
            if state.cut > first {
                return Work::Cut;
            }
            let left = sync_due.map(|due| due.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return Work::Sync,
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits for `pause` to pass or the owner to close the log; tells whether it did.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.state(), pause, |state| !state.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    pub(super) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// Refuses everything from now on; returns how many entries were waiting.
    pub(super) fn stop(&self) -> usize {
        let mut state = self.state();
        state.stopped = true;
        state.bytes = 0;
        std::mem::take(&mut state.entries).len()
    }
}

impl State {
    fn room(&self) -> QueueRoom {
        QueueRoom {
            entries: limits::LOG_QUEUE_LEN_MAX - self.entries.len(),
            bytes: limits::LOG_QUEUE_BYTES_MAX - self.bytes,
        }
    }

    /// As many entries as one transaction takes, at least one.
    fn take_batch(&mut self) -> Vec<LogEntry> {
        let mut bytes = 0;
        let fits = |entry: &&LogEntry| {
            bytes += entry.body.len();
            bytes <= limits::COMMIT_BATCH_BYTES_MAX
        };
        let len = self.entries.iter().take(limits::COMMIT_BATCH_LEN_MAX).take_while(fits).count().max(1);
        let batch: Vec<_> = self.entries.drain(..len).collect();
        self.bytes -= batch.iter().map(|entry| entry.body.len()).sum::<usize>();
        batch
    }
}

/// The index after `entries`, if they follow `next` one by one and belong in a log.
fn check_sequence(next: LogIndex, entries: &[LogEntry]) -> Result<LogIndex, AppendError> {
    entries.iter().try_fold(next, |expected, entry| {
        if entry.index != expected {
            Err(AppendError::NotConsecutive { expected, presented: entry.index })
        } else if entry.durability == Durability::Memory {
            Err(AppendError::InMemory { index: entry.index })
        } else if entry.body.len() > limits::LOG_BODY_BYTES_MAX {
            Err(AppendError::Oversize { index: entry.index, bytes: entry.body.len() })
        } else {
            Ok(expected.next())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::ContentId;
    use proptest::prelude::*;

    fn entry(index: u64, bytes: usize) -> LogEntry {
        let event = ContentId([index as u8; 32]);
        LogEntry { index: LogIndex(index), durability: Durability::Sync, body: vec![0; bytes], event }
    }

    fn taken(queue: &LogQueue) -> Vec<u64> {
        match queue.take(None, LogIndex(1)) {
            Work::Commit(batch) => batch.iter().map(|entry| entry.index.0).collect(),
            other => panic!("{other:?} instead of entries"),
        }
    }

    #[test]
    fn entries_that_do_not_follow_the_last_are_refused_whole() {
        let queue = LogQueue::new(LogIndex(5));
        for wrong in [vec![entry(4, 1)], vec![entry(6, 1)], vec![entry(5, 1), entry(7, 1)], vec![entry(5, 1); 2]] {
            assert!(matches!(queue.push(wrong), Err(AppendError::NotConsecutive { .. })));
        }
        queue.push(vec![entry(5, 1), entry(6, 1)]).unwrap();
        assert_eq!(queue.next_index(), LogIndex(7));
        assert_eq!(taken(&queue), [5, 6]);
    }

    #[test]
    fn memory_entries_and_oversize_bodies_never_reach_the_log() {
        let queue = LogQueue::new(LogIndex(1));
        let memory = LogEntry { durability: Durability::Memory, ..entry(1, 1) };
        assert!(matches!(queue.push(vec![memory]), Err(AppendError::InMemory { index: LogIndex(1) })));
        let oversize = entry(1, limits::LOG_BODY_BYTES_MAX + 1);
        assert!(matches!(queue.push(vec![oversize]), Err(AppendError::Oversize { .. })));
    }

    #[test]
    fn a_full_queue_hands_the_entries_back_and_takes_them_later() {
        let queue = LogQueue::new(LogIndex(1));
        let all: Vec<_> = (1..=limits::LOG_QUEUE_LEN_MAX as u64).map(|index| entry(index, 1)).collect();
        queue.push(all).unwrap();
        assert_eq!(queue.room().entries, 0);
        let next = limits::LOG_QUEUE_LEN_MAX as u64 + 1;
        let Err(AppendError::Full { entries, .. }) = queue.push(vec![entry(next, 1)]) else {
            panic!("a full queue took an entry");
        };
        assert_eq!(taken(&queue).len(), limits::COMMIT_BATCH_LEN_MAX);
        queue.push(entries).unwrap();
    }

    #[test]
    fn the_bytes_of_a_queue_are_bounded() {
        let queue = LogQueue::new(LogIndex(1));
        let mut index = 1;
        while queue.push(vec![entry(index, limits::LOG_BODY_BYTES_MAX)]).is_ok() {
            index += 1;
        }
        assert_eq!(queue.room().bytes, limits::LOG_QUEUE_BYTES_MAX % limits::LOG_BODY_BYTES_MAX);
        assert_eq!(taken(&queue).len(), 1, "a batch over its bytes holds one entry");
    }

    #[test]
    fn a_due_sync_comes_when_nothing_is_queued_and_entries_come_first() {
        let queue = LogQueue::new(LogIndex(1));
        assert!(matches!(queue.take(Some(Instant::now()), LogIndex(1)), Work::Sync));
        queue.push(vec![entry(1, 1)]).unwrap();
        assert!(matches!(queue.take(Some(Instant::now()), LogIndex(1)), Work::Commit(_)));
    }

    #[test]
    fn a_cut_is_made_when_nothing_is_queued_and_asked_for_until_it_is_done() {
        let queue = LogQueue::new(LogIndex(9));
        queue.push(vec![entry(9, 1)]).unwrap();
        queue.cut(LogIndex(5));
        queue.cut(LogIndex(3));
        assert_eq!(taken(&queue), [9]);
        assert!(matches!(queue.take(None, LogIndex(4)), Work::Cut));
        assert_eq!(queue.cut_before(), LogIndex(5));
        assert!(matches!(queue.take(Some(Instant::now()), LogIndex(5)), Work::Sync));
        queue.forget_cut(LogIndex(5));
        assert!(matches!(queue.take(Some(Instant::now()), LogIndex(1)), Work::Sync));
    }

    #[test]
    fn a_cut_that_is_asked_for_while_the_last_one_ends_is_not_forgotten_with_it() {
        let queue = LogQueue::new(LogIndex(9));
        let none = queue.cut_before();
        queue.cut(LogIndex(5));
        queue.forget_cut(none);
        assert!(matches!(queue.take(Some(Instant::now()), LogIndex(1)), Work::Cut));
        queue.cut(LogIndex(7));
        queue.forget_cut(LogIndex(5));
        assert_eq!(queue.cut_before(), LogIndex(7));
    }

    #[test]
    fn a_closed_queue_drains_and_refuses() {
        let queue = LogQueue::new(LogIndex(1));
        queue.push(vec![entry(1, 1)]).unwrap();
        queue.close();
        assert!(matches!(queue.push(vec![entry(2, 1)]), Err(AppendError::Closed)));
        assert!(queue.pause(Duration::from_secs(3600)), "closing ends a pause");
        assert_eq!(taken(&queue), [1]);
        assert!(matches!(queue.take(None, LogIndex(1)), Work::Close));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once_and_in_order(lens in prop::collection::vec(0usize..50, 1..40)) {
            let queue = LogQueue::new(LogIndex(1));
            let mut next = 1;
            for len in lens {
                queue.push((next..next + len as u64).map(|index| entry(index, index as usize % 7)).collect()).unwrap();
                next += len as u64;
            }
            queue.close();
            let mut out = Vec::new();
            while let Work::Commit(batch) = queue.take(None, LogIndex(1)) {
                out.extend(batch.iter().map(|entry| entry.index.0));
            }
            prop_assert_eq!(out, (1..next).collect::<Vec<_>>());
            prop_assert_eq!(queue.room().bytes, limits::LOG_QUEUE_BYTES_MAX);
        }
    }
}
