//! Other MCP servers, mounted: a process with 370 tools beside a real node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use magpie::mcp::surface::SurfaceOptions;
use magpie_core::limits;
use serde_json::{Map, Value, json};

use crate::http::OPEN;
use crate::rig::{Rig, TestCaller, call, dispatcher, failed, ok};
use crate::wire::Request;

/// A node that mounts the server under the name `shop`, and the folder that the server keeps.
async fn mounting(more: &str) -> (Rig, PathBuf) {
    let mut state = PathBuf::new();
    let rig = Rig::start_with(|dir| format!("{OPEN}{}", shop(dir, &mut state, more))).await;
    until(&rig, |shop| shop["state"] == "up" && shop["tools"] == 370).await;
    (rig, state)
}

/// The lines that mount it, with `state` as the folder that it keeps.
pub fn shop(dir: &Path, state: &mut PathBuf, more: &str) -> String {
    *state = dir.join("shop");
    fs::create_dir(&*state).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/mounted_server.py");
    let command = format!("command = [\"python3\", \"-B\", {script:?}, {state:?}]");
    format!("[mcp.servers.shop]\n{command}\ndescription = \"a shop\"\n{more}")
}

/// How the server stands, once it stands so.
pub async fn until(rig: &Rig, stands: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let shop = ok(&rig.dispatcher, "mount_list", json!({})).await["servers"][0].clone();
        if stands(&shop) {
            return shop;
        }
        assert!(Instant::now() < deadline, "the server stands so: {shop}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn notes(state: &Path) -> String {
    fs::read_to_string(state.join("notes")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_tools_are_found_shown_and_called_as_the_nodes_own() {
    let (rig, _) = mounting("").await;
    let categories = ok(&rig.dispatcher, "tools_list_categories", json!({})).await;
    let shop = json!({"name": "shop", "description": "a shop", "tools": 370});
    assert!(categories["categories"].as_array().unwrap().contains(&shop), "{categories}");

    let listed = ok(&rig.dispatcher, "tools_list_tools", json!({"category": "shop"})).await;
    assert_eq!((listed["total"].clone(), listed["tools"].as_array().unwrap().len()), (json!(370), 20), "{listed}");
    assert_eq!(listed["tools"][0]["name"], "shop.list_accounts");

    let schemas = ok(&rig.dispatcher, "tools_get_schema", json!({"names": ["shop.echo", "list_peers"]})).await;
    assert_eq!(schemas["tools"][0]["input_schema"]["properties"]["text"]["type"], "string", "{schemas}");
    assert_eq!(schemas["tools"][0]["scope"], "read");
    assert_eq!(schemas["tools"][1]["name"], "list_peers");

    let said = json!({"tool": "create_invoices", "arguments": {"name": "one"}});
    let dispatch = json!({"name": "shop.create_invoices", "arguments": {"name": "one"}});
    let answer = ok(&rig.dispatcher, "tools_dispatch", dispatch.clone()).await;
    assert_eq!((&answer["result"], &answer["untrusted"]), (&said, &json!(["result"])), "{answer}");
    assert_eq!(failed(&rig.dispatcher, "tools_dispatch_read", dispatch).await["code"], "writes");
    assert_eq!(ok(&rig.dispatcher, "shop.echo", json!({"text": "x"})).await["result"]["arguments"]["text"], "x");

    let over_http = json!({"name": "shop.echo", "arguments": {"text": "y"}});
    let answer = Request::call("/mcp/readonly", "tools_dispatch_read", over_http).send(&rig.http).await.json();
    assert_eq!(answer["result"]["structuredContent"]["result"]["arguments"]["text"], "y", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_finds_each_of_370_tools_among_the_first_three_and_the_managers_list_stays_as_it_was() {
    let (rig, _) = mounting("").await;
    let alone = Rig::start_with(|_| OPEN.to_owned()).await;
    let mut lists = Vec::new();
    for base in [&rig.http, &alone.http] {
        lists.push(Request::rpc("/mcp", "tools/list", json!({})).send(base).await.json()["result"]["tools"].clone());
    }
    assert_eq!(lists[0], lists[1]);

    let mut names = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page =
            ok(&rig.dispatcher, "tools_list_tools", json!({"category": "shop", "detail": "name", "cursor": cursor}))
                .await;
        names.extend(page["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
        match page.get("next_cursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    let asked: Vec<(String, String)> = names.iter().filter_map(|name| Some((name.clone(), question(name)?))).collect();
    assert_eq!(asked.len(), 365);
    let mut missed = Vec::new();
    for (name, question) in &asked {
        let found = ok(&rig.dispatcher, "tools_list_tools", json!({"query": question})).await;
        let first: Vec<&Value> = found["tools"].as_array().unwrap().iter().take(3).map(|tool| &tool["name"]).collect();
        if !first.contains(&&json!(name)) {
            missed.push(format!("{question:?}: {first:?}"));
        }
    }
    assert!(missed.len() * 20 <= asked.len(), "{} of {}: {}", missed.len(), asked.len(), missed.join("\n"));
}

/// What somebody would ask who needs that tool, in other words than its name.
fn question(name: &str) -> Option<String> {
    let (verb, noun) = name.strip_prefix("shop.")?.split_once('_')?;
    let noun = noun
        .strip_suffix("ies")
        .map(|stem| format!("{stem}y"))
        .unwrap_or_else(|| noun.trim_end_matches('s').to_owned());
    Some(match verb {
        "list" => format!("show me all {noun} entries, the newest first"),
        "create" => format!("create a new {noun} with a name"),
        "delete" => format!("remove the {noun} for good"),
        "update" => format!("change a field of that {noun}"),
        "search" => format!("find the {noun} by some words"),
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_wrong_names_are_told_in_words() {
    let (rig, _) = mounting("calls = 1\nscope = \"operate\"\n").await;
    let error = failed(&rig.dispatcher, "shop.fail", json!({})).await;
    assert_eq!(error["code"], "tool_failed");
    assert!(error["message"].as_str().unwrap().contains("the moon is not in reach"), "{error}");
    let error = failed(&rig.dispatcher, "tools_dispatch", json!({"name": "shop.create_invoice"})).await;
    assert!(error["fix"].as_str().unwrap().contains("shop.create_invoices"), "{error}");
    let error = failed(&rig.dispatcher, "shed.echo", json!({})).await;
    assert!(error["message"].as_str().unwrap().contains("mounts no server"), "{error}");
    assert!(error["fix"].as_str().unwrap().contains("shop"), "{error}");

    let slow = json!({"name": "shop.slow", "arguments": {"seconds": 60}, "wait_ms": 0});
    let first = ok(&rig.dispatcher, "tools_dispatch", slow.clone()).await;
    let second = failed(&rig.dispatcher, "tools_dispatch", slow).await;
    assert_eq!((&first["done"], &second["code"]), (&json!(false), &json!("overloaded")), "{first} {second}");

    // Without a token one may read and submit; this server's writers need more.
    let writer = json!({"name": "shop.create_invoices", "arguments": {}});
    let answer = Request::call("/mcp", "tools_dispatch", writer).send(&rig.http).await.json();
    assert_eq!(answer["result"]["structuredContent"]["code"], "low_scope", "{answer}");
    let listed = json!({"category": "shop"});
    let answer = Request::call("/mcp", "tools_list_tools", listed).send(&rig.http).await.json();
    assert_eq!(answer["result"]["structuredContent"]["total"], 148, "lists, searches, echo and fail: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_goes_on_tells_how_far_it_is_and_ends_once() {
    let (rig, state) = mounting("").await;
    let slow = json!({"name": "shop.slow", "arguments": {"seconds": 6}, "wait_ms": 5_500});
    let caller = TestCaller::default();
    let arguments: Map<String, Value> = serde_json::from_value(slow).unwrap();
    let answer = rig.dispatcher.call("tools_dispatch", arguments, &caller).await.value;
    assert_eq!((&answer["done"], &answer["next"]["tool"]), (&json!(false), &json!("tools_dispatch_read")), "{answer}");
    assert!(answer["progress"].as_str().unwrap().contains("of 120: still at it"), "{answer}");
    assert!(caller.progress.lock().unwrap().iter().any(|(_, words)| words.contains("still at it")));
    let mut next = answer["next"].clone();
    loop {
        let answer = ok(&rig.dispatcher, "tools_dispatch_read", next["arguments"].clone()).await;
        if answer["done"] == true {
            assert_eq!(answer["result"]["tool"], "slow");
            break;
        }
        next = answer["next"].clone();
    }
    assert_eq!(notes(&state), "slept\n");

    // Somebody else's number is none.
    let foreign = json!({"name": "mount_wait", "arguments": next["arguments"]["arguments"]});
    let answer = Request::call("/mcp", "tools_dispatch_read", foreign).send(&rig.http).await.json();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_takes_the_call_along() {
    let (rig, state) = mounting("").await;
    let caller = TestCaller::default();
    let arguments: Map<String, Value> = serde_json::from_value(json!({"seconds": 600})).unwrap();
    let calling = rig.dispatcher.call("shop.slow", arguments, &caller);
    let going = async {
        until(&rig, |shop| shop["calls"] == 1).await;
        tokio::time::timeout(Duration::from_secs(60), async {
            while caller.progress.lock().unwrap().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        caller.gone.notify_one();
    };
    let (outcome, ()) = tokio::join!(calling, going);
    assert_eq!(outcome.value["code"], "cancelled", "{}", outcome.value);
    until(&rig, |shop| shop["calls"] == 0).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while notes(&state) != "cancelled\n" {
        assert!(Instant::now() < deadline, "the server was not told: {:?}", notes(&state));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_ends_is_started_again_and_says_meanwhile_why_it_is_down() {
    let (rig, state) = mounting("").await;
    fs::write(state.join("broken"), "").unwrap();
    let died = failed(&rig.dispatcher, "shop.die", json!({})).await;
    assert_eq!(died["code"], "server_failed", "{died}");
    let down = until(&rig, |shop| shop["restarts"].as_u64() > Some(1)).await;
    assert_eq!((&down["state"], &down["tools"]), (&json!("down"), &json!(370)));
    let error = failed(&rig.dispatcher, "shop.echo", json!({})).await;
    assert!(error["message"].as_str().unwrap().contains("the licence is over"), "{error}");
    assert_eq!(error["retryable"], true);
    // The rest of the node does not mind.
    assert!(!call(&rig.dispatcher, "p2p_taskqueue_status", json!({})).await.is_error);

    fs::remove_file(state.join("broken")).unwrap();
    until(&rig, |shop| shop["state"] == "up").await;
    assert_eq!(
        ok(&rig.dispatcher, "shop.echo", json!({"text": "again"})).await["result"]["arguments"]["text"],
        "again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_learns_is_offered_and_a_toolset_of_ours_has_none_of_it() {
    let (rig, _) = mounting("").await;
    ok(&rig.dispatcher, "shop.learn", json!({})).await;
    until(&rig, |shop| shop["tools"] == 371).await;
    let found = ok(&rig.dispatcher, "tools_list_tools", json!({"query": "juggle oranges"})).await;
    assert_eq!(found["tools"][0]["name"], "shop.juggle_oranges", "{found}");

    let options = SurfaceOptions { toolset: vec!["workflow".to_owned()], ..SurfaceOptions::default() };
    let narrow = dispatcher(&rig.socket(), &options);
    assert_eq!(failed(&narrow, "shop.echo", json!({})).await["code"], "unknown_tool");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_speaks_http_is_mounted_with_its_token_and_reached_again_after_it_was_away() {
    let (mut far, root) = crate::http::with_tokens_at(&free_address()).await;
    let url = format!("{}/mcp/full", far.http);
    let config = |dir: &Path| {
        let token = dir.join("token");
        fs::write(&token, format!("{root}\n")).unwrap();
        format!("[mcp.servers.far]\nurl = {url:?}\ntoken_file = {token:?}\ncalls = 4\n")
    };
    let rig = Rig::start_with(config).await;
    let up = until(&rig, |far| far["state"] == "up").await;
    assert!(up["tools"].as_u64().unwrap() > 50, "{up}");
    let submitted = json!({"name": "far.p2p_taskqueue_submit", "arguments": {"kind": "noop", "wait_ms": 20_000}});
    let answer = ok(&rig.dispatcher, "tools_dispatch", submitted.clone()).await;
    assert_eq!((&answer["result"]["status"], &answer["server"]), (&json!("completed"), &json!("far")), "{answer}");
    let wrong = failed(&rig.dispatcher, "far.p2p_taskqueue_get_task", json!({"task_id": "no id"})).await;
    assert_eq!(wrong["code"], "tool_failed", "{wrong}");

    let dispatch = json!({"name": "far.list_peers", "arguments": {}});
    let going = async {
        until(&rig, |far| far["state"] == "down").await;
    };
    let failing = async {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !call(&rig.dispatcher, "tools_dispatch_read", dispatch.clone()).await.is_error {
            assert!(Instant::now() < deadline, "it answers though it was killed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    far.kill();
    tokio::join!(going, failing);
    far.start_again().await;
    until(&rig, |far| far["state"] == "up").await;
    let answer = ok(&rig.dispatcher, "tools_dispatch", submitted).await;
    assert_eq!(answer["result"]["status"], "completed", "{answer}");
}

/// An address that nobody listens on just now.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Nobody knows whether the tool did what it was to do; only the caller may decide to call it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_the_end_of_the_node_interrupts_is_told_so_and_not_made_again() {
    let (mut rig, state) = mounting("").await;
    let calls = dispatcher(&rig.socket(), &SurfaceOptions::default());
    ok(&calls, "shop.echo", json!({})).await;
    let calling = tokio::spawn(async move { call(&calls, "shop.slow", json!({"seconds": 1})).await });
    until(&rig, |shop| shop["calls"] == 1).await;
    rig.kill();
    rig.start_again().await;
    let interrupted = calling.await.unwrap();
    assert_eq!((&interrupted.value["code"], &interrupted.value["retryable"]), (&json!("interrupted"), &json!(false)));
    until(&rig, |shop| shop["state"] == "up").await;
    ok(&rig.dispatcher, "shop.slow", json!({"seconds": 3})).await;
    assert_eq!(notes(&state), "slept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_came_up_is_told_as_down_and_not_as_without_tools() {
    let rig = Rig::start_with(|_| "[mcp.servers.gone]\ncommand = [\"/no/such/mcp\"]\n".to_owned()).await;
    until(&rig, |gone| gone["last_error"].is_string()).await;
    let error = failed(&rig.dispatcher, "gone.echo", json!({})).await;
    assert!(error["message"].as_str().unwrap().contains("cannot be started"), "{error}");
    assert_eq!(error["retryable"], true, "{error}");
}

/// A server that writes lines without an end once it was asked what it offers, and says how many.
const ENDLESS: &str = r#"
import json, os, pathlib, sys, threading
line = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}) + "\n"
def say(id, result):
    os.write(1, (json.dumps({"jsonrpc": "2.0", "id": id, "result": result}) + "\n").encode())
def write():
    for written in range(1, sys.maxsize):
        os.write(1, line.encode())
        if written % 100 == 0:
            os.write(2, b"I say it again\n")
            pathlib.Path(sys.argv[1]).write_text(f"{written:020}")
for request in map(json.loads, sys.stdin):
    if request["method"] == "initialize":
        version = request["params"]["protocolVersion"]
        server = {"name": "endless", "version": "1"}
        say(request["id"], {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server})
    elif request["method"] == "tools/list":
        say(request["id"], {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
        threading.Thread(target=write, daemon=True).start()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_writes_without_an_end_is_read_at_a_pace_and_the_node_goes_on() {
    let mut count = PathBuf::new();
    let rig = Rig::start_with(|dir| {
        count = dir.join("written");
        format!("[mcp.servers.endless]\ncommand = [\"python3\", \"-c\", '''{ENDLESS}''', {count:?}]\n")
    });
    let rig = rig.await;
    until(&rig, |endless| endless["state"] == "up").await;
    let written = || fs::read_to_string(&count).ok().and_then(|text| text.parse::<u64>().ok());
    let (began, mut first) = (Instant::now(), None);
    while began.elapsed() < Duration::from_secs(2) || first.is_none() {
        ok(&rig.dispatcher, "p2p_taskqueue_status", json!({})).await;
        first = first.or_else(written);
    }
    let lines = written().unwrap() - first.unwrap();
    // A line costs a KiB and what it has; what the pipe and the pace have in hand is a quarter of a second's.
    let at_most = limits::MOUNT_READ_BYTES_PER_S as f64 / limits::MOUNT_LINE_COST_BYTES as f64
        * (began.elapsed().as_secs_f64() + 1.0);
    assert!((1.0..at_most).contains(&(lines as f64)), "{lines} lines, at most {at_most}");
}
