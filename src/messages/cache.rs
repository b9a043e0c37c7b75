//! To a node's cache: values that may be gone at any time, and with the process in any case.

use magpie_core::cache::CacheStats;
use magpie_core::payload::JsonText;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheRequest {
    Get {
        key: String,
    },
    Put {
        key: String,
        value: JsonText,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl_ms: Option<u64>,
    },
    /// One value, or all whose keys begin with it.
    Invalidate {
        key: String,
        is_prefix: bool,
    },
    Stats,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheReply {
    Value(Option<JsonText>),
    Put,
    Invalidated { removed: u64 },
    Stats(CacheStats),
}
