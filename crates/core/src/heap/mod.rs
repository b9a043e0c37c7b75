//! The order of ready tasks: a stable Fibonacci heap, and the key that lets tasks age without being moved.

pub mod aging;
mod fibonacci;

pub use aging::{Aging, AgingError, AgingKey};
pub use fibonacci::{DecreaseKeyError, FibonacciHeap, Handle};
