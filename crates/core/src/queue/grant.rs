//! Who runs what: heap heads meet credits.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use sha2::{Digest, Sha256};

use super::effects::Effect;
use super::ledger::Ledger;
use super::protocol::WorkerNotice;
use super::record::{GrantRecord, Record};
use crate::heap::aging::AgingKey;
use crate::ids::{Epoch, LeaseToken, PeerId, TaskId};
use crate::lease::{Fence, Grant};
use crate::limits;
use crate::payload::Payload;
use crate::placement;
use crate::task::{Durability, SlotPool, TaskSpec};

/// Whom a heap's head goes to.
enum Choice {
    Grant(PeerId),
    /// Its preferred peer may still offer a credit until this time.
    WaitUntil(u64),
    /// Those who have a credit gave it back not long ago: others behind it may go to them.
    PassOver,
    /// Nobody who fits has a credit.
    Nobody,
}

/// Heads that one round passes over.
const PASSED_OVER_MAX: usize = 64;

/// What each worker may still get in this round: its credit, and half of what it could steal.
type Allowance = BTreeMap<(PeerId, SlotPool), usize>;

impl Ledger {
    /// Grants what credits and ready tasks allow, in queue order.
    pub(super) fn pump(&mut self) {
        self.grants_due = false;
        self.preference_due_ms = None;
        let mut allowance = self.allowances();
        if allowance.is_empty() {
            return;
        }
        let mut heads: BinaryHeap<Reverse<(AgingKey, usize)>> = BinaryHeap::new();
        for (place, queue) in self.ready.busy() {
            if let Some((key, _)) = queue.heap.peek() {
                heads.push(Reverse((*key, place)));
            }
        }
        let mut granted: Vec<GrantRecord> = Vec::new();
        let mut passed_over: Vec<TaskId> = Vec::new();
        while let Some(Reverse((_, place))) = heads.pop() {
            let Some((_, task)) = self.ready.queues[place].heap.peek() else { continue };
            let task = *task;
            match self.choose(place, task, &allowance) {
                Choice::Nobody => continue,
                Choice::WaitUntil(due) => {
                    self.preference_due_ms = Some(self.preference_due_ms.map_or(due, |earlier| earlier.min(due)));
                    continue;
                }
                Choice::PassOver if passed_over.len() >= PASSED_OVER_MAX => continue,
                Choice::PassOver => {
                    passed_over.push(task);
                    self.leave_heap(task);
                }
                Choice::Grant(worker) => granted.push(self.take_head(place, task, worker, &mut allowance)),
            }
            if let Some((key, _)) = self.ready.queues[place].heap.peek() {
                heads.push(Reverse((*key, place)));
            }
        }
        for task in passed_over {
            if let Some(task) = self.state.tasks.get_mut(&task) {
                self.ready.insert(task, self.workers.alive());
            }
        }
        self.leave_rest(&allowance);
        self.send_grants(granted);
    }

    /// A credit is answered with one share: the rest stays for others, not for the next look at the same credit.
    fn leave_rest(&mut self, allowance: &Allowance) {
        let now_ms = self.now.mono_ms;
        for ((peer, pool), _) in allowance.iter().filter(|((peer, _), left)| **left == 0 && *peer != self.identity.home)
        {
            let rest = self.ready.eligible_for(peer, *pool);
            if let Some(entry) = self.workers.entries.get_mut(peer) {
                entry.leave(now_ms, *pool, rest);
            }
        }
    }

    pub(super) fn leave_heap(&mut self, id: TaskId) {
        if let Some(task) = self.state.tasks.get_mut(&id) {
            self.ready.remove(task);
        }
    }

    fn allowances(&self) -> Allowance {
        let mut allowance = Allowance::new();
        for (peer, entry) in &self.workers.entries {
            for pool in [SlotPool::Cpu, SlotPool::Device] {
                let credit = entry.available(self.now.mono_ms, pool) as usize;
                if credit == 0 || !entry.alive {
                    continue;
                }
                let eligible = self.ready.eligible_for(peer, pool);
                let share = if *peer == self.identity.home {
                    credit.min(eligible)
                } else {
                    placement::steal_share(entry.up_for_stealing(self.now.mono_ms, pool, eligible), credit)
                };
                if share > 0 {
                    allowance.insert((*peer, pool), share);
                }
            }
        }
        allowance
    }

    fn choose(&self, place: usize, id: TaskId, allowance: &Allowance) -> Choice {
        let now_ms = self.now.mono_ms;
        let queue = &self.ready.queues[place];
        let task = &self.state.tasks[&id];
        let skipped = |peer: &PeerId| task.soft.skip.get(peer).is_some_and(|(until, _)| *until > now_ms);
        let fitting = || queue.fitting.iter().filter(|(peer, _)| !skipped(peer));
        let has_credit = |peer: &PeerId| allowance.get(&(*peer, queue.pool())).is_some_and(|left| *left > 0);
        if !queue.fitting.keys().any(has_credit) {
            return Choice::Nobody;
        }
        let target = placement::Target::of(&task.clock_root.0, &id.hash());
        let Some(anyone) = target.nearest(fitting().filter(|(peer, _)| has_credit(peer))) else {
            return Choice::PassOver;
        };
        let waits_until = task.soft.ready_since_ms + limits::PREFERENCE_WAIT_MS;
        if now_ms >= waits_until || target.nearest(fitting()) == Some(anyone) {
            return Choice::Grant(anyone);
        }
        Choice::WaitUntil(waits_until)
    }

    fn take_head(&mut self, place: usize, id: TaskId, worker: PeerId, allowance: &mut Allowance) -> GrantRecord {
        let pool = self.ready.queues[place].pool();
        if let Some(left) = allowance.get_mut(&(worker, pool)) {
            *left -= 1;
        }
        if let Some(entry) = self.workers.entries.get_mut(&worker) {
            entry.use_one(pool);
        }
        self.leave_heap(id);
        self.grants += 1;
        let epoch = Epoch::new(self.state.generation, self.grants);
        let token = LeaseToken(first_half(derive_bytes(self.identity.secret, Fence { task: id, epoch })));
        GrantRecord { task: id, epoch, token, worker }
    }

    fn send_grants(&mut self, granted: Vec<GrantRecord>) {
        if granted.is_empty() {
            return;
        }
        let at = self.at();
        let records = granted.clone();
        self.commit_by_class(records, |grant: &GrantRecord| grant.task, |grants| Record::Granted { at, grants });
        let mut messages: BTreeMap<(PeerId, Durability), Vec<Grant>> = BTreeMap::new();
        for record in granted {
            let task = &self.state.tasks[&record.task];
            let Some(offer) = self.workers.entries.get(&record.worker).and_then(|entry| entry.offer) else { continue };
            messages.entry((record.worker, task.durability())).or_default().push(Grant {
                fence: task.fence(),
                token: record.token,
                credit: offer.name,
                ttl_ms: limits::LEASE_TTL_MS,
                attempt: task.attempts + 1,
                spec: task.spec.clone(),
                checkpoint: task.checkpoint().cloned(),
            });
        }
        for ((worker, durability), grants) in messages {
            let mut grants = grants.into_iter().peekable();
            while grants.peek().is_some() {
                let message = next_message(&mut grants);
                let tasks = message.iter().filter_map(|grant| self.state.tasks.get(&grant.fence.task));
                let index = tasks.map(|task| task.index).max().unwrap_or_default();
                let notice = WorkerNotice::Grants(message);
                self.outbox.push(self.early_gate(durability, index), Effect::Notify { worker, notice });
            }
        }
    }
}

/// As many grants as one message may carry, in their order.
fn next_message(grants: &mut std::iter::Peekable<impl Iterator<Item = Grant>>) -> Vec<Grant> {
    let (mut message, mut bytes) = (Vec::new(), 0);
    while message.len() < limits::BATCH_LEN_MAX
        && bytes < limits::BATCH_BYTES_MAX
        && let Some(grant) = grants.next()
    {
        bytes += spec_bytes(&grant.spec) + grant.checkpoint.as_ref().map_or(0, |text| text.as_str().len());
        message.push(grant);
    }
    message
}

/// What a specification takes in a message, more or less: its values, and a little for the rest.
fn spec_bytes(spec: &TaskSpec) -> usize {
    let values = spec.needs.values().chain([&spec.input]).map(Payload::inline_bytes).sum::<usize>();
    512 + values + spec.run.iter().map(String::len).sum::<usize>()
}

/// Bytes that nobody outside this process can guess, the same for the same fence.
pub(super) fn derive_bytes(secret: [u8; 32], fence: Fence) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(secret);
    hash.update(fence.task.ulid.to_be_bytes());
    hash.update(fence.task.ledger.0);
    hash.update(fence.epoch.0.to_be_bytes());
    hash.finalize().into()
}

fn first_half(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    half
}
