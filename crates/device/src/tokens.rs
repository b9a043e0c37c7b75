//! Text to token ids.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use magpie_core::limits::DEVICE_TOKENIZER_BYTES_MAX;
use tokenizers::{Tokenizer, TruncationParams};

use crate::config::{ModelConfig, read_bounded};
use crate::error::DeviceError;

/// A model's tokenizer, cut to the model's length and without padding.
pub struct TextEncoder {
    tokenizer: Tokenizer,
}

impl TextEncoder {
    /// Reads `tokenizer.json` of `directory`.
    ///
    /// # Errors
    /// A missing, unreadable or damaged file, or one with more tokens than the model has.
    pub fn read(directory: &Path, config: &ModelConfig) -> Result<Self, DeviceError> {
        let path = directory.join("tokenizer.json");
        let bytes = read_bounded(&path, DEVICE_TOKENIZER_BYTES_MAX)?;
        let truncation = TruncationParams { max_length: config.tokens_max as usize, ..TruncationParams::default() };
        let tokenizer = or_panic(|| {
            // On JSON that breaks off the crate itself panics, without saying where.
            serde_json::from_slice::<serde::de::IgnoredAny>(&bytes)?;
            let mut tokenizer = Tokenizer::from_bytes(&bytes)?;
            tokenizer.with_padding(None).with_truncation(Some(truncation))?;
            Ok(tokenizer)
        })
        .map_err(|reason| DeviceError::FileDamaged { path: path.clone(), reason })?;
        let held = tokenizer.get_vocab_size(true);
        if held > config.vocab_size as usize {
            let reason = format!("it has {held} tokens, the model {}", config.vocab_size);
            return Err(DeviceError::Unsupported { path, reason });
        }
        Ok(Self { tokenizer })
    }

    /// The token ids of each text, special tokens included, at least one per text.
    ///
    /// # Errors
    /// A text that the tokenizer fails at.
    pub fn encode(&self, texts: &[String]) -> Result<Vec<Vec<u32>>, DeviceError> {
        texts.iter().enumerate().map(|(place, text)| self.encode_one(place, text)).collect()
    }

    fn encode_one(&self, place: usize, text: &str) -> Result<Vec<u32>, DeviceError> {
        match or_panic(|| self.tokenizer.encode_fast(text, true)) {
            Ok(encoding) if !encoding.is_empty() => Ok(encoding.get_ids().to_vec()),
            Ok(_) => Err(DeviceError::NotTokenised { place, reason: "it is empty to the tokenizer".to_owned() }),
            Err(reason) => Err(DeviceError::NotTokenised { place, reason }),
        }
    }
}

/// Runs `work` of the tokenizers crate, which panics on some inconsistent files instead of refusing them.
fn or_panic<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizers crate panicked, see the log".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    const WORDS: &str = r#"{"version": "1.0", "truncation": null, "padding": {"strategy": {"Fixed": 8}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "red": 1, "fox": 2}, "unk_token": "[UNK]"}}"#;

    fn config(vocab_size: u32, tokens_max: u32) -> ModelConfig {
        ModelConfig {
            model_type: "bert".to_owned(),
            vocab_size,
            hidden_size: 8,
            intermediate_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            max_position_embeddings: 8,
            type_vocab_size: 1,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".to_owned(),
            position_embedding_type: "absolute".to_owned(),
            tokens_max,
        }
    }

    fn directory(json: &[u8]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("tokenizer.json"), json).unwrap();
        directory
    }

    fn read(json: &[u8], config: &ModelConfig) -> Result<TextEncoder, DeviceError> {
        TextEncoder::read(directory(json).path(), config)
    }

    #[test]
    fn texts_are_cut_and_never_padded() {
        let encoder = read(WORDS.as_bytes(), &config(3, 3)).unwrap();
        let ids = encoder.encode(&["fox".to_owned(), "red red red red fox".to_owned()]).unwrap();
        assert_eq!(ids, [vec![2], vec![1, 1, 1]]);
    }

    #[test]
    fn a_text_without_tokens_is_named() {
        let error =
            read(WORDS.as_bytes(), &config(3, 3)).unwrap().encode(&["fox".to_owned(), String::new()]).unwrap_err();
        assert!(error.to_string().starts_with("text 1 of the request"), "{error}");
    }

    #[test]
    fn a_tokenizer_of_another_model_is_refused() {
        let error = read(WORDS.as_bytes(), &config(2, 3)).err().unwrap();
        assert_eq!(error.to_string().split(": ").last(), Some("it has 3 tokens, the model 2"));
    }

    #[test]
    fn a_missing_tokenizer_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = TextEncoder::read(directory.path(), &config(3, 3)).err().unwrap();
        assert_eq!(error.code(), "model_missing");
    }

    #[test]
    fn a_deeply_nested_tokenizer_is_refused() {
        assert_eq!(read("[".repeat(1 << 20).as_bytes(), &config(3, 3)).err().unwrap().code(), "model_damaged");
    }

    proptest! {
        #[test]
        fn a_truncated_or_changed_tokenizer_is_refused_or_works(cut in 0..WORDS.len(), byte: u8) {
            prop_assert!(read(&WORDS.as_bytes()[..cut], &config(3, 3)).is_err());
            let mut changed = WORDS.as_bytes().to_vec();
            changed[cut] = byte;
            if let Ok(encoder) = read(&changed, &config(3, 3)) {
                let _ = encoder.encode(&["red fox".to_owned()]);
            }
        }
    }
}
