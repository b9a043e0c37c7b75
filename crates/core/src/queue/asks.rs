//! What requests have in common, for a home that cannot do everything just now.

use super::approvals::ApprovalRequest;
use super::protocol::LedgerRequest;
use super::schedules::ScheduleRequest;
use super::usage::UsageRequest;
use crate::ids::{LedgerTag, TaskId};
use crate::lease::Fence;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    NewWork,
    Change,
    Claim,
    Read,
    /// Of workers and of homes that borrow permits: what follows from accepted work.
    Lease,
}

impl LedgerRequest {
    /// The id that a request is about: its home answers, and that of a request without one is the node that is asked.
    pub fn subject(&self) -> Option<TaskId> {
        match self {
            Self::Schedule(request) => request.id(),
            Self::Outside(request) => request.subject(),
            Self::Approval(request) => request.subject(),
            Self::Context(request) => request.subject(),
            Self::Rehearse(request) => request.subject(),
            // A child lives at its parent's home, so that one record cancels both.
            Self::Submit { items, .. } => items.first().and_then(|item| item.spec.parent),
            Self::SubmitWorkflow { spec, .. } => spec.parent,
            Self::GetTask { id }
            | Self::WaitTask { id, .. }
            | Self::WaitAttempt { id, .. }
            | Self::GetWorkflow { id }
            | Self::WaitWorkflow { id, .. }
            | Self::RetryWorkflow { id, .. }
            | Self::Cancel { id, .. }
            | Self::SetPriority { id, .. }
            | Self::WhyPending { id }
            | Self::ShowDead { id } => Some(*id),
            // They share a home: a caller splits what does not.
            Self::RetryTasks { ids, .. } | Self::PurgeDead { ids, .. } | Self::NamespacesOf { ids } => {
                ids.first().copied()
            }
            Self::ListTasks { .. }
            | Self::ListWorkflows { .. }
            | Self::ListDead { .. }
            | Self::CountNamespace { .. }
            | Self::PauseQueue { .. }
            | Self::ResumeQueue { .. }
            | Self::ClearQueue { .. }
            | Self::Claim { .. }
            | Self::Stats
            | Self::Usage(_)
            | Self::Credit(_)
            | Self::Renew(_)
            | Self::Complete(_)
            | Self::Release(_)
            | Self::AskPermits(_)
            | Self::TakePermits(_) => None,
        }
    }

    /// The ledger that a request is about, by the ids in it: any other would say that it does not know them.
    pub fn ledger(&self) -> Option<LedgerTag> {
        let of_fence = |fence: &Fence| fence.task.ledger;
        match self {
            Self::Renew(renewals) => renewals.first().map(|renewal| of_fence(&renewal.fence)),
            Self::Complete(completions) => completions.first().map(|completion| of_fence(&completion.fence)),
            Self::Release(releases) => releases.first().map(|release| of_fence(&release.fence)),
            request => request.subject().map(|id| id.ledger),
        }
    }

    pub(super) fn asks(&self) -> Asks {
        match self {
            Self::Submit { .. }
            | Self::SubmitWorkflow { .. }
            | Self::RetryTasks { .. }
            | Self::RetryWorkflow { .. }
            | Self::Approval(ApprovalRequest::Hold { .. })
            | Self::Schedule(ScheduleRequest::RunNow { .. }) => Asks::NewWork,
            Self::Cancel { .. }
            | Self::SetPriority { .. }
            | Self::PurgeDead { .. }
            | Self::PauseQueue { .. }
            | Self::ResumeQueue { .. }
            | Self::ClearQueue { .. }
            | Self::Approval(ApprovalRequest::Decide { .. })
            | Self::Schedule(ScheduleRequest::Change { .. }) => Asks::Change,
            Self::Context(request) if request.changes() => Asks::Change,
            Self::Usage(UsageRequest::Put { .. }) => Asks::Change,
            // It is refused where the request would be.
            Self::Rehearse(request) => request.asks(),
            Self::Claim { .. } => Asks::Claim,
            Self::GetTask { .. }
            | Self::WaitTask { .. }
            | Self::WaitAttempt { .. }
            | Self::ListTasks { .. }
            | Self::GetWorkflow { .. }
            | Self::WaitWorkflow { .. }
            | Self::ListWorkflows { .. }
            | Self::WhyPending { .. }
            | Self::ListDead { .. }
            | Self::ShowDead { .. }
            | Self::NamespacesOf { .. }
            | Self::CountNamespace { .. }
            | Self::Schedule(ScheduleRequest::Get { .. } | ScheduleRequest::List { .. })
            | Self::Context(_)
            | Self::Approval(ApprovalRequest::List { .. })
            | Self::Usage(UsageRequest::Of { .. })
            | Self::Stats => Asks::Read,
            Self::Credit(_)
            | Self::Renew(_)
            | Self::Complete(_)
            | Self::Release(_)
            | Self::Outside(_)
            | Self::AskPermits(_)
            | Self::TakePermits(_) => Asks::Lease,
        }
    }
}
