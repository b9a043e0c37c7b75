//! Where a call of a tool goes: to this node, or to the one that its caller names.

use std::time::Duration;

use magpie_core::ids::PeerId;
use magpie_core::limits;
use magpie_core::queue::Refusal;

use super::address::Address;
use super::peers::Peers;
use crate::messages::tool::{ToolAsk, ToolMsg, ToolReply, ToolRequest};
use crate::messages::{Answer, Body};

/// What an answer may take beyond the wait that is asked for.
const PATIENCE_MS: u64 = 4_000;

#[derive(Clone)]
pub struct ToolDesk {
    pub peers: Peers,
    pub tools: Address<ToolMsg>,
}

impl ToolDesk {
    /// Answers a client of this node, or the node `from`.
    ///
    /// # Errors
    /// What this node, or the other, refuses.
    pub async fn answer(&self, from: Option<PeerId>, request: ToolRequest) -> Result<ToolReply, Refusal> {
        let me = self.peers.me();
        match request {
            ToolRequest::Here(ask) => self.here(from.unwrap_or(me), ask).await,
            ToolRequest::At { peer, ask } if peer == me => self.here(me, ask).await,
            ToolRequest::At { peer, ask } => self.at(peer, ask).await,
        }
    }

    async fn here(&self, from: PeerId, ask: ToolAsk) -> Result<ToolReply, Refusal> {
        let patience = patience(&ask);
        let permit = self.tools.admit()?;
        self.tools.ask(patience, |reply| ToolMsg::Request { from, ask, permit, reply }).await?
    }

    /// What was not heard of it is told as it is: the caller alone knows whether to call again.
    async fn at(&self, peer: PeerId, ask: ToolAsk) -> Result<ToolReply, Refusal> {
        let patience = patience(&ask).min(Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS));
        match self.peers.ask_or_unheard(peer, Body::Tool(ToolRequest::Here(ask)), patience).await {
            Ok(Answer::Tool(reply)) => Ok(reply),
            Ok(Answer::Refused(refusal)) => Err(refusal),
            Ok(_) => Err(Refusal::Unavailable { what: format!("{peer} answered something else") }),
            Err(unheard) => Ok(ToolReply::Away { why: unheard.why, sent: unheard.sent }),
        }
    }
}

fn patience(ask: &ToolAsk) -> Duration {
    Duration::from_millis(ask.wait_ms() + PATIENCE_MS)
}
