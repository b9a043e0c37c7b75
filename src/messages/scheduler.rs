//! To the scheduler actor: what must be known before a step can be granted.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::dag::WorkflowSpec;
use magpie_core::ids::{PeerId, WorkflowId};
use magpie_core::matching::Capabilities;
use magpie_core::queue::StepOutputs;

pub enum SchedulerMsg {
    /// Resolve a step's references and hand its tasks to the ledger.
    Bind { workflow: WorkflowId, step: u32, from: u32, spec: Arc<WorkflowSpec>, outputs: BTreeMap<String, StepOutputs> },
    BindOutputs { workflow: WorkflowId, spec: Arc<WorkflowSpec>, outputs: BTreeMap<String, StepOutputs> },
    /// A member's capabilities or liveness, as the registry sees it.
    Member { peer: PeerId, capabilities: Arc<Capabilities>, alive: bool },
    MemberForgotten { peer: PeerId },
    /// The ledger started anew: it knows no member.
    LedgerStarted,
}
