//! Rehearsals: refused where the submission would be, and nothing changes.

use super::*;

fn answer(home: &mut Bench, request: LedgerRequest) -> LedgerReply {
    let before = (home.index(), home.log.len(), home.stats());
    let reply = home.ask(LedgerRequest::Rehearse(Box::new(request)));
    assert_eq!((home.index(), home.log.len(), home.stats()), before, "something changed");
    reply
}

fn rehearse(home: &mut Bench, request: LedgerRequest) -> Result<Rehearsal, Refusal> {
    match answer(home, request) {
        LedgerReply::Rehearsed(rehearsal) => Ok(*rehearsal),
        LedgerReply::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn one(home: &mut Bench, spec: TaskSpec) -> Result<RehearsedTask, Refusal> {
    let operation = home.operation();
    let rehearsal = rehearse(home, LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] })?;
    assert_eq!((rehearsal.total, rehearsal.tasks.len()), (1, 1));
    Ok(rehearsal.tasks.into_iter().next().unwrap())
}

#[test]
fn it_tells_who_could_run_a_task_and_which_task_has_its_key() {
    let mut home = Bench::new();
    assert_eq!(one(&mut home, noop()).unwrap().able, 0, "no node is known yet");
    home.worker(1, 4);
    home.worker(2, 4);
    let fits = one(&mut home, noop()).unwrap();
    assert_eq!((fits.able, fits.nearest.is_some(), fits.unmet.len(), fits.existing), (2, true, 0, None));
    let spec = TaskSpec { requires: Some("gpu.vram >= 1024GiB".to_owned()), ..noop() };
    let lacks = one(&mut home, spec).unwrap();
    assert_eq!((lacks.able, lacks.nearest), (0, None));
    assert!(!lacks.unmet.is_empty(), "{lacks:?}");
    let keyed = TaskSpec { idempotency_key: Some("k".to_owned()), ..noop() };
    assert_eq!(one(&mut home, keyed.clone()).unwrap().existing, None);
    let id = home.submit(keyed.clone());
    assert_eq!(one(&mut home, keyed.clone()).unwrap().existing, Some(id));
    let other = TaskSpec { priority: Priority::from_seed_scale(9), ..keyed };
    assert!(matches!(one(&mut home, other), Err(Refusal::IdempotencyConflict { .. })));
}

#[test]
fn what_would_be_refused_is_refused_so() {
    let mut home = Bench::new();
    let wrong = TaskSpec { kind: TaskKind::Workflow, ..noop() };
    let refused = one(&mut home, wrong.clone()).unwrap_err();
    let operation = home.operation();
    let reply = home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem::one(wrong)] });
    assert_eq!(reply, LedgerReply::Submitted { answers: vec![SubmitAnswer::Refused(refused)] });
    assert!(matches!(rehearse(&mut home, LedgerRequest::Stats), Err(Refusal::Unsupported { .. })));
    home.pass(0);
    home.event(Event::Draining { why: "told to end".to_owned() });
    assert!(matches!(one(&mut home, noop()), Err(Refusal::Draining { .. })));
}

#[test]
fn changes_of_a_task_are_told_by_its_state() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    let (operation, priority) = (home.operation(), Priority::from_seed_scale(9));
    let cancel = |id| LedgerRequest::Cancel { operation, id, reason: "test".to_owned() };
    let set = |id| LedgerRequest::SetPriority { operation, id, priority };
    let retry = |id| LedgerRequest::RetryTasks { operation, ids: vec![id] };
    assert_eq!(answer(&mut home, cancel(id)), LedgerReply::Cancelled { state: TaskState::Cancelled });
    assert_eq!(answer(&mut home, set(id)), LedgerReply::PrioritySet { priority });
    assert!(matches!(rehearse(&mut home, retry(id)), Err(Refusal::WrongState { .. })));
    let reason = "x".repeat(limits::ERROR_BYTES_MAX + 1);
    let at_length = LedgerRequest::Cancel { operation: home.operation(), id, reason };
    let refused = rehearse(&mut home, at_length.clone()).unwrap_err();
    assert!(matches!(&refused, Refusal::Invalid { errors } if errors[0].path == "/reason"), "{refused:?}");
    assert_eq!(home.ask(at_length), LedgerReply::Refused(refused));
    assert_eq!(home.state(id), TaskState::Ready);
    home.cancel(id);
    assert!(matches!(rehearse(&mut home, set(id)), Err(Refusal::AlreadyTerminal { .. })));
    assert_eq!(rehearse(&mut home, retry(id)).unwrap().tasks[0].existing, None);
    let unknown = TaskId { ulid: 7, ..id };
    for request in [cancel(unknown), set(unknown), retry(unknown)] {
        assert_eq!(rehearse(&mut home, request), Err(Refusal::NotFound { id: unknown }));
    }
}
