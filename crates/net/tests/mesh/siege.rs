//! A member that does its worst, from a process of its own: what it costs the node in memory, and honest peers in latency.
//!
//! The bars of memory and answers are asserted always, that of latency with `MAGPIE_SIEGE=1`, which also makes it longer:
//! other work on a machine must fail no test.

use std::env;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use magpie_core::limits;
use magpie_net::{Admission, NetConfig, NetHandle, RequestError};
use tokio::time::timeout;

use crate::hostile::{bytes, random};
use crate::node::*;
use crate::raw::{Raw, RawEvent, lane_hello, lane_notice};

const ATTACKER_SEED: u8 = 60;
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;
const SLOWDOWN_MAX: f64 = 3.0;
/// Below this a percentile is the scheduler's, not the network's.
const P99_FLOOR: Duration = Duration::from_micros(500);

const ATTACKS: [&str; 6] = ["streams", "slow", "oversize", "garbage", "gossip", "announced"];

#[derive(Debug)]
struct Measured {
    p50: Duration,
    p99: Duration,
    answered: usize,
    failed: Vec<(Duration, RequestError)>,
    peak_bytes: u64,
}

fn rss_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// What an honest peer gets, one short request after the other.
async fn measure(asker: &NetHandle, to: magpie_core::ids::PeerId, lasts: Duration) -> Measured {
    let (begun, mut latencies, mut failed, mut peak_bytes) = (Instant::now(), Vec::new(), Vec::new(), rss_bytes());
    while begun.elapsed() < lasts || latencies.is_empty() {
        let asked = Instant::now();
        match asker.request(to, vec![7; 64], PATIENCE).await {
            Ok(_) => latencies.push(asked.elapsed()),
            Err(error) => failed.push((asked.elapsed(), error)),
        }
        if latencies.len() % 16 == 0 {
            peak_bytes = peak_bytes.max(rss_bytes());
        }
    }
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies[(latencies.len() * per_mille / 1_000).min(latencies.len() - 1)];
    Measured { p50: at(500), p99: at(990), answered: latencies.len(), failed, peak_bytes }
}

/// This test binary once more, as the attacker.
fn attacker(attack: &str, address: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "siege::attack", "--ignored", "--nocapture"]);
    command.env("MAGPIE_ATTACK", attack).env("MAGPIE_ATTACKED", address);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[tokio::test]
async fn a_member_that_does_its_worst_costs_little() {
    let is_long = env::var_os("MAGPIE_SIEGE").is_some();
    let lasts = Duration::from_secs(if is_long { 10 } else { 2 });
    println!(
        "| attack | calm p50 us | calm p99 us | p50 us | p99 us | times | growth MiB | answered | bans | streams away |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for attack in ATTACKS {
        let admission = Admission { allow: [Raw::peer_of(ATTACKER_SEED)].into(), ..with_key() };
        let mut node = start(1, NetConfig { admission, ..listening(TCP) }).await;
        let mut spared = start(3, listening(TCP)).await;
        let honest = start(2, dialling(&[node.address(), spared.address()])).await;
        for other in [&mut node, &mut spared] {
            other.admitted(honest.peer()).await;
        }
        until(|| honest.net.peers().len() == 2).await;
        until(|| honest.net.peers().iter().all(|info| info.has_lane)).await;
        let (address, to, to_spared) = (node.address(), node.peer(), spared.peer());
        let ((node, _echo), (spared, _spared_echo)) = (node.echo(), spared.echo());
        let calm = measure(&honest.net, to, lasts).await;
        let mut child = attacker(attack, &address);
        until(|| node.counters().peers_admitted > 1).await;
        let besieged = measure(&honest.net, to, lasts).await;
        if ["oversize", "garbage"].contains(&attack) {
            // Two seconds of a busy machine may not be enough for an offence.
            until(|| node.counters().peers_banned > 0).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A machine may be slower after a while than it was, by itself: the slower calm counts, of a node that nobody attacked.
        let after = measure(&honest.net, to_spared, lasts).await;
        let growth = besieged.peak_bytes.saturating_sub(calm.peak_bytes);
        let calm_p99 = calm.p99.max(after.p99);
        let times = besieged.p99.as_secs_f64() / calm_p99.max(P99_FLOOR).as_secs_f64();
        let counters = node.counters();
        println!(
            "| {attack} | {} | {} | {} | {} | {times:.2} | {:.1} | {} | {} | {} |",
            calm.p50.as_micros(),
            calm_p99.as_micros(),
            besieged.p50.as_micros(),
            besieged.p99.as_micros(),
            growth as f64 / 1_048_576.0,
            besieged.answered,
            counters.peers_banned,
            counters.streams_turned_away,
        );
        let failed: Vec<_> = calm.failed.iter().chain(&besieged.failed).chain(&after.failed).collect();
        assert!(failed.is_empty(), "{} honest requests failed: {attack}: {:?}", failed.len(), failed.first());
        assert!(growth <= GROWTH_BYTES_MAX, "{attack}: {growth} bytes of growth");
        if is_long {
            assert!(times <= SLOWDOWN_MAX, "{attack}: {besieged:?} against {calm:?} and {after:?}");
        }
        honest.net.shutdown().await;
        node.shutdown().await;
        spared.shutdown().await;
    }
}

#[tokio::test]
#[ignore = "the process that attacks, which the siege starts"]
async fn attack() {
    let (Ok(attack), Ok(address)) = (env::var("MAGPIE_ATTACK"), env::var("MAGPIE_ATTACKED")) else { return };
    loop {
        // While it is banned its connections come to nothing.
        let Some(mut raw) = Raw::try_admitted_by(&address, ATTACKER_SEED, attack == "slow").await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while assault(&mut raw, &attack).await {}
    }
}

/// One wave; `false` when the connection has ended.
async fn assault(raw: &mut Raw, attack: &str) -> bool {
    let mut random = random();
    let announced = (limits::FRAME_BYTES_MAX as u32).to_be_bytes();
    let sent = match attack {
        "streams" => send(1_000, || raw.send_mailbox([&1_000u32.to_be_bytes()[..], &[7; 10]].concat())),
        // Each announces the longest frame and sends a byte a second.
        "slow" => send(200, || raw.send_mailbox([&announced[..], &[7; 600]].concat())),
        "oversize" => {
            let tenfold = (10 * limits::FRAME_BYTES_MAX as u32).to_be_bytes();
            send(32, || raw.send_mailbox([&tenfold[..], &[7; 60_000]].concat()))
        }
        // Whole windows of frames that are never finished.
        "announced" => send(200, || raw.send_mailbox([&announced[..], &[7; 250_000]].concat())),
        "garbage" => send(32, || {
            let payload = bytes(&mut random, 2_000);
            raw.send_lane([lane_hello(), payload].concat())
        }),
        _ => {
            let notices: Vec<u8> = lane_notice(&[7; 64]).repeat(100_000);
            send(1, || raw.send_lane([lane_hello(), notices.clone()].concat()))
        }
    };
    let mut under_way = sent;
    while under_way > 0 {
        match timeout(Duration::from_secs(30), raw.next()).await {
            Ok(RawEvent::Answered(..)) => under_way -= 1,
            Ok(RawEvent::Closed) | Err(_) => return false,
            Ok(RawEvent::Connected | RawEvent::Heard(..) | RawEvent::Other) => {}
        }
    }
    true
}

fn send<T>(count: usize, mut one: impl FnMut() -> T) -> usize {
    (0..count).for_each(|_| drop(one()));
    count
}
