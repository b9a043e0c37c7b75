//! What is read by its name: the node, tasks, workflows, logs, events. What a resource shows is what a tool shows, and
//! who may not call that tool may not read it.

mod entry;
mod events;
mod graph;
mod log;
pub mod watch;

pub use entry::{ENTRIES, Kind, Resource, ResourceEntry};

use serde_json::{Map, Value, json};

use super::answer::ToolError;
use super::catalog::Action;
use super::handler::Call;
use super::tools::detail::LIMIT_MAX;

/// A resource as it is read: text of its entry's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub uri: String,
    pub mime_type: &'static str,
    pub text: String,
    /// Nothing more happens to it.
    pub is_over: bool,
}

/// What a resource holds, before it is made to fit.
pub enum Read {
    Document(Value),
    /// A text that is shown whole or not at all.
    Text(String),
}

/// Reads a resource.
///
/// # Errors
/// Those of the tool that it stands for.
pub async fn read(resource: Resource, call: &Call<'_>) -> Result<Read, ToolError> {
    match resource {
        Resource::Status => as_tool(resource, json!({"detail": "full"}), call).await,
        Resource::Task(id) => as_tool(resource, json!({"task_id": id, "detail": "full"}), call).await,
        Resource::Workflow(id) => {
            as_tool(resource, json!({"workflow_id": id, "detail": "full", "limit": LIMIT_MAX}), call).await
        }
        Resource::Session(id) => as_tool(resource, json!({"session_id": id}), call).await,
        Resource::Graph(id) => graph::drawn(id, call.link).await.map(Read::Text),
        Resource::Log(id) => log::read(id, call.link).await.map(Read::Document),
        Resource::Events => events::read(call.link).await.map(Read::Document),
    }
}

/// What the tool that the resource stands for answers.
async fn as_tool(resource: Resource, arguments: Value, call: &Call<'_>) -> Result<Read, ToolError> {
    let tool = call.surface.find(resource.entry().tool)?;
    let Action::Run(handler) = tool.entry.action else {
        return Err(ToolError::internal(&"a resource stands for a tool that dispatches"));
    };
    let arguments: Map<String, Value> =
        serde_json::from_value(arguments).map_err(|error| ToolError::internal(&error))?;
    let mut document = handler.run(tool, arguments, call).await?;
    if let Some(fields) = document.as_object_mut() {
        fields.remove("ok");
    }
    Ok(Read::Document(document))
}
