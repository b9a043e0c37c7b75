//! The protocols that a node speaks, and the swarm that carries them.

use std::time::Duration;

use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox};
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, MemoryTransport, Transport};
use libp2p::core::upgrade::Version;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{self, NetworkBehaviour};
use libp2p::{PeerId, Swarm, dcutr, dns, identify, identity, mdns, noise, ping, quic, relay, rendezvous, tcp, yamux};

use crate::codec::{ADMISSION, AdmissionCodec, MAILBOX, MEMBERS, MailboxCodec, MembersCodec, REACH, ReachCodec};
use crate::config::InMemory;
use crate::discovery;
use crate::door::Doors;
use crate::driven::Driven;
use crate::gated::Gated;
use crate::lane;
use crate::limits;
use crate::network::is_afar;
use crate::quota::Quota;
use crate::share::{Reading, Shares};
use crate::turnstile::Turnstile;

/// A stranger finds `admission` and nothing else: the rest is behind a door.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub quota: Quota,
    pub admission: request_response::Behaviour<AdmissionCodec>,
    pub mailbox: Gated<request_response::Behaviour<MailboxCodec>>,
    pub members: Gated<request_response::Behaviour<MembersCodec>>,
    pub reach: Gated<request_response::Behaviour<ReachCodec>>,
    pub lanes: Gated<lane::behaviour::Behaviour>,
    /// To whom this node meets on its site, and to whom it meets from beyond: each is told other addresses.
    pub identify: Gated<identify::Behaviour>,
    pub identify_afar: Gated<identify::Behaviour>,
    /// At points that are met on this node's site, and at those that are met over the internet: each is told other addresses.
    pub rendezvous: Gated<Toggle<rendezvous::client::Behaviour>>,
    pub rendezvous_afar: Gated<Toggle<rendezvous::client::Behaviour>>,
    pub point: Gated<Toggle<rendezvous::server::Behaviour>>,
    pub kademlia: Gated<Toggle<discovery::kademlia::Behaviour>>,
    pub relay: Gated<Toggle<relay::Behaviour>>,
    pub relayed: Gated<relay::client::Behaviour>,
    pub dcutr: Gated<dcutr::Behaviour>,
    pub ping: Gated<ping::Behaviour>,
    pub mdns: Toggle<mdns::tokio::Behaviour>,
}

/// What takes a protocol of its own, and is not everyone's: ways of finding others, and what this node does for others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways {
    pub mdns: bool,
    pub rendezvous: bool,
    pub point: bool,
    pub kademlia: bool,
    pub relay: bool,
    /// Others of this process are met, and nobody else.
    pub in_memory: Option<InMemory>,
}

impl Behaviour {
    fn new(
        key: &identity::Keypair,
        doors: &Doors,
        ways: &Ways,
        shares: &Shares,
        relayed: relay::client::Behaviour,
    ) -> Self {
        let local = key.public().to_peer_id();
        let admission = request_response::Config::default()
            .with_request_timeout(Duration::from_millis(limits::ADMISSION_MS))
            .with_max_concurrent_streams(limits::ADMISSION_STREAMS_MAX);
        let mailbox = request_response::Config::default()
            .with_request_timeout(Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS))
            .with_max_concurrent_streams(limits::MAILBOX_STREAMS_MAX);
        let members = request_response::Config::default()
            .with_request_timeout(Duration::from_millis(limits::MEMBERS_TIMEOUT_MS))
            .with_max_concurrent_streams(limits::MEMBERS_STREAMS_MAX);
        let reach = request_response::Config::default()
            .with_request_timeout(Duration::from_millis(limits::REACH_TIMEOUT_MS))
            .with_max_concurrent_streams(limits::REACH_STREAMS_MAX);
        let identify = identify::Config::new("magpie/1".into(), key.public())
            .with_agent_version(concat!("magpie/", env!("CARGO_PKG_VERSION")).into())
            // What is told is decided elsewhere, and given as external addresses.
            .with_hide_listen_addrs(true)
            .with_cache_size(0);
        let ping = ping::Config::new()
            .with_interval(Duration::from_millis(limits::PING_EVERY_MS))
            .with_timeout(Duration::from_millis(limits::PING_TIMEOUT_MS));
        let both_ways = ProtocolSupport::Full;
        let mailbox_codec = MailboxCodec::new(Reading::new(shares.clone()));
        let reach_codec = ReachCodec::reading(Reading::new(shares.clone()));
        let members_codec = MembersCodec::reading(Reading::new(shares.clone()));
        Self {
            quota: Quota::new(doors, shares),
            admission: request_response::Behaviour::new([(ADMISSION, both_ways.clone())], admission),
            mailbox: Gated::answering_guests(
                request_response::Behaviour::with_codec(mailbox_codec, [(MAILBOX, both_ways.clone())], mailbox),
                doors,
            ),
            members: Gated::answering(
                request_response::Behaviour::with_codec(members_codec, [(MEMBERS, both_ways.clone())], members),
                doors,
            ),
            reach: Gated::answering(
                request_response::Behaviour::with_codec(reach_codec, [(REACH, both_ways)], reach),
                doors,
            ),
            lanes: Gated::answering(lane::behaviour::Behaviour::default(), doors),
            identify: Gated::speaking(identify::Behaviour::new(identify.clone()), doors)
                .meeting(|remote| !is_afar(remote)),
            identify_afar: Gated::speaking(identify::Behaviour::new(identify), doors).meeting(is_afar),
            rendezvous: Gated::answering(discovery::rendezvous::client(ways.rendezvous, key), doors),
            rendezvous_afar: Gated::answering(discovery::rendezvous::client(ways.rendezvous, key), doors),
            point: Gated::answering(discovery::rendezvous::point(ways.point), doors),
            kademlia: Gated::answering(discovery::kademlia::behaviour(ways.kademlia, local), doors),
            relay: Gated::answering(ways.relay.then(|| relay::Behaviour::new(local, relaying())).into(), doors),
            relayed: Gated::answering(relayed, doors),
            dcutr: Gated::speaking(dcutr::Behaviour::new(local), doors),
            ping: Gated::speaking(ping::Behaviour::new(ping), doors),
            mdns: discovery::mdns::behaviour(ways.mdns, local),
        }
    }
}

/// Only members ask, and the streams of each are counted (see [`Shares`]): a circuit carries what a connection would.
fn relaying() -> relay::Config {
    relay::Config {
        max_reservations: limits::PEERS_MAX,
        max_reservations_per_peer: limits::PEER_CONNECTIONS_MAX,
        reservation_duration: Duration::from_secs(limits::RELAY_RESERVATION_S),
        reservation_rate_limiters: Vec::new(),
        max_circuits: limits::RELAY_CIRCUITS_MAX,
        max_circuits_per_peer: limits::RELAY_PEER_CIRCUITS_MAX,
        max_circuit_duration: Duration::from_secs(limits::RELAY_CIRCUIT_S),
        // 0: as many as go through.
        max_circuit_bytes: 0,
        circuit_src_rate_limiters: Vec::new(),
    }
}

/// Builds the swarm: TCP with Noise and yamux, QUIC, and both by way of a relay; names are resolved as the system does. Needs a tokio runtime.
pub(crate) fn swarm(
    key: identity::Keypair,
    doors: &Doors,
    ways: &Ways,
    shares: &Shares,
) -> Result<Swarm<Behaviour>, String> {
    let local = key.public().to_peer_id();
    let (circuits, relayed) = relay::client::new(local);
    let behaviour = Behaviour::new(&key, doors, ways, shares, relayed);
    // Connections are closed by admission, quota and ping, never for being quiet.
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(limits::FOR_EVER);
    let memory = || MemoryTransport::default().upgrade(Version::V1Lazy);
    let connections = match ways.in_memory {
        None => by_name(&key, shares)?,
        Some(InMemory::Noise) => driven(memory().authenticate(noise(&key)?).multiplex(muxing()), shares),
        #[cfg(feature = "plaintext")]
        Some(InMemory::Plain) => {
            driven(memory().authenticate(libp2p::plaintext::Config::new(&key)).multiplex(muxing()), shares)
        }
    };
    Ok(Swarm::new(with_relays(&key, shares, circuits, connections)?, behaviour, local, config))
}

type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// Connections that tasks of their own drive, and whose peers open as many streams as their shares allow.
fn driven<T, M>(connections: T, shares: &Shares) -> Connections
where
    T: Transport<Output = (PeerId, M), Dial: Send, ListenerUpgrade: Send, Error: Send + Sync> + Send + Unpin + 'static,
    M: StreamMuxer<Substream: Send + Unpin, Error: Send + Sync> + Send + Unpin + 'static,
{
    let shares = shares.clone();
    let connections = connections.map(move |(peer, muxer), _| {
        (peer, StreamMuxerBox::new(Turnstile::new(Driven::start(muxer), shares.of(peer))))
    });
    connections.boxed()
}

fn by_name(key: &identity::Keypair, shares: &Shares) -> Result<Connections, String> {
    match dns::tokio::Transport::system(tcp_and_quic(key, shares)?) {
        Ok(named) => Ok(named.boxed()),
        Err(error) => {
            tracing::warn!(%error, "the system resolves no names: peers are reached by their IP addresses only");
            tcp_and_quic(key, shares)
        }
    }
}

fn with_relays(
    key: &identity::Keypair,
    shares: &Shares,
    circuits: relay::client::Transport,
    connections: Connections,
) -> Result<Connections, String> {
    let relayed = driven(circuits.upgrade(Version::V1Lazy).authenticate(noise(key)?).multiplex(muxing()), shares);
    let connections = relayed.or_transport(connections).map(|either, _| either.into_inner());
    let setup = Duration::from_millis(limits::CONNECTION_SETUP_MS);
    Ok(TransportTimeout::new(connections, setup).boxed())
}

fn noise(key: &identity::Keypair) -> Result<noise::Config, String> {
    noise::Config::new(key).map_err(|error| error.to_string())
}

fn muxing() -> yamux::Config {
    let mut muxing = yamux::Config::default();
    muxing.set_max_num_streams(limits::CONNECTION_STREAMS_MAX);
    muxing
}

fn tcp_and_quic(key: &identity::Keypair, shares: &Shares) -> Result<Connections, String> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)).upgrade(Version::V1Lazy);
    let tcp = driven(tcp.authenticate(noise(key)?).multiplex(muxing()), shares);
    let by_quic = shares.clone();
    let quic = quic::tokio::Transport::new(quic::Config::new(key))
        .map(move |(peer, muxer), _| (peer, StreamMuxerBox::new(Turnstile::new(muxer, by_quic.of(peer)))));
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}
