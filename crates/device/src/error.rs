//! What a device refuses or fails at, in words that say what to do.

use std::path::PathBuf;

use magpie_core::device::DeviceReply;
use magpie_core::limits::ERROR_BYTES_MAX;

/// A request that could not be met. The process stays up and answers the next one.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("model {model:?} is not loaded on this device; loaded: {}", list(.loaded))]
    ModelNotLoaded { model: String, loaded: Vec<String> },
    #[error("{len} models are loaded and the device holds no more; unload one first")]
    TooManyModels { len: usize },
    #[error("{} is missing; a model's directory holds model.safetensors, tokenizer.json and config.json \
             (`scripts/fetch.sh minilm` fetches one)", path.display())]
    FileMissing { path: PathBuf },
    #[error("{} cannot be read: {reason}", path.display())]
    FileUnreadable { path: PathBuf, reason: String },
    #[error("{} is damaged: {reason}; fetch or copy it again", path.display())]
    FileDamaged { path: PathBuf, reason: String },
    #[error("{} describes a model that this device cannot run: {reason}", path.display())]
    Unsupported { path: PathBuf, reason: String },
    #[error("{len} texts in one request, at most {max}; send them in several")]
    BatchTooLong { len: usize, max: usize },
    #[error("text {place} of the request became no token: {reason}")]
    NotTokenised { place: usize, reason: String },
    #[error("the device is out of memory: {reason}")]
    OutOfMemory { reason: String },
    #[error("model {model:?} gave a number that is not finite; its weights are damaged or do not fit its config.json")]
    NotFinite { model: String },
    #[error("libtorch failed: {reason}")]
    Torch { reason: String },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl DeviceError {
    /// A word for programs, stable across versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ModelNotLoaded { .. } => "model_not_loaded",
            Self::TooManyModels { .. } => "too_many_models",
            Self::FileMissing { .. } => "model_missing",
            Self::FileUnreadable { .. } => "model_unreadable",
            Self::FileDamaged { .. } => "model_damaged",
            Self::Unsupported { .. } => "model_unsupported",
            Self::BatchTooLong { .. } => "batch_too_long",
            Self::NotTokenised { .. } => "not_tokenised",
            Self::OutOfMemory { .. } => "out_of_memory",
            Self::NotFinite { .. } => "not_finite",
            Self::Torch { .. } => "torch_failed",
        }
    }

    /// Whether the same request may succeed later or on another device of the same kind.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::ModelNotLoaded { .. } | Self::OutOfMemory { .. } | Self::Torch { .. })
    }

    /// The answer to request `id`, its message cut to [`ERROR_BYTES_MAX`].
    pub fn into_reply(self, id: u64) -> DeviceReply {
        let mut message = self.to_string();
        let cut = (0..=ERROR_BYTES_MAX.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
        message.truncate(cut.unwrap_or(0));
        DeviceReply::Failed { id, code: self.code().to_owned(), message, retryable: self.is_retryable() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let DeviceReply::Failed { message, .. } = DeviceError::Torch { reason: "ü".repeat(9_000) }.into_reply(7)
        else {
            unreachable!("an error becomes a failure")
        };
        assert!(message.len() <= ERROR_BYTES_MAX);
        assert!(message.ends_with('ü'));
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        assert!(DeviceError::OutOfMemory { reason: String::new() }.is_retryable());
        assert!(!DeviceError::FileMissing { path: PathBuf::new() }.is_retryable());
    }
}
