//! The documents that scripts rely on: field names here are stable, fields may be added.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::clock_alarm::ClockAlarm;
use magpie_core::ids::{Epoch, Generation, LedgerId, LogIndex, PeerId, ScheduleId, TaskId, WorkflowId};
use magpie_core::matching::Capabilities;
use magpie_core::payload::{JsonText, Payload};
use magpie_core::progress::Progress;
use magpie_core::queue::{
    Disk, PausedView, QueueStats, ShapeBacklog, StepView, Suspension, TaskCounts, TaskView, UnmetAt, WorkflowProgress,
    WorkflowState, WorkflowView,
};
use magpie_core::task::{Durability, Priority, TaskError, TaskKind, TaskState, Used};
use magpie_core::time::Wall;
use magpie_core::worker::WorkerStats;
use serde::Serialize;

use crate::messages::device::DeviceView;
use crate::messages::node::NodeStatus;
use crate::messages::registry::PeerView;

/// Of a submission.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct IdDocument {
    pub id: TaskId,
}

/// Of `task get`, `task wait`, `task ls`.
#[derive(Debug, Serialize)]
pub struct TaskDocument<'a> {
    id: TaskId,
    kind: TaskKind,
    state: TaskState,
    priority: Priority,
    attempts: u32,
    epoch: Epoch,
    home: PeerId,
    worker: Option<PeerId>,
    retry_of: Option<TaskId>,
    retried_by: Option<TaskId>,
    created_at: Wall,
    started_at: Option<Wall>,
    finished_at: Option<Wall>,
    due_at: Option<Wall>,
    output: &'a Option<Payload>,
    error: &'a Option<TaskError>,
    earlier_errors: &'a [TaskError],
    log_tail: &'a str,
    /// What the attempt that runs says of itself.
    progress: &'a Option<Progress>,
    /// What the next attempt would go on from.
    checkpoint: &'a Option<JsonText>,
    /// When the attempt was gone that ran while the task ended otherwise.
    attempt_stopped_at: Option<Wall>,
    /// By all its attempts that were measured.
    used: Used,
    unmet: &'a [UnmetAt],
    workflow: Option<WorkflowId>,
    step: Option<&'a str>,
    /// Of a task that is a workflow: the newest one that was started for it.
    child: Option<WorkflowId>,
    /// The task whose running attempt submitted it.
    parent: Option<TaskId>,
    namespace: &'a str,
    labels: &'a BTreeMap<String, String>,
    durability: Durability,
    owner: &'a str,
}

impl<'a> TaskDocument<'a> {
    pub fn of(view: &'a TaskView) -> Self {
        Self {
            id: view.id,
            kind: view.kind,
            state: view.state,
            priority: view.priority,
            attempts: view.attempts,
            epoch: view.epoch,
            home: view.home,
            worker: view.worker,
            retry_of: view.retry_of,
            retried_by: view.retried_by,
            created_at: view.created_at,
            started_at: view.started_at,
            finished_at: view.finished_at,
            due_at: view.due_at,
            output: &view.output,
            error: &view.error,
            earlier_errors: &view.earlier_errors,
            log_tail: &view.log_tail,
            progress: &view.progress,
            checkpoint: &view.checkpoint,
            attempt_stopped_at: view.attempt_stopped_at,
            used: view.used,
            unmet: &view.unmet,
            workflow: view.workflow,
            step: view.step.as_deref(),
            child: view.child,
            parent: view.parent,
            namespace: &view.namespace,
            labels: &view.labels,
            durability: view.durability,
            owner: &view.owner,
        }
    }
}

/// Of `run --wait`, `workflow get`.
#[derive(Debug, Serialize)]
pub struct WorkflowDocument<'a> {
    id: WorkflowId,
    state: WorkflowState,
    name: &'a str,
    home: PeerId,
    created_at: Wall,
    finished_at: Option<Wall>,
    /// The task that it is the attempt of, or that submitted it.
    parent: Option<TaskId>,
    /// What started it.
    schedule: Option<ScheduleId>,
    error: &'a Option<TaskError>,
    tasks: TaskCounts,
    steps: &'a [StepView],
    outputs: JsonText,
    retries: u32,
    progress: WorkflowProgress,
    current: &'a [String],
    critical_path: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<&'a str>,
}

impl<'a> WorkflowDocument<'a> {
    pub fn of(view: &'a WorkflowView) -> Self {
        let summary = &view.summary;
        Self {
            id: summary.id,
            state: summary.state,
            name: &summary.name,
            home: view.home,
            created_at: summary.created_at,
            finished_at: summary.finished_at,
            parent: summary.parent,
            schedule: summary.schedule,
            error: &view.error,
            tasks: summary.tasks,
            steps: &view.steps,
            outputs: outputs(view),
            retries: view.retries,
            progress: view.progress,
            current: &view.current,
            critical_path: &view.critical_path,
            left_out: view.left_out.as_deref(),
        }
    }
}

/// The outputs of a workflow that succeeded; an empty object until then.
pub fn outputs(view: &WorkflowView) -> JsonText {
    view.outputs.clone().unwrap_or_else(|| JsonText::of(&serde_json::json!({})))
}

/// Of `peer ls`, and in `status`.
#[derive(Debug, Serialize)]
pub struct PeerDocument<'a> {
    pub peer_id: PeerId,
    pub state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub banned_for_ms: Option<u64>,
    pub rtt_ms: Option<f64>,
    /// Tasks that it could start now, those on devices aside.
    pub slots_free: u32,
    pub device_slots_free: u32,
    pub capabilities: Option<&'a Arc<Capabilities>>,
    pub connected: bool,
    /// Whether a relay lies between.
    pub relayed: bool,
    pub ledger: Option<LedgerId>,
    pub version: Option<&'a str>,
    pub addresses: &'a [String],
    pub last_heard_ms_ago: Option<u64>,
}

impl<'a> PeerDocument<'a> {
    pub fn of(view: &'a PeerView) -> Self {
        Self {
            peer_id: view.peer_id,
            state: &view.state,
            banned_for_ms: view.banned_for_ms,
            rtt_ms: view.rtt_ms,
            slots_free: view.slots_free.cpu,
            device_slots_free: view.slots_free.device,
            capabilities: view.capabilities.as_ref(),
            connected: view.connected,
            relayed: view.relayed,
            ledger: view.ledger,
            version: view.version.as_deref(),
            addresses: &view.addresses,
            last_heard_ms_ago: view.last_heard_ms_ago,
        }
    }
}

/// Tasks of this home by state since its ledger was created, and what else `status` says of them.
#[derive(Debug, Serialize)]
pub struct QueueDocument {
    #[serde(flatten)]
    counts: TaskCounts,
    submitted: u64,
    lost: u64,
    workflows_running: u64,
    schedules: u64,
}

impl QueueDocument {
    pub fn of(stats: &QueueStats) -> Self {
        Self {
            counts: stats.counts,
            submitted: stats.submitted,
            lost: stats.lost,
            workflows_running: stats.workflows_running,
            schedules: stats.schedules,
        }
    }
}

/// Of `queue stats`: all that a home counts.
#[derive(Debug, Serialize)]
pub struct QueueStatsDocument<'a> {
    #[serde(flatten)]
    queue: QueueDocument,
    fenced_total: u64,
    expired_total: u64,
    released_total: u64,
    retried_total: u64,
    ledger: LedgerId,
    generation: Generation,
    log_index: LogIndex,
    synced_index: LogIndex,
    pruned: TaskCounts,
    kept_bytes: u64,
    kept_bytes_max: u64,
    queue_version: u64,
    paused: &'a [PausedView],
    ready_by_shape: &'a [ShapeBacklog],
    commits_by_worker: &'a BTreeMap<PeerId, u64>,
    invariant_violations: u64,
}

impl<'a> QueueStatsDocument<'a> {
    pub fn of(stats: &'a QueueStats) -> Self {
        Self {
            queue: QueueDocument::of(stats),
            fenced_total: stats.fenced_total,
            expired_total: stats.expired_total,
            released_total: stats.released_total,
            retried_total: stats.retried_total,
            ledger: stats.ledger,
            generation: stats.generation,
            log_index: stats.log_index,
            synced_index: stats.synced_index,
            pruned: stats.pruned,
            kept_bytes: stats.kept_bytes,
            kept_bytes_max: stats.kept_bytes_max,
            queue_version: stats.queue_version,
            paused: &stats.paused,
            ready_by_shape: &stats.ready_by_shape,
            commits_by_worker: &stats.commits_by_worker,
            invariant_violations: stats.invariant_violations,
        }
    }
}

/// Of `status`.
#[derive(Debug, Serialize)]
pub struct StatusDocument<'a> {
    peer_id: PeerId,
    version: &'a str,
    /// Where this node serves HTTP.
    http: Option<&'a str>,
    listen: &'a [String],
    peers: Vec<PeerDocument<'a>>,
    queue: QueueDocument,
    fenced_total: u64,
    devices: &'a [DeviceView],
    worker: &'a WorkerStats,
    ledger: LedgerId,
    uptime_ms: u64,
    /// The wall clock jumped, and what ends by wall time waits.
    clock_alarm: Option<ClockAlarm>,
    /// Whether the home's disk takes records and new work; if not, why.
    disk: &'a Disk,
    /// Since when the home stands still, and for which head of its ledger that another copy has written.
    suspended: Option<Suspension>,
    notices: &'a [String],
}

impl<'a> StatusDocument<'a> {
    pub fn of(status: &'a NodeStatus) -> Self {
        Self {
            peer_id: status.peer_id,
            version: &status.version,
            http: status.http.as_deref(),
            listen: &status.listen,
            peers: status.peers.iter().map(PeerDocument::of).collect(),
            queue: QueueDocument::of(&status.queue),
            fenced_total: status.queue.fenced_total,
            devices: &status.devices,
            worker: &status.worker,
            ledger: status.ledger,
            uptime_ms: status.uptime_ms,
            clock_alarm: status.queue.clock_alarm,
            disk: &status.queue.disk,
            suspended: status.queue.suspended,
            notices: &status.notices,
        }
    }
}

/// A listing that has no pages.
#[derive(Debug, Serialize)]
pub struct Items<T> {
    pub items: Vec<T>,
}
