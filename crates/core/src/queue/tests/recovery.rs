//! What a home knows after a crash (2.3, 2.7).

use super::*;

#[test]
fn the_generation_grows_with_each_start_and_epochs_with_it() {
    let mut home = Bench::new();
    let first = home.granted(noop());
    home.release(&first, ReleaseReason::Drained);
    let mut home = home.restart(0);
    assert_eq!(home.ledger.generation().0, 2);
    home.worker(1, 1);
    home.pass(200);
    assert!(home.grant().fence.epoch > Epoch(2 << 32) && first.fence.epoch < Epoch(2 << 32));
}

#[test]
fn a_chain_is_followed_from_anywhere_and_breaks_at_the_record_that_was_changed() {
    let mut home = Bench::new();
    home.submit_all((0..20).map(|_| noop()).collect());
    let follow = |check: &mut ChainCheck, from: usize, log: &[NewEntry]| {
        log[from..].iter().try_for_each(|entry| check.follow(entry.index, &entry.body, entry.event))
    };
    let last = home.log.last().map(|entry| (entry.index, entry.event)).unwrap();
    let mut whole = ChainCheck::genesis(LEDGER);
    follow(&mut whole, 0, &home.log).unwrap();
    assert_eq!(whole.reached(), last);
    for from in 1..home.log.len() {
        let before = &home.log[from - 1];
        let mut check = ChainCheck::after(LEDGER, before.index, before.event);
        follow(&mut check, from, &home.log).unwrap();
        assert_eq!(check.reached(), last);
        let mut changed = home.log.clone();
        changed[from].body = before.body.clone();
        let mut check = ChainCheck::genesis(LEDGER);
        assert_eq!(follow(&mut check, 0, &changed), Err(ReplayError::ChainBroken { index: changed[from].index }));
        changed.remove(from);
        let mut check = ChainCheck::genesis(LEDGER);
        let lacks = follow(&mut check, 0, &changed);
        assert_eq!(lacks.is_err(), from < changed.len(), "only the end may be missing unseen");
    }
}

#[test]
fn tokens_of_another_life_cannot_be_guessed_from_this_ones() {
    let token = |secret| {
        grant::derive_bytes([secret; 32], Fence { task: TaskId { ulid: 1, ledger: LEDGER.tag() }, epoch: Epoch(1) })
    };
    assert_ne!(token(1), token(2));
}

#[test]
fn memory_tasks_of_an_earlier_generation_are_counted_lost() {
    let mut home = Bench::new();
    let memory = || TaskSpec { durability: Durability::Memory, ..noop() };
    let ids = home.submit_all(vec![memory(), memory(), memory()]);
    home.submit(noop());
    home.cancel(ids[0]);
    home.pass(1_200);
    let mut home = home.restart(0);
    let stats = home.stats();
    assert_eq!((stats.lost, stats.submitted, stats.counts.ready), (2, 3, 1));
    let reply = home.ask(LedgerRequest::GetTask { id: ids[1] });
    assert_eq!(reply, LedgerReply::Refused(Refusal::NotFound { id: ids[1] }));
}

#[test]
fn what_was_fenced_is_counted_since_the_ledger_was_made() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let stale = Renewal::new(grant.fence, LeaseToken([9; 16]), true);
    for _ in 0..3 {
        assert!(matches!(home.renew_with(stale.clone()), RenewAnswer::Fenced { .. }));
    }
    home.pass(limits::TALLY_EVERY_MS + 200);
    let mut home = home.restart(0);
    assert_eq!(home.stats().fenced_total, 3);
    home.renew_with(stale);
    home.pass(limits::TALLY_EVERY_MS + 200);
    let mut home = home.restart(0);
    assert_eq!(home.stats().fenced_total, 4);
    let written = home.log.len();
    home.pass(3 * limits::TALLY_EVERY_MS);
    assert_eq!(home.log.len(), written, "what did not change is not written again");
}

#[test]
fn a_log_with_a_gap_a_damaged_or_an_exchanged_record_does_not_replay() {
    let mut home = Bench::new();
    home.submit(noop());
    home.submit(noop());
    let log = home.log;
    let replay = |log: &[NewEntry]| {
        let mut replay = Replay::new(identity(1));
        log.iter().try_for_each(|entry| replay.apply(entry.index, &entry.body, entry.event))
    };
    assert_eq!(replay(&log), Ok(()));
    let without_second = [&log[..1], &log[2..]].concat();
    assert!(matches!(replay(&without_second), Err(ReplayError::Gap { .. })));
    let mut damaged = log.clone();
    damaged[1].body.truncate(5);
    assert!(matches!(replay(&damaged), Err(ReplayError::Undecodable { .. })));
    let mut exchanged = log.clone();
    (exchanged[1].body, exchanged[2].body) = (log[2].body.clone(), log[1].body.clone());
    assert!(matches!(replay(&exchanged), Err(ReplayError::ChainBroken { .. })));
}

#[test]
fn a_back_off_lasts_at_most_its_length_though_the_wall_clock_went_back() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    home.complete(&grant, failure(true));
    home.now.wall_ms -= 3_600_000;
    let mut home = home.restart(0);
    home.pass(1_000);
    assert_eq!(home.state(grant.fence.task), TaskState::Ready);
}

#[test]
fn records_go_forward_in_time_though_the_wall_clock_goes_back() {
    let mut home = Bench::new();
    for _ in 0..5 {
        home.submit(noop());
        home.now.wall_ms -= 1_000;
    }
    let at = |entry: &NewEntry| crate::wire::decode_record::<Record>(&entry.body).unwrap().at();
    let times: Vec<Wall> = home.log.iter().map(at).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

#[test]
fn a_workflow_goes_on_after_a_restart() {
    let mut home = Bench::new();
    let operation = home.operation();
    let LedgerReply::WorkflowSubmitted { id } =
        home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(workflows::chain(3)) })
    else {
        panic!("it is a good workflow");
    };
    let mut home = home.restart(0);
    home.bind_all();
    home.event(Event::WorkerSeen { worker: peer(1), capabilities: all_kinds(), alive: true });
    let done = home.work_off(|_| success("done"));
    assert_eq!(done.len(), 3);
    let LedgerReply::Workflow(view) = home.ask(LedgerRequest::GetWorkflow { id }) else { panic!("it is there") };
    assert_eq!(view.summary.state, WorkflowState::Succeeded);
}

#[test]
fn a_recovered_home_shows_a_running_attempt_as_it_was_until_its_lease_is_renewed() {
    let mut home = Bench::new();
    let first = home.granted(at_most(5));
    home.complete(&first, failure(true));
    home.pass(1_000);
    home.credit(1, 1, 1);
    home.pass(200);
    let second = home.grant();
    home.renew(&second, true);
    let before = home.task(second.fence.task);
    assert_eq!((before.state, before.attempts, before.worker), (TaskState::Running, 2, Some(peer(1))));
    let mut home = home.restart(60_000);
    assert_eq!(home.task(second.fence.task), before, "attempts, started_at, epoch and worker too");
    home.pass(limits::LEASE_TTL_MS - 500);
    assert_eq!(home.state(second.fence.task), TaskState::Running);
    assert!(matches!(home.renew(&second, true), RenewAnswer::Renewed { .. }));
    home.pass(limits::LEASE_TTL_MS - 500);
    assert_eq!(home.task(second.fence.task), before);
    assert_eq!(home.complete(&second, success("after all")), CompleteAnswer::Committed);
}

#[test]
fn a_recovered_home_frees_a_running_attempt_that_nobody_renews() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    home.renew(&grant, true);
    let started_at = home.task(grant.fence.task).started_at;
    let mut home = home.restart(0);
    home.pass(limits::LEASE_TTL_MS + 200);
    let view = home.task(grant.fence.task);
    assert_eq!((view.state, view.attempts, view.epoch), (TaskState::Ready, 1, grant.fence.epoch));
    assert_eq!((view.started_at, started_at.is_some()), (started_at, true), "it is the first attempt's");
    home.worker(1, 1);
    home.pass(200);
    let again = home.grant();
    assert_eq!((again.attempt, again.fence.epoch > grant.fence.epoch), (2, true));
}

#[test]
fn a_recovered_home_shows_an_unstarted_lease_as_leased_and_counts_no_attempt() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let mut home = home.restart(0);
    let view = home.task(grant.fence.task);
    assert_eq!((view.state, view.attempts, view.started_at), (TaskState::Leased, 0, None));
    assert_eq!((view.epoch, view.worker), (grant.fence.epoch, Some(peer(1))));
}
