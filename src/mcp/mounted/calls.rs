//! Calls of one mounted server that a node has begun: each goes on without its caller, who comes back for its end by a
//! number, and only the caller may.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use magpie_core::limits;
use tokio::sync::{Notify, watch};

use crate::messages::mount::{MountProgress, MountReply};

/// Looking at all calls for those to forget costs more than one of them.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// How a call ended; nothing while it goes on.
pub type Ended = Option<(MountReply, Instant)>;

pub struct Calls {
    running_max: usize,
    next: u64,
    begun: BTreeMap<u64, Call>,
    /// Each call that goes on has it, too.
    running: Arc<()>,
    /// When there will be ends to forget, however few calls there are.
    forget_at: Instant,
}

/// One call. A clone is the same call.
#[derive(Clone)]
pub struct Call {
    pub number: u64,
    owner: Arc<str>,
    pub cancel: Arc<Notify>,
    progress: watch::Receiver<Option<MountProgress>>,
    ended: watch::Receiver<Ended>,
}

/// What a call that is under way is told through.
pub struct Telling {
    pub progress: watch::Sender<Option<MountProgress>>,
    ended: watch::Sender<Ended>,
    running: Arc<()>,
}

impl Telling {
    pub fn end(self, reply: MountReply) {
        // Who hears of the end may begin the next call.
        drop(self.running);
        self.ended.send_replace(Some((reply, Instant::now())));
    }
}

impl Calls {
    pub fn new(running_max: usize) -> Self {
        Self { running_max, next: 0, begun: BTreeMap::new(), running: Arc::default(), forget_at: Instant::now() }
    }

    /// Calls that go on.
    pub fn running(&self) -> usize {
        Arc::strong_count(&self.running) - 1
    }

    /// Takes down one more call, unless as many as may go on.
    pub fn begin(&mut self, owner: Arc<str>) -> Option<(Call, Telling)> {
        let now = Instant::now();
        if now >= self.forget_at || self.begun.len() >= limits::MOUNT_ENDED_MAX / 4 * 5 {
            self.forget(now);
            self.forget_at = now + FORGET_EVERY;
        }
        if self.running() >= self.running_max {
            return None;
        }
        self.next += 1;
        let (progress, ended, running) = (watch::channel(None), watch::channel(None), self.running.clone());
        let call = Call { number: self.next, owner, cancel: Arc::default(), progress: progress.1, ended: ended.1 };
        self.begun.insert(self.next, call.clone());
        Some((call, Telling { progress: progress.0, ended: ended.0, running }))
    }

    /// A call of `owner`. Others are told that there is none.
    pub fn of(&self, number: u64, owner: &str) -> Option<Call> {
        self.begun.get(&number).filter(|call| *call.owner == *owner).cloned()
    }

    /// Forgets calls that nobody came back for, the oldest first.
    fn forget(&mut self, now: Instant) {
        let kept = Duration::from_millis(limits::MOUNT_ENDED_KEPT_MS);
        let over = |call: &Call| call.ended.borrow().as_ref().map(|(_, at)| now.saturating_duration_since(*at));
        self.begun.retain(|_, call| over(call).is_none_or(|since| since < kept));
        let mut ended: Vec<(Duration, u64)> =
            self.begun.values().filter_map(|call| Some((over(call)?, call.number))).collect();
        ended.sort_unstable();
        for (_, number) in ended.into_iter().skip(limits::MOUNT_ENDED_MAX) {
            self.begun.remove(&number);
        }
    }
}

impl Call {
    /// Its end, or how far it is after `wait`.
    pub async fn follow(mut self, wait: Duration) -> MountReply {
        let waited = tokio::time::timeout(wait, self.ended.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(ended)) => ended.as_ref().map(|(reply, _)| reply.clone()).unwrap_or_else(lost),
            Ok(Err(_)) => lost(),
            Err(_) => MountReply::Running { call: self.number, progress: self.progress.borrow().clone() },
        }
    }
}

/// A call whose end nobody will tell.
fn lost() -> MountReply {
    MountReply::Failed { why: "the call was lost with what carried it".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_is_its_owners_and_goes_on_without_them() {
        let mut calls = Calls::new(1);
        let (call, telling) = calls.begin("me".into()).unwrap();
        assert!(calls.begin("me".into()).is_none());
        assert!(calls.of(call.number, "another").is_none());
        telling.progress.send_replace(Some(MountProgress { done: 0.5, total: None, message: None }));
        let followed = calls.of(call.number, "me").unwrap().follow(Duration::ZERO).await;
        let MountReply::Running { progress: Some(progress), .. } = followed else { panic!("{followed:?}") };
        assert!((progress.done - 0.5).abs() < f64::EPSILON);
        assert_eq!(calls.running(), 1);
        telling.end(MountReply::Cancelled);
        assert_eq!(call.follow(Duration::from_secs(60)).await, MountReply::Cancelled);
        assert_eq!(calls.running(), 0);
    }

    #[tokio::test]
    async fn a_call_that_nobody_will_end_is_told_as_lost() {
        let (call, telling) = Calls::new(1).begin("me".into()).unwrap();
        drop(telling);
        assert!(matches!(call.follow(Duration::from_secs(60)).await, MountReply::Failed { .. }));
    }

    #[test]
    fn ends_are_kept_for_a_while_and_so_many() {
        let mut calls = Calls::new(1);
        let ended = |calls: &mut Calls| {
            let (call, telling) = calls.begin("me".into()).unwrap();
            telling.end(MountReply::Cancelled);
            call.number
        };
        let numbers: Vec<u64> = (0..limits::MOUNT_ENDED_MAX + 10).map(|_| ended(&mut calls)).collect();
        let now = Instant::now();
        calls.forget(now);
        let kept = |calls: &Calls| numbers.iter().filter(|number| calls.of(**number, "me").is_some()).count();
        assert_eq!(kept(&calls), limits::MOUNT_ENDED_MAX);
        calls.forget(now + Duration::from_millis(limits::MOUNT_ENDED_KEPT_MS));
        assert_eq!(kept(&calls), 0);
    }
}
