//! What a workflow's size costs: a fan of 998 steps, a chain of 1,000, and 10,000 steps in one workflow, on one node;
//! and what a look at one costs while a thousand of ten steps are in flight.
//!
//! `cargo bench --profile dist --bench workflows`. Prints one JSON object a line: the wall time from the submission to the end, the
//! best of three, and for the large one how much more memory the process has afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie::actors::address::Address;
use magpie::actors::routes::port;
use magpie::config::{InferenceConfig, NodeConfig};
use magpie::messages::ledger::LedgerMsg;
use magpie::node::Node;
use magpie_core::dag::{OnFail, StepSpec, WorkflowSpec};
use magpie_core::ids::{OperationId, PeerId, WorkflowId};
use magpie_core::queue::{Caller, LedgerReply, LedgerRequest, WorkflowState, WorkflowView};
use magpie_core::task::{Durability, Priority, TaskKind};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(120);
const ROUNDS: usize = 3;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let config = NodeConfig {
            data_dir: Some(dir.path().join("home")),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            mdns: false,
            inference: InferenceConfig { enabled: false, ..InferenceConfig::default() },
            ..NodeConfig::default()
        };
        let node = Node::start(config).await.expect("the node starts");
        let client = Client { ledger: node.addresses.ledger.clone(), peer: node.peer_id };
        client.run(&workflow(fan(10), Durability::Memory)).await;
        for durability in [Durability::Memory, Durability::Sync] {
            client.measure("fan_1_998_1", &workflow(fan(998), durability)).await;
            client.measure("chain_1000", &workflow(chain(1_000), durability)).await;
        }
        client.measure_in_flight(1_000, &workflow(chain(10), Durability::Sync)).await;
        let before = resident_bytes();
        let took = client.run(&workflow(fan(9_998), Durability::Memory)).await;
        let more = resident_bytes().saturating_sub(before) as f64 / (1024.0 * 1024.0);
        println!(
            r#"{{"bench":"workflows","what":"fan_1_9998_1","class":"memory","s":{:.3},"more_resident_mib":{more:.1}}}"#,
            took.as_secs_f64()
        );
        node.stop().await;
    });
}

fn workflow(steps: Vec<StepSpec>, durability: Durability) -> WorkflowSpec {
    WorkflowSpec {
        name: "bench".to_owned(),
        tag: None,
        namespace: "default".to_owned(),
        durability,
        priority: Priority::default(),
        schedule: None,
        parent: None,
        input: Default::default(),
        labels: Default::default(),
        on_fail: OnFail::FailFast,
        steps,
        outputs: Default::default(),
    }
}

fn step(name: String, needs: Vec<String>) -> StepSpec {
    StepSpec { needs, ..StepSpec::new(&name, TaskKind::Noop) }
}

/// One step, `width` that need it, one that needs all of those.
fn fan(width: usize) -> Vec<StepSpec> {
    let middle: Vec<String> = (0..width).map(|n| format!("m{n}")).collect();
    let first = step("first".to_owned(), Vec::new());
    let last = step("last".to_owned(), middle.clone());
    let middle = middle.into_iter().map(|name| step(name, vec!["first".to_owned()]));
    [first].into_iter().chain(middle).chain([last]).collect()
}

fn chain(steps: usize) -> Vec<StepSpec> {
    let needs = |n: usize| if n == 0 { Vec::new() } else { vec![format!("s{}", n - 1)] };
    (0..steps).map(|n| step(format!("s{n}"), needs(n))).collect()
}

#[derive(Clone)]
struct Client {
    ledger: Address<LedgerMsg>,
    peer: PeerId,
}

impl Client {
    async fn ask(&self, request: LedgerRequest) -> LedgerReply {
        let caller = Caller { peer: self.peer, owner: Arc::from("bench") };
        let permit = self.ledger.admit().expect("a thousand requests at a time fit");
        let message = |reply| LedgerMsg::Request { caller, request, permit, reply: port(reply) };
        self.ledger.ask(PATIENCE, message).await.expect("the ledger answers")
    }

    async fn measure(&self, what: &str, spec: &WorkflowSpec) {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            best = best.min(self.run(spec).await);
        }
        let class = format!("{:?}", spec.durability).to_lowercase();
        println!(r#"{{"bench":"workflows","what":"{what}","class":"{class}","s":{:.3}}}"#, best.as_secs_f64());
    }

    /// Submits `count` at once, and looks at one after the other until all have ended.
    async fn measure_in_flight(&self, count: usize, spec: &WorkflowSpec) {
        let (begin, mut submitting, mut looks) = (Instant::now(), JoinSet::new(), Vec::new());
        for _ in 0..count {
            let (client, spec) = (self.clone(), spec.clone());
            submitting.spawn(async move { client.submit(&spec).await });
        }
        let ids = submitting.join_all().await;
        let mut running = ids.clone();
        while !running.is_empty() {
            let mut still = Vec::with_capacity(running.len());
            for id in running {
                let asked = Instant::now();
                let LedgerReply::Workflow(view) = self.ask(LedgerRequest::GetWorkflow { id }).await else {
                    panic!("{id} is known")
                };
                looks.push(asked.elapsed());
                if !view.summary.state.is_terminal() {
                    still.push(id);
                }
            }
            running = still;
        }
        let took = begin.elapsed();
        for id in ids {
            let view = self.end(id).await;
            assert_eq!(view.summary.state, WorkflowState::Succeeded, "{:?}", view.error);
            assert_eq!(view.summary.tasks.succeeded, spec.steps.len() as u64);
        }
        looks.sort_unstable();
        let p99 = looks[looks.len() * 99 / 100];
        println!(
            r#"{{"bench":"workflows","what":"in_flight_{count}","class":"sync","steps":{},"s":{:.3},"looks":{},"look_p99_ms":{:.3}}}"#,
            spec.steps.len(),
            took.as_secs_f64(),
            looks.len(),
            p99.as_secs_f64() * 1e3,
        );
    }

    async fn submit(&self, spec: &WorkflowSpec) -> WorkflowId {
        let request =
            LedgerRequest::SubmitWorkflow { operation: OperationId(rand::random()), spec: Arc::new(spec.clone()) };
        let LedgerReply::WorkflowSubmitted { id } = self.ask(request).await else { panic!("it is a good workflow") };
        id
    }

    /// From the submission to the end that a waiting client hears of.
    async fn run(&self, spec: &WorkflowSpec) -> Duration {
        let begin = Instant::now();
        let id = self.submit(spec).await;
        let view = self.end(id).await;
        let took = begin.elapsed();
        assert_eq!(view.summary.state, WorkflowState::Succeeded, "{:?}", view.error);
        assert_eq!(view.summary.tasks.succeeded, spec.steps.len() as u64);
        took
    }

    async fn end(&self, id: WorkflowId) -> WorkflowView {
        loop {
            match self.ask(LedgerRequest::WaitWorkflow { id, timeout_ms: 30_000 }).await {
                LedgerReply::Workflow(view) if view.summary.state.is_terminal() => return *view,
                LedgerReply::Workflow(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Memory of this process that is in RAM, as the kernel counts it.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process of its memory");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    resident.and_then(|kib| kib.parse::<usize>().ok()).expect("a number of kB") * 1024
}
