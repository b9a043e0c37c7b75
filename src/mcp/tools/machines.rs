//! The machines of the mesh and what they can do, as this node knows them.

use magpie_core::ids::PeerId;
use magpie_core::lease::Slots;
use magpie_core::matching::Capabilities;
use magpie_core::task::TaskKind;
use schemars::JsonSchema;
use serde::Serialize;

use crate::mcp::answer::ToolError;
use crate::messages::node::NodeStatus;

pub struct Machine<'a> {
    pub peer_id: PeerId,
    /// Whether it is this node's.
    pub own: bool,
    pub free: Slots,
    pub capabilities: &'a Capabilities,
}

/// Those that are alive and have said what they can do; this node's is the first.
pub fn alive(status: &NodeStatus) -> Vec<Machine<'_>> {
    let capabilities = &*status.capabilities;
    let own = Machine { peer_id: status.peer_id, own: true, free: status.worker.free, capabilities };
    let others = status.peers.iter().filter(|peer| peer.state == "alive").filter_map(|peer| {
        let capabilities = peer.capabilities.as_deref()?;
        Some(Machine { peer_id: peer.peer_id, own: false, free: peer.slots_free, capabilities })
    });
    [own].into_iter().chain(others).collect()
}

impl Machine<'_> {
    /// Whether a device of it has the model loaded.
    pub fn has_model(&self, model: &str) -> bool {
        self.capabilities.models.contains(model)
    }

    pub fn has(&self, hardware: Hardware) -> bool {
        match hardware {
            Hardware::Cpu => true,
            Hardware::Cuda => !self.capabilities.gpus.is_empty(),
        }
    }

    pub fn offers(&self, kind: TaskKind) -> bool {
        self.capabilities.kinds.contains(&kind)
    }
}

/// What a model can run on here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hardware {
    Cpu,
    Cuda,
}

impl Hardware {
    /// The hardware that a caller names.
    ///
    /// # Errors
    /// If no node of any mesh uses it.
    pub fn named(field: &str, name: &str) -> Result<Self, ToolError> {
        match name {
            "cpu" => Ok(Self::Cpu),
            "cuda" | "gpu" => Ok(Self::Cuda),
            other => {
                let problem = format!("{:?} is used by no node", other.chars().take(40).collect::<String>());
                let fix = "write cpu or cuda; detect_hardware shows what there is";
                Err(ToolError::wrong_argument(field, problem, "cpu or cuda", fix))
            }
        }
    }

    /// What a task that runs on it requires.
    pub fn requirement(self) -> Option<&'static str> {
        match self {
            Self::Cpu => None,
            Self::Cuda => Some("gpu.count >= 1"),
        }
    }
}
