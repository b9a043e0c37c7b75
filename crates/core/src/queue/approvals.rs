//! Tasks that a person decides. No worker is given one: who may operate the node approves or denies it, and by that it ends.
//!
//! A decision is a grant and its outcome in one, so that all holds for it that holds for other tasks: the log, deadlines,
//! cancellation, what the steps behind it read. A *held call* is an approval that says so with a label: approved it runs, and
//! ends with what the call gave, which the node that held it reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::effects::{Caller, ReplyTo};
use super::ledger::Ledger;
use super::protocol::{LedgerReply, Refusal, TaskView};
use super::record::{CheckpointRecord, Record, SubmitItem};
use super::task_entry::Task;
use crate::ids::{OperationId, PeerId, TaskId, WorkflowId};
use crate::lease::Completion;
use crate::limits;
use crate::payload::{JsonText, Payload};
use crate::task::{AttemptResult, Outcome, TaskError, TaskKind, TaskSpec, TaskState};
use crate::time::Wall;

/// The label of an approval whose input is a call that waits for it.
pub const HELD_CALL: &str = "magpie.held-call";
/// Who reports what a held call gave: no client has such a name.
pub const HELD_CALLS_OWNER: &str = "node:approvals";
/// The same, as a worker of that owner.
pub const HELD_CALLS_WORKER: &str = "held-calls";
/// The error of an approval that was denied.
const DENIED: &str = "denied";

/// What is asked about approvals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalRequest {
    /// Those that have not ended, the oldest first.
    List {
        /// Only this one, or those of this workflow and of the workflows in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<TaskId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// Held calls that were approved, in place of what waits for a decision.
        #[serde(default, skip_serializing_if = "crate::task::is_default")]
        decided: bool,
        cursor: Option<TaskId>,
        limit: usize,
    },
    /// Keeps a call until it is approved, in the name of who would make it.
    Hold {
        operation: OperationId,
        call: HeldCall,
        /// Who holds the same call under the same key holds it once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
    },
    /// The same decision again changes nothing; another one is refused.
    Decide { id: TaskId, decision: Decision },
}

impl ApprovalRequest {
    /// The task that it is about.
    pub fn subject(&self) -> Option<TaskId> {
        match self {
            Self::List { of, .. } => *of,
            Self::Hold { .. } => None,
            Self::Decide { id, .. } => Some(*id),
        }
    }
}

/// A call of a tool that is made once it is approved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldCall {
    pub tool: String,
    pub arguments: JsonText,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalReply {
    List { items: Vec<ApprovalView>, next_cursor: Option<TaskId> },
    Decided(Decided),
}

/// What somebody decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub approved: bool,
    /// Who decided, by name.
    pub by: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

/// An approval that is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub id: TaskId,
    pub approved: bool,
    /// Running: a held call is about to be made.
    pub state: TaskState,
    /// Who decided what, and when.
    pub words: String,
}

/// An approval that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    pub id: TaskId,
    /// In whose name it is asked for: not theirs to decide.
    pub owner: String,
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Whether the input is a call that is made once it is approved.
    pub held_call: bool,
    pub input: Payload,
    pub asked_at: Wall,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Wall>,
    /// Of a held call that was approved: who decided, and when; and whether the call has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<JsonText>,
}

/// Those of a home that have not ended.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenApprovals(BTreeSet<TaskId>);

impl OpenApprovals {
    pub fn count(&mut self, task: &Task) {
        if task.is_approval() && !task.state.is_terminal() {
            self.0.insert(task.id);
        } else {
            self.0.remove(&task.id);
        }
    }
}

/// How an approval stands.
enum Standing {
    Open,
    Decided {
        approved: bool,
        words: String,
    },
    /// It ended otherwise.
    Over,
    NotYet,
}

impl Decision {
    fn check(&self) -> Result<(), Refusal> {
        if self.by.is_empty() || self.by.len() > limits::NAME_BYTES_MAX {
            let problem = format!("a name of {} bytes", self.by.len());
            return Err(Refusal::invalid(
                "/by",
                problem,
                format!("1 to {} bytes say who decides", limits::NAME_BYTES_MAX),
            ));
        }
        if self.comment.len() > limits::DECISION_COMMENT_BYTES_MAX {
            let problem = format!("it has {} bytes", self.comment.len());
            let fix = format!("write at most {} bytes", limits::DECISION_COMMENT_BYTES_MAX);
            return Err(Refusal::invalid("/comment", problem, fix));
        }
        Ok(())
    }

    fn words(&self, at: Wall) -> String {
        let verb = if self.approved { "approved" } else { DENIED };
        let words = format!("{verb} by {} at {at}", self.by);
        if self.comment.is_empty() { words } else { format!("{words}: {}", self.comment) }
    }
}

/// What the home keeps of the approval of a held call, for whoever makes it.
pub fn approved_call(words: &str, begun: bool) -> JsonText {
    JsonText::of(&json!({"words": words, "begun": begun}))
}

impl Task {
    pub fn is_approval(&self) -> bool {
        self.spec.kind == TaskKind::Approval
    }

    /// A step is none, whatever labels it brings.
    pub(super) fn is_held_call(&self) -> bool {
        self.is_approval() && self.kin.step.is_none() && self.spec.labels.contains_key(HELD_CALL)
    }

    /// Of a held call that was approved and has not ended.
    fn approved_call(&self) -> Option<&JsonText> {
        self.checkpoint().filter(|_| self.is_approval() && !self.state.is_terminal())
    }

    fn standing(&self) -> Standing {
        if let Some(kept) = self.approved_call() {
            let words = kept.to_value()["words"].as_str().unwrap_or("approved").to_owned();
            return Standing::Decided { approved: true, words };
        }
        let words = self.past.log_tail.clone();
        match self.state {
            TaskState::Ready => Standing::Open,
            TaskState::Blocked | TaskState::Delayed | TaskState::Leased | TaskState::Running => Standing::NotYet,
            TaskState::Succeeded => Standing::Decided { approved: true, words },
            // A call that failed was approved; what failed without a decision passed its deadline.
            TaskState::Failed if !words.is_empty() => {
                let denied = self.past.error.as_ref().is_some_and(|error| error.code == DENIED);
                Standing::Decided { approved: !denied, words }
            }
            TaskState::Failed | TaskState::Dead | TaskState::Cancelled | TaskState::Skipped => Standing::Over,
        }
    }

    /// Why it does not end by itself, in words.
    pub fn waits_for_a_decision(&self) -> String {
        match self.approved_call() {
            Some(_) => "it was approved, and its node makes the call".to_owned(),
            None => format!(
                "it waits for a person: `nodectl approval approve {0}` or `nodectl approval deny {0}`, or the tool \
                 approval_decide of somebody else than {1}",
                self.id, self.owner
            ),
        }
    }
}

impl Ledger {
    pub(super) fn approval_request(&mut self, caller: &Caller, request: ApprovalRequest, reply: ReplyTo) {
        match request {
            ApprovalRequest::List { of, namespace, decided, cursor, limit } => {
                self.list_approvals((of, namespace.as_deref(), decided), cursor, limit, reply);
            }
            ApprovalRequest::Hold { operation, call, key, namespace } => {
                self.hold_call(caller, operation, call, (key, namespace), reply);
            }
            ApprovalRequest::Decide { id, decision } => self.decide(caller.peer, id, &decision, reply),
        }
    }

    fn hold_call(
        &mut self,
        caller: &Caller,
        operation: OperationId,
        call: HeldCall,
        (key, namespace): (Option<String>, Option<String>),
        reply: ReplyTo,
    ) {
        let open = self.approvals.0.iter().filter_map(|id| self.state.tasks.get(id));
        let held = open.filter(|task| task.is_held_call() && *task.owner == *caller.owner).count();
        if held >= limits::HELD_CALLS_MAX {
            let what = format!("{held} calls of this caller wait for an approval");
            return self.refuse(reply, Refusal::Overloaded { retry_after_ms: limits::HELD_CALLS_RETRY_MS, what });
        }
        let input = JsonText::of(&json!({"tool": call.tool, "arguments": call.arguments}));
        if !Payload::fits_inline(&input) {
            let problem = format!("the call has {} bytes", input.as_str().len());
            let fix = format!("send less: a call that waits has at most {}", limits::PAYLOAD_INLINE_BYTES_MAX);
            return self.refuse(reply, Refusal::invalid("/arguments", problem, fix));
        }
        let mut spec = TaskSpec {
            input: Payload::Inline(input),
            labels: [(HELD_CALL.to_owned(), call.tool)].into(),
            idempotency_key: key,
            ..TaskSpec::new(TaskKind::Approval)
        };
        spec.namespace = namespace.unwrap_or(spec.namespace);
        self.submit(caller, operation, vec![SubmitItem::one(spec)], reply);
    }

    fn list_approvals(
        &mut self,
        (of, namespace, decided): (Option<TaskId>, Option<&str>, bool),
        cursor: Option<TaskId>,
        limit: usize,
        reply: ReplyTo,
    ) {
        let limit = limit.clamp(1, limits::APPROVALS_LISTED_MAX);
        let is_asked_for = |task: &Task| match decided {
            true => task.approved_call().is_some(),
            false => matches!(task.standing(), Standing::Open),
        };
        let after = cursor.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let open = self.approvals.0.range((after, std::ops::Bound::Unbounded));
        let tasks = open.filter_map(|id| self.state.tasks.get(id)).filter(|task| {
            namespace.is_none_or(|namespace| task.spec.namespace == namespace)
                && of.is_none_or(|of| task.id == of || self.is_within(task, of))
                && is_asked_for(task)
                && !self.withholds(task.durability(), task.index)
        });
        let mut items: Vec<ApprovalView> = tasks.take(limit + 1).map(|task| self.approval_view(task)).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|item| item.id);
        let list = ApprovalReply::List { items, next_cursor };
        self.reply(self.gate_of_all(), reply, LedgerReply::Approval(Box::new(list)));
    }

    /// Whether it belongs to a step of `workflow`, or of a workflow that is a step of it.
    fn is_within(&self, task: &Task, workflow: WorkflowId) -> bool {
        let parent = |task: &Task| task.kin.step.map(|link| link.workflow);
        let mut at = parent(task);
        for _ in 0..=limits::WORKFLOW_DEPTH_MAX {
            match at {
                Some(id) if id == workflow => return true,
                Some(id) => {
                    let above = self.state.workflows.get(&id).and_then(|run| run.parent);
                    at = above.and_then(|id| self.state.tasks.get(&id)).and_then(parent);
                }
                None => return false,
            }
        }
        false
    }

    fn approval_view(&self, task: &Task) -> ApprovalView {
        ApprovalView {
            id: task.id,
            owner: task.owner.to_string(),
            namespace: task.spec.namespace.clone(),
            workflow: task.kin.step.map(|link| link.workflow),
            step: task.kin.step.and_then(|link| {
                let run = self.state.workflows.get(&link.workflow)?;
                run.spec.steps.get(link.step as usize).map(|step| step.name.clone())
            }),
            held_call: task.is_held_call(),
            input: task.whole_spec().input.clone(),
            asked_at: task.created,
            deadline: task.spec.deadline,
            approved: task.approved_call().cloned(),
        }
    }

    /// Whether a decision would be taken, and what it would come to.
    pub(super) fn rehearse_decision(&self, id: TaskId, decision: &Decision) -> Result<LedgerReply, Refusal> {
        decision.check()?;
        let task = self.state.tasks.get(&id).ok_or_else(|| self.missing(id))?;
        let (state, words) = match may_be_decided(task, decision)? {
            Some(words) => (task.state, words),
            None if !decision.approved => (TaskState::Failed, decision.words(self.at())),
            None if task.is_held_call() => (TaskState::Running, decision.words(self.at())),
            None => (TaskState::Succeeded, decision.words(self.at())),
        };
        let decided = Decided { id, approved: decision.approved, state, words };
        Ok(LedgerReply::Approval(Box::new(ApprovalReply::Decided(decided))))
    }

    fn decide(&mut self, peer: PeerId, id: TaskId, decision: &Decision, reply: ReplyTo) {
        if let Err(refusal) = decision.check() {
            return self.refuse(reply, refusal);
        }
        let Some(task) = self.state.tasks.get(&id) else { return self.refuse_missing(reply, id) };
        let answer = match may_be_decided(task, decision) {
            Err(refusal) => LedgerReply::Refused(refusal),
            Ok(known) => {
                let words = known.unwrap_or_else(|| {
                    let words = decision.words(self.at());
                    self.carry_out(peer, id, decision, &words);
                    words
                });
                let (approved, state) = (decision.approved, self.state.tasks[&id].state);
                LedgerReply::Approval(Box::new(ApprovalReply::Decided(Decided { id, approved, state, words })))
            }
        };
        let task = &self.state.tasks[&id];
        self.reply(self.late_gate(task.durability(), task.index), reply, answer);
    }

    fn carry_out(&mut self, peer: PeerId, id: TaskId, decision: &Decision, words: &str) {
        self.leave_heap(id);
        let is_held_call = self.state.tasks[&id].is_held_call() && decision.approved;
        let name: Arc<str> = match is_held_call {
            true => format!("{HELD_CALLS_OWNER}/{HELD_CALLS_WORKER}").into(),
            false => decision.by.as_str().into(),
        };
        self.grant_outside(peer, &name, id);
        let task = &self.state.tasks[&id];
        let (fence, token, durability) = (task.fence(), task.token, task.durability());
        if is_held_call {
            let checkpoint = approved_call(words, false);
            let checkpoints = vec![CheckpointRecord { fence, checkpoint }];
            self.commit(durability, Record::Checkpointed { at: self.at(), checkpoints });
            return;
        }
        let result = match decision.approved {
            true => AttemptResult::Succeeded { output: output(decision, &task.whole_spec().input) },
            false => AttemptResult::Failed { error: TaskError::new(DENIED, words), retryable: false },
        };
        let outcome = Outcome { result, log_tail: words.to_owned(), ran_ms: 0, used: Default::default() };
        self.complete_all(peer, vec![Completion { fence, token, outcome, checkpoint: None }]);
    }
}

impl TaskView {
    /// Whether it is a call of a tool that waits for an approval, or has its answer.
    pub fn is_held_call(&self) -> bool {
        self.kind == TaskKind::Approval && self.workflow.is_none() && self.labels.contains_key(HELD_CALL)
    }
}

/// Nobody submits a held call: its owner is whom the node knows, who made the call.
pub(super) fn check_labels(labels: &BTreeMap<String, String>, at: &str) -> Result<(), Refusal> {
    if !labels.contains_key(HELD_CALL) {
        return Ok(());
    }
    let problem = "calls that wait have this label, and nothing that is submitted";
    Err(Refusal::invalid(&format!("{at}/labels/{HELD_CALL}"), problem, "leave it out"))
}

/// The same of tasks.
pub(super) fn check_labels_of(items: &[SubmitItem]) -> Result<(), Refusal> {
    items.iter().enumerate().try_for_each(|(n, item)| check_labels(&item.spec.labels, &format!("/tasks/{n}")))
}

/// What was decided before, in words, if the same was.
fn may_be_decided(task: &Task, decision: &Decision) -> Result<Option<String>, Refusal> {
    let id = task.id;
    if !task.is_approval() {
        let why = format!("is a task of kind {}, which nobody approves", task.spec.kind);
        return Err(Refusal::WrongState { id, why });
    }
    match task.standing() {
        Standing::Open => Ok(None),
        Standing::Decided { approved, words } if approved == decision.approved => Ok(Some(words)),
        Standing::Decided { words, .. } => Err(Refusal::WrongState { id, why: format!("was {words}; that stays so") }),
        Standing::Over => Err(Refusal::AlreadyTerminal { id, state: task.state }),
        Standing::NotYet => {
            Err(Refusal::WrongState { id, why: format!("is {} and asks for no decision yet", task.state) })
        }
    }
}

/// What steps that need the approval read.
fn output(decision: &Decision, input: &Payload) -> Payload {
    let Decision { by, comment, .. } = decision;
    let input: Value = match input {
        Payload::Inline(text) => text.to_value(),
        Payload::Blob(blob) => json!(blob),
    };
    let whole = JsonText::of(&json!({"approved": true, "by": by, "comment": comment, "input": input}));
    if Payload::fits_inline(&whole) {
        return Payload::Inline(whole);
    }
    let left_out = "the input leaves no room beside itself; read it where it came from";
    Payload::Inline(JsonText::of(&json!({"approved": true, "by": by, "comment": comment, "left_out": left_out})))
}
