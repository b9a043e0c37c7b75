//! Who runs what: heap heads meet credits.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::effects::Effect;
use super::heads::Heads;
use super::ledger::Ledger;
use super::protocol::WorkerNotice;
use super::ready::ShapeQueue;
use super::record::{GrantRecord, Record};
use super::room::{Loads, Share};
use super::task_entry::Task;
use crate::ids::{Epoch, LeaseToken, PeerId, TaskId};
use crate::lease::{Fence, Grant};
use crate::limits;
use crate::payload::Payload;
use crate::placement::{self, Beacon};
use crate::task::{Durability, SlotPool, TaskSpec};

/// Whom a heap's head goes to.
enum Choice {
    Grant(PeerId),
    /// Its preferred peer may still offer a credit until this time.
    WaitUntil(u64),
    /// Those who have a credit gave it back not long ago: others behind it may go to them.
    PassOver,
    /// Nobody who fits has a credit, or a key of these tasks is used up.
    Nobody,
}

/// Heads that one round passes over.
const PASSED_OVER_MAX: usize = 64;

/// What each worker may still get in this round.
type Allowance = BTreeMap<(PeerId, SlotPool), Left>;

struct Left {
    /// Of its credit, or of half of what it could steal.
    grants: usize,
    /// All its slots, if it said.
    slots: Option<u32>,
}

impl Ledger {
    /// Grants what credits and ready tasks allow: to namespaces by their shares, within one in queue order.
    pub(super) fn pump(&mut self) {
        self.grants_due = false;
        self.preference_due_ms = None;
        // A grant that cannot leave only takes its task from others.
        if self.disk.refuses() {
            return;
        }
        let mut allowance = self.allowances();
        if allowance.is_empty() {
            return;
        }
        let mut heads = Heads::of(&self.ready, &mut self.fairness, |place, queue| {
            has_taker(&self.loads, self.ready.run_us(Some(place)), queue, &allowance)
        });
        let mut granted: Vec<GrantRecord> = Vec::new();
        let mut passed_over: Vec<TaskId> = Vec::new();
        let mut to_grant: usize = allowance.values().map(|left| left.grants).sum();
        // Once nobody gets anything more, the other heads need no look.
        while to_grant > 0
            && let Some(head) = heads.take()
        {
            let place = head.place;
            let Some((_, task)) = self.ready.queues[place].heap.peek() else { continue };
            let task = *task;
            let goes_on = match self.choose(place, task, &allowance) {
                Choice::Nobody => false,
                Choice::WaitUntil(due) => {
                    self.preference_due_ms = Some(self.preference_due_ms.map_or(due, |earlier| earlier.min(due)));
                    false
                }
                Choice::PassOver if passed_over.len() >= PASSED_OVER_MAX => false,
                Choice::PassOver => {
                    passed_over.push(task);
                    self.leave_heap(task);
                    true
                }
                Choice::Grant(worker) => {
                    granted.push(self.take_head(place, task, worker, &mut allowance));
                    to_grant -= 1;
                    self.fairness.charge(heads.namespace(&head), &self.settings);
                    true
                }
            };
            heads.put_back(&head, goes_on, &self.ready, &self.fairness, |place, queue| {
                has_taker(&self.loads, self.ready.run_us(Some(place)), queue, &allowance)
            });
        }
        for task in passed_over {
            if let Some(task) = self.state.tasks.get_mut(&task) {
                self.ready.insert(task, self.workers.alive());
            }
        }
        self.send_grants(granted);
    }

    pub(super) fn leave_heap(&mut self, id: TaskId) {
        if let Some(task) = self.state.tasks.get_mut(&id) {
            self.ready.remove(task);
        }
    }

    fn allowances(&mut self) -> Allowance {
        let mut allowance = Allowance::new();
        let (now_ms, home) = (self.now.mono_ms, self.identity.home);
        for pool in [SlotPool::Cpu, SlotPool::Device] {
            // Who works alone for this home leaves nothing to others.
            let alone = self.workers.entries.values().filter(|entry| entry.works(now_ms, pool)).take(2).count() < 2;
            for (peer, entry) in &mut self.workers.entries {
                let credit = entry.available(now_ms, pool) as usize;
                if credit == 0 || !entry.alive {
                    continue;
                }
                let share = if alone || *peer == home {
                    self.ready.eligible_for(peer, pool).min(credit)
                } else {
                    entry.share(now_ms, pool, self.ready.eligible_for(peer, pool)).min(credit)
                };
                let slots = entry.offer.and_then(|offer| offer.slots).map(|slots| slots[pool]);
                if share > 0 {
                    allowance.insert((*peer, pool), Left { grants: share, slots });
                }
            }
        }
        allowance
    }

    fn choose(&self, place: usize, id: TaskId, allowance: &Allowance) -> Choice {
        let now_ms = self.now.mono_ms;
        let (queue, run_us) = (&self.ready.queues[place], self.ready.run_us(Some(place)));
        if queue.closed || !self.has_permits(place) || !has_taker(&self.loads, run_us, queue, allowance) {
            return Choice::Nobody;
        }
        let task = &self.state.tasks[&id];
        let skipped = |peer: &PeerId| task.soft.skip.get(peer).is_some_and(|(until, _)| *until > now_ms);
        let stays = self.stays_home(place, task);
        let at_home = |peer: &PeerId| !stays || *peer == self.identity.home;
        let fitting = || queue.fitting.iter().filter(|(peer, _)| !skipped(peer) && at_home(peer));
        let takers = takers(&self.loads, run_us, queue, allowance).filter(|(peer, _)| !skipped(peer) && at_home(peer));
        let target = placement::Target::of(&task.clock_root.0, &id.hash());
        let Some(anyone) = target.nearest(takers) else {
            return Choice::PassOver;
        };
        let waits_until = task.soft.ready_since_ms + limits::PREFERENCE_WAIT_MS;
        if now_ms >= waits_until || target.nearest(fitting()) == Some(anyone) {
            return Choice::Grant(anyone);
        }
        Choice::WaitUntil(waits_until)
    }

    /// Whether bringing what the task needs to another node takes longer than its wait here. A task that stood beside
    /// an idle node for a second goes there, whatever it brings.
    fn stays_home(&self, place: usize, task: &Task) -> bool {
        let bytes = task.spec.blob_bytes();
        let (queue, home) = (&self.ready.queues[place], self.identity.home);
        let idle_beside = self.now.mono_ms >= task.soft.ready_since_ms + limits::IDLE_BESIDE_MS_MAX;
        if bytes == 0 || idle_beside || !queue.fitting.contains_key(&home) {
            return false;
        }
        let Some(offer) = self.workers.entries.get(&home).and_then(|entry| entry.offer) else { return false };
        let slots = offer.slots.unwrap_or(offer.free)[queue.pool()];
        let backlog = self.ready.eligible_for(&home, queue.pool()) as u64;
        placement::transfer_us(bytes) > placement::home_wait_us(backlog, self.ready.run_us(Some(place)), slots)
    }

    fn take_head(&mut self, place: usize, id: TaskId, worker: PeerId, allowance: &mut Allowance) -> GrantRecord {
        let pool = self.ready.queues[place].pool();
        if let Some(left) = allowance.get_mut(&(worker, pool)) {
            left.grants -= 1;
        }
        if let Some(entry) = self.workers.entries.get_mut(&worker) {
            entry.use_one(pool);
        }
        self.leave_heap(id);
        let share = Share::new(worker, pool, self.ready.run_us(Some(place)));
        if let Some(task) = self.state.tasks.get_mut(&id) {
            self.loads.set(task, Some(share));
        }
        self.grants += 1;
        let epoch = Epoch::new(self.state.generation, self.grants);
        let token = grant_token(self.identity.secret, Fence { task: id, epoch });
        GrantRecord { task: id, epoch, token, worker, rate_mark: self.take_limits(id) }
    }

    fn send_grants(&mut self, granted: Vec<GrantRecord>) {
        if granted.is_empty() {
            return;
        }
        let at = self.at();
        let records = granted.clone();
        self.commit_by_class(records, |grant: &GrantRecord| grant.task, |grants| Record::Granted { at, grants });
        self.limits.end_round();
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
                spec: task.whole_spec(),
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

/// Those whom `queue`'s tasks fit and who may still get one, with room for it.
fn takers<'a>(
    loads: &'a Loads,
    run_us: u64,
    queue: &'a ShapeQueue,
    allowance: &'a Allowance,
) -> impl Iterator<Item = (&'a PeerId, &'a Beacon)> {
    let pool = queue.pool();
    let takes = move |(peer, of): &(PeerId, SlotPool), left: &Left| {
        *of == pool && left.grants > 0 && left.slots.is_none_or(|slots| loads.has_room(*peer, pool, slots, run_us))
    };
    allowance
        .iter()
        .filter(move |(who, left)| takes(who, left))
        .filter_map(|((peer, _), _)| queue.fitting.get_key_value(peer))
}

fn has_taker(loads: &Loads, run_us: u64, queue: &ShapeQueue, allowance: &Allowance) -> bool {
    takers(loads, run_us, queue, allowance).next().is_some()
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

/// The lease token of a grant.
pub(super) fn grant_token(secret: [u8; 32], fence: Fence) -> LeaseToken {
    LeaseToken(first_half(derive_bytes(secret, fence)))
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

/// As [`derive_bytes`], for what is no fence.
pub(super) fn derive_token(secret: [u8; 32], named: &[u8]) -> [u8; 16] {
    first_half(Sha256::new_with_prefix(secret).chain_update(named).finalize().into())
}

fn first_half(bytes: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&bytes[..16]);
    half
}
