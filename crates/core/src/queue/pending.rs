//! Why a task does not run.

use serde::{Deserialize, Serialize};

use super::effects::ReplyTo;
use super::ledger::Ledger;
use super::protocol::LedgerReply;
use crate::ids::{PeerId, TaskId};
use crate::matching::Shape;
use crate::task::{TaskSpec, TaskState};
use crate::time::Wall;

/// What one node lacks to run a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmetAt {
    pub peer: PeerId,
    /// Hamming distance between the bits required and offered: the least is the nearest miss.
    pub distance: u32,
    pub unmet: Vec<String>,
}

/// Why a task does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingView {
    pub id: TaskId,
    pub state: TaskState,
    /// In words.
    pub reason: String,
    /// Tasks of its shape that leave before it.
    pub ahead: usize,
    pub nodes: Vec<UnmetAt>,
}

impl Ledger {
    /// What each member lacks to run such a task, the nearest miss first.
    pub(super) fn unmet_everywhere(&self, spec: &TaskSpec) -> Vec<UnmetAt> {
        let Ok(shape) = Shape::of(spec) else { return Vec::new() };
        let mut nodes: Vec<UnmetAt> = self
            .workers
            .alive()
            .map(|(peer, capabilities)| UnmetAt {
                peer: *peer,
                distance: shape.distance(capabilities),
                unmet: shape.unmet(capabilities),
            })
            .collect();
        nodes.sort_by_key(|node| (node.distance, node.peer));
        nodes
    }

    pub(super) fn why_pending(&mut self, id: TaskId, reply: ReplyTo) {
        let Some(task) = self.state.tasks.get(&id) else { return self.refuse_missing(reply, id) };
        let nodes = if task.spec.kind.runs_at_workers() { self.unmet_everywhere(&task.spec) } else { Vec::new() };
        let able = nodes.iter().filter(|node| node.unmet.is_empty()).count();
        let held = self.state.paused.why_held(&task.spec.namespace);
        let used_up = self.used_up_in_words(task).filter(|_| task.state == TaskState::Ready && able > 0);
        let reason = match task.state {
            TaskState::Ready if task.is_workflow() => "its workflow is about to start".to_owned(),
            TaskState::Ready | TaskState::Leased | TaskState::Running if task.is_approval() => {
                task.waits_for_a_decision()
            }
            TaskState::Ready if held.is_some() => held.unwrap_or_default(),
            TaskState::Ready if nodes.is_empty() => "no node is known yet".to_owned(),
            TaskState::Ready if able == 0 => "no known node meets its requirements".to_owned(),
            TaskState::Ready => used_up.unwrap_or_else(|| format!("{able} nodes could run it; none has a free slot")),
            TaskState::Delayed if task.bury_when_due => {
                let left_ms = task.soft.due_ms.saturating_sub(self.now.mono_ms);
                format!(
                    "the lease of its last attempt has ended; its worker may still report until {}, then it is dead",
                    Wall(self.now.wall_ms + left_ms)
                )
            }
            TaskState::Delayed => format!("it waits until {}", task.due),
            TaskState::Blocked => "it waits for the steps it needs".to_owned(),
            TaskState::Leased => "it is granted and about to start".to_owned(),
            TaskState::Running => "it is running".to_owned(),
            TaskState::Succeeded | TaskState::Failed | TaskState::Dead | TaskState::Cancelled | TaskState::Skipped => {
                format!("it is {} and stays so", task.state)
            }
        };
        let ahead = task.soft.ready.map_or(0, |(place, _)| self.ready.queues[place].heap.len() - 1);
        let view = PendingView { id, state: task.state, reason, ahead, nodes };
        self.reply(self.late_gate(task.durability(), task.index), reply, LedgerReply::Pending(view));
    }
}
