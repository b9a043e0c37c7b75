//! `embed`: texts to vectors, on the node's devices.

use magpie_core::limits;
use magpie_core::payload::Payload;
use magpie_core::task::Used;
use serde::Serialize;
use serde_json::Value;

use super::{Attempt, AttemptError, BlobAccess, BoxFuture, StopSignal, blobs};

const FORMS: &str = r#"embed takes "text", ["text", ...], {"text": "..."} or {"texts": ["...", ...]}"#;

/// The node's devices, as the executor sees them.
pub trait Embedder: Send + Sync {
    /// One vector per text, in order, all of one length. Ends early, with any error, once `cancel` fires; dropping the
    /// future must be harmless too.
    ///
    /// # Errors
    /// What the attempt is to report: `unknown_model` (permanent), a lost device (retryable), ...
    fn embed(
        &self,
        model: &str,
        texts: Vec<String>,
        cancel: StopSignal,
    ) -> BoxFuture<'_, Result<EmbeddedTask, AttemptError>>;
}

/// What a device made of a task's texts.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedTask {
    pub vectors: Vec<Vec<f32>>,
    /// What the device measured.
    pub used: Used,
}

/// What a task asks for. One text, not in a list, answers one vector.
#[derive(Debug, PartialEq)]
struct Request {
    texts: Vec<String>,
    is_list: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    model: &'a str,
    dimensions: usize,
    #[serde(flatten)]
    vectors: Vectors<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Vectors<'a> {
    Embedding(&'a [f32]),
    Embeddings(&'a [Vec<f32>]),
}

pub(super) async fn run(
    attempt: &Attempt,
    embedder: &dyn Embedder,
    store: &dyn BlobAccess,
    cancel: StopSignal,
    used: &mut Used,
) -> Result<Payload, AttemptError> {
    let spec = &attempt.spec;
    let model = spec.model.as_deref().ok_or_else(|| AttemptError::permanent("bad_input", "embed needs a `model`"))?;
    let from = attempt.fence.task.ledger;
    let text = blobs::read_text(&spec.input, limits::EMBED_INPUT_BYTES_MAX, from, store).await?;
    let Request { texts, is_list } = parse(&text)?;
    let count = texts.len();
    let vectors = match count {
        0 => Vec::new(),
        _ => {
            let embedded = embedder.embed(model, texts, cancel).await?;
            *used = embedded.used;
            embedded.vectors
        }
    };
    let dimensions = check(&vectors, count)?;
    let vectors = match vectors.as_slice() {
        [vector] if !is_list => Vectors::Embedding(vector),
        vectors => Vectors::Embeddings(vectors),
    };
    blobs::output(json_of(&Answer { model, dimensions, vectors })?, store).await
}

fn parse(text: &str) -> Result<Request, AttemptError> {
    let bad = |why: &str| AttemptError::permanent("bad_input", format!("{FORMS}; {why}"));
    let value: Value = serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?;
    let value = match value {
        Value::Object(mut entries) => match (entries.remove("text"), entries.remove("texts")) {
            (Some(text @ Value::String(_)), None) => text,
            (None, Some(texts @ Value::Array(_))) => texts,
            _ => return Err(bad("this object has neither, or both, or of another type")),
        },
        bare => bare,
    };
    match value {
        Value::String(text) => Ok(Request { texts: vec![text], is_list: false }),
        Value::Array(items) if items.len() > limits::EMBED_TEXTS_LEN_MAX => {
            Err(bad(&format!("{} texts are more than {}", items.len(), limits::EMBED_TEXTS_LEN_MAX)))
        }
        Value::Array(items) => {
            let texts: Result<_, _> = items.into_iter().enumerate().map(|(place, item)| text_of(item, place)).collect();
            let texts = texts.map_err(|why: String| bad(&why))?;
            Ok(Request { texts, is_list: true })
        }
        _ => Err(bad("this is none of them")),
    }
}

fn text_of(item: Value, place: usize) -> Result<String, String> {
    match item {
        Value::String(text) => Ok(text),
        _ => Err(format!("item {place} is not a text")),
    }
}

/// The length of each vector.
fn check(vectors: &[Vec<f32>], count: usize) -> Result<usize, AttemptError> {
    let bad = |why: String| AttemptError::retryable("bad_embedding", why);
    if vectors.len() != count {
        return Err(bad(format!("the device answered {} vectors for {count} texts", vectors.len())));
    }
    let dimensions = vectors.first().map_or(0, Vec::len);
    if vectors.iter().any(|vector| vector.len() != dimensions) {
        return Err(bad("the device answered vectors of different lengths".to_owned()));
    }
    if vectors.iter().flatten().any(|number| !number.is_finite()) {
        return Err(bad("the device answered a number that is not finite".to_owned()));
    }
    Ok(dimensions)
}

/// `f32` keeps its shortest form: 0.1, not 0.10000000149011612.
fn json_of(answer: &Answer<'_>) -> Result<String, AttemptError> {
    serde_json::to_string(answer).map_err(|error| AttemptError::permanent("bad_output", error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_read_in_each_form() {
        let one = Request { texts: vec!["a".into()], is_list: false };
        let many = Request { texts: vec!["a".into(), "b".into()], is_list: true };
        assert_eq!(parse(r#""a""#).unwrap(), one);
        assert_eq!(parse(r#"{"text": "a", "source": "GPL-3"}"#).unwrap(), one);
        assert_eq!(parse(r#"["a", "b"]"#).unwrap(), many);
        assert_eq!(parse(r#"{"texts": ["a", "b"]}"#).unwrap(), many);
    }

    #[test]
    fn anything_else_is_refused_for_good_and_told_the_forms() {
        for text in ["null", "7", r#"["a", 1]"#, "{}", r#"{"text": ["a"]}"#, r#"{"text": "a", "texts": []}"#, "["] {
            let error = parse(text).unwrap_err();
            assert!(!error.retryable && error.error.message.contains(r#"{"texts": "#), "{text}: {error}");
        }
        let many = serde_json::to_string(&vec![""; limits::EMBED_TEXTS_LEN_MAX + 1]).unwrap();
        assert!(parse(&many).unwrap_err().error.message.contains("4097 texts"));
    }

    #[test]
    fn an_answer_of_the_wrong_shape_is_not_passed_on() {
        assert_eq!(check(&[vec![1.0, 2.0], vec![0.0, 0.5]], 2).unwrap(), 2);
        for wrong in [vec![], vec![vec![1.0]], vec![vec![1.0], vec![1.0, 2.0]], vec![vec![1.0], vec![f32::NAN]]] {
            assert!(check(&wrong, 2).unwrap_err().retryable);
        }
    }

    proptest! {
        #[test]
        fn every_finite_number_survives_its_text(number in proptest::num::f32::NORMAL | proptest::num::f32::ZERO) {
            let vector = [number];
            let answer = Answer { model: "m", dimensions: 1, vectors: Vectors::Embedding(&vector) };
            let value: Value = serde_json::from_str(&json_of(&answer).unwrap()).unwrap();
            prop_assert_eq!(value["embedding"][0].as_f64().unwrap() as f32, number);
        }
    }

    #[test]
    fn numbers_print_in_their_shortest_form() {
        let answer = Answer { model: "m", dimensions: 2, vectors: Vectors::Embedding(&[0.1, -1e-7]) };
        assert_eq!(json_of(&answer).unwrap(), r#"{"model":"m","dimensions":2,"embedding":[0.1,-1e-7]}"#);
    }
}
