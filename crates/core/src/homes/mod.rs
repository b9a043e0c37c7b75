//! Which node serves which ledger, by the nodes' own signed word.
//!
//! A ledger belongs to the peer that announced it first, and a peer has one: what another says of it is refused, so
//! nobody takes over the tasks of others by saying so. Of one home the latest term speaks; what an earlier one still
//! says, a copy of its disk or a message long on its way, is refused.

mod announcement;

use std::collections::BTreeMap;

use crate::clock::Head;
use crate::ids::{LedgerId, LedgerTag, PeerId};
use crate::limits;
use crate::signature::VerifyError;
use crate::time::Wall;

pub use announcement::{Announcement, SignedAnnouncement, Term};

/// What an announcement told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new.
    Known,
    /// Of a home that was not known, or a later term of one that was.
    News,
    /// Of this node's own ledger, rightly signed, with a term that this node never served: a copy of its disk did.
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

#[derive(Debug, Clone, Copy)]
struct Home {
    signed: SignedAnnouncement,
    /// When it was last heard itself; none: of it only others told.
    last_seen: Option<Wall>,
}

/// All homes that a node knows, at most [`limits::PEERS_MAX`] beside its own.
#[derive(Debug, Clone, Default)]
pub struct Homes {
    own: Option<SignedAnnouncement>,
    homes: BTreeMap<LedgerTag, Home>,
    ledgers: BTreeMap<PeerId, LedgerTag>,
}

impl Homes {
    /// What this node announces of itself.
    pub fn serve(&mut self, own: SignedAnnouncement) {
        self.own = Some(own);
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
        let known = self.find(ledger.tag()).copied();
        match known {
            Some(known) if known == signed.announcement => return Ok(Heard::Known),
            Some(known) if known.ledger != ledger => {
                return Err(AnnouncementError::TagTaken { known: known.ledger, presented: ledger });
            }
            Some(known) if known.peer != peer => {
                return Err(AnnouncementError::OtherHome { ledger, home: known.peer, presented: peer });
            }
            Some(known) if term < known.term => {
                return Err(AnnouncementError::Over { ledger, known: known.term, presented: term });
            }
            Some(_) | None => signed.verify()?,
        }
        if let Some(home) = self.homes.get_mut(&ledger.tag()) {
            home.signed = *signed;
            return Ok(Heard::News);
        }
        if known.is_some() {
            return Ok(Heard::Copy(term));
        }
        self.make_room(&signed.announcement, now)?;
        self.ledgers.insert(peer, ledger.tag());
        self.homes.insert(ledger.tag(), Home { signed: *signed, last_seen: now });
        Ok(Heard::News)
    }

    /// A peer that says itself that it serves another ledger now has given its former one up. Else the home goes that was
    /// not heard for the longest time, if it was heard before `now` at all.
    fn make_room(&mut self, for_home: &Announcement, now: Option<Wall>) -> Result<(), AnnouncementError> {
        let Announcement { ledger, peer: presented, .. } = *for_home;
        let former = self.ledgers.get(&presented).copied();
        if let Some(serves) = former.filter(|_| now.is_none()) {
            return Err(AnnouncementError::OtherLedger { presented, serves, ledger });
        }
        let goes = former.or_else(|| {
            let full = self.homes.len() >= limits::PEERS_MAX;
            let (tag, home) = self.homes.iter().min_by_key(|(_, home)| home.last_seen).filter(|_| full)?;
            (home.last_seen < now).then_some(*tag)
        });
        if let Some(home) = goes.and_then(|tag| self.homes.remove(&tag)) {
            self.ledgers.remove(&home.signed.announcement.peer);
        }
        let homes_max = limits::PEERS_MAX;
        if self.homes.len() < homes_max { Ok(()) } else { Err(AnnouncementError::Full { homes_max }) }
    }

    /// What this node passes on: of itself, and of all homes that it knows.
    pub fn announcements(&self) -> impl Iterator<Item = &SignedAnnouncement> {
        self.own.iter().chain(self.homes.values().map(|home| &home.signed))
    }

    fn find(&self, tag: LedgerTag) -> Option<&Announcement> {
        let own = self.own.as_ref().filter(|own| own.announcement.ledger.tag() == tag);
        own.or(self.homes.get(&tag).map(|home| &home.signed)).map(|signed| &signed.announcement)
    }

    /// The peer that serves the ledger of this tag.
    pub fn home_of(&self, tag: LedgerTag) -> Option<PeerId> {
        self.find(tag).map(|known| known.peer)
    }

    /// When the home of this ledger was last heard itself.
    pub fn last_seen(&self, tag: LedgerTag) -> Option<Wall> {
        self.homes.get(&tag)?.last_seen
    }

    /// What a peer has announced.
    pub fn announced_by(&self, peer: PeerId) -> Option<&Announcement> {
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
