//! `--all-homes`: one command for every home of the mesh.

use serde_json::{Value, json};

use crate::fixture::{Node, wait_until};

/// Two nodes that have heard of each other's ledger.
fn pair() -> (Node, Node) {
    let one = Node::start_with_key("");
    let other = Node::start_beside(&one, "", |_| {});
    wait_until("they do not hear of each other's home", || (homes(&one).len() == 2).then_some(()));
    (one, other)
}

fn homes(node: &Node) -> Vec<Value> {
    node.json(&["home", "ls"])["items"].as_array().unwrap().clone()
}

/// A task that waits for ever.
fn waiting(node: &Node) -> String {
    node.json(&["task", "submit", "--kind", "noop", "--requires", "label.role == \"nobody\""])["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn ids(listing: &Value) -> Vec<String> {
    let items = listing["items"].as_array().unwrap();
    let mut ids: Vec<String> = items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn the_tasks_of_all_homes_are_listed_and_homes_that_are_away_are_named() {
    let (one, mut other) = pair();
    let mut tasks = vec![waiting(&one), waiting(&other), waiting(&other)];
    tasks.sort_unstable();
    assert_eq!(ids(&one.json(&["task", "ls"])).len(), 1, "without it, this node's home alone");
    let all = one.json(&["task", "ls", "--all-homes"]);
    assert_eq!((ids(&all), &all["unreachable_homes"]), (tasks.clone(), &json!([])));
    // Page after page, from one home to the next.
    let (mut paged, mut cursor) = (Vec::new(), None);
    for _ in 0..3 {
        let after: Vec<String> = cursor.iter().flat_map(|id: &String| ["--cursor".to_owned(), id.clone()]).collect();
        let words = ["task", "ls", "--all-homes", "--limit", "1"].into_iter().chain(after.iter().map(String::as_str));
        let page = one.json(&words.collect::<Vec<_>>());
        paged.extend(ids(&page));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
    }
    paged.sort_unstable();
    assert_eq!((paged, cursor), (tasks, None));

    let away = other.json(&["status"])["ledger"].clone();
    other.kill();
    let rest = wait_until("it is not missed", || {
        let rest = one.json(&["task", "ls", "--all-homes"]);
        (!rest["unreachable_homes"].as_array().unwrap().is_empty()).then_some(rest)
    });
    assert_eq!(ids(&rest).len(), 1);
    assert_eq!(rest["unreachable_homes"][0]["ledger"], away);
    let told = one.ctl(&["task", "ls", "--all-homes"]).with(0).stdout;
    assert!(told.contains(&format!("incomplete: {} at ", away.as_str().unwrap())), "{told}");
    // Who changes something learns by the exit code that it was not done everywhere.
    let paused = one.ctl(&["queue", "pause", "--all-homes", "-o", "json"]).with(4).json();
    assert_eq!((paused["homes"].as_array().unwrap().len(), &paused["unreachable_homes"][0]["ledger"]), (1, &away));
}

#[test]
fn all_queues_are_paused_counted_and_cleared_by_one_command() {
    let (one, other) = pair();
    waiting(&one);
    waiting(&other);
    one.json(&["queue", "pause", "--all-homes", "--reason", "a look at the disks"]);
    for node in [&one, &other] {
        assert_eq!(node.json(&["queue", "stats"])["paused"][0]["reason"], "a look at the disks");
    }
    one.json(&["queue", "resume", "--all-homes"]);
    let stats = one.json(&["queue", "stats", "--all-homes"]);
    let homes = stats["homes"].as_array().unwrap();
    for home in homes {
        assert_eq!((&home["queue"]["paused"], &home["queue"]["ready"]), (&json!([]), &json!(1)), "{home:#}");
        assert_eq!(home["queue"]["ledger"], home["ledger"]);
    }
    assert_eq!(homes.len(), 2);
    let told = one.ctl(&["queue", "clear", "--all-homes"]).with(2).stderr;
    assert!(told.contains("among 2 waiting ones; add --confirm"), "{told}");
    let cleared = one.json(&["queue", "clear", "--all-homes", "--confirm"]);
    let tasks: Vec<&Value> = cleared["homes"].as_array().unwrap().iter().map(|home| &home["queue"]["tasks"]).collect();
    assert_eq!(tasks, [&json!(1), &json!(1)]);
    for listing in [["workflow", "ls"], ["schedule", "ls"], ["dlq", "ls"]] {
        let all = one.json(&[listing[0], listing[1], "--all-homes"]);
        assert_eq!((&all["items"], &all["unreachable_homes"]), (&json!([]), &json!([])), "{listing:?}");
    }
    let twice = one.ctl(&["queue", "pause", "--all-homes", "--if-version", "3"]).with(2).stderr;
    assert!(twice.contains("cannot be used with"), "{twice}");
}
