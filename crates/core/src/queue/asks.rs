//! What requests have in common, for a home that cannot do everything just now.

use super::protocol::LedgerRequest;
use super::schedules::ScheduleRequest;

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
    pub(super) fn asks(&self) -> Asks {
        match self {
            Self::Submit { .. }
            | Self::SubmitWorkflow { .. }
            | Self::RetryTasks { .. }
            | Self::RetryWorkflow { .. }
            | Self::Schedule(ScheduleRequest::RunNow { .. }) => Asks::NewWork,
            Self::Cancel { .. }
            | Self::SetPriority { .. }
            | Self::PurgeDead { .. }
            | Self::PauseQueue { .. }
            | Self::ResumeQueue { .. }
            | Self::ClearQueue { .. }
            | Self::Schedule(ScheduleRequest::Change { .. }) => Asks::Change,
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
            | Self::Schedule(ScheduleRequest::Get { .. } | ScheduleRequest::List { .. })
            | Self::Stats => Asks::Read,
            Self::Credit(_)
            | Self::Renew(_)
            | Self::Complete(_)
            | Self::Release(_)
            | Self::AskPermits(_)
            | Self::TakePermits(_) => Asks::Lease,
        }
    }
}
