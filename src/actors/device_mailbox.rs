//! The mailbox of a device actor. It stands here and not among the messages because it carries the device process.

use std::collections::BTreeSet;
use std::sync::Arc;

use ractor::RpcReplyPort;
use tokio::sync::OwnedSemaphorePermit;

use crate::executor::EmbeddedTask;
use crate::inference::batch::Batch;
use crate::inference::device_process::{DeviceProcess, EmbeddedTexts, RequestError};
use crate::messages::device::{DeviceError, DeviceView};

pub enum DeviceMsg {
    Embed {
        model: String,
        texts: Vec<String>,
        reply: RpcReplyPort<Result<EmbeddedTask, DeviceError>>,
    },
    View {
        permit: OwnedSemaphorePermit,
        reply: RpcReplyPort<DeviceView>,
    },
    /// It does not know yet which models this device has.
    RegistryStarted,
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
