//! What waits for a person, over real nodes: who may decide, what comes of it, and what a client of tasks is shown.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{bearer, until, with_tokens};
use crate::rig::{Rig, call, failed, ok};
use crate::wire::Request;

/// A client over HTTP that declares tasks, and forms if it is told to.
pub struct Client<'a> {
    base: &'a str,
    pub token: String,
    shows_forms: bool,
}

impl<'a> Client<'a> {
    async fn new(rig: &'a Rig, name: &str, scope: &str) -> Self {
        Self::with(rig, &[name, "--scope", scope]).await
    }

    /// The holder of a token that is made so.
    pub async fn with(rig: &'a Rig, token: &[&str]) -> Self {
        let made = bearer(rig, &[&["add"], token].concat());
        let token = made["token"].as_str().unwrap().to_owned();
        let client = Self { base: &rig.http, token, shows_forms: true };
        until(client.base, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&client.token)).await;
        client
    }

    pub async fn send(&self, method: &str, params: Value) -> Value {
        let name = params.get("name").or_else(|| params.get("taskId")).and_then(Value::as_str).unwrap_or_default();
        let mut capabilities = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
        if self.shows_forms {
            capabilities["elicitation"] = json!({"form": {}});
        }
        let request = Request::rpc_of("/mcp/full", method, params.clone(), capabilities).header("mcp-name", name);
        request.token(&self.token).send(self.base).await.json()
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.send("tools/call", json!({"name": tool, "arguments": arguments})).await["result"].clone()
    }

    pub async fn task(&self, id: &Value) -> Value {
        self.send("tasks/get", json!({"taskId": id})).await["result"].clone()
    }

    pub async fn until_status(&self, id: &Value, wanted: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let task = self.task(id).await;
            if task["status"] == wanted {
                return task;
            }
            assert!(Instant::now() < deadline, "it does not come to {wanted}: {task}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn accepted(id: &Value, approve: bool) -> Value {
    let answer = json!({"action": "accept", "content": {"approve": approve, "comment": "seen"}});
    json!({"taskId": id, "inputResponses": {id.as_str().unwrap(): answer}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_person_is_listed_decided_once_and_never_by_who_asked() {
    let rig = Rig::start().await;
    // As the node knows whoever comes through its socket as node-mcp does.
    let asker = crate::rig::dispatcher_named(&rig.socket(), "local:node-mcp");
    let other = &rig.dispatcher;
    let asked = json!({"kind": "approval", "input": {"what": "ship it"}});
    let own = ok(&asker, "p2p_taskqueue_submit", asked.clone()).await["task_id"].take();
    let refused = failed(&asker, "approval_decide", json!({"approval_id": own, "approve": true})).await;
    assert_eq!((&refused["code"], &refused["retryable"]), (&json!("own_request"), &json!(false)), "{refused}");
    assert!(refused["fix"].as_str().unwrap().contains("nodectl approval approve"), "{refused}");
    let listed = ok(&rig.dispatcher, "approval_list", json!({})).await;
    assert_eq!((&listed["approvals"][0]["approval_id"], &listed["untrusted"]), (&own, &json!(["approvals[].input"])));
    assert_eq!(listed["approvals"][0]["input"], json!({"what": "ship it"}));

    let claimed = ok(&rig.dispatcher, "p2p_taskqueue_claim_next", json!({"worker_id": "a", "kinds": ["tool"]})).await;
    assert_eq!(claimed.get("task"), None, "no worker is given it");
    let wrong =
        failed(&rig.dispatcher, "p2p_taskqueue_claim_next", json!({"worker_id": "a", "kinds": ["approval"]})).await;
    assert_eq!(wrong["field"], "kinds", "{wrong}");
    let mark = json!({"task_id": own, "worker_id": "a", "result": {"approved": true}});
    assert!(call(&rig.dispatcher, "p2p_taskqueue_complete_task", mark).await.is_error, "nobody has it");

    let decide = |approve| json!({"approval_id": own, "approve": approve, "comment": "seen"});
    let dry = json!({"approval_id": own, "approve": true, "dry_run": true});
    let would = ok(other, "approval_decide", dry).await;
    assert_eq!((&would["would"]["change"], &would["would"]["state"]), (&json!("decide_approval"), &json!("succeeded")));
    let decided = ok(other, "approval_decide", decide(true)).await;
    assert_eq!((&decided["approved"], &decided["state"]), (&json!(true), &json!("succeeded")), "{decided}");
    assert_eq!(ok(other, "approval_decide", decide(true)).await, decided, "said twice");
    let refused = failed(other, "approval_decide", decide(false)).await;
    assert!(refused["message"].as_str().unwrap().contains("approved by test at "), "{refused}");
    let done = ok(&rig.dispatcher, "p2p_taskqueue_get_task", json!({"task_id": own})).await;
    let expected = json!({"approved": true, "by": "test", "comment": "seen", "input": {"what": "ship it"}});
    assert_eq!(done["task"]["output"], expected, "{done}");
    let long = json!({"approval_id": own, "approve": true, "comment": "x".repeat(1_001)});
    assert_eq!(failed(other, "approval_decide", long).await["field"], "comment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_whose_gate_waits_asks_for_input_and_goes_on_as_it_is_decided() {
    let (rig, _) = with_tokens().await;
    let steps = json!([
        {"name": "first", "kind": "noop"},
        {"name": "gate", "kind": "approval", "needs": ["first"], "input": {"plan": "cut\u{1b}[31m"}},
        {"name": "after", "kind": "noop", "needs": ["gate"]},
    ]);
    for approve in [true, false] {
        let ann = Client::new(&rig, if approve { "ann" } else { "anna" }, "submit").await;
        let boss = Client::new(&rig, if approve { "boss" } else { "bossy" }, "operate").await;
        let started = ann.call("submit_p2p_workflow", json!({"name": "w", "steps": steps})).await;
        let id = started["taskId"].clone();
        let waiting = ann.until_status(&id, "input_required").await;
        let asks = waiting["inputRequests"].as_object().unwrap();
        let (gate, form) = asks.iter().next().unwrap();
        assert_eq!((asks.len(), &form["method"]), (1, &json!("elicitation/create")), "{waiting}");
        let form = &form["params"];
        assert_eq!((&form["mode"], &form["requestedSchema"]["required"]), (&json!("form"), &json!(["approve"])));
        let words = form["message"].as_str().unwrap();
        assert!(words.contains("the step gate") && words.contains("cut") && !words.contains('\u{1b}'), "{words}");
        let shy = Client { shows_forms: false, token: ann.token.clone(), ..ann };
        let unasked = shy.task(&id).await;
        assert_eq!((&unasked["status"], &unasked["inputRequests"]), (&json!("input_required"), &json!({})));

        let respond = |approve| {
            let answer = json!({"action": "accept", "content": {"approve": approve, "comment": "seen"}});
            json!({"taskId": id, "inputResponses": {gate.as_str(): answer}})
        };
        let refused = ann.send("tasks/update", respond(true)).await;
        assert_eq!(refused["error"]["data"]["code"], "low_scope", "{refused}");
        let none = json!({"taskId": id, "inputResponses": {gate.as_str(): {"action": "decline"}}});
        assert!(boss.send("tasks/update", none).await["result"].is_object());
        assert_eq!(ann.task(&id).await["status"], "input_required", "nothing was decided");
        assert!(boss.send("tasks/update", respond(approve)).await["result"].is_object());
        let done = ann.until_status(&id, "completed").await;
        assert_eq!(done["result"]["isError"], !approve, "{done}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_waits_over_a_crash_of_its_node_and_its_owner_may_not_answer_for_itself() {
    let (mut rig, _) = with_tokens().await;
    let before = Client::new(&rig, "boss", "operate").await;
    let token = before.token.clone();
    let asked = before.call("p2p_taskqueue_submit", json!({"kind": "approval", "input": "may I?"})).await;
    assert_eq!((&asked["resultType"], &asked["status"]), (&json!("task"), &json!("input_required")), "{asked}");
    let id = asked["taskId"].clone();
    rig.crash().await;
    let http = rig.http.clone();
    let boss_client = Client { base: &http, token, shows_forms: true };
    until(&http, 200, || Request::rpc("/mcp", "tools/list", json!({})).token(&boss_client.token)).await;
    assert_eq!(boss_client.task(&id).await["status"], "input_required");
    let refused = boss_client.send("tasks/update", accepted(&id, true)).await;
    assert_eq!(refused["error"]["data"]["code"], "own_request", "{refused}");
    let other = Client::new(&rig, "other", "operate").await;
    assert!(other.send("tasks/update", accepted(&id, false)).await["result"].is_object());
    let done = boss_client.until_status(&id, "completed").await;
    assert_eq!(done["result"]["isError"], true, "{done}");
    assert_eq!(done["result"]["structuredContent"]["task"]["error"]["code"], "denied", "{done}");
    let foreign = other.send("tasks/update", accepted(&id, true)).await;
    assert_eq!(foreign["error"]["code"], -32602, "it asks for nothing any more: {foreign}");
}
