//! What a request costs: over a substream of its own and on a lane, over TCP and over QUIC, with batches of tasks in
//! it.
//!
//! Two nodes in one thread; the CPU time is that of both ends. `cargo run --profile dist -p magpie-net --example
//! throughput`

mod measure;

use std::time::{Duration, Instant};

use futures::future::join_all;
use magpie_net::{Admission, ClusterKey, NetConfig, NetEvent, NetHandle, NodeKey, spawn};
use measure::cpu_time;
use tokio::sync::mpsc;

/// A task in a message, as measured for a MessagePack array.
const TASK_BYTES: usize = 179;
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const PER_CELL: Duration = Duration::from_millis(1_000);
const PATIENCE: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    println!(
        "| transport | way | tasks/request | in flight | requests/s | tasks/s | CPU us/request | CPU us/task | p50 us |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for transport in [TCP, QUIC] {
        for without_lanes in [true, false] {
            let (asker, answerer) = Box::pin(pair(transport, without_lanes)).await?;
            for tasks in [1, 16, 128] {
                for in_flight in [1, 64] {
                    measure(&asker, &answerer, tasks, in_flight).await?;
                }
            }
            asker.shutdown().await;
            answerer.shutdown().await;
        }
    }
    Ok(())
}

/// Two nodes that met; each answers requests with eight bytes a task.
async fn pair(transport: &str, without_lanes: bool) -> Result<(NetHandle, NetHandle), Failure> {
    let admission = Admission { cluster_key: Some(ClusterKey::from_bytes([7; 32])), ..Admission::default() };
    let config = NetConfig { listen: vec![transport.into()], admission, without_lanes, ..NetConfig::default() };
    let answerer = node(config.clone()).await?;
    let asker = node(NetConfig { bootstrap: answerer.listen_addresses(), ..config }).await?;
    let met = || asker.peers().first().is_some_and(|peer| peer.has_lane != without_lanes);
    while !met() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((asker, answerer))
}

async fn node(config: NetConfig) -> Result<NetHandle, Failure> {
    let (inbox, mut events) = mpsc::channel(1_024);
    let net = spawn(&NodeKey::generate()?, config, inbox).await?;
    // It ends with the network.
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let NetEvent::Request { frame, reply, .. } = event {
                reply.send(vec![0; frame.len() / TASK_BYTES * 8]);
            }
        }
    });
    Ok(net)
}

async fn measure(asker: &NetHandle, answerer: &NetHandle, tasks: usize, in_flight: usize) -> Result<(), Failure> {
    let (to, peer) = (answerer.local_peer(), asker.peers().remove(0));
    let cpu_before = cpu_time()?;
    let begun = Instant::now();
    let ask = async |_| {
        let mut latencies = Vec::new();
        while begun.elapsed() < PER_CELL {
            let asked = Instant::now();
            asker.request(to, vec![1; tasks * TASK_BYTES], PATIENCE).await?;
            latencies.push(asked.elapsed());
        }
        Ok::<_, magpie_net::RequestError>(latencies)
    };
    let mut latencies = Vec::new();
    for asked in join_all((0..in_flight).map(ask)).await {
        latencies.extend(asked?);
    }
    let (took, cpu) = (begun.elapsed().as_secs_f64(), cpu_time()? - cpu_before);
    latencies.sort_unstable();
    let requests = latencies.len() as f64;
    let cpu_us = cpu.as_secs_f64() * 1e6 / requests;
    println!(
        "| {} | {} | {tasks} | {in_flight} | {:.0} | {:.0} | {cpu_us:.1} | {:.2} | {} |",
        if answerer.listen_addresses()[0].contains("quic") { "QUIC" } else { "TCP" },
        if peer.has_lane { "lane" } else { "substream" },
        requests / took,
        requests * tasks as f64 / took,
        cpu_us / tasks as f64,
        latencies[latencies.len() / 2].as_micros(),
    );
    Ok(())
}
