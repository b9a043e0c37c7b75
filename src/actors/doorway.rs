//! What lies behind every door: a request that was let in goes to its actor, and the actor's answer comes back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use magpie_core::homes::{Announcement, SignedAnnouncement, Term};
use magpie_core::ids::{LedgerId, PeerId};
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal};

use super::access::Access;
use super::address::Address;
use super::audit::Audit;
use super::blobs::PeerBlobs;
use super::cache::NodeCache;
use super::clock_audit;
use super::device_mailbox::DeviceMsg;
use super::mounts::Mounts;
use super::peer_desk::PeerDesk;
use super::routes::Routes;
use super::streams::Streams;
use super::tool_desk::ToolDesk;
use crate::mcp::http::tokens::{NONE_TAKEN, TokenFile};
use crate::messages::actor::{ActorRequest, SupervisorMsg};
use crate::messages::clock::{ClockMsg, ClockReply, ClockRequest};
use crate::messages::device::{DeviceActorReply, DeviceView};
use crate::messages::ledger::LedgerMsg;
use crate::messages::node::{HomeView, NodeReply, NodeRequest, NodeStatus};
use crate::messages::registry::{PeerView, RegistryMsg, RegistryReply, RegistryRequest};
use crate::messages::worker::{WorkerMsg, WorkerReply, WorkerRequest};
use crate::messages::{Answer, Body};
use crate::store::namespace_blobs::NamespaceBlobs;
use crate::telemetry;

const PATIENCE: Duration = Duration::from_secs(5);
/// A whole ledger with its blobs goes to a disk meanwhile, or comes from there.
const MOVE_PATIENCE: Duration = Duration::from_secs(3_600);

pub struct Doorway {
    pub routes: Routes,
    pub access: Access,
    pub blobs: PeerBlobs,
    pub namespace_blobs: NamespaceBlobs,
    pub desk: PeerDesk,
    pub streams: Streams,
    pub cache: NodeCache,
    pub mounts: Mounts,
    pub tools: ToolDesk,
    pub audit: Audit,
    pub devices: Vec<Address<DeviceMsg>>,
    /// Where HTTP is served, once it is.
    pub http: Arc<OnceLock<SocketAddr>>,
    /// The file of its bearer tokens.
    pub tokens: Option<PathBuf>,
    pub started: Instant,
    /// What does not work on this node, in words.
    pub notices: Vec<String>,
}

impl Doorway {
    /// Answers a request in the name of `owner`; `from` is the peer that sent it, if one did.
    pub async fn answer(&self, from: Option<PeerId>, owner: Arc<str>, body: Body) -> Answer {
        let answered = match body {
            Body::Ledger(request) => self.routes.ledger(owner, request).await.map(Answer::Ledger),
            Body::Home { home, request } => self.routes.named(from, owner, home, request).await.map(Answer::Ledger),
            Body::Worker(request) => self.worker(request).await.map(Answer::Worker),
            Body::Registry(request) => self.registry(from, request).await.map(Answer::Registry),
            Body::Clock(request) => self.clock(from, request).await.map(Answer::Clock),
            Body::Device(_) => Ok(Answer::Device(DeviceActorReply::Devices(self.device_views().await))),
            Body::Blob(request) => self.blobs.answer(from, owner, request).await.map(Answer::Blob),
            Body::Actor(request) => self.supervisor(request).await,
            Body::Access(request) => self.access.answer(request).await.map(Answer::Access),
            Body::Stream(request) => self.streams.answer(from, owner, request).await.map(Answer::Stream),
            Body::Cache(request) => self.cache.answer(request).map(Answer::Cache),
            Body::Mount(request) => self.mounts.answer(owner, request).await.map(Answer::Mount),
            Body::Tool(request) => self.tools.answer(from, request).await.map(Answer::Tool),
            Body::Peer(request) => self.desk.answer(request).await.map(Answer::Peer),
            Body::Node(NodeRequest::Status) => {
                self.status(owner).await.map(|status| Answer::Node(NodeReply::Status(Box::new(status))))
            }
            Body::Node(NodeRequest::ExportHome { ledger, to, file }) => self.export_home(ledger, to, file).await,
            Body::Node(NodeRequest::ImportHome { file }) => self.import_home(file).await,
            Body::Node(NodeRequest::Logs(ask)) => Ok(Answer::Node(NodeReply::Logs(telemetry::recent(&ask)))),
            Body::Node(NodeRequest::RecordCalls(calls)) => {
                self.audit.record(&owner, calls);
                Ok(Answer::Node(NodeReply::CallsRecorded))
            }
            Body::Node(NodeRequest::Audit(ask)) => {
                self.audit.read(ask).await.map(|found| Answer::Node(NodeReply::Audit(found)))
            }
            Body::Node(NodeRequest::Homes) => Ok(Answer::Node(NodeReply::Homes(self.homes()))),
        };
        answered.unwrap_or_else(Answer::Refused)
    }

    /// Answers a client that is kept to a namespace. What it may ask is decided before it comes here.
    pub async fn answer_apart(&self, owner: Arc<str>, body: Body) -> Answer {
        match body {
            Body::Blob(request) => {
                self.blobs.answer_apart(owner, request).await.map_or_else(Answer::Refused, Answer::Blob)
            }
            body => self.answer(None, owner, body).await,
        }
    }

    async fn worker(&self, request: WorkerRequest) -> Result<WorkerReply, Refusal> {
        let permit = Some(self.routes.addresses.worker.admit()?);
        let message = |reply| WorkerMsg::Request { request, permit, reply };
        Ok(self.routes.addresses.worker.ask(PATIENCE, message).await?)
    }

    async fn registry(&self, from: Option<PeerId>, request: RegistryRequest) -> Result<RegistryReply, Refusal> {
        let permit = self.routes.addresses.registry.admit()?;
        let message = |reply| RegistryMsg::Request { from, request, permit, reply };
        Ok(self.routes.addresses.registry.ask(PATIENCE, message).await?)
    }

    async fn clock(&self, from: Option<PeerId>, request: ClockRequest) -> Result<ClockReply, Refusal> {
        match request {
            ClockRequest::Audit => self.audit().await,
            ClockRequest::CheckChain { after, upto } => {
                let ledger = &self.routes.addresses.ledger;
                let permit = ledger.admit()?;
                let checked =
                    ledger.ask(PATIENCE, |reply| LedgerMsg::CheckChain { after, upto, permit, reply }).await?;
                checked.map(ClockReply::ChainChecked)
            }
            ClockRequest::Exchange(_) | ClockRequest::Show => self.ask_clock(from, request).await,
        }
    }

    async fn audit(&self) -> Result<ClockReply, Refusal> {
        match self.ask_clock(None, ClockRequest::Show).await? {
            ClockReply::Clock(view) => {
                Ok(ClockReply::Audited(Box::new(clock_audit::audit(&self.routes.peers, &view).await)))
            }
            other => Ok(other),
        }
    }

    async fn ask_clock(&self, from: Option<PeerId>, request: ClockRequest) -> Result<ClockReply, Refusal> {
        let permit = self.routes.addresses.clock.admit()?;
        let message = |reply| ClockMsg::Request { from, request, permit, reply };
        Ok(self.routes.addresses.clock.ask(PATIENCE, message).await?)
    }

    async fn supervisor(&self, request: ActorRequest) -> Result<Answer, Refusal> {
        let permit = self.routes.addresses.supervisor.admit()?;
        let message = |reply| SupervisorMsg::Request { request, permit, reply };
        Ok(Answer::Actor(self.routes.addresses.supervisor.ask(PATIENCE, message).await?))
    }

    async fn device_views(&self) -> Vec<DeviceView> {
        let mut views = Vec::with_capacity(self.devices.len());
        for device in &self.devices {
            let viewed = view(device).await;
            views.push(viewed.unwrap_or_else(|refusal| DeviceView::unavailable(device.name(), refusal.to_string())));
        }
        views
    }

    async fn export_home(&self, ledger: LedgerId, to: PeerId, file: String) -> Result<Answer, Refusal> {
        let own = self.routes.peers.opened_ledger().map(|(own, _)| own);
        if own != Some(ledger) {
            let own = own.map_or("none yet".to_owned(), |own| own.to_string());
            let problem = format!("the ledger of this node is {own}");
            return Err(Refusal::invalid("/ledger", problem, "ask the node that serves it: `nodectl home ls`"));
        }
        let file = absolute(file)?;
        let permit = self.routes.addresses.ledger.admit()?;
        let message = |reply| LedgerMsg::Export { to, file, permit, reply };
        let moved = self.routes.addresses.ledger.ask(MOVE_PATIENCE, message).await??;
        Ok(Answer::Node(NodeReply::HomeExported(Box::new(moved))))
    }

    async fn import_home(&self, file: String) -> Result<Answer, Refusal> {
        let file = absolute(file)?;
        let permit = self.routes.addresses.ledger.admit()?;
        let message = |reply| LedgerMsg::Import { file, permit, reply };
        let moved = self.routes.addresses.ledger.ask(MOVE_PATIENCE, message).await??;
        Ok(Answer::Node(NodeReply::HomeImported(Box::new(moved))))
    }

    fn homes(&self) -> Vec<HomeView> {
        let (me, homes) = (self.routes.peers.me(), self.routes.peers.homes());
        let view = |signed: &SignedAnnouncement| {
            let Announcement { ledger, peer, term: Term { tenure, generation } } = signed.announcement;
            let (own, last_seen) = (peer == me, homes.last_seen(ledger.tag()));
            HomeView { ledger, peer_id: peer, tenure, generation, own, last_seen }
        };
        homes.announcements().map(view).collect()
    }

    async fn status(&self, owner: Arc<str>) -> Result<NodeStatus, Refusal> {
        let peers = &self.routes.peers;
        let queue = match self.routes.own_ledger(peers.me(), owner, LedgerRequest::Stats).await? {
            LedgerReply::Stats(stats) => *stats,
            _ => return Err(Refusal::Unavailable { what: "the ledger answered something else".to_owned() }),
        };
        let worker = match self.worker(WorkerRequest::Stats).await? {
            WorkerReply::Stats(stats) => stats,
            WorkerReply::Noted => {
                return Err(Refusal::Unavailable { what: "the worker answered something else".to_owned() });
            }
        };
        let members: Vec<PeerView> = match self.registry(None, RegistryRequest::List).await? {
            RegistryReply::Peers(members) => members,
            RegistryReply::Heartbeat(_) | RegistryReply::Capabilities(_) => Vec::new(),
        };
        let capabilities = match self.registry(None, RegistryRequest::Capabilities).await? {
            RegistryReply::Capabilities(capabilities) => capabilities,
            RegistryReply::Heartbeat(_) | RegistryReply::Peers(_) => Arc::default(),
        };
        Ok(NodeStatus {
            peer_id: peers.me(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            http: self.http.get().map(|address| format!("http://{address}")),
            ledger: queue.ledger,
            uptime_ms: self.started.elapsed().as_millis() as u64,
            listen: peers.net().map(|net| net.listen_addresses()).unwrap_or_default(),
            peers: members,
            queue,
            worker,
            devices: self.device_views().await,
            capabilities,
            notices: self.all_notices().await,
            routes: self.audit.routes(),
        })
    }

    /// Those of the start, and whether HTTP takes no bearer token just now.
    async fn all_notices(&self) -> Vec<String> {
        let mut notices = self.notices.clone();
        if let Some(file) = self.tokens.clone() {
            let read = tokio::task::spawn_blocking(move || TokenFile::read(&file)).await;
            let trouble = read.ok().and_then(Result::err);
            notices.extend(trouble.map(|error| format!("{NONE_TAKEN}: {error}")));
        }
        notices
    }
}

/// The node's working directory is not the caller's.
fn absolute(file: String) -> Result<PathBuf, Refusal> {
    let path = PathBuf::from(file);
    let refusal =
        || Refusal::invalid("/file", "it is not a whole path", "write it from the root on, as /srv/home.ledger");
    if path.is_absolute() { Ok(path) } else { Err(refusal()) }
}

async fn view(device: &Address<DeviceMsg>) -> Result<DeviceView, Refusal> {
    let permit = device.admit()?;
    Ok(device.ask(PATIENCE, |reply| DeviceMsg::View { permit, reply }).await?)
}
