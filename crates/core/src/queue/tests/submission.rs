//! What a home accepts, and what it answers to the same message again (2.1, 2.10).

use super::*;
use crate::task::Tag;

fn submit(home: &mut Bench, operation: OperationId, items: &[SubmitItem]) -> Vec<SubmitAnswer> {
    match home.ask(LedgerRequest::Submit { operation, items: items.to_vec() }) {
        LedgerReply::Submitted { answers } => answers,
        other => panic!("{other:?}"),
    }
}

fn keyed(key: &str, priority: u16) -> SubmitItem {
    let spec =
        TaskSpec { idempotency_key: Some(key.to_owned()), priority: Priority::try_from(priority).unwrap(), ..noop() };
    SubmitItem::one(spec)
}

fn refusal(answer: &SubmitAnswer) -> &Refusal {
    match answer {
        SubmitAnswer::Refused(refusal) => refusal,
        SubmitAnswer::Accepted { id } => panic!("accepted as {id}"),
    }
}

#[test]
fn a_submission_sent_again_gives_the_same_ids_and_no_more_tasks() {
    let mut home = Bench::new();
    let operation = OperationId([9; 16]);
    let items = [SubmitItem { spec: Arc::new(noop()), count: 3 }, SubmitItem::one(at_most(2))];
    let first = submit(&mut home, operation, &items);
    assert_eq!(submit(&mut home, operation, &items), first);
    let mut home = home.restart(1_000);
    assert_eq!(submit(&mut home, operation, &items), first, "after a recovery too");
    assert_eq!(home.stats().submitted, 4);
}

#[test]
fn what_was_refused_or_known_stays_so_when_it_is_sent_again() {
    let mut home = Bench::new();
    let known = submit(&mut home, OperationId([1; 16]), &[keyed("a", 1)]);
    let mut wrong = noop();
    wrong.timeout = DurationMs(0);
    let items =
        [SubmitItem::one(wrong), keyed("a", 1), keyed("b", 2), keyed("b", 2), keyed("a", 3), SubmitItem::one(noop())];
    let first = submit(&mut home, OperationId([2; 16]), &items);
    assert!(matches!(refusal(&first[0]), Refusal::Invalid { .. }));
    assert_eq!(first[1], known[0]);
    assert_eq!(first[2], first[3]);
    assert!(matches!(refusal(&first[4]), Refusal::IdempotencyConflict { .. }));
    assert_eq!(submit(&mut home, OperationId([2; 16]), &items), first);
    assert_eq!(home.stats().submitted, 3);
}

#[test]
fn one_that_differs_from_an_accepted_task_in_its_input_alone_is_judged_by_that() {
    let mut home = Bench::new();
    let embed = |input: serde_json::Value| {
        let input = Payload::Inline(JsonText::of(&input));
        SubmitItem::one(TaskSpec { input, model: Some("minilm".to_owned()), ..TaskSpec::new(TaskKind::Embed) })
    };
    let long = "x".repeat(limits::PAYLOAD_INLINE_BYTES_MAX);
    let items = [embed("a".into()), embed(serde_json::Value::Null), embed("b".into()), embed(long.into())];
    let in_one = submit(&mut home, OperationId([1; 16]), &items);
    let in_turn = (2..6).map(|n| submit(&mut home, OperationId([n; 16]), &items[usize::from(n) - 2..][..1]).remove(0));
    for answers in [in_one, in_turn.collect()] {
        assert!(
            matches!(answers[0], SubmitAnswer::Accepted { .. }) && matches!(answers[2], SubmitAnswer::Accepted { .. })
        );
        for refused in [1, 3] {
            let Refusal::Invalid { errors } = refusal(&answers[refused]) else { panic!("{answers:?}") };
            assert_eq!(errors[0].path, "/input");
        }
    }
}

#[test]
fn a_workflow_is_refused_for_a_tag_that_no_node_allows_its_own_or_a_steps() {
    let mut home = Bench::new();
    let mut of_a_step = workflows::chain(2);
    of_a_step.steps[1].tag = Some(Tag::UnitTest);
    let of_all = crate::dag::WorkflowSpec { tag: Some(Tag::UnitTest), ..workflows::chain(2) };
    for (spec, path) in [(of_a_step, "/steps/1/tag"), (of_all, "/steps/0/tag")] {
        let operation = home.operation();
        let reply = home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) });
        let LedgerReply::Refused(Refusal::Invalid { errors }) = reply else { panic!("{reply:?}") };
        assert!(errors[0].path == path && errors[0].fix.contains("p2p-eligible"), "{errors:?}");
    }
}

#[test]
fn an_item_refused_for_its_tag_is_not_accepted_by_sending_it_again() {
    let mut home = Bench::new();
    let items = [SubmitItem::one(TaskSpec { tag: Some(Tag::UnitTest), ..noop() }), SubmitItem::one(noop())];
    let first = submit(&mut home, OperationId([2; 16]), &items);
    assert!(matches!(refusal(&first[0]), Refusal::Invalid { .. }));
    let mut capabilities = (*all_kinds()).clone();
    capabilities.tags.insert(Tag::UnitTest);
    home.event(Event::WorkerSeen { worker: peer(1), capabilities: Arc::new(capabilities), alive: true });
    let again = submit(&mut home, OperationId([2; 16]), &items);
    assert!(matches!(refusal(&again[0]), Refusal::Unsupported { .. }));
    assert_eq!(again[1], first[1]);
    assert!(matches!(submit(&mut home, OperationId([3; 16]), &items)[0], SubmitAnswer::Accepted { .. }));
}

#[test]
fn an_idempotency_key_names_one_task_across_operations_and_restarts() {
    let mut home = Bench::new();
    let first = submit(&mut home, OperationId([1; 16]), &[keyed("a", 1)]);
    assert_eq!(submit(&mut home, OperationId([2; 16]), &[keyed("a", 1)]), first);
    let mut home = home.restart(1_000);
    assert_eq!(submit(&mut home, OperationId([3; 16]), &[keyed("a", 1)]), first);
    let other = submit(&mut home, OperationId([4; 16]), &[keyed("a", 7)]);
    let SubmitAnswer::Accepted { id } = first[0] else { panic!("{first:?}") };
    assert_eq!(*refusal(&other[0]), Refusal::IdempotencyConflict { key: "a".to_owned(), id });
}

#[test]
fn keys_of_two_namespaces_are_two_keys() {
    let mut home = Bench::new();
    let mut elsewhere = keyed("a", 1);
    Arc::make_mut(&mut elsewhere.spec).namespace = "other".to_owned();
    let ids = submit(&mut home, OperationId([1; 16]), &[keyed("a", 1), elsewhere]);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn one_key_for_several_tasks_is_refused() {
    let mut home = Bench::new();
    let item = SubmitItem { count: 2, ..keyed("a", 1) };
    let answers = submit(&mut home, OperationId([1; 16]), &[item]);
    assert!(answers.iter().all(|answer| matches!(refusal(answer), Refusal::Invalid { .. })) && answers.len() == 2);
}

#[test]
fn an_operation_that_did_something_else_is_refused() {
    let mut home = Bench::new();
    let operation = OperationId([1; 16]);
    submit(&mut home, operation, &[SubmitItem::one(noop())]);
    let spec = Arc::new(workflows::chain(1));
    assert!(matches!(
        home.ask(LedgerRequest::SubmitWorkflow { operation, spec }),
        LedgerReply::Refused(Refusal::Invalid { .. })
    ));
}

#[test]
fn memory_tasks_come_alone_and_too_many_tasks_not_at_all() {
    let mut home = Bench::new();
    let memory = SubmitItem::one(TaskSpec { durability: Durability::Memory, ..noop() });
    for items in [
        vec![memory, SubmitItem::one(noop())],
        vec![SubmitItem { spec: Arc::new(noop()), count: limits::SUBMIT_LEN_MAX as u32 + 1 }],
    ] {
        let operation = OperationId([1; 16]);
        let reply = home.ask(LedgerRequest::Submit { operation, items });
        assert!(matches!(reply, LedgerReply::Refused(Refusal::Invalid { .. })), "{reply:?}");
    }
    assert_eq!(home.stats().submitted, 0);
}

#[test]
fn what_cannot_run_is_refused_with_the_field_and_the_fix() {
    let mut home = Bench::new();
    let mut wrong = [noop(), noop(), noop(), noop(), noop()];
    wrong[0].timeout = DurationMs(8 * 86_400_000);
    wrong[1].requires = Some("gpu.vram >=".to_owned());
    wrong[2].retry.max_attempts = 0;
    wrong[3].namespace = String::new();
    wrong[4].tag = Some(Tag::GithubApi);
    let items: Vec<SubmitItem> = wrong.into_iter().map(SubmitItem::one).collect();
    let answers = submit(&mut home, OperationId([1; 16]), &items);
    for (answer, path) in answers.iter().zip(["/timeout", "/requires", "/retry/max_attempts", "/namespace", "/tag"]) {
        let Refusal::Invalid { errors } = refusal(answer) else { panic!("{answer:?}") };
        assert!(errors[0].path == path && !errors[0].fix.is_empty(), "{errors:?}");
    }
}

#[test]
fn a_cancel_and_a_priority_sent_again_say_the_same() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    let priority = Priority::try_from(3).unwrap();
    let set = LedgerRequest::SetPriority { operation: OperationId([8; 16]), id, priority };
    assert_eq!(home.ask(set.clone()), LedgerReply::PrioritySet { priority });
    let cancel = LedgerRequest::Cancel { operation: OperationId([9; 16]), id, reason: "enough".to_owned() };
    let cancelled = LedgerReply::Cancelled { state: TaskState::Cancelled };
    assert_eq!(home.ask(cancel.clone()), cancelled);
    let before = home.index();
    let mut home = home.restart(0);
    assert_eq!(home.ask(cancel), cancelled);
    assert_eq!(home.ask(set), LedgerReply::PrioritySet { priority });
    assert_eq!(home.index().0, before.0 + 1, "only the start is new");
}

#[test]
fn an_operation_is_forgotten_after_ten_minutes() {
    let mut operations = operations::Operations::default();
    let cancelled = |at, n| Record::Cancelled {
        at: Wall(at),
        operation: OperationId([n; 16]),
        target: TaskId { ulid: 1, ledger: LEDGER.tag() },
        reason: String::new(),
    };
    for minute in 0..=10 {
        operations.remember(&cancelled(1_000 + minute * 60_000, minute as u8 + 1));
    }
    assert!(operations.find(&OperationId([1; 16])).is_some());
    operations.remember(&cancelled(1_001 + limits::OPERATION_TTL_MS, 12));
    assert!(operations.find(&OperationId([1; 16])).is_none());
    assert!(operations.find(&OperationId([2; 16])).is_some());
}
