//! Calls of tools, as a node remembers them.

use magpie_core::time::Wall;
use serde::{Deserialize, Serialize};

/// Calls that one request tells of.
pub const CALLS_TOLD_MAX: usize = 64;
/// Calls that one request reads.
pub const CALLS_READ_MAX: usize = 10_000;
/// Each text of a line.
const TEXT_CHARS_MAX: usize = 64;

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
    /// Calls that ended about then and of which nothing is kept.
    #[serde(default, skip_serializing_if = "is_none_lost")]
    pub lost: u64,
}

impl CallLine {
    /// The same with no text longer than a line holds.
    pub fn cut(self) -> Self {
        let cut = |text: String| text.chars().take(TEXT_CHARS_MAX).collect();
        let Self { at, principal, client, tool, called, arguments, outcome, ms, lost } = self;
        let [principal, client, tool] = [principal, client, tool].map(cut);
        let [called, arguments, outcome] = [called, arguments, outcome].map(cut);
        Self { at, principal, client, tool, called, arguments, outcome, ms, lost }
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
