//! Who speaks for a ledger: a member that is not its home does not.

use std::sync::Arc;

use magpie::messages::clock::{ClockReply, ClockRequest, ClockView, Exchange};
use magpie::messages::registry::{Heartbeat, PeerView, RegistryReply, RegistryRequest};
use magpie::messages::worker::WorkerRequest;
use magpie::messages::{Answer, Body, Envelope, ReplyEnvelope};
use magpie_core::clock::{Head, SignedHead};
use magpie_core::homes::{Announcement, SignedAnnouncement, Term};
use magpie_core::ids::{ContentId, Generation, Incarnation, LedgerId, PeerId};
use magpie_core::lease::Slots;
use magpie_core::queue::{Refusal, WorkerNotice};
use magpie_core::task::{TaskKind, TaskSpec, TaskState};
use magpie_core::{limits, wire};
use magpie_net::{Admission, ClusterKey, NetConfig, NetEvent, NetHandle, NodeKey};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::mesh::{PATIENCE, TestNode, mesh_with};

/// A member that says what it likes.
struct Impostor {
    key: NodeKey,
    net: NetHandle,
}

impl Impostor {
    /// Returns when `node` has admitted it.
    async fn beside(node: &TestNode, cluster_key: ClusterKey) -> Self {
        let key = NodeKey::generate().unwrap();
        let config = NetConfig {
            bootstrap: node.status().await.listen,
            admission: Admission { cluster_key: Some(cluster_key), ..Admission::default() },
            ..NetConfig::default()
        };
        let (sender, mut events) = mpsc::channel(64);
        let net = magpie_net::spawn(&key, config, sender).await.unwrap();
        loop {
            let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
            if matches!(event, NetEvent::PeerAdmitted { peer, .. } if peer == node.node.peer_id) {
                break;
            }
        }
        // What others ask it gets no answer.
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        Self { key, net }
    }

    fn announces(&self, ledger: LedgerId, term: Term) -> SignedAnnouncement {
        Announcement { ledger, peer: self.key.peer_id(), term }.sign(&self.key.signing_key())
    }

    fn head(&self, ledger: LedgerId) -> SignedHead {
        let (peer, event) = (self.key.peer_id(), ContentId([7; 32]));
        Head { ledger, peer, tenure: 9, generation: Generation(9), count: 9, event }.sign(&self.key.signing_key())
    }

    async fn says(&self, to: PeerId, body: Body) -> Answer {
        self.says_any(to, &Envelope { id: 1, ttl_ms: PATIENCE.as_millis() as u64, trace: None, body }).await.answer
    }

    async fn says_any(&self, to: PeerId, message: &impl Serialize) -> ReplyEnvelope {
        let frame = wire::encode(message, limits::FRAME_BYTES_MAX).unwrap();
        let reply = self.net.request(to, frame, PATIENCE).await.unwrap();
        wire::decode_frame(&reply).unwrap()
    }

    async fn beats(&self, to: PeerId, announcement: SignedAnnouncement) {
        let heartbeat = Heartbeat {
            incarnation: Incarnation(1),
            ledger: announcement.announcement.ledger,
            generation: announcement.announcement.term.generation,
            announcement: Some(Box::new(announcement)),
            version: "1".to_owned(),
            capabilities: Arc::default(),
            slots_free: Slots::default(),
            worker: None,
            backlog: Vec::new(),
            clock_root: [0; 32],
            reports: Vec::new(),
            revoked_digest: None,
            wall_ms: None,
        };
        let answer = self.says(to, Body::Registry(RegistryRequest::Heartbeat(Box::new(heartbeat)))).await;
        assert!(matches!(answer, Answer::Registry(RegistryReply::Heartbeat(_))), "{answer:?}");
    }
}

async fn clock_of(node: &TestNode) -> ClockView {
    match node.client.ask(Body::Clock(ClockRequest::Show), PATIENCE).await.unwrap() {
        Answer::Clock(ClockReply::Clock(view)) => view,
        other => panic!("{other:?}"),
    }
}

async fn peers_of(node: &TestNode) -> Vec<PeerView> {
    match node.client.ask(Body::Registry(RegistryRequest::List), PATIENCE).await.unwrap() {
        Answer::Registry(RegistryReply::Peers(peers)) => peers,
        other => panic!("{other:?}"),
    }
}

async fn ledger_of(node: &TestNode, peer: PeerId) -> Option<LedgerId> {
    peers_of(node).await.into_iter().find(|view| view.peer_id == peer).and_then(|view| view.ledger)
}

/// Two nodes, and a member that is neither's home.
async fn two_and_an_impostor() -> (Vec<TestNode>, Impostor) {
    let key_dir = tempfile::tempdir().unwrap();
    let file = key_dir.path().join("cluster.key");
    let cluster_key = ClusterKey::load_or_create(&file).unwrap();
    let nodes = mesh_with(2, |config| config.cluster_key = Some(file.clone())).await;
    let impostor = Impostor::beside(&nodes[0], cluster_key).await;
    (nodes, impostor)
}

#[tokio::test]
async fn a_member_of_a_later_version_hears_under_its_ids_what_is_not_understood_and_stays_a_member() {
    let (nodes, later) = two_and_an_impostor().await;
    let me = nodes[0].node.peer_id;
    for id in 1..=100 {
        let bodies = [json!({"moon": "phase"}), json!({"ledger": {"foresee": {"id": 7}}}), json!({"node": "dream"})];
        for body in bodies {
            let reply = later.says_any(me, &json!({"id": id, "ttl_ms": 1_000, "body": body})).await;
            assert_eq!(reply.id, id);
            assert!(matches!(reply.answer, Answer::Refused(Refusal::Unsupported { .. })), "{reply:?}");
        }
    }
    // A field that this version does not know is no reason to refuse one that it does.
    let known = json!({"id": 101, "ttl_ms": 1_000, "moon": "new", "body": {"node": "status"}});
    assert!(matches!(later.says_any(me, &known).await.answer, Answer::Node(_)));
    later.net.shutdown().await;
}

const LATER: Term = Term { tenure: 9, generation: Generation(9) };

#[tokio::test]
async fn a_member_that_announces_the_ledger_of_another_does_not_become_its_home() {
    let (nodes, impostor) = two_and_an_impostor().await;
    let (me, other) = (nodes[0].node.peer_id, nodes[1].node.peer_id);
    let ledger = nodes[1].status().await.ledger;
    impostor.beats(me, impostor.announces(ledger, LATER)).await;
    assert_eq!(ledger_of(&nodes[0], other).await, Some(ledger));
    assert_eq!(ledger_of(&nodes[0], impostor.key.peer_id()).await, None);
    // What the other accepted is still asked of the other.
    let [id] = nodes[1].submit(TaskSpec::new(TaskKind::Noop), 1).await[..] else { panic!() };
    assert_eq!(nodes[0].wait(id).await.state, TaskState::Succeeded);
    impostor.net.shutdown().await;
}

#[tokio::test]
async fn a_head_that_is_not_of_its_ledgers_home_does_not_enter_the_clock() {
    let (nodes, impostor) = two_and_an_impostor().await;
    let me = nodes[0].node.peer_id;
    let (of_other, invented) = (nodes[1].status().await.ledger, LedgerId([9; 16]));
    let exchange = Exchange {
        announcements: vec![impostor.announces(of_other, LATER)],
        heads: vec![impostor.head(of_other), impostor.head(invented)],
    };
    let refused = clock_of(&nodes[0]).await.refused;
    impostor.says(me, Body::Clock(ClockRequest::Exchange(exchange))).await;
    let clock = clock_of(&nodes[0]).await;
    assert!(clock.heads.iter().all(|head| head.head.peer != impostor.key.peer_id()), "{clock:?}");
    assert_eq!(clock.refused, refused + 3);
    // One of a ledger that is its own does.
    let exchange =
        Exchange { announcements: vec![impostor.announces(invented, LATER)], heads: vec![impostor.head(invented)] };
    impostor.says(me, Body::Clock(ClockRequest::Exchange(exchange))).await;
    let clock = clock_of(&nodes[0]).await;
    assert!(clock.heads.contains(&impostor.head(invented)), "{clock:?}");
    impostor.net.shutdown().await;
}

#[tokio::test]
async fn a_notice_in_the_name_of_another_home_and_one_of_an_earlier_term_are_refused() {
    let (nodes, impostor) = two_and_an_impostor().await;
    let me = nodes[0].node.peer_id;
    let other = nodes[1].status().await.ledger;
    let own = LedgerId([9; 16]);
    let notice = |ledger: LedgerId, term| {
        let notice = WorkerNotice::Recall(Vec::new());
        Body::Worker(WorkerRequest::Notice { home: ledger.tag(), term, notice })
    };
    let refused = |answer: Answer| matches!(answer, Answer::Refused(_));
    assert!(refused(impostor.says(me, notice(other, LATER)).await));
    assert!(refused(impostor.says(me, notice(own, LATER)).await), "nobody has announced it");
    impostor.beats(me, impostor.announces(own, LATER)).await;
    assert!(!refused(impostor.says(me, notice(own, LATER)).await));
    assert!(refused(impostor.says(me, notice(own, Term { tenure: 9, generation: Generation(8) })).await));
    impostor.net.shutdown().await;
}

/// Of each exchange the first wrong signature is looked at, and no more.
#[tokio::test]
async fn a_member_that_passes_on_wrong_signatures_is_banned() {
    let (nodes, impostor) = two_and_an_impostor().await;
    let (me, eve, invented) = (nodes[0].node.peer_id, impostor.key.peer_id(), LedgerId([9; 16]));
    impostor.beats(me, impostor.announces(invented, LATER)).await;
    let forged: Vec<SignedHead> = (0..1_000)
        .map(|n| {
            let mut forged = impostor.head(invented);
            forged.head.count += n;
            forged
        })
        .collect();
    let exchange = Exchange { announcements: Vec::new(), heads: forged[1..].to_vec() };
    let refused = clock_of(&nodes[0]).await.refused;
    impostor.says(me, Body::Clock(ClockRequest::Exchange(exchange.clone()))).await;
    assert_eq!(clock_of(&nodes[0]).await.refused, refused + 1);
    for _ in 0..3 {
        let envelope = Envelope {
            id: 1,
            ttl_ms: PATIENCE.as_millis() as u64,
            trace: None,
            body: Body::Clock(ClockRequest::Exchange(exchange.clone())),
        };
        let frame = wire::encode(&envelope, limits::FRAME_BYTES_MAX).unwrap();
        // The last may find the connection closed before it is answered.
        let _ = impostor.net.request(me, frame, PATIENCE).await;
    }
    let is_banned = |status: &magpie::messages::node::NodeStatus| {
        let view = status.peers.iter().find(|view| view.peer_id == eve);
        view.is_some_and(|view| view.state == "banned" && !view.connected && view.banned_for_ms.is_some())
    };
    nodes[0].until("the impostor is banned", is_banned).await;
    assert!(peers_of(&nodes[1]).await.iter().any(|view| view.peer_id == me && view.state == "alive"));
    impostor.net.shutdown().await;
}
