//! Single tasks: submit, follow, list, change, cancel; and the state of the node's queue.

mod cancel;
mod change;
mod list;
mod queue_status;
mod read;
mod submit;
mod view;

pub use cancel::Cancel;
pub use change::{Resubmit, SetPriority};
pub use list::{ALSO as LIST_ALSO, ListTasks};
pub use queue_status::{ALSO as STATUS_ALSO, QueueStatus};
pub use read::{GetTask, WaitTask, WaitTaskOutput};
pub use submit::{ALSO as SUBMIT_ALSO, Submit, SubmitOutput, Submitted, accepted, own_kind, priority, submit};
pub use view::{ErrorShown, seconds};

use std::time::Duration;

use magpie_core::ids::{OperationId, TaskId};
use magpie_core::queue::{LedgerReply, LedgerRequest, TaskView};
use magpie_core::task::{TaskKind, TaskState};

use super::follow::{Followed, follow};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::Call;
use crate::mcp::link::{self, PATIENCE};

impl Followed for TaskView {
    fn is_done(&self) -> bool {
        self.state.is_terminal()
    }

    fn in_words(&self) -> String {
        match self.worker {
            _ if self.kind == TaskKind::Approval && self.state == TaskState::Ready => {
                format!("waits for a person: nodectl approval approve {0}, or deny {0}", self.id)
            }
            Some(worker) => format!("{} on {worker}, attempt {}", self.state, self.attempts),
            None => self.state.to_string(),
        }
    }
}

/// The task when it is done or `wait_ms` have passed.
async fn wait_for_task(call: &Call<'_>, id: TaskId, wait_ms: u64) -> Result<TaskView, ToolError> {
    let ask = |timeout_ms: u64, patience: Duration| async move {
        match call.link.ledger(LedgerRequest::WaitTask { id, timeout_ms }, patience).await? {
            LedgerReply::Task(view) => Ok(*view),
            _ => Err(link::unexpected()),
        }
    };
    follow(call, wait_ms, ask).await
}

/// Cancels a task or a workflow; answers the state after it.
pub(super) async fn cancel(
    call: &Call<'_>,
    operation: OperationId,
    id: TaskId,
    reason: Option<String>,
) -> Result<TaskState, ToolError> {
    let reason = reason.unwrap_or_else(|| "asked for over MCP".to_owned());
    match call.link.ledger(LedgerRequest::Cancel { operation, id, reason }, PATIENCE).await? {
        LedgerReply::Cancelled { state } => Ok(state),
        _ => Err(link::unexpected()),
    }
}

/// How to go on with a task that is not done.
pub fn wait_next(id: TaskId) -> Next {
    Next::new("p2p_taskqueue_wait_task", serde_json::json!({"task_id": id.to_string()}), 0)
}

/// Reads a task's or workflow's id.
///
/// # Errors
/// `wrong_argument` with where to find one.
pub fn parse_id(field: &str, text: &str) -> Result<TaskId, ToolError> {
    text.trim().parse().map_err(|error| {
        let fix = "take an id that a submission answered or that p2p_taskqueue_list_tasks lists";
        ToolError::wrong_argument(field, error, "an id as 01JD...-k3v9x2aq", fix).next(Next::new(
            "p2p_taskqueue_list_tasks",
            serde_json::json!({}),
            0,
        ))
    })
}
