//! What the node has measured of its peers.

use magpie_core::peer_metrics::{MetricsView, WindowView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::detail::page;
use super::parse_peer;
use crate::mcp::answer::ToolError;
use crate::mcp::handler::{Call, Handler};
use crate::mcp::link;
use crate::messages::peer::{PeerReply, PeerRequest};

pub struct PeerMetrics;

#[derive(Deserialize, JsonSchema)]
pub struct PeerMetricsInput {
    /// Only this one.
    peer_id: Option<String>,
    /// Show a day in quarters of an hour; needs peer_id.
    #[serde(default)]
    #[schemars(with = "Option<bool>")]
    include_history: bool,
    /// Of the history; the last 24 unless said.
    history_hours: Option<f64>,
    /// At most 100.
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct PeerMetricsOutput {
    ok: bool,
    peers: Vec<MetricsRow>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What was never measured is left out.
#[derive(Serialize, JsonSchema)]
struct MetricsRow {
    peer_id: String,
    connected: bool,
    /// Of the round trip, as a moving average.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    /// Of transfers of blobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth_mbps: Option<f64>,
    /// Of heartbeats without an answer.
    packet_loss_percent: f64,
    /// 0 to 1.
    reliability_score: f64,
    /// Since this node knows it.
    known_hours: f64,
    uptime_hours: f64,
    requests_served: u64,
    bytes_transferred: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<HistoryRow>,
}

#[derive(Serialize, JsonSchema)]
struct HistoryRow {
    began_hours_ago: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p99_ms: Option<f64>,
    answered: u64,
    unanswered: u64,
    bytes_transferred: u64,
}

fn hours(ms: u64) -> f64 {
    rounded(ms as f64 / 3_600_000.0)
}

fn ms(us: u64) -> f64 {
    rounded(us as f64 / 1_000.0)
}

fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

impl MetricsRow {
    fn of(view: &MetricsView, history_ms: u64) -> Self {
        let history = view.history.iter().filter(|window| window.began_ms_ago <= history_ms).map(HistoryRow::of);
        Self {
            peer_id: view.peer.to_string(),
            connected: view.connected,
            latency_ms: view.average_us.map(ms),
            bandwidth_mbps: view.bytes_per_s.map(|bytes| rounded(bytes as f64 * 8.0 / 1_000_000.0)),
            packet_loss_percent: rounded(view.loss * 100.0),
            reliability_score: rounded(view.reliability),
            known_hours: hours(view.known_ms),
            uptime_hours: hours(view.total.connected_ms),
            requests_served: view.total.served,
            bytes_transferred: view.total.bytes_sent + view.total.bytes_received,
            history: history.collect(),
        }
    }
}

impl HistoryRow {
    fn of(window: &WindowView) -> Self {
        Self {
            began_hours_ago: hours(window.began_ms_ago),
            latency_p50_ms: window.p50_us.map(ms),
            latency_p99_ms: window.p99_us.map(ms),
            answered: window.answered,
            unanswered: window.unanswered,
            bytes_transferred: window.bytes_sent + window.bytes_received,
        }
    }
}

impl Handler for PeerMetrics {
    type Input = PeerMetricsInput;
    type Output = PeerMetricsOutput;

    async fn call(&self, input: PeerMetricsInput, call: &Call<'_>) -> Result<PeerMetricsOutput, ToolError> {
        let peer = input.peer_id.as_deref().map(parse_peer).transpose()?;
        let PeerReply::Metrics(views) = call.link.peer(PeerRequest::Metrics { peer }).await? else {
            return Err(link::unexpected());
        };
        let history_ms = match input.include_history {
            true => (input.history_hours.unwrap_or(24.0).clamp(0.0, 24.0) * 3_600_000.0) as u64,
            false => 0,
        };
        let total = views.len();
        let (views, next_cursor) = page(views, input.cursor.as_deref(), input.limit)?;
        let peers = views.iter().map(|view| MetricsRow::of(view, history_ms)).collect();
        Ok(PeerMetricsOutput { ok: true, peers, total, next_cursor })
    }
}

/// What the seeds call it.
pub const ALSO: &[(&str, &str)] = &[("id", "peer_id")];

#[cfg(test)]
mod tests {
    use super::*;
    use magpie_core::ids::PeerId;

    #[test]
    fn a_row_is_in_the_seeds_units_and_its_history_as_long_as_asked_for() {
        let window = WindowView { began_ms_ago: 7_200_000, p50_us: Some(1_500), ..WindowView::default() };
        let view = MetricsView {
            peer: PeerId([7; 32]),
            known_ms: 5_400_000,
            connected: true,
            last_us: Some(2_000),
            average_us: Some(1_234),
            bytes_per_s: Some(1_250_000),
            loss: 0.25,
            reliability: 0.5,
            total: WindowView { bytes_sent: 3, bytes_received: 4, connected_ms: 3_600_000, ..WindowView::default() },
            window: WindowView::default(),
            history: vec![window],
        };
        let row = MetricsRow::of(&view, 3 * 3_600_000);
        assert_eq!((row.latency_ms, row.bandwidth_mbps, row.packet_loss_percent), (Some(1.234), Some(10.0), 25.0));
        assert_eq!((row.known_hours, row.uptime_hours, row.bytes_transferred), (1.5, 1.0, 7));
        assert_eq!((row.history[0].began_hours_ago, row.history[0].latency_p50_ms), (2.0, Some(1.5)));
        assert!(MetricsRow::of(&view, 3_600_000).history.is_empty(), "it began earlier");
    }
}
