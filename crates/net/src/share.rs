//! What one peer may have of this node, at a time and per second, over all its connections.
//!
//! Lanes and substreams have shares of their own: what is long and slow must not hold up what is short and urgent.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use libp2p::PeerId as Libp2pPeerId;
use magpie_core::conduct::{Offence, Pace};
use magpie_core::ids::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::identity;
use crate::limits;
use crate::watch::Watch;

/// Bytes of requests that are read or unanswered: of one peer, and of all.
#[derive(Debug)]
struct Bytes {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Bytes {
    fn new(own_max: usize, all: Arc<Semaphore>) -> Self {
        Self { own: Arc::new(Semaphore::new(own_max)), all }
    }

    /// Waits for the peer's own part first: who has used that up holds nothing of the others'.
    async fn take(&self, bytes: usize) -> io::Result<[OwnedSemaphorePermit; 2]> {
        let own = self.own.clone().acquire_many_owned(bytes as u32).await.map_err(io::Error::other)?;
        let all = self.all.clone().acquire_many_owned(bytes as u32).await.map_err(io::Error::other)?;
        Ok([own, all])
    }
}

/// The part of a peer's share that one request holds until it is answered.
#[derive(Debug)]
pub(crate) struct Budget {
    _bytes: [OwnedSemaphorePermit; 2],
    _place: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
struct Paces {
    streams: Pace,
    stream_bytes: Pace,
    lane_messages: Pace,
    lane_bytes: Pace,
}

impl Paces {
    fn new(streams_per_s: u64) -> Self {
        let bytes = || Pace::new(limits::PEER_BYTES_PER_S_MAX, limits::PEER_BYTES_BURST);
        Self {
            streams: Pace::new(streams_per_s, streams_per_s / 4),
            stream_bytes: bytes(),
            lane_messages: Pace::new(limits::LANE_MESSAGES_PER_S_MAX, limits::LANE_MESSAGES_BURST),
            lane_bytes: bytes(),
        }
    }
}

/// The share of one peer.
#[derive(Debug)]
pub(crate) struct Share {
    /// None: a key that no peer of ours has; it is sent away once it is connected.
    peer: Option<PeerId>,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    on_streams: Bytes,
    on_lanes: Bytes,
    paces: Mutex<Paces>,
    watch: Watch,
}

impl Share {
    /// A place for one more substream that waits for its turn; none where no honest peer has so many under way.
    pub fn waits(&self) -> Option<OwnedSemaphorePermit> {
        let place = self.waiting.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.watch.turn_stream_away();
            self.note(Offence::Flood);
        }
        place
    }

    /// Lets one more substream pass.
    ///
    /// # Errors
    /// For how many nanoseconds it waits first.
    pub fn stream_passes(&self) -> Result<(), u64> {
        self.paces().streams.take_or_wait(self.watch.now_ns())
    }

    /// A place for a request on a substream of its own, while it is read and answered.
    ///
    /// # Errors
    /// If the peer has all of its places already.
    pub fn place(&self) -> io::Result<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().map_err(|_| {
            self.watch.turn_stream_away();
            io::Error::other(format!("{} requests on substreams at a time", limits::PEER_PLACES_MAX))
        })
    }

    /// Whether no request of the peer on a substream of its own is read, or unanswered.
    pub fn is_idle(&self) -> bool {
        let all = limits::PEER_STREAMS_WAITING_MAX;
        self.places.available_permits() == limits::PEER_PLACES_MAX && self.waiting.available_permits() == all
    }

    /// Waits until a request of `bytes` on a substream may be read.
    pub async fn on_stream(&self, bytes: usize, place: OwnedSemaphorePermit) -> io::Result<Budget> {
        let now_ns = self.watch.now_ns();
        let wait_ns = self.paces().stream_bytes.charge(now_ns, bytes as u64);
        wait(wait_ns).await;
        Ok(Budget { _bytes: self.on_streams.take(bytes).await?, _place: Some(place) })
    }

    /// Waits until a message of `bytes` on a lane may be read.
    pub async fn on_lane(&self, bytes: usize) -> io::Result<Budget> {
        let now_ns = self.watch.now_ns();
        let wait_ns = {
            let mut paces = self.paces();
            paces.lane_messages.charge(now_ns, 1).max(paces.lane_bytes.charge(now_ns, bytes as u64))
        };
        wait(wait_ns).await;
        Ok(Budget { _bytes: self.on_lanes.take(bytes).await?, _place: None })
    }

    /// Notes the offence, if one it is, that ended the reading of what the peer sent.
    pub fn blame(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::InvalidData => self.note(Offence::Malformed),
            io::ErrorKind::FileTooLarge => self.note(Offence::Oversize),
            // The peer, the connection or the time ended.
            _ => {}
        }
    }

    fn note(&self, offence: Offence) {
        if let Some(peer) = self.peer {
            self.watch.note(peer, offence);
        }
    }

    fn paces(&self) -> MutexGuard<'_, Paces> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait(ns: u64) {
    if ns > 0 {
        tokio::time::sleep(Duration::from_nanos(ns)).await;
    }
}

/// The shares of all connected peers.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<Mutex<Shared>>);

#[derive(Debug)]
struct Shared {
    of: HashMap<Libp2pPeerId, Weak<Share>>,
    /// Whose connection is being established.
    arriving: Option<Arc<Share>>,
    on_streams: Arc<Semaphore>,
    on_lanes: Arc<Semaphore>,
    streams_per_s: u64,
    watch: Watch,
}

impl Shares {
    /// Of peers that may open `streams_per_s` each.
    pub fn new(watch: Watch, streams_per_s: u64) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            of: HashMap::new(),
            arriving: None,
            on_streams: Arc::new(Semaphore::new(limits::INBOUND_BYTES_MAX)),
            on_lanes: Arc::new(Semaphore::new(limits::LANES_BYTES_MAX)),
            streams_per_s,
            watch,
        })))
    }

    /// It lives as long as a connection of the peer does.
    pub fn of(&self, peer: Libp2pPeerId) -> Arc<Share> {
        let mut shared = self.lock();
        if let Some(share) = shared.of.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        shared.of.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Share {
            peer: identity::from_libp2p(&peer),
            places: Arc::new(Semaphore::new(limits::PEER_PLACES_MAX)),
            waiting: Arc::new(Semaphore::new(limits::PEER_STREAMS_WAITING_MAX)),
            on_streams: Bytes::new(limits::PEER_INBOUND_BYTES_MAX, shared.on_streams.clone()),
            on_lanes: Bytes::new(limits::PEER_LANES_BYTES_MAX, shared.on_lanes.clone()),
            paces: Mutex::new(Paces::new(shared.streams_per_s)),
            watch: shared.watch.clone(),
        });
        shared.of.insert(peer, Arc::downgrade(&share));
        share
    }

    /// The codecs that are made from now on read what `peer` sends.
    pub fn arrive(&self, peer: Libp2pPeerId) {
        let share = self.of(peer);
        self.lock().arriving = Some(share);
    }

    pub fn watch(&self) -> Watch {
        self.lock().watch.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose bytes a codec reads. request-response tells its codecs no peer, but clones that of the behaviour for each connection
/// and that of the connection for each substream: the first of these learns who is arriving.
#[derive(Debug)]
pub(crate) struct Reading {
    shares: Shares,
    share: Option<Arc<Share>>,
}

impl Reading {
    pub fn new(shares: Shares) -> Self {
        Self { shares, share: None }
    }

    /// # Errors
    /// If this is not the codec of a connection.
    pub fn share(&self) -> io::Result<&Share> {
        self.share.as_deref().ok_or_else(|| io::Error::other("the codec of no connection"))
    }

    pub fn blame(&self, error: io::Error) -> io::Error {
        if let Some(share) = &self.share {
            share.blame(&error);
        }
        error
    }
}

impl Clone for Reading {
    fn clone(&self) -> Self {
        let share = self.share.clone().or_else(|| self.shares.lock().arriving.clone());
        Self { shares: self.shares.clone(), share }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const STREAMS_PER_S: u64 = limits::PEER_STREAMS_PER_S_MAX;

    fn peer(n: u8) -> Libp2pPeerId {
        identity::to_libp2p(PeerId([n; 32]))
    }

    #[tokio::test]
    async fn one_peer_leaves_others_their_bytes_and_its_lanes_theirs() {
        let shares = Shares::new(Watch::default(), STREAMS_PER_S);
        let (greedy, other) = (shares.of(peer(1)), shares.of(peer(2)));
        let mut held = Vec::new();
        for _ in 0..limits::PEER_INBOUND_BYTES_MAX / limits::FRAME_BYTES_MAX {
            held.push(greedy.on_stream(limits::FRAME_BYTES_MAX, greedy.place().unwrap()).await.unwrap());
        }
        let one_more = greedy.on_stream(1, greedy.place().unwrap());
        assert!(one_more.now_or_never().is_none());
        assert!(greedy.on_lane(limits::LANE_FRAME_BYTES_MAX).now_or_never().is_some());
        assert!(other.on_stream(limits::FRAME_BYTES_MAX, other.place().unwrap()).now_or_never().is_some());
        drop(held);
        assert!(greedy.on_stream(1, greedy.place().unwrap()).now_or_never().is_some());
    }

    #[tokio::test]
    async fn places_are_a_peers_own_and_come_back() {
        let shares = Shares::new(Watch::default(), STREAMS_PER_S);
        let (greedy, other) = (shares.of(peer(1)), shares.of(peer(2)));
        let held: Vec<_> = std::iter::from_fn(|| greedy.place().ok()).collect();
        assert_eq!(held.len(), limits::PEER_PLACES_MAX);
        assert!(other.place().is_ok());
        drop(held);
        assert!(greedy.place().is_ok());
    }

    #[test]
    fn more_substreams_than_an_honest_peer_has_under_way_are_turned_away_and_end_in_a_ban() {
        let watch = Watch::default();
        let share = Shares::new(watch.clone(), STREAMS_PER_S).of(peer(1));
        let held: Vec<_> = (0..1_000).map_while(|_| share.waits()).collect();
        assert_eq!(held.len(), limits::PEER_STREAMS_WAITING_MAX);
        assert_eq!((watch.streams_turned_away(), watch.bans()), (1, Vec::new()));
        assert!((0..200).all(|_| share.waits().is_none()));
        let banned = watch.ban_of(&PeerId([1; 32])).expect("it is banned");
        assert_eq!((banned.times, banned.offence), (1, Offence::Flood));
        assert_eq!(watch.take_fallen().len(), 1);
        assert!(watch.take_fallen().is_empty());
        drop(held);
        assert!(share.waits().is_some());
    }

    #[test]
    fn substreams_beyond_the_rate_wait() {
        let share = Shares::new(Watch::default(), 4).of(peer(1));
        assert_eq!(share.stream_passes(), Ok(()));
        assert!(share.stream_passes().is_err_and(|wait_ns| wait_ns > 0 && wait_ns <= 250_000_000));
    }

    #[test]
    fn a_share_is_one_over_all_connections_and_nothing_is_kept_of_who_has_gone() {
        let shares = Shares::new(Watch::default(), STREAMS_PER_S);
        let share = shares.of(peer(1));
        assert!(Arc::ptr_eq(&share, &shares.of(peer(1))));
        drop(share);
        let _other = shares.of(peer(2));
        assert_eq!(shares.lock().of.len(), 1);
    }

    #[test]
    fn a_codec_reads_for_the_peer_whose_connection_it_was_made_for() {
        let shares = Shares::new(Watch::default(), STREAMS_PER_S);
        let of_behaviour = Reading::new(shares.clone());
        assert!(of_behaviour.share().is_err());
        shares.arrive(peer(1));
        let of_connection = of_behaviour.clone();
        shares.arrive(peer(2));
        let of_stream = of_connection.clone();
        assert_eq!(of_stream.share().unwrap().peer, Some(PeerId([1; 32])));
        assert_eq!(of_behaviour.clone().share().unwrap().peer, Some(PeerId([2; 32])));
    }
}
