//! Which calls of other nodes are under way: each goes on beside the requests that ask for it, which are short.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::ids::{OperationId, PeerId};
use magpie_core::limits;
use magpie_core::queue::Refusal;
use tokio::sync::watch;

use crate::messages::mount::MountProgress;
use crate::messages::tool::ToolReply;

/// How a call ended; nothing while it goes on.
type Ended = Option<(ToolReply, Instant)>;

/// A call is its node's: others are told that there is none.
#[derive(Default)]
pub struct Calls {
    begun: BTreeMap<(PeerId, OperationId), Call>,
}

/// One call. A clone is the same call.
#[derive(Clone)]
pub struct Call {
    cancel: Arc<watch::Sender<bool>>,
    progress: watch::Receiver<Option<MountProgress>>,
    ended: watch::Receiver<Ended>,
}

/// What a call that is under way is told through, and hears.
pub struct Telling {
    pub progress: watch::Sender<Option<MountProgress>>,
    pub cancelled: watch::Receiver<bool>,
    ended: watch::Sender<Ended>,
}

impl Telling {
    pub fn end(self, reply: ToolReply) {
        self.ended.send_replace(Some((reply, Instant::now())));
    }
}

impl Calls {
    /// Takes down one more call.
    ///
    /// # Errors
    /// If as many as may go on do.
    pub fn begin(&mut self, from: PeerId, call: OperationId) -> Result<(Call, Telling), Refusal> {
        self.forget(Instant::now());
        let running = |begun: &(&(PeerId, OperationId), &Call)| begun.1.ended.borrow().is_none();
        let of_this = self.begun.iter().filter(running).filter(|((peer, _), _)| *peer == from).count();
        let overloaded = |what: String| Refusal::Overloaded { retry_after_ms: 500, what };
        if of_this >= limits::PEER_CALLS_PER_PEER_MAX {
            return Err(overloaded(format!("{of_this} calls of tools of node {from} are under way here")));
        }
        if self.begun.iter().filter(running).count() >= limits::PEER_CALLS_MAX {
            return Err(overloaded(format!("{} calls of tools of other nodes are under way", limits::PEER_CALLS_MAX)));
        }
        let (progress, ended, cancel) = (watch::channel(None), watch::channel(None), watch::channel(false));
        let begun = Call { cancel: Arc::new(cancel.0), progress: progress.1, ended: ended.1 };
        self.begun.insert((from, call), begun.clone());
        Ok((begun, Telling { progress: progress.0, cancelled: cancel.1, ended: ended.0 }))
    }

    /// A call that `from` began.
    pub fn of(&self, from: PeerId, call: OperationId) -> Option<Call> {
        self.begun.get(&(from, call)).cloned()
    }

    /// Forgets ends that nobody came back for, the oldest first.
    fn forget(&mut self, now: Instant) {
        let kept = Duration::from_millis(limits::PEER_CALL_ENDED_KEPT_MS);
        let over = |call: &Call| call.ended.borrow().as_ref().map(|(_, at)| now.saturating_duration_since(*at));
        self.begun.retain(|_, call| over(call).is_none_or(|since| since < kept));
        let mut ended: Vec<(Duration, (PeerId, OperationId))> =
            self.begun.iter().filter_map(|(key, call)| Some((over(call)?, *key))).collect();
        ended.sort_unstable();
        for (_, key) in ended.into_iter().skip(limits::PEER_CALLS_ENDED_MAX) {
            self.begun.remove(&key);
        }
    }
}

impl Call {
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Its end, or how far it is after `wait`.
    pub async fn follow(mut self, wait: Duration) -> ToolReply {
        match tokio::time::timeout(wait, self.ended.wait_for(Option::is_some)).await {
            Ok(Ok(ended)) => ended.as_ref().map_or(ToolReply::Unknown, |(reply, _)| reply.clone()),
            // What carried it is gone, and the call with it.
            Ok(Err(_)) => ToolReply::Unknown,
            Err(_) => ToolReply::Running { progress: self.progress.borrow().clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        PeerId([seed; 32])
    }

    fn call(n: usize) -> OperationId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&n.to_be_bytes());
        OperationId(id)
    }

    #[tokio::test]
    async fn a_call_is_its_nodes_and_goes_on_without_it() {
        let mut calls = Calls::default();
        let (begun, telling) = calls.begin(peer(1), call(1)).unwrap();
        assert!(calls.of(peer(2), call(1)).is_none() && calls.of(peer(1), call(2)).is_none());
        let progress = MountProgress { done: 0.5, total: None, message: None };
        telling.progress.send_replace(Some(progress.clone()));
        let followed = calls.of(peer(1), call(1)).unwrap().follow(Duration::ZERO).await;
        assert_eq!(followed, ToolReply::Running { progress: Some(progress) });
        assert!(!*telling.cancelled.borrow());
        begun.cancel();
        assert!(*telling.cancelled.borrow());
        telling.end(ToolReply::Cancelled);
        assert_eq!(begun.follow(Duration::from_secs(60)).await, ToolReply::Cancelled);
    }

    #[tokio::test]
    async fn a_call_that_nobody_will_end_is_none() {
        let (begun, telling) = Calls::default().begin(peer(1), call(1)).unwrap();
        drop(telling);
        assert_eq!(begun.follow(Duration::from_secs(60)).await, ToolReply::Unknown);
    }

    #[test]
    fn a_node_takes_no_others_places_and_all_together_have_a_bound() {
        let mut calls = Calls::default();
        let mut telling = Vec::new();
        for n in 0..limits::PEER_CALLS_PER_PEER_MAX {
            telling.push(calls.begin(peer(1), call(n)).unwrap());
        }
        assert!(matches!(calls.begin(peer(1), call(1_000)), Err(Refusal::Overloaded { .. })));
        for n in limits::PEER_CALLS_PER_PEER_MAX..limits::PEER_CALLS_MAX {
            telling.push(calls.begin(peer(2 + (n % 100) as u8), call(n)).unwrap());
        }
        assert!(matches!(calls.begin(peer(250), call(1_000)), Err(Refusal::Overloaded { .. })));
        telling.swap_remove(0).1.end(ToolReply::Cancelled);
        assert!(calls.begin(peer(1), call(1_000)).is_ok(), "a place that came free is another's");
    }

    #[test]
    fn ends_are_kept_for_a_while_and_so_many() {
        let mut calls = Calls::default();
        for n in 0..limits::PEER_CALLS_ENDED_MAX + 10 {
            calls.begin(peer(1), call(n)).unwrap().1.end(ToolReply::Cancelled);
        }
        let now = Instant::now();
        calls.forget(now);
        assert_eq!(calls.begun.len(), limits::PEER_CALLS_ENDED_MAX);
        calls.forget(now + Duration::from_millis(limits::PEER_CALL_ENDED_KEPT_MS) + Duration::from_secs(1));
        assert_eq!(calls.begun.len(), 0);
    }
}
