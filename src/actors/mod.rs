//! One folder per concern: each a supervised actor that translates between mailboxes and a core, and decides nothing.
//!
//! ```text
//! node (supervisor)
//! |- ledger      the home: accepts, grants, commits              core::queue over store::log
//! |- scheduler   resolves steps, tells the ledger who is there   core::dag
//! |- clock       signed heads under one Merkle root              core::clock
//! |- swarm       owns the network, the peers' door               crates/net
//! |- registry    members, heartbeats, capabilities               core::membership
//! |- device-cpu  one per device: batches for its process         inference
//! |- worker      credits, leases, attempts, outcomes             core::worker over executor
//! |- mount-*     one per mounted MCP server: its calls           mcp::mounted
//! |- tools       calls of this node's tools by other nodes      mcp::peer_calls
//! |- http        the HTTP listener, where one was asked for      mcp::http
//! `- control     the socket; below it one session per client
//! ```

pub mod access;
pub mod address;
mod alarm;
pub mod attempt_streams;
pub mod audit;
pub mod blobs;
pub mod cache;
pub mod clock;
pub mod clock_audit;
pub mod control;
pub mod device;
pub mod device_mailbox;
pub mod doorway;
pub mod http;
mod kept_blobs;
mod last_known;
pub mod ledger;
pub mod mount;
pub mod mounts;
pub mod peer_desk;
pub mod peers;
mod readings;
pub mod registry;
pub mod routes;
pub mod scheduler;
pub mod session;
pub mod streams;
pub mod supervisor;
pub mod swarm;
pub mod tool_desk;
pub mod tools;
mod turning_away;
pub mod worker;

use address::Address;

use crate::messages::actor::SupervisorMsg;
use crate::messages::clock::ClockMsg;
use crate::messages::http::HttpMsg;
use crate::messages::ledger::LedgerMsg;
use crate::messages::registry::RegistryMsg;
use crate::messages::scheduler::SchedulerMsg;
use crate::messages::session::ControlMsg;
use crate::messages::swarm::SwarmMsg;
use crate::messages::tool::ToolMsg;
use crate::messages::worker::WorkerMsg;

/// Where each actor of one node is reached. Names carry the node, since ractor's registry is the process's.
#[derive(Clone)]
pub struct Addresses {
    pub supervisor: Address<SupervisorMsg>,
    pub ledger: Address<LedgerMsg>,
    pub scheduler: Address<SchedulerMsg>,
    pub clock: Address<ClockMsg>,
    pub swarm: Address<SwarmMsg>,
    pub registry: Address<RegistryMsg>,
    pub worker: Address<WorkerMsg>,
    pub tools: Address<ToolMsg>,
    pub http: Address<HttpMsg>,
    pub control: Address<ControlMsg>,
}

impl Addresses {
    /// `node` tells the nodes of one process apart.
    pub fn new(node: &str) -> Self {
        let name = |actor: &str| format!("{node}/{actor}");
        Self {
            supervisor: Address::new(&name("node")),
            ledger: Address::new(&name("ledger")),
            scheduler: Address::new(&name("scheduler")),
            clock: Address::new(&name("clock")),
            swarm: Address::new(&name("swarm")),
            registry: Address::new(&name("registry")),
            worker: Address::new(&name("worker")),
            tools: Address::new(&name("tools")),
            http: Address::new(&name("http")),
            control: Address::new(&name("control")),
        }
    }
}
