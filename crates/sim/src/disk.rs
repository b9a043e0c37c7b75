//! A node's log on its disk: what is queued in the process, what the kernel has, what is synced.

use magpie_core::ids::LogIndex;
use magpie_core::queue::{NewEntry, Watermark};
use magpie_core::task::Durability;

/// How a node goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`, or the ledger's actor alone: what the kernel has stays.
    Process,
    /// Power loss: of what was not synced, any number of entries from its beginning may have reached the disk.
    Power { kept_per_mille: u64 },
}

#[derive(Debug, Default)]
pub struct Disk {
    entries: Vec<NewEntry>,
    written: usize,
    synced: usize,
    pub write_under_way: bool,
    pub sync_under_way: bool,
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

    pub fn written_through(&mut self, index: LogIndex) {
        self.written = self.written.max(index.0 as usize);
    }

    pub fn synced_through(&mut self, index: LogIndex) {
        self.synced = self.synced.max(index.0 as usize);
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

    /// Loses what the crash loses; the next start syncs the rest before it reads it. Returns what is left.
    pub fn crash(&mut self, crash: Crash) -> LogIndex {
        let kept = match crash {
            Crash::Process => self.written,
            Crash::Power { kept_per_mille } => {
                let unsynced = (self.written - self.synced) as u64;
                self.synced + (unsynced * kept_per_mille / 1_000) as usize
            }
        };
        self.entries.truncate(kept);
        (self.written, self.synced) = (kept, kept);
        (self.write_under_way, self.sync_under_way) = (false, false);
        LogIndex(kept as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::ContentId;

    fn disk(written: u64, synced: u64) -> Disk {
        let entry = |n| NewEntry {
            index: LogIndex(n),
            durability: Durability::Sync,
            body: Vec::new(),
            event: ContentId::of(b""),
        };
        let mut disk = Disk::default();
        disk.append((1..=10).map(entry).collect());
        disk.written_through(LogIndex(written));
        disk.synced_through(LogIndex(synced));
        disk
    }

    #[test]
    fn a_killed_process_loses_what_it_had_not_handed_over() {
        assert_eq!(disk(7, 3).crash(Crash::Process), LogIndex(7));
    }

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_perhaps_a_part_of_the_rest() {
        assert_eq!(disk(7, 3).crash(Crash::Power { kept_per_mille: 0 }), LogIndex(3));
        assert_eq!(disk(7, 3).crash(Crash::Power { kept_per_mille: 500 }), LogIndex(5));
    }
}
