//! Asks members, in turn, whom they know, and answers those who ask.

use std::collections::HashMap;

use libp2p::request_response::{Event, Message, ResponseChannel};
use magpie_core::ids::PeerId;

use super::Node;
use super::admit::Standing;
use crate::discovery::members::{self, MembersAnswer, MembersAsk};
use crate::identity;
use crate::limits;

/// What was heard from members, and when who is asked next.
#[derive(Debug)]
pub(super) struct Members {
    enabled: bool,
    heard: HashMap<PeerId, Heard>,
    due_ms: u64,
    /// Until the next is asked.
    pause_ms: u64,
    last_asked: Option<PeerId>,
    asked_ms: Option<u64>,
    /// Who was admitted since, the last.
    newest: Option<PeerId>,
}

#[derive(Debug, Default)]
struct Heard {
    digest: u64,
    /// When it was last heard in full.
    told_ms: u64,
    /// When the peer was last answered.
    answered_ms: Option<u64>,
}

impl Members {
    pub fn new(enabled: bool) -> Self {
        let (heard, pause_ms) = (HashMap::new(), limits::MEMBERS_ASK_FIRST_MS);
        Self { enabled, heard, due_ms: 0, pause_ms, last_asked: None, asked_ms: None, newest: None }
    }

    /// Somebody came or went: others may know more.
    pub(super) fn ask_soon(&mut self) {
        self.pause_ms = limits::MEMBERS_ASK_FIRST_MS;
    }

    /// Who was just admitted, as one of so many, is asked at once, unless another was asked a moment ago: in a crowd that comes
    /// together all would ask all, and hear from each what the others say, the longer the more there are.
    pub(super) fn ask_the_newest(&mut self, peer: PeerId, members: usize, now_ms: u64) {
        self.ask_soon();
        self.newest = Some(peer);
        let pause_ms = limits::MEMBERS_ASK_EACH_MS * members as u64;
        let pause_ms = pause_ms.clamp(limits::MEMBERS_ANSWER_EVERY_MS, limits::MEMBERS_ASK_MAX_MS);
        let earliest_ms = self.asked_ms.map_or(0, |asked_ms| asked_ms + pause_ms);
        self.due_ms = self.due_ms.min(earliest_ms.max(now_ms));
    }

    pub fn forget(&mut self, peer: PeerId) {
        self.heard.remove(&peer);
        self.newest = self.newest.filter(|newest| *newest != peer);
        self.ask_soon();
    }
}

impl Node {
    /// Asks the next of the members, so that what one of them learns reaches all.
    pub(super) fn ask_the_next_member(&mut self) {
        let now_ms = self.now_ms();
        if self.members.due_ms > now_ms {
            return;
        }
        if let Some(newest) = self.members.newest.take() {
            return self.ask_for_members(newest);
        }
        let admitted = || self.admitted();
        let after = admitted().filter(|peer| Some(*peer) > self.members.last_asked).min();
        if let Some(peer) = after.or_else(|| admitted().min()) {
            self.ask_for_members(peer);
        }
    }

    pub(super) fn ask_for_members(&mut self, peer: PeerId) {
        if !self.members.enabled {
            return;
        }
        let now_ms = self.now_ms();
        (self.members.last_asked, self.members.asked_ms) = (Some(peer), Some(now_ms));
        self.members.due_ms = now_ms + self.members.pause_ms;
        self.members.pause_ms = (2 * self.members.pause_ms).min(limits::MEMBERS_ASK_MAX_MS);
        let heard = self.members.heard.entry(peer).or_default();
        // What was suggested goes stale: it is told again in time.
        let digest = if heard.told_ms + limits::MEMBERS_TELL_EVERY_MS > now_ms { heard.digest } else { 0 };
        self.swarm.behaviour_mut().members.inner_mut().send_request(&identity::to_libp2p(peer), MembersAsk { digest });
    }

    pub(super) fn admitted(&self) -> impl Iterator<Item = PeerId> {
        self.peers.iter().filter(|(_, entry)| entry.is_admitted()).map(|(peer, _)| *peer)
    }

    pub(super) fn on_members_event(&mut self, event: Event<MembersAsk, MembersAnswer>) {
        match event {
            Event::Message { peer, message, .. } => {
                let Some(peer) = identity::from_libp2p(&peer) else { return };
                match self.standing(peer) {
                    // Its confirmation travels on another substream and may come later: a question says the same.
                    Some(Standing::Verified) => self.admit(peer),
                    Some(Standing::Admitted) => {}
                    Some(Standing::Stranger | Standing::Guest) | None => return,
                }
                match message {
                    Message::Request { request, channel, .. } => self.answer_with_members(peer, &request, channel),
                    Message::Response { response, .. } => self.on_members_told(peer, response),
                }
            }
            Event::OutboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a member does not tell whom it knows");
            }
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    /// A channel that is dropped tells the peer that there is no answer.
    fn answer_with_members(&mut self, peer: PeerId, ask: &MembersAsk, channel: ResponseChannel<MembersAnswer>) {
        let now_ms = self.now_ms();
        let heard = self.members.heard.entry(peer).or_default();
        let too_soon = heard.answered_ms.is_some_and(|at_ms| at_ms + limits::MEMBERS_ANSWER_EVERY_MS > now_ms);
        if !self.members.enabled || too_soon {
            return;
        }
        heard.answered_ms = Some(now_ms);
        let mut known: Vec<PeerId> = self.admitted().filter(|known| *known != peer).collect();
        known.sort_unstable();
        let known = known.into_iter().map(|known| (known, self.book.addresses_of(known)));
        let answer = members::answer(ask, known, self.network_of(peer));
        // It fails when the asker has gone.
        let _ = self.swarm.behaviour_mut().members.inner_mut().send_response(channel, answer);
    }

    fn on_members_told(&mut self, peer: PeerId, answer: MembersAnswer) {
        let now_ms = self.now_ms();
        let heard = self.members.heard.entry(peer).or_default();
        if heard.digest == answer.digest && answer.members.is_empty() {
            return;
        }
        (heard.digest, heard.told_ms) = (answer.digest, now_ms);
        let suggestions = members::suggestions(answer, self.network_of(peer), |told| self.is_absent(told));
        if !suggestions.is_empty() {
            self.members.ask_soon();
        }
        suggestions.into_iter().for_each(|suggestion| self.on_suggestion(suggestion));
    }

    /// Whether others may say where `peer` is: who is here tells that itself.
    pub(super) fn is_absent(&self, peer: PeerId) -> bool {
        peer != self.local && self.standing(peer) < Some(Standing::Verified)
    }
}
