//! Whether a home may act: another copy of its ledger, from a cloned or a restored disk, may have gone on instead.
//!
//! Every head that somebody holds of a ledger must be one that its log has written, and every term that was announced of
//! it, one that it has served. What is not shows another copy.
//! Two copies that both go on would run and commit the same tasks; so whichever hears of the other stands still, until
//! an operator claims the ledger for one of them. A copy that can reach nobody hears of nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::asks::Asks;
use super::effects::{Effect, Event, Gate, ReplyTo};
use super::handover::{HandoverRecord, Seal};
use super::ledger::Ledger;
use super::operations::Done;
use super::protocol::{LedgerReply, LedgerRequest, Refusal};
use super::record::Record;
use crate::clock::Position;
use crate::homes::{SignedHandover, Term, add_handover};
use crate::ids::{ContentId, Generation, LogIndex, OperationId, PeerId};
use crate::limits;
use crate::task::Durability;
use crate::time::Wall;

/// Since when a home stands still, and for which head: one of its ledger that its log has not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    pub since: Wall,
    pub position: Position,
}

/// Which copy of the ledger this is, and whether it goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Standing {
    /// Of copies that were given up, and of homes before this one; the tenure is one more.
    claims: u64,
    suspended: Option<Suspension>,
    /// It goes on with the next start.
    claimed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    seal: Option<Seal>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    handovers: Vec<SignedHandover>,
}

impl Standing {
    pub fn tenure(&self) -> u64 {
        self.claims + 1
    }

    pub fn suspended(&self) -> Option<Suspension> {
        self.suspended
    }

    pub fn seal(&self) -> Option<Seal> {
        self.seal
    }

    pub fn handovers(&self) -> &[SignedHandover] {
        &self.handovers
    }

    /// Takes a record that is about it: it was suspended, claimed, handed over or taken over.
    pub fn apply(&mut self, index: LogIndex, record: &Record) {
        self.claimed = matches!(record, Record::Claimed { .. });
        if let Record::Suspended { at, position } = record {
            self.suspended = Some(Suspension { since: *at, position: *position });
        } else if let Record::Handover(HandoverRecord::HandedOver { handover, .. }) = record {
            self.seal = Some(Seal { handover: *handover, index });
        } else if let Record::Handover(HandoverRecord::TakenOver { .. }) = record
            && let Some(seal) = self.seal.take()
        {
            self.claims = seal.handover.handover.tenure - 1;
            add_handover(&mut self.handovers, seal.handover);
        }
    }

    /// The generation that the next start must be above: a copy that is given up may have used its own.
    pub fn generation_used(&self) -> Generation {
        let given_up = self.suspended.filter(|_| self.claimed);
        given_up.map_or(Generation(0), |suspension| suspension.position.generation)
    }

    /// A start: what was claimed goes on, in a tenure above all that were seen.
    pub fn open(&mut self) {
        if let Some(suspension) = self.suspended.take_if(|_| self.claimed) {
            self.claims = suspension.position.tenure.max(self.claims + 1);
            self.claimed = false;
        }
    }
}

/// After a start: who has yet to say what it holds of this ledger.
#[derive(Debug, Clone)]
pub(super) struct Comparing {
    peers: BTreeSet<PeerId>,
    until_ms: u64,
}

impl Comparing {
    pub fn with(peers: BTreeSet<PeerId>, now_ms: u64) -> Option<Self> {
        (!peers.is_empty()).then_some(Self { peers, until_ms: now_ms + limits::COMPARE_MS_MAX })
    }
}

impl Ledger {
    /// Later tenures beat earlier ones, wherever they are claimed.
    pub fn tenure(&self) -> u64 {
        self.state.standing.tenure()
    }

    pub fn term(&self) -> Term {
        Term { tenure: self.tenure(), generation: self.generation() }
    }

    pub fn is_suspended(&self) -> bool {
        self.state.standing.suspended.is_some()
    }

    /// Whether it grants, commits, accepts and prunes.
    pub(super) fn acts(&self) -> bool {
        self.comparing.is_none() && !self.is_suspended() && self.seal().is_none()
    }

    /// What goes on while it does not act: what it knows of its log, its disk and its members, and answers to readers.
    pub(super) fn stand_by(&mut self, event: Event) {
        match event {
            Event::Request { caller, request, reply } => {
                match (self.moved_refusal(&request), self.instead_of_acting(&request)) {
                    (Some(moved), _) => self.refuse_moved(reply, moved),
                    (None, Some(refusal)) => self.refuse(reply, refusal),
                    (None, None) => self.request(&caller, request, reply),
                }
            }
            Event::HandOver(handover) => self.hand_over(handover),
            Event::Tick => {
                self.preference_due_ms = None;
                self.clock_watch.observe(self.now);
                self.answer_impatient();
                self.tick_due_ms = self.now.mono_ms + limits::TICK_MS;
                if self.comparing.as_ref().is_some_and(|comparing| comparing.until_ms <= self.now.mono_ms) {
                    self.end_comparison();
                }
            }
            known @ (Event::WorkerSeen { .. }
            | Event::WorkerForgotten { .. }
            | Event::Draining { .. }
            | Event::ClockRoot(_)
            | Event::PeerClocks(_)
            | Event::PeerCompared { .. }
            | Event::HeadSeen { .. }
            | Event::TermSeen(_)
            | Event::Durable(_)
            | Event::Disk(_)) => self.act(known),
            // They were asked for before, and are asked for again when it goes on.
            Event::Bound { .. } | Event::MarkerOut { .. } | Event::PermitsAnswered { .. } => {}
        }
    }

    fn instead_of_acting(&self, request: &LedgerRequest) -> Option<Refusal> {
        let passive = matches!(request.asks(), Asks::Read | Asks::Claim);
        (!passive).then(|| self.standing_still())
    }

    pub(super) fn standing_still(&self) -> Refusal {
        let comparing = || Refusal::Unavailable { what: "its home compares its log with its peers first".to_owned() };
        self.suspended_refusal().unwrap_or_else(comparing)
    }

    fn suspended_refusal(&self) -> Option<Refusal> {
        let Suspension { since, position } = self.state.standing.suspended?;
        Some(Refusal::HomeSuspended { ledger: self.identity.ledger, since, position })
    }

    pub(super) fn peer_compared(&mut self, peer: PeerId) {
        let Some(comparing) = &mut self.comparing else { return };
        comparing.peers.remove(&peer);
        if comparing.peers.is_empty() {
            self.end_comparison();
        }
    }

    fn end_comparison(&mut self) {
        self.comparing = None;
        if self.acts() {
            self.grants_due = true;
            self.publish_head();
            self.finish_cut();
        }
    }

    /// Somebody holds this head of this ledger. `recorded` is the event that the log has in its place, if it has one.
    pub(super) fn head_seen(&mut self, position: Position, event: ContentId, recorded: Option<ContentId>) {
        if !self.has_written(position, event, recorded) {
            self.suspend(position);
        }
    }

    pub(super) fn term_seen(&mut self, term: Term) {
        if term > self.term() {
            self.suspend(Position { tenure: term.tenure, generation: term.generation, count: 0 });
        }
    }

    fn suspend(&mut self, position: Position) {
        if self.is_suspended() || self.seal().is_some() {
            return;
        }
        let at = self.at();
        self.commit(Durability::Sync, Record::Suspended { at, position });
        if let Some(refusal) = self.suspended_refusal() {
            self.outbox.withhold(&refusal);
        }
    }

    fn has_written(&self, position: Position, event: ContentId, recorded: Option<ContentId>) -> bool {
        let Position { tenure, generation, count } = position;
        // What was written before a claim was given up with it.
        if tenure != self.tenure() {
            return tenure < self.tenure();
        }
        let earlier = generation < self.state.generation && count < self.outbox.opened.0;
        let now = generation == self.state.generation && count < self.next.0;
        // What was cut off cannot be compared any more.
        (earlier || now) && recorded.is_none_or(|recorded| recorded == event)
    }

    /// This copy goes on, whatever another has done: with the next start, in a new tenure.
    pub(super) fn claim(&mut self, operation: OperationId, reply: ReplyTo) {
        let answer = LedgerReply::Claimed { ledger: self.identity.ledger };
        if self.operations.find(&operation) == Some(Done::Claimed) {
            return self.reply(self.gate_of_all(), reply, answer);
        }
        if !self.is_suspended() {
            let fix =
                "leave it: it goes on by itself; a home is claimed when `nodectl status` says that it is suspended";
            return self.refuse(reply, Refusal::invalid("/ledger", "this home is not suspended", fix));
        }
        let record = Record::Claimed { at: self.at(), operation };
        self.operations.remember(&record);
        let index: LogIndex = self.commit(Durability::Sync, record);
        self.reply(Gate::Synced(index), reply, answer);
        self.outbox.push(Gate::Synced(index), Effect::StartAnew);
    }
}
