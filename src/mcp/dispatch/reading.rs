//! What is no call of a tool: resources that are read and watched, completions, prompts.

use std::time::Instant;

use serde_json::{Value, json};

use super::{Dispatcher, Line, Tool, digest_of};
use crate::mcp::answer::ToolError;
use crate::mcp::completion::{self, About, Completed};
use crate::mcp::fit::FULL_ANSWER_BYTES_MAX;
use crate::mcp::handler::Caller;
use crate::mcp::prompts::{self, Written};
use crate::mcp::resources::watch::Watch;
use crate::mcp::resources::{self, Contents, ENTRIES, Read, Resource, ResourceEntry};
use crate::mcp::text::clean;

/// What the audit calls it.
const READ: &str = "resources/read";
const SUBSCRIBE: &str = "resources/subscribe";
const COMPLETE: &str = "completion/complete";
const PROMPT: &str = "prompts/get";
/// How to get what is left out of a document.
const REST: &str = "call the tool that shows the same, which shows it in parts";

impl Dispatcher {
    /// The resources whose tools this caller may call here.
    pub fn resources(&self) -> impl Iterator<Item = &'static ResourceEntry> {
        ENTRIES.iter().filter(|entry| self.surface.find(entry.tool).is_ok())
    }

    /// Reads a resource, and writes its audit line.
    ///
    /// # Errors
    /// `unknown_resource`, that the caller may not, or why it cannot be read.
    pub async fn read(&self, uri: &str, caller: &dyn Caller) -> Result<Contents, ToolError> {
        let began = Instant::now();
        let read = match self.resource(uri) {
            Ok(resource) => {
                self.bounded(resources::read(resource, &self.call_of(caller))).await.map(|read| (resource, read))
            }
            Err(error) => Err(error),
        };
        self.audited(READ, uri, caller, began, &read);
        let (resource, read) = read?;
        Ok(self.contents(uri, resource, read))
    }

    /// Subscribes to a resource, and writes the audit line.
    ///
    /// # Errors
    /// As [`Dispatcher::read`]; `overloaded` if the caller has too many subscriptions.
    pub async fn watch(&self, uri: &str, caller: &dyn Caller) -> Result<Watch, ToolError> {
        let began = Instant::now();
        let begun = match self.resource(uri).and_then(|resource| Ok((resource, self.principal.watch()?))) {
            Ok((resource, place)) => {
                self.bounded(Watch::begin(resource, self.link.clone(), (&self.principal.name, place))).await
            }
            Err(error) => Err(error),
        };
        self.audited(SUBSCRIBE, uri, caller, began, &begun);
        begun
    }

    /// What an argument may go on with, of a template or a prompt.
    ///
    /// # Errors
    /// If there is no such template, prompt or argument, or the node does not answer.
    pub async fn complete(
        &self,
        about: About<'_>,
        argument: &str,
        begun: &str,
        caller: &dyn Caller,
    ) -> Result<Completed, ToolError> {
        let began = Instant::now();
        let completed = match completion::source(about, argument) {
            Ok(source) => self.bounded(completion::complete(source, begun, &self.link)).await,
            Err(error) => Err(error),
        };
        self.audited(COMPLETE, about.name(), caller, began, &completed);
        completed
    }

    /// Writes a prompt for this caller: each call as it can make it.
    ///
    /// # Errors
    /// If there is no such prompt, or its arguments are not right.
    pub fn prompt(
        &self,
        name: &str,
        arguments: &serde_json::Map<String, Value>,
        caller: &dyn Caller,
    ) -> Result<Written, ToolError> {
        let began = Instant::now();
        let written = prompts::write(name, arguments, |tool, arguments| self.call_in_words(tool, arguments));
        self.audited(PROMPT, name, caller, began, &written);
        written
    }

    fn audited<T>(&self, what: &str, of: &str, caller: &dyn Caller, began: Instant, done: &Result<T, ToolError>) {
        let outcome = done.as_ref().map_or_else(|error| error.code, |_| "ok");
        let (client, digest) = (&*caller.name(), &*digest_of(of));
        let (route, trace) = (None, caller.trace());
        self.audit(Line { client, tool: what, called: of, digest, outcome, began, route, trace });
    }

    /// The resource of that name, if this caller may read it here.
    fn resource(&self, uri: &str) -> Result<Resource, ToolError> {
        let resource = Resource::named(uri)?;
        self.surface.find(resource.entry().tool)?;
        Ok(resource)
    }

    fn contents(&self, uri: &str, resource: Resource, read: Read) -> Contents {
        let (text, is_over) = match read {
            Read::Document(document) => {
                let is_over = is_over(resource, &document);
                (self.finish(document, FULL_ANSWER_BYTES_MAX, REST).to_string(), is_over)
            }
            Read::Text(text) => (clean(text), false),
        };
        Contents { uri: uri.to_owned(), mime_type: resource.entry().mime_type, text, is_over }
    }

    /// A call as this caller makes it, or why it cannot.
    fn call_in_words(&self, tool: &str, arguments: Value) -> String {
        let mut call = json!({"tool": tool, "arguments": arguments});
        match self.surface.find(tool) {
            Ok(Tool { .. }) => self.make_callable(&mut call),
            Err(error) => {
                return format!("{tool} {}\n  (not for you here: {}; {})", call["arguments"], error.message, error.fix);
            }
        }
        format!("{} {}", call["tool"].as_str().unwrap_or(tool), call["arguments"])
    }
}

/// Whether nothing more happens to what was read.
fn is_over(resource: Resource, document: &Value) -> bool {
    match resource {
        Resource::Task(_) => document["task"]["finished_at"].is_string(),
        Resource::Workflow(_) => document["done"] == true,
        Resource::Status | Resource::Events | Resource::Graph(_) | Resource::Log(_) | Resource::Session(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_stays_as_it_is() {
        let id = "01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq".parse().unwrap();
        let (ended, running) = (json!({"task": {"finished_at": "2026-01-01T00:00:00Z"}}), json!({"task": {}}));
        assert!(is_over(Resource::Task(id), &ended) && !is_over(Resource::Task(id), &running));
        assert!(is_over(Resource::Workflow(id), &json!({"done": true})));
        assert!(!is_over(Resource::Workflow(id), &json!({"done": false})) && !is_over(Resource::Log(id), &ended));
    }
}
