//! The door before a protocol: until a peer is admitted, its connection handlers neither offer the protocol nor speak it.
//!
//! A stranger that asks for a closed protocol is told by multistream-select that there is none; not a byte of it is read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use libp2p::PeerId;

/// Whether one peer is admitted, as all its connection handlers see it at once.
///
/// Shared memory and not a message to the handlers: the answer to a hello is written by one handler while a message would still
/// be on its way to the others, and the peer's first request would find the door closed.
#[derive(Debug, Default)]
pub(crate) struct Door {
    open: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Door {
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub fn poll_open(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        let mut waiting = lock(&self.waiting);
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        drop(waiting);
        // It may have been opened between the first look and the registration.
        if self.is_open() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn open(&self) {
        self.open.store(true, Ordering::Release);
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

    pub fn is_open(&self, peer: &PeerId) -> bool {
        lock(&self.0).get(peer).is_some_and(|door| door.is_open())
    }

    pub fn open(&self, peer: PeerId) {
        self.of(peer).open();
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
        doors.open(peer);
        assert!(doors.is_open(&peer) && door.is_open());
        doors.forget(&peer);
        assert!(!doors.is_open(&peer) && !doors.of(peer).is_open());
    }

    #[tokio::test]
    async fn all_who_wait_at_a_door_are_woken() {
        let door = Arc::new(Door::default());
        let wait = |door: Arc<Door>| async move { poll_fn(|context| door.poll_open(context)).await };
        let mut waiting: Vec<_> = (0..3).map(|_| tokio::spawn(wait(door.clone()))).collect();
        tokio::task::yield_now().await;
        assert!(waiting.iter_mut().all(|task| task.now_or_never().is_none()));
        door.open();
        for task in waiting {
            task.await.unwrap();
        }
    }
}
