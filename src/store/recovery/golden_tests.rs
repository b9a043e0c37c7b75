//! Logs of earlier formats, as their programs wrote them.

use std::fs;
use std::path::Path;

use super::*;
use crate::store::log_probe::{LEDGER, Probe};

/// A log that a node of format 1 wrote: a workflow that failed, one that waits, tasks of every written class.
#[test]
fn a_log_of_the_first_format_opens_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/golden/format-1/ledger.db");
    fs::copy(golden, root.path().join("ledger.db")).unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let recovery = LedgerLog::open(&dir, LEDGER).unwrap();
    assert_eq!((recovery.ledger().to_string().as_str(), recovery.start()), ("caxqsd2fouei6rl5xcml6ft5ui", None));
    let identity = magpie_core::queue::LedgerIdentity {
        ledger: recovery.ledger(),
        home: magpie_core::ids::PeerId([1; 32]),
        secret: [2; 32],
    };
    let mut replay = magpie_core::queue::Replay::new(identity);
    let log =
        recovery.replay(Probe::default().callbacks(), |entry| replay.apply(entry.index, &entry.body, entry.event));
    let log = log.unwrap();
    let now = magpie_core::time::Now { mono_ms: 1_000, wall_ms: 1_795_860_000_000 };
    let mut ledger = replay.open(now);
    let entries = ledger.take_entries();
    assert_eq!((ledger.generation().0, entries[0].index), (2, log.next_index()));
    let stats = golden_stats(&mut ledger, now);
    let counts = stats.counts;
    assert_eq!((counts.succeeded, counts.cancelled, counts.failed, counts.ready), (5, 1, 1, 3));
    assert_eq!((stats.submitted, stats.workflows_running), (11, 1));
}

fn golden_stats(
    ledger: &mut magpie_core::queue::Ledger,
    now: magpie_core::time::Now,
) -> Box<magpie_core::queue::QueueStats> {
    use magpie_core::queue::{Caller, Effect, Event, LedgerReply, LedgerRequest, ReplyTo, Watermark};

    let all = LogIndex(u64::MAX);
    ledger.handle(now, Event::Durable(Watermark { written: all, synced: all }));
    let caller = Caller { peer: magpie_core::ids::PeerId([0; 32]), owner: "test".into() };
    ledger.handle(now, Event::Request { caller, request: LedgerRequest::Stats, reply: ReplyTo(1) });
    let stats = ledger.take_effects().into_iter().find_map(|effect| match effect {
        Effect::Reply { reply: LedgerReply::Stats(stats), .. } => Some(stats),
        _ => None,
    });
    stats.unwrap()
}
