//! The thread in which a node's actors and its network live.
//!
//! All of them translate and decide, and none of them waits: one thread serves them, and a message between two of them
//! costs no wake-up of another core. What executes tasks lives on the runtime that started the node, so a busy
//! executor delays no renewal.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::{Notify, oneshot};

use crate::awake::Awake;

/// For so long the thread stays awake for what may follow on a task that went to a peer alone, or came back alone.
const VIGIL: Duration = Duration::from_micros(200);

/// Keeps a node's thread awake for a moment, where its machine has a core for that.
#[derive(Clone)]
pub struct Vigil(Arc<Watch>);

struct Watch {
    awake: Awake,
    began: Instant,
    /// On the clock that began then; 0 before the first.
    ends_ns: AtomicU64,
    begun: Notify,
}

impl Default for Vigil {
    fn default() -> Self {
        let watch =
            Watch { awake: Awake::default(), began: Instant::now(), ends_ns: AtomicU64::new(0), begun: Notify::new() };
        Self(Arc::new(watch))
    }
}

impl Vigil {
    /// From now on, once more.
    pub fn keep(&self) {
        let ends = self.0.began.elapsed() + VIGIL;
        self.0.ends_ns.store(ends.as_nanos() as u64, Ordering::Relaxed);
        self.0.begun.notify_one();
    }

    fn lasts(&self) -> bool {
        (self.0.began.elapsed().as_nanos() as u64) < self.0.ends_ns.load(Ordering::Relaxed)
    }

    /// Polled by the thread itself, it lets that look at its sockets again and again.
    async fn watch(&self) {
        loop {
            self.0.begun.notified().await;
            self.0.awake.stay(|| self.lasts()).await;
        }
    }
}

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
    pub fn start(vigil: Vigil) -> io::Result<(Self, NodeThreadEnd)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("magpie-node".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // An error says that the sender is gone: that is the signal.
                    _ = ended => {}
                    () = vigil.watch() => {}
                }
            });
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_vigil_keeps_its_thread_awake_until_it_ends_and_then_lets_it_sleep() {
        let (vigil, wakes) = (Vigil::default(), Arc::new(Wakes::default()));
        let waker = Waker::from(wakes.clone());
        let mut watch = pin!(vigil.watch());
        let mut polled = || {
            let before = wakes.0.load(Ordering::Relaxed);
            assert!(watch.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            wakes.0.load(Ordering::Relaxed) - before
        };
        assert_eq!(polled(), 0, "nothing keeps it");
        // One that is over before a slow machine looks at it is kept again.
        while {
            vigil.keep();
            polled() == 0
        } {}
        std::thread::sleep(VIGIL);
        assert_eq!(polled(), 0, "it is over");
    }
}
