//! Calls of tools at other nodes: what a client asks of its node, and what that node then asks of the other.

use std::sync::Arc;

use magpie_core::ids::{OperationId, PeerId};
use magpie_core::payload::JsonText;
use magpie_core::queue::Refusal;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::mount::{MountProgress, MountView};
use super::{Answer, Body, Role};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolRequest {
    /// From a client: this, at the node `peer`.
    At { peer: PeerId, ask: ToolAsk },
    /// From a node, for a client of its own: this, here.
    Here(ToolAsk),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolAsk {
    /// Begins a call, and waits so long for its end. One that is said twice is begun once, while the node lives.
    Call { call: OperationId, wait_ms: u64, of: Box<ToolCall> },
    /// The same for a caller that is kept to a namespace. A message of its own: a node of the version before, which would
    /// not keep to it, refuses what it does not know.
    CallKept { call: OperationId, wait_ms: u64, namespace: String, of: Box<ToolCall> },
    /// Waits for the end of a call that the same node began.
    Wait { call: OperationId, wait_ms: u64 },
    /// Ends a call that the same node began.
    Cancel { call: OperationId },
    /// The MCP servers that the node mounts.
    Mounts,
}

/// A call, as the node that asks for it tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// In whose name.
    pub principal: String,
    /// What that caller may do: `read`, `submit`, `operate` or `admin`. The node that is asked may let it do less.
    pub scope: String,
    pub name: String,
    pub arguments: JsonText,
    /// It has ended by then, however.
    pub deadline_ms: u64,
    /// The same in the audits of both nodes: 32 hexadecimal digits, as of a W3C `traceparent`.
    pub trace: String,
}

impl ToolAsk {
    /// Who may say this to a node for another one: whoever may do there what is asked for.
    pub fn may_be_asked_by(&self) -> &'static [Role] {
        match self {
            Self::Call { of, .. } | Self::CallKept { of, .. } if !matches!(of.scope.as_str(), "read" | "submit") => {
                &[Role::Operator]
            }
            Self::Call { .. } | Self::CallKept { .. } | Self::Wait { .. } | Self::Cancel { .. } | Self::Mounts => {
                &[Role::Agent, Role::Operator]
            }
        }
    }

    /// How long it waits by itself.
    pub fn wait_ms(&self) -> u64 {
        match self {
            Self::Call { wait_ms, .. } | Self::CallKept { wait_ms, .. } | Self::Wait { wait_ms, .. } => *wait_ms,
            Self::Cancel { .. } | Self::Mounts => 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolReply {
    /// The call goes on.
    Running {
        progress: Option<MountProgress>,
    },
    /// What the tool answered: an object, of its error if it is one.
    Ended {
        value: JsonText,
        is_error: bool,
    },
    /// The call was told to end.
    Cancelled,
    /// The node has no such call of the node that asks: it never came, or ended long ago, or with the node's last life.
    Unknown,
    Mounts(Vec<MountView>),
    /// The node that asked heard nothing of the other, and why.
    Away {
        why: String,
        /// Whether the other may have heard it all the same.
        sent: bool,
    },
}

pub enum ToolMsg {
    /// From the node `from`, which is this one where its client named it.
    Request {
        from: PeerId,
        ask: ToolAsk,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<Result<ToolReply, Refusal>>,
    },
    /// What a call under way asks this node, in the name of its caller. `apart`: it is kept to a namespace.
    Ask { owner: Arc<str>, apart: bool, body: Box<Body>, permit: OwnedSemaphorePermit, reply: RpcReplyPort<Answer> },
}
