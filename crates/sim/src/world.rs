//! A mesh of nodes and clients, one event at a time in the order of (time, sequence).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;

use magpie_core::clock::MerkleClock;
use magpie_core::ids::{LedgerId, LedgerTag, LogIndex, PeerId};
use magpie_core::lease::{Fence, Slots};
use magpie_core::matching::Capabilities;
use magpie_core::queue::{CompactionPolicy, Event, LedgerIdentity, LedgerRequest};
use magpie_core::task::{Outcome, TaskKind};
use magpie_core::time::Now;
use magpie_core::worker::WorkerEvent;
use std::sync::Arc;

use crate::agent::Agent;
use crate::book::Book;
use crate::canary::Planted;
use crate::checkers::commits::Commits;
use crate::checkers::durability::Acknowledgements;
use crate::checkers::keys::Named;
use crate::checkers::leases::Leases;
use crate::checkers::limits::Spent;
use crate::checkers::membership::Views;
use crate::checkers::unwritten::Unwritten;
use crate::checkers::{Verdict, Violation, bounds};
use crate::client::Client;
use crate::clock::{DRIFT_PPM_MAX, NodeClock};
use crate::disk::Disk;
use crate::faults::{Fault, FaultSet, Faults};
use crate::nemesis::NemesisKind;
use crate::network::{Endpoint, Message, Network};
use crate::node::{Node, Spool};
use crate::partition::Cuts;
use crate::permits;
use crate::rng::Rng;
use crate::settings::{AGENTS_KIND, Settings};
use crate::trace::Trace;

/// How large a run is, and whether something is wrong with it on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Events after which a run is cut off without a verdict on liveness; 0: none.
    pub steps_max: u64,
    pub keep_lines: bool,
    pub planted: Option<Planted>,
    /// Faults that the run has not, whatever its seed draws.
    pub without: FaultSet,
    /// What the seed draws is cut down to these; 0: as drawn.
    pub nodes_max: u64,
    pub clients_max: u64,
    /// Submissions of one client.
    pub submissions_max: u64,
}

impl fmt::Display for Options {
    /// The words of the command line that ask for them, each after a space.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(planted) = self.planted {
            write!(formatter, " --planted {planted}")?;
        }
        if !self.without.is_empty() {
            write!(formatter, " --without {}", self.without)?;
        }
        for (word, bound) in [
            ("nodes", self.nodes_max),
            ("clients", self.clients_max),
            ("submissions", self.submissions_max),
            ("steps", self.steps_max),
        ] {
            if bound != 0 {
                write!(formatter, " --{word} {bound}")?;
            }
        }
        Ok(())
    }
}

/// `drawn`, but no more than a bound that was asked for.
fn at_most(drawn: u64, bound: u64) -> u64 {
    if bound == 0 { drawn } else { drawn.min(bound) }
}

/// What can happen next.
#[derive(Debug)]
pub enum Happening {
    Arrive {
        from: Endpoint,
        to: Endpoint,
        message: Message,
    },
    /// A message for the ledger came through the node's network.
    Ingress {
        node: usize,
        life: u64,
        from: Endpoint,
        call: u64,
        request: LedgerRequest,
    },
    MarkerOut {
        node: usize,
        life: u64,
        marker: u64,
    },
    LedgerTick {
        node: usize,
        life: u64,
        /// What the ledger's clock showed then, if the tick were not late.
        wanted_ms: u64,
    },
    WorkerTick {
        node: usize,
        life: u64,
    },
    Heartbeat {
        node: usize,
    },
    Written {
        node: usize,
        life: u64,
    },
    Synced {
        node: usize,
        life: u64,
        through: LogIndex,
    },
    SpoolSynced {
        node: usize,
        life: u64,
    },
    AttemptEnds {
        node: usize,
        life: u64,
        fence: Fence,
        outcome: Outcome,
    },
    Bound {
        node: usize,
        life: u64,
        event: Box<Event>,
    },
    WorkerCallFails {
        node: usize,
        life: u64,
        call: u64,
    },
    ClientActs {
        client: usize,
    },
    ClientCallFails {
        client: usize,
        call: u64,
    },
    AgentActs {
        agent: usize,
    },
    AgentCallFails {
        agent: usize,
        call: u64,
    },
    Start {
        node: usize,
    },
    Resume {
        node: usize,
    },
    Nemesis {
        kind: NemesisKind,
    },
    Flap {
        partition: u64,
        cuts: Cuts,
    },
    Heal {
        partition: u64,
    },
    Calm,
}

struct Scheduled {
    at_ms: u64,
    sequence: u64,
    happening: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.sequence).cmp(&(other.at_ms, other.sequence))
    }
}

/// The whole of a run.
pub struct World {
    pub now_ms: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub rng: Rng,
    pub faults: Faults,
    pub calm: bool,
    pub network: Network,
    pub nodes: Vec<Node>,
    pub clients: Vec<Client>,
    pub agents: Vec<Agent>,
    pub capabilities: Arc<Capabilities>,
    pub settings: Arc<Settings>,
    pub options: Options,
    pub books: Vec<Book>,
    pub leases: Leases,
    pub unwritten: Unwritten,
    pub views: Views,
    pub commits: Commits,
    pub acknowledged: Acknowledgements,
    pub named: Named,
    pub spent: Spent,
    pub counters: Counters,
    pub trace: Trace,
    violation: Option<Violation>,
    /// What the core had counted in this process when the run began.
    pub violations_before: u64,
}

/// How much of what a run had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    pub events: u64,
    pub executions: u64,
    pub commits: u64,
    pub crashes: u64,
    pub messages: u64,
    pub virtual_ms: u64,
    /// From the end of the faults to the end of everything, less the leases that nobody knew of.
    pub healed_ms: u64,
    pub tasks: u64,
    pub cuts: u64,
    pub starts_from_cut_logs: u64,
    /// Heads from others that a node did not know yet.
    pub merges: u64,
}

/// The faults stop after a time drawn between these.
const STORM_MS_MIN: u64 = 8_000;
const STORM_MS_MAX: u64 = 25_000;
/// Everything has ended this long after the faults stopped. Time-outs and back-offs are below 30 s, and part of it; what
/// an agent had that is gone waits for its lease before.
const CALM_MS_MAX: u64 = 60_000;
const TICKS_PER_WORKER_MS: u64 = magpie_core::limits::SPOOL_AFTER_MS;

impl World {
    pub fn new(seed: u64, options: Options) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults::draw(&mut rng, options.without);
        let node_count = at_most(rng.between(2, 5), options.nodes_max) as usize;
        let client_count = at_most(rng.between(1, 3), options.clients_max) as usize;
        let drifts = faults.kinds.has(Fault::Drift);
        let nodes: Vec<Node> = (0..node_count).map(|_| new_node(&mut rng, node_count, drifts)).collect();
        let homes: Vec<LedgerTag> = nodes.iter().map(Node::tag).collect();
        let settings = Arc::new(Settings::draw(&mut rng, &homes));
        let submissions_max = at_most(u64::MAX, options.submissions_max);
        let clients = (0..client_count).map(|n| Client::new(n, &mut rng, submissions_max)).collect();
        let agents =
            (0..settings.agents as usize).map(|n| Agent::new(node_count + client_count + n, n, &mut rng)).collect();
        let books = nodes.iter().map(|node| Book::new(node.tag())).collect();
        let mut world = Self {
            now_ms: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            rng,
            faults,
            calm: false,
            network: Network::default(),
            nodes,
            clients,
            agents,
            capabilities: Arc::new(offers_of_nodes()),
            spent: Spent::new(&settings),
            settings,
            options,
            books,
            leases: Leases::default(),
            unwritten: Unwritten::default(),
            views: Views::default(),
            commits: Commits::default(),
            acknowledged: Acknowledgements::default(),
            named: Named::default(),
            counters: Counters::default(),
            trace: Trace::new(options.keep_lines),
            violation: None,
            violations_before: magpie_core::invariant::violations_in_this_thread(),
        };
        world.set_out();
        world
    }

    fn set_out(&mut self) {
        for node in 0..self.nodes.len() {
            self.after(0, Happening::Start { node });
            self.after(0, Happening::Heartbeat { node });
        }
        for client in 0..self.clients.len() {
            let wait_ms = self.rng.between(0, 500);
            self.after(wait_ms, Happening::ClientActs { client });
        }
        for agent in 0..self.agents.len() {
            let wait_ms = self.rng.between(0, 1_500);
            self.after(wait_ms, Happening::AgentActs { agent });
        }
        for kind in NemesisKind::ALL {
            self.schedule_nemesis(kind);
        }
        let storm_ms = self.rng.between(STORM_MS_MIN, STORM_MS_MAX);
        self.after(storm_ms, Happening::Calm);
    }

    /// Runs to the end: everything ended, an invariant broke, or the last step allowed.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn run(&mut self) -> Verdict {
        let mut calm_ms = None;
        let holds_up_ms = self.agents.iter().map(Agent::holds_up_ms).max().unwrap_or_default();
        while let Some(Reverse(next)) = self.queue.pop() {
            self.now_ms = next.at_ms;
            self.counters.events += 1;
            self.dispatch(next.happening);
            if self.calm {
                calm_ms.get_or_insert(self.now_ms);
            }
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
            if self.options.steps_max != 0 && self.counters.events >= self.options.steps_max {
                break;
            }
            if self.calm && self.everything_ended() {
                break;
            }
            if calm_ms.is_some_and(|calm_ms| self.now_ms > calm_ms + holds_up_ms + CALM_MS_MAX) {
                return Err(self.what_did_not_end());
            }
        }
        self.counters.virtual_ms = self.now_ms;
        self.counters.healed_ms = calm_ms.map_or(0, |calm_ms| (self.now_ms - calm_ms).saturating_sub(holds_up_ms));
        self.counters.tasks = self.acknowledged.len() as u64;
        self.last_checks()
    }

    pub fn after(&mut self, wait_ms: u64, happening: Happening) {
        self.at(self.now_ms + wait_ms, happening);
    }

    pub fn at(&mut self, at_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at_ms, sequence: self.sequence, happening }));
    }

    /// Keeps the first violation.
    pub fn judge(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
    }

    pub fn take_violation(&mut self) -> Verdict {
        self.violation.take().map_or(Ok(()), Err)
    }

    pub fn clock(&self, node: usize) -> Now {
        self.nodes[node].clock.read(self.now_ms)
    }

    /// The node that an event is for, if a pause of it holds the event back.
    fn pause_of(&self, happening: &Happening) -> Option<u64> {
        let node = match happening {
            Happening::Arrive { to, .. } if *to < self.nodes.len() => *to,
            Happening::Ingress { node, .. }
            | Happening::MarkerOut { node, .. }
            | Happening::LedgerTick { node, .. }
            | Happening::WorkerTick { node, .. }
            | Happening::Heartbeat { node }
            | Happening::Written { node, .. }
            | Happening::Synced { node, .. }
            | Happening::SpoolSynced { node, .. }
            | Happening::AttemptEnds { node, .. }
            | Happening::Bound { node, .. }
            | Happening::WorkerCallFails { node, .. } => *node,
            _ => return None,
        };
        Some(self.nodes[node].paused_until_ms).filter(|until_ms| *until_ms > self.now_ms)
    }

    fn dispatch(&mut self, happening: Happening) {
        if let Some(until_ms) = self.pause_of(&happening) {
            return self.at(until_ms, happening);
        }
        match happening {
            Happening::Arrive { from, to, message } => self.arrive(from, to, message),
            Happening::Ingress { node, life, from, call, request } => self.ingress(node, life, (from, call), request),
            Happening::MarkerOut { node, life, marker } => self.home_event(node, life, Event::MarkerOut { marker }),
            Happening::LedgerTick { node, life, wanted_ms } => self.ledger_tick(node, life, wanted_ms),
            Happening::WorkerTick { node, life } => {
                if self.worker_lives(node, life) {
                    let wait_ms = TICKS_PER_WORKER_MS + self.late_tick_ms();
                    self.after(wait_ms, Happening::WorkerTick { node, life });
                    self.worker_event(node, life, WorkerEvent::Tick);
                }
            }
            Happening::Heartbeat { node } => self.heartbeat(node),
            Happening::Written { node, life } => self.written(node, life),
            Happening::Synced { node, life, through } => self.synced(node, life, through),
            Happening::SpoolSynced { node, life } => {
                if self.worker_lives(node, life) {
                    self.nodes[node].spool.sync();
                }
            }
            Happening::AttemptEnds { node, life, fence, outcome } => self.attempt_ends(node, life, fence, outcome),
            Happening::Bound { node, life, event } => self.home_event(node, life, *event),
            Happening::WorkerCallFails { node, life, call } => self.worker_call_fails(node, life, call),
            Happening::ClientActs { client } => self.client_acts(client),
            Happening::ClientCallFails { client, call } => self.client_call_fails(client, call),
            Happening::AgentActs { agent } => self.agent_acts(agent),
            Happening::AgentCallFails { agent, call } => self.agent_call_fails(agent, call),
            Happening::Start { node } => self.start(node),
            Happening::Resume { node } => self.drain(node, false),
            Happening::Nemesis { kind } => self.nemesis(kind),
            Happening::Flap { partition, cuts } => self.flap(partition, cuts),
            Happening::Heal { partition } if self.network.is_current(partition) => self.network.heal(),
            Happening::Heal { .. } => {}
            Happening::Calm => self.calm_down(),
        }
    }

    /// Sends a message over the network.
    pub fn send(&mut self, from: Endpoint, to: Endpoint, message: Message) {
        self.counters.messages += 1;
        self.judge(bounds::invariant_a_message_stays_within_its_limits(&message));
        let [first, second] = self.network.arrivals(&mut self.rng, &self.faults, from, to);
        if let Some(wait_ms) = second {
            self.after(wait_ms, Happening::Arrive { from, to, message: message.clone() });
        }
        if let Some(wait_ms) = first {
            self.after(wait_ms, Happening::Arrive { from, to, message });
        }
    }

    fn arrive(&mut self, from: Endpoint, to: Endpoint, message: Message) {
        if to >= self.nodes.len() {
            if let Message::Reply { call, reply } = message {
                let place = to - self.nodes.len();
                match place.checked_sub(self.clients.len()) {
                    None => self.client_hears(place, call, reply),
                    Some(agent) => self.agent_hears(agent, call, reply),
                }
            }
            return;
        }
        match message {
            Message::Request { call, request } => self.arrive_at_home(to, from, call, request),
            Message::Reply { call, reply } if permits::is_of_home(call) => self.home_hears(to, call, reply),
            Message::Reply { call, reply } => self.worker_hears(to, call, reply),
            Message::Notice { home, notice } => self.worker_noticed(to, home, notice),
            Message::Heartbeat(heartbeat) => self.heard(to, from, heartbeat),
        }
    }

    pub fn late_tick_ms(&mut self) -> u64 {
        if self.rng.chance(self.faults.late_tick) { self.rng.between(0, crate::faults::LATE_TICK_MS_MAX) } else { 0 }
    }
}

fn new_node(rng: &mut Rng, node_count: usize, drifts: bool) -> Node {
    let identity = LedgerIdentity { ledger: LedgerId(rng.bytes()), home: PeerId(rng.bytes()), secret: rng.bytes() };
    let drawn_ppm = rng.between(1_000_000 - DRIFT_PPM_MAX, 1_000_000 + DRIFT_PPM_MAX);
    let rate_ppm = if drifts { drawn_ppm } else { 1_000_000 };
    let (zero_ms, wall_ahead_ms) = (rng.between(0, 1_000_000), rng.between(0, 4_000) as i64 - 2_000);
    // A source of its own: what else the seed draws stays what it was before logs were cut.
    let mut cuts = Rng::new(identity.ledger.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
    Node {
        identity,
        clock: NodeClock::new(zero_ms, rate_ppm, wall_ahead_ms),
        disk: Disk::default(),
        first_kept: LogIndex(1),
        compaction: draw_compaction(&mut cuts),
        cuts,
        spool: Spool::default(),
        home: None,
        worker: None,
        slots: Slots { cpu: rng.between(1, 4) as u32, device: rng.between(1, 4) as u32 },
        worker_starts: 0,
        lives: 0,
        paused_until_ms: 0,
        ingress_until_ms: 0,
        membership: None,
        heads: MerkleClock::default(),
        homes_up: vec![false; node_count],
    }
}

/// Logs here are short, so they are cut as often as can be; some keep much, some next to nothing, some are never cut.
fn draw_compaction(rng: &mut Rng) -> CompactionPolicy {
    CompactionPolicy {
        keep_ms: rng.between(0, 8) * 500,
        bytes_min: if rng.chance(200) { u64::MAX } else { rng.between(0, 3) * 10_000 },
        times_the_images: 0,
        piece_len_max: rng.between(1, 12) as usize,
    }
}

fn offers_of_nodes() -> Capabilities {
    let models = [crate::workload::MODEL.to_owned()].into();
    let kinds = TaskKind::ALL.into_iter().filter(|kind| *kind != AGENTS_KIND).collect();
    Capabilities { kinds, models, ..Capabilities::default() }
}
