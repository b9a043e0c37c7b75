//! Work submitted by a running attempt is cancelled with its task, and outlives any other end (2.2).

use super::workflows::{chain, view, worker};
use super::*;
use crate::dag::WorkflowSpec;

fn child_of(parent: TaskId) -> TaskSpec {
    TaskSpec { parent: Some(parent), ..noop() }
}

fn refusal(home: &mut Bench, spec: TaskSpec) -> Refusal {
    let operation = home.operation();
    match home.ask(LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] }) {
        LedgerReply::Submitted { answers } => match answers.into_iter().next() {
            Some(SubmitAnswer::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn submit_workflow(home: &mut Bench, spec: WorkflowSpec) -> WorkflowId {
    let operation = home.operation();
    match home.ask(LedgerRequest::SubmitWorkflow { operation, spec: Arc::new(spec) }) {
        LedgerReply::WorkflowSubmitted { id } => {
            home.bind_all();
            id
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancelling_a_task_cancels_its_children_and_theirs_in_one_record() {
    let mut home = Bench::new();
    let parent = home.submit(noop());
    let child = home.submit(child_of(parent));
    let grandchild = home.submit(child_of(child));
    let workflow = submit_workflow(&mut home, WorkflowSpec { parent: Some(grandchild), ..chain(2) });
    let stranger = home.submit(noop());
    assert_eq!(home.task(child).parent, Some(parent));
    let records = home.log.len();
    assert_eq!(home.cancel(parent), TaskState::Cancelled);
    assert_eq!(home.log.len(), records + 1);
    let mut home = home.restart(0);
    for id in [parent, child, grandchild] {
        assert_eq!(home.state(id), TaskState::Cancelled);
    }
    assert_eq!(home.task(child).error.unwrap().code, "parent_cancelled");
    let seen = view(&mut home, workflow);
    assert_eq!((seen.summary.state, seen.summary.parent), (WorkflowState::Cancelled, Some(grandchild)));
    assert_eq!(home.state(stranger), TaskState::Ready);
    assert!(home.ledger.state.conservation_holds());
}

#[test]
fn a_running_child_is_stopped_and_one_that_ended_stays_as_it_is() {
    let mut home = Bench::new();
    let parent = home.submit(TaskSpec { not_before: Some(Wall(START_MS + 3_600_000)), ..noop() });
    let ended = home.submit(child_of(parent));
    worker(&mut home);
    home.work_off(|_| success("done"));
    let running = home.submit(child_of(parent));
    home.credit(1, 1, 1);
    home.pass(200);
    let grant = home.grant();
    assert_eq!(grant.fence.task, running);
    home.cancel(parent);
    let stop = WorkerNotice::Stop(vec![grant.fence]);
    assert!(home.left.iter().any(|effect| matches!(effect, Effect::Notify { notice, .. } if *notice == stop)));
    assert_eq!((home.state(ended), home.state(running)), (TaskState::Succeeded, TaskState::Cancelled));
}

#[test]
fn a_cancel_of_the_parent_stops_a_child_that_embeds_on_a_device() {
    let mut home = Bench::new();
    let parent = home.granted(noop());
    let input = Payload::Inline(JsonText::of(&"a text".into()));
    let embed = TaskSpec { model: Some("minilm".to_owned()), input, ..TaskSpec::new(TaskKind::Embed) };
    let child = home.submit(TaskSpec { parent: Some(parent.fence.task), ..embed });
    let name = CreditName { incarnation: Incarnation(1), sending: Sending(9) };
    let (received, free) = (Slots { cpu: 1, device: 0 }, Slots { cpu: 0, device: 1 });
    home.ask_as(peer(1), LedgerRequest::Credit(CreditOffer { name, received, free, slots: None }));
    home.pass(200);
    let grant = home.grant();
    assert_eq!(grant.fence.task, child);
    home.renew(&grant, true);
    home.cancel(parent.fence.task);
    assert_eq!(home.state(child), TaskState::Cancelled);
    let stop = WorkerNotice::Stop(vec![grant.fence]);
    assert!(home.left.iter().any(|effect| matches!(effect, Effect::Notify { notice, .. } if *notice == stop)));
}

#[test]
fn a_parent_that_ends_otherwise_leaves_its_children_alone() {
    let mut home = Bench::new();
    let grant = home.granted(at_most(1));
    let child = home.submit(TaskSpec { not_before: Some(Wall(START_MS + 3_600_000)), ..child_of(grant.fence.task) });
    home.complete(&grant, failure(false));
    assert_eq!((home.state(grant.fence.task), home.state(child)), (TaskState::Failed, TaskState::Delayed));
    // Nor does it matter that the parent is over when the child comes.
    let late = home.submit(child_of(grant.fence.task));
    assert_eq!(home.state(late), TaskState::Ready);
}

#[test]
fn the_end_of_a_workflow_reaches_what_its_steps_submitted() {
    let mut home = Bench::new();
    let workflow = submit_workflow(&mut home, chain(1));
    let step = view(&mut home, workflow).steps[0].task_id.unwrap();
    let child = home.submit(child_of(step));
    home.cancel(workflow);
    assert_eq!(home.state(child), TaskState::Cancelled);
}

#[test]
fn who_cannot_be_a_parent_is_refused_with_what_to_do() {
    let mut home = Bench::new();
    let cancelled = home.submit(noop());
    home.cancel(cancelled);
    let reply = refusal(&mut home, child_of(cancelled));
    assert_eq!(reply, Refusal::AlreadyTerminal { id: cancelled, state: TaskState::Cancelled });
    let unknown = TaskId { ulid: 5, ledger: LEDGER.tag() };
    assert!(refusal(&mut home, child_of(unknown)).to_string().starts_with("/parent: the task"));
    let elsewhere = TaskId { ulid: 5, ledger: LedgerId([8; 16]).tag() };
    assert_eq!(refusal(&mut home, child_of(elsewhere)), Refusal::NotHome { id: elsewhere, home: None });
    let memory = home.submit(TaskSpec { durability: Durability::Memory, ..noop() });
    assert!(refusal(&mut home, child_of(memory)).to_string().starts_with("/durability"));
    let mut deepest = home.submit(noop());
    for _ in 1..limits::PARENTS_MAX {
        deepest = home.submit(child_of(deepest));
    }
    let last = home.submit(child_of(deepest));
    assert!(refusal(&mut home, child_of(last)).to_string().contains("submitted each other"));
}

#[test]
fn a_task_has_at_most_so_many_children() {
    let mut home = Bench::new();
    let parent = home.submit(noop());
    let operation = home.operation();
    let spec = Arc::new(child_of(parent));
    let many = SubmitItem { spec, count: limits::CHILDREN_MAX as u32 };
    accepted(home.ask(LedgerRequest::Submit { operation, items: vec![many] }));
    assert!(matches!(refusal(&mut home, child_of(parent)), Refusal::Overloaded { .. }));
}
