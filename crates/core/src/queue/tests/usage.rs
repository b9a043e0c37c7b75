//! What owners used: counted as it is recorded, kept over restarts and cuts.

use super::compaction::eager;
use super::compaction_model::difference;
use super::*;
use crate::task::Used;

/// The owner in whose name the bench asks.
const OWNER: &str = "someone";

fn ask(home: &mut Bench, request: UsageRequest) -> UsageView {
    match home.ask(LedgerRequest::Usage(request)) {
        LedgerReply::Usage(view) => *view,
        other => panic!("{other:?}"),
    }
}

fn of(home: &mut Bench, owner: &str) -> UsageView {
    ask(home, UsageRequest::Of { owner: owner.to_owned() })
}

fn sum(view: &UsageView) -> Spent {
    view.hours.iter().fold(Spent::default(), |sum, hour| sum.plus(hour.spent))
}

fn took(cpu_us: u64, outcome: Outcome) -> Outcome {
    Outcome { used: Used { cpu_us: Some(cpu_us), gpu_us: None }, ..outcome }
}

#[test]
fn a_task_counts_until_it_is_over_and_what_its_attempts_took_from_then_on() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    assert_eq!(of(&mut home, OWNER).tasks, 1);
    assert_eq!(of(&mut home, "another").tasks, 0);
    home.complete(&grant, took(5, failure(true)));
    assert_eq!(of(&mut home, OWNER).tasks, 1, "it is tried again");
    home.credit(1, 1, 1);
    home.pass(1_200);
    let grant = home.grant();
    home.complete(&grant, took(7, success("four")));
    let view = of(&mut home, OWNER);
    assert_eq!((view.tasks, sum(&view)), (0, Spent { cpu_us: 12, gpu_us: 0, bytes: 6 }), "its output is a JSON text");
    home.complete(&grant, took(7, success("four")));
    assert_eq!(of(&mut home, OWNER).hours, view.hours, "sent again it is one");
    assert_eq!(of(&mut home.restart(0), OWNER).hours, view.hours);
}

#[test]
fn steps_that_wait_count_as_the_tasks_that_they_will_be() {
    let mut home = Bench::new();
    let (operation, spec) = (home.operation(), Arc::new(workflows::chain(3)));
    home.ask(LedgerRequest::SubmitWorkflow { operation, spec });
    assert_eq!(of(&mut home, OWNER).tasks, 3);
    home.bind_all();
    assert_eq!(of(&mut home, OWNER).tasks, 3);
    assert_eq!(of(&mut home.restart(0), OWNER).tasks, 3);
}

#[test]
fn a_cancelled_attempt_and_bytes_that_were_put_count_too() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    home.cancel(grant.fence.task);
    let used = Used { cpu_us: None, gpu_us: Some(3) };
    for _ in 0..2 {
        home.renew_with(Renewal { stopped: true, used, ..renewal(&grant, true) });
    }
    let put = UsageRequest::Put { owner: OWNER.to_owned(), bytes: 900 };
    assert_eq!(sum(&ask(&mut home, put)), Spent { cpu_us: 0, gpu_us: 3, bytes: 900 });
    assert_eq!(sum(&of(&mut home.restart(0), OWNER)), Spent { cpu_us: 0, gpu_us: 3, bytes: 900 });
}

#[test]
fn a_cut_log_knows_what_was_used_before_its_cut() {
    let mut home = Bench::new();
    home.compact(eager(0, 3));
    home.worker(1, 1);
    for n in 1..=4 {
        home.submit(noop());
        home.credit(1, 1, n - 1);
        home.pass(1_000);
        let grant = home.grant();
        home.complete(&grant, took(u64::from(n), success("x")));
    }
    home.pass(3_000);
    assert!(home.first > LogIndex(5), "cut before {}", home.first);
    assert_eq!(difference(&home.replay_from(home.first, 2), &home.replay_from(LogIndex(1), 2)), None);
    let mut cut = Bench::open(home.replay_from(home.first, 2), home.now, home.log.clone());
    assert_eq!(sum(&of(&mut cut, OWNER)), Spent { cpu_us: 10, gpu_us: 0, bytes: 12 });
}
