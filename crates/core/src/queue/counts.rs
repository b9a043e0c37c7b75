//! How many tasks there are, by state.

use serde::{Deserialize, Serialize};

use crate::task::TaskState;

/// Tasks by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    pub blocked: u64,
    pub delayed: u64,
    pub ready: u64,
    pub leased: u64,
    pub running: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub dead: u64,
    pub cancelled: u64,
    pub skipped: u64,
}

impl TaskCounts {
    pub fn total(&self) -> u64 {
        TaskState::ALL.into_iter().map(|state| self.of(state)).sum()
    }

    pub fn terminal(&self) -> u64 {
        TaskState::ALL.into_iter().filter(|state| state.is_terminal()).map(|state| self.of(state)).sum()
    }

    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        TaskState::ALL.into_iter().for_each(|state| sum.add(state, other.of(state)));
        sum
    }

    pub fn of(&self, state: TaskState) -> u64 {
        let mut counts = *self;
        *counts.slot(state)
    }

    pub fn add(&mut self, state: TaskState, n: u64) {
        *self.slot(state) += n;
    }

    /// Takes one task out.
    pub fn take(&mut self, state: TaskState) {
        *self.slot(state) -= 1;
    }

    /// Moves one task between two states.
    pub fn shift(&mut self, from: TaskState, to: TaskState) {
        *self.slot(from) -= 1;
        *self.slot(to) += 1;
    }

    fn slot(&mut self, state: TaskState) -> &mut u64 {
        match state {
            TaskState::Blocked => &mut self.blocked,
            TaskState::Delayed => &mut self.delayed,
            TaskState::Ready => &mut self.ready,
            TaskState::Leased => &mut self.leased,
            TaskState::Running => &mut self.running,
            TaskState::Succeeded => &mut self.succeeded,
            TaskState::Failed => &mut self.failed,
            TaskState::Dead => &mut self.dead,
            TaskState::Cancelled => &mut self.cancelled,
            TaskState::Skipped => &mut self.skipped,
        }
    }
}

/// What a home has of one namespace: of tasks, those that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceCounts {
    pub tasks: TaskCounts,
    pub workflows_running: u64,
}
