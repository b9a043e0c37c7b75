//! To the control actor and its sessions, one per connection; and what a client says first.

use serde::{Deserialize, Serialize};

use super::Role;

/// The first frame on a control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// `nodectl`, `node-mcp`, ...: shown in the actor tree.
    pub client: String,
    /// What it asks to be; the socket's file mode decides who may open it.
    pub role: Role,
}

pub enum ControlMsg {
    Connected(tokio::net::UnixStream),
    /// Accepting ended.
    Ended(String),
}

pub enum SessionMsg {
    /// The client closed, or broke the protocol (in words).
    Closed(Option<String>),
}
