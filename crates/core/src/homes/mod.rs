//! Which node serves which ledger, by the nodes' own signed word.
//!
//! A ledger belongs to the peer that announced it first, and a peer has one: what another says of it is refused, so
//! nobody takes over the tasks of others by saying so, unless it shows the signed word of the home before it. Of one home
//! the latest term speaks; what an earlier one still says, a copy of its disk or a message long on its way, is refused.

mod announcement;
mod handover;

use std::collections::BTreeMap;

use crate::clock::Head;
use crate::ids::{Generation, LedgerId, LedgerTag, PeerId};
use crate::limits;
use crate::signature::VerifyError;
use crate::time::Wall;

pub use announcement::{Announcement, SignedAnnouncement, Term};
pub(crate) use handover::add_handover;
pub use handover::{Handover, SignedHandover};

/// What an announcement told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new.
    Known,
    /// Of a home that was not known, or a later term of one that was.
    News,
    /// Of this node's own ledger, rightly signed, with a term that this node never served: a copy of its disk did, or
    /// the peer that it was handed over to.
    Copy(Term),
}

/// An announcement that changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncementError {
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("ledger {ledger} is served in term {known:?}, and {presented:?} is over")]
    Over { ledger: LedgerId, known: Term, presented: Term },
    #[error("ledger {ledger} is served by peer {home}, and {presented} says that it does")]
    OtherHome { ledger: LedgerId, home: PeerId, presented: PeerId },
    #[error("ledger {presented} has the same tag as ledger {known}, and ids would not tell them apart")]
    TagTaken { known: LedgerId, presented: LedgerId },
    #[error("peer {presented} serves ledger {serves}, and others said that it serves {ledger}")]
    OtherLedger { presented: PeerId, serves: LedgerTag, ledger: LedgerId },
    #[error("ledger {ledger} was handed over {presented} times, of which {handovers_max} may be told")]
    TooManyHandovers { ledger: LedgerId, presented: usize, handovers_max: usize },
    #[error("peer {from} says in its own name what {presented} serves")]
    NotItsOwn { from: PeerId, presented: PeerId },
    #[error("a home more than the {homes_max} that are kept")]
    Full { homes_max: usize },
}

/// A message in the name of a home, from one that does not speak for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotItsHome {
    #[error("nobody has announced ledger {0}")]
    Unannounced(LedgerTag),
    #[error("ledger {tag} is served by peer {home}")]
    Other { tag: LedgerTag, home: PeerId },
    #[error("term {presented:?} of ledger {tag} is over: it is served in {known:?}")]
    Over { tag: LedgerTag, known: Term, presented: Term },
}

#[derive(Debug, Clone)]
struct Home {
    signed: SignedAnnouncement,
    /// When it was last heard itself; none: of it only others told.
    last_seen: Option<Wall>,
}

/// All homes that a node knows, at most [`limits::PEERS_MAX`] beside its own.
#[derive(Debug, Clone, Default)]
pub struct Homes {
    own: Option<SignedAnnouncement>,
    /// What this node served last, and whom it handed that over to: nobody else is believed to serve it.
    handed_over: Option<(Announcement, Handover)>,
    homes: BTreeMap<LedgerTag, Home>,
    ledgers: BTreeMap<PeerId, LedgerTag>,
}

impl Homes {
    /// What this node announces of itself.
    pub fn serve(&mut self, own: SignedAnnouncement) {
        self.handed_over = None;
        self.forget(own.announcement.ledger.tag());
        self.own = Some(own);
    }

    /// This node serves `own` no more: once the peer that `handover` names announces it, whoever asks is sent there.
    pub fn hand_over(&mut self, own: Announcement, handover: Handover) {
        self.own = None;
        self.handed_over = Some((own, handover));
    }

    /// What this node served last, if it handed that over and serves nothing since.
    pub fn handed_over(&self) -> Option<&Announcement> {
        self.handed_over.as_ref().map(|(own, _)| own)
    }

    fn forget(&mut self, tag: LedgerTag) {
        if let Some(home) = self.homes.remove(&tag) {
            self.ledgers.remove(&home.signed.announcement.peer);
        }
    }

    pub fn own(&self) -> Option<&SignedAnnouncement> {
        self.own.as_ref()
    }

    /// Takes the word of a home itself, heard at `now` over the connection of `from`.
    ///
    /// # Errors
    /// If it does not speak for its ledger; nothing changes then.
    pub fn hear(&mut self, from: PeerId, signed: &SignedAnnouncement, now: Wall) -> Result<Heard, AnnouncementError> {
        let presented = signed.announcement.peer;
        if presented != from {
            return Err(AnnouncementError::NotItsOwn { from, presented });
        }
        let heard = self.take(signed, Some(now))?;
        if let Some(home) = self.homes.get_mut(&signed.announcement.ledger.tag()) {
            home.last_seen = Some(now);
        }
        Ok(heard)
    }

    /// Takes what another peer passed on. It is worth less: it changes which ledger a peer serves for none that is known,
    /// and makes room for no home.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn hear_of(&mut self, signed: &SignedAnnouncement) -> Result<Heard, AnnouncementError> {
        self.take(signed, None)
    }

    fn take(&mut self, signed: &SignedAnnouncement, now: Option<Wall>) -> Result<Heard, AnnouncementError> {
        let Announcement { ledger, peer, term } = signed.announcement;
        let known = self.find(ledger.tag());
        match known {
            Some(known) if known == signed.announcement => return Ok(Heard::Known),
            Some(known) if known.ledger != ledger => {
                return Err(AnnouncementError::TagTaken { known: known.ledger, presented: ledger });
            }
            Some(known) if known.peer != peer => self.check_move(known, signed)?,
            Some(known) if term < known.term => {
                return Err(AnnouncementError::Over { ledger, known: known.term, presented: term });
            }
            Some(_) | None => {}
        }
        if signed.handovers.len() > limits::HANDOVERS_MAX {
            let (presented, handovers_max) = (signed.handovers.len(), limits::HANDOVERS_MAX);
            return Err(AnnouncementError::TooManyHandovers { ledger, presented, handovers_max });
        }
        signed.verify()?;
        if self.own.as_ref().is_some_and(|own| own.announcement.ledger == ledger) {
            return Ok(Heard::Copy(term));
        }
        if let Some(home) = self.homes.get_mut(&ledger.tag()).filter(|home| home.signed.announcement.peer == peer) {
            let earlier = std::mem::replace(&mut home.signed, signed.clone()).handovers;
            // A node of the version before passes them on without.
            if signed.handovers.is_empty() {
                home.signed.handovers = earlier;
            }
            return Ok(Heard::News);
        }
        self.forget(ledger.tag());
        self.make_room(signed, now)?;
        self.ledgers.insert(peer, ledger.tag());
        self.homes.insert(ledger.tag(), Home { signed: signed.clone(), last_seen: now });
        Ok(Heard::News)
    }

    /// Whether another peer than the one that is known may announce a ledger: if the one that is known, and each after
    /// it, handed it over.
    fn check_move(&self, known: Announcement, signed: &SignedAnnouncement) -> Result<(), AnnouncementError> {
        let Announcement { ledger, peer: presented, term } = signed.announcement;
        if handover::lead(&signed.handovers, &known, &signed.announcement) {
            return Ok(());
        }
        if self.handovers_of(ledger.tag()).any(|gone| gone.from == presented && gone.tenure > term.tenure) {
            return Err(AnnouncementError::Over { ledger, known: known.term, presented: term });
        }
        Err(AnnouncementError::OtherHome { ledger, home: known.peer, presented })
    }

    fn handovers_of(&self, tag: LedgerTag) -> impl Iterator<Item = &Handover> {
        let of_tag = move |signed: &&SignedAnnouncement| signed.announcement.ledger.tag() == tag;
        let told = self.announcements().filter(of_tag).flat_map(|signed| &signed.handovers);
        let own = self.handed_over.iter().map(|(_, handover)| handover).filter(move |own| own.ledger.tag() == tag);
        told.map(|signed| &signed.handover).chain(own)
    }

    /// A peer that says itself that it serves another ledger now, or shows who handed it over to it, has given its former
    /// one up. Else the home goes that was not heard for the longest time, if it was heard before `now` at all.
    fn make_room(&mut self, signed: &SignedAnnouncement, now: Option<Wall>) -> Result<(), AnnouncementError> {
        let Announcement { ledger, peer: presented, .. } = signed.announcement;
        let former = self.ledgers.get(&presented).copied();
        let is_handed = signed.handovers.last().is_some_and(|last| last.handover.to == presented);
        if let Some(serves) = former.filter(|_| now.is_none() && !is_handed) {
            return Err(AnnouncementError::OtherLedger { presented, serves, ledger });
        }
        let goes = former.or_else(|| {
            let full = self.homes.len() >= limits::PEERS_MAX;
            let (tag, home) = self.homes.iter().min_by_key(|(_, home)| home.last_seen).filter(|_| full)?;
            (home.last_seen < now).then_some(*tag)
        });
        goes.into_iter().for_each(|tag| self.forget(tag));
        let homes_max = limits::PEERS_MAX;
        if self.homes.len() < homes_max { Ok(()) } else { Err(AnnouncementError::Full { homes_max }) }
    }

    /// What this node passes on: of itself, and of all homes that it knows.
    pub fn announcements(&self) -> impl Iterator<Item = &SignedAnnouncement> {
        self.own.iter().chain(self.homes.values().map(|home| &home.signed))
    }

    fn find(&self, tag: LedgerTag) -> Option<Announcement> {
        self.announced(tag).or_else(|| {
            let (_, Handover { ledger, to, tenure, .. }) = *self.handed_over.as_ref()?;
            let term = Term { tenure, generation: Generation(0) };
            (ledger.tag() == tag).then_some(Announcement { ledger, peer: to, term })
        })
    }

    fn announced(&self, tag: LedgerTag) -> Option<Announcement> {
        let own = self.own.as_ref().filter(|own| own.announcement.ledger.tag() == tag);
        own.or(self.homes.get(&tag).map(|home| &home.signed)).map(|signed| signed.announcement)
    }

    /// The peer that serves the ledger of this tag.
    pub fn home_of(&self, tag: LedgerTag) -> Option<PeerId> {
        self.announced(tag).map(|known| known.peer)
    }

    /// When the home of this ledger was last heard itself.
    pub fn last_seen(&self, tag: LedgerTag) -> Option<Wall> {
        self.homes.get(&tag)?.last_seen
    }

    /// What a peer has announced.
    pub fn announced_by(&self, peer: PeerId) -> Option<Announcement> {
        self.find(*self.ledgers.get(&peer)?)
    }

    /// Whether `peer` speaks for the ledger of this tag, in this term. A later term than the one announced is one whose
    /// announcement is on its way.
    ///
    /// # Errors
    /// Who does instead.
    pub fn judge(&self, tag: LedgerTag, peer: PeerId, term: Term) -> Result<(), NotItsHome> {
        let known = self.find(tag).ok_or(NotItsHome::Unannounced(tag))?;
        if known.peer != peer {
            return Err(NotItsHome::Other { tag, home: known.peer });
        }
        if term < known.term {
            return Err(NotItsHome::Over { tag, known: known.term, presented: term });
        }
        Ok(())
    }

    /// Whether a head is its home's: of any term, since a clock orders them.
    pub fn is_of_its_home(&self, head: &Head) -> bool {
        self.find(head.ledger.tag()).is_some_and(|known| (known.ledger, known.peer) == (head.ledger, head.peer))
    }
}

#[cfg(test)]
mod tests;
