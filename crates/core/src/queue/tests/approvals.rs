//! Tasks that a person decides: nobody else ends them, and a decision stays as it is.

use super::workflows::{chain, start, step, view, worker};
use super::*;
use crate::dag::StepSpec;
use serde_json::{Value, json};

fn approval() -> TaskSpec {
    TaskSpec { input: Payload::Inline(JsonText::of(&json!({"what": "ship it"}))), ..TaskSpec::new(TaskKind::Approval) }
}

fn decision(approved: bool, by: &str) -> Decision {
    Decision { approved, by: by.to_owned(), comment: "looks right".to_owned() }
}

impl Bench {
    fn approval(&mut self, request: ApprovalRequest) -> Result<ApprovalReply, Refusal> {
        match self.ask(LedgerRequest::Approval(request)) {
            LedgerReply::Approval(reply) => Ok(*reply),
            LedgerReply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn decide(&mut self, id: TaskId, approved: bool, by: &str) -> Result<Decided, Refusal> {
        let decision = decision(approved, by);
        self.approval(ApprovalRequest::Decide { id, decision }).map(|reply| match reply {
            ApprovalReply::Decided(decided) => decided,
            ApprovalReply::List { .. } => panic!("it decides"),
        })
    }

    fn try_hold(&mut self, n: u8) -> LedgerReply {
        let call = HeldCall { tool: "queue_clear".to_owned(), arguments: JsonText::of(&json!({"confirm": true})) };
        let operation = OperationId([n; 16]);
        self.ask(LedgerRequest::Approval(ApprovalRequest::Hold { operation, call, key: None, namespace: None }))
    }

    fn hold(&mut self, n: u8) -> TaskId {
        accepted(self.try_hold(n))[0]
    }

    fn listed(&mut self, of: Option<TaskId>, decided: bool) -> Vec<ApprovalView> {
        let request = ApprovalRequest::List { of, namespace: None, decided, cursor: None, limit: 10 };
        match self.approval(request).unwrap() {
            ApprovalReply::List { items, .. } => items,
            ApprovalReply::Decided(_) => panic!("it lists"),
        }
    }

    /// Reports what a held call gave, in the name of `owner`.
    fn end_call(&mut self, id: TaskId, owner: &str) -> CompleteAnswer {
        self.replies += 1;
        let (reply, caller) = (ReplyTo(self.replies), Caller { peer: peer(0), owner: owner.into() });
        let (worker, outcome) = (HELD_CALLS_WORKER.to_owned(), Box::new(success("its answer")));
        let request = OutsideRequest::End { worker, task: id, lease: None, outcome };
        self.event(Event::Request { caller, request: LedgerRequest::Outside(request), reply });
        match self.answer_to(reply) {
            Some(LedgerReply::Outside(reply)) => match *reply {
                OutsideReply::Ended(answer) => answer,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn output(&mut self, id: TaskId) -> Value {
        match self.task(id).output {
            Some(Payload::Inline(text)) => text.to_value(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_approved_succeeds_with_who_approved_it_and_stays_so() {
    let mut home = Bench::new();
    let id = home.submit(approval());
    let LedgerReply::Pending(pending) = home.ask(LedgerRequest::WhyPending { id }) else { panic!("it is there") };
    assert!(pending.reason.contains(&format!("nodectl approval approve {id}")), "{}", pending.reason);
    assert!(pending.nodes.is_empty(), "no node lacks anything for it");
    let decided = home.decide(id, true, "operator:ann").unwrap();
    assert_eq!((decided.state, home.state(id)), (TaskState::Succeeded, TaskState::Succeeded));
    let expected =
        json!({"approved": true, "by": "operator:ann", "comment": "looks right", "input": {"what": "ship it"}});
    assert_eq!(home.output(id), expected);
    assert_eq!(home.decide(id, true, "operator:bob"), Ok(decided.clone()), "the first decision is the one");
    let refused = home.decide(id, false, "operator:bob").unwrap_err().to_string();
    assert!(refused.contains("approved by operator:ann at ") && refused.contains("looks right"), "{refused}");
}

#[test]
fn what_is_denied_fails_for_good_with_the_comment() {
    let mut home = Bench::new();
    let id = home.submit(approval());
    assert_eq!(home.decide(id, false, "operator:ann").unwrap().state, TaskState::Failed);
    let error = home.task(id).error.unwrap();
    assert!(error.code == "denied" && error.message.contains("looks right"), "{error:?}");
    assert_eq!(home.decide(id, false, "operator:bob").unwrap().state, TaskState::Failed);
    assert!(home.decide(id, true, "operator:bob").unwrap_err().to_string().contains("denied by operator:ann"));
}

#[test]
fn no_worker_is_given_what_a_person_decides() {
    let mut home = Bench::new();
    let id = home.submit(approval());
    let kinds = TaskKind::WRITTEN.into_iter().collect();
    let all = Capabilities { kinds, ..Capabilities::default() };
    home.event(Event::WorkerSeen { worker: peer(1), capabilities: Arc::new(all.clone()), alive: true });
    home.credit(1, 8, 0);
    home.pass(200);
    assert!(home.grants().is_empty(), "a node that claims to run it gets nothing");
    let request = OutsideRequest::Take { worker: "agent".to_owned(), offers: Some(Box::new(all)), namespace: None };
    let LedgerReply::Outside(reply) = home.ask(LedgerRequest::Outside(request)) else { panic!("it is answered") };
    assert_eq!(*reply, OutsideReply::Taken(None));
    assert_eq!(home.state(id), TaskState::Ready);
}

#[test]
fn it_waits_over_a_restart_and_so_does_the_decision() {
    let mut home = Bench::new();
    let (one, two) = (home.submit(approval()), home.submit(approval()));
    let mut home = home.restart(60_000);
    assert_eq!(home.listed(None, false).iter().map(|view| view.id).collect::<Vec<_>>(), [one, two]);
    home.decide(one, true, "operator:ann").unwrap();
    let mut home = home.restart(60_000);
    assert_eq!(home.listed(None, false).iter().map(|view| view.id).collect::<Vec<_>>(), [two]);
    assert!(home.decide(one, false, "operator:bob").is_err());
}

#[test]
fn what_nobody_decides_in_time_or_is_cancelled_is_over() {
    let mut home = Bench::new();
    let late = home.submit(TaskSpec { deadline: Some(Wall(home.now.wall_ms + 5_000)), ..approval() });
    let cancelled = home.submit(approval());
    home.cancel(cancelled);
    home.pass(6_000);
    for id in [late, cancelled] {
        let state = home.state(id);
        assert!(state.is_terminal(), "{state}");
        assert_eq!(home.decide(id, true, "operator:ann"), Err(Refusal::AlreadyTerminal { id, state }));
    }
    let noop = home.submit(noop());
    assert!(home.decide(noop, true, "operator:ann").unwrap_err().to_string().contains("kind noop"));
    assert!(home.listed(None, false).is_empty());
}

#[test]
fn a_decision_says_who_and_is_bounded() {
    let mut home = Bench::new();
    let id = home.submit(approval());
    let long = Decision { comment: "x".repeat(limits::DECISION_COMMENT_BYTES_MAX + 1), ..decision(true, "ann") };
    for (decision, field) in [(decision(true, ""), "/by"), (long, "/comment")] {
        let refused = home.approval(ApprovalRequest::Decide { id, decision }).unwrap_err().to_string();
        assert!(refused.contains(field), "{refused}");
    }
    assert_eq!(home.state(id), TaskState::Ready);
}

#[test]
fn a_rehearsed_decision_decides_nothing() {
    let mut home = Bench::new();
    let (id, call) = (home.submit(approval()), home.hold(1));
    let rehearse = |id, approved| {
        let request = ApprovalRequest::Decide { id, decision: decision(approved, "operator:ann") };
        LedgerRequest::Rehearse(Box::new(LedgerRequest::Approval(request)))
    };
    for (id, approved, state) in
        [(id, true, TaskState::Succeeded), (id, false, TaskState::Failed), (call, true, TaskState::Running)]
    {
        let LedgerReply::Approval(reply) = home.ask(rehearse(id, approved)) else { panic!("it would be taken") };
        let ApprovalReply::Decided(decided) = *reply else { panic!("it decides") };
        assert_eq!((decided.state, home.state(id)), (state, TaskState::Ready));
    }
}

#[test]
fn a_step_that_waits_for_a_person_holds_back_those_behind_it_and_no_others() {
    for approved in [true, false] {
        let mut home = Bench::new();
        let mut spec = chain(3);
        spec.steps[1] = StepSpec { kind: TaskKind::Approval, ..spec.steps[1].clone() };
        spec.steps.push(step("aside", &[]));
        let workflow = start(&mut home, spec);
        worker(&mut home);
        assert_eq!(home.work_off(|_| success("x")).len(), 2, "the first step, and the one aside");
        let waiting = home.listed(Some(workflow), false);
        let [gate] = &waiting[..] else { panic!("{waiting:?}") };
        assert_eq!((gate.workflow, view(&mut home, workflow).summary.state), (Some(workflow), WorkflowState::Running));
        home.decide(gate.id, approved, "operator:ann").unwrap();
        home.bind_all();
        assert_eq!(home.work_off(|_| success("x")).len(), usize::from(approved));
        let expected = if approved { WorkflowState::Succeeded } else { WorkflowState::Failed };
        assert_eq!(view(&mut home, workflow).summary.state, expected);
    }
}

#[test]
fn a_step_waits_for_a_person_no_longer_than_its_timeout() {
    for decided in [true, false] {
        let mut home = Bench::new();
        let mut spec = chain(3);
        let timeout = Some(DurationMs(60_000));
        spec.steps[1] = StepSpec { kind: TaskKind::Approval, timeout, ..spec.steps[1].clone() };
        let workflow = start(&mut home, spec);
        worker(&mut home);
        // The time begins when the step does.
        home.pass(120_000);
        assert_eq!(home.work_off(|_| success("x")).len(), 1);
        let mut home = home.restart(30_000);
        let [gate] = &home.listed(Some(workflow), false)[..] else { panic!("it waits") };
        let (id, deadline) = (gate.id, gate.deadline);
        assert!(deadline.is_some_and(|deadline| deadline.0 > home.now.wall_ms), "{deadline:?}");
        if decided {
            home.decide(id, true, "operator:ann").unwrap();
        }
        home.pass(31_000);
        let expected = if decided { TaskState::Succeeded } else { TaskState::Failed };
        assert_eq!(home.state(id), expected);
        let state = view(&mut home, workflow).summary.state;
        assert_eq!(state == WorkflowState::Failed, !decided, "{state:?}");
    }
}

#[test]
fn a_held_call_runs_once_it_is_approved_and_ends_as_its_node_says() {
    let mut home = Bench::new();
    let id = home.hold(1);
    assert_eq!(home.hold(1), id, "said twice");
    assert_eq!(home.decide(id, true, "operator:ann").unwrap().state, TaskState::Running);
    assert!(home.listed(None, false).is_empty());
    // The lease of who makes the call ends; the decision does not, and nobody else is given it.
    home.pass(limits::OUTSIDE_LEASE_TTL_MS * 3);
    assert!(home.decide(id, true, "operator:bob").unwrap().words.contains("operator:ann"));
    assert!(home.decide(id, false, "operator:bob").is_err());
    let mut home = home.restart(limits::OUTSIDE_LEASE_TTL_MS);
    let [view] = &home.listed(None, true)[..] else { panic!("it is to be made") };
    assert_eq!(
        (view.id, view.approved.as_ref().map(|kept| kept.to_value()["begun"].clone())),
        (id, Some(json!(false)))
    );
    assert!(matches!(home.end_call(id, "token:eve"), CompleteAnswer::Fenced { .. }));
    assert_eq!(home.end_call(id, HELD_CALLS_OWNER), CompleteAnswer::Committed);
    assert_eq!(home.output(id), json!("its answer"));
    assert!(home.listed(None, true).is_empty());
}

#[test]
fn no_limit_counts_what_a_person_decides() {
    let mut home = Bench::new();
    let (operation, key) = (home.operation(), "one-at-a-time".parse().unwrap());
    let items = vec![SubmitItem::one(TaskSpec { concurrency_key: Some(key), ..approval() })];
    let LedgerReply::Submitted { answers } = home.ask(LedgerRequest::Submit { operation, items }) else { panic!("x") };
    let [SubmitAnswer::Refused(refusal)] = &answers[..] else { panic!("{answers:?}") };
    assert!(refusal.to_string().contains("/concurrency_key"), "{refusal}");
}

#[test]
fn a_caller_has_so_many_held_calls_and_none_by_a_label() {
    let mut home = Bench::new();
    for n in 0..limits::HELD_CALLS_MAX {
        home.hold(n as u8);
    }
    let refused = home.try_hold(200);
    assert!(matches!(refused, LedgerReply::Refused(Refusal::Overloaded { .. })), "{refused:?}");
    let labels: std::collections::BTreeMap<_, _> = [(HELD_CALL.to_owned(), "queue_clear".to_owned())].into();
    let (operation, forged) = (home.operation(), SubmitItem::one(TaskSpec { labels: labels.clone(), ..approval() }));
    let refused = home.ask(LedgerRequest::Submit { operation, items: vec![forged] });
    assert!(
        matches!(&refused, LedgerReply::Refused(refusal) if refusal.to_string().contains(HELD_CALL)),
        "{refused:?}"
    );
    let mut spec = chain(1);
    spec.labels = labels;
    let (operation, spec) = (home.operation(), Arc::new(spec));
    let refused = home.ask(LedgerRequest::SubmitWorkflow { operation, spec });
    assert!(
        matches!(&refused, LedgerReply::Refused(refusal) if refusal.to_string().contains(HELD_CALL)),
        "{refused:?}"
    );
}

#[test]
fn clearing_the_queue_leaves_held_calls_and_takes_other_approvals() {
    let mut home = Bench::new();
    let held = home.hold(1);
    let asked = home.submit(approval());
    let mut spec = chain(2);
    spec.steps[0] = StepSpec { kind: TaskKind::Approval, ..spec.steps[0].clone() };
    let workflow = start(&mut home, spec);
    let (operation, up_to) = (home.operation(), home.stats().log_index);
    let cleared = home.ask(LedgerRequest::ClearQueue { operation, namespace: None, up_to });
    assert_eq!(cleared, LedgerReply::Cleared { tasks: 1, workflows: 1, left: 0 });
    assert_eq!((home.task(asked).state, home.task(held).state), (TaskState::Cancelled, TaskState::Ready));
    assert_eq!(view(&mut home, workflow).summary.state, WorkflowState::Cancelled);
    assert_eq!(home.decide(held, true, "operator:ann").unwrap().state, TaskState::Running);
}
