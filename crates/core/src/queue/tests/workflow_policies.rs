//! Joins, conditions, and what a failure means (2.6).

use serde_json::json;

use super::workflows::{fan_out, start, states, step, template, view, worker, workflow};
use super::*;
use crate::dag::{CompensateSpec, Join, OnFail, StepSpec, WorkflowSpec};
use TaskState::{Blocked, Cancelled, Dead, Failed, Skipped, Succeeded};

/// A home with a worker, and a way to tell which step a grant is of.
fn home() -> Bench {
    let mut home = Bench::new();
    worker(&mut home);
    home
}

/// The step that a grant runs or undoes.
pub fn step_of(home: &Bench, grant: &Grant) -> String {
    let task = &home.ledger.state.tasks[&grant.fence.task];
    let link = task.kin.step.unwrap();
    home.ledger.state.workflows[&link.workflow].spec.steps[link.step as usize].name.clone()
}

/// Works a workflow off; the named steps fail for good. Returns the steps in the order in which they ran.
pub fn work_off(home: &mut Bench, fails: &[&str]) -> Vec<String> {
    let mut ran = Vec::new();
    let mut received = 0;
    loop {
        home.credit(1, 100, received);
        home.pass(100);
        let grants = home.grants();
        if grants.is_empty() {
            return ran;
        }
        received += grants.len() as u32;
        for (_, grant) in grants {
            let name = step_of(home, &grant);
            let outcome = if fails.contains(&name.as_str()) { failure(false) } else { success(&name) };
            home.complete(&grant, outcome);
            home.bind_all();
            assert!(home.ledger.state.conservation_holds());
            ran.push(name);
        }
    }
}

fn on_fail(policy: OnFail, step: StepSpec) -> StepSpec {
    StepSpec { on_fail: Some(policy), ..step }
}

fn joined(join: Join, step: StepSpec) -> StepSpec {
    StepSpec { join, ..step }
}

fn when(condition: &str, step: StepSpec) -> StepSpec {
    StepSpec { when: Some(condition.parse().unwrap()), ..step }
}

pub fn compensated(step: StepSpec) -> StepSpec {
    let compensate = CompensateSpec {
        kind: TaskKind::Noop,
        run: Vec::new(),
        model: None,
        input: template(format!("undo ${{steps.{}.output}}", step.name).into()),
        files: Vec::new(),
        requires: None,
        timeout: None,
        retry: RetryPolicy { max_attempts: 1, ..RetryPolicy::default() },
    };
    StepSpec { compensate: Some(Box::new(compensate)), ..step }
}

pub fn compensating(steps: Vec<StepSpec>) -> WorkflowSpec {
    WorkflowSpec { on_fail: OnFail::Compensate, ..workflow(steps) }
}

fn end(home: &mut Bench, id: WorkflowId) -> WorkflowState {
    view(home, id).summary.state
}

#[test]
fn a_step_that_joins_any_starts_with_the_first_that_succeeds() {
    let mut home = home();
    let id =
        start(&mut home, workflow(vec![step("a", &[]), step("b", &[]), joined(Join::Any, step("c", &["a", "b"]))]));
    home.credit(1, 1, 0);
    home.pass(100);
    let first = home.grant();
    home.complete(&first, success("x"));
    home.bind_all();
    assert_eq!(states(&mut home, id)[2], TaskState::Ready);
    work_off(&mut home, &[]);
    assert_eq!(states(&mut home, id), [Succeeded; 3]);
    assert_eq!(end(&mut home, id), WorkflowState::Succeeded);
}

#[test]
fn a_join_that_cannot_be_met_any_more_skips_its_step_and_so_on_down() {
    let mut home = home();
    let lone = |name| on_fail(OnFail::SkipChildren, step(name, &[]));
    let two = joined(Join::Count(2), step("two", &["a", "b", "c"]));
    let steps = vec![lone("a"), lone("b"), lone("c"), two, step("then", &["two"]), step("aside", &["a"])];
    let id = start(&mut home, workflow(steps));
    work_off(&mut home, &["b", "c"]);
    assert_eq!(states(&mut home, id), [Succeeded, Failed, Failed, Skipped, Skipped, Succeeded]);
    let view = view(&mut home, id);
    assert_eq!(view.summary.state, WorkflowState::Failed);
    assert_eq!(view.steps[3].reason.as_deref(), Some("it joins 2 of 3 steps, and 1 ended well"));
    assert!(view.error.unwrap().message.starts_with("step b is failed"));
}

#[test]
fn a_step_whose_condition_does_not_hold_is_skipped_with_what_needs_it() {
    let mut home = home();
    let spec = workflow(vec![
        step("a", &[]),
        when("${steps.a.output} == 'a'", step("yes", &["a"])),
        when("${steps.a.output} != 'a'", step("no", &["a"])),
        step("after", &["no"]),
        joined(Join::Any, step("either", &["yes", "no"])),
    ]);
    let id = start(&mut home, spec);
    assert_eq!(work_off(&mut home, &[]), ["a", "yes", "either"]);
    assert_eq!(states(&mut home, id), [Succeeded, Succeeded, Skipped, Skipped, Succeeded]);
    let view = view(&mut home, id);
    assert_eq!(view.summary.state, WorkflowState::Succeeded);
    assert_eq!(view.steps[2].reason.as_deref(), Some("its condition does not hold: ${steps.a.output} != 'a'"));
    assert_eq!((view.progress.steps_over, view.progress.steps), (5, 5));
}

#[test]
fn a_condition_without_truth_fails_its_step_in_words() {
    let mut home = home();
    let id = start(&mut home, workflow(vec![step("a", &[]), when("${steps.a.output.n} > 3", step("b", &["a"]))]));
    work_off(&mut home, &[]);
    let view = view(&mut home, id);
    assert_eq!(view.summary.state, WorkflowState::Failed);
    let words = &view.steps[1].error.as_ref().unwrap().message;
    assert_eq!(
        words,
        "step b: when ${steps.a.output.n} > 3: ${steps.a.output.n} has no value: there is no key n in the text \"a\""
    );
}

#[test]
fn a_condition_on_the_item_skips_items_one_by_one_and_keeps_their_places() {
    let mut home = home();
    let mut spec = fan_out(4);
    spec.steps[1].when = Some("${item} != 1 && ${item_index} < 3".parse().unwrap());
    spec.steps[2].input = template("${steps.each.output}".into());
    let id = start(&mut home, spec);
    assert_eq!(work_off(&mut home, &[]), ["list", "each", "each", "join"]);
    let view = view(&mut home, id);
    assert_eq!((view.steps[1].tasks.succeeded, view.steps[1].tasks.skipped), (2, 2));
    let input = &home.ledger.state.tasks[&view.steps[2].task_id.unwrap()].spec.input;
    assert_eq!(*input, Payload::Inline(JsonText::parse(r#"["each",null,"each",null]"#).unwrap()));
    assert_eq!(home.stats().counts.skipped, 2);
}

#[test]
fn a_list_of_which_every_item_is_skipped_is_worked_off() {
    let mut home = home();
    let mut spec = fan_out(limits::FOR_EACH_WINDOW_LEN_MAX + 2);
    spec.steps[1].when = Some("${item} < 0".parse().unwrap());
    let id = start(&mut home, spec);
    assert_eq!(work_off(&mut home, &[]), ["list", "join"]);
    assert_eq!(states(&mut home, id), [Succeeded; 3]);
}

#[test]
fn a_failure_that_is_let_go_gives_null_and_its_code_to_those_that_need_it() {
    let mut home = home();
    let read = StepSpec { input: template(json!(["${steps.a.output}", "${steps.a.error.code}"])), ..step("b", &["a"]) };
    let id = start(&mut home, workflow(vec![on_fail(OnFail::Continue, step("a", &[])), read]));
    work_off(&mut home, &["a"]);
    let view = view(&mut home, id);
    assert_eq!((view.summary.state, view.steps[0].state), (WorkflowState::Succeeded, Failed));
    let input = &home.ledger.state.tasks[&view.steps[1].task_id.unwrap()].spec.input;
    assert_eq!(*input, Payload::Inline(JsonText::parse(r#"[null,"exit_status"]"#).unwrap()));
}

#[test]
fn with_skip_children_the_other_branches_go_on_and_all_items_run() {
    let mut home = home();
    let mut spec = fan_out(3);
    spec.on_fail = OnFail::SkipChildren;
    spec.steps.push(step("aside", &[]));
    let id = start(&mut home, spec);
    assert_eq!(work_off(&mut home, &["each"]).len(), 5);
    assert_eq!(states(&mut home, id), [Succeeded, Failed, Skipped, Succeeded]);
    assert_eq!(view(&mut home, id).steps[1].tasks.failed, 3);
    assert_eq!(end(&mut home, id), WorkflowState::Failed);
}

#[test]
fn what_succeeded_is_undone_in_reverse_order_after_a_failure() {
    let mut home = home();
    let chain = vec![
        compensated(step("a", &[])),
        compensated(step("b", &["a"])),
        step("c", &["b"]),
        compensated(step("d", &["c"])),
        compensated(step("e", &["d"])),
    ];
    let id = start(&mut home, compensating(chain));
    assert_eq!(work_off(&mut home, &["d"]), ["a", "b", "c", "d", "b", "a"]);
    let view = view(&mut home, id);
    assert_eq!(view.summary.state, WorkflowState::Failed);
    assert!(view.error.as_ref().unwrap().message.starts_with("step d is failed"));
    let undone: Vec<Option<TaskState>> =
        view.steps.iter().map(|step| step.compensation.as_ref().map(|undo| undo.state)).collect();
    assert_eq!(undone, [Some(Succeeded), Some(Succeeded), None, None, None]);
    let undo_b = view.steps[1].compensation.as_ref().unwrap().task_id.unwrap();
    let input = &home.ledger.state.tasks[&undo_b].spec.input;
    assert_eq!(*input, Payload::Inline(JsonText::parse("\"undo b\"").unwrap()));
    assert_eq!(home.stats().workflows_running, 0);
}

#[test]
fn a_compensation_that_fails_is_shown_and_the_rest_still_run() {
    let mut home = home();
    let mut no_value = compensated(step("b", &["a"]));
    no_value.compensate.as_mut().unwrap().input = template("${steps.b.output.n}".into());
    let chain = vec![compensated(step("a", &[])), no_value, compensated(step("c", &["b"])), step("d", &["c"])];
    let id = start(&mut home, compensating(chain));
    let mut seen = 0;
    home.work_off(|_| {
        seen += 1;
        // a, b, c succeed; d fails; then the compensation of c fails too.
        if seen == 4 || seen == 5 { failure(false) } else { success("x") }
    });
    let view = view(&mut home, id);
    let undone: Vec<TaskState> = view.steps[..3].iter().map(|step| step.compensation.as_ref().unwrap().state).collect();
    assert_eq!(undone, [Succeeded, Failed, Failed]);
    let words = view.steps[1].compensation.as_ref().unwrap().error.as_ref().unwrap().message.clone();
    assert!(words.contains("there is no key n"), "{words}");
    assert_eq!(view.summary.state, WorkflowState::Failed);
}

#[test]
fn a_compensation_goes_on_after_a_restart() {
    let mut home = home();
    let chain = vec![compensated(step("a", &[])), compensated(step("b", &["a"])), step("c", &["b"])];
    let id = start(&mut home, compensating(chain));
    for name in ["a", "b", "c"] {
        home.credit(
            1,
            1,
            if name == "a" {
                0
            } else if name == "b" {
                1
            } else {
                2
            },
        );
        home.pass(100);
        let grant = home.grant();
        home.complete(&grant, if name == "c" { failure(false) } else { success(name) });
        if name != "c" {
            home.bind_all();
        }
    }
    let before = view(&mut home, id);
    let mut home = home.restart(0);
    assert_eq!(view(&mut home, id), before);
    worker(&mut home);
    home.bind_all();
    assert_eq!(work_off(&mut home, &[]), ["b", "a"]);
    assert_eq!(end(&mut home, id), WorkflowState::Failed);
}

#[test]
fn cancelling_while_it_is_undone_stops_that_too() {
    let mut home = home();
    let chain = vec![compensated(step("a", &[])), compensated(step("b", &["a"])), step("c", &["b"])];
    let id = start(&mut home, compensating(chain));
    let mut left = 3;
    while left > 0 {
        home.credit(1, 1, 3 - left);
        home.pass(100);
        let grant = home.grant();
        left -= 1;
        home.complete(&grant, if left == 0 { failure(false) } else { success("x") });
        home.bind_all();
    }
    assert_eq!(end(&mut home, id), WorkflowState::Running);
    assert_eq!(home.cancel(id), Cancelled);
    let view = view(&mut home, id);
    let undone: Vec<TaskState> = view.steps[..2].iter().map(|step| step.compensation.as_ref().unwrap().state).collect();
    assert_eq!((view.summary.state, undone), (WorkflowState::Cancelled, vec![Skipped, Cancelled]));
    assert!(work_off(&mut home, &[]).is_empty() && home.ledger.state.conservation_holds());
}

#[test]
fn running_steps_of_a_cancelled_workflow_are_stopped_at_their_workers() {
    let mut home = home();
    let id = start(&mut home, workflow(vec![step("a", &[]), step("b", &["a"])]));
    home.credit(1, 1, 0);
    home.pass(100);
    let grant = home.grant();
    home.renew(&grant, true);
    assert_eq!(home.stats().workflows_running, 1);
    home.cancel(id);
    let stops = |effect: &Effect| matches!(effect, Effect::Notify { notice: WorkerNotice::Stop(fences), .. } if fences.contains(&grant.fence));
    assert!(home.left.iter().any(stops));
    assert_eq!(home.stats().workflows_running, 0);
    assert_eq!(states(&mut home, id), [Cancelled, Skipped]);
    assert_eq!(view(&mut home, id).steps[1].reason.as_deref(), Some("its workflow ended before it could start"));
}

#[test]
fn the_critical_path_follows_the_real_times_of_the_steps() {
    let mut home = home();
    let id = start(&mut home, workflow(vec![step("quick", &[]), step("slow", &[]), step("end", &["quick", "slow"])]));
    assert_eq!(view(&mut home, id).critical_path, ["quick", "end"]);
    home.credit(1, 2, 0);
    home.pass(200);
    home.credit(1, 2, 1);
    home.pass(200);
    let grants: Vec<Grant> = home.grants().into_iter().map(|(_, grant)| grant).collect();
    let slow_is = |home: &Bench, grant: &Grant| step_of(home, grant) == "slow";
    let (slow, quick): (Vec<Grant>, Vec<Grant>) = grants.into_iter().partition(|grant| slow_is(&home, grant));
    home.complete(&quick[0], success("x"));
    assert_eq!(view(&mut home, id).current, ["slow"]);
    home.pass(3_000);
    home.complete(&slow[0], success("x"));
    home.bind_all();
    work_off(&mut home, &[]);
    assert_eq!(view(&mut home, id).critical_path, ["slow", "end"]);
}

#[test]
fn a_task_that_is_dead_fails_its_step_as_its_policy_says() {
    let mut home = home();
    let twice = |name| StepSpec {
        retry: RetryPolicy { max_attempts: 2, initial: DurationMs(0), jitter: 0.0, ..RetryPolicy::default() },
        ..step(name, &[])
    };
    let id = start(&mut home, workflow(vec![on_fail(OnFail::Continue, twice("a")), step("b", &["a"])]));
    let mut tries = 0;
    home.work_off(|_| {
        tries += 1;
        if tries < 3 { failure(true) } else { success("x") }
    });
    assert_eq!(states(&mut home, id), [Dead, Succeeded]);
}

#[test]
fn a_join_of_more_than_it_needs_is_refused_at_the_home_too() {
    let mut home = home();
    let operation = home.operation();
    let spec = workflow(vec![step("a", &[]), joined(Join::Count(2), step("b", &["a"]))]);
    let reply = home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) });
    let LedgerReply::Refused(Refusal::Invalid { errors }) = reply else { panic!("{reply:?}") };
    assert_eq!(errors[0].path, "/steps/1/join");
    assert_eq!(home.stats().counts.of(Blocked), 0);
}
