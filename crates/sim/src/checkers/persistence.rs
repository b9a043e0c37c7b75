//! I10: persist, then send, then reply. Each effect is compared with the disk at the moment it leaves.

use magpie_core::ids::{Epoch, LogIndex, OperationId, TaskId};
use magpie_core::invariant::InvariantId;
use magpie_core::lease::{CompleteAnswer, Fence, RenewAnswer};
use magpie_core::queue::{
    Effect, LedgerReply, OutsideReply, Refusal, SubmitAnswer, Taken, TaskView, Watermark, WorkerNotice, WorkflowView,
};
use magpie_core::task::{Durability, TaskState};

use super::{Verdict, require};
use crate::book::{Book, TaskFacts};
use crate::node::Rests;

/// A home's log and how much of it is on the disk.
pub struct Evidence<'a> {
    pub book: &'a Book,
    pub disk: Watermark,
}

impl Evidence<'_> {
    pub fn invariant_the_generation_is_durable_before_its_first_use(&self, effect: &Effect) -> Verdict {
        let (opened, synced) = (self.book.opened, self.disk.synced);
        require(InvariantId::I2, "the_generation_is_durable_before_its_first_use", opened <= synced, || {
            format!("{effect:?} leaves, record {opened} opens the generation, synced is {synced}")
        })
    }

    pub fn invariant_nothing_leaves_before_its_records_are_durable(&self, effect: &Effect) -> Verdict {
        match effect {
            Effect::Reply { reply, .. } => self.reply(reply),
            Effect::Notify { notice: WorkerNotice::Grants(grants), .. } => {
                grants.iter().try_for_each(|grant| self.grant(grant.fence, grant.spec.durability))
            }
            Effect::Notify { notice: WorkerNotice::Stop(fences), .. } => {
                fences.iter().try_for_each(|fence| self.end_of(fence.task, None))
            }
            Effect::PublishHead { count, .. } => self.synced(*count, "a published head"),
            Effect::Cut { before } => self.synced(self.book.checkpoint_of(*before), "a cut"),
            Effect::Notify { .. }
            | Effect::Bind { .. }
            | Effect::AskPermits { .. }
            | Effect::LendPermits { .. }
            | Effect::PlaceMarker { .. }
            | Effect::HandedOver { .. }
            | Effect::StartAnew => Ok(()),
        }
    }

    fn reply(&self, reply: &LedgerReply) -> Verdict {
        match reply {
            LedgerReply::Submitted { answers } | LedgerReply::Retried { answers } => {
                answers.iter().try_for_each(|answer| match answer {
                    SubmitAnswer::Accepted { id } => self.acknowledged(*id),
                    SubmitAnswer::Refused(_) => Ok(()),
                })
            }
            LedgerReply::WorkflowSubmitted { id } => self.acknowledged(*id),
            LedgerReply::Task(view) => self.view(view),
            LedgerReply::Tasks { items, .. } => items.iter().try_for_each(|view| self.view(view)),
            LedgerReply::Workflow(view) => self.workflow(view),
            LedgerReply::Outside(reply) => match &**reply {
                OutsideReply::Taken(Some(taken)) => self.taken(taken),
                OutsideReply::Taken(None)
                | OutsideReply::Registered { .. }
                | OutsideReply::Kept(_)
                | OutsideReply::Ended(_) => Ok(()),
            },
            LedgerReply::Stats(stats) => self.synced(stats.log_index, "counters"),
            LedgerReply::Refused(Refusal::Pruned { id, .. }) => match self.book.queue.pruned.get(id) {
                Some(index) => self.synced(*index, "that something is not kept any more"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Of the retry that was asked for: another may have followed since, and wait for the disk still.
    pub fn invariant_a_retry_is_durable_before_its_answer(&self, operation: OperationId) -> Verdict {
        self.book.operations.get(&operation).map_or(Ok(()), |index| self.synced(*index, "a retry"))
    }

    fn view(&self, view: &TaskView) -> Verdict {
        if view.state.is_terminal() {
            self.end_of(view.id, Some(view.state))?;
        }
        match self.book.tasks.get(&view.id).and_then(|facts| facts.of_epoch(view.epoch)) {
            Some(_) if view.durability == Durability::Memory => Ok(()),
            Some(epoch) => self.synced(epoch.granted, "an epoch shown"),
            None => Ok(()),
        }
    }

    fn workflow(&self, view: &WorkflowView) -> Verdict {
        let summary = &view.summary;
        let ended = self.book.workflows.get(&summary.id).and_then(|facts| facts.end_of(summary.finished_at));
        match ended.filter(|_| summary.state.is_terminal()) {
            Some(index) => self.synced(index, "the end of a workflow"),
            None => Ok(()),
        }
    }

    fn acknowledged(&self, id: TaskId) -> Verdict {
        let task = self.book.tasks.get(&id).map(|facts| (facts.submitted, facts.spec.durability));
        let workflow = self.book.workflows.get(&id).map(|facts| (facts.submitted, facts.spec.durability));
        match task.or(workflow) {
            Some((index, class)) => self.durable(index, class, "an acknowledgement"),
            // Not in the log: of class `memory`.
            None => Ok(()),
        }
    }

    fn grant(&self, fence: Fence, class: Durability) -> Verdict {
        match self.book.tasks.get(&fence.task).and_then(|facts| facts.of_epoch(fence.epoch)) {
            Some(epoch) => self.durable(epoch.granted, class, "a grant"),
            // Its record waited for the disk while the task ended and was let go.
            None if self.book.queue.pruned.contains_key(&fence.task) => Ok(()),
            None => require(InvariantId::I10, NAME, class == Durability::Memory, || {
                format!("a grant of {} in epoch {} leaves and no record says so", fence.task, fence.epoch)
            }),
        }
    }

    /// A grant to who is no node: also the record that says whose it is.
    fn taken(&self, taken: &Taken) -> Verdict {
        let class = taken.spec.durability;
        self.grant(taken.fence, class)?;
        let epoch = self.book.tasks.get(&taken.fence.task).and_then(|facts| facts.of_epoch(taken.fence.epoch));
        match epoch.and_then(|epoch| epoch.outside.as_ref()) {
            Some((_, index)) => self.durable(*index, class, "a task that is handed out"),
            None => Ok(()),
        }
    }

    /// The end of a task: by its own record, or by its workflow's end, or by the last record that names it.
    fn end_of(&self, task: TaskId, shown: Option<TaskState>) -> Verdict {
        let Some(facts) = self.book.tasks.get(&task) else { return Ok(()) };
        if let (Some(shown), Some((state, _))) = (shown, facts.end) {
            require(InvariantId::I4, "the_end_shown_is_the_recorded_one", shown == state, || {
                format!("{task} is recorded as {state} and shown as {shown}")
            })?;
        }
        self.synced(self.record_of_the_end(facts), "the end of a task")
    }

    fn record_of_the_end(&self, facts: &TaskFacts) -> LogIndex {
        let by_workflow = || self.book.workflows.get(&facts.step?.0)?.ended;
        let end = facts.end.map(|(_, index)| index).or(facts.earlier_end);
        end.or_else(by_workflow).unwrap_or(facts.touched)
    }

    /// The answer to an outcome that a worker presented.
    pub fn invariant_an_outcome_is_durable_before_its_answer(&self, fence: Fence, answer: CompleteAnswer) -> Verdict {
        let Some(facts) = self.book.tasks.get(&fence.task) else { return Ok(()) };
        match answer {
            CompleteAnswer::Committed | CompleteAnswer::Recorded { .. } | CompleteAnswer::Conflict => {
                let reported = facts.of_epoch(fence.epoch).and_then(|epoch| epoch.outcome.as_ref());
                match reported {
                    Some((index, _)) => self.synced(*index, "an outcome's answer"),
                    None => require(InvariantId::I10, NAME, false, || {
                        format!("{answer:?} for {} epoch {}, and no outcome is recorded", fence.task, fence.epoch)
                    }),
                }
            }
            CompleteAnswer::Terminal { .. } => self.end_of(fence.task, None),
            CompleteAnswer::Fenced { current } => self.fenced(fence.task, current),
            CompleteAnswer::Unknown => Ok(()),
        }
    }

    /// The answer to a renewal: what a worker is told it holds, its home still knows after a crash.
    pub fn invariant_a_lease_is_durable_before_it_is_renewed(
        &self,
        fence: Fence,
        rests: Rests,
        answer: RenewAnswer,
    ) -> Verdict {
        let Some(facts) = self.book.tasks.get(&fence.task) else { return Ok(()) };
        let epoch = facts.of_epoch(fence.epoch);
        match answer {
            RenewAnswer::Renewed { .. } => self.durable(rests.held, facts.spec.durability, "a renewal"),
            RenewAnswer::Terminal { .. } => {
                let outcome = epoch.and_then(|epoch| epoch.outcome.as_ref()).map(|(index, _)| *index);
                let over = outcome.unwrap_or_else(|| self.record_of_the_end(facts));
                // A worker that stopped, or is out of time, is told so before there is an end: what comes later is not what it was told.
                if over <= rests.tip { self.synced(over, "that an attempt is over") } else { Ok(()) }
            }
            RenewAnswer::Fenced { current } => self.fenced(fence.task, current),
            RenewAnswer::Unknown => Ok(()),
        }
    }

    fn fenced(&self, task: TaskId, current: Epoch) -> Verdict {
        let epoch = self.book.tasks.get(&task).and_then(|facts| facts.of_epoch(current));
        epoch.map_or(Ok(()), |epoch| self.synced(epoch.granted, "an answer that fences"))
    }

    fn durable(&self, index: LogIndex, class: Durability, what: &str) -> Verdict {
        match class {
            Durability::Memory => Ok(()),
            Durability::Async => require(InvariantId::I10, NAME, index <= self.disk.written, || {
                format!("{what} rests on record {index}, written is {}", self.disk.written)
            }),
            Durability::Sync => self.synced(index, what),
        }
    }

    fn synced(&self, index: LogIndex, what: &str) -> Verdict {
        require(InvariantId::I10, NAME, index <= self.disk.synced, || {
            format!("{what} rests on record {index}, synced is {}", self.disk.synced)
        })
    }
}

const NAME: &str = "nothing_leaves_before_its_records_are_durable";
