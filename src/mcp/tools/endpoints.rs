//! What answers inference: each model on each machine that has it loaded.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::detail::page;
use super::follow;
use super::machines::{self, Machine};
use super::task_queue::{self, SubmitOutput, Submitted};
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;

pub struct ListEndpoints;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointType {
    #[default]
    All,
    Local,
    Distributed,
    Api,
    Cli,
}

#[derive(Deserialize, JsonSchema)]
pub struct ListEndpointsInput {
    #[serde(default, rename = "type")]
    #[schemars(with = "Option<EndpointType>")]
    of_type: EndpointType,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ListEndpointsOutput {
    ok: bool,
    endpoints: Vec<EndpointRow>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct EndpointRow {
    /// The model's name: a task goes to any machine that has it.
    endpoint_id: String,
    /// local: on this node; distributed: on another.
    r#type: &'static str,
    peer_id: String,
}

impl EndpointRow {
    fn all_of(machine: &Machine<'_>) -> Vec<Self> {
        let r#type = if machine.own { "local" } else { "distributed" };
        let row = |model: &String| Self { endpoint_id: model.clone(), r#type, peer_id: machine.peer_id.to_string() };
        machine.capabilities.models.iter().map(row).collect()
    }
}

impl Handler for ListEndpoints {
    type Input = ListEndpointsInput;
    type Output = ListEndpointsOutput;

    async fn call(&self, input: ListEndpointsInput, call: &Call<'_>) -> Result<ListEndpointsOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        let wanted = |row: &EndpointRow| match input.of_type {
            EndpointType::All => true,
            EndpointType::Local => row.r#type == "local",
            EndpointType::Distributed => row.r#type == "distributed",
            EndpointType::Api | EndpointType::Cli => false,
        };
        let rows = machines::alive(&status).iter().flat_map(EndpointRow::all_of).filter(wanted).collect::<Vec<_>>();
        let total = rows.len();
        let (endpoints, next_cursor) = page(rows, input.cursor.as_deref(), input.limit)?;
        Ok(ListEndpointsOutput { ok: true, endpoints, total, next_cursor })
    }
}

pub struct TestEndpoint;

#[derive(Deserialize, JsonSchema)]
pub struct TestEndpointInput {
    endpoint_id: String,
    /// {input}: a text or a list of texts.
    payload: Option<Value>,
    /// Wait for the result, at most 25000.
    wait_ms: Option<u64>,
    idempotency_key: Option<String>,
}

impl Handler for TestEndpoint {
    type Input = TestEndpointInput;
    type Output = SubmitOutput;

    async fn call(&self, input: TestEndpointInput, call: &Call<'_>) -> Result<SubmitOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        if !machines::alive(&status).iter().any(|machine| machine.has_model(&input.endpoint_id)) {
            let shown: String = input.endpoint_id.chars().take(80).collect();
            let message = format!("there is no endpoint {shown:?}");
            let error = ToolError::new("not_found", message, "take an endpoint_id that list_endpoints shows");
            return Err(error.next(Next::new("list_endpoints", json!({}), 0)));
        }
        let text = match input.payload {
            Some(Value::Object(mut payload)) => payload.remove("input").unwrap_or_else(|| "Does it work?".into()),
            Some(text) => text,
            None => "Does it work?".into(),
        };
        let document = json!({"kind": "embed", "model": input.endpoint_id, "input": text, "timeout": "60s"});
        let wait_ms = follow::wait_ms(input.wait_ms, None).unwrap_or(follow::WAIT_MS);
        let key = input.idempotency_key.as_deref();
        let Submitted { id, view } = task_queue::submit("test_endpoint", key, document, call, wait_ms).await?;
        Ok(SubmitOutput::of(call, id, view).await)
    }
}
