//! Slots offered to homes: one supply, split by where the work is.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{Incarnation, LedgerTag, Sending};
use crate::lease::{CreditName, CreditOffer, Slots};
use crate::limits;
use crate::task::SlotPool;

/// Sendings so close together are kept as one, with the time of the first: an end of a lease may lie too early, not too late.
const SENDINGS_APART_MS: u64 = 100;
/// As many as a lease is long: a grant that names an earlier one comes too late anyway.
const SENDINGS_KEPT_MAX: usize = (limits::LEASE_TTL_MS / SENDINGS_APART_MS) as usize + 1;
/// What a home said of its backlog holds this long: a little more than the time between two heartbeats.
const BACKLOG_AGE_MAX_MS: u64 = 3 * limits::HEARTBEAT_MS / 2;

/// What one home was offered.
#[derive(Debug, Clone, Default)]
pub(super) struct HomeCredit {
    /// Tasks ready there that this node could run, as the home last said, and when.
    pub backlog: Slots,
    pub backlog_ms: u64,
    pub reachable: bool,
    pub received: Slots,
    /// The first of each group of sendings, with its time.
    pub sendings: VecDeque<(Sending, u64)>,
    /// The newest sending.
    pub sent: Sending,
    /// Of the newest sending: what it offered less what it got.
    pub outstanding: Slots,
    pub sent_ms: u64,
    pub ever_sent: bool,
}

impl HomeCredit {
    pub fn seen(&mut self, now_ms: u64, backlog: Slots) {
        self.reachable = true;
        self.backlog = backlog;
        self.backlog_ms = now_ms;
    }

    fn backlog(&self, now_ms: u64, pool: SlotPool) -> u32 {
        if now_ms <= self.backlog_ms + BACKLOG_AGE_MAX_MS { self.backlog[pool] } else { 0 }
    }

    /// When the credit that a grant names was sent; `None` if this process did not send it or forgot it.
    pub fn sent_at(&self, sending: Sending) -> Option<u64> {
        let group = self.sendings.iter().rev().find(|(first, _)| *first <= sending);
        group.filter(|_| sending <= self.sent).map(|(_, at_ms)| *at_ms)
    }

    pub fn use_one(&mut self, pool: SlotPool) {
        self.received[pool] += 1;
        self.outstanding[pool] = self.outstanding[pool].saturating_sub(1);
    }

    /// Whether `wanted` differs enough from what the home has, or what it has grows old.
    pub fn must_send(&self, now_ms: u64, wanted: Slots) -> bool {
        let differs = [SlotPool::Cpu, SlotPool::Device].into_iter().any(|pool| {
            let (wanted, held) = (wanted[pool], self.outstanding[pool]);
            wanted.abs_diff(held) >= (wanted / 4).max(1)
        });
        let stale = now_ms >= self.sent_ms + limits::CREDIT_REFRESH_MS;
        self.reachable && (differs || !self.ever_sent || (stale && !wanted.is_zero()))
    }

    pub fn send(&mut self, now_ms: u64, incarnation: Incarnation, free: Slots, slots: Slots) -> CreditOffer {
        self.sent.0 += 1;
        if self.sendings.back().is_none_or(|(_, at_ms)| at_ms + SENDINGS_APART_MS <= now_ms) {
            self.sendings.push_back((self.sent, now_ms));
        }
        if self.sendings.len() > SENDINGS_KEPT_MAX {
            self.sendings.pop_front();
        }
        self.outstanding = free;
        self.sent_ms = now_ms;
        self.ever_sent = true;
        let name = CreditName { incarnation, sending: self.sent };
        CreditOffer { name, received: self.received, free, slots: Some(slots) }
    }

    /// The connection was lost: what was offered counts no more.
    pub fn disconnect(&mut self) {
        self.reachable = false;
        self.backlog = Slots::default();
        self.outstanding = Slots::default();
        self.ever_sent = false;
    }
}

/// Splits `free` slots of one pool over the homes: the own home's backlog first, then the largest backlog elsewhere
/// (stealing), and while nothing waits anywhere, evenly, so that new work finds a credit wherever it is submitted.
pub(super) fn split(
    now_ms: u64,
    free: u32,
    pool: SlotPool,
    own: LedgerTag,
    homes: &BTreeMap<LedgerTag, HomeCredit>,
) -> BTreeMap<LedgerTag, u32> {
    let reachable = || homes.iter().filter(|(_, home)| home.reachable);
    let own_backlog = homes.get(&own).map_or(0, |home| home.backlog(now_ms, pool));
    let largest = reachable()
        .filter(|(tag, _)| **tag != own)
        .max_by_key(|(tag, home)| (home.backlog(now_ms, pool), std::cmp::Reverse(**tag)));
    if own_backlog > 0 {
        return BTreeMap::from([(own, free)]);
    }
    if let Some((victim, _)) = largest.filter(|(_, home)| home.backlog(now_ms, pool) > 0) {
        return BTreeMap::from([(*victim, free)]);
    }
    let count = reachable().count() as u32;
    let own_first = reachable()
        .map(|(tag, _)| *tag)
        .filter(|tag| *tag == own)
        .chain(reachable().map(|(tag, _)| *tag).filter(|tag| *tag != own));
    own_first.enumerate().map(|(place, tag)| (tag, free / count + u32::from((place as u32) < free % count))).collect()
}
