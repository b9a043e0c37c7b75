//! Waiting for an end, however often the node or the home is away meanwhile.

use std::time::Duration;

use magpie_core::ids::TaskId;
use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskView, WorkflowState, WorkflowView};
use magpie_core::task::TaskState;

use super::connection::{NodeLink, unexpected};
use super::deadline::Deadline;
use super::exit::{CommandError, Exit};

/// The longest wait that a home grants; it is asked again.
pub const STEP_MAX: Duration = Duration::from_millis(limits::WAIT_MAX_MS);
/// What an answer may take beyond the wait that was asked for: less when the time is nearly up.
const SLACK_MAX: Duration = Duration::from_secs(10);
const SLACK_MIN: Duration = Duration::from_secs(2);

/// What can be waited for.
pub trait Waited: Sized {
    fn request(id: TaskId, timeout_ms: u64) -> LedgerRequest;
    fn of(reply: LedgerReply) -> Option<Self>;
    fn is_terminal(&self) -> bool;
    /// What a script is told about it.
    fn exit(&self) -> Exit;
}

impl Waited for TaskView {
    fn request(id: TaskId, timeout_ms: u64) -> LedgerRequest {
        LedgerRequest::WaitTask { id, timeout_ms }
    }

    fn of(reply: LedgerReply) -> Option<Self> {
        if let LedgerReply::Task(view) = reply { Some(*view) } else { None }
    }

    fn is_terminal(&self) -> bool {
        self.state.is_terminal()
    }

    fn exit(&self) -> Exit {
        if self.state == TaskState::Succeeded { Exit::Ok } else { Exit::Failed }
    }
}

impl Waited for WorkflowView {
    fn request(id: TaskId, timeout_ms: u64) -> LedgerRequest {
        LedgerRequest::WaitWorkflow { id, timeout_ms }
    }

    fn of(reply: LedgerReply) -> Option<Self> {
        if let LedgerReply::Workflow(view) = reply { Some(*view) } else { None }
    }

    fn is_terminal(&self) -> bool {
        self.summary.state.is_terminal()
    }

    fn exit(&self) -> Exit {
        if self.summary.state == WorkflowState::Succeeded { Exit::Ok } else { Exit::Failed }
    }
}

/// Waits until `id` is terminal; `seen` gets what it is on the way, at least every `step`.
///
/// # Errors
/// Exit code 5 if `deadline` passes before, 4 if the home is out of reach then, 3 if there is no such id.
pub async fn until_terminal<V: Waited>(
    link: &NodeLink,
    id: TaskId,
    deadline: Deadline,
    step: Duration,
    mut seen: impl FnMut(&V),
) -> Result<V, CommandError> {
    loop {
        let wait = deadline.cap(step.min(STEP_MAX));
        let request = V::request(id, wait.as_millis() as u64);
        let reply = link.insist_ledger(request, wait + deadline.cap(SLACK_MAX).max(SLACK_MIN), deadline).await?;
        let view = V::of(reply).ok_or_else(unexpected)?;
        seen(&view);
        if view.is_terminal() {
            return Ok(view);
        }
        if deadline.has_passed() {
            return Err(CommandError::new(
                Exit::TimedOut,
                format!("{id} has not ended within the timeout; it goes on"),
            ));
        }
    }
}
