//! 20,000 generated specifications for each decoder: none ends in a panic, none takes more time or memory than its
//! size allows. A failing case prints its seed and the document.

use std::time::{Duration, Instant};

use magpie_core::dag::{check_task, check_workflow, parse_task, parse_workflow};
use magpie_core::ids::OperationId;
use magpie_core::queue::{LedgerRequest, SubmitItem};
use magpie_core::time::Wall;
use magpie_core::wire::{WIRE_VERSION, decode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::peak_of;

/// Seeds, and specifications made from each: a tree of strategies would take ten times as long as what it tests.
const SEEDS: u32 = 200;
const SPECS_PER_SEED: usize = 100;
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
    "${steps.s0.output}", "${input.x", "$${", "gpu.vram >= 16GiB && (model:minilm", "2026-11-28T00:00:00Z", "../a", "\0",
    "ä€𝄞", "",
];

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn text(&mut self) -> String {
        match self.below(10) {
            0 => "x".repeat(200 + self.below(200)),
            1 => (0..self.below(20)).filter_map(|_| char::from_u32(self.next() as u32 % 0x2_0000)).collect(),
            _ => TEXTS[self.below(TEXTS.len())].to_owned(),
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 12 } else { 16 }) {
            0 => Value::Null,
            1 => Value::from(self.next().is_multiple_of(2)),
            2 => Value::from(self.next() as i64),
            3 => Value::from(f64::from_bits(self.next())),
            4 | 5 => Value::from(self.below(2_000)),
            6..12 => Value::from(self.text()),
            12 | 13 => (0..self.below(6)).map(|_| self.value(depth - 1)).collect(),
            _ => Value::Object(self.object(depth - 1, 6)),
        }
    }

    fn object(&mut self, depth: usize, len: usize) -> Map<String, Value> {
        let len = self.below(len);
        (0..len).map(|_| (KEYS[self.below(KEYS.len())].to_owned(), self.value(depth))).collect()
    }

    /// Almost a task: a good kind more often than not, and some fields with anything in them.
    fn task(&mut self) -> Value {
        let mut fields = self.object(3, 7);
        let kind = match self.below(5) {
            0..3 => json!("noop"),
            3 => json!("process"),
            _ => self.value(1),
        };
        fields.insert("kind".to_owned(), kind);
        Value::Object(fields)
    }

    /// Almost a workflow: a few steps that need earlier ones, and in one of five any, themselves too.
    fn workflow(&mut self) -> Value {
        let mut fields = if self.below(2) == 0 { self.object(3, 4) } else { Map::new() };
        let steps = (0..self.below(6)).map(|n| {
            let mut step = if self.below(4) == 0 { self.task() } else { json!({"kind": "noop"}) };
            step["name"] = json!(format!("s{n}"));
            let needed = if self.below(5) == 0 { 6 } else { n };
            let count = self.below(3).min(needed);
            let needs: std::collections::BTreeSet<String> =
                (0..count).map(|_| format!("s{}", self.below(needed))).collect();
            step["needs"] = json!(needs);
            step
        });
        fields.insert("steps".to_owned(), steps.collect());
        fields.insert("name".to_owned(), json!("w"));
        Value::Object(fields)
    }

    /// A document, one in ten of any kind.
    fn document(&mut self, almost: fn(&mut Self) -> Value) -> Value {
        if self.below(10) == 0 { self.value(4) } else { almost(self) }
    }

    /// A frame as a peer sends it: as a node writes it where the document is good, else as the document stands; in one of
    /// two some bytes are changed.
    fn frame(&mut self) -> Vec<u8> {
        let operation = OperationId([7; 16]);
        let is_task = self.below(2) == 0;
        let document = if is_task { self.task() } else { self.workflow() };
        let request = match (is_task, parse_task(&document), parse_workflow(&document)) {
            (true, Ok(task), _) => {
                rmp_serde::to_vec_named(&LedgerRequest::Submit { operation, items: vec![SubmitItem::one(task)] })
            }
            (true, Err(_), _) => {
                rmp_serde::to_vec_named(&json!({"submit": {"operation": operation, "items": [{"spec": document}]}}))
            }
            (false, _, Ok(spec)) => {
                rmp_serde::to_vec_named(&LedgerRequest::SubmitWorkflow { operation, spec: spec.into() })
            }
            (false, _, Err(_)) => {
                rmp_serde::to_vec_named(&json!({"submit_workflow": {"operation": operation, "spec": document}}))
            }
        };
        let mut bytes = vec![WIRE_VERSION];
        bytes.extend(request.unwrap());
        for _ in 0..self.below(4).saturating_sub(1) {
            let place = self.below(bytes.len());
            bytes[place] = self.next() as u8;
        }
        bytes
    }
}

/// Runs a decoder over an input of so many bytes, within its bounds.
fn bounded<T>(len: usize, decode: impl FnOnce() -> T) -> Result<T, TestCaseError> {
    let start = Instant::now();
    let (decoded, bytes) = peak_of(decode);
    prop_assert!(bytes <= BYTES_MIN + BYTES_PER_BYTE * len, "{bytes} bytes for an input of {len}");
    prop_assert!(start.elapsed() < PATIENCE, "{:?} for an input of {len} bytes", start.elapsed());
    Ok(decoded)
}

/// Whether a frame was read as a request and its specification accepted.
fn takes(frame: &[u8]) -> bool {
    match decode::<LedgerRequest>(frame) {
        Ok(LedgerRequest::Submit { items, .. }) => items.iter().all(|item| check_task(&item.spec, NOW).is_ok()),
        Ok(LedgerRequest::SubmitWorkflow { spec, .. }) => check_workflow(&spec).is_ok(),
        Ok(_) | Err(_) => false,
    }
}

fn taken_of(seed: u64, mut take: impl FnMut(&mut Draw) -> Result<bool, TestCaseError>) -> Result<usize, TestCaseError> {
    let mut draw = Draw(seed);
    let mut taken = 0;
    for _ in 0..SPECS_PER_SEED {
        taken += usize::from(take(&mut draw)?);
    }
    Ok(taken)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: SEEDS, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn any_json_task_is_taken_or_refused(seed: u64) {
        let taken = taken_of(seed, |draw| {
            let document = draw.document(Draw::task);
            let parsed = bounded(document.to_string().len(), || parse_task(&document))?;
            if let Ok(task) = &parsed {
                // What the file's door lets in, the home's door refuses for what only a home knows.
                let errors = check_task(task, NOW).err().unwrap_or_default();
                let known = |path: &str| path == "/deadline" || path == "/requires" || path == "/input";
                prop_assert!(errors.iter().all(|error| known(&error.path)), "{errors:?} for {document}");
            }
            Ok(parsed.is_ok())
        })?;
        prop_assert!(taken > 0, "what is only refused tests little");
    }

    #[test]
    fn any_json_workflow_is_taken_or_refused(seed: u64) {
        let taken = taken_of(seed, |draw| {
            let document = draw.document(Draw::workflow);
            let parsed = bounded(document.to_string().len(), || parse_workflow(&document))?;
            if let Ok(workflow) = &parsed {
                let errors = check_workflow(workflow).err().unwrap_or_default();
                prop_assert!(errors.iter().all(|error| error.path.ends_with("/requires")), "{errors:?} for {document}");
            }
            Ok(parsed.is_ok())
        })?;
        prop_assert!(taken > 0, "what is only refused tests little");
    }

    #[test]
    fn any_frame_is_taken_or_refused(seed: u64) {
        let taken = taken_of(seed, |draw| {
            let frame = draw.frame();
            bounded(frame.len(), || takes(&frame))
        })?;
        prop_assert!(taken > 0, "what is only refused tests little");
    }
}
