//! What a node and its device process say to each other. Data only; frames are those of [`crate::wire`].

use serde::{Deserialize, Serialize};

use crate::task::{Used, is_default};

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
        /// By the whole batch.
        #[serde(default, skip_serializing_if = "is_default")]
        used: Used,
        /// Of each text, so that what the batch took can be split.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        text_tokens: Vec<u32>,
    },
    Failed {
        id: u64,
        code: String,
        message: String,
        retryable: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits, wire};
    use data_encoding::HEXLOWER;
    use std::fmt::Debug;

    fn golden<T: Serialize + for<'a> Deserialize<'a> + PartialEq + Debug>(message: &T, golden: &str) {
        let bytes = wire::encode(message, limits::FRAME_BYTES_MAX).unwrap();
        assert_eq!(HEXLOWER.encode(&bytes), golden, "{message:?}");
        assert_eq!(wire::decode_frame::<T>(&bytes).as_ref(), Ok(message));
    }

    #[test]
    fn requests_to_a_device_have_the_bytes_that_its_process_knows() {
        let (id, model) = (258, "m".to_owned());
        golden(
            &DeviceRequest::Load { id, model: model.clone(), directory: "/m".to_owned() },
            "000000230181a46c6f616483a26964cd0102a56d6f64656ca16da96469726563746f7279a22f6d",
        );
        golden(
            &DeviceRequest::Unload { id, model: model.clone() },
            "000000180181a6756e6c6f616482a26964cd0102a56d6f64656ca16d",
        );
        golden(
            &DeviceRequest::Embed { id, model, texts: vec!["a text".to_owned()] },
            "000000250181a5656d62656483a26964cd0102a56d6f64656ca16da5746578747391a6612074657874",
        );
    }

    #[test]
    fn answers_of_a_device_have_the_bytes_that_nodes_know() {
        let (id, model) = (258, "m".to_owned());
        let (version, torch_version, device) = ("1".to_owned(), "2.13".to_owned(), "cpu".to_owned());
        golden(
            &DeviceReply::Ready { version, torch_version, device, threads: 2 },
            "0000003a0181a5726561647984a776657273696f6ea131ad746f7263685f76657273696f6ea4322e3133a664\
             6576696365a3637075a77468726561647302",
        );
        golden(
            &DeviceReply::Loaded { id, model, dimensions: 384, tokens_max: 256, weight_bytes: 9, took_ms: 7 },
            "0000004b0181a66c6f6164656486a26964cd0102a56d6f64656ca16daa64696d656e73696f6e73cd0180aa74\
             6f6b656e735f6d6178cd0100ac7765696768745f627974657309a7746f6f6b5f6d7307",
        );
        golden(&DeviceReply::Unloaded { id }, "000000120181a8756e6c6f6164656481a26964cd0102");
        golden(
            &DeviceReply::Embedded {
                id,
                vectors: vec![vec![0.5, -1.0]],
                tokens: 3,
                took_ms: 7,
                used: Used::default(),
                text_tokens: Vec::new(),
            },
            "000000370181a8656d62656464656484a26964cd0102a7766563746f72739192ca3f000000cabf800000a674\
             6f6b656e7303a7746f6f6b5f6d7307",
        );
        let (code, message) = ("oom".to_owned(), "no memory".to_owned());
        golden(
            &DeviceReply::Failed { id, code, message, retryable: true },
            "000000360181a66661696c656484a26964cd0102a4636f6465a36f6f6da76d657373616765a96e6f206d656d\
             6f7279a9726574727961626c65c3",
        );
    }
}
