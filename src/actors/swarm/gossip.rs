//! How often one peer may say how it is: heartbeats and clock exchanges beyond that are refused before they cost anything.

use std::time::Instant;

use dashmap::DashMap;
use magpie_core::conduct::Pace;
use magpie_core::ids::PeerId;
use magpie_core::limits;
use magpie_core::queue::Refusal;

/// What becomes of a message.
#[derive(Debug, PartialEq)]
pub enum Judged {
    Answered,
    /// More than is answered, but no more than a busy mesh may say.
    Refused(Refusal),
    /// More than any honest peer says.
    Flood(Refusal),
}

/// The rates of all peers.
pub struct Gossip {
    started: Instant,
    paces: DashMap<PeerId, Paces>,
}

struct Paces {
    answered: Pace,
    honest: Pace,
}

impl Default for Gossip {
    fn default() -> Self {
        Self { started: Instant::now(), paces: DashMap::new() }
    }
}

impl Default for Paces {
    fn default() -> Self {
        let pace = |factor| Pace::new(factor * limits::GOSSIP_PER_S, factor * limits::GOSSIP_BURST);
        Self { answered: pace(1), honest: pace(limits::GOSSIP_FLOOD_FACTOR) }
    }
}

impl Gossip {
    /// Judges one more message of `peer`.
    pub fn judge(&self, peer: PeerId) -> Judged {
        let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.judge_at(peer, now_ns)
    }

    fn judge_at(&self, peer: PeerId, now_ns: u64) -> Judged {
        if self.paces.len() >= limits::PEERS_MAX && !self.paces.contains_key(&peer) {
            self.paces.clear();
        }
        let mut paces = self.paces.entry(peer).or_default();
        let is_honest = paces.honest.try_take(now_ns, 1);
        if is_honest && paces.answered.try_take(now_ns, 1) {
            return Judged::Answered;
        }
        let what = format!("{} heartbeats and clock exchanges of one peer a second", limits::GOSSIP_PER_S);
        let refusal = Refusal::Overloaded { retry_after_ms: limits::HEARTBEAT_MS, what };
        if is_honest { Judged::Refused(refusal) } else { Judged::Flood(refusal) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVE: PeerId = PeerId([7; 32]);

    fn count(judged: &[Judged], wanted: fn(&Judged) -> bool) -> u64 {
        judged.iter().filter(|judged| wanted(judged)).count() as u64
    }

    #[test]
    fn a_flood_is_told_from_a_busy_peer_and_slows_nobody_else() {
        let gossip = Gossip::default();
        let (busy, flood) = (limits::GOSSIP_FLOOD_FACTOR * limits::GOSSIP_BURST, 1_000);
        let judged: Vec<_> = (0..busy + flood).map(|_| gossip.judge_at(EVE, 0)).collect();
        assert_eq!(count(&judged, |judged| matches!(judged, Judged::Answered)), limits::GOSSIP_BURST);
        assert_eq!(count(&judged, |judged| matches!(judged, Judged::Flood(_))), flood);
        assert_eq!(gossip.judge_at(PeerId([8; 32]), 0), Judged::Answered);
        assert_eq!(gossip.judge_at(EVE, 1_000_000_000), Judged::Answered);
    }

    #[test]
    fn rates_are_kept_of_as_many_peers_as_there_may_be() {
        let gossip = Gossip::default();
        for n in 0..3 * limits::PEERS_MAX as u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            gossip.judge_at(PeerId(id), 0);
        }
        assert!(gossip.paces.len() <= limits::PEERS_MAX);
    }
}
