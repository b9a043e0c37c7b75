//! A home: it accepts tasks, leases them, and commits each one's only result.
//!
//! [`Ledger::handle`] takes an event and the time; records to append and effects to perform come out. Every effect
//! waits inside until the records it rests on are as durable as its task's class demands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::approvals::OpenApprovals;
use super::approvals::check_labels_of;
use super::compaction::Compaction;
use super::disk::Disk;
use super::effects::{BindingId, Caller, Effect, Event, Gate, NewEntry, Outbox, ReplyTo, Watermark};
use super::fairness::Fairness;
use super::limit_keys::Limits;
use super::namespaces::Namespaces;
use super::operations::Operations;
use super::outside::OutsideReply;
use super::pace::Pace;
use super::permits::Permits;
use super::protocol::{LedgerReply, LedgerRequest, Refusal, WorkerNotice, WorkflowState};
use super::ready::ReadySet;
use super::record::{ClockRoot, Record};
use super::retention::Retention;
use super::room::Loads;
use super::settings::QueueSettings;
use super::state::{Change, State};
use super::stats::SettledStats;
use super::suspension::Comparing;
use super::waiters::Waiters;
use super::workers::Workers;
use crate::clock::chain::Chain;
use crate::clock_alarm::ClockWatch;
use crate::ids::{ContentId, Generation, LedgerId, LogIndex, PeerId, TaskId, WorkflowId};
use crate::invariant::{InvariantId, check};
use crate::limits;
use crate::task::{Durability, TaskSpec, TaskState};
use crate::time::{Now, Wall};
use crate::wire;

/// Who a ledger is.
#[derive(Debug, Clone)]
pub struct LedgerIdentity {
    pub ledger: LedgerId,
    /// The node that serves it.
    pub home: PeerId,
    /// Random bytes of this process that lease tokens are made from.
    pub secret: [u8; 32],
}

#[derive(Clone)]
pub struct Ledger {
    pub(super) identity: LedgerIdentity,
    pub(super) settings: QueueSettings,
    pub(super) fairness: Fairness,
    pub(super) limits: Limits,
    pub(super) permits: Permits,
    pub(super) loads: Loads,
    pub(super) namespaces: Namespaces,
    pub(super) now: Now,
    pub(super) state: State,
    pub(super) ready: ReadySet,
    pub(super) workers: Workers,
    pub(super) outbox: Outbox,
    pub(super) chain: Chain,
    pub(super) entries: Vec<NewEntry>,
    pub(super) next: LogIndex,
    /// Grants of this generation: the low half of epochs.
    pub(super) grants: u32,
    /// Live leases by the home's end of them.
    pub(super) leases: BTreeSet<(u64, TaskId)>,
    /// Tasks that a person decides, and that have not ended.
    pub(super) approvals: OpenApprovals,
    /// Tasks whose back-off ends then, on the monotonic clock.
    pub(super) delayed: BTreeSet<(u64, TaskId)>,
    /// Tasks with a `not_before`.
    pub(super) delayed_until: BTreeSet<(Wall, TaskId)>,
    pub(super) deadlines: BTreeSet<(Wall, TaskId)>,
    /// Dead tasks that were not retried.
    pub(super) dead: BTreeSet<TaskId>,
    pub(super) retention: Retention,
    pub(super) pace: Pace,
    pub(super) workflow_pace: Pace,
    pub(super) waiters: Waiters,
    pub(super) operations: Operations,
    pub(super) clock_root: ClockRoot,
    /// Why no new work is taken.
    pub(super) draining: Option<String>,
    /// The task that was accepted last.
    pub(super) checked: Option<Arc<TaskSpec>>,
    pub(super) disk: Disk,
    pub(super) settled_stats: SettledStats,
    pub(super) clock_watch: ClockWatch,
    pub(super) marker: Option<Marker>,
    pub(super) markers: u64,
    /// Ready tasks whose workflows are to be started.
    pub(super) children_due: BTreeSet<TaskId>,
    /// When the next tick is wanted.
    pub(super) tick_due_ms: u64,
    pub(super) fenced_total: u64,
    /// Bindings under way, with when they were asked for.
    pub(super) binding: BTreeMap<BindingId, u64>,
    /// What is to be bound, until this event is over.
    pub(super) wanted: VecDeque<BindingId>,
    pub(super) unpublished: VecDeque<(LogIndex, ContentId)>,
    /// Whether a task, a credit or a member came since the last round of grants.
    pub(super) grants_due: bool,
    /// When a task that waits for its preferred peer goes to anyone.
    pub(super) preference_due_ms: Option<u64>,
    /// The last written tally: of `memory` tasks, and of what was fenced.
    pub(super) tallied: (u64, u64, u64),
    pub(super) tallied_ms: u64,
    /// When expired idempotency keys were last looked for.
    pub(super) keys_forgotten_ms: u64,
    pub(super) compaction: Compaction,
    pub(super) comparing: Option<Comparing>,
}

/// A marker on its way: leases that ended before `cutoff_ms` expire when it comes out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marker {
    pub id: u64,
    pub cutoff_ms: u64,
    pub placed_ms: u64,
}

impl Ledger {
    pub fn id(&self) -> LedgerId {
        self.identity.ledger
    }

    pub fn generation(&self) -> Generation {
        self.state.generation
    }

    /// Takes one event. Records and effects wait in [`Self::take_entries`] and [`Self::take_effects`].
    pub fn handle(&mut self, now: Now, event: Event) {
        self.now = now;
        if self.acts() {
            self.act(event);
        } else {
            self.stand_by(event);
        }
        if self.acts() {
            self.follow_up();
        }
        check(InvariantId::I9, self.state.conservation_holds(), "submitted is not the sum over the states");
        self.check_bounds();
    }

    pub(super) fn act(&mut self, event: Event) {
        match event {
            Event::Request { caller, request, reply } => self.request(&caller, request, reply),
            Event::WorkerSeen { worker, capabilities, alive } => self.worker_seen(worker, capabilities, alive),
            Event::WorkerForgotten { worker } => {
                self.workers.entries.remove(&worker);
                self.ready.member_changed(worker, None);
            }
            Event::Draining { why } => self.draining = Some(why),
            Event::ClockRoot(root) => self.clock_root = root,
            Event::PeerClocks(clocks) => self.clock_watch.peers(clocks),
            Event::PeerCompared { peer } => self.peer_compared(peer),
            Event::HeadSeen { position, event, recorded } => self.head_seen(position, event, recorded),
            Event::TermSeen(term) => self.term_seen(term),
            Event::HandOver(handover) => self.hand_over(handover),
            Event::Bound { id, bound } => self.bound(id, bound),
            Event::MarkerOut { marker } => self.marker_out(marker),
            Event::PermitsAnswered { home, ask, answer } => self.permits_answered(home, &ask, answer),
            Event::Durable(watermark) => self.durable(watermark),
            Event::Disk(disk) => self.disk_changed(disk),
            Event::Tick => self.tick(),
        }
    }

    /// What an event leads to.
    fn follow_up(&mut self) {
        self.bind_wanted();
        // A workflow that starts in a step has steps to bind, and those may be workflows again.
        for _ in 0..limits::WORKFLOW_DEPTH_MAX {
            if self.children_due.is_empty() {
                break;
            }
            self.start_children();
            self.bind_wanted();
        }
        if self.grants_due {
            self.pump();
        }
        self.settle_permits();
        // A limit that opened just now is not left for the next event.
        if self.grants_due {
            self.pump();
        }
        self.hasten_tick();
    }

    pub(super) fn request(&mut self, caller: &Caller, request: LedgerRequest, reply: ReplyTo) {
        if let Err(refusal) = self.check_disk(&request) {
            return self.refuse(reply, refusal);
        }
        match request {
            LedgerRequest::Submit { operation, items } => match check_labels_of(&items) {
                Ok(()) => self.submit(caller, operation, items, reply),
                Err(refusal) => self.refuse(reply, refusal),
            },
            LedgerRequest::SubmitWorkflow { operation, spec } => self.submit_workflow(caller, operation, spec, reply),
            LedgerRequest::RetryWorkflow { operation, id } => self.retry_workflow(operation, id, reply),
            LedgerRequest::GetTask { id } => self.get_task(id, reply),
            LedgerRequest::WaitTask { id, timeout_ms } => self.wait_task(id, timeout_ms, reply),
            LedgerRequest::WaitAttempt { id, after, timeout_ms } => self.wait_attempt(id, after, timeout_ms, reply),
            LedgerRequest::ListTasks { filter, cursor, limit } => self.list_tasks(&filter, cursor, limit, reply),
            LedgerRequest::GetWorkflow { id } => self.get_workflow(id, reply),
            LedgerRequest::WaitWorkflow { id, timeout_ms } => self.wait_workflow(id, timeout_ms, reply),
            LedgerRequest::ListWorkflows { state, namespace, cursor, limit } => {
                self.list_workflows((state, namespace.as_deref()), cursor, limit, reply);
            }
            LedgerRequest::NamespacesOf { ids } => self.namespaces_of(&ids, reply),
            LedgerRequest::CountNamespace { namespace } => self.count_namespace(&namespace, reply),
            LedgerRequest::Cancel { operation, id, reason } => self.cancel(operation, id, reason, reply),
            LedgerRequest::SetPriority { operation, id, priority } => self.set_priority(operation, id, priority, reply),
            LedgerRequest::WhyPending { id } => self.why_pending(id, reply),
            LedgerRequest::RetryTasks { operation, ids } => self.retry_tasks(operation, &ids, reply),
            LedgerRequest::ListDead { filter, cursor, limit } => self.list_dead(&filter, cursor, limit, reply),
            LedgerRequest::ShowDead { id } => self.show_dead(id, reply),
            LedgerRequest::PurgeDead { operation, ids } => self.purge_dead(operation, &ids, reply),
            LedgerRequest::PauseQueue { operation, namespace, version, reason } => {
                let record = |at| Record::QueuePaused { at, operation, namespace: namespace.clone(), reason };
                self.set_queue(operation, namespace.as_deref(), version, record, reply);
            }
            LedgerRequest::ResumeQueue { operation, namespace, version } => {
                let record = |at| Record::QueueResumed { at, operation, namespace: namespace.clone() };
                self.set_queue(operation, namespace.as_deref(), version, record, reply);
            }
            LedgerRequest::ClearQueue { operation, namespace, up_to } => {
                self.clear_queue(operation, namespace, up_to, reply);
            }
            LedgerRequest::Schedule(request) => self.schedule_request(request, reply),
            LedgerRequest::Claim { operation } => self.claim(operation, reply),
            LedgerRequest::Stats => self.stats(reply),
            LedgerRequest::Credit(offer) => self.credit(caller.peer, offer, reply),
            LedgerRequest::Renew(renewals) => self.renew(&renewals, reply),
            LedgerRequest::Complete(completions) => self.complete(caller.peer, completions, reply),
            LedgerRequest::Release(releases) => self.release(caller.peer, releases, reply),
            LedgerRequest::Outside(request) => self.outside_request(caller, request, reply),
            LedgerRequest::Approval(request) => self.approval_request(caller, request, reply),
            LedgerRequest::Context(request) => self.context_request(request, reply),
            LedgerRequest::Usage(request) => self.usage_request(request, reply),
            LedgerRequest::Rehearse(request) => self.rehearse(&request, reply),
            LedgerRequest::AskPermits(ask) => self.answer_permit_ask(&ask, reply),
            LedgerRequest::TakePermits(answer) => {
                self.take_permits(&answer);
                self.reply(Gate::Open, reply, LedgerReply::PermitsTaken);
            }
        }
    }

    /// I13: what a home keeps for others stays within its limits.
    fn check_bounds(&self) {
        let bounded = [
            (self.operations.len(), limits::OPERATIONS_MAX, "too many operations are remembered"),
            (self.waiters.len(), limits::WAITERS_MAX, "too many callers wait"),
            (self.workers.entries.len(), limits::PEERS_MAX + 1, "too many members are kept"),
            (self.workers.outside.len(), limits::OUTSIDE_WORKERS_MAX, "too many workers that are no nodes are kept"),
            (self.state.workflows_running as usize, limits::WORKFLOWS_LIVE_MAX, "too many workflows run"),
            (self.state.contexts.len(), limits::CONTEXTS_MAX, "too many contexts are kept"),
            (self.state.usage.len(), limits::USAGE_LEN_MAX, "too many sums of use are kept"),
        ];
        for (len, len_max, what) in bounded {
            check(InvariantId::I13, len <= len_max, what);
        }
    }

    /// Records to append, in order.
    pub fn take_entries(&mut self) -> Vec<NewEntry> {
        std::mem::take(&mut self.entries)
    }

    /// Effects to perform now, in order; those that wait for the log come later.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        self.outbox.take()
    }

    /// Whether grants wait for the log: they leave later than they were decided.
    pub fn holds_grants(&self) -> bool {
        self.outbox.holds(|effect| match effect {
            Effect::Notify { notice: WorkerNotice::Grants(_), .. } => true,
            Effect::Reply { reply: LedgerReply::Outside(reply), .. } => matches!(**reply, OutsideReply::Taken(Some(_))),
            _ => false,
        })
    }

    /// The wall time of a record: never before the last one's, whatever the clock does.
    pub(super) fn at(&self) -> Wall {
        Wall(self.now.wall_ms.max(self.state.last_at.0 + 1))
    }

    /// Decides a record: written in its class, applied, and all that is derived follows. Returns its place.
    pub(super) fn commit(&mut self, durability: Durability, record: Record) -> LogIndex {
        let index = match durability {
            Durability::Memory => LogIndex(0),
            Durability::Async | Durability::Sync => self.append(durability, &record),
        };
        self.state.apply(index, &record);
        self.compaction.note(&self.state);
        self.react();
        index
    }

    fn append(&mut self, durability: Durability, record: &Record) -> LogIndex {
        let body = wire::encode_record(record).expect("a record has only string keys and plain values");
        let event = self.chain.append(record.at(), record.kind(), &body);
        let index = self.next;
        self.next = index.next();
        self.compaction.measure(index, record, body.len());
        self.entries.push(NewEntry { index, durability, body, event });
        self.unpublished.push_back((index, event));
        index
    }

    /// What a submission or a grant of this class waits for.
    pub(super) fn early_gate(&self, durability: Durability, index: LogIndex) -> Gate {
        match durability {
            Durability::Memory => Gate::Open,
            Durability::Async => Gate::Written(index),
            Durability::Sync => Gate::Synced(index),
        }
    }

    /// What a commit or a read of this class waits for.
    pub(super) fn late_gate(&self, durability: Durability, index: LogIndex) -> Gate {
        match durability {
            Durability::Memory => Gate::Open,
            Durability::Async | Durability::Sync => Gate::Synced(index),
        }
    }

    pub(super) fn reply(&mut self, gate: Gate, to: ReplyTo, reply: LedgerReply) {
        match self.instead_of(gate) {
            None => self.outbox.push(gate, Effect::Reply { to, reply }),
            // It rests on no record, not even on that of this generation.
            Some(refusal) => self.outbox.ready.push(Effect::Reply { to, reply: LedgerReply::Refused(refusal) }),
        }
    }

    pub(super) fn refuse(&mut self, to: ReplyTo, refusal: Refusal) {
        self.reply(Gate::Open, to, LedgerReply::Refused(refusal));
    }

    fn durable(&mut self, watermark: Watermark) {
        if watermark.written > self.outbox.watermark.written {
            self.disk_took();
        }
        self.outbox.advance(watermark);
        self.settle_stats();
        if self.acts() {
            self.publish_head();
        }
    }

    /// Of what is synced, and was not published yet.
    pub(super) fn publish_head(&mut self) {
        let mut head = None;
        while self.unpublished.front().is_some_and(|(index, _)| *index <= self.outbox.synced()) {
            head = self.unpublished.pop_front();
        }
        if let Some((count, event)) = head {
            self.outbox.push(Gate::Synced(count), Effect::PublishHead { count, event });
        }
    }

    /// Rebuilds all that is derived, after a start.
    pub(super) fn derive_all(&mut self) {
        let tasks: Vec<Change> = self.state.order.iter().map(|task| Change { task: *task, from: None }).collect();
        self.state.changes.tasks = tasks;
        for id in self.state.workflows.keys().copied().collect::<Vec<_>>() {
            self.keep_workflow(id);
        }
        self.hold_what_is_paused();
        let bindings = self.state.workflows.values().flat_map(|run| {
            let id = |part| BindingId { workflow: run.id, retries: run.retries, part };
            run.wanted().into_iter().map(id)
        });
        self.state.changes.bindings = bindings.collect();
        self.react();
    }

    /// Brings heaps, timers, waiters and workers in line with what the last record moved.
    fn react(&mut self) {
        let changes = std::mem::take(&mut self.state.changes);
        for task in &changes.removed {
            self.dead.remove(&task.id);
            self.retention.removed(task);
            self.namespaces.removed(task);
        }
        for change in &changes.tasks {
            self.react_to_task(*change);
        }
        for workflow in changes.workflows {
            self.keep_workflow(workflow);
            self.waiters.take(workflow).into_iter().for_each(|to| self.answer_workflow(workflow, to));
        }
        self.wanted.extend(changes.bindings);
    }

    fn react_to_task(&mut self, change: Change) {
        let Some(task) = self.state.tasks.get_mut(&change.task) else { return };
        let (id, to, now_ms) = (task.id, task.state, self.now.mono_ms);
        if change.from.is_none() || to.is_terminal() {
            self.retention.weigh(task);
        }
        if to != TaskState::Ready {
            self.ready.remove(task);
        }
        self.leases.remove(&(task.soft.expires_ms, id));
        self.approvals.count(task);
        self.delayed.remove(&(task.soft.due_ms, id));
        self.delayed_until.remove(&(task.due, id));
        if change.from.is_none()
            && let Some(deadline) = task.spec.deadline
        {
            self.deadlines.insert((deadline, id));
        }
        let moved = self.limits.count(task);
        if let Some(limit) = moved.as_ref().filter(|_| !task.soft.counted) {
            self.permits.freed(limit);
        }
        self.namespaces.count(task);
        self.grants_due |= self.loads.count(task, self.ready.run_us(task.soft.queue));
        match to {
            TaskState::Ready if task.is_workflow() => {
                self.children_due.insert(id);
            }
            TaskState::Ready => {
                if change.from != Some(TaskState::Ready) {
                    task.soft.ready_since_ms = now_ms;
                }
                let place = self.ready.insert(task, self.workers.alive());
                self.grants_due = true;
                self.refresh_limits_of(place);
            }
            TaskState::Delayed => match task.wait_ms_max {
                None => {
                    self.delayed_until.insert((task.due, id));
                }
                Some(wait_ms_max) => {
                    if change.from != Some(TaskState::Delayed) {
                        let ended = task.bury_when_due && self.workers.has_ended(task, self.identity.home);
                        let soon_ms = if ended { now_ms + limits::REBORN_REPORT_MS } else { u64::MAX };
                        task.soft.due_ms = task.due_ms(self.now, wait_ms_max).min(soon_ms);
                    }
                    self.delayed.insert((task.soft.due_ms, id));
                }
            },
            TaskState::Leased | TaskState::Running if task.is_workflow() => {}
            TaskState::Leased | TaskState::Running => {
                task.note_start(now_ms, change.from);
                if change.from.is_none_or(|from| !matches!(from, TaskState::Leased | TaskState::Running)) {
                    task.soft.expires_ms = now_ms + task.lease_ttl_ms(now_ms);
                    task.soft.recalled_ms = now_ms;
                }
                self.leases.insert((task.soft.expires_ms, id));
                if to == TaskState::Running {
                    self.waiters.take_begun(id).into_iter().for_each(|to| self.answer_task(id, to));
                }
            }
            TaskState::Succeeded | TaskState::Failed | TaskState::Dead | TaskState::Cancelled | TaskState::Skipped => {
                self.task_ended(id, change.from);
            }
            TaskState::Blocked => {}
        }
        if let Some(limit) = moved {
            self.refresh_limit(&limit);
        }
    }

    fn task_ended(&mut self, id: TaskId, from: Option<TaskState>) {
        let Some(task) = self.state.tasks.get(&id) else { return };
        if let Some(deadline) = task.spec.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if task.kin.step.is_none() {
            self.retention.ended(task);
        }
        if self.is_dead_letter(task) {
            self.dead.insert(id);
        }
        // An expired epoch acts as if live: its attempt may run on, and is to end as well.
        let runs_elsewhere = from.is_some()
            && matches!(
                task.epoch_status,
                super::task_entry::EpochStatus::Live | super::task_entry::EpochStatus::Expired
            );
        let gate = self.late_gate(task.durability(), task.index);
        // One that is no node hears of it when it asks.
        if let (true, Some(worker), None) = (runs_elsewhere, task.worker, task.outside()) {
            let notice = WorkerNotice::Stop(vec![task.fence()]);
            self.outbox.push(gate, Effect::Notify { worker, notice });
        }
        for to in self.waiters.take(id) {
            self.answer_task(id, to);
        }
    }

    pub(super) fn workflow_is_running(&self, id: &WorkflowId) -> bool {
        self.state.workflows.get(id).is_some_and(|run| run.state == WorkflowState::Running)
    }

    fn worker_seen(&mut self, worker: PeerId, capabilities: Arc<crate::matching::Capabilities>, alive: bool) {
        let entry = self.workers.entries.entry(worker).or_default();
        let unchanged = entry.alive == alive && entry.capabilities.as_deref() == Some(&*capabilities);
        entry.alive = alive;
        entry.capabilities = Some(capabilities.clone());
        if !unchanged {
            self.grants_due = true;
            self.ready.member_changed(worker, alive.then_some(&*capabilities));
        }
    }
}
