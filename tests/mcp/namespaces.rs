//! Tokens of two namespaces: neither learns of the other's things, whatever tool it tries, nor changes them.

use std::time::{Duration, Instant};

use magpie::mcp::catalog::{Catalog, Reach, Tool};
use magpie_core::ids::ContentId;
use serde_json::{Value, json};

use crate::http::{bearer, with_tokens, with_tokens_at};
use crate::rig::Rig;
use crate::wire::Request;

/// In everything that the one writes, and in nothing that the other reads.
const MARK: &str = "of-the-books-alone";

pub struct Client<'a> {
    base: &'a str,
    token: String,
}

impl<'a> Client<'a> {
    pub fn of(rig: &'a Rig, name: &str, namespace: &str) -> Self {
        let made = bearer(rig, &["add", name, "--scope", "admin", "--namespace", namespace]);
        Self { base: &rig.http, token: made["token"].as_str().unwrap().to_owned() }
    }

    async fn rpc(&self, method: &str, params: Value) -> Value {
        let named = params.get("name").or_else(|| params.get("uri")).or_else(|| params.get("taskId"));
        let named = named.and_then(Value::as_str).unwrap_or_default().to_owned();
        let request = Request::rpc("/mcp/full", method, params).header("mcp-name", &named).token(&self.token);
        request.send(self.base).await.json()
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.rpc("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// The value of a call that succeeds.
    pub async fn ok(&self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer["result"]["isError"], false, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }

    pub async fn failed(&self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer["result"]["isError"], true, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// Calls until it succeeds: a new token is read within a second.
    pub async fn let_in(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.rpc("tools/list", json!({})).await["result"].is_null() {
            assert!(Instant::now() < deadline, "the token is not known");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Ids of things that there are, or of nothing.
struct Things {
    task: String,
    /// It has ended, and its output is in a blob.
    ended: String,
    failed: String,
    held: String,
    workflow: String,
    schedule: String,
    session: String,
    cid: String,
    key: &'static str,
}

impl Things {
    async fn made_by(ann: &Client<'_>) -> Self {
        let submit =
            async |spec: Value| ann.ok("p2p_taskqueue_submit", spec).await["task_id"].as_str().unwrap().to_owned();
        let named = json!({"name": MARK});
        let held = submit(json!({"kind": "tool", "input": {"secret": MARK}, "labels": named})).await;
        let taken = ann.ok("p2p_taskqueue_claim_next", json!({"worker_id": "agent-1", "kinds": ["tool"]})).await;
        assert_eq!(taken["task"]["task_id"], json!(held));
        let task = submit(json!({"kind": "tool", "input": {"secret": MARK}, "labels": named})).await;
        let program = format!("print('\"' + '{MARK}' * 8000 + '\"')");
        let ended = submit(json!({"kind": "process", "run": ["python3", "-c", program], "wait_ms": 25_000})).await;
        let fails = json!({"kind": "process", "run": ["sh", "-c", format!("echo {MARK} >&2; exit 7")],
            "retry": {"max_attempts": 1}, "wait_ms": 25_000});
        let failed = submit(fails).await;
        let steps = json!([{"name": "wait", "kind": "tool", "input": {"secret": MARK}}]);
        let workflow = ann.ok("submit_p2p_workflow", json!({"name": MARK, "steps": steps})).await;
        let session = ann.ok("state_update", json!({"values": {"goal": MARK}})).await;
        let timed = json!({"name": MARK, "cron": "0 3 1 1 *", "steps": [{"name": "wait", "kind": "tool"}]});
        let schedule = ann.ok("schedule_create", timed).await;
        let put = ann.ok("ipfs_add", json!({"text": format!("a file {MARK}")})).await;
        ann.ok("cache_put", json!({"key": "shared", "value": MARK})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (workflow, session) = (text(&workflow["workflow_id"]), text(&session["session_id"]));
        let (schedule, cid) = (text(&schedule["schedule_id"]), text(&put["cid"]));
        Self { task, ended, failed, held, workflow, schedule, session, cid, key: "shared" }
    }

    /// Of the same home and form, and of nothing.
    fn of_nothing(&self) -> Self {
        let nothing = |id: &str, digit: &str| format!("01JD8Y3Q0M4T5R6W7X8Y9Z0A1{digit}{}", &id[26..]);
        Self {
            task: nothing(&self.task, "1"),
            ended: nothing(&self.task, "2"),
            failed: nothing(&self.task, "3"),
            held: nothing(&self.task, "4"),
            workflow: nothing(&self.task, "5"),
            session: nothing(&self.task, "6"),
            schedule: nothing(&self.task, "7"),
            cid: ContentId::of(b"what nobody put").to_string(),
            key: "no-such-key",
        }
    }

    fn tasks(&self) -> [&str; 4] {
        [&self.task, &self.ended, &self.failed, &self.held]
    }

    fn ids(&self) -> Vec<&str> {
        self.tasks().into_iter().chain([self.workflow.as_str(), &self.schedule, &self.session, &self.cid]).collect()
    }
}

/// What an argument is given: one of the things, or what the example has. A new name must be put on one of the lists.
fn argument(name: &str, things: &Things, task: &str) -> Option<Value> {
    let lease = json!({"epoch": 4_294_967_297_u64, "token": "00112233445566778899aabbccddeeff"});
    match name {
        "task_id" | "approval_id" => Some(json!(task)),
        "workflow_id" => Some(json!(things.workflow)),
        "schedule_id" => Some(json!(things.schedule)),
        "session_id" => Some(json!(things.session)),
        "cid" => Some(json!(things.cid)),
        "key" => Some(json!(things.key)),
        "worker_id" => Some(json!("agent-1")),
        "lease" => Some(lease),
        "leases" => Some(json!([{"task_id": task, "epoch": lease["epoch"], "token": lease["token"]}])),
        "files" => Some(json!([{"path": "a", "cid": things.cid, "bytes": 25}])),
        // Of the one who calls, and the same for all.
        "address"
        | "approve"
        | "comment"
        | "arguments"
        | "available_hardware"
        | "backend"
        | "base64"
        | "bootstrap_nodes"
        | "bytes_max"
        | "call"
        | "catch_up"
        | "category"
        | "cron"
        | "dry_run"
        | "checkpoint"
        | "confirm"
        | "cursor"
        | "deadline"
        | "detail"
        | "durability"
        | "endpoint_id"
        | "error"
        | "filter"
        | "format"
        | "hardware"
        | "hardware_type"
        | "history_hours"
        | "idempotency_key"
        | "include_capabilities"
        | "include_history"
        | "include_peers"
        | "include_worker_stats"
        | "input"
        | "jitter"
        | "kind"
        | "kinds"
        | "labels"
        | "level"
        | "limit"
        | "max_concurrent_tasks"
        | "max_length"
        | "message"
        | "metrics"
        | "min_connections"
        | "mode"
        | "model"
        | "models"
        | "name"
        | "names"
        | "namespace"
        | "not_before"
        | "offset"
        | "on_fail"
        | "optimization_target"
        | "output_offset"
        | "outputs"
        | "overlap"
        | "payload"
        | "peer_id"
        | "prefix"
        | "priority"
        | "progress"
        | "query"
        | "reason"
        | "requires"
        | "result"
        | "retry"
        | "retryable"
        | "run"
        | "server"
        | "service"
        | "services"
        | "status"
        | "steps"
        | "tag"
        | "tags"
        | "task"
        | "tasks"
        | "test_mode"
        | "text"
        | "time_range"
        | "timeout"
        | "timeout_s"
        | "timezone"
        | "ttl_s"
        | "type"
        | "value"
        | "values"
        | "wait_ms"
        | "within_ms" => None,
        new => panic!("say here whether the argument {new} names something of a caller"),
    }
}

fn arguments(tool: &Tool, things: &Things, task: &str) -> Value {
    let mut arguments = tool.example();
    for name in tool.arguments() {
        if let Some(value) = argument(name, things, task) {
            arguments.insert(name.to_owned(), value);
        }
    }
    Value::Object(arguments)
}

/// Without what is of the asker or of the moment: ids that it got itself, its times.
fn comparable(answer: &Value, things: &Things) -> String {
    let mut text = answer.to_string();
    for id in things.ids() {
        text = text.replace(id, "ID");
    }
    let mut answer: Value = serde_json::from_str(&text.replace(things.key, "KEY")).unwrap();
    strip(&mut answer);
    answer.to_string()
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["uptime_ms", "timestamp", "cpu_slots_free", "text"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::String(text) => {
            let is_id = text.len() == 35 && text.as_bytes()[26] == b'-';
            let is_time = text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
            if is_time || is_id && text.starts_with("01M") {
                "OWN".clone_into(text);
            }
        }
        _ => {}
    }
}

fn assert_untold(answer: &Value, things: &Things, given: &Value, tool: &str) {
    let (text, given) = (answer.to_string(), given.to_string());
    assert!(!text.contains(MARK), "{tool}: {text}");
    for id in things.ids().into_iter().filter(|id| !given.contains(id)) {
        assert!(!text.contains(id), "{tool} tells {id}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tool_of_the_catalogue_tells_a_namespace_of_another_or_changes_what_is_there() {
    let (rig, _) = with_tokens().await;
    let (ann, bob) = (Client::of(&rig, "ann", "books"), Client::of(&rig, "bob", "films"));
    ann.let_in().await;
    bob.let_in().await;
    let theirs = Things::made_by(&ann).await;
    let nothing = theirs.of_nothing();
    let before = state_of(&ann, &theirs).await;
    let mut tried = 0;
    for tool in Catalog::shared().tools() {
        for (task, unknown) in theirs.tasks().into_iter().zip(nothing.tasks()) {
            let given = [arguments(tool, &theirs, task), arguments(tool, &nothing, unknown)];
            if tool.argument("dry_run").is_some() {
                tells_nothing(&bob, tool, given.clone().map(dry), [&theirs, &nothing]).await;
            }
            tells_nothing(&bob, tool, given, [&theirs, &nothing]).await;
            tried += 1;
            if tool.argument("task_id").is_none() && tool.argument("leases").is_none() {
                break;
            }
        }
    }
    assert!(tried > Catalog::shared().tools().len());
    assert_eq!(state_of(&ann, &theirs).await, before, "something of it was changed");
}

fn dry(mut arguments: Value) -> Value {
    arguments["dry_run"] = true.into();
    arguments
}

/// Whether a call about the one's things is answered as one about nothing.
async fn tells_nothing(bob: &Client<'_>, tool: &Tool, given: [Value; 2], [theirs, nothing]: [&Things; 2]) {
    let (name, [given, of_nothing]) = (tool.entry.name, given);
    let answer = bob.call(name, given.clone()).await;
    assert_untold(&answer, theirs, &given, name);
    let unknown = bob.call(name, of_nothing).await;
    let (told, expected) = (comparable(&answer, theirs), comparable(&unknown, nothing));
    assert_eq!(told, expected, "{name} tells what there is from what there is not");
    let is_refused = answer["result"]["structuredContent"]["code"] == "whole_node";
    // Those that call others are told what the others are.
    let calls_others = tool.argument("arguments").is_some();
    assert_eq!(is_refused, tool.entry.reach == Reach::Node || is_refused && calls_others, "{name}: {answer}");
}

/// All that there is of the things, as their owner sees it.
async fn state_of(ann: &Client<'_>, things: &Things) -> String {
    let mut all = Vec::new();
    for task in things.tasks() {
        let view = ann.ok("p2p_taskqueue_get_task", json!({"task_id": task})).await;
        all.push(json!([view["task"]["state"], view["task"]["priority"], view["task"]["error"]]));
    }
    let workflow = ann.ok("get_workflow_status", json!({"workflow_id": things.workflow})).await;
    all.push(workflow["state"].clone());
    let schedule = ann.ok("schedule_get", json!({"schedule_id": things.schedule})).await;
    all.push(json!([schedule["paused"], schedule["fired"], schedule["runs"]]));
    all.push(ann.ok("state_query", json!({"session_id": things.session})).await["values"].clone());
    all.push(ann.ok("cache_get", json!({"key": things.key})).await["value"].clone());
    all.push(ann.ok("ipfs_cat", json!({"cid": things.cid})).await["text"].clone());
    let status = ann.ok("p2p_taskqueue_status", json!({})).await;
    all.push(json!([status["states"], status["workflows_running"], status["namespace"]]));
    json!(all).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_completions_and_tasks_of_the_protocol_are_apart_too() {
    let (rig, _) = with_tokens().await;
    let (ann, bob) = (Client::of(&rig, "ann", "books"), Client::of(&rig, "bob", "films"));
    ann.let_in().await;
    bob.let_in().await;
    let theirs = Things::made_by(&ann).await;
    let nothing = theirs.of_nothing();
    let own = bob.ok("p2p_taskqueue_submit", json!({"kind": "tool"})).await["task_id"].clone();
    let uris = |things: &Things| {
        let Things { task, ended, workflow, session, .. } = things;
        [
            format!("task://{task}"),
            format!("logs://{ended}"),
            format!("workflow://{workflow}"),
            format!("workflow://{workflow}/graph"),
            format!("session://{session}"),
        ]
    };
    for (foreign, unknown) in uris(&theirs).into_iter().zip(uris(&nothing)) {
        let answer = bob.rpc("resources/read", json!({"uri": foreign})).await;
        let expected = bob.rpc("resources/read", json!({"uri": unknown})).await;
        assert!(answer["error"].is_object(), "{answer}");
        assert_eq!(comparable(&answer, &theirs), comparable(&expected, &nothing), "{foreign}");
        assert!(ann.rpc("resources/read", json!({"uri": foreign})).await["result"].is_object(), "{foreign}");
    }
    for uri in ["events://recent", "node://status"] {
        let answer = bob.rpc("resources/read", json!({"uri": uri})).await;
        assert!(answer["result"].is_object(), "{answer}");
        assert_untold(&answer, &theirs, &json!(null), uri);
    }
    let events = |answer: Value| answer["result"]["contents"][0]["text"].as_str().unwrap().to_owned();
    let (seen, mine) = (bob.rpc("resources/read", json!({"uri": "events://recent"})).await, own.as_str().unwrap());
    assert!(events(seen).contains(mine), "its own it sees");
    let (template, argument) =
        (json!({"type": "ref/resource", "uri": "task://{task_id}"}), json!({"name": "task_id", "value": ""}));
    let completed = bob.rpc("completion/complete", json!({"ref": template, "argument": argument})).await;
    assert_eq!(completed["result"]["completion"]["values"], json!([own]), "{completed}");
    for method in ["tasks/get", "tasks/cancel"] {
        let answer = bob.rpc(method, json!({"taskId": theirs.task})).await;
        let expected = bob.rpc(method, json!({"taskId": nothing.task})).await;
        assert_eq!(comparable(&answer, &theirs), comparable(&expected, &nothing), "{method}");
    }
    let view = ann.ok("p2p_taskqueue_get_task", json!({"task_id": theirs.task})).await;
    assert_eq!(view["task"]["state"], "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_goes_into_the_namespace_and_into_no_other() {
    let (rig, root) = with_tokens().await;
    let (ann, bob) = (Client::of(&rig, "ann", "books"), Client::of(&rig, "bob", "films"));
    ann.let_in().await;
    bob.let_in().await;
    for (tool, more) in [
        ("p2p_taskqueue_submit", json!({"kind": "noop"})),
        ("submit_p2p_workflow", json!({"name": "a", "steps": [{"name": "b", "kind": "noop"}]})),
        ("p2p_taskqueue_list_tasks", json!({})),
        ("queue_pause", json!({"reason": "r"})),
    ] {
        for foreign in ["films", "default"] {
            let mut arguments = more.clone();
            arguments["namespace"] = foreign.into();
            let refused = ann.failed(tool, arguments).await;
            assert_eq!(
                (&refused["field"], &refused["expected"]),
                (&json!("namespace"), &json!("\"books\"")),
                "{refused}"
            );
        }
    }
    let keyed = json!({"kind": "noop", "idempotency_key": "once"});
    let (one, two) = (ann.ok("p2p_taskqueue_submit", keyed.clone()).await, bob.ok("p2p_taskqueue_submit", keyed).await);
    assert_ne!(one["task_id"], two["task_id"], "a key is its namespace's");
    let root = Client { base: &rig.http, token: root };
    let view = root.ok("p2p_taskqueue_get_task", json!({"task_id": one["task_id"], "detail": "full"})).await;
    assert_eq!(view["task"]["namespace"], "books", "who is kept to nothing sees all");
    let listed = ann.ok("p2p_taskqueue_list_tasks", json!({})).await;
    assert_eq!((&listed["count"], &listed["total"]), (&json!(1), &json!(1)), "{listed}");
    ann.ok("queue_pause", json!({"reason": "r"})).await;
    let goes_on = bob.ok("p2p_taskqueue_submit", json!({"kind": "noop", "wait_ms": 25_000})).await;
    assert_eq!(goes_on["status"], "completed", "its queue is not paused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_is_read_by_who_put_it_or_whose_task_gave_it_also_after_a_restart() {
    let (mut rig, _) = with_tokens_at("127.0.0.1:0").await;
    let tokens = {
        let (ann, bob) = (Client::of(&rig, "ann", "books"), Client::of(&rig, "bob", "films"));
        ann.let_in().await;
        bob.let_in().await;
        [ann.token, bob.token]
    };
    let [ann, bob] = tokens.clone().map(|token| Client { base: &rig.http, token });
    let put = ann.ok("ipfs_add", json!({"text": "known to both"})).await["cid"].clone();
    let program = "print('\"' + 'x' * 70000 + '\"')";
    let run = json!({"kind": "process", "run": ["python3", "-c", program], "wait_ms": 25_000});
    let done = ann.ok("p2p_taskqueue_submit", run).await;
    assert_eq!(done["status"], "completed", "{done}");
    let part = ann.ok("p2p_taskqueue_get_task", json!({"task_id": done["task_id"], "output_offset": 60_000})).await;
    assert!(part["task"]["output_part"]["text"].as_str().unwrap().contains("xxx"), "{part}");
    let file = json!([{"path": "a", "cid": put, "bytes": 13}]);
    let theirs = bob.failed("p2p_taskqueue_submit", json!({"kind": "process", "run": ["sh"], "files": file})).await;
    assert_eq!((&theirs["code"], &theirs["field"]), (&json!("invalid"), &json!("files")), "{theirs}");
    assert_eq!(bob.failed("ipfs_cat", json!({"cid": put})).await["code"], "not_found");
    drop((ann, bob));
    rig.crash().await;
    let [ann, bob] = tokens.map(|token| Client { base: &rig.http, token });
    assert_eq!(ann.ok("ipfs_cat", json!({"cid": put})).await["text"], "known to both");
    assert_eq!(bob.failed("ipfs_cat", json!({"cid": put})).await["code"], "not_found");
    assert_eq!(bob.ok("ipfs_add", json!({"text": "known to both"})).await["cid"], put);
    assert_eq!(bob.ok("ipfs_cat", json!({"cid": put})).await["text"], "known to both", "now it has it, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_holds_for_what_lives_at_another_node() {
    let (home, _) = with_tokens().await;
    let other = Rig::start_beside(&home, |dir| {
        let file = dir.join("tokens.toml");
        magpie::mcp::http::tokens::TokenFile::default().write(&file).unwrap();
        format!("[http]\nlisten = \"127.0.0.1:0\"\ntokens = {file:?}\n")
    })
    .await;
    let ann = Client::of(&home, "ann", "books");
    let (near, far) = (Client::of(&other, "bob", "films"), Client::of(&other, "ann", "books"));
    for client in [&ann, &near, &far] {
        client.let_in().await;
    }
    let theirs = Things::made_by(&ann).await;
    let nothing = theirs.of_nothing();
    let seen = far.ok("p2p_taskqueue_get_task", json!({"task_id": theirs.task})).await;
    assert_eq!(seen["task"]["state"], "ready", "a namespace is one in the whole mesh");
    for (tool, of) in [
        ("p2p_taskqueue_get_task", "task_id"),
        ("p2p_taskqueue_cancel", "task_id"),
        ("p2p_taskqueue_priority", "task_id"),
        ("get_workflow_status", "workflow_id"),
        ("cancel_workflow", "workflow_id"),
        ("state_query", "session_id"),
    ] {
        let named = |things: &Things| match of {
            "workflow_id" => things.workflow.clone(),
            "session_id" => things.session.clone(),
            _ => things.task.clone(),
        };
        let asked = |things: &Things| {
            let mut asked = json!({of: named(things)});
            if tool == "p2p_taskqueue_priority" {
                asked["priority"] = json!(3);
            }
            asked
        };
        let answer = near.call(tool, asked(&theirs)).await;
        let expected = near.call(tool, asked(&nothing)).await;
        assert_eq!(answer["result"]["isError"], true, "{tool}: {answer}");
        assert_eq!(comparable(&answer, &theirs), comparable(&expected, &nothing), "{tool}");
    }
    let seen = ann.ok("p2p_taskqueue_get_task", json!({"task_id": theirs.task})).await;
    assert_eq!(seen["task"]["state"], "ready");
}
