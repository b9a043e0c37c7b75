//! Requests in, replies out, one at a time in their order.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use magpie_core::device::{DeviceReply, DeviceRequest};
use magpie_core::limits::DEVICE_BATCH_LEN_MAX;
use magpie_core::task::Used;
use rustix::time::{ClockId, clock_gettime};

use crate::error::DeviceError;
use crate::frames::{FrameReader, StreamError, write_frame};

/// What runs models. `TorchDevice` is the one built; tests bring their own.
pub trait Device {
    fn describe(&self) -> Description;

    /// Loads a model, in place of one with the same name.
    ///
    /// # Errors
    /// Files that are missing, damaged or of another architecture, and a device that is full.
    fn load(&mut self, model: &str, directory: &Path) -> Result<LoadedModel, DeviceError>;

    /// Forgets a model; one that is not loaded is forgotten already.
    fn unload(&mut self, model: &str);

    /// One unit vector per text, in order.
    ///
    /// # Errors
    /// A model that is not loaded, and whatever goes wrong in running it.
    fn embed(&self, model: &str, texts: &[String]) -> Result<Embeddings, DeviceError>;
}

/// What a device says about itself in [`DeviceReply::Ready`].
#[derive(Debug, Clone)]
pub struct Description {
    pub torch_version: String,
    pub device: String,
    pub threads: u32,
}

/// What a model turned out to be in [`DeviceReply::Loaded`].
#[derive(Debug, Clone)]
pub struct LoadedModel {
    pub dimensions: u32,
    pub tokens_max: u32,
    pub weight_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct Embeddings {
    pub vectors: Vec<Vec<f32>>,
    /// Of each text.
    pub text_tokens: Vec<u32>,
    /// For how long a GPU was busy, in microseconds; absent where there is none.
    pub gpu_us: Option<u64>,
}

/// Says that the device is ready, then answers requests until the node closes the stream.
///
/// # Errors
/// A stream that breaks or carries no frames: the node and this process no longer understand each other.
pub fn serve(device: &mut impl Device, input: impl Read, mut output: impl Write) -> Result<(), StreamError> {
    let Description { torch_version, device: name, threads } = device.describe();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    write_frame(&mut output, &DeviceReply::Ready { version, torch_version, device: name, threads })?;
    let mut requests = FrameReader::new(input);
    while let Some(request) = requests.next_message()? {
        write_frame(&mut output, &answer(device, request))?;
    }
    Ok(())
}

fn answer(device: &mut impl Device, request: DeviceRequest) -> DeviceReply {
    let (start, cpu_before_us) = (Instant::now(), cpu_us());
    let took_ms = || u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    match request {
        DeviceRequest::Load { id, model, directory } => match device.load(&model, Path::new(&directory)) {
            Ok(LoadedModel { dimensions, tokens_max, weight_bytes }) => {
                DeviceReply::Loaded { id, model, dimensions, tokens_max, weight_bytes, took_ms: took_ms() }
            }
            Err(error) => error.into_reply(id),
        },
        DeviceRequest::Unload { id, model } => {
            device.unload(&model);
            DeviceReply::Unloaded { id }
        }
        DeviceRequest::Embed { id, texts, .. } if texts.len() > DEVICE_BATCH_LEN_MAX => {
            DeviceError::BatchTooLong { len: texts.len(), max: DEVICE_BATCH_LEN_MAX }.into_reply(id)
        }
        DeviceRequest::Embed { id, model, texts } => match device.embed(&model, &texts) {
            Ok(Embeddings { vectors, text_tokens, gpu_us }) => {
                let tokens = text_tokens.iter().map(|tokens| u64::from(*tokens)).sum();
                let used = Used { cpu_us: Some(cpu_us().saturating_sub(cpu_before_us)), gpu_us };
                DeviceReply::Embedded { id, vectors, tokens, took_ms: took_ms(), used, text_tokens }
            }
            Err(error) => error.into_reply(id),
        },
    }
}

/// What all threads of this process have used so far. Requests are run one at a time, so between two readings it is one's.
fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// Processor time of a batch, at the least.
    const TOOK_US: u64 = 2_000;

    /// Embeds a text as its length; knows the models that were loaded.
    #[derive(Default)]
    struct Lengths {
        loaded: Vec<String>,
    }

    impl Device for Lengths {
        fn describe(&self) -> Description {
            Description { torch_version: "none".to_owned(), device: "test".to_owned(), threads: 1 }
        }

        fn load(&mut self, model: &str, directory: &Path) -> Result<LoadedModel, DeviceError> {
            if directory == Path::new("/nowhere") {
                return Err(DeviceError::FileMissing { path: PathBuf::from("/nowhere/config.json") });
            }
            self.loaded.push(model.to_owned());
            Ok(LoadedModel { dimensions: 1, tokens_max: 256, weight_bytes: 0 })
        }

        fn unload(&mut self, model: &str) {
            self.loaded.retain(|loaded| loaded != model);
        }

        fn embed(&self, model: &str, texts: &[String]) -> Result<Embeddings, DeviceError> {
            if !self.loaded.iter().any(|loaded| loaded == model) {
                return Err(DeviceError::ModelNotLoaded { model: model.to_owned(), loaded: self.loaded.clone() });
            }
            let vectors = texts.iter().map(|text| vec![text.len() as f32]).collect();
            let begin = cpu_us();
            while cpu_us() < begin + TOOK_US {}
            Ok(Embeddings { vectors, text_tokens: vec![2; texts.len()], gpu_us: None })
        }
    }

    fn converse(requests: &[DeviceRequest]) -> Vec<DeviceReply> {
        let mut input = Vec::new();
        for request in requests {
            write_frame(&mut input, request).unwrap();
        }
        let mut output = Vec::new();
        serve(&mut Lengths::default(), input.as_slice(), &mut output).unwrap();
        let mut replies = FrameReader::new(output.as_slice());
        std::iter::from_fn(|| replies.next_message().unwrap()).collect()
    }

    fn load(id: u64, directory: &str) -> DeviceRequest {
        DeviceRequest::Load { id, model: "m".to_owned(), directory: directory.to_owned() }
    }

    fn embed(id: u64, texts: usize) -> DeviceRequest {
        DeviceRequest::Embed { id, model: "m".to_owned(), texts: vec!["abc".to_owned(); texts] }
    }

    fn code(reply: &DeviceReply) -> &str {
        match reply {
            DeviceReply::Failed { code, .. } => code,
            _ => "none",
        }
    }

    #[test]
    fn each_request_is_answered_once_and_in_order() {
        let unload = DeviceRequest::Unload { id: 4, model: "m".to_owned() };
        let replies = converse(&[load(1, "/m"), embed(2, 2), embed(3, 0), unload.clone(), unload, embed(5, 1)]);
        assert!(matches!(&replies[0], DeviceReply::Ready { device, .. } if device == "test"));
        assert!(matches!(&replies[1], DeviceReply::Loaded { id: 1, dimensions: 1, .. }));
        assert!(matches!(&replies[2], DeviceReply::Embedded { id: 2, vectors, .. } if vectors == &[[3.0], [3.0]]));
        assert!(matches!(&replies[3], DeviceReply::Embedded { id: 3, vectors, .. } if vectors.is_empty()));
        assert_eq!(replies[4..6], [DeviceReply::Unloaded { id: 4 }, DeviceReply::Unloaded { id: 4 }]);
        assert_eq!(code(&replies[6]), "model_not_loaded");
        assert_eq!(replies.len(), 7);
    }

    #[test]
    fn a_batch_tells_what_it_took_and_how_long_its_texts_are() {
        let replies = converse(&[load(1, "/m"), embed(2, 2)]);
        let DeviceReply::Embedded { tokens, used, text_tokens, .. } = &replies[2] else { panic!("{:?}", replies[2]) };
        assert_eq!((*tokens, text_tokens.as_slice(), used.gpu_us), (4, [2, 2].as_slice(), None));
        assert!(used.cpu_us.is_some_and(|us| us >= TOOK_US), "{used:?}");
    }

    #[test]
    fn a_failure_leaves_the_process_answering() {
        let replies = converse(&[load(1, "/nowhere"), load(2, "/m"), embed(3, DEVICE_BATCH_LEN_MAX + 1), embed(4, 1)]);
        assert_eq!(code(&replies[1]), "model_missing");
        assert_eq!(code(&replies[3]), "batch_too_long");
        assert!(matches!(replies[4], DeviceReply::Embedded { id: 4, .. }));
    }

    #[test]
    fn garbage_ends_the_conversation() {
        let error = serve(&mut Lengths::default(), [0, 0, 0, 2, 1, 0xc1].as_slice(), Vec::new()).unwrap_err();
        assert!(matches!(error, StreamError::Decode(_)), "{error}");
    }
}
