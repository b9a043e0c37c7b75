//! Retry from the failed step (2.6): what runs again, what keeps its results, and that it happens once.

use super::workflow_policies::{compensated, compensating, work_off};
use super::workflows::{fan_out, over_a_list, start, states, step, view, worker, workflow};
use super::*;
use crate::dag::{Join, OnFail, StepSpec};
use TaskState::{Failed, Skipped, Succeeded};

fn home() -> Bench {
    let mut home = Bench::new();
    worker(&mut home);
    home
}

fn retry(home: &mut Bench, id: WorkflowId) -> LedgerReply {
    let operation = home.operation();
    retry_as(home, operation, id)
}

fn retry_as(home: &mut Bench, operation: OperationId, id: WorkflowId) -> LedgerReply {
    let reply = home.ask(LedgerRequest::RetryWorkflow { operation, id });
    home.bind_all();
    reply
}

#[test]
fn the_failed_step_and_what_follows_run_again_and_the_rest_keeps_its_results() {
    let mut home = home();
    let spec = workflow(vec![step("a", &[]), step("b", &["a"]), step("c", &["b"])]);
    let id = start(&mut home, spec);
    work_off(&mut home, &["b"]);
    let before = view(&mut home, id);
    let (kept, failed) = (before.steps[0].task_id, before.steps[1].task_id.unwrap());
    assert_eq!(retry(&mut home, id), LedgerReply::WorkflowRetried { id, steps: 2 });
    let running = view(&mut home, id);
    assert_eq!((running.summary.state, running.retries, &running.error), (WorkflowState::Running, 1, &None));
    assert_eq!(home.stats().workflows_running, 1);
    assert_eq!(work_off(&mut home, &[]), ["b", "c"]);
    let after = view(&mut home, id);
    assert_eq!(after.summary.state, WorkflowState::Succeeded);
    assert_eq!(states(&mut home, id), [Succeeded; 3]);
    assert_eq!(after.steps[0].task_id, kept);
    let newest = home.task(after.steps[1].task_id.unwrap());
    assert_eq!(newest.retry_of, Some(failed));
    assert_eq!(home.state(failed), Failed);
    assert_eq!(after.summary.tasks.total(), 3);
}

#[test]
fn a_retry_sent_again_changes_nothing_and_a_restart_remembers_it() {
    let mut home = home();
    let id = start(&mut home, workflow(vec![step("a", &[])]));
    work_off(&mut home, &["a"]);
    // No credit stands: the new task waits, and is not leased when the home ends.
    home.credit(1, 0, 1);
    let operation = home.operation();
    let first = retry_as(&mut home, operation, id);
    let records = home.log.len();
    assert_eq!(retry_as(&mut home, operation, id), first);
    assert_eq!(home.log.len(), records);
    let shown = view(&mut home, id);
    let mut home = home.restart(0);
    assert_eq!(retry_as(&mut home, operation, id), first);
    assert_eq!(view(&mut home, id), shown);
    worker(&mut home);
    assert_eq!(work_off(&mut home, &[]), ["a"]);
    assert_eq!(retry_as(&mut home, operation, id), first);
    assert_eq!(view(&mut home, id).summary.state, WorkflowState::Succeeded);
}

#[test]
fn a_cancel_that_comes_again_does_not_end_the_workflow_that_was_retried() {
    let mut home = home();
    let id = start(&mut home, workflow(vec![step("a", &[])]));
    let operation = home.operation();
    let cancel = LedgerRequest::Cancel { operation, id, reason: "enough".to_owned() };
    let first = home.ask(cancel.clone());
    assert_eq!(first, LedgerReply::Cancelled { state: TaskState::Cancelled });
    retry(&mut home, id);
    let records = home.log.len();
    assert_eq!(home.ask(cancel), first);
    assert_eq!(home.log.len(), records);
    assert_eq!(view(&mut home, id).summary.state, WorkflowState::Running);
}

#[test]
fn of_a_half_finished_list_only_the_failed_items_run_again() {
    let mut home = home();
    let mut spec = fan_out(5);
    spec.on_fail = OnFail::SkipChildren;
    let id = start(&mut home, spec);
    let mut ran = 0;
    home.work_off(|_| {
        ran += 1;
        // The list, then items 0 to 4.
        if ran == 3 || ran == 5 { failure(false) } else { success("x") }
    });
    assert_eq!(view(&mut home, id).steps[1].tasks.failed, 2);
    retry(&mut home, id);
    assert_eq!(work_off(&mut home, &[]), ["each", "each", "join"]);
    let view = view(&mut home, id);
    assert_eq!((view.summary.state, view.steps[1].tasks.succeeded), (WorkflowState::Succeeded, 5));
}

#[test]
fn a_list_cut_off_before_its_last_window_goes_on_where_it_stopped() {
    let mut home = home();
    let items = limits::FOR_EACH_WINDOW_LEN_MAX + 7;
    let mut spec = fan_out(items);
    spec.durability = Durability::Memory;
    let id = start(&mut home, spec);
    home.credit(1, 1, 0);
    home.pass(100);
    let list = home.grant();
    home.complete(&list, success("x"));
    home.bind_all();
    home.cancel(id);
    retry(&mut home, id);
    let mut received = 1;
    while view(&mut home, id).summary.state == WorkflowState::Running {
        home.credit(1, 5_000, received);
        home.pass(100);
        let grants = home.grants();
        received += grants.len() as u32;
        let all = grants.iter().map(|(_, grant)| completion(grant, success("x"))).collect();
        home.ask_as(peer(1), LedgerRequest::Complete(all));
        home.bind_all();
    }
    assert_eq!(view(&mut home, id).steps[1].tasks.succeeded, items as u64);
    assert!(home.ledger.state.conservation_holds());
}

#[test]
fn a_step_that_started_without_the_failed_one_keeps_its_result() {
    let mut home = home();
    let lone = |name| StepSpec { on_fail: Some(OnFail::SkipChildren), ..step(name, &[]) };
    let any = StepSpec { join: Join::Any, ..step("any", &["a", "b"]) };
    let id = start(&mut home, workflow(vec![lone("a"), lone("b"), any, step("all", &["a", "b"])]));
    work_off(&mut home, &["b"]);
    assert_eq!(states(&mut home, id), [Succeeded, Failed, Succeeded, Skipped]);
    assert_eq!(retry(&mut home, id), LedgerReply::WorkflowRetried { id, steps: 2 });
    assert_eq!(work_off(&mut home, &[]), ["b", "all"]);
}

#[test]
fn a_step_that_rested_on_a_forgiven_failure_runs_again() {
    let mut home = home();
    let forgiven = StepSpec { on_fail: Some(OnFail::Continue), ..step("a", &[]) };
    let id = start(&mut home, workflow(vec![forgiven, step("b", &["a"]), step("c", &["b"])]));
    work_off(&mut home, &["a", "c"]);
    assert_eq!(retry(&mut home, id), LedgerReply::WorkflowRetried { id, steps: 3 });
    assert_eq!(work_off(&mut home, &[]), ["a", "b", "c"]);
}

#[test]
fn a_branch_that_its_condition_skipped_is_not_run_again() {
    let mut home = home();
    let skipped = StepSpec { when: Some("${steps.a.output} == 'b'".parse().unwrap()), ..step("no", &["a"]) };
    let id = start(&mut home, workflow(vec![step("a", &[]), skipped, step("then", &["no"]), step("z", &["a"])]));
    work_off(&mut home, &["z"]);
    assert_eq!(retry(&mut home, id), LedgerReply::WorkflowRetried { id, steps: 1 });
    assert_eq!(work_off(&mut home, &[]), ["z"]);
    assert_eq!(states(&mut home, id), [Succeeded, Skipped, Skipped, Succeeded]);
}

#[test]
fn what_was_undone_runs_again() {
    let mut home = home();
    let chain = vec![step("kept", &[]), compensated(step("a", &["kept"])), step("b", &["a"])];
    let id = start(&mut home, compensating(chain));
    assert_eq!(work_off(&mut home, &["b"]), ["kept", "a", "b", "a"]);
    retry(&mut home, id);
    assert_eq!(work_off(&mut home, &[]), ["a", "b"]);
    assert_eq!(view(&mut home, id).summary.state, WorkflowState::Succeeded);
}

#[test]
fn an_answer_to_a_binding_of_the_earlier_run_is_none_to_the_later() {
    let mut home = home();
    let operation = home.operation();
    let spec = Arc::new(workflow(vec![over_a_list("a", 1, &[])]));
    let LedgerReply::WorkflowSubmitted { id } = home.ask(LedgerRequest::SubmitWorkflow { operation, spec }) else {
        panic!("it is a good workflow");
    };
    let asked = home.left.iter().find_map(|effect| match effect {
        Effect::Bind { id, .. } => Some(*id),
        _ => None,
    });
    home.left.clear();
    home.cancel(id);
    retry(&mut home, id);
    let bound = Err(TaskError::new("unresolved", "an answer of yesterday"));
    home.event(Event::Bound { id: asked.unwrap(), bound });
    assert_eq!(work_off(&mut home, &[]), ["a"]);
}

#[test]
fn what_runs_or_succeeded_is_not_retried() {
    let mut home = home();
    let id = start(&mut home, workflow(vec![step("a", &[])]));
    assert!(matches!(retry(&mut home, id), LedgerReply::Refused(Refusal::Invalid { .. })));
    work_off(&mut home, &[]);
    let refusal = Refusal::AlreadyTerminal { id, state: Succeeded };
    assert_eq!(retry(&mut home, id), LedgerReply::Refused(refusal));
    let nobody = TaskId { ulid: 1, ledger: LEDGER.tag() };
    assert_eq!(retry(&mut home, nobody), LedgerReply::Refused(Refusal::NotFound { id: nobody }));
}

fn dead_letters(home: &mut Bench) -> Vec<TaskId> {
    match home.ask(LedgerRequest::ListDead { filter: DeadFilter::default(), cursor: None, limit: 100 }) {
        LedgerReply::DeadLetters { items, .. } => items.into_iter().map(|letter| letter.id).collect(),
        other => panic!("{other:?}"),
    }
}

/// A workflow whose first step spends its only attempt.
fn with_a_dead_step(home: &mut Bench) -> (WorkflowId, TaskId) {
    let id = start(home, workflow(vec![step("a", &[]), step("b", &["a"])]));
    home.work_off(|_| failure(true));
    let dead = view(home, id).steps[0].task_id.unwrap();
    assert_eq!(home.state(dead), TaskState::Dead);
    (id, dead)
}

#[test]
fn a_dead_step_leaves_the_dead_letter_queue_when_its_workflow_is_retried() {
    let mut home = home();
    let (id, dead) = with_a_dead_step(&mut home);
    assert_eq!(dead_letters(&mut home), [dead]);
    // No credit stands: the new task waits, and is not leased when the home ends.
    home.credit(1, 0, 1);
    retry(&mut home, id);
    assert_eq!(dead_letters(&mut home), []);
    let newest = view(&mut home, id).steps[0].task_id.unwrap();
    assert_eq!((home.task(dead).retried_by, home.task(newest).retry_of), (Some(newest), Some(dead)));
    let mut home = home.restart(0);
    assert_eq!(dead_letters(&mut home), [], "after a recovery too");
    assert_eq!(home.task(dead).retried_by, Some(newest));
    worker(&mut home);
    home.work_off(|_| failure(true));
    assert_eq!(dead_letters(&mut home), [newest], "what dies again stands there in its place");
}

#[test]
fn dead_tasks_of_a_step_that_begins_anew_leave_the_dead_letter_queue_before_it_has_tasks() {
    let mut home = home();
    let mut spec = workflow(vec![step("a", &[]), step("b", &[]), step("c", &["a", "b"])]);
    spec.on_fail = OnFail::SkipChildren;
    spec.steps[2].join = Join::Any;
    let id = start(&mut home, spec);
    let of = |home: &mut Bench, place: usize| view(home, id).steps[place].task_id;
    let succeeds = of(&mut home, 1);
    home.work_off(|grant| if Some(grant.fence.task) == succeeds { success("done") } else { failure(true) });
    let dead = [of(&mut home, 0).unwrap(), of(&mut home, 2).unwrap()];
    assert_eq!(dead_letters(&mut home), dead);
    retry(&mut home, id);
    assert_eq!(dead_letters(&mut home), []);
    assert_eq!(home.work_off(|_| success("done")).len(), 2);
    assert_eq!(view(&mut home, id).summary.state, WorkflowState::Succeeded);
    let newest = of(&mut home, 2);
    assert_eq!(home.restart(0).task(dead[1]).retried_by, newest);
}
