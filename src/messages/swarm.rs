//! To the swarm actor: the thin owner of the network thread.

use magpie_core::ids::PeerId;

pub enum SwarmMsg {
    /// Put a marker behind all requests received so far.
    PlaceMarker { marker: u64 },
    Dial { address: String },
    Disconnect { peer: PeerId },
    /// The network thread ended.
    Ended(String),
}
