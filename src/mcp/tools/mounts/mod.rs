//! Tools of mounted servers: called by `server.tool`, followed by a number where they take longer than a call.

mod call;
mod list;

pub use call::{CancelMounted, MountedCall, MountedName, REST, WaitMounted, call, writes};
pub use list::{ListMounts, described, offered};
