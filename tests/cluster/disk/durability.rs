//! What each class of durability costs the disk, and what it keeps (2.3), at a real node.

use std::path::Path;

use magpie::store::blobs::Blobs;
use magpie::store::data_dir::DataDir;
use magpie::store::log::{LedgerLog, LogCallbacks};
use magpie::store::spool::Spool;
use magpie_core::ids::{LedgerId, LogIndex, PeerId, TaskId};
use magpie_core::queue::{
    Caller, Effect, Event, Ledger, LedgerIdentity, LedgerReply, LedgerRequest, Replay, ReplyTo, Watermark,
};
use magpie_core::task::TaskState;
use magpie_core::time::Now;
use magpie_net::NodeKey;
use serde_json::Value;

use super::apart::apart;
use super::crashes::crash_everywhere;
use super::fuse::Mounted;
use super::node::{TestNode, wait_until};
use super::recorded::Disk;
use super::run::{self, Said};

fn id(text: &str) -> TaskId {
    text.parse().unwrap()
}

/// Submits one task of a class and waits for its end.
fn one(node: &TestNode, class: &str) -> Value {
    node.json(&["task", "submit", "--kind", "noop", "--durability", class, "--wait"])
}

/// How often the disk was told to keep something while `act` ran, and for how many seconds that was.
fn syncs_of(disk: &Disk, act: impl FnOnce()) -> (u64, u64) {
    let (before, began) = (disk.syncs(), std::time::Instant::now());
    act();
    ((disk.syncs() - before) as u64, began.elapsed().as_secs() + 1)
}

#[test]
fn tasks_of_class_memory_cost_no_sync_and_the_class_of_each_is_shown() {
    apart("durability::tasks_of_class_memory_cost_no_sync_and_the_class_of_each_is_shown", || {
        let Some(mounted) = Mounted::new(Disk::new()) else { return };
        let node = TestNode::start(&mounted.path("data"));
        one(&node, "sync");
        let (synced, _) = syncs_of(&mounted.disk, || {
            for _ in 0..20 {
                one(&node, "sync");
            }
        });
        assert!(synced >= 40, "a submission and a commit each: {synced}");
        let (synced, seconds) = syncs_of(&mounted.disk, || {
            for _ in 0..20 {
                one(&node, "memory");
            }
        });
        // How many there are is written once a second, for whoever asks after a crash how many were lost.
        assert!(synced <= seconds + 1, "{synced} in {seconds} s");
        for class in ["memory", "async", "sync"] {
            let accepted = node.submit(&["--kind", "noop", "--durability", class]);
            assert_eq!(node.json(&["task", "get", &accepted])["durability"], class);
        }
    });
}

#[test]
fn what_a_node_acknowledged_in_class_sync_survives_a_power_loss_at_any_request() {
    apart("durability::what_a_node_acknowledged_in_class_sync_survives_a_power_loss_at_any_request", || {
        let Some(mounted) = Mounted::new(Disk::new()) else { return };
        let mut node = TestNode::start(&mounted.path("data"));
        for n in 0..30 {
            let class = ["sync", "async", "memory"][n % 3];
            let accepted = node.submit(&["--kind", "noop", "--durability", class]);
            if class == "sync" {
                mounted.disk.say(Said::Accepted(id(&accepted)));
            }
            wait_until("it does not succeed", || (node.state(&accepted) == "succeeded").then_some(()));
            // An end is shown after its sync, in class `async` too.
            if class != "memory" {
                mounted.disk.say(Said::Succeeded(id(&accepted)));
            }
        }
        node.terminate();
        wait_until("it does not end", || node.has_ended().then_some(()));
        let happened = mounted.disk.happened();
        drop((node, mounted));
        println!("{} requests to the disk", happened.len());
        crash_everywhere(&happened, "a node's disk at every request", check_node);
    });
}

/// Opens what a crash left of a node's data, and finds what was acknowledged.
fn check_node(root: &Path, said: &[Said]) {
    let dir = DataDir::open(root).unwrap();
    let key = NodeKey::load_or_create(&dir.identity_key()).unwrap();
    run::check_blobs(&dir, said);
    let (_, damage) = Spool::open(&dir.spool()).unwrap();
    assert_eq!(damage, None);
    Blobs::open(dir.blobs()).unwrap();
    let mut home = open_ledger(&dir, key.peer_id());
    for said in said {
        match said {
            Said::Accepted(id) => drop(state(&mut home, *id)),
            Said::Succeeded(id) => assert_eq!(state(&mut home, *id), TaskState::Succeeded),
            other => panic!("a node says no {other:?}"),
        }
    }
}

const NOW: Now = Now { mono_ms: 1_000, wall_ms: 1_900_000_000_000 };

fn open_ledger(dir: &DataDir, home: PeerId) -> Ledger {
    let recovery = LedgerLog::open(dir, LedgerId([1; 16])).unwrap();
    let identity = LedgerIdentity { ledger: recovery.ledger(), home, secret: [2; 32] };
    let mut replay = Replay::new(identity);
    let silent = LogCallbacks {
        on_watermark: Box::new(|_| {}),
        on_failure: Box::new(|_| {}),
        on_reserve: Box::new(|| {}),
        on_recovery: Box::new(|| {}),
    };
    recovery.replay(silent, |entry| replay.apply(entry.index, &entry.body, entry.event)).unwrap();
    let mut ledger = replay.open(NOW);
    ledger.take_entries();
    let all = LogIndex(u64::MAX);
    ledger.handle(NOW, Event::Durable(Watermark { written: all, synced: all }));
    ledger
}

fn state(home: &mut Ledger, id: TaskId) -> TaskState {
    let caller = Caller { peer: PeerId([0; 32]), owner: "test".into() };
    home.handle(NOW, Event::Request { caller, request: LedgerRequest::GetTask { id }, reply: ReplyTo(1) });
    let view = home.take_effects().into_iter().find_map(|effect| match effect {
        Effect::Reply { reply: LedgerReply::Task(view), .. } => Some(view.state),
        _ => None,
    });
    view.unwrap_or_else(|| panic!("{id} was accepted and is gone"))
}
