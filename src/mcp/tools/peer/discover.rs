//! Looking for peers now.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::detail::page;
use super::super::follow;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link;
use crate::messages::peer::{ContactView, PeerReply, PeerRequest, WayView};

/// How long it looks where nobody is known, unless told otherwise.
const LOOK_MS: u64 = 5_000;
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub struct DiscoverPeers;

#[derive(Deserialize, JsonSchema)]
pub struct DiscoverPeersInput {
    /// Where nobody is known, look for so long: at most 25000.
    wait_ms: Option<u64>,
    /// The same in seconds.
    timeout_s: Option<f64>,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct DiscoverPeersOutput {
    ok: bool,
    discovered_count: usize,
    search_time_ms: u64,
    peers: Vec<FoundRow>,
    /// How it looks, and how many each way knows of.
    ways: Vec<WayRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct FoundRow {
    /// None: nobody has answered there yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    addresses: Vec<String>,
    /// How it was found.
    sources: Vec<String>,
    connected: bool,
    /// Both admitted each other.
    admitted: bool,
    /// Why the last dial came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct WayRow {
    way: String,
    /// False: not configured.
    on: bool,
    known: u64,
}

impl FoundRow {
    fn of(contact: ContactView) -> Self {
        let mut sources: Vec<String> = contact.addresses.iter().flat_map(|at| at.sources.iter().cloned()).collect();
        sources.sort_unstable();
        sources.dedup();
        Self {
            peer_id: contact.peer_id.map(|peer| peer.to_string()),
            addresses: contact.addresses.into_iter().map(|at| at.address).collect(),
            sources,
            connected: contact.connected,
            admitted: contact.admitted,
            trouble: contact.trouble,
        }
    }
}

impl Handler for DiscoverPeers {
    type Input = DiscoverPeersInput;
    type Output = DiscoverPeersOutput;

    async fn call(&self, input: DiscoverPeersInput, call: &Call<'_>) -> Result<DiscoverPeersOutput, ToolError> {
        let began = Instant::now();
        let wait_ms = follow::wait_ms(input.wait_ms, input.timeout_s).unwrap_or(LOOK_MS);
        let (ways, contacts) = look(call, began + Duration::from_millis(wait_ms)).await?;
        let contacts: Vec<ContactView> = contacts.into_iter().filter(|contact| !contact.own).collect();
        let discovered_count = contacts.len();
        let (contacts, next_cursor) = page(contacts, input.cursor.as_deref(), input.limit)?;
        let row = |WayView { way, on, known }| WayRow { way, on, known };
        Ok(DiscoverPeersOutput {
            ok: true,
            discovered_count,
            search_time_ms: began.elapsed().as_millis() as u64,
            peers: contacts.into_iter().map(FoundRow::of).collect(),
            ways: ways.into_iter().map(row).collect(),
            next_cursor,
        })
    }
}

/// Asks in every way; where nobody is known, until somebody is.
async fn look(call: &Call<'_>, until: Instant) -> Result<(Vec<WayView>, Vec<ContactView>), ToolError> {
    loop {
        let PeerReply::Discovered { ways, contacts } = call.link.peer(PeerRequest::Discover).await? else {
            return Err(link::unexpected());
        };
        if contacts.iter().any(|contact| !contact.own) || Instant::now() >= until {
            return Ok((ways, contacts));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = call.caller.cancelled() => {
                return Err(ToolError::new("cancelled", "the call was cancelled", "call again to go on looking"));
            }
        }
    }
}

/// What the seeds call it.
pub const ALSO: &[(&str, &str)] =
    &[("max_peers", "limit"), ("timeout", "timeout_s"), ("include_metrics", ""), ("discovery_methods", "")];
