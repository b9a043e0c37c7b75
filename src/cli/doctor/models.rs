//! The files of the models that the node is to load.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::Check;
use super::place::Place;
use crate::inference::models::{Model, ModelCatalog};

const NAME: &str = "models";
const FETCH: &str =
    "fetch it again: remove its directory and run `scripts/fetch.sh minilm`, or copy it from another node";
/// The head of a safetensors file names its tensors; no real one is longer.
const HEAD_BYTES_MAX: u64 = 100 * 1024 * 1024;

pub(super) fn check(place: &Place) -> Check {
    let inference = &place.config.inference;
    if !inference.enabled {
        return Check::ok(NAME, "none needed: inference.enabled is false");
    }
    let catalog = ModelCatalog::scan(&place.config.model_dirs());
    let mut sound = Vec::new();
    for name in &inference.load {
        match catalog.find(name) {
            Ok(model) => match damage(model) {
                Some(what) => return Check::fault(NAME, format!("{name} is damaged: {what}"), FETCH),
                None => sound.push(name.clone()),
            },
            // A node without models works; one that was told to load another than the default is not what it should be.
            Err(error) if place.is_configured && !inference.models.is_empty() => {
                return Check::fault(NAME, error.to_string(), FETCH);
            }
            Err(error) => {
                return Check::warning(
                    NAME,
                    error.to_string(),
                    "run `scripts/fetch.sh minilm`, if the node is to embed",
                );
            }
        }
    }
    Check::ok(
        NAME,
        if sound.is_empty() { "none is to be loaded".to_owned() } else { format!("{} is whole", sound.join(", ")) },
    )
}

/// What is wrong with a model's files, as far as that shows without computing with them.
fn damage(model: &Model) -> Option<String> {
    let at = |file: &str| model.directory.join(file);
    for file in ["config.json", "tokenizer.json"] {
        let text = match std::fs::read(at(file)) {
            Ok(text) => text,
            Err(error) => return Some(format!("{}: {error}", at(file).display())),
        };
        if let Err(error) = serde_json::from_slice::<Value>(&text) {
            return Some(format!("{} is not JSON: {error}", at(file).display()));
        }
    }
    let weights = at("model.safetensors");
    weights_damage(&weights).map(|what| format!("{} {what}", weights.display()))
}

/// A safetensors file is the length of its head, the head, which says where each tensor ends, and the tensors.
fn weights_damage(path: &Path) -> Option<String> {
    let read = || -> std::io::Result<Result<(), String>> {
        let mut file = File::open(path)?;
        let whole = file.metadata()?.len();
        let mut length = [0; 8];
        if whole < 8 {
            return Ok(Err(format!("has {whole} bytes")));
        }
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > HEAD_BYTES_MAX.min(whole - 8) {
            return Ok(Err("has no head, or was cut off in it".to_owned()));
        }
        let mut head = Vec::new();
        file.take(length).read_to_end(&mut head)?;
        let Ok(Value::Object(tensors)) = serde_json::from_slice(&head) else {
            return Ok(Err("has a damaged head".to_owned()));
        };
        let ends = tensors.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
        let expected = 8 + length + ends.max().unwrap_or_default();
        Ok(if whole == expected { Ok(()) } else { Err(format!("has {whole} bytes, and should have {expected}")) })
    };
    match read() {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(error) => Some(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(head: &str, data: usize) -> Vec<u8> {
        let mut bytes = (head.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(head.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    #[test]
    fn weights_that_were_cut_off_anywhere_are_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let whole = weights(r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"__metadata__":{}}"#, 16);
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(weights_damage(&path), None);
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(weights_damage(&path).is_some(), "{len} of {} bytes", whole.len());
        }
        std::fs::write(&path, weights("{nonsense", 16)).unwrap();
        assert_eq!(weights_damage(&path).as_deref(), Some("has a damaged head"));
    }
}
