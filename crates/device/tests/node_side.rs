//! The real binary behind the node's own handle on it.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod support;

use std::path::Path;

use magpie::inference::batch::BatchFormer;
use magpie::inference::device_process::{DeviceProcess, DeviceProcessConfig, RequestError};
use magpie::inference::models::ModelCatalog;
use support::minilm;

async fn start() -> DeviceProcess {
    let binary = Path::new(env!("CARGO_BIN_EXE_node-device"));
    DeviceProcess::start(&DeviceProcessConfig::cpu(Some(binary), 2).unwrap()).await.unwrap()
}

#[tokio::test]
async fn texts_of_a_task_go_through_batches_and_come_back_as_its_vectors() {
    let process = start().await;
    assert_eq!((process.ready().device.as_str(), process.ready().threads), ("cpu", 2));
    let catalog = ModelCatalog::scan(&[minilm().parent().unwrap().to_owned()]);
    let model = catalog.find("all-MiniLM-L6-v2").unwrap();
    let loaded = process.load(&model.name, &model.directory).await.unwrap();
    assert_eq!((loaded.dimensions, loaded.tokens_max, loaded.weight_bytes), (384, 256, model.weight_bytes));

    let mut former = BatchFormer::default();
    let mut texts: Vec<String> = (0..40).map(|number| format!("passage {number} of a ledger")).collect();
    texts.extend(["a cat", "a kitten"].map(str::to_owned));
    let ticket = former.push(0, &model.name, texts).unwrap();
    let mut whole = Vec::new();
    while let Some(batch) = former.form(1_000) {
        let embedded = process.embed(&batch.model, &batch.texts).await.unwrap();
        whole.extend(former.complete(&batch, embedded.vectors, &embedded.used).unwrap());
    }
    assert_eq!(whole.iter().map(|task| task.ticket).collect::<Vec<_>>(), [ticket]);
    let vectors = &whole[0].vectors;
    let likeness = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum::<f32>();
    assert!(likeness(40, 41) > 0.5 && likeness(40, 0) < 0.3, "a cat is like a kitten and not like a ledger");
    assert_eq!(process.stop().await.cause, "exit status: 0");
}

#[tokio::test]
async fn several_requests_under_way_get_each_their_own_reply() {
    let process = start().await;
    process.load("minilm", &minilm()).await.unwrap();
    let [one, two] = [["red".to_owned()], ["green".to_owned()]];
    let alone = process.embed("minilm", &two).await.unwrap().vectors;
    let (first, failed, last) =
        tokio::join!(process.embed("minilm", &one), process.embed("gpt", &one), process.embed("minilm", &two));
    assert_ne!(first.unwrap().vectors, alone);
    assert_eq!(last.unwrap().vectors, alone);
    let Err(RequestError::Failed { code, retryable, .. }) = failed else { panic!("{failed:?}") };
    assert_eq!((code.as_str(), retryable), ("model_not_loaded", true));
}
