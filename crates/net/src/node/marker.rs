//! Markers: a place in the stream of what was received.
//!
//! A request that had arrived when a marker was placed may still be on its way from its socket through Noise, yamux
//! and its handler to the inbox. So a marker first settles: it lets every ready task run and the sockets be looked
//! at, as often as the longest of those ways has stations, and then goes the same way into the same queue.

use std::future::Future;
use std::pin::Pin;

use futures::{FutureExt, StreamExt};

use super::Node;
use crate::event::NetEvent;
use crate::limits;

/// Socket, driver, connection task, substream, handler, swarm: and as many again, for a frame that needs a second read.
const TURNS: usize = 12;
/// Swarm events handled before a marker that has settled is told, at most: a flood must not hold it up for ever.
const EVENTS_BEFORE_MARKER_MAX: usize = 4_096;

pub(super) type Settling = Pin<Box<dyn Future<Output = u64> + Send>>;

/// On this single-threaded runtime `yield_now` returns after all ready tasks have run and the sockets were looked at.
async fn settle(id: u64) -> u64 {
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    id
}

impl Node {
    pub(super) fn place_marker(&mut self, id: u64) {
        self.markers.push_back(settle(id).boxed());
    }

    /// Commands wait while there are too many: a marker may come late, never early.
    pub(super) fn has_room_for_markers(&self) -> bool {
        self.markers.len() < limits::MARKERS_MAX
    }

    pub(super) fn on_marker_settled(&mut self, id: u64) {
        self.drain_swarm();
        self.inbox.tell(NetEvent::Marker(id));
    }

    /// Handles every event that the swarm has ready.
    fn drain_swarm(&mut self) {
        for _ in 0..EVENTS_BEFORE_MARKER_MAX {
            match self.swarm.next().now_or_never() {
                Some(Some(event)) => self.on_swarm_event(event),
                _ => break,
            }
        }
    }
}
