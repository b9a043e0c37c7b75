//! To a device actor, one per device.

use magpie_core::task::TaskError;
use ractor::RpcReplyPort;
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

pub enum DeviceMsg {
    Embed { model: String, texts: Vec<String>, reply: RpcReplyPort<Result<Vec<Vec<f32>>, DeviceError>> },
    View { reply: RpcReplyPort<DeviceView> },
    /// A batch came back from the device process.
    Answered { batch: u64, result: Result<EmbeddedBatch, DeviceError> },
    /// The oldest text has waited long enough.
    Flush,
    Started(Result<StartedDevice, String>),
    Exited(String),
}

#[derive(Debug, Clone)]
pub struct EmbeddedBatch {
    pub vectors: Vec<Vec<f32>>,
    pub tokens: u64,
    pub took_ms: u64,
}

#[derive(Debug, Clone)]
pub struct StartedDevice {
    pub torch_version: String,
    pub threads: u32,
    pub models: Vec<String>,
}

/// Why texts were not embedded.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceError {
    pub error: TaskError,
    pub retryable: bool,
}
