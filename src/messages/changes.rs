//! Which messages change something.

use magpie_core::queue::{ApprovalRequest, LedgerRequest, OutsideRequest, ScheduleRequest, UsageRequest};

use super::Body;
use super::access::AccessRequest;
use super::actor::ActorRequest;
use super::blob::BlobRequest;
use super::cache::CacheRequest;
use super::mount::MountRequest;
use super::node::NodeRequest;
use super::peer::PeerRequest;
use super::registry::RegistryRequest;
use super::tool::{ToolAsk, ToolRequest};
use super::worker::WorkerRequest;

impl Body {
    /// Whether saying this may change what others see. Clocks that are exchanged and peers that are looked for are found
    /// out, not changed.
    pub fn changes_something(&self) -> bool {
        match self {
            Self::Ledger(request) | Self::Home { request, .. } => changes(request),
            Self::Worker(request) => match request {
                WorkerRequest::Stats => false,
                WorkerRequest::Notice { .. } | WorkerRequest::Drain { .. } | WorkerRequest::Resume => true,
            },
            Self::Registry(request) => match request {
                RegistryRequest::List | RegistryRequest::Capabilities => false,
                RegistryRequest::Heartbeat(_) => true,
            },
            Self::Clock(_) | Self::Device(_) | Self::Stream(_) => false,
            Self::Blob(request) => match request {
                BlobRequest::Stat { .. } | BlobRequest::Get { .. } => false,
                BlobRequest::Put { .. } => true,
            },
            Self::Actor(request) => match request {
                ActorRequest::Tree => false,
                ActorRequest::Kill { .. } => true,
            },
            Self::Access(request) => match request {
                AccessRequest::ShowKey | AccessRequest::Tell => false,
                AccessRequest::IssueTicket { .. }
                | AccessRequest::Revoke { .. }
                | AccessRequest::RotateKey { .. }
                | AccessRequest::Learn { .. } => true,
            },
            Self::Node(request) => match request {
                NodeRequest::Status | NodeRequest::Homes | NodeRequest::Logs(_) | NodeRequest::Audit(_) => false,
                NodeRequest::ExportHome { .. } | NodeRequest::ImportHome { .. } | NodeRequest::RecordCalls(_) => true,
            },
            Self::Peer(request) => match request {
                PeerRequest::Get { .. }
                | PeerRequest::Contacts
                | PeerRequest::Rules
                | PeerRequest::Metrics { .. }
                | PeerRequest::Discover => false,
                PeerRequest::Connect { .. } | PeerRequest::Disconnect { .. } | PeerRequest::SetRule { .. } => true,
            },
            Self::Cache(request) => match request {
                CacheRequest::Get { .. } | CacheRequest::Stats => false,
                CacheRequest::Put { .. } | CacheRequest::Invalidate { .. } => true,
            },
            Self::Mount(request) => match request {
                MountRequest::List
                | MountRequest::Tools { .. }
                | MountRequest::Tool { .. }
                | MountRequest::Wait { .. } => false,
                MountRequest::Call { .. } | MountRequest::Cancel { .. } => true,
            },
            Self::Tool(ToolRequest::At { ask, .. } | ToolRequest::Here(ask)) => match ask {
                ToolAsk::Wait { .. } | ToolAsk::Mounts => false,
                ToolAsk::Call { .. } | ToolAsk::CallKept { .. } | ToolAsk::Cancel { .. } => true,
            },
        }
    }
}

fn changes(request: &LedgerRequest) -> bool {
    match request {
        LedgerRequest::GetTask { .. }
        | LedgerRequest::WaitTask { .. }
        | LedgerRequest::WaitAttempt { .. }
        | LedgerRequest::ListTasks { .. }
        | LedgerRequest::GetWorkflow { .. }
        | LedgerRequest::WaitWorkflow { .. }
        | LedgerRequest::ListWorkflows { .. }
        | LedgerRequest::WhyPending { .. }
        | LedgerRequest::ListDead { .. }
        | LedgerRequest::ShowDead { .. }
        | LedgerRequest::Schedule(ScheduleRequest::Get { .. } | ScheduleRequest::List { .. })
        | LedgerRequest::NamespacesOf { .. }
        | LedgerRequest::CountNamespace { .. }
        | LedgerRequest::Approval(ApprovalRequest::List { .. })
        | LedgerRequest::Stats
        | LedgerRequest::Rehearse(_) => false,
        LedgerRequest::Context(request) => request.changes(),
        LedgerRequest::Usage(UsageRequest::Of { .. }) => false,
        LedgerRequest::Usage(UsageRequest::Put { .. }) => true,
        LedgerRequest::Outside(
            OutsideRequest::Register { .. }
            | OutsideRequest::Unregister { .. }
            | OutsideRequest::Take { .. }
            | OutsideRequest::Keep { .. }
            | OutsideRequest::End { .. },
        )
        | LedgerRequest::Schedule(ScheduleRequest::Change { .. } | ScheduleRequest::RunNow { .. })
        | LedgerRequest::Submit { .. }
        | LedgerRequest::SubmitWorkflow { .. }
        | LedgerRequest::RetryWorkflow { .. }
        | LedgerRequest::Cancel { .. }
        | LedgerRequest::SetPriority { .. }
        | LedgerRequest::RetryTasks { .. }
        | LedgerRequest::PurgeDead { .. }
        | LedgerRequest::PauseQueue { .. }
        | LedgerRequest::ResumeQueue { .. }
        | LedgerRequest::ClearQueue { .. }
        | LedgerRequest::Approval(ApprovalRequest::Hold { .. } | ApprovalRequest::Decide { .. })
        | LedgerRequest::Claim { .. }
        | LedgerRequest::Credit(_)
        | LedgerRequest::Renew(_)
        | LedgerRequest::Complete(_)
        | LedgerRequest::Release(_)
        | LedgerRequest::AskPermits(_)
        | LedgerRequest::TakePermits(_) => true,
    }
}
