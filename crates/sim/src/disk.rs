//! A node's log on its disk: what is queued in the process, what the kernel has, what is synced.
//!
//! As the store writes it: all that is queued goes into one transaction, and of a transaction whose end is not on the
//! disk a start finds nothing, however many of its entries are there.

use std::collections::VecDeque;

use magpie_core::ids::LogIndex;
use magpie_core::queue::{NewEntry, Watermark};
use magpie_core::task::Durability;

/// How a node goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`, or the ledger's actor alone: what the kernel has stays.
    Process,
    /// Power loss: of what was not synced, any number of transactions from its beginning may have reached the disk.
    Power { kept_per_mille: u64 },
}

#[derive(Debug, Default)]
pub struct Disk {
    entries: Vec<NewEntry>,
    written: usize,
    synced: usize,
    /// Ends of the transactions that are written and not synced.
    unsynced: VecDeque<usize>,
    /// The end of the transaction that is being written.
    under_way: Option<usize>,
    pub sync_under_way: bool,
    /// It takes nothing before this time.
    pub full_until_ms: u64,
    /// Entries behind `written` whose transaction has no end: a crash came before it.
    torn: usize,
}

impl Disk {
    pub fn append(&mut self, entries: Vec<NewEntry>) {
        self.entries.extend(entries);
    }

    pub fn watermark(&self) -> Watermark {
        Watermark { written: LogIndex(self.written as u64), synced: LogIndex(self.synced as u64) }
    }

    /// The last index that the process handed over.
    pub fn queued(&self) -> LogIndex {
        LogIndex(self.entries.len() as u64)
    }

    /// Begins a transaction with all that is queued, unless one is under way. Returns its end.
    pub fn begin(&mut self) -> Option<LogIndex> {
        if self.under_way.is_some() || self.entries.len() == self.written {
            return None;
        }
        self.under_way = Some(self.entries.len());
        Some(self.queued())
    }

    /// The transaction under way is with the kernel.
    pub fn commit(&mut self) {
        if let Some(end) = self.under_way.take() {
            self.written = end;
            self.unsynced.push_back(end);
        }
    }

    pub fn synced_through(&mut self, index: LogIndex) {
        self.synced = self.synced.max(index.0 as usize);
        while self.unsynced.front().is_some_and(|end| *end <= self.synced) {
            self.unsynced.pop_front();
        }
    }

    /// Whether a written entry waits for a sync before it counts.
    pub fn wants_sync(&self) -> bool {
        self.entries[self.synced..self.written].iter().any(|entry| entry.durability == Durability::Sync)
    }

    pub fn has_unsynced(&self) -> bool {
        self.synced < self.written
    }

    pub fn entries(&self) -> &[NewEntry] {
        &self.entries
    }

    /// Loses what the crash loses. With `torn_per_mille`, so much of the transaction behind that is there without its
    /// end, and the last entry of it broken. Returns the last entry of the last whole transaction.
    pub fn crash(&mut self, crash: Crash, torn_per_mille: Option<u64>) -> LogIndex {
        let mut ends = std::mem::take(&mut self.unsynced);
        let kept_ends = match crash {
            Crash::Process => ends.len(),
            Crash::Power { kept_per_mille } => (ends.len() as u64 * kept_per_mille / 1_000) as usize,
        };
        let lost = ends.split_off(kept_ends);
        let kept = ends.back().copied().unwrap_or(self.synced);
        let torn_end = lost.front().copied().or(self.under_way.take());
        self.torn = match (torn_per_mille, torn_end) {
            (Some(per_mille), Some(end)) => 1 + ((end - kept - 1) as u64 * per_mille / 1_000) as usize,
            _ => 0,
        };
        self.entries.truncate(kept + self.torn);
        if let Some(broken) = self.entries[kept..].last_mut() {
            broken.body.truncate(broken.body.len() / 2);
        }
        (self.written, self.synced, self.under_way, self.sync_under_way) = (kept, kept, None, false);
        LogIndex(kept as u64)
    }

    /// What a start does before it reads: cuts what has no end, and syncs the rest. `accept_torn` plants a bug.
    pub fn recover(&mut self, accept_torn: bool) {
        let torn = std::mem::take(&mut self.torn);
        if accept_torn {
            self.written += torn;
            self.synced = self.written;
        } else {
            self.entries.truncate(self.written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::ContentId;

    /// Two written transactions of 4 and 3 entries, the first synced, and one of 3 under way.
    fn disk() -> Disk {
        let entry = |n| NewEntry {
            index: LogIndex(n),
            durability: Durability::Sync,
            body: vec![7; 8],
            event: ContentId::of(b""),
        };
        let mut disk = Disk::default();
        for (first, last, commits) in [(1, 4, true), (5, 7, true), (8, 10, false)] {
            disk.append((first..=last).map(entry).collect());
            assert_eq!(disk.begin(), Some(LogIndex(last)));
            assert_eq!(disk.begin(), None);
            if commits {
                disk.commit();
            }
            if last == 4 {
                disk.synced_through(LogIndex(4));
            }
        }
        disk
    }

    #[test]
    fn a_killed_process_loses_what_it_had_not_handed_over() {
        assert_eq!(disk().crash(Crash::Process, None), LogIndex(7));
    }

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_perhaps_whole_transactions_of_the_rest() {
        assert_eq!(disk().crash(Crash::Power { kept_per_mille: 999 }, None), LogIndex(4));
        assert_eq!(disk().crash(Crash::Power { kept_per_mille: 1_000 }, None), LogIndex(7));
    }

    #[test]
    fn a_torn_transaction_is_cut_at_the_start_whole() {
        for (crash, whole, torn) in [(Crash::Process, 7, 2), (Crash::Power { kept_per_mille: 0 }, 4, 2)] {
            let mut disk = disk();
            assert_eq!(disk.crash(crash, Some(500)), LogIndex(whole));
            assert_eq!(disk.queued(), LogIndex(whole + torn));
            assert_eq!(disk.entries().last().map(|entry| entry.body.len()), Some(4));
            disk.recover(false);
            assert_eq!((disk.queued(), disk.watermark().synced), (LogIndex(whole), LogIndex(whole)));
        }
    }

    #[test]
    fn a_crash_after_a_sync_leaves_nothing_torn() {
        let mut disk = disk();
        disk.commit();
        disk.synced_through(LogIndex(10));
        assert_eq!(disk.crash(Crash::Power { kept_per_mille: 0 }, Some(1_000)), LogIndex(10));
        assert_eq!(disk.queued(), LogIndex(10));
    }
}
