//! The thread in which a node's actors and its network live.
//!
//! All of them translate and decide, and none of them waits: one thread serves them, and a message between two of them
//! costs no wake-up of another core. What executes tasks lives on the runtime that started the node, so a busy
//! executor delays no renewal.

use std::future::Future;
use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Dropped, it ends everything in it at once.
pub struct NodeThread {
    runtime: Handle,
    /// Its end ends the thread.
    _running: oneshot::Sender<()>,
}

/// The end of a [`NodeThread`], to wait for.
pub struct NodeThreadEnd(JoinHandle<()>);

impl NodeThread {
    /// # Errors
    /// The operating system's, if it gives no thread or no event queue.
    pub fn start() -> io::Result<(Self, NodeThreadEnd)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("magpie-node".into()).spawn(move || {
            // An error says that the sender is gone: that is the signal.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok((Self { runtime: handle, _running: running }, NodeThreadEnd(thread)))
    }

    /// Runs `work` in the thread and waits for what it gives; `None` if it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.runtime.spawn(work).await.ok()
    }
}

impl NodeThreadEnd {
    /// Waits until nothing of the node runs in its thread any more.
    pub async fn wait(self) {
        // A thread that panicked has ended, too; what panicked in it was reported by its supervisor.
        let _ = tokio::task::spawn_blocking(move || self.0.join()).await;
    }
}
