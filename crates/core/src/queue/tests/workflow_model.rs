//! I8 over random workflows: every step ends once, in the state that a small model of it says, and every workflow ends.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::workflow_policies::{compensated, step_of};
use super::workflows::{start, step, template, view, worker, workflow};
use super::*;
use crate::dag::{Graph, Join, OnFail, StepSpec, WorkflowSpec};
use crate::task::TaskState::{Failed, Skipped, Succeeded};

/// How one drawn step behaves. It needs only steps before it.
#[derive(Debug, Clone)]
pub struct Drawn {
    needs: Vec<usize>,
    join: u32,
    policy: OnFail,
    condition: Option<Condition>,
    /// Whether each of its items fails; `None`: it is one task.
    items: Option<Vec<bool>>,
    fails: bool,
    undone: bool,
}

#[derive(Debug, Clone, Copy)]
enum Condition {
    Literal(bool),
    /// The first step that it needs succeeded.
    FirstSucceeded,
}

fn drawn(place: usize, policies: &'static [OnFail]) -> impl Strategy<Value = Drawn> {
    let condition = prop_oneof![
        6 => Just(None),
        1 => any::<bool>().prop_map(|holds| Some(Condition::Literal(holds))),
        1 => Just(Some(Condition::FirstSucceeded)),
    ];
    let items =
        prop_oneof![3 => Just(None), 1 => prop::collection::vec(prop::bool::weighted(0.2), 0..4).prop_map(Some)];
    let needs = prop::collection::vec(prop::bool::weighted(0.4), place);
    let rest = (0u32..4, prop::sample::select(policies), condition, items, prop::bool::weighted(0.25), any::<bool>());
    (needs, rest).prop_map(|(needs, (join, policy, condition, items, fails, undone))| {
        let needs: Vec<usize> = (0..needs.len()).filter(|need| needs[*need]).collect();
        // What a condition reads is settled only once every needed step is over.
        let all = matches!(condition, Some(Condition::FirstSucceeded)) || needs.is_empty();
        let condition = condition.filter(|condition| matches!(condition, Condition::Literal(_)) || !needs.is_empty());
        let join = if all { 0 } else { join.min(needs.len() as u32) };
        Drawn { needs, join, policy, condition, items, fails, undone }
    })
}

pub fn any_workflow(policies: &'static [OnFail]) -> impl Strategy<Value = Vec<Drawn>> {
    (1usize..12).prop_flat_map(move |steps| (0..steps).map(|place| drawn(place, policies)).collect::<Vec<_>>())
}

const GOING_ON: &[OnFail] = &[OnFail::Continue, OnFail::SkipChildren];

impl Drawn {
    fn wanted(&self) -> usize {
        if self.join == 0 { self.needs.len() } else { self.join as usize }
    }

    fn fails(&self) -> bool {
        match &self.items {
            None => self.fails,
            Some(items) => items.iter().any(|fails| *fails),
        }
    }

    fn spec(&self, place: usize) -> StepSpec {
        let names: Vec<String> = self.needs.iter().map(|need| format!("s{need}")).collect();
        let needs: Vec<&str> = names.iter().map(String::as_str).collect();
        let spec = StepSpec {
            join: if self.join == 0 { Join::All } else { Join::Count(self.join) },
            on_fail: Some(self.policy),
            when: self.condition.map(|condition| match condition {
                Condition::Literal(holds) => holds.to_string().parse().unwrap(),
                Condition::FirstSucceeded => format!("${{steps.{}.state}} == 'succeeded'", needs[0]).parse().unwrap(),
            }),
            for_each: self.items.as_ref().map(|items| template(serde_json::json!(items))),
            ..step(&format!("s{place}"), &needs)
        };
        if self.undone { compensated(spec) } else { spec }
    }
}

pub fn spec(steps: &[Drawn]) -> WorkflowSpec {
    workflow(steps.iter().enumerate().map(|(place, step)| step.spec(place)).collect())
}

/// The reference: what a step ends as, from what those that it needs end as.
fn model(steps: &[Drawn], step: usize, failures: bool) -> TaskState {
    let drawn = &steps[step];
    let met = |need: &&usize| match model(steps, **need, failures) {
        Succeeded => true,
        Failed => steps[**need].policy == OnFail::Continue,
        _ => false,
    };
    let condition = match drawn.condition {
        None => true,
        Some(Condition::Literal(holds)) => holds,
        Some(Condition::FirstSucceeded) => model(steps, drawn.needs[0], failures) == Succeeded,
    };
    if drawn.needs.iter().filter(met).count() < drawn.wanted() || !condition {
        Skipped
    } else if failures && drawn.fails() {
        Failed
    } else {
        Succeeded
    }
}

/// Works off whatever there is, `at_a_time` tasks at once, the newest grants first where `reversed`.
fn work(
    home: &mut Bench,
    steps: &[Drawn],
    failures: bool,
    ((at_a_time, reversed), received): ((u32, bool), &mut u32),
) -> Vec<(usize, TaskId)> {
    let (mut ran, mut idle) = (Vec::new(), 0);
    while idle < 3 {
        home.credit(1, at_a_time, *received);
        home.pass(100);
        let mut grants = home.grants();
        *received += grants.len() as u32;
        idle = if grants.is_empty() { idle + 1 } else { 0 };
        if reversed {
            grants.reverse();
        }
        for (_, grant) in grants {
            let place: usize = step_of(home, &grant)[1..].parse().unwrap();
            let task = &home.ledger.state.tasks[&grant.fence.task];
            let fails = match (task.kin.step.unwrap().part, &steps[place].items) {
                (task_entry::StepPart::Item(item), Some(items)) => items[item as usize],
                (task_entry::StepPart::Item(_), None) => steps[place].fails,
                (task_entry::StepPart::Compensation, _) => false,
            };
            home.complete(&grant, if failures && fails { failure(false) } else { success("x") });
            home.bind_all();
            ran.push((place, grant.fence.task));
        }
    }
    ran
}

/// How often each step was bound, as the log says.
fn bound_counts(home: &Bench) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for entry in &home.log {
        if let Record::StepBound { step, from: 0, .. } = crate::wire::decode_record(&entry.body).unwrap() {
            *counts.entry(step).or_insert(0) += 1;
        }
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn i8_every_step_ends_as_the_model_says_and_after_a_retry_without_failures_too(
        steps in any_workflow(GOING_ON), pace in (1u32..4, any::<bool>()), restarts: bool,
    ) {
        let mut home = Bench::new();
        worker(&mut home);
        let id = start(&mut home, spec(&steps));
        if restarts {
            home = home.restart(0);
            home.bind_all();
            worker(&mut home);
        }
        let mut received = 0;
        work(&mut home, &steps, true, (pace, &mut received));
        let expected: Vec<TaskState> = (0..steps.len()).map(|step| model(&steps, step, true)).collect();
        let shown = view(&mut home, id);
        prop_assert_eq!(shown.steps.iter().map(|step| step.state).collect::<Vec<_>>(), expected.clone());
        let fails = |step: usize| expected[step] == Failed && steps[step].policy == OnFail::SkipChildren;
        let failed = (0..steps.len()).any(fails);
        let end = if failed { WorkflowState::Failed } else { WorkflowState::Succeeded };
        prop_assert_eq!(shown.summary.state, end);
        prop_assert!(bound_counts(&home).values().all(|count| *count == 1));
        prop_assert_eq!(home.stats().workflows_running, 0);
        if failed {
            let operation = home.operation();
            home.ask(LedgerRequest::RetryWorkflow { operation, id });
            home.bind_all();
            work(&mut home, &steps, false, (pace, &mut received));
            let expected: Vec<TaskState> = (0..steps.len()).map(|step| model(&steps, step, false)).collect();
            let shown = view(&mut home, id);
            prop_assert_eq!(shown.steps.iter().map(|step| step.state).collect::<Vec<_>>(), expected);
            prop_assert_eq!(shown.summary.state, WorkflowState::Succeeded);
        }
        let before = view(&mut home, id);
        let mut home = home.restart(0);
        prop_assert_eq!(view(&mut home, id), before);
    }

    #[test]
    fn i8_whatever_the_policies_every_workflow_ends_and_what_succeeded_is_undone_in_reverse(
        steps in any_workflow(&OnFail::ALL), pace in (1u32..4, any::<bool>()),
    ) {
        let mut home = Bench::new();
        worker(&mut home);
        let spec = spec(&steps);
        let id = start(&mut home, spec.clone());
        let ran = work(&mut home, &steps, true, (pace, &mut 0));
        let shown = view(&mut home, id);
        prop_assert!(shown.summary.state.is_terminal(), "{:?}", shown);
        prop_assert!(shown.steps.iter().all(|step| step.state.is_terminal()));
        prop_assert!(bound_counts(&home).values().all(|count| *count == 1));
        let ran_some = |place: usize| shown.steps[place].tasks.total() > shown.steps[place].tasks.skipped;
        for (place, drawn) in steps.iter().enumerate().filter(|(place, _)| ran_some(*place)) {
            let met = drawn.needs.iter().filter(|need| {
                shown.steps[**need].state == Succeeded
                    || (shown.steps[**need].state == Failed && steps[**need].policy == OnFail::Continue)
            });
            prop_assert!(met.count() >= drawn.wanted(), "s{} started: {:?}", place, shown);
        }
        let undoes = |task: &TaskId| {
            home.ledger.state.tasks[task].kin.step.unwrap().part == task_entry::StepPart::Compensation
        };
        let undone: Vec<usize> = ran.iter().filter(|(_, task)| undoes(task)).map(|(place, _)| *place).collect();
        let graph = Graph::of(&spec).unwrap();
        let to_undo = |step: &&usize| !undone.is_empty() && steps[**step].undone && shown.steps[**step].state == Succeeded;
        let expected: Vec<usize> = graph.order().iter().rev().filter(to_undo).copied().collect();
        prop_assert_eq!(undone, expected);
    }
}
