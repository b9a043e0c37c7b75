//! The members of the mesh.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::detail::page;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::PATIENCE;
use crate::messages::registry::PeerView;

pub struct ListPeers;

#[derive(Deserialize, JsonSchema)]
pub struct ListPeersInput {
    /// Show what each peer can run.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    include_capabilities: bool,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct ListPeersOutput {
    ok: bool,
    self_peer_id: String,
    count: usize,
    total: usize,
    peers: Vec<PeerRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct PeerRow {
    peer_id: String,
    /// alive, suspect or dead.
    state: String,
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<f64>,
    cpu_slots_free: u32,
    device_slots_free: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heard_ms_ago: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities: Option<PeerCapabilities>,
}

#[derive(Serialize, JsonSchema)]
struct PeerCapabilities {
    kinds: Vec<String>,
    models: Vec<String>,
    commands: Vec<String>,
    labels: BTreeMap<String, String>,
    cpus: u32,
    memory_bytes: u64,
    gpus: Vec<String>,
    arch: String,
    os: String,
}

impl PeerRow {
    fn of(peer: PeerView, whole: bool) -> Self {
        Self {
            peer_id: peer.peer_id.to_string(),
            state: peer.state,
            connected: peer.connected,
            rtt_ms: peer.rtt_ms.map(|ms| (ms * 1_000.0).round() / 1_000.0),
            cpu_slots_free: peer.slots_free.cpu,
            device_slots_free: peer.slots_free.device,
            last_heard_ms_ago: peer.last_heard_ms_ago,
            version: peer.version,
            addresses: if whole { peer.addresses } else { Vec::new() },
            capabilities: peer.capabilities.filter(|_| whole).map(|offered| PeerCapabilities {
                kinds: offered.kinds.iter().map(ToString::to_string).collect(),
                models: offered.models.iter().cloned().collect(),
                commands: offered.commands.iter().cloned().collect(),
                labels: offered.labels.clone(),
                cpus: offered.cpus,
                memory_bytes: offered.memory_bytes,
                gpus: offered.gpus.iter().map(|gpu| gpu.name.clone()).collect(),
                arch: offered.arch.clone(),
                os: offered.os.clone(),
            }),
        }
    }
}

impl Handler for ListPeers {
    type Input = ListPeersInput;
    type Output = ListPeersOutput;

    async fn call(&self, input: ListPeersInput, call: &Call<'_>) -> Result<ListPeersOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        let total = status.peers.len();
        let (peers, next_cursor) = page(status.peers, input.cursor.as_deref(), input.limit)?;
        let peers: Vec<PeerRow> = peers.into_iter().map(|peer| PeerRow::of(peer, input.include_capabilities)).collect();
        Ok(ListPeersOutput {
            ok: true,
            self_peer_id: status.peer_id.to_string(),
            count: peers.len(),
            total,
            peers,
            next_cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_capabilities_is_short() {
        let peer = PeerView {
            peer_id: magpie_core::ids::PeerId([7; 32]),
            state: "alive".to_owned(),
            banned_for_ms: None,
            connected: true,
            relayed: true,
            rtt_ms: Some(0.123_456),
            ledger: None,
            version: None,
            slots_free: Default::default(),
            worker: None,
            capabilities: Some(Default::default()),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()],
            last_heard_ms_ago: Some(3),
            clock_ahead_ms: None,
        };
        let short = serde_json::to_value(PeerRow::of(peer.clone(), false)).unwrap();
        assert_eq!((short["rtt_ms"].as_f64(), short.get("capabilities")), (Some(0.123), None));
        let whole = serde_json::to_value(PeerRow::of(peer, true)).unwrap();
        assert!(whole["capabilities"]["kinds"].is_array() && whole["addresses"].is_array());
    }
}
