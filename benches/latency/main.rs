//! One no-op at a time through another process, class `memory`, the client inside the home's process, where an MCP
//! session is: in the thread of its actors. Beside a plain TCP echo between two processes in the same run, since latency
//! here is mostly the machine's. A round trip through NATS core runs beside both where `nats-server` is installed.
//!
//! Each kind comes in rows. Before a row everybody but the client falls asleep, so that its first is alone, and the next find the
//! other side awake: a node stays awake for a moment after a task, and an echo in that moment would find one core less, and be
//! five times as fast for it.
//!
//! `cargo bench --profile dist --bench latency`; `ROWS=1000` by default. Prints one JSON object a line.

mod nats;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie::actors::address::Address;
use magpie::actors::routes::port;
use magpie::config::{InferenceConfig, NodeConfig};
use magpie::messages::ledger::LedgerMsg;
use magpie::node::Node;
use magpie_core::ids::{OperationId, TaskId};
use magpie_core::queue::{Caller, LedgerReply, LedgerRequest, SubmitAnswer, SubmitItem};
use magpie_core::task::{Durability, TaskKind, TaskSpec};

use self::nats::Nats;

/// As the node has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PATIENCE: Duration = Duration::from_secs(30);
const FRAME: usize = 256;
/// By then nobody stays awake any more for what might follow.
const ASLEEP_AFTER: Duration = Duration::from_millis(1);
const ROW_LEN: usize = 5;

/// Ends the process with the bench.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--echo") => return echo(),
        Some("--nats-responder") => {
            return nats::respond(args.next().and_then(|port| port.parse().ok()).expect("a port"));
        }
        _ => {}
    }
    let rows: usize = std::env::var("ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let times = runtime.block_on(round_trips(rows));
    let ways = [("alone", times.alone), ("in a row", times.in_a_row)];
    for (how, Kinds { echoes, tasks, requests }) in ways {
        let nats = if requests.is_empty() { "null".to_owned() } else { Quantiles::of(requests).json() };
        let (echo, task) = (Quantiles::of(echoes), Quantiles::of(tasks));
        println!(
            r#"{{"bench":"latency","what":"{how}","rows":{rows},"echo_us":{},"noop_us":{},"nats_us":{nats},"ratio_p50":{:.2},"ratio_p99":{:.2}}}"#,
            echo.json(),
            task.json(),
            task.p50 / echo.p50,
            task.p99 / echo.p99,
        );
    }
}

/// What each round trip took: of the first of a row, and of the others.
#[derive(Default)]
struct Times {
    alone: Kinds,
    in_a_row: Kinds,
}

#[derive(Default)]
struct Kinds {
    echoes: Vec<Duration>,
    tasks: Vec<Duration>,
    requests: Vec<Duration>,
}

impl Times {
    fn of(&mut self, place: usize) -> &mut Kinds {
        if place == 0 { &mut self.alone } else { &mut self.in_a_row }
    }
}

struct Quantiles {
    p50: f64,
    p99: f64,
}

impl Quantiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
        Self { p50: at(0.5), p99: at(0.99) }
    }

    fn json(&self) -> String {
        format!(r#"{{"p50":{:.1},"p99":{:.1}}}"#, self.p50, self.p99)
    }
}

/// The other side of the yardstick: reads frames of a fixed size and writes them back.
fn echo() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_nodelay(true).expect("nodelay");
    let mut frame = [0; FRAME];
    while stream.read_exact(&mut frame).is_ok() && stream.write_all(&frame).is_ok() {}
}

/// A connection to the echo process.
struct Yardstick {
    stream: TcpStream,
    _echo: Helper,
}

impl Yardstick {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .arg("--echo")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the echo process");
        let mut address = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
        std::io::BufRead::read_line(&mut stdout, &mut address).expect("an address");
        let stream = TcpStream::connect(address.trim()).expect("the echo process listens");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, _echo: Helper(child) }
    }

    fn round_trip(&mut self) {
        let mut frame = [7; FRAME];
        self.stream.write_all(&frame).expect("the echo process reads");
        self.stream.read_exact(&mut frame).expect("the echo process answers");
    }
}

/// Echoes and tasks in turn, and from the same state of the machine: awake or asleep makes most of either.
async fn round_trips(rows: usize) -> Times {
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("cluster.key");
    magpie_net::ClusterKey::load_or_create(&key).expect("a key");
    let home = NodeConfig {
        data_dir: Some(dir.path().join("home")),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        cluster_key: Some(key.clone()),
        inference: InferenceConfig { enabled: false, ..InferenceConfig::default() },
        ..NodeConfig::default()
    };
    let node = Node::start(home.clone()).await.expect("the home starts");
    let client = Client { ledger: node.addresses.ledger.clone(), peer: node.peer_id };
    let address = node.listen_addresses().into_iter().next().expect("the home listens");
    let worker_dir = dir.path().join("worker");
    std::fs::create_dir(&worker_dir).expect("a directory");
    let file = worker_dir.join("node.toml");
    let worker = format!(
        "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\ncluster_key = {key:?}\nbootstrap = [{address:?}]\n[labels]\nrole = \"worker\"\n[inference]\nenabled = false\n"
    );
    std::fs::write(&file, worker).expect("a configuration");
    let child = Command::new(env!("CARGO_BIN_EXE_node"))
        .args(["--config".as_ref(), file.as_os_str(), "--data-dir".as_ref(), worker_dir.as_os_str()])
        .stderr(Stdio::null())
        .spawn()
        .expect("the worker process");
    let _worker = Helper(child);
    let times = node.beside_actors(measure(client, rows)).await.expect("no round trip fails");
    node.stop().await;
    times
}

async fn measure(client: Client, rows: usize) -> Times {
    let mut yardstick = Yardstick::start();
    let (mut times, mut nats) = (Times::default(), Nats::start());
    for row in 0..rows + rows / 10 {
        // The first tenth warms up.
        if row == rows / 10 {
            times = Times::default();
        }
        all_asleep().await;
        for place in 0..ROW_LEN {
            let begin = Instant::now();
            yardstick.round_trip();
            times.of(place).echoes.push(begin.elapsed());
        }
        all_asleep().await;
        for place in 0..ROW_LEN {
            let begin = Instant::now();
            client.round_trip().await;
            times.of(place).tasks.push(begin.elapsed());
        }
        if let Some(nats) = &mut nats {
            all_asleep().await;
            for place in 0..ROW_LEN {
                let begin = Instant::now();
                nats.round_trip();
                times.of(place).requests.push(begin.elapsed());
            }
        }
    }
    times
}

/// When everybody but the client, and the home whose thread it is in, has nothing to do any more.
async fn all_asleep() {
    let began = Instant::now();
    while began.elapsed() < ASLEEP_AFTER {
        tokio::task::yield_now().await;
    }
}

struct Client {
    ledger: Address<LedgerMsg>,
    peer: magpie_core::ids::PeerId,
}

impl Client {
    async fn ask(&self, request: LedgerRequest) -> LedgerReply {
        let caller = Caller { peer: self.peer, owner: Arc::from("bench") };
        let permit = self.ledger.admit().expect("one request at a time fits");
        let message = |reply| LedgerMsg::Request { caller, request, permit, reply: port(reply) };
        self.ledger.ask(PATIENCE, message).await.expect("the ledger answers")
    }

    async fn round_trip(&self) {
        let mut spec = TaskSpec::new(TaskKind::Noop);
        spec.durability = Durability::Memory;
        spec.requires = Some("label.role == \"worker\"".to_owned());
        let operation = OperationId(rand::random());
        let submit = LedgerRequest::Submit { operation, items: vec![SubmitItem::one(spec)] };
        let id: TaskId = match self.ask(submit).await {
            LedgerReply::Submitted { answers } => match answers.into_iter().next() {
                Some(SubmitAnswer::Accepted { id }) => id,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        loop {
            match self.ask(LedgerRequest::WaitTask { id, timeout_ms: 10_000 }).await {
                LedgerReply::Task(view) if view.state.is_terminal() => return,
                LedgerReply::Task(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
