//! A ledger that moves: the home seals it, for good, and the peer that it names goes on with its log.
//!
//! The seal is a record. Behind it this home grants, accepts, commits and shows nothing, whatever happens to its disk or
//! its process; whoever asks is told where the ledger went. The same handover is given again as often as it is asked for,
//! so a file that was lost is made anew, and never one for another peer. The peer that the seal names opens the log with a
//! record of its own, in a later tenure: two peers that import one file cannot both be it.

use serde::{Deserialize, Serialize};

use super::effects::{Effect, Gate, ReplyTo};
use super::ledger::Ledger;
use super::protocol::{LedgerReply, LedgerRequest, Refusal};
use super::record::Record;
use super::replay::Replay;
use super::stats::QueueStats;
use crate::homes::{Handover, SignedHandover};
use crate::ids::{LogIndex, PeerId};
use crate::task::{Durability, TaskState};
use crate::time::Wall;

/// Where a ledger was sealed, and whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub handover: SignedHandover,
    /// The record: what is handed over ends with it.
    pub index: LogIndex,
}

/// What a home writes down of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoverRecord {
    /// This home never serves the ledger again: the peer that is named does.
    HandedOver { at: Wall, handover: SignedHandover },
    /// The peer that the handover before this names goes on from here.
    TakenOver { at: Wall },
}

impl HandoverRecord {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::HandedOver { .. } => "handed_over",
            Self::TakenOver { .. } => "taken_over",
        }
    }

    pub(super) fn at(&self) -> Wall {
        match self {
            Self::HandedOver { at, .. } | Self::TakenOver { at } => *at,
        }
    }
}

impl Replay {
    /// How the log that was read ends, if it was sealed and nobody has taken it over since.
    pub fn seal(&self) -> Option<Seal> {
        self.state.standing.seal()
    }
}

impl Ledger {
    /// How the ledger came from home to home, the oldest first.
    pub fn handovers(&self) -> &[SignedHandover] {
        self.state.standing.handovers()
    }

    pub fn seal(&self) -> Option<Seal> {
        self.state.standing.seal()
    }

    /// Whether this home may hand its ledger over to `to`.
    ///
    /// # Errors
    /// If it was handed over to another peer, stands still, or has a disk that takes no seal.
    pub fn may_hand_over(&self, to: PeerId) -> Result<(), Refusal> {
        if let Some(seal) = self.seal() {
            let whom = seal.handover.handover.to;
            let problem = format!("this ledger was handed over to {whom}, for good");
            let fix = format!("import it there; `nodectl home export` with {whom} makes its file again");
            return if whom == to { Ok(()) } else { Err(Refusal::invalid("/to", problem, fix)) };
        }
        if to == self.identity.home {
            return Err(Refusal::invalid("/to", "this node serves the ledger itself", "name another node"));
        }
        self.disk.instead().map_or(Ok(()), Err)?;
        if self.acts() { Ok(()) } else { Err(self.standing_still()) }
    }

    /// What this home signs to hand its ledger over to `to`: as it stands now, or as it was sealed.
    pub fn handover_to(&self, to: PeerId) -> Handover {
        if let Some(seal) = self.seal() {
            return seal.handover.handover;
        }
        let (ledger, from, tenure) = (self.identity.ledger, self.identity.home, self.tenure() + 1);
        Handover { ledger, from, to, tenure, count: LogIndex(self.chain.count()), event: self.chain.tip() }
    }

    /// Seals the ledger for the peer that `handover` names; says so once that is on the disk, and as often as asked.
    pub(super) fn hand_over(&mut self, handover: SignedHandover) {
        let to = handover.handover.to;
        if self.may_hand_over(to).is_err() || self.handover_to(to) != handover.handover {
            return;
        }
        let seal = self.seal().unwrap_or_else(|| self.put_seal(handover));
        self.outbox.push(Gate::Synced(seal.index), Effect::HandedOver { seal });
    }

    fn put_seal(&mut self, handover: SignedHandover) -> Seal {
        let index =
            self.commit(Durability::Sync, Record::Handover(HandoverRecord::HandedOver { at: self.at(), handover }));
        for (target, to) in self.waiters.take_all() {
            let home = Some(handover.handover.to);
            self.reply(Gate::Synced(index), to, LedgerReply::Refused(Refusal::NotHome { id: target, home }));
        }
        Seal { handover, index }
    }

    /// What a request to a sealed ledger is told; none: it is answered. The counters are, for whoever looks at the node.
    pub(super) fn moved_refusal(&self, request: &LedgerRequest) -> Option<Refusal> {
        let home = self.seal()?.handover.handover.to;
        if matches!(request, LedgerRequest::Stats) {
            return None;
        }
        let moved = Refusal::HomeMoved { ledger: self.identity.ledger, home };
        Some(request.subject().map_or(moved, |id| Refusal::NotHome { id, home: Some(home) }))
    }

    /// Answers a request to a sealed ledger, once the seal is on the disk.
    pub(super) fn refuse_moved(&mut self, to: ReplyTo, refusal: Refusal) {
        let gate = self.seal().map_or(Gate::Open, |seal| Gate::Synced(seal.index));
        self.reply(gate, to, LedgerReply::Refused(refusal));
    }

    /// Whether this node may serve the ledger of `incoming` in place of this one: one that never held anything, or one
    /// that was handed over itself.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn may_give_way_to(&self, incoming: &Handover) -> Result<(), Refusal> {
        let Handover { ledger, tenure, .. } = *incoming;
        let own = self.identity.ledger;
        match self.seal() {
            Some(seal) if own == ledger && tenure <= seal.handover.handover.tenure => {
                let whom = seal.handover.handover.to;
                Err(Refusal::invalid(
                    "/file",
                    "it is of a time before this ledger was handed over",
                    format!("import the newest at {whom}"),
                ))
            }
            Some(_) => Ok(()),
            None if own == ledger => {
                let problem = format!("this node serves ledger {ledger} already");
                Err(Refusal::invalid("/file", problem, "leave it: `nodectl home ls` shows who serves what"))
            }
            None if self.is_suspended() => Err(self.standing_still()),
            None if self.is_blank() => Ok(()),
            None => {
                let problem = format!("this node's own ledger {own} holds {}", self.holdings());
                let fix = "import into a node whose ledger never held anything, or export this one first";
                Err(Refusal::invalid("/file", problem, fix))
            }
        }
    }

    /// Whether nothing was ever accepted here.
    fn is_blank(&self) -> bool {
        let state = &self.state;
        state.submitted == 0 && state.workflows.is_empty() && state.schedules.is_empty() && state.loans.is_empty()
    }

    fn holdings(&self) -> String {
        let counts = &self.state.counts;
        let ended: u64 =
            TaskState::ALL.into_iter().filter(|state| state.is_terminal()).map(|state| counts.of(state)).sum();
        let (workflows, schedules) = (self.state.workflows.len(), self.state.schedules.len());
        format!(
            "{} tasks that have not ended, {ended} that have, {workflows} workflows and {schedules} schedules",
            counts.total() - ended
        )
    }
}

impl QueueStats {
    /// Why the home that counts so serves no other ledger in place of its own, as far as its counters say: what
    /// [`Ledger::may_give_way_to`] will say there.
    pub fn keeps_other_ledgers_out(&self) -> Option<String> {
        let own = self.ledger;
        if self.handed_over_to.is_some() {
            None
        } else if self.suspended.is_some() {
            Some(format!("its own ledger {own} is suspended"))
        } else if (self.submitted, self.workflows_running, self.schedules) != (0, 0, 0) {
            let Self { submitted, schedules, .. } = self;
            Some(format!("its own ledger {own} accepted {submitted} tasks and has {schedules} schedules"))
        } else {
            None
        }
    }
}
