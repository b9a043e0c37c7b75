//! What those who follow a home or a task are told, and when.

use super::*;
use crate::stream::{Ask, Checkpoint, StreamEpoch, Window};
use crate::wire;

fn events(home: &Bench) -> Vec<EventView> {
    let view = |entry: &NewEntry| EventView::of(LEDGER.tag(), entry.index, &entry.body, entry.event).unwrap();
    home.log.iter().map(view).collect()
}

fn wait(home: &mut Bench, id: TaskId, after: Epoch) -> Option<LedgerReply> {
    home.ask_as(peer(0), LedgerRequest::WaitAttempt { id, after, timeout_ms: 1_000 })
}

/// What was answered since.
fn told(home: &mut Bench) -> Vec<(TaskState, Epoch)> {
    let replies = std::mem::take(&mut home.left).into_iter().filter_map(|effect| match effect {
        Effect::Reply { reply: LedgerReply::Task(view), .. } => Some((view.state, view.epoch)),
        _ => None,
    });
    replies.collect()
}

#[test]
fn who_waits_for_an_attempt_hears_when_it_runs_and_not_when_it_is_granted() {
    let mut home = Bench::new();
    let id = home.submit(at_most(2));
    assert_eq!(wait(&mut home, id, Epoch(0)), None);
    home.worker(1, 1);
    home.credit(1, 1, 0);
    let grant = home.grant();
    assert_eq!(told(&mut home), []);
    home.renew(&grant, true);
    assert!(told(&mut home).contains(&(TaskState::Running, grant.fence.epoch)));
    let Some(LedgerReply::Task(view)) = wait(&mut home, id, Epoch(0)) else { panic!("it has begun") };
    assert_eq!(view.state, TaskState::Running);
}

#[test]
fn who_waits_for_the_next_attempt_hears_of_that_or_of_the_end_or_in_time_of_neither() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(2));
    let id = grant.fence.task;
    home.renew(&grant, true);
    assert_eq!(wait(&mut home, id, grant.fence.epoch), None);
    home.complete(&grant, failure(true));
    home.left.clear();
    home.pass(1_000);
    assert_eq!(told(&mut home), [(TaskState::Ready, grant.fence.epoch)], "its time is over");
    assert_eq!(wait(&mut home, id, grant.fence.epoch), None);
    home.cancel(id);
    assert!(told(&mut home).iter().any(|(state, _)| *state == TaskState::Cancelled));
    assert_eq!(home.ledger.waiters.len(), 0);
}

#[test]
fn an_attempt_that_failed_before_somebody_looked_has_begun_all_the_same() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(2));
    home.complete(&grant, failure(true));
    let Some(LedgerReply::Task(view)) = wait(&mut home, grant.fence.task, Epoch(0)) else { panic!("it has begun") };
    assert_eq!((view.state, view.worker), (TaskState::Delayed, Some(peer(1))), "its worker may still tell of it");
}

#[test]
fn every_record_is_an_event_that_names_its_tasks_and_no_token() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(1));
    let id = grant.fence.task;
    home.complete(&grant, failure(true));
    let other = home.submit(noop());
    home.cancel(other);
    let events = events(&home);
    assert_eq!(
        events.iter().map(|event| event.seq.0).collect::<Vec<_>>(),
        (1..=home.log.len() as u64).collect::<Vec<_>>()
    );
    let of = |kind: &str, id| {
        let found = events.iter().filter(|event| event.kind == kind).flat_map(|event| &event.subjects);
        found.into_iter().find(|subject| subject.id == id).cloned().unwrap_or_else(|| panic!("{kind}: {events:?}"))
    };
    assert_eq!(of("submitted", id), Subject { id, epoch: None, worker: None, says: None });
    let granted = Subject { id, epoch: Some(grant.fence.epoch), worker: Some(peer(1)), says: None };
    assert_eq!(of("granted", id), granted);
    assert_eq!(of("completed", id), Subject { says: Some("dead".to_owned()), ..granted });
    assert!(of("cancelled", other).says.is_some());
    let token = serde_json::to_string(&grant.token).unwrap();
    assert!(!serde_json::to_string(&events).unwrap().contains(token.trim_matches('"')));
}

#[test]
fn an_event_about_many_names_the_first_and_counts_the_rest() {
    let mut home = Bench::new();
    let operation = home.operation();
    let items = vec![SubmitItem { spec: noop().into(), count: 10_000 }];
    let ids = accepted(home.ask(LedgerRequest::Submit { operation, items }));
    let event = events(&home).pop().unwrap();
    let named: Vec<TaskId> = event.subjects.iter().map(|subject| subject.id).collect();
    assert_eq!(named, ids[..limits::EVENT_SUBJECTS_MAX]);
    assert_eq!(event.left_out, 10_000 - limits::EVENT_SUBJECTS_MAX as u64);
    let encoded = wire::encode(&event, limits::FRAME_BYTES_MAX).unwrap();
    assert!(encoded.len() <= event.bytes() && event.bytes() < limits::STREAM_PIECE_BYTES_MAX as usize);
}

#[test]
fn a_reader_is_led_through_the_attempts_of_a_task_to_its_end() {
    let ask = |epoch: Option<Epoch>| {
        let after = epoch.map(|epoch| Checkpoint { epoch: StreamEpoch(epoch.0), seq: 3 });
        Ask { after, window: Window { len_max: 1, bytes_max: 1 } }
    };
    let mut home = Bench::new();
    let id = home.submit(at_most(2));
    let mut fresh = Following::new(ask(None), None, false);
    assert_eq!(fresh.next(&home.task(id)), NextRead::Begin { after: Epoch(0) });
    home.worker(1, 1);
    home.credit(1, 1, 0);
    let first = home.grant();
    assert_eq!(fresh.next(&home.task(id)), NextRead::Begin { after: Epoch(0) }, "it may never start there");
    home.renew(&first, true);
    let read = |fence, is_newest| NextRead::Attempt { fence, worker: peer(1), is_newest };
    assert_eq!(fresh.next(&home.task(id)), read(first.fence, true));
    home.complete(&first, failure(true));
    assert_eq!(fresh.next(&home.task(id)), read(first.fence, true), "its worker may still tell of it");
    fresh.pass(first.fence.epoch);
    assert_eq!(fresh.next(&home.task(id)), NextRead::Begin { after: first.fence.epoch });
    home.pass(1_100);
    home.credit(1, 1, 1);
    home.pass(100);
    let second = home.grant();
    home.complete(&second, success("1"));
    // One who is amid the first reads that to its end before.
    let mut amid = Following::new(ask(Some(first.fence.epoch)), Some(peer(1)), false);
    assert!(amid.has_begun(first.fence.epoch) && !amid.has_begun(second.fence.epoch));
    assert_eq!(amid.next(&home.task(id)), read(first.fence, false));
    let through = Following::new(ask(Some(first.fence.epoch)), Some(peer(1)), true);
    assert_eq!(through.next(&home.task(id)), read(second.fence, true));
    amid.pass(first.fence.epoch);
    assert_eq!(amid.next(&home.task(id)), read(second.fence, true));
    amid.pass(second.fence.epoch);
    assert_eq!(amid.next(&home.task(id)), NextRead::Over);
}
