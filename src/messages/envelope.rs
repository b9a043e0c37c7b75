//! What wraps a message at every door but a mailbox.

use magpie_core::access::Role;
use magpie_core::homes::Term;
use magpie_core::ids::LedgerTag;
use magpie_core::queue::{ApprovalRequest, LedgerReply, LedgerRequest, Refusal};
use magpie_core::wire;
use serde::{Deserialize, Serialize};

use super::access::{AccessReply, AccessRequest};
use super::actor::{ActorReply, ActorRequest};
use super::blob::{BlobReply, BlobRequest};
use super::cache::{CacheReply, CacheRequest};
use super::clock::{ClockReply, ClockRequest};
use super::device::{DeviceActorReply, DeviceActorRequest};
use super::mount::{MountReply, MountRequest};
use super::node::{NodeReply, NodeRequest};
use super::peer::{PeerReply, PeerRequest};
use super::registry::{RegistryReply, RegistryRequest};
use super::stream::{StreamReply, StreamRequest};
use super::tool::{ToolAsk, ToolReply, ToolRequest};
use super::worker::{WorkerReply, WorkerRequest};

/// A request and what travels with it. Its bytes are one frame of [`magpie_core::wire`], which carries the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Unique per sender and connection; the answer repeats it.
    pub id: u64,
    /// The sender stops waiting after this; a message that is older is dropped.
    pub ttl_ms: u64,
    /// W3C `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    pub body: Body,
}

/// What is read of an envelope whose body is of a later version.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Addressed {
    pub id: u64,
}

impl Addressed {
    /// The refusal that whoever sent it waits for.
    pub fn unsupported(self, error: &wire::DecodeError) -> ReplyEnvelope {
        let what = format!("this message is not understood: {error}");
        ReplyEnvelope::to_client(self.id, Answer::Refused(Refusal::Unsupported { what }))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyEnvelope {
    pub id: u64,
    pub answer: Answer,
    /// Of a home's answer to a peer: which life of the home gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Term>,
}

impl ReplyEnvelope {
    /// In place of a request's id, which is never 0: the answer to each that was and will be sent on this connection.
    pub const TO_ALL: u64 = 0;

    /// One to a client of this node.
    pub fn to_client(id: u64, answer: Answer) -> Self {
        Self { id, answer, term: None }
    }
}

/// To one of a node's actors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Goes to the home that the id in the request names, from whichever node it reaches.
    Ledger(LedgerRequest),
    /// Goes to the home that it names, or to none.
    Home {
        home: LedgerTag,
        request: LedgerRequest,
    },
    Worker(WorkerRequest),
    Registry(RegistryRequest),
    Clock(ClockRequest),
    Device(DeviceActorRequest),
    Blob(BlobRequest),
    Actor(ActorRequest),
    Access(AccessRequest),
    Node(NodeRequest),
    Peer(PeerRequest),
    Stream(StreamRequest),
    Cache(CacheRequest),
    Mount(MountRequest),
    Tool(ToolRequest),
}

/// The answer to a [`Body`] of the same name, or a refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Ledger(LedgerReply),
    Worker(WorkerReply),
    Registry(RegistryReply),
    Clock(ClockReply),
    Device(DeviceActorReply),
    Blob(BlobReply),
    Actor(ActorReply),
    Access(AccessReply),
    Node(NodeReply),
    Peer(PeerReply),
    Cache(CacheReply),
    Stream(StreamReply),
    Mount(MountReply),
    Tool(ToolReply),
    Refused(Refusal),
}

impl Body {
    /// Whether a speaker of `role` may say this; else the role it takes.
    pub fn may_be_said_by(&self, role: Role) -> Result<(), Role> {
        let needed = match self {
            Body::Ledger(request) | Body::Home { request, .. } => may_ask(request),
            Body::Tool(ToolRequest::At { ask, .. }) => ask.may_be_asked_by(),
            Body::Registry(RegistryRequest::Heartbeat(_))
            | Body::Clock(ClockRequest::Exchange(_))
            | Body::Worker(WorkerRequest::Notice { .. })
            | Body::Stream(StreamRequest::Attempt { .. })
            | Body::Tool(ToolRequest::Here(_))
            | Body::Access(AccessRequest::Learn { .. } | AccessRequest::Tell) => &[Role::Peer][..],
            Body::Blob(_)
            | Body::Node(NodeRequest::Status)
            | Body::Stream(StreamRequest::Task { .. } | StreamRequest::Events(_)) => {
                &[Role::Peer, Role::Agent, Role::Operator][..]
            }
            Body::Registry(RegistryRequest::List | RegistryRequest::Capabilities)
            | Body::Cache(_)
            | Body::Mount(_)
            | Body::Clock(ClockRequest::Show | ClockRequest::Audit | ClockRequest::CheckChain { .. })
            | Body::Worker(WorkerRequest::Stats)
            | Body::Device(_)
            | Body::Node(NodeRequest::Homes | NodeRequest::RecordCalls(_))
            | Body::Peer(
                PeerRequest::Get { .. }
                | PeerRequest::Contacts
                | PeerRequest::Rules
                | PeerRequest::Metrics { .. }
                | PeerRequest::Discover,
            ) => &[Role::Agent, Role::Operator][..],
            Body::Node(
                NodeRequest::ExportHome { .. }
                | NodeRequest::ImportHome { .. }
                | NodeRequest::Logs(_)
                | NodeRequest::Audit(_),
            )
            | Body::Peer(PeerRequest::Connect { .. } | PeerRequest::Disconnect { .. } | PeerRequest::SetRule { .. })
            | Body::Access(
                AccessRequest::IssueTicket { .. }
                | AccessRequest::Revoke { .. }
                | AccessRequest::RotateKey { .. }
                | AccessRequest::ShowKey,
            )
            | Body::Actor(_)
            | Body::Worker(WorkerRequest::Drain { .. } | WorkerRequest::Resume) => &[Role::Operator][..],
        };
        if needed.contains(&role) { Ok(()) } else { Err(needed[needed.len() - 1]) }
    }

    /// Whether it begins what nothing undoes and no operation id keeps from being done twice: then it is not said again
    /// where nobody knows whether it was heard.
    pub fn is_said_once(&self) -> bool {
        matches!(
            self,
            Self::Mount(MountRequest::Call { .. })
                | Self::Tool(ToolRequest::At { ask: ToolAsk::Call { .. } | ToolAsk::CallKept { .. }, .. })
        )
    }
}

/// Who may ask a ledger this. A peer forwards what it let its own clients say.
fn may_ask(request: &LedgerRequest) -> &'static [Role] {
    match request {
        LedgerRequest::Rehearse(request) => may_ask(request),
        LedgerRequest::Credit(_)
        | LedgerRequest::Renew(_)
        | LedgerRequest::Complete(_)
        | LedgerRequest::Release(_)
        | LedgerRequest::AskPermits(_)
        | LedgerRequest::TakePermits(_) => &[Role::Peer],
        // A peer does not say in whose name: its own node's clients are held there.
        LedgerRequest::Approval(ApprovalRequest::Hold { .. }) => &[Role::Agent, Role::Operator],
        LedgerRequest::PurgeDead { .. }
        | LedgerRequest::PauseQueue { .. }
        | LedgerRequest::ResumeQueue { .. }
        | LedgerRequest::ClearQueue { .. }
        | LedgerRequest::Approval(ApprovalRequest::Decide { .. })
        | LedgerRequest::Claim { .. } => &[Role::Peer, Role::Operator],
        // Of this node's own callers, whom its door knows.
        LedgerRequest::Usage(_) => &[Role::Operator],
        LedgerRequest::Submit { .. }
        | LedgerRequest::SubmitWorkflow { .. }
        | LedgerRequest::GetTask { .. }
        | LedgerRequest::WaitTask { .. }
        | LedgerRequest::WaitAttempt { .. }
        | LedgerRequest::ListTasks { .. }
        | LedgerRequest::GetWorkflow { .. }
        | LedgerRequest::WaitWorkflow { .. }
        | LedgerRequest::ListWorkflows { .. }
        | LedgerRequest::Cancel { .. }
        | LedgerRequest::SetPriority { .. }
        | LedgerRequest::WhyPending { .. }
        | LedgerRequest::RetryTasks { .. }
        | LedgerRequest::RetryWorkflow { .. }
        | LedgerRequest::ListDead { .. }
        | LedgerRequest::NamespacesOf { .. }
        | LedgerRequest::CountNamespace { .. }
        | LedgerRequest::ShowDead { .. }
        | LedgerRequest::Schedule(_)
        | LedgerRequest::Outside(_)
        | LedgerRequest::Approval(ApprovalRequest::List { .. })
        | LedgerRequest::Context(_)
        | LedgerRequest::Stats => &[Role::Peer, Role::Agent, Role::Operator],
    }
}
