//! Calls of tools at another node: two real nodes, one of which may mount a server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use magpie::messages::audit::{AuditAsk, CallLine};
use magpie::messages::node::{NodeReply, NodeRequest};
use magpie::messages::{Answer, Body};
use serde_json::{Map, Value, json};

use crate::http::{OPEN, with_tokens};
use crate::mounted::{notes, shop, until};
use crate::namespaces::Client;
use crate::rig::{Rig, TestCaller, call, failed, ok};
use crate::wire::Request;

async fn peer_id(rig: &Rig) -> String {
    rig.status().await.peer_id.to_string()
}

/// A node, and one beside it with more in its configuration, whose id comes along.
async fn two(more: &str) -> (Rig, Rig, String) {
    let near = Rig::start_with(|_| OPEN.to_owned()).await;
    let far = Rig::start_beside(&near, |_| more.to_owned()).await;
    let id = peer_id(&far).await;
    until_alive(&near, &id).await;
    (near, far, id)
}

/// The same, of which the far one mounts the server of 370 tools; and the folder that the server keeps.
async fn two_with_shop() -> (Rig, Rig, String, PathBuf) {
    let near = Rig::start().await;
    let mut state = PathBuf::new();
    let far = Rig::start_beside(&near, |dir| shop(dir, &mut state, "calls = 64\n")).await;
    until(&far, |shop| shop["state"] == "up" && shop["tools"] == 370).await;
    let id = peer_id(&far).await;
    until_alive(&near, &id).await;
    (near, far, id, state)
}

async fn until_alive(rig: &Rig, id: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !rig.status().await.peers.iter().any(|peer| peer.peer_id.to_string() == id && peer.state == "alive") {
        assert!(Instant::now() < deadline, "it does not see the other");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A call of that tool at that node.
fn at(id: &str, name: &str, arguments: Value) -> Value {
    json!({"peer_id": id, "name": name, "arguments": arguments})
}

const CALL: &str = "p2p_taskqueue_call_tool";

/// The calls of that tool that the node remembers, once there are so many.
async fn audited(rig: &Rig, tool: &str, count: usize) -> Vec<CallLine> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ask = AuditAsk { tool: Some(tool.to_owned()), limit: 100, ..AuditAsk::default() };
        let told = rig.dispatcher.link.ask(Body::Node(NodeRequest::Audit(ask)), Duration::from_secs(10)).await;
        let Ok(Answer::Node(NodeReply::Audit(found))) = told else { panic!("{told:?}") };
        if found.calls.len() >= count {
            return found.calls;
        }
        assert!(Instant::now() < deadline, "of {tool} is told: {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_runs_at_the_node_that_is_named_and_each_audit_has_one_line() {
    let (near, far, id) = two("").await;
    let shown = ok(&near.dispatcher, CALL, at(&id, "p2p_taskqueue_status", json!({}))).await;
    assert_eq!((&shown["peer_id"], &shown["tool"]), (&json!(id), &json!("p2p_taskqueue_status")), "{shown}");
    assert_eq!(shown["result"]["peer_id"], json!(id), "{shown}");
    let own = peer_id(&near).await;
    for address in [own.clone(), format!("/ip4/127.0.0.1/tcp/1/p2p/{own}")] {
        let shown = ok(&near.dispatcher, CALL, at(&address, "p2p_taskqueue_status", json!({}))).await;
        assert_eq!(shown["result"]["peer_id"], json!(own), "this node may be named, too");
    }

    // The manager's tools lead there as well, and the work is the other home's.
    let submit = at(&id, "p2p_taskqueue_submit", json!({"kind": "sleep", "input": "2s"}));
    let dispatch = json!({"name": CALL, "arguments": submit, "idempotency_key": "k"});
    let submitted = ok(&near.dispatcher, "tools_dispatch", dispatch.clone()).await;
    let next = submitted["next"].clone();
    assert_eq!((&next["tool"], &next["arguments"]["name"]), (&json!("tools_dispatch"), &json!(CALL)), "{submitted}");
    let done = ok(&near.dispatcher, "tools_dispatch", next["arguments"].clone()).await;
    assert_eq!(done["result"]["status"], "completed", "{done}");
    let again = ok(&near.dispatcher, "tools_dispatch", dispatch).await;
    assert_eq!(again["handle"], submitted["handle"], "the key is the call's there");
    let task = json!({"task_id": submitted["handle"]});
    assert_eq!(ok(&far.dispatcher, "p2p_taskqueue_get_task", task).await["task"]["status"], "completed");

    let (here, there) =
        (audited(&near, "p2p_taskqueue_submit", 2).await, audited(&far, "p2p_taskqueue_submit", 2).await);
    assert_eq!((here.len(), there.len()), (2, 2), "{here:?} {there:?}");
    let told = (&*there[0].principal, &*there[0].client, &*there[0].outcome);
    assert_eq!(told, (&*format!("peer:{own}"), "test", "ok"), "{there:?}");
    let traces = |lines: &[CallLine]| lines.iter().map(|line| line.trace.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(traces(&here), traces(&there));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_there_is_told_with_its_code_and_what_goes_on_there() {
    let (near, _far, id) = two("").await;
    let misspelt = failed(&near.dispatcher, CALL, at(&id, "p2p_taskqueue_get_tusk", json!({}))).await;
    assert_eq!((&misspelt["code"], &misspelt["peer_id"]), (&json!("unknown_tool"), &json!(id)), "{misspelt}");
    assert_eq!(misspelt["next"]["arguments"]["arguments"]["peer_id"], json!(id), "{misspelt}");
    let wrong = failed(&near.dispatcher, CALL, at(&id, "p2p_taskqueue_submit", json!({"kind": 7}))).await;
    assert_eq!((&wrong["code"], &wrong["field"]), (&json!("wrong_argument"), &json!("kind")), "{wrong}");

    for (name, arguments, code) in [
        ("tools_dispatch", json!({"name": "list_peers"}), "not_dispatched"),
        (CALL, json!({"name": "list_peers"}), "not_dispatched"),
    ] {
        assert_eq!(failed(&near.dispatcher, CALL, at(&id, name, arguments)).await["code"], code, "{name}");
    }
    let late = failed(&near.dispatcher, CALL, json!({"peer_id": id, "name": "list_peers", "timeout_s": -1})).await;
    assert_eq!((&late["code"], &late["field"]), (&json!("wrong_argument"), &json!("timeout_s")));
    let large = json!({"text": "x".repeat(300_000)});
    assert_eq!(failed(&near.dispatcher, CALL, at(&id, "ipfs_add", large)).await["code"], "too_large");
    let nobody = failed(&near.dispatcher, CALL, at("somebody", "list_peers", json!({}))).await;
    assert_eq!((&nobody["code"], &nobody["field"]), (&json!("wrong_argument"), &json!("peer_id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_may_do_more_than_its_caller_nor_than_the_other_node_lets_others() {
    let (near, _far, id) = two("").await;
    let pause = at(&id, "queue_pause", json!({}));
    let refused = failed(&near.dispatcher, CALL, pause.clone()).await;
    assert_eq!(refused["code"], "low_scope", "{refused}");
    assert!(refused["fix"].as_str().unwrap().contains("peer_scope"), "{refused}");
    // Without a token one may read and submit, whatever the other node lets others do.
    let answer = Request::call("/mcp/full", CALL, pause).send(&near.http).await;
    assert_eq!(answer.status, 403);
    let answer = Request::call("/mcp/full/readonly", CALL, at(&id, "list_peers", json!({}))).send(&near.http).await;
    assert_eq!(answer.json()["result"]["structuredContent"]["code"], "read_only");
    // A surface of one category leads to no other, there neither.
    let answer = Request::call("/mcp/x/taskqueue", CALL, at(&id, "cache_stats", json!({}))).send(&near.http).await;
    assert_eq!(answer.json()["result"]["structuredContent"]["code"], "not_in_toolset");

    let (near, _far, id) = two("[mcp]\npeer_scope = \"operate\"\n").await;
    let paused = ok(&near.dispatcher, CALL, at(&id, "queue_pause", json!({}))).await;
    assert_eq!(paused["result"]["ok"], true, "{paused}");

    let (near, _far, id) = two("[mcp]\npeer_scope = \"off\"\n").await;
    let refused = failed(&near.dispatcher, CALL, at(&id, "list_peers", json!({}))).await;
    assert_eq!(refused["code"], "peer_calls_off", "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_another_node_mounts_is_found_and_called() {
    let (near, far, id, _) = two_with_shop().await;
    let echo = json!({"name": "shop.echo", "arguments": {"text": "x"}});
    let told = failed(&near.dispatcher, "tools_dispatch", echo.clone()).await;
    assert!(told["message"].as_str().unwrap().contains("mounts no server"), "{told}");
    assert!(told["fix"].as_str().unwrap().contains(&id), "{told}");
    let followed = ok(&near.dispatcher, "tools_dispatch", told["next"]["arguments"].clone()).await;
    assert_eq!(followed["result"]["result"]["arguments"]["text"], "x", "{followed}");
    assert_eq!(followed["untrusted"], json!(["result.result"]), "{followed}");

    let auto = json!({"peer_id": "auto", "name": "shop.echo", "arguments": {"text": "y"}});
    let there = ok(&near.dispatcher, CALL, auto.clone()).await;
    assert_eq!((&there["peer_id"], &there["result"]["result"]["arguments"]["text"]), (&json!(id), &json!("y")));
    let here = ok(&far.dispatcher, CALL, auto).await;
    assert_eq!((&here["server"], &here["result"]["arguments"]["text"]), (&json!("shop"), &json!("y")), "{here}");
    let own = ok(&near.dispatcher, CALL, json!({"peer_id": "auto", "name": "p2p_taskqueue_status"})).await;
    assert_eq!(own["peer_id"], json!(peer_id(&near).await), "every node has the tools that are no server's");
    let nowhere = failed(&near.dispatcher, CALL, json!({"peer_id": "auto", "name": "shed.echo"})).await;
    assert_eq!(nowhere["code"], "not_mounted", "{nowhere}");

    let listed = ok(&near.dispatcher, CALL, at(&id, "tools_list_tools", json!({"query": "create invoices"}))).await;
    assert_eq!(listed["result"]["tools"][0]["name"], "shop.create_invoices", "{listed}");
    let failed_there = failed(&near.dispatcher, CALL, at(&id, "shop.fail", json!({}))).await;
    assert_eq!(failed_there["code"], "tool_failed", "{failed_there}");

    let peer = counted(&near, "peer", 5).await;
    assert_eq!(peer["errors"], 2, "not mounted anywhere, and failed there: {peer}");
    let ms = |name: &str| peer[name].as_f64().unwrap_or_default();
    assert!(0.0 < ms("p50_ms") && ms("p50_ms") <= ms("p95_ms") && ms("p95_ms") <= ms("p99_ms"), "{peer}");
    let mounted = counted(&far, "mounted", 4).await;
    assert_eq!(mounted["errors"], 1, "{mounted}");
}

/// What the node counted of one route, once it heard of so many calls.
async fn counted(rig: &Rig, name: &str, calls: u64) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let status = ok(&rig.dispatcher, "get_system_status", json!({})).await;
        let route = status["routes"].as_array().unwrap().iter().find(|route| route["route"] == name).unwrap().clone();
        if route["calls"] == calls {
            return route;
        }
        assert!(Instant::now() < deadline, "{calls} calls are not counted: {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_from_another_node_goes_no_further() {
    let (near, _far, id) = two("").await;
    // What the near node would refuse itself, a node of another version might send.
    let own = peer_id(&near).await;
    let onward = json!({"peer_id": own, "name": "list_peers"});
    let call = magpie::messages::tool::ToolCall {
        principal: "test".to_owned(),
        scope: "submit".to_owned(),
        name: CALL.to_owned(),
        arguments: magpie_core::payload::JsonText::of(&onward),
        deadline_ms: 10_000,
        trace: "0".repeat(32),
    };
    let ask = magpie::messages::tool::ToolAsk::Call {
        call: magpie_core::ids::OperationId([7; 16]),
        wait_ms: 5_000,
        of: Box::new(call),
    };
    let told = near.dispatcher.link.tool_at(id.parse().unwrap(), ask).await.unwrap();
    let magpie::messages::tool::ToolReply::Ended { value, is_error } = told else { panic!("{told:?}") };
    assert_eq!((&value.to_value()["code"], is_error), (&json!("goes_no_further"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_call_is_handed_on_in_time_and_a_caller_who_goes_takes_it_along() {
    let (near, far, id, state) = two_with_shop().await;
    let slow = json!({"peer_id": id, "name": "shop.slow", "arguments": {"seconds": 4}, "timeout_s": 1.5});
    let began = Instant::now();
    let goes_on = ok(&near.dispatcher, CALL, slow).await;
    assert!(began.elapsed() < Duration::from_millis(3_500), "{:?}", began.elapsed());
    let next = &goes_on["next"]["arguments"]["arguments"];
    assert_eq!((&goes_on["result"]["done"], &next["name"]), (&json!(false), &json!("mount_wait")), "{goes_on}");
    let ended = ok(&near.dispatcher, "tools_dispatch", goes_on["next"]["arguments"].clone()).await;
    assert_eq!(ended["result"]["result"]["tool"], "slow", "{ended}");

    let caller = TestCaller::default();
    let arguments: Map<String, Value> = serde_json::from_value(at(&id, "shop.slow", json!({"seconds": 600}))).unwrap();
    let calling = near.dispatcher.call(CALL, arguments, &caller);
    let going = async {
        tokio::time::timeout(Duration::from_secs(60), async {
            while !caller.progress.lock().unwrap().iter().any(|(_, words)| words.contains("still at it")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .unwrap();
        caller.gone.notify_one();
    };
    let (outcome, ()) = tokio::join!(calling, going);
    assert_eq!(outcome.value["code"], "cancelled", "{}", outcome.value);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !notes(&state).contains("cancelled\n") {
        assert!(Instant::now() < deadline, "the server was not told: {:?}", notes(&state));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!call(&far.dispatcher, "shop.echo", json!({})).await.is_error);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_has_so_many_calls_at_another_at_a_time_and_no_more() {
    let (near, far, id, _) = two_with_shop().await;
    let slow = at(&id, "shop.slow", json!({"seconds": 600}));
    let calls: Vec<_> = (0..magpie_core::limits::PEER_CALLS_PER_PEER_MAX)
        .map(|_| {
            let link = crate::rig::dispatcher(&near.socket(), &Default::default());
            let slow = slow.clone();
            tokio::spawn(async move { call(&link, CALL, slow).await })
        })
        .collect();
    until(&far, |shop| shop["calls"] == magpie_core::limits::PEER_CALLS_PER_PEER_MAX).await;
    let refused = failed(&near.dispatcher, CALL, at(&id, "list_peers", json!({}))).await;
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("overloaded"), &json!(true)), "{refused}");
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_during_a_call_leaves_it_interrupted_and_is_unreachable_then() {
    let (near, mut far, id, state) = two_with_shop().await;
    let dispatcher = crate::rig::dispatcher(&near.socket(), &Default::default());
    let slow = at(&id, "shop.slow", json!({"seconds": 20}));
    let calling = tokio::spawn(async move { call(&dispatcher, CALL, slow).await });
    until(&far, |shop| shop["calls"] == 1).await;
    far.kill();
    let interrupted = calling.await.unwrap().value;
    assert_eq!((&interrupted["code"], &interrupted["retryable"]), (&json!("interrupted"), &json!(false)));
    let away = failed(&near.dispatcher, CALL, at(&id, "list_peers", json!({}))).await;
    assert_eq!((&away["code"], &away["retryable"]), (&json!("peer_unreachable"), &json!(true)), "{away}");
    assert!(away["fix"].as_str().unwrap().contains("nothing was called"), "{away}");

    far.start_again().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while call(&near.dispatcher, CALL, at(&id, "list_peers", json!({}))).await.is_error {
        assert!(Instant::now() < deadline, "it stays unreachable");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(notes(&state), "", "the call was not made again");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_to_a_namespace_is_kept_to_it_at_another_node_too() {
    let (near, _) = with_tokens().await;
    let far = Rig::start_beside(&near, |_| String::new()).await;
    let id = peer_id(&far).await;
    until_alive(&near, &id).await;
    let ann = Client::of(&near, "ann", "books");
    ann.let_in().await;
    let there = async |tool: &str, arguments: Value| ann.ok(CALL, at(&id, tool, arguments)).await["result"].clone();
    let waiting = json!({"kind": "tool", "input": 1});
    let foreign = ok(&far.dispatcher, "p2p_taskqueue_submit", waiting.clone()).await["task_id"].clone();
    let own = there("p2p_taskqueue_submit", waiting).await["task_id"].clone();
    let seen = ok(&far.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": own, "detail": "full"})).await;
    let task = &seen["task"];
    assert_eq!((&task["namespace"], &task["owner"]), (&json!("books"), &json!("token:ann@books")), "{seen}");
    let listed = there("p2p_taskqueue_list_tasks", json!({})).await;
    let ids: Vec<&Value> = listed["tasks"].as_array().unwrap().iter().map(|task| &task["task_id"]).collect();
    assert_eq!(ids, [&own], "{listed}");
    let others = ann.failed(CALL, at(&id, "p2p_taskqueue_get_task", json!({"task_id": foreign}))).await;
    assert_eq!(others["code"], "not_found", "{others}");
    let cid = there("ipfs_add", json!({"text": "of the books"})).await["cid"].clone();
    assert_eq!(there("ipfs_cat", json!({"cid": cid})).await["text"], "of the books");
    let secret = ok(&far.dispatcher, "ipfs_add", json!({"text": "of nobody's books"})).await["cid"].clone();
    ann.failed(CALL, at(&id, "ipfs_cat", json!({"cid": secret}))).await;
    for tool in ["get_recent_logs", "list_peers"] {
        let refused = ann.failed(CALL, at(&id, tool, json!({}))).await;
        assert_eq!(refused["code"], "whole_node", "{refused}");
    }
}
