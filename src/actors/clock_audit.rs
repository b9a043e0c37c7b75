//! Checks the clock of this node: every signature, the root above them, what peers hold, and its own chain in pieces.

use std::time::Duration;

use magpie_core::clock::{Beside, Rebuilt, SignedHead};
use magpie_core::ids::{LedgerId, PeerId};
use magpie_core::queue::Refusal;

use tokio::task::JoinSet;

use super::peers::Peers;
use crate::messages::clock::{ClockAudit, ClockReply, ClockRequest, ClockView, Exchange, HeadFault, PeerClock};
use crate::messages::{Answer, Body};

/// How long one peer is waited for, and how many are asked at a time.
const PEER_PATIENCE: Duration = Duration::from_secs(2);
const PEERS_AT_A_TIME: usize = 32;

/// What is wrong with the clock that `view` shows, and how peers stand to it.
pub async fn audit(peers: &Peers, view: &ClockView) -> ClockAudit {
    let rebuilt = Rebuilt::of(&view.heads);
    let root = data_encoding::HEXLOWER.encode(&rebuilt.clock.root());
    let connected = peers.net().map(|net| net.peers()).unwrap_or_default();
    let mut compared = Vec::with_capacity(connected.len());
    for some in connected.chunks(PEERS_AT_A_TIME) {
        let mut asked = JoinSet::new();
        for info in some {
            asked.spawn(heads_of(peers.clone(), view.heads.clone(), info.peer));
        }
        compared.extend(asked.join_all().await.into_iter().map(|(peer, told)| beside(peer, &rebuilt, told)));
    }
    compared.sort_by_key(|peer: &PeerClock| peer.peer_id);
    ClockAudit {
        node: view.node,
        merkle_root: view.merkle_root.clone(),
        root_holds: root == view.merkle_root,
        heads: view.heads.len() as u64,
        refused: rebuilt.refused.into_iter().map(fault).collect(),
        own: peers
            .own_ledger()
            .and_then(|(own, _)| view.heads.iter().find(|signed| signed.head.ledger == own))
            .copied(),
        peers: compared,
    }
}

/// An exchange of heads as heartbeats cause it, so that nodes of the version before answer it, too.
async fn heads_of(peers: Peers, heads: Vec<SignedHead>, peer: PeerId) -> (PeerId, Result<Vec<SignedHead>, Refusal>) {
    let exchange = Exchange { announcements: Vec::new(), heads };
    let told = match peers.ask(peer, Body::Clock(ClockRequest::Exchange(exchange)), PEER_PATIENCE).await {
        Ok(Answer::Clock(ClockReply::Exchanged(theirs))) => Ok(theirs.heads),
        Ok(Answer::Refused(refusal)) | Err(refusal) => Err(refusal),
        Ok(_) => Err(Refusal::Unavailable { what: "it answered something else".to_owned() }),
    };
    (peer, told)
}

fn beside(peer: PeerId, ours: &Rebuilt, heads: Result<Vec<SignedHead>, Refusal>) -> PeerClock {
    match heads {
        Ok(heads) => told(peer, ours.beside(&heads)),
        Err(refusal) => unanswered(peer, &refusal),
    }
}

fn told(peer_id: PeerId, beside: Beside) -> PeerClock {
    PeerClock {
        peer_id,
        ordering: Some(format!("{:?}", beside.ordering).to_lowercase()),
        behind: beside.behind,
        ahead: beside.ahead,
        forked: beside.forked,
        refused: beside.refused.into_iter().map(fault).collect(),
        unanswered: None,
    }
}

fn unanswered(peer_id: PeerId, refusal: &Refusal) -> PeerClock {
    PeerClock {
        peer_id,
        ordering: None,
        behind: 0,
        ahead: 0,
        forked: Vec::new(),
        refused: Vec::new(),
        unanswered: Some(refusal.to_string()),
    }
}

fn fault((ledger, why): (LedgerId, String)) -> HeadFault {
    HeadFault { ledger, why }
}
