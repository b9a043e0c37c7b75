//! A whole node: its data directory, its actors in their order, and how it ends.

mod admission;
mod drain;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use magpie_core::ids::{LedgerId, PeerId};
use magpie_core::lease::Slots;
use magpie_core::matching::Capabilities;
use magpie_core::queue::{CompactionPolicy, QueueSettings, RetentionPolicy};
use magpie_core::task::TaskKind;
use magpie_net::{Admission, NetConfig, NodeKey, PeerRules, cached_peers};
use ractor::{Actor, ActorCell, ActorRef, Message};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::actors::Addresses;
use crate::actors::access::Access;
use crate::actors::address::Address;
use crate::actors::attempt_streams::AttemptStreams;
use crate::actors::audit::Audit;
use crate::actors::blobs::PeerBlobs;
use crate::actors::cache::NodeCache;
use crate::actors::clock::{ClockActor, ClockArguments};
use crate::actors::control::{ControlActor, ControlArguments};
use crate::actors::device::{DeviceActor, DeviceArguments, DeviceEmbedder};
use crate::actors::device_mailbox::DeviceMsg;
use crate::actors::doorway::Doorway;
use crate::actors::http::{HttpActor, HttpArguments};
use crate::actors::ledger::{LedgerActor, LedgerArguments};
use crate::actors::mount::{self, MountActor, MountArguments};
use crate::actors::mounts::Mounts;
use crate::actors::peer_desk::PeerDesk;
use crate::actors::peers::Peers;
use crate::actors::registry::{RegistryActor, RegistryArguments};
use crate::actors::routes::Routes;
use crate::actors::scheduler::{SchedulerActor, SchedulerArguments};
use crate::actors::streams::Streams;
use crate::actors::supervisor::{Child, Starting, Supervisor, SupervisorArguments};
use crate::actors::swarm::door::PeerDoor;
use crate::actors::swarm::{SwarmActor, SwarmArguments};
use crate::actors::tool_desk::ToolDesk;
use crate::actors::tools::{ToolsActor, ToolsArguments};
use crate::actors::worker::{WorkerActor, WorkerArguments};
use crate::config::{ConfigError, GithubRegistry, HttpConfig, NodeConfig};
use crate::executor::{Embedder, ExecutorConfig, Executors};
use crate::mcp::catalog::Scope;
use crate::messages::actor::SupervisorMsg;
use crate::messages::mount::MountMsg;
use crate::node_thread::{NodeThread, NodeThreadEnd};
use crate::store::audit::AuditDir;
use crate::store::blobs::Blobs;
use crate::store::data_dir::DataDir;
use crate::store::namespace_blobs::NamespaceBlobs;
use crate::store::spool::Spool;

/// How long the end of one actor is waited for.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A node that does not start, in one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{}", .0.advise("--data-dir"))]
    DataDir(#[from] crate::store::data_dir::OpenDataDirError),
    #[error("{0}")]
    Key(String),
    #[error("{0}")]
    Store(String),
    #[error("{0}")]
    Actor(String),
}

/// A running node. Dropped, it ends at once; [`Node::stop`] ends it in order.
pub struct Node {
    pub peer_id: PeerId,
    pub control: PathBuf,
    pub addresses: Addresses,
    peers: Peers,
    supervisor: ActorRef<SupervisorMsg>,
    ended: JoinHandle<()>,
    given_up: oneshot::Receiver<String>,
    thread: NodeThread,
    thread_end: NodeThreadEnd,
}

/// What the actors of one node share.
struct Parts {
    dir: Arc<DataDir>,
    key: NodeKey,
    /// Members of the process before.
    known: BTreeSet<PeerId>,
    net: NetConfig,
    access: Access,
    addresses: Addresses,
    peers: Peers,
    blobs: Blobs,
    executors: Arc<Executors>,
    /// Where attempts run.
    executing: Handle,
    spool: Arc<Spool>,
    audit: Audit,
    attempts: AttemptStreams,
    slots: Slots,
    retention: RetentionPolicy,
    compaction: CompactionPolicy,
    queue: QueueSettings,
    capabilities: Arc<Capabilities>,
    devices: Vec<(Address<DeviceMsg>, DeviceArguments)>,
    mounts: Vec<(Address<MountMsg>, MountArguments)>,
    /// What calls of other nodes may do.
    peer_scope: Option<Scope>,
    http: HttpConfig,
    notices: Vec<String>,
    control: PathBuf,
}

impl Node {
    /// Starts a node. Its actors get a thread of their own; its tasks run on the caller's runtime.
    ///
    /// # Errors
    /// Why it does not start: configuration, data directory in use or damaged, port taken, ...
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let executing = Handle::current();
        let parts = tokio::task::spawn_blocking(move || Parts::gather(&config, executing)).await;
        let parts = parts.map_err(|error| StartError::Actor(error.to_string()))??;
        let (peers, control, addresses) = (parts.peers.clone(), parts.control.clone(), parts.addresses.clone());
        let (sender, given_up) = oneshot::channel();
        let arguments = SupervisorArguments { children: parts.children(), given_up: sender };
        let (thread, thread_end) =
            NodeThread::start(peers.vigil()).map_err(|error| StartError::Actor(error.to_string()))?;
        let spawned = thread.run(Actor::spawn(None, Supervisor, arguments)).await;
        let spawned = spawned.ok_or_else(|| StartError::Actor("the supervisor panicked".to_owned()))?;
        let (supervisor, ended) = spawned.map_err(|error| StartError::Actor(innermost(&error)))?;
        addresses.supervisor.set(supervisor.clone());
        Ok(Self { peer_id: peers.me(), control, addresses, peers, supervisor, ended, given_up, thread, thread_end })
    }

    /// Runs `work` in the thread of this node's actors, as a session of theirs; `None` if it panicked.
    pub async fn beside_actors<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.thread.run(work).await
    }

    /// Where this node can be dialled.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.peers.net().map(|net| net.listen_addresses()).unwrap_or_default()
    }

    /// Waits until the node cannot go on; says why.
    pub async fn given_up(&mut self) -> String {
        (&mut self.given_up).await.unwrap_or_else(|_| "the supervisor ended".to_owned())
    }

    /// Ends all actors, the last started first, and waits for them.
    pub async fn stop(self) {
        let order = self.tell_end().await;
        let mut children = self.supervisor.get_children();
        children.sort_by_key(|child| {
            let name = child.get_name().unwrap_or_default();
            order.iter().position(|own| name.rsplit('/').next() == Some(own))
        });
        for child in children.into_iter().rev() {
            let _ = child.stop_and_wait(None, Some(STOP_PATIENCE)).await;
        }
        // It hears of its actors' ends before it answers, and would not before it stops.
        self.tell_end().await;
        self.supervisor.stop(None);
        let _ = tokio::time::timeout(STOP_PATIENCE, self.ended).await;
        drop(self.thread);
        self.thread_end.wait().await;
    }

    /// Tells the supervisor that the node ends; gives its actors' names in their order. One that is gone starts nothing
    /// again.
    async fn tell_end(&self) -> Vec<String> {
        let order = self.addresses.supervisor.ask(STOP_PATIENCE, |reply| SupervisorMsg::End { reply }).await;
        order.unwrap_or_default()
    }
}

/// The first cause: what a person can act on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Parts {
    fn gather(config: &NodeConfig, executing: Handle) -> Result<Self, StartError> {
        config.check()?;
        let dir = DataDir::open(config.resolved_data_dir()?)?;
        let key = NodeKey::load_or_create(&dir.identity_key()).map_err(|error| StartError::Key(error.to_string()))?;
        let me = key.peer_id();
        let addresses = Addresses::new(&me.to_string());
        let peers = Peers::new(key.clone());
        let blobs = Blobs::open(dir.blobs()).map_err(|error| StartError::Store(error.to_string()))?;
        let (spool, damage) = Spool::open(&dir.spool()).map_err(|error| StartError::Store(error.to_string()))?;
        if let Some(damage) = damage {
            tracing::error!(%damage, "the spool was damaged");
        }
        let audit = Audit::start(AuditDir::new(dir.audit()))
            .map_err(|error| StartError::Store(format!("the audit gets no thread: {error}")))?;
        let rules = PeerRules::open(&dir.peer_rules()).map_err(|error| StartError::Key(error.to_string()))?;
        let admission = Admission { rules, ..admission::of(config, me)? };
        let mut notices = Vec::new();
        let admission = admission::rotated(admission, &dir.key_rotation(), &mut notices)?;
        let access = Access::open(peers.clone(), admission, (dir.revocations(), dir.key_rotation()));
        let access = access.map_err(StartError::Store)?;
        let known = cached_peers(&dir.peers_json()).unwrap_or_else(|error| {
            notices.push(format!("the peer cache cannot be read: {error}"));
            BTreeSet::new()
        });
        let devices = crate::actors::device::plan(config, &addresses, &peers, &mut notices);
        let peer_blobs = PeerBlobs::new(blobs.clone(), peers.clone());
        let embedder =
            devices.first().map(|(device, _)| Arc::new(DeviceEmbedder::new(device.clone())) as Arc<dyn Embedder>);
        let executor = ExecutorConfig::new(dir.work(), config.process.clone());
        let executors = Executors::new(executor, Arc::new(peer_blobs), embedder)
            .map_err(|error| StartError::Store(format!("the work directory cannot be made: {error}")))?;
        let slots = Slots { cpu: config.slots.unwrap_or_else(cores), device: 0 };
        let capabilities = capabilities(config, &executors);
        let volume = crate::store::disk::volume_bytes(dir.path())
            .map_err(|error| StartError::Store(format!("the volume's size cannot be read: {error}")))?;
        Ok(Self {
            net: net_config(config, &dir)?,
            access,
            control: config.control.clone().unwrap_or_else(|| dir.control_sock()),
            dir: Arc::new(dir),
            key,
            known,
            addresses,
            peers,
            blobs,
            executors: Arc::new(executors),
            mounts: mount::plan(&config.mcp, me, &executing),
            peer_scope: config.mcp.peer_scope.0,
            executing,
            spool: Arc::new(spool),
            audit,
            attempts: AttemptStreams::default(),
            slots,
            retention: config.retention.policy(volume),
            compaction: config.compaction.policy(),
            queue: config.queue_settings(),
            capabilities: Arc::new(capabilities),
            devices,
            http: config.http.clone(),
            notices,
        })
    }

    fn doorway(&self, routes: &Routes, blobs: &PeerBlobs) -> Doorway {
        let mounts = self.mounts.iter().map(|(address, arguments)| (arguments.name.clone(), address.clone()));
        Doorway {
            routes: routes.clone(),
            access: self.access.clone(),
            blobs: blobs.clone(),
            namespace_blobs: NamespaceBlobs::new(self.dir.namespaces()),
            desk: PeerDesk {
                peers: self.peers.clone(),
                registry: self.addresses.registry.clone(),
                rules: self.access.rules().rules,
                ways: ways(&self.net),
            },
            streams: Streams::new(routes.clone(), self.attempts.clone()),
            devices: self.devices.iter().map(|(address, _)| address.clone()).collect(),
            cache: NodeCache::default(),
            mounts: Mounts::new(mounts.collect()),
            tools: ToolDesk { peers: self.peers.clone(), tools: self.addresses.tools.clone() },
            audit: self.audit.clone(),
            http: Arc::default(),
            tokens: self.http.listen.and(self.http.tokens.clone()),
            started: Instant::now(),
            notices: self.notices.clone(),
        }
    }

    /// Those who call tools: by HTTP, if it is served, and from other nodes.
    fn callers(&self, doorway: &Arc<Doorway>) -> (Option<HttpArguments>, ToolsArguments) {
        let http = self.http.listen.map(|listen| HttpArguments {
            listen,
            rules: self.http.rules(),
            serving: self.executing.clone(),
            own: self.addresses.http.clone(),
            doorway: doorway.clone(),
        });
        let tools = ToolsArguments {
            scope_max: self.peer_scope,
            serving: self.executing.clone(),
            own: self.addresses.tools.clone(),
            doorway: doorway.clone(),
        };
        (http, tools)
    }

    /// In the order in which they start: each finds those that it needs at its start already there.
    fn children(self) -> Vec<Child> {
        let routes = Routes::new(self.addresses.clone(), self.peers.clone());
        let peer_blobs = PeerBlobs::new(self.blobs.clone(), self.peers.clone());
        let doorway = Arc::new(self.doorway(&routes, &peer_blobs));
        let (http, tools) = self.callers(&doorway);
        let work_dir = self.capabilities.kinds.iter().any(|kind| kind.needs_room()).then(|| self.dir.work());
        let ledger = LedgerArguments {
            dir: self.dir,
            me: self.peers.me(),
            fresh: LedgerId(rand::random()),
            settings: self.queue,
            blobs: self.blobs.clone(),
            retention: self.retention,
            compaction: self.compaction,
            addresses: self.addresses.clone(),
            peers: self.peers.clone(),
            compare_with: Arc::new(Mutex::new(self.known)),
            handing: Arc::default(),
        };
        let scheduler =
            SchedulerArguments { blobs: self.blobs, peers: self.peers.clone(), addresses: self.addresses.clone() };
        let clock =
            ClockArguments { key: self.key.clone(), peers: self.peers.clone(), addresses: self.addresses.clone() };
        let door = PeerDoor::new(routes.clone(), doorway.clone());
        let swarm = SwarmArguments {
            key: self.key,
            config: self.net,
            access: self.access.clone(),
            routes: routes.clone(),
            door,
        };
        let registry = RegistryArguments {
            peers: self.peers,
            access: self.access,
            addresses: self.addresses.clone(),
            capabilities: self.capabilities.clone(),
            devices: doorway.devices.clone(),
        };
        let worker = WorkerArguments {
            routes,
            work_dir,
            executors: self.executors,
            executing: self.executing,
            blobs: peer_blobs,
            spool: self.spool,
            attempts: self.attempts,
            slots: self.slots,
        };
        let control = ControlArguments { socket: self.control, doorway };
        let mut children = vec![
            child(&self.addresses.ledger, || LedgerActor, ledger),
            child(&self.addresses.scheduler, || SchedulerActor, scheduler),
            child(&self.addresses.clock, || ClockActor, clock),
            child(&self.addresses.swarm, || SwarmActor, swarm),
            child(&self.addresses.registry, || RegistryActor, registry),
        ];
        children.extend(self.devices.into_iter().map(|(address, device)| child(&address, || DeviceActor, device)));
        children.push(child(&self.addresses.worker, || WorkerActor, worker));
        children.extend(self.mounts.into_iter().map(|(address, mount)| child(&address, || MountActor, mount)));
        children.push(child(&self.addresses.tools, || ToolsActor, tools));
        children.extend(http.map(|http| child(&self.addresses.http, || HttpActor, http)));
        children.push(child(&self.addresses.control, || ControlActor, control));
        children
    }
}

/// A supervised actor: its factory, and its place in the address book.
fn child<A, M>(address: &Address<M>, make: fn() -> A, arguments: A::Arguments) -> Child
where
    A: Actor<Msg = M>,
    A::Arguments: Clone + Send + Sync,
    M: Message,
{
    let (started, cleared, name) = (address.clone(), address.clone(), address.name().to_owned());
    let short = name.rsplit('/').next().unwrap_or(&name).to_owned();
    let start = move |supervisor: ActorCell| -> Starting {
        let (address, arguments, name) = (started.clone(), arguments.clone(), name.clone());
        Box::pin(async move {
            let (actor, _) = Actor::spawn_linked(Some(name), make(), arguments, supervisor).await?;
            address.set(actor.clone());
            Ok(actor.get_cell())
        })
    };
    Child { name: short, start: Box::new(start), clear: Box::new(move || cleared.clear()) }
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

fn net_config(config: &NodeConfig, dir: &DataDir) -> Result<NetConfig, StartError> {
    let github = |registry: &GithubRegistry| registry.resolve(|name| std::env::var_os(name)).map_err(StartError::Key);
    let github = config.github.as_ref().map(github).transpose()?;
    Ok(NetConfig {
        listen: config.listen.clone(),
        external: config.external.clone(),
        bootstrap: config.bootstrap.clone(),
        dns: config.dns.clone(),
        peer_file: config.peer_file.clone(),
        peer_cache: Some(dir.peers_json()),
        mdns: config.mdns,
        members: config.members,
        rendezvous: config.rendezvous.clone(),
        rendezvous_point: config.rendezvous_point,
        relay_via: config.relay_via.clone(),
        relay_for_members: config.relay_for_members,
        upnp: config.upnp,
        kademlia: config.kademlia,
        github,
        ..NetConfig::default()
    })
}

/// The ways of finding peers that are on.
fn ways(net: &NetConfig) -> BTreeSet<&'static str> {
    let ways = [
        ("bootstrap", !net.bootstrap.is_empty()),
        ("peer_file", net.peer_file.is_some()),
        ("dns", !net.dns.is_empty()),
        ("mdns", net.mdns),
        ("members", net.members),
        ("rendezvous", !net.rendezvous.is_empty()),
        ("kademlia", net.kademlia),
        ("github", net.github.is_some()),
    ];
    ways.into_iter().filter(|(_, on)| *on).map(|(way, _)| way).collect()
}

/// What this machine offers; models are added when a device has loaded them.
fn capabilities(config: &NodeConfig, executors: &Executors) -> Capabilities {
    let kinds: BTreeSet<TaskKind> = executors.kinds().into_iter().filter(|kind| *kind != TaskKind::Embed).collect();
    Capabilities {
        labels: config.labels.clone(),
        kinds,
        commands: config.process.allow.iter().cloned().collect(),
        tags: config.tags.iter().copied().collect(),
        cpus: cores(),
        memory_bytes: memory_bytes(),
        arch: std::env::consts::ARCH.to_owned(),
        os: std::env::consts::OS.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Capabilities::default()
    }
}

fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}
