//! The bytes of every message, as nodes of this version and of those before wrote them.
//!
//! Each line of `golden/*.jsonl` is one message in JSON with its frame. `UPDATE_GOLDEN=1` writes frames that are missing;
//! one that is there is never written over. Where a message gets a field, its line goes to `golden/earlier/`, with the
//! message as it is read now, and a new line takes its place: nodes that write the old bytes are there for one version.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use magpie_core::queue::{
    ApprovalReply, ApprovalRequest, ContextRequest, LedgerReply, LedgerRequest, OutsideReply, OutsideRequest, Refusal,
    ScheduleReply, ScheduleRequest, UsageRequest, WorkerNotice,
};
use magpie_core::{limits, wire};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::access::{AccessReply, AccessRequest};
use super::actor::{ActorReply, ActorRequest};
use super::blob::{BlobReply, BlobRequest};
use super::cache::{CacheReply, CacheRequest};
use super::clock::{ClockReply, ClockRequest};
use super::device::{DeviceActorReply, DeviceActorRequest};
use super::mount::{MountReply, MountRequest};
use super::node::{NodeReply, NodeRequest};
use super::peer::{PeerReply, PeerRequest};
use super::registry::{RegistryReply, RegistryRequest};
use super::stream::{AttemptPiece, StreamReply, StreamRequest};
use super::tool::{ToolAsk, ToolReply, ToolRequest};
use super::worker::{WorkerReply, WorkerRequest};
use super::*;

#[derive(Serialize, Deserialize)]
struct Line {
    message: Value,
    #[serde(default)]
    frame: String,
}

impl Line {
    fn frame(&self) -> Vec<u8> {
        HEXLOWER.decode(self.frame.as_bytes()).expect("hexadecimal")
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/messages/golden")
}

fn lines(path: &str) -> Vec<Line> {
    let text = std::fs::read_to_string(folder().join(path)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn encoded<T: Serialize>(message: &T) -> Vec<u8> {
    wire::encode(message, limits::FRAME_BYTES_MAX).unwrap()
}

/// Reads and writes each message of a file as JSON and as bytes.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(path: &str) {
    let mut lines = lines(path);
    for line in &mut lines {
        let message: T =
            serde_json::from_value(line.message.clone()).unwrap_or_else(|error| panic!("{error}: {}", line.message));
        if line.frame.is_empty() && std::env::var_os("UPDATE_GOLDEN").is_some() {
            *line = Line { message: json!(message), frame: HEXLOWER.encode(&encoded(&message)) };
        }
        assert_eq!(json!(message), line.message, "a field has no meaning, or is missing");
        assert_eq!(HEXLOWER.encode(&encoded(&message)), line.frame, "other nodes know other bytes of {}", line.message);
        assert_eq!(wire::decode_frame::<T>(&line.frame()), Ok(message));
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect::<String>();
        std::fs::write(folder().join(path), text).unwrap();
    }
}

#[test]
fn requests_have_the_bytes_that_other_nodes_know() {
    check::<Envelope>("requests.jsonl");
}

#[test]
fn answers_have_the_bytes_that_other_nodes_know() {
    check::<ReplyEnvelope>("answers.jsonl");
}

fn check_earlier<T: DeserializeOwned + PartialEq + std::fmt::Debug>(path: &str) {
    for line in lines(path) {
        let message: T = serde_json::from_value(line.message.clone()).unwrap();
        assert_eq!(wire::decode_frame::<T>(&line.frame()), Ok(message));
    }
}

#[test]
fn the_bytes_of_earlier_versions_are_read() {
    check_earlier::<Envelope>("earlier/requests.jsonl");
    check_earlier::<ReplyEnvelope>("earlier/answers.jsonl");
}

/// What serde answers to a name that is none of `T`'s.
fn variants<T: DeserializeOwned>() -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<T>(json!("?")) else { panic!("`?` is a name of nothing") };
    let words = error.to_string();
    words.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

/// The names that follow the path of names `at` in the messages: in `{"a": {"b": 1}}`, `b` follows `a`.
fn named(messages: &[Value], at: &[&str]) -> BTreeSet<String> {
    let follow = |message: &Value| at.iter().try_fold(message.clone(), |inner, name| inner.get(name).cloned());
    let each = messages.iter().filter_map(follow).flat_map(|found| match found {
        Value::String(name) => vec![name],
        Value::Object(fields) => fields.into_iter().map(|(name, _)| name).collect(),
        _ => vec![],
    });
    each.collect()
}

#[test]
fn every_message_has_golden_bytes() {
    let of = |path| lines(path).into_iter().map(|line: Line| line.message).collect::<Vec<_>>();
    let (requests, answers) = (of("requests.jsonl"), of("answers.jsonl"));
    let asked = |at: &[&str], all: BTreeSet<String>| assert_eq!(named(&requests, at), all, "{at:?}");
    let answered = |at: &[&str], all: BTreeSet<String>| assert_eq!(named(&answers, at), all, "{at:?}");
    asked(&["body"], variants::<Body>());
    asked(&["body", "ledger"], variants::<LedgerRequest>());
    asked(&["body", "ledger", "schedule"], variants::<ScheduleRequest>());
    asked(&["body", "ledger", "outside"], variants::<OutsideRequest>());
    asked(&["body", "ledger", "context"], variants::<ContextRequest>());
    asked(&["body", "ledger", "approval"], variants::<ApprovalRequest>());
    asked(&["body", "ledger", "usage"], variants::<UsageRequest>());
    asked(&["body", "worker"], variants::<WorkerRequest>());
    asked(&["body", "worker", "notice", "notice"], variants::<WorkerNotice>());
    asked(&["body", "registry"], variants::<RegistryRequest>());
    asked(&["body", "clock"], variants::<ClockRequest>());
    asked(&["body", "device"], variants::<DeviceActorRequest>());
    asked(&["body", "blob"], variants::<BlobRequest>());
    asked(&["body", "actor"], variants::<ActorRequest>());
    asked(&["body", "node"], variants::<NodeRequest>());
    asked(&["body", "access"], variants::<AccessRequest>());
    asked(&["body", "peer"], variants::<PeerRequest>());
    asked(&["body", "cache"], variants::<CacheRequest>());
    asked(&["body", "mount"], variants::<MountRequest>());
    asked(&["body", "stream"], variants::<StreamRequest>());
    asked(&["body", "tool"], variants::<ToolRequest>());
    asked(&["body", "tool", "here"], variants::<ToolAsk>());
    asked(&["body", "tool", "at", "ask"], variants::<ToolAsk>());
    answered(&["answer"], variants::<Answer>());
    answered(&["answer", "ledger"], variants::<LedgerReply>());
    answered(&["answer", "ledger", "schedule"], variants::<ScheduleReply>());
    answered(&["answer", "ledger", "outside"], variants::<OutsideReply>());
    answered(&["answer", "ledger", "approval"], variants::<ApprovalReply>());
    answered(&["answer", "ledger", "refused"], variants::<Refusal>());
    answered(&["answer", "worker"], variants::<WorkerReply>());
    answered(&["answer", "registry"], variants::<RegistryReply>());
    answered(&["answer", "clock"], variants::<ClockReply>());
    answered(&["answer", "device"], variants::<DeviceActorReply>());
    answered(&["answer", "blob"], variants::<BlobReply>());
    answered(&["answer", "actor"], variants::<ActorReply>());
    answered(&["answer", "node"], variants::<NodeReply>());
    answered(&["answer", "access"], variants::<AccessReply>());
    answered(&["answer", "peer"], variants::<PeerReply>());
    answered(&["answer", "cache"], variants::<CacheReply>());
    answered(&["answer", "mount"], variants::<MountReply>());
    answered(&["answer", "stream"], variants::<StreamReply>());
    answered(&["answer", "tool"], variants::<ToolReply>());
    answered(&["answer", "stream", "attempt"], variants::<AttemptPiece>());
}

/// `value` with a field more in each of its structs. A map of one field may be a variant, which has one name.
fn with_unknown_fields(value: &mut rmpv::Value) {
    match value {
        rmpv::Value::Map(fields) => {
            fields.iter_mut().for_each(|(_, field)| with_unknown_fields(field));
            if fields.len() > 1 {
                fields.push(("of_a_later_version".into(), "7".into()));
            }
        }
        rmpv::Value::Array(items) => items.iter_mut().for_each(with_unknown_fields),
        _ => {}
    }
}

fn read_with_unknown_fields<T: DeserializeOwned>(path: &str) {
    for line in lines(path) {
        let mut value = wire::decode_frame::<rmpv::Value>(&line.frame()).unwrap();
        with_unknown_fields(&mut value);
        let frame = encoded(&value);
        assert!(wire::decode_frame::<T>(&frame).is_ok(), "{}", line.message);
    }
}

#[test]
fn fields_of_a_later_version_are_ignored_in_every_message() {
    read_with_unknown_fields::<Envelope>("requests.jsonl");
    read_with_unknown_fields::<ReplyEnvelope>("answers.jsonl");
}

/// What a message is called: the names on the way to what it says.
fn path_of(body: &Value) -> String {
    let mut names = Vec::new();
    let mut inner = body;
    // Requests stand at most three deep in each other: what stands below are fields.
    while let (Value::Object(fields), true) = (inner, names.len() < 3) {
        let [(name, next)] = fields.iter().collect::<Vec<_>>()[..] else { break };
        names.push(name.clone());
        inner = next;
    }
    if names.len() < 3 {
        names.extend(inner.as_str().map(str::to_owned));
    }
    names.join(" ")
}

/// Every message with who may say it, as `golden/roles.txt` has it: what a role may say is to change on purpose only.
#[test]
fn each_role_says_what_the_table_lets_it_and_nothing_else() {
    let mut rows = BTreeSet::new();
    for line in lines("requests.jsonl") {
        let envelope: Envelope = serde_json::from_value(line.message.clone()).unwrap();
        let roles = [Role::Peer, Role::Agent, Role::Operator];
        let may = roles.map(|role| if envelope.body.may_be_said_by(role).is_ok() { role.name() } else { "-" });
        rows.insert(format!("{}: {}", path_of(&line.message["body"]), may.join(" ")));
    }
    let table: String = rows.into_iter().map(|row| row + "\n").collect();
    let file = folder().join("roles.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &table).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(
        kept == table,
        "{} is not what the doors do; if that is meant, UPDATE_GOLDEN=1 writes it:\n{table}",
        file.display()
    );
}
