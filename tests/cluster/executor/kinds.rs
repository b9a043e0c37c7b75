use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use magpie::executor::{ExecutorConfig, Executors, ProcessConfig, StopReason};
use magpie_core::limits;
use magpie_core::payload::{BlobRef, Payload};
use magpie_core::task::{AttemptResult, TaskKind, TaskSpec, Used};
use magpie_core::time::DurationMs;
use serde_json::{Value, json};

use super::fixture::{DirBlobs, Fixture, PATIENCE, error_of, spec};

fn embed(model: &str, input: Value) -> TaskSpec {
    TaskSpec { model: Some(model.to_owned()), ..spec(TaskKind::Embed, input) }
}

#[tokio::test]
async fn a_noop_answers_its_input() {
    let fixture = Fixture::new();
    assert_eq!(fixture.output(spec(TaskKind::Noop, json!({"a": [1]}))).await, json!({"a": [1]}));
    assert_eq!(fixture.output(TaskSpec::new(TaskKind::Noop)).await, Value::Null);
    let blob = Payload::Blob(fixture.blobs.put(b"1"));
    let outcome = fixture.run(TaskSpec { input: blob.clone(), ..TaskSpec::new(TaskKind::Noop) }).await;
    assert_eq!(outcome.result, AttemptResult::Succeeded { output: blob });
}

#[tokio::test]
async fn a_sleep_lasts_what_it_says_and_reports_it() {
    let fixture = Fixture::new();
    let outcome = fixture.run(spec(TaskKind::Sleep, json!({"for": "30ms"}))).await;
    assert!((30..10_000).contains(&outcome.ran_ms), "{outcome:?}");
    let (code, _, retryable) = fixture.error(spec(TaskKind::Sleep, json!("soon"))).await;
    assert_eq!((code.as_str(), retryable), ("bad_input", false));
}

#[tokio::test]
async fn a_timeout_and_a_stop_end_what_waits() {
    let fixture = Fixture::new();
    let long = spec(TaskKind::Sleep, json!("7d"));
    let (code, message, retryable) = fixture.error(TaskSpec { timeout: DurationMs(20), ..long.clone() }).await;
    assert_eq!((code.as_str(), retryable), ("timeout", true));
    assert!(message.contains("20ms"), "{message}");
    let reasons =
        [(StopReason::Cancelled, "cancelled"), (StopReason::Fenced, "fenced"), (StopReason::Shutdown, "shutdown")];
    for waits in [long, embed("hangs", json!("a"))] {
        for (reason, code) in reasons {
            let (stopper, running) = fixture.start(waits.clone());
            stopper.stop(reason);
            let outcome = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
            assert_eq!(error_of(outcome).0, code, "{}", waits.kind);
        }
    }
}

#[tokio::test]
async fn texts_become_vectors_in_the_shape_they_were_asked_in() {
    let fixture = Fixture::new();
    let one = json!({"model": "length", "dimensions": 2, "embedding": [3.0, 13.857142]});
    assert_eq!(fixture.output(embed("length", json!("abc"))).await, one);
    let measured = |cpu_us| Used { cpu_us, gpu_us: None };
    assert_eq!(fixture.run(embed("length", json!("abc"))).await.used, measured(Some(7)));
    assert_eq!(fixture.run(embed("length", json!([]))).await.used, measured(None), "no device had to do with it");
    assert_eq!(fixture.output(embed("length", json!({"text": "abc"}))).await, one);
    let several = fixture.output(embed("length", json!({"texts": ["abc", ""]}))).await;
    assert_eq!(several, json!({"model": "length", "dimensions": 2, "embeddings": [[3.0, 13.857142], [0.0, 0.0]]}));
    let none = fixture.output(embed("length", json!([]))).await;
    assert_eq!(none, json!({"model": "length", "dimensions": 0, "embeddings": []}));
}

#[tokio::test]
async fn large_inputs_and_outputs_of_embed_are_blobs() {
    let fixture = Fixture::new();
    let texts = vec!["abc"; limits::EMBED_TEXTS_LEN_MAX];
    let blob = fixture.blobs.put(&serde_json::to_vec(&json!({"texts": texts})).unwrap());
    let mut task = embed("length", Value::Null);
    task.input = Payload::Blob(blob);
    let outcome = fixture.run(task.clone()).await;
    let AttemptResult::Succeeded { output: Payload::Blob(output) } = outcome.result else { panic!("{outcome:?}") };
    let output: Value = serde_json::from_str(&fixture.blobs.get(output)).unwrap();
    assert_eq!(output["embeddings"][4_095], json!([3.0, 13.857142]));
    task.input = Payload::Blob(BlobRef { bytes: limits::EMBED_INPUT_BYTES_MAX + 1, ..blob });
    let (code, _, retryable) = fixture.error(task).await;
    assert_eq!((code.as_str(), retryable), ("input_too_large", false));
}

#[tokio::test]
async fn a_blob_that_is_nowhere_is_worth_another_attempt() {
    let fixture = Fixture::new();
    let mut task = embed("length", Value::Null);
    task.input = Payload::Blob(BlobRef { bytes: 3, cid: magpie_core::ids::ContentId::of(b"?") });
    let (code, message, retryable) = fixture.error(task).await;
    assert_eq!((code.as_str(), retryable), ("blob_unavailable", true));
    assert!(message.contains("never put there"), "{message}");
}

#[tokio::test]
async fn what_the_device_says_reaches_the_task() {
    let fixture = Fixture::new();
    let (code, _, retryable) = fixture.error(embed("giant", json!("a"))).await;
    assert_eq!((code.as_str(), retryable), ("unknown_model", false));
    let (code, message, retryable) = fixture.error(embed("panics", json!("a"))).await;
    assert_eq!((code.as_str(), retryable), ("panic", true));
    assert!(message.contains("no such layer"), "{message}");
    let hangs = TaskSpec { timeout: DurationMs(20), ..embed("hangs", json!("a")) };
    assert_eq!(fixture.error(hangs).await.0, "timeout");
    assert_eq!(fixture.error(spec(TaskKind::Embed, json!("a"))).await.0, "bad_input");
}

#[tokio::test]
async fn kinds_that_are_not_offered_are_refused_with_the_fix() {
    let directory = tempfile::tempdir().unwrap();
    let config = ExecutorConfig::new(directory.path().join("work"), ProcessConfig::default());
    let blobs = Arc::new(DirBlobs(directory.path().to_owned()));
    let bare = Executors::new(config, blobs, None).unwrap();
    assert_eq!(bare.kinds(), BTreeSet::from([TaskKind::Sleep, TaskKind::Noop]));
    for kind in TaskKind::ALL.into_iter().filter(|kind| !bare.kinds().contains(kind)) {
        let (_stopper, stop) = magpie::executor::stop_channel();
        let outcome = bare.run(super::fixture::attempt(super::fixture::spec(kind, Value::Null)), stop).await.unwrap();
        let (code, message, retryable) = error_of(outcome);
        let expected = if kind == TaskKind::Process { "bad_input" } else { "unsupported_kind" };
        assert_eq!((code.as_str(), retryable), (expected, false), "{message}");
    }
    let all: BTreeSet<_> = Fixture::new().executors.kinds();
    assert_eq!(all, BTreeSet::from([TaskKind::Embed, TaskKind::Process, TaskKind::Sleep, TaskKind::Noop]));
}

#[tokio::test]
async fn what_an_earlier_life_left_is_swept_at_start() {
    let fixture = Fixture::new();
    std::fs::create_dir_all(fixture.path("work/01ABC.3/files/deep")).unwrap();
    std::fs::write(fixture.path("work/01ABC.3/files/deep/x"), "x").unwrap();
    let config = ExecutorConfig::new(fixture.path("work"), ProcessConfig::default());
    drop(Executors::new(config, fixture.blobs.clone(), None).unwrap());
    assert!(fixture.is_swept());
    let file = fixture.path("work/file");
    std::fs::write(&file, "").unwrap();
    let config = ExecutorConfig::new(file.clone(), ProcessConfig::default());
    let Err(error) = Executors::new(config, fixture.blobs.clone(), None) else { panic!("a file is no directory") };
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn many_attempts_run_beside_each_other() {
    let fixture = Arc::new(Fixture::new());
    let running: Vec<_> = (0..64)
        .map(|number| {
            let fixture = fixture.clone();
            tokio::spawn(async move { fixture.output(spec(TaskKind::Noop, json!(number))).await })
        })
        .collect();
    for (number, task) in running.into_iter().enumerate() {
        let output = tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        assert_eq!(output, json!(number));
    }
}
