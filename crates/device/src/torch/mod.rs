//! The only room that names tch.
//!
//! Only the fallible `f_` calls are used: what libtorch throws becomes a [`DeviceError`], never a panic.

mod bert;
mod weights;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use magpie_core::limits::DEVICE_MODELS_MAX;
use tch::{Cuda, TchError};

use crate::config::ModelConfig;
use crate::error::DeviceError;
use crate::packing::Packed;
use crate::serve::{Description, Device, Embeddings, LoadedModel};
use crate::tokens::TextEncoder;
use bert::Bert;
use weights::Weights;

/// The GPU that `CUDA_VISIBLE_DEVICES` leaves to this process, or the CPU.
pub struct TorchDevice {
    device: tch::Device,
    models: BTreeMap<String, Model>,
}

struct Model {
    encoder: TextEncoder,
    bert: Bert,
}

impl TorchDevice {
    pub fn open() -> Self {
        let offered = std::env::var_os("CUDA_VISIBLE_DEVICES").is_some_and(|devices| !devices.is_empty());
        let device = if offered && Cuda::is_available() { tch::Device::Cuda(0) } else { tch::Device::Cpu };
        Self { device, models: BTreeMap::new() }
    }
}

impl Device for TorchDevice {
    fn describe(&self) -> Description {
        let device = match self.device {
            tch::Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        };
        let threads = u32::try_from(tch::get_num_threads()).unwrap_or(1);
        Description { torch_version: env!("MAGPIE_TORCH_VERSION").to_owned(), device, threads }
    }

    fn load(&mut self, model: &str, directory: &Path) -> Result<LoadedModel, DeviceError> {
        // The old one goes first: two of them may not fit.
        self.models.remove(model);
        if self.models.len() >= DEVICE_MODELS_MAX {
            return Err(DeviceError::TooManyModels { len: self.models.len() });
        }
        let config = ModelConfig::read(directory)?;
        let encoder = TextEncoder::read(directory, &config)?;
        let mut weights = Weights::read(&directory.join("model.safetensors"), self.device)?;
        let weight_bytes = weights.bytes;
        let bert = Bert::new(&config, &mut weights)?;
        self.models.insert(model.to_owned(), Model { encoder, bert });
        Ok(LoadedModel { dimensions: config.hidden_size, tokens_max: config.tokens_max, weight_bytes })
    }

    fn unload(&mut self, model: &str) {
        self.models.remove(model);
    }

    fn embed(&self, model: &str, texts: &[String]) -> Result<Embeddings, DeviceError> {
        let Some(held) = self.models.get(model) else {
            let loaded = self.models.keys().cloned().collect();
            return Err(DeviceError::ModelNotLoaded { model: model.to_owned(), loaded });
        };
        if texts.is_empty() {
            return Ok(Embeddings { vectors: Vec::new(), text_tokens: Vec::new(), gpu_us: None });
        }
        let packed = Packed::new(&held.encoder.encode(texts)?);
        let begin = Instant::now();
        // Its result lies in the memory of the CPU: whatever a GPU did for it is over then.
        let flat = tch::no_grad(|| held.bert.embed(&packed))?;
        let gpu_us = matches!(self.device, tch::Device::Cuda(_)).then(|| begin.elapsed().as_micros() as u64);
        if !flat.iter().all(|number| number.is_finite()) {
            return Err(DeviceError::NotFinite { model: model.to_owned() });
        }
        let vectors = flat.chunks_exact(held.bert.dimensions()).map(<[f32]>::to_vec).collect();
        Ok(Embeddings { vectors: packed.restore(vectors), text_tokens: packed.restore(packed.lengths()), gpu_us })
    }
}

impl From<TchError> for DeviceError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        // Behind the first line stand C++ frames.
        let reason = text.lines().next().unwrap_or_default().to_owned();
        match reason.contains("allocate memory") || reason.contains("out of memory") || reason.contains("bad_alloc") {
            true => Self::OutOfMemory { reason },
            false => Self::Torch { reason },
        }
    }
}
