//! What the device actors, one per device, show of themselves. Their mailbox is in [`crate::actors::device_mailbox`]: it
//! carries a handle of a process, which is no data.

use magpie_core::task::TaskError;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceActorRequest {
    List,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceActorReply {
    Devices(Vec<DeviceView>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    pub name: String,
    /// `ready`, `starting` or `unavailable`.
    pub state: String,
    /// Why it is not ready, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub torch_version: Option<String>,
    pub threads: Option<u32>,
    pub models: Vec<String>,
    pub queued: usize,
    pub batches: u64,
    pub texts: u64,
    pub tokens: u64,
    /// Time inside the device process.
    pub busy_ms: u64,
    pub restarts: u64,
}

impl DeviceView {
    /// A device that cannot be used, and why.
    pub fn unavailable(name: &str, why: String) -> Self {
        Self {
            name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            state: "unavailable".to_owned(),
            why: Some(why),
            torch_version: None,
            threads: None,
            models: Vec::new(),
            queued: 0,
            batches: 0,
            texts: 0,
            tokens: 0,
            busy_ms: 0,
            restarts: 0,
        }
    }
}

/// Why texts were not embedded.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceError {
    pub error: TaskError,
    pub retryable: bool,
}
