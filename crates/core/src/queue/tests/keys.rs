//! Idempotency keys: one task per key and namespace of a home, until the key expires (2.1).

use super::*;

const DAY_MS: u64 = 86_400_000;

fn keyed(key: &str, input: u64) -> TaskSpec {
    let input = Payload::Inline(JsonText::of(&serde_json::Value::from(input)));
    TaskSpec { idempotency_key: Some(key.to_owned()), input, ..noop() }
}

fn submit(home: &mut Bench, spec: &TaskSpec) -> SubmitAnswer {
    let operation = home.operation();
    let items = vec![SubmitItem::one(spec.clone())];
    match home.ask(LedgerRequest::Submit { operation, items }) {
        LedgerReply::Submitted { mut answers } => answers.remove(0),
        other => panic!("{other:?}"),
    }
}

fn id(answer: &SubmitAnswer) -> TaskId {
    match answer {
        SubmitAnswer::Accepted { id } => *id,
        SubmitAnswer::Refused(refusal) => panic!("{refusal}"),
    }
}

/// Days pass while the home stands still, and one tick.
fn wall_passes(home: &mut Bench, ms: u64) {
    home.now.wall_ms += ms;
    home.now.mono_ms += ms;
    home.event(Event::Tick);
    home.pass(100);
}

#[test]
fn a_hundred_submits_of_one_key_make_one_task() {
    let mut home = Bench::new();
    home.syncs = false;
    let asked: Vec<ReplyTo> = (0..100)
        .map(|n| {
            let (items, operation) = (vec![SubmitItem::one(keyed("a", 1))], home.operation());
            let early = home.ask_as(peer(n % 5), LedgerRequest::Submit { operation, items });
            assert_eq!(early, None, "nothing is on the disk yet");
            ReplyTo(home.replies)
        })
        .collect();
    home.sync();
    home.settle();
    let first = accepted(home.answer_to(asked[0]).unwrap());
    for reply in &asked[1..] {
        assert_eq!(accepted(home.answer_to(*reply).unwrap()), first);
    }
    home.syncs = true;
    assert_eq!(home.stats().submitted, 1);
}

#[test]
fn a_key_belongs_to_the_namespace_and_not_to_who_submits() {
    let mut home = Bench::new();
    let first = id(&submit(&mut home, &keyed("a", 1)));
    let caller = Caller { peer: peer(3), owner: "someone else".into() };
    home.replies += 1;
    let (reply, operation) = (ReplyTo(home.replies), home.operation());
    let request = LedgerRequest::Submit { operation, items: vec![SubmitItem::one(keyed("a", 1))] };
    home.event(Event::Request { caller, request, reply });
    assert_eq!(accepted(home.answer_to(reply).unwrap()), [first]);
    let elsewhere = TaskSpec { namespace: "other".to_owned(), ..keyed("a", 1) };
    assert_ne!(id(&submit(&mut home, &elsewhere)), first);
}

#[test]
fn a_key_is_free_again_when_its_time_is_over_on_the_homes_wall_clock() {
    let mut home = Bench::new();
    let short = TaskSpec { idempotency_ttl: Some(DurationMs(3_600_000)), ..keyed("short", 1) };
    let (long, brief) = (id(&submit(&mut home, &keyed("long", 1))), id(&submit(&mut home, &short)));
    wall_passes(&mut home, 3_590_000);
    assert_eq!(id(&submit(&mut home, &short)), brief);
    wall_passes(&mut home, 20_000);
    let again = id(&submit(&mut home, &short));
    assert_ne!(again, brief);
    assert_eq!(id(&submit(&mut home, &short)), again);
    assert_eq!(id(&submit(&mut home, &keyed("long", 1))), long);
    wall_passes(&mut home, DAY_MS);
    assert_ne!(id(&submit(&mut home, &keyed("long", 1))), long);
    let mut home = home.restart(0);
    assert_eq!(id(&submit(&mut home, &keyed("long", 1))), *home.ledger.state.order.last().unwrap());
}

/// Among new tasks stand one whose key is known and one that is refused; their places must not shift.
#[test]
fn a_batch_that_is_sent_again_gets_its_first_answers_whatever_became_of_its_tasks() {
    let mut home = Bench::new();
    home.worker(1, 9);
    let known = id(&submit(&mut home, &keyed("a", 1)));
    let plain = |n: u64| TaskSpec { idempotency_key: None, ..keyed("", n) };
    let wrong = TaskSpec { kind: TaskKind::Workflow, ..noop() };
    let specs = [keyed("a", 1), plain(1), wrong, plain(2), keyed("b", 3)];
    let (operation, items) = (home.operation(), specs.map(SubmitItem::one).to_vec());
    let request = LedgerRequest::Submit { operation, items };
    let first = home.ask(request.clone());
    let LedgerReply::Submitted { answers } = &first else { panic!("{first:?}") };
    assert_eq!(id(&answers[0]), known);
    assert!(matches!(answers[2], SubmitAnswer::Refused(Refusal::Invalid { .. })));
    let new = [id(&answers[1]), id(&answers[3]), id(&answers[4])];
    assert_eq!(home.ask(request.clone()), first);
    home.pass(200);
    for (_, grant) in home.grants() {
        home.complete(&grant, success("done"));
    }
    for gone in new {
        assert_eq!(home.state(gone), TaskState::Succeeded);
        home.ledger.commit_pruned(None, vec![gone], Vec::new());
        assert_eq!(home.ask(request.clone()), first);
    }
    let mut home = home.restart(10);
    assert_eq!(home.ask(request), first);
    assert_eq!(home.stats().submitted, 4);
}

#[test]
fn an_expired_key_may_be_used_for_another_specification() {
    let mut home = Bench::new();
    let first = id(&submit(&mut home, &keyed("a", 1)));
    let conflict = Refusal::IdempotencyConflict { key: "a".to_owned(), id: first };
    assert_eq!(submit(&mut home, &keyed("a", 2)), SubmitAnswer::Refused(conflict));
    wall_passes(&mut home, DAY_MS + 1_000);
    assert_ne!(id(&submit(&mut home, &keyed("a", 2))), first);
}

#[test]
fn a_key_outlives_its_task_with_the_specification_it_was_used_for() {
    let mut home = Bench::new();
    let spec = TaskSpec { retry: at_most(1).retry, ..keyed("a", 1) };
    let grant = home.granted(spec.clone());
    home.complete(&grant, failure(true));
    let (dead, operation) = (grant.fence.task, home.operation());
    assert_eq!(
        home.ask(LedgerRequest::PurgeDead { operation, ids: vec![dead] }),
        LedgerReply::Purged { answers: vec![None] }
    );
    let mut home = home.restart(0);
    assert_eq!(id(&submit(&mut home, &spec)), dead);
    let conflict = Refusal::IdempotencyConflict { key: "a".to_owned(), id: dead };
    assert_eq!(submit(&mut home, &keyed("a", 2)), SubmitAnswer::Refused(conflict));
}

#[test]
fn a_submission_sent_again_after_its_task_was_removed_gives_the_same_id() {
    let mut home = Bench::new();
    let operation = OperationId([9; 16]);
    let request = LedgerRequest::Submit { operation, items: vec![SubmitItem::one(at_most(1))] };
    let first = home.ask(request.clone());
    home.worker(1, 1);
    home.pass(200);
    let grant = home.grant();
    home.complete(&grant, failure(true));
    let purge = LedgerRequest::PurgeDead { operation: OperationId([8; 16]), ids: vec![grant.fence.task] };
    home.ask(purge);
    assert_eq!(home.ask(request.clone()), first);
    let mut home = home.restart(1_000);
    assert_eq!(home.ask(request), first);
    assert_eq!(home.stats().submitted, 1);
}

#[test]
fn expired_keys_are_forgotten_by_a_record_and_at_most_once_a_minute() {
    let mut home = Bench::new();
    for key in ["a", "b"] {
        submit(&mut home, &keyed(key, 1));
        home.pass(1_000);
    }
    assert_eq!(home.ledger.state.keys.len(), 2);
    wall_passes(&mut home, DAY_MS + limits::OPERATION_TTL_MS);
    assert_eq!(home.ledger.state.keys.len(), 0);
    let forgotten = |entry: &&NewEntry| {
        matches!(crate::wire::decode_record::<Record>(&entry.body).unwrap(), Record::KeysForgotten { .. })
    };
    assert!(home.log.iter().filter(forgotten).count() <= 2);
    let home = home.restart(0);
    assert_eq!(home.ledger.state.keys.len(), 0);
}

#[test]
fn a_key_that_came_back_is_not_forgotten_with_its_earlier_life() {
    let mut home = Bench::new();
    submit(&mut home, &keyed("a", 1));
    wall_passes(&mut home, DAY_MS + 1_000);
    let second = id(&submit(&mut home, &keyed("a", 1)));
    wall_passes(&mut home, limits::OPERATION_TTL_MS);
    assert_eq!(id(&submit(&mut home, &keyed("a", 1))), second);
}
