//! What the tools say of a node, its queue, its blocks and its network, and what they change there.

use std::path::Path;

use serde_json::{Value, json};

use crate::rig::{Rig, failed, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_without_a_model_says_so_and_promises_none() {
    let rig = Rig::start().await;
    let found = ok(&rig.dispatcher, "detect_hardware", json!({"include_peers": true})).await;
    assert_eq!(found["total"], 1);
    assert!(found["machines"][0]["cpus"].as_u64() > Some(0) && found["machines"][0]["memory_bytes"].as_u64() > Some(0));
    let models = ok(&rig.dispatcher, "search_models", json!({"query": "bert sentiment"})).await;
    assert_eq!((&models["models"], models["why"].is_string()), (&json!([]), true));
    let recommended = ok(&rig.dispatcher, "get_model_recommendations", json!({"task": "text-generation"})).await;
    assert_eq!((&recommended["recommendations"], recommended["why"].is_string()), (&json!([]), true));
    let checked = ok(&rig.dispatcher, "check_model_compatibility", json!({"model": "gpt2", "hardware": "cpu"})).await;
    assert_eq!((&checked["compatible"], &checked["next"]["tool"]), (&json!(false), &json!("tools_dispatch_read")));
    for arguments in [
        json!({"model": "gpt2", "input": "x"}),
        json!({"model": "gpt2", "input": "x", "max_length": 100}),
        json!({"model": "gpt2", "input": "x", "mode": "api"}),
        json!({"model": "gpt2", "input": "x", "backend": "ollama"}),
    ] {
        let error = failed(&rig.dispatcher, "run_inference", arguments).await;
        assert_eq!(error["code"], "unavailable_here", "{error}");
    }
    let error =
        failed(&rig.dispatcher, "run_enhanced_inference", json!({"model": "gpt2", "input": "x", "task": "fly"})).await;
    assert_eq!(error["field"], "task");
    let memory = json!({"hardware_type": "cpu", "test_mode": "memory"});
    let tested = ok(&rig.dispatcher, "test_hardware_capability", memory).await;
    assert_eq!(tested["memory_bytes"], found["machines"][0]["memory_bytes"]);
    let tested = ok(&rig.dispatcher, "test_hardware_capability", json!({"hardware_type": "cpu"})).await;
    assert_eq!((tested.get("works"), tested["why"].is_string()), (None, true), "{tested}");
    let error = failed(&rig.dispatcher, "get_optimal_configuration", json!({"model": "gpt2"})).await;
    assert_eq!(error["code"], "no_such_model");
    assert_eq!(ok(&rig.dispatcher, "list_endpoints", json!({})).await["total"], 0);
    let error = failed(&rig.dispatcher, "test_endpoint", json!({"endpoint_id": "ep-001"})).await;
    assert_eq!(error["code"], "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_is_held_back_let_go_on_and_cleared() {
    let rig = Rig::start().await;
    let paused = ok(&rig.dispatcher, "queue_pause", json!({"reason": "maintenance"})).await;
    assert_eq!(paused["paused"], json!([""]));
    let stats = ok(&rig.dispatcher, "queue_stats", json!({})).await;
    assert_eq!(stats["paused"][0]["reason"], "maintenance");
    let held = ok(&rig.dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop"})).await;
    let resumed = ok(&rig.dispatcher, "queue_resume", json!({})).await;
    assert_eq!(resumed["paused"], json!([]));
    assert!(resumed["version"].as_u64() > paused["version"].as_u64());
    let waited = json!({"task_id": held["task_id"], "wait_ms": 20_000});
    assert_eq!(ok(&rig.dispatcher, "p2p_taskqueue_wait_task", waited).await["status"], "completed");

    ok(&rig.dispatcher, "queue_pause", json!({"namespace": "default"})).await;
    for _ in 0..3 {
        ok(&rig.dispatcher, "p2p_taskqueue_submit", json!({"kind": "noop"})).await;
    }
    let error = failed(&rig.dispatcher, "queue_clear", json!({"confirm": false})).await;
    assert_eq!(error["field"], "confirm");
    let cleared = ok(&rig.dispatcher, "queue_clear", json!({"confirm": true, "namespace": "default"})).await;
    assert_eq!((&cleared["cleared_count"], &cleared["remaining_count"]), (&json!(3), &json!(0)), "{cleared}");
    let metrics = ok(&rig.dispatcher, "get_dashboard_metrics", json!({})).await["metrics"].take();
    assert_eq!((&metrics["tasks_submitted"], &metrics["tasks_completed"]), (&json!(4), &json!(1)), "{metrics}");
    assert_eq!(metrics["error_rate"], 0.0);
    let some = ok(&rig.dispatcher, "get_dashboard_metrics", json!({"metrics": ["uptime_ms"]})).await;
    assert_eq!(some["metrics"].as_object().map(|metrics| metrics.len()), Some(1));
    let error = failed(&rig.dispatcher, "get_dashboard_metrics", json!({"metrics": ["latency_p50"]})).await;
    assert_eq!(error["field"], "metrics");

    let drained = ok(&rig.dispatcher, "p2p_taskqueue_shutdown", json!({"within_ms": 1_000})).await;
    assert_eq!((&drained["draining"], &drained["running"]), (&json!(true), &json!(0)));
    let workers = ok(&rig.dispatcher, "worker_status", json!({})).await;
    assert_eq!(workers["workers"][0]["status"], "draining");
    let health = ok(&rig.dispatcher, "get_service_health", json!({"services": ["worker"]})).await;
    assert_eq!(health["services"][0]["health"], "degraded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_is_well_and_says_that_it_is_alone() {
    let rig = Rig::start().await;
    let status = ok(&rig.dispatcher, "get_system_status", json!({})).await;
    assert_eq!((&status["health"], &status["peers_alive"]), (&json!("ok"), &json!(0)), "{status}");
    let asked = json!({"services": ["mcp", "p2p", "ipfs", "inference"]});
    let health = ok(&rig.dispatcher, "get_service_health", asked).await;
    let words: Vec<&Value> = health["services"].as_array().unwrap().iter().map(|row| &row["health"]).collect();
    assert_eq!(words, ["ok", "ok", "absent", "off"]);
    let network = ok(&rig.dispatcher, "get_p2p_network_status", json!({})).await;
    assert_eq!((&network["network_health"], &network["peer_count"]), (&json!("alone"), &json!(0)));
    assert_eq!(network["self_peer_id"], status["peer_id"]);
    let public = ok(&rig.dispatcher, "p2p_peer_get_public_ip", json!({})).await;
    assert_eq!((public.get("public_ip"), public["why"].is_string()), (None, true));
    assert_eq!(ok(&rig.dispatcher, "p2p_peer_cleanup", json!({})).await["stale"], json!([]));
    let load = ok(&rig.dispatcher, "rebalance_p2p_tasks", json!({"strategy": "load"})).await;
    assert_eq!((&load["balanced"], &load["waiting"]), (&json!(true), &json!(0)));
    let scheduler = ok(&rig.dispatcher, "p2p_scheduler_status", json!({})).await;
    assert_eq!(scheduler["node_id"], status["peer_id"]);
    let clocks = ok(&rig.dispatcher, "p2p_update_peer_state", json!({"clock_data": {"vector": {}}})).await;
    assert_eq!((&clocks["clock_holds"], &clocks["peers"]), (&json!(true), &json!([])));
    assert_eq!(clocks["merkle_root"], ok(&rig.dispatcher, "p2p_get_merkle_clock", json!({})).await["merkle_root"]);
    let usage = ok(&rig.dispatcher, "get_model_usage_stats", json!({})).await;
    assert_eq!(usage["devices"], json!([]));
    let tags = json!({"tags": ["p2p-only", "github-api", "sunny"]});
    let checked = ok(&rig.dispatcher, "p2p_check_workflow_tags", tags).await;
    assert_eq!((&checked["should_bypass_github"], &checked["is_p2p_only"]), (&json!(true), &json!(true)));
    assert_eq!((&checked["known"], &checked["unknown"]), (&json!(["p2p-only", "github-api"]), &json!(["sunny"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_told() {
    let rig = Rig::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    let error = failed(&rig.dispatcher, "peer_connect", json!({"multiaddr": address})).await;
    assert_eq!((&error["code"], &error["retryable"]), (&json!("not_connected"), &json!(true)), "{error}");
    let joined = ok(&rig.dispatcher, "bootstrap_network", json!({"bootstrap_nodes": [address]})).await;
    assert_eq!((&joined["failed_count"], &joined["network_ready"]), (&json!(1), &json!(false)), "{joined}");
    let error = failed(&rig.dispatcher, "bootstrap_network", json!({"bootstrap_nodes": []})).await;
    assert_eq!(error["field"], "bootstrap_nodes");
    let stranger = json!({"peer_id": "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo"});
    let error = failed(&rig.dispatcher, "ipfs_dht_findpeer", stranger.clone()).await;
    assert_eq!(error["code"], "not_found");
    assert_eq!(ok(&rig.dispatcher, "peer_disconnect", stranger).await["was_connected"], false);
    for tool in ["p2p_bootstrap_from_file", "p2p_bootstrap_from_public"] {
        assert_eq!(failed(&rig.dispatcher, tool, json!({})).await["code"], "unavailable_here", "{tool}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_finding_peers_lists_those_that_it_named() {
    let named = Rig::start().await;
    let peer_file = |dir: &Path, listen: &[String]| {
        std::fs::write(dir.join("peers"), listen.join("\n")).unwrap();
        format!("peer_file = {:?}\n", dir.join("peers"))
    };
    let by_name = Rig::start_beside(&named, |_| String::new()).await;
    let by_file = Rig::start_that_finds(&named, peer_file, |_| String::new()).await;
    let named_peer = json!(named.status().await.peer_id);
    for (rig, tool, ways) in [
        (&by_name, "p2p_bootstrap_from_env", json!(["bootstrap"])),
        (&by_name, "p2p_bootstrap_list", json!(["bootstrap"])),
        (&by_file, "p2p_bootstrap_from_file", json!(["peer_file"])),
        (&by_file, "p2p_bootstrap_list", json!(["peer_file"])),
    ] {
        let listed = ok(&rig.dispatcher, tool, json!({})).await;
        assert_eq!(listed["ways"], ways, "{tool}: {listed}");
        let peer = listed["peers"].as_array().unwrap().iter().find(|peer| peer["peer_id"] == named_peer);
        assert!(peer.is_some_and(|peer| !peer["addresses"].as_array().unwrap().is_empty()), "{tool}: {listed}");
        assert_eq!(listed["total"], listed["peers"].as_array().unwrap().len(), "{tool}: {listed}");
    }
    let error = failed(&by_name.dispatcher, "p2p_bootstrap_from_file", json!({})).await;
    assert_eq!(error["code"], "unavailable_here", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_are_stored_and_read_by_the_id_that_ipfs_gives_them() {
    let rig = Rig::start().await;
    let added = ok(&rig.dispatcher, "ipfs_add", json!({"content": "hello"})).await;
    // As `printf hello | ipfs block put --cid-codec=raw` says.
    assert_eq!(added["cid"], "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq");
    let read = ok(&rig.dispatcher, "ipfs_cat", json!({"cid": added["cid"]})).await;
    assert_eq!((&read["text"], &read["untrusted"]), (&json!("hello"), &json!(["text"])));
    assert_eq!(ok(&rig.dispatcher, "ipfs_block_stat", json!({"cid": added["cid"]})).await["bytes"], 5);

    let bytes = ok(&rig.dispatcher, "ipfs_block_put", json!({"base64": "//4A"})).await;
    let read = ok(&rig.dispatcher, "ipfs_block_get", json!({"cid": bytes["cid"]})).await;
    assert_eq!((&read["base64"], read.get("text")), (&json!("//4A"), None));

    let long = "né".repeat(5_000);
    let added = ok(&rig.dispatcher, "ipfs_add", json!({"text": long})).await;
    let (mut text, mut offset) = (String::new(), json!(0));
    while offset.is_u64() {
        let mut part = ok(&rig.dispatcher, "ipfs_cat", json!({"cid": added["cid"], "offset": offset})).await;
        text.push_str(part["text"].as_str().unwrap());
        offset = part["next_offset"].take();
    }
    assert_eq!(text, long);
    let absent = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku";
    assert_eq!(failed(&rig.dispatcher, "ipfs_cat", json!({"cid": absent})).await["code"], "not_found");
    for (arguments, field) in [(json!({}), "text"), (json!({"base64": "?"}), "base64")] {
        assert_eq!(failed(&rig.dispatcher, "ipfs_add", arguments).await["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_the_node_is_read_and_searched() {
    let rig = Rig::start().await;
    let recent = ok(&rig.dispatcher, "get_recent_logs", json!({"lines": 2})).await;
    let lines = recent["lines"].as_array().unwrap();
    assert!(!lines.is_empty(), "a node that starts says so");
    assert_eq!(recent["untrusted"], json!(["lines[].message"]));
    let word = lines[0]["message"].as_str().unwrap().split_whitespace().next().unwrap().to_owned();
    let found = ok(&rig.dispatcher, "search_logs", json!({"query": word, "time_range": "1h"})).await;
    let holds = |line: &Value| line.to_string().to_lowercase().contains(&word.to_lowercase());
    assert!(!found["lines"].as_array().unwrap().is_empty() && found["lines"].as_array().unwrap().iter().all(holds));
    let none = ok(&rig.dispatcher, "search_logs", json!({"query": "no line of any log says this"})).await;
    assert_eq!(none["lines"], json!([]));
    assert_eq!(failed(&rig.dispatcher, "get_recent_logs", json!({"level": "loud"})).await["field"], "level");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_says_which_nodes_run_it() {
    let rig = Rig::start().await;
    let steps = json!([{"name": "a", "kind": "noop"}, {"name": "b", "kind": "noop", "needs": ["a"]}]);
    let document = json!({"name": "pair", "steps": steps, "wait_ms": 20_000});
    let done = ok(&rig.dispatcher, "submit_p2p_workflow", document).await;
    let spread = ok(&rig.dispatcher, "p2p_workflow_coordinate", json!({"workflow_id": done["workflow_id"]})).await;
    let own = ok(&rig.dispatcher, "get_system_status", json!({})).await["peer_id"].take();
    assert_eq!((&spread["coordinator"], &spread["tasks"], &spread["unassigned"]), (&own, &json!(2), &json!(0)));
    assert_eq!(spread["workers"], json!([{"worker_id": own, "tasks": {"completed": 2}}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_keeps_values_until_their_time_is_over_or_they_are_removed() {
    let rig = Rig::start().await;
    for (key, ttl_s) in [("a/1", json!(null)), ("a/2", json!(60)), ("b/1", json!(0))] {
        let put = json!({"key": key, "value": {"for": key}, "ttl_s": ttl_s});
        assert_eq!(ok(&rig.dispatcher, "p2p_taskqueue_cache_set", put).await["key"], key);
    }
    let found = ok(&rig.dispatcher, "p2p_taskqueue_cache_get", json!({"key": "a/1"})).await;
    assert_eq!((&found["hit"], &found["value"]), (&json!(true), &json!({"for": "a/1"})));
    let gone = ok(&rig.dispatcher, "cache_get", json!({"key": "b/1"})).await;
    assert_eq!((&gone["hit"], gone.get("value")), (&json!(false), None));
    let removed = ok(&rig.dispatcher, "cache_invalidate", json!({"key": "a/", "prefix": true})).await;
    assert_eq!(removed["removed"], 2);
    let stats = ok(&rig.dispatcher, "cache_stats", json!({})).await;
    assert_eq!((&stats["entries"], &stats["hit_rate"]), (&json!(0), &json!(0.5)));
    let long = json!({"key": "k", "value": "v".repeat(70_000)});
    assert_eq!(failed(&rig.dispatcher, "cache_put", long).await["code"], "invalid");
}
