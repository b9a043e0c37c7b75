//! The shared vocabulary of a node: what actors, peers and clients say to each other. Data only.
//!
//! One vocabulary, three doors: ractor mailboxes inside, frames between peers, frames on the control socket. Inside
//! the first each actor has its own message enum (`<Actor>Msg`); [`Body`] and [`Answer`] are what passes the others.

pub mod access;
pub mod actor;
pub mod audit;
pub mod blob;
pub mod cache;
mod changes;
pub mod clock;
pub mod device;
pub mod envelope;
#[cfg(test)]
mod golden;
pub mod http;
pub mod ledger;
pub mod mount;
pub mod node;
pub mod peer;
pub mod registry;
pub mod scheduler;
pub mod session;
pub mod stream;
pub mod swarm;
pub mod tool;
pub mod worker;

pub use envelope::{Addressed, Answer, Body, Envelope, ReplyEnvelope};
pub use magpie_core::access::Role;
