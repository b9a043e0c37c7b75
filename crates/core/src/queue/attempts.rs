//! What a home hears of attempts while they run and after they were told to end: progress, checkpoints, their real end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::record::{CheckpointRecord, Record};
use super::state::State;
use super::task_entry::Task;
use super::usage::Spent;
use crate::ids::{LogIndex, TaskId};
use crate::lease::{Fence, RenewAnswer, Renewal};
use crate::payload::JsonText;
use crate::progress::Progress;
use crate::task::Used;
use crate::time::Wall;

/// What attempts of a task left for those who look, and for the next attempt. Few tasks have any.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct AttemptNotes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<JsonText>,
    /// When the attempt that ran while the task ended was gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Wall>,
    /// The worker that has the newest attempt, if it is no node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside: Option<Arc<str>>,
    /// Of the newest attempt; dies with the process.
    #[serde(skip)]
    pub progress: Option<Progress>,
}

impl Task {
    pub fn checkpoint(&self) -> Option<&JsonText> {
        self.notes.as_ref()?.checkpoint.as_ref()
    }

    /// Of the attempt that runs.
    pub fn progress(&self) -> Option<&Progress> {
        self.notes.as_ref().filter(|_| self.has_live_lease())?.progress.as_ref()
    }

    pub fn keep_checkpoint(&mut self, checkpoint: JsonText) {
        self.notes.get_or_insert_default().checkpoint = Some(checkpoint);
    }
}

impl State {
    pub(super) fn start_attempts(&mut self, index: LogIndex, at: Wall, fences: &[Fence]) {
        self.each(index, fences.iter().map(|fence| fence.task), |task| task.start(at));
    }

    pub(super) fn keep_checkpoints(&mut self, index: LogIndex, at: Wall, records: &[CheckpointRecord]) {
        for CheckpointRecord { fence, checkpoint } in records {
            self.change(index, at, fence.task, |task| {
                if task.epoch == fence.epoch {
                    task.keep_checkpoint(checkpoint.clone());
                }
            });
        }
    }

    /// The tasks have ended before, so nothing of them changes but what is known of their last attempts.
    pub(super) fn note_stops(&mut self, index: LogIndex, at: Wall, fences: &[Fence], used: &[(TaskId, Used)]) {
        for fence in fences {
            if let Some(task) = self.tasks.get_mut(&fence.task).filter(|task| task.epoch == fence.epoch) {
                task.notes.get_or_insert_default().stopped.get_or_insert(at);
                let used = used.iter().find(|(id, _)| *id == fence.task).map(|(_, used)| *used).unwrap_or_default();
                task.add_used(used);
                self.usage.add(&task.owner, at, Spent::time(used));
                task.index = task.index.max(index);
                self.changes.touched.push(fence.task);
            }
        }
    }
}

impl Ledger {
    /// Takes what renewals say of their attempts. A fence that is not the recorded one says nothing here.
    pub(super) fn hear_news(&mut self, renewals: &[Renewal], answers: &[RenewAnswer]) {
        let (mut checkpoints, mut stopped) = (Vec::new(), Vec::new());
        let refused = self.disk.refuses();
        for (renewal, answer) in renewals.iter().zip(answers) {
            let fence = renewal.fence;
            match answer {
                RenewAnswer::Renewed { .. } => {
                    let Some(news) = renewal.news.as_deref().filter(|news| news.check().is_ok()) else { continue };
                    let Some(task) = self.state.tasks.get_mut(&fence.task) else { continue };
                    if let Some(progress) = &news.progress {
                        task.notes.get_or_insert_default().progress = Some(progress.clone());
                    }
                    // One whose answer was lost comes again; in place of one that the disk would not take comes the
                    // next, or the outcome's.
                    let new = news
                        .checkpoint
                        .as_ref()
                        .filter(|checkpoint| !refused && task.checkpoint() != Some(*checkpoint));
                    checkpoints
                        .extend(new.map(|checkpoint| CheckpointRecord { fence, checkpoint: checkpoint.clone() }));
                }
                RenewAnswer::Terminal { .. } if renewal.stopped => stopped.push((fence, renewal.used)),
                RenewAnswer::Terminal { .. } | RenewAnswer::Fenced { .. } | RenewAnswer::Unknown => {}
            }
        }
        let at = self.at();
        let task = |record: &CheckpointRecord| record.fence.task;
        self.commit_by_class(checkpoints, task, |checkpoints| Record::Checkpointed { at, checkpoints });
        self.attempts_stopped(stopped);
    }

    /// Attempts of tasks that ended otherwise are gone: said once each.
    pub(super) fn attempts_stopped(&mut self, stopped: Vec<(Fence, Used)>) {
        let unknown = |(fence, _): &(Fence, Used)| {
            let task = self.state.tasks.get(&fence.task).filter(|task| task.epoch == fence.epoch);
            task.is_some_and(|task| {
                task.state.is_terminal() && task.notes.as_ref().is_none_or(|notes| notes.stopped.is_none())
            })
        };
        let stopped: Vec<(Fence, Used)> = stopped.into_iter().filter(unknown).collect();
        let at = self.at();
        let record = |stopped: Vec<(Fence, Used)>| {
            let measured = stopped.iter().filter(|(_, used)| !used.is_nothing());
            let used = measured.map(|(fence, used)| (fence.task, *used)).collect();
            Record::AttemptsStopped { at, fences: stopped.into_iter().map(|(fence, _)| fence).collect(), used }
        };
        self.commit_by_class(stopped, |(fence, _)| fence.task, record);
    }
}
