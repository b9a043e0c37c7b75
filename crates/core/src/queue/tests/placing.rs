//! Where work goes when several could run it (2.4): to idle nodes, unless bringing it there costs more.

use super::*;
use crate::ids::ContentId;
use crate::payload::BlobRef;

const MEBIBYTE: u64 = 1 << 20;

impl Bench {
    /// A worker with `slots` offers `free` leases, those beyond its slots for short tasks.
    fn offers(&mut self, n: u8, slots: u32, free: u32, received: u32) {
        self.sendings += 1;
        let name = CreditName { incarnation: Incarnation(1), sending: Sending(self.sendings) };
        let pool = |cpu| Slots { cpu, device: 0 };
        let offer = CreditOffer { name, received: pool(received), free: pool(free), slots: Some(pool(slots)) };
        self.ask_as(peer(n), LedgerRequest::Credit(offer));
    }

    fn joins(&mut self, n: u8) {
        self.event(Event::WorkerSeen { worker: peer(n), capabilities: all_kinds(), alive: true });
    }
}

fn sleep() -> TaskSpec {
    TaskSpec::new(TaskKind::Sleep)
}

fn ran(ms: u64) -> Outcome {
    Outcome { ran_ms: ms, ..success("done") }
}

fn many(home: &mut Bench, spec: TaskSpec, count: u32) {
    let operation = home.operation();
    accepted(home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem { spec: spec.into(), count }] }));
}

fn heavy(bytes: u64) -> TaskSpec {
    TaskSpec { input: Payload::Blob(BlobRef { cid: ContentId([1; 32]), bytes }), ..noop() }
}

/// What went where, by kind.
fn placed(home: &mut Bench, kind: TaskKind) -> Vec<u8> {
    home.grants().into_iter().filter(|(_, grant)| grant.spec.kind == kind).map(|(worker, _)| worker.0[0]).collect()
}

#[test]
fn sleeps_behind_a_backlog_of_noops_leave_the_home_for_idle_peers() {
    let mut home = Bench::new();
    many(&mut home, noop(), 2_000);
    many(&mut home, sleep(), 12);
    home.joins(0);
    let mut received = 0;
    // The home's worker runs no-ops, so it offers far more than its two slots; each is ended at once.
    loop {
        home.offers(0, 2, 514, received);
        let grants: Vec<Grant> = home.grants().into_iter().map(|(_, grant)| grant).collect();
        let noops: Vec<&Grant> = grants.iter().filter(|grant| grant.spec.kind == TaskKind::Noop).collect();
        received += grants.len() as u32;
        assert!(grants.len() - noops.len() <= 2, "the home takes no more sleeps than it has slots");
        if noops.is_empty() {
            break;
        }
        for grant in noops {
            home.complete(grant, ran(0));
        }
    }
    for n in 1..=2 {
        home.joins(n);
        home.offers(n, 2, 2, 0);
    }
    home.pass(100);
    let mut elsewhere = placed(&mut home, TaskKind::Sleep);
    elsewhere.sort_unstable();
    assert_eq!(elsewhere, [1, 1, 2, 2]);
    assert_eq!(home.stats().counts.ready, 6, "the others wait where any idle node can have them");
}

#[test]
fn prefetch_is_for_short_tasks_and_none_stands_behind_a_long_one() {
    let mut home = Bench::new();
    many(&mut home, noop(), 100);
    home.joins(1);
    home.offers(1, 2, 514, 0);
    let first = home.grants();
    assert_eq!(first.len(), 2, "nobody knows yet that they are short");
    home.complete(&first[0].1, ran(0));
    home.complete(&first[1].1, ran(0));
    home.offers(1, 2, 514, 2);
    home.pass(100);
    let noops = home.grants();
    assert!(noops.len() > 40, "{}", noops.len());
    many(&mut home, sleep(), 5);
    home.offers(1, 2, 500, 2 + noops.len() as u32);
    home.pass(100);
    let (sleeps, others): (Vec<_>, Vec<_>) =
        home.grants().into_iter().partition(|(_, grant)| grant.spec.kind == TaskKind::Sleep);
    assert_eq!(sleeps.len(), 2, "a queue of short ones does not keep the slots from the long");
    let all = 2 + noops.len() + sleeps.len() + others.len();
    many(&mut home, noop(), 10);
    home.offers(1, 2, 500, all as u32);
    home.pass(100);
    assert_eq!(home.grants().len(), 0, "both slots are taken for long");
}

#[test]
fn what_is_heavy_runs_where_it_lies_while_the_home_has_a_slot() {
    let mut home = Bench::new();
    for n in 0..5 {
        home.joins(n);
        home.offers(n, 4, 4, 0);
    }
    for _ in 0..4 {
        home.submit(heavy(64 * MEBIBYTE));
    }
    home.pass(100);
    assert_eq!(placed(&mut home, TaskKind::Noop), [0, 0, 0, 0]);
}

#[test]
fn a_heavy_task_goes_to_a_peer_when_its_wait_here_is_longer_than_the_way() {
    let mut home = Bench::new();
    home.joins(0);
    home.joins(1);
    home.offers(0, 1, 1, 0);
    many(&mut home, heavy(64 * MEBIBYTE), 100);
    home.pass(100);
    assert_eq!(placed(&mut home, TaskKind::Noop), [0]);
    home.offers(1, 2, 2, 0);
    home.pass(100);
    assert_eq!(placed(&mut home, TaskKind::Noop), [1, 1], "two seconds of way against a hundred of wait");
}

#[test]
fn no_idle_node_stands_beside_eligible_work_for_more_than_a_second() {
    for bytes in [0, 1, 100 * MEBIBYTE, limits::BLOB_BYTES_MAX] {
        let mut home = Bench::new();
        home.joins(0);
        home.offers(0, 1, 1, 0);
        let first = home.submit(sleep());
        home.pass(100);
        assert_eq!(home.grant().fence.task, first);
        home.joins(1);
        let spec = TaskSpec { input: heavy(bytes).input, ..sleep() };
        home.submit(spec);
        let since_ms = home.now.mono_ms;
        let mut placed_on = Vec::new();
        while placed_on.is_empty() {
            home.offers(1, 2, 2, 0);
            home.pass(100);
            placed_on = placed(&mut home, TaskKind::Sleep);
            let waited_ms = home.now.mono_ms - since_ms;
            assert!(waited_ms <= limits::IDLE_BESIDE_MS_MAX + limits::TICK_MS, "{bytes} B after {waited_ms} ms");
        }
        assert_eq!(placed_on, [1]);
    }
}

#[test]
fn loads_follow_leases_across_release_expiry_and_a_restart() {
    let mut home = Bench::new();
    many(&mut home, sleep(), 3);
    home.joins(1);
    home.offers(1, 1, 10, 0);
    home.pass(100);
    let first = home.grant();
    home.release(&first, ReleaseReason::Recalled);
    home.offers(1, 1, 10, 1);
    home.pass(2_000);
    let second = home.grant();
    let mut home = home.restart(10);
    home.joins(1);
    home.offers(1, 1, 10, 0);
    home.pass(1_000);
    assert!(home.grants().is_empty(), "its one slot is taken, as the log says");
    home.complete(&second, ran(5));
    assert_eq!(home.grants().len(), 1);
}
