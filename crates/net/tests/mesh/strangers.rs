//! Whatever a stranger shows, it hears nothing, changes nothing and is gone within five seconds.

use std::time::{Duration, Instant, SystemTime};

use magpie_core::access::Role;
use magpie_net::{ClusterKey, NetConfig, NetEvent, PeerRule};

use crate::node::*;
use crate::raw::{Credentials, Raw, RawEvent, confirm, hello, hello_with, lane_hello};

const HOUR_MS: u64 = 3_600_000;
const OTHER_KEY: [u8; 32] = [8; 32];
const DROPPED_WITHIN: Duration = Duration::from_secs(5);
/// Who is dropped at the deadline is late where the machine has other work.
const SLACK: Duration = Duration::from_secs(2);

fn with_this_ticket(ticket: impl ToString) -> Vec<u8> {
    hello_with(Credentials { ticket: Some(ticket.to_string()), ..Credentials::default() })
}

/// By the key of another cluster, for the very two peers of the connection.
fn with_foreign_signature(seed: u8, verifier: u8) -> Vec<u8> {
    let statement = [b"magpie/member/1\0".as_slice(), &peer(seed).0, &peer(verifier).0].concat();
    let signature = ClusterKey::from_bytes(OTHER_KEY).issuing_key().sign(&statement);
    hello_with(Credentials { proof: &[7; 32], signature: &signature, ..Credentials::default() })
}

/// A hello with a good ticket, as its peer shows it to whomever it dials.
async fn overheard() -> Vec<u8> {
    let mut thief = Raw::new(60);
    let bootstrap = vec![thief.listen().await];
    let dialling = NetConfig { bootstrap, admission: with_ticket(2, Role::Operator, HOUR_MS), ..NetConfig::default() };
    let _holder = start(2, dialling).await;
    thief.heard("admission").await
}

/// Every row: what the stranger of `seed` says first, towards the node of seed 1.
async fn table(seed: u8) -> Vec<(&'static str, Vec<u8>)> {
    let (me, now) = (peer(seed), now_ms());
    let good = ticket(KEY, me, Role::Operator, now, HOUR_MS).to_string();
    let last = if good.ends_with('a') { "q" } else { "a" };
    vec![
        ("stranger", hello(1, &[])),
        ("wrong key", with_foreign_signature(seed, 1)),
        ("guessed proof", hello(1, &[7; 32])),
        ("expired ticket", with_this_ticket(ticket(KEY, me, Role::Peer, now - 2 * HOUR_MS, HOUR_MS))),
        ("ticket of tomorrow", with_this_ticket(ticket(KEY, me, Role::Peer, now + HOUR_MS, HOUR_MS))),
        ("replayed ticket", overheard().await),
        ("wrong peer id", with_this_ticket(ticket(KEY, peer(2), Role::Peer, now, HOUR_MS))),
        ("ticket of another cluster", with_this_ticket(ticket(OTHER_KEY, me, Role::Peer, now, HOUR_MS))),
        ("changed ticket", with_this_ticket(format!("{}{last}", &good[..good.len() - 1]))),
        ("confirmation of nothing", confirm()),
    ]
}

/// Until the node has closed the connection; it must say nothing before. (What libp2p itself says to open a stream is
/// no application's byte.)
async fn is_dropped_unheard(raw: &mut Raw, row: &str) {
    loop {
        match raw.next().await {
            RawEvent::Closed => return,
            RawEvent::Heard(protocol, bytes) => panic!("{row}: the node said {bytes:?} over {protocol}"),
            RawEvent::Answered(_, Ok(bytes)) => panic!("{row}: the node answered {bytes:?}"),
            RawEvent::Connected | RawEvent::Answered(..) | RawEvent::Other => {}
        }
    }
}

fn assert_untouched(node: &mut Node, cache: &std::path::Path, row: &str) {
    assert_eq!((node.net.peers(), node.net.counters().peers_admitted), (vec![], 0), "{row}");
    assert!(node.drain().iter().all(|event| matches!(event, NetEvent::Listening { .. })), "{row}");
    assert!(!cache.exists(), "{row}: nothing of a stranger is kept");
}

#[tokio::test]
async fn no_stranger_hears_a_byte_changes_anything_or_stays_five_seconds() {
    Box::pin(no_stranger_stays(TCP)).await;
}

#[tokio::test]
async fn no_stranger_over_quic_hears_a_byte_changes_anything_or_stays_five_seconds() {
    Box::pin(no_stranger_stays(QUIC)).await;
}

async fn no_stranger_stays(transport: &str) {
    const STRANGER: u8 = 61;
    const DENIED: u8 = 62;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("peers");
    let admission = with_key();
    admission.rules.set(peer(DENIED), PeerRule::Deny).unwrap();
    let config =
        NetConfig { peer_cache: Some(cache.clone()), members: true, kademlia: true, admission, ..listening(transport) };
    let mut node = start(1, config).await;
    let denied = with_this_ticket(ticket(KEY, peer(DENIED), Role::Peer, now_ms(), HOUR_MS));
    let rows = table(STRANGER).await.into_iter().map(|(row, said)| (row, STRANGER, said));
    for (row, seed, said) in rows.chain([("denied", DENIED, denied)]) {
        let mut raw = Raw::connected_to(&node.address(), seed).await;
        let begun = Instant::now();
        raw.send_admission(said);
        raw.send_mailbox(b"\0\0\0\x05hello".to_vec());
        raw.send_lane(lane_hello());
        is_dropped_unheard(&mut raw, row).await;
        let after = begun.elapsed();
        println!("{row}: dropped after {} ms", after.as_millis());
        assert!(after < DROPPED_WITHIN, "{row}: {after:?}");
        assert_untouched(&mut node, &cache, row);
    }
    // Who shows nothing that could be judged has until the deadline.
    for (row, said) in [("garbage", Some(vec![0xc1; 300])), ("silent", None)] {
        let mut raw = Raw::connected_to(&node.address(), STRANGER).await;
        if let Some(said) = said {
            raw.send_admission(said);
        }
        let dropped = tokio::time::timeout(DROPPED_WITHIN + SLACK, is_dropped_unheard(&mut raw, row));
        dropped.await.unwrap_or_else(|_| panic!("{row}: it stays"));
        assert_untouched(&mut node, &cache, row);
    }
    let good = ticket(KEY, peer(STRANGER), Role::Peer, now_ms(), HOUR_MS);
    let mut raw = Raw::connected_to(&node.address(), STRANGER).await;
    assert!(raw.ask_admission(with_this_ticket(good)).await.is_ok(), "the ticket that is its own and good admits it");
}

/// xorshift64
struct Draws(u64);

impl Draws {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn bytes(&mut self, length_max: u64) -> Vec<u8> {
        (0..self.next(length_max)).map(|_| self.next(256) as u8).collect()
    }

    /// A good hello of somebody else with a few bytes changed, cut or added, or nothing but noise behind a length.
    fn admission(&mut self, model: &[u8]) -> Vec<u8> {
        let mut bytes = model.to_vec();
        match self.next(4) {
            0 => {
                for _ in 0..=self.next(8) {
                    let at = self.next(bytes.len() as u64) as usize;
                    bytes[at] = self.next(256) as u8;
                }
            }
            1 => bytes.truncate(self.next(model.len() as u64) as usize),
            2 => {
                let noise = self.bytes(600);
                bytes = [(noise.len() as u32).to_be_bytes().as_slice(), &noise].concat();
            }
            _ => bytes = self.bytes(600),
        }
        bytes
    }
}

/// `MAGPIE_SESSIONS` of them, which is 10,000 by night.
#[tokio::test]
async fn random_sessions_of_strangers_hear_nothing_and_change_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let sessions = number("MAGPIE_SESSIONS").unwrap_or(150);
    let drawn = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = number("MAGPIE_SEED").unwrap_or(drawn) | 1;
    println!("MAGPIE_SEED={seed} MAGPIE_SESSIONS={sessions}");
    let mut draws = Draws(seed);
    let mut node = start(1, NetConfig { members: true, ..listening(TCP) }).await;
    let model = overheard().await;
    for session in 0..sessions {
        let mut raw = Raw::connected_to(&node.address(), 100 + draws.next(100) as u8).await;
        let mut is_open = true;
        for _ in 0..=draws.next(3) {
            let asked = match draws.next(5) {
                0 => raw.send_mailbox(draws.bytes(300)),
                1 => raw.send_lane(draws.bytes(300)),
                _ => raw.send_admission(draws.admission(&model)),
            };
            let mut is_answered = false;
            while is_open && !is_answered {
                match raw.next().await {
                    RawEvent::Answered(id, Err(_)) => is_answered = id == asked,
                    RawEvent::Closed => is_open = false,
                    RawEvent::Heard(..) | RawEvent::Answered(_, Ok(_)) => panic!("session {session} of seed {seed}"),
                    RawEvent::Connected | RawEvent::Other => {}
                }
            }
            if !is_open {
                break;
            }
        }
        assert_eq!(node.net.counters().peers_admitted, 0, "session {session} of seed {seed}");
    }
    assert!(node.drain().iter().all(|event| matches!(event, NetEvent::Listening { .. })), "seed {seed}");
    let mut member = start(2, dialling(&[node.address()])).await;
    node.admitted(member.peer()).await;
    member.admitted(node.peer()).await;
    talk(&mut node, &mut member).await;
}
