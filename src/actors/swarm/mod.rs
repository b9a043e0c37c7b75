//! The swarm: the thin owner of the network's task. What comes in passes the peers' door, in the order in which it came.

pub mod door;
mod gossip;

use std::time::Duration;

use magpie_net::{NetConfig, NetEvent, NetHandle, NodeKey};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::door::{PeerDoor, Speaker};
use super::access::Access;
use super::routes::Routes;
use crate::messages::ledger::LedgerMsg;
use crate::messages::registry::RegistryMsg;
use crate::messages::swarm::SwarmMsg;

/// Events between the network and the door.
const INBOX_LEN_MAX: usize = 1_024;
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);

pub struct SwarmActor;

#[derive(Clone)]
pub struct SwarmArguments {
    pub key: NodeKey,
    /// But for who may come in.
    pub config: NetConfig,
    pub access: Access,
    pub routes: Routes,
    pub door: PeerDoor,
}

pub struct SwarmState {
    net: NetHandle,
    inbox: JoinHandle<()>,
    routes: Routes,
}

impl Actor for SwarmActor {
    type Msg = SwarmMsg;
    type State = SwarmState;
    type Arguments = SwarmArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let SwarmArguments { key, config, access, routes, door } = arguments;
        let config = NetConfig { admission: access.rules(), ..config };
        let (sender, receiver) = mpsc::channel(INBOX_LEN_MAX);
        let net = magpie_net::spawn(&key, config, sender).await?;
        routes.peers.connect(Some(net.clone()));
        for address in net.listen_addresses() {
            tracing::info!(address, "listening");
        }
        let inbox = tokio::spawn(take_in(receiver, routes.clone(), door, myself));
        Ok(SwarmState { net, inbox, routes })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SwarmMsg::PlaceMarker { marker } => {
                let net = state.net.clone();
                state.routes.peers.errand(async move {
                    let _ = net.place_marker(marker).await;
                });
                Ok(())
            }
            SwarmMsg::Ended => Err("the network ended".into()),
        }
    }

    async fn post_stop(&self, _myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.routes.peers.connect(None);
        let _ = tokio::time::timeout(SHUTDOWN_PATIENCE, state.net.shutdown()).await;
        Ok(())
    }
}

impl Drop for SwarmState {
    /// A killed actor has no `post_stop`: its network must not outlive it.
    fn drop(&mut self) {
        self.inbox.abort();
        self.routes.peers.connect(None);
    }
}

async fn take_in(mut inbox: mpsc::Receiver<NetEvent>, routes: Routes, door: PeerDoor, swarm: ActorRef<SwarmMsg>) {
    while let Some(event) = inbox.recv().await {
        match event {
            NetEvent::Request { peer, role, frame, reply } => door.enter(Speaker { peer, role }, &frame, reply),
            NetEvent::Marker(marker) => {
                let _ = routes.addresses.ledger.cast(LedgerMsg::MarkerOut { marker });
            }
            NetEvent::PeerAdmitted { peer, .. } => {
                tracing::info!(%peer, "peer admitted");
                let _ = routes.addresses.registry.cast(RegistryMsg::PeerAdmitted { peer });
            }
            NetEvent::PeerLost { peer } => {
                tracing::info!(%peer, "peer lost");
                let _ = routes.addresses.registry.cast(RegistryMsg::PeerLost { peer });
            }
            NetEvent::Listening { .. } | NetEvent::Discovered { .. } => {}
        }
    }
    let _ = swarm.cast(SwarmMsg::Ended);
}
