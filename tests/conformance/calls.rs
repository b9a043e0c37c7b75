//! Tools that talk to their client while they run.

use std::time::Duration;

use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::json;

use crate::fixture::Fixture;

type Answered = Result<CallToolResponse, ErrorData>;

pub fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

fn failed(error: impl std::fmt::Display) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(error.to_string())])
}

/// The answer of one of these tools; none for another.
pub async fn call(
    fixture: &Fixture,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Option<Answered> {
    let result = match request.name.as_ref() {
        "test_tool_with_logging" => logging(context, 3).await,
        "test_logging_tool" => logging(context, 1).await,
        "test_tool_with_progress" => progress(context).await,
        "test_sampling" => sampling(request, context).await,
        "test_reconnection" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            text("answered")
        }
        "test_missing_capability" => {
            return Some(
                Err(needs_sampling(context)).or_else(|missing| missing.map_or(Ok(text("sampled").into()), Err)),
            );
        }
        "test_trigger_tool_change" | "test_trigger_prompt_change" => {
            for sink in fixture.subscribers().await {
                // Those that have gone need no word.
                let _ = match request.name.as_ref() {
                    "test_trigger_tool_change" => sink.notify_tool_list_changed().await,
                    _ => sink.notify_prompt_list_changed().await,
                };
            }
            text("told")
        }
        _ => return None,
    };
    Some(Ok(result.into()))
}

/// A request of 2026-07-28 says by itself whether it wants the log.
async fn logging(context: &RequestContext<RoleServer>, lines: usize) -> CallToolResult {
    let wants = context.meta.log_level().is_some() || context.meta.protocol_version().is_none();
    let said = ["Tool execution started", "Tool processing data", "Tool execution completed"];
    for line in said.into_iter().take(if wants { lines } else { 0 }) {
        let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(line)).with_logger("fixture");
        let _ = context.peer.notify_logging_message(line).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    text("logged")
}

async fn progress(context: &RequestContext<RoleServer>) -> CallToolResult {
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let _ = context.peer.notify_progress(ProgressNotificationParam::new(token, done).with_total(100.0)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    text("done")
}

async fn sampling(request: &CallToolRequestParams, context: &RequestContext<RoleServer>) -> CallToolResult {
    let prompt = request.arguments.as_ref().and_then(|arguments| arguments.get("prompt")?.as_str());
    let params = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt.unwrap_or_default())], 100);
    match context.peer.create_message(params).await {
        Ok(said) => text(format!("LLM response: {}", json!(said.message.content))),
        Err(error) => failed(error),
    }
}

/// Asks the user, and answers what came back.
pub async fn elicit(
    request: &CallToolRequestParams,
    mut params: ElicitRequestParams,
    context: &RequestContext<RoleServer>,
) -> Answered {
    let asked = request.arguments.as_ref().and_then(|arguments| arguments.get("message")?.as_str());
    if let (ElicitRequestParams::FormElicitationParams { message, .. }, Some(asked)) = (&mut params, asked) {
        *message = asked.to_owned();
    }
    Ok(match context.peer.create_elicitation(params).await {
        Ok(said) => text(format!("User response: action={}, content={}", json!(said.action), json!(said.content))),
        Err(error) => failed(error),
    }
    .into())
}

fn needs_sampling(context: &RequestContext<RoleServer>) -> Option<ErrorData> {
    let samples = context.client_capabilities().is_some_and(|client| client.sampling.is_some());
    let needed = || ClientCapabilities::builder().enable_sampling().build();
    (!samples).then(|| ErrorData::missing_required_client_capability(needed()))
}
