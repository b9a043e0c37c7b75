//! Embeddings against those of sentence-transformers on the same weights, made by `scripts/reference-embeddings.py`.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod support;

use std::fs;

use magpie_device::serve::Device;
use magpie_device::torch::TorchDevice;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use support::minilm;

const DIFFERENCE_MAX: f32 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    provenance: Provenance,
    embeddings: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Provenance {
    weights_sha256: String,
    tokens_max: u32,
}

#[derive(Deserialize)]
struct Embedding {
    text: String,
    vector: Vec<f32>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference-minilm.json")).unwrap()
}

fn loaded() -> TorchDevice {
    let mut device = TorchDevice::open();
    let model = device.load("minilm", &minilm()).unwrap();
    assert_eq!((model.dimensions, model.tokens_max), (384, reference().provenance.tokens_max));
    device
}

fn embed(device: &TorchDevice, texts: &[String]) -> Vec<Vec<f32>> {
    device.embed("minilm", texts).unwrap().vectors
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn the_weights_are_those_of_the_reference() {
    let digest = Sha256::digest(fs::read(minilm().join("model.safetensors")).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, reference().provenance.weights_sha256);
}

#[test]
fn a_text_alone_has_the_reference_vector() {
    let device = loaded();
    for Embedding { text, vector } in reference().embeddings {
        let held = difference(&embed(&device, std::slice::from_ref(&text))[0], &vector);
        println!("{held:.2e} {:?}", text.chars().take(40).collect::<String>());
        assert!(held <= DIFFERENCE_MAX, "{text:?} differs by {held}");
    }
}

#[test]
fn a_batch_has_the_reference_vectors_in_any_order() {
    let device = loaded();
    let embeddings = reference().embeddings;
    for turn in 0..embeddings.len() {
        let turned: Vec<&Embedding> = embeddings.iter().cycle().skip(turn).take(embeddings.len()).collect();
        let texts: Vec<String> = turned.iter().map(|embedding| embedding.text.clone()).collect();
        for (vector, embedding) in embed(&device, &texts).iter().zip(turned) {
            let held = difference(vector, &embedding.vector);
            assert!(held <= DIFFERENCE_MAX, "{:?} differs by {held} in turn {turn}", embedding.text);
        }
    }
}

#[test]
fn vectors_have_unit_length_and_equal_texts_equal_vectors() {
    let device = loaded();
    let texts: Vec<String> = reference().embeddings.into_iter().map(|embedding| embedding.text).collect();
    let vectors = embed(&device, &texts);
    for vector in &vectors {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    let cats: Vec<usize> =
        texts.iter().enumerate().filter(|(_, text)| *text == "cat").map(|(place, _)| place).collect();
    assert_eq!(cats.len(), 2);
    assert!(difference(&vectors[cats[0]], &vectors[cats[1]]) < 1e-6);
}
