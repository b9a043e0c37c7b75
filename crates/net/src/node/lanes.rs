//! Opens a lane to every member, and again when it breaks; serves the lanes that members open.

use std::collections::HashMap;
use std::io;

use libp2p::swarm::ConnectionId;
use magpie_core::ids::PeerId;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use super::Node;
use super::admit::Standing;
use crate::handle::Link;
use crate::identity;
use crate::lane::{self, Server, behaviour::Event};
use crate::limits;

/// The lanes of all members. Dropped, it ends them.
pub(super) struct Lanes {
    enabled: bool,
    /// When to open the lane to a member that has none, under way or open.
    due_ms: HashMap<PeerId, u64>,
    /// The connections on which lanes are being opened: nobody tells what becomes of one whose connection closes.
    opening: HashMap<PeerId, ConnectionId>,
    /// At most [`limits::LANES_SERVED_MAX`] of one member, the eldest first.
    served: HashMap<PeerId, Vec<Served>>,
    tasks: JoinSet<Ended>,
}

/// A lane that a member opened.
struct Served {
    connection: ConnectionId,
    task: AbortHandle,
}

/// The lane that ended.
pub(super) struct Ended {
    peer: PeerId,
    /// The connection, if this node asked on it.
    asked_on: Option<ConnectionId>,
    result: io::Result<()>,
}

impl Lanes {
    pub fn new(enabled: bool) -> Self {
        Self { enabled, due_ms: HashMap::new(), opening: HashMap::new(), served: HashMap::new(), tasks: JoinSet::new() }
    }

    /// The next lane that ended; `None` while there is none.
    pub async fn next_ended(&mut self) -> Option<Result<Ended, JoinError>> {
        self.tasks.join_next().await
    }

    /// Whether a lane was being opened on a connection that closed.
    fn lost_with(&mut self, peer: PeerId, closed: ConnectionId) -> bool {
        let lost = self.opening.get(&peer) == Some(&closed);
        if lost {
            self.opening.remove(&peer);
        }
        lost
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.due_ms.remove(&peer);
        self.opening.remove(&peer);
        self.served.remove(&peer);
    }

    /// Whether the lane to a member stands, or is not to be.
    pub fn is_settled(&self, link: &Link) -> bool {
        !self.enabled || link.has_lane()
    }

    /// The connection that the peer asks on.
    pub fn served_on(&self, peer: PeerId) -> Option<ConnectionId> {
        let served = self.served.get(&peer)?.iter().rev();
        served.filter(|lane| !lane.task.is_finished()).map(|lane| lane.connection).next()
    }
}

impl Node {
    pub(super) fn open_lane_later(&mut self, peer: PeerId, delay_ms: u64) {
        if self.lanes.enabled {
            self.tick.stir();
            let due_ms = self.now_ms() + delay_ms;
            self.lanes.due_ms.insert(peer, due_ms);
        }
    }

    pub(super) fn open_the_due_lanes(&mut self) {
        let now_ms = self.now_ms();
        let due: Vec<PeerId> =
            self.lanes.due_ms.iter().filter(|(_, due)| **due <= now_ms).map(|(peer, _)| *peer).collect();
        for peer in due {
            if self.shared.link(peer).is_none_or(|link| link.has_lane()) {
                self.lanes.due_ms.remove(&peer);
                continue;
            }
            // Where all connections are closing, another may come.
            let Some(connection) = self.connection_of(peer) else { continue };
            self.lanes.due_ms.remove(&peer);
            self.lanes.opening.insert(peer, connection);
            self.swarm.behaviour_mut().lanes.inner_mut().open(identity::to_libp2p(peer), connection);
        }
    }

    /// A connection to a member closed, and others stay: the lane that was being opened on it is opened on another.
    pub(super) fn open_lane_elsewhere(&mut self, peer: PeerId, closed: ConnectionId) {
        if self.lanes.lost_with(peer, closed) {
            self.open_lane_later(peer, 0);
        }
    }

    pub(super) fn on_lane_event(&mut self, event: Event) {
        match event {
            Event::Opened { peer, connection, stream } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                self.lanes.opening.remove(&peer);
                // A peer that was lost meanwhile has no link; one that was lost and met again may have a lane: this
                // one ends here.
                let Some(link) = self.shared.link(peer).filter(|link| !link.has_lane()) else { return };
                let asking = async move {
                    let opened = link.clone();
                    let result = lane::ask(stream, peer, |lane| opened.set_lane(connection, lane)).await;
                    link.drop_lane(connection);
                    Ended { peer, asked_on: Some(connection), result }
                };
                self.lanes.tasks.spawn(asking);
            }
            Event::NotOpened { peer, reason } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                self.lanes.opening.remove(&peer);
                tracing::debug!(%peer, reason, "no lane: requests go one by one");
                self.open_lane_later(peer, limits::LANE_RETRY_MS);
            }
            Event::Accepted { peer, connection, stream } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                self.serve_lane(peer, connection, stream);
            }
        }
    }

    fn serve_lane(&mut self, peer: PeerId, connection: ConnectionId, stream: libp2p::Stream) {
        match self.standing(peer) {
            // To open a lane says the same as the confirmation, which may come later.
            Some(Standing::Verified) => self.admit(peer),
            Some(Standing::Admitted) => {}
            Some(Standing::Stranger | Standing::Guest) | None => return,
        }
        let share = self.shares.of(identity::to_libp2p(peer));
        let server = Server { inbox: self.inbox.clone(), shared: self.shared.clone(), share };
        let serving = async move { Ended { peer, asked_on: None, result: lane::serve(stream, peer, server).await } };
        let task = self.lanes.tasks.spawn(serving);
        let served = self.lanes.served.entry(peer).or_default();
        served.retain(|lane| !lane.task.is_finished());
        if served.len() == limits::LANES_SERVED_MAX {
            // The peer opened another because it gave this one up.
            served.remove(0).task.abort();
        }
        served.push(Served { connection, task });
    }

    pub(super) fn on_lane_ended(&mut self, ended: Result<Ended, JoinError>) {
        let Ended { peer, asked_on, result } = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return,
            Err(error) => return tracing::error!(%error, "a lane ended by a panic"),
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "a lane broke");
        }
        let Some(asked_on) = asked_on else { return };
        if self.standing(peer) == Some(Standing::Admitted) {
            // Where its connection went, another may be there.
            let delay_ms = if self.stays(peer, asked_on) { limits::LANE_RETRY_MS } else { 0 };
            self.open_lane_later(peer, delay_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_lost_with_the_connection_on_which_it_was_being_opened_and_once() {
        let (peer, one, other) = (PeerId([1; 32]), ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        let mut lanes = Lanes::new(true);
        assert!(!lanes.lost_with(peer, one), "none was being opened");
        lanes.opening.insert(peer, one);
        assert!(!lanes.lost_with(peer, other));
        assert!(lanes.lost_with(peer, one));
        assert!(!lanes.lost_with(peer, one));
    }
}
