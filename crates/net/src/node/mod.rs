//! The swarm loop: a task that owns the swarm.
//!
//! It runs no handlers. Requests go out through the [`Inbox`], replies come back through futures that the loop polls.

mod admit;
mod asked;
mod dial;
mod kademlia;
mod lanes;
mod mailbox;
mod marker;
mod members;
mod reach;
mod relay;
mod rendezvous;
mod spare;
mod start;
mod tick;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, Swarm, identify, ping};
use magpie_core::ids::PeerId;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use admit::is_loopback;
pub(crate) use asked::Question;
pub(crate) use mailbox::reply_of;
pub use start::spawn;

use self::admit::Peer;
use self::dial::DialsUnderWay;
use self::kademlia::Questions;
use self::lanes::Lanes;
use self::mailbox::Mailbox;
use self::members::Members;
use self::reach::{DialBacks, RouterDesk, Told};
use self::relay::{Detours, Relays};
use self::rendezvous::Points;
use self::spare::Partings;
use self::tick::Tick;
use crate::admission::Admitter;
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::book::Book;
use crate::discovery::{self, Suggestion};
use crate::door::Doors;
use crate::event::NetEvent;
use crate::handle::{Command, Shared};
use crate::identity;
use crate::inbox::Inbox;
use crate::limits;
use crate::peer_rules::PeerRules;
use crate::reach::Whereabouts;
use crate::share::Shares;

pub(crate) struct Node {
    local: PeerId,
    swarm: Swarm<Behaviour>,
    doors: Doors,
    shares: Shares,
    admitter: Admitter,
    /// Everyone connected, admitted or not.
    peers: HashMap<PeerId, Peer>,
    book: Book,
    dials: DialsUnderWay,
    mailbox: Mailbox,
    lanes: Lanes,
    members: Members,
    points: Points,
    relays: Relays,
    detours: Detours,
    partings: Partings,
    whereabouts: Whereabouts,
    told: Told,
    router: Option<RouterDesk>,
    dial_backs: DialBacks,
    questions: Questions,
    markers: FuturesOrdered<marker::Settling>,
    inbox: Inbox,
    shared: Arc<Shared>,
    cache: Cache,
    rules: PeerRules,
    /// Wakes the methods of discovery that look again and again.
    look_again: Arc<Notify>,
    started: Instant,
    tick: Tick,
    /// When it is looked next who, and what, may not stay any longer.
    expiry_due_ms: u64,
}

/// Where the peer cache is, and what was last written there.
struct Cache {
    path: Option<PathBuf>,
    written: String,
    due_ms: u64,
    /// Each says whether it wrote.
    writing: JoinSet<bool>,
}

/// Whether an event is one of those that come again and again as long as there are members. What is found by them stirs by itself.
fn is_routine(event: &SwarmEvent<BehaviourEvent>) -> bool {
    use BehaviourEvent::{Identify, IdentifyAfar, Kademlia, Mailbox, Members, Ping, Point, Rendezvous, RendezvousAfar};
    let SwarmEvent::Behaviour(event) = event else { return false };
    let works = matches!(event, Mailbox(_) | Members(_) | Ping(_) | Identify(_) | IdentifyAfar(_));
    works || matches!(event, Rendezvous(_) | RendezvousAfar(_) | Point(_) | Kademlia(_))
}

impl Node {
    /// Runs until it is told to stop, or until nobody can tell it anything any more.
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut suggestions: mpsc::Receiver<Suggestion>) {
        loop {
            let takes_commands = self.has_room_for_markers();
            tokio::select! {
                event = self.swarm.select_next_some(), if !self.inbox.is_clogged() => self.on_swarm_event(event),
                command = commands.recv(), if takes_commands => match command {
                    None | Some(Command::Stop) => break,
                    Some(command) => self.on_command(command),
                },
                Some((channel, response)) = self.mailbox.next_answer() => self.respond(channel, response),
                Some(ended) = self.dial_backs.next_ended() => self.on_dialled_back(ended),
                Some(granted) = RouterDesk::next_granted(&mut self.router) => self.on_granted(granted),
                Some(ended) = self.lanes.next_ended() => self.on_lane_ended(ended),
                Some(suggestion) = suggestions.recv() => self.on_suggestion(suggestion),
                Some(id) = self.markers.next() => self.on_marker_settled(id),
                () = self.inbox.drain_one(), if self.inbox.is_waiting() => {}
                () = self.shared.watch.next_fall() => self.send_away_the_banned(),
                late_ms = self.tick.due() => self.on_tick(late_ms),
            }
        }
        Box::pin(self.stop()).await;
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn on_command(&mut self, command: Command) {
        let is_routine = matches!(
            command,
            Command::Request(_) | Command::Marker { .. } | Command::Question(Question::Contacts { .. })
        );
        if !is_routine {
            self.tick.stir();
        }
        match command {
            Command::Request(request) => self.send_request(request),
            Command::Question(question) => self.on_question(question),
            Command::Reconnect { peer } => self.reconnect(peer),
            Command::AdmitBy { rules } => self.admit_by(*rules),
            Command::Marker { id } => self.place_marker(id),
            Command::Stop => {}
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        if !is_routine(&event) {
            self.tick.stir();
        }
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.on_disconnected(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_failed(connection_id, &error);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                self.update_listening();
                self.inbox.tell(NetEvent::Listening { address: self.with_local_peer(address) });
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.update_listening(),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                self.update_listening();
                self.on_listener_closed(listener_id, reason.err());
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "a listener reports an error"),
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "an inbound connection came to nothing");
            }
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Admission(event) => self.on_admission_event(event),
            BehaviourEvent::Members(event) => self.on_members_event(event),
            BehaviourEvent::Reach(event) => self.on_reach_event(event),
            BehaviourEvent::Rendezvous(event) | BehaviourEvent::RendezvousAfar(event) => {
                self.on_rendezvous_event(event)
            }
            BehaviourEvent::Point(event) => tracing::debug!(?event, "as a rendezvous point"),
            BehaviourEvent::Kademlia(event) => self.on_kademlia_event(event),
            BehaviourEvent::Relay(event) => tracing::debug!(?event, "as a relay"),
            BehaviourEvent::Relayed(event) => tracing::debug!(?event, "by a relay"),
            BehaviourEvent::Dcutr(event) => self.on_punched(&event),
            BehaviourEvent::Mailbox(event) => self.on_mailbox_event(event),
            BehaviourEvent::Lanes(event) => self.on_lane_event(event),
            BehaviourEvent::Identify(event) | BehaviourEvent::IdentifyAfar(event) => {
                if let identify::Event::Received { peer_id, connection_id, info } = event {
                    self.on_identified(&peer_id, connection_id, info);
                }
            }
            BehaviourEvent::Ping(event) => self.on_ping(event),
            BehaviourEvent::Mdns(event) => {
                discovery::mdns::suggestions(event).into_iter().for_each(|suggestion| self.on_suggestion(suggestion));
            }
        }
    }

    fn on_ping(&mut self, ping::Event { peer, connection, result }: ping::Event) {
        match result {
            Ok(round_trip) => {
                let link = identity::from_libp2p(&peer).and_then(|peer| self.shared.link(peer));
                link.into_iter().for_each(|link| link.update(|info| info.round_trip = Some(round_trip)));
            }
            Err(ping::Failure::Unsupported) => tracing::debug!(%peer, "the peer answers no pings"),
            Err(error) => {
                tracing::info!(%peer, %error, "a connection does not answer and is closed");
                self.close(connection);
            }
        }
    }

    fn on_tick(&mut self, late_ms: u64) {
        let now_ms = self.now_ms();
        if self.peers.values().any(Peer::may_be_late) {
            self.tick.stir();
        }
        self.book.ticked(late_ms, now_ms);
        self.send_away_the_late();
        self.release_the_overdue();
        if self.expiry_due_ms <= now_ms {
            self.expiry_due_ms = now_ms + limits::EXPIRY_EVERY_MS;
            self.send_away_the_expired();
            self.close_the_spare();
        }
        self.dial_the_due();
        self.open_the_due_lanes();
        self.ask_the_next_member();
        self.visit_the_points();
        self.listen_at_the_relays();
        self.punch_again();
        self.look_where_it_is();
        self.ask_the_table();
        self.write_cache();
    }

    fn close(&mut self, connection: ConnectionId) {
        self.swarm.close_connection(connection);
    }

    fn update_listening(&mut self) {
        let now_ms = self.now_ms();
        self.whereabouts.listens(self.swarm.listeners().cloned(), now_ms);
        self.router.iter().for_each(|router| router.listens(self.whereabouts.listening()));
        self.tell_where_it_is();
        let addresses = self.swarm.listeners().cloned().map(|address| self.with_local_peer(address)).collect();
        self.shared.set_listening(addresses);
    }

    fn with_local_peer(&self, address: Multiaddr) -> String {
        // A place at a relay names this node already.
        let named = address.clone().with_p2p(identity::to_libp2p(self.local));
        named.unwrap_or(address).to_string()
    }

    /// Says goodbye, so that peers need not wait for a timeout to know, and returns when the ports are free again.
    async fn stop(mut self) {
        self.shared.remove_all_links();
        self.shared.set_listening(Vec::new());
        let listened: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // It fails for a peer that has gone meanwhile.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(Duration::from_millis(limits::SHUTDOWN_MS), closed).await.is_err() {
            tracing::debug!("stopped with connections that did not close in time");
        }
        self.cache.due_ms = 0;
        self.write_cache();
        self.cache.writing.join_all().await;
        drop(self.swarm);
        // A QUIC socket outlives its swarm until its connections have drained.
        if tokio::time::timeout(Duration::from_millis(limits::SHUTDOWN_MS), start::until_free(&listened)).await.is_err()
        {
            tracing::warn!(addresses = ?listened, "a port is not free yet");
        }
    }
}
