//! Follows stored records along their chain of events, without applying them.

use super::Record;
use super::replay::ReplayError;
use crate::clock::chain::Chain;
use crate::ids::{ContentId, LedgerId, LogIndex};
use crate::wire;

/// The chain of one ledger as far as it was checked.
#[derive(Debug)]
pub struct ChainCheck {
    chain: Chain,
}

impl ChainCheck {
    /// Before the first record of a ledger.
    pub fn genesis(ledger: LedgerId) -> Self {
        Self { chain: Chain::genesis(ledger) }
    }

    /// Behind the record `index`, whose event is taken at its word: what was before it is not kept, or was checked.
    pub fn after(ledger: LedgerId, index: LogIndex, event: ContentId) -> Self {
        Self { chain: Chain::resume(ledger, index.0, event) }
    }

    /// Takes the next stored record.
    ///
    /// # Errors
    /// If it is not the next, does not decode, or is not the record that its event was made over.
    pub fn follow(&mut self, index: LogIndex, body: &[u8], event: ContentId) -> Result<(), ReplayError> {
        let expected = LogIndex(self.chain.count()).next();
        if index != expected {
            return Err(ReplayError::Gap { index, expected });
        }
        let record: Record = wire::decode_record(body)
            .map_err(|error| ReplayError::Undecodable { index, problem: error.to_string() })?;
        if self.chain.append(record.at(), record.kind(), body) == event {
            Ok(())
        } else {
            Err(ReplayError::ChainBroken { index })
        }
    }

    /// The last record that was followed, and its event.
    pub fn reached(&self) -> (LogIndex, ContentId) {
        (LogIndex(self.chain.count()), self.chain.tip())
    }
}
