//! A node under test.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use magpie_core::access::{Role, SignedTicket, Ticket};
use magpie_core::ids::{PeerId, TicketId};
use magpie_core::time::Wall;
use magpie_net::{Admission, ClusterKey, NetConfig, NetError, NetEvent, NetHandle, NodeKey, Responder, spawn};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Far above what anything here takes, also on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub const KEY: [u8; 32] = [9; 32];

pub fn with_key() -> Admission {
    Admission { cluster_key: Some(ClusterKey::from_bytes(KEY)), ..Admission::default() }
}

pub fn with_other_key() -> Admission {
    Admission { cluster_key: Some(ClusterKey::from_bytes([8; 32])), ..Admission::default() }
}

/// The public half of the key, and a ticket of its holder for the peer of `seed`.
pub fn with_ticket(seed: u8, role: Role, life_ms: u64) -> Admission {
    let ticket = ticket(KEY, peer(seed), role, now_ms(), life_ms);
    Admission { clusters: [ticket.ticket.issuer].into(), ticket: Some(ticket), ..Admission::default() }
}

/// A ticket that a holder of the key issued at `from_ms`.
pub fn ticket(key: [u8; 32], peer: PeerId, role: Role, from_ms: u64, life_ms: u64) -> SignedTicket {
    let (key, id) = (ClusterKey::from_bytes(key), TicketId([peer.0[0]; 16]));
    Ticket::issue(key.issuing_key(), id, peer, role, Wall(from_ms), life_ms).unwrap()
}

pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

pub fn with_list(allow: &[PeerId]) -> Admission {
    Admission { allow: allow.iter().copied().collect(), ..Admission::default() }
}

pub fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

pub fn peer(seed: u8) -> PeerId {
    key(seed).peer_id()
}

/// Listens on `address` and admits holders of the key.
pub fn listening(address: &str) -> NetConfig {
    NetConfig { listen: vec![address.into()], admission: with_key(), ..NetConfig::default() }
}

/// Dials `bootstrap`, listens on TCP and admits holders of the key.
pub fn dialling(bootstrap: &[String]) -> NetConfig {
    NetConfig { bootstrap: bootstrap.to_vec(), ..listening(TCP) }
}

pub struct Node {
    pub net: NetHandle,
    events: mpsc::Receiver<NetEvent>,
    put_back: VecDeque<NetEvent>,
}

pub async fn start(seed: u8, config: NetConfig) -> Node {
    start_with_inbox(seed, config, 1_024).await
}

pub async fn start_with_inbox(seed: u8, config: NetConfig, inbox_len: usize) -> Node {
    // With RUST_LOG set, a failing test tells what the nodes thought.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let (inbox, events) = mpsc::channel(inbox_len);
    let net = in_a_thread(seed, config, inbox).await.expect("the node starts");
    Node { net, events, put_back: VecDeque::new() }
}

/// As in a process of its own: two nodes share no thread.
async fn in_a_thread(seed: u8, config: NetConfig, inbox: mpsc::Sender<NetEvent>) -> Result<NetHandle, NetError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (started, starting) = oneshot::channel();
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let _ = started.send(spawn(&key(seed), config, inbox).await);
            // The test's process ends it.
            std::future::pending::<()>().await;
        });
    });
    starting.await.expect("the thread runs")
}

impl Node {
    pub fn peer(&self) -> PeerId {
        self.net.local_peer()
    }

    pub fn address(&self) -> String {
        self.net.listen_addresses().first().expect("the node listens").clone()
    }

    pub fn bare_address(&self) -> String {
        self.address().split("/p2p/").next().unwrap().to_owned()
    }

    /// The next event that `wanted` takes; the others stay, in order.
    pub async fn event<T>(&mut self, mut wanted: impl FnMut(NetEvent) -> Result<T, NetEvent>) -> T {
        let mut passed = VecDeque::new();
        loop {
            let event = match self.put_back.pop_front() {
                Some(event) => event,
                None => timeout(PATIENCE, self.events.recv()).await.expect("the event comes").expect("the net runs"),
            };
            match wanted(event) {
                Ok(found) => {
                    passed.append(&mut self.put_back);
                    self.put_back = passed;
                    return found;
                }
                Err(other) => passed.push_back(other),
            }
        }
    }

    pub async fn admitted(&mut self, expected: PeerId) {
        self.event(|event| match event {
            NetEvent::PeerAdmitted { peer, .. } if peer == expected => Ok(()),
            other => Err(other),
        })
        .await;
    }

    pub async fn lost(&mut self, expected: PeerId) {
        self.event(|event| match event {
            NetEvent::PeerLost { peer } if peer == expected => Ok(()),
            other => Err(other),
        })
        .await;
    }

    pub async fn request(&mut self) -> (PeerId, Vec<u8>, Responder) {
        self.event(|event| match event {
            NetEvent::Request { peer, frame, reply, .. } => Ok((peer, frame, reply)),
            other => Err(other),
        })
        .await
    }

    /// Everything that has come so far, without waiting.
    pub fn drain(&mut self) -> Vec<NetEvent> {
        let mut events: Vec<_> = self.put_back.drain(..).collect();
        events.extend(std::iter::from_fn(|| self.events.try_recv().ok()));
        events
    }

    /// How many events wait.
    pub fn waiting(&self) -> usize {
        self.put_back.len() + self.events.len()
    }

    /// Answers every request with its own bytes, from now on.
    pub fn echo(self) -> (NetHandle, JoinHandle<()>) {
        let Self { net, mut events, put_back } = self;
        let echoing = tokio::spawn(async move {
            put_back.into_iter().for_each(echo);
            while let Some(event) = events.recv().await {
                echo(event);
            }
        });
        (net, echoing)
    }
}

fn echo(event: NetEvent) {
    if let NetEvent::Request { frame, reply, .. } = event {
        reply.send(frame);
    }
}

/// Asserts that both nodes answer each other.
pub async fn talk(a: &mut Node, b: &mut Node) {
    ask(a, b).await;
    ask(b, a).await;
}

async fn ask(asker: &Node, answerer: &mut Node) {
    ask_with(asker, answerer, b"question".to_vec()).await;
}

pub async fn ask_with(asker: &Node, answerer: &mut Node, question: Vec<u8>) {
    let (net, to, asked) = (asker.net.clone(), answerer.peer(), question.clone());
    let asking = tokio::spawn(async move { net.request(to, asked, PATIENCE).await });
    let (from, frame, reply) = answerer.request().await;
    assert_eq!((from, frame), (asker.peer(), question));
    reply.send(b"answer".to_vec());
    assert_eq!(asking.await.unwrap(), Ok(b"answer".to_vec()));
}

/// How requests travel.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    transport: &'static str,
    lanes: bool,
}

pub const WAYS: [Way; 4] = [
    Way { transport: TCP, lanes: true },
    Way { transport: QUIC, lanes: true },
    Way { transport: TCP, lanes: false },
    Way { transport: QUIC, lanes: false },
];

/// Two nodes that admitted each other; the second dialled the first.
pub async fn pair(transport: &str) -> (Node, Node) {
    meet(listening(transport), NetConfig::default(), 1_024).await
}

/// Two nodes whose requests travel `way`; the second has an inbox of `inbox_len`.
pub async fn pair_by(way: Way, inbox_len: usize) -> (Node, Node) {
    let without_lanes = !way.lanes;
    let dialled = NetConfig { without_lanes, ..listening(way.transport) };
    let (a, b) = meet(dialled, NetConfig { without_lanes, ..NetConfig::default() }, inbox_len).await;
    until(|| [&a, &b].iter().all(|node| node.net.peers()[0].has_lane == way.lanes)).await;
    (a, b)
}

async fn meet(dialled: NetConfig, dialler: NetConfig, inbox_len: usize) -> (Node, Node) {
    let mut a = start(1, dialled).await;
    let dialler =
        NetConfig { bootstrap: vec![a.address()], admission: with_key(), listen: vec![TCP.into()], ..dialler };
    let mut b = start_with_inbox(2, dialler, inbox_len).await;
    a.admitted(b.peer()).await;
    b.admitted(a.peer()).await;
    b.drain();
    (a, b)
}

/// Waits for a condition that no event tells.
pub async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the condition comes true");
}
