//! Workers that are no nodes, as agents are: they ask for a task, hold on to it themselves and report. They forget what
//! they had, ask again when an answer is lost, and some are never heard of again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use magpie_core::ids::{Epoch, LeaseToken, TaskId};
use magpie_core::lease::{Fence, RenewAnswer};
use magpie_core::limits;
use magpie_core::matching::Capabilities;
use magpie_core::payload::JsonText;
use magpie_core::progress::AttemptNews;
use magpie_core::queue::{Hold, LedgerReply, LedgerRequest, OutsideReply, OutsideRequest, Refusal, Taken};
use magpie_core::task::{Durability, Outcome, TaskKind, TaskSpec};

use crate::checkers::leases::LiveLease;
use crate::network::{Endpoint, Message};
use crate::rng::Rng;
use crate::settings::AGENTS_KIND;
use crate::worker_shell::{failed, succeeded};
use crate::world::{Happening, World};

const CALL_TIMEOUT_MS: u64 = 2_500;
const BUSY_MS_MAX: u64 = 25_000;
/// What an agent counts on of a lease, from when it asked: its home's clock may run 5 % fast.
const COUNTED_ON_PERCENT: u64 = 95;
/// All agents are callers of this name: they differ by their own.
pub const OWNER: &str = "client";
/// How much longer than its lease a task may be gone that nobody holds.
const SLOW_CLOCK_MS: u64 = limits::OUTSIDE_LEASE_TTL_MS / 10;

/// One that a home says it has.
#[derive(Debug, Clone)]
struct Held {
    home: usize,
    fence: Fence,
    token: LeaseToken,
    attempt: u32,
    spec: Arc<TaskSpec>,
    /// What it came to, once that is known: said again as it was.
    outcome: Option<Outcome>,
}

#[derive(Debug, Clone)]
struct Pending {
    asked_ms: u64,
    home: usize,
    /// The attempt whose end it says.
    ends: Option<Fence>,
}

pub struct Agent {
    endpoint: Endpoint,
    name: String,
    rng: Rng,
    /// How many it registers for; 1: it does not register.
    held_max: u32,
    /// It forgets, or dies: what it had waits for its lease.
    reliable: bool,
    gone: bool,
    held: BTreeMap<TaskId, Held>,
    /// What it took last, if a record tells of it. This it remembers when it forgets what it has.
    last: Option<Held>,
    /// Ended, or told to be over: an answer that was overtaken does not begin it again.
    over: BTreeSet<Fence>,
    calls: BTreeMap<u64, Pending>,
    next_call: u64,
}

impl Agent {
    pub fn new(endpoint: Endpoint, n: usize, rng: &mut Rng) -> Self {
        let mut rng = rng.split();
        // What only agents run ends if there is one on which it can rely.
        let reliable = n == 0 || rng.chance(600);
        Self {
            endpoint,
            name: format!("agent-{n}"),
            held_max: if reliable { 1 } else { rng.between(1, 3) as u32 },
            rng,
            reliable,
            gone: false,
            held: BTreeMap::new(),
            last: None,
            over: BTreeSet::new(),
            calls: BTreeMap::new(),
            next_call: 0,
        }
    }

    /// How much longer than others' its work may take after the faults: a lease that nobody knows of has to end.
    pub fn holds_up_ms(&self) -> u64 {
        if self.reliable { 0 } else { limits::OUTSIDE_LEASE_TTL_MS + SLOW_CLOCK_MS }
    }

    /// What to do next, and where.
    fn next_request(&mut self, calm: bool, nodes: usize) -> Option<(usize, OutsideRequest)> {
        let worker = self.name.clone();
        let (home, draw) = (self.rng.below(nodes as u64) as usize, self.rng.below(12));
        let held: Vec<Held> = self.held.values().cloned().collect();
        match (draw, self.rng.pick(&held).cloned()) {
            (0..=4, Some(held)) => Some((held.home, self.end(held, calm))),
            (5..=7, Some(held)) => {
                let news = self.rng.chance(300).then(|| self.news());
                let hold = Hold { task: held.fence.task, lease: shown(&held), news };
                let holds = if self.rng.chance(200) { Vec::new() } else { vec![hold] };
                Some((held.home, OutsideRequest::Keep { worker, holds }))
            }
            (8, _) if self.held_max > 1 => {
                Some((home, OutsideRequest::Register { worker, offers: offers(), held_max: self.held_max }))
            }
            (9, _) if self.held_max > 1 && self.rng.chance(300) => Some((home, OutsideRequest::Unregister { worker })),
            // By its name alone, of what it may have no more.
            (10, _) if self.last.as_ref().is_some_and(|last| !self.held.contains_key(&last.fence.task)) => {
                let last = self.last.clone()?;
                let (task, outcome) = (last.fence.task, Box::new(succeeded(last.fence, &last.spec)));
                Some((last.home, OutsideRequest::End { worker, task, lease: None, outcome }))
            }
            (_, held) if held.is_none() || self.held_max > 1 => {
                let bare = self.held_max > 1 && self.rng.chance(500);
                Some((home, OutsideRequest::Take { worker, offers: (!bare).then(offers), namespace: None }))
            }
            _ => None,
        }
    }

    fn news(&mut self) -> Box<AttemptNews> {
        let checkpoint = Some(JsonText::of(&serde_json::Value::from(self.rng.below(1_000))));
        Box::new(AttemptNews { checkpoint, ..AttemptNews::default() })
    }

    fn end(&mut self, held: Held, calm: bool) -> OutsideRequest {
        let drawn = self.rng.below(if calm { 40 } else { 8 });
        let outcome = held.outcome.clone().unwrap_or_else(|| match drawn {
            0 => failed("drawn", true),
            1 => failed("drawn", false),
            _ => succeeded(held.fence, &held.spec),
        });
        let (task, lease) = (held.fence.task, shown(&held));
        self.held.insert(task, Held { outcome: Some(outcome.clone()), ..held });
        OutsideRequest::End { worker: self.name.clone(), task, lease, outcome: Box::new(outcome) }
    }

    fn forget_all(&mut self) {
        self.held.clear();
        self.calls.clear();
        self.over.clear();
    }
}

/// What nodes run, too: they are faster.
fn offers() -> Box<Capabilities> {
    Box::new(Capabilities { kinds: [AGENTS_KIND, TaskKind::Noop].into(), ..Capabilities::default() })
}

/// Half of those that need not show their lease do not, and the same ones each time.
fn shown(held: &Held) -> Option<(Epoch, LeaseToken)> {
    let may_not = held.attempt == 1 && held.spec.durability != Durability::Memory;
    let bare = may_not && held.fence.epoch.0.is_multiple_of(2);
    (!bare).then_some((held.fence.epoch, held.token))
}

impl World {
    pub fn agent_acts(&mut self, agent: usize) {
        let (calm, nodes) = (self.calm, self.nodes.len());
        let state = &mut self.agents[agent];
        let stumbles = !calm && !state.reliable && state.rng.chance(30);
        if stumbles {
            state.forget_all();
            state.gone = state.rng.chance(300);
            let (endpoint, gone) = (state.endpoint, state.gone);
            self.trace.note(self.now_ms, "agent", &[agent as u64, u64::from(gone)], || {
                format!("agent {agent} {}", if gone { "is gone" } else { "forgets what it has" })
            });
            self.leases.end_all_of(endpoint);
        }
        let state = &mut self.agents[agent];
        if state.gone {
            return;
        }
        let next = state.next_request(calm, nodes);
        // Now and then it is busy with what it has for longer than a node's lease lasts.
        let busy = !calm && !state.held.is_empty() && state.rng.chance(50);
        let longest_ms = if busy { BUSY_MS_MAX } else { 800 };
        let wait_ms = state.rng.between(5, if calm { 50 } else { longest_ms });
        self.after(wait_ms, Happening::AgentActs { agent });
        if let Some((home, request)) = next {
            self.agent_calls(agent, home, request);
        }
    }

    fn agent_calls(&mut self, agent: usize, home: usize, request: OutsideRequest) {
        let state = &mut self.agents[agent];
        let ends = match &request {
            OutsideRequest::End { task, .. } => state.held.get(task).map(|held| held.fence),
            _ => None,
        };
        // It says how an attempt ended when it has: nothing of it runs any more.
        ends.into_iter().for_each(|fence| self.leases.end(fence));
        state.next_call += 1;
        let (call, from) = (state.next_call, state.endpoint);
        state.calls.insert(call, Pending { asked_ms: self.now_ms, home, ends });
        self.after(CALL_TIMEOUT_MS, Happening::AgentCallFails { agent, call });
        self.send(from, home, Message::Request { call, request: LedgerRequest::Outside(request) });
    }

    /// No answer: what it holds it asks about again, sooner or later.
    pub fn agent_call_fails(&mut self, agent: usize, call: u64) {
        self.agents[agent].calls.remove(&call);
    }

    pub fn agent_hears(&mut self, agent: usize, call: u64, reply: LedgerReply) {
        let state = &mut self.agents[agent];
        let Some(pending) = state.calls.remove(&call) else { return };
        let reply = match reply {
            LedgerReply::Outside(reply) => *reply,
            // What it has is not kept any more: nobody waits for it.
            LedgerReply::Refused(Refusal::Pruned { id, .. } | Refusal::NotFound { id }) => {
                let forgotten = state.held.remove(&id);
                return forgotten.into_iter().for_each(|held| self.leases.end(held.fence));
            }
            _ => return,
        };
        match reply {
            OutsideReply::Taken(Some(taken)) => self.agent_takes(agent, &pending, *taken),
            OutsideReply::Kept(answers) => {
                for (fence, answer) in answers {
                    self.agent_keeps(agent, pending.asked_ms, fence, answer);
                }
            }
            OutsideReply::Ended(_) => {
                let ended =
                    pending.ends.filter(|ended| state.held.get(&ended.task).map(|held| held.fence) == Some(*ended));
                if let Some(fence) = ended {
                    state.held.remove(&fence.task);
                    state.over.insert(fence);
                }
            }
            OutsideReply::Taken(None) | OutsideReply::Registered { .. } => {}
        }
    }

    fn agent_takes(&mut self, agent: usize, pending: &Pending, taken: Taken) {
        let Taken { fence, token, ttl_ms, attempt, spec, .. } = taken;
        let state = &mut self.agents[agent];
        let newer = state.held.get(&fence.task).is_none_or(|held| held.fence.epoch < fence.epoch);
        if state.over.contains(&fence) || !newer {
            return;
        }
        self.trace.note(self.now_ms, "taken", &[agent as u64, fence.epoch.0], || format!("agent {agent}: {fence:?}"));
        self.counters.executions += 1;
        let ends_ms = pending.asked_ms + ttl_ms * COUNTED_ON_PERCENT / 100;
        let held = Held { home: pending.home, fence, token, attempt, spec: spec.clone(), outcome: None };
        if spec.durability != Durability::Memory {
            state.last = Some(held.clone());
        }
        let (worker, earlier) = (state.endpoint, state.held.insert(fence.task, held));
        if let Some(earlier) = earlier {
            self.leases.end(earlier.fence);
        }
        let forgotten = self.is_lost_on_its_way(fence, &spec);
        let verdict = self.leases.hold(self.now_ms, fence, LiveLease { worker, ends_ms, forgotten });
        self.judge(verdict);
    }

    fn agent_keeps(&mut self, agent: usize, asked_ms: u64, fence: Fence, answer: RenewAnswer) {
        let state = &mut self.agents[agent];
        let holds = state.held.get(&fence.task).is_some_and(|held| held.fence == fence);
        match answer {
            RenewAnswer::Renewed { ttl_ms } if holds => {
                let verdict = self.leases.extend(self.now_ms, fence, asked_ms + ttl_ms * COUNTED_ON_PERCENT / 100);
                self.judge(verdict);
            }
            RenewAnswer::Renewed { .. } => {}
            // Of a task that ended otherwise it says now and then that its attempt is gone.
            RenewAnswer::Terminal { .. } if holds && state.rng.chance(500) => self.leases.end(fence),
            // What it held by its name is of an earlier attempt than the task's newest, which this names.
            RenewAnswer::Fenced { current } if current == fence.epoch => {
                if let Some(held) =
                    state.held.get(&fence.task).map(|held| held.fence).filter(|held| held.epoch < current)
                {
                    state.held.remove(&held.task);
                    state.over.insert(held);
                    self.leases.end(held);
                }
            }
            RenewAnswer::Terminal { .. } | RenewAnswer::Fenced { .. } | RenewAnswer::Unknown => {
                if holds {
                    state.held.remove(&fence.task);
                }
                state.over.insert(fence);
                self.leases.end(fence);
            }
        }
    }
}
