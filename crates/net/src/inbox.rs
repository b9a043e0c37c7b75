//! The way from the network to the node's owner: one bounded queue, in which order is kept.
//!
//! Requests that find it full are turned away, so that a slow owner slows nobody's reading. Everything else is told
//! for certain: it waits here, and requests behind it are turned away too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use magpie_core::ids::PeerId;
use tokio::sync::{mpsc, oneshot};

use crate::codec::{Request, Response};
use crate::event::{NetEvent, Responder};
use crate::limits;

#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    owner: mpsc::Sender<NetEvent>,
    waiting: Arc<Mutex<VecDeque<NetEvent>>>,
}

impl Inbox {
    pub fn new(owner: mpsc::Sender<NetEvent>) -> Self {
        Self { owner, waiting: Arc::default() }
    }

    /// Delivers a request, and gives what will be answered; `None` if the inbox is full: the peer is told so.
    pub fn request(&self, peer: PeerId, request: Request) -> Option<oneshot::Receiver<Response>> {
        let (reply, answered) = Responder::new(request.budget);
        self.try_now(NetEvent::Request { peer, frame: request.frame, reply }).then_some(answered)
    }

    /// Delivers what may be left out when the inbox is full.
    pub fn hint(&self, event: NetEvent) {
        self.try_now(event);
    }

    /// Delivers `event` for certain: now, or when there is room.
    pub fn tell(&self, event: NetEvent) {
        let mut waiting = self.waiting();
        if !waiting.is_empty() {
            return waiting.push_back(event);
        }
        if let Err(mpsc::error::TrySendError::Full(event)) = self.owner.try_send(event) {
            waiting.push_back(event);
        }
    }

    fn try_now(&self, event: NetEvent) -> bool {
        let waiting = self.waiting();
        waiting.is_empty() && self.owner.try_send(event).is_ok()
    }

    pub fn is_waiting(&self) -> bool {
        !self.waiting().is_empty()
    }

    /// Whether so much waits that the swarm should produce no more.
    pub fn is_clogged(&self) -> bool {
        self.waiting().len() >= limits::EVENTS_WAITING_MAX
    }

    /// Waits for room, then moves one event that waits. Cancel safe.
    pub async fn drain_one(&self) {
        let place = self.owner.reserve().await;
        let event = self.waiting().pop_front();
        if let (Ok(place), Some(event)) = (place, event) {
            place.send(event);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<NetEvent>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: PeerId = PeerId([1; 32]);

    fn request() -> Request {
        Request { frame: vec![1], budget: None }
    }

    #[tokio::test]
    async fn a_full_inbox_turns_requests_away_and_loses_nothing_else() {
        let (owner, mut events) = mpsc::channel(2);
        let inbox = Inbox::new(owner);
        assert!(inbox.request(ALICE, request()).is_some());
        assert!(inbox.request(ALICE, request()).is_some());
        assert!(inbox.request(ALICE, request()).is_none());
        inbox.tell(NetEvent::Marker(1));
        inbox.tell(NetEvent::Marker(2));
        events.recv().await.unwrap();
        assert!(inbox.request(ALICE, request()).is_none(), "it would overtake what waits");
        inbox.drain_one().await;
        events.recv().await.unwrap();
        assert!(matches!(events.recv().await, Some(NetEvent::Marker(1))));
        inbox.drain_one().await;
        assert!(matches!(events.recv().await, Some(NetEvent::Marker(2))));
        assert!(!inbox.is_waiting() && inbox.request(ALICE, request()).is_some());
    }

    #[tokio::test]
    async fn an_unused_responder_tells_that_there_is_no_answer() {
        let (owner, mut events) = mpsc::channel(2);
        let answered = Inbox::new(owner).request(ALICE, request()).unwrap();
        drop(events.recv().await);
        assert!(answered.await.is_err());
    }
}
