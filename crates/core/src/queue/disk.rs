//! A disk that refuses: what a home still does, and what it says instead of the rest.

use serde::{Deserialize, Serialize};

use super::asks::Asks;
use super::effects::Gate;
use super::ledger::Ledger;
use super::protocol::{LedgerRequest, Refusal};
use crate::ids::LogIndex;
use crate::task::Durability;

/// How the disk of a home stands, as the writer of its log met it last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Disk {
    #[default]
    Takes,
    /// Records are written, in the room that was set aside for what follows from accepted work.
    Spares { why: String },
    /// Nothing is written.
    Refuses { why: String },
}

/// The writer tries again this often.
const RETRY_AFTER_MS: u64 = 2_000;

impl Disk {
    pub fn refuses(&self) -> bool {
        matches!(self, Self::Refuses { .. })
    }

    /// Why it takes no new work, and what to do.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Takes => None,
            Self::Spares { why } | Self::Refuses { why } => Some(why),
        }
    }

    fn check_new_work(&self) -> Result<(), Refusal> {
        let refusal = |why| Refusal::Overloaded {
            retry_after_ms: RETRY_AFTER_MS,
            what: format!("this home takes no new work: {why}"),
        };
        self.trouble().map_or(Ok(()), |why| Err(refusal(why)))
    }

    /// What stands in place of an answer that rests on records which are not on the disk.
    pub(super) fn instead(&self) -> Option<Refusal> {
        match self {
            Self::Takes | Self::Spares { .. } => None,
            Self::Refuses { why } => {
                let what = format!("its disk takes nothing ({why}), and what this answer rests on is not on it");
                Some(Refusal::Unavailable { what })
            }
        }
    }
}

impl Ledger {
    pub(super) fn disk_changed(&mut self, disk: Disk) {
        self.disk = disk;
        self.grants_due = true;
        if let Some(refusal) = self.disk.instead() {
            self.outbox.refuse_held(&refusal);
        }
    }

    /// Records are written again. New work waits further: until the writer says that there is room for what follows.
    pub(super) fn disk_took(&mut self) {
        if let Disk::Refuses { why } = &mut self.disk {
            self.disk = Disk::Spares { why: std::mem::take(why) };
            self.grants_due = true;
        }
    }

    /// What an answer says instead, if it rests on what the disk refuses.
    pub(super) fn instead_of(&self, gate: Gate) -> Option<Refusal> {
        self.disk.instead().filter(|_| !self.outbox.is_open(gate))
    }

    /// Whether a list leaves this out: what the disk refuses is not shown, and the rest is.
    pub(super) fn withholds(&self, durability: Durability, index: LogIndex) -> bool {
        self.disk.refuses() && !self.outbox.is_open(self.late_gate(durability, index))
    }

    /// New work waits for room for all that follows from it; what changes something waits for a disk that writes it.
    pub(super) fn check_disk(&self, request: &LedgerRequest) -> Result<(), Refusal> {
        match request.asks() {
            Asks::NewWork => self.disk.check_new_work(),
            Asks::Change | Asks::Claim => self.disk.instead().map_or(Ok(()), Err),
            Asks::Read | Asks::Lease => Ok(()),
        }
    }
}
