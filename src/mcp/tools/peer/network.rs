//! The mesh as a whole: who is there, how they were found, where this node can be reached, how the work is spread.

use magpie_core::task::TaskState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::detail::page;
use super::super::manager::NoInput;
use super::parse_peer;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link::{self, PATIENCE};
use crate::messages::node::NodeStatus;
use crate::messages::peer::{ContactView, ContactsView, PeerReply, PeerRequest};

async fn contacts(call: &Call<'_>) -> Result<ContactsView, ToolError> {
    match call.link.peer(PeerRequest::Contacts).await? {
        PeerReply::Contacts(view) => Ok(view),
        _ => Err(link::unexpected()),
    }
}

pub struct NetworkStatus;

#[derive(Serialize, JsonSchema)]
pub struct NetworkStatusOutput {
    ok: bool,
    /// healthy; alone (no other node is known); degraded (some are away); cut_off (all are).
    network_health: &'static str,
    self_peer_id: String,
    listen: Vec<String>,
    peer_count: usize,
    alive: usize,
    suspect: usize,
    dead: usize,
    /// Of this home.
    active_tasks: u64,
    queued_tasks: u64,
    connections_taken: u64,
    peers_refused: u64,
}

impl Handler for NetworkStatus {
    type Input = NoInput;
    type Output = NetworkStatusOutput;

    async fn call(&self, _: NoInput, call: &Call<'_>) -> Result<NetworkStatusOutput, ToolError> {
        let (status, contacts) = (call.link.status(PATIENCE).await?, contacts(call).await?);
        let of = |state: &str| status.peers.iter().filter(|peer| peer.state == state).count();
        let (alive, suspect, dead) = (of("alive"), of("suspect"), of("dead"));
        let counts = status.queue.counts;
        Ok(NetworkStatusOutput {
            ok: true,
            network_health: match (alive, status.peers.len() - alive) {
                (0, 0) => "alone",
                (0, _) => "cut_off",
                (_, 0) => "healthy",
                (_, _) => "degraded",
            },
            self_peer_id: status.peer_id.to_string(),
            listen: contacts.listen,
            peer_count: status.peers.len(),
            alive,
            suspect,
            dead,
            active_tasks: counts.of(TaskState::Running) + counts.of(TaskState::Leased),
            queued_tasks: counts.of(TaskState::Ready) + counts.of(TaskState::Delayed) + counts.of(TaskState::Blocked),
            connections_taken: contacts.connections_taken,
            peers_refused: contacts.peers_refused,
        })
    }
}

pub struct PublicAddress;

#[derive(Serialize, JsonSchema)]
pub struct PublicAddressOutput {
    ok: bool,
    /// The address that members dialled back and reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_ip: Option<String>,
    /// All that lead beyond this node's site, and whether members got there.
    addresses: Vec<ReachRow>,
    /// Where it listens.
    listen: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

#[derive(Serialize, JsonSchema)]
struct ReachRow {
    address: String,
    /// reached, unreached or unknown.
    reach: String,
    /// Named by the configuration.
    named: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

impl Handler for PublicAddress {
    type Input = NoInput;
    type Output = PublicAddressOutput;

    async fn call(&self, _: NoInput, call: &Call<'_>) -> Result<PublicAddressOutput, ToolError> {
        let contacts = contacts(call).await?;
        let reached = contacts.reach.iter().find(|at| at.reach == "reached").map(|at| at.address.clone());
        let public_ip = reached.as_deref().and_then(ip_of);
        let rows = contacts.reach.into_iter().map(|at| ReachRow {
            address: at.address,
            reach: at.reach,
            named: at.named,
            trouble: at.trouble,
        });
        let why = public_ip.is_none().then_some(
            "no member from beyond this node's site has dialled it back; nobody else is asked for the address",
        );
        Ok(PublicAddressOutput { ok: true, public_ip, addresses: rows.collect(), listen: contacts.listen, why })
    }
}

/// The address in `/ip4/1.2.3.4/tcp/4001`.
fn ip_of(multiaddr: &str) -> Option<String> {
    let mut parts = multiaddr.split('/').skip(1);
    matches!(parts.next(), Some("ip4" | "ip6")).then(|| parts.next().map(str::to_owned)).flatten()
}

/// Peers that some of the ways of finding them have named.
pub struct Bootstrap {
    pub ways: &'static [&'static str],
    /// What to configure where none of them is on.
    pub fix: &'static str,
}

#[derive(Deserialize, JsonSchema)]
pub struct BootstrapWaysInput {
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct BootstrapWaysOutput {
    ok: bool,
    /// The ways that were asked, of those that are configured.
    ways: Vec<String>,
    peers: Vec<BootstrapPeer>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct BootstrapPeer {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    addresses: Vec<String>,
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

impl BootstrapPeer {
    fn of(contact: ContactView) -> Self {
        Self {
            peer_id: contact.peer_id.map(|peer| peer.to_string()),
            addresses: contact.addresses.into_iter().map(|at| at.address).collect(),
            connected: contact.connected,
            trouble: contact.trouble,
        }
    }
}

impl Handler for Bootstrap {
    type Input = BootstrapWaysInput;
    type Output = BootstrapWaysOutput;

    async fn call(&self, input: BootstrapWaysInput, call: &Call<'_>) -> Result<BootstrapWaysOutput, ToolError> {
        let PeerReply::Discovered { ways, contacts } = call.link.peer(PeerRequest::Discover).await? else {
            return Err(link::unexpected());
        };
        let on = ways.into_iter().filter(|way| way.on && self.ways.contains(&way.way.as_str()));
        let on: Vec<String> = on.map(|way| way.way).collect();
        if on.is_empty() {
            let message = format!("this node is not configured to find peers by {}", self.ways.join(", "));
            return Err(ToolError::new("unavailable_here", message, self.fix));
        }
        let named = contacts.into_iter().filter(|contact| !contact.own && contact.is_from(self.ways));
        let peers: Vec<BootstrapPeer> = named.map(BootstrapPeer::of).collect();
        let total = peers.len();
        let (peers, next_cursor) = page(peers, input.cursor.as_deref(), input.limit)?;
        Ok(BootstrapWaysOutput { ok: true, ways: on, peers, total, next_cursor })
    }
}

pub struct FindPeer;

#[derive(Deserialize, JsonSchema)]
pub struct FindPeerInput {
    peer_id: String,
}

#[derive(Serialize, JsonSchema)]
pub struct FindPeerOutput {
    ok: bool,
    peer_id: String,
    /// alive, suspect or dead; not there: it was never a member.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    addresses: Vec<String>,
    connected: bool,
}

impl Handler for FindPeer {
    type Input = FindPeerInput;
    type Output = FindPeerOutput;

    async fn call(&self, input: FindPeerInput, call: &Call<'_>) -> Result<FindPeerOutput, ToolError> {
        let peer = parse_peer(&input.peer_id)?;
        let PeerReply::Peer { member, contacts, .. } = call.link.peer(PeerRequest::Get { peer }).await? else {
            return Err(link::unexpected());
        };
        if member.is_none() && contacts.is_empty() {
            let fix = "look for peers with peer_discover, or take one that list_peers shows";
            return Err(ToolError::new("not_found", format!("nobody here knows {peer}"), fix));
        }
        let at_contacts = contacts.iter().flat_map(|contact| contact.addresses.iter().map(|at| at.address.clone()));
        let told = member.iter().flat_map(|member| member.addresses.iter().cloned());
        let mut addresses: Vec<String> = at_contacts.chain(told).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok(FindPeerOutput {
            ok: true,
            peer_id: peer.to_string(),
            connected: contacts.iter().any(|contact| contact.connected),
            state: member.map(|member| member.state),
            addresses,
        })
    }
}

pub struct StalePeers;

#[derive(Serialize, JsonSchema)]
pub struct StalePeersOutput {
    ok: bool,
    /// Peers that are away.
    stale: Vec<StaleRow>,
    known: usize,
}

#[derive(Serialize, JsonSchema)]
struct StaleRow {
    peer_id: String,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heard_ms_ago: Option<u64>,
}

impl Handler for StalePeers {
    type Input = NoInput;
    type Output = StalePeersOutput;

    async fn call(&self, _: NoInput, call: &Call<'_>) -> Result<StalePeersOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        let away = status.peers.iter().filter(|peer| peer.state != "alive");
        let stale = away.map(|peer| StaleRow {
            peer_id: peer.peer_id.to_string(),
            state: peer.state.clone(),
            last_heard_ms_ago: peer.last_heard_ms_ago,
        });
        let stale = stale.take(super::super::detail::LIMIT_MAX).collect();
        Ok(StalePeersOutput { ok: true, stale, known: status.peers.len() })
    }
}

pub struct Load;

#[derive(Serialize, JsonSchema)]
pub struct LoadOutput {
    ok: bool,
    /// Whether work waits at this home beside a node that is free.
    balanced: bool,
    /// Ready tasks of this home.
    waiting: u64,
    workers: Vec<LoadRow>,
    why: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct LoadRow {
    peer_id: String,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<u64>,
    slots_free: u32,
}

impl Handler for Load {
    type Input = NoInput;
    type Output = LoadOutput;

    async fn call(&self, _: NoInput, call: &Call<'_>) -> Result<LoadOutput, ToolError> {
        let status = call.link.status(PATIENCE).await?;
        Ok(LoadOutput::of(&status))
    }
}

impl LoadOutput {
    fn of(status: &NodeStatus) -> Self {
        let waiting = status.queue.counts.of(TaskState::Ready);
        let workers: Vec<LoadRow> = status
            .workers()
            .into_iter()
            .take(super::super::detail::LIMIT_MAX)
            .map(|worker| LoadRow {
                peer_id: worker.peer_id.to_string(),
                state: worker.state.to_owned(),
                running: worker.running,
                queued: worker.queued,
                slots_free: worker.slots_free,
            })
            .collect();
        let is_free = |row: &LoadRow| row.state == "alive" && row.slots_free > 0;
        let balanced = waiting == 0 || !workers.iter().any(is_free);
        let why = match (waiting, balanced) {
            (0, _) => "nothing waits",
            (_, true) => "every node is busy",
            (_, false) => {
                "free nodes take eligible work by themselves within a second; what still waits then fits none of them: \
                 p2p_taskqueue_get_task says in unmet what each lacks"
            }
        };
        Self { ok: true, balanced, waiting, workers, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ip_of_an_address_is_read_where_it_has_one() {
        assert_eq!(ip_of("/ip4/203.0.113.7/tcp/4001").as_deref(), Some("203.0.113.7"));
        assert_eq!(ip_of("/ip6/2001:db8::1/udp/4001/quic-v1").as_deref(), Some("2001:db8::1"));
        assert_eq!(ip_of("/dns4/example.org/tcp/4001"), None);
    }
}
