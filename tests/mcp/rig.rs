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

const CONFIG: &str = "mdns = false\nslots = 2\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n
[process]\nallow = [\"python3\", \"sh\"]\n[inference]\nenabled = false\n";

impl Rig {
    /// A node alone, in a process of its own, that runs python3 and sh.
    pub async fn start() -> Self {
        Self::start_with(|_| String::new()).await
    }

    /// The same, with more in its configuration.
    pub async fn start_with(more: impl FnOnce(&Path) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("node.toml");
        std::fs::write(&config, format!("{CONFIG}{}", more(dir.path()))).unwrap();
        let data_dir = dir.path().join("data");
        let node = Command::new(env!("CARGO_BIN_EXE_node"))
            .arg("--config")
            .arg(config)
            .arg("--data-dir")
            .arg(&data_dir)
            .env("MAGPIE_LOG", "info")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let dispatcher = dispatcher(&data_dir.join("control.sock"), &SurfaceOptions::default());
        let mut rig = Self { dispatcher, http: String::new(), dir, node };
        let deadline = Instant::now() + Duration::from_secs(30);
        while call(&rig.dispatcher, "p2p_taskqueue_status", Value::Object(Map::new())).await.is_error {
            assert!(Instant::now() < deadline, "the node does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        rig.http = rig.address_of_http(&data_dir.join("control.sock")).await;
        rig
    }

    async fn address_of_http(&self, socket: &Path) -> String {
        let link = NodeLink::new(socket.to_owned(), Scope::Read.role());
        link.status(Duration::from_secs(30)).await.unwrap().http.unwrap_or_default()
    }

    /// The file of the bearer tokens.
    pub fn tokens(&self) -> std::path::PathBuf {
        self.dir.path().join("tokens.toml")
    }

    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("data/control.sock")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}
