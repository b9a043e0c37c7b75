//! The table of resources, and their names.

use magpie_core::ids::{ContextId, TaskId, WorkflowId};

use crate::mcp::answer::ToolError;
use crate::mcp::text::beginning;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Status,
    Events,
    Task,
    Workflow,
    Graph,
    Log,
    Session,
}

/// What is said of the resources of one kind.
#[derive(Debug)]
pub struct ResourceEntry {
    pub kind: Kind,
    /// The name of the one resource; of many, what comes before and after the id.
    uri: (&'static str, &'static str),
    /// What the id is called; none: there is one resource.
    pub variable: Option<&'static str>,
    pub name: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    pub mime_type: &'static str,
    /// The tool that shows the same: who may call it may read this.
    pub tool: &'static str,
}

const JSON: &str = "application/json";

/// In the order in which they are listed.
pub const ENTRIES: [ResourceEntry; 7] = [
    ResourceEntry {
        kind: Kind::Status,
        uri: ("node://status", ""),
        variable: None,
        name: "node-status",
        title: "The node",
        description: "The node, its queue by status, its worker, its devices, and what does not work on it.",
        mime_type: JSON,
        tool: "p2p_taskqueue_status",
    },
    ResourceEntry {
        kind: Kind::Events,
        uri: ("events://recent", ""),
        variable: None,
        name: "recent-events",
        title: "Recent events",
        description: "The last 50 events of this node's home, the newest first: what was submitted, started, completed.",
        mime_type: JSON,
        tool: "p2p_taskqueue_list_tasks",
    },
    ResourceEntry {
        kind: Kind::Task,
        uri: ("task://", ""),
        variable: Some("task_id"),
        name: "task",
        title: "A task",
        description: "A task as it stands: state, worker, output, error, the end of its log.",
        mime_type: JSON,
        tool: "p2p_taskqueue_get_task",
    },
    ResourceEntry {
        kind: Kind::Workflow,
        uri: ("workflow://", ""),
        variable: Some("workflow_id"),
        name: "workflow",
        title: "A workflow",
        description: "A workflow as it stands: progress, steps, outputs.",
        mime_type: JSON,
        tool: "get_workflow_status",
    },
    ResourceEntry {
        kind: Kind::Graph,
        uri: ("workflow://", "/graph"),
        variable: Some("workflow_id"),
        name: "workflow-graph",
        title: "The graph of a workflow",
        description: "Which steps need which and their states, as a Mermaid flowchart.",
        mime_type: "text/vnd.mermaid",
        tool: "workflow_dependencies",
    },
    ResourceEntry {
        kind: Kind::Log,
        uri: ("logs://", ""),
        variable: Some("task_id"),
        name: "task-log",
        title: "The log of a task",
        description: "What the newest attempt of a task has written to standard error so far, the end of it.",
        mime_type: JSON,
        tool: "p2p_taskqueue_get_task",
    },
    ResourceEntry {
        kind: Kind::Session,
        uri: ("session://", ""),
        variable: Some("session_id"),
        name: "session",
        title: "The values of a session",
        description: "Named values that a session of this caller has left in the ledger.",
        mime_type: JSON,
        tool: "state_query",
    },
];

impl ResourceEntry {
    /// The name of the one resource, or the template of the names of many.
    pub fn uri(&self) -> String {
        let (before, after) = self.uri;
        self.variable.map_or_else(|| before.to_owned(), |variable| format!("{before}{{{variable}}}{after}"))
    }

    /// The entry of a template, or of one that is filled in.
    pub fn of_template(uri: &str) -> Option<&'static Self> {
        let is_it = |entry: &&Self| entry.variable.is_some() && entry.uri() == uri;
        let filled = || Resource::named(uri).ok().map(|resource| resource.entry());
        ENTRIES.iter().find(is_it).or_else(|| filled().filter(|entry| entry.variable.is_some()))
    }

    /// What stands in the place of the id.
    fn id_in<'u>(&self, uri: &'u str) -> Option<&'u str> {
        let (before, after) = self.uri;
        let id = uri.strip_prefix(before)?.strip_suffix(after)?;
        (self.variable.is_some() && !id.contains('/')).then_some(id)
    }
}

/// One resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Status,
    Events,
    Task(TaskId),
    Workflow(WorkflowId),
    Graph(WorkflowId),
    Log(TaskId),
    Session(ContextId),
}

impl Resource {
    /// The resource of that name.
    ///
    /// # Errors
    /// `unknown_resource` with the names that there are.
    pub fn named(uri: &str) -> Result<Self, ToolError> {
        let shown = || beginning(uri, 120).to_owned();
        for entry in &ENTRIES {
            if entry.variable.is_none() && entry.uri() == uri {
                return Self::of(entry.kind, None).ok_or_else(|| unknown(&shown()));
            }
            if let Some(text) = entry.id_in(uri) {
                let id: TaskId = text.parse().map_err(|_| wrong_id(&shown(), entry))?;
                return Self::of(entry.kind, Some(id)).ok_or_else(|| unknown(&shown()));
            }
        }
        Err(unknown(&shown()))
    }

    fn of(kind: Kind, id: Option<TaskId>) -> Option<Self> {
        Some(match kind {
            Kind::Status => Self::Status,
            Kind::Events => Self::Events,
            Kind::Task => Self::Task(id?),
            Kind::Workflow => Self::Workflow(id?),
            Kind::Graph => Self::Graph(id?),
            Kind::Log => Self::Log(id?),
            Kind::Session => Self::Session(id?),
        })
    }

    fn kind(self) -> Kind {
        match self {
            Self::Status => Kind::Status,
            Self::Events => Kind::Events,
            Self::Task(_) => Kind::Task,
            Self::Workflow(_) => Kind::Workflow,
            Self::Graph(_) => Kind::Graph,
            Self::Log(_) => Kind::Log,
            Self::Session(_) => Kind::Session,
        }
    }

    pub fn entry(self) -> &'static ResourceEntry {
        let entry = ENTRIES.iter().find(|entry| entry.kind == self.kind());
        entry.expect("a test finds an entry for every kind")
    }
}

fn unknown(shown: &str) -> ToolError {
    let names: Vec<String> = ENTRIES.iter().map(ResourceEntry::uri).collect();
    let fix = format!("read one of {}", names.join(", "));
    ToolError::new("unknown_resource", format!("there is no resource {shown:?}"), fix)
}

fn wrong_id(shown: &str, entry: &ResourceEntry) -> ToolError {
    let message = format!("{shown:?} names no id; expected {} with an id as 01JD...-k3v7x2aq", entry.uri());
    let fix = "take an id that a submission answered, that p2p_taskqueue_list_tasks or list_workflows lists, or that completion/complete gives";
    ToolError::new("unknown_resource", message, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::catalog::{Catalog, Scope};

    const ID: &str = "01JD8Y3Q0M4T5R6W7X8Y9Z0A1B-k3v7x2aq";

    #[test]
    fn every_entry_has_its_names_and_stands_for_a_tool_that_reads() {
        for entry in &ENTRIES {
            let uri = match entry.variable {
                Some(variable) => entry.uri().replace(&format!("{{{variable}}}"), ID),
                None => entry.uri(),
            };
            let resource = Resource::named(&uri).unwrap();
            assert_eq!(resource.entry().kind, entry.kind, "{uri}");
            let tool = Catalog::shared().find(entry.tool).unwrap().entry;
            assert!(!tool.writes() && tool.scope == Scope::Read, "{}", entry.tool);
            assert_eq!(ResourceEntry::of_template(&entry.uri()).is_some(), entry.variable.is_some());
            assert_eq!(ResourceEntry::of_template(&uri).is_some(), entry.variable.is_some());
        }
    }

    #[test]
    fn what_is_no_resource_is_told_those_that_there_are() {
        for uri in
            ["", "node://", "node://status/", "file:///etc/passwd", "Task://x", "workflow://a/b/graph", "tasks://x"]
        {
            let error = Resource::named(uri).unwrap_err();
            assert_eq!(error.code, "unknown_resource", "{uri}");
            assert!(error.fix.contains("workflow://{workflow_id}/graph"), "{uri}: {}", error.fix);
        }
        for uri in ["task://", "task://7", "workflow:///graph", "logs://../../etc", "task://{task_id}"] {
            let error = Resource::named(uri).unwrap_err();
            assert_eq!(error.code, "unknown_resource", "{uri}");
            assert!(error.fix.contains("list_workflows") || error.fix.contains("{task_id}"), "{uri}: {}", error.fix);
        }
    }
}
