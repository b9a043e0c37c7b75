//! Tools that become tasks where the client knows them.

use std::time::Duration;

use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskContext, TaskExit, TaskOptions};
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::calls::text;
use crate::documents::DOCUMENTS;
use crate::fixture::Fixture;

type Ended = Result<CallToolResult, TaskExit>;

/// The answer of one of these tools; none for another.
pub async fn call(
    fixture: &Fixture,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Option<Result<CallToolResponse, ErrorData>> {
    let arguments = request.arguments.clone().unwrap_or_default();
    let knows_tasks = context.client_capabilities().is_some_and(|client| client.supports_tasks());
    let name = request.name.to_string();
    Some(match name.as_str() {
        "greet" => Ok(text(format!("Hello, {}!", arguments["name"].as_str().unwrap_or("you"))).into()),
        "slow_compute" if !knows_tasks => {
            tokio::time::sleep(seconds(&arguments)).await;
            Ok(text("computed").into())
        }
        "failing_job" | "protocol_error_job" | "confirm_delete" | "multi_input" if !knows_tasks => {
            let needed = ClientCapabilities::builder().enable_tasks().build();
            Err(ErrorData::missing_required_client_capability(needed))
        }
        "slow_compute" | "failing_job" | "protocol_error_job" | "confirm_delete" | "multi_input" => {
            Ok(started(fixture, move |task| async move { run(&name, &arguments, task).await }))
        }
        _ => return None,
    })
}

/// A task that says something.
pub fn say(fixture: &Fixture, said: String) -> CallToolResponse {
    started(fixture, |_| async { Ok(text(said)) })
}

fn started<F: Future<Output = Ended> + Send + 'static>(
    fixture: &Fixture,
    work: impl FnOnce(TaskContext) -> F + Send + 'static,
) -> CallToolResponse {
    let options = TaskOptions::new().with_ttl_ms(60_000).with_poll_interval_ms(100);
    CreateTaskResult::new(fixture.jobs.spawn(options, |task| Box::pin(work(task)))).into()
}

fn seconds(arguments: &JsonObject) -> Duration {
    Duration::from_secs_f64(arguments.get("seconds").and_then(Value::as_f64).unwrap_or(0.0))
}

async fn run(name: &str, arguments: &JsonObject, task: TaskContext) -> Ended {
    match name {
        "slow_compute" => tokio::select! {
            () = task.cancelled() => Err(TaskExit::Cancelled),
            () = tokio::time::sleep(seconds(arguments)) => Ok(text("computed")),
        },
        "failing_job" => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(CallToolResult::error(vec![ContentBlock::text("the job failed")]))
        }
        "confirm_delete" => Ok(text(json!(asked(&task, "confirm").await?).to_string())),
        "multi_input" => {
            let (first, second) = tokio::try_join!(asked(&task, "first"), asked(&task, "second"))?;
            Ok(text(json!([first, second]).to_string()))
        }
        _ => Err(TaskExit::Error(ErrorData::internal_error("the job broke", None))),
    }
}

async fn asked(task: &TaskContext, key: &str) -> Result<Value, TaskExit> {
    task.request_input(key, DOCUMENTS.task_input[key].clone()).await
}
