//! Workflows that run by the calendar.

use serde_json::{Value, json};

use crate::fixture::{Node, nodectl};

const NIGHTLY: &str = "name: nightly\nschedule: {cron: '30 2 * * *', timezone: Europe/Berlin, catch_up: 1}\n\
                       steps:\n  - {name: a, kind: noop}\n";

#[test]
fn a_file_with_a_schedule_makes_one_that_is_shown_paused_run_and_removed() {
    let node = Node::start();
    let file = node.file("nightly.yaml", NIGHTLY);
    let made = node.json(&["run", &file]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["schedule"], true);
    assert!(made["next_at"].as_str().unwrap().ends_with(":30:00.000Z"), "{made}");
    let shown = node.json(&["schedule", "get", id]);
    assert_eq!((&shown["cron"], &shown["timezone"]), (&json!("30 2 * * *"), &json!("Europe/Berlin")));
    assert_eq!((&shown["overlap"], &shown["catch_up"], &shown["jitter"]), (&json!("skip"), &json!(1), &json!("0ms")));
    assert_eq!((&shown["next_at"], &shown["last_at"], &shown["runs"]), (&made["next_at"], &Value::Null, &json!([])));
    assert_eq!((&shown["fired"], &shown["missed"], &shown["skipped"]), (&json!(0), &json!(0), &json!(0)));
    assert_eq!(node.json(&["status"])["queue"]["schedules"], 1);

    let run = node.json(&["schedule", "run-now", id])["id"].as_str().unwrap().to_owned();
    let ended = node.json(&["workflow", "wait", &run, "--timeout", "60s"]);
    assert_eq!((&ended["state"], &ended["schedule"]), (&json!("succeeded"), &json!(id)));
    assert_eq!(node.json(&["schedule", "get", id])["runs"][0]["id"], json!(run));

    let paused = node.json(&["schedule", "pause", id]);
    assert_eq!((&paused["paused"], &paused["next_at"]), (&json!(true), &Value::Null));
    assert_eq!(node.json(&["schedule", "resume", id])["next_at"], made["next_at"]);
    let table = node.ctl(&["schedule", "ls"]).with(0).stdout;
    assert!(table.starts_with("SCHEDULE ") && table.contains(id) && table.contains("Europe/Berlin"), "{table}");
    assert_eq!(node.json(&["schedule", "ls"])["items"][0]["id"], json!(id));
    assert_eq!(node.json(&["schedule", "rm", id])["removed"], true);
    node.ctl(&["schedule", "get", id]).with(3);
}

#[test]
fn a_dry_run_names_the_next_five_times_and_a_schedule_is_not_waited_for() {
    let node = Node::start();
    let file = node.file("nightly.yaml", NIGHTLY);
    let plan = node.json(&["run", &file, "--dry-run"]);
    assert_eq!(plan["next_times"].as_array().unwrap().len(), 5);
    assert!(node.ctl(&["run", &file, "--dry-run"]).with(0).stdout.contains("next times: "));
    let told = node.ctl(&["run", &file, "--wait"]).with(2).stderr;
    assert!(told.contains("a schedule does not end"), "{told}");
    assert_eq!(node.json(&["schedule", "ls"])["items"], json!([]));
    let told = node.ctl(&["run", &file]).with(0).stdout;
    assert!(told.contains(" is a schedule; its first run is in "), "{told}");
}

#[test]
fn a_wrong_schedule_is_told_with_its_line() {
    let node = Node::start();
    let file = node.file(
        "wrong.yaml",
        "name: w\nschedule:\n  cron: 61 * * * *\n  timezone: Berlin\nsteps:\n  - {name: a, kind: noop}\n",
    );
    let told = node.ctl(&["run", &file]).with(2).stderr;
    assert!(told.contains("wrong.yaml:3: \"61\" is no value of the field (minute)"), "{told}");
    nodectl(&["schedule", "pause"]).with(2);
}
