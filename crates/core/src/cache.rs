//! Values by key that may be gone at any time: bounded in entries and bytes, the least recently used go first.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::payload::JsonText;

#[derive(Debug, Clone)]
struct Entry {
    value: JsonText,
    expires_ms: Option<u64>,
    /// Its place among the uses.
    used: u64,
}

/// What was asked of a cache since it was made, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStats {
    pub entries: u64,
    pub bytes: u64,
    pub hits: u64,
    pub misses: u64,
    /// Gone to make room.
    pub evicted: u64,
}

/// What a cache does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    #[error("a key of {presented} bytes: at least 1 and at most {} are taken", limits::CACHE_KEY_BYTES_MAX)]
    Key { presented: usize },
    #[error("a value of {presented} bytes: at most {} are taken", limits::CACHE_VALUE_BYTES_MAX)]
    Value { presented: usize },
}

#[derive(Debug, Default)]
pub struct Cache {
    entries: BTreeMap<Arc<str>, Entry>,
    /// Keys by when they were used last.
    by_use: BTreeMap<u64, Arc<str>>,
    uses: u64,
    stats: CacheStats,
}

impl Cache {
    /// The value of `key`, if it is there and its time is not over.
    pub fn get(&mut self, now_ms: u64, key: &str) -> Option<JsonText> {
        self.expire(now_ms, key);
        let found = self.entries.get_mut(key).map(|entry| {
            self.uses += 1;
            let (value, before) = (entry.value.clone(), std::mem::replace(&mut entry.used, self.uses));
            (value, before)
        });
        let Some((value, before)) = found else {
            self.stats.misses += 1;
            return None;
        };
        self.stats.hits += 1;
        if let Some(key) = self.by_use.remove(&before) {
            self.by_use.insert(self.uses, key);
        }
        Some(value)
    }

    /// Keeps a value under `key`, for `ttl_ms` if that is said.
    ///
    /// # Errors
    /// If the key or the value is too long.
    pub fn put(&mut self, now_ms: u64, key: &str, value: JsonText, ttl_ms: Option<u64>) -> Result<(), CacheError> {
        if key.is_empty() || key.len() > limits::CACHE_KEY_BYTES_MAX {
            return Err(CacheError::Key { presented: key.len() });
        }
        if value.as_str().len() > limits::CACHE_VALUE_BYTES_MAX {
            return Err(CacheError::Value { presented: value.as_str().len() });
        }
        self.remove(key);
        self.uses += 1;
        let key: Arc<str> = Arc::from(key);
        self.stats.entries += 1;
        self.stats.bytes += bytes(&key, &value);
        self.by_use.insert(self.uses, key.clone());
        let expires_ms = ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms));
        self.entries.insert(key, Entry { value, expires_ms, used: self.uses });
        while self.stats.entries > limits::CACHE_ENTRIES_MAX || self.stats.bytes > limits::CACHE_BYTES_MAX {
            let Some((_, oldest)) = self.by_use.first_key_value() else { break };
            let oldest = oldest.clone();
            self.remove(&oldest);
            self.stats.evicted += 1;
        }
        Ok(())
    }

    /// Removes the value of `key`, or of all keys that begin with it. Returns how many there were.
    pub fn invalidate(&mut self, key: &str, is_prefix: bool) -> u64 {
        if !is_prefix {
            return u64::from(self.remove(key));
        }
        let from = self.entries.range::<str, _>((Bound::Included(key), Bound::Unbounded));
        let begins = from.take_while(|(known, _)| known.starts_with(key));
        let keys: Vec<Arc<str>> = begins.map(|(known, _)| known.clone()).collect();
        keys.iter().filter(|key| self.remove(key)).count() as u64
    }

    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    fn expire(&mut self, now_ms: u64, key: &str) {
        let over = |entry: &Entry| entry.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
        if self.entries.get(key).is_some_and(over) {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        let Some((key, entry)) = self.entries.remove_entry(key) else { return false };
        self.by_use.remove(&entry.used);
        self.stats.entries -= 1;
        self.stats.bytes -= bytes(&key, &entry.value);
        true
    }
}

fn bytes(key: &str, value: &JsonText) -> u64 {
    (key.len() + value.as_str().len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &str) -> JsonText {
        JsonText::of(&serde_json::Value::from(value))
    }

    #[test]
    fn a_value_is_there_until_its_time_is_over() {
        let mut cache = Cache::default();
        cache.put(0, "a", text("1"), Some(10)).unwrap();
        cache.put(0, "b", text("2"), None).unwrap();
        assert_eq!((cache.get(9, "a"), cache.get(10, "a")), (Some(text("1")), None));
        assert_eq!(cache.get(u64::MAX, "b"), Some(text("2")));
        let CacheStats { entries, hits, misses, .. } = cache.stats();
        assert_eq!((entries, hits, misses), (1, 2, 1));
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::default();
        let large = "x".repeat(limits::CACHE_VALUE_BYTES_MAX - 2);
        let fits = limits::CACHE_BYTES_MAX as usize / (limits::CACHE_VALUE_BYTES_MAX + 8);
        for n in 0..fits {
            cache.put(0, &format!("{n:08}"), text(&large), None).unwrap();
        }
        assert!(cache.get(0, "00000000").is_some());
        cache.put(0, "one more", text(&large), None).unwrap();
        assert!(cache.get(0, "00000000").is_some() && cache.get(0, "00000001").is_none());
        assert!(cache.stats().evicted >= 1 && cache.stats().bytes <= limits::CACHE_BYTES_MAX);
    }

    #[test]
    fn keys_go_alone_or_by_their_beginning() {
        let mut cache = Cache::default();
        for key in ["a/1", "a/2", "b/1"] {
            cache.put(0, key, text("x"), None).unwrap();
        }
        assert_eq!(
            (cache.invalidate("a", false), cache.invalidate("a/", true), cache.invalidate("b/1", false)),
            (0, 2, 1)
        );
        assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut cache = Cache::default();
        let (key, value) = ("k".repeat(limits::CACHE_KEY_BYTES_MAX + 1), "v".repeat(limits::CACHE_VALUE_BYTES_MAX));
        assert!(matches!(cache.put(0, &key, text("x"), None), Err(CacheError::Key { .. })));
        assert!(matches!(cache.put(0, "", text("x"), None), Err(CacheError::Key { presented: 0 })));
        assert!(matches!(cache.put(0, "k", text(&value), None), Err(CacheError::Value { .. })));
    }

    proptest! {
        /// What it holds is what it counts, whatever is done to it.
        #[test]
        fn the_counts_are_those_of_the_entries(acts in prop::collection::vec((0_u8..4, 0_u8..6, 0_usize..40), 0..200)) {
            let mut cache = Cache::default();
            for (now_ms, (act, key, length)) in acts.into_iter().enumerate() {
                let (now_ms, key) = (now_ms as u64, format!("k{key}"));
                match act {
                    0 => drop(cache.get(now_ms, &key)),
                    1 => drop(cache.invalidate(&key, length % 2 == 0)),
                    _ => cache.put(now_ms, &key, text(&"v".repeat(length)), (act == 2).then_some(5)).unwrap(),
                }
                let held: u64 = cache.entries.iter().map(|(key, entry)| bytes(key, &entry.value)).sum();
                prop_assert_eq!((cache.stats().entries, cache.stats().bytes), (cache.entries.len() as u64, held));
                prop_assert_eq!(cache.by_use.len(), cache.entries.len());
            }
        }
    }
}
