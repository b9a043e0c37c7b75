//! Which actor, on which node, a request goes to.

use std::sync::Arc;
use std::time::Duration;

use magpie_core::ids::{LedgerTag, PeerId};
use magpie_core::limits;
use magpie_core::queue::{Caller, LedgerReply, LedgerRequest, Refusal};
use magpie_core::time::Wall;
use ractor::RpcReplyPort;

use super::Addresses;
use super::last_known::Memory;
use super::peers::Peers;
use super::readings::now;
use crate::messages::ledger::{LedgerMsg, LedgerPort};
use crate::messages::{Answer, Body};

/// What a ledger may take to answer what it is not asked to wait for.
pub const LEDGER_PATIENCE: Duration = Duration::from_secs(30);
/// A forwarded wait ends well within a request between peers; the client asks again.
const FORWARDED_WAIT_MS: u64 = limits::PEER_REQUEST_TIMEOUT_MS / 2;

#[derive(Clone)]
pub struct Routes {
    pub addresses: Addresses,
    pub peers: Peers,
    memory: Memory,
}

impl Routes {
    pub fn new(addresses: Addresses, peers: Peers) -> Self {
        Self { addresses, peers, memory: Memory::default() }
    }

    /// Takes a request to the home it is for, wherever that is.
    ///
    /// # Errors
    /// Why it has no answer.
    pub async fn ledger(&self, owner: Arc<str>, request: LedgerRequest) -> Result<LedgerReply, Refusal> {
        let own = self.peers.own_ledger().map(|(ledger, _)| ledger.tag());
        match request.subject().filter(|id| Some(id.ledger) != own) {
            None => self.own_ledger(self.peers.me(), owner, request).await,
            Some(id) => {
                refuse_blobs(&request)?;
                let request = shorten_wait(request);
                let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
                let answer = self.peers.ask_home(id, request, patience).await;
                self.memory.pass(&owner, id, Wall(now().wall_ms), answer)
            }
        }
    }

    /// Takes a request to the home that it names. What a peer sends here on is for this node's home, or for nobody: a
    /// submission must not end up in another ledger than it named.
    ///
    /// # Errors
    /// [`Refusal::HomeAway`] if that home is not known or does not answer.
    pub async fn named(
        &self,
        from: Option<PeerId>,
        owner: Arc<str>,
        home: LedgerTag,
        request: LedgerRequest,
    ) -> Result<LedgerReply, Refusal> {
        let own = self.peers.own_ledger().is_some_and(|(ledger, _)| ledger.tag() == home);
        match from {
            _ if own => self.own_ledger(from.unwrap_or(self.peers.me()), owner, request).await,
            None => {
                refuse_blobs(&request)?;
                self.peers.ask_named(home, shorten_wait(request)).await
            }
            Some(_) => Err(Refusal::HomeAway { home, last_seen: None }),
        }
    }

    /// Asks this node's ledger in a peer's name.
    ///
    /// # Errors
    /// If its mailbox is full, or it is restarting.
    pub async fn own_ledger(
        &self,
        peer: PeerId,
        owner: Arc<str>,
        request: LedgerRequest,
    ) -> Result<LedgerReply, Refusal> {
        let permit = self.addresses.ledger.admit()?;
        let caller = Caller { peer, owner };
        let message = |reply| LedgerMsg::Request { caller, request, permit, reply: port(reply) };
        Ok(self.addresses.ledger.ask(LEDGER_PATIENCE + Duration::from_millis(limits::WAIT_MAX_MS), message).await?)
    }

    /// Asks a home as its worker: this node's ledger through its mailbox, another's through the network. `then` gets
    /// the answer, or why there is none; all is worth a retry.
    pub fn tell_home(
        &self,
        home: LedgerTag,
        request: LedgerRequest,
        then: impl FnOnce(Result<LedgerReply, Refusal>) + Send + 'static,
    ) {
        let me = self.peers.me();
        match self.peers.home_of(home) {
            None => then(Err(Refusal::Unavailable { what: format!("home {home} is not known") })),
            Some(peer) if peer == me => {
                let routes = self.clone();
                let principal = self.peers.principal_of(me);
                self.peers.errand_at_once(async move { then(routes.own_ledger(me, principal, request).await) });
            }
            Some(peer) => {
                self.peers.tell(peer, Body::Ledger(request), move |answer| {
                    then(answer.and_then(|answer| match answer {
                        Answer::Ledger(reply) => Ok(reply),
                        Answer::Refused(refusal) => Err(refusal),
                        _ => Err(Refusal::Unavailable { what: format!("{peer} answered something else") }),
                    }));
                });
            }
        }
    }
}

/// The way back to one who waits.
pub fn port(reply: RpcReplyPort<LedgerReply>) -> LedgerPort {
    // Who asked may have given up.
    Box::new(|answer| drop(reply.send(answer)))
}

/// What a submission names in this node's store another home does not have.
fn refuse_blobs(request: &LedgerRequest) -> Result<(), Refusal> {
    let names_blobs = match request {
        LedgerRequest::Submit { items, .. } => items.iter().any(|item| item.spec.names_blobs()),
        LedgerRequest::SubmitWorkflow { spec, .. } => spec.names_blobs(),
        LedgerRequest::Rehearse(request) => return refuse_blobs(request),
        _ => false,
    };
    if !names_blobs {
        return Ok(());
    }
    let what = "it has files or large values, and its home, named or its parent's, is another node: submit it there \
                (--control), or here without --home and without a parent (unset MAGPIE_TASK_ID)";
    Err(Refusal::Unsupported { what: what.to_owned() })
}

fn shorten_wait(request: LedgerRequest) -> LedgerRequest {
    match request {
        LedgerRequest::WaitTask { id, timeout_ms } => {
            LedgerRequest::WaitTask { id, timeout_ms: timeout_ms.min(FORWARDED_WAIT_MS) }
        }
        LedgerRequest::WaitWorkflow { id, timeout_ms } => {
            LedgerRequest::WaitWorkflow { id, timeout_ms: timeout_ms.min(FORWARDED_WAIT_MS) }
        }
        other => other,
    }
}
