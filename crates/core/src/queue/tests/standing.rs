//! What is kept beside the queues, so that a round of grants need not walk over them. Each event of every test here is
//! followed by such a walk.

use proptest::prelude::*;

use super::*;

fn of(namespace: usize, key: usize, priority: u16) -> TaskSpec {
    let concurrency_key = (key > 0).then(|| format!("key-{key}").parse().unwrap());
    let priority = Priority::try_from(priority).unwrap();
    TaskSpec { namespace: format!("namespace-{namespace}"), concurrency_key, priority, ..noop() }
}

#[test]
fn of_many_queues_each_credit_gets_the_head_that_stands_first() {
    let mut home = Bench::new();
    let tasks: Vec<TaskId> = (0..300).map(|n| home.submit(of(1, n + 1, 999 - n as u16))).collect();
    home.worker(0, 0);
    for (received, task) in tasks.iter().rev().enumerate() {
        home.credit(0, 1, received as u32);
        let granted: Vec<TaskId> = home.grants().into_iter().map(|(_, grant)| grant.fence.task).collect();
        assert_eq!(granted, [*task]);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Submit { namespace: usize, key: usize, priority: u16 },
    Offer { worker: u8, slots: u32 },
    Finish,
    Pause(bool),
    Leave(u8),
    Return(u8),
    Cancel(usize),
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4usize, 0..3usize, 0..1000u16)
            .prop_map(|(namespace, key, priority)| Step::Submit { namespace, key, priority }),
        3 => (0..3u8, 1..4u32).prop_map(|(worker, slots)| Step::Offer { worker, slots }),
        2 => Just(Step::Finish),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => (0..3u8).prop_map(Step::Leave),
        1 => (0..3u8).prop_map(Step::Return),
        1 => (0..20usize).prop_map(Step::Cancel),
        1 => (1..2_000u64).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_to_queues_a_round_sees_what_a_walk_sees(steps in prop::collection::vec(any_step(), 0..80)) {
        let mut home = Bench::new();
        let (mut tasks, mut held) = (Vec::new(), Vec::new());
        (0..3).for_each(|n| home.worker(n, 0));
        let mut received = [0; 3];
        for step in steps {
            match step {
                Step::Submit { namespace, key, priority } => tasks.push(home.submit(of(namespace, key, priority))),
                Step::Offer { worker, slots } => home.credit(worker, slots, received[usize::from(worker)]),
                Step::Finish => {
                    for grant in held.drain(..) {
                        home.complete(&grant, success("done"));
                    }
                }
                Step::Pause(pauses) => {
                    let (operation, version) = (home.operation(), home.stats().queue_version);
                    let namespace = Some("namespace-1".to_owned());
                    home.ask(match pauses {
                        true => LedgerRequest::PauseQueue { operation, namespace, version, reason: String::new() },
                        false => LedgerRequest::ResumeQueue { operation, namespace, version },
                    });
                }
                Step::Leave(n) => {
                    home.event(Event::WorkerSeen { worker: peer(n), capabilities: all_kinds(), alive: false });
                }
                Step::Return(n) => {
                    home.event(Event::WorkerSeen { worker: peer(n), capabilities: all_kinds(), alive: true });
                }
                Step::Cancel(n) => {
                    if let Some(id) = tasks.get(n).copied() {
                        let operation = home.operation();
                        home.ask(LedgerRequest::Cancel { operation, id, reason: String::new() });
                    }
                }
                Step::Pass(ms) => home.pass(ms),
            }
            for (worker, grant) in home.grants() {
                received[usize::from(worker.0[0])] += 1;
                held.push(grant);
            }
        }
    }
}
