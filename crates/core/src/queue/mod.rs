//! The task queue of one home: what it accepts, whom it lets run what, and the one result that each task gets.
//!
//! [`Ledger`] is a state machine: [`Ledger::handle`] takes an [`Event`] and the time; [`NewEntry`]s to append and
//! [`Effect`]s to perform come out. `State::apply` is the only way in which anything durable changes, live and in a
//! replay alike.

mod approvals;
mod asks;
mod attempts;
mod bind;
mod bindings;
mod chain_check;
mod children;
mod compaction;
mod contexts;
mod counts;
mod dead_letters;
mod deadlines;
mod disk;
mod effects;
mod event_view;
mod fairness;
mod fingerprint;
mod following;
mod grant;
mod handover;
mod heads;
mod images;
mod keys;
mod last_known;
mod ledger;
mod limit_keys;
mod namespaces;
mod operations;
mod outside;
mod ownership;
mod pace;
mod parents;
mod paused;
mod pending;
mod permits;
mod protocol;
mod pruned;
mod rare;
mod ready;
mod record;
mod rehearsal;
mod replay;
mod retention;
mod retried;
mod room;
mod schedule;
mod schedule_record;
mod schedules;
mod settings;
mod standing;
mod state;
mod stats;
mod steal;
mod submit;
mod suspension;
mod task_entry;
mod tasks;
mod templates;
#[cfg(test)]
mod tests;
mod timers;
mod usage;
mod view_size;
mod views;
mod waiters;
mod workers;
mod workflow_retry;
mod workflow_run;
mod workflow_state;
mod workflow_views;

pub use approvals::{
    ApprovalReply, ApprovalRequest, ApprovalView, Decided, Decision, HELD_CALL, HELD_CALLS_OWNER, HELD_CALLS_WORKER,
    HeldCall, approved_call,
};
pub use bind::{Values, bind};
pub use chain_check::ChainCheck;
pub use compaction::CompactionPolicy;
pub use contexts::{ContextRecord, ContextRequest, ContextUpdate, ContextView};
pub use dead_letters::{DeadFilter, DeadLetter, DeadLetterView};
pub use disk::Disk;
pub use effects::{
    BindingId, BindingPart, Bound, BoundWindow, Caller, Effect, Event, NewEntry, ReplyTo, StepOutputs, Watermark,
};
pub use event_view::{EventView, Subject};
pub use following::{Following, NextRead};
pub use handover::{HandoverRecord, Seal};
pub use images::{Carried, Totals};
pub use last_known::{KnownState, LastKnown};
pub use ledger::{Ledger, LedgerIdentity};
pub use outside::{Hold, OutsideReply, OutsideRequest, Taken};
pub use paused::PausedView;
pub use pending::{PendingView, UnmetAt};
pub use protocol::{
    CompensationView, LedgerReply, LedgerRequest, NamespaceCounts, Refusal, StepView, SubmitAnswer, TaskCounts,
    TaskView, WorkerNotice, WorkflowProgress, WorkflowState, WorkflowSummary, WorkflowView,
};
pub use record::{
    AfterAttempt, CheckpointRecord, ClockRoot, CompletionRecord, GrantRecord, Record, ReleaseRecord, RetriedTask,
    SubmitItem, Unwritten, root_bytes,
};
pub use rehearsal::{Rehearsal, RehearsedTask};
pub use replay::{LogStart, Replay, ReplayError};
pub use retention::RetentionPolicy;
pub use schedule_record::{FireOutcome, ScheduleChange, ScheduleRecord, SkipReason};
pub use schedules::{ScheduleReply, ScheduleRequest, ScheduleRunView, ScheduleView};
pub use settings::QueueSettings;
pub use stats::{QueueStats, ShapeBacklog};
pub use suspension::Suspension;
pub use usage::{HOUR_MS, HourOfUse, Spent, UsageRequest, UsageView};
pub use views::TaskFilter;
