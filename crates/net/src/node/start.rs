//! From a configuration to a running task that listens, or to one sentence that says why not.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use libp2p::Multiaddr;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use magpie_core::ids::PeerId;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lanes::Lanes;
use super::members::Members;
use super::reach::RouterDesk;
use super::relay::{Detours, Relays};
use super::rendezvous::Points;
use super::spare::Partings;
use super::tick::Tick;
use super::{Cache, Node};
use crate::admission::Admitter;
use crate::behaviour::{self, Ways};
use crate::book::{Book, Source, split_peer};
use crate::cache;
use crate::config::{NetConfig, parse_addresses, parse_member};
use crate::discovery::dns::DnsName;
use crate::discovery::github::GithubConfig;
use crate::discovery::{self, Suggestion};
use crate::door::Doors;
use crate::event::NetEvent;
use crate::handle::{NetError, NetHandle, Shared};
use crate::inbox::Inbox;
use crate::key::NodeKey;
use crate::limits;
use crate::network::is_relayed;
use crate::reach::Whereabouts;
use crate::share::Shares;

/// Starts the network of a node on the caller's runtime, and returns when it listens on every address of `config`.
///
/// The runtime must have one thread: [`NetHandle::place_marker`] counts on it. What happens comes through `inbox`, whose capacity bounds the requests that wait for the owner. A peer that finds
/// it full gets [`RequestError::Busy`](crate::RequestError::Busy).
///
/// # Errors
/// If an address of `config` cannot be parsed or listened on, in one sentence that names it.
pub async fn spawn(key: &NodeKey, config: NetConfig, inbox: mpsc::Sender<NetEvent>) -> Result<NetHandle, NetError> {
    if Handle::current().runtime_flavor() != RuntimeFlavor::CurrentThread {
        return Err(setup("its runtime has several threads".into()));
    }
    let (commands, commanded) = mpsc::channel(limits::COMMANDS_LEN_MAX);
    let shared = Arc::new(Shared::default());
    let plan = Plan {
        listen: parse_addresses(&config.listen)?,
        external: parse_external(&config.external)?,
        bootstrap: parse_addresses(&config.bootstrap)?,
        names: parse_names(&config.dns)?,
        points: parse_members("rendezvous points", &config.rendezvous, limits::RENDEZVOUS_POINTS_MAX)?,
        relays: parse_members("relays", &config.relay_via, limits::RELAYS_MAX)?,
        key: key.clone(),
        shared: shared.clone(),
        inbox: Inbox::new(inbox),
        config,
    };
    plan.config.github.as_ref().map_or(Ok(()), GithubConfig::check)?;
    let mut tasks = JoinSet::new();
    let (node, suggestions) = Box::pin(plan.start(&mut tasks)).await?;
    let running = tokio::spawn(async move {
        Box::pin(node.run(commanded, suggestions)).await;
        tasks.shutdown().await;
    });
    Ok(NetHandle { local: key.peer_id(), commands, shared, running: Arc::new(Mutex::new(Some(running))) })
}

fn setup(reason: String) -> NetError {
    NetError::Setup { reason }
}

/// Everything that the network starts from.
struct Plan {
    listen: Vec<Multiaddr>,
    external: Vec<Multiaddr>,
    bootstrap: Vec<Multiaddr>,
    names: Vec<DnsName>,
    points: Vec<(Multiaddr, PeerId)>,
    relays: Vec<(Multiaddr, PeerId)>,
    key: NodeKey,
    shared: Arc<Shared>,
    inbox: Inbox,
    config: NetConfig,
}

impl Plan {
    fn ways(&self) -> Ways {
        Ways {
            mdns: self.config.mdns,
            rendezvous: !self.points.is_empty(),
            point: self.config.rendezvous_point,
            kademlia: self.config.kademlia,
            relay: self.config.relay_for_members,
            in_memory: self.config.in_memory,
        }
    }

    async fn start(self, tasks: &mut JoinSet<()>) -> Result<(Node, mpsc::Receiver<Suggestion>), NetError> {
        let local = self.key.peer_id();
        let doors = Doors::default();
        let keypair = libp2p::identity::Keypair::ed25519_from_bytes(self.key.signing_key().to_bytes());
        let keypair = keypair.map_err(|error| setup(error.to_string()))?;
        let mut boot = [0u8; 8];
        getrandom::fill(&mut boot).map_err(|error| setup(error.to_string()))?;
        let streams_per_s = match self.config.without_lanes {
            true => limits::MEASURED_STREAMS_PER_S_MAX,
            false => limits::PEER_STREAMS_PER_S_MAX,
        };
        let shares = Shares::new(self.shared.watch.clone(), streams_per_s);
        let ways = self.ways();
        let mut node = Node {
            local,
            points: Points::new(self.points.iter().map(|(_, peer)| *peer)),
            relays: Relays::new(self.relays.iter().cloned()),
            detours: Detours::default(),
            partings: Partings::default(),
            whereabouts: Whereabouts::new(self.external),
            told: Default::default(),
            router: self.config.upnp.then(|| RouterDesk::open(tasks)),
            dial_backs: Default::default(),
            questions: Default::default(),
            members: Members::new(self.config.members),
            lanes: Lanes::new(!self.config.without_lanes),
            swarm: behaviour::swarm(keypair, &doors, &ways, &shares).map_err(setup)?,
            shares,
            doors,
            rules: self.config.admission.rules.clone(),
            look_again: Arc::default(),
            admitter: Admitter::new(local, u64::from_le_bytes(boot), self.config.admission),
            peers: Default::default(),
            book: Book::new(local),
            dials: Default::default(),
            mailbox: Default::default(),
            markers: FuturesOrdered::new(),
            inbox: self.inbox,
            shared: self.shared,
            cache: Cache { path: self.config.peer_cache, written: String::new(), due_ms: 0, writing: JoinSet::new() },
            started: Instant::now(),
            tick: Tick::new(),
            expiry_due_ms: 0,
        };
        node.tell_where_it_is();
        node.listen(self.listen).await?;
        node.read_cache();
        let members = self.points.into_iter().chain(self.relays).map(|(address, _)| address);
        let named = self.bootstrap.into_iter().chain(members);
        discovery::bootstrap::suggestions(named).for_each(|suggestion| node.on_suggestion(suggestion));
        let (suggest, suggestions) = mpsc::channel(limits::SUGGESTIONS_LEN_MAX);
        if let Some(path) = self.config.peer_file {
            tasks.spawn(discovery::peer_file::watch(path, node.look_again.clone(), suggest.clone()));
        }
        for name in self.names {
            tasks.spawn(discovery::dns::watch(name, DnsName::resolve, draw, node.look_again.clone(), suggest.clone()));
        }
        if let Some(github) = self.config.github {
            let shared = node.shared.clone();
            tasks.spawn(discovery::github::watch(
                github,
                self.key,
                move || shared.written(),
                node.look_again.clone(),
                suggest,
            ));
        }
        Ok((node, suggestions))
    }
}

fn parse_names(texts: &[String]) -> Result<Vec<DnsName>, NetError> {
    if texts.len() > limits::DNS_NAMES_MAX {
        return Err(NetError::TooManyNames { count: texts.len() });
    }
    texts.iter().map(|text| text.parse().map_err(NetError::from)).collect()
}

/// Where others dial this node, without the peer that they dial there.
fn parse_external(texts: &[String]) -> Result<Vec<Multiaddr>, NetError> {
    if texts.len() > limits::EXTERNAL_MAX {
        return Err(NetError::TooMany { what: "external addresses", count: texts.len(), max: limits::EXTERNAL_MAX });
    }
    Ok(parse_addresses(texts)?.into_iter().filter_map(split_peer).map(|(address, _)| address).collect())
}

fn parse_members(what: &'static str, texts: &[String], max: usize) -> Result<Vec<(Multiaddr, PeerId)>, NetError> {
    if texts.len() > max {
        return Err(NetError::TooMany { what, count: texts.len(), max });
    }
    texts.iter().map(|text| parse_member(text)).collect()
}

/// 0..256, for jitter: without randomness there is none.
fn draw() -> u8 {
    let mut byte = [0u8];
    getrandom::fill(&mut byte).map_or(0, |()| byte[0])
}

impl Node {
    /// Returns when every address is listened on.
    async fn listen(&mut self, addresses: Vec<Multiaddr>) -> Result<(), NetError> {
        for address in addresses {
            refuse_taken_port(&address)?;
            let listener = self.swarm.listen_on(address.clone()).map_err(|error| listen_error(&address, error))?;
            self.first_result_of(listener, &address).await?;
        }
        Ok(())
    }

    async fn first_result_of(&mut self, wanted: ListenerId, address: &Multiaddr) -> Result<(), NetError> {
        loop {
            let event = self.swarm.select_next_some().await;
            let result = match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } if *listener_id == wanted => Some(Ok(())),
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if *listener_id == wanted => {
                    let reason = reason.as_ref().err().map_or("it was closed".into(), ToString::to_string);
                    Some(Err(NetError::Listen { address: address.to_string(), reason }))
                }
                _ => None,
            };
            self.on_swarm_event(event);
            if let Some(result) = result {
                return result;
            }
        }
    }

    fn read_cache(&mut self) {
        let Some(path) = &self.cache.path else { return };
        let text = cache::read_text(path).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "the peer cache cannot be read");
            String::new()
        });
        for address in cache::parse_lines(&text) {
            self.book.found(address, Source::Cache, 0);
        }
        self.cache.written = text;
    }
}

/// libp2p listens on TCP with `SO_REUSEPORT`: without this look, two nodes of one user would share a port and each
/// lose half of its connections to the other. And the transports wrap the system's error until its kind cannot be
/// told.
fn refuse_taken_port(address: &Multiaddr) -> Result<(), NetError> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let bound = match parts.next() {
        Some(Protocol::Tcp(port)) => TcpListener::bind((ip, port)).map(drop),
        Some(Protocol::Udp(port)) => UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    };
    bound.map_err(|error| {
        let address = address.to_string();
        match error.kind() {
            io::ErrorKind::AddrInUse => NetError::PortTaken { address },
            io::ErrorKind::PermissionDenied => NetError::NotPermitted { address },
            _ => NetError::Listen { address, reason: error.to_string() },
        }
    })
}

/// Waits until nobody holds any of `addresses`.
pub(super) async fn until_free(addresses: &[Multiaddr]) {
    let is_taken = |address| matches!(refuse_taken_port(address), Err(NetError::PortTaken { .. }));
    // A relay's port is the relay's.
    while addresses.iter().filter(|address| !is_relayed(address)).any(is_taken) {
        tokio::time::sleep(Duration::from_millis(limits::PORT_LOOK_EVERY_MS)).await;
    }
}

fn listen_error(address: &Multiaddr, error: TransportError<io::Error>) -> NetError {
    let address = address.to_string();
    match error {
        TransportError::MultiaddrNotSupported(_) => NetError::UnsupportedAddress { address },
        TransportError::Other(error) => NetError::Listen { address, reason: error.to_string() },
    }
}
