//! Steps, needs, `for_each`, ends of workflows (2.6).

use std::collections::BTreeMap;

use super::*;
use crate::dag::{OnFail, StepSpec, Template, WorkflowSpec};

pub fn template(value: serde_json::Value) -> Template {
    Template::parse(&value).unwrap()
}

pub fn workflow(steps: Vec<StepSpec>) -> WorkflowSpec {
    WorkflowSpec {
        name: "w".to_owned(),
        tag: None,
        namespace: "default".to_owned(),
        durability: Durability::Sync,
        priority: Priority::default(),
        schedule: None,
        parent: None,
        input: BTreeMap::new(),
        labels: BTreeMap::new(),
        on_fail: OnFail::FailFast,
        steps,
        outputs: BTreeMap::new(),
    }
}

pub fn step(name: &str, needs: &[&str]) -> StepSpec {
    let retry = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    StepSpec {
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        retry,
        ..StepSpec::new(name, TaskKind::Noop)
    }
}

/// Steps `s0`, `s1`, ..., each of which needs the one before.
pub fn chain(steps: usize) -> WorkflowSpec {
    let step = |n: usize| match n {
        0 => step("s0", &[]),
        n => step(&format!("s{n}"), &[&format!("s{}", n - 1)]),
    };
    workflow((0..steps).map(step).collect())
}

/// A list of items, a step over it, one that joins.
pub fn fan_out(items: usize) -> WorkflowSpec {
    workflow(vec![step("list", &[]), over_a_list("each", items, &["list"]), step("join", &["each"])])
}

/// A step over the items 0, 1, ...
pub fn over_a_list(name: &str, items: usize, needs: &[&str]) -> StepSpec {
    let list: Vec<usize> = (0..items).collect();
    StepSpec { for_each: Some(template(serde_json::json!(list))), ..step(name, needs) }
}

pub fn items_of(workflow: WorkflowId, step: u32, from: u32) -> BindingId {
    BindingId { workflow, retries: 0, part: BindingPart::Items { step, from } }
}

/// A compensation that no failure leads to is refused: of what was drawn it is left out.
pub fn start(home: &mut Bench, mut spec: WorkflowSpec) -> WorkflowId {
    let operation = home.operation();
    let compensates = |step: &StepSpec| step.on_fail == Some(OnFail::Compensate);
    if spec.on_fail != OnFail::Compensate && !spec.steps.iter().any(compensates) {
        spec.steps.iter_mut().for_each(|step| step.compensate = None);
    }
    match home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) }) {
        LedgerReply::WorkflowSubmitted { id } => {
            home.bind_all();
            id
        }
        other => panic!("{other:?}"),
    }
}

pub fn view(home: &mut Bench, id: WorkflowId) -> WorkflowView {
    match home.ask(LedgerRequest::GetWorkflow { id }) {
        LedgerReply::Workflow(view) => *view,
        other => panic!("{other:?}"),
    }
}

pub fn states(home: &mut Bench, id: WorkflowId) -> Vec<TaskState> {
    view(home, id).steps.into_iter().map(|step| step.state).collect()
}

pub fn worker(home: &mut Bench) {
    home.event(Event::WorkerSeen { worker: peer(1), capabilities: all_kinds(), alive: true });
}

#[test]
fn each_step_starts_when_all_it_needs_has_succeeded() {
    let mut home = Bench::new();
    worker(&mut home);
    let diamond = vec![step("a", &[]), step("b", &["a"]), step("c", &["a"]), step("d", &["b", "c"])];
    let id = start(&mut home, workflow(diamond));
    assert_eq!(states(&mut home, id)[1..], [TaskState::Blocked; 3]);
    let done = home.work_off(|_| success("done"));
    assert_eq!(done.len(), 4);
    assert_eq!(view(&mut home, id).summary.state, WorkflowState::Succeeded);
    assert_eq!(states(&mut home, id), [TaskState::Succeeded; 4]);
}

#[test]
fn a_step_over_a_list_has_a_task_for_each_item() {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, fan_out(7));
    assert_eq!(home.work_off(|_| success("done")).len(), 9);
    let view = view(&mut home, id);
    assert_eq!(view.steps[1].tasks.succeeded, 7);
    assert_eq!(view.summary.state, WorkflowState::Succeeded);
}

#[test]
fn a_list_longer_than_a_window_is_worked_off_to_its_end() {
    let items = limits::FOR_EACH_WINDOW_LEN_MAX + 300;
    let mut home = Bench::new();
    worker(&mut home);
    let mut spec = fan_out(items);
    spec.durability = Durability::Memory;
    let id = start(&mut home, spec);
    let mut received = 0;
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
fn outcomes_of_one_workflow_in_one_message_see_its_end() {
    let mut home = Bench::new();
    worker(&mut home);
    start(&mut home, workflow(vec![step("a", &[]), step("b", &[])]));
    home.credit(1, 2, 0);
    home.pass(200);
    home.credit(1, 2, 1);
    home.pass(200);
    let grants: Vec<Grant> = home.grants().into_iter().map(|(_, grant)| grant).collect();
    let all = vec![completion(&grants[0], failure(false)), completion(&grants[1], success("too late"))];
    let reply = home.ask_as(peer(1), LedgerRequest::Complete(all)).unwrap();
    let cancelled = CompleteAnswer::Terminal { state: TaskState::Cancelled };
    assert_eq!(reply, LedgerReply::Completed(vec![CompleteAnswer::Committed, cancelled]));
}

#[test]
fn tasks_of_one_workflow_buried_in_one_record_end_once() {
    let mut home = Bench::new();
    worker(&mut home);
    let slow = |name| StepSpec { timeout: Some(DurationMs(1_000)), ..step(name, &[]) };
    start(&mut home, workflow(vec![slow("a"), slow("b")]));
    home.credit(1, 2, 0);
    home.pass(200);
    home.credit(1, 2, 1);
    home.pass(200);
    let grants: Vec<Grant> = home.grants().into_iter().map(|(_, grant)| grant).collect();
    home.ask_as(peer(1), LedgerRequest::Renew(grants.iter().map(|grant| renewal(grant, true)).collect()));
    home.pass(40_000);
    let mut states: Vec<TaskState> = grants.iter().map(|grant| home.state(grant.fence.task)).collect();
    states.sort();
    assert_eq!(states, [TaskState::Dead, TaskState::Cancelled]);
    assert!(home.ledger.state.conservation_holds());
}

#[test]
fn a_cancelled_workflow_cancels_its_tasks_and_skips_the_rest() {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, chain(3));
    assert_eq!(home.cancel(id), TaskState::Cancelled);
    assert_eq!(states(&mut home, id), [TaskState::Cancelled, TaskState::Skipped, TaskState::Skipped]);
    assert_eq!(view(&mut home, id).summary.state, WorkflowState::Cancelled);
    assert!(home.work_off(|_| success("never")).is_empty());
}

#[test]
fn a_step_whose_references_do_not_resolve_fails_in_words() {
    let mut home = Bench::new();
    let operation = home.operation();
    let spec = Arc::new(workflow(vec![over_a_list("each", 2, &[])]));
    let LedgerReply::WorkflowSubmitted { id } = home.ask(LedgerRequest::SubmitWorkflow { operation, spec }) else {
        panic!("it is a good workflow");
    };
    let bound = Err(TaskError::new("unresolved", "there is no key n"));
    home.event(Event::Bound { id: items_of(id, 0, 0), bound });
    let view = view(&mut home, id);
    assert_eq!(view.summary.state, WorkflowState::Failed);
    assert_eq!(view.steps[0].error.as_ref().unwrap().message, "there is no key n");
    assert!(home.ledger.state.conservation_holds());
}

/// A list of one item more than a window, at the moment when its second window is asked for; what the worker has had.
fn at_its_second_window(home: &mut Bench, spec: WorkflowSpec) -> (WorkflowId, u32) {
    worker(home);
    let id = start(home, spec);
    home.credit(1, 2, 0);
    home.pass(100);
    let grant = home.grant();
    home.complete(&grant, success("the list"));
    home.bind_all();
    // As if its first window were half done, which is when the next is asked for.
    let (mut received, from) = (1, limits::FOR_EACH_WINDOW_LEN_MAX as u32);
    let asked = items_of(id, 1, from);
    while !home.left.iter().any(|effect| matches!(effect, Effect::Bind { id, .. } if *id == asked)) {
        received += work_off_some(home, received);
    }
    (id, received)
}

/// How many ended.
fn work_off_some(home: &mut Bench, received: u32) -> u32 {
    home.credit(1, 3_000, received);
    home.pass(100);
    let grants = home.grants();
    let all = grants.iter().map(|(_, grant)| completion(grant, success("x"))).collect();
    home.ask_as(peer(1), LedgerRequest::Complete(all));
    grants.len() as u32
}

fn second_window_is_unbound(home: &mut Bench, id: WorkflowId) {
    let bound = Err(TaskError::new("unresolved", "the list is gone"));
    home.event(Event::Bound { id: items_of(id, 1, limits::FOR_EACH_WINDOW_LEN_MAX as u32), bound });
}

#[test]
fn a_window_that_does_not_resolve_fails_its_workflow() {
    let mut home = Bench::new();
    let (id, _) = at_its_second_window(&mut home, fan_out(limits::FOR_EACH_WINDOW_LEN_MAX + 1));
    second_window_is_unbound(&mut home, id);
    let view = view(&mut home, id);
    assert_eq!((view.summary.state, view.steps[1].state), (WorkflowState::Failed, TaskState::Failed));
    assert!(home.ledger.state.conservation_holds());
}

#[test]
fn a_window_that_does_not_resolve_leaves_the_items_before_it_their_end_where_the_others_go_on() {
    let mut home = Bench::new();
    let items = limits::FOR_EACH_WINDOW_LEN_MAX;
    let spec = WorkflowSpec { on_fail: OnFail::SkipChildren, ..fan_out(items + 1) };
    let (id, mut received) = at_its_second_window(&mut home, spec);
    second_window_is_unbound(&mut home, id);
    assert_eq!(view(&mut home, id).summary.state, WorkflowState::Running, "its items are under way");
    while view(&mut home, id).summary.state == WorkflowState::Running {
        received += work_off_some(&mut home, received);
    }
    let ended = view(&mut home, id);
    assert_eq!(ended.steps[1].tasks.succeeded, items as u64);
    assert_eq!(ended.steps[1].error.as_ref().unwrap().message, "the list is gone");
    assert_eq!(
        ended.steps.iter().map(|step| step.state).collect::<Vec<_>>(),
        [TaskState::Succeeded, TaskState::Failed, TaskState::Skipped]
    );
    assert!(home.ledger.state.conservation_holds());
    let operation = home.operation();
    assert_eq!(home.ask(LedgerRequest::RetryWorkflow { operation, id }), LedgerReply::WorkflowRetried { id, steps: 2 });
    assert_eq!(view(&mut home, id).steps[1].tasks.succeeded, items as u64, "none of them is run again");
}

#[test]
fn a_binding_without_an_answer_is_asked_for_again_and_counts_once() {
    let mut home = Bench::new();
    let operation = home.operation();
    let spec = Arc::new(workflow(vec![over_a_list("each", 1, &[])]));
    home.ask(LedgerRequest::SubmitWorkflow { operation, spec });
    let binds = |home: &Bench| home.left.iter().filter(|effect| matches!(effect, Effect::Bind { .. })).count();
    home.pass(29_000);
    assert_eq!(binds(&home), 1);
    home.pass(2_000);
    assert_eq!(binds(&home), 2);
    home.bind_all();
    assert_eq!(home.stats().counts.ready, 1);
}

#[test]
fn a_step_that_reads_nothing_is_ready_with_the_record_that_lets_it_start() {
    let mut home = Bench::new();
    let operation = home.operation();
    home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(chain(2)) });
    assert_eq!(home.stats().counts.ready, 1);
    assert!(!home.left.iter().any(|effect| matches!(effect, Effect::Bind { .. })));
}

#[test]
fn an_input_too_large_for_a_record_is_left_to_those_who_keep_blobs() {
    let mut home = Bench::new();
    let large = "x".repeat(limits::PAYLOAD_INLINE_BYTES_MAX);
    let operation = home.operation();
    let spec = Arc::new(workflow(vec![StepSpec { input: template(large.into()), ..step("a", &[]) }]));
    home.ask(LedgerRequest::SubmitWorkflow { operation, spec });
    assert!(home.left.iter().any(|effect| matches!(effect, Effect::Bind { .. })));
}

#[test]
fn a_cycle_or_an_unknown_need_is_refused() {
    let mut home = Bench::new();
    for steps in [vec![step("a", &["b"]), step("b", &["a"])], vec![step("a", &["nobody"])]] {
        let operation = home.operation();
        let reply = home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflow(steps)) });
        assert!(matches!(reply, LedgerReply::Refused(Refusal::Invalid { .. })), "{reply:?}");
    }
}

#[test]
fn a_workflow_sent_again_is_the_same_one() {
    let mut home = Bench::new();
    let request = LedgerRequest::SubmitWorkflow { operation: OperationId([3; 16]), spec: Arc::new(chain(2)) };
    let first = home.ask(request.clone());
    assert_eq!(home.ask(request.clone()), first);
    let mut home = home.restart(0);
    assert_eq!(home.ask(request), first);
    assert_eq!(home.stats().workflows_running, 1);
}

#[test]
fn who_waits_for_a_workflow_hears_of_its_end() {
    let mut home = Bench::new();
    worker(&mut home);
    let id = start(&mut home, chain(1));
    assert_eq!(home.ask_as(peer(0), LedgerRequest::WaitWorkflow { id, timeout_ms: 5_000 }), None);
    let waiting = ReplyTo(home.replies);
    home.work_off(|_| success("done"));
    home.bind_all();
    let Some(LedgerReply::Workflow(view)) = home.answer_to(waiting) else { panic!("nobody was told") };
    assert_eq!(view.summary.state, WorkflowState::Succeeded);
}

#[test]
fn an_empty_for_each_keeps_conservation_in_every_class_and_across_a_restart() {
    for durability in [Durability::Memory, Durability::Async, Durability::Sync] {
        let mut home = Bench::new();
        worker(&mut home);
        let id = start(&mut home, WorkflowSpec { durability, ..fan_out(0) });
        assert_eq!(home.work_off(|_| success("done")).len(), 2, "the list and the join");
        assert_eq!(view(&mut home, id).summary.state, WorkflowState::Succeeded);
        let stats = home.stats();
        assert_eq!((stats.submitted, stats.counts.succeeded, stats.lost), (3, 3, 0), "{durability:?}");
        home.pass(1_200);
        let stats = home.restart(0).stats();
        let kept = if durability == Durability::Memory { 0 } else { 3 };
        assert_eq!((stats.submitted, stats.counts.succeeded, stats.lost), (kept, kept, 0), "{durability:?}");
    }
}
