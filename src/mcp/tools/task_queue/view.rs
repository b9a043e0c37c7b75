//! A task as answers show it.

use std::collections::BTreeMap;

use magpie_core::queue::TaskView;
use magpie_core::task::TaskError;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::super::detail::Detail;
use super::super::output::{OutputPart, shown_payload};
use super::super::status;
use crate::mcp::answer::ToolError;
use crate::mcp::link::NodeLink;

/// Nodes that an answer says the lacks of.
const UNMET_SHOWN_MAX: usize = 3;

/// A code for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ErrorShown {
    pub code: String,
    pub message: String,
}

impl From<&TaskError> for ErrorShown {
    fn from(error: &TaskError) -> Self {
        Self { code: error.code.clone(), message: error.message.clone() }
    }
}

/// What every answer about a task says.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskRow {
    pub task_id: String,
    pub kind: String,
    /// queued, running, completed, failed or cancelled.
    pub status: String,
    /// blocked, delayed, ready, leased, running, succeeded, failed, dead, cancelled or skipped.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    pub attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    pub created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorShown>,
    #[serde(flatten)]
    pub more: Option<TaskMore>,
}

/// What `detail: full` adds.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskMore {
    /// 0 runs first, 1000 last.
    pub priority: u16,
    pub epoch: u64,
    pub home: String,
    pub owner: String,
    pub namespace: String,
    pub durability: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Processor and GPU time of all its attempts, in seconds, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    /// The task that this one is a retry of, and the one that is a retry of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retried_by: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier_errors: Vec<ErrorShown>,
}

impl TaskRow {
    pub fn of(view: &TaskView, detail: Detail) -> Self {
        Self {
            task_id: view.id.to_string(),
            kind: view.kind.to_string(),
            status: status::word(view.state).to_owned(),
            state: view.state.to_string(),
            workflow_id: view.workflow.map(|id| id.to_string()),
            step: view.step.clone(),
            attempts: view.attempts,
            worker: view.worker.map(|worker| worker.to_string()),
            created_at: view.created_at.to_string(),
            finished_at: view.finished_at.map(|at| at.to_string()),
            error: view.error.as_ref().map(ErrorShown::from),
            more: detail.is_full().then(|| TaskMore::of(view)),
        }
    }
}

impl TaskMore {
    fn of(view: &TaskView) -> Self {
        let durability = format!("{:?}", view.durability).to_lowercase();
        Self {
            priority: view.priority.get(),
            epoch: view.epoch.0,
            home: view.home.to_string(),
            owner: view.owner.clone(),
            namespace: view.namespace.clone(),
            durability,
            labels: view.labels.clone(),
            cpu_s: view.used.cpu_us.map(seconds),
            gpu_s: view.used.gpu_us.map(seconds),
            started_at: view.started_at.map(|at| at.to_string()),
            due_at: view.due_at.map(|at| at.to_string()),
            retry_of: view.retry_of.map(|id| id.to_string()),
            retried_by: view.retried_by.map(|id| id.to_string()),
            earlier_errors: view.earlier_errors.iter().map(ErrorShown::from).collect(),
        }
    }
}

pub fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// One task with what it gave.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TaskShown {
    #[serde(flatten)]
    pub row: TaskRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_part: Option<OutputPart>,
    /// The end of its log.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// For a ready task that no node can run: what the nearest ones lack.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<UnmetShown>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UnmetShown {
    pub peer_id: String,
    pub lacks: Vec<String>,
}

/// Bytes of a log's end in a concise answer.
const LOG_TAIL_BYTES: usize = 1_024;

impl TaskShown {
    /// # Errors
    /// As [`NodeLink::ask`], where the output stands in a blob.
    pub async fn of(link: &NodeLink, view: &TaskView, offset: u64, detail: Detail) -> Result<Self, ToolError> {
        let shown = match &view.output {
            Some(output) => shown_payload(link, output, offset, detail).await?,
            None => Default::default(),
        };
        let unmet = view.unmet.iter().take(UNMET_SHOWN_MAX);
        Ok(Self {
            row: TaskRow::of(view, detail),
            output: shown.value,
            output_part: shown.part,
            log_tail: end_of(&view.log_tail, if detail.is_full() { usize::MAX } else { LOG_TAIL_BYTES }).to_owned(),
            unmet: unmet.map(|node| UnmetShown { peer_id: node.peer.to_string(), lacks: node.unmet.clone() }).collect(),
        })
    }

    /// Which of its fields hold what tasks wrote.
    pub fn untrusted(&self) -> Vec<&'static str> {
        let fields = [
            (self.output.is_some(), "task.output"),
            (self.output_part.is_some(), "task.output_part"),
            (self.row.error.is_some(), "task.error"),
            (!self.log_tail.is_empty(), "task.log_tail"),
        ];
        fields.into_iter().filter_map(|(is_there, field)| is_there.then_some(field)).collect()
    }
}

fn end_of(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
