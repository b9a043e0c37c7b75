//! The door before a protocol: until a peer is admitted, its connection handlers neither offer the protocol nor speak
//! it.
//!
//! A stranger that asks for a closed protocol is told by multistream-select that there is none; not a byte of it is
//! read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use libp2p::PeerId;

/// How far a door is open, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Opening {
    /// The peer may ask, by the mailbox alone: it is a guest.
    Asking = 1,
    /// The peer may speak to us: its proof holds. Its own door may still be closed to us.
    Inward,
    /// Both sides verified each other.
    BothWays,
}

/// The door of one peer, as all its connection handlers see it at once.
///
/// Shared memory and not a message to the handlers: the answer to a hello is written by one handler while a message
/// would still be on its way to the others, and the peer's first request would find the door closed.
#[derive(Debug, Default)]
pub(crate) struct Door {
    /// An [`Opening`], or 0.
    opening: AtomicU8,
    waiting: Mutex<Vec<Waker>>,
}

impl Door {
    pub fn is_open(&self, opening: Opening) -> bool {
        self.opening.load(Ordering::Acquire) >= opening as u8
    }

    pub fn poll_open(&self, opening: Opening, context: &mut Context<'_>) -> Poll<()> {
        if self.is_open(opening) {
            return Poll::Ready(());
        }
        let mut waiting = lock(&self.waiting);
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        drop(waiting);
        // It may have been opened between the first look and the registration.
        if self.is_open(opening) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn shut_half(&self) {
        self.opening.fetch_min(Opening::Inward as u8, Ordering::Release);
    }

    fn open(&self, opening: Opening) {
        self.opening.fetch_max(opening as u8, Ordering::Release);
        std::mem::take(&mut *lock(&self.waiting)).into_iter().for_each(Waker::wake);
    }
}

/// The doors of all connected peers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doors(Arc<Mutex<HashMap<PeerId, Arc<Door>>>>);

impl Doors {
    pub fn of(&self, peer: PeerId) -> Arc<Door> {
        lock(&self.0).entry(peer).or_default().clone()
    }

    /// Whether the peer is no stranger.
    pub fn is_open(&self, peer: &PeerId) -> bool {
        lock(&self.0).get(peer).is_some_and(|door| door.is_open(Opening::Asking))
    }

    /// How many of `peers` are strangers.
    pub fn strangers<'a>(&self, peers: impl Iterator<Item = &'a PeerId>) -> usize {
        let doors = lock(&self.0);
        peers.filter(|peer| !doors.get(peer).is_some_and(|door| door.is_open(Opening::Asking))).count()
    }

    pub fn open(&self, peer: PeerId, opening: Opening) {
        self.of(peer).open(opening);
    }

    /// Nobody speaks to the peer of their own accord until its door is opened both ways again: a new connection may
    /// lead to a new process, whose door is closed.
    pub fn shut_half(&self, peer: PeerId) {
        self.of(peer).shut_half();
    }

    /// Forgets a peer whose last connection closed: its next connection finds the door closed.
    pub fn forget(&self, peer: &PeerId) {
        lock(&self.0).remove(peer);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::future::poll_fn;

    #[test]
    fn a_door_is_closed_until_it_is_opened_and_again_after_it_was_forgotten() {
        let (doors, peer) = (Doors::default(), crate::identity::to_libp2p(magpie_core::ids::PeerId([1; 32])));
        assert!(!doors.is_open(&peer));
        let door = doors.of(peer);
        doors.open(peer, Opening::Asking);
        assert!(doors.is_open(&peer) && door.is_open(Opening::Asking) && !door.is_open(Opening::Inward));
        doors.open(peer, Opening::Inward);
        assert!(doors.is_open(&peer) && door.is_open(Opening::Inward) && !door.is_open(Opening::BothWays));
        doors.open(peer, Opening::BothWays);
        doors.open(peer, Opening::Inward);
        assert!(door.is_open(Opening::BothWays), "what is open stays open");
        doors.shut_half(peer);
        assert!(door.is_open(Opening::Inward) && !door.is_open(Opening::BothWays));
        doors.forget(&peer);
        assert!(!doors.is_open(&peer) && !doors.of(peer).is_open(Opening::Inward));
    }

    #[tokio::test]
    async fn all_who_wait_at_a_door_are_woken() {
        let door = Arc::new(Door::default());
        let wait = |door: Arc<Door>| async move { poll_fn(|context| door.poll_open(Opening::BothWays, context)).await };
        let mut waiting: Vec<_> = (0..3).map(|_| tokio::spawn(wait(door.clone()))).collect();
        tokio::task::yield_now().await;
        door.open(Opening::Inward);
        tokio::task::yield_now().await;
        assert!(waiting.iter_mut().all(|task| task.now_or_never().is_none()), "half open is not enough");
        door.open(Opening::BothWays);
        for task in waiting {
            task.await.unwrap();
        }
    }
}
