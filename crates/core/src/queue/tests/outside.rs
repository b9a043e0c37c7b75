//! Workers that are no nodes: they ask for a task, hold on to it themselves, and are fenced as nodes are.

use super::*;
use crate::limiter::LimitKey;

fn offers(kinds: &[TaskKind]) -> Box<Capabilities> {
    Box::new(Capabilities { kinds: kinds.iter().copied().collect(), ..Capabilities::default() })
}

fn tool() -> TaskSpec {
    TaskSpec::new(TaskKind::Tool)
}

fn held(taken: &Taken) -> Hold {
    Hold { task: taken.fence.task, lease: Some((taken.fence.epoch, taken.token)), news: None }
}

impl Bench {
    fn outside(&mut self, request: OutsideRequest) -> OutsideReply {
        match self.ask(LedgerRequest::Outside(request)) {
            LedgerReply::Outside(reply) => *reply,
            other => panic!("{other:?}"),
        }
    }

    fn take(&mut self, worker: &str) -> Option<Taken> {
        let offers = Some(offers(&[TaskKind::Tool]));
        match self.outside(OutsideRequest::Take { worker: worker.to_owned(), offers, namespace: None }) {
            OutsideReply::Taken(taken) => taken.map(|taken| *taken),
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, worker: &str, id: TaskId, lease: Option<&Taken>, outcome: Outcome) -> CompleteAnswer {
        let lease = lease.map(|taken| (taken.fence.epoch, taken.token));
        let (worker, outcome) = (worker.to_owned(), Box::new(outcome));
        match self.outside(OutsideRequest::End { worker, task: id, lease, outcome }) {
            OutsideReply::Ended(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn keep(&mut self, worker: &str, holds: Vec<Hold>) -> Vec<RenewAnswer> {
        match self.outside(OutsideRequest::Keep { worker: worker.to_owned(), holds }) {
            OutsideReply::Kept(answers) => answers.into_iter().map(|(_, answer)| answer).collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_task_that_no_node_runs_is_taken_held_and_ended_by_its_worker() {
    let mut home = Bench::new();
    let id = home.submit(tool());
    let taken = home.take("agent").expect("it waits");
    assert_eq!((taken.fence.task, taken.attempt, taken.ttl_ms), (id, 1, limits::OUTSIDE_LEASE_TTL_MS));
    assert_eq!((home.state(id), home.task(id).attempts), (TaskState::Running, 1));
    assert_eq!(home.take("other"), None, "it is leased");
    home.pass(limits::OUTSIDE_LEASE_TTL_MS - 1_000);
    let held = held(&taken);
    assert_eq!(home.keep("agent", vec![held]), [RenewAnswer::Renewed { ttl_ms: limits::OUTSIDE_LEASE_TTL_MS }]);
    home.pass(limits::OUTSIDE_LEASE_TTL_MS - 1_000);
    assert_eq!(home.end("agent", id, Some(&taken), success("done")), CompleteAnswer::Committed);
    assert_eq!(home.end("agent", id, Some(&taken), success("done")), CompleteAnswer::Committed, "said twice");
    assert_eq!(home.end("agent", id, None, success("other")), CompleteAnswer::Conflict);
    assert_eq!(home.state(id), TaskState::Succeeded);
}

#[test]
fn who_falls_silent_loses_the_task_and_is_fenced() {
    let mut home = Bench::new();
    let id = home.submit(tool());
    let late = home.take("agent").unwrap();
    home.pass(limits::OUTSIDE_LEASE_TTL_MS + 200);
    let taken = home.take("other").expect("it is free again");
    assert_eq!((taken.fence.task, taken.attempt), (id, 2));
    assert!(taken.fence.epoch > late.fence.epoch && taken.token != late.token);
    let current = taken.fence.epoch;
    let held = held(&late);
    assert_eq!(home.keep("agent", vec![held]), [RenewAnswer::Fenced { current }]);
    assert_eq!(home.end("agent", id, Some(&late), success("late")), CompleteAnswer::Fenced { current });
    assert_eq!(home.end("agent", id, None, success("late")), CompleteAnswer::Fenced { current });
    assert_eq!(home.end("other", id, Some(&taken), success("done")), CompleteAnswer::Committed);
    assert_eq!(home.stats().fenced_total, 3);
}

#[test]
fn who_holds_on_beyond_the_timeout_loses_the_task_when_that_was_promised() {
    let mut home = Bench::new();
    let twice = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
    let id = home.submit(TaskSpec { timeout: DurationMs(60_000), retry: twice, ..tool() });
    for attempt in 1..=2 {
        let taken = home.take("agent").unwrap();
        assert_eq!((taken.attempt, taken.ttl_ms), (attempt, limits::OUTSIDE_LEASE_TTL_MS));
        let hold = || vec![held(&taken)];
        home.pass(40_000);
        let rest_ms = 20_000 + limits::LEASE_GRACE_MS;
        assert_eq!(home.keep("agent", hold()), [RenewAnswer::Renewed { ttl_ms: rest_ms }]);
        home.pass(rest_ms - 1);
        assert_eq!(home.keep("agent", hold()), [RenewAnswer::Renewed { ttl_ms: 1 }]);
        assert_eq!(home.state(id), TaskState::Running);
        home.pass(2_000);
        let state = if attempt == 1 { TaskState::Ready } else { TaskState::Dead };
        assert_eq!(home.keep("agent", hold()), [RenewAnswer::Terminal { state }]);
    }
    let said = home.task(id).earlier_errors.iter().map(|error| error.code.clone()).collect::<Vec<_>>();
    assert!(said.contains(&"timeout".to_owned()), "{said:?}");
    assert_eq!(home.task(id).error.map(|error| error.code).as_deref(), Some("timeout"));
}

#[test]
fn a_short_task_is_promised_for_its_time_and_the_grace() {
    let mut home = Bench::new();
    let id = home.submit(TaskSpec { timeout: DurationMs(2_000), ..tool() });
    assert_eq!(home.take("agent").unwrap().ttl_ms, 2_000 + limits::LEASE_GRACE_MS);
    home.pass(2_000 + limits::LEASE_GRACE_MS + 1_000);
    assert_eq!(home.state(id), TaskState::Ready);
}

#[test]
fn an_exclusive_task_hides_none_that_may_be_taken() {
    let mut home = Bench::new();
    let docker = TaskSpec::new(TaskKind::Docker);
    home.submit(TaskSpec { exclusive: true, ..docker.clone() });
    let plain = home.submit(docker);
    let offers = Some(offers(&[TaskKind::Docker]));
    let take = OutsideRequest::Take { worker: "agent".to_owned(), offers, namespace: None };
    let OutsideReply::Taken(Some(taken)) = home.outside(take.clone()) else { panic!("nothing was taken") };
    assert_eq!(taken.fence.task, plain);
    assert_eq!(home.end("agent", plain, Some(&taken), success("done")), CompleteAnswer::Committed);
    assert_eq!(home.outside(take), OutsideReply::Taken(None), "nobody ends it for sure when its lease does");
}

#[test]
fn who_asks_again_has_the_whole_time_from_then_on() {
    let mut home = Bench::new();
    let id = home.submit(tool());
    let first = home.take("agent").unwrap();
    home.pass(limits::OUTSIDE_LEASE_TTL_MS - 1_000);
    assert_eq!(home.take("other"), None, "its time is not that of a node");
    let again = home.take("agent").unwrap();
    assert_eq!((again.fence, again.ttl_ms), (first.fence, limits::OUTSIDE_LEASE_TTL_MS));
    home.pass(limits::OUTSIDE_LEASE_TTL_MS - 1_000);
    assert_eq!(home.take("other"), None, "it was told that it has it for so long");
    assert_eq!(home.end("agent", id, Some(&again), success("done")), CompleteAnswer::Committed);
}

#[test]
fn without_its_lease_only_the_holder_of_a_first_attempt_ends_it() {
    let mut home = Bench::new();
    let id = home.submit(TaskSpec { retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::default() }, ..tool() });
    home.take("agent").unwrap();
    assert!(matches!(home.end("other", id, None, success("x")), CompleteAnswer::Fenced { .. }));
    let progress =
        |text: &str| Some(Box::new(AttemptNews { checkpoint: JsonText::parse(text).ok(), ..Default::default() }));
    let bare = |news| Hold { task: id, lease: None, news };
    assert!(matches!(home.keep("other", vec![bare(progress("1"))])[..], [RenewAnswer::Fenced { .. }]));
    assert!(matches!(home.keep("agent", vec![bare(progress("2"))])[..], [RenewAnswer::Renewed { .. }]));
    assert_eq!(home.task(id).checkpoint, JsonText::parse("2").ok());
    assert!(matches!(home.end("agent", id, None, failure(true)), CompleteAnswer::Recorded { .. }));
    home.pass(60_000);
    let again = home.take("agent").unwrap();
    assert_eq!(again.attempt, 2);
    let fenced = home.end("agent", id, None, success("of the first attempt"));
    assert!(matches!(fenced, CompleteAnswer::Fenced { .. }), "whose outcome this is nobody can say");
    assert_eq!(home.end("agent", id, Some(&again), success("done")), CompleteAnswer::Committed);
}

#[test]
fn the_same_name_under_another_caller_is_another_worker() {
    let mut home = Bench::new();
    let id = home.submit(tool());
    home.take("agent").unwrap();
    home.replies += 1;
    let (reply, caller) = (ReplyTo(home.replies), Caller { peer: peer(0), owner: "another".into() });
    let outcome = Box::new(success("x"));
    let request = OutsideRequest::End { worker: "agent".to_owned(), task: id, lease: None, outcome };
    home.event(Event::Request { caller, request: LedgerRequest::Outside(request), reply });
    let Some(LedgerReply::Outside(answer)) = home.answer_to(reply) else { panic!("no answer") };
    assert!(matches!(*answer, OutsideReply::Ended(CompleteAnswer::Fenced { .. })), "{answer:?}");
}

#[test]
fn one_who_holds_all_that_it_may_gets_it_again_and_one_registered_for_more_gets_more() {
    let mut home = Bench::new();
    home.submit_all(vec![tool(), tool(), tool()]);
    let first = home.take("agent").unwrap();
    assert_eq!(home.take("agent"), Some(first.clone()), "its answer may have been lost");
    let register =
        |held_max| OutsideRequest::Register { worker: "agent".to_owned(), offers: offers(&[TaskKind::Tool]), held_max };
    assert_eq!(home.outside(register(2)), OutsideReply::Registered { held: 1 });
    let take = |home: &mut Bench| match home.outside(OutsideRequest::Take {
        worker: "agent".to_owned(),
        offers: None,
        namespace: None,
    }) {
        OutsideReply::Taken(taken) => *taken.unwrap(),
        other => panic!("{other:?}"),
    };
    let second = take(&mut home);
    assert_ne!(second.fence.task, first.fence.task);
    assert_eq!(take(&mut home), first, "the oldest");
    assert_eq!(home.keep("agent", Vec::new()).len(), 2, "all that it has");
    home.outside(OutsideRequest::Unregister { worker: "agent".to_owned() });
    let refused = home.ask(LedgerRequest::Outside(OutsideRequest::Take {
        worker: "agent".to_owned(),
        offers: None,
        namespace: None,
    }));
    assert!(matches!(refused, LedgerReply::Refused(Refusal::Invalid { .. })), "{refused:?}");
}

#[test]
fn only_what_it_can_run_is_handed_out_in_the_order_of_the_queue() {
    let mut home = Bench::new();
    let urgent = |spec: TaskSpec, priority| TaskSpec { priority: Priority::try_from(priority).unwrap(), ..spec };
    home.submit(urgent(TaskSpec { requires: Some("gpu.count >= 1".to_owned()), ..tool() }, 0));
    home.submit(urgent(
        TaskSpec { exclusive: true, run: vec!["true".to_owned()], ..TaskSpec::new(TaskKind::Process) },
        0,
    ));
    home.submit(urgent(noop(), 0));
    let later = home.submit(urgent(tool(), 600));
    let sooner = home.submit(urgent(tool(), 100));
    assert_eq!(home.take("one").map(|taken| taken.fence.task), Some(sooner));
    assert_eq!(home.take("two").map(|taken| taken.fence.task), Some(later));
    assert_eq!(home.take("three"), None);
    let offered = Some(offers(&[TaskKind::Process]));
    let process = OutsideRequest::Take { worker: "three".to_owned(), offers: offered, namespace: None };
    assert_eq!(home.outside(process), OutsideReply::Taken(None), "nobody could end it with its lease");
}

#[test]
fn a_lease_outlives_a_restart_of_the_home_and_its_worker_stays_known() {
    let mut home = Bench::new();
    let id = home.submit(tool());
    let taken = home.take("agent").unwrap();
    let mut home = home.restart(1_000);
    assert_eq!(home.take("other"), None);
    home.pass(limits::LEASE_TTL_MS + 1_000);
    assert_eq!(home.take("other"), None, "its lease is as long as before");
    let held = held(&taken);
    assert_eq!(home.keep("agent", vec![held]), [RenewAnswer::Renewed { ttl_ms: limits::OUTSIDE_LEASE_TTL_MS }]);
    assert_eq!(home.end("agent", id, None, success("done")), CompleteAnswer::Committed);
}

#[test]
fn a_cancelled_task_is_over_for_its_worker_and_no_node_is_told_to_end_it() {
    let mut home = Bench::new();
    let id = home.submit(tool());
    let taken = home.take("agent").unwrap();
    home.left.clear();
    home.cancel(id);
    assert!(!home.left.iter().any(|effect| matches!(effect, Effect::Notify { .. })), "{:?}", home.left);
    let held = held(&taken);
    assert_eq!(home.keep("agent", vec![held]), [RenewAnswer::Terminal { state: TaskState::Cancelled }]);
    let answer = home.end("agent", id, Some(&taken), success("done"));
    assert_eq!(answer, CompleteAnswer::Terminal { state: TaskState::Cancelled });
}

#[test]
fn an_outside_lease_takes_a_place_under_its_key() {
    let mut home = Bench::new();
    let keyed = || TaskSpec { concurrency_key: Some(LimitKey { name: "k".to_owned(), home: None }), ..tool() };
    home.settings.concurrency.insert("k".to_owned(), 1);
    let mut home = home.restart(0);
    home.submit_all(vec![keyed(), keyed()]);
    let taken = home.take("one").unwrap();
    assert_eq!(home.take("two"), None, "the key has one place");
    home.end("one", taken.fence.task, Some(&taken), success("done"));
    assert!(home.take("two").is_some());
}

#[test]
fn a_token_that_nobody_has_opens_nothing() {
    let mut home = Bench::new();
    let id = home.submit(tool());
    let taken = home.take("agent").unwrap();
    let guessed = Taken { token: LeaseToken([0; 16]), ..taken.clone() };
    assert!(matches!(home.end("agent", id, Some(&guessed), success("x")), CompleteAnswer::Fenced { .. }));
    assert_eq!(home.end("agent", id, Some(&taken), success("done")), CompleteAnswer::Committed);
}

#[test]
fn a_stranger_cannot_say_that_an_attempt_is_gone() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    let id = grant.fence.task;
    home.cancel(id);
    assert!(matches!(home.end("stranger", id, None, success("x")), CompleteAnswer::Fenced { .. }));
    assert_eq!(home.task(id).attempt_stopped_at, None, "its worker has not said so");
    home.renew_with(Renewal { stopped: true, ..renewal(&grant, true) });
    assert!(home.task(id).attempt_stopped_at.is_some());
}
