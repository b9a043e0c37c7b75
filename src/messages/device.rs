//! To a device actor, one per device.

use std::collections::BTreeSet;
use std::sync::Arc;

use magpie_core::task::TaskError;
use ractor::RpcReplyPort;
use serde::{Deserialize, Serialize};

use crate::inference::batch::Batch;
use crate::inference::device_process::{DeviceProcess, EmbeddedTexts, RequestError};

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

pub enum DeviceMsg {
    Embed {
        model: String,
        texts: Vec<String>,
        reply: RpcReplyPort<Result<Vec<Vec<f32>>, DeviceError>>,
    },
    View {
        reply: RpcReplyPort<DeviceView>,
    },
    Started(Result<StartedDevice, String>),
    /// A batch came back from the device process, or did not.
    Answered {
        batch: Batch,
        result: Result<EmbeddedTexts, RequestError>,
    },
    /// The oldest text has waited long enough.
    Flush,
    /// The device process of this start ended.
    Exited {
        start: u64,
        why: String,
    },
    /// The back-off after an end is over.
    Start,
}

/// A device process that is ready, with its models.
pub struct StartedDevice {
    pub process: Arc<DeviceProcess>,
    pub models: BTreeSet<String>,
    /// Models that could not be loaded, a sentence each.
    pub problems: Vec<String>,
}

/// Why texts were not embedded.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceError {
    pub error: TaskError,
    pub retryable: bool,
}
