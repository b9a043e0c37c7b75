//! A ledger that moves from one node to another, with work under way.

use std::fs;

use serde_json::{Value, json};

use crate::fixture::{Ended, Node, wait_until};

/// Writes down that it started, and waits until it may end.
const WAIT: &str = r#"echo x >>"$1"; while ! [ -e "$2" ]; do sleep 0.05; done; echo '"done"'"#;
const HELD: usize = 3;

fn ledger_of(node: &Node) -> String {
    node.json(&["status"])["ledger"].as_str().unwrap().to_owned()
}

fn peer_of(node: &Node) -> String {
    node.json(&["status"])["peer_id"].as_str().unwrap().to_owned()
}

/// The homes of `ledger`, as `node` heard: its peer and tenure.
fn homes(node: &Node, ledger: &str) -> Vec<(String, u64)> {
    let homes = node.json(&["home", "ls"]);
    let of_ledger = homes["items"].as_array().unwrap().iter().filter(|home| home["ledger"] == ledger);
    of_ledger.map(|home| (home["peer_id"].as_str().unwrap().to_owned(), home["tenure"].as_u64().unwrap())).collect()
}

/// Three members: the home, the one that is to be, and one that only works.
struct Three {
    old: Node,
    new: Node,
    third: Node,
    ledger: String,
    file: String,
}

impl Three {
    fn start() -> Self {
        let old = Node::start_with_key("labels = {old = \"yes\"}\n");
        old.keep_its_port();
        let new = Node::start_beside(&old, "labels = {new = \"yes\"}\n", |_| {});
        let third = Node::start_beside(&old, "labels = {third = \"yes\"}\n", |_| {});
        let all = [&old, &new, &third];
        for node in all {
            wait_until("not all see each other", || {
                let peers = node.json(&["status"])["peers"].clone();
                let alive = peers.as_array().unwrap().iter().filter(|peer| peer["state"] == "alive").count();
                (alive == 2).then_some(())
            });
        }
        let ledger = ledger_of(&old);
        let file = old.dir.path().join("home.ledger").to_str().unwrap().to_owned();
        Self { old, new, third, ledger, file }
    }

    fn export(&self, to: &str) -> Ended {
        self.export_to(to, &self.file)
    }

    fn export_to(&self, to: &str, file: &str) -> Ended {
        self.old.ctl(&["-o", "json", "home", "export", &self.ledger, file, "--to", to, "--confirm"])
    }

    fn import(&self, at: &Node) -> Ended {
        at.ctl(&["-o", "json", "home", "import", &self.file])
    }

    fn submit(&self, task: &Value) -> String {
        let file = self.old.file("task.json", &task.to_string());
        self.old.json(&["task", "submit", &file])["id"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_ledger_moves_with_work_under_way_and_each_task_has_one_result() {
    let mut three = Three::start();
    let marks = tempfile::tempdir().unwrap();
    let go = marks.path().join("go");
    let held = |n: usize| {
        let label = if n == 0 { "old" } else { "third" };
        let run = json!(["sh", "-c", WAIT, "sh", marks.path().join(n.to_string()), go]);
        json!({"kind": "process", "run": run, "requires": format!("label:{label}")})
    };
    let running: Vec<String> = (0..HELD).map(|n| three.submit(&held(n))).collect();
    wait_until("they do not all run", || (0..HELD).all(|n| marks.path().join(n.to_string()).exists()).then_some(()));
    let ended = three.old.json(&["task", "submit", "--kind", "noop", "--wait"])["id"].as_str().unwrap().to_owned();
    three.old.json(&["queue", "pause"]);
    three.old.file("large.txt", &"x".repeat(100_000));
    let run = json!(["sh", "-c", "wc -c <large.txt"]);
    let large = json!({"kind": "process", "run": run, "files": ["large.txt"], "requires": "label:third"});
    let waiting = three.submit(&large);

    let to = peer_of(&three.new);
    let exported = three.export(&to).with(0).json();
    assert_eq!((&exported["to"], &exported["tenure"], &exported["blobs"]), (&json!(to), &json!(2), &json!(1)));
    // Until it is served again nobody serves it: what is asked for is not lost, and not said to be.
    let asked = three.old.ctl(&["task", "get", &ended]).with(4);
    assert!(asked.stderr.contains("the task is kept where its home is"), "{asked:?}");
    assert_eq!(three.third.ctl(&["task", "get", &ended]).code, Some(4));
    let refused = three.old.ctl(&["task", "submit", "--kind", "noop"]).with(6);
    assert!(refused.stderr.contains(&format!("was handed over to {to}")), "{refused:?}");
    assert!(three.old.ctl(&["status"]).with(0).stdout.contains("\nhanded over: "));

    let imported = three.import(&three.new).with(0).json();
    assert!(!three.new.log().contains(" ERROR "), "a ledger that is opened anew is no fault");
    assert_eq!(imported["ledger"], three.ledger.as_str());
    assert_eq!(ledger_of(&three.new), three.ledger);
    for node in [&three.old, &three.new, &three.third] {
        wait_until("not all believe the new home, and it alone", || {
            (homes(node, &three.ledger) == [(to.clone(), 2)]).then_some(())
        });
        let task = node.json(&["task", "get", &ended]);
        assert_eq!((&task["state"], &task["home"]), (&json!("succeeded"), &json!(to)), "{task:#}");
    }
    fs::write(&go, "").unwrap();
    three.new.json(&["queue", "resume"]);
    for id in running.iter().chain([&waiting]) {
        let task = three.old.json(&["task", "wait", id, "--timeout", "60s"]);
        assert_eq!((&task["state"], &task["home"]), (&json!("succeeded"), &json!(to)), "{task:#}");
    }
    assert_eq!(three.third.json(&["task", "get", &waiting])["output"], 100_000);
    let queue = three.new.json(&["status"])["queue"].clone();
    assert_eq!((&queue["succeeded"], &queue["running"], &queue["dead"]), (&json!(HELD + 2), &json!(0), &json!(0)));

    // The old one remembers, and is a member and a worker as before.
    three.old.kill();
    three.old.start_again();
    three.old.until_it_answers();
    assert_eq!(three.old.ctl(&["task", "submit", "--kind", "noop"]).code, Some(6));
    wait_until("it does not hear of the new home", || {
        (three.old.ctl(&["task", "get", &ended]).code == Some(0)).then_some(())
    });
    let there = ["task", "submit", "--kind", "noop", "--wait", "--timeout", "60s", "--home", &three.ledger];
    assert_eq!(three.old.json(&there)["state"], "succeeded");
    // That the old one was lost is not that the home was: its own worker still works for it.
    let here = ["task", "submit", "--kind", "noop", "--requires", "label:new", "--wait", "--timeout", "60s"];
    assert_eq!(three.new.json(&here)["state"], "succeeded");
}

#[test]
fn a_handover_is_for_one_node_and_is_given_again_as_it_was() {
    let mut three = Three::start();
    three.old.json(&["task", "submit", "--kind", "noop", "--wait"]);
    let (old, new, third) = (peer_of(&three.old), peer_of(&three.new), peer_of(&three.third));
    let itself = three.export(&old).with(3);
    assert!(itself.stderr.contains("no member"), "{itself:?}");
    let first = three.export(&new).with(0).json();
    let bytes = fs::read(&three.file).unwrap();
    let other = three.export(&third).with(2);
    assert!(other.stderr.contains("for good"), "{other:?}");
    three.old.kill();
    three.old.start_again();
    three.old.until_it_answers();
    fs::remove_file(&three.file).unwrap();
    wait_until("it does not hear of the member", || {
        let peers = three.old.json(&["peer", "ls"])["items"].clone();
        peers.as_array().unwrap().iter().any(|peer| peer["peer_id"] == new.as_str()).then_some(())
    });
    assert_eq!(three.export(&new).with(0).json(), first);
    assert!(bytes == fs::read(&three.file).unwrap());

    // A copy of the file makes no second home.
    let thief = three.import(&three.third).with(2);
    assert!(thief.stderr.contains("import it there"), "{thief:?}");
    three.import(&three.new).with(0);
    let again = three.import(&three.new).with(2);
    assert!(again.stderr.contains("serves ledger"), "{again:?}");
    three.import(&three.third).with(2);
    assert_eq!(homes(&three.new, &three.ledger), [(new, 2)]);
}

#[test]
fn a_node_whose_ledger_holds_something_takes_no_other_in() {
    let three = Three::start();
    let own = ledger_of(&three.new);
    three.export(&peer_of(&three.new)).with(0);
    three.new.json(&["task", "submit", "--kind", "noop", "--wait"]);
    let refused = three.import(&three.new).with(2);
    assert!(refused.stderr.contains("holds 0 tasks that have not ended, 1 that have"), "{refused:?}");
    assert_eq!(ledger_of(&three.new), own);
    assert_eq!(three.new.json(&["task", "submit", "--kind", "noop", "--wait"])["state"], "succeeded");
    let nothing = three.new.ctl(&["home", "import", "/nonexistent/file"]).with(2);
    assert!(nothing.stderr.contains("cannot read"), "{nothing:?}");
}

#[test]
fn nothing_is_sealed_before_the_file_can_be_written_and_the_other_node_could_import_it() {
    let mut three = Three::start();
    let (new, third) = (peer_of(&three.new), peer_of(&three.third));
    let dir = three.old.dir.path().to_str().unwrap().to_owned();
    let kept = three.old.file("kept", "not a ledger");
    for (file, words) in [
        (format!("{dir}/absent/home.ledger"), "there is no directory"),
        (dir.clone(), "no regular file"),
        ("/dev/null".to_owned(), "no regular file"),
        (kept.clone(), "it would be lost"),
    ] {
        let refused = three.export_to(&new, &file).with(2);
        assert!(refused.stderr.contains(words) && refused.stderr.contains("nothing was sealed"), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(kept).unwrap(), "not a ledger");
    three.third.json(&["task", "submit", "--kind", "noop", "--wait"]);
    let full = three.export(&third).with(2);
    assert!(full.stderr.contains("accepted 1 tasks") && full.stderr.contains("nothing was sealed"), "{full:?}");
    let unsaid = three.old.ctl(&["home", "export", &three.ledger, &three.file, "--to", &new]).with(2);
    assert!(unsaid.stderr.contains("add --confirm"), "{unsaid:?}");
    three.new.kill();
    let gone = three.export(&new).with(4);
    assert!(gone.stderr.contains("must be there") && gone.stderr.contains("nothing was sealed"), "{gone:?}");
    assert!(!std::path::Path::new(&three.file).exists());
    // All of that changed nothing.
    assert_eq!(three.old.json(&["task", "submit", "--kind", "noop", "--wait"])["state"], "succeeded");
    three.new.start_again();
    three.new.until_it_answers();
    wait_until("it cannot be exported once the other is back", || (three.export(&new).code == Some(0)).then_some(()));
    let told = three.old.ctl(&["status"]).with(0).stdout;
    assert!(told.contains(&format!("was handed over to {new}")), "{told}");
}
