//! Checks this home's chain of events against its log, a piece at a time and beside the ledger.

use magpie_core::ids::{LedgerId, LogIndex};
use magpie_core::limits;
use magpie_core::queue::{ChainCheck, Refusal};
use ractor::RpcReplyPort;
use tokio::sync::OwnedSemaphorePermit;

use super::LedgerState;
use crate::messages::clock::{ChainPiece, Link};
use crate::store::log::{LogReader, ReadLogError};

impl LedgerState {
    /// The ledger goes on meanwhile: the log has a reader of its own.
    pub(super) fn check_chain(
        &self,
        (after, upto): (Option<Link>, Option<LogIndex>),
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<ChainPiece, Refusal>>,
    ) {
        let (reader, ledger) = (self.log.reader(), self.core.id());
        self.arguments.peers.errand(async move {
            let checked = tokio::task::spawn_blocking(move || check(&reader, ledger, after, upto)).await;
            let checked = checked.map_err(|error| Refusal::Unavailable { what: error.to_string() });
            // The asker may have given up.
            let _ = reply.send(checked);
            drop(permit);
        });
    }
}

fn check(reader: &LogReader, ledger: LedgerId, after: Option<Link>, upto: Option<LogIndex>) -> ChainPiece {
    let first = reader.first().max(LogIndex(1));
    let mut check = match after {
        Some(link) => ChainCheck::after(ledger, link.index, link.event),
        None => ChainCheck::genesis(ledger),
    };
    let from = after.map_or(first, |link| link.index.next());
    let len_max = upto.filter(|last| *last >= from).map_or(limits::LIST_LEN_MAX, |last| {
        usize::try_from(last.0 - from.0 + 1).unwrap_or(usize::MAX).min(limits::LIST_LEN_MAX)
    });
    let piece = |check: &ChainCheck, records, broken| {
        let (index, event) = check.reached();
        let reached = Some(Link { index, event }).filter(|link| link.index.0 > 0);
        ChainPiece { first, reached, records, broken }
    };
    let mut entries = match reader.read(from, len_max) {
        Ok(entries) => entries.into_iter().peekable(),
        // It was cut off while it was checked: it goes on with what is kept.
        Err(ReadLogError::Pruned { before, .. }) => {
            return ChainPiece { first: before, reached: None, records: 0, broken: None };
        }
        Err(error) => return piece(&check, 0, Some(error.to_string())),
    };
    let records = entries.len() as u64;
    if after.is_none()
        && first > LogIndex(1)
        && let Some(oldest) = entries.next()
    {
        check = ChainCheck::after(ledger, oldest.index, oldest.event);
    }
    for entry in entries {
        if let Err(error) = check.follow(entry.index, &entry.body, entry.event) {
            return piece(&check, records, Some(error.to_string()));
        }
    }
    piece(&check, records, None)
}
