//! Keeps what peers do wrong, for all who see them do it, and says whom to send away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use magpie_core::conduct::{Ban, Conduct, Offence};
use magpie_core::ids::PeerId;
use tokio::sync::Notify;

/// A peer that is kept out for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BannedPeer {
    pub peer: PeerId,
    pub for_ms: u64,
    /// How often it was banned, this time included.
    pub times: u32,
    /// The offence that was one too many.
    pub offence: Offence,
}

#[derive(Debug, Clone)]
pub(crate) struct Watch(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    started: Instant,
    conduct: Mutex<Conduct>,
    /// Banned since the swarm loop looked, and what tells it to.
    fallen: Mutex<Vec<(PeerId, Ban)>>,
    fell: Notify,
    streams_turned_away: AtomicU64,
}

impl Default for Watch {
    fn default() -> Self {
        let conduct = Mutex::default();
        Self(Arc::new(Watched {
            started: Instant::now(),
            conduct,
            fallen: Mutex::default(),
            fell: Notify::new(),
            streams_turned_away: AtomicU64::new(0),
        }))
    }
}

impl Watch {
    pub fn note(&self, peer: PeerId, offence: Offence) {
        if let Some(ban) = self.conduct().note(peer, offence, self.now_ms()) {
            lock(&self.0.fallen).push((peer, ban));
            self.0.fell.notify_one();
        }
    }

    pub fn ban_of(&self, peer: &PeerId) -> Option<BannedPeer> {
        let now_ms = self.now_ms();
        self.conduct().ban_of(peer, now_ms).map(|ban| banned(*peer, ban, now_ms))
    }

    pub fn bans(&self) -> Vec<BannedPeer> {
        let now_ms = self.now_ms();
        self.conduct().bans(now_ms).map(|(peer, ban)| banned(peer, ban, now_ms)).collect()
    }

    /// Returns when somebody was banned since it returned last. Cancel safe.
    pub async fn next_fall(&self) {
        self.0.fell.notified().await;
    }

    /// Who was banned since the last look.
    pub fn take_fallen(&self) -> Vec<BannedPeer> {
        let now_ms = self.now_ms();
        std::mem::take(&mut *lock(&self.0.fallen)).into_iter().map(|(peer, ban)| banned(peer, ban, now_ms)).collect()
    }

    pub fn turn_stream_away(&self) {
        self.0.streams_turned_away.fetch_add(1, Ordering::Relaxed);
    }

    pub fn streams_turned_away(&self) -> u64 {
        self.0.streams_turned_away.load(Ordering::Relaxed)
    }

    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn now_ms(&self) -> u64 {
        self.0.started.elapsed().as_millis() as u64
    }

    fn conduct(&self) -> MutexGuard<'_, Conduct> {
        lock(&self.0.conduct)
    }
}

fn banned(peer: PeerId, Ban { until_ms, times, offence }: Ban, now_ms: u64) -> BannedPeer {
    BannedPeer { peer, for_ms: until_ms.saturating_sub(now_ms), times, offence }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
