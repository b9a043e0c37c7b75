//! The HTTP listener. Its connections are served by the runtime that started the node, since reading JSON computes; what
//! they ask the node is answered in the node's thread, beside the other actors.

mod accept;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

pub use accept::accept;

use super::address::Address;
use super::audit::Audit;
use super::doorway::Doorway;
use super::kept_blobs;
use crate::client::ClientError;
use crate::mcp::handler::BoxFuture;
use crate::mcp::http::{HttpRules, HttpServer};
use crate::mcp::link::{Door, PATIENCE};
use crate::mcp::principal::Principal;
use crate::mcp::server::McpServer;
use crate::messages::audit::CallLine;
use crate::messages::http::HttpMsg;
use crate::messages::{Answer, Body};
use crate::store::namespace_blobs::NamespaceBlobs;
use magpie_core::ids::ContentId;
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest, UsageRequest, UsageView};

pub struct HttpActor;

#[derive(Clone)]
pub struct HttpArguments {
    pub listen: SocketAddr,
    pub rules: HttpRules,
    /// Where connections are served.
    pub serving: Handle,
    /// Its own address.
    pub own: Address<HttpMsg>,
    pub doorway: Arc<Doorway>,
}

pub struct HttpState {
    accepting: JoinHandle<()>,
    /// Sessions end here, and what was approved is called.
    tending: JoinHandle<()>,
    server: Arc<HttpServer<McpServer>>,
    doorway: Arc<Doorway>,
}

impl Actor for HttpActor {
    type Msg = HttpMsg;
    type State = HttpState;
    type Arguments = HttpArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let HttpArguments { listen, rules, serving, own, doorway } = arguments;
        let door = Arc::new(Inside { http: own, audit: doorway.audit.clone(), blobs: doorway.namespace_blobs.clone() });
        let (listener, bound) = bind(listen, &doorway.http)?;
        let server = HttpServer::new(McpServer::http, door, &with_own_name(rules, bound))?;
        let server = Arc::new(server);
        let served = server.clone();
        let accepting = serving.spawn(async move {
            let why = accept(listener, served, limits::HTTP_CONNECTIONS_MAX).await;
            let _ = myself.cast(HttpMsg::Ended(format!("HTTP takes no connection on {bound}: {why}")));
        });
        let tended = server.clone();
        let tending = serving.spawn(async move { tended.tend().await });
        Ok(HttpState { accepting, tending, server, doorway })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HttpMsg::Ask { owner, apart, body, permit, reply } => {
                let doorway = state.doorway.clone();
                tokio::spawn(async move {
                    let answer = match apart {
                        true => doorway.answer_apart(owner, *body).await,
                        false => doorway.answer(None, owner, *body).await,
                    };
                    // Who does not wait any more needs no answer.
                    let _ = reply.send(answer);
                    drop(permit);
                });
                Ok(())
            }
            HttpMsg::Ended(why) => Err(why.into()),
        }
    }
}

impl Drop for HttpState {
    fn drop(&mut self) {
        self.accepting.abort();
        self.tending.abort();
        self.server.end();
    }
}

/// A listener where it was before, if it was somewhere: a free port is chosen once.
fn bind(listen: SocketAddr, bound: &OnceLock<SocketAddr>) -> Result<(TcpListener, SocketAddr), String> {
    let wanted = bound.get().copied().unwrap_or(listen);
    let listener = std::net::TcpListener::bind(wanted).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    let (listener, address) = listener
        .map_err(|error| format!("HTTP cannot be served on {wanted}: {error}; name another address with --http"))?;
    bound.get_or_init(|| address);
    tracing::info!(%address, "HTTP is served");
    Ok((listener, address))
}

/// Who listens on one address of its own is called by it.
fn with_own_name(mut rules: HttpRules, bound: SocketAddr) -> HttpRules {
    if !bound.ip().is_unspecified() {
        rules.hosts.push(bound.ip().to_string());
    }
    rules
}

/// The way from a connection to the node's thread.
struct Inside {
    http: Address<HttpMsg>,
    audit: Audit,
    blobs: NamespaceBlobs,
}

impl Door for Inside {
    fn ask<'a>(
        &'a self,
        principal: &'a Principal,
        body: Body,
        patience: std::time::Duration,
    ) -> BoxFuture<'a, Result<Answer, ClientError>> {
        Box::pin(async move {
            principal.may_say(&body)?;
            let permit = self.http.admit().map_err(ClientError::Refused)?;
            let (owner, apart) = (principal.name.clone(), principal.namespace.is_some());
            let message = |reply| HttpMsg::Ask { owner, apart, body: Box::new(body), permit, reply };
            match self.http.ask(patience, message).await.map_err(|gone| ClientError::Refused(gone.into()))? {
                Answer::Refused(refusal) | Answer::Ledger(LedgerReply::Refused(refusal)) => {
                    Err(ClientError::Refused(refusal))
                }
                answer => Ok(answer),
            }
        })
    }

    fn record(&self, principal: &Principal, call: CallLine) {
        self.audit.say(&principal.name, call);
    }

    fn lacks<'a>(
        &'a self,
        namespace: &'a str,
        blobs: Vec<ContentId>,
    ) -> BoxFuture<'a, Result<Option<ContentId>, ClientError>> {
        Box::pin(kept_blobs::lacks(&self.blobs, namespace, blobs))
    }

    fn give<'a>(&'a self, namespace: &'a str, blobs: Vec<ContentId>) -> BoxFuture<'a, Result<(), ClientError>> {
        Box::pin(kept_blobs::give(&self.blobs, namespace, blobs))
    }

    fn usage(&self, request: UsageRequest) -> BoxFuture<'_, Result<UsageView, ClientError>> {
        Box::pin(async move {
            let permit = self.http.admit().map_err(ClientError::Refused)?;
            let body = Box::new(Body::Ledger(LedgerRequest::Usage(request)));
            let message = |reply| HttpMsg::Ask { owner: "".into(), apart: false, body, permit, reply };
            match self.http.ask(PATIENCE, message).await.map_err(|gone| ClientError::Refused(gone.into()))? {
                Answer::Ledger(LedgerReply::Usage(view)) => Ok(*view),
                Answer::Refused(refusal) | Answer::Ledger(LedgerReply::Refused(refusal)) => {
                    Err(ClientError::Refused(refusal))
                }
                _ => Err(ClientError::Unexpected),
            }
        })
    }
}
