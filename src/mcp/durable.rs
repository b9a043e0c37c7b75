//! The protocol's tasks are the ledger's: what a call has started is followed, read and cancelled by its own id, through
//! any node whose way to its home is open, after any restart. Nothing is kept here.

use magpie_core::limits;
use magpie_core::payload::Payload;
use magpie_core::queue::{ApprovalView, HELD_CALL, LedgerReply, LedgerRequest, TaskView, WorkflowState, WorkflowView};
use magpie_core::task::{TaskKind, TaskState};
use magpie_core::time::Wall;
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, CreateTaskResult, DetailedTask, GetTaskResult, InputResponses, JsonObject, Task, TaskPayload,
    TaskStatus,
};
use serde_json::{Map, Value, json};

use super::answer::ToolError;
use super::asking::{self, Answered};
use super::catalog::Scope;
use super::dispatch::Dispatcher;
use super::handler::Caller;
use super::link::{self, PATIENCE};
use super::tools::approvals;
use super::tools::detail::Detail;
use super::tools::follow::Followed;
use super::tools::task_queue::{WaitTaskOutput, parse_id};
use super::tools::workflow::{GetWorkflowStatusInput, GetWorkflowStatusOutput};

/// How often a client should ask.
const POLL_MS: u64 = 1_000;

/// What an id stands for.
enum Work {
    Task(Box<TaskView>),
    Workflow(Box<WorkflowView>),
}

/// How far it is, in the protocol's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Working,
    /// It gave what it was to give.
    Done,
    /// It ended, and a model should read why.
    Failed,
    Cancelled,
}

/// The answer of a call that started `id`.
///
/// # Errors
/// As [`get`].
pub async fn created(dispatcher: &Dispatcher, id: &str) -> Result<CreateTaskResult, ErrorData> {
    let described = async {
        let work = find(dispatcher, id).await?;
        let mut task = work.task();
        if !work.asks(dispatcher).await?.is_empty() {
            task.status = TaskStatus::InputRequired;
        }
        Ok(CreateTaskResult::new(task))
    };
    described.await.map_err(|error: ToolError| told(&json!(error)))
}

/// How the work stands, and what it gave. Who shows no forms is told that it waits for a person, and not asked.
///
/// # Errors
/// `-32602` for an id that there is not, or that is somebody else's; else why it cannot be told now, as tools say it.
pub async fn get(dispatcher: &Dispatcher, id: &str, shows_forms: bool) -> Result<GetTaskResult, ErrorData> {
    let described = async {
        let work = find(dispatcher, id).await?;
        let payload = work.payload(dispatcher, shows_forms).await?;
        Ok(GetTaskResult::new(DetailedTask::new(work.task(), payload)))
    };
    described.await.map_err(|error: ToolError| told(&json!(error)))
}

/// Takes answers to what is asked: decisions about approvals, of whoever may decide them. Who asked for one may not, and
/// is told so. Answers to nothing that is asked are passed over.
///
/// # Errors
/// As [`get`], and why a decision is not taken.
pub async fn update(
    dispatcher: &Dispatcher,
    id: &str,
    responses: &InputResponses,
    caller: &dyn Caller,
) -> Result<(), ErrorData> {
    let looked = async {
        let (work, is_own) = look(dispatcher, id).await?;
        let asks = if responses.is_empty() { Vec::new() } else { work.asks(dispatcher).await? };
        // It is shown to its owner only; who may decide answers what was listed.
        let may_answer = is_own || dispatcher.principal.scope >= Scope::Operate && !asks.is_empty();
        if !may_answer {
            return Err(magpie_core::queue::Refusal::NotFound { id: parse_id("taskId", id)? }.into());
        }
        let answered = asks.iter().filter_map(|ask| Some((ask, responses.get(&ask.id.to_string())?)));
        answered.map(|(ask, response)| Ok((ask.id, asking::read(response)?))).collect::<Result<Vec<_>, ToolError>>()
    };
    for (id, answered) in looked.await.map_err(|error| told(&json!(error)))? {
        let Some(Answered { approve, comment }) = answered else { continue };
        let arguments = json!({"approval_id": id.to_string(), "approve": approve, "comment": comment});
        let Value::Object(arguments) = arguments else { continue };
        let outcome = dispatcher.unbound().call("approval_decide", arguments, caller).await;
        if outcome.is_error {
            return Err(told(&outcome.value));
        }
    }
    Ok(())
}

/// Cancels the work; what has ended stays as it is.
///
/// # Errors
/// As [`get`], and if the caller may not change anything.
pub async fn cancel(dispatcher: &Dispatcher, id: &str, caller: &dyn Caller) -> Result<(), ErrorData> {
    let work = find(dispatcher, id).await.map_err(|error| told(&json!(error)))?;
    let (tool, field) = match &work {
        Work::Task(_) => ("p2p_taskqueue_cancel", "task_id"),
        Work::Workflow(_) => ("cancel_workflow", "workflow_id"),
    };
    // Who takes back what it asked for itself need not ask for that.
    let takes_back = matches!(&work, Work::Task(view) if view.is_held_call());
    let dispatcher = if takes_back { dispatcher.unbound().approved() } else { dispatcher.unbound() };
    let arguments = Map::from_iter([(field.to_owned(), id.into())]);
    let outcome = dispatcher.call(tool, arguments, caller).await;
    if outcome.value["held"] == true {
        let message = outcome.value["message"].as_str().unwrap_or("it waits for an approval");
        return Err(told(&json!(ToolError::new("held", message, "wait for the decision, or ask for it"))));
    }
    if outcome.is_error { Err(told(&outcome.value)) } else { Ok(()) }
}

/// Who does not own it is told what they would be told if there were none.
async fn find(dispatcher: &Dispatcher, id: &str) -> Result<Work, ToolError> {
    match look(dispatcher, id).await? {
        (work, true) => Ok(work),
        (_, false) => Err(magpie_core::queue::Refusal::NotFound { id: parse_id("taskId", id)? }.into()),
    }
}

/// What an id stands for, and whether it is the caller's.
async fn look(dispatcher: &Dispatcher, id: &str) -> Result<(Work, bool), ToolError> {
    let _admitted = dispatcher.principal.admit()?;
    let _running = dispatcher.principal.turn().await?;
    let id = parse_id("taskId", id)?;
    let work = match dispatcher.link.ledger(LedgerRequest::GetTask { id }, PATIENCE).await {
        Ok(LedgerReply::Task(view)) => Work::Task(view),
        Ok(_) => return Err(link::unexpected()),
        Err(error) if error.code == "not_found" => {
            match dispatcher.link.ledger(LedgerRequest::WaitWorkflow { id, timeout_ms: 0 }, PATIENCE).await? {
                LedgerReply::Workflow(view) => Work::Workflow(view),
                _ => return Err(link::unexpected()),
            }
        }
        Err(error) => return Err(error),
    };
    let owner = match &work {
        Work::Task(view) => &view.owner,
        Work::Workflow(view) => &view.summary.owner,
    };
    let is_own = **owner == *dispatcher.principal.name;
    Ok((work, is_own))
}

impl Work {
    /// The approvals that it waits for.
    async fn asks(&self, dispatcher: &Dispatcher) -> Result<Vec<ApprovalView>, ToolError> {
        let id = match self {
            Self::Task(view) if view.kind == TaskKind::Approval => view.id,
            Self::Workflow(view) if asking::may_ask(&view.spec) => view.summary.id,
            Self::Task(_) | Self::Workflow(_) => return Ok(Vec::new()),
        };
        if self.phase() != Phase::Working {
            return Ok(Vec::new());
        }
        let listed = approvals::waiting(&dispatcher.link, Some(id), None, None, asking::ASKED_MAX).await;
        listed.map(|(waiting, _)| waiting)
    }

    fn phase(&self) -> Phase {
        match self {
            Self::Task(view) => match view.state {
                TaskState::Blocked | TaskState::Delayed | TaskState::Ready | TaskState::Leased | TaskState::Running => {
                    Phase::Working
                }
                TaskState::Succeeded => Phase::Done,
                TaskState::Failed | TaskState::Dead | TaskState::Skipped => Phase::Failed,
                TaskState::Cancelled => Phase::Cancelled,
            },
            Self::Workflow(view) => match view.summary.state {
                WorkflowState::Running => Phase::Working,
                WorkflowState::Succeeded => Phase::Done,
                WorkflowState::Failed => Phase::Failed,
                WorkflowState::Cancelled => Phase::Cancelled,
            },
        }
    }

    fn task(&self) -> Task {
        let (id, created, finished, changed, words) = match self {
            Self::Task(view) => (view.id, view.created_at, view.finished_at, view.started_at, view.in_words()),
            Self::Workflow(view) => {
                let summary = &view.summary;
                (summary.id, summary.created_at, summary.finished_at, None, view.in_words())
            }
        };
        let changed = finished.or(changed).unwrap_or(created);
        // `get` gives the status that belongs to the payload.
        let task =
            Task::new(id.to_string(), rmcp::model::TaskStatus::Working, created.to_string(), changed.to_string())
                .with_status_message(words)
                .with_poll_interval_ms(POLL_MS);
        match finished {
            Some(finished) => task.with_ttl_ms(kept_ms(created, finished)),
            None => task,
        }
    }

    /// What the tool that follows such work answers, cut to what an answer may have.
    async fn payload(&self, dispatcher: &Dispatcher, shows_forms: bool) -> Result<TaskPayload, ToolError> {
        let phase = self.phase();
        match phase {
            Phase::Working => {
                let asks = self.asks(dispatcher).await?;
                if asks.is_empty() {
                    return Ok(TaskPayload::Working);
                }
                let asks = if shows_forms { &asks[..] } else { &[] };
                return Ok(TaskPayload::InputRequired { input_requests: asking::requests(asks)? });
            }
            Phase::Cancelled => return Ok(TaskPayload::Cancelled),
            Phase::Done | Phase::Failed => {}
        }
        if let Self::Task(view) = self
            && let Some(label) = view.labels.get(HELD_CALL).filter(|_| view.is_held_call())
        {
            return Ok(TaskPayload::Completed { result: object(&called(dispatcher, label, view)) });
        }
        let (tool, value) = match self {
            Self::Task(view) => {
                let output = WaitTaskOutput::of(&dispatcher.link, view, Detail::Concise).await?;
                ("p2p_taskqueue_wait_task", serde_json::to_value(output))
            }
            Self::Workflow(view) => {
                let output = GetWorkflowStatusOutput::of(view, &GetWorkflowStatusInput::concise(view.summary.id))?;
                ("get_workflow_status", serde_json::to_value(output))
            }
        };
        let value = dispatcher.shown(tool, value.map_err(|error| ToolError::internal(&error))?);
        let result = match phase {
            Phase::Failed => CallToolResult::structured_error(value),
            _ => CallToolResult::structured(value),
        };
        Ok(TaskPayload::Completed { result: object(&result) })
    }
}

/// What a call that waited gave, as if it had been made at once.
fn called(dispatcher: &Dispatcher, tool: &str, view: &TaskView) -> CallToolResult {
    match (&view.output, &view.error) {
        (Some(Payload::Inline(answer)), _) => CallToolResult::structured(dispatcher.shown(tool, answer.to_value())),
        (_, Some(error)) => {
            let fix = "read who decided what in log_tail of the task, and ask again if that may change";
            let value = json!({"ok": false, "code": error.code, "message": error.message, "fix": fix,
                "retryable": false, "task_id": view.id.to_string()});
            CallToolResult::structured_error(dispatcher.shown(tool, value))
        }
        (_, None) => CallToolResult::structured_error(json!(ToolError::internal(&"the call left no answer"))),
    }
}

/// How long after its beginning work that has ended may be asked for, at least; that which goes on is kept.
fn kept_ms(created: Wall, finished: Wall) -> u64 {
    finished.0.saturating_sub(created.0) + limits::RETENTION_MS_MIN
}

fn object(result: &CallToolResult) -> JsonObject {
    match serde_json::to_value(result) {
        Ok(Value::Object(fields)) => fields,
        _ => JsonObject::new(),
    }
}

/// A tool's error as one of the protocol.
fn told(error: &Value) -> ErrorData {
    let message =
        format!("{}; {}", error["message"].as_str().unwrap_or("it failed"), error["fix"].as_str().unwrap_or(""));
    match error["code"].as_str() {
        Some("not_found" | "wrong_argument") => ErrorData::invalid_params(message, Some(error.clone())),
        _ => ErrorData::internal_error(message, Some(error.clone())),
    }
}
