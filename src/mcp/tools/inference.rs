//! Running a model.

use magpie_core::task::TaskKind;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::follow;
use super::machines;
use super::task_queue::{self, SubmitOutput, Submitted, own_kind};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;
use crate::messages::node::NodeStatus;

pub struct RunInference;

/// Where it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Wherever the mesh has the model.
    #[default]
    Auto,
    Local,
    Distributed,
    Api,
    Cli,
}

#[derive(Deserialize, JsonSchema)]
pub struct RunInferenceInput {
    /// One that search_models shows.
    model: String,
    /// A text, or a list of texts.
    #[schemars(with = "Value")]
    input: Value,
    #[serde(default)]
    #[schemars(with = "Option<Mode>")]
    mode: Mode,
    /// embed, or generate; embed unless said.
    task: Option<String>,
    /// Tokens to generate.
    max_length: Option<u64>,
    /// auto or torch.
    backend: Option<String>,
    /// 10 is most urgent.
    #[schemars(range(min = 1, max = 10))]
    priority: Option<u64>,
    /// Wait for the result: 20000 unless said, at most 25000.
    wait_ms: Option<u64>,
    idempotency_key: Option<String>,
}

impl Handler for RunInference {
    type Input = RunInferenceInput;
    type Output = SubmitOutput;

    async fn call(&self, input: RunInferenceInput, call: &Call<'_>) -> Result<SubmitOutput, ToolError> {
        refuse_other_backend(&input)?;
        let kind = input.kind()?;
        let status = call.link.status(PATIENCE).await?;
        refuse_unmet(&status, kind, &input)?;
        let mut document = json!({"kind": kind, "model": input.model, "input": input.input});
        if let Some(urgency) = input.priority {
            document["priority"] = json!(task_queue::priority("priority", urgency)?);
        }
        let wait_ms = follow::wait_ms(input.wait_ms, None).unwrap_or(follow::WAIT_MS);
        let key = input.idempotency_key.as_deref();
        let Submitted { id, view } = task_queue::submit("run_inference", key, document, call, wait_ms).await?;
        Ok(SubmitOutput::of(call, id, view).await)
    }
}

impl RunInferenceInput {
    /// Only text that is generated has a length.
    fn kind(&self) -> Result<TaskKind, ToolError> {
        let unless_said = if self.max_length.is_some() { "generate" } else { "embed" };
        let name = self.task.as_deref().map_or(unless_said, own_kind);
        let known = [TaskKind::Embed, TaskKind::Generate, TaskKind::Inference];
        known.into_iter().find(|kind| kind.to_string() == name).ok_or_else(|| {
            let shown: String = name.chars().take(40).collect();
            let fix = "write embed or generate; other tasks go through p2p_taskqueue_submit";
            ToolError::wrong_argument("task", format!("{shown:?} runs no model"), "embed or generate", fix)
        })
    }
}

/// Models run in libtorch, on the nodes of the mesh, and nowhere else.
fn refuse_other_backend(input: &RunInferenceInput) -> Result<(), ToolError> {
    let what = match (input.mode, input.backend.as_deref()) {
        (Mode::Api, _) => "no API endpoint is configured on this node, and it has none to add".to_owned(),
        (Mode::Cli, _) => "no command-line endpoint is configured on this node, and it has none to add".to_owned(),
        (_, None | Some("auto" | "torch" | "libtorch" | "")) => return Ok(()),
        (_, Some(other)) => format!("{:?} is no backend of this mesh", other.chars().take(40).collect::<String>()),
    };
    let fix = "leave mode and backend out: the mesh runs the model where it is loaded";
    Err(ToolError::new("unavailable_here", what, fix))
}

/// A task that no node can run would wait for ever.
fn refuse_unmet(status: &NodeStatus, kind: TaskKind, input: &RunInferenceInput) -> Result<(), ToolError> {
    let machines = machines::alive(status);
    if !machines.iter().any(|machine| machine.offers(kind)) {
        let message = format!("no node that is alive runs {kind} tasks");
        let fix = "detect_hardware shows the devices of this node and why one is not ready";
        return Err(ToolError::new("unavailable_here", message, fix).next(Next::new("detect_hardware", json!({}), 0)));
    }
    let having = || machines.iter().filter(|machine| machine.has_model(&input.model));
    let shown: String = input.model.chars().take(80).collect();
    if having().next().is_none() {
        let message = format!("no node that is alive has {shown:?} loaded");
        let error = ToolError::new("no_such_model", message, "take a model that search_models shows");
        return Err(error.next(Next::new("search_models", json!({}), 0)));
    }
    if input.mode == Mode::Local && having().any(|machine| !machine.own) {
        let message = format!("other nodes have {shown:?} loaded too, and a task cannot be kept from them by mode");
        let fix =
            "give this node a label in its configuration, and submit with requires: label:NAME; or leave mode out";
        return Err(ToolError::new("not_local", message, fix));
    }
    Ok(())
}
