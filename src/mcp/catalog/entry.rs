//! What the table says of one tool.

use std::str::FromStr;

use magpie_core::access::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::schema;
use crate::mcp::handler::AnyHandler;
use crate::mcp::tools::elsewhere::CallToolInput;
use crate::mcp::tools::manager::{DispatchInput, DispatchOutput};

/// One line of the table.
pub struct ToolEntry {
    pub name: &'static str,
    pub category: Category,
    pub title: &'static str,
    /// When to use it, and when not.
    pub description: &'static str,
    pub hints: Hints,
    pub scope: Scope,
    pub reach: Reach,
    /// Other names that a call may use; they are not listed.
    pub aliases: &'static [&'static str],
    /// Words that a search may use for it, beside those of its name, title and description.
    pub keywords: &'static [&'static str],
    /// Other names of arguments, and what they are here; an empty name is read and says nothing.
    pub also: &'static [(&'static str, &'static str)],
    /// Arguments that a list leaves out, for want of room: `tools_get_schema` shows them.
    pub rare: &'static [&'static str],
    /// JSON of the arguments of a call.
    pub example: &'static str,
    /// How to get what did not fit an answer.
    pub rest: &'static str,
    pub action: Action,
}

impl ToolEntry {
    /// Whether a call may change anything.
    pub fn writes(&self) -> bool {
        !self.hints.read_only
    }
}

/// What a call does.
#[derive(Clone, Copy)]
pub enum Action {
    Run(&'static dyn AnyHandler),
    /// Calls the tool that its arguments name.
    Dispatch {
        reads_only: bool,
    },
    /// The same at whichever node its arguments name.
    Anywhere,
}

impl Action {
    pub fn input_schema(self) -> Map<String, Value> {
        match self {
            Self::Run(handler) => handler.input_schema(),
            Self::Dispatch { .. } => schema::input_of::<DispatchInput>(),
            Self::Anywhere => schema::input_of::<CallToolInput>(),
        }
    }

    pub fn output_schema(self) -> Map<String, Value> {
        match self {
            Self::Run(handler) => handler.output_schema(),
            Self::Dispatch { .. } | Self::Anywhere => schema::output_of::<DispatchOutput>(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    Manager,
    TaskQueue,
    Queue,
    Scheduler,
    Workflow,
    Peer,
    Inference,
    Models,
    Hardware,
    Endpoints,
    Github,
    Dashboard,
    System,
    Logs,
    Storage,
    Mounts,
}

impl Category {
    pub const ALL: [Self; 16] = [
        Self::Manager,
        Self::TaskQueue,
        Self::Queue,
        Self::Scheduler,
        Self::Workflow,
        Self::Peer,
        Self::Inference,
        Self::Models,
        Self::Hardware,
        Self::Endpoints,
        Self::Github,
        Self::Dashboard,
        Self::System,
        Self::Logs,
        Self::Storage,
        Self::Mounts,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::TaskQueue => "taskqueue",
            Self::Queue => "queue",
            Self::Scheduler => "scheduler",
            Self::Workflow => "workflow",
            Self::Peer => "peer",
            Self::Inference => "inference",
            Self::Models => "models",
            Self::Hardware => "hardware",
            Self::Endpoints => "endpoints",
            Self::Github => "github",
            Self::Dashboard => "dashboard",
            Self::System => "system",
            Self::Logs => "logs",
            Self::Storage => "storage",
            Self::Mounts => "mounts",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::Manager => "find and call the tools of the other categories",
            Self::TaskQueue => {
                "single tasks: submit, follow, list, change, cancel, take as a worker; the node and its peers"
            }
            Self::Queue => "the queue of the node's home as a whole, and the workers",
            Self::Scheduler => "tasks for workers that ask; what nodes know of each other's ledgers",
            Self::Workflow => "graphs of tasks: submit, follow, list, draw, cancel",
            Self::Peer => "other nodes: find them, connect, what was measured of them, how the work is spread",
            Self::Inference => "running a model over text",
            Self::Models => "the models that nodes have loaded",
            Self::Hardware => "processors, memory and GPUs of the machines, and whether they work",
            Self::Endpoints => "what answers inference, and whether it works",
            Self::Github => "GitHub: not in this version, which says so",
            Self::Dashboard => "totals of tasks, errors and inferences",
            Self::System => "whether the node and its services are well",
            Self::Logs => "the node's own log",
            Self::Storage => "bytes by their content id, values by name: of a cache, of a session",
            Self::Mounts => "other MCP servers that this node mounts: how they are, and calls that go on",
        }
    }

    /// The category of a name as the command line takes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.name() == name)
    }
}

/// Whose things a tool is about: what a caller may do with it that is kept to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Tasks, workflows, values and blobs: such a caller has those of its namespace.
    Namespace,
    /// Nobody's in particular, as what tools, machines and models there are.
    Anyone,
    /// The node, its peers, or what all do there: such a caller may not call it.
    Node,
}

/// What a caller must be allowed to do. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look at tasks, workflows and nodes.
    Read,
    /// Submit work, and cancel or change it.
    Submit,
    /// Change the queue, workers and peers.
    Operate,
    /// Change who may come in, and whether the node works.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Read, Self::Submit, Self::Operate, Self::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// What the node takes who has it for.
    pub fn role(self) -> Role {
        match self {
            Self::Read | Self::Submit => Role::Agent,
            Self::Operate | Self::Admin => Role::Operator,
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|scope| scope.name() == text);
        named.ok_or_else(|| format!("{text:?} is not a scope; the scopes are {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// The protocol's four hints; [`Hints::read_only`] is enforced too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hints {
    #[serde(rename = "readOnlyHint")]
    pub read_only: bool,
    #[serde(rename = "destructiveHint")]
    pub destructive: bool,
    #[serde(rename = "idempotentHint")]
    pub idempotent: bool,
    #[serde(rename = "openWorldHint")]
    pub open_world: bool,
}

impl Hints {
    pub const READS: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    /// Makes work; the work may be any command.
    pub const SUBMITS: Self = Self { read_only: false, destructive: false, idempotent: false, open_world: true };
    /// Keeps something that is the same when it is kept twice.
    pub const KEEPS: Self = Self { read_only: false, destructive: false, idempotent: true, open_world: false };
    pub const ENDS: Self = Self { read_only: false, destructive: true, idempotent: true, open_world: false };
    pub const ANYTHING: Self = Self { read_only: false, destructive: true, idempotent: false, open_world: true };
}
