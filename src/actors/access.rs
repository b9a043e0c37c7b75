//! The one place that says who may come in. The swarm takes its rules from here, at each start and whenever they change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use magpie_core::access::{RevocationError, Revoked, SignedRevocation, Ticket};
use magpie_core::ids::{PeerId, TicketId};
use magpie_core::limits;
use magpie_core::queue::Refusal;
use magpie_core::time::Wall;
use magpie_net::{Admission, ClusterKey, KeyRotation};

use super::peers::Peers;
use super::readings::now;
use crate::messages::access::{AccessReply, AccessRequest, FormerKeyView, KeyView};
use crate::messages::{Answer, Body};
use crate::store::revocations;

/// The rules of a node, shared by its actors.
#[derive(Clone)]
pub struct Access {
    shared: Arc<Shared>,
}

struct Shared {
    peers: Peers,
    file: PathBuf,
    rotation_file: PathBuf,
    rules: RwLock<Admission>,
    /// One change at a time: each is on the disk before the next is decided.
    turn: tokio::sync::Mutex<()>,
    /// The last digest of each member that was caught up with.
    heard: Mutex<BTreeMap<PeerId, u64>>,
}

impl Access {
    /// Begins with `rules` and the revocations that are kept in the first file; the second keeps a change of the key.
    ///
    /// # Errors
    /// If the file cannot be read: without it, who was revoked would come in again.
    pub fn open(peers: Peers, mut rules: Admission, (file, rotation_file): (PathBuf, PathBuf)) -> Result<Self, String> {
        // What a former key revoked stays so, though nobody is told any more.
        let mut accepted = rules.accepted_clusters(Wall(now().wall_ms));
        accepted.extend(rules.rotation.iter().flat_map(|rotation| rotation.replaced()));
        for kept in revocations::read(&file).map_err(|error| error.to_string())? {
            if let Err(error) = rules.revoked.learn(kept, &accepted) {
                tracing::warn!(%error, "a revocation is left out");
            }
        }
        let shared = Shared {
            peers,
            file,
            rotation_file,
            rules: RwLock::new(rules),
            turn: Default::default(),
            heard: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Who may come in, as of now.
    pub fn rules(&self) -> Admission {
        self.shared.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Of what this node knows to be revoked.
    pub fn digest(&self) -> u64 {
        self.shared.rules.read().unwrap_or_else(PoisonError::into_inner).revoked.digest()
    }

    /// Changes the rules, here and in the running network: whom they do not admit any more goes at once.
    pub async fn change(&self, change: impl FnOnce(&mut Admission)) {
        let rules = {
            let mut rules = self.shared.rules.write().unwrap_or_else(PoisonError::into_inner);
            change(&mut rules);
            rules.clone()
        };
        if let Some(net) = self.shared.peers.net() {
            net.admit_by(rules).await;
        }
    }

    /// # Errors
    /// Why it was not done.
    pub async fn answer(&self, request: AccessRequest) -> Result<AccessReply, Refusal> {
        match request {
            AccessRequest::IssueTicket { peer, role, life_ms } => {
                let (key, id) = (self.key()?, TicketId(rand::random()));
                let issued = Ticket::issue(key.issuing_key(), id, peer, role, Wall(now().wall_ms), life_ms);
                let problem = |error| Refusal::invalid("/expires", error, "name a length as 30d or 12h");
                Ok(AccessReply::Ticket(issued.map_err(|error| problem(error.to_string()))?.into()))
            }
            AccessRequest::Revoke { revoked } => self.revoke(revoked).await.map(AccessReply::Revoked),
            AccessRequest::RotateKey { file, overlap_ms } => {
                self.rotate(file.into(), overlap_ms).await?;
                Ok(AccessReply::Key(Box::new(self.view())))
            }
            AccessRequest::ShowKey => Ok(AccessReply::Key(Box::new(self.view()))),
            AccessRequest::Learn { revocations } => {
                self.learn(revocations).await.map(|new| AccessReply::Learned { new })
            }
            AccessRequest::Tell => Ok(AccessReply::Revocations(self.rules().revoked.iter().copied().collect())),
        }
    }

    fn key(&self) -> Result<ClusterKey, Refusal> {
        self.rules().cluster_key.ok_or_else(|| Refusal::Unsupported {
            what: "it does not hold the cluster key: ask a node whose configuration names a `cluster_key`".to_owned(),
        })
    }

    fn view(&self) -> KeyView {
        let (rules, at) = (self.rules(), Wall(now().wall_ms));
        KeyView {
            peer_id: self.shared.peers.me(),
            cluster: rules.cluster_key.as_ref().map(|key| key.issuing_key().cluster()),
            accepted: rules.accepted_clusters(at),
            former: rules
                .former_key(at)
                .zip(rules.rotation.as_ref())
                .map(|(key, rotation)| FormerKeyView { cluster: key.issuing_key().cluster(), until: rotation.until }),
            ticket: rules.ticket.map(Into::into),
            revocations: rules.revoked.len() as u64,
        }
    }

    /// Takes the key in `file` in the place of the one that is held, which admits for `overlap_ms` more: on the disk first.
    async fn rotate(&self, file: PathBuf, overlap_ms: u64) -> Result<(), Refusal> {
        let _turn = self.shared.turn.lock().await;
        if overlap_ms > limits::KEY_OVERLAP_MS_MAX {
            return Err(Refusal::invalid("/overlap", "it is longer than 30 days", "name a length as 24h or 7d"));
        }
        let (held, last) = (self.key()?, self.rules().rotation);
        let (until, kept) = (Wall(now().wall_ms + overlap_ms), self.shared.rotation_file.clone());
        let rotate = move || {
            let wrong = |problem: String| {
                let fix = "name a file of this machine that holds the new key: openssl rand -hex 32, mode 600";
                Refusal::invalid("/file", problem, fix)
            };
            let key = ClusterKey::load(&file).map_err(|error| wrong(error.to_string()))?;
            let rotation =
                KeyRotation::next(last.as_ref(), &held, key, until).map_err(|error| wrong(error.to_string()))?;
            rotation.save(&kept).map_err(|error| Refusal::Unavailable { what: error.to_string() })?;
            Ok(rotation)
        };
        let rotated = tokio::task::spawn_blocking(rotate).await;
        let rotation = rotated.unwrap_or_else(|error| Err(Refusal::Unavailable { what: error.to_string() }))?;
        let cluster = rotation.key.issuing_key().cluster();
        self.change(|rules| {
            rules.cluster_key = Some(rotation.key.clone());
            rules.rotation = Some(rotation);
        })
        .await;
        tracing::info!(%cluster, %until, "the cluster key was replaced");
        Ok(())
    }

    async fn revoke(&self, revoked: Revoked) -> Result<SignedRevocation, Refusal> {
        if revoked == Revoked::Peer(self.shared.peers.me()) {
            let fix = "ask another member that holds the cluster key";
            return Err(Refusal::invalid("/revoked", "this node would revoke itself", fix));
        }
        let signed = SignedRevocation::issue(self.key()?.issuing_key(), revoked, Wall(now().wall_ms));
        self.learn(vec![signed]).await?;
        // Those who are connected hear it now, the others by the digest in a heartbeat.
        for info in self.shared.peers.net().map(|net| net.peers()).unwrap_or_default() {
            let body = Body::Access(AccessRequest::Learn { revocations: vec![signed] });
            self.shared.peers.tell(info.peer, body, |_| ());
        }
        Ok(signed)
    }

    /// Takes up what is new of `told`, on the disk first; how much that was. What is not signed by a cluster that is
    /// accepted here is left out.
    async fn learn(&self, told: Vec<SignedRevocation>) -> Result<u32, Refusal> {
        let _turn = self.shared.turn.lock().await;
        let (accepted, mut revoked) = {
            let rules = self.rules();
            (rules.accepted_clusters(Wall(now().wall_ms)), rules.revoked)
        };
        let mut new = 0;
        for signed in told.into_iter().take(limits::REVOCATIONS_MAX) {
            match revoked.learn(signed, &accepted) {
                Ok(is_new) => new += u32::from(is_new),
                // No honest member passes this on: what follows it is not worth the checking.
                Err(error @ RevocationError::WrongSignature { .. }) => {
                    tracing::warn!(%error, "the revocations from here on are not taken");
                    break;
                }
                Err(error) => tracing::warn!(%error, "a revocation is not taken"),
            }
        }
        if new == 0 {
            return Ok(0);
        }
        let (file, kept) = (self.shared.file.clone(), revoked.iter().copied().collect::<Vec<_>>());
        let written = tokio::task::spawn_blocking(move || revocations::write(&file, &kept)).await;
        let unavailable = |what: String| Refusal::Unavailable { what };
        written.map_err(|error| unavailable(error.to_string()))?.map_err(|error| unavailable(error.to_string()))?;
        self.change(|rules| rules.revoked = revoked).await;
        tracing::info!(new, "revocations taken up");
        Ok(new)
    }

    /// A member's heartbeat names the digest of what it knows: where that is news, it is asked.
    pub fn heard_digest(&self, peer: PeerId, digest: u64) {
        if digest == self.digest() || digest == 0 {
            return;
        }
        let mut heard = self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.get(&peer) == Some(&digest) {
            return;
        }
        if heard.len() >= limits::PEERS_MAX {
            heard.clear();
        }
        heard.insert(peer, digest);
        drop(heard);
        let access = self.clone();
        self.shared.peers.errand(async move {
            if !access.catch_up(peer).await {
                access.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
            }
        });
    }

    /// Whether `peer` told what it knows, and that is kept.
    async fn catch_up(&self, peer: PeerId) -> bool {
        let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
        match self.shared.peers.ask(peer, Body::Access(AccessRequest::Tell), patience).await {
            Ok(Answer::Access(AccessReply::Revocations(told))) => self.learn(told).await.is_ok(),
            Ok(_) | Err(_) => false,
        }
    }
}
