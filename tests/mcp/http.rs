//! HTTP on the node: who is let in, which tools a path has, sessions, and that it is the same dispatcher.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie::actors::http::accept;
use magpie::client::ClientError;
use magpie::mcp::handler::BoxFuture;
use magpie::mcp::http::{HttpRules, HttpServer};
use magpie::mcp::link::Door;
use magpie::mcp::principal::Principal;
use magpie::mcp::server::McpServer;
use magpie::messages::audit::{AuditAsk, CallLine};
use magpie::messages::node::NodeRequest;
use magpie::messages::{Body, Role};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::rig::Rig;
use crate::wire::{Answer, Request};

pub const OPEN: &str = "[http]\nlisten = \"127.0.0.1:0\"\n";

async fn status(rig: &Rig, request: Request) -> u16 {
    request.send(&rig.http).await.status
}

/// The names that `tools/list` gives.
async fn listed(rig: &Rig, path: &str, token: &str) -> Vec<String> {
    let answer = Request::rpc(path, "tools/list", json!({})).token(token).send(&rig.http).await.json();
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

fn structured(answer: &Answer) -> Value {
    answer.json()["result"]["structuredContent"].clone()
}

fn run_ctl(rig: &Rig, arguments: &[&str]) -> Output {
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_nodectl"));
    ctl.args(["-o", "json", "--control"]).arg(rig.socket()).args(arguments).output().unwrap()
}

/// What `nodectl` says.
pub fn ctl(rig: &Rig, arguments: &[&str]) -> Value {
    let said = run_ctl(rig, arguments);
    assert!(said.status.success(), "{said:?}");
    serde_json::from_slice(&said.stdout).unwrap_or_default()
}

/// What `nodectl token bearer` says of the file that `http.tokens` names.
pub fn bearer(rig: &Rig, arguments: &[&str]) -> Value {
    let file = rig.tokens();
    ctl(rig, &[&["token", "bearer"], arguments, &["--file", file.to_str().unwrap()]].concat())
}

/// Sends it until it is answered so: what was done to the node shows in its own time.
pub async fn until(base: &str, status: u16, request: impl Fn() -> Request) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !request().try_send(base).await.is_ok_and(|answer| answer.status == status) {
        assert!(Instant::now() < deadline, "it is not answered with {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A token of that scope.
pub fn token(rig: &Rig, name: &str, scope: &str) -> String {
    let made = bearer(rig, &["add", name, "--scope", scope, "--expires", "1h"]);
    made["token"].as_str().unwrap().to_owned()
}

/// A node that asks for tokens; the first of them, of scope admin, is there at its start.
pub async fn with_tokens() -> (Rig, String) {
    with_tokens_at("127.0.0.1:0").await
}

/// The same, served there.
pub async fn with_tokens_at(listen: &str) -> (Rig, String) {
    let mut first = String::new();
    let config = |dir: &std::path::Path| {
        let file = dir.join("tokens.toml");
        let entry = magpie::mcp::http::tokens::TokenEntry::make("root", magpie::mcp::catalog::Scope::Admin, None);
        first = entry.0;
        magpie::mcp::http::tokens::TokenFile { token: vec![entry.1] }.write(&file).unwrap();
        format!("[http]\nlisten = {listen:?}\ntokens = {file:?}\n")
    };
    let rig = Rig::start_with(config).await;
    (rig, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_and_read_over_http() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let arguments = json!({"name": "p2p_taskqueue_submit", "arguments": {"kind": "noop", "wait_ms": 20_000}});
    let answer = Request::call("/mcp", "tools_dispatch", arguments).send(&rig.http).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let done = structured(&answer);
    assert_eq!(done["status"], "completed", "{done}");
    let read = json!({"task_id": done["task_id"]});
    let again = Request::call("/mcp/full/readonly", "p2p_taskqueue_get_task", read).send(&rig.http).await;
    assert_eq!(structured(&again)["task"]["state"], "succeeded", "{again:?}");
}

/// Answers that nobody read and requests that came in part: who repeats a call under its key has one task.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_replays_of_one_key_over_broken_connections_make_one_task() {
    fn request(n: usize) -> Request {
        let arguments = json!({"kind": "noop", "namespace": "replayed", "idempotency_key": "once", "wait_ms": n % 3});
        Request::call("/mcp/full", "p2p_taskqueue_submit", arguments)
    }
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    for hundred in 0..10 {
        let mut replays = tokio::task::JoinSet::new();
        for n in 0..100 {
            let base = rig.http.clone();
            replays.spawn(async move {
                match n % 4 {
                    0 => request(n).break_off(&base, hundred * 40 + n * 5).await,
                    1 | 2 => request(n).leave_early(&base).await,
                    _ => {
                        let answer = request(n).send(&base).await;
                        assert_eq!(structured(&answer)["ok"], true, "{answer:?}");
                    }
                }
            });
        }
        replays.join_all().await;
    }
    let first = structured(&request(0).send(&rig.http).await);
    let listed = json!({"namespace": "replayed"});
    let answer = Request::call("/mcp/full", "p2p_taskqueue_list_tasks", listed).send(&rig.http).await;
    let tasks = structured(&answer)["tasks"].clone();
    assert_eq!((tasks.as_array().map(Vec::len), &tasks[0]["task_id"]), (Some(1), &first["task_id"]), "{tasks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_path_has_its_tools_and_an_unknown_one_names_those_that_there_are() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let manager = listed(&rig, "/mcp", "").await;
    assert_eq!(manager.len(), 5);
    assert_eq!(listed(&rig, "/mcp/core", "").await.len(), 20);
    assert!(listed(&rig, "/mcp/full", "").await.len() > 15);
    let workflow = listed(&rig, "/mcp/x/workflow", "").await;
    assert!(workflow.contains(&"submit_p2p_workflow".to_owned()) && !workflow.contains(&"list_peers".to_owned()));
    let reading = listed(&rig, "/mcp/x/workflow/readonly", "").await;
    assert!(reading.contains(&"list_workflows".to_owned()) && !reading.contains(&"submit_p2p_workflow".to_owned()));
    let refused = Request::call("/mcp/readonly", "tools_dispatch", json!({"name": "p2p_taskqueue_submit"}));
    assert_eq!(structured(&refused.send(&rig.http).await)["code"], "read_only");
    let unknown = Request::rpc("/mcp/x/moon", "tools/list", json!({})).send(&rig.http).await;
    assert_eq!((unknown.status, unknown.json()["error"].as_str()), (404, Some("unknown_path")));
    assert!(unknown.json()["fix"].as_str().unwrap().contains("/mcp/x/workflow"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_hosts_and_origins_are_refused_on_every_path() {
    let rig =
        Rig::start_with(|_| format!("{OPEN}hosts = [\"mesh.example\"]\norigins = [\"https://mesh.example\"]\n")).await;
    for path in ["/mcp", "/mcp/full", "/.well-known/oauth-protected-resource", "/nowhere"] {
        let evil = Request::rpc(path, "tools/list", json!({})).header("host", "evil.example");
        assert_eq!(status(&rig, evil).await, 403, "{path}");
        let evil = Request::rpc(path, "tools/list", json!({})).header("origin", "http://evil.example");
        assert_eq!(status(&rig, evil).await, 403, "{path}");
    }
    let ours = Request::rpc("/mcp", "tools/list", json!({})).header("host", "mesh.example:1");
    assert_eq!(status(&rig, ours.header("origin", "http://localhost:3000")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_of_this_transport_is_refused_in_words() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let client = json!({"name": "x".repeat(70_000), "version": "1"});
    let long = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    let opens = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": long});
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    for (request, wanted) in [
        (Request::new("POST", "/mcp").json(&opens), 413),
        (Request::new("GET", "/sse"), 410),
        (Request::new("GET", "/mcp").header("accept", "text/event-stream"), 405),
        (Request::new("PUT", "/mcp"), 405),
        (Request::new("POST", "/mcp").body("{".to_owned()), 400),
        (Request::new("POST", "/mcp").body(format!("\"{}\"", "x".repeat(4 * 1024 * 1024))), 413),
        (Request::rpc("/mcp", "tools/list", json!({})).header("mcp-method", "tools/call"), 400),
        (Request::call("/mcp", "tools_get_schema", json!({})).header("mcp-name", "another"), 400),
        (Request::new("POST", "/mcp").json(&json!({})), 400),
        (Request::new("POST", "/mcp").json(&json!([])), 400),
        (
            Request::new("POST", "/mcp").json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": 5})),
            400,
        ),
        (Request::new("POST", "/mcp").json(&list), 400),
        (Request::new("POST", "/mcp").json(&list).header("mcp-protocol-version", "1999-01-01"), 400),
        (Request::rpc("/mcp", "tools/list", json!({})).header("accept", "application/json"), 406),
        (Request::rpc("/mcp", "tools/list", json!({})).header("content-type", "text/plain"), 415),
    ] {
        let answer = request.send(&rig.http).await;
        assert_eq!(answer.status, wanted, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
        let document = answer.json();
        let is_in_words = match document["jsonrpc"].as_str() {
            Some(_) => document["error"]["message"].is_string(),
            None => ["error", "message", "fix"].iter().all(|field| document[field].is_string()),
        };
        assert!(is_in_words, "{answer:?}");
    }
    let answer = Request::new("POST", "/mcp")
        .json(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": 5}))
        .send(&rig.http)
        .await;
    let document = answer.json();
    assert_eq!((&document["id"], &document["error"]["code"]), (&json!(1), &json!(-32_602)), "{answer:?}");
    let answer = Request::rpc("/mcp", "tools/call", json!({})).send(&rig.http).await;
    assert_eq!(answer.json()["error"]["code"], -32_602, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_the_earlier_era_is_opened_used_and_closed() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let opened = Request::opening("/mcp").send(&rig.http).await;
    assert_eq!(opened.json()["result"]["protocolVersion"], "2025-11-25", "{opened:?}");
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    let within = |method, id: &str| {
        Request::new(method, "/mcp").header("mcp-session-id", id).header("mcp-protocol-version", "2025-11-25")
    };
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(status(&rig, within("POST", &session).json(&ready)).await, 202);
    let list = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"});
    let tools = within("POST", &session).json(&list).send(&rig.http).await.json();
    assert_eq!(tools["result"]["tools"].as_array().map(Vec::len), Some(5), "{tools}");
    assert_eq!(status(&rig, within("POST", "another").json(&list)).await, 404);
    assert_eq!(status(&rig, within("DELETE", &session)).await, 202);
    assert_eq!(status(&rig, within("POST", &session).json(&list)).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_nobody_comes_in_and_is_told_where_to_read_more() {
    let (rig, root) = with_tokens().await;
    let list = || Request::rpc("/mcp", "tools/list", json!({}));
    for request in [list(), list().token("magpie_wrong"), list().header("authorization", "Basic eDp5")] {
        let refused = request.send(&rig.http).await;
        let challenge = refused.header("www-authenticate").unwrap();
        assert_eq!(refused.status, 401);
        assert!(challenge.starts_with("Bearer "), "{challenge}");
        assert!(challenge.contains("resource_metadata=\"http://localhost/.well-known/oauth-protected-resource\""));
    }
    let metadata = Request::new("GET", "/.well-known/oauth-protected-resource/mcp").send(&rig.http).await;
    let document = metadata.json();
    assert_eq!((metadata.status, &document["resource"]), (200, &json!("http://localhost/mcp")));
    assert_eq!(document["scopes_supported"], json!(["read", "submit", "operate", "admin"]));
    assert_eq!(status(&rig, list().token(&root)).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_bounds_what_is_listed_and_called_directly_and_by_dispatch() {
    let (rig, root) = with_tokens().await;
    let reader = token(&rig, "reader", "read");
    let submitter = token(&rig, "submitter", "submit");
    until(&rig.http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&submitter)).await;
    let all = listed(&rig, "/mcp/full", &root).await;
    let readable = listed(&rig, "/mcp/full", &reader).await;
    assert!(readable.len() < all.len() && !readable.contains(&"p2p_taskqueue_submit".to_owned()), "{readable:?}");
    let submit = || Request::call("/mcp/full", "p2p_taskqueue_submit", json!({"kind": "noop"}));
    let dispatched = json!({"name": "p2p_taskqueue_submit", "arguments": {"kind": "noop"}});
    for request in [submit(), Request::call("/mcp", "tools_dispatch", dispatched.clone())] {
        let refused = request.token(&reader).send(&rig.http).await;
        let challenge = refused.header("www-authenticate").unwrap();
        assert_eq!((refused.status, refused.json()["error"].as_str()), (403, Some("low_scope")));
        assert!(challenge.contains("error=\"insufficient_scope\", scope=\"submit\""), "{challenge}");
    }
    for request in [submit(), Request::call("/mcp", "tools_dispatch", dispatched)] {
        let answer = request.token(&submitter).send(&rig.http).await;
        assert_eq!(structured(&answer)["ok"], true, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_token_is_taken_out_of_the_file_is_out() {
    let (rig, _) = with_tokens().await;
    let guest = token(&rig, "guest", "read");
    until(&rig.http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&guest)).await;
    let listed = bearer(&rig, &["ls"]);
    let names: Vec<&Value> = listed["items"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
    assert_eq!(names, ["root", "guest"]);
    assert!(!listed.to_string().contains(&guest), "the file does not know the token");
    bearer(&rig, &["remove", "guest"]);
    until(&rig.http, 401, || Request::rpc("/mcp", "tools/list", json!({})).token(&guest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_an_audit_line_with_the_principal() {
    let (rig, root) = with_tokens().await;
    let reader = token(&rig, "reader", "read");
    until(&rig.http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&reader)).await;
    let refused = Request::call("/mcp/full", "queue_pause", json!({"secret": "s3"})).token(&reader);
    assert_eq!(status(&rig, refused).await, 403);
    assert_eq!(status(&rig, Request::call("/mcp/full", "queue_stats", json!({})).token(&reader)).await, 200);
    for words in ["token:reader queue_pause low_scope", "token:reader queue_stats ok"] {
        let deadline = Instant::now() + Duration::from_secs(60);
        // It is said beside the call, a moment later.
        let lines = loop {
            let search = Request::call("/mcp/full", "search_logs", json!({"query": words})).token(&root);
            let found = structured(&search.send(&rig.http).await)["lines"].clone();
            if found.as_array().is_some_and(|lines| !lines.is_empty()) {
                break found;
            }
            assert!(Instant::now() < deadline, "{words}: {found}");
        };
        assert_eq!(lines.as_array().map(Vec::len), Some(1), "{words}: {lines}");
        assert!(!lines.to_string().contains("s3"), "{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_listener_is_restarted_where_it_was() {
    let rig = Rig::start_with(|_| OPEN.to_owned()).await;
    let list = || Request::rpc("/mcp", "tools/list", json!({}));
    for _ in 0..2 {
        // Between two lives there is none to kill.
        let deadline = Instant::now() + Duration::from_secs(60);
        while !run_ctl(&rig, &["actor", "kill", "http"]).status.success() {
            assert!(Instant::now() < deadline, "it is not started again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    until(&rig.http, 200, list).await;
    assert_eq!(ctl(&rig, &["status"])["http"], json!(rig.http));
}

struct NoNode;

impl Door for NoNode {
    fn ask<'a>(
        &'a self,
        _: &'a Principal,
        _: Body,
        _: Duration,
    ) -> BoxFuture<'a, Result<magpie::messages::Answer, ClientError>> {
        Box::pin(async { Err(ClientError::Closed) })
    }

    fn record(&self, _: &Principal, _: CallLine) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_so_many_connections_the_next_is_told_to_come_back() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let base = listener.local_addr().unwrap().to_string();
    let server = HttpServer::new(McpServer::http, Arc::new(NoNode), &HttpRules::default()).unwrap();
    let accepting = tokio::spawn(accept(listener, Arc::new(server), 2));
    let list = || Request::rpc("/mcp", "tools/list", json!({}));
    let held = [TcpStream::connect(&base).await.unwrap(), TcpStream::connect(&base).await.unwrap()];
    until(&base, 503, list).await;
    drop(held);
    until(&base, 200, list).await;
    accepting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_of_the_token_that_opened_it() {
    let (rig, root) = with_tokens().await;
    let other = token(&rig, "other", "admin");
    until(&rig.http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&other)).await;
    let opened = Request::opening("/mcp").token(&root).send(&rig.http).await;
    let session = opened.header("mcp-session-id").unwrap();
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"});
    let within = |token| Request::new("POST", "/mcp").header("mcp-session-id", session).token(token).json(&ping);
    assert_eq!(status(&rig, within(&root)).await, 200);
    assert_eq!(status(&rig, within(&other)).await, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_does_not_start_where_it_could_not_serve() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (listen, more, words) in [
        (taken.local_addr().unwrap().to_string(), "", "HTTP cannot be served on"),
        ("0.0.0.0:0".to_owned(), "", "http.tokens"),
        ("0.0.0.0:0".to_owned(), "tokens = \"/nowhere/tokens.toml\"", "nodectl token bearer add"),
    ] {
        let config = dir.path().join("node.toml");
        let text =
            format!("mdns = false\nlisten = []\n[inference]\nenabled = false\n[http]\nlisten = \"{listen}\"\n{more}\n");
        std::fs::write(&config, text).unwrap();
        let ended = Command::new(env!("CARGO_BIN_EXE_node"))
            .args(["--config", config.to_str().unwrap(), "--data-dir"])
            .arg(dir.path().join("data"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success() && said.contains(words), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_kept_in_the_audit_by_their_token_and_for_operators_only() {
    let (rig, root) = with_tokens().await;
    let reader = token(&rig, "reader", "read");
    until(&rig.http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&reader)).await;
    let call = |token: &str, tool: &'static str| Request::call("/mcp/full", tool, json!({})).token(token);
    assert_eq!(status(&rig, call(&reader, "list_peers")).await, 200);
    assert_eq!(status(&rig, call(&reader, "queue_pause")).await, 403);
    assert_eq!(status(&rig, call(&root, "queue_pause")).await, 200);
    let deadline = Instant::now() + Duration::from_secs(60);
    let told = loop {
        let mut told = ctl(&rig, &["audit"])["items"].as_array().unwrap().clone();
        // The rig itself asked by the socket whether the node is there.
        told.retain(|call| call["principal"] != "local:node-mcp");
        if told.len() == 3 {
            break told;
        }
        assert!(Instant::now() < deadline, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let of = |call: &Value| ["principal", "called", "outcome"].map(|field| call[field].as_str().unwrap().to_owned());
    let expected = [
        ["token:reader", "list_peers", "ok"],
        ["token:reader", "queue_pause", "low_scope"],
        ["token:root", "queue_pause", "ok"],
    ];
    assert_eq!(told.iter().map(of).collect::<Vec<_>>(), expected.map(|call| call.map(str::to_owned)));
    let asked = Body::Node(NodeRequest::Audit(AuditAsk::default()));
    assert_eq!(asked.may_be_said_by(Role::Agent), Err(Role::Operator));
}
