//! What a call of a tool costs beside a bare server of the same SDK, which only says what it was told: over pipes
//! (`node-mcp` behind a node's socket) and over HTTP with a bearer token. Both with authorization, the audit and a question
//! to the node. Then 200 sessions that call at once, and what `node-mcp` takes to answer first.
//!
//! `cargo bench --profile dist --bench mcp`; `CALLS=2000` by default. Prints one JSON object a line.

mod client;
mod echo;

use std::io::{BufRead, BufReader};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use magpie::client::Client;
use magpie::mcp::catalog::Scope;
use magpie::mcp::http::tokens::{TokenEntry, TokenFile};
use magpie::messages::node::{NodeReply, NodeRequest};
use magpie::messages::{Answer, Body, Role};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::client::{Call, Connection, Helper, Pipes};

/// As the node has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const PATIENCE: Duration = Duration::from_secs(30);
/// Calls under way at a time, where calls a second are counted.
const AT_A_TIME: usize = 16;
const SESSIONS: usize = 200;
/// Each session calls so often, so many times.
const SESSION_EVERY: Duration = Duration::from_millis(100);
const SESSION_CALLS: u32 = 50;
const STARTS: usize = 9;
/// By then nobody stays awake any more for what might follow.
const ASLEEP_AFTER: Duration = Duration::from_millis(1);
const ROW_LEN: usize = 5;

fn main() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match std::env::args().nth(1).as_deref() {
        Some("--echo-pipes") => return runtime().block_on(echo::over_pipes()),
        Some("--echo-http") => return runtime().block_on(echo::over_http()),
        _ => {}
    }
    let calls: usize = std::env::var("CALLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let node = Node::start(&runtime());
    let echo_call = Call { tool: "echo", arguments: json!({"task_id": node.task}) };
    let our_call = Call { tool: "p2p_taskqueue_get_task", arguments: json!({"task_id": node.task}) };
    pipes(&node, calls, &echo_call, &our_call);
    http(&node, calls, &echo_call, &our_call);
    sessions(&node, &echo_call, &our_call);
    starts(&node);
}

fn pipes(node: &Node, calls: usize, echo_call: &Call, our_call: &Call) {
    let mut echo = Pipes::open(itself("--echo-pipes").as_mut());
    let mut ours = Pipes::open(&mut node.mcp());
    let times = in_turns(
        calls / ROW_LEN,
        || {
            echo.send_call(echo_call);
            echo.receive();
        },
        || {
            ours.send_call(our_call);
            ours.receive();
        },
    );
    let per_s = |pipes: &mut Pipes, call: &Call| {
        let began = Instant::now();
        (0..AT_A_TIME).for_each(|_| pipes.send_call(call));
        for _ in 0..calls {
            pipes.receive();
            pipes.send_call(call);
        }
        let took = began.elapsed();
        (0..AT_A_TIME).for_each(|_| pipes.receive());
        calls as f64 / took.as_secs_f64()
    };
    times.print("pipes", per_s(&mut echo, echo_call), per_s(&mut ours, our_call));
}

fn http(node: &Node, calls: usize, echo_call: &Call, our_call: &Call) {
    let (_echo, address) = echo_over_http();
    let connect = |is_echo: bool| match is_echo {
        true => Connection::open(&address, "/", ""),
        false => Connection::open(&node.http, "/mcp/full", &node.token),
    };
    let (mut echo, mut ours) = (connect(true), connect(false));
    let times = in_turns(calls / ROW_LEN, || echo.call(echo_call), || ours.call(our_call));
    let per_s = |is_echo: bool, call: &Call| {
        let each = calls / AT_A_TIME;
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME {
                scope.spawn(|| {
                    let mut connection = connect(is_echo);
                    (0..each).for_each(|_| connection.call(call));
                });
            }
        });
        (each * AT_A_TIME) as f64 / began.elapsed().as_secs_f64()
    };
    times.print("http", per_s(true, echo_call), per_s(false, our_call));
}

/// Sessions of the earlier era, ten calls a second each: all at the same moment, or one after the other. A machine takes
/// a while for 200 calls at the same moment, whoever serves them: the bare server says how long.
fn sessions(node: &Node, echo_call: &Call, our_call: &Call) {
    let (echo, address) = echo_over_http();
    for (beat, spread) in [("at once", Duration::ZERO), ("in turn", SESSION_EVERY)] {
        let bare = calls_of_sessions(|| Connection::open(&address, "/", ""), echo_call, spread);
        let ours = calls_of_sessions(|| Connection::open(&node.http, "/mcp/full", &node.token), our_call, spread);
        println!(
            r#"{{"bench":"mcp","what":"sessions {beat}","sessions":{SESSIONS},"call_us":{},"echo_us":{},"errors":0}}"#,
            ours.json(),
            bare.json()
        );
    }
    drop(echo);
}

/// What the calls of all sessions took, whose beginnings are spread over a time. One thread is the client of them all: a
/// thread for each would take as much of this machine as the server does.
fn calls_of_sessions(open: impl Fn() -> Connection, call: &Call, spread: Duration) -> Quantiles {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let times = runtime.block_on(async {
        let opened: Vec<_> = iter::repeat_with(open)
            .take(SESSIONS)
            .map(|mut connection| {
                connection.begin_session();
                connection.repeat(call)
            })
            .collect();
        let began = tokio::time::Instant::now();
        let sessions = opened.into_iter().zip(0..).map(|(mut session, place)| async move {
            let mut times = Vec::new();
            for n in 0..SESSION_CALLS {
                tokio::time::sleep_until(began + spread * place / SESSIONS as u32 + SESSION_EVERY * n).await;
                let called = Instant::now();
                session.call().await;
                times.push(called.elapsed());
            }
            times
        });
        sessions.collect::<JoinSet<_>>().join_all().await
    });
    Quantiles::of(times.concat())
}

fn echo_over_http() -> (Helper, String) {
    let mut child = itself("--echo-http").stdout(Stdio::piped()).spawn().expect("the echo process");
    let mut address = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut address).expect("an address");
    (Helper(child), address.trim().to_owned())
}

/// From exec to the answer of `tools/list`, and what the process holds then.
fn starts(node: &Node) {
    let mut took = Vec::new();
    let mut resident_kib = 0;
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut pipes = Pipes::open(&mut node.mcp());
        pipes.send("tools/list", json!({}));
        pipes.receive();
        took.push(began.elapsed());
        resident_kib = resident_kib.max(resident(pipes.pid()));
    }
    let took = Quantiles::of(took);
    println!(
        r#"{{"bench":"mcp","what":"start","first_list_ms":{:.1},"resident_mib":{:.1}}}"#,
        took.p50 / 1_000.0,
        resident_kib as f64 / 1024.0
    );
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

fn itself(mode: &str) -> Box<Command> {
    let mut command = Command::new(std::env::current_exe().expect("this executable"));
    command.arg(mode);
    Box::new(command)
}

/// Rows of calls of each in turn. Before a row everybody but the client falls asleep, so that its first is alone, and the next
/// find the server awake: ours stay awake for a moment after a call, and the bare server would find one core less in that.
fn in_turns(rows: usize, mut echo: impl FnMut(), mut ours: impl FnMut()) -> Times {
    let mut times = Times::default();
    for row in 0..rows + rows / 10 {
        // The first tenth warms up.
        if row == rows / 10 {
            times = Times::default();
        }
        all_asleep();
        for place in 0..ROW_LEN {
            times.of(place).echoes.push(took(&mut echo));
        }
        all_asleep();
        for place in 0..ROW_LEN {
            times.of(place).ours.push(took(&mut ours));
        }
    }
    times
}

fn took(call: impl FnOnce()) -> Duration {
    let began = Instant::now();
    call();
    began.elapsed()
}

fn all_asleep() {
    let began = Instant::now();
    while began.elapsed() < ASLEEP_AFTER {
        std::hint::spin_loop();
    }
}

/// What each call took: the first of a row, and the others.
#[derive(Default)]
struct Times {
    alone: Kinds,
    in_a_row: Kinds,
}

#[derive(Default)]
struct Kinds {
    echoes: Vec<Duration>,
    ours: Vec<Duration>,
}

impl Times {
    fn of(&mut self, place: usize) -> &mut Kinds {
        if place == 0 { &mut self.alone } else { &mut self.in_a_row }
    }

    fn print(self, what: &str, echoes_per_s: f64, calls_per_s: f64) {
        for (how, Kinds { echoes, ours }) in [("alone", self.alone), ("in a row", self.in_a_row)] {
            let (echo, ours) = (Quantiles::of(echoes), Quantiles::of(ours));
            println!(
                r#"{{"bench":"mcp","what":"{what} {how}","echo_us":{},"call_us":{},"ratio_p50":{:.2}}}"#,
                echo.json(),
                ours.json(),
                ours.p50 / echo.p50,
            );
        }
        println!(
            r#"{{"bench":"mcp","what":"{what} rate","echoes_per_s":{echoes_per_s:.0},"calls_per_s":{calls_per_s:.0},"ratio_per_s":{:.2}}}"#,
            calls_per_s / echoes_per_s,
        );
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

/// A node in a process of its own, with a bearer token and one task that is done.
struct Node {
    dir: tempfile::TempDir,
    http: String,
    token: String,
    task: String,
    _process: Helper,
}

impl Node {
    fn start(runtime: &tokio::runtime::Runtime) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (token, entry) = TokenEntry::make("bench", Scope::Submit, None);
        let tokens = dir.path().join("tokens.toml");
        TokenFile { token: vec![entry] }.write(&tokens).expect("a file");
        let file = dir.path().join("node.toml");
        let config = format!(
            "mdns = false\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n[inference]\nenabled = false\n[http]\nlisten = \
             \"127.0.0.1:0\"\ntokens = {tokens:?}\n"
        );
        std::fs::write(&file, config).expect("a file");
        let process = Command::new(env!("CARGO_BIN_EXE_node"))
            .args(["--config".as_ref(), file.as_os_str(), "--data-dir".as_ref(), data(dir.path()).as_os_str()])
            .stderr(Stdio::null())
            .spawn()
            .expect("the node's process");
        let process = Helper(process);
        let http = runtime.block_on(address_of(&data(dir.path()).join("control.sock")));
        let mut node = Self { dir, http, token, task: String::new(), _process: process };
        node.task = node.submitted();
        node
    }

    fn mcp(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-mcp"));
        command.arg("--control").arg(data(self.dir.path()).join("control.sock")).args(["--toolset", "full"]);
        command
    }

    /// The id of a task that is done.
    fn submitted(&self) -> String {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_nodectl"));
        ctl.args(["-o", "json", "--control"]).arg(data(self.dir.path()).join("control.sock"));
        let said = ctl.args(["task", "submit", "--kind", "noop", "--wait"]).output().expect("nodectl runs");
        let done: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        done["id"].as_str().unwrap_or_else(|| panic!("{done}")).to_owned()
    }
}

fn data(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// Where the node serves HTTP, once it answers.
async fn address_of(socket: &Path) -> String {
    let began = Instant::now();
    loop {
        if let Ok(client) = Client::connect(socket, "bench", Role::Operator).await
            && let Ok(Answer::Node(NodeReply::Status(status))) =
                client.ask(Body::Node(NodeRequest::Status), PATIENCE).await
        {
            let http = status.http.expect("it serves HTTP");
            return http.trim_start_matches("http://").to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "the node does not answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
