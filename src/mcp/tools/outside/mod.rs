//! Callers as workers: they take a task, hold on to it, and report its result under the lease that they were given.

mod end;
mod hold;
mod register;
mod submit;
mod take;

pub use end::{ALSO as END_ALSO, EndTask};
pub use hold::{HEARTBEAT_ALSO, Heartbeat, UPDATE_ALSO, UpdateTask};
pub use register::{REGISTER_ALSO, RegisterWorker, UNREGISTER_ALSO, UnregisterWorker};
pub use submit::{ALSO as SUBMIT_ALSO, SubmitForWorkers};
pub use take::{ALSO as TAKE_ALSO, TakeTask};

use magpie_core::ids::{Epoch, LeaseToken, TaskId};
use magpie_core::lease::RenewAnswer;
use magpie_core::queue::{LedgerReply, LedgerRequest, OutsideReply, OutsideRequest, TaskFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::task_queue::parse_id;
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::Call;
use crate::mcp::link::{self, PATIENCE};

/// The worker of a caller who names none.
const WORKER: &str = "default";
/// Where a task that was submitted under an id of the seeds keeps it.
const SEED_ID: &str = "p2p.task_id";
const SEED_WORKFLOW: &str = "p2p.workflow_id";

/// What proves that a task was given to whoever has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    epoch: u64,
    token: String,
    /// It ends so long after it was last renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
}

impl Lease {
    fn read(&self) -> Result<(Epoch, LeaseToken), ToolError> {
        let token = self.token.parse().map_err(|error| {
            let fix = "pass lease as the claim answered it: {epoch, token}";
            ToolError::wrong_argument("lease", error, "{epoch, token}", fix)
        })?;
        Ok((Epoch(self.epoch), token))
    }
}

async fn outside(call: &Call<'_>, request: OutsideRequest) -> Result<OutsideReply, ToolError> {
    match call.link.ledger(LedgerRequest::Outside(request), PATIENCE).await? {
        LedgerReply::Outside(reply) => Ok(*reply),
        _ => Err(link::unexpected()),
    }
}

fn worker(named: Option<String>) -> String {
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| WORKER.to_owned())
}

/// The task of an id, or of the id under which p2p_submit_task submitted it.
async fn find(call: &Call<'_>, text: &str) -> Result<TaskId, ToolError> {
    let unknown = match parse_id("task_id", text) {
        Ok(id) => return Ok(id),
        Err(error) => error,
    };
    let labels = [(SEED_ID.to_owned(), text.to_owned())].into();
    let request =
        LedgerRequest::ListTasks { filter: TaskFilter { labels, ..TaskFilter::default() }, cursor: None, limit: 1 };
    match call.link.ledger(request, PATIENCE).await? {
        LedgerReply::Tasks { items, .. } => items.first().map(|view| view.id).ok_or(unknown),
        _ => Err(link::unexpected()),
    }
}

/// A lease that is none any more, or of somebody else.
fn fenced(id: TaskId) -> ToolError {
    let message = format!("{id} is not leased to this caller: the lease ended, or it is another's");
    let fix = "stop working on it and claim another; pass the lease that the claim answered";
    ToolError::new("fenced", message, fix).next(Next::new("p2p_taskqueue_claim_next", json!({}), 0))
}

fn renewed(id: TaskId, answer: RenewAnswer) -> Result<u64, ToolError> {
    match answer {
        RenewAnswer::Renewed { ttl_ms } => Ok(ttl_ms),
        RenewAnswer::Fenced { .. } => Err(fenced(id)),
        RenewAnswer::Terminal { state } if !state.is_terminal() => {
            let message = format!("the attempt at {id} has had all the time of its timeout, and ends with its lease");
            Err(ToolError::new("out_of_time", message, "stop working on it and claim another"))
        }
        RenewAnswer::Terminal { state } => {
            let message = format!("{id} has ended: it is {state}");
            Err(ToolError::new("already_terminal", message, "stop working on it and claim another"))
        }
        RenewAnswer::Unknown => {
            Err(ToolError::new("not_found", format!("{id} is not known at its home"), "claim another task"))
        }
    }
}
