//! Speaking to other nodes: which peer serves which ledger, and requests as the shared vocabulary.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use dashmap::DashMap;
use magpie_core::conduct::Offence;
use magpie_core::homes::{Announcement, Handover, Homes, SignedHandover, Term};
use magpie_core::ids::{LedgerId, LedgerTag, PeerId, TaskId};
use magpie_core::peer_metrics::{Measured, MetricsTable, MetricsView};
use magpie_core::queue::{LedgerReply, LedgerRequest, Refusal, WorkerNotice};
use magpie_core::{limits, wire};
use magpie_net::{NetHandle, NodeKey, RequestError};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::readings::now;
use crate::messages::worker::WorkerRequest;
use crate::messages::{Answer, Body, Envelope, ReplyEnvelope};
use crate::node_thread::Vigil;

/// Errands under way at a time of which somebody should know.
const ERRANDS_MANY: usize = 10_000;

/// Shared by all actors of a node that speak to peers.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    me: PeerId,
    key: NodeKey,
    net: RwLock<Option<NetHandle>>,
    homes: RwLock<Homes>,
    /// The names that peers submit under: to write one takes longer than to read a request.
    principals: DashMap<PeerId, Arc<str>>,
    next_id: AtomicU64,
    errands: Mutex<JoinSet<()>>,
    /// Places for the errands of peers.
    admission: Arc<Semaphore>,
    /// Places for notices that find no room on their way.
    notices: Arc<Semaphore>,
    metrics: Mutex<MetricsTable>,
    vigil: Vigil,
}

/// A request to a peer that was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    pub why: String,
    /// Whether the peer may have heard it.
    pub sent: bool,
}

impl Peers {
    pub fn new(key: NodeKey) -> Self {
        let shared = Shared {
            me: key.peer_id(),
            key,
            net: RwLock::default(),
            homes: RwLock::default(),
            principals: DashMap::new(),
            next_id: AtomicU64::new(1),
            errands: Mutex::default(),
            admission: Arc::new(Semaphore::new(limits::PEER_ERRANDS_MAX)),
            notices: Arc::new(Semaphore::new(limits::PEER_NOTICES_MAX)),
            metrics: Mutex::default(),
            vigil: Vigil::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub fn me(&self) -> PeerId {
        self.shared.me
    }

    pub fn connect(&self, net: Option<NetHandle>) {
        *self.shared.net.write().unwrap_or_else(PoisonError::into_inner) = net;
    }

    pub fn net(&self) -> Option<NetHandle> {
        self.shared.net.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what `peer` did that no honest peer does: too much of it, and it is kept out for a while.
    pub fn blame(&self, peer: PeerId, offence: Offence) {
        if let Some(net) = self.net() {
            net.note(peer, offence);
        }
    }

    /// Which node serves which ledger.
    pub fn homes(&self) -> RwLockReadGuard<'_, Homes> {
        self.shared.homes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be told, with what was heard.
    pub fn homes_mut(&self) -> RwLockWriteGuard<'_, Homes> {
        self.shared.homes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this node announces that it serves `ledger`.
    pub fn serve_ledger(&self, ledger: LedgerId, term: Term, handovers: &[SignedHandover]) {
        let announcement = Announcement { ledger, peer: self.shared.me, term };
        let signed = announcement.sign(&self.shared.key.signing_key());
        self.homes_mut().serve(signed.with_handovers(handovers.to_vec()));
    }

    /// From now on this node serves nothing, and sends on who asks for `ledger`.
    pub fn hand_over_ledger(&self, ledger: LedgerId, term: Term, handover: Handover) {
        self.homes_mut().hand_over(Announcement { ledger, peer: self.shared.me, term }, handover);
    }

    /// Signs that this node gives its ledger away.
    pub fn sign_handover(&self, handover: Handover) -> SignedHandover {
        handover.sign(&self.shared.key.signing_key())
    }

    /// The ledger that is on this node's disk, once it is open, whether this node serves it or has handed it over.
    pub fn opened_ledger(&self) -> Option<(LedgerId, Term)> {
        let gone = || self.homes().handed_over().map(|own| (own.ledger, own.term));
        self.own_ledger().or_else(gone)
    }

    /// This node's own ledger, once it is open.
    pub fn own_ledger(&self) -> Option<(LedgerId, Term)> {
        self.homes().own().map(|own| (own.announcement.ledger, own.announcement.term))
    }

    /// Which life of this node's home speaks.
    pub fn own_term(&self) -> Option<Term> {
        self.own_ledger().map(|(_, term)| term)
    }

    /// The peer that serves `ledger`, as last announced.
    pub fn home_of(&self, ledger: LedgerTag) -> Option<PeerId> {
        self.homes().home_of(ledger)
    }

    /// The principal that a peer submits as.
    pub fn principal_of(&self, peer: PeerId) -> Arc<str> {
        let principals = &self.shared.principals;
        if let Some(known) = principals.get(&peer) {
            return known.clone();
        }
        if principals.len() >= limits::PEERS_MAX {
            principals.clear();
        }
        principals.entry(peer).or_insert_with(|| format!("peer:{peer}").into()).clone()
    }

    /// Takes up what was measured of a peer.
    pub fn measure(&self, peer: PeerId, measured: Measured) {
        self.table().handle(now().mono_ms, peer, measured);
    }

    /// What was measured of all peers, or of one, with its history.
    pub fn metrics(&self, of: Option<PeerId>) -> Vec<MetricsView> {
        self.table().views(now().mono_ms, of)
    }

    fn table(&self) -> MutexGuard<'_, MetricsTable> {
        self.shared.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to a peer and waits for its answer, at most `patience`.
    ///
    /// # Errors
    /// Why no answer came; all are worth a retry with the same operation id.
    pub async fn ask(&self, peer: PeerId, body: Body, patience: Duration) -> Result<Answer, Refusal> {
        let frame = self.frame(body, patience)?;
        self.ask_with(peer, frame, patience).await
    }

    /// As [`Self::ask`], with what is known of a request that was not answered.
    ///
    /// # Errors
    /// That no answer came, and whether the peer may have heard the request.
    pub async fn ask_or_unheard(&self, peer: PeerId, body: Body, patience: Duration) -> Result<Answer, Unheard> {
        let unsent = |refusal: Refusal| Unheard { why: refusal.to_string(), sent: false };
        let frame = self.frame(body, patience).map_err(unsent)?;
        let net = self.net().ok_or_else(|| unsent(restarting()))?;
        let reply = net.request(peer, frame, patience).await.map_err(|error| {
            let sent = match error {
                RequestError::NotConnected { .. }
                | RequestError::Busy { .. }
                | RequestError::TooLong { .. }
                | RequestError::Stopped => false,
                RequestError::TimedOut { .. } | RequestError::Interrupted { .. } | RequestError::Unanswered { .. } => {
                    true
                }
            };
            Unheard { why: error.to_string(), sent }
        })?;
        self.read_answer(peer, Ok(reply)).map_err(|refusal| Unheard { why: refusal.to_string(), sent: true })
    }

    fn frame(&self, body: Body, patience: Duration) -> Result<Vec<u8>, Refusal> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let envelope = Envelope { id, ttl_ms: patience.as_millis() as u64, trace: None, body };
        wire::encode(&envelope, limits::FRAME_BYTES_MAX)
            .map_err(|error| Refusal::Unsupported { what: error.to_string() })
    }

    async fn ask_with(&self, peer: PeerId, frame: Vec<u8>, patience: Duration) -> Result<Answer, Refusal> {
        let net = self.net().ok_or_else(restarting)?;
        self.read_answer(peer, net.request(peer, frame, patience).await)
    }

    /// Sends a request: it is on its way when this returns, in the order of the calls, while the peer keeps up. `then`
    /// gets the answer, or why there is none.
    pub fn tell(&self, peer: PeerId, body: Body, then: impl FnOnce(Result<Answer, Refusal>) + Send + 'static) {
        let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
        self.stay_awake_for(&body);
        let (frame, net) = match (self.frame(body, patience), self.net()) {
            (Ok(frame), Some(net)) => (frame, net),
            (Err(refusal), _) => return then(Err(refusal)),
            (Ok(_), None) => return then(Err(restarting())),
        };
        let peers = self.clone();
        let hearer = move |reply| then(peers.read_answer(peer, reply));
        if let Err((frame, hearer)) = net.request_at_once(peer, frame, hearer) {
            self.errand(async move { hearer(net.request(peer, frame, patience).await) });
        }
    }

    /// What keeps the thread of the actors awake.
    pub fn vigil(&self) -> Vigil {
        self.shared.vigil.clone()
    }

    /// What follows on a task that is alone may be here sooner than a thread wakes.
    fn stay_awake_for(&self, body: &Body) {
        if is_one_task(body) {
            self.shared.vigil.keep();
        }
    }

    /// Sends a message that wants no answer and may get lost.
    pub fn notify(&self, peer: PeerId, body: Body) {
        let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
        let Some(net) = self.net() else { return };
        self.stay_awake_for(&body);
        let told = self.frame(body, patience).map(|frame| net.tell(peer, frame));
        match told {
            Ok(Ok(())) => {}
            Ok(Err(frame)) => {
                let Ok(place) = self.shared.notices.clone().try_acquire_owned() else {
                    return tracing::warn!(%peer, "too many notices wait for slow peers: one is not sent");
                };
                let peers = self.clone();
                self.errand_at_once(async move {
                    let _place = place;
                    if let Err(refusal) = peers.ask_with(peer, frame, patience).await {
                        tracing::debug!(%refusal, "a notice may have been lost");
                    }
                });
            }
            Err(refusal) => tracing::error!(%refusal, "a notice does not fit a frame"),
        }
    }

    /// As [`Self::errand`], with the first step taken here: what it sends is on its way when this returns, in the
    /// order of the calls and without waiting for another thread. For work whose first step is cheap.
    pub fn errand_at_once(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut work = Box::pin(work);
        // Whatever this step waits for, the second poll, by the runtime, asks for it again.
        let mut context = Context::from_waker(Waker::noop());
        if work.as_mut().poll(&mut context).is_pending() {
            self.errand(work);
        }
    }

    /// A place for an errand that a peer asks for: taken before it begins, and freed with it.
    ///
    /// # Errors
    /// If [`limits::PEER_ERRANDS_MAX`] are under way.
    pub fn admit_errand(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let admitted = self.shared.admission.clone().try_acquire_owned();
        admitted.map_err(|_| Refusal::Overloaded {
            retry_after_ms: 100,
            what: format!("{} requests of peers are under way", limits::PEER_ERRANDS_MAX),
        })
    }

    /// Runs `work` to its end beside the actor that calls, owned by this node.
    ///
    /// It is never refused: an attempt, an upload or an answer would be lost. So each has its bound where it is made:
    /// slots, one request under way to a home, batches of a device, places in a mailbox, [`Self::admit_errand`].
    pub fn errand(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.errand_on(&Handle::current(), work);
    }

    /// As [`Self::errand`], on another runtime: for work that computes.
    pub fn errand_on(&self, runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) {
        let mut errands = self.shared.errands.lock().unwrap_or_else(PoisonError::into_inner);
        while errands.try_join_next().is_some() {}
        errands.spawn_on(work, runtime);
        if errands.len() == ERRANDS_MANY {
            tracing::warn!(under_way = ERRANDS_MANY, "this node has many errands under way");
        }
    }

    /// Asks the home of `ledger`, which is another node, by its name: if that node serves another ledger by now, it
    /// refuses.
    ///
    /// # Errors
    /// [`Refusal::HomeAway`] if it is not known or does not answer.
    pub async fn ask_named(&self, home: LedgerTag, request: LedgerRequest) -> Result<LedgerReply, Refusal> {
        let last_seen = self.homes().last_seen(home);
        let away = || Refusal::HomeAway { home, last_seen };
        let peer = self.home_of(home).ok_or_else(away)?;
        let patience = Duration::from_millis(limits::PEER_REQUEST_TIMEOUT_MS);
        match self.ask(peer, Body::Home { home, request }, patience).await {
            Ok(Answer::Ledger(reply)) => Ok(reply),
            Ok(Answer::Refused(refusal)) => Err(refusal),
            Ok(_) => Err(Refusal::Unavailable { what: format!("{peer} answered something else") }),
            Err(_) => Err(away()),
        }
    }

    /// Asks the home of `ledger`, which is another node.
    ///
    /// # Errors
    /// [`Refusal::HomeUnreachable`] if it is not known or does not answer.
    pub async fn ask_home(
        &self,
        id: TaskId,
        request: LedgerRequest,
        patience: Duration,
    ) -> Result<LedgerReply, Refusal> {
        let last_seen = self.homes().last_seen(id.ledger);
        let unreachable = || Refusal::HomeUnreachable { id, last_seen, known: None };
        let home = self.home_of(id.ledger).ok_or_else(unreachable)?;
        match self.ask(home, Body::Ledger(request), patience).await {
            Ok(Answer::Ledger(reply)) => Ok(reply),
            Ok(Answer::Refused(refusal)) => Err(refusal),
            Ok(_) => Err(Refusal::Unavailable { what: format!("{home} answered something else") }),
            Err(_) => Err(unreachable()),
        }
    }

    /// What an earlier life of a home answers, a copy of its disk, is as if it had not answered.
    fn read_answer(&self, peer: PeerId, reply: Result<Vec<u8>, RequestError>) -> Result<Answer, Refusal> {
        let unavailable = |what: String| Refusal::Unavailable { what };
        let reply = reply.map_err(|error| unavailable(error.to_string()))?;
        let ReplyEnvelope { answer, term, .. } =
            wire::decode_frame(&reply).map_err(|error| unavailable(format!("{peer} answered nonsense: {error}")))?;
        if let Some(term) = term {
            let homes = self.homes();
            let known = homes.announced_by(peer).map(|known| known.term);
            if known.is_some_and(|known| term < known) {
                return Err(unavailable(format!(
                    "{peer} answered in term {term:?}, and serves its ledger in {known:?}"
                )));
            }
        }
        Ok(answer)
    }
}

fn restarting() -> Refusal {
    Refusal::Unavailable { what: "the network is restarting".to_owned() }
}

/// Whether a task goes to its worker, or comes back from it, and no other with it.
fn is_one_task(body: &Body) -> bool {
    match body {
        Body::Worker(WorkerRequest::Notice { notice: WorkerNotice::Grants(grants), .. }) => grants.len() == 1,
        Body::Ledger(LedgerRequest::Complete(completions)) => completions.len() == 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use serde_json::Value;
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_task_that_goes_alone_or_comes_back_alone_is_one_and_a_batch_is_not() {
        let golden: Vec<Value> = include_str!("../messages/golden/requests.jsonl")
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["message"]["body"].take())
            .collect();
        for tasks in ["/worker/notice/notice/grants", "/ledger/complete"] {
            let mut body = golden.iter().find(|body| body.pointer(tasks).is_some()).unwrap().clone();
            let task = body.pointer(tasks).unwrap()[0].clone();
            for count in 0..3 {
                *body.pointer_mut(tasks).unwrap() = vec![task.clone(); count].into();
                let read: Body = serde_json::from_value(body.clone()).unwrap();
                assert_eq!(is_one_task(&read), count == 1, "{count} of {tasks}");
            }
        }
    }

    #[tokio::test]
    async fn i13_peers_are_refused_beyond_their_places_and_an_own_errand_never() {
        let peers = Peers::new(NodeKey::from_seed([1; 32]));
        let mut places: Vec<_> = (0..limits::PEER_ERRANDS_MAX).map(|_| peers.admit_errand().unwrap()).collect();
        assert!(matches!(peers.admit_errand(), Err(Refusal::Overloaded { .. })));
        for place in places.split_off(1) {
            peers.errand(async move {
                pending::<()>().await;
                drop(place);
            });
        }
        (0..ERRANDS_MANY).for_each(|_| peers.errand(pending()));
        assert!(matches!(peers.admit_errand(), Err(Refusal::Overloaded { .. })));
        let (ran, runs) = oneshot::channel();
        peers.errand(async move { ran.send(()).expect("it is waited for") });
        runs.await.expect("an attempt or an answer is not dropped");
        drop(places);
        assert!(peers.admit_errand().is_ok(), "a place that came free is another's");
    }
}
