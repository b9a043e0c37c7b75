//! Submitting a workflow, in our form or the seeds'.

use std::sync::Arc;

use magpie_core::dag::{self, WorkflowSpec};
use magpie_core::ids::WorkflowId;
use magpie_core::queue::{LedgerReply, LedgerRequest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::upload::Uploads;
use super::super::{follow, operation, status};
use super::{seed_form, wait_for_workflow, wait_next};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};

pub struct SubmitWorkflow;

#[derive(Deserialize, JsonSchema)]
pub struct SubmitWorkflowInput {
    /// Lower-case letters, digits, - and _.
    #[schemars(with = "String")]
    name: Value,
    /// Each {name, kind, needs?, join?, when?, for_each?, run?, model?, input?, files?: [{path, text}], timeout?, retry?, on_fail?, compensate?}; ${steps.NAME.output} refers.
    #[schemars(with = "Option<Vec<Map<String, Value>>>")]
    steps: Option<Value>,
    /// Instead of steps: independent tasks {model, input} or {kind, ...}.
    #[schemars(with = "Option<Vec<Map<String, Value>>>")]
    tasks: Option<Value>,
    /// Defaults of ${input.NAME}.
    #[schemars(with = "Option<Map<String, Value>>")]
    input: Option<Value>,
    /// As {answer: ${steps.last.output}}.
    #[schemars(with = "Option<Map<String, Value>>")]
    outputs: Option<Value>,
    /// fail_fast (default), continue, skip_children or compensate.
    #[schemars(with = "Option<String>")]
    on_fail: Option<Value>,
    /// With tasks 1 to 10, 10 most urgent; with steps 0 to 1000, 0 first.
    #[schemars(with = "Option<u64>")]
    priority: Option<Value>,
    #[schemars(with = "Option<String>")]
    tag: Option<Value>,
    #[schemars(with = "Option<String>")]
    namespace: Option<Value>,
    #[schemars(with = "Option<String>")]
    durability: Option<Value>,
    #[schemars(with = "Option<Map<String, Value>>")]
    labels: Option<Value>,
    /// Repeat it within 10 min, and no second workflow is made.
    idempotency_key: Option<String>,
    /// Wait for the end, at most 25000.
    wait_ms: Option<u64>,
}

#[derive(Serialize, JsonSchema)]
pub struct SubmitWorkflowOutput {
    ok: bool,
    workflow_id: String,
    /// What names the work in later calls: the workflow's id.
    handle: String,
    name: String,
    steps: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// The node that keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    next: Next,
}

impl Handler for SubmitWorkflow {
    type Input = SubmitWorkflowInput;
    type Output = SubmitWorkflowOutput;

    async fn call(&self, input: SubmitWorkflowInput, call: &Call<'_>) -> Result<SubmitWorkflowOutput, ToolError> {
        let wait_ms = follow::wait_ms(input.wait_ms, None).unwrap_or(0);
        let key = input.idempotency_key.clone();
        let place_errors = if input.tasks.is_some() { seed_form::as_written } else { |error| error };
        let mut uploads = Uploads::default();
        let spec = Arc::new(input.spec(&mut uploads).map_err(place_errors)?);
        uploads.send(call.link).await?;
        // The key alone, so that another workflow under the same key is found out.
        let operation = operation::id("submit_p2p_workflow", key.as_deref(), "");
        let request = LedgerRequest::SubmitWorkflow { operation, spec: spec.clone() };
        let id = match call.link.ledger(request, PATIENCE).await.map_err(place_errors)? {
            LedgerReply::WorkflowSubmitted { id } => id,
            _ => return Err(link::unexpected()),
        };
        if let Some(key) = &key {
            refuse_other_workflow(call, id, &spec, key).await?;
        }
        Ok(answer(call, id, &spec, wait_ms).await)
    }
}

async fn refuse_other_workflow(
    call: &Call<'_>,
    id: WorkflowId,
    spec: &WorkflowSpec,
    key: &str,
) -> Result<(), ToolError> {
    let view = wait_for_workflow(call, id, 0).await?;
    if *view.spec == *spec {
        return Ok(());
    }
    let key: String = key.chars().take(80).collect();
    let message = format!("the idempotency key {key:?} belongs to {id}, which is another workflow");
    let fix = "take another idempotency_key for another workflow, or send exactly what the key was used for";
    Err(ToolError::new("idempotency_conflict", message, fix))
}

/// The workflow is accepted: whatever fails from here on, the caller gets its id.
async fn answer(call: &Call<'_>, id: WorkflowId, spec: &WorkflowSpec, wait_ms: u64) -> SubmitWorkflowOutput {
    let view = wait_for_workflow(call, id, wait_ms).await.ok();
    SubmitWorkflowOutput {
        ok: true,
        workflow_id: id.to_string(),
        handle: id.to_string(),
        name: spec.name.clone(),
        steps: spec.steps.len(),
        status: view.as_ref().map(|view| status::workflow_word(view.summary.state).to_owned()),
        state: view.as_ref().map(|view| view.summary.state.name().to_owned()),
        peer_id: view.as_ref().map(|view| view.home.to_string()),
        next: wait_next(id),
    }
}

impl SubmitWorkflowInput {
    fn spec(self, uploads: &mut Uploads) -> Result<WorkflowSpec, ToolError> {
        if self.tasks.is_some() && self.steps.is_some() {
            let fix = "give steps, or tasks";
            return Err(ToolError::wrong_argument("tasks", "tasks and steps name one thing", "one of the two", fix));
        }
        let mut document = Map::from_iter([("name".to_owned(), self.name)]);
        let fields = [
            ("steps", self.steps),
            ("tasks", self.tasks),
            ("input", self.input),
            ("outputs", self.outputs),
            ("on_fail", self.on_fail),
            ("priority", self.priority),
            ("tag", self.tag),
            ("namespace", self.namespace),
            ("durability", self.durability),
            ("labels", self.labels),
        ];
        document.extend(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        seed_form::into_steps(&mut document)?;
        parse_workflow(document, uploads)
    }
}

/// The workflow of a document; files that stand in it as texts are to be sent before it.
///
/// # Errors
/// What is wrong with it, each with its place.
pub fn parse_workflow(document: Map<String, Value>, uploads: &mut Uploads) -> Result<WorkflowSpec, ToolError> {
    let mut document = Value::Object(document);
    let steps = document["steps"].as_array().map_or(0, Vec::len);
    for place in 0..steps {
        uploads.take_texts(&mut document, &format!("/steps/{place}/files"))?;
        uploads.take_texts(&mut document, &format!("/steps/{place}/compensate/files"))?;
    }
    dag::parse_workflow(&document).map_err(ToolError::invalid_spec)
}

#[cfg(test)]
#[allow(clippy::unwrap_in_result, reason = "a test may panic where it stands")]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(arguments: Value) -> Result<WorkflowSpec, ToolError> {
        let input: SubmitWorkflowInput = serde_json::from_value(arguments).unwrap();
        input.spec(&mut Uploads::default())
    }

    #[test]
    fn our_own_form_is_taken_as_it_stands_with_files_as_texts() {
        let spec = spec(json!({
            "name": "w",
            "priority": 7,
            "steps": [{"name": "a", "kind": "process", "run": ["python3", "a.py"], "files": [{"path": "a.py", "text": "print(1)"}]}],
            "outputs": {"a": "${steps.a.output}"},
        }));
        let spec = spec.unwrap();
        assert_eq!((spec.priority.get(), spec.steps[0].files[0].bytes), (7, 8));
    }

    #[test]
    fn what_is_wrong_is_told_with_place_and_fix() {
        let error = spec(json!({"name": "w", "steps": [{"name": "a", "kind": "nop", "needs": ["b"]}]})).unwrap_err();
        let places: Vec<&str> = error.problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(places, ["/steps/0/kind", "/steps/0/needs/0"]);
        assert_eq!(spec(json!({"name": "w", "steps": [], "tasks": []})).unwrap_err().field.as_deref(), Some("tasks"));
        assert_eq!(spec(json!({"name": "w"})).unwrap_err().field.as_deref(), Some("steps"));
    }
}
