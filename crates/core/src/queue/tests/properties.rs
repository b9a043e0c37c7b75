//! Whatever is asked in whatever order: the counters add up, ends stay, and a replay shows the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One thing that somebody does; numbers pick among what there is.
#[derive(Debug, Clone)]
pub enum Step {
    Submit { class: u8, priority: u16, max_attempts: u32 },
    Credit { worker: u8, cpu: u32 },
    Renew { pick: usize, started: bool },
    Says { pick: usize, page: u8, stopped: bool },
    Complete { pick: usize, kind: u8 },
    Release { pick: usize },
    Cancel { pick: usize },
    SetPriority { pick: usize, priority: u16 },
    Pass { ms: u64 },
    WallJump { ms: i64 },
}

pub fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..3, 0u16..1_000, 1u32..4)
            .prop_map(|(class, priority, max_attempts)| Step::Submit { class, priority, max_attempts }),
        4 => (1u8..4, 0u32..4).prop_map(|(worker, cpu)| Step::Credit { worker, cpu }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(pick, started)| Step::Renew { pick, started }),
        2 => (any::<usize>(), any::<u8>(), any::<bool>())
            .prop_map(|(pick, page, stopped)| Step::Says { pick, page, stopped }),
        4 => (any::<usize>(), 0u8..4).prop_map(|(pick, kind)| Step::Complete { pick, kind }),
        1 => any::<usize>().prop_map(|pick| Step::Release { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Cancel { pick }),
        1 => (any::<usize>(), 0u16..1_000).prop_map(|(pick, priority)| Step::SetPriority { pick, priority }),
        4 => (0u64..12_000).prop_map(|ms| Step::Pass { ms }),
        1 => (-3_000i64..3_000).prop_map(|ms| Step::WallJump { ms }),
    ]
}

#[derive(Default)]
pub struct Known {
    pub tasks: Vec<TaskId>,
    pub grants: Vec<Grant>,
    ends: BTreeMap<TaskId, (TaskState, Option<Payload>)>,
}

pub fn take(home: &mut Bench, known: &mut Known, step: Step) {
    let grant = |known: &Known, pick: usize| known.grants.get(pick % known.grants.len().max(1)).cloned();
    let task = |known: &Known, pick: usize| known.tasks.get(pick % known.tasks.len().max(1)).copied();
    match step {
        Step::Submit { class, priority, max_attempts } => {
            let durability = [Durability::Memory, Durability::Async, Durability::Sync][class as usize];
            let priority = Priority::try_from(priority).unwrap();
            known.tasks.push(home.submit(TaskSpec { durability, priority, ..at_most(max_attempts) }));
        }
        Step::Credit { worker, cpu } => home.credit(worker, cpu, 0),
        Step::Renew { pick, started } => {
            if let Some(grant) = grant(known, pick) {
                home.renew(&grant, started);
            }
        }
        Step::Says { pick, page, stopped } => {
            if let Some(grant) = grant(known, pick) {
                let news = AttemptNews { checkpoint: Some(JsonText::of(&page.into())), progress: None };
                home.renew_with(Renewal { stopped, news: Some(Box::new(news)), ..renewal(&grant, true) });
            }
        }
        Step::Complete { pick, kind } => {
            if let Some(grant) = grant(known, pick) {
                let outcome = match kind {
                    0 => failure(true),
                    1 => failure(false),
                    _ => success(&format!("{:?} {kind}", grant.fence)),
                };
                home.complete(&grant, outcome);
            }
        }
        Step::Release { pick } => {
            if let Some(grant) = grant(known, pick) {
                home.release(&grant, ReleaseReason::NoSlot);
            }
        }
        Step::Cancel { pick } => {
            if let Some(id) = task(known, pick) {
                home.cancel(id);
            }
        }
        Step::SetPriority { pick, priority } => {
            if let Some(id) = task(known, pick) {
                let (operation, priority) = (home.operation(), Priority::try_from(priority).unwrap());
                home.ask(LedgerRequest::SetPriority { operation, id, priority });
            }
        }
        Step::Pass { ms } => home.pass(ms),
        Step::WallJump { ms } => home.now.wall_ms = home.now.wall_ms.saturating_add_signed(ms),
    }
    known.grants.extend(home.grants().into_iter().map(|(_, grant)| grant));
}

/// Without what only time decides.
pub fn settled(mut view: TaskView) -> TaskView {
    if view.state == TaskState::Delayed {
        view.state = TaskState::Ready;
    }
    view.due_at = None;
    view.unmet = Vec::new();
    view
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn counters_add_up_ends_stay_attempts_are_bounded_and_a_replay_shows_the_same(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let (mut home, mut known) = (Bench::new(), Known::default());
        for worker in 1..4 {
            home.worker(worker, 0);
        }
        for step in steps {
            take(&mut home, &mut known, step);
            let stats = home.stats();
            prop_assert_eq!(stats.submitted, stats.counts.total() + stats.lost);
            for id in &known.tasks {
                let task = &home.ledger.state.tasks[id];
                prop_assert!(task.attempts <= task.spec.retry.max_attempts);
                let end = (task.state, task.output.clone());
                if task.state.is_terminal() {
                    prop_assert_eq!(known.ends.entry(*id).or_insert_with(|| end.clone()), &end);
                } else {
                    prop_assert!(!known.ends.contains_key(id));
                }
            }
        }
        let written: Vec<TaskId> =
            known.tasks.iter().filter(|id| home.ledger.state.tasks[*id].durability() != Durability::Memory).copied().collect();
        let before: Vec<TaskView> = written.iter().map(|id| settled(home.task(*id))).collect();
        let mut home = home.restart(0);
        let after: Vec<TaskView> = written.iter().map(|id| settled(home.task(*id))).collect();
        prop_assert_eq!(before, after);
    }
}
