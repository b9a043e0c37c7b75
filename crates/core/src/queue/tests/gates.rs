//! Persist, then send, then reply (2.3, durability).

use super::*;

fn unsynced() -> Bench {
    let mut home = Bench::new();
    home.syncs = false;
    home
}

fn written(home: &mut Bench) {
    let synced = home.ledger.outbox.synced();
    home.event(Event::Durable(Watermark { written: home.index(), synced }));
}

fn synced(home: &mut Bench) {
    home.sync();
    home.settle();
}

fn of_class(durability: Durability) -> TaskSpec {
    TaskSpec { durability, ..noop() }
}

/// Submits without waiting for the answer.
fn submit(home: &mut Bench, spec: TaskSpec) -> ReplyTo {
    let operation = home.operation();
    let answer = home.ask_as(peer(0), LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] });
    if let Some(answer) = answer {
        home.left.push(Effect::Reply { to: ReplyTo(home.replies), reply: answer });
    }
    ReplyTo(home.replies)
}

fn answered(home: &Bench, wanted: ReplyTo) -> bool {
    home.left.iter().any(|effect| matches!(effect, Effect::Reply { to, .. } if *to == wanted))
}

#[test]
fn an_acknowledgement_waits_for_its_class() {
    for (class, at_once, when_written) in
        [(Durability::Memory, true, true), (Durability::Async, false, true), (Durability::Sync, false, false)]
    {
        let mut home = unsynced();
        let reply = submit(&mut home, of_class(class));
        assert_eq!(answered(&home, reply), at_once, "{class:?}");
        written(&mut home);
        assert_eq!(answered(&home, reply), when_written, "{class:?}");
        synced(&mut home);
        assert!(answered(&home, reply), "{class:?}");
    }
}

#[test]
fn a_grant_waits_for_its_class() {
    for (class, at_once, when_written) in
        [(Durability::Memory, 1, 1), (Durability::Async, 0, 1), (Durability::Sync, 0, 0)]
    {
        let mut home = unsynced();
        submit(&mut home, of_class(class));
        home.worker(0, 1);
        assert_eq!(home.grants().len(), at_once, "{class:?}");
        written(&mut home);
        assert_eq!(home.grants().len(), when_written - at_once, "{class:?}");
        synced(&mut home);
        assert_eq!(home.grants().len(), 1 - when_written, "{class:?}");
    }
}

#[test]
fn a_commit_and_a_read_of_it_wait_for_the_sync_in_async_too() {
    for class in [Durability::Async, Durability::Sync] {
        let mut home = Bench::new();
        let grant = home.granted(of_class(class));
        home.syncs = false;
        let outcome = vec![completion(&grant, success("done"))];
        assert_eq!(home.ask_as(peer(1), LedgerRequest::Complete(outcome)), None);
        let read = home.ask_as(peer(0), LedgerRequest::GetTask { id: grant.fence.task });
        let why = home.ask_as(peer(0), LedgerRequest::WhyPending { id: grant.fence.task });
        assert_eq!((read, why), (None, None));
        written(&mut home);
        assert_eq!(home.answer_to(ReplyTo(home.replies)), None);
        synced(&mut home);
        assert!((0..3).all(|n| home.answer_to(ReplyTo(home.replies - n)).is_some()), "{class:?}");
    }
}

#[test]
fn who_waits_for_a_task_hears_of_its_end_once_it_is_on_the_disk() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    assert_eq!(home.ask_as(peer(0), LedgerRequest::WaitTask { id: grant.fence.task, timeout_ms: 9_000 }), None);
    let waiting = ReplyTo(home.replies);
    home.syncs = false;
    home.ask_as(peer(1), LedgerRequest::Complete(vec![completion(&grant, success("done"))]));
    assert!(!answered(&home, waiting));
    synced(&mut home);
    let Some(LedgerReply::Task(view)) = home.answer_to(waiting) else { panic!("nobody was told") };
    assert_eq!(view.state, TaskState::Succeeded);
}

#[test]
fn impatience_is_answered_with_what_is() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    assert_eq!(home.ask_as(peer(0), LedgerRequest::WaitTask { id, timeout_ms: 1_000 }), None);
    let waiting = ReplyTo(home.replies);
    home.pass(900);
    assert!(!answered(&home, waiting));
    home.pass(100);
    let Some(LedgerReply::Task(view)) = home.answer_to(waiting) else { panic!("nobody was told") };
    assert_eq!(view.state, TaskState::Ready);
}

#[test]
fn a_renewal_waits_for_the_start_or_the_revival_that_it_says() {
    for expired in [false, true] {
        let mut home = Bench::new();
        let grant = home.granted(noop());
        if expired {
            home.pass(limits::LEASE_TTL_MS + 100);
        }
        home.syncs = false;
        for _ in 0..2 {
            assert_eq!(home.ask_as(peer(1), LedgerRequest::Renew(vec![renewal(&grant, !expired)])), None);
        }
        synced(&mut home);
        assert!(answered(&home, ReplyTo(home.replies)) && answered(&home, ReplyTo(home.replies - 1)));
    }
}

#[test]
fn a_task_found_by_its_key_is_acknowledged_as_durable_as_at_first() {
    let mut home = unsynced();
    let spec = TaskSpec { idempotency_key: Some("a".to_owned()), ..noop() };
    submit(&mut home, spec.clone());
    let second = submit(&mut home, spec);
    assert!(!answered(&home, second));
    synced(&mut home);
    assert!(answered(&home, second));
}

#[test]
fn nothing_of_a_generation_leaves_before_its_record_is_on_the_disk() {
    let now = Now { mono_ms: 0, wall_ms: START_MS };
    let mut ledger = Replay::new(identity(1)).open(now);
    let caller = Caller { peer: peer(0), owner: "someone".into() };
    let items = vec![SubmitItem::one(of_class(Durability::Memory))];
    let request = LedgerRequest::Submit { operation: OperationId([1; 16]), items };
    ledger.handle(now, Event::Request { caller, request, reply: ReplyTo(1) });
    assert!(ledger.take_effects().is_empty());
    ledger.handle(now, Event::Durable(Watermark { written: LogIndex(1), synced: LogIndex(0) }));
    assert!(ledger.take_effects().is_empty());
    ledger.handle(now, Event::Durable(Watermark { written: LogIndex(1), synced: LogIndex(1) }));
    let left = ledger.take_effects();
    assert!(matches!(left[..], [Effect::Reply { .. }, Effect::PublishHead { .. }]), "{left:?}");
}

#[test]
fn a_head_is_published_after_its_record_is_on_the_disk() {
    let mut home = unsynced();
    home.left.clear();
    submit(&mut home, noop());
    let heads = |home: &Bench| {
        let heads = home.left.iter().filter_map(|effect| match effect {
            Effect::PublishHead { count, event } => Some((*count, *event)),
            _ => None,
        });
        heads.collect::<Vec<_>>()
    };
    written(&mut home);
    assert!(heads(&home).is_empty());
    synced(&mut home);
    let last = home.log.last().map(|entry| (entry.index, entry.event)).unwrap();
    assert_eq!(heads(&home), [last]);
}

#[test]
fn a_batch_is_written_in_its_strictest_class() {
    let mut home = unsynced();
    let operation = home.operation();
    let items = [Durability::Async, Durability::Sync].map(|class| SubmitItem::one(of_class(class))).to_vec();
    assert_eq!(home.ask_as(peer(0), LedgerRequest::Submit { operation, items }), None);
    assert_eq!(home.log.last().unwrap().durability, Durability::Sync);
}

#[test]
fn that_a_task_is_not_kept_any_more_is_said_once_it_is_on_the_disk() {
    let mut home = Bench::new();
    home.ledger.set_retention(RetentionPolicy { terminal: DurationMs(1_000), ..RetentionPolicy::default() });
    let id = home.submit(noop());
    home.cancel(id);
    home.syncs = false;
    home.pass(2_000);
    assert_eq!(home.ask_as(peer(0), LedgerRequest::GetTask { id }), None);
    home.sync();
    home.settle();
    let answer = home.answer_to(ReplyTo(home.replies));
    assert!(matches!(answer, Some(LedgerReply::Refused(Refusal::Pruned { .. }))), "{answer:?}");
}
