//! What a home writes down of its schedules. The times are in the records: a replay asks no calendar.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::ClockRoot;
use crate::dag::WorkflowSpec;
use crate::ids::{OperationId, ScheduleId};
use crate::time::Wall;

/// One entry of a ledger's log that is about a schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleRecord {
    /// A workflow with a `schedule` was submitted. Its id follows from `at` and `operation`.
    Made {
        at: Wall,
        operation: OperationId,
        owner: Arc<str>,
        clock_root: ClockRoot,
        spec: Arc<WorkflowSpec>,
        next: Option<Wall>,
    },
    /// The time `fire` came, or that of a run that waited.
    Fired {
        at: Wall,
        schedule: ScheduleId,
        fire: Wall,
        outcome: FireOutcome,
        next: Option<Wall>,
    },
    /// Times passed while the home was away, the newest at `through`.
    Missed {
        at: Wall,
        schedule: ScheduleId,
        times: u64,
        through: Wall,
        next: Option<Wall>,
    },
    Changed {
        at: Wall,
        operation: OperationId,
        schedule: ScheduleId,
        change: ScheduleChange,
        next: Option<Wall>,
    },
    /// Somebody asked for a run out of turn. Its id follows from `at` and `operation`.
    RunAsked {
        at: Wall,
        operation: OperationId,
        schedule: ScheduleId,
    },
}

/// What a time of a schedule led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FireOutcome {
    Started,
    /// The runs that were not over were cancelled first.
    Replaced,
    /// It waits for the earlier run.
    Queued,
    /// The one that waited started.
    Dequeued,
    Skipped(SkipReason),
}

/// Why a time passed without a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// An earlier run was not over.
    Overlap,
    /// The home had no room for more tasks or workflows.
    Overloaded,
}

/// What a person changes in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleChange {
    Pause,
    /// From the next time on.
    Resume,
    /// Its runs go on.
    Remove,
}

impl ScheduleRecord {
    /// The name of the variant, for the chain of events.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Made { .. } => "schedule_made",
            Self::Fired { .. } => "schedule_fired",
            Self::Missed { .. } => "schedule_missed",
            Self::Changed { .. } => "schedule_changed",
            Self::RunAsked { .. } => "schedule_run_asked",
        }
    }

    /// When the home decided it.
    pub fn at(&self) -> Wall {
        match self {
            Self::Made { at, .. }
            | Self::Fired { at, .. }
            | Self::Missed { at, .. }
            | Self::Changed { at, .. }
            | Self::RunAsked { at, .. } => *at,
        }
    }
}
