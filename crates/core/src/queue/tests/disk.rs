//! A disk that refuses (2.11): no new work, everything else answered, nothing shown that is not on it.

use super::workflows::chain;
use super::*;
use crate::dag::{Overlap, ScheduleSpec, WorkflowSpec};

const WHY: &str = "the disk is full; free space on the volume of /data";

fn refuses() -> Event {
    Event::Disk(Disk::Refuses { why: WHY.to_owned() })
}

fn spares() -> Event {
    Event::Disk(Disk::Spares { why: WHY.to_owned() })
}

fn submission(home: &mut Bench) -> LedgerRequest {
    let operation = home.operation();
    LedgerRequest::Submit { operation, items: vec![SubmitItem::one(noop())] }
}

fn refused(reply: LedgerReply) -> Refusal {
    match reply {
        LedgerReply::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

/// What a list shows of tasks.
fn listed(home: &mut Bench) -> Vec<(TaskId, TaskState)> {
    let request = LedgerRequest::ListTasks { filter: TaskFilter::default(), cursor: None, limit: 100 };
    match home.ask(request) {
        LedgerReply::Tasks { items, .. } => items.into_iter().map(|view| (view.id, view.state)).collect(),
        other => panic!("{other:?}"),
    }
}

/// From now on nothing that the home decides gets to its disk.
fn breaks(home: &mut Bench) {
    home.syncs = false;
    home.event(refuses());
}

fn is_mended(home: &mut Bench) {
    home.syncs = true;
    home.sync();
    home.event(Event::Disk(Disk::Takes));
}

#[test]
fn a_disk_that_refuses_takes_no_new_work_and_says_why_and_what_to_do() {
    let mut home = Bench::new();
    let (cancelled, waiting) = (home.submit(noop()), home.submit(noop()));
    home.cancel(cancelled);
    let workflow = workflows::start(&mut home, chain(1));
    home.cancel(workflow);
    breaks(&mut home);
    let records = home.index();
    let [a, b, c, d, e] = std::array::from_fn(|_| home.operation());
    let new_work = [
        submission(&mut home),
        LedgerRequest::SubmitWorkflow { operation: a, spec: Arc::new(chain(2)) },
        LedgerRequest::RetryTasks { operation: b, ids: vec![cancelled] },
        LedgerRequest::RetryWorkflow { operation: c, id: workflow },
    ];
    for request in new_work {
        let refusal = refused(home.ask(request));
        assert!(matches!(&refusal, Refusal::Overloaded { what, .. } if what.contains(WHY)), "{refusal}");
    }
    let changes = [
        LedgerRequest::Cancel { operation: d, id: waiting, reason: String::new() },
        LedgerRequest::SetPriority { operation: e, id: waiting, priority: Priority::default() },
    ];
    for request in changes {
        let refusal = refused(home.ask(request));
        assert!(matches!(&refusal, Refusal::Unavailable { what } if what.contains(WHY)), "{refusal}");
    }
    assert_eq!(home.index(), records, "nothing was decided");
    assert_eq!(home.state(waiting), TaskState::Ready);
}

#[test]
fn who_waits_when_the_disk_begins_to_refuse_is_told_and_asked_again_gets_the_first_answer() {
    let mut home = Bench::new();
    home.syncs = false;
    let request = submission(&mut home);
    assert_eq!(home.ask_as(peer(0), request.clone()), None);
    let asked = ReplyTo(home.replies);
    home.event(refuses());
    let refusal = refused(home.answer_to(asked).unwrap());
    assert!(refusal.is_retryable() && refusal.to_string().contains(WHY), "{refusal}");
    is_mended(&mut home);
    let records = home.index();
    let ids = accepted(home.ask(request));
    assert_eq!((home.index(), listed(&mut home)), (records, vec![(ids[0], TaskState::Ready)]));
}

#[test]
fn while_the_disk_refuses_lists_and_counters_show_what_is_on_it() {
    let mut home = Bench::new();
    let kept = home.submit(noop());
    home.worker(1, 1);
    home.pass(200);
    let grant = home.grant();
    let other = home.submit(noop());
    home.pass(200);
    let before = home.stats();
    breaks(&mut home);
    let outcome = home.ask_as(peer(1), LedgerRequest::Complete(vec![completion(&grant, success("done"))]));
    assert!(matches!(outcome, Some(LedgerReply::Refused(Refusal::Unavailable { .. }))), "{outcome:?}");
    assert_eq!(listed(&mut home), [(other, TaskState::Ready)]);
    assert!(refused(home.ask(LedgerRequest::GetTask { id: kept })).to_string().contains(WHY));
    let stats = home.stats();
    assert_eq!((stats.counts, stats.disk.trouble()), (before.counts, Some(WHY)));
    assert_eq!(stats.log_index.0, stats.synced_index.0 + 1);
    is_mended(&mut home);
    assert_eq!(listed(&mut home), [(kept, TaskState::Succeeded), (other, TaskState::Ready)]);
    assert_eq!(home.complete(&grant, success("done")), CompleteAnswer::Committed, "offered again it is answered");
    assert_eq!(home.stats().disk, Disk::Takes);
}

#[test]
fn a_home_whose_disk_refuses_grants_nothing_renews_leases_and_goes_on_afterwards() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    home.renew(&grant, true);
    let waiting = home.submit(noop());
    breaks(&mut home);
    home.credit(1, 1, 1);
    for _ in 0..10 {
        home.pass(limits::LEASE_RENEW_EVERY_MS);
        assert!(matches!(home.renew(&grant, true), RenewAnswer::Renewed { .. }));
    }
    assert_eq!((home.grants().len(), home.state(waiting)), (0, TaskState::Ready));
    is_mended(&mut home);
    home.credit(1, 1, 1);
    home.pass(200);
    assert_eq!(home.grant().fence.task, waiting);
}

#[test]
fn an_hour_without_a_disk_decides_next_to_nothing() {
    let mut home = Bench::new();
    let grant = home.granted(TaskSpec { durability: Durability::Memory, ..noop() });
    home.renew(&grant, true);
    breaks(&mut home);
    let records = home.index();
    home.pass(3_600_000);
    assert_eq!(home.index(), records);
}

#[test]
fn in_its_reserve_a_home_goes_on_with_what_it_accepted_and_with_nothing_else() {
    let mut home = Bench::new();
    let grant = home.granted(noop());
    let (next, unwanted) = (home.submit(noop()), home.submit(noop()));
    home.event(spares());
    let request = submission(&mut home);
    assert!(refused(home.ask(request)).to_string().contains(WHY));
    assert_eq!(home.cancel(unwanted), TaskState::Cancelled);
    assert_eq!(home.complete(&grant, success("done")), CompleteAnswer::Committed);
    home.credit(1, 1, 1);
    home.pass(200);
    assert_eq!(home.grant().fence.task, next);
    assert_eq!(home.stats().counts.succeeded, 1, "of the newest state");
}

#[test]
fn a_disk_that_writes_again_grants_before_it_takes_new_work() {
    let mut home = Bench::new();
    let waiting = home.submit(noop());
    home.syncs = false;
    let request = submission(&mut home);
    home.ask_as(peer(0), request);
    home.event(refuses());
    home.worker(1, 1);
    home.pass(200);
    assert_eq!(home.grants().len(), 0);
    home.syncs = true;
    home.sync();
    home.pass(200);
    assert_eq!(home.grant().fence.task, waiting);
    let request = submission(&mut home);
    assert!(refused(home.ask(request)).to_string().contains(WHY));
}

#[test]
fn times_of_schedules_wait_for_the_disk() {
    let mut home = Bench::new();
    let terms = ScheduleSpec {
        cron: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        overlap: Overlap::Allow,
        catch_up: 0,
        jitter: DurationMs(0),
    };
    let operation = home.operation();
    let spec = Arc::new(WorkflowSpec { schedule: Some(terms), ..chain(1) });
    home.ask(LedgerRequest::SubmitWorkflow { operation, spec });
    home.event(spares());
    home.pass(61_000);
    assert_eq!(home.stats().workflows_running, 0);
    home.event(Event::Disk(Disk::Takes));
    home.pass(1_000);
    assert_eq!(home.stats().workflows_running, 1);
}
