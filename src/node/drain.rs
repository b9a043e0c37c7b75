//! How a node ends in order: new work is refused, what runs here finishes, homes and workers are told what is left.

use std::time::Duration;

use magpie_core::limits;
use magpie_core::queue::{LedgerReply, LedgerRequest};
use tokio::time::Instant;

use super::Node;

use crate::actors::routes::Routes;
use crate::messages::ledger::LedgerMsg;
use crate::messages::worker::{WorkerMsg, WorkerReply, WorkerRequest};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(2);
/// What ends with the deadline has its grace; then its outcome goes out.
const AFTER_DEADLINE: Duration = Duration::from_millis(limits::PROCESS_STOP_GRACE_MS + 2_000);

impl Node {
    /// Takes no new work and no lease, returns what has not started, and lets the rest finish within `deadline`; what
    /// still runs then is ended, so that its home lets it run again. This home goes on granting to other workers and
    /// taking their outcomes meanwhile.
    pub async fn drain(&self, deadline: Duration) {
        let why = "this node was told to end and drains".to_owned();
        // An actor that restarts meanwhile has nothing to be told: it ends as all do.
        let _ = self.addresses.ledger.cast(LedgerMsg::Draining { why });
        let within_ms = Some(deadline.as_millis() as u64);
        let request = WorkerRequest::Drain { within_ms };
        let _ = self.addresses.worker.ask(PATIENCE, |reply| WorkerMsg::Request { request, permit: None, reply }).await;
        let end = Instant::now() + deadline + AFTER_DEADLINE;
        let home_end = Instant::now() + deadline;
        while Instant::now() < end {
            let own_is_over = self.worker_is_idle().await;
            let others_are_over = Instant::now() >= home_end || self.nothing_is_leased().await;
            if own_is_over && others_are_over {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::warn!("the drain took too long: what is left is in the log and the spool");
    }

    /// Nothing runs here, and every home knows how its attempts ended.
    async fn worker_is_idle(&self) -> bool {
        let request = WorkerRequest::Stats;
        let stats =
            self.addresses.worker.ask(PATIENCE, |reply| WorkerMsg::Request { request, permit: None, reply }).await;
        match stats {
            Ok(WorkerReply::Stats(stats)) => stats.running + stats.queued + stats.reporting == 0,
            Ok(WorkerReply::Noted) | Err(_) => true,
        }
    }

    /// No other worker runs anything for this home.
    async fn nothing_is_leased(&self) -> bool {
        let me = self.peers.me();
        let routes = Routes::new(self.addresses.clone(), self.peers.clone());
        match routes.own_ledger(me, routes.peers.principal_of(me), LedgerRequest::Stats).await {
            Ok(LedgerReply::Stats(stats)) => stats.leases == 0,
            Ok(_) | Err(_) => true,
        }
    }
}
