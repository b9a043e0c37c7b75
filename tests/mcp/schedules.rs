//! Schedules by the tools: what `nodectl schedule` does.

use serde_json::{Value, json};

use crate::rig::{Rig, failed, ok};

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_made_seen_held_back_run_out_of_turn_and_removed() {
    let mut rig = Rig::start().await;
    let timed = json!({"name": "tidy", "cron": "0 3 1 1 *", "timezone": "Europe/Berlin", "overlap": "queue",
        "steps": [{"name": "a", "kind": "noop", "input": 7}], "outputs": {"a": "${steps.a.output}"}, "idempotency_key": "k"});
    let made = ok(&rig.dispatcher, "schedule_create", timed.clone()).await;
    let id = json!({"schedule_id": made["schedule_id"]});
    assert_eq!((&made["cron"], &made["overlap"], &made["fired"]), (&json!("0 3 1 1 *"), &json!("queue"), &json!(0)));
    assert!(made["next_at"].as_str().unwrap().contains("-01-01T02:00:00"), "three o'clock in Berlin: {made}");
    let again = ok(&rig.dispatcher, "schedule_create", timed.clone()).await;
    assert_eq!(again["schedule_id"], made["schedule_id"]);
    let mut other = timed;
    other["cron"] = "@daily".into();
    assert_eq!(failed(&rig.dispatcher, "schedule_create", other).await["code"], "idempotency_conflict");

    let paused = ok(&rig.dispatcher, "schedule_pause", id.clone()).await;
    assert_eq!((&paused["paused"], &paused["next_at"]), (&json!(true), &Value::Null), "{paused}");
    rig.crash().await;
    let listed = ok(&rig.dispatcher, "schedule_list", json!({})).await;
    assert_eq!((&listed["count"], &listed["schedules"][0]["paused"]), (&json!(1), &json!(true)), "{listed}");
    assert_eq!(ok(&rig.dispatcher, "schedule_resume", id.clone()).await["paused"], false);

    let run = ok(&rig.dispatcher, "schedule_run", id.clone()).await;
    let next = (run["next"]["tool"].as_str().unwrap(), run["next"]["arguments"].clone());
    let ended = ok(&rig.dispatcher, next.0, next.1).await;
    assert_eq!((&ended["state"], &ended["outputs"]["a"]), (&json!("succeeded"), &json!(7)), "{ended}");
    let shown = ok(&rig.dispatcher, "schedule_get", id.clone()).await;
    assert_eq!(shown["runs"][0]["workflow_id"], run["workflow_id"], "{shown}");

    assert_eq!(ok(&rig.dispatcher, "schedule_remove", id.clone()).await["removed"], true);
    assert_eq!(failed(&rig.dispatcher, "schedule_get", id).await["code"], "not_found");
    let wrong = failed(&rig.dispatcher, "schedule_get", json!({"schedule_id": "the nightly one"})).await;
    assert_eq!((&wrong["code"], &wrong["field"]), (&json!("wrong_argument"), &json!("schedule_id")));
    let words = failed(&rig.dispatcher, "schedule_create", json!({"name": "w", "cron": "at night", "steps": []})).await;
    assert!(words["problems"].as_array().is_some_and(|problems| problems.len() >= 2), "{words}");
}
