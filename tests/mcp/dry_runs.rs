//! Dry runs: every tool that changes something has one, and it changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use magpie::mcp::catalog::{Action, Catalog, Category};
use magpie::mcp::rehearsal::DRY_RUN;
use serde_json::{Value, json};

use crate::http::OPEN;
use crate::mounted::{shop, until};
use crate::rig::{Rig, call, failed, ok};
use crate::wire::Request;

/// What there is to be changed.
struct Scene {
    rig: Rig,
    waiting: String,
    approval: String,
    cancelled: String,
    workflow: String,
    schedule: String,
    claimed: String,
    lease: Value,
    session: String,
    mounted_call: u64,
}

async fn id_of(rig: &Rig, tool: &str, arguments: Value) -> String {
    ok(&rig.dispatcher, tool, arguments).await["handle"].as_str().unwrap().to_owned()
}

impl Scene {
    async fn set() -> Self {
        let mut state = PathBuf::new();
        let rig = Rig::start_with(|dir| format!("{OPEN}{}", shop(dir, &mut state, ""))).await;
        until(&rig, |shop| shop["state"] == "up").await;
        let stuck = json!({"kind": "noop", "requires": "gpu.vram >= 1024GiB"});
        let waiting = id_of(&rig, "p2p_taskqueue_submit", stuck.clone()).await;
        let approval = id_of(&rig, "p2p_taskqueue_submit", json!({"kind": "approval"})).await;
        let cancelled = id_of(&rig, "p2p_taskqueue_submit", stuck.clone()).await;
        ok(&rig.dispatcher, "p2p_taskqueue_cancel", json!({"task_id": cancelled})).await;
        let step = json!({"name": "a", "kind": "noop", "requires": "gpu.vram >= 1024GiB"});
        let workflow = id_of(&rig, "submit_p2p_workflow", json!({"name": "w", "steps": [step]})).await;
        let timed = json!({"name": "w", "cron": "0 3 1 1 *", "steps": [{"name": "a", "kind": "noop"}]});
        let schedule = ok(&rig.dispatcher, "schedule_create", timed).await;
        let claimed = id_of(&rig, "p2p_taskqueue_submit", json!({"kind": "tool", "input": 1})).await;
        let taken = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", json!({"worker_id": "w", "kinds": ["tool"]})).await;
        assert_eq!(taken["task"]["task_id"], json!(claimed), "{taken}");
        let session = ok(&rig.dispatcher, "state_update", json!({"values": {"goal": "count"}})).await;
        ok(&rig.dispatcher, "cache_put", json!({"key": "k", "value": 1})).await;
        let slow = json!({"name": "shop.slow", "arguments": {"seconds": 600}, "wait_ms": 0});
        let slow = ok(&rig.dispatcher, "tools_dispatch", slow).await;
        Self {
            waiting,
            approval,
            cancelled,
            workflow,
            schedule: schedule["schedule_id"].as_str().unwrap().to_owned(),
            claimed,
            lease: taken["lease"].clone(),
            session: session["session_id"].as_str().unwrap().to_owned(),
            mounted_call: slow["next"]["arguments"]["arguments"]["call"].as_u64().unwrap(),
            rig,
        }
    }

    /// Arguments that are right for this scene; those of the tool's example where that is.
    fn arguments(&self, tool: &str) -> Value {
        let held = json!({"task_id": self.claimed, "epoch": self.lease["epoch"], "token": self.lease["token"]});
        match tool {
            "p2p_taskqueue_submit" => {
                let files = json!([{"path": "a.txt", "text": "bytes that are nowhere yet"}]);
                json!({"kind": "process", "run": ["sh", "-c", "cat a.txt"], "files": files})
            }
            "p2p_taskqueue_cancel" => json!({"task_id": self.waiting}),
            "p2p_taskqueue_priority" => json!({"task_id": self.waiting, "priority": 9}),
            "p2p_taskqueue_resubmit" => json!({"task_id": self.cancelled}),
            "p2p_taskqueue_complete_task" => json!({"task_id": self.claimed, "worker_id": "w", "result": 7}),
            "p2p_taskqueue_update_task" => json!({"task_id": self.claimed, "worker_id": "w", "progress": 0.5}),
            "p2p_taskqueue_heartbeat" => json!({"worker_id": "w", "leases": [held]}),
            "cancel_workflow" => json!({"workflow_id": self.workflow}),
            "schedule_pause" | "schedule_resume" | "schedule_run" | "schedule_remove" => {
                json!({"schedule_id": self.schedule})
            }
            "queue_clear" => json!({"confirm": true}),
            "approval_decide" => json!({"approval_id": self.approval, "approve": true}),
            "peer_disconnect" => json!({"peer_id": magpie_core::ids::PeerId([1; 32]).to_string()}),
            "test_hardware_capability" => json!({"hardware_type": "cpu"}),
            "ipfs_add" => json!({"text": "bytes that are nowhere either"}),
            "state_update" => json!({"session_id": self.session, "values": {"goal": "stop"}}),
            "mount_cancel" => json!({"server": "shop", "call": self.mounted_call}),
            other => Value::Object(Catalog::shared().find(other).unwrap().example()),
        }
    }

    /// Everything that some tool could change.
    async fn stands(&self) -> BTreeMap<&'static str, Value> {
        let dispatcher = &self.rig.dispatcher;
        let status = self.rig.status().await;
        let session = json!({"session_id": self.session});
        let task = |id: &String| json!({"task_id": id, "detail": "full"});
        let cache = ok(dispatcher, "cache_stats", json!({})).await;
        let mut tasks = Vec::new();
        for id in [&self.waiting, &self.approval, &self.cancelled, &self.claimed] {
            let mut shown = ok(dispatcher, "p2p_taskqueue_get_task", task(id)).await["task"].take();
            shown.as_object_mut().unwrap().remove("lease");
            tasks.push(shown);
        }
        let contacts = ok(dispatcher, "peer_discover", json!({"wait_ms": 0})).await["peers"].clone();
        BTreeMap::from([
            ("log", json!(status.queue.log_index)),
            ("queue", json!([status.queue.queue_version, status.queue.counts, status.worker.draining])),
            ("tasks", json!(tasks)),
            ("workflows", ok(dispatcher, "list_workflows", json!({})).await["workflows"].clone()),
            ("schedules", ok(dispatcher, "schedule_list", json!({})).await),
            ("session", ok(dispatcher, "state_query", session).await),
            ("cache", json!([cache["entries"], cache["bytes"]])),
            ("calls", ok(dispatcher, "mount_list", json!({})).await["servers"][0]["calls"].clone()),
            ("contacts", contacts),
            ("blobs", json!(files_below(&self.rig.socket().parent().unwrap().join("blobs")))),
        ])
    }
}

fn files_below(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<String> = entries
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path.display().to_string()] })
        .collect();
    files.sort();
    files
}

/// Refused here as the call itself would be: this node has no model, and some machinery is nowhere.
const REFUSED: [(&str, &str); 2] = [("run_inference", "unavailable_here"), ("test_endpoint", "not_found")];

#[tokio::test(flavor = "multi_thread")]
async fn every_tool_that_changes_something_tells_what_it_would_change_and_changes_nothing() {
    let scene = Scene::set().await;
    let before = scene.stands().await;
    let mut told = 0;
    for tool in Catalog::shared().tools() {
        let name = tool.entry.name;
        if !tool.entry.writes() || !matches!(tool.entry.action, Action::Run(_)) {
            continue;
        }
        let mut arguments = scene.arguments(name);
        arguments[DRY_RUN] = true.into();
        let outcome = call(&scene.rig.dispatcher, name, arguments).await;
        let answer = &outcome.value;
        let refused = REFUSED.iter().find(|(refused, _)| *refused == name).map(|(_, code)| *code);
        if outcome.is_error {
            let is_nowhere = tool.entry.description.starts_with("Would");
            let expected = refused.or(is_nowhere.then_some("unavailable_here"));
            assert_eq!(answer["code"].as_str(), expected, "{name}: {answer}");
        } else {
            assert_eq!((&answer["ok"], &answer["dry_run"], refused), (&json!(true), &json!(true), None), "{answer}");
            assert!(answer["would"]["change"].is_string(), "{name}: {answer}");
            told += 1;
        }
        assert_eq!(outcome.work, None, "{name} started nothing");
        assert_eq!(scene.stands().await, before, "{name} changed something: {answer}");
    }
    assert!(told >= 20, "{told} dry runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_is_refused_where_the_call_would_be() {
    let scene = Scene::set().await;
    let dispatcher = &scene.rig.dispatcher;
    let (ulid, ledger) = scene.waiting.split_once('-').unwrap();
    let unknown = format!("{}{}-{ledger}", &ulid[..25], if ulid.ends_with('0') { '1' } else { '0' });
    for (tool, arguments, code) in [
        ("p2p_taskqueue_submit", json!({"kind": "noop", "timeout": "soon"}), "invalid"),
        ("p2p_taskqueue_submit", json!({"kind": "noop", "surprise": 1}), "wrong_argument"),
        ("p2p_taskqueue_resubmit", json!({"task_id": scene.waiting}), "wrong_state"),
        ("p2p_taskqueue_priority", json!({"task_id": scene.cancelled, "priority": 3}), "already_terminal"),
        ("p2p_taskqueue_cancel", json!({"task_id": unknown}), "not_found"),
        ("cancel_workflow", json!({"workflow_id": scene.waiting}), "not_found"),
        ("schedule_pause", json!({"schedule_id": unknown}), "not_found"),
        ("schedule_create", json!({"name": "w", "cron": "often", "steps": [{"name": "a", "kind": "noop"}]}), "invalid"),
        ("state_update", json!({"session_id": scene.waiting, "values": {"a": 1}}), "not_found"),
        ("cache_put", json!({"key": "", "value": 1}), "invalid"),
        ("peer_connect", json!({"address": "the other one"}), "invalid"),
        ("mount_cancel", json!({"server": "shop", "call": 999}), "invalid"),
        ("queue_clear", json!({"confirm": false}), "wrong_argument"),
        ("queue_clear", json!({"confirm": true, "status_filter": "failed"}), "wrong_argument"),
    ] {
        let mut dry = arguments.clone();
        dry[DRY_RUN] = true.into();
        let rehearsed = failed(dispatcher, tool, dry).await;
        assert_eq!(rehearsed["code"], code, "{tool}: {rehearsed}");
        assert_eq!(failed(dispatcher, tool, arguments).await["code"], code, "the call itself is refused otherwise");
    }
    let over = json!({"task_id": scene.cancelled, "worker_id": "w", "dry_run": true});
    assert_eq!(failed(dispatcher, "p2p_taskqueue_complete_task", over).await["code"], "already_terminal");
    let wrong = failed(dispatcher, "queue_pause", json!({"dry_run": "yes"})).await;
    assert_eq!((&wrong["code"], &wrong["field"]), (&json!("wrong_argument"), &json!("dry_run")));
    let reader = failed(dispatcher, "list_peers", json!({"dry_run": true})).await;
    assert_eq!(reader["code"], "wrong_argument", "what changes nothing has none");
    // Without a token one may not operate, not even dry.
    let pause = Request::call("/mcp/full", "queue_pause", json!({"dry_run": true})).send(&scene.rig.http).await;
    assert_eq!(pause.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_tells_which_nodes_fit_and_goes_through_every_dispatch() {
    let scene = Scene::set().await;
    let dispatcher = &scene.rig.dispatcher;
    let own = scene.rig.status().await.peer_id.to_string();
    let fits = json!({"name": "p2p_taskqueue_submit", "arguments": {"kind": "noop"}, "dry_run": true});
    for tool in ["tools_dispatch", "p2p_taskqueue_call_tool"] {
        let would = ok(dispatcher, tool, fits.clone()).await["would"].clone();
        assert_eq!(would["tasks"], json!([{"nodes_able": 1, "nearest": own}]), "{would}");
    }
    let lacks = json!({"kind": "noop", "requires": "gpu.vram >= 1024GiB", "dry_run": true});
    let would = ok(dispatcher, "p2p_taskqueue_submit", lacks).await["would"].clone();
    assert_eq!(would["tasks"][0]["nodes_able"], 0);
    assert!(would["tasks"][0]["unmet"].as_array().is_some_and(|unmet| !unmet.is_empty()), "{would}");
    let steps = json!([{"name": "a", "kind": "noop"}, {"name": "b", "kind": "noop", "needs": ["a"]}]);
    let would = ok(dispatcher, "submit_p2p_workflow", json!({"name": "w", "steps": steps, "dry_run": true})).await;
    let names = would["would"]["tasks"].as_array().unwrap().iter().map(|task| task["step"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["a", "b"], "{would}");
    let with_file = ok(dispatcher, "p2p_taskqueue_submit", {
        let mut arguments = scene.arguments("p2p_taskqueue_submit");
        arguments[DRY_RUN] = true.into();
        arguments
    })
    .await;
    assert_eq!(with_file["would"]["uploads"][0]["bytes"], 26, "{with_file}");

    let mounted = json!({"name": "shop.create_invoices", "arguments": {}, "dry_run": true});
    for tool in ["tools_dispatch", "p2p_taskqueue_call_tool"] {
        assert_eq!(failed(dispatcher, tool, mounted.clone()).await["code"], "no_dry_run", "{tool}");
    }
}

#[test]
fn whoever_changes_something_has_the_argument_and_nobody_else() {
    for tool in Catalog::shared().tools().iter().filter(|tool| tool.entry.category != Category::Manager) {
        let has = tool.argument(DRY_RUN).is_some();
        assert_eq!(has, tool.entry.writes(), "{}", tool.entry.name);
    }
}
