//! What a message of a caller with a quota would use. Complete over all messages, so that a new one says it too.

use magpie_core::dag::WorkflowSpec;
use magpie_core::ids::LedgerTag;
use magpie_core::queue::{ApprovalRequest, LedgerRequest, ScheduleChange, ScheduleRequest};

use super::Asked;
use crate::mcp::answer::ToolError;
use crate::mcp::catalog::Catalog;
use crate::messages::Body;
use crate::messages::blob::BlobRequest;
use crate::messages::tool::{ToolAsk, ToolCall, ToolRequest};

/// What it is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spending {
    Nothing,
    /// At the home that it names, or at this node's own.
    Uses(Asked, Option<LedgerTag>),
    /// As the same would that is only rehearsed.
    Rehearses(Asked, Option<LedgerTag>),
}

/// # Errors
/// If nobody here would count what it uses.
pub fn spending(body: &Body) -> Result<Spending, ToolError> {
    match body {
        Body::Ledger(request) => ledger(request, request.ledger()),
        Body::Home { home, request } => ledger(request, Some(*home)),
        // Each piece counts by itself: who breaks off has put what it put.
        Body::Blob(BlobRequest::Put { piece, .. }) => {
            Ok(Spending::Uses(Asked { tasks: 0, bytes: piece.len() as u64 }, None))
        }
        Body::Tool(ToolRequest::At { ask: ToolAsk::Call { of, .. } | ToolAsk::CallKept { of, .. }, .. }) => elsewhere(of),
        Body::Blob(BlobRequest::Stat { .. } | BlobRequest::Get { .. })
        | Body::Tool(
            ToolRequest::At { ask: ToolAsk::Wait { .. } | ToolAsk::Cancel { .. } | ToolAsk::Mounts, .. }
            | ToolRequest::Here(_),
        )
        // A server that is mounted runs apart from the node, and is no task.
        | Body::Mount(_)
        | Body::Worker(_)
        | Body::Registry(_)
        | Body::Clock(_)
        | Body::Device(_)
        | Body::Actor(_)
        | Body::Access(_)
        | Body::Node(_)
        | Body::Peer(_)
        | Body::Stream(_)
        | Body::Cache(_) => Ok(Spending::Nothing),
    }
}

fn ledger(request: &LedgerRequest, home: Option<LedgerTag>) -> Result<Spending, ToolError> {
    let tasks = |tasks: u64| Ok(Spending::Uses(Asked { tasks, bytes: 0 }, home));
    match request {
        LedgerRequest::Submit { items, .. } => tasks(items.iter().map(|item| u64::from(item.count)).sum()),
        LedgerRequest::SubmitWorkflow { spec, .. } if spec.schedule.is_some() => Err(scheduled()),
        LedgerRequest::SubmitWorkflow { spec, .. } => tasks(steps(spec)),
        LedgerRequest::RetryTasks { ids, .. } => tasks(ids.len() as u64),
        // How many steps run again its home says only afterwards; then they count.
        LedgerRequest::RetryWorkflow { .. } | LedgerRequest::Schedule(ScheduleRequest::RunNow { .. }) => tasks(1),
        LedgerRequest::Schedule(ScheduleRequest::Change { change: ScheduleChange::Resume, .. }) => Err(scheduled()),
        // What was approved is asked for when it is made, too.
        LedgerRequest::Approval(ApprovalRequest::Hold { .. }) => tasks(1),
        LedgerRequest::Rehearse(request) => Ok(match ledger(request, home)? {
            Spending::Uses(asked, home) | Spending::Rehearses(asked, home) => Spending::Rehearses(asked, home),
            Spending::Nothing => Spending::Nothing,
        }),
        LedgerRequest::Schedule(
            ScheduleRequest::Change { change: ScheduleChange::Pause | ScheduleChange::Remove, .. }
            | ScheduleRequest::Get { .. }
            | ScheduleRequest::List { .. },
        )
        | LedgerRequest::Approval(ApprovalRequest::List { .. } | ApprovalRequest::Decide { .. })
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
        | LedgerRequest::ListDead { .. }
        | LedgerRequest::ShowDead { .. }
        | LedgerRequest::PurgeDead { .. }
        | LedgerRequest::PauseQueue { .. }
        | LedgerRequest::ResumeQueue { .. }
        | LedgerRequest::ClearQueue { .. }
        | LedgerRequest::NamespacesOf { .. }
        | LedgerRequest::CountNamespace { .. }
        | LedgerRequest::Usage(_)
        | LedgerRequest::Claim { .. }
        | LedgerRequest::Stats
        | LedgerRequest::Credit(_)
        | LedgerRequest::Renew(_)
        | LedgerRequest::Complete(_)
        | LedgerRequest::Release(_)
        | LedgerRequest::AskPermits(_)
        | LedgerRequest::TakePermits(_)
        // What a worker reports is its task's owner's.
        | LedgerRequest::Outside(_)
        | LedgerRequest::Context(_) => Ok(Spending::Nothing),
    }
}

/// Steps, those of the workflows in it too.
fn steps(spec: &WorkflowSpec) -> u64 {
    let inner = spec.steps.iter().filter_map(|step| step.workflow.as_deref()).map(steps);
    spec.steps.len() as u64 + inner.sum::<u64>()
}

/// Its home would start runs that nobody asks for, so nobody is there to be refused.
fn scheduled() -> ToolError {
    let message = "this caller has a quota, and what a schedule starts asks no quota";
    let fix = "submit each run when it is due, or ask whoever runs the node to make the schedule";
    ToolError::new("not_under_quota", message, fix)
}

/// What is used at another node is not counted at this one.
fn elsewhere(call: &ToolCall) -> Result<Spending, ToolError> {
    match Catalog::shared().find(&call.name) {
        Some(tool) if !tool.entry.writes() => Ok(Spending::Nothing),
        Some(_) | None => {
            let message =
                format!("this caller has a quota, which is counted at this node: {} runs at another", call.name);
            Err(ToolError::new("not_under_quota", message, "call the tool at this node: leave peer_id out"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use magpie_core::ids::{ContentId, OperationId, PeerId, TaskId};
    use magpie_core::payload::{BlobRef, JsonText};
    use magpie_core::queue::SubmitItem;
    use magpie_core::task::{TaskKind, TaskSpec};
    use serde_json::json;

    use super::*;

    const OPERATION: OperationId = OperationId([1; 16]);

    fn workflow(document: serde_json::Value) -> Body {
        let spec = Arc::new(serde_json::from_value(document).unwrap());
        Body::Ledger(LedgerRequest::SubmitWorkflow { operation: OPERATION, spec })
    }

    fn tasks(tasks: u64) -> Spending {
        Spending::Uses(Asked { tasks, bytes: 0 }, None)
    }

    #[test]
    fn a_batch_a_workflow_and_a_retry_use_as_many_tasks_as_they_begin() {
        let item = SubmitItem { count: 7, ..SubmitItem::one(TaskSpec::new(TaskKind::Noop)) };
        let submit = LedgerRequest::Submit { operation: OPERATION, items: vec![item.clone(), item] };
        assert_eq!(spending(&Body::Ledger(submit.clone())), Ok(tasks(14)));
        let rehearse = Body::Ledger(LedgerRequest::Rehearse(Box::new(submit)));
        assert_eq!(spending(&rehearse), Ok(Spending::Rehearses(Asked { tasks: 14, bytes: 0 }, None)));
        let inner = json!({"name": "c", "steps": [{"name": "x", "kind": "noop"}, {"name": "y", "kind": "noop"}]});
        let outer = json!({"name": "w", "steps": [{"name": "a", "kind": "noop"}, {"name": "b", "kind": "workflow", "workflow": inner}]});
        assert_eq!(spending(&workflow(outer)), Ok(tasks(4)));
        let home = LedgerTag([5; 5]);
        let ids = vec![TaskId { ulid: 1, ledger: home }; 3];
        let retry = Body::Ledger(LedgerRequest::RetryTasks { operation: OPERATION, ids });
        assert_eq!(spending(&retry), Ok(Spending::Uses(Asked { tasks: 3, bytes: 0 }, Some(home))));
    }

    #[test]
    fn a_piece_of_a_blob_uses_its_bytes() {
        let blob = BlobRef { cid: ContentId::of(b"abc"), bytes: 3_000 };
        let put = Body::Blob(BlobRequest::Put { blob, offset: 1_000, piece: vec![0; 500] });
        assert_eq!(spending(&put), Ok(Spending::Uses(Asked { tasks: 0, bytes: 500 }, None)));
    }

    #[test]
    fn what_nobody_here_would_count_is_refused_in_words() {
        let schedule =
            json!({"name": "w", "schedule": {"cron": "0 * * * *"}, "steps": [{"name": "a", "kind": "noop"}]});
        let error = spending(&workflow(schedule)).unwrap_err();
        assert_eq!(error.code, "not_under_quota");
        let call = |name: &str| {
            let of = Box::new(ToolCall {
                principal: "token:ann".to_owned(),
                scope: "submit".to_owned(),
                name: name.to_owned(),
                arguments: JsonText::of(&json!({})),
                deadline_ms: 1_000,
                trace: "0".repeat(32),
            });
            let ask = ToolAsk::Call { call: OPERATION, wait_ms: 0, of };
            spending(&Body::Tool(ToolRequest::At { peer: PeerId([1; 32]), ask }))
        };
        for name in ["p2p_taskqueue_submit", "tools_dispatch", "no_such_tool"] {
            let error = call(name).unwrap_err();
            assert!(error.code == "not_under_quota" && error.message.contains(name), "{error}");
        }
        assert_eq!(call("p2p_taskqueue_list_tasks"), Ok(Spending::Nothing));
    }
}
