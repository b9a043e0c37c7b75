//! Who may come in, and as what: what a cluster's key signs, and how it is verified.
//!
//! A cluster is a secret key. An ed25519 key that is derived from it signs tickets and revocations; its public half, the
//! [`ClusterId`], verifies them and is no secret. Time is an argument here, and secrets are never shown.

mod cluster;
mod revocation;
mod role;
mod ticket;

pub use cluster::{ClusterId, IssuingKey};
pub use revocation::{RevocationError, Revocations, Revoked, SignedRevocation};
pub use role::Role;
pub use ticket::{SignedTicket, Ticket, TicketError};
