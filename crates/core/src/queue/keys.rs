//! Idempotency keys: which task a key of a namespace belongs to, and for what specification, until it expires.
//!
//! A key's record outlives its task, and needs nothing of it: the specification stands in it as a digest.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ledger::Ledger;
use super::record::Record;
use crate::ids::TaskId;
use crate::limits;
use crate::task::{Durability, TaskSpec};
use crate::time::Wall;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct KeyName {
    namespace: String,
    key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyEntry {
    pub id: TaskId,
    #[serde(with = "super::record::root_bytes")]
    digest: [u8; 32],
    expires: Wall,
    /// Whether the log knows it: a key of a `memory` task is lost with the process.
    #[serde(skip, default = "yes")]
    pub written: bool,
}

fn yes() -> bool {
    true
}

impl KeyEntry {
    pub fn is_for(&self, spec: &TaskSpec) -> bool {
        self.digest == digest(spec)
    }
}

/// Where a key stands in the order of expiry.
pub(super) type KeyPlace = (Wall, Arc<KeyName>);

#[derive(Debug, Clone, Default)]
pub(super) struct Keys {
    entries: HashMap<Arc<KeyName>, KeyEntry>,
    by_expiry: BTreeSet<KeyPlace>,
}

impl Keys {
    /// The name of a task's key; `None` for a task without one.
    pub fn name(spec: &TaskSpec) -> Option<KeyName> {
        let key = spec.idempotency_key.clone()?;
        Some(KeyName { namespace: spec.namespace.clone(), key })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Gives the task's key to it: an expired one may have belonged to another before.
    pub fn give(&mut self, spec: &TaskSpec, id: TaskId, at: Wall) {
        let Some(name) = Self::name(spec).map(Arc::new) else { return };
        let ttl_ms = spec.idempotency_ttl.map_or(limits::IDEMPOTENCY_TTL_MS, |ttl| ttl.0);
        let expires = Wall(at.0.saturating_add(ttl_ms));
        let written = spec.durability != Durability::Memory;
        self.put(name, KeyEntry { id, digest: digest(spec), expires, written });
    }

    /// Puts a key that was carried forward where it stood.
    pub fn put(&mut self, name: Arc<KeyName>, entry: KeyEntry) {
        if let Some(earlier) = self.entries.insert(name.clone(), entry) {
            self.by_expiry.remove(&(earlier.expires, name.clone()));
        }
        self.by_expiry.insert((entry.expires, name));
    }

    /// Keys in the order of their expiry, behind the one that stood at `after`.
    pub fn after(&self, after: Option<&KeyPlace>) -> impl Iterator<Item = (&KeyPlace, KeyEntry)> {
        let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let places = self.by_expiry.range::<KeyPlace, _>((from, std::ops::Bound::Unbounded));
        places.filter_map(|place| Some((place, self.find_even_expired(&place.1)?)))
    }

    /// Whose a key is at a time of the home's wall clock.
    pub fn find(&self, name: &KeyName, now: Wall) -> Option<KeyEntry> {
        self.find_even_expired(name).filter(|entry| entry.expires > now)
    }

    pub fn find_even_expired(&self, name: &KeyName) -> Option<KeyEntry> {
        self.entries.get(name).copied()
    }

    pub fn first_expiry(&self) -> Option<Wall> {
        self.by_expiry.first().map(|(expires, _)| *expires)
    }

    pub fn forget(&mut self, before: Wall) {
        while self.by_expiry.first().is_some_and(|(expires, _)| *expires <= before)
            && let Some((_, name)) = self.by_expiry.pop_first()
        {
            self.entries.remove(&name);
        }
    }
}

/// The same for the same specification in every version that writes a new optional field only where it is given.
fn digest(spec: &TaskSpec) -> [u8; 32] {
    let bytes = rmp_serde::to_vec_named(spec).expect("a specification has only string keys and plain values");
    Sha256::digest(bytes).into()
}

impl Ledger {
    /// Whose a key is now. While the wall clock cannot be believed no key expires.
    pub(super) fn owner_of_key(&self, name: &KeyName) -> Option<KeyEntry> {
        match self.clock_watch.is_raised() {
            true => self.state.keys.find_even_expired(name),
            false => self.state.keys.find(name, Wall(self.now.wall_ms)),
        }
    }

    /// Forgets keys that expired a while ago, now and then: until then a replayed submission still finds its own.
    pub(super) fn forget_keys(&mut self) {
        if self.clock_watch.is_raised() {
            return;
        }
        let before = Wall(self.now.wall_ms.saturating_sub(limits::OPERATION_TTL_MS));
        let due = self.state.keys.first_expiry().is_some_and(|first| first <= before);
        if due && self.now.mono_ms >= self.keys_forgotten_ms + limits::KEYS_FORGET_EVERY_MS {
            self.keys_forgotten_ms = self.now.mono_ms;
            let at = self.at();
            self.commit(Durability::Async, Record::KeysForgotten { at, before });
        }
    }
}
