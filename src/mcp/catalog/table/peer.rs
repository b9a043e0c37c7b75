//! Other nodes.

use super::LIST_REST;
use crate::mcp::catalog::entry::{Action, Category, Hints, Scope, ToolEntry};
use crate::mcp::tools::peer::{self, DiscoverPeers, PeerMetrics};

pub(super) const TOOLS: &[ToolEntry] = &[
    ToolEntry {
        name: "peer_discover",
        category: Category::Peer,
        title: "Look for peers",
        description: "Looks for peers in every configured way and dials them; says who is known, from where, and why a dial came to nothing. Members only: list_peers.",
        hints: Hints { read_only: true, destructive: false, idempotent: true, open_world: true },
        scope: Scope::Read,
        aliases: &["p2p_peer_discover", "p2p_taskqueue_discover_peers"],
        keywords: &["find", "search", "mdns", "dht", "rendezvous", "bootstrap", "addresses", "join", "unreachable"],
        also: peer::DISCOVER_ALSO,
        rare: &["timeout_s"],
        example: r#"{"wait_ms": 5000}"#,
        rest: LIST_REST,
        action: Action::Run(&DiscoverPeers),
    },
    ToolEntry {
        name: "peer_metrics",
        category: Category::Peer,
        title: "Show what was measured of peers",
        description: "Shows latency, bandwidth, loss and reliability of each peer as measured from traffic. Not what a peer can run: list_peers.",
        hints: Hints::READS,
        scope: Scope::Read,
        aliases: &[],
        keywords: &[
            "slow",
            "ping",
            "round trip",
            "rtt",
            "quality",
            "network",
            "uptime",
            "transfer",
            "history",
            "score",
        ],
        also: peer::METRICS_ALSO,
        rare: &["history_hours"],
        example: "{}",
        rest: LIST_REST,
        action: Action::Run(&PeerMetrics),
    },
];
