//! The scheduler: what must be known before the ledger can grant. It resolves the references of a workflow's steps,
//! and keeps the ledger told of who may run what, across restarts of the ledger.

mod binding;

use std::collections::BTreeMap;
use std::sync::Arc;

use magpie_core::ids::PeerId;
use magpie_core::matching::Capabilities;
use magpie_core::queue;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use self::binding::InBlobs;
use super::Addresses;
use super::peers::Peers;
use crate::messages::ledger::LedgerMsg;
use crate::messages::registry::RegistryMsg;
use crate::messages::scheduler::SchedulerMsg;
use crate::store::blobs::Blobs;

pub struct SchedulerActor;

#[derive(Clone)]
pub struct SchedulerArguments {
    pub blobs: Blobs,
    pub peers: Peers,
    pub addresses: Addresses,
}

pub struct SchedulerState {
    members: BTreeMap<PeerId, (Arc<Capabilities>, bool)>,
    arguments: SchedulerArguments,
}

impl Actor for SchedulerActor {
    type Msg = SchedulerMsg;
    type State = SchedulerState;
    type Arguments = SchedulerArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let _ = arguments.addresses.registry.cast(RegistryMsg::SchedulerStarted);
        Ok(SchedulerState { members: BTreeMap::new(), arguments })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SchedulerMsg::Bind { id, spec, steps } => {
                state.bind(move |blobs| {
                    let bound = queue::bind(id.part, &spec, &steps, &InBlobs(blobs));
                    LedgerMsg::Bound { id, bound }
                });
            }
            SchedulerMsg::Member { peer, capabilities, alive } => {
                state.members.insert(peer, (capabilities.clone(), alive));
                state.tell(LedgerMsg::WorkerSeen { worker: peer, capabilities, alive });
            }
            SchedulerMsg::MemberForgotten { peer } => {
                state.members.remove(&peer);
                state.tell(LedgerMsg::WorkerForgotten { worker: peer });
            }
            SchedulerMsg::RegistryStarted => {
                let members = state.members.keys().copied().collect();
                let _ = state.arguments.addresses.registry.cast(RegistryMsg::Members(members));
            }
            SchedulerMsg::LedgerStarted => {
                for (peer, (capabilities, alive)) in &state.members {
                    let (worker, capabilities, alive) = (*peer, capabilities.clone(), *alive);
                    state.tell(LedgerMsg::WorkerSeen { worker, capabilities, alive });
                }
            }
        }
        Ok(())
    }
}

impl SchedulerState {
    fn tell(&self, message: LedgerMsg) {
        if let Err(error) = self.arguments.addresses.ledger.cast(message) {
            tracing::debug!(%error, "the ledger will be told when it starts");
        }
    }

    /// Resolves off the mailbox: outputs may be megabytes, on the disk.
    fn bind(&self, work: impl FnOnce(&Blobs) -> LedgerMsg + Send + 'static) {
        let (blobs, ledger) = (self.arguments.blobs.clone(), self.arguments.addresses.ledger.clone());
        self.arguments.peers.errand(async move {
            match tokio::task::spawn_blocking(move || work(&blobs)).await {
                Ok(message) => {
                    let _ = ledger.cast(message);
                }
                Err(error) => tracing::error!(%error, "resolving a step panicked"),
            }
        });
    }
}
