//! A task of the seeds' scheduler: a name and tags, for whoever takes it.

use magpie_core::task::Tag;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::super::task_queue::{self, Submitted, priority};
use super::{SEED_ID, SEED_WORKFLOW};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};

pub struct SubmitForWorkers;

#[derive(Deserialize, JsonSchema)]
pub struct SubmitForWorkersInput {
    /// The caller's own id of it: submitted again, it is the same task.
    task_id: String,
    workflow_id: Option<String>,
    name: String,
    /// As p2p-only.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    tags: Vec<String>,
    /// 10 is most urgent.
    #[schemars(range(min = 1, max = 10))]
    priority: Option<u64>,
    /// Any JSON, for who takes it.
    payload: Option<Value>,
    idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct SubmitForWorkersOutput {
    ok: bool,
    /// The task's id on the mesh.
    task_id: String,
    handle: String,
    /// Once a worker has reported it.
    next: Next,
}

impl Handler for SubmitForWorkers {
    type Input = SubmitForWorkersInput;
    type Output = SubmitForWorkersOutput;

    async fn call(&self, input: SubmitForWorkersInput, call: &Call<'_>) -> Result<SubmitForWorkersOutput, ToolError> {
        let mut labels = Map::from_iter([(SEED_ID.to_owned(), Value::from(input.task_id.as_str()))]);
        if let Some(workflow) = &input.workflow_id {
            labels.insert(SEED_WORKFLOW.to_owned(), workflow.as_str().into());
        }
        let told = json!({"task_id": input.task_id, "workflow_id": input.workflow_id, "name": input.name,
            "tags": input.tags, "payload": input.payload});
        let mut document = json!({"kind": "tool", "input": told, "labels": labels});
        if let Some(urgency) = input.priority {
            document["priority"] = json!(priority("priority", urgency)?);
        }
        if let Some(tag) = input.tags.iter().find_map(|tag| tag.parse::<Tag>().ok()) {
            document["tag"] = tag.name().into();
        }
        let key = input.idempotency_key.unwrap_or_else(|| format!("p2p_submit_task/{}", input.task_id));
        let Submitted { id, .. } = task_queue::submit("p2p_submit_task", Some(&key), document, call, 0).await?;
        let (task_id, next) = (id.to_string(), task_queue::wait_next(id));
        Ok(SubmitForWorkersOutput { ok: true, handle: task_id.clone(), task_id, next })
    }
}

/// What the seeds call it.
pub const ALSO: &[(&str, &str)] = &[("input", "payload"), ("metadata", "")];
