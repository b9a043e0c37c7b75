//! Calls under way that the SDK knows nothing of, so that their client can take them back.

use rmcp::model::RequestId;
use tokio::sync::watch;

/// The calls of one client. Dropped, it cancels them.
#[derive(Debug, Default)]
pub struct RunningCalls {
    next: u64,
    calls: Vec<RunningCall>,
}

#[derive(Debug)]
struct RunningCall {
    request: RequestId,
    number: u64,
    /// Dropped, it cancels the call.
    _cancels: watch::Sender<()>,
}

impl RunningCalls {
    /// Takes one in: its number, since a client may use an id twice, and what has no sender any more once it is cancelled.
    pub fn begin(&mut self, request: RequestId) -> (u64, watch::Receiver<()>) {
        let (number, (cancels, cancelled)) = (self.next, watch::channel(()));
        self.next += 1;
        self.calls.push(RunningCall { request, number, _cancels: cancels });
        (number, cancelled)
    }

    /// Cancels all of that id, and says whether there were any.
    pub fn cancel(&mut self, request: &RequestId) -> bool {
        let before = self.calls.len();
        self.calls.retain(|call| call.request != *request);
        self.calls.len() < before
    }

    /// Takes out one that has ended, and says whether nobody had cancelled it.
    pub fn end(&mut self, number: u64) -> bool {
        let place = self.calls.iter().position(|call| call.number == number);
        place.map(|place| self.calls.swap_remove(place)).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_cancelled_by_its_id_and_ends_once() {
        let mut calls = RunningCalls::default();
        let ids = [1, 2, 1].map(RequestId::Number);
        let [(_, first), (second, other), (_, again)] = ids.map(|id| calls.begin(id));
        assert!(calls.cancel(&RequestId::Number(1)) && !calls.cancel(&RequestId::Number(1)));
        let is_cancelled = |call: &watch::Receiver<()>| call.has_changed().is_err();
        assert_eq!([&first, &other, &again].map(is_cancelled), [true, false, true]);
        assert!(calls.end(second) && !calls.end(second) && calls.is_empty());
    }
}
