//! Steps that are workflows: one start, one end, both ways (2.6).

use super::workflows::{chain, start, step, template, view, worker, workflow};
use super::*;
use crate::dag::{StepSpec, WorkflowSpec};

fn sub(name: &str, needs: &[&str], child: WorkflowSpec) -> StepSpec {
    StepSpec { kind: TaskKind::Workflow, workflow: Some(Arc::new(child)), ..step(name, needs) }
}

/// The newest child of a step.
fn child(home: &mut Bench, id: WorkflowId, step: usize) -> WorkflowId {
    view(home, id).steps[step].child.expect("it was started")
}

fn state(home: &mut Bench, id: WorkflowId) -> WorkflowState {
    view(home, id).summary.state
}

fn states(home: &mut Bench, id: WorkflowId) -> Vec<TaskState> {
    view(home, id).steps.into_iter().map(|step| step.state).collect()
}

#[test]
fn a_step_that_is_a_workflow_waits_for_it_and_has_its_outputs() {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, workflow(vec![sub("sub", &[], chain(2)), step("after", &["sub"])]));
    let inner = child(&mut home, id, 0);
    assert_eq!(states(&mut home, id), [TaskState::Running, TaskState::Blocked]);
    let task = view(&mut home, id).steps[0].task_id.unwrap();
    assert_eq!(view(&mut home, inner).summary.parent, Some(task));
    let seen = home.task(task);
    assert_eq!((seen.kind, seen.child, seen.attempts), (TaskKind::Workflow, Some(inner), 1));
    let done = home.work_off(|_| success("done"));
    assert_eq!(done.len(), 3);
    assert_eq!((state(&mut home, inner), state(&mut home, id)), (WorkflowState::Succeeded, WorkflowState::Succeeded));
    assert_eq!(home.task(task).output, Some(Payload::Inline(JsonText::parse("{}").unwrap())));
    let stats = home.stats();
    // Two steps outside, two inside: the task that stands for the child is one of the outer ones.
    assert_eq!((stats.submitted, stats.counts.succeeded), (4, 4));
}

#[test]
fn a_child_that_fails_fails_its_step_and_what_runs_beside_it_is_cancelled() {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, workflow(vec![sub("sub", &[], chain(1)), sub("beside", &[], chain(1))]));
    let (inner, beside) = (child(&mut home, id, 0), child(&mut home, id, 1));
    let failing = view(&mut home, inner).steps[0].task_id.unwrap();
    let grants = home.work_off(|grant| if grant.fence.task == failing { failure(false) } else { success("late") });
    assert!(grants.iter().any(|grant| grant.fence.task == failing));
    assert_eq!((state(&mut home, inner), state(&mut home, id)), (WorkflowState::Failed, WorkflowState::Failed));
    assert!(state(&mut home, beside).is_terminal());
    let error = view(&mut home, id).steps[0].error.clone().unwrap();
    assert!(error.code == "workflow_failed" && error.message.contains("exit status 1"), "{error}");
}

#[test]
fn cancelling_a_workflow_cancels_the_children_of_its_children() {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, workflow(vec![sub("outer", &[], workflow(vec![sub("inner", &[], chain(2))]))]));
    let outer = child(&mut home, id, 0);
    let inner = child(&mut home, outer, 0);
    assert_eq!(home.cancel(id), TaskState::Cancelled);
    for id in [id, outer, inner] {
        assert_eq!(state(&mut home, id), WorkflowState::Cancelled, "{id}");
    }
    assert!(home.work_off(|_| success("never")).is_empty());
    assert_eq!(home.stats().workflows_running, 0);
    assert!(home.ledger.state.conservation_holds());
}

#[test]
fn cancelling_a_child_cancels_its_step_and_fails_the_parent() {
    let mut home = Bench::new();
    let id = start(&mut home, workflow(vec![sub("sub", &[], chain(1))]));
    let inner = child(&mut home, id, 0);
    home.cancel(inner);
    assert_eq!(states(&mut home, id), [TaskState::Cancelled]);
    assert_eq!(state(&mut home, id), WorkflowState::Failed);
}

#[test]
fn a_child_runs_again_only_where_the_policy_names_its_failure() {
    let mut home = Bench::new();
    worker(&mut home);
    let retry = RetryPolicy {
        max_attempts: 2,
        initial: DurationMs(1_000),
        jitter: 0.5,
        retry_on: vec!["workflow_failed".to_owned()],
        ..RetryPolicy::default()
    };
    let id = start(&mut home, workflow(vec![StepSpec { retry, ..sub("sub", &[], chain(1)) }]));
    let first = child(&mut home, id, 0);
    home.work_off(|_| failure(false));
    let mut home = home.restart(0);
    worker(&mut home);
    while child(&mut home, id, 0) == first {
        home.pass(100);
    }
    let second = child(&mut home, id, 0);
    assert_eq!(state(&mut home, second), WorkflowState::Running);
    home.bind_all();
    home.work_off(|_| failure(false));
    let seen = view(&mut home, id);
    assert_eq!(
        (seen.summary.state, seen.steps[0].state, seen.steps[0].attempts),
        (WorkflowState::Failed, TaskState::Dead, 2)
    );
    assert_eq!((state(&mut home, first), state(&mut home, second)), (WorkflowState::Failed, WorkflowState::Failed));
}

#[test]
fn each_item_of_a_list_may_be_a_workflow_of_its_own() {
    let mut home = Bench::new();
    worker(&mut home);
    let items = Some(template(serde_json::json!([1, 2, 3])));
    let each = StepSpec { for_each: items, ..sub("each", &["list"], chain(2)) };
    let id = start(&mut home, workflow(vec![step("list", &[]), each]));
    let done = home.work_off(|_| success("done"));
    assert_eq!((done.len(), state(&mut home, id)), (7, WorkflowState::Succeeded));
    assert_eq!(view(&mut home, id).steps[1].tasks.succeeded, 3);
}

#[test]
fn a_nest_of_workflows_goes_on_after_any_restart() {
    let nest =
        || workflow(vec![sub("a", &[], workflow(vec![sub("b", &[], chain(2)), step("c", &["b"])])), step("d", &["a"])]);
    for lives in 0..40 {
        let mut home = Bench::new();
        let operation = home.operation();
        let request = LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(nest()) };
        let LedgerReply::WorkflowSubmitted { id } = home.ask(request) else { panic!("it is a good workflow") };
        // The records up to a place in the log, and a new life from there.
        worker(&mut home);
        home.bind_all();
        home.work_off(|_| success("done"));
        home.log.truncate(2 + lives);
        let mut home = home.restart(60_000);
        worker(&mut home);
        home.pass(20_000);
        home.bind_all();
        home.work_off(|_| success("done"));
        let seen = view(&mut home, id);
        assert_eq!(seen.summary.state, WorkflowState::Succeeded, "after {lives} records: {seen:#?}");
        let stats = home.stats();
        assert_eq!((stats.submitted, stats.counts.succeeded, stats.workflows_running), (6, 6, 0));
    }
}

#[test]
fn a_task_by_itself_is_no_workflow_and_a_nest_has_a_bottom() {
    let mut home = Bench::new();
    let operation = home.operation();
    let spec = TaskSpec { workflow: Some(Arc::new(chain(1))), ..TaskSpec::new(TaskKind::Workflow) };
    let LedgerReply::Submitted { answers } =
        home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] })
    else {
        panic!("each task has its answer")
    };
    assert!(matches!(&answers[0], SubmitAnswer::Refused(refusal) if refusal.to_string().starts_with("/kind")));
    let deep = (0..=limits::WORKFLOW_DEPTH_MAX).fold(chain(1), |inside, _| workflow(vec![sub("s", &[], inside)]));
    let cyclic = workflow(vec![sub("s", &[], workflow(vec![step("a", &["a"])]))]);
    let empty = workflow(vec![StepSpec { workflow: None, ..sub("s", &[], chain(1)) }]);
    for (spec, place) in [(deep, "/workflow/steps"), (cyclic, "/steps/0/workflow/steps"), (empty, "/steps/0/workflow")]
    {
        let operation = home.operation();
        let reply = home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) });
        let LedgerReply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert!(refusal.to_string().contains(place), "{refusal}");
    }
}

#[test]
fn no_worker_is_granted_or_heard_on_a_task_that_is_a_workflow() {
    let mut home = Bench::new();
    home.worker(1, 4);
    let id = start(&mut home, workflow(vec![sub("sub", &[], chain(1))]));
    let task = view(&mut home, id).steps[0].task_id.unwrap();
    home.pass(20_000);
    assert!(home.grants().iter().all(|(_, grant)| grant.fence.task != task));
    let forged = Completion {
        fence: Fence { task, epoch: Epoch::default() },
        token: LeaseToken([0; 16]),
        outcome: success("forged"),
        checkpoint: None,
    };
    let reply = home.ask_as(peer(1), LedgerRequest::Complete(vec![forged])).unwrap();
    assert_eq!(reply, LedgerReply::Completed(vec![CompleteAnswer::Fenced { current: Epoch::default() }]));
    assert_eq!(home.state(task), TaskState::Running);
}

#[test]
fn a_workflow_that_runs_for_a_step_is_no_attempt_that_a_worker_holds() {
    let mut home = Bench::new();
    start(&mut home, workflow(vec![sub("sub", &[], chain(1))]));
    let stats = home.stats();
    assert_eq!((stats.counts.running, stats.leases), (1, 0));
    home.bind_all();
    home.worker(1, 1);
    home.pass(200);
    let stats = home.stats();
    assert_eq!((stats.counts.running, stats.counts.leased, stats.leases), (1, 1, 1));
}
