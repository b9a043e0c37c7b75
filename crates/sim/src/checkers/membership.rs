//! I12: a dead member is alive again only with a higher incarnation; nobody declares itself dead.

use std::collections::BTreeMap;

use magpie_core::ids::{Incarnation, PeerId};
use magpie_core::invariant::InvariantId;
use magpie_core::membership::{Membership, PeerReport, PeerState};

use super::{Verdict, require};
use crate::network::Endpoint;

/// What each node last held of each other.
#[derive(Debug, Default)]
pub struct Views {
    held: BTreeMap<(Endpoint, PeerId), (Incarnation, PeerState)>,
}

impl Views {
    /// A node starts anew and knows nobody.
    pub fn forget(&mut self, node: Endpoint) {
        self.held.retain(|(holder, _), _| *holder != node);
    }

    pub fn invariant_the_dead_return_with_a_higher_incarnation(
        &mut self,
        node: Endpoint,
        me: PeerId,
        members: &Membership,
    ) -> Verdict {
        for (id, peer) in members.peers() {
            require(InvariantId::I12, "no_node_is_its_own_peer", *id != me, || format!("node {node} keeps {id}"))?;
            let now = (peer.incarnation, peer.state);
            let Some(before) = self.held.insert((node, *id), now) else { continue };
            let holds =
                now.0 > before.0 || (now.0 == before.0 && (before.1 != PeerState::Dead || now.1 == PeerState::Dead));
            require(InvariantId::I12, "the_dead_return_with_a_higher_incarnation", holds, || {
                format!("node {node} held {before:?} of {id}, and now {now:?}")
            })?;
        }
        Ok(())
    }
}

pub fn invariant_nobody_declares_itself_dead(me: PeerId, reports: &[PeerReport]) -> Verdict {
    let own = reports.iter().find(|report| report.peer == me && report.state != PeerState::Alive);
    require(InvariantId::I12, "nobody_declares_itself_dead", own.is_none(), || format!("{me} reports {own:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::membership::MembershipEvent;
    use magpie_core::time::Now;

    const ME: PeerId = PeerId([0; 32]);
    const OTHER: PeerId = PeerId([1; 32]);

    fn members(incarnation: u64, state: PeerState) -> Membership {
        let mut members = Membership::new(ME, Incarnation(1));
        let at = |mono_ms| Now { mono_ms, wall_ms: 0 };
        members.handle(at(0), MembershipEvent::Heard { peer: OTHER, incarnation: Incarnation(1) });
        let report = PeerReport { peer: OTHER, incarnation: Incarnation(incarnation), state };
        members.handle(at(60_000), MembershipEvent::Reported(report));
        members
    }

    #[test]
    fn i12_a_dead_member_that_returns_as_it_was_is_seen() {
        let mut views = Views::default();
        let mut look = |incarnation, state| {
            let members = members(incarnation, state);
            views.invariant_the_dead_return_with_a_higher_incarnation(0, ME, &members)
        };
        assert_eq!(look(4, PeerState::Dead), Ok(()));
        assert_eq!(look(5, PeerState::Alive), Ok(()));
        assert_eq!(look(5, PeerState::Dead), Ok(()));
        assert!(look(5, PeerState::Alive).is_err());
        assert!(look(4, PeerState::Dead).is_err());
    }

    #[test]
    fn i12_a_report_of_ones_own_death_is_seen() {
        let report = |state| PeerReport { peer: ME, incarnation: Incarnation(1), state };
        assert!(invariant_nobody_declares_itself_dead(ME, &[report(PeerState::Alive)]).is_ok());
        assert!(invariant_nobody_declares_itself_dead(ME, &[report(PeerState::Dead)]).is_err());
    }
}
