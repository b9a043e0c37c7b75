//! What has ended is kept a while and within a budget; what is gone is still counted (2.2).

use proptest::prelude::*;

use super::*;
use crate::dag::StepSpec;

const DAY_MS: u64 = 86_400_000;

/// Days pass while the home stands still, and two ticks.
fn wall_passes(home: &mut Bench, ms: u64) {
    home.now.wall_ms += ms;
    home.now.mono_ms += ms;
    home.pass(200);
}

fn cancelled(home: &mut Bench, spec: TaskSpec) -> TaskId {
    let id = home.submit(spec);
    home.cancel(id);
    id
}

fn dead(home: &mut Bench, spec: TaskSpec) -> TaskId {
    let id = home.submit(TaskSpec { retry: at_most(1).retry, ..spec });
    let received = home.received;
    home.worker(1, 0);
    home.credit(1, 1, received);
    home.pass(200);
    let grant = home.grant();
    home.received += 1;
    home.complete(&grant, failure(true));
    id
}

fn is_pruned(home: &mut Bench, id: TaskId) -> bool {
    match home.ask(LedgerRequest::GetTask { id }) {
        LedgerReply::Refused(Refusal::Pruned { .. }) => true,
        LedgerReply::Task(_) => false,
        other => panic!("{other:?}"),
    }
}

/// What is counted is what is here and what was here.
fn census_holds(home: &Bench) -> bool {
    let state = &home.ledger.state;
    let mut here = TaskCounts::default();
    state.tasks.values().for_each(|task| here.add(task.state, 1));
    for run in state.workflows.values() {
        here = here.plus(&run.placeholders());
        here.add(TaskState::Blocked, run.unbound());
    }
    here.plus(&state.pruned) == state.counts
}

fn policy(bytes_max: u64) -> RetentionPolicy {
    RetentionPolicy { bytes_max, ..RetentionPolicy::default() }
}

#[test]
fn ended_tasks_are_kept_for_a_week_and_dead_ones_for_a_month() {
    let mut home = Bench::new();
    let (ended, died) = (cancelled(&mut home, noop()), dead(&mut home, noop()));
    let live = home.submit(noop());
    wall_passes(&mut home, 7 * DAY_MS - 10_000);
    assert!(!is_pruned(&mut home, ended));
    wall_passes(&mut home, 20_000);
    assert!(is_pruned(&mut home, ended) && !is_pruned(&mut home, died));
    wall_passes(&mut home, 23 * DAY_MS);
    assert!(is_pruned(&mut home, died));
    assert_eq!(home.state(live), TaskState::Ready);
    let stats = home.stats();
    assert_eq!((stats.submitted, stats.counts.cancelled, stats.counts.dead, stats.pruned.total()), (3, 1, 1, 2));
    let mut home = home.restart(0);
    assert!(is_pruned(&mut home, ended) && census_holds(&home));
    assert_eq!((home.stats().pruned, home.stats().counts), (stats.pruned, stats.counts));
}

#[test]
fn a_task_may_say_how_long_it_is_kept() {
    let mut home = Bench::new();
    let short = cancelled(&mut home, TaskSpec { retention: Some(DurationMs(3_600_000)), ..noop() });
    let long = cancelled(&mut home, TaskSpec { retention: Some(DurationMs(90 * DAY_MS)), ..noop() });
    wall_passes(&mut home, 3_600_000);
    assert!(is_pruned(&mut home, short));
    wall_passes(&mut home, 60 * DAY_MS);
    assert!(!is_pruned(&mut home, long));
}

#[test]
fn an_unknown_id_is_pruned_if_it_is_older_than_the_newest_pruned_one_of_this_ledger() {
    let mut home = Bench::new();
    let ended = cancelled(&mut home, noop());
    wall_passes(&mut home, 8 * DAY_MS);
    let ask = |home: &mut Bench, id| home.ask(LedgerRequest::GetTask { id });
    let older = TaskId { ulid: ended.ulid - 1, ..ended };
    let pruned = LedgerReply::Refused(Refusal::Pruned { id: older, before: ended.made_at() });
    assert_eq!(ask(&mut home, older), pruned);
    for id in [TaskId { ulid: ended.ulid + 1, ..ended }, TaskId { ledger: crate::ids::LedgerTag([1; 5]), ..ended }] {
        assert_eq!(ask(&mut home, id), LedgerReply::Refused(Refusal::NotFound { id }));
    }
}

#[test]
fn beyond_the_budget_the_oldest_go_first_and_none_that_is_young() {
    let mut home = Bench::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(cancelled(&mut home, noop()));
        home.pass(1_000);
    }
    let each = home.stats().kept_bytes / 5;
    home.ledger.set_retention(policy(3 * each + each / 2));
    home.pass(1_000);
    assert!(ids.iter().all(|id| !is_pruned(&mut home, *id)), "they are younger than ten minutes");
    wall_passes(&mut home, limits::RETENTION_MS_MIN);
    let gone: Vec<bool> = ids.iter().map(|id| is_pruned(&mut home, *id)).collect();
    assert_eq!(gone, [true, true, false, false, false]);
    assert_eq!(home.stats().kept_bytes, 3 * each);
}

#[test]
fn only_when_nothing_can_go_a_submission_is_refused_and_told_when_to_come_again() {
    let mut home = Bench::new();
    cancelled(&mut home, noop());
    home.ledger.set_retention(policy(1));
    let operation = home.operation();
    let request = LedgerRequest::Submit { operation, items: vec![SubmitItem::one(noop())] };
    let LedgerReply::Refused(Refusal::Overloaded { retry_after_ms, what }) = home.ask(request.clone()) else {
        panic!("the budget is spent")
    };
    assert!(what.contains("disk budget") && retry_after_ms == limits::RETRY_AFTER_MS_MAX);
    home.now.wall_ms += limits::RETENTION_MS_MIN - 5_000;
    let LedgerReply::Refused(Refusal::Overloaded { retry_after_ms, .. }) = home.ask(request.clone()) else {
        panic!("the budget is spent")
    };
    assert!((4_000..=5_100).contains(&retry_after_ms), "{retry_after_ms}");
    home.now.wall_ms += retry_after_ms;
    assert!(matches!(home.ask(request), LedgerReply::Submitted { .. }), "the old one gave way");
}

fn workflow(home: &mut Bench, steps: usize) -> WorkflowId {
    let operation = home.operation();
    let request = LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflows::chain(steps)) };
    let LedgerReply::WorkflowSubmitted { id } = home.ask(request) else { panic!("it is good") };
    home.bind_all();
    id
}

#[test]
fn nothing_of_a_workflow_that_runs_is_let_go_and_all_of_one_that_ended() {
    let mut home = Bench::new();
    let running = workflow(&mut home, 2);
    home.worker(1, 1);
    home.pass(200);
    let grant = home.grant();
    home.complete(&grant, success("first"));
    home.bind_all();
    let ended = workflow(&mut home, 3);
    home.cancel(ended);
    wall_passes(&mut home, 40 * DAY_MS);
    assert_eq!(home.state(grant.fence.task), TaskState::Succeeded);
    assert!(matches!(home.ask(LedgerRequest::GetWorkflow { id: running }), LedgerReply::Workflow(_)));
    let pruned = Refusal::Pruned { id: ended, before: home.ledger.state.pruned_newest.unwrap().made_at() };
    assert_eq!(home.ask(LedgerRequest::GetWorkflow { id: ended }), LedgerReply::Refused(pruned));
    assert!(census_holds(&home));
    assert_eq!(home.ledger.state.pruned, TaskCounts { cancelled: 1, skipped: 2, ..TaskCounts::default() });
}

#[test]
fn what_a_running_workflow_needs_keeps_nothing_behind_it_from_going() {
    let mut home = Bench::new();
    workflows::worker(&mut home);
    let inner = || Some(Arc::new(workflows::chain(1)));
    let children = limits::PRUNE_LEN_MAX + 1;
    let parts = (0..children).map(|n| StepSpec {
        kind: TaskKind::Workflow,
        workflow: inner(),
        ..workflows::step(&format!("part-{n}"), &[])
    });
    let waits = StepSpec { kind: TaskKind::Approval, ..workflows::step("waits", &[]) };
    let whole = workflows::start(&mut home, workflows::workflow(parts.chain([waits]).collect()));
    workflow_policies::work_off(&mut home, &[]);
    let parts_over = |home: &Bench| home.ledger.state.workflows.values().filter(|run| run.state.is_terminal()).count();
    assert_eq!(parts_over(&home), children, "its parts are over, and it is not");
    let behind = cancelled(&mut home, noop());
    wall_passes(&mut home, 8 * DAY_MS);
    assert!(is_pruned(&mut home, behind));
    assert_eq!(parts_over(&home), children);
    home.cancel(whole);
    wall_passes(&mut home, 40 * DAY_MS);
    home.pass(2_000);
    assert_eq!((home.ledger.state.tasks.values().count(), home.ledger.state.workflows.len()), (0, 0));
    assert!(census_holds(&home));
}

#[test]
fn a_workflow_that_was_retried_goes_with_all_that_was_made_for_it() {
    let mut home = Bench::new();
    workflows::worker(&mut home);
    let names = [("a", ""), ("b", "a"), ("c", "b"), ("d", "c")];
    let step = |(name, needs): &(&str, &str)| {
        let needs: Vec<&str> = needs.split_terminator(' ').filter(|need| !need.is_empty()).collect();
        workflow_policies::compensated(workflows::step(name, &needs))
    };
    let spec = workflows::workflow(names.iter().map(step).collect());
    let id = workflows::start(&mut home, crate::dag::WorkflowSpec { on_fail: crate::dag::OnFail::Compensate, ..spec });
    for failing in ["c", "b", "d", "none"] {
        workflow_policies::work_off(&mut home, &[failing]);
        assert!(census_holds(&home), "after {failing} failed");
        let operation = home.operation();
        home.ask(LedgerRequest::RetryWorkflow { operation, id });
        home.bind_all();
        assert!(census_holds(&home), "retried after {failing} failed");
    }
    let made = home.ledger.state.tasks.values().count();
    wall_passes(&mut home, 31 * DAY_MS);
    let state = &home.ledger.state;
    assert_eq!((state.tasks.values().count(), state.workflows.len()), (0, 0), "{made} tasks were made");
    assert!(census_holds(&home));
}

#[test]
fn a_purge_of_a_step_leaves_its_workflow_and_the_counts_right() {
    let mut home = Bench::new();
    let mut spec = workflows::chain(2);
    spec.steps[0].retry = at_most(1).retry;
    let operation = home.operation();
    let LedgerReply::WorkflowSubmitted { id } =
        home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) })
    else {
        panic!("it is good")
    };
    home.bind_all();
    home.worker(1, 1);
    home.pass(200);
    let grant = home.grant();
    home.complete(&grant, failure(true));
    assert_eq!(home.state(grant.fence.task), TaskState::Dead);
    let operation = home.operation();
    home.ask(LedgerRequest::PurgeDead { operation, ids: vec![grant.fence.task] });
    let LedgerReply::Workflow(view) = home.ask(LedgerRequest::GetWorkflow { id }) else { panic!("it is there") };
    assert_eq!(view.steps[0].state, TaskState::Dead);
    wall_passes(&mut home, 40 * DAY_MS);
    assert!(census_holds(&home) && home.ledger.state.workflows.is_empty());
    assert_eq!(home.ledger.retention.bytes(), 0);
}

#[test]
fn much_that_is_due_goes_in_small_parts() {
    let mut home = Bench::new();
    let count = limits::PRUNE_LEN_MAX as u32 + 7;
    let (operation, spec) = (home.operation(), Arc::new(noop()));
    home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem { spec, count }] });
    let operation = home.operation();
    home.ask(LedgerRequest::ClearQueue { operation, namespace: None, up_to: LogIndex(u64::MAX) });
    home.now.wall_ms += 8 * DAY_MS;
    home.now.mono_ms += 8 * DAY_MS;
    home.event(Event::Tick);
    assert_eq!(home.stats().pruned.cancelled, limits::PRUNE_LEN_MAX as u64);
    home.event(Event::Tick);
    assert_eq!(home.stats().pruned.cancelled, u64::from(count));
    assert!(home.ledger.state.tasks.values().next().is_none() && home.ledger.state.order.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Submit { memory: bool, bytes: usize, kept_h: Option<u64> },
    Workflow { steps: usize },
    Cancel { pick: usize },
    Die,
    Purge,
    Pass { hours: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 0usize..2_000, proptest::option::of(1u64..500))
            .prop_map(|(memory, bytes, kept_h)| Step::Submit { memory, bytes, kept_h }),
        2 => (1usize..4).prop_map(|steps| Step::Workflow { steps }),
        4 => any::<usize>().prop_map(|pick| Step::Cancel { pick }),
        2 => Just(Step::Die),
        1 => Just(Step::Purge),
        3 => (1u64..200).prop_map(|hours| Step::Pass { hours }),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn i9_whatever_is_let_go_what_is_counted_is_what_is_here_and_what_was(
        steps in proptest::collection::vec(step(), 1..40),
        bytes_max in 1_000u64..20_000,
    ) {
        let mut home = Bench::new();
        home.ledger.set_retention(policy(bytes_max));
        for step in steps {
            match step {
                Step::Submit { memory, bytes, kept_h } => {
                    let durability = if memory { Durability::Memory } else { Durability::Sync };
                    let input = Payload::Inline(JsonText::of(&serde_json::Value::from("x".repeat(bytes))));
                    let retention = kept_h.map(|hours| DurationMs(hours * 3_600_000));
                    let operation = home.operation();
                    let spec = TaskSpec { durability, input, retention, ..noop() };
                    home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] });
                }
                Step::Workflow { steps } => {
                    let (operation, spec) = (home.operation(), Arc::new(workflows::chain(steps)));
                    home.ask(LedgerRequest::SubmitWorkflow { operation, spec });
                    home.bind_all();
                }
                Step::Cancel { pick } => {
                    let state = &home.ledger.state;
                    let ids: Vec<TaskId> = state.order.iter().chain(state.workflows.keys()).copied().collect();
                    if let Some(id) = ids.get(pick % ids.len().max(1)) {
                        home.cancel(*id);
                    }
                }
                Step::Die => {
                    home.worker(1, 0);
                    let received = home.received;
                    home.credit(1, 1, received);
                    home.pass(200);
                    for (_, grant) in home.grants() {
                        home.received += 1;
                        home.complete(&grant, failure(true));
                    }
                }
                Step::Purge => {
                    let ids: Vec<TaskId> = home.ledger.dead.iter().copied().collect();
                    let operation = home.operation();
                    home.ask(LedgerRequest::PurgeDead { operation, ids });
                }
                Step::Pass { hours } => wall_passes(&mut home, hours * 3_600_000),
                Step::Restart => {
                    home.pass(1_200);
                    home = home.restart(1_000);
                    home.received = 0;
                    home.ledger.set_retention(policy(bytes_max));
                }
            }
            prop_assert!(census_holds(&home));
            let weighed: u64 = home.ledger.state.tasks.values().map(|task| u64::from(task.soft.bytes)).sum();
            prop_assert_eq!(home.ledger.retention.bytes(), weighed);
            let stats = home.stats();
            prop_assert_eq!(stats.submitted, stats.counts.total() + stats.lost);
        }
    }
}
