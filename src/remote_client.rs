//! The peers' door as a guest: what `nodectl --node` speaks through, from any machine, by a ticket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use magpie_core::access::SignedTicket;
use magpie_core::ids::PeerId;
use magpie_core::queue::{LedgerReply, Refusal};
use magpie_core::{limits, wire};
use magpie_net::{Admission, NetConfig, NetEvent, NetHandle, NodeKey, RequestError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::client::ClientError;
use crate::messages::{Answer, Body, Envelope, ReplyEnvelope};

/// How long a node may take to admit a guest.
const ADMISSION_PATIENCE: Duration = Duration::from_secs(10);
/// Events between the network and who drains them.
const EVENTS_LEN_MAX: usize = 16;

/// A connection to one node elsewhere; dropped, it ends.
pub struct RemoteClient {
    net: NetHandle,
    node: PeerId,
    next_id: AtomicU64,
    draining: JoinHandle<()>,
}

impl Drop for RemoteClient {
    fn drop(&mut self) {
        self.draining.abort();
    }
}

impl RemoteClient {
    /// Shows `ticket` to the node at `address`, which must be of the cluster that issued it. Needs a runtime of one
    /// thread.
    ///
    /// # Errors
    /// If `address` is none, or nobody there admits the ticket in time.
    pub async fn connect(key: &NodeKey, ticket: SignedTicket, address: &str) -> Result<Self, ClientError> {
        let admission =
            Admission { clusters: [ticket.ticket.issuer].into(), ticket: Some(ticket), ..Admission::default() };
        let bootstrap = vec![address.to_owned()];
        let config = NetConfig { bootstrap, admission, without_lanes: true, ..NetConfig::default() };
        let (sender, mut events) = mpsc::channel(EVENTS_LEN_MAX);
        let not_admitted = |reason: String| ClientError::NotAdmitted { address: address.to_owned(), reason };
        let net = magpie_net::spawn(key, config, sender).await.map_err(|error| not_admitted(error.to_string()))?;
        let admitted = tokio::time::timeout(ADMISSION_PATIENCE, admitted_by(&mut events)).await;
        let refused = net.counters().peers_refused > 0;
        let Some(node) = admitted.ok().flatten() else {
            net.shutdown().await;
            return Err(not_admitted(if refused { REFUSED.to_owned() } else { ABSENT.to_owned() }));
        };
        // Nobody asks a guest.
        let draining = tokio::spawn(async move { while events.recv().await.is_some() {} });
        Ok(Self { net, node, next_id: AtomicU64::new(1), draining })
    }

    /// As [`Client::ask`](crate::client::Client::ask), at most as long as requests between peers may take.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ask(&self, body: Body, patience: Duration) -> Result<Answer, ClientError> {
        let patience = patience.min(Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS));
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let envelope = Envelope { id, ttl_ms: patience.as_millis() as u64, trace: None, body };
        let frame = wire::encode(&envelope, limits::FRAME_BYTES_MAX)?;
        let frame = self.net.request(self.node, frame, patience).await.map_err(|error| match error {
            RequestError::TimedOut { .. } | RequestError::Unanswered { .. } => ClientError::TimedOut { patience },
            RequestError::Busy { .. } => ClientError::Refused(Refusal::Unavailable { what: error.to_string() }),
            RequestError::NotConnected { .. }
            | RequestError::Interrupted { .. }
            | RequestError::TooLong { .. }
            | RequestError::Stopped => ClientError::Closed,
        })?;
        let reply: ReplyEnvelope = wire::decode_frame(&frame).map_err(|_| ClientError::Unexpected)?;
        match reply.answer {
            Answer::Refused(refusal) | Answer::Ledger(LedgerReply::Refused(refusal)) => {
                Err(ClientError::Refused(refusal))
            }
            answer => Ok(answer),
        }
    }

    /// Whether the node is gone: make a new client.
    pub fn is_closed(&self) -> bool {
        self.net.peers().is_empty()
    }
}

const REFUSED: &str = "it does not admit this ticket, and tells a stranger no reason: its log does. The ticket may be revoked, or of \
     another cluster, or the clocks differ";
const ABSENT: &str = "nobody answers there: is the address right, and the port open?";

async fn admitted_by(events: &mut mpsc::Receiver<NetEvent>) -> Option<PeerId> {
    loop {
        if let NetEvent::PeerAdmitted { peer, .. } = events.recv().await? {
            return Some(peer);
        }
    }
}
