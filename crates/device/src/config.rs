//! What a model's directory says about its shape.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use magpie_core::limits::{DEVICE_MODEL_DIMENSION_MAX, DEVICE_MODEL_JSON_BYTES_MAX, DEVICE_TOKENS_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::DeviceError;

/// A BERT encoder's shape, as `config.json` of the usual model directories names it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ModelConfig {
    pub model_type: String,
    pub vocab_size: u32,
    pub hidden_size: u32,
    pub intermediate_size: u32,
    pub num_hidden_layers: u32,
    pub num_attention_heads: u32,
    pub max_position_embeddings: u32,
    pub type_vocab_size: u32,
    pub layer_norm_eps: f64,
    pub hidden_act: String,
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// Tokens of one text, special ones included; what is beyond is cut.
    #[serde(skip)]
    pub tokens_max: u32,
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// `sentence_bert_config.json`, where a model was trained on shorter texts than its positions allow.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<u32>,
}

/// `1_Pooling/config.json`.
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode_mean_tokens: bool,
}

impl ModelConfig {
    /// Reads and checks the JSON files of `directory`; only `config.json` has to be there.
    ///
    /// # Errors
    /// A missing, unreadable or damaged file, or a model of another architecture.
    pub fn read(directory: &Path) -> Result<Self, DeviceError> {
        let path = directory.join("config.json");
        let mut config: Self = read_json(&path)?;
        let sentence: Option<SentenceConfig> = read_optional_json(&directory.join("sentence_bert_config.json"))?;
        let trained = sentence.and_then(|sentence| sentence.max_seq_length).unwrap_or(DEVICE_TOKENS_MAX);
        config.tokens_max = trained.min(config.max_position_embeddings).min(DEVICE_TOKENS_MAX);
        config.check().map_err(|reason| DeviceError::Unsupported { path, reason })?;
        let path = directory.join("1_Pooling/config.json");
        match read_optional_json::<PoolingConfig>(&path)? {
            Some(PoolingConfig { pooling_mode_mean_tokens: false }) => {
                Err(DeviceError::Unsupported { path, reason: "only mean pooling is built".to_owned() })
            }
            _ => Ok(config),
        }
    }

    fn check(&self) -> Result<(), String> {
        let named = [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ];
        for (name, held, built) in named {
            if held != built {
                return Err(format!("{name} is {held:?}, only {built:?} is built"));
            }
        }
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ];
        for (name, held) in sizes {
            if held == 0 || held > DEVICE_MODEL_DIMENSION_MAX {
                return Err(format!("{name} is {held}, not in 1..={DEVICE_MODEL_DIMENSION_MAX}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!("{} heads do not divide hidden_size {}", self.num_attention_heads, self.hidden_size));
        }
        // Two special tokens and one of the text.
        if self.tokens_max < 3 {
            return Err(format!("texts of {} tokens leave no room for a word", self.tokens_max));
        }
        Ok(())
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DeviceError> {
    let bytes = read_bounded(path, DEVICE_MODEL_JSON_BYTES_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| DeviceError::FileDamaged { path: path.to_owned(), reason: error.to_string() })
}

fn read_optional_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DeviceError> {
    match read_json(path) {
        Ok(value) => Ok(Some(value)),
        Err(DeviceError::FileMissing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// A missing or unreadable file, or a larger one.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, DeviceError> {
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => DeviceError::FileMissing { path: path.to_owned() },
        _ => DeviceError::FileUnreadable { path: path.to_owned(), reason: error.to_string() },
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        let reason = format!("it has more than {bytes_max} bytes");
        return Err(DeviceError::FileDamaged { path: path.to_owned(), reason });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MINILM: &str = r#"{"model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "intermediate_size": 1536,
        "num_hidden_layers": 6, "num_attention_heads": 12, "max_position_embeddings": 512, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu", "use_cache": true}"#;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("1_Pooling")).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn read(files: &[(&str, &str)]) -> Result<ModelConfig, DeviceError> {
        ModelConfig::read(directory(files).path())
    }

    #[test]
    fn a_model_is_as_its_config_says() {
        let config = read(&[("config.json", MINILM)]).unwrap();
        assert_eq!((config.num_hidden_layers, config.hidden_size, config.tokens_max), (6, 384, 256));
    }

    #[test]
    fn the_training_length_shortens_texts() {
        let files = [("config.json", MINILM), ("sentence_bert_config.json", r#"{"max_seq_length": 128}"#)];
        assert_eq!(read(&files).unwrap().tokens_max, 128);
    }

    #[test]
    fn other_architectures_are_refused_in_words() {
        for (from, to, word) in [
            ("\"bert\"", "\"llama\"", "model_type"),
            ("\"gelu\"", "\"relu\"", "hidden_act"),
            ("384", "385", "heads"),
            ("30522", "0", "vocab_size"),
            ("1536", "4000000000", "intermediate_size"),
            ("512", "2", "no room"),
        ] {
            let error = read(&[("config.json", &MINILM.replace(from, to))]).unwrap_err();
            assert_eq!(error.code(), "model_unsupported");
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn other_poolings_are_refused() {
        let files = [("config.json", MINILM), ("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": false}"#)];
        assert_eq!(read(&files).unwrap_err().code(), "model_unsupported");
    }

    #[test]
    fn missing_and_broken_files_are_told_apart() {
        assert_eq!(read(&[]).unwrap_err().code(), "model_missing");
        assert_eq!(read(&[("config.json", "{")]).unwrap_err().code(), "model_damaged");
        assert_eq!(read(&[("config.json", "{}")]).unwrap_err().code(), "model_damaged");
        let deep = "[".repeat(100_000);
        assert_eq!(read(&[("config.json", &deep)]).unwrap_err().code(), "model_damaged");
    }

    #[test]
    fn a_file_beyond_its_bound_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [0; 9]).unwrap();
        assert_eq!(read_bounded(file.path(), 9).unwrap().len(), 9);
        assert_eq!(read_bounded(file.path(), 8).unwrap_err().code(), "model_damaged");
    }
}
