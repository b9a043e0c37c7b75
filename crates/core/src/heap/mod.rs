//! The order of ready tasks: a stable pairing heap, and the key that lets tasks age without being moved.

pub mod aging;
mod pairing;

pub use aging::{Aging, AgingError, AgingKey};
pub use pairing::{DecreaseKeyError, Handle, PairingHeap};
