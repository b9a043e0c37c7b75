//! To the control actor and its sessions, one per connection.

use super::Role;

pub enum ControlMsg {
    Connected(tokio::net::UnixStream),
    SessionEnded { session: u64 },
}

pub enum SessionMsg {
    /// The client closed, or broke the protocol (in words).
    Closed(Option<String>),
}

/// Who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRole(pub Role);
