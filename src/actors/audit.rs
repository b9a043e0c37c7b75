//! The audit of a node, behind its doors: what callers of tools did, kept and read again.

use std::sync::{Arc, Mutex, PoisonError};

use magpie_core::histogram::Histogram;
use magpie_core::queue::Refusal;
use magpie_core::time::Wall;
use tokio::sync::Semaphore;

use super::readings;
use crate::messages::audit::{AuditAsk, AuditFound, CALLS_TOLD_MAX, CallLine, Route, RouteView};
use crate::store::audit::AuditDir;
use crate::store::audit_queue::AuditQueue;

/// Readers at a time: each goes through the files.
const READERS_MAX: usize = 2;

/// A clone is the same audit.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    dir: AuditDir,
    queue: AuditQueue,
    readers: Semaphore,
    counted: Mutex<[Counted; Route::ALL.len()]>,
}

/// The calls of one route.
#[derive(Default)]
struct Counted {
    errors: u64,
    took_us: Histogram,
}

impl Audit {
    /// # Errors
    /// If the system gives no thread.
    pub fn start(dir: AuditDir) -> std::io::Result<Self> {
        let queue = AuditQueue::start(&dir)?;
        Ok(Self(Arc::new(Inner { dir, queue, readers: Semaphore::new(READERS_MAX), counted: Mutex::default() })))
    }

    /// Keeps calls that a process of `owner` made and said in its log, whatever name they bring; waits for nothing.
    pub fn record(&self, owner: &str, calls: Vec<CallLine>) {
        for call in calls.into_iter().take(CALLS_TOLD_MAX) {
            self.0.queue.record(self.taken(owner, call));
        }
    }

    /// Keeps a call that this process made for `owner`, and says it in the log; waits for nothing.
    pub fn say(&self, owner: &str, call: CallLine) {
        self.0.queue.say(self.taken(owner, call));
    }

    /// A clock ahead of this one's is not believed.
    fn taken(&self, owner: &str, call: CallLine) -> CallLine {
        self.count(&call);
        let at = call.at.min(Wall(readings::now().wall_ms));
        CallLine { at, principal: owner.to_owned(), us: None, ..call }.cut()
    }

    fn count(&self, call: &CallLine) {
        let Some(route) = call.route else { return };
        let mut counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = &mut counted[route as usize];
        counted.errors += u64::from(call.outcome != "ok");
        counted.took_us.add(call.us.unwrap_or(call.ms.saturating_mul(1_000)));
    }

    /// The calls since the node started, by where they ran; those that nobody told it of are not among them.
    pub fn routes(&self) -> Vec<RouteView> {
        let counted = self.0.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |(route, counted): (Route, &Counted)| RouteView {
            route,
            calls: counted.took_us.count(),
            errors: counted.errors,
            p50_us: counted.took_us.percentile(50),
            p95_us: counted.took_us.percentile(95),
            p99_us: counted.took_us.percentile(99),
        };
        Route::ALL.into_iter().zip(counted.iter()).map(view).collect()
    }

    /// # Errors
    /// If the files cannot be read, or too many read them.
    pub async fn read(&self, ask: AuditAsk) -> Result<AuditFound, Refusal> {
        let refused = |what: String| Refusal::Unavailable { what };
        let overloaded = |_| Refusal::Overloaded { retry_after_ms: 1_000, what: "readers of the audit".to_owned() };
        let _place = self.0.readers.try_acquire().map_err(overloaded)?;
        let inner = self.0.clone();
        let reading = tokio::task::spawn_blocking(move || inner.dir.read(&ask));
        let read = reading.await.map_err(|error| refused(error.to_string()))?;
        read.map_err(|error| refused(error.to_string()))
    }
}
