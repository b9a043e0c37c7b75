//! Credits in, outcomes in: whose word counts for which attempt.

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::paused::check_reason;
use super::protocol::{LedgerReply, Refusal};
use super::record::{AfterAttempt, CompletionRecord, Record, ReleaseRecord};
use super::task_entry::{EpochStatus, Task};
use crate::ids::{LeaseToken, OperationId, PeerId, TaskId};
use crate::lease::{CompleteAnswer, Completion, CreditOffer, Fence, Release, RenewAnswer, Renewal, Slots};
use crate::limits;
use crate::payload::Payload;
use crate::task::{AttemptResult, Durability, Outcome, Priority, SlotPool, TaskState};
use crate::time::Wall;

/// How a presented (epoch, token) stands to the recorded one.
enum Presented {
    Unknown,
    /// Not the recorded one, higher epochs included.
    Fenced(RenewAnswer),
    Current,
}

impl Ledger {
    pub(super) fn credit(&mut self, worker: PeerId, offer: CreditOffer, reply: ReplyTo) {
        let now_ms = self.now.mono_ms;
        if self.workers.entries.entry(worker).or_default().take_offer(now_ms, offer) {
            self.hasten_burials(worker);
        }
        self.grants_due = true;
        let waiting = |pool| self.ready.eligible_for(&worker, pool) as u32;
        let backlog = Slots { cpu: waiting(SlotPool::Cpu), device: waiting(SlotPool::Device) };
        self.reply(Gate::Open, reply, LedgerReply::Credited { backlog });
    }

    fn presented(&self, fence: Fence, token: LeaseToken) -> Presented {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::NoEpochCheck) && self.state.tasks.contains_key(&fence.task) {
            return Presented::Current;
        }
        match self.state.tasks.get(&fence.task) {
            None => Presented::Unknown,
            Some(task)
                if task.epoch != fence.epoch
                    || task.token != token
                    || matches!(task.epoch_status, EpochStatus::Released | EpochStatus::None) =>
            {
                Presented::Fenced(RenewAnswer::Fenced { current: task.epoch })
            }
            Some(_) => Presented::Current,
        }
    }

    pub(super) fn renew(&mut self, renewals: &[Renewal], reply: ReplyTo) {
        let (gate, answers) = self.renew_all(renewals);
        self.reply(gate, reply, LedgerReply::Renewed(answers));
    }

    /// Takes renewals; the answers wait for the gate.
    pub(super) fn renew_all(&mut self, renewals: &[Renewal]) -> (Gate, Vec<RenewAnswer>) {
        let (mut started, mut revived) = (Vec::new(), Vec::new());
        let answers: Vec<RenewAnswer> =
            renewals.iter().map(|renewal| self.renew_one(renewal, &mut started, &mut revived)).collect();
        let at = self.at();
        self.commit_by_class(revived, |fence| fence.task, |fences| Record::Revived { at, fences });
        self.commit_by_class(started, |fence| fence.task, |fences| Record::Started { at, fences });
        self.hear_news(renewals, &answers);
        let mut gate = Gate::Open;
        for (renewal, answer) in renewals.iter().zip(&answers) {
            let Some(task) = self.state.tasks.get(&renewal.fence.task) else { continue };
            let (durability, index) = (task.durability(), task.index);
            if matches!(answer, RenewAnswer::Renewed { .. }) {
                self.extend_lease(renewal.fence);
                // What a worker is told it holds, this home must still know after a crash.
                gate = latest(gate, self.early_gate(durability, index));
            } else {
                gate = latest(gate, self.late_gate(durability, index));
            }
        }
        (gate, answers)
    }

    fn renew_one(&mut self, renewal: &Renewal, started: &mut Vec<Fence>, revived: &mut Vec<Fence>) -> RenewAnswer {
        match self.presented(renewal.fence, renewal.token) {
            Presented::Unknown => return RenewAnswer::Unknown,
            Presented::Fenced(answer) => {
                self.fenced_total += 1;
                return answer;
            }
            Presented::Current => {}
        }
        let task = &self.state.tasks[&renewal.fence.task];
        if task.state.is_terminal() || renewal.stopped || task.is_out_of_time(self.now.mono_ms) {
            return RenewAnswer::Terminal { state: task.state };
        }
        match task.epoch_status {
            EpochStatus::Expired => revived.push(renewal.fence),
            EpochStatus::Live => {}
            EpochStatus::Reported { .. } | EpochStatus::Released | EpochStatus::None => {
                return RenewAnswer::Terminal { state: task.state };
            }
        }
        if renewal.started && !task.epoch_started {
            started.push(renewal.fence);
        }
        RenewAnswer::Renewed { ttl_ms: task.lease_ttl_ms(self.now.mono_ms) }
    }

    pub(super) fn extend_lease(&mut self, fence: Fence) {
        #[cfg(feature = "canary")]
        if crate::canary::has(crate::canary::Bug::DoubleGrant) {
            return;
        }
        let now_ms = self.now.mono_ms;
        let Some(task) = self.state.tasks.get_mut(&fence.task) else { return };
        if task.has_live_lease() && task.epoch == fence.epoch {
            self.leases.remove(&(task.soft.expires_ms, task.id));
            task.soft.expires_ms = now_ms + task.lease_ttl_ms(now_ms);
            self.leases.insert((task.soft.expires_ms, task.id));
        }
    }

    pub(super) fn complete(&mut self, worker: PeerId, completions: Vec<Completion>, reply: ReplyTo) {
        let (gate, answers) = self.complete_all(worker, completions);
        self.reply(gate, reply, LedgerReply::Completed(answers));
    }

    /// Takes outcomes; the answers wait for the gate.
    pub(super) fn complete_all(&mut self, worker: PeerId, completions: Vec<Completion>) -> (Gate, Vec<CompleteAnswer>) {
        let at = self.at();
        let mut results = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        let (mut answers, mut ended) = (Vec::with_capacity(completions.len()), Vec::new());
        let tasks: Vec<TaskId> = completions.iter().map(|completion| completion.fence.task).collect();
        for completion in completions {
            // Two outcomes of one fence in one message: the first is recorded here, the second is judged against it.
            if !seen.insert(completion.fence) {
                self.record_results(at, std::mem::take(&mut results));
            }
            let (fence, used) = (completion.fence, completion.outcome.used);
            let answer = self.judge(worker, completion, at, &mut results);
            ended.extend(matches!(answer, CompleteAnswer::Terminal { .. }).then_some((fence, used)));
            answers.push(answer);
            // A step that failed ends its workflow, and with it tasks whose outcomes may follow in this message.
            if results.last().is_some_and(|result| self.fails_a_step(result)) {
                self.record_results(at, std::mem::take(&mut results));
            }
        }
        self.record_results(at, results);
        self.attempts_stopped(ended);
        let gates = tasks.iter().filter_map(|id| self.state.tasks.get(id));
        let gate = gates.fold(Gate::Open, |gate, task| latest(gate, self.late_gate(task.durability(), task.index)));
        (gate, answers)
    }

    fn fails_a_step(&self, result: &CompletionRecord) -> bool {
        let in_step = self.state.tasks.get(&result.fence.task).is_some_and(|task| task.kin.step.is_some());
        in_step && matches!(result.next, AfterAttempt::Failed | AfterAttempt::Dead)
    }

    fn record_results(&mut self, at: Wall, results: Vec<CompletionRecord>) {
        self.commit_by_class(results, |result| result.fence.task, |results| Record::Completed { at, results });
    }

    fn judge(
        &mut self,
        worker: PeerId,
        completion: Completion,
        at: Wall,
        results: &mut Vec<CompletionRecord>,
    ) -> CompleteAnswer {
        match self.presented(completion.fence, completion.token) {
            Presented::Unknown => return CompleteAnswer::Unknown,
            Presented::Fenced(_) => {
                self.fenced_total += 1;
                return CompleteAnswer::Fenced { current: self.state.tasks[&completion.fence.task].epoch };
            }
            Presented::Current => {}
        }
        let task = &self.state.tasks[&completion.fence.task];
        if let EpochStatus::Reported { digest, answer } = task.epoch_status {
            return if digest == completion.digest() { answer } else { CompleteAnswer::Conflict };
        }
        if task.state.is_terminal() {
            return CompleteAnswer::Terminal { state: task.state };
        }
        let next = after_attempt(task, &completion.outcome, at, self.identity.secret);
        self.ready.ran(task.soft.queue, completion.outcome.ran_ms.saturating_mul(1_000));
        let answer = match next {
            AfterAttempt::Retry { .. } => CompleteAnswer::Recorded { state: TaskState::Delayed },
            AfterAttempt::Succeeded | AfterAttempt::Failed | AfterAttempt::Dead => CompleteAnswer::Committed,
        };
        let Completion { fence, outcome, checkpoint, .. } = completion;
        // An attempt that succeeded leaves nothing to go on from.
        let checkpoint = checkpoint.filter(|text| next != AfterAttempt::Succeeded && Payload::fits_inline(text));
        results.push(CompletionRecord { fence, worker, outcome, next, checkpoint });
        answer
    }

    pub(super) fn release(&mut self, worker: PeerId, releases: Vec<Release>, reply: ReplyTo) {
        let at = self.at();
        let now_ms = self.now.mono_ms;
        let mut accepted = Vec::new();
        for Release { fence, token, reason } in releases {
            let current = matches!(self.presented(fence, token), Presented::Current);
            let rate_back_us = self.state.tasks.get(&fence.task).and_then(|task| self.rate_given_back_us(task));
            let Some(task) = self.state.tasks.get_mut(&fence.task).filter(|_| current) else { continue };
            if task.has_live_lease() && !task.epoch_started {
                let step = task.soft.skip.get(&worker).map_or(limits::RELEASE_SKIP_FIRST_MS, |(_, next)| *next);
                let next = (step * 2).min(limits::RELEASE_SKIP_MAX_MS);
                task.soft.skip.insert(worker, (now_ms + step, next));
                accepted.push(ReleaseRecord { fence, reason, rate_back_us });
            }
        }
        self.commit_by_class(accepted, |release| release.fence.task, |releases| Record::Released { at, releases });
        self.reply(Gate::Open, reply, LedgerReply::Released);
    }

    /// One record for each durability class in `items`.
    pub(super) fn commit_by_class<T>(
        &mut self,
        items: Vec<T>,
        task: impl Fn(&T) -> TaskId,
        record: impl Fn(Vec<T>) -> Record,
    ) {
        let mut classes: [(Durability, Vec<T>); 3] =
            [Durability::Memory, Durability::Async, Durability::Sync].map(|durability| (durability, Vec::new()));
        for item in items {
            let durability = self.state.tasks.get(&task(&item)).map_or(Durability::Sync, Task::durability);
            classes[durability as usize].1.push(item);
        }
        for (durability, items) in classes {
            if !items.is_empty() {
                self.commit(durability, record(items));
            }
        }
    }

    pub(super) fn cancel(&mut self, operation: OperationId, id: TaskId, reason: String, reply: ReplyTo) {
        // What was cancelled may run again since, as a workflow that was retried does.
        if self.operations.find(&operation) == Some(Done::Cancelled { target: id }) {
            let state = TaskState::Cancelled;
            return self.reply(self.gate_of_all(), reply, LedgerReply::Cancelled { state });
        }
        let (state, durability) = match (self.state.tasks.get(&id), self.state.workflows.get(&id)) {
            (Some(task), _) => (task.state.is_terminal().then_some(task.state), task.durability()),
            (None, Some(run)) => (run.state.is_terminal().then_some(run_state(run.state)), run.spec.durability),
            (None, None) => return self.refuse_missing(reply, id),
        };
        if state.is_none() {
            if let Err(refusal) = check_reason(&reason) {
                return self.refuse(reply, refusal);
            }
            let at = self.at();
            let record = Record::Cancelled { at, operation, target: id, reason };
            self.operations.remember(&record);
            self.commit(durability, record);
        }
        let index = self.state.tasks.get(&id).map_or_else(|| self.state.workflows[&id].index, |task| task.index);
        let state = state.unwrap_or(TaskState::Cancelled);
        self.reply(self.late_gate(durability, index), reply, LedgerReply::Cancelled { state });
    }

    pub(super) fn set_priority(&mut self, operation: OperationId, id: TaskId, priority: Priority, reply: ReplyTo) {
        let Some(task) = self.state.tasks.get(&id) else {
            return self.refuse_missing(reply, id);
        };
        let durability = task.durability();
        let replayed = self.operations.find(&operation) == Some(Done::PrioritySet { task: id });
        let mut index = task.index;
        if !replayed {
            if task.state.is_terminal() {
                let refusal = Refusal::AlreadyTerminal { id, state: task.state };
                return self.reply(self.late_gate(durability, index), reply, LedgerReply::Refused(refusal));
            }
            let record = Record::PrioritySet { at: self.at(), operation, task: id, priority };
            self.operations.remember(&record);
            // The key is fixed at insert: out of the heap and in again is the general form of decrease-key.
            self.leave_heap(id);
            index = self.commit(durability, record);
        }
        self.reply(self.late_gate(durability, index), reply, LedgerReply::PrioritySet { priority });
    }
}

pub(super) fn run_state(state: super::protocol::WorkflowState) -> TaskState {
    match state {
        super::protocol::WorkflowState::Running => TaskState::Running,
        super::protocol::WorkflowState::Succeeded => TaskState::Succeeded,
        super::protocol::WorkflowState::Failed => TaskState::Failed,
        super::protocol::WorkflowState::Cancelled => TaskState::Cancelled,
    }
}

fn after_attempt(task: &Task, outcome: &Outcome, at: Wall, secret: [u8; 32]) -> AfterAttempt {
    let AttemptResult::Failed { error, retryable } = &outcome.result else { return AfterAttempt::Succeeded };
    if !task.spec.retry.retries(error, *retryable) {
        return AfterAttempt::Failed;
    }
    let attempts = task.attempts + u32::from(!task.epoch_started);
    #[cfg(feature = "canary")]
    let attempts = if crate::canary::has(crate::canary::Bug::RetryUnbounded) { 0 } else { attempts };
    if attempts >= task.spec.retry.max_attempts {
        return AfterAttempt::Dead;
    }
    let entropy = super::grant::derive_bytes(secret, task.fence());
    let entropy = u64::from_be_bytes([
        entropy[16],
        entropy[17],
        entropy[18],
        entropy[19],
        entropy[20],
        entropy[21],
        entropy[22],
        entropy[23],
    ]);
    let delay_ms = task.spec.retry.delay(attempts, entropy).0;
    AfterAttempt::Retry { due: Wall(at.0 + delay_ms), delay_ms }
}

/// The stricter of two gates.
pub(super) fn latest(a: Gate, b: Gate) -> Gate {
    match (a, b) {
        (Gate::Open, other) | (other, Gate::Open) => other,
        (Gate::Synced(a), Gate::Synced(b)) => Gate::Synced(a.max(b)),
        (Gate::Written(a), Gate::Written(b)) => Gate::Written(a.max(b)),
        (Gate::Synced(a), Gate::Written(b)) | (Gate::Written(b), Gate::Synced(a)) => Gate::Synced(a.max(b)),
    }
}
