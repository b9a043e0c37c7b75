//! Contexts: named values that an agent leaves for its next session, in the ledger, until their time is over.
//!
//! Each has an id of this home, so that any node finds it, and belongs to who began it: to all others there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::effects::{Gate, ReplyTo};
use super::ledger::Ledger;
use super::operations::Done;
use super::protocol::{LedgerReply, Refusal};
use super::record::Record;
use super::submit::reused;
use crate::ids::{ContextId, OperationId, TaskId};
use crate::limits;
use crate::payload::JsonText;
use crate::task::Durability;
use crate::time::Wall;

/// In the name of a principal, as whoever asks for it says: a node for its clients, and for those of its peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextRequest {
    Get {
        id: ContextId,
        principal: String,
    },
    /// Sets and takes out values, and lets all of them last for `ttl_ms` from now; with 0 they end. Without an id it
    /// begins a context.
    Update {
        operation: OperationId,
        id: Option<ContextId>,
        principal: String,
        set: BTreeMap<String, JsonText>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        remove: Vec<String>,
        ttl_ms: u64,
    },
}

impl ContextRequest {
    /// The context that it is about.
    pub fn subject(&self) -> Option<ContextId> {
        match self {
            Self::Get { id, .. } => Some(*id),
            Self::Update { id, .. } => *id,
        }
    }

    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        match self {
            Self::Get { .. } => false,
            Self::Update { .. } => true,
        }
    }
}

/// A context as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextView {
    pub id: ContextId,
    pub values: BTreeMap<String, JsonText>,
    pub updated: Wall,
    pub expires: Wall,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Context {
    principal: Arc<str>,
    values: BTreeMap<String, JsonText>,
    updated: Wall,
    expires: Wall,
}

impl Context {
    /// Bytes in memory, more or less.
    fn bytes(&self) -> usize {
        bytes_of(&self.values) + limits::CONTEXT_OWN_BYTES
    }
}

fn bytes_of(values: &BTreeMap<String, JsonText>) -> usize {
    values.iter().map(|(name, value)| name.len() + value.as_str().len()).sum()
}

/// Those of one home.
#[derive(Debug, Clone, Default)]
pub(super) struct Contexts {
    by_id: BTreeMap<ContextId, Context>,
    by_expiry: BTreeSet<(Wall, ContextId)>,
    bytes: usize,
}

/// What an update does to a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextUpdate {
    pub context: ContextId,
    pub principal: Arc<str>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, JsonText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    pub expires: Wall,
}

/// What is written of contexts. Who reads the events of a home learns of none: its id is all that it takes to ask for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextRecord {
    Updated {
        at: Wall,
        operation: OperationId,
        update: Box<ContextUpdate>,
    },
    /// Those whose time was over before this are not kept any more.
    Forgotten {
        at: Wall,
        before: Wall,
    },
}

impl ContextRecord {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Updated { .. } => "context_updated",
            Self::Forgotten { .. } => "contexts_forgotten",
        }
    }

    pub fn at(&self) -> Wall {
        match self {
            Self::Updated { at, .. } | Self::Forgotten { at, .. } => *at,
        }
    }
}

impl Contexts {
    pub fn of(all: &[(ContextId, Context)]) -> Self {
        let mut contexts = Self::default();
        all.iter().for_each(|(id, context)| contexts.put(*id, context.clone()));
        contexts
    }

    /// All of them, for a checkpoint.
    pub fn images(&self) -> Vec<(ContextId, Context)> {
        self.by_id.iter().map(|(id, context)| (*id, context.clone())).collect()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn first_expiry(&self) -> Option<Wall> {
        self.by_expiry.first().map(|(expires, _)| *expires)
    }

    /// One that its principal has at a time of the home's wall clock.
    fn find(&self, id: ContextId, principal: &str, now: Wall) -> Option<&Context> {
        let known = self.by_id.get(&id)?;
        (*known.principal == *principal && known.expires > now).then_some(known)
    }

    fn put(&mut self, id: ContextId, context: Context) {
        self.take(id);
        self.bytes += context.bytes();
        self.by_expiry.insert((context.expires, id));
        self.by_id.insert(id, context);
    }

    fn take(&mut self, id: ContextId) -> Option<Context> {
        let known = self.by_id.remove(&id)?;
        self.by_expiry.remove(&(known.expires, id));
        self.bytes -= known.bytes();
        Some(known)
    }

    pub fn apply(&mut self, record: &ContextRecord) {
        match record {
            ContextRecord::Updated { at, update, .. } => self.update(*at, update),
            ContextRecord::Forgotten { before, .. } => self.forget(*before),
        }
    }

    fn update(&mut self, at: Wall, update: &ContextUpdate) {
        let ContextUpdate { context, principal, set, removed, expires } = update;
        let mut values = self.take(*context).map(|known| known.values).unwrap_or_default();
        values.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
        removed.iter().for_each(|name| drop(values.remove(name)));
        if *expires > at {
            let principal = principal.clone();
            self.put(*context, Context { principal, values, updated: at, expires: *expires });
        }
    }

    fn forget(&mut self, before: Wall) {
        while let Some((_, id)) = self.by_expiry.first().filter(|(expires, _)| *expires <= before).copied() {
            self.take(id);
        }
    }
}

impl Ledger {
    pub(super) fn context_request(&mut self, request: ContextRequest, reply: ReplyTo) {
        match request {
            ContextRequest::Get { id, principal } => self.answer_context(self.gate_of_all(), id, &principal, reply),
            ContextRequest::Update { operation, id, principal, set, remove, ttl_ms } => {
                match self.operations.find(&operation) {
                    Some(Done::ContextUpdated { context }) => {
                        return self.answer_updated(self.gate_of_all(), context, &principal, reply);
                    }
                    Some(_) => return self.refuse(reply, reused(operation)),
                    None => {}
                }
                self.forget_contexts();
                let at = self.at();
                let context = id.unwrap_or_else(|| TaskId::derive(self.state.tag, at.0, operation, 0));
                let expires = Wall(at.0.saturating_add(ttl_ms.min(limits::CONTEXT_TTL_MS_MAX)));
                let update = ContextUpdate { context, principal: principal.into(), set, removed: remove, expires };
                if let Err(refusal) = self.check_context(id, &update) {
                    return self.refuse(reply, refusal);
                }
                let principal = update.principal.clone();
                let record = Record::Context(ContextRecord::Updated { at, operation, update: Box::new(update) });
                self.operations.remember(&record);
                let index = self.commit(Durability::Sync, record);
                self.answer_updated(Gate::Synced(index), context, &principal, reply);
            }
        }
    }

    /// While the wall clock cannot be believed no context expires.
    fn context(&self, id: ContextId, principal: &str) -> Option<&Context> {
        let now = if self.clock_watch.is_raised() { Wall(0) } else { Wall(self.now.wall_ms) };
        self.state.contexts.find(id, principal, now)
    }

    fn answer_context(&mut self, gate: Gate, id: ContextId, principal: &str, reply: ReplyTo) {
        let view = self.context(id, principal).map(|known| ContextView {
            id,
            values: known.values.clone(),
            updated: known.updated,
            expires: known.expires,
        });
        let answer = match view {
            Some(view) => LedgerReply::Context(Box::new(view)),
            None => LedgerReply::Refused(Refusal::NotFound { id }),
        };
        self.reply(gate, reply, answer);
    }

    /// One that ended with its update has no values any more.
    fn answer_updated(&mut self, gate: Gate, id: ContextId, principal: &str, reply: ReplyTo) {
        if self.context(id, principal).is_some() {
            return self.answer_context(gate, id, principal, reply);
        }
        let at = self.state.last_at;
        let ended = ContextView { id, values: BTreeMap::new(), updated: at, expires: at };
        self.reply(gate, reply, LedgerReply::Context(Box::new(ended)));
    }

    /// Whether the update is within its bounds, and of a context that its principal has.
    fn check_context(&self, id: Option<ContextId>, update: &ContextUpdate) -> Result<(), Refusal> {
        let ContextUpdate { principal, set, removed, .. } = update;
        let known = match id {
            Some(id) => Some(self.context(id, principal).ok_or(Refusal::NotFound { id })?),
            None => None,
        };
        let wrong = |name: &&String| name.is_empty() || name.len() > limits::NAME_BYTES_MAX;
        if set.keys().chain(removed).any(|name| wrong(&name)) || principal.len() > limits::NAME_BYTES_MAX {
            let fix = format!("write 1 to {} bytes", limits::NAME_BYTES_MAX);
            return Err(Refusal::invalid("/set", "a name is empty or too long", fix));
        }
        let mut values = known.map(|known| known.values.clone()).unwrap_or_default();
        values.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
        removed.iter().for_each(|name| drop(values.remove(name)));
        let (len, bytes) = (values.len(), bytes_of(&values));
        if len > limits::CONTEXT_LEN_MAX || bytes > limits::CONTEXT_BYTES_MAX {
            let problem = format!("the context would have {len} values of {bytes} bytes");
            let (len_max, bytes_max) = (limits::CONTEXT_LEN_MAX, limits::CONTEXT_BYTES_MAX);
            let fix = format!("keep at most {len_max} of {bytes_max} bytes: put more into a blob and keep its cid");
            return Err(Refusal::invalid("/set", problem, fix));
        }
        let contexts = &self.state.contexts;
        let others = contexts.bytes() - known.map_or(0, Context::bytes);
        let is_new = known.is_none();
        if (is_new && contexts.len() >= limits::CONTEXTS_MAX)
            || others + bytes + limits::CONTEXT_OWN_BYTES > limits::CONTEXTS_BYTES_MAX
        {
            return Err(self.too_many_contexts());
        }
        Ok(())
    }

    /// Forgets those whose time is over.
    pub(super) fn forget_contexts(&mut self) {
        let before = Wall(self.now.wall_ms);
        if self.clock_watch.is_raised() || self.state.contexts.first_expiry().is_none_or(|first| first > before) {
            return;
        }
        let at = self.at();
        self.commit(Durability::Async, Record::Context(ContextRecord::Forgotten { at, before }));
    }
}
