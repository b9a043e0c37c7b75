//! 20,000 generated specifications for each decoder: none ends in a panic, none takes more time or memory than its
//! size allows. A failing case prints what made it, and its seed.

use std::time::{Duration, Instant};

use magpie_core::dag::{check_task, check_workflow, parse_task, parse_workflow};
use magpie_core::ids::OperationId;
use magpie_core::queue::{LedgerRequest, SubmitItem};
use magpie_core::time::Wall;
use magpie_core::wire::{WIRE_VERSION, decode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::allocated_by;

const CASES: u32 = 20_000;
/// Far above what any takes, and far below a hang: other work shares the machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// Fifty problems in words, and the graph of a few steps.
const BYTES_MIN: usize = 256 * 1024;
const BYTES_PER_BYTE: usize = 512;

const NOW: Wall = Wall(1_795_230_000_000);

#[rustfmt::skip]
const KEYS: [&str; 26] = [
    "kind", "input", "run", "model", "files", "requires", "priority", "tag", "timeout", "retry", "not_before",
    "deadline", "namespace", "labels", "idempotency_key", "idempotency_ttl", "retention", "durability", "name", "steps",
    "outputs", "needs", "for_each", "schedule", "max_attempts", "path",
];
#[rustfmt::skip]
const TEXTS: [&str; 22] = [
    "noop", "process", "embed", "sleep", "minilm", "sync", "memory", "p2p-only", "5s", "8d", "0ms", "99999999999d", "a",
    "${steps.a.output}", "${input.x", "$${", "gpu.vram >= 16GiB && (model:minilm", "2026-11-28T00:00:00Z", "../a", "\0",
    "ä€𝄞", "",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        2 => (0u64..2_000).prop_map(Value::from),
        8 => prop::sample::select(&TEXTS[..]).prop_map(Value::from),
        1 => ".{0,40}".prop_map(Value::from),
        1 => (200usize..400).prop_map(|len| Value::from("x".repeat(len))),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            object(inner, 0..6).prop_map(Value::Object),
        ]
    })
}

fn object(
    values: impl Strategy<Value = Value>,
    len: std::ops::Range<usize>,
) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((prop::sample::select(&KEYS[..]), values), len)
        .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// Almost a task: a good kind more often than not, and some fields with anything in them.
fn task() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![3 => Just(json!("noop")), 1 => Just(json!("process")), 1 => leaf()];
    (kind, object(value(), 0..7)).prop_map(|(kind, mut fields)| {
        fields.insert("kind".to_owned(), kind);
        Value::Object(fields)
    })
}

/// Almost a workflow: a few steps that may need each other, or themselves.
fn workflow() -> impl Strategy<Value = Value> {
    let need = (0usize..6).prop_map(|n| format!("s{n}"));
    let step = (task(), prop::collection::vec(need, 0..3));
    let steps = prop::collection::vec(step, 0..6).prop_map(|steps| {
        let named = steps.into_iter().enumerate().map(|(n, (mut step, needs))| {
            step["name"] = json!(format!("s{n}"));
            if !needs.is_empty() {
                step["needs"] = json!(needs);
            }
            step
        });
        Value::from(named.collect::<Vec<Value>>())
    });
    (steps, object(value(), 0..4)).prop_map(|(steps, mut fields)| {
        fields.insert("name".to_owned(), json!("w"));
        fields.insert("steps".to_owned(), steps);
        Value::Object(fields)
    })
}

/// The request that submits a document: as a node writes it where the document is good, else as it stands.
fn submit(document: Value) -> Vec<u8> {
    let operation = OperationId([7; 16]);
    match parse_task(&document) {
        Ok(task) => {
            let items = vec![SubmitItem::one(task)];
            rmp_serde::to_vec_named(&LedgerRequest::Submit { operation, items }).unwrap()
        }
        Err(_) => {
            let items = json!([{"spec": document}]);
            rmp_serde::to_vec_named(&json!({"submit": {"operation": operation, "items": items}})).unwrap()
        }
    }
}

fn submit_workflow(document: Value) -> Vec<u8> {
    let operation = OperationId([7; 16]);
    match parse_workflow(&document) {
        Ok(spec) => {
            rmp_serde::to_vec_named(&LedgerRequest::SubmitWorkflow { operation, spec: spec.into() }).unwrap()
        }
        Err(_) => {
            let request = json!({"submit_workflow": {"operation": operation, "spec": document}});
            rmp_serde::to_vec_named(&request).unwrap()
        }
    }
}

/// A frame as a peer sends it, with some bytes changed.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![task().prop_map(submit), workflow().prop_map(submit_workflow)];
    (request, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)).prop_map(|(request, changes)| {
        let mut bytes = vec![WIRE_VERSION];
        bytes.extend(request);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

/// Runs a decoder over an input of so many bytes, within its bounds.
fn bounded<T>(len: usize, decode: impl FnOnce() -> T) -> Result<T, TestCaseError> {
    let start = Instant::now();
    let (decoded, bytes) = allocated_by(decode);
    prop_assert!(bytes <= BYTES_MIN + BYTES_PER_BYTE * len, "{bytes} bytes for an input of {len}");
    prop_assert!(start.elapsed() < PATIENCE, "{:?} for an input of {len} bytes", start.elapsed());
    Ok(decoded)
}

fn takes_frame(bytes: &[u8]) -> Result<(), TestCaseError> {
    bounded(bytes.len(), || match decode::<LedgerRequest>(bytes) {
        Ok(LedgerRequest::Submit { items, .. }) => {
            items.iter().filter(|item| check_task(&item.spec, NOW).is_ok()).count()
        }
        Ok(LedgerRequest::SubmitWorkflow { spec, .. }) => usize::from(check_workflow(&spec).is_ok()),
        Ok(_) | Err(_) => 0,
    })?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, max_shrink_iters: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_json_task_is_taken_or_refused(document in prop_oneof![8 => task(), 1 => value()]) {
        let parsed = bounded(document.to_string().len(), || parse_task(&document))?;
        if let Ok(task) = parsed {
            // What the file's door lets in, the home's door refuses for what only a home knows.
            let errors = check_task(&task, NOW).err().unwrap_or_default();
            let known = |path: &str| path == "/deadline" || path.starts_with("/requires") || path == "/input";
            prop_assert!(errors.iter().all(|error| known(&error.path)), "{errors:?}");
        }
    }

    #[test]
    fn any_json_workflow_is_taken_or_refused(document in prop_oneof![8 => workflow(), 1 => value()]) {
        let parsed = bounded(document.to_string().len(), || parse_workflow(&document))?;
        if let Ok(workflow) = parsed {
            let errors = check_workflow(&workflow).err().unwrap_or_default();
            prop_assert!(errors.iter().all(|error| error.path.ends_with("/requires")), "{errors:?}");
        }
    }

    #[test]
    fn any_frame_is_taken_or_refused(bytes in frame()) {
        takes_frame(&bytes)?;
    }
}
