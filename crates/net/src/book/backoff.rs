//! How long to wait before a target is dialled again.

use magpie_core::ids::PeerId;
use sha2::{Digest, Sha256};

use super::{Entry, Target};
use crate::limits;

/// Doubles from the first to the last, give or take a quarter.
///
/// The jitter is a hash of who dials whom for the how-manieth time: nodes that lost a peer at the same moment do not
/// come back in step, and a run can be repeated.
pub(super) fn delay_ms(local: PeerId, target: &Target, entry: &Entry, now_ms: u64) -> u64 {
    let (first, times, last) = if entry.refusals > 0 {
        (limits::REDIAL_REFUSED_FIRST_MS, entry.refusals, limits::REDIAL_REFUSED_MAX_MS)
    } else {
        (limits::REDIAL_FIRST_MS, entry.failures, last_ms(entry, now_ms))
    };
    let doubled = first << times.saturating_sub(1).min(16);
    let jitter = spread(local, target, times);
    (doubled * 3 / 4 + doubled * jitter / 512).min(last)
}

/// A member that has been away for long holds no lease any more: it is dialled as seldom as anyone.
fn last_ms(entry: &Entry, now_ms: u64) -> u64 {
    let long_gone = entry.seen_ms + limits::SUGGESTION_TTL_MS < now_ms;
    if entry.member && !long_gone { limits::REDIAL_MEMBER_MS } else { limits::REDIAL_MAX_MS }
}

/// 0..256
fn spread(local: PeerId, target: &Target, times: u32) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(local.0);
    match target {
        Target::Peer(peer) => hasher.update(peer.0),
        Target::Address(address) => hasher.update(address),
    }
    hasher.update(times.to_le_bytes());
    u64::from(hasher.finalize()[0])
}
