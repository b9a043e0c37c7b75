//! A dispatcher over a real node, and a caller who waits as long as it takes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use magpie::mcp::catalog::{Catalog, Scope};
use magpie::mcp::dispatch::{Dispatcher, Outcome};
use magpie::mcp::handler::{BoxFuture, Caller};
use magpie::mcp::link::NodeLink;
use magpie::mcp::principal::Principal;
use magpie::mcp::surface::{Surface, SurfaceOptions};
use magpie::messages::node::NodeStatus;
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::sync::Notify;

/// Remembers what it was told, and goes when it is told to.
#[derive(Default)]
pub struct TestCaller {
    pub progress: Mutex<Vec<(u64, String)>>,
    pub gone: Notify,
}

impl Caller for TestCaller {
    fn name(&self) -> String {
        "test".to_owned()
    }

    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.gone.notified())
    }

    fn progress(&self, waited_ms: u64, _wait_ms: u64, message: String) -> BoxFuture<'_, ()> {
        self.progress.lock().unwrap().push((waited_ms, message));
        Box::pin(std::future::ready(()))
    }
}

pub fn dispatcher(node: &Path, options: &SurfaceOptions) -> Dispatcher {
    dispatcher_of(Catalog::shared(), node, options)
}

pub fn dispatcher_of(catalog: &'static Catalog, node: &Path, options: &SurfaceOptions) -> Dispatcher {
    let surface = Surface::new(catalog, options).unwrap();
    let principal = Principal::new("test", Scope::Admin);
    Dispatcher::new(&surface, NodeLink::new(node.to_owned(), Scope::Admin.role()), Arc::new(principal))
}

/// Another caller of the same node.
pub fn dispatcher_named(node: &Path, name: &str) -> Dispatcher {
    let surface = Surface::new(Catalog::shared(), &SurfaceOptions::default()).unwrap();
    let principal = Principal::new(name, Scope::Admin);
    Dispatcher::new(&surface, NodeLink::new(node.to_owned(), Scope::Admin.role()), Arc::new(principal))
}

/// A dispatcher whose node is away.
pub fn without_node(options: &SurfaceOptions) -> Dispatcher {
    dispatcher(Path::new("/nowhere/control.sock"), options)
}

pub async fn call(dispatcher: &Dispatcher, name: &str, arguments: Value) -> Outcome {
    let arguments: Map<String, Value> = serde_json::from_value(arguments).unwrap();
    dispatcher.call(name, arguments, &TestCaller::default()).await
}

/// The value of a call that succeeds.
pub async fn ok(dispatcher: &Dispatcher, name: &str, arguments: Value) -> Value {
    let outcome = call(dispatcher, name, arguments).await;
    assert!(!outcome.is_error, "{name}: {}", outcome.value);
    outcome.value
}

/// The error of a call that fails.
pub async fn failed(dispatcher: &Dispatcher, name: &str, arguments: Value) -> Value {
    let outcome = call(dispatcher, name, arguments).await;
    assert!(outcome.is_error, "{name}: {}", outcome.value);
    outcome.value
}

pub struct Rig {
    pub dispatcher: Dispatcher,
    /// Where it serves HTTP, if its configuration says so.
    pub http: String,
    dir: TempDir,
    node: Child,
}

const KEY: &str = "cluster.key";

const CONFIG: &str = "mdns = false\nslots = 2\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n
[process]\nallow = [\"python3\", \"sh\"]\n[inference]\nenabled = false\n";

impl Rig {
    /// A node alone, in a process of its own, that runs python3 and sh.
    pub async fn start() -> Self {
        Self::start_with(|_| String::new()).await
    }

    /// The same, with more in its configuration.
    pub async fn start_with(more: impl FnOnce(&Path) -> String) -> Self {
        Self::start_prepared(more, |_| String::new()).await
    }

    /// The same, of a mesh with `other`, which is called on.
    pub async fn start_beside(other: &Self, more: impl FnOnce(&Path) -> String) -> Self {
        Self::start_that_finds(other, |_, listen| format!("bootstrap = {listen:?}\n"), more).await
    }

    /// The same, with lines of its configuration by which it finds who listens there.
    pub async fn start_that_finds(
        other: &Self,
        find: impl FnOnce(&Path, &[String]) -> String,
        more: impl FnOnce(&Path) -> String,
    ) -> Self {
        let listen = other.status().await.listen;
        let prepare = |dir: &Path| {
            std::fs::copy(other.dir.path().join(KEY), dir.join(KEY)).unwrap();
            find(dir, &listen)
        };
        let rig = Self::start_prepared(more, prepare).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while rig.status().await.peers.iter().all(|peer| peer.state != "alive") {
            assert!(Instant::now() < deadline, "the nodes do not meet");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rig
    }

    async fn start_prepared(more: impl FnOnce(&Path) -> String, prepare: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first = prepare(dir.path());
        let key = dir.path().join(KEY);
        magpie_net::ClusterKey::load_or_create(&key).unwrap();
        let config = format!("{first}cluster_key = {key:?}\n{CONFIG}{}", more(dir.path()));
        std::fs::write(dir.path().join("node.toml"), config).unwrap();
        let dispatcher = dispatcher(&dir.path().join("data/control.sock"), &SurfaceOptions::default());
        let node = spawn(dir.path());
        let mut rig = Self { dispatcher, http: String::new(), dir, node };
        rig.until_it_answers().await;
        rig
    }

    /// Kills the node without a word and starts it again.
    pub async fn crash(&mut self) {
        self.kill();
        self.start_again().await;
    }

    pub fn kill(&mut self) {
        self.node.kill().unwrap();
        self.node.wait().unwrap();
    }

    pub async fn start_again(&mut self) {
        self.node = spawn(self.dir.path());
        self.until_it_answers().await;
    }

    async fn until_it_answers(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while call(&self.dispatcher, "p2p_taskqueue_status", Value::Object(Map::new())).await.is_error {
            assert!(Instant::now() < deadline, "the node does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.http = self.status().await.http.unwrap_or_default();
    }

    /// What the node says of itself.
    pub async fn status(&self) -> NodeStatus {
        let link = NodeLink::new(self.socket(), Scope::Read.role());
        link.status(Duration::from_secs(30)).await.unwrap()
    }

    /// The file of the bearer tokens.
    pub fn tokens(&self) -> std::path::PathBuf {
        self.dir.path().join("tokens.toml")
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("data/control.sock")
    }
}

fn spawn(dir: &Path) -> Child {
    let mut node = Command::new(env!("CARGO_BIN_EXE_node"));
    node.arg("--config").arg(dir.join("node.toml")).arg("--data-dir").arg(dir.join("data"));
    node.env("MAGPIE_LOG", "info").stdin(Stdio::null()).spawn().unwrap()
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}
