//! The plain message API: what the rest of a node sees of the network.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use magpie_core::conduct::Offence;
use magpie_core::ids::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::book::Contact;
use crate::config::{Admission, ParseAddressError, parse_address};
use crate::discovery::dns::ParseNameError;
use crate::discovery::github::GithubConfigError;
use crate::lane::{Lane, NotSent};
use crate::limits;
use crate::node::{Question, reply_of};
use crate::reach::ReachInfo;
use crate::watch::{BannedPeer, Watch};

/// A network that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error(transparent)]
    BadAddress(#[from] ParseAddressError),
    #[error(transparent)]
    BadName(#[from] ParseNameError),
    #[error("{address} names no peer, as /ip4/10.0.0.7/tcp/7400/p2p/PEER does")]
    WithoutPeer { address: String },
    #[error("{count} {what}, at most {max}")]
    TooMany { what: &'static str, count: usize, max: usize },
    #[error(transparent)]
    BadGithub(#[from] GithubConfigError),
    #[error("{count} names to look up, at most {count_max}", count_max = limits::DNS_NAMES_MAX)]
    TooManyNames { count: usize },
    #[error(
        "{address} cannot be listened on: this build speaks /ip4|ip6/.../tcp/PORT and /ip4|ip6/.../udp/PORT/quic-v1"
    )]
    UnsupportedAddress { address: String },
    #[error("{address} is taken by another process")]
    PortTaken { address: String },
    #[error("this process may not listen on {address}")]
    NotPermitted { address: String },
    #[error("cannot listen on {address}: {reason}")]
    Listen { address: String, reason: String },
    #[error("the network cannot be set up: {reason}")]
    Setup { reason: String },
}

/// A request that got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{peer} is not connected and admitted")]
    NotConnected { peer: PeerId },
    /// The peer's inbox was full: it did not look at the request.
    #[error("{peer} is busy")]
    Busy { peer: PeerId },
    /// It is not known whether the peer handled the request.
    #[error("{peer} did not answer within {timeout_ms} ms")]
    TimedOut { peer: PeerId, timeout_ms: u64 },
    /// It is not known whether the peer handled the request.
    #[error("the connection to {peer} broke before the answer")]
    Interrupted { peer: PeerId },
    /// The peer looked at the request and gave no answer.
    #[error("{peer} gave no answer")]
    Unanswered { peer: PeerId },
    #[error("a frame of {bytes} bytes is too long, at most {bytes_max}", bytes_max = limits::FRAME_BYTES_MAX)]
    TooLong { bytes: usize },
    #[error("the network of this node is stopped")]
    Stopped,
}

impl RequestError {
    /// Whether the same request may succeed later. A mutating one must carry an operation id or a fence.
    pub fn is_retryable(self) -> bool {
        !matches!(self, Self::TooLong { .. } | Self::Stopped)
    }
}

/// An admitted peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    pub peer: PeerId,
    /// Where it is connected and where else it says to be.
    pub addresses: Vec<String>,
    /// The last measured round trip.
    pub round_trip: Option<Duration>,
    /// Whether short requests to it share one stream, which is cheaper.
    pub has_lane: bool,
    /// Whether a relay lies between, on all ways to it.
    pub relayed: bool,
    /// More than one when both sides dialled, until those that are not needed are closed.
    pub connections: usize,
}

pub(crate) enum Command {
    Request(OutboundRequest),
    Question(Question),
    Reconnect { peer: PeerId },
    AdmitBy { rules: Box<Admission> },
    Marker { id: u64 },
    Stop,
}

pub(crate) struct OutboundRequest {
    pub peer: PeerId,
    pub frame: Vec<u8>,
    pub reply: oneshot::Sender<Result<Vec<u8>, RequestError>>,
    /// Held until the substream has ended, not until the caller has gone: the bound is one of substreams.
    pub permit: OwnedSemaphorePermit,
}

/// What callers share with the swarm loop about one admitted peer.
#[derive(Debug)]
pub(crate) struct Link {
    pub info: Mutex<PeerInfo>,
    pub permits: Arc<Semaphore>,
    lane: Mutex<Option<(ConnectionId, Lane)>>,
}

impl Link {
    pub fn new(peer: PeerId, addresses: Vec<String>) -> Self {
        let info = PeerInfo { peer, addresses, round_trip: None, has_lane: false, relayed: false, connections: 0 };
        Self {
            info: Mutex::new(info),
            permits: Arc::new(Semaphore::new(limits::PEER_REQUESTS_MAX)),
            lane: Mutex::new(None),
        }
    }

    pub fn set_lane(&self, connection: ConnectionId, lane: Lane) {
        *self.opened() = Some((connection, lane));
        self.update(|info| info.has_lane = true);
    }

    /// Sends nothing more on the lane of that connection.
    pub fn drop_lane(&self, connection: ConnectionId) {
        let dropped = self.opened().take_if(|(opened_on, _)| *opened_on == connection);
        if dropped.is_some() {
            self.update(|info| info.has_lane = false);
        }
    }

    pub fn has_lane(&self) -> bool {
        self.lane_on().is_some()
    }

    /// The connection that the lane is on.
    pub fn lane_on(&self) -> Option<ConnectionId> {
        self.opened().as_ref().map(|(connection, _)| *connection)
    }

    fn lane(&self) -> Option<Lane> {
        self.opened().as_ref().map(|(_, lane)| lane.clone())
    }

    fn opened(&self) -> MutexGuard<'_, Option<(ConnectionId, Lane)>> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether no request to the peer is under way on those connections, nor on a substream of its own, on whichever.
    pub fn is_idle_on(&self, connections: &[ConnectionId]) -> bool {
        let lane = self.opened().clone().filter(|(opened_on, _)| connections.contains(opened_on));
        self.permits.available_permits() == limits::PEER_REQUESTS_MAX && lane.is_none_or(|(_, lane)| lane.is_idle())
    }

    pub fn update(&self, change: impl FnOnce(&mut PeerInfo)) {
        change(&mut self.info.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What happened since the start, in numbers that only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetCounters {
    pub peers_admitted: u64,
    pub peers_lost: u64,
    /// Peers that were sent away, or left, before they were admitted.
    pub peers_refused: u64,
    /// Connections that peers made to this node, and of these the ones from beyond its machine.
    pub connections_taken: u64,
    pub connections_from_afar: u64,
    /// Requests answered with busy because the owner's inbox was full.
    pub requests_turned_away: u64,
    pub peers_banned: u64,
    /// Substreams of members that were reset because there were too many of them.
    pub streams_turned_away: u64,
}

/// What callers share with the swarm loop.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    counters: Mutex<NetCounters>,
    links: RwLock<HashMap<PeerId, Arc<Link>>>,
    listening: RwLock<Vec<String>>,
    reach: RwLock<Vec<ReachInfo>>,
    written: RwLock<Vec<String>>,
    pub watch: Watch,
}

impl Shared {
    pub fn link(&self, peer: PeerId) -> Option<Arc<Link>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }

    pub fn add_link(&self, peer: PeerId, link: Link) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).insert(peer, Arc::new(link));
    }

    pub fn remove_all_links(&self) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn remove_link(&self, peer: PeerId) {
        self.links.write().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    pub fn count(&self, change: impl FnOnce(&mut NetCounters)) {
        change(&mut self.counters.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn listening(&self) -> Vec<String> {
        self.listening.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is written of where this node is for who has met nobody yet.
    pub fn written(&self) -> Vec<String> {
        self.written.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_reach(&self, reach: Vec<ReachInfo>, written: Vec<String>) {
        *self.reach.write().unwrap_or_else(PoisonError::into_inner) = reach;
        *self.written.write().unwrap_or_else(PoisonError::into_inner) = written;
    }

    pub fn set_listening(&self, addresses: Vec<String>) {
        *self.listening.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

/// `Err` where there is no open lane or the frame is too long for it: nothing was sent.
async fn ask_on_lane(peer: PeerId, link: &Link, frame: Vec<u8>) -> Result<Result<Vec<u8>, RequestError>, NotSent> {
    if frame.len() > limits::LANE_FRAME_BYTES_MAX {
        return Err(NotSent(frame));
    }
    let Some(lane) = link.lane() else { return Err(NotSent(frame)) };
    let response = lane.request(frame).await?;
    Ok(response.and_then(|response| reply_of(peer, response)))
}

/// The network of a node, from any thread. The network stops when [`NetHandle::shutdown`] is called or the last
/// handle is dropped.
#[derive(Debug, Clone)]
pub struct NetHandle {
    pub(crate) local: PeerId,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) running: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl NetHandle {
    /// The peer that this node is.
    pub fn local_peer(&self) -> PeerId {
        self.local
    }

    /// Sends `frame` to `peer` and waits for its reply, at most `timeout` and at most
    /// [`limits::PEER_REQUEST_TIMEOUT_MS`].
    ///
    /// Requests of up to 64 KiB share one stream to the peer while that is open, the others have a substream each; a
    /// reply may be as long as any frame. At most four times [`limits::PEER_REQUESTS_MAX`] and
    /// [`limits::PEER_REQUESTS_MAX`] are under way to one peer; further ones wait for their turn within their
    /// timeout. Two requests under way at a time have no order. A dropped call gives up its reply, not its place: the
    /// peer may still handle the request.
    ///
    /// # Errors
    /// See [`RequestError`]; all but `TooLong` and `Stopped` are worth a retry.
    pub async fn request(&self, peer: PeerId, frame: Vec<u8>, timeout: Duration) -> Result<Vec<u8>, RequestError> {
        if frame.len() > limits::FRAME_BYTES_MAX {
            return Err(RequestError::TooLong { bytes: frame.len() });
        }
        if self.commands.is_closed() {
            return Err(RequestError::Stopped);
        }
        let timeout = timeout.min(Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS));
        let link = self.shared.link(peer).ok_or(RequestError::NotConnected { peer })?;
        let timed_out = RequestError::TimedOut { peer, timeout_ms: timeout.as_millis() as u64 };
        let asking = async {
            match ask_on_lane(peer, &link, frame).await {
                Ok(reply) => reply,
                Err(NotSent(frame)) => self.ask(peer, &link, frame).await,
            }
        };
        let reply = tokio::time::timeout_at(Instant::now() + timeout, asking).await;
        reply.unwrap_or(Err(timed_out))
    }

    /// Sends `frame` to `peer` at once, where there is a place for it, and tells `hearer` what came of it, after
    /// [`limits::PEER_REQUEST_TIMEOUT_MS`] that nothing did. `hearer` runs in the network's thread: it must not wait.
    ///
    /// # Errors
    /// Gives both back where no place is free just now: [`NetHandle::request`] waits for one.
    pub fn request_at_once<F>(&self, peer: PeerId, frame: Vec<u8>, hearer: F) -> Result<(), (Vec<u8>, F)>
    where
        F: FnOnce(Result<Vec<u8>, RequestError>) + Send + 'static,
    {
        let lane = self.lane_for(peer, &frame);
        let Some(place) = lane.as_ref().and_then(Lane::free_place) else { return Err((frame, hearer)) };
        place.request(frame, Box::new(move |response| hearer(response.and_then(|response| reply_of(peer, response)))));
        Ok(())
    }

    /// Puts `frame` on its way to `peer` as a request that wants no reply. It costs half of one, and may get lost.
    ///
    /// # Errors
    /// Gives the frame back where that way is not open just now: it may go as a request.
    pub fn tell(&self, peer: PeerId, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        let lane = self.lane_for(peer, &frame);
        let Some(place) = lane.as_ref().and_then(Lane::free_place) else { return Err(frame) };
        place.tell(frame);
        Ok(())
    }

    /// The open lane to `peer`, if `frame` may go by it.
    fn lane_for(&self, peer: PeerId, frame: &[u8]) -> Option<Lane> {
        if frame.len() > limits::LANE_FRAME_BYTES_MAX {
            return None;
        }
        self.shared.link(peer)?.lane()
    }

    async fn ask(&self, peer: PeerId, link: &Link, frame: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let permit = link.permits.clone().acquire_owned().await.map_err(|_| RequestError::Interrupted { peer })?;
        let (reply, replied) = oneshot::channel();
        let request = OutboundRequest { peer, frame, reply, permit };
        self.commands.send(Command::Request(request)).await.map_err(|_| RequestError::Stopped)?;
        replied.await.map_err(|_| RequestError::Stopped)?
    }

    /// The admitted peers, by id.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let links = self.shared.links.read().unwrap_or_else(PoisonError::into_inner);
        let info = |link: &Arc<Link>| link.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut peers: Vec<PeerInfo> = links.values().map(info).collect();
        peers.sort_by_key(|info| info.peer);
        peers
    }

    pub fn counters(&self) -> NetCounters {
        let counters = *self.shared.counters.lock().unwrap_or_else(PoisonError::into_inner);
        NetCounters { streams_turned_away: self.shared.watch.streams_turned_away(), ..counters }
    }

    /// Notes what `peer` did that no honest peer does. Too much of it and the peer is sent away and kept out for a while.
    pub fn note(&self, peer: PeerId, offence: Offence) {
        self.shared.watch.note(peer, offence);
    }

    /// Who is kept out just now, by id.
    pub fn bans(&self) -> Vec<BannedPeer> {
        self.shared.watch.bans()
    }

    /// Where this node can be dialled, with `/p2p/PEER`.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.shared.listening()
    }

    /// The addresses of this node that lead beyond its site, and whether members got there.
    pub fn reach(&self) -> Vec<ReachInfo> {
        self.shared.reach.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Dials `address` now, and from now on whenever nobody there is connected.
    ///
    /// # Errors
    /// If `address` is no multiaddr.
    pub async fn dial(&self, address: &str) -> Result<(), ParseAddressError> {
        let address = parse_address(address)?;
        self.put(Question::Dial { address }).await;
        Ok(())
    }

    /// Closes all connections to `peer`, and neither dials nor admits it until it is asked for again, by
    /// [`NetHandle::dial`] or [`NetHandle::discover`], or until the network is restarted.
    pub async fn disconnect(&self, peer: PeerId) {
        self.put(Question::Disconnect { peer }).await;
    }

    /// Asks in every configured way for peers, and dials those that are away, now.
    pub async fn discover(&self) {
        self.put(Question::Discover).await;
    }

    /// Everyone whom this node dials or knows to be somewhere, and what came of it.
    ///
    /// # Errors
    /// If the network is stopped.
    pub async fn contacts(&self) -> Result<Vec<Contact>, RequestError> {
        let (reply, replied) = oneshot::channel();
        self.put(Question::Contacts { reply }).await;
        replied.await.map_err(|_| RequestError::Stopped)
    }

    async fn put(&self, question: Question) {
        // A stopped network does nothing.
        let _ = self.commands.send(Command::Question(question)).await;
    }

    /// Closes all connections to `peer`, which do not carry anything any more, and dials it anew at once and for ever: TCP
    /// tries a connection that was cut off again only after as long as the cut lasted.
    pub async fn reconnect(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Reconnect { peer }).await;
    }

    /// From now on `rules` say who may speak. Whom they do not admit is disconnected at once; who stays is shown anew
    /// what this node is.
    pub async fn admit_by(&self, rules: Admission) {
        let _ = self.commands.send(Command::AdmitBy { rules: Box::new(rules) }).await;
    }

    /// Puts a marker behind all requests that this node has received: it comes out as
    /// [`NetEvent::Marker`](crate::NetEvent) after them. A lease whose renewal had arrived before the marker was
    /// placed is thus renewed before the marker is seen.
    ///
    /// # Errors
    /// If the network is stopped.
    pub async fn place_marker(&self, id: u64) -> Result<(), RequestError> {
        self.commands.send(Command::Marker { id }).await.map_err(|_| RequestError::Stopped)
    }

    /// Closes all connections and listeners and waits for the end. Calls under way end with [`RequestError::Stopped`].
    pub async fn shutdown(&self) {
        let _ = self.commands.send(Command::Stop).await;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running
            && let Err(error) = running.await
            && error.is_panic()
        {
            tracing::error!("the network ended by a panic");
        }
    }
}
