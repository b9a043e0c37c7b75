//! Callers as workers: what they take is leased to them, and what they report is fenced.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::{Rig, failed, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_takes_a_task_holds_on_to_it_and_reports_its_one_result() {
    let rig = Rig::start().await;
    let submitted = json!({"kind": "tool", "input": {"question": "6 * 7"}});
    let task = ok(&rig.dispatcher, "p2p_taskqueue_submit", submitted).await["task_id"].take();
    let asked = json!({"worker_id": "agent-1", "supported_task_types": ["tool.call"]});
    let claimed = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", asked.clone()).await;
    assert_eq!((&claimed["task"]["task_id"], &claimed["task"]["attempt"]), (&task, &json!(1)));
    assert_eq!((&claimed["task"]["input"], &claimed["untrusted"]), (&json!({"question": "6 * 7"}), &json!(["task"])));
    let lease = claimed["lease"].clone();
    assert!(lease["ttl_ms"].as_u64() >= Some(10_000) && lease["token"].is_string(), "{lease}");
    let again = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", asked).await;
    assert_eq!(again["lease"], lease, "nothing was reported: the answer may have been lost");
    let other = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", json!({"worker_id": "agent-2"})).await;
    assert_eq!((other.get("task"), &other["next"]["after_ms"]), (None, &json!(1_000)));

    let next = &claimed["next"]["arguments"];
    let renewed = ok(&rig.dispatcher, "tools_dispatch", next.clone()).await;
    assert_eq!((&renewed["leases"][0]["state"], &renewed["leases"][0]["task_id"]), (&json!("renewed"), &task));
    let told = json!({"task_id": task, "lease": lease, "progress": 0.5, "message": "half", "checkpoint": {"at": 3}});
    assert_eq!(ok(&rig.dispatcher, "p2p_taskqueue_update_task", told).await["task_id"], task);
    let shown = ok(&rig.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": task, "detail": "full"})).await;
    assert_eq!(shown["task"]["status"], "running");
    let wrong = json!({"task_id": task, "lease": lease, "progress": 50});
    assert_eq!(failed(&rig.dispatcher, "p2p_taskqueue_update_task", wrong).await["field"], "progress");

    let foreign = json!({"task_id": task, "worker_id": "agent-2", "result": 41});
    let refused = failed(&rig.dispatcher, "p2p_taskqueue_complete_task", foreign).await;
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("fenced"), &json!(false)));
    let result = json!({"task_id": task, "worker_id": "agent-1", "lease": lease, "result": {"answer": 42}});
    for _ in 0..2 {
        let ended = ok(&rig.dispatcher, "p2p_taskqueue_complete_task", result.clone()).await;
        assert_eq!(ended["outcome"], "committed");
    }
    let otherwise = json!({"task_id": task, "worker_id": "agent-1", "lease": lease, "result": 43});
    assert_eq!(failed(&rig.dispatcher, "p2p_taskqueue_complete_task", otherwise).await["code"], "conflict");
    let done = ok(&rig.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": task})).await;
    assert_eq!((&done["task"]["status"], &done["task"]["output"]), (&json!("completed"), &json!({"answer": 42})));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_scheduler_gives_tasks_out_and_takes_them_back_by_their_own_ids() {
    let rig = Rig::start().await;
    let asked =
        json!({"task_id": "task-001", "workflow_id": "wf-001", "name": "review", "tags": ["p2p-only"], "priority": 8});
    let first = ok(&rig.dispatcher, "p2p_submit_task", asked.clone()).await;
    assert_eq!(ok(&rig.dispatcher, "p2p_submit_task", asked).await["task_id"], first["task_id"], "one task");
    let taken = ok(&rig.dispatcher, "p2p_get_next_task", json!({})).await;
    assert_eq!(taken["task"]["input"]["name"], "review");
    assert_eq!(taken["task"]["task_id"], first["task_id"]);
    let marked = ok(&rig.dispatcher, "p2p_mark_task_complete", json!({"task_id": "task-001"})).await;
    assert_eq!(marked["outcome"], "committed");
    let wait = json!({"task_id": first["task_id"], "wait_ms": 20_000});
    assert_eq!(ok(&rig.dispatcher, "p2p_taskqueue_wait_task", wait).await["status"], "completed");
    let unknown = failed(&rig.dispatcher, "p2p_mark_task_complete", json!({"task_id": "task-002"})).await;
    assert_eq!(unknown["field"], "task_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_worker_takes_what_it_offers_and_a_failure_may_be_tried_again() {
    let rig = Rig::start().await;
    let offers =
        json!({"worker_id": "w", "kinds": ["inference", "tool"], "labels": {"zone": "eu"}, "max_concurrent_tasks": 2});
    let registered = ok(&rig.dispatcher, "worker_register", offers).await;
    assert_eq!(registered["held"], 0);
    let retry = json!({"max_attempts": 2, "initial": "10ms"});
    let submitted = json!({"kind": "tool", "requires": "label.zone == eu", "retry": retry});
    let task = ok(&rig.dispatcher, "p2p_taskqueue_submit", submitted).await["task_id"].take();
    let none = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", json!({"worker_id": "stranger"})).await;
    assert_eq!(none.get("task"), None, "it has not that label");
    let claimed = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", json!({"worker_id": "w"})).await;
    assert_eq!(claimed["task"]["task_id"], task);
    let broken =
        json!({"task_id": task, "worker_id": "w", "status": "failed", "error": "out of paper", "retryable": true});
    assert_eq!(ok(&rig.dispatcher, "p2p_taskqueue_complete_task", broken).await["outcome"], "retried");
    let (mut again, deadline) = (json!({}), Instant::now() + Duration::from_secs(60));
    while again.get("task").is_none() {
        assert!(Instant::now() < deadline, "it is not tried again");
        again = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", json!({"worker_id": "w"})).await;
    }
    assert_eq!(again["task"]["attempt"], 2);
    let bare = json!({"task_id": task, "worker_id": "w", "result": 1});
    assert_eq!(failed(&rig.dispatcher, "p2p_taskqueue_complete_task", bare).await["code"], "fenced");
    let leased = json!({"task_id": task, "worker_id": "w", "lease": again["lease"], "result": "x".repeat(200_000)});
    assert_eq!(ok(&rig.dispatcher, "p2p_taskqueue_complete_task", leased).await["outcome"], "committed");
    let left = ok(&rig.dispatcher, "worker_unregister", json!({"worker_id": "w"})).await;
    assert_eq!(left["held"], 0);
    let wrong = failed(&rig.dispatcher, "worker_register", json!({"worker_id": "w", "kinds": ["magic"]})).await;
    assert_eq!(wrong["field"], "kinds");
}
