//! To the swarm actor: the thin owner of the network.

pub enum SwarmMsg {
    /// Put a marker behind all requests received so far.
    PlaceMarker { marker: u64 },
    /// The network ended.
    Ended,
}
