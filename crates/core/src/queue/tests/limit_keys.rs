//! Concurrency and rate keys at one home (2.5).

use proptest::prelude::*;

use super::*;
use crate::limiter::LimitKey;

fn key(text: &str) -> Option<LimitKey> {
    Some(text.parse().unwrap())
}

fn settings() -> QueueSettings {
    let settings = QueueSettings {
        concurrency: [("gpu-api".to_owned(), 4)].into(),
        rates: [
            ("openai".to_owned(), "60/min".parse().unwrap()),
            ("bursts".to_owned(), "60/min burst 5".parse().unwrap()),
        ]
        .into(),
        ..QueueSettings::default()
    };
    settings.validate().unwrap();
    settings
}

fn limited_home() -> Bench {
    let now = Now { mono_ms: 1_000, wall_ms: START_MS };
    Bench::open(Replay::new(identity(1)).with_settings(settings()), now, Vec::new())
}

fn reopened(home: Bench, later_ms: u64) -> Bench {
    let mut now = home.now;
    now.wall_ms += later_ms;
    let replay = home.replay(2).with_settings(settings());
    let mut bench = Bench::open(replay, now, home.log);
    (bench.operations, bench.sendings) = (home.operations, home.sendings);
    bench
}

fn concurrent(name: &str) -> TaskSpec {
    TaskSpec { concurrency_key: key(name), ..noop() }
}

fn rated(name: &str) -> TaskSpec {
    TaskSpec { rate_key: key(name), ..noop() }
}

fn many(home: &mut Bench, spec: TaskSpec, count: u32) {
    let operation = home.operation();
    accepted(home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem { spec: spec.into(), count }] }));
}

fn granted(home: &mut Bench) -> Vec<Grant> {
    home.grants().into_iter().map(|(_, grant)| grant).collect()
}

fn reason(home: &mut Bench, id: TaskId) -> String {
    match home.ask(LedgerRequest::WhyPending { id }) {
        LedgerReply::Pending(view) => view.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_concurrency_key_lets_so_many_run_at_a_time() {
    let mut home = limited_home();
    many(&mut home, concurrent("gpu-api"), 10);
    let last = home.submit(concurrent("gpu-api"));
    home.worker(1, 100);
    home.pass(100);
    let mut running = granted(&mut home);
    assert_eq!(running.len(), 4);
    assert_eq!(reason(&mut home, last), "concurrency key gpu-api: 4 of 4 run");
    let mut done = 0;
    while let Some(grant) = running.pop() {
        home.complete(&grant, success("done"));
        home.pass(100);
        running.extend(granted(&mut home));
        done += 1;
        assert!(running.len() <= 4);
    }
    assert_eq!(done, 11);
}

#[test]
fn a_concurrency_key_without_a_limit_is_a_mutex() {
    let mut home = limited_home();
    many(&mut home, concurrent("deploy"), 3);
    home.worker(1, 100);
    for _ in 0..3 {
        home.pass(100);
        let grant = home.grant();
        home.complete(&grant, success("done"));
    }
}

#[test]
fn a_key_for_each_task_holds_nobody_up() {
    let mut home = limited_home();
    let specs = (0..limits::READY_QUEUES_KEPT_MAX + 100).map(|n| concurrent(&format!("key-{n}")));
    let ids = home.submit_all(specs.collect());
    home.worker(1, ids.len() as u32);
    let mut done = 0;
    while done < ids.len() {
        home.credit(1, ids.len() as u32, done as u32);
        home.pass(100);
        let grants = granted(&mut home);
        assert!(!grants.is_empty(), "{done} of {}", ids.len());
        done += grants.len();
        for grant in grants {
            home.complete(&grant, success("done"));
        }
    }
    let again = home.submit_all(vec![concurrent("key-0"), concurrent("key-new")]);
    home.credit(1, 2, done as u32);
    home.pass(100);
    assert_eq!(granted(&mut home).len(), again.len());
}

#[test]
fn a_used_up_key_hides_nothing_behind_it() {
    let mut home = limited_home();
    let urgent = TaskSpec { priority: Priority::try_from(0).unwrap(), ..concurrent("deploy") };
    many(&mut home, urgent, 100);
    let other = home.submit(concurrent("gpu-api"));
    let plain = home.submit(noop());
    home.worker(1, 100);
    home.pass(100);
    let tasks: Vec<TaskId> = granted(&mut home).iter().map(|grant| grant.fence.task).collect();
    assert_eq!(tasks.len(), 3);
    assert!(tasks.contains(&other) && tasks.contains(&plain));
    let backlog = home.ledger.backlog();
    assert!(backlog.is_empty(), "nobody is called for what waits for a key: {backlog:?}");
}

#[test]
fn live_leases_count_after_a_restart_and_until_they_end() {
    let mut home = limited_home();
    many(&mut home, concurrent("deploy"), 2);
    home.worker(1, 10);
    home.pass(100);
    let first = home.grant();
    let mut home = reopened(home, 1_000);
    home.worker(1, 10);
    home.pass(1_000);
    assert!(home.grants().is_empty(), "the first still holds its lease");
    home.complete(&first, success("done"));
    assert_ne!(home.grant().fence.task, first.fence.task);
}

#[test]
fn a_released_or_expired_lease_frees_its_place() {
    let mut home = limited_home();
    many(&mut home, concurrent("deploy"), 2);
    home.worker(1, 10);
    home.pass(100);
    let first = home.grant();
    home.release(&first, ReleaseReason::Recalled);
    home.worker(2, 10);
    home.pass(100);
    let second = home.grant();
    home.pass(limits::LEASE_TTL_MS + 200);
    home.worker(2, 10);
    home.pass(100);
    assert_eq!(home.grants().len(), 1, "{second:?} expired");
}

#[test]
fn a_rate_key_starts_its_tasks_evenly() {
    let mut home = limited_home();
    many(&mut home, rated("openai"), 100);
    home.worker(1, 0);
    let mut received = 0;
    let mut starts = Vec::new();
    while starts.len() < 10 {
        home.credit(1, 100, received);
        home.pass(100);
        for grant in granted(&mut home) {
            received += 1;
            starts.push(home.now.mono_ms);
            home.complete(&grant, success("done"));
        }
    }
    let gaps: Vec<u64> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (900..=1_100).contains(gap)), "{gaps:?}");
}

#[test]
fn a_restart_gives_no_burst() {
    let mut home = limited_home();
    home.pass(60_000);
    many(&mut home, rated("bursts"), 50);
    home.worker(1, 100);
    home.pass(100);
    assert_eq!(granted(&mut home).len(), 5);
    for _ in 0..3 {
        home = reopened(home, 100);
        home.worker(1, 100);
        home.pass(100);
        assert!(granted(&mut home).len() <= 1);
    }
}

#[test]
fn a_memory_tasks_start_is_no_burst_after_a_restart_either() {
    let mut home = limited_home();
    home.pass(60_000);
    let spec = || TaskSpec { durability: Durability::Memory, ..rated("bursts") };
    many(&mut home, spec(), 50);
    home.worker(1, 100);
    home.pass(100);
    assert_eq!(granted(&mut home).len(), 5);
    let mut home = reopened(home, 100);
    many(&mut home, spec(), 50);
    home.worker(1, 100);
    home.pass(100);
    assert_eq!(granted(&mut home).len(), 1);
}

#[test]
fn a_grant_that_never_started_gives_its_start_back_and_an_expired_one_does_not() {
    let mut home = limited_home();
    many(&mut home, rated("openai"), 3);
    home.worker(1, 10);
    home.worker(2, 10);
    home.pass(100);
    let first = home.grant();
    home.ask_as(
        peer(1),
        LedgerRequest::Release(vec![Release {
            fence: first.fence,
            token: first.token,
            reason: ReleaseReason::Recalled,
        }]),
    );
    home.pass(100);
    let again = home.grant();
    home.pass(100);
    assert!(home.grants().is_empty(), "{again:?} used the one start of this second");
}

#[test]
fn why_pending_names_the_rate() {
    let mut home = limited_home();
    let ids = home.submit_all(vec![rated("openai"), rated("openai")]);
    home.worker(1, 10);
    home.pass(100);
    let waits = if home.grant().fence.task == ids[0] { ids[1] } else { ids[0] };
    let reason = reason(&mut home, waits);
    assert!(reason.starts_with("rate key openai: 60/min is used up for another "), "{reason}");
}

#[test]
fn keys_that_this_home_cannot_hold_to_are_refused() {
    let mut home = limited_home();
    let mut refused = |spec: TaskSpec| {
        let operation = home.operation();
        match home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] }) {
            LedgerReply::Submitted { answers } => match &answers[0] {
                SubmitAnswer::Refused(refusal) => Some(refusal.to_string()),
                SubmitAnswer::Accepted { .. } => None,
            },
            other => panic!("{other:?}"),
        }
    };
    let expected =
        "/rate_key: this home's configuration has no rate for \"other\" (set it there: [rate] other = \"60/min\")";
    assert_eq!(refused(rated("other")).as_deref(), Some(expected));
    assert_eq!(refused(rated("other@aaaaaaaa")), None, "what another home holds is its to know");
    assert_eq!(refused(concurrent(&format!("gpu-api@{}", LEDGER.tag()))), None, "its own tag is no other home");
}

#[test]
fn a_steps_tasks_hold_to_the_steps_key() {
    let mut home = limited_home();
    let mut spec = workflows::chain(1);
    spec.steps[0].concurrency_key = key("deploy");
    for _ in 0..3 {
        let operation = home.operation();
        home.ask(LedgerRequest::SubmitWorkflow { operation, spec: spec.clone().into() });
        home.bind_all();
    }
    home.worker(1, 10);
    home.pass(100);
    assert_eq!(granted(&mut home).len(), 1);
    spec.steps[0].rate_key = key("other");
    let operation = home.operation();
    match home.ask(LedgerRequest::SubmitWorkflow { operation, spec: spec.into() }) {
        LedgerReply::Refused(refusal) => assert!(refusal.to_string().starts_with("/steps/0/rate_key: "), "{refusal}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settings_of_limits_are_checked_by_name() {
    let zero = QueueSettings { concurrency: [("gpu-api".to_owned(), 0)].into(), ..QueueSettings::default() };
    assert!(zero.validate().unwrap_err().starts_with("gpu-api is 0: a concurrency key's limit is 1 to "));
    let at = QueueSettings { rates: [("a@b".to_owned(), "1/s".parse().unwrap())].into(), ..QueueSettings::default() };
    assert!(at.validate().unwrap_err().contains("without @"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn never_more_leases_than_the_limit_and_all_end(
        steps in proptest::collection::vec((0u8..5, any::<usize>()), 1..80), restart_at in 0usize..80,
    ) {
        let mut home = limited_home();
        many(&mut home, concurrent("gpu-api"), 12);
        many(&mut home, TaskSpec { rate_key: key("bursts"), ..concurrent("gpu-api") }, 3);
        home.worker(1, 0);
        let (mut live, mut received): (Vec<Grant>, u32) = (Vec::new(), 0);
        for (place, (step, pick)) in steps.into_iter().enumerate() {
            if place == restart_at {
                home = reopened(home, 10);
                home.worker(1, 0);
            }
            match step {
                0 | 1 => home.credit(1, 3, received),
                2 if !live.is_empty() => {
                    let grant = live.swap_remove(pick % live.len());
                    home.complete(&grant, success("done"));
                }
                3 if !live.is_empty() => {
                    let grant = live.swap_remove(pick % live.len());
                    home.release(&grant, ReleaseReason::Recalled);
                }
                _ => home.pass(150),
            }
            let new = granted(&mut home);
            received += new.len() as u32;
            live.extend(new);
            let counts = home.stats().counts;
            prop_assert!(counts.leased + counts.running <= 4, "{counts:?}");
        }
    }
}

#[test]
fn a_wall_clock_set_back_by_an_hour_stops_a_rate_for_an_interval_and_not_for_the_hour() {
    let mut home = limited_home();
    home.now.wall_ms += 3_600_000;
    many(&mut home, rated("openai"), 9);
    home.worker(1, 100);
    home.pass(200);
    assert_eq!(granted(&mut home).len(), 1);
    home.now.wall_ms -= 3_600_000;
    for seconds in 1..=5 {
        home.credit(1, 100, seconds);
        home.pass(1_000);
    }
    let starts = granted(&mut home).len();
    assert!((4..=5).contains(&starts), "{starts} starts in five seconds at one a second");
    let mut home = reopened(home, 0);
    home.worker(1, 100);
    home.pass(2_200);
    assert!((1..=2).contains(&granted(&mut home).len()), "nor after a restart, which knows only what is recorded");
}
