//! Many nodes in one process, which meet in its memory: how long until all know all, and what each costs when nothing
//! happens but a heartbeat.
//!
//! `cargo run --profile dist -p magpie-net --features plaintext --example many [--noise] [NODES [IDLE_SECONDS [SLACK]]]`. A figure
//! beyond its bar, times the slack that a machine with other work needs, fails the run. They speak in plain text: a
//! node on a machine of its own pays for its own encryption, and here two cores would for that of all. With `--noise` they do.

mod measure;

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use magpie_core::limits;
use magpie_net::{Admission, ClusterKey, InMemory, NetConfig, NetEvent, NetHandle, NodeKey, spawn};
use measure::cpu_time;
use tokio::sync::{mpsc, oneshot};

/// A node's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NODES: usize = 200;
const IDLE_S: u64 = 30;
const JOIN_S_MAX: f64 = 20.0;
const IDLE_MIB_MAX: f64 = 30.0;
const IDLE_CORE_MAX: f64 = 0.005;
/// A mesh that is late is a figure, not a failure to start.
const PATIENCE: Duration = Duration::from_secs(300);
/// What is left of meeting each other.
const SETTLE: Duration = Duration::from_secs(10);
/// A heartbeat of an idle node.
const HEARTBEAT_BYTES: usize = 700;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = env::args().skip(1).peekable();
    let has_noise = arguments.next_if(|argument| argument == "--noise").is_some();
    let spoken = if has_noise { InMemory::Noise } else { InMemory::Plain };
    let nodes = arguments.next().map_or(Ok(NODES), |text| text.parse())?;
    let idle = Duration::from_secs(arguments.next().map_or(Ok(IDLE_S), |text| text.parse())?);
    let slack = arguments.next().map_or(Ok(1.0), |text| text.parse())?;

    let began = Instant::now();
    let mesh = start(nodes, spoken)?;
    // Who once knew all is not asked again: the look costs what the nodes need.
    let mut partial: Vec<&NetHandle> = mesh.iter().collect();
    while let Some(node) = partial.last() {
        if node.peers().iter().filter(|peer| peer.has_lane).count() == nodes - 1 {
            partial.pop();
            continue;
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("after {PATIENCE:?} not every node knows every other").into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    let (joined_s, joined_cpu) = (began.elapsed().as_secs_f64(), cpu_time()?);
    let pairs = nodes * (nodes - 1) / 2;
    let made: u64 = mesh.iter().map(|node| node.counters().connections_taken).sum();
    let each = joined_cpu / pairs as u32;
    println!("{nodes} nodes in one process: {made} connections made for {pairs} pairs, {each:.2?} of CPU a pair");
    let counters: Vec<_> = mesh.iter().map(|node| node.counters()).collect();
    let sum = |of: fn(&magpie_net::NetCounters) -> u64| counters.iter().map(of).sum::<u64>();
    println!(
        "{nodes} nodes in one process: {} times admitted, {} lost, {} refused",
        sum(|counters| counters.peers_admitted),
        sum(|counters| counters.peers_lost),
        sum(|counters| counters.peers_refused)
    );
    thread::sleep(SETTLE);
    let (cpu_before, idle_from) = (cpu_time()?, Instant::now());
    thread::sleep(idle);
    let cores = (cpu_time()? - cpu_before).as_secs_f64() / idle_from.elapsed().as_secs_f64() / nodes as f64;
    let mut is_met = true;
    for (what, figure, bar) in [
        ("joined (s)", joined_s, JOIN_S_MAX),
        ("memory of an idle node (MiB)", resident_mib()? / nodes as f64, IDLE_MIB_MAX),
        ("share of a core of an idle node", cores, IDLE_CORE_MAX),
    ] {
        let bar = bar * slack;
        is_met &= figure <= bar;
        let missed = if figure <= bar { "" } else { "  MISSED" };
        println!("{nodes} nodes in one process: {what}: {figure:.4}, at most {bar}{missed}");
    }
    if is_met { Ok(()) } else { Err("a bar was missed".into()) }
}

/// Nodes on as many threads as there are cores: the first is told to all others. They end with the process.
fn start(nodes: usize, spoken: InMemory) -> Result<Vec<NetHandle>, Failure> {
    let threads = thread::available_parallelism()?.get().min(nodes);
    let first = on_a_thread(vec![Vec::new()], spoken)?.remove(0);
    let bootstrap = first.listen_addresses();
    let shares: Vec<_> = (0..threads)
        .map(|place| vec![bootstrap.clone(); (nodes - 1) / threads + usize::from(place < (nodes - 1) % threads)])
        .collect();
    let started = shares.into_iter().map(|share| on_a_thread(share, spoken)).collect::<Result<Vec<_>, _>>()?;
    Ok([first].into_iter().chain(started.into_iter().flatten()).collect())
}

fn on_a_thread(bootstraps: Vec<Vec<String>>, spoken: InMemory) -> Result<Vec<NetHandle>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (started, starting) = oneshot::channel();
    thread::spawn(move || {
        runtime.block_on(async move {
            let mut nodes = Vec::new();
            for bootstrap in bootstraps {
                nodes.push(node(bootstrap, spoken).await);
            }
            let _ = started.send(nodes.into_iter().collect());
            std::future::pending::<()>().await;
        });
    });
    starting.blocking_recv()?
}

async fn node(bootstrap: Vec<String>, spoken: InMemory) -> Result<NetHandle, Failure> {
    let admission = Admission { cluster_key: Some(ClusterKey::from_bytes([7; 32])), ..Admission::default() };
    let listen = vec!["/memory/0".to_owned()];
    let in_memory = Some(spoken);
    let config = NetConfig { listen, bootstrap, admission, members: true, in_memory, ..NetConfig::default() };
    let (inbox, mut events) = mpsc::channel(1_024);
    let net = spawn(&NodeKey::generate()?, config, inbox).await?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let NetEvent::Request { reply, .. } = event {
                reply.send(vec![0; HEARTBEAT_BYTES]);
            }
        }
    });
    tokio::spawn(beat(net.clone()));
    Ok(net)
}

/// As the registry of a quiet node does: one peer after the other.
async fn beat(net: NetHandle) {
    let mut every = tokio::time::interval(Duration::from_millis(2 * limits::PROBE_EVERY_MS));
    for turn in 0.. {
        every.tick().await;
        let mut peers: Vec<_> = net.peers().into_iter().map(|info| info.peer).collect();
        peers.sort_unstable();
        if let Some(peer) = peers.get(turn % peers.len().max(1)) {
            // Who does not answer is not there yet.
            let _ = net.request(*peer, vec![0; HEARTBEAT_BYTES], PATIENCE).await;
        }
    }
}

fn resident_mib() -> Result<f64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
