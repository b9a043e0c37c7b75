//! How something of another home last stood, for when that home is away.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::protocol::WorkflowState;
use crate::task::TaskState;
use crate::time::Wall;

/// What a node last told the same caller of it. It may have changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastKnown {
    pub state: KnownState,
    pub at: Wall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KnownState {
    Task(TaskState),
    Workflow(WorkflowState),
}

impl KnownState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Task(state) => state.name(),
            Self::Workflow(state) => state.name(),
        }
    }
}

impl fmt::Display for LastKnown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "it was {} at {}", self.state.name(), self.at)
    }
}
