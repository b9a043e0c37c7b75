//! To the MCP servers that a node mounts: what they offer, and calls of their tools, which are followed by a number.

use std::sync::Arc;

use magpie_core::payload::JsonText;
use magpie_core::queue::Refusal;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountRequest {
    /// The servers of this node, and how they are.
    List,
    /// Everything that one server offers.
    Tools { server: String },
    /// One tool of one server.
    Tool { server: String, tool: String },
    /// Begins a call, and waits so long for its end.
    Call { server: String, tool: String, arguments: JsonText, wait_ms: u64 },
    /// Waits for the end of a call that was begun in the same name.
    Wait { server: String, call: u64, wait_ms: u64 },
    /// Ends a call that was begun in the same name.
    Cancel { server: String, call: u64 },
}

impl MountRequest {
    /// The server that it is for; none: for all.
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::List => None,
            Self::Tools { server }
            | Self::Tool { server, .. }
            | Self::Call { server, .. }
            | Self::Wait { server, .. }
            | Self::Cancel { server, .. } => Some(server),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountReply {
    Servers(Vec<MountView>),
    Tools(Arc<[MountedTool]>),
    Tool(Option<Box<MountedTool>>),
    /// The call goes on, under this number.
    Running {
        call: u64,
        progress: Option<MountProgress>,
    },
    /// The protocol's result, as the server gave it.
    Ended {
        result: JsonText,
    },
    /// The server did not answer it, and why.
    Failed {
        why: String,
    },
    Cancelled,
}

/// A mounted server as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountView {
    pub server: String,
    pub description: String,
    pub up: bool,
    /// Why it was down the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    pub tools: usize,
    /// Tools that it offers beyond what a node keeps.
    #[serde(default)]
    pub left_out: usize,
    /// How often it was started again.
    pub restarts: u64,
    pub calls: usize,
}

/// A tool as its server tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedTool {
    pub server: String,
    /// By the server's own name.
    pub tool: String,
    pub title: String,
    pub description: String,
    pub input_schema: JsonText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<JsonText>,
    /// The four hints, those that were not given as the protocol says.
    pub read_only: bool,
    pub destructive: bool,
    pub idempotent: bool,
    pub open_world: bool,
    /// What a caller must be allowed to do: `read`, `submit`, `operate` or `admin`.
    pub scope: String,
}

impl MountedTool {
    /// By which a node's clients call it.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.server, self.tool)
    }
}

/// How far a call is, as its server last said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountProgress {
    pub done: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

pub enum MountMsg {
    /// For this server; `owner` is who asks.
    Request {
        owner: Arc<str>,
        request: MountRequest,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<MountReply, Refusal>>,
    },
    /// The server is up, or offers something else than before.
    Up {
        offered: Arc<[MountedTool]>,
        left_out: usize,
    },
    Down {
        why: String,
    },
}
