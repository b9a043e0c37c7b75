//! The clock: signed heads of all ledgers under one Merkle root. It orders and proves; it does not elect.

use std::collections::BTreeMap;

use magpie_core::clock::{Head, MergeHeadError, MerkleClock, Position, SignedHead};
use magpie_core::conduct::Offence;
use magpie_core::homes::{AnnouncementError, Heard, SignedAnnouncement};
use magpie_core::ids::{ContentId, PeerId};
use magpie_core::limits;
use magpie_core::queue::ClockRoot;
use magpie_net::NodeKey;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::Addresses;
use super::peers::Peers;
use crate::messages::clock::{ClockMsg, ClockReply, ClockRequest, ClockView, Exchange};
use crate::messages::ledger::LedgerMsg;
use crate::messages::registry::RegistryMsg;
use crate::messages::{Answer, Body};

/// Own heads that are known without a look into the log: peers hold the newest.
const PUBLISHED_MAX: usize = 4_096;

pub struct ClockActor;

#[derive(Clone)]
pub struct ClockArguments {
    pub key: NodeKey,
    pub peers: Peers,
    pub addresses: Addresses,
}

pub struct ClockState {
    core: MerkleClock,
    /// Own heads of late.
    published: BTreeMap<Position, ContentId>,
    refused: u64,
    equivocations: u64,
    me: ActorRef<ClockMsg>,
    arguments: ClockArguments,
}

impl Actor for ClockActor {
    type Msg = ClockMsg;
    type State = ClockState;
    type Arguments = ClockArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let core = MerkleClock::default();
        Ok(ClockState { core, published: BTreeMap::new(), refused: 0, equivocations: 0, me: myself, arguments })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ClockMsg::Request { from, request: ClockRequest::Exchange(theirs), permit: _permit, reply } => {
                let ours = state.exchange();
                state.merge(from, &theirs);
                let _ = reply.send(ClockReply::Exchanged(ours));
            }
            ClockMsg::Request { from: _, request: ClockRequest::Show, permit: _permit, reply } => {
                let _ = reply.send(ClockReply::Clock(state.view()));
            }
            // They take more than this clock: the door has them answered elsewhere.
            ClockMsg::Request { request: ClockRequest::Audit | ClockRequest::CheckChain { .. }, .. } => {}
            ClockMsg::RegistryStarted => state.tell_registry(),
            ClockMsg::PublishHead { position, event } => state.publish(position, event),
            ClockMsg::PeerRoot { peer, root } => state.compare(peer, root),
            ClockMsg::Merge { peer, exchanged } => {
                state.merge(Some(peer), &exchanged);
                state.compared(peer);
            }
        }
        Ok(())
    }
}

impl ClockState {
    fn heads(&self) -> Vec<SignedHead> {
        self.core.entries().take(limits::PEERS_MAX).cloned().collect()
    }

    /// All that this node knows of homes.
    fn exchange(&self) -> Exchange {
        let announcements = self.arguments.peers.homes().announcements().cloned().collect();
        Exchange { announcements, heads: self.heads() }
    }

    fn publish(&mut self, position: Position, event: ContentId) {
        let Some((ledger, _)) = self.arguments.peers.own_ledger() else { return };
        let peer = self.arguments.peers.me();
        let Position { tenure, generation, count } = position;
        let head = Head { ledger, peer, tenure, generation, count, event };
        if let Err(error) = self.core.tick(head.sign(&self.arguments.key.signing_key())) {
            tracing::error!(%error, "this home's own head does not advance the clock");
        }
        self.published.insert(position, event);
        if self.published.len() > PUBLISHED_MAX {
            self.published.pop_first();
        }
        self.tell_root();
    }

    /// Takes what `from` knows, up to what its signer never signed: the rest of that is not looked at.
    fn merge(&mut self, from: Option<PeerId>, exchanged: &Exchange) {
        let is_signed = self.hear_of(&exchanged.announcements) && self.merge_heads(exchanged);
        if let Some(peer) = from.filter(|_| !is_signed) {
            self.arguments.peers.blame(peer, Offence::WrongSignature);
        }
    }

    fn merge_heads(&mut self, exchanged: &Exchange) -> bool {
        let own = self.arguments.peers.own_ledger().map(|(ledger, _)| ledger);
        let heads = &exchanged.heads[..exchanged.heads.len().min(limits::PEERS_MAX)];
        let (of_own, heads): (Vec<_>, Vec<_>) =
            heads.iter().copied().partition(|signed| Some(signed.head.ledger) == own);
        // A clock has one head of a ledger: of more, the newest says enough, and no message makes this node look twice.
        if let Some(newest) = of_own.iter().max_by_key(|signed| signed.head.position()) {
            self.look_at_own(newest);
        }
        self.merge_others(heads)
    }

    /// Whether all that was looked at was rightly signed.
    fn hear_of(&mut self, announcements: &[SignedAnnouncement]) -> bool {
        let mut homes = self.arguments.peers.homes_mut();
        for signed in announcements.iter().take(limits::PEERS_MAX + 1) {
            match homes.hear_of(signed) {
                Ok(Heard::Known | Heard::News) => {}
                Ok(Heard::Copy(term)) => drop(self.arguments.addresses.ledger.cast(LedgerMsg::TermSeen(term))),
                // Nobody is to blame: the one that passed it on has not heard of the next one yet.
                Err(AnnouncementError::Over { .. }) => {}
                Err(error) => {
                    self.refused += 1;
                    tracing::warn!(%error, "an announcement is refused");
                    if matches!(error, AnnouncementError::Verify(_)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Of its own ledger this node knows better than any peer; but a head that it did not write, and that is signed
    /// with its key, shows another copy of its disk.
    fn look_at_own(&mut self, signed: &SignedHead) {
        let head = signed.head;
        let tenure = self.arguments.peers.own_term().map(|term| term.tenure);
        // What was before a claim, or at a home before this one, is no news.
        if self.published.get(&head.position()) == Some(&head.event) || Some(head.tenure) < tenure {
            return;
        }
        let verified = signed.verify();
        if head.peer != self.arguments.peers.me() || verified.is_err() {
            self.refused += 1;
            tracing::warn!(ledger = %head.ledger, signer = %head.peer, "a head of this node's ledger that is another's is refused");
            return;
        }
        let _ = self.arguments.addresses.ledger.cast(LedgerMsg::HeadSeen(head));
    }

    /// Anybody can sign a head, so those of a ledger's home are taken, and no others.
    fn merge_others(&mut self, mut heads: Vec<SignedHead>) -> bool {
        let presented = heads.len();
        let homes = self.arguments.peers.homes();
        heads.retain(|signed| homes.is_of_its_home(&signed.head));
        drop(homes);
        if heads.len() < presented {
            tracing::debug!(left_out = presented - heads.len(), "heads of no home that is known");
            self.refused += (presented - heads.len()) as u64;
        }
        let report = self.core.merge(&heads);
        self.refused += report.refused.len() as u64;
        self.equivocations += report.equivocations.len() as u64;
        for (ledger, why) in &report.refused {
            tracing::warn!(%ledger, %why, "a head is refused");
        }
        for (one, other) in &report.equivocations {
            tracing::error!(one = ?one.head, other = ?other.head, "two heads of one count prove equivocation");
        }
        if !report.advanced.is_empty() {
            self.tell_root();
        }
        !report.refused.iter().any(|(_, why)| matches!(why, MergeHeadError::Verify(_)))
    }

    fn tell_root(&self) {
        let root = self.core.root();
        let _ = self.arguments.addresses.ledger.cast(LedgerMsg::ClockRoot(ClockRoot(root)));
        self.tell_registry();
    }

    fn tell_registry(&self) {
        let _ = self.arguments.addresses.registry.cast(RegistryMsg::ClockRoot(self.core.root()));
    }

    /// What was served by a peer that serves it no more, and is served by nobody or by another: nobody takes such a head, so
    /// as long as it is kept the roots of two nodes may differ.
    fn forget_former_homes(&mut self) {
        let homes = self.arguments.peers.homes();
        let forgotten = self.core.retain(|head| homes.is_of_its_home(head));
        drop(homes);
        if forgotten {
            self.tell_root();
        }
    }

    /// A peer with another root and this node exchange what the other may lack.
    fn compare(&mut self, peer: PeerId, root: [u8; 32]) {
        if root == self.core.root() {
            return self.compared(peer);
        }
        self.forget_former_homes();
        let me = self.me.clone();
        let body = Body::Clock(ClockRequest::Exchange(self.exchange()));
        self.arguments.peers.tell(peer, body, move |answer| {
            if let Ok(Answer::Clock(ClockReply::Exchanged(exchanged))) = answer {
                let _ = me.cast(ClockMsg::Merge { peer, exchanged });
            }
        });
    }

    /// Whatever the peer holds of this node's ledger was looked at.
    fn compared(&self, peer: PeerId) {
        let _ = self.arguments.addresses.ledger.cast(LedgerMsg::PeerCompared { peer });
    }

    fn view(&self) -> ClockView {
        ClockView {
            node: self.arguments.peers.me(),
            merkle_root: data_encoding::HEXLOWER.encode(&self.core.root()),
            heads: self.heads(),
            refused: self.refused,
            equivocations: self.equivocations,
        }
    }
}
