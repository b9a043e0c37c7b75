//! The mailbox API itself: which actors live, and killing one on purpose.

use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorRequest {
    Tree,
    /// Stops an actor as a crash would; its supervisor starts it again from the durable state.
    Kill {
        name: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorReply {
    Tree(ActorView),
    Killed { name: String },
    Unknown { name: String, known: Vec<String> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActorView {
    pub name: String,
    /// `running`, `restarting` or `stopped`.
    pub state: String,
    pub restarts: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ActorView>,
}

pub enum SupervisorMsg {
    Request {
        request: ActorRequest,
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<ActorReply>,
    },
    /// A child's back-off is over.
    Start {
        name: String,
    },
    /// A session came or went: sessions hang below `control`.
    Sessions(Vec<String>),
    /// The node ends: its actors are stopped on purpose from here on, and none is started again. Their names come back,
    /// in the order in which they are started.
    End {
        reply: RpcReplyPort<Vec<String>>,
    },
}
