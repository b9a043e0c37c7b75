//! The cache of a node, behind its doors: a lock around values that nobody waits for.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use magpie_core::cache::Cache;
use magpie_core::queue::Refusal;

use crate::messages::cache::{CacheReply, CacheRequest};

pub struct NodeCache {
    began: Instant,
    cache: Mutex<Cache>,
}

impl Default for NodeCache {
    fn default() -> Self {
        Self { began: Instant::now(), cache: Mutex::default() }
    }
}

impl NodeCache {
    /// # Errors
    /// If a key or a value is too long.
    pub fn answer(&self, request: CacheRequest) -> Result<CacheReply, Refusal> {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match request {
            CacheRequest::Get { key } => CacheReply::Value(cache.get(now_ms, &key)),
            CacheRequest::Put { key, value, ttl_ms } => {
                cache.put(now_ms, &key, value, ttl_ms).map_err(|error| {
                    Refusal::invalid("/value", error.to_string(), "store it with ipfs_add and keep its cid here")
                })?;
                CacheReply::Put
            }
            CacheRequest::Invalidate { key, is_prefix } => {
                CacheReply::Invalidated { removed: cache.invalidate(&key, is_prefix) }
            }
            CacheRequest::Stats => CacheReply::Stats(cache.stats()),
        })
    }
}
