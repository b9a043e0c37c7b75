//! To the scheduler actor: what must be known before a step can be granted.

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::dag::WorkflowSpec;
use magpie_core::ids::PeerId;
use magpie_core::matching::Capabilities;
use magpie_core::queue::{BindingId, StepOutputs};

pub enum SchedulerMsg {
    /// Fill in the templates of a part of a workflow and hand the ledger what they became.
    Bind {
        id: BindingId,
        spec: Arc<WorkflowSpec>,
        steps: BTreeMap<String, StepOutputs>,
    },
    /// A member's capabilities or liveness, as the registry sees it.
    Member {
        peer: PeerId,
        capabilities: Arc<Capabilities>,
        alive: bool,
    },
    MemberForgotten {
        peer: PeerId,
    },
    /// The ledger started anew: it knows no member.
    LedgerStarted,
    /// It does not know yet whom this scheduler holds for a member.
    RegistryStarted,
}
