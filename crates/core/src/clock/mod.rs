//! What each home has done, told so that anyone can check it: hash chains, signed heads, and the Merkle clock over them.
//!
//! A home's durable log is a [`chain`]; a [`Head`] names its end and is signed by the home; the [`MerkleClock`] maps each
//! ledger to its newest known head under one root; a [`Descent`] finds where two clocks differ.
//! A Merkle clock orders and proves; it does not elect.

mod audit;
pub(crate) mod bytes;
pub mod chain;
mod compare;
mod descent;
mod head;
mod merkle;
mod prefix;
mod proof;
mod trie;

pub use audit::{Beside, Rebuilt};
pub use chain::{AcceptEventError, Chain, ChainEvent};
pub use compare::{ClockOrdering, Summary};
pub use descent::{Branch, Descent, DescentError, Digests};
pub use head::{Head, Position, SignedHead, VerifyHeadError};
pub use merkle::{MergeHeadError, MergeReport, MerkleClock, TickError};
pub use prefix::{ParsePrefixError, Prefix};
pub use proof::{InclusionProof, ProofStep};
