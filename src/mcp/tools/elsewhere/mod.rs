//! Calls of tools at other nodes: of the one that the caller names, or of one that mounts the tool's server.

mod call;
mod mounting;

use magpie_core::ids::PeerId;
use magpie_core::limits;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use call::{REST, call};
pub use mounting::call_mounted;

use super::manager::{DispatchInput, object_or_its_text};
use super::peer::parse_peer;
use crate::mcp::answer::ToolError;

/// Of an answer, for what the asking node writes around it.
pub const PASSING_BYTES: usize = 512;
/// Of the time that a call has, for its answer to come back.
const RETURN_MS: u64 = 500;
/// Stands for a node that mounts the tool's server, this one first.
const AUTO: &str = "auto";

/// A call of a tool by its name, at any node.
#[derive(Deserialize, JsonSchema)]
pub struct CallToolInput {
    pub name: String,
    /// As tools_get_schema says.
    #[serde(default, deserialize_with = "object_or_its_text")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub arguments: Map<String, Value>,
    /// Repeat it, and nothing is done twice.
    pub idempotency_key: Option<String>,
    /// Wait for the result, at most 25000.
    pub wait_ms: Option<u64>,
    /// As list_peers shows; auto: a node that mounts the tool's server. Without it: this node.
    pub peer_id: Option<String>,
    /// Of a call at another node, at most 27.
    pub timeout_s: Option<f64>,
    /// Check all of it, and change nothing.
    pub dry_run: Option<bool>,
}

impl CallToolInput {
    /// The same of this node.
    pub fn here(self) -> DispatchInput {
        let Self { name, arguments, idempotency_key, wait_ms, dry_run, .. } = self;
        DispatchInput { name, arguments, idempotency_key, wait_ms, dry_run }
    }

    /// The same, with a wait that ends before the call must.
    pub fn here_within(self, timeout_ms: u64) -> DispatchInput {
        let is_short = self.timeout_s.is_some();
        let request = self.here();
        let within = wait_within(timeout_ms);
        let wait_ms = match request.wait_ms {
            Some(wait_ms) => Some(wait_ms.min(within)),
            None => is_short.then_some(within),
        };
        DispatchInput { wait_ms, ..request }
    }
}

/// How long a call that may take so long waits for what goes on without it.
pub fn wait_within(timeout_ms: u64) -> u64 {
    timeout_ms.saturating_sub(RETURN_MS)
}

/// Where a call is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Peer(PeerId),
    /// Some node that mounts the tool's server.
    Mounting,
}

impl Place {
    /// The place that a caller names: a peer's id, the end of its address, or `auto`.
    ///
    /// # Errors
    /// `wrong_argument` with where to find one.
    pub fn of(text: &str) -> Result<Self, ToolError> {
        if text.trim() == AUTO {
            return Ok(Self::Mounting);
        }
        let id = text.rsplit("/p2p/").next().unwrap_or(text);
        parse_peer(id).map(Self::Peer)
    }
}

/// How long a call at another node may take.
///
/// # Errors
/// `wrong_argument` if it is no time.
pub fn timeout_ms(timeout_s: Option<f64>) -> Result<u64, ToolError> {
    let Some(seconds) = timeout_s else { return Ok(limits::PEER_CALL_MS_MAX) };
    if !seconds.is_finite() || seconds <= 0.0 {
        let expected = format!("a number of seconds above 0, at most {}", limits::PEER_CALL_MS_MAX / 1_000);
        return Err(ToolError::wrong_argument("timeout_s", seconds, &expected, "leave it out, or give it seconds"));
    }
    Ok(((seconds * 1_000.0) as u64).clamp(1, limits::PEER_CALL_MS_MAX))
}

/// What is to be called at another node.
pub struct FarCall {
    pub place: Place,
    pub name: String,
    pub arguments: Map<String, Value>,
    pub timeout_ms: u64,
    /// Whether it may change something.
    pub writes: bool,
    /// Whether the same call again does nothing twice, even if the first was heard.
    pub is_safe_again: bool,
    /// By which it is found in the audits of both nodes.
    pub trace: String,
}

/// One that nobody has yet.
pub fn new_trace() -> String {
    data_encoding::HEXLOWER.encode(&rand::random::<[u8; 16]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_peer_the_end_of_an_address_or_whoever_mounts_it() {
        let peer = PeerId([1; 32]);
        for text in [peer.to_string(), format!("/ip4/10.0.0.7/tcp/4001/p2p/{peer}")] {
            assert_eq!(Place::of(&text), Ok(Place::Peer(peer)), "{text}");
        }
        assert_eq!(Place::of(" auto "), Ok(Place::Mounting));
        let error = Place::of("the other one").unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), ("wrong_argument", Some("peer_id")));
    }

    #[test]
    fn a_call_ends_in_its_time_and_a_wait_before_it() {
        assert_eq!(timeout_ms(None), Ok(limits::PEER_CALL_MS_MAX));
        assert_eq!(timeout_ms(Some(1.5)), Ok(1_500));
        assert_eq!(timeout_ms(Some(1e9)), Ok(limits::PEER_CALL_MS_MAX));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(timeout_ms(Some(wrong)).is_err(), "{wrong}");
        }
        let input = |wait_ms, timeout_s| CallToolInput {
            name: "p2p_taskqueue_wait_task".to_owned(),
            arguments: Map::new(),
            idempotency_key: None,
            wait_ms,
            peer_id: None,
            timeout_s,
            dry_run: None,
        };
        assert_eq!(input(None, None).here_within(27_000).wait_ms, None);
        assert_eq!(input(None, Some(3.0)).here_within(3_000).wait_ms, Some(2_500));
        assert_eq!(input(Some(20_000), Some(3.0)).here_within(3_000).wait_ms, Some(2_500));
        assert_eq!(input(Some(1_000), None).here_within(27_000).wait_ms, Some(1_000));
    }
}
