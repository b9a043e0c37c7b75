//! Tells a node of calls behind its socket: beside the calls, so that none waits for it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::ClientError;
use crate::messages::audit::{CALLS_TOLD_MAX, CallLine};

/// How long a call waits for others to be told with it: a message for each would cost as much as the call.
const GATHERING: Duration = Duration::from_millis(50);
/// Calls that wait to be told; further ones are counted.
const QUEUE_LEN_MAX: usize = 1_024;
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the end of a program waits for what is not told.
const ENDING_MAX: Duration = Duration::from_secs(1);

enum Told {
    Call(Box<CallLine>),
    /// All before it is told, or will not be.
    All(oneshot::Sender<()>),
}

/// Dropped, it tells nothing more.
pub struct Recorder {
    calls: mpsc::Sender<Told>,
    lost: AtomicU64,
    ending: Arc<Notify>,
    telling: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

impl Recorder {
    /// Tells by `tell`, again and again while the node is away. It may hear of a call twice, if its answer was lost.
    pub fn start<F>(tell: impl Fn(Vec<CallLine>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), ClientError>> + Send + 'static,
    {
        let (calls, queue) = mpsc::channel(QUEUE_LEN_MAX);
        let ending = Arc::new(Notify::new());
        let telling = tokio::spawn(telling(queue, tell, ending.clone()));
        Self { calls, lost: AtomicU64::new(0), ending, telling }
    }

    /// Waits for nothing.
    pub fn record(&self, mut call: CallLine) {
        call.lost += self.lost.swap(0, Ordering::Relaxed);
        let lost = call.lost + 1;
        if self.calls.try_send(Told::Call(Box::new(call))).is_err() {
            self.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Waits until the node heard of all calls, a second at most, and not for a node that is away.
    pub async fn finish(&self) {
        self.ending.notify_one();
        let (sender, told) = oneshot::channel();
        let finished = async {
            if self.calls.send(Told::All(sender)).await.is_ok() {
                let _ = told.await;
            }
        };
        let _ = tokio::time::timeout(ENDING_MAX, finished).await;
    }
}

async fn telling<F>(mut queue: mpsc::Receiver<Told>, tell: impl Fn(Vec<CallLine>) -> F, ending: Arc<Notify>)
where
    F: Future<Output = Result<(), ClientError>>,
{
    let mut all = None;
    while let Some(first) = queue.recv().await {
        if matches!(first, Told::Call(_)) && queue.len() < CALLS_TOLD_MAX {
            gather(&ending).await;
        }
        let mut calls = Vec::new();
        let mut next = Some(first);
        while let Some(told) = next {
            match told {
                Told::Call(call) => {
                    call.say();
                    calls.push(*call);
                }
                Told::All(sender) => all = Some(sender),
            }
            next = if calls.len() < CALLS_TOLD_MAX { queue.try_recv().ok() } else { None };
        }
        if !calls.is_empty() {
            until_told(calls, &tell, &ending).await;
        }
        if let Some(sender) = all.take_if(|_| queue.is_empty()) {
            let _ = sender.send(());
        }
    }
}

/// Until others have come, or the program ends.
async fn gather(ending: &Notify) {
    tokio::select! {
        () = tokio::time::sleep(GATHERING) => {}
        // Also what follows is told at once.
        () = ending.notified() => ending.notify_one(),
    }
}

/// A node that takes no such message is told once; one that is away is waited for, unless the program ends.
async fn until_told<F>(calls: Vec<CallLine>, tell: &impl Fn(Vec<CallLine>) -> F, ending: &Notify)
where
    F: Future<Output = Result<(), ClientError>>,
{
    loop {
        let error = match tell(calls.clone()).await {
            Ok(()) => return,
            Err(error) => error,
        };
        let passes = match &error {
            ClientError::Refused(refusal) => refusal.is_retryable(),
            ClientError::Unreachable { .. } | ClientError::Closed | ClientError::TimedOut { .. } => true,
            ClientError::NotAdmitted { .. } | ClientError::TooLarge(_) | ClientError::Unexpected => false,
        };
        if !passes {
            tracing::warn!(%error, calls = calls.len(), "the node does not keep these calls in its audit");
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_AFTER) => {}
            () = ending.notified() => {
                // Once more for whoever told it to end is enough, now and for what follows.
                ending.notify_one();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn line(n: u64) -> CallLine {
        let text = || "x".to_owned();
        let (principal, client, tool, called) = (text(), text(), text(), text());
        let (arguments, outcome, at) = (text(), text(), Default::default());
        let (us, trace, route) = (None, None, None);
        CallLine { at, principal, client, tool, called, arguments, outcome, ms: n, us, trace, route, lost: 0 }
    }

    fn recorder() -> (Recorder, Arc<Mutex<Vec<Vec<u64>>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let messages = told.clone();
        let tell = move |calls: Vec<CallLine>| {
            messages.lock().unwrap().push(calls.iter().map(|call| call.ms).collect());
            std::future::ready(Ok(()))
        };
        (Recorder::start(tell), told)
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_follow_each_other_are_told_together_and_a_full_message_at_once() {
        let (recorder, told) = recorder();
        for n in 0..3 {
            recorder.record(line(n));
            tokio::time::sleep(GATHERING / 10).await;
        }
        assert!(told.lock().unwrap().is_empty());
        tokio::time::sleep(GATHERING).await;
        assert_eq!(*told.lock().unwrap(), [[0, 1, 2]]);
        let full = CALLS_TOLD_MAX as u64 + 1;
        (0..full).for_each(|n| recorder.record(line(n)));
        let began = tokio::time::Instant::now();
        while told.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_program_waits_for_no_others() {
        let (recorder, told) = recorder();
        recorder.record(line(7));
        let began = tokio::time::Instant::now();
        recorder.finish().await;
        assert_eq!((began.elapsed(), told.lock().unwrap().clone()), (Duration::ZERO, vec![vec![7]]));
    }
}
