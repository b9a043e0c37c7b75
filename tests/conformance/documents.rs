//! What the fixtures say, as the suite wants it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rmcp::model::{
    CallToolResult, ElicitRequestParams, InputRequest, InputRequests, Prompt, PromptMessage, Resource,
    ResourceContents, ResourceTemplate, Tool,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub struct Documents {
    pub tools: Vec<Tool>,
    /// Tools that always answer the same.
    pub complete: BTreeMap<String, CallToolResult>,
    /// What tools ask the user on the stream of an earlier era.
    pub elicit: BTreeMap<String, ElicitRequestParams>,
    /// Tools and prompts that ask first.
    pub input_required: BTreeMap<String, Rounds>,
    /// What tasks ask while they run.
    pub task_input: BTreeMap<String, InputRequest>,
    pub resources: Vec<Resource>,
    pub templates: Vec<ResourceTemplate>,
    pub contents: BTreeMap<String, ResourceContents>,
    pub prompts: Vec<Prompt>,
    /// Messages of prompts, with `{argument}` where one is put.
    messages: BTreeMap<String, Value>,
}

/// What is asked, one round after another.
#[derive(Deserialize)]
pub struct Rounds {
    /// Whether the client carries the number of the round to and fro.
    pub state: bool,
    pub rounds: Vec<InputRequests>,
}

pub static DOCUMENTS: LazyLock<Documents> =
    LazyLock::new(|| serde_json::from_str(include_str!("documents.json")).unwrap());

impl Documents {
    /// The messages of a prompt.
    pub fn messages(&self, name: &str, arguments: &BTreeMap<String, Value>) -> Option<Vec<PromptMessage>> {
        let mut text = self.messages.get(name)?.to_string();
        for (argument, value) in arguments {
            let value = value.as_str().unwrap_or_default();
            let quoted = Value::from(value).to_string();
            text = text.replace(&format!("{{{argument}}}"), quoted.trim_matches('"'));
        }
        serde_json::from_str(&text).ok()
    }
}
