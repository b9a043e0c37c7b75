//! Limits that are reached: what is refused, for how long, and what never is (2.10).

use super::*;

/// Makes the home believe that it has so many tasks more, all ready.
fn pretend(home: &mut Bench, tasks: u64) {
    home.ledger.state.counts.ready += tasks;
    home.ledger.state.submitted += tasks;
}

fn fill(home: &mut Bench) {
    let room = limits::TASKS_LIVE_MAX - home.ledger.live_tasks();
    pretend(home, room as u64);
}

fn retry_after(reply: &LedgerReply, of: &str) -> u64 {
    match reply {
        LedgerReply::Refused(Refusal::Overloaded { retry_after_ms, what }) if what == of => *retry_after_ms,
        other => panic!("{other:?}"),
    }
}

fn submit(home: &mut Bench, count: u32) -> LedgerReply {
    let (operation, spec) = (home.operation(), Arc::new(noop()));
    home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem { spec, count }] })
}

#[test]
fn a_full_home_says_how_long_it_takes_to_have_room_again() {
    let mut home = Bench::new();
    home.worker(1, 0);
    let mut received = 0;
    // Ten tasks a second, for half a minute.
    for _ in 0..30 {
        submit(&mut home, 10);
        home.credit(1, 10, received);
        home.pass(200);
        for (_, grant) in home.grants() {
            received += 1;
            home.complete(&grant, success("done"));
        }
        home.pass(800);
    }
    fill(&mut home);
    let (few, many) = (submit(&mut home, 10), submit(&mut home, 100));
    let (few, many) = (retry_after(&few, "live tasks"), retry_after(&many, "live tasks"));
    assert!((800..1_400).contains(&few) && (8_000..14_000).contains(&many), "{few} ms, {many} ms");
}

#[test]
fn what_follows_from_accepted_work_finds_room_in_a_full_home() {
    let mut home = Bench::new();
    let (operation, mut spec) = (home.operation(), workflows::chain(2));
    spec.steps[0].retry = at_most(3).retry;
    home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) });
    fill(&mut home);
    home.bind_all();
    home.worker(1, 1);
    home.pass(200);
    let grant = home.grant();
    pretend(&mut home, 1_000);
    assert_eq!(home.complete(&grant, failure(true)), CompleteAnswer::Recorded { state: TaskState::Delayed });
    home.pass(61_000);
    home.credit(1, 1, 1);
    home.pass(200);
    let again = home.grant();
    assert_eq!(
        (again.fence.task, home.complete(&again, success("first"))),
        (grant.fence.task, CompleteAnswer::Committed)
    );
    home.bind_all();
    home.credit(1, 1, 2);
    home.pass(200);
    assert_ne!(home.grant().fence.task, grant.fence.task, "the next step was bound and runs");
}

#[test]
fn a_full_home_refuses_new_work_of_every_kind_and_answers_replays() {
    let mut home = Bench::new();
    let operation = home.operation();
    let known = LedgerRequest::Submit { operation, items: vec![SubmitItem::one(noop())] };
    let first = home.ask(known.clone());
    let over = home.submit(noop());
    home.cancel(over);
    fill(&mut home);
    assert_eq!(home.ask(known), first);
    let operation = home.operation();
    let reply = home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflows::chain(1)) });
    retry_after(&reply, "live tasks");
    let operation = home.operation();
    let LedgerReply::Retried { answers } = home.ask(LedgerRequest::RetryTasks { operation, ids: vec![over] }) else {
        panic!("each has its answer")
    };
    assert!(matches!(&answers[0], SubmitAnswer::Refused(Refusal::Overloaded { .. })));
}

#[test]
fn a_home_takes_as_many_live_tasks_as_its_settings_say() {
    let settings = QueueSettings { live_tasks_max: 3, ..QueueSettings::default() };
    let now = Now { mono_ms: 1_000, wall_ms: START_MS };
    let mut home = Bench::open(Replay::new(identity(1)).with_settings(settings), now, Vec::new());
    let LedgerReply::Submitted { answers } = submit(&mut home, 3) else { panic!("three fit") };
    retry_after(&submit(&mut home, 1), "live tasks");
    let SubmitAnswer::Accepted { id } = &answers[0] else { panic!("{answers:?}") };
    home.cancel(*id);
    assert!(
        matches!(submit(&mut home, 4), LedgerReply::Submitted { .. }),
        "what comes at once is taken whole, or never"
    );
    retry_after(&submit(&mut home, 1), "live tasks");
}

#[test]
fn too_many_workflows_and_waiters_are_told_when_one_goes() {
    let mut home = Bench::new();
    home.ledger.state.workflows_running = limits::WORKFLOWS_LIVE_MAX as u64;
    let operation = home.operation();
    let reply = home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflows::chain(1)) });
    retry_after(&reply, "running workflows");
    home.ledger.state.workflows_running = 0;
    let id = home.submit(noop());
    for n in 0..limits::WAITERS_MAX as u64 {
        home.ledger.waiters.add(id, ReplyTo(1_000_000 + n), home.now.mono_ms + 7_000 + n);
    }
    let reply = home.ask(LedgerRequest::WaitTask { id, timeout_ms: 10_000 });
    assert_eq!(retry_after(&reply, "waiting callers"), 7_000);
}
