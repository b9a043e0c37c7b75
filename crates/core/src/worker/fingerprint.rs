//! What of a worker decides how it goes on, for whoever explores its states and must know one again.
//!
//! Left out is what is only shown, and how long ago something ended: an end that has passed is one that has passed. Each
//! structure is taken apart in full, so that who adds a field says here whether it decides.

use std::hash::{Hash, Hasher};

use super::credit::HomeCredit;
use super::delivery::Outgoing;
use super::held::{Held, Phase};
use super::machine::Worker;
use super::protocol::WorkerStats;
use crate::lease::Fence;
use crate::limits;

impl Worker {
    /// Feeds `hasher` with all that decides how this worker goes on from `now_ms` on.
    #[rustfmt::skip]
    pub fn fingerprint(&self, now_ms: u64, hasher: &mut impl Hasher) {
        let Self {
            own, incarnation, slots, homes, held, queued, seen, outgoing, unspooled, drain, offers_due,
            // How long attempts took decides through the prefetch that it leads to.
            run_ms: _,
            // Derived from what is held.
            busy: _, held_slots: _, renewals: _, reporting_bytes: _, exclusive: _, gone: _,
            // When tasks were first seen, what is only shown, what the shell has taken.
            seen_order: _, now: _, effects: _,
            // Of what is shown, this decides.
            stats: WorkerStats { no_room, .. },
        } = self;
        (own, incarnation, slots, queued, seen, self.prefetch(), drain, offers_due, no_room).hash(hasher);
        for (home, credit) in homes {
            home.hash(hasher);
            credit.fingerprint(now_ms, hasher);
        }
        held.values().for_each(|held| held.fingerprint(now_ms, hasher));
        for (home, Outgoing { ready, under_way, retry_at_ms }) in outgoing {
            (home, ready, under_way, now_ms.max(*retry_at_ms)).hash(hasher);
        }
        for (since_ms, fence) in unspooled {
            (now_ms.max(since_ms + limits::SPOOL_AFTER_MS), fence).hash(hasher);
        }
    }

    /// The leases that this worker acts on, of attempts that wait or run, with its own end of each.
    pub fn leases(&self) -> impl Iterator<Item = (Fence, u64)> {
        let acted_on = self.held.values().filter(|held| matches!(held.phase, Phase::Queued(_) | Phase::Running { .. }));
        acted_on.map(|held| (held.fence, held.ends_ms))
    }
}

impl Held {
    fn fingerprint(&self, now_ms: u64, hasher: &mut impl Hasher) {
        #[rustfmt::skip]
        let Self {
            fence, token, pool, durability, timeout_ms, ends_ms, renew_at_ms, exclusive, ending, news, news_sent_ms,
            news_unsent, phase,
        } = self;
        let too_old_ms = now_ms.saturating_sub(limits::PROGRESS_EVERY_MS);
        (exclusive, ending, news, news_unsent, (*news_sent_ms).max(too_old_ms)).hash(hasher);
        (fence, token, pool, durability, timeout_ms, now_ms.max(*ends_ms), renew_at_ms).hash(hasher);
        match phase {
            Phase::Queued(grant) => (0, grant.credit).hash(hasher),
            Phase::Running { started_ms, begun } => (1, started_ms, begun).hash(hasher),
            Phase::Stopping { tell } => (2, tell).hash(hasher),
            Phase::Reporting { outcome, since_ms: _, spooled, checkpoint } => {
                (3, spooled, crate::lease::outcome_digest(outcome), checkpoint).hash(hasher);
            }
            // How long its home is told does not decide what it hears.
            Phase::Stopped { since_ms: _, used: _ } => 4.hash(hasher),
        }
    }
}

impl HomeCredit {
    #[rustfmt::skip]
    fn fingerprint(&self, now_ms: u64, hasher: &mut impl Hasher) {
        let Self {
            backlog, backlog_ms, reachable, received, sendings, sent, outstanding, sent_ms, ever_sent,
        } = self;
        let stale_ms = now_ms.saturating_sub(limits::CREDIT_REFRESH_MS);
        (backlog, backlog_ms, reachable, received, sent, outstanding, ever_sent).hash(hasher);
        (*sent_ms).max(stale_ms).hash(hasher);
        // A grant that answers an older one is refused either way.
        let answered = sendings.iter().filter(|(_, at_ms)| at_ms + limits::LEASE_TTL_MS > now_ms);
        answered.for_each(|sending| sending.hash(hasher));
    }
}
