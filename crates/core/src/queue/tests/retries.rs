//! A manual retry makes a new task, and a task is retried at most once (2.2, 2.10).

use super::*;

fn retry(home: &mut Bench, operation: OperationId, ids: &[TaskId]) -> Vec<SubmitAnswer> {
    match home.ask(LedgerRequest::RetryTasks { operation, ids: ids.to_vec() }) {
        LedgerReply::Retried { answers } => answers,
        other => panic!("{other:?}"),
    }
}

fn retried(home: &mut Bench, id: TaskId) -> TaskId {
    let operation = home.operation();
    match retry(home, operation, &[id])[0] {
        SubmitAnswer::Accepted { id } => id,
        ref refused => panic!("{refused:?}"),
    }
}

fn why_not(home: &mut Bench, id: TaskId) -> String {
    let operation = home.operation();
    match &retry(home, operation, &[id])[0] {
        SubmitAnswer::Refused(refusal @ Refusal::WrongState { .. }) => refusal.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_retry_is_a_new_task_with_the_same_specification_and_the_last_priority() {
    let mut home = Bench::new();
    let id = home.submit(at_most(7));
    let (operation, priority) = (home.operation(), Priority::try_from(3).unwrap());
    home.ask(LedgerRequest::SetPriority { operation, id, priority });
    home.cancel(id);
    let new = retried(&mut home, id);
    let (old, new) = (home.task(id), home.task(new));
    assert_eq!((old.state, old.retried_by, old.retry_of), (TaskState::Cancelled, Some(new.id), None));
    assert_eq!((new.state, new.retry_of, new.retried_by), (TaskState::Ready, Some(id), None));
    assert_eq!((new.priority, new.attempts, new.owner), (priority, 0, old.owner));
    assert_eq!(home.ledger.state.tasks[&new.id].spec.retry, at_most(7).retry);
    assert_eq!((home.stats().submitted, home.stats().counts.cancelled), (2, 1));
}

#[test]
fn a_second_retry_answers_the_first_ones_task_across_operations_and_restarts() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    home.cancel(id);
    let operation = home.operation();
    let first = retry(&mut home, operation, &[id]);
    let before = home.index();
    assert_eq!(retry(&mut home, operation, &[id]), first, "a replay");
    assert_eq!(retry(&mut home, OperationId([7; 16]), &[id]), first, "another operation");
    assert_eq!(home.index(), before, "nothing was written");
    let mut home = home.restart(1_000);
    assert_eq!(retry(&mut home, operation, &[id]), first);
    assert_eq!(retry(&mut home, OperationId([8; 16]), &[id, id]), [first.clone(), first].concat());
    assert_eq!(home.stats().submitted, 2);
}

#[test]
fn one_task_named_twice_is_retried_once() {
    let mut home = Bench::new();
    let ids = home.submit_all(vec![noop(), TaskSpec { durability: Durability::Async, ..noop() }]);
    for id in &ids {
        home.cancel(*id);
    }
    let answers = retry(&mut home, OperationId([7; 16]), &[ids[0], ids[1], ids[0]]);
    assert!(answers[0] == answers[2] && answers[0] != answers[1]);
    assert_eq!(home.stats().submitted, 4);
    let mut home = home.restart(0);
    assert_eq!(retry(&mut home, OperationId([7; 16]), &[ids[0], ids[1], ids[0]]), answers);
}

#[test]
fn a_replay_retries_nothing_that_was_refused_at_first() {
    let mut home = Bench::new();
    let ids = home.submit_all(vec![noop(), noop()]);
    home.cancel(ids[0]);
    let first = retry(&mut home, OperationId([7; 16]), &ids);
    assert!(matches!((&first[0], &first[1]), (SubmitAnswer::Accepted { .. }, SubmitAnswer::Refused(_))));
    home.cancel(ids[1]);
    let again = retry(&mut home, OperationId([7; 16]), &ids);
    assert_eq!(again[0], first[0]);
    assert!(matches!(&again[1], SubmitAnswer::Refused(Refusal::Unsupported { .. })), "{again:?}");
    assert_eq!(home.task(ids[1]).retried_by, None);
}

#[test]
fn a_retry_can_be_retried_in_its_turn() {
    let mut home = Bench::new();
    let first = home.submit(noop());
    home.cancel(first);
    let second = retried(&mut home, first);
    home.cancel(second);
    let third = retried(&mut home, second);
    let view = home.task(second);
    assert_eq!((view.retry_of, view.retried_by), (Some(first), Some(third)));
    assert_eq!(retried(&mut home, first), second, "the first one's stays what it was");
}

#[test]
fn failed_and_dead_tasks_run_again_and_others_are_refused_in_words() {
    let mut home = Bench::new();
    let failed = home.granted(noop());
    home.complete(&failed, failure(false));
    assert_eq!(home.state(failed.fence.task), TaskState::Failed);
    let new = retried(&mut home, failed.fence.task);
    let told = why_not(&mut home, new);
    assert_eq!(told, format!("{new} cannot be retried: it is ready and goes on by itself; cancel it first"));
    home.credit(1, 1, 1);
    home.pass(200);
    let grant = home.grant();
    assert_eq!(grant.fence.task, new);
    home.complete(&grant, success("done"));
    assert!(why_not(&mut home, new).ends_with("it succeeded, and its result stays; submit a new task"));
    let unknown = TaskId { ulid: 1, ledger: LEDGER.tag() };
    let operation = home.operation();
    let refused = SubmitAnswer::Refused(Refusal::NotFound { id: unknown });
    assert_eq!(retry(&mut home, operation, &[unknown]), [refused]);
}

#[test]
fn a_workflows_step_is_retried_with_its_workflow() {
    let mut home = Bench::new();
    let operation = home.operation();
    let LedgerReply::WorkflowSubmitted { id } =
        home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflows::chain(1)) })
    else {
        panic!("it is a good workflow");
    };
    home.bind_all();
    let task = *home.ledger.state.order.first().unwrap();
    home.cancel(task);
    assert!(why_not(&mut home, task).ends_with(&format!("with `nodectl workflow retry {id}`")));
}

#[test]
fn times_that_have_passed_are_not_taken_over() {
    let mut home = Bench::new();
    let soon = Wall(home.now.wall_ms + 500);
    let later = Wall(home.now.wall_ms + 3_600_000);
    let overdue = home.submit(TaskSpec { deadline: Some(soon), ..noop() });
    let timely = home.submit(TaskSpec { not_before: Some(soon), deadline: Some(later), ..noop() });
    home.pass(1_000);
    assert_eq!(home.state(overdue), TaskState::Failed);
    home.cancel(timely);
    let (overdue, timely) = (retried(&mut home, overdue), retried(&mut home, timely));
    home.pass(1_000);
    assert_eq!((home.state(overdue), home.state(timely)), (TaskState::Ready, TaskState::Ready));
    let spec = &home.ledger.state.tasks[&timely].spec;
    assert_eq!((spec.not_before, spec.deadline), (None, Some(later)));
}

#[test]
fn a_retry_is_answered_when_it_is_on_the_disk() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    home.cancel(id);
    home.syncs = false;
    let operation = home.operation();
    assert_eq!(home.ask_as(peer(0), LedgerRequest::RetryTasks { operation, ids: vec![id] }), None);
    home.sync();
    home.settle();
    assert!(matches!(home.answer_to(ReplyTo(home.replies)), Some(LedgerReply::Retried { .. })));
}

#[test]
fn an_operation_that_did_something_else_retries_nothing() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    let operation = OperationId([9; 16]);
    home.ask(LedgerRequest::Cancel { operation, id, reason: String::new() });
    for (operation, ids) in [(operation, vec![id]), (OperationId([8; 16]), Vec::new())] {
        let reply = home.ask(LedgerRequest::RetryTasks { operation, ids });
        assert!(matches!(reply, LedgerReply::Refused(Refusal::Invalid { .. })), "{reply:?}");
    }
}
