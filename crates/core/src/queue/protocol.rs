//! What a home is asked and what it answers: the same words from an actor's mailbox, a peer, a socket, the simulator.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::approvals::{ApprovalReply, ApprovalRequest};
use super::contexts::{ContextRequest, ContextView};
pub use super::counts::{NamespaceCounts, TaskCounts};
use super::dead_letters::{DeadFilter, DeadLetter, DeadLetterView};
use super::last_known::LastKnown;
use super::outside::{OutsideReply, OutsideRequest};
use super::paused::PausedView;
use super::pending::{PendingView, UnmetAt};
use super::record::SubmitItem;
use super::rehearsal::Rehearsal;
use super::schedules::{ScheduleReply, ScheduleRequest};
use super::stats::QueueStats;
use super::usage::{UsageRequest, UsageView};
use super::views::TaskFilter;
use crate::clock::Position;
use crate::dag::{Graph, GraphError, GraphView, SpecError, WorkflowSpec};
use crate::ids::{Epoch, LedgerId, LedgerTag, LogIndex, OperationId, PeerId, ScheduleId, TaskId, WorkflowId};
use crate::lease::{CompleteAnswer, Completion, CreditOffer, Fence, Grant, Release, RenewAnswer, Renewal, Slots};
use crate::limiter::{PermitAnswer, PermitAsk};
use crate::payload::{JsonText, Payload};
use crate::progress::Progress;
use crate::task::{Durability, Priority, TaskError, TaskKind, TaskState, Used, is_default};
use crate::time::Wall;

/// To a home's ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerRequest {
    Submit {
        operation: OperationId,
        items: Vec<SubmitItem>,
    },
    SubmitWorkflow {
        operation: OperationId,
        spec: Arc<WorkflowSpec>,
    },
    GetTask {
        id: TaskId,
    },
    /// Answers when the task is terminal, at the latest after `timeout_ms` with what it is then.
    WaitTask {
        id: TaskId,
        timeout_ms: u64,
    },
    /// Answers when an attempt of a later epoch than `after` has begun, or the task is terminal; at the latest after
    /// `timeout_ms` with what it is then.
    WaitAttempt {
        id: TaskId,
        after: Epoch,
        timeout_ms: u64,
    },
    ListTasks {
        filter: TaskFilter,
        cursor: Option<TaskId>,
        limit: usize,
    },
    GetWorkflow {
        id: WorkflowId,
    },
    WaitWorkflow {
        id: WorkflowId,
        timeout_ms: u64,
    },
    ListWorkflows {
        state: Option<WorkflowState>,
        /// Only those of it; a home of an earlier version lists all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        cursor: Option<WorkflowId>,
        limit: usize,
    },
    /// Runs a failed or cancelled workflow again from where it failed.
    RetryWorkflow {
        operation: OperationId,
        id: WorkflowId,
    },
    /// Cancels a task or a workflow.
    Cancel {
        operation: OperationId,
        id: TaskId,
        reason: String,
    },
    SetPriority {
        operation: OperationId,
        id: TaskId,
        priority: Priority,
    },
    WhyPending {
        id: TaskId,
    },
    /// Runs ended tasks of one home again, each as a new task; of one that was retried before, that task is the answer.
    RetryTasks {
        operation: OperationId,
        ids: Vec<TaskId>,
    },
    /// Dead tasks that were not retried, the oldest first.
    ListDead {
        filter: DeadFilter,
        cursor: Option<TaskId>,
        limit: usize,
    },
    /// All there is of a dead task: its specification, its errors, the end of its log.
    ShowDead {
        id: TaskId,
    },
    /// Removes dead tasks of one home for good.
    PurgeDead {
        operation: OperationId,
        ids: Vec<TaskId>,
    },
    /// Holds back what is not granted yet, of a namespace or of the whole queue.
    PauseQueue {
        operation: OperationId,
        namespace: Option<String>,
        /// The queue's version that the caller saw.
        version: u64,
        reason: String,
    },
    ResumeQueue {
        operation: OperationId,
        namespace: Option<String>,
        version: u64,
    },
    /// Cancels what has not started and was accepted up to a place in the log.
    ClearQueue {
        operation: OperationId,
        namespace: Option<String>,
        up_to: LogIndex,
    },
    Schedule(ScheduleRequest),
    /// The namespace of each of these tasks, workflows and schedules of one home.
    NamespacesOf {
        ids: Vec<TaskId>,
    },
    /// How many tasks and workflows a namespace has here.
    CountNamespace {
        namespace: String,
    },
    /// This copy of a suspended ledger goes on; what another copy did is given up.
    Claim {
        operation: OperationId,
    },
    Stats,
    Credit(CreditOffer),
    Renew(Vec<Renewal>),
    Complete(Vec<Completion>),
    Release(Vec<Release>),
    /// Another home wants permits of a limit of this one, or holds fewer.
    AskPermits(PermitAsk),
    /// The home of a limit lent more, or has others who wait.
    TakePermits(PermitAnswer),
    /// Of a worker that is no node.
    Outside(OutsideRequest),
    /// About tasks that a person decides.
    Approval(ApprovalRequest),
    Context(ContextRequest),
    Usage(UsageRequest),
    /// What would come of a request that changes something: this changes nothing. What has an answer of its own is
    /// answered with that.
    Rehearse(Box<LedgerRequest>),
}

/// From a home's ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerReply {
    /// One answer per task, in order.
    Submitted {
        answers: Vec<SubmitAnswer>,
    },
    WorkflowSubmitted {
        id: WorkflowId,
    },
    /// So many of its steps run again.
    WorkflowRetried {
        id: WorkflowId,
        steps: u32,
    },
    Task(Box<TaskView>),
    Tasks {
        items: Vec<TaskView>,
        next_cursor: Option<TaskId>,
    },
    Workflow(Box<WorkflowView>),
    Workflows {
        items: Vec<WorkflowSummary>,
        next_cursor: Option<WorkflowId>,
    },
    /// The state after the call: `cancelled`, or the terminal state that came first.
    Cancelled {
        state: TaskState,
    },
    PrioritySet {
        priority: Priority,
    },
    Pending(PendingView),
    /// One answer per task, in order: the id of the new one.
    Retried {
        answers: Vec<SubmitAnswer>,
    },
    DeadLetters {
        items: Vec<DeadLetter>,
        next_cursor: Option<TaskId>,
    },
    DeadLetter(Box<DeadLetterView>),
    /// One answer per task, in order; `None`: it is gone.
    Purged {
        answers: Vec<Option<Refusal>>,
    },
    /// The queue after a pause or a resume.
    Queue {
        version: u64,
        paused: Vec<PausedView>,
    },
    Cleared {
        tasks: u64,
        workflows: u64,
        /// What one record could not hold: clear again.
        left: u64,
    },
    Schedule(ScheduleReply),
    /// One answer per id, in order; `None`: there is nothing of it here, or not any more.
    Namespaces {
        of: Vec<Option<String>>,
    },
    NamespaceCounted(NamespaceCounts),
    /// It goes on in a moment.
    Claimed {
        ledger: LedgerId,
    },
    Stats(Box<QueueStats>),
    /// Ready tasks that the caller could run.
    Credited {
        backlog: Slots,
    },
    Renewed(Vec<RenewAnswer>),
    Completed(Vec<CompleteAnswer>),
    Released,
    Permits(Box<PermitAnswer>),
    PermitsTaken,
    Outside(Box<OutsideReply>),
    Approval(Box<ApprovalReply>),
    /// As it is after the request.
    Context(Box<ContextView>),
    /// As it is after the request.
    Usage(Box<UsageView>),
    Rehearsed(Box<Rehearsal>),
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmitAnswer {
    Accepted { id: TaskId },
    Refused(Refusal),
}

/// Why a request changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    #[error("{id} is not known at its home")]
    NotFound { id: TaskId },
    /// With a home: the ledger moved there, and whoever asks again is led to it.
    #[error("this node is not the home of {id}{}", .home.map(|home| format!(": {home} is")).unwrap_or_default())]
    NotHome { id: TaskId, home: Option<PeerId> },
    #[error("{}", home_unreachable(id, *last_seen, *known))]
    HomeUnreachable {
        id: TaskId,
        last_seen: Option<Wall>,
        /// How it stood when the caller was told last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<LastKnown>,
    },
    #[error("the home {home} cannot be reached; nothing was changed elsewhere: retry")]
    HomeAway { home: LedgerTag, last_seen: Option<Wall> },
    #[error(
        "the home of ledger {ledger} is suspended since {since}: another copy of the ledger has come to event {} of \
         generation {}, and this one has not; decide which copy goes on, and run `nodectl home claim {ledger} \
         --accept-loss` there",
        position.count,
        position.generation
    )]
    HomeSuspended { ledger: LedgerId, since: Wall, position: Position },
    #[error(
        "this node's ledger {ledger} was handed over to {home}: ask there; a submission reaches it from here, too, with \
         --home {}",
        ledger.tag()
    )]
    HomeMoved { ledger: LedgerId, home: PeerId },
    #[error("overloaded: retry after {retry_after_ms} ms ({what})")]
    Overloaded { retry_after_ms: u64, what: String },
    #[error("{}", invalid_in_words(.errors))]
    Invalid { errors: Vec<SpecError> },
    #[error("{id} is {state} and stays so")]
    AlreadyTerminal { id: TaskId, state: TaskState },
    /// What was asked is not for a task in its state.
    #[error("{id} {why}")]
    WrongState { id: TaskId, why: String },
    #[error("{id} is not kept any more: this home has removed ended tasks that came up to {before}")]
    Pruned { id: TaskId, before: Wall },
    #[error("the queue has changed: it is at version {version} now; look at it and decide again")]
    QueueChanged { version: u64 },
    #[error("the idempotency key {key:?} belongs to {id}, which has another specification")]
    IdempotencyConflict { key: String, id: TaskId },
    #[error("this needs the role {needs}, the caller has {has}")]
    Forbidden { needs: String, has: String },
    #[error("this node cannot do that: {what}")]
    Unsupported { what: String },
    #[error("this node takes no new work: {why}; submit to another node, or to this one when it is back")]
    Draining { why: String },
    #[error("the node is not ready: {what}; retry")]
    Unavailable { what: String },
}

/// Of a home that was never seen nobody can say that it has the task.
fn home_unreachable(id: &TaskId, last_seen: Option<Wall>, known: Option<LastKnown>) -> String {
    match (last_seen, known) {
        (None, None) => format!(
            "no node that was seen here is the home of {id}: look at the id; if it is right, the task is kept where its home \
             is: retry"
        ),
        (_, None) => format!("the home of {id} cannot be reached; the task is not lost: retry"),
        (_, Some(known)) => format!("the home of {id} cannot be reached; the task is not lost ({known}): retry"),
    }
}

impl Refusal {
    pub fn invalid(path: &str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Invalid { errors: vec![SpecError { path: path.to_owned(), problem: problem.into(), fix: fix.into() }] }
    }

    /// Whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::HomeUnreachable { .. }
                | Self::NotHome { home: Some(_), .. }
                | Self::HomeAway { .. }
                | Self::HomeSuspended { .. }
                | Self::Overloaded { .. }
                | Self::Unavailable { .. }
        )
    }
}

fn invalid_in_words(errors: &[SpecError]) -> String {
    let lines: Vec<String> =
        errors.iter().map(|error| format!("{}: {} ({})", error.path, error.problem, error.fix)).collect();
    lines.join("; ")
}

/// From a home to a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerNotice {
    Grants(Vec<Grant>),
    /// Give these back if they are not started.
    Recall(Vec<Fence>),
    /// These ended otherwise: kill and drop what runs for them.
    Stop(Vec<Fence>),
}

/// A task as its home shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    pub id: TaskId,
    pub kind: TaskKind,
    pub state: TaskState,
    pub priority: Priority,
    /// Attempts that started.
    pub attempts: u32,
    /// 0 before the first grant.
    pub epoch: Epoch,
    pub home: PeerId,
    pub worker: Option<PeerId>,
    pub namespace: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub durability: Durability,
    pub owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The task that this one was made for anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<TaskId>,
    /// The task that was made for this one anew, by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_by: Option<TaskId>,
    /// Of a task that is a workflow: the newest one that was started for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<WorkflowId>,
    /// The task whose running attempt submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    pub created_at: Wall,
    pub started_at: Option<Wall>,
    pub finished_at: Option<Wall>,
    /// When a delayed task becomes ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Wall>,
    pub output: Option<Payload>,
    pub error: Option<TaskError>,
    /// Of earlier attempts, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_errors: Vec<TaskError>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
    /// Of the attempt that runs, as it last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the next attempt would go on from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<JsonText>,
    /// Of a task that ended while an attempt ran, as by a cancel: when nothing of that attempt ran any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_stopped_at: Option<Wall>,
    /// By all its attempts that were measured; of a home of an earlier version nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub used: Used,
    /// For a ready task that no known node can run: what each of them lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<UnmetAt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowState {
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl WorkflowState {
    pub const ALL: [Self; 4] = [Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    pub fn is_terminal(self) -> bool {
        self != Self::Running
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowSummary {
    pub id: WorkflowId,
    pub name: String,
    /// Of a home of an earlier version empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    pub state: WorkflowState,
    /// In whose name it was submitted; of a home of an earlier version empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    pub created_at: Wall,
    pub finished_at: Option<Wall>,
    /// The task that it is the attempt of, or that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// What started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleId>,
    pub steps: usize,
    /// Tasks of all its steps so far.
    pub tasks: TaskCounts,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowView {
    pub summary: WorkflowSummary,
    pub home: PeerId,
    pub steps: Vec<StepView>,
    pub outputs: Option<JsonText>,
    /// Why it failed, or why it is going to.
    pub error: Option<TaskError>,
    pub spec: Arc<WorkflowSpec>,
    #[serde(default)]
    pub retries: u32,
    #[serde(default)]
    pub progress: WorkflowProgress,
    /// The steps that run, or are about to.
    #[serde(default)]
    pub current: Vec<String>,
    /// The steps that its time is made of, as far as it is known; before it runs, the longest path.
    #[serde(default)]
    pub critical_path: Vec<String>,
    /// What this view does not hold because it would not fit a message, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<String>,
}

impl WorkflowView {
    /// Its graph, and what a drawing shows of the steps.
    ///
    /// # Errors
    /// If the specification is no graph: a home accepts none that is not.
    pub fn drawing(&self) -> Result<(Graph, GraphView), GraphError> {
        let graph = Graph::of(&self.spec)?;
        let states = self.steps.iter().map(|step| (step.name.clone(), step.state)).collect();
        let children = self.steps.iter().filter_map(|step| Some((step.name.clone(), step.child?))).collect();
        let critical_path = self.critical_path.iter().filter_map(|name| graph.index_of(name)).collect();
        Ok((graph, GraphView { states, critical_path, children }))
    }
}

/// How many steps are over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowProgress {
    pub steps_over: usize,
    pub steps: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    pub name: String,
    pub state: TaskState,
    /// Of a step without `for_each`.
    pub task_id: Option<TaskId>,
    /// Of a step that is a workflow: the newest one that was started for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<WorkflowId>,
    pub worker: Option<PeerId>,
    /// Attempts of all its tasks.
    pub attempts: u32,
    /// Of a step without `for_each`.
    pub output: Option<Payload>,
    pub error: Option<TaskError>,
    pub tasks: TaskCounts,
    /// Succeeded tasks by the worker that ran them.
    pub workers: BTreeMap<PeerId, u64>,
    /// Sum of the execution times so far.
    pub ran_ms: u64,
    /// By its tasks, as far as it was measured.
    #[serde(default, skip_serializing_if = "is_default")]
    pub used: Used,
    /// Of a step without `for_each`, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it is skipped.
    #[serde(default)]
    pub reason: Option<String>,
    /// When it had its first task, and when it was over.
    #[serde(default)]
    pub started_at: Option<Wall>,
    #[serde(default)]
    pub finished_at: Option<Wall>,
    /// What undoes it, once that is due.
    #[serde(default)]
    pub compensation: Option<CompensationView>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompensationView {
    /// `blocked` before its turn; `skipped` if the workflow was cancelled before.
    pub state: TaskState,
    pub task_id: Option<TaskId>,
    pub attempts: u32,
    pub error: Option<TaskError>,
}
