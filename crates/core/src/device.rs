//! What a node and its device process say to each other. Data only; frames are those of [`crate::wire`].

use serde::{Deserialize, Serialize};

/// From the node to `node-device`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceRequest {
    /// Loads a model from a directory that holds `model.safetensors`, `tokenizer.json` and `config.json`.
    Load {
        id: u64,
        model: String,
        directory: String,
    },
    Unload {
        id: u64,
        model: String,
    },
    /// Embeds every text; the reply's vectors stand in the same order. At most
    /// [`crate::limits::DEVICE_BATCH_LEN_MAX`] texts.
    Embed {
        id: u64,
        model: String,
        texts: Vec<String>,
    },
}

/// From `node-device` to the node. Each request is answered once, with its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceReply {
    /// The first frame, before any request.
    Ready {
        version: String,
        torch_version: String,
        device: String,
        threads: u32,
    },
    Loaded {
        id: u64,
        model: String,
        dimensions: u32,
        tokens_max: u32,
        weight_bytes: u64,
        took_ms: u64,
    },
    Unloaded {
        id: u64,
    },
    /// Unit vectors (L2), one per text, and the tokens counted without padding.
    Embedded {
        id: u64,
        vectors: Vec<Vec<f32>>,
        tokens: u64,
        took_ms: u64,
    },
    Failed {
        id: u64,
        code: String,
        message: String,
        retryable: bool,
    },
}
