//! What waits for a person, as the person sees it.

use serde_json::{Value, json};

use crate::fixture::Node;

const GATED: &str = "name: release\nsteps:\n\
    - {name: build, kind: noop}\n\
    - {name: gate, kind: approval, needs: [build], input: {version: 7}}\n\
    - {name: ship, kind: noop, needs: [gate]}\n";

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// The one approval that waits.
fn waiting(node: &Node) -> Value {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let listed = node.json(&["approval", "ls"]);
        if let [one] = &listed["items"].as_array().unwrap()[..] {
            return one.clone();
        }
        assert!(std::time::Instant::now() < deadline, "{listed}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_person_lets_a_workflow_go_on_or_ends_it() {
    let node = Node::start();
    let file = node.file("gated.yaml", GATED);
    assert!(node.ctl(&["approval", "ls"]).with(0).stdout.contains("nothing waits for a decision"));
    for (word, exit, state) in [("approve", 0, "succeeded"), ("deny", 1, "failed")] {
        let submitted = node.json(&["workflow", "submit", &file]);
        let gate = waiting(&node);
        let (id, workflow) = (text(&gate["id"]), text(&gate["workflow"]));
        assert_eq!(
            (&gate["step"], &gate["input"], &submitted["id"]),
            (&json!("gate"), &json!({"version": 7}), &json!(workflow))
        );
        let why = node.ctl(&["task", "why-pending", &id]).with(0).stdout;
        assert!(why.contains(&format!("nodectl approval approve {id}")), "{why}");
        let table = node.ctl(&["approval", "ls", "--workflow", &workflow]).with(0).stdout;
        assert!(table.contains("gate") && table.contains("version"), "{table}");

        let decided = node.json(&["approval", word, &id, "--comment", "looked at", "--by", "ann"]);
        assert!(text(&decided["words"]).contains("by operator:ann at "), "{decided}");
        assert_eq!(node.json(&["approval", word, &id, "--by", "bob"]), decided, "the first decision is the one");
        let other = if word == "approve" { "deny" } else { "approve" };
        let refused = node.ctl(&["approval", other, &id]).with(6).stderr;
        assert!(refused.contains("by operator:ann at ") && refused.contains("looked at"), "{refused}");
        let ended = node.ctl(&["workflow", "wait", &workflow, "-o", "json"]).with(exit);
        assert_eq!(ended.json()["state"], state, "{ended:?}");
    }
    let unknown = node.ctl(&["approval", "approve", "01JD0000000000000000000000-k3v9x2aq"]);
    assert!([3, 4].contains(&unknown.code.unwrap()), "{unknown:?}");
}

#[test]
fn what_is_no_approval_is_not_approved() {
    let node = Node::start();
    let id = text(&node.json(&["task", "submit", "--kind", "sleep", "--input", "\"10m\""])["id"]);
    assert!(node.ctl(&["approval", "approve", &id]).with(6).stderr.contains("kind sleep"));
}
