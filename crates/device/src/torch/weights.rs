//! Tensors of a safetensors file, taken by name and checked for their shape.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use magpie_core::limits::DEVICE_WEIGHT_BYTES_MAX;
use tch::{Device, Kind, Tensor};

use crate::error::DeviceError;

/// What is left of a file's tensors, and where they are to live.
pub struct Weights {
    path: PathBuf,
    device: Device,
    tensors: BTreeMap<String, Tensor>,
    /// The size of the file.
    pub bytes: u64,
}

impl Weights {
    /// Reads `path`.
    ///
    /// # Errors
    /// A missing, unreadable, oversize or damaged file.
    pub fn read(path: &Path, device: Device) -> Result<Self, DeviceError> {
        let path = path.to_owned();
        let bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(DeviceError::FileMissing { path }),
            Err(error) => return Err(DeviceError::FileUnreadable { path, reason: error.to_string() }),
        };
        if bytes > DEVICE_WEIGHT_BYTES_MAX {
            let reason = format!("it has {bytes} bytes, at most {DEVICE_WEIGHT_BYTES_MAX} are loaded");
            return Err(DeviceError::Unsupported { path, reason });
        }
        match Tensor::read_safetensors(&path) {
            Ok(tensors) => Ok(Self { path, device, tensors: tensors.into_iter().collect(), bytes }),
            Err(error) => Err(DeviceError::FileDamaged { path, reason: error.to_string() }),
        }
    }

    /// Takes the tensor `name`, which may stand under `bert.`, as 32-bit floats on the device.
    ///
    /// # Errors
    /// A tensor that is not there or has another shape: weights and `config.json` are not of one model.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Result<Tensor, DeviceError> {
        let tensor = self.tensors.remove(name).or_else(|| self.tensors.remove(&format!("bert.{name}")));
        let tensor = tensor.ok_or_else(|| self.mismatch(format!("it lacks the tensor {name}")))?;
        let held = tensor.size();
        if held != shape {
            return Err(self.mismatch(format!("{name} has shape {held:?}, config.json says {shape:?}")));
        }
        Ok(tensor.f_to_device(self.device)?.f_to_kind(Kind::Float)?)
    }

    /// Checks that no tensor under `prefix` is left: half a model would give wrong vectors without a word.
    ///
    /// # Errors
    /// A tensor that nobody took.
    pub fn none_left(&self, prefix: &str) -> Result<(), DeviceError> {
        let of_prefix = |name: &&String| name.strip_prefix("bert.").unwrap_or(name).starts_with(prefix);
        match self.tensors.keys().find(of_prefix) {
            Some(name) => Err(self.mismatch(format!("it holds {name}, of which config.json does not speak"))),
            None => Ok(()),
        }
    }

    fn mismatch(&self, reason: String) -> DeviceError {
        DeviceError::Unsupported { path: self.path.clone(), reason }
    }
}
