//! `nodectl clock verify`.

use std::fs;
use std::os::unix::fs::FileExt;

use serde_json::json;

use crate::fixture::{Node, wait_until};

fn submit(node: &Node, count: &str) {
    node.ctl(&["task", "submit", "--kind", "noop", "--count", count]).with(0);
}

#[test]
fn a_sound_clock_is_followed_to_its_head_and_compared_with_a_peer() {
    let one = Node::start_with_key("");
    let other = Node::start_beside(&one, "", |_| {});
    // More than one piece.
    submit(&one, "3000");
    let verified = wait_until("the two do not agree", || {
        let verified = one.json(&["clock", "verify"]);
        (verified["peers"][0]["ordering"] == "equal" && verified["heads"] == 2).then_some(verified)
    });
    assert_eq!(
        (&verified["sound"], &verified["root_holds"], &verified["refused"]),
        (&json!(true), &json!(true), &json!([]))
    );
    assert_eq!(verified["peers"][0]["peer_id"], other.json(&["status"])["peer_id"]);
    let chain = &verified["chain"];
    assert_eq!((&chain["first"], &chain["broken"]), (&json!(1), &json!(null)), "{chain:#}");
    assert_eq!(chain["last"], verified["own"]["head"]["count"]);
    assert_eq!(chain["records"], chain["last"]);
    let told = one.ctl(&["clock", "verify"]).with(0).stdout;
    assert!(told.contains("nothing is wrong"), "{told}");
}

#[test]
fn a_record_that_was_changed_on_the_disk_is_named() {
    let node = Node::start();
    // Nothing can run it: what an attempt writes beside the record would write its page again, out of memory.
    let arguments =
        ["task", "submit", "--kind", "noop", "--label", "mark=the-needle", "--requires", "gpu.vram >= 1024GiB"];
    node.json(&arguments);
    let mut changed = 0;
    for name in ["ledger.db", "ledger.db-wal"] {
        let path = node.dir.path().join("data").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let needle = b"the-needle";
        let places: Vec<usize> =
            bytes.windows(needle.len()).enumerate().filter(|(_, at)| at == needle).map(|(at, _)| at).collect();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for at in &places {
            bytes[*at] = b'T';
            file.write_all_at(b"T", *at as u64).unwrap();
        }
        changed += places.len();
    }
    assert!(changed > 0, "the record is on the disk");
    let told = node.ctl(&["clock", "verify"]).with(1).stdout;
    assert!(told.contains("WRONG: this node's own chain: ") && told.contains("does not have its digest"), "{told}");
}
