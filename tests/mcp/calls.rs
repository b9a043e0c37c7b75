//! Calls that reach a node.

use std::time::{Duration, Instant};

use magpie::mcp::dispatch::Dispatcher;
use serde_json::{Value, json};

use crate::rig::{Rig, TestCaller, failed, ok};

async fn submitted(dispatcher: &Dispatcher, arguments: Value) -> String {
    let answer = ok(dispatcher, "p2p_taskqueue_submit", arguments).await;
    answer["task_id"].as_str().unwrap().to_owned()
}

/// Makes the call that an answer names, until one is final.
async fn followed(dispatcher: &Dispatcher, mut answer: Value) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(tool) = answer["next"]["tool"].as_str() {
        assert!(Instant::now() < deadline, "{answer}");
        answer = ok(dispatcher, tool, answer["next"]["arguments"].clone()).await;
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_submitted_followed_and_read() {
    let rig = Rig::start().await;
    let run = json!(["python3", "-c", "import json,sys; print(json.load(sys.stdin)['input']['n'] * 2)"]);
    let arguments =
        json!({"name": "p2p_taskqueue_submit", "arguments": {"kind": "process", "run": run, "input": {"n": 21}}});
    let answer = ok(&rig.dispatcher, "tools_dispatch", arguments).await;
    assert_eq!(answer["next"]["tool"], "tools_dispatch_read");
    assert_eq!(answer["handle"], answer["task_id"]);
    let done = followed(&rig.dispatcher, answer).await;
    assert_eq!(
        (&done["status"], &done["state"], &done["task"]["output"]),
        (&json!("completed"), &json!("succeeded"), &json!(42))
    );
    assert_eq!(done["untrusted"][0], "task.output");
    let at_once = ok(&rig.dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop", "wait_ms": 20_000})).await;
    assert_eq!((&at_once["status"], at_once.get("next")), (&json!("completed"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_is_read_in_parts_from_wherever_it_stands() {
    let rig = Rig::start().await;
    for len in [20_000, 200_000] {
        let run = json!(["python3", "-c", format!("import json; print(json.dumps('é\\x1b' * {len}))")]);
        let id = submitted(&rig.dispatcher, json!({"kind": "process", "run": run, "wait_ms": 20_000})).await;
        let (mut text, mut offset) = (String::new(), 0);
        loop {
            let arguments = json!({"task_id": id, "output_offset": offset, "detail": "full"});
            let part = ok(&rig.dispatcher, "p2p_taskqueue_get_task", arguments).await["task"]["output_part"].take();
            text.push_str(part["text"].as_str().unwrap());
            match part["next_offset"].as_u64() {
                Some(next) => offset = next,
                None => break,
            }
        }
        let whole: String = serde_json::from_str(&text).unwrap();
        assert_eq!(whole, "é\u{1b}".repeat(len), "the JSON text keeps the characters escaped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_with_files_gives_its_outputs() {
    let rig = Rig::start().await;
    let document = json!({
        "name": "sum",
        "steps": [
            {"name": "numbers", "kind": "process", "run": ["python3", "numbers.py"],
             "files": [{"path": "numbers.py", "text": "print([1, 2, 3])"}]},
            {"name": "double", "needs": ["numbers"], "for_each": "${steps.numbers.output}", "kind": "process",
             "run": ["python3", "-c", "import json,sys; print(json.load(sys.stdin)['input'] * 2)"], "input": "${item}"},
            {"name": "sum", "needs": ["double"], "kind": "process",
             "run": ["python3", "-c", "import json,sys; print(sum(json.load(sys.stdin)['needs']['double']))"]},
        ],
        "outputs": {"total": "${steps.sum.output}"},
    });
    let answer = ok(&rig.dispatcher, "submit_p2p_workflow", document).await;
    let done = followed(&rig.dispatcher, answer.clone()).await;
    assert_eq!((&done["status"], &done["outputs"]), (&json!("completed"), &json!({"total": 12})), "{done}");
    assert_eq!(done["progress"]["completed"], 5);
    assert_eq!(done["steps"][1]["tasks"], json!({"succeeded": 3}));
    let arguments = json!({"workflow_id": answer["workflow_id"], "limit": 2, "detail": "full"});
    let page = ok(&rig.dispatcher, "get_workflow_status", arguments).await;
    assert_eq!((page["steps"].as_array().map(Vec::len), &page["next_cursor"]), (Some(2), &json!("2")));
    assert_eq!(page["steps"][0]["output"], json!([1, 2, 3]));
    let tasks = ok(&rig.dispatcher, "p2p_taskqueue_list_tasks", json!({"workflow_id": answer["workflow_id"]})).await;
    assert_eq!(tasks["count"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_listed_and_drawn_under_every_name() {
    let rig = Rig::start().await;
    let steps = json!([{"name": "first", "kind": "noop"}, {"name": "second", "kind": "noop", "needs": ["first"]}]);
    let answer = ok(&rig.dispatcher, "workflow_submit", json!({"name": "pair", "steps": steps})).await;
    let id = answer["workflow_id"].clone();
    followed(&rig.dispatcher, answer).await;
    for name in ["list_workflows", "workflow_list", "p2p_workflow_list"] {
        let listed = ok(&rig.dispatcher, name, json!({"status": "completed"})).await;
        let row = &listed["workflows"][0];
        assert_eq!((&listed["count"], &row["workflow_id"], &row["name"]), (&json!(1), &id, &json!("pair")));
        assert_eq!((&row["tasks_done"], &row["tasks"]), (&json!(2), &json!(2)));
    }
    let none = ok(&rig.dispatcher, "list_workflows", json!({"status_filter": "failed"})).await;
    assert_eq!(none["count"], 0);
    let drawn = ok(&rig.dispatcher, "workflow_dependencies", json!({"workflow_id": id})).await;
    assert_eq!(drawn["critical_path"], json!(["first", "second"]));
    assert_eq!(drawn["dag"]["edges"].as_array().map(Vec::len), Some(1), "{drawn}");
    for (format, begins) in [("mermaid", "flowchart"), ("dot", "digraph")] {
        let arguments = json!({"workflow_id": id, "fmt": format});
        let text = ok(&rig.dispatcher, "p2p_workflow_get_dag", arguments).await["dag"].clone();
        assert!(text.as_str().unwrap().starts_with(begins), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_failed_runs_again_and_one_that_waits_is_moved() {
    let rig = Rig::start().await;
    let run = json!(["sh", "-c", "exit 3"]);
    let retry = json!({"max_attempts": 1});
    let arguments = json!({"kind": "process", "run": run, "retry": retry, "wait_ms": 20_000});
    let failing = submitted(&rig.dispatcher, arguments).await;
    let again = ok(&rig.dispatcher, "p2p_taskqueue_resubmit", json!({"task_id": failing})).await;
    assert_eq!((&again["retry_of"], again["task_id"] == failing.as_str()), (&json!(failing), false));
    let twice = ok(&rig.dispatcher, "task_retry", json!({"task_id": failing})).await;
    assert_eq!(twice["task_id"], again["task_id"], "it was retried before");
    let done = followed(&rig.dispatcher, again).await;
    assert_eq!(done["status"], "failed");

    let waiting = submitted(&rig.dispatcher, json!({"kind": "noop", "requires": "gpu.vram >= 1024GiB"})).await;
    let moved = ok(&rig.dispatcher, "task_priority", json!({"task_id": waiting, "new_priority": 10})).await;
    assert_eq!((&moved["priority"], &moved["place"]), (&json!(10), &json!(0)));
    let shown = ok(&rig.dispatcher, "task_status", json!({"task_id": waiting, "detail": "full"})).await;
    assert_eq!(shown["task"]["priority"], 0);
    let wrong = failed(&rig.dispatcher, "task_priority", json!({"task_id": waiting, "priority": 11})).await;
    assert_eq!(wrong["field"], "priority");

    let stats = ok(&rig.dispatcher, "queue_stats", json!({"include_worker_stats": true})).await;
    let counts = ["submitted", "queued_count", "failed_count"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 2], "{stats}");
    assert_eq!(stats["states"]["ready"], 1);
    let workers = ok(&rig.dispatcher, "worker_status", json!({})).await;
    let own = &workers["workers"][0];
    assert_eq!((&workers["total"], &own["status"], &own["slots"]), (&json!(1), &json!("alive"), &json!(2)));
    assert_eq!((&own["since_start"]["failed"], &own["running"]), (&json!(2), &json!(0)), "{own}");
    let one = ok(&rig.dispatcher, "p2p_taskqueue_worker_stats", json!({"worker_id": own["worker_id"]})).await;
    assert_eq!(one["total"], 1);
    let wrong = failed(&rig.dispatcher, "worker_status", json!({"worker_id": "w"})).await;
    assert_eq!(wrong["field"], "worker_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_finds_nobody_and_says_how_it_looked() {
    let rig = Rig::start().await;
    let found = ok(&rig.dispatcher, "peer_discover", json!({"wait_ms": 0})).await;
    assert_eq!((&found["discovered_count"], &found["peers"]), (&json!(0), &json!([])));
    let ways = found["ways"].as_array().unwrap();
    assert!(ways.iter().any(|way| way["way"] == "mdns" && way["on"] == false), "{found}");
    let measured = ok(&rig.dispatcher, "peer_metrics", json!({})).await;
    assert_eq!((&measured["total"], &measured["peers"]), (&json!(0), &json!([])));
    let wrong = failed(&rig.dispatcher, "peer_metrics", json!({"peer_id": "nobody"})).await;
    assert_eq!((&wrong["field"], &wrong["next"]["arguments"]["name"]), (&json!("peer_id"), &json!("list_peers")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_of_the_seeds_form_waits_for_a_node_that_has_its_model() {
    let rig = Rig::start().await;
    let document = json!({"name": "distributed-inference", "priority": 1, "tag": "p2p-only",
        "tasks": [{"model": "bert-base", "input": "text1"}, {"model": "bert-base", "input": "text2"}]});
    let answer = ok(&rig.dispatcher, "submit_p2p_workflow", document).await;
    let id = answer["workflow_id"].clone();
    let status = ok(&rig.dispatcher, "get_workflow_status", json!({"workflow_id": id, "wait_ms": 100})).await;
    assert_eq!((&status["status"], &status["progress"]["total"]), (&json!("running"), &json!(2)), "{status}");
    let task = ok(&rig.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": status["steps"][0]["task_id"]})).await;
    assert_eq!(task["task"]["status"], "queued");
    let cancelled = ok(&rig.dispatcher, "cancel_workflow", json!({"workflow_id": id})).await;
    assert_eq!((&cancelled["cancelled"], &cancelled["status"]), (&json!(true), &json!("cancelled")));
    let again = ok(&rig.dispatcher, "cancel_workflow", json!({"workflow_id": id})).await;
    assert_eq!(again["state"], "cancelled");
    let task = ok(&rig.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": status["steps"][0]["task_id"]})).await;
    assert_eq!(task["task"]["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_key_makes_nothing_twice_and_another_request_under_it_is_refused() {
    let rig = Rig::start().await;
    let task = json!({"kind": "noop", "idempotency_key": "k"});
    let first = submitted(&rig.dispatcher, task.clone()).await;
    for _ in 0..20 {
        assert_eq!(submitted(&rig.dispatcher, task.clone()).await, first);
    }
    let other = json!({"kind": "sleep", "input": "1ms", "idempotency_key": "k"});
    assert_eq!(failed(&rig.dispatcher, "p2p_taskqueue_submit", other).await["code"], "idempotency_conflict");
    let workflow = json!({"name": "w", "steps": [{"name": "a", "kind": "noop"}], "idempotency_key": "k"});
    let first = ok(&rig.dispatcher, "submit_p2p_workflow", workflow.clone()).await;
    let second = ok(&rig.dispatcher, "submit_p2p_workflow", workflow).await;
    assert_eq!(first["workflow_id"], second["workflow_id"]);
    let other = json!({"name": "v", "steps": [{"name": "a", "kind": "noop"}], "idempotency_key": "k"});
    assert_eq!(failed(&rig.dispatcher, "submit_p2p_workflow", other).await["code"], "idempotency_conflict");
    assert_eq!(ok(&rig.dispatcher, "p2p_taskqueue_list_tasks", json!({})).await["total"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_stops_waiting_and_the_task_goes_on() {
    let rig = Rig::start().await;
    let id = submitted(&rig.dispatcher, json!({"kind": "sleep", "input": "1h", "timeout": "2h"})).await;
    let caller = TestCaller::default();
    let arguments = serde_json::from_value(json!({"task_id": id})).unwrap();
    let waiting = rig.dispatcher.call("p2p_taskqueue_wait_task", arguments, &caller);
    caller.gone.notify_one();
    let began = Instant::now();
    let outcome = waiting.await;
    assert_eq!(outcome.value["code"], "cancelled");
    assert!(began.elapsed() < Duration::from_secs(2));
    let task = ok(&rig.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": id})).await;
    assert_ne!(task["task"]["status"], "cancelled");
    let cancelled = ok(&rig.dispatcher, "p2p_taskqueue_cancel", json!({"task_id": id, "reason": "test"})).await;
    assert_eq!(cancelled["cancelled"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_wait_tells_of_itself_every_few_seconds() {
    let rig = Rig::start().await;
    let id = submitted(&rig.dispatcher, json!({"kind": "sleep", "input": "1h", "timeout": "2h"})).await;
    let caller = TestCaller::default();
    let arguments = serde_json::from_value(json!({"task_id": id, "wait_ms": 9_000})).unwrap();
    let outcome = rig.dispatcher.call("p2p_taskqueue_wait_task", arguments, &caller).await;
    assert_eq!((&outcome.value["done"], &outcome.value["status"]), (&json!(false), &json!("running")));
    assert_eq!(outcome.value["next"]["arguments"]["arguments"]["task_id"], id);
    let told = caller.progress.lock().unwrap().clone();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(_, message)| message.starts_with("running on 12D3")), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[1].0 - pair[0].0 < 5_000), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_on_page_by_page_in_both_vocabularies() {
    let rig = Rig::start().await;
    for _ in 0..45 {
        submitted(&rig.dispatcher, json!({"kind": "noop"})).await;
    }
    let refused = json!({"kind": "process", "run": ["sh", "-c", "echo '\u{1b}[31mno' >&2; exit 3"], "retry": {"max_attempts": 1}});
    let dead = ok(
        &rig.dispatcher,
        "p2p_taskqueue_submit",
        json!({"wait_ms": 20_000, "kind": "process",
        "run": refused["run"], "retry": refused["retry"]}),
    )
    .await;
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let page =
            ok(&rig.dispatcher, "p2p_taskqueue_list_tasks", json!({"status": "completed", "cursor": cursor})).await;
        seen.extend(page["tasks"].as_array().unwrap().iter().map(|task| task["task_id"].clone()));
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen.len(), 45);
    let failed_tasks = ok(&rig.dispatcher, "p2p_taskqueue_list_tasks", json!({"status": "failed"})).await;
    assert_eq!((&failed_tasks["total"], &failed_tasks["untrusted"]), (&json!(1), &json!(["tasks[].error"])));
    assert_eq!(failed_tasks["tasks"][0]["task_id"], dead["task_id"]);
    assert_eq!(dead["task"]["log_tail"].as_str().map(str::trim), Some("no"), "{dead}");
    let full = ok(&rig.dispatcher, "p2p_taskqueue_list_tasks", json!({"detail": "full", "limit": 100})).await;
    let concise = ok(&rig.dispatcher, "p2p_taskqueue_list_tasks", json!({"limit": 20})).await;
    assert!(concise.to_string().len() <= 8 * 1024 && full.to_string().len() <= 64 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_its_peers_and_its_clock_are_shown() {
    let rig = Rig::start().await;
    submitted(&rig.dispatcher, json!({"kind": "noop", "wait_ms": 20_000})).await;
    let status = ok(&rig.dispatcher, "p2p_taskqueue_status", json!({"detail": true})).await;
    assert_eq!((&status["queue"]["completed"], &status["states"]["succeeded"]), (&json!(1), &json!(1)), "{status}");
    assert!(status["more"]["listen"][0].as_str().unwrap().starts_with("/ip4/127.0.0.1/"));
    let peers = ok(&rig.dispatcher, "list_peers", json!({"include_capabilities": true})).await;
    assert_eq!((&peers["self_peer_id"], &peers["count"]), (&status["peer_id"], &json!(0)));
    let clock = ok(&rig.dispatcher, "p2p_get_merkle_clock", json!({"detail": "full"})).await;
    assert_eq!((&clock["node_id"], clock["merkle_root"].as_str().map(str::len)), (&status["peer_id"], Some(64)));
    assert!(clock["vector"][status["peer_id"].as_str().unwrap()].as_u64().unwrap() > 0, "{clock}");
    let other = failed(&rig.dispatcher, "p2p_taskqueue_status", json!({"peer_id": "12D3KooWother"})).await;
    assert_eq!((&other["code"], &other["field"]), (&json!("wrong_argument"), &json!("peer_id")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_nothing_is_not_found_and_says_where_ids_are() {
    let rig = Rig::start().await;
    let id = submitted(&rig.dispatcher, json!({"kind": "noop"})).await;
    let (ulid, ledger) = id.split_once('-').unwrap();
    let unknown = format!("{}{}-{ledger}", &ulid[..25], if ulid.ends_with('0') { '1' } else { '0' });
    for (tool, field) in [
        ("p2p_taskqueue_get_task", "task_id"),
        ("get_workflow_status", "workflow_id"),
        ("cancel_workflow", "workflow_id"),
    ] {
        let error = failed(&rig.dispatcher, tool, json!({field: unknown})).await;
        assert_eq!(
            (&error["code"], &error["next"]["tool"]),
            (&json!("not_found"), &json!("tools_dispatch_read")),
            "{error}"
        );
    }
    let task_is_no_workflow = failed(&rig.dispatcher, "cancel_workflow", json!({"workflow_id": id})).await;
    assert_eq!(task_is_no_workflow["code"], "not_found");
}
