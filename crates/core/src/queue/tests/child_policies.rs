//! Steps that are workflows under conditions, joins, policies and retries: to the others they are steps like any (2.6).

use super::workflow_policies::{compensated, compensating};
use super::workflows::{chain, start, states, step, view, worker, workflow};
use super::*;
use crate::dag::{Join, OnFail, StepSpec, WorkflowSpec};

fn sub(name: &str, needs: &[&str], inside: WorkflowSpec) -> StepSpec {
    StepSpec { kind: TaskKind::Workflow, workflow: Some(Arc::new(inside)), ..step(name, needs) }
}

/// A workflow of one step, which [`work_off`] lets fail.
fn failing() -> WorkflowSpec {
    workflow(vec![step("fails", &[])])
}

fn good() -> WorkflowSpec {
    workflow(vec![step("works", &[])])
}

/// Ends every task; those of a step named `fails` fail for good.
fn work_off(home: &mut Bench) {
    let mut received = 0;
    loop {
        home.credit(1, 100, received);
        home.pass(200);
        let grants = home.grants();
        if grants.is_empty() {
            return;
        }
        received += grants.len() as u32;
        for (_, grant) in grants {
            let fails = home.task(grant.fence.task).step.as_deref() == Some("fails");
            home.complete(&grant, if fails { failure(false) } else { success("done") });
            home.bind_all();
        }
    }
}

fn ended(spec: WorkflowSpec) -> (Bench, WorkflowId) {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, spec);
    work_off(&mut home);
    (home, id)
}

fn state(home: &mut Bench, id: WorkflowId) -> WorkflowState {
    view(home, id).summary.state
}

#[test]
fn a_workflow_whose_condition_does_not_hold_is_not_started() {
    let skipped = StepSpec { when: "1 == 2".parse().ok(), ..sub("sub", &[], good()) };
    let held = StepSpec { when: "${steps.first.state} == 'succeeded'".parse().ok(), ..sub("held", &["first"], good()) };
    let (mut home, id) = ended(workflow(vec![skipped, step("first", &[]), held]));
    let seen = view(&mut home, id);
    assert_eq!(seen.summary.state, WorkflowState::Succeeded);
    assert_eq!((seen.steps[0].state, seen.steps[0].child), (TaskState::Skipped, None));
    assert_eq!((seen.steps[2].state, seen.steps[2].child.is_some()), (TaskState::Succeeded, true));
}

#[test]
fn a_join_of_any_goes_on_after_the_first_workflow_that_succeeds() {
    let joined = |on_fail| StepSpec { on_fail: Some(on_fail), ..sub("bad", &[], failing()) };
    let after = StepSpec { join: Join::Any, ..step("after", &["bad", "good"]) };
    let (mut home, id) = ended(workflow(vec![joined(OnFail::SkipChildren), sub("good", &[], good()), after.clone()]));
    assert_eq!(states(&mut home, id), [TaskState::Failed, TaskState::Succeeded, TaskState::Succeeded]);
    assert_eq!(state(&mut home, id), WorkflowState::Failed, "a failure that is not forgiven shows at the end");
    let both = StepSpec { join: Join::Count(2), ..after };
    let (mut home, id) = ended(workflow(vec![joined(OnFail::SkipChildren), sub("good", &[], good()), both]));
    assert_eq!(states(&mut home, id)[2], TaskState::Skipped);
}

#[test]
fn a_workflow_that_fails_is_forgiven_where_its_step_says_so() {
    let forgiven = StepSpec { on_fail: Some(OnFail::Continue), ..sub("sub", &[], failing()) };
    let (mut home, id) = ended(workflow(vec![forgiven, step("after", &["sub"])]));
    let seen = view(&mut home, id);
    assert_eq!(states(&mut home, id), [TaskState::Failed, TaskState::Succeeded]);
    assert_eq!(seen.summary.state, WorkflowState::Succeeded);
    assert_eq!(state(&mut home, seen.steps[0].child.unwrap()), WorkflowState::Failed, "what it was itself stays so");
}

#[test]
fn what_succeeded_before_a_workflow_failed_is_undone() {
    let (mut home, id) = ended(compensating(vec![compensated(step("a", &[])), sub("sub", &["a"], failing())]));
    let seen = view(&mut home, id);
    assert_eq!(seen.summary.state, WorkflowState::Failed);
    let undo = seen.steps[0].compensation.clone().unwrap();
    assert_eq!(undo.state, TaskState::Succeeded);
}

#[test]
fn a_retry_starts_a_new_workflow_for_the_step_that_failed_and_keeps_the_others() {
    let (mut home, id) =
        ended(workflow(vec![sub("good", &[], good()), sub("bad", &["good"], failing()), step("after", &["bad"])]));
    let before = view(&mut home, id);
    assert_eq!(before.summary.state, WorkflowState::Failed);
    let operation = home.operation();
    let reply = home.ask(LedgerRequest::RetryWorkflow { operation, id });
    assert_eq!(reply, LedgerReply::WorkflowRetried { id, steps: 2 });
    home.bind_all();
    home.work_off(|_| success("this time"));
    let after = view(&mut home, id);
    assert_eq!(after.summary.state, WorkflowState::Succeeded);
    assert_eq!(after.steps[0].child, before.steps[0].child);
    assert_ne!(after.steps[1].child, before.steps[1].child);
    assert_eq!(
        state(&mut home, before.steps[1].child.unwrap()),
        WorkflowState::Failed,
        "the first run stays what it was"
    );
    assert!(home.ledger.state.conservation_holds());
}

#[test]
fn a_workflow_in_a_step_runs_again_with_each_retry_of_its_policy_and_no_more() {
    let retry = RetryPolicy {
        max_attempts: 3,
        initial: DurationMs(100),
        jitter: 0.0,
        retry_on: vec!["workflow_failed".to_owned()],
        ..RetryPolicy::default()
    };
    let mut home = Bench::new();
    worker(&mut home);
    let forgiven = StepSpec { retry, on_fail: Some(OnFail::Continue), ..sub("sub", &[], failing()) };
    let id = start(&mut home, workflow(vec![forgiven, step("after", &["sub"])]));
    for _ in 0..4 {
        work_off(&mut home);
        home.pass(1_000);
        home.bind_all();
    }
    let seen = view(&mut home, id);
    assert_eq!((seen.steps[0].state, seen.steps[0].attempts), (TaskState::Dead, 3));
    assert_eq!((seen.steps[1].state, seen.summary.state), (TaskState::Succeeded, WorkflowState::Succeeded));
    assert_eq!(home.stats().workflows_running, 0);
}

#[test]
fn the_end_of_a_workflow_stops_what_runs_in_its_steps_workflows() {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, workflow(vec![sub("slow", &[], chain(1)), step("fails", &[])]));
    let inner = view(&mut home, id).steps[0].child.unwrap();
    home.credit(1, 2, 0);
    home.pass(200);
    let grants: Vec<Grant> = home.grants().into_iter().map(|(_, grant)| grant).collect();
    let (failing, slow): (Vec<&Grant>, Vec<&Grant>) =
        grants.iter().partition(|grant| home.task(grant.fence.task).step.as_deref() == Some("fails"));
    home.complete(failing[0], failure(false));
    assert_eq!((state(&mut home, id), state(&mut home, inner)), (WorkflowState::Failed, WorkflowState::Cancelled));
    let stop = WorkerNotice::Stop(vec![slow[0].fence]);
    assert!(home.left.iter().any(|effect| matches!(effect, Effect::Notify { notice, .. } if *notice == stop)));
}
