//! Which ready task goes first (2.5).

use super::*;

fn of_priority(priority: u16) -> TaskSpec {
    TaskSpec { priority: Priority::try_from(priority).unwrap(), ..noop() }
}

fn order(home: &mut Bench) -> Vec<TaskId> {
    home.worker(0, 100);
    home.pass(200);
    home.grants().into_iter().map(|(_, grant)| grant.fence.task).collect()
}

#[test]
fn grants_leave_by_priority_and_among_equals_by_arrival() {
    let mut home = Bench::new();
    let late = home.submit(of_priority(900));
    let first = home.submit(of_priority(5));
    let second = home.submit(of_priority(5));
    let middle = home.submit(of_priority(500));
    assert_eq!(order(&mut home), [first, second, middle, late]);
}

#[test]
fn a_task_that_waited_long_enough_passes_one_of_better_priority() {
    let mut home = Bench::new();
    let waited = home.submit(of_priority(20));
    home.now.mono_ms += 3_600_000;
    home.now.wall_ms += 3_600_000;
    let fresh = home.submit(of_priority(10));
    let urgent = home.submit(of_priority(0));
    // 0.9^60 of 21 is far below 11 but 1 is what (p + 1) of the urgent one is: ln 21 - 6.3 < ln 1 < ln 11.
    assert_eq!(order(&mut home), [waited, urgent, fresh]);
}

#[test]
fn another_priority_moves_a_task_in_its_queue_both_ways() {
    let mut home = Bench::new();
    let ids: Vec<TaskId> = [10, 20, 30].map(|priority| home.submit(of_priority(priority))).to_vec();
    for (id, priority) in [(ids[0], 40), (ids[2], 5)] {
        let operation = home.operation();
        let priority = Priority::try_from(priority).unwrap();
        home.ask(LedgerRequest::SetPriority { operation, id, priority });
    }
    assert_eq!(order(&mut home), [ids[2], ids[1], ids[0]]);
}

#[test]
fn another_priority_holds_across_a_back_off_and_a_restart() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(3));
    home.complete(&grant, failure(true));
    let operation = home.operation();
    let (id, priority) = (grant.fence.task, Priority::try_from(1).unwrap());
    home.ask(LedgerRequest::SetPriority { operation, id, priority });
    let due_ms = home.ledger.state.tasks[&id].soft.due_ms;
    assert!(due_ms > home.now.mono_ms, "it still waits for its back-off");
    let other = home.submit(of_priority(2));
    let mut home = home.restart(10);
    home.pass(1_000);
    assert_eq!(order(&mut home), [id, other]);
}

#[test]
fn an_ended_task_has_no_priority_to_change() {
    let mut home = Bench::new();
    let id = home.submit(noop());
    home.cancel(id);
    let operation = home.operation();
    let reply = home.ask(LedgerRequest::SetPriority { operation, id, priority: Priority::default() });
    assert_eq!(reply, LedgerReply::Refused(Refusal::AlreadyTerminal { id, state: TaskState::Cancelled }));
}

#[test]
fn a_backlog_that_nobody_can_run_hides_nothing_behind_it() {
    let mut home = Bench::new();
    let stuck = home.submit(TaskSpec { requires: Some("gpu.count >= 8".to_owned()), ..of_priority(0) });
    let able = home.submit(of_priority(900));
    assert_eq!(order(&mut home), [able]);
    let view = home.task(stuck);
    assert_eq!((view.state, view.unmet.len()), (TaskState::Ready, 1));
}

#[test]
fn what_each_node_lacks_is_named_the_nearest_miss_first() {
    let mut home = Bench::new();
    let mut labelled = (*all_kinds()).clone();
    labelled.labels.insert("zone".to_owned(), "b".to_owned());
    for (n, capabilities) in [(1, all_kinds()), (2, Arc::new(labelled))] {
        home.event(Event::WorkerSeen { worker: peer(n), capabilities, alive: true });
    }
    let requires = "gpu.count >= 8 && label.zone == \"b\"".to_owned();
    let id = home.submit(TaskSpec { requires: Some(requires), ..noop() });
    home.pass(100);
    let unmet = home.task(id).unmet;
    let of = |peer| unmet.iter().position(|node| node.peer == peer).unwrap();
    let (near, far) = (of(peer(2)), of(peer(1)));
    assert!(near < far, "{unmet:?}");
    let words = |place: usize| unmet[place].unmet.join("; ");
    assert!(words(near).contains("gpu.count") && !words(near).contains("zone"), "{unmet:?}");
    assert!(words(far).contains("gpu.count") && words(far).contains("zone"), "{unmet:?}");
}

#[test]
fn a_queue_of_every_namespace_and_shape_is_kept_only_to_a_bound() {
    let mut home = Bench::new();
    home.worker(0, 1);
    let mut received = 0;
    for n in 0..limits::READY_QUEUES_KEPT_MAX + 50 {
        let id = home.submit(TaskSpec { namespace: format!("namespace-{n}"), ..noop() });
        let grant = home.grant();
        assert_eq!(grant.fence.task, id);
        home.complete(&grant, success("done"));
        received += 1;
        home.credit(0, 1, received);
    }
    assert_eq!(home.ledger.ready.queues.len(), limits::READY_QUEUES_KEPT_MAX);
}

#[test]
fn device_credit_runs_device_tasks_only() {
    let mut home = Bench::new();
    let input = Payload::Inline(JsonText::of(&"text".into()));
    let embed = home.submit(TaskSpec { model: Some("minilm".to_owned()), input, ..TaskSpec::new(TaskKind::Embed) });
    home.worker(0, 5);
    home.pass(1_000);
    assert!(home.grants().is_empty());
    let name = CreditName { incarnation: Incarnation(1), sending: Sending(99) };
    let offer = CreditOffer { name, received: Slots::default(), free: Slots { cpu: 0, device: 1 }, slots: None };
    assert_eq!(home.ask(LedgerRequest::Credit(offer)), LedgerReply::Credited { backlog: Slots { cpu: 0, device: 1 } });
    assert_eq!(home.grant().fence.task, embed);
}
