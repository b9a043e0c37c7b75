//! The way from the network to the node's owner: one bounded queue, in which order is kept.
//!
//! Requests that find it full are turned away, so that a slow owner slows nobody's reading. Everything else is told
//! for certain: it waits here, and requests behind it are turned away too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use magpie_core::access::Role;
use magpie_core::ids::PeerId;
use tokio::sync::mpsc;

use crate::codec::{Request, Response};
use crate::event::{NetEvent, Requester, Responder};
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

    /// Delivers a request; `false` if the inbox is full: the peer is told so. A notice, which nobody waits for, leaves a part of the
    /// inbox to requests: one peer may send any number of them at a time.
    pub fn request(&self, peer: PeerId, role: Role, request: Request, requester: Option<Requester>) -> bool {
        let left = if requester.is_some() { 0 } else { self.owner.max_capacity() / limits::NOTICES_LEAVE };
        let reply = Responder::new(requester, request.budget);
        let waiting = self.waiting();
        match self.owner.try_reserve() {
            Ok(place) if waiting.is_empty() && self.owner.capacity() >= left => {
                place.send(NetEvent::Request { peer, role, frame: request.frame, reply });
                true
            }
            Ok(_) | Err(_) => {
                reply.respond(Response::Busy);
                false
            }
        }
    }

    /// Delivers what may be left out when the inbox is full.
    pub fn hint(&self, event: NetEvent) {
        let waiting = self.waiting();
        if waiting.is_empty() {
            // It is left out when there is no room.
            let _ = self.owner.try_send(event);
        }
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
    use tokio::sync::oneshot;

    use super::*;

    const ALICE: PeerId = PeerId([1; 32]);

    /// Whether a request is delivered, and what is answered.
    fn request(inbox: &Inbox) -> (bool, oneshot::Receiver<Response>) {
        let (answer, answered) = oneshot::channel();
        let request = Request { frame: vec![1], budget: None };
        (inbox.request(ALICE, Role::Peer, request, Some(Requester::Substream(answer))), answered)
    }

    #[tokio::test]
    async fn a_full_inbox_turns_requests_away_and_loses_nothing_else() {
        let (owner, mut events) = mpsc::channel(2);
        let inbox = Inbox::new(owner);
        assert!(request(&inbox).0 && request(&inbox).0);
        let (delivered, answered) = request(&inbox);
        assert!(!delivered && answered.await == Ok(Response::Busy));
        inbox.tell(NetEvent::Marker(1));
        inbox.tell(NetEvent::Marker(2));
        events.recv().await.unwrap();
        assert!(!request(&inbox).0, "it would overtake what waits");
        inbox.drain_one().await;
        events.recv().await.unwrap();
        assert!(matches!(events.recv().await, Some(NetEvent::Marker(1))));
        inbox.drain_one().await;
        assert!(matches!(events.recv().await, Some(NetEvent::Marker(2))));
        assert!(!inbox.is_waiting() && request(&inbox).0);
    }

    #[tokio::test]
    async fn notices_leave_a_part_of_the_inbox_to_requests() {
        let (owner, _events) = mpsc::channel(16);
        let inbox = Inbox::new(owner);
        let notice = || inbox.request(ALICE, Role::Peer, Request { frame: vec![1], budget: None }, None);
        let taken = std::iter::repeat_with(notice).take_while(|taken| *taken).count();
        assert_eq!(taken, 16 - 16 / limits::NOTICES_LEAVE);
        assert!(request(&inbox).0);
    }

    #[tokio::test]
    async fn an_unused_responder_tells_that_there_is_no_answer() {
        let (owner, mut events) = mpsc::channel(2);
        let (_, answered) = request(&Inbox::new(owner));
        drop(events.recv().await);
        assert!(answered.await.is_err());
    }
}
