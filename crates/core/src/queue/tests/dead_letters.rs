//! The dead-letter queue: what is in it, what it shows, how it is emptied (2.2).

use super::*;

/// A task that fails in each of `attempts` attempts, with an error of its own each time.
fn dies(home: &mut Bench, spec: TaskSpec) -> TaskId {
    let id = home.submit(spec);
    home.worker(1, 0);
    let mut attempts = 0;
    while home.state(id) != TaskState::Dead {
        attempts += 1;
        home.pass(61_000);
        let received = home.received;
        home.credit(1, 1, received);
        home.pass(200);
        let grant = home.grant();
        home.received += 1;
        let error = TaskError::new("exit_status", format!("attempt {attempts}"));
        let result = AttemptResult::Failed { error, retryable: true };
        home.complete(
            &grant,
            Outcome { result, log_tail: format!("log of {attempts}"), ran_ms: 1, used: Default::default() },
        );
    }
    id
}

fn list(home: &mut Bench, filter: DeadFilter) -> Vec<DeadLetter> {
    match home.ask(LedgerRequest::ListDead { filter, cursor: None, limit: 100 }) {
        LedgerReply::DeadLetters { items, next_cursor: None } => items,
        other => panic!("{other:?}"),
    }
}

fn ids(home: &mut Bench) -> Vec<TaskId> {
    list(home, DeadFilter::default()).into_iter().map(|letter| letter.id).collect()
}

fn purge(home: &mut Bench, operation: OperationId, ids: &[TaskId]) -> Vec<Option<Refusal>> {
    match home.ask(LedgerRequest::PurgeDead { operation, ids: ids.to_vec() }) {
        LedgerReply::Purged { answers } => answers,
        other => panic!("{other:?}"),
    }
}

fn in_namespace(namespace: &str) -> TaskSpec {
    TaskSpec { namespace: namespace.to_owned(), ..at_most(1) }
}

#[test]
fn a_dead_letter_keeps_its_input_its_last_three_errors_and_its_log() {
    let mut home = Bench::new();
    let input = Payload::Inline(JsonText::of(&serde_json::json!({"a": 1})));
    let id = dies(&mut home, TaskSpec { input: input.clone(), ..at_most(5) });
    let LedgerReply::DeadLetter(letter) = home.ask(LedgerRequest::ShowDead { id }) else { panic!("it is dead") };
    let errors = letter.task.earlier_errors.iter().chain(&letter.task.error);
    let errors: Vec<&str> = errors.map(|error| error.message.as_str()).collect();
    assert_eq!(errors, ["attempt 3", "attempt 4", "attempt 5"]);
    assert_eq!((letter.spec.input.clone(), letter.task.log_tail.as_str()), (input, "log of 5"));
    let mut home = home.restart(0);
    assert_eq!(home.ask(LedgerRequest::ShowDead { id }), LedgerReply::DeadLetter(letter));
}

#[test]
fn attempts_that_ended_with_their_lease_leave_an_error_each() {
    let mut home = Bench::new();
    home.submit(at_most(3));
    home.worker(1, 0);
    let mut last = None;
    for n in 0..3 {
        home.credit(1, 1, n);
        home.pass(100);
        let grant = home.grant();
        home.renew(&grant, true);
        home.pass(limits::LEASE_TTL_MS + 100);
        last = Some(grant);
    }
    home.pass(20_000);
    let view = home.task(last.unwrap().fence.task);
    let earlier: Vec<&str> = view.earlier_errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!((view.state, view.attempts), (TaskState::Dead, 3));
    assert!(earlier.len() == 2 && earlier[0].starts_with("attempt 1 ") && earlier[1].starts_with("attempt 2 "));
    assert_eq!(view.error.unwrap().message, "the last attempt's worker never answered again");
}

#[test]
fn an_expiry_that_was_none_leaves_no_error() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    home.renew(&grant, true);
    home.ledger.workers.entries.clear();
    home.pass(limits::LEASE_TTL_MS + 100);
    assert_eq!(home.task(grant.fence.task).error.unwrap().code, "lease_expired");
    home.renew(&grant, true);
    assert_eq!(home.task(grant.fence.task).error, None);
    home.complete(&grant, success("done"));
    assert!(home.task(grant.fence.task).earlier_errors.is_empty());
}

#[test]
fn a_task_that_succeeded_in_the_end_still_shows_what_failed_before() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    home.complete(&grant, failure(true));
    home.credit(1, 1, 1);
    home.pass(2_000);
    let grant = home.grant();
    home.complete(&grant, success("done"));
    let view = home.task(grant.fence.task);
    assert_eq!((view.error, view.earlier_errors.len()), (None, 1));
}

#[test]
fn the_queue_lists_dead_tasks_by_namespace_and_age_until_they_are_retried() {
    let mut home = Bench::new();
    let old = dies(&mut home, in_namespace("a"));
    home.pass(600_000);
    let new = dies(&mut home, in_namespace("b"));
    let cancelled = home.submit(noop());
    home.cancel(cancelled);
    assert_eq!(ids(&mut home), [old, new]);
    let of_b = list(&mut home, DeadFilter { namespace: Some("b".to_owned()), older_than_ms: None });
    assert_eq!((of_b.len(), of_b[0].id, of_b[0].attempts), (1, new, 1));
    assert_eq!(of_b[0].error.as_ref().unwrap().message, "attempt 1");
    let aged = list(&mut home, DeadFilter { namespace: None, older_than_ms: Some(600_000) });
    assert_eq!((aged.len(), aged[0].id), (1, old));
    let operation = home.operation();
    home.ask(LedgerRequest::RetryTasks { operation, ids: vec![old] });
    assert_eq!(ids(&mut home), [new]);
    let mut home = home.restart(0);
    assert_eq!(ids(&mut home), [new], "after a recovery too");
}

#[test]
fn a_page_of_dead_letters_says_where_the_next_begins() {
    let mut home = Bench::new();
    let all = [dies(&mut home, at_most(1)), dies(&mut home, at_most(1)), dies(&mut home, at_most(1))];
    let mut page =
        |cursor, limit| match home.ask(LedgerRequest::ListDead { filter: DeadFilter::default(), cursor, limit }) {
            LedgerReply::DeadLetters { items, next_cursor } => (items.len(), next_cursor),
            other => panic!("{other:?}"),
        };
    assert_eq!(page(None, 2), (2, Some(all[1])));
    assert_eq!(page(Some(all[1]), 2), (1, None));
}

#[test]
fn purged_tasks_are_gone_for_good_and_still_counted() {
    let mut home = Bench::new();
    let (one, two) = (dies(&mut home, at_most(1)), dies(&mut home, at_most(1)));
    let operation = home.operation();
    assert_eq!(purge(&mut home, operation, &[one]), [None]);
    let before = home.index();
    assert_eq!(purge(&mut home, operation, &[one]), [None], "a replay");
    assert_eq!(home.index(), before);
    let mut home = home.restart(1_000);
    assert_eq!(purge(&mut home, operation, &[one]), [None], "a replay after a recovery");
    for request in [
        LedgerRequest::GetTask { id: one },
        LedgerRequest::ShowDead { id: one },
        LedgerRequest::WhyPending { id: one },
        LedgerRequest::WaitTask { id: one, timeout_ms: 10 },
    ] {
        let pruned = Refusal::Pruned { id: one, before: one.made_at() };
        assert_eq!(home.ask(request), LedgerReply::Refused(pruned));
    }
    assert_eq!(ids(&mut home), [two]);
    let stats = home.stats();
    assert_eq!((stats.submitted, stats.counts.dead), (2, 2));
}

#[test]
fn a_replay_removes_nothing_that_was_refused_at_first() {
    let mut home = Bench::new();
    let (dead, operation) = (dies(&mut home, at_most(1)), home.operation());
    let later = home.submit(TaskSpec { priority: Priority::default(), ..at_most(1) });
    assert!(purge(&mut home, operation, &[dead, later])[1].is_some());
    let received = home.received;
    home.credit(1, 1, received);
    home.pass(200);
    let grant = home.grant();
    home.complete(&grant, failure(true));
    assert_eq!(home.state(later), TaskState::Dead);
    let again = purge(&mut home, operation, &[dead, later]);
    assert!(again[0].is_none() && matches!(again[1], Some(Refusal::Unsupported { .. })), "{again:?}");
    assert_eq!(ids(&mut home), [later]);
}

#[test]
fn only_dead_tasks_are_purged() {
    let mut home = Bench::new();
    let ready = home.submit(noop());
    let operation = home.operation();
    let unknown = TaskId { ulid: u128::MAX, ledger: LEDGER.tag() };
    let answers = purge(&mut home, operation, &[ready, unknown]);
    assert!(answers[0].as_ref().unwrap().to_string().contains("is ready: only dead tasks"));
    assert_eq!(answers[1], Some(Refusal::NotFound { id: unknown }));
    assert_eq!(home.state(ready), TaskState::Ready);
}

#[test]
fn a_record_of_pruned_tasks_applies_where_they_are_not() {
    let mut state = super::super::state::State::new(LEDGER.tag());
    let id = TaskId { ulid: 9 << 80, ledger: LEDGER.tag() };
    let counts = TaskCounts { dead: 1, ..TaskCounts::default() };
    let record = Record::Pruned { at: Wall(1), operation: None, tasks: vec![id], workflows: Vec::new(), counts };
    state.apply(LogIndex(1), &record);
    assert_eq!((state.pruned, state.pruned_newest), (counts, Some(id)));
}

#[test]
fn memory_tasks_leave_the_dead_letter_queue_without_a_record() {
    let mut home = Bench::new();
    let id = dies(&mut home, TaskSpec { durability: Durability::Memory, ..at_most(1) });
    let operation = home.operation();
    assert_eq!(purge(&mut home, operation, &[id]), [None]);
    let kinds = home.log.iter().map(|entry| crate::wire::decode_record::<Record>(&entry.body).unwrap().kind());
    assert!(!kinds.collect::<Vec<_>>().contains(&"pruned"));
    assert!(ids(&mut home).is_empty());
}
