//! Calls of this node's tools by other nodes. They run on the runtime that started the node, since a dispatcher
//! computes; what they ask the node is answered in the node's thread.

use std::sync::Arc;
use std::time::Duration;

use magpie_core::ids::{ContentId, OperationId, PeerId};
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, Refusal};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::address::Address;
use super::doorway::Doorway;
use super::kept_blobs;
use crate::client::ClientError;
use crate::mcp::catalog::Scope;
use crate::mcp::handler::BoxFuture;
use crate::mcp::link::Door;
use crate::mcp::peer_calls::{self, Call, Calls};
use crate::mcp::principal::Principal;
use crate::messages::audit::CallLine;
use crate::messages::mount::{MountReply, MountRequest};
use crate::messages::tool::{ToolAsk, ToolCall, ToolMsg, ToolReply};
use crate::messages::{Answer, Body};

pub struct ToolsActor;

#[derive(Clone)]
pub struct ToolsArguments {
    /// The most that calls of other nodes may do; none: nothing.
    pub scope_max: Option<Scope>,
    /// Where calls run.
    pub serving: Handle,
    /// Its own address.
    pub own: Address<ToolMsg>,
    pub doorway: Arc<Doorway>,
}

pub struct ToolsState {
    arguments: ToolsArguments,
    calls: Calls,
    /// Calls under way, and those who wait for their ends; they end with the actor.
    errands: JoinSet<()>,
}

impl Actor for ToolsActor {
    type Msg = ToolMsg;
    type State = ToolsState;
    type Arguments = ToolsArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(ToolsState { arguments, calls: Calls::default(), errands: JoinSet::new() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while state.errands.try_join_next().is_some() {}
        match message {
            ToolMsg::Request { from, ask, permit, reply } => state.take(from, ask, permit, reply),
            ToolMsg::Ask { owner, apart, body, permit, reply } => {
                let doorway = state.arguments.doorway.clone();
                state.errands.spawn(async move {
                    let answer = match apart {
                        true => doorway.answer_apart(owner, *body).await,
                        false => doorway.answer(None, owner, *body).await,
                    };
                    // A call that has ended needs no answer.
                    let _ = reply.send(answer);
                    drop(permit);
                });
            }
        }
        Ok(())
    }
}

type Reply = RpcReplyPort<Result<ToolReply, Refusal>>;

impl ToolsState {
    fn take(&mut self, from: PeerId, ask: ToolAsk, permit: OwnedSemaphorePermit, reply: Reply) {
        // Who does not wait any more needs no answer.
        match ask {
            ToolAsk::Call { call, wait_ms, of } => {
                let begun = self.begin(from, call, *of, None);
                self.answer_begun(begun, wait_ms, permit, reply);
            }
            ToolAsk::CallKept { call, wait_ms, namespace, of } => {
                let begun = self.begin(from, call, *of, Some(namespace));
                self.answer_begun(begun, wait_ms, permit, reply);
            }
            ToolAsk::Wait { call, wait_ms } => match self.calls.of(from, call) {
                Some(begun) => self.answer_at_the_end(begun, wait_ms, permit, reply),
                None => _ = reply.send(Ok(ToolReply::Unknown)),
            },
            ToolAsk::Cancel { call } => {
                let told = self.calls.of(from, call).map_or(ToolReply::Unknown, |begun| {
                    begun.cancel();
                    ToolReply::Cancelled
                });
                let _ = reply.send(Ok(told));
            }
            ToolAsk::Mounts => {
                let (doorway, owner) = (self.arguments.doorway.clone(), format!("peer:{from}"));
                self.errands.spawn(async move {
                    let told = doorway.mounts.answer(owner.into(), MountRequest::List).await;
                    let _ = reply.send(told.map(|reply| match reply {
                        MountReply::Servers(servers) => ToolReply::Mounts(servers),
                        _ => ToolReply::Mounts(Vec::new()),
                    }));
                    drop(permit);
                });
            }
        }
    }

    fn answer_begun(&mut self, begun: Result<Call, Refusal>, wait_ms: u64, permit: OwnedSemaphorePermit, reply: Reply) {
        match begun {
            Ok(begun) => self.answer_at_the_end(begun, wait_ms, permit, reply),
            Err(refusal) => _ = reply.send(Err(refusal)),
        }
    }

    fn answer_at_the_end(&mut self, begun: Call, wait_ms: u64, permit: OwnedSemaphorePermit, reply: Reply) {
        let wait = Duration::from_millis(wait_ms.min(limits::PEER_CALL_MS_MAX));
        self.errands.spawn(async move {
            let _ = reply.send(Ok(begun.follow(wait).await));
            drop(permit);
        });
    }

    /// A call that was begun before goes on.
    fn begin(
        &mut self,
        from: PeerId,
        id: OperationId,
        call: ToolCall,
        namespace: Option<String>,
    ) -> Result<Call, Refusal> {
        if let Some(begun) = self.calls.of(from, id) {
            return Ok(begun);
        }
        peer_calls::check(&call, namespace.as_deref())?;
        let (begun, telling) = self.calls.begin(from, id)?;
        let ToolsArguments { scope_max, serving, own, doorway } = &self.arguments;
        let is_own = from == doorway.routes.peers.me();
        let scope_max = if is_own { Some(Scope::Admin) } else { *scope_max };
        let called_by = (!is_own).then(|| doorway.routes.peers.principal_of(from));
        let door = Arc::new(Inside { tools: own.clone(), doorway: doorway.clone(), called_by });
        self.errands.spawn_on(peer_calls::run(call, namespace, scope_max, door, telling), serving);
        Ok(begun)
    }
}

/// The way from a call to the node's thread.
struct Inside {
    tools: Address<ToolMsg>,
    doorway: Arc<Doorway>,
    /// The node that made the call, as the audit names it; none: this one.
    called_by: Option<Arc<str>>,
}

impl Door for Inside {
    fn ask<'a>(
        &'a self,
        principal: &'a Principal,
        body: Body,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Answer, ClientError>> {
        Box::pin(async move {
            principal.may_say(&body)?;
            let permit = self.tools.admit().map_err(ClientError::Refused)?;
            let (owner, apart) = (principal.name.clone(), principal.namespace.is_some());
            let message = |reply| ToolMsg::Ask { owner, apart, body: Box::new(body), permit, reply };
            match self.tools.ask(patience, message).await.map_err(|gone| ClientError::Refused(gone.into()))? {
                Answer::Refused(refusal) | Answer::Ledger(LedgerReply::Refused(refusal)) => {
                    Err(ClientError::Refused(refusal))
                }
                answer => Ok(answer),
            }
        })
    }

    /// Which node called is known here, whose name it brought is what it says.
    fn record(&self, principal: &Principal, call: CallLine) {
        let by = self.called_by.as_ref().unwrap_or(&principal.name);
        self.doorway.audit.say(by, call);
    }

    fn lacks<'a>(
        &'a self,
        namespace: &'a str,
        blobs: Vec<ContentId>,
    ) -> BoxFuture<'a, Result<Option<ContentId>, ClientError>> {
        Box::pin(kept_blobs::lacks(&self.doorway.namespace_blobs, namespace, blobs))
    }

    fn give<'a>(&'a self, namespace: &'a str, blobs: Vec<ContentId>) -> BoxFuture<'a, Result<(), ClientError>> {
        Box::pin(kept_blobs::give(&self.doorway.namespace_blobs, namespace, blobs))
    }
}
