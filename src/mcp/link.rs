//! The way to the node: in its own process, or behind its control socket, where it is made anew whenever the node was away.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use magpie_core::ids::{ContentId, LedgerTag, PeerId};
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal, UsageRequest, UsageView};
use tokio::sync::Mutex;

use super::answer::ToolError;
use super::handler::BoxFuture;
use super::known_tools::KnownTools;
use super::principal::Principal;
use super::quota::{self, QuotaRow};
use super::recorder::Recorder;
use super::rehearsal::{self, Rehearsal};
use crate::client::{Client, ClientError};
use crate::messages::audit::CallLine;
use crate::messages::blob::{BlobReply, BlobRequest};
use crate::messages::clock::{ClockAudit, ClockReply, ClockRequest, ClockView};
use crate::messages::mount::{MountReply, MountRequest, MountedTool};
use crate::messages::node::{NodeReply, NodeRequest, NodeStatus};
use crate::messages::peer::{PeerReply, PeerRequest};
use crate::messages::stream::{StreamReply, StreamRequest};
use crate::messages::tool::{ToolAsk, ToolReply, ToolRequest};
use crate::messages::{Answer, Body, Role};

const CLIENT: &str = "node-mcp";
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
/// For an answer that waits for nothing but the node.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A way to a node that somebody else keeps: into its own process, or by a connection that is there already.
pub trait Door: Send + Sync {
    /// Asks in the name of a principal, in the role that its scope gives; a refusal is an error.
    fn ask<'a>(
        &'a self,
        principal: &'a Principal,
        body: Body,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Answer, ClientError>>;

    /// Keeps a call of the principal in the node's audit; waits for nothing.
    fn record(&self, principal: &Principal, call: CallLine);

    /// The first of these blobs that a namespace does not have.
    fn lacks<'a>(
        &'a self,
        _namespace: &'a str,
        _blobs: Vec<ContentId>,
    ) -> BoxFuture<'a, Result<Option<ContentId>, ClientError>> {
        Box::pin(std::future::ready(Err(no_namespaces())))
    }

    /// Keeps in mind that a namespace has these blobs.
    fn give<'a>(&'a self, _namespace: &'a str, _blobs: Vec<ContentId>) -> BoxFuture<'a, Result<(), ClientError>> {
        Box::pin(std::future::ready(Err(no_namespaces())))
    }

    /// What an owner used at this node's home. What is put is counted before.
    fn usage(&self, _request: UsageRequest) -> BoxFuture<'_, Result<UsageView, ClientError>> {
        Box::pin(std::future::ready(Err(no_quotas())))
    }
}

/// A door that nobody comes through who has a quota.
fn no_quotas() -> ClientError {
    let what = "this way to the node counts nobody's use".to_owned();
    ClientError::Refused(Refusal::Unsupported { what })
}

/// A door that nobody comes through who is kept to a namespace.
fn no_namespaces() -> ClientError {
    let what = "this way to the node keeps no namespaces apart".to_owned();
    ClientError::Refused(Refusal::Unsupported { what })
}

/// The way to one node. A clone is the same way.
#[derive(Clone)]
pub enum NodeLink {
    Socket {
        socket: Arc<Socket>,
        recorder: Arc<OnceLock<Recorder>>,
    },
    Inside {
        door: Arc<dyn Door>,
        principal: Arc<Principal>,
    },
    /// The same way for a dry run: what would change something is looked into, and not said.
    Rehearsing {
        link: Box<NodeLink>,
        rehearsal: Arc<Rehearsal>,
    },
}

/// A control socket, and the connection that was made last. Nothing is kept that a new connection would lack for
/// longer than a second.
pub struct Socket {
    path: PathBuf,
    role: Role,
    client: Mutex<Option<Arc<Client>>>,
    known: KnownTools,
}

impl NodeLink {
    /// By way of its control socket, in a role that is asked for there.
    pub fn new(socket: PathBuf, role: Role) -> Self {
        let socket = Arc::new(Socket { path: socket, role, client: Mutex::new(None), known: KnownTools::default() });
        Self::Socket { socket, recorder: Arc::default() }
    }

    /// Through a door, in the name of a principal.
    pub fn inside(door: Arc<dyn Door>, principal: Arc<Principal>) -> Self {
        Self::Inside { door, principal }
    }

    /// Asks the node. A connection that turns out to be closed is replaced once: a message may be said twice, because what
    /// it changes goes by its operation id. A call of another server's tool, or at another node, has none, and is said once.
    ///
    /// # Errors
    /// `node_unreachable` if no node listens; else what the node refused.
    pub async fn ask(&self, body: Body, patience: Duration) -> Result<Answer, ToolError> {
        Ok(match self {
            Self::Socket { socket, .. } => socket.ask(body, patience).await?,
            Self::Inside { door, principal } => quota::ask(&**door, principal, body, patience).await?,
            Self::Rehearsing { link, rehearsal } => Box::pin(rehearsal::ask(link, rehearsal, body, patience)).await?,
        })
    }

    /// The same way for a dry run, and what comes of that.
    pub fn rehearsing(&self) -> (Self, Arc<Rehearsal>) {
        let rehearsal = Arc::<Rehearsal>::default();
        (Self::Rehearsing { link: Box::new(self.clone()), rehearsal: rehearsal.clone() }, rehearsal)
    }

    /// What its caller is kept to.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Socket { .. } => None,
            Self::Inside { principal, .. } => principal.namespace.as_deref(),
            Self::Rehearsing { link, .. } => link.namespace(),
        }
    }

    /// What its caller may use, and has used; nothing, if that is not bounded.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn quota(&self) -> Result<Vec<QuotaRow>, ToolError> {
        match self {
            Self::Socket { .. } => Ok(Vec::new()),
            Self::Inside { door, principal } => match &principal.account {
                Some(account) => Ok(quota::rows(&account.quota, &quota::usage(&**door, principal).await?)),
                None => Ok(Vec::new()),
            },
            Self::Rehearsing { link, .. } => Box::pin(link.quota()).await,
        }
    }

    /// Whether the node would let this be said.
    ///
    /// # Errors
    /// `forbidden` if it would not.
    pub fn may_say(&self, body: &Body) -> Result<(), ToolError> {
        match self {
            Self::Socket { socket, .. } => body.may_be_said_by(socket.role).map_err(|needs| {
                let (needs, has) = (needs.name().to_owned(), socket.role.name().to_owned());
                Refusal::Forbidden { needs, has }.into()
            }),
            Self::Inside { principal, .. } => Ok(principal.may_say(body)?),
            Self::Rehearsing { link, .. } => link.may_say(body),
        }
    }

    /// Has a call kept in the node's audit; waits for nothing.
    pub fn record(&self, call: CallLine) {
        match self {
            Self::Socket { socket, recorder } => recorder.get_or_init(|| recorder_at(socket.clone())).record(call),
            Self::Inside { door, principal } => door.record(principal, call),
            Self::Rehearsing { link, .. } => link.record(call),
        }
    }

    /// Waits a second at most for the node to hear of the calls that it was to keep.
    pub async fn finish(&self) {
        if let Self::Socket { recorder, .. } = self
            && let Some(recorder) = recorder.get()
        {
            recorder.finish().await;
        }
    }

    /// Asks the ledger of the home that the request's id names.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn ledger(&self, request: LedgerRequest, patience: Duration) -> Result<LedgerReply, ToolError> {
        match self.ask(Body::Ledger(request), patience).await? {
            Answer::Ledger(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// Asks the ledger `home`, wherever it is served.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn ledger_of(&self, home: LedgerTag, request: LedgerRequest) -> Result<LedgerReply, ToolError> {
        match self.ask(Body::Home { home, request }, PATIENCE).await? {
            Answer::Ledger(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn status(&self, patience: Duration) -> Result<NodeStatus, ToolError> {
        match self.ask(Body::Node(NodeRequest::Status), patience).await? {
            Answer::Node(NodeReply::Status(status)) => Ok(*status),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// The node's Merkle clock.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn clock(&self) -> Result<ClockView, ToolError> {
        match self.ask(Body::Clock(ClockRequest::Show), PATIENCE).await? {
            Answer::Clock(ClockReply::Clock(clock)) => Ok(clock),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// What is wrong with the clock, and how those of the peers that answer stand to it.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn clock_audit(&self) -> Result<ClockAudit, ToolError> {
        match self.ask(Body::Clock(ClockRequest::Audit), PATIENCE).await? {
            Answer::Clock(ClockReply::Audited(audit)) => Ok(*audit),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// Asks about single peers.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn peer(&self, request: PeerRequest) -> Result<PeerReply, ToolError> {
        self.peer_within(request, PATIENCE).await
    }

    /// As [`NodeLink::peer`], with a wait of its own.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn peer_within(&self, request: PeerRequest, patience: Duration) -> Result<PeerReply, ToolError> {
        match self.ask(Body::Peer(request), patience).await? {
            Answer::Peer(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// Asks about mounted servers, or one of them; `wait_ms` is how long the request itself waits.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn mount(&self, request: MountRequest, wait_ms: u64) -> Result<MountReply, ToolError> {
        match self.ask(Body::Mount(request), PATIENCE + Duration::from_millis(wait_ms)).await? {
            Answer::Mount(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// A tool of a mounted server, as the node tells of it; behind a socket, as it told within the last second. None, if its
    /// server offers none of that name.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn mounted_tool(&self, server: &str, tool: &str) -> Result<Option<Arc<MountedTool>>, ToolError> {
        let known = match self {
            Self::Socket { socket, .. } => Some(&socket.known),
            Self::Inside { .. } | Self::Rehearsing { .. } => None,
        };
        if let Some(tool) = known.and_then(|known| known.get(server, tool, Instant::now())) {
            return Ok(Some(tool));
        }
        let request = MountRequest::Tool { server: server.to_owned(), tool: tool.to_owned() };
        let MountReply::Tool(found) = self.mount(request, 0).await? else { return Err(unexpected()) };
        let found = found.map(|tool| Arc::new(*tool));
        if let (Some(known), Some(tool)) = (known, &found) {
            known.keep(tool.clone(), Instant::now());
        }
        Ok(found)
    }

    /// Asks another node about calls of its tools.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn tool_at(&self, peer: PeerId, ask: ToolAsk) -> Result<ToolReply, ToolError> {
        let patience = PATIENCE + Duration::from_millis(ask.wait_ms());
        match self.ask(Body::Tool(ToolRequest::At { peer, ask }), patience).await? {
            Answer::Tool(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// What follows in a stream.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn stream(&self, request: StreamRequest, patience: Duration) -> Result<StreamReply, ToolError> {
        match self.ask(Body::Stream(request), patience).await? {
            Answer::Stream(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected.into()),
        }
    }

    /// A piece of a blob, in or out.
    ///
    /// # Errors
    /// As [`NodeLink::ask`].
    pub async fn blob(&self, request: BlobRequest) -> Result<BlobReply, ToolError> {
        match self.ask(Body::Blob(request), PATIENCE).await? {
            Answer::Blob(reply) => Ok(reply),
            _ => Err(ClientError::Unexpected.into()),
        }
    }
}

fn recorder_at(socket: Arc<Socket>) -> Recorder {
    Recorder::start(move |calls| {
        let socket = socket.clone();
        async move {
            match socket.ask(Body::Node(NodeRequest::RecordCalls(calls)), PATIENCE).await? {
                Answer::Node(NodeReply::CallsRecorded) => Ok(()),
                _ => Err(ClientError::Unexpected),
            }
        }
    })
}

impl Socket {
    async fn ask(&self, body: Body, patience: Duration) -> Result<Answer, ClientError> {
        let (client, is_new) = self.connected().await?;
        match client.ask(body.clone(), patience).await {
            Err(ClientError::Closed) if !is_new && !body.is_said_once() => {
                self.forget(&client).await;
                let (client, _) = self.connected().await?;
                client.ask(body, patience).await
            }
            answer => answer,
        }
    }

    async fn connected(&self) -> Result<(Arc<Client>, bool), ClientError> {
        let mut place = self.client.lock().await;
        if let Some(client) = place.as_ref().filter(|client| !client.is_closed()) {
            return Ok((client.clone(), false));
        }
        let connecting = Client::connect(&self.path, CLIENT, self.role);
        let connected = tokio::time::timeout(CONNECT_PATIENCE, connecting).await;
        let client = Arc::new(connected.unwrap_or(Err(ClientError::TimedOut { patience: CONNECT_PATIENCE }))?);
        *place = Some(client.clone());
        Ok((client, true))
    }

    async fn forget(&self, closed: &Arc<Client>) {
        let mut place = self.client.lock().await;
        if place.as_ref().is_some_and(|client| Arc::ptr_eq(client, closed)) {
            *place = None;
        }
    }
}

/// A reply of another kind than the request's.
pub fn unexpected() -> ToolError {
    ClientError::Unexpected.into()
}
