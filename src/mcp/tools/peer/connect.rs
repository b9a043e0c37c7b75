//! Connections to peers, made and ended by hand.

use std::time::{Duration, Instant};

use magpie_core::ids::PeerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::follow;
use super::parse_peer;
use crate::mcp::answer::{Next, ToolError};
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link;
use crate::messages::peer::{PeerReply, PeerRequest};

/// How long a dial may take, unless told otherwise.
const DIAL_MS: u64 = 10_000;
/// What the node may take beyond the dial.
const SLACK_MS: u64 = 3_000;
/// Addresses of one call.
const ADDRESSES_MAX: usize = 32;

pub struct ConnectPeer;

#[derive(Deserialize, JsonSchema)]
pub struct ConnectPeerInput {
    /// As /ip4/10.0.0.5/tcp/4001; with /p2p/ID only that peer is taken.
    address: String,
    /// At most 25000.
    wait_ms: Option<u64>,
    timeout_s: Option<f64>,
    /// Said twice, it is done once in any case.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ConnectPeerOutput {
    ok: bool,
    peer_id: String,
    address: String,
}

impl Handler for ConnectPeer {
    type Input = ConnectPeerInput;
    type Output = ConnectPeerOutput;

    async fn call(&self, input: ConnectPeerInput, call: &Call<'_>) -> Result<ConnectPeerOutput, ToolError> {
        let patience_ms = follow::wait_ms(input.wait_ms, input.timeout_s).unwrap_or(DIAL_MS);
        match dial(call, input.address.clone(), patience_ms).await? {
            Dialled::Connected { peer, elsewhere } => {
                let address = elsewhere.unwrap_or(input.address);
                Ok(ConnectPeerOutput { ok: true, peer_id: peer.to_string(), address })
            }
            Dialled::NotConnected { why, refused: true } => {
                let fix = "let each admit the other: a ticket, the cluster's key, or a rule of its operator";
                Err(ToolError::new("not_admitted", why, fix))
            }
            Dialled::NotConnected { why, refused: false } => {
                let fix = "check the address and that the node runs; this one goes on dialling it";
                Err(ToolError::passing("not_connected", why, fix, 5_000).next(Next::new(
                    "peer_discover",
                    json!({}),
                    5_000,
                )))
            }
        }
    }
}

enum Dialled {
    /// `elsewhere`: it was there already, and the address was not tried.
    Connected {
        peer: PeerId,
        elsewhere: Option<String>,
    },
    NotConnected {
        why: String,
        refused: bool,
    },
}

async fn dial(call: &Call<'_>, address: String, patience_ms: u64) -> Result<Dialled, ToolError> {
    let patience = Duration::from_millis(patience_ms + SLACK_MS);
    match call.link.peer_within(PeerRequest::Connect { address, patience_ms }, patience).await? {
        PeerReply::Connected { peer, elsewhere } => Ok(Dialled::Connected { peer, elsewhere }),
        PeerReply::NotConnected { why, refused } => Ok(Dialled::NotConnected { why, refused }),
        _ => Err(link::unexpected()),
    }
}

pub struct DisconnectPeer;

#[derive(Deserialize, JsonSchema)]
pub struct DisconnectPeerInput {
    peer_id: String,
    /// Said twice, it is done once in any case.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct DisconnectPeerOutput {
    ok: bool,
    peer_id: String,
    was_connected: bool,
}

impl Handler for DisconnectPeer {
    type Input = DisconnectPeerInput;
    type Output = DisconnectPeerOutput;

    async fn call(&self, input: DisconnectPeerInput, call: &Call<'_>) -> Result<DisconnectPeerOutput, ToolError> {
        let peer = parse_peer(&input.peer_id)?;
        match call.link.peer(PeerRequest::Disconnect { peer }).await? {
            PeerReply::Disconnected { peer, was_connected } => {
                Ok(DisconnectPeerOutput { ok: true, peer_id: peer.to_string(), was_connected })
            }
            _ => Err(link::unexpected()),
        }
    }
}

pub struct BootstrapNetwork;

#[derive(Deserialize, JsonSchema)]
pub struct BootstrapInput {
    /// Addresses, at most 32.
    bootstrap_nodes: Vec<String>,
    /// For all dials together, at most 25000.
    wait_ms: Option<u64>,
    timeout_s: Option<f64>,
    /// The network is ready with so many.
    min_connections: Option<usize>,
    /// Said twice, it is done once in any case.
    #[serde(rename = "idempotency_key")]
    _idempotency_key: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct BootstrapOutput {
    ok: bool,
    connected_count: usize,
    failed_count: usize,
    network_ready: bool,
    nodes: Vec<BootstrapRow>,
}

#[derive(Serialize, JsonSchema)]
struct BootstrapRow {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    /// Why it is not connected; it is dialled on.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl Handler for BootstrapNetwork {
    type Input = BootstrapInput;
    type Output = BootstrapOutput;

    async fn call(&self, input: BootstrapInput, call: &Call<'_>) -> Result<BootstrapOutput, ToolError> {
        if input.bootstrap_nodes.is_empty() || input.bootstrap_nodes.len() > ADDRESSES_MAX {
            let problem = format!("it has {} addresses", input.bootstrap_nodes.len());
            let fix = "give addresses as /ip4/10.0.0.5/tcp/4001, at most 32 a call";
            return Err(ToolError::wrong_argument("bootstrap_nodes", problem, "1 to 32 addresses", fix));
        }
        let patience_ms = follow::wait_ms(input.wait_ms, input.timeout_s).unwrap_or(DIAL_MS);
        let end = Instant::now() + Duration::from_millis(patience_ms);
        let mut nodes = Vec::new();
        let mut addresses = input.bootstrap_nodes.into_iter();
        while let Some(address) = addresses.next() {
            // Each is dialled on after its share of the wait; none waits for those before it.
            let left = end.saturating_duration_since(Instant::now()).as_millis() as u64;
            let share_ms = left / (addresses.len() as u64 + 1);
            let (peer_id, why) = match dial(call, address.clone(), share_ms).await? {
                Dialled::Connected { peer, .. } => (Some(peer.to_string()), None),
                Dialled::NotConnected { why, .. } => (None, Some(why)),
            };
            nodes.push(BootstrapRow { address, peer_id, why });
        }
        let connected_count = nodes.iter().filter(|node| node.peer_id.is_some()).count();
        Ok(BootstrapOutput {
            ok: true,
            connected_count,
            failed_count: nodes.len() - connected_count,
            network_ready: connected_count >= input.min_connections.unwrap_or(1),
            nodes,
        })
    }
}

/// What the seeds call the arguments of a connection.
pub const CONNECT_ALSO: &[(&str, &str)] =
    &[("multiaddr", "address"), ("timeout", "timeout_s"), ("peer_id", ""), ("retry_count", ""), ("persist", "")];
pub const DISCONNECT_ALSO: &[(&str, &str)] = &[("id", "peer_id"), ("reason", ""), ("graceful", "")];
pub const BOOTSTRAP_ALSO: &[(&str, &str)] = &[
    ("bootstrap_peers", "bootstrap_nodes"),
    ("addresses", "bootstrap_nodes"),
    ("timeout", "timeout_s"),
    ("max_connections", ""),
];
