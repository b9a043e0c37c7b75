//! Where the models of tests come from: the fetched MiniLM, and a tiny one made here.
#![allow(dead_code, reason = "each test file uses its part")]

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory that `scripts/fetch.sh` fills. A test without its model fails: it has shown nothing.
pub fn minilm() -> PathBuf {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from);
    let cache = || {
        let base = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
        variable("MAGPIE_CACHE").or_else(|| Some(base?.join("magpie")))
    };
    let models = variable("MAGPIE_MODELS").or_else(|| Some(cache()?.join("models")));
    let directory = models.unwrap_or_default().join("minilm");
    let complete = directory.join("fetched.json").exists();
    assert!(complete, "no MiniLM in {}; run: scripts/fetch.sh minilm", directory.display());
    directory
}

pub const TINY_DIMENSIONS: usize = 8;
const VOCABULARY: &[&str] = &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "fox", "runs"];

/// Writes a BERT of two layers and eight dimensions; `weight` gives each number of its tensors.
pub fn write_tiny_model(directory: &Path, weight: impl Fn(usize) -> f32) {
    let (hidden, inner, rows) = (TINY_DIMENSIONS, 16, VOCABULARY.len());
    let config = format!(
        r#"{{"model_type": "bert", "vocab_size": {rows}, "hidden_size": {hidden}, "intermediate_size": {inner},
        "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 16, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu"}}"#
    );
    fs::write(directory.join("config.json"), config).unwrap();
    let words: Vec<String> = VOCABULARY.iter().enumerate().map(|(id, word)| format!("{word:?}: {id}")).collect();
    let tokenizer = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {{"type": "Whitespace"}}, "decoder": null,
        "post_processor": {{"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}},
        "model": {{"type": "WordLevel", "vocab": {{{}}}, "unk_token": "[UNK]"}}}}"#,
        words.join(", ")
    );
    fs::write(directory.join("tokenizer.json"), tokenizer).unwrap();
    fs::write(directory.join("model.safetensors"), safetensors(&shapes(hidden, inner, rows), weight)).unwrap();
}

fn shapes(hidden: usize, inner: usize, rows: usize) -> Vec<(String, Vec<usize>)> {
    let mut shapes = Vec::new();
    for (name, rows) in [("word", rows), ("position", 16), ("token_type", 2)] {
        shapes.push((format!("embeddings.{name}_embeddings.weight"), vec![rows, hidden]));
    }
    let mut pair = |name: String, of_weight: Vec<usize>| {
        shapes.push((format!("{name}.bias"), vec![of_weight[0]]));
        shapes.push((format!("{name}.weight"), of_weight));
    };
    pair("embeddings.LayerNorm".to_owned(), vec![hidden]);
    for layer in ["encoder.layer.0", "encoder.layer.1"] {
        for part in ["query", "key", "value"] {
            pair(format!("{layer}.attention.self.{part}"), vec![hidden, hidden]);
        }
        pair(format!("{layer}.attention.output.dense"), vec![hidden, hidden]);
        pair(format!("{layer}.attention.output.LayerNorm"), vec![hidden]);
        pair(format!("{layer}.intermediate.dense"), vec![inner, hidden]);
        pair(format!("{layer}.output.dense"), vec![hidden, inner]);
        pair(format!("{layer}.output.LayerNorm"), vec![hidden]);
    }
    shapes
}

/// Eight bytes of header length, the JSON header, the numbers.
fn safetensors(shapes: &[(String, Vec<usize>)], weight: impl Fn(usize) -> f32) -> Vec<u8> {
    let mut header = String::new();
    let mut numbers = 0;
    for (name, shape) in shapes {
        let start = numbers;
        numbers += shape.iter().product::<usize>();
        let comma = if header.is_empty() { '{' } else { ',' };
        let (from, to) = (start * 4, numbers * 4);
        write!(header, r#"{comma}"{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}"#).unwrap();
    }
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend((0..numbers).flat_map(|place| weight(place).to_le_bytes()));
    bytes
}
