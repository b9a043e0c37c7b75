//! Calls of tools, as a node remembers them.

use magpie_core::time::Wall;
use serde::{Deserialize, Serialize};

/// Calls that one request tells of.
pub const CALLS_TOLD_MAX: usize = 64;
/// Calls that one request reads.
pub const CALLS_READ_MAX: usize = 10_000;
/// Each text of a line.
const TEXT_CHARS_MAX: usize = 64;

/// Where a tool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// It is this node's own.
    Here,
    /// At another node.
    Peer,
    /// At a server that this node mounts.
    Mounted,
}

impl Route {
    pub const ALL: [Self; 3] = [Self::Here, Self::Peer, Self::Mounted];

    pub fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Peer => "peer",
            Self::Mounted => "mounted",
        }
    }
}

/// The calls that went one way since the node started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    pub route: Route,
    pub calls: u64,
    /// Of these, such as ended with an error.
    pub errors: u64,
    /// How long they took, at most an eighth too much; none: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

/// One call, when it was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallLine {
    pub at: Wall,
    /// In whose name; the node puts in who came through its door.
    pub principal: String,
    /// What the caller calls itself.
    pub client: String,
    /// As the catalogue names it; `none` if there is no such tool.
    pub tool: String,
    /// As it was called.
    pub called: String,
    /// A digest, which tells calls apart without telling what they say.
    pub arguments: String,
    /// `ok`, or the code of the failure.
    pub outcome: String,
    pub ms: u64,
    /// The same time in microseconds, to be counted: it is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub us: Option<u64>,
    /// Where the tool ran; none: nothing ran, or it was no tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Of a call at another node, the same in the audits of both: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Calls that ended about then and of which nothing is kept.
    #[serde(default, skip_serializing_if = "is_none_lost")]
    pub lost: u64,
}

impl CallLine {
    /// The same with no text longer than a line holds.
    pub fn cut(self) -> Self {
        let cut = |mut text: String| {
            if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
                text.truncate(end);
            }
            text
        };
        let Self { at, principal, client, tool, called, arguments, outcome, ms, us, route, trace, lost } = self;
        let [principal, client, tool] = [principal, client, tool].map(cut);
        let [called, arguments, outcome] = [called, arguments, outcome].map(cut);
        let trace = trace.map(cut);
        Self { at, principal, client, tool, called, arguments, outcome, ms, us, route, trace, lost }
    }

    /// Says it in the log of this process. That may take as long as the call itself, so who answers leaves it to another task
    /// or thread.
    pub fn say(&self) {
        tracing::info!(
            target: "audit",
            principal = self.principal,
            client = self.client,
            tool = self.tool,
            called = %self.called.escape_debug(),
            arguments = self.arguments,
            outcome = self.outcome,
            ms = self.ms,
            route = self.route.map(Route::name),
            trace = self.trace,
        );
    }
}

fn is_none_lost(lost: &u64) -> bool {
    *lost == 0
}

/// Which calls; those that match all of it, the newest of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditAsk {
    pub since: Option<Wall>,
    pub principal: Option<String>,
    pub tool: Option<String>,
    pub outcome: Option<String>,
    pub limit: usize,
}

/// What was found, in the order in which the calls ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditFound {
    pub calls: Vec<CallLine>,
    /// There were more before these.
    pub more: bool,
}
