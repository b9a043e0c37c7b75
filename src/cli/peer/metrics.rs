//! `nodectl peer metrics`.

use magpie_core::ids::PeerId;
use magpie_core::peer_metrics::{MetricsView, WindowView};
use serde::Serialize;

use super::{ask, named};
use crate::cli::args::Context;
use crate::cli::connection::unexpected;
use crate::cli::exit::{CommandError, Exit};
use crate::cli::shapes::Items;
use crate::cli::{human, table};
use crate::messages::peer::{PeerReply, PeerRequest};

/// What was measured of one peer, in the units of the other documents.
#[derive(Serialize)]
struct MetricsDocument {
    peer_id: PeerId,
    connected: bool,
    known_ms: u64,
    latency: Latency,
    bandwidth: Bandwidth,
    /// The share of heartbeats without an answer, in the newest two windows.
    loss: f64,
    /// The share of heartbeats that were answered times the share of time in which it was connected, over the history.
    reliability: f64,
    requests_served: u64,
    /// Windows of a quarter of an hour, the oldest first; only where one peer was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<WindowDocument>,
}

#[derive(Serialize)]
struct Latency {
    last_ms: Option<f64>,
    average_ms: Option<f64>,
    /// Of the window that runs.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Serialize)]
struct Bandwidth {
    bytes_per_s: Option<u64>,
    bytes_sent: u64,
    bytes_received: u64,
}

#[derive(Serialize)]
struct WindowDocument {
    began_ms_ago: u64,
    lasted_ms: u64,
    connected_ms: u64,
    answered: u64,
    unanswered: u64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    bytes_sent: u64,
    bytes_received: u64,
    requests_served: u64,
}

impl MetricsDocument {
    fn of(view: &MetricsView) -> Self {
        Self {
            peer_id: view.peer,
            connected: view.connected,
            known_ms: view.known_ms,
            latency: Latency {
                last_ms: view.last_us.map(ms),
                average_ms: view.average_us.map(ms),
                p50_ms: view.window.p50_us.map(ms),
                p99_ms: view.window.p99_us.map(ms),
            },
            bandwidth: Bandwidth {
                bytes_per_s: view.bytes_per_s,
                bytes_sent: view.total.bytes_sent,
                bytes_received: view.total.bytes_received,
            },
            loss: view.loss,
            reliability: view.reliability,
            requests_served: view.total.served,
            history: view.history.iter().map(WindowDocument::of).collect(),
        }
    }
}

impl WindowDocument {
    fn of(window: &WindowView) -> Self {
        Self {
            began_ms_ago: window.began_ms_ago,
            lasted_ms: window.lasted_ms,
            connected_ms: window.connected_ms,
            answered: window.answered,
            unanswered: window.unanswered,
            p50_ms: window.p50_us.map(ms),
            p99_ms: window.p99_us.map(ms),
            bytes_sent: window.bytes_sent,
            bytes_received: window.bytes_received,
            requests_served: window.served,
        }
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

pub async fn run(context: &Context, typed: Option<&str>) -> Result<Exit, CommandError> {
    let peer = match typed {
        Some(typed) => Some(named::resolve(context, typed).await?),
        None => None,
    };
    let PeerReply::Metrics(views) = ask(context, PeerRequest::Metrics { peer }).await? else {
        return Err(unexpected());
    };
    let documents: Vec<MetricsDocument> = views.iter().map(MetricsDocument::of).collect();
    match (peer, documents.first()) {
        (None, _) => context.document(&Items { items: documents.iter().collect() }, || overview(&documents))?,
        (Some(_), Some(document)) => context.document(document, || in_words(document))?,
        (Some(peer), None) => {
            let what = format!("nothing was measured of {peer} since this node started");
            return Err(CommandError::new(Exit::NotFound, what));
        }
    }
    Ok(Exit::Ok)
}

fn overview(documents: &[MetricsDocument]) -> String {
    let row = |document: &MetricsDocument| {
        [
            document.peer_id.to_string(),
            told_ms(document.latency.average_ms),
            told_ms(document.latency.p99_ms),
            percent(document.loss),
            per_second(document.bandwidth.bytes_per_s),
            percent(document.reliability),
        ]
    };
    table::rows(["PEER", "RTT", "P99", "LOSS", "BANDWIDTH", "RELIABILITY"], documents.iter().map(row))
}

fn in_words(document: &MetricsDocument) -> String {
    let Bandwidth { bytes_per_s, bytes_sent, bytes_received } = document.bandwidth;
    let details = table::details([
        ("peer", document.peer_id.to_string()),
        ("measured for", human::duration(document.known_ms)),
        (
            "round trip",
            format!("{} on average, {} last", told_ms(document.latency.average_ms), told_ms(document.latency.last_ms)),
        ),
        ("lost", percent(document.loss)),
        (
            "transfers",
            format!(
                "{}; {} sent, {} received",
                per_second(bytes_per_s),
                human::bytes(bytes_sent),
                human::bytes(bytes_received)
            ),
        ),
        ("requests", document.requests_served.to_string()),
        ("reliability", percent(document.reliability)),
    ]);
    if document.history.is_empty() {
        return details;
    }
    let row = |window: &WindowDocument| {
        [
            format!("{} ago", human::duration(window.began_ms_ago)),
            human::duration(window.connected_ms),
            window.answered.to_string(),
            window.unanswered.to_string(),
            told_ms(window.p50_ms),
            told_ms(window.p99_ms),
        ]
    };
    let header = ["WINDOW", "CONNECTED", "ANSWERED", "LOST", "P50", "P99"];
    format!("{details}\n{}", table::rows(header, document.history.iter().map(row)))
}

fn told_ms(ms: Option<f64>) -> String {
    human::or_dash(ms.map(|ms| format!("{ms:.1}ms")))
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn per_second(bytes: Option<u64>) -> String {
    human::or_dash(bytes.map(|bytes| format!("{}/s", human::bytes(bytes))))
}
