//! Tickets: a cluster says, signed, that one peer may come in, as what and until when.
//!
//! A ticket is for one peer id, and every connection proves whose it is: one that was overheard is worth nothing to
//! anybody else.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;

use super::cluster::{ClusterId, IssuingKey};
use super::role::Role;
use crate::ids::{PeerId, TicketId};
use crate::limits;
use crate::signature;
use crate::time::Wall;

/// That `peer` may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// Random: no two tickets have one, and a revocation names it.
    pub id: TicketId,
    pub peer: PeerId,
    pub role: Role,
    pub not_before: Wall,
    pub expires: Wall,
    pub issuer: ClusterId,
}

const DOMAIN: &[u8; 16] = b"magpie/ticket/1\0";
const FIELDS_LEN: usize = 16 + 32 + 1 + 8 + 8 + 32;
const SIGNING_BYTES_LEN: usize = DOMAIN.len() + FIELDS_LEN;
const PREFIX: &str = "magpie-ticket-";
const VERSION: &str = "1-";

/// A ticket that admits nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("it is not a ticket ({PREFIX}{VERSION} and 258 base32 digits)")]
    NotATicket,
    #[error("it is a ticket of another version than {PREFIX}{VERSION}")]
    OtherVersion,
    #[error("the ticket is for {named}, not for {presented}")]
    WrongPeer { named: PeerId, presented: PeerId },
    #[error("the ticket was issued by {issuer}, which is not accepted here")]
    ForeignIssuer { issuer: ClusterId },
    #[error("the ticket is not signed by {issuer}, which it names")]
    WrongSignature { issuer: ClusterId },
    #[error("the ticket is good from {not_before} on")]
    TooEarly { not_before: Wall },
    #[error("the ticket expired at {expires}")]
    Expired { expires: Wall },
    #[error("a ticket is good for at least a second and at most {days} days", days = limits::TICKET_LIFE_MS_MAX / 86_400_000)]
    Life,
}

impl Ticket {
    /// A ticket from `now` on, for `life_ms`.
    ///
    /// # Errors
    /// If it would be good for no time, or for longer than [`limits::TICKET_LIFE_MS_MAX`].
    pub fn issue(
        key: &IssuingKey,
        id: TicketId,
        peer: PeerId,
        role: Role,
        now: Wall,
        life_ms: u64,
    ) -> Result<SignedTicket, TicketError> {
        if !(1_000..=limits::TICKET_LIFE_MS_MAX).contains(&life_ms) {
            return Err(TicketError::Life);
        }
        let expires = Wall(now.0.saturating_add(life_ms));
        Ok(Self { id, peer, role, not_before: now, expires, issuer: key.cluster() }.sign(key))
    }

    /// What is signed: the text `magpie/ticket/1` and a zero byte, then id (16 bytes), peer (32), role (1: peer 1, agent
    /// 2, operator 3), not before and expires (8 each, Unix milliseconds, the highest byte first) and issuer (32).
    fn signing_bytes(&self) -> [u8; SIGNING_BYTES_LEN] {
        signature::statement([DOMAIN.as_slice(), &self.fields()])
    }

    fn fields(&self) -> [u8; FIELDS_LEN] {
        signature::statement([
            self.id.0.as_slice(),
            &self.peer.0,
            &[self.role.code()],
            &self.not_before.0.to_be_bytes(),
            &self.expires.0.to_be_bytes(),
            &self.issuer.0,
        ])
    }

    fn from_fields(fields: &[u8; FIELDS_LEN]) -> Option<Self> {
        let mut rest = fields.as_slice();
        let id = TicketId(take(&mut rest)?);
        let peer = PeerId(take(&mut rest)?);
        let [role] = take(&mut rest)?;
        let not_before = Wall(u64::from_be_bytes(take(&mut rest)?));
        let expires = Wall(u64::from_be_bytes(take(&mut rest)?));
        let issuer = ClusterId(take(&mut rest)?);
        Some(Self { id, peer, role: Role::from_code(role)?, not_before, expires, issuer })
    }

    fn sign(self, key: &IssuingKey) -> SignedTicket {
        SignedTicket { ticket: self, signature: key.sign(&self.signing_bytes()) }
    }
}

fn take<const LEN: usize>(bytes: &mut &[u8]) -> Option<[u8; LEN]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// A ticket and its cluster's ed25519 signature. Its text is one line, which its holder may keep in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedTicket {
    pub ticket: Ticket,
    signature: [u8; 64],
}

impl SignedTicket {
    /// Whether `presenter`, who proved to be that peer, may come in by it at `now`. Clocks may differ by a minute
    /// before a ticket begins; its end is exact.
    ///
    /// # Errors
    /// Why it may not.
    pub fn verify(&self, presenter: PeerId, accepted: &[ClusterId], now: Wall) -> Result<(), TicketError> {
        let Ticket { peer, not_before, expires, issuer, .. } = self.ticket;
        if peer != presenter {
            return Err(TicketError::WrongPeer { named: peer, presented: presenter });
        }
        if !accepted.contains(&issuer) {
            return Err(TicketError::ForeignIssuer { issuer });
        }
        let verified = issuer.verify(&self.ticket.signing_bytes(), &self.signature);
        verified.map_err(|_| TicketError::WrongSignature { issuer })?;
        if now.0.saturating_add(limits::TICKET_SKEW_MS) < not_before.0 {
            return Err(TicketError::TooEarly { not_before });
        }
        if expires <= now {
            return Err(TicketError::Expired { expires });
        }
        Ok(())
    }
}

impl fmt::Display for SignedTicket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.ticket.fields().as_slice(), &self.signature].concat();
        write!(formatter, "{PREFIX}{VERSION}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for SignedTicket {
    type Err = TicketError;

    /// Reads a ticket. That it is one says nothing about whether it is good: see [`Self::verify`].
    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > limits::TICKET_BYTES_MAX {
            return Err(TicketError::NotATicket);
        }
        let versioned = text.trim().strip_prefix(PREFIX).ok_or(TicketError::NotATicket)?;
        let digits = versioned.strip_prefix(VERSION).ok_or(TicketError::OtherVersion)?;
        let bytes = BASE32_NOPAD.decode(digits.to_ascii_uppercase().as_bytes()).map_err(|_| TicketError::NotATicket)?;
        let (fields, signature) = bytes.split_first_chunk::<FIELDS_LEN>().ok_or(TicketError::NotATicket)?;
        let ticket = Ticket::from_fields(fields).ok_or(TicketError::NotATicket)?;
        let signature = signature.try_into().map_err(|_| TicketError::NotATicket)?;
        Ok(Self { ticket, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALICE: PeerId = PeerId([1; 32]);
    const EVE: PeerId = PeerId([3; 32]);
    const NOW: Wall = Wall(1_764_000_000_000);
    const HOUR_MS: u64 = 3_600_000;

    fn key() -> IssuingKey {
        IssuingKey::from_seed([9; 32])
    }

    fn issued(role: Role) -> SignedTicket {
        Ticket::issue(&key(), TicketId([7; 16]), ALICE, role, NOW, HOUR_MS).unwrap()
    }

    #[test]
    fn a_ticket_admits_its_peer_from_its_beginning_to_its_end() {
        let (ticket, accepted) = (issued(Role::Agent), [key().cluster()]);
        let at = |ms: u64| ticket.verify(ALICE, &accepted, Wall(ms));
        assert_eq!(at(NOW.0), Ok(()));
        assert_eq!(at(NOW.0 - limits::TICKET_SKEW_MS), Ok(()), "another clock may be behind");
        assert_eq!(at(NOW.0 - limits::TICKET_SKEW_MS - 1), Err(TicketError::TooEarly { not_before: NOW }));
        assert_eq!(at(NOW.0 + HOUR_MS - 1), Ok(()));
        let expires = Wall(NOW.0 + HOUR_MS);
        assert_eq!(at(expires.0), Err(TicketError::Expired { expires }));
        assert_eq!(at(u64::MAX), Err(TicketError::Expired { expires }));
    }

    #[test]
    fn a_ticket_admits_nobody_else_and_nowhere_else() {
        let (ticket, issuer) = (issued(Role::Peer), key().cluster());
        let wrong_peer = TicketError::WrongPeer { named: ALICE, presented: EVE };
        assert_eq!(ticket.verify(EVE, &[issuer], NOW), Err(wrong_peer));
        let elsewhere = IssuingKey::from_seed([8; 32]).cluster();
        assert_eq!(ticket.verify(ALICE, &[elsewhere], NOW), Err(TicketError::ForeignIssuer { issuer }));
        assert_eq!(ticket.verify(ALICE, &[], NOW), Err(TicketError::ForeignIssuer { issuer }));
        assert_eq!(ticket.verify(ALICE, &[elsewhere, issuer], NOW), Ok(()));
    }

    #[test]
    fn whatever_is_changed_in_a_ticket_its_signature_no_longer_holds() {
        let (signed, issuer) = (issued(Role::Agent), key().cluster());
        let refused = |ticket: Ticket| {
            let changed = SignedTicket { ticket, ..signed };
            assert_eq!(changed.verify(ticket.peer, &[issuer], NOW), Err(TicketError::WrongSignature { issuer }));
        };
        let ticket = signed.ticket;
        refused(Ticket { id: TicketId([8; 16]), ..ticket });
        refused(Ticket { peer: EVE, ..ticket });
        refused(Ticket { role: Role::Operator, ..ticket });
        refused(Ticket { not_before: Wall(0), ..ticket });
        refused(Ticket { expires: Wall(u64::MAX), ..ticket });
        let forged = Ticket { role: Role::Operator, ..ticket }.sign(&IssuingKey::from_seed([8; 32]));
        assert_eq!(forged.verify(ALICE, &[issuer], NOW), Err(TicketError::WrongSignature { issuer }));
    }

    #[test]
    fn a_ticket_for_no_time_or_for_ever_is_not_issued() {
        for life_ms in [0, 999, limits::TICKET_LIFE_MS_MAX + 1, u64::MAX] {
            let issued = Ticket::issue(&key(), TicketId([7; 16]), ALICE, Role::Peer, NOW, life_ms);
            assert_eq!(issued, Err(TicketError::Life), "{life_ms} ms");
        }
    }

    #[test]
    fn the_text_of_a_ticket_is_that_of_version_1() {
        let text = issued(Role::Agent).to_string();
        assert_eq!(text.len(), PREFIX.len() + VERSION.len() + 258);
        assert_eq!(
            crate::ids::ContentId::of(text.as_bytes()).to_string(),
            "bafkreif2nxvlsggafnaa4yo3sq6ousbynn5zrbepyuhzqgk52g2w55jlke",
            "{text}"
        );
        assert_eq!(text.replacen("-1-", "-2-", 1).parse::<SignedTicket>(), Err(TicketError::OtherVersion));
        assert_eq!(format!(" {text}\n").parse::<SignedTicket>(), Ok(issued(Role::Agent)), "as a file ends");
    }

    proptest! {
        #[test]
        fn a_ticket_survives_its_text(
            id: [u8; 16], peer: [u8; 32], role in prop::sample::select(&Role::ALL[..]), now: u64, life_ms in 1_000..HOUR_MS,
        ) {
            let signed = Ticket::issue(&key(), TicketId(id), PeerId(peer), role, Wall(now), life_ms).unwrap();
            prop_assert_eq!(signed.to_string().parse(), Ok(signed));
        }

        #[test]
        fn a_changed_letter_makes_no_good_ticket(at in 0usize..274, letter in "[ -~]") {
            let text = issued(Role::Peer).to_string();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &letter);
            prop_assume!(!changed.trim().eq_ignore_ascii_case(&text));
            let verified = changed.parse::<SignedTicket>().and_then(|ticket| ticket.verify(ALICE, &[key().cluster()], NOW));
            prop_assert!(verified.is_err());
        }

        #[test]
        fn whatever_is_read_as_a_ticket_never_panics(text in ".{0,400}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = text.parse::<SignedTicket>();
            let digits = BASE32_NOPAD.encode(&bytes);
            let parsed = format!("{PREFIX}{VERSION}{digits}").parse::<SignedTicket>();
            prop_assert!(parsed.is_err() || bytes.len() == FIELDS_LEN + 64);
        }
    }
}
