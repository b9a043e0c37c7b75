//! The network of a node: opaque frames between admitted peers, behind a plain message API.
//!
//! Architecture invariant: this is the only crate that names libp2p, and no libp2p type is in its interface. It knows
//! nothing of what the frames say. Discovery suggests peers, admission alone admits them, and until then a peer gets
//! the transport's handshake and nothing else.
//!
//! [`spawn`] starts the swarm loop as a task. [`NetHandle`] asks peers; [`NetEvent`] is what they ask
//! and what becomes of them.

mod admission;
mod behaviour;
mod book;
mod cache;
mod codec;
mod config;
mod discovery;
mod door;
mod driven;
mod event;
mod gated;
mod handle;
mod identity;
mod inbox;
mod key;
mod lane;
mod limits;
mod network;
mod node;
mod peer_rules;
mod quota;
mod reach;
pub mod regular_file;
mod rotation;
pub mod secret_file;
mod share;
mod turnstile;
mod watch;

pub use book::{Contact, Source};
pub use cache::cached_peers;
pub use config::{Admission, InMemory, NetConfig, ParseAddressError, check_address, check_dns_name, check_member};
pub use discovery::dns::ParseNameError;
pub use discovery::github::{GithubConfig, GithubConfigError, Token};
pub use event::{NetEvent, Responder};
pub use handle::{NetCounters, NetError, NetHandle, PeerInfo, RequestError};
pub use key::{ClusterKey, ClusterKeyError, NodeKey, NodeKeyError};
pub use magpie_core::conduct::Offence;
pub use node::spawn;
pub use peer_rules::{PeerRule, PeerRules, PeerRulesError};
pub use reach::{Reach, ReachInfo};
pub use rotation::{KeyRotation, RotateKeyError};
pub use secret_file::SecretFileError;
pub use watch::BannedPeer;
