//! What a node has measured of its peers, from the traffic that there is anyway: nothing is sent to measure.
//!
//! Time is an argument, in milliseconds of a clock that never steps. Of each peer there is a moving average, the window
//! that runs, and a ring of windows that are over: a day of quarters of an hour.

mod window;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use self::window::Running;
use crate::ids::PeerId;
use crate::limits;

/// The newest measurement counts an eighth, as in TCP.
const AVERAGE_WEIGHT: f64 = 0.125;

/// Something that was measured of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// A heartbeat came back after so long.
    Answered {
        round_trip_us: u64,
    },
    /// A heartbeat did not come back.
    Unanswered,
    /// A piece of a blob went to the peer, or came from it, in so long.
    Sent {
        bytes: u64,
        took_us: u64,
    },
    Received {
        bytes: u64,
        took_us: u64,
    },
    /// A request of the peer was let in.
    Served,
    Connected,
    Disconnected,
}

/// A window of time that is over, or the one that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowView {
    /// How long ago it began.
    pub began_ms_ago: u64,
    pub lasted_ms: u64,
    pub connected_ms: u64,
    pub answered: u64,
    pub unanswered: u64,
    /// Of the round trips; none: there was no answer.
    pub p50_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub served: u64,
}

/// What was measured of one peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsView {
    pub peer: PeerId,
    /// Since when it is measured.
    pub known_ms: u64,
    pub connected: bool,
    /// Of the round trip: the last one, and the moving average.
    pub last_us: Option<u64>,
    pub average_us: Option<u64>,
    /// Of transfers of blobs, as a moving average; none: there was no transfer.
    pub bytes_per_s: Option<u64>,
    /// The share of heartbeats without an answer, in the newest two windows.
    pub loss: f64,
    /// 0 to 1; the formula is in docs/peers.md.
    pub reliability: f64,
    /// The sums over all windows that are kept.
    pub total: WindowView,
    /// The one that runs.
    pub window: WindowView,
    /// Those that are over, the oldest first; left out where nobody asked for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<WindowView>,
}

/// What was measured of one peer.
#[derive(Debug)]
pub struct PeerMetrics {
    began_ms: u64,
    measured_ms: u64,
    connected: bool,
    last_us: Option<u64>,
    average_us: Option<f64>,
    bytes_per_s: Option<f64>,
    running: Running,
    /// With `began_ms_ago` as the time at which it began.
    over: VecDeque<WindowView>,
}

impl PeerMetrics {
    pub fn new(now_ms: u64) -> Self {
        Self {
            began_ms: now_ms,
            measured_ms: now_ms,
            connected: false,
            last_us: None,
            average_us: None,
            bytes_per_s: None,
            running: Running::new(now_ms),
            over: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, now_ms: u64, measured: Measured) {
        self.turn(now_ms);
        self.measured_ms = now_ms;
        match measured {
            Measured::Answered { round_trip_us } => {
                self.last_us = Some(round_trip_us);
                average(&mut self.average_us, round_trip_us as f64);
                self.running.answered(round_trip_us);
            }
            Measured::Unanswered => self.running.counts.unanswered += 1,
            Measured::Sent { bytes, took_us } => {
                self.running.counts.bytes_sent += bytes;
                self.transferred(bytes, took_us);
            }
            Measured::Received { bytes, took_us } => {
                self.running.counts.bytes_received += bytes;
                self.transferred(bytes, took_us);
            }
            Measured::Served => self.running.counts.served += 1,
            Measured::Connected => self.connect(now_ms, true),
            Measured::Disconnected => self.connect(now_ms, false),
        }
    }

    fn transferred(&mut self, bytes: u64, took_us: u64) {
        average(&mut self.bytes_per_s, bytes as f64 * 1_000_000.0 / took_us.max(1) as f64);
    }

    fn connect(&mut self, now_ms: u64, connected: bool) {
        self.running.pass(now_ms, self.connected);
        self.connected = connected;
    }

    /// Closes the windows that are over. One in which nothing was measured is kept, too: silence says something.
    fn turn(&mut self, now_ms: u64) {
        let whole = now_ms.saturating_sub(self.running.began_ms) / limits::METRICS_WINDOW_MS;
        // Of a silence that is longer than what is kept, the end suffices.
        let skipped = whole.saturating_sub(limits::METRICS_WINDOWS_MAX as u64 + 1);
        if skipped > 0 {
            self.over.clear();
            self.running = Running::new(self.running.began_ms + skipped * limits::METRICS_WINDOW_MS);
        }
        for _ in 0..whole - skipped {
            let ends_ms = self.running.began_ms + limits::METRICS_WINDOW_MS;
            self.running.pass(ends_ms, self.connected);
            let closed = std::mem::replace(&mut self.running, Running::new(ends_ms));
            self.over.push_back(WindowView { began_ms_ago: closed.began_ms, ..closed.view(ends_ms) });
            if self.over.len() > limits::METRICS_WINDOWS_MAX {
                self.over.pop_front();
            }
        }
    }

    /// How far this peer was to be relied on while it is known: the share of heartbeats that were answered, times the
    /// share of time in which it was connected, over all windows that are kept.
    ///
    /// One answer is lent to everyone, so that the first lost heartbeat of a newcomer does not make it the worst.
    fn reliability(total: &WindowView) -> f64 {
        let asked = total.answered + total.unanswered;
        let answered = (total.answered + 1) as f64 / (asked + 1) as f64;
        let connected = if total.lasted_ms == 0 { 1.0 } else { total.connected_ms as f64 / total.lasted_ms as f64 };
        answered * connected
    }

    fn view(&mut self, peer: PeerId, now_ms: u64, with_history: bool) -> MetricsView {
        self.turn(now_ms);
        self.running.pass(now_ms, self.connected);
        let window = self.running.view(now_ms);
        let total = self.over.iter().chain([&window]).fold(WindowView::default(), sum);
        let total = WindowView { began_ms_ago: total.lasted_ms, ..total };
        let recent = self.over.back().into_iter().chain([&window]).fold(WindowView::default(), sum);
        let asked = recent.answered + recent.unanswered;
        let ago = |over: &WindowView| WindowView { began_ms_ago: now_ms.saturating_sub(over.began_ms_ago), ..*over };
        MetricsView {
            peer,
            known_ms: now_ms.saturating_sub(self.began_ms),
            connected: self.connected,
            last_us: self.last_us,
            average_us: self.average_us.map(|us| us.round() as u64),
            bytes_per_s: self.bytes_per_s.map(|bytes| bytes.round() as u64),
            loss: if asked == 0 { 0.0 } else { recent.unanswered as f64 / asked as f64 },
            reliability: Self::reliability(&total),
            total,
            window,
            history: if with_history { self.over.iter().map(ago).collect() } else { Vec::new() },
        }
    }
}

fn average(held: &mut Option<f64>, measured: f64) {
    *held = Some(held.map_or(measured, |held| held + (measured - held) * AVERAGE_WEIGHT));
}

/// Percentiles cannot be added up: the sum has none.
fn sum(total: WindowView, window: &WindowView) -> WindowView {
    WindowView {
        began_ms_ago: 0,
        lasted_ms: total.lasted_ms + window.lasted_ms,
        connected_ms: total.connected_ms + window.connected_ms,
        answered: total.answered + window.answered,
        unanswered: total.unanswered + window.unanswered,
        p50_us: None,
        p99_us: None,
        bytes_sent: total.bytes_sent + window.bytes_sent,
        bytes_received: total.bytes_received + window.bytes_received,
        served: total.served + window.served,
    }
}

/// What was measured of all peers, at most [`limits::PEERS_MAX`]: the one of which nothing was measured for longest gives
/// way.
#[derive(Debug, Default)]
pub struct MetricsTable {
    peers: BTreeMap<PeerId, PeerMetrics>,
}

impl MetricsTable {
    pub fn handle(&mut self, now_ms: u64, peer: PeerId, measured: Measured) {
        if !self.peers.contains_key(&peer) && self.peers.len() >= limits::PEERS_MAX {
            let idlest = self.peers.iter().min_by_key(|(_, metrics)| (metrics.connected, metrics.measured_ms));
            if let Some(idlest) = idlest.map(|(peer, _)| *peer) {
                self.peers.remove(&idlest);
            }
        }
        self.peers.entry(peer).or_insert_with(|| PeerMetrics::new(now_ms)).handle(now_ms, measured);
    }

    /// Of all peers without their history, or of one with it; nothing, if it is not known.
    pub fn views(&mut self, now_ms: u64, of: Option<PeerId>) -> Vec<MetricsView> {
        let wanted = self.peers.iter_mut().filter(|(peer, _)| of.is_none_or(|of| of == **peer));
        wanted.map(|(peer, metrics)| metrics.view(*peer, now_ms, of.is_some())).collect()
    }
}

#[cfg(test)]
mod tests;
