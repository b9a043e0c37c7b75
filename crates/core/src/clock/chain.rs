//! The hash chain of a home's durable log.
//!
//! An event is its canonical JSON (RFC 8785); its id is the CIDv1 (raw codec) of the sha2-256 of that; each event names the
//! one before. So the id of the last names the whole history. The event before the first is
//! `{"chain":1,"ledger":"<ledger id>"}`: the chain's version and whose it is.

use std::io::Write;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use super::head::Head;
use crate::ids::{ContentId, Generation, LedgerId, LogIndex, PeerId};
use crate::time::Wall;

/// One link: what stands at one index of a ledger's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEvent {
    pub ledger: LedgerId,
    /// 1 for the first.
    pub index: LogIndex,
    pub at: Wall,
    pub kind: String,
    /// The bytes of the stored record.
    pub record: ContentId,
    pub prev: ContentId,
}

/// Why an event is not the next of a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptEventError {
    #[error("event {index} is of ledger {presented}, not of {ledger}")]
    OtherLedger { ledger: LedgerId, presented: LedgerId, index: LogIndex },
    #[error("event {presented} of ledger {ledger} stands where {expected} is expected")]
    OutOfOrder { ledger: LedgerId, expected: LogIndex, presented: LogIndex },
    #[error("event {index} of ledger {ledger} names {presented} as the one before it, which is {expected}")]
    Broken { ledger: LedgerId, index: LogIndex, expected: ContentId, presented: ContentId },
}

/// The end of a ledger's chain, ready to take the next event.
#[derive(Debug, Clone)]
pub struct Chain {
    ledger: LedgerId,
    count: u64,
    tip: ContentId,
    /// The text of one event, kept for its capacity.
    json: Vec<u8>,
}

impl Chain {
    /// The chain of a ledger without events.
    pub fn genesis(ledger: LedgerId) -> Self {
        let tip = ContentId::of(format!(r#"{{"chain":1,"ledger":"{ledger}"}}"#).as_bytes());
        Self::resume(ledger, 0, tip)
    }

    /// The chain that ends at event number `count`, whose id is `tip`: as a restarted home, or a checkpoint, has it.
    pub fn resume(ledger: LedgerId, count: u64, tip: ContentId) -> Self {
        Self { ledger, count, tip, json: Vec::new() }
    }

    pub fn ledger(&self) -> LedgerId {
        self.ledger
    }

    /// Events so far: the index of the last.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The id of the last event.
    pub fn tip(&self) -> ContentId {
        self.tip
    }

    /// The head to sign and publish, once the last event is durable.
    pub fn head(&self, peer: PeerId, tenure: u64, generation: Generation) -> Head {
        Head { ledger: self.ledger, peer, tenure, generation, count: self.count, event: self.tip }
    }

    /// The event that [`Self::append`] with the same arguments would add.
    pub fn next_event(&self, at: Wall, kind: &str, record_bytes: &[u8]) -> ChainEvent {
        ChainEvent {
            ledger: self.ledger,
            index: LogIndex(self.count).next(),
            at,
            kind: kind.to_owned(),
            record: ContentId::of(record_bytes),
            prev: self.tip,
        }
    }

    /// Adds the event of one stored record and returns its id, the new tip.
    pub fn append(&mut self, at: Wall, kind: &str, record_bytes: &[u8]) -> ContentId {
        self.advance(at, kind, ContentId::of(record_bytes))
    }

    /// Adds an event that was read somewhere, if it is the next, and returns its id.
    ///
    /// # Errors
    /// If it is of another ledger, has another index, or names another predecessor; the chain is then as before.
    pub fn accept(&mut self, event: &ChainEvent) -> Result<ContentId, AcceptEventError> {
        let &ChainEvent { ledger: presented, index, prev, .. } = event;
        let (ledger, expected) = (self.ledger, LogIndex(self.count).next());
        if presented != ledger {
            return Err(AcceptEventError::OtherLedger { ledger, presented, index });
        }
        if index != expected {
            return Err(AcceptEventError::OutOfOrder { ledger, expected, presented: index });
        }
        if prev != self.tip {
            return Err(AcceptEventError::Broken { ledger, index, expected: self.tip, presented: prev });
        }
        Ok(self.advance(event.at, &event.kind, event.record))
    }

    /// Follows `events` from here to the last; the tip then is to equal a signed head's event.
    ///
    /// # Errors
    /// Of the first event that is not the next, as [`Self::accept`]; the chain then ends before it.
    pub fn verify<'a>(
        &mut self,
        events: impl IntoIterator<Item = &'a ChainEvent>,
    ) -> Result<ContentId, AcceptEventError> {
        events.into_iter().try_fold(self.tip, |_, event| self.accept(event))
    }

    fn advance(&mut self, at: Wall, kind: &str, record: ContentId) -> ContentId {
        self.count += 1;
        self.json.clear();
        self.write_json(at, kind, record).expect("a vector takes all that is written to it");
        self.tip = ContentId::of(&self.json);
        self.tip
    }

    /// The canonical JSON of event `count` after `tip`, by hand: a general serialiser sorts members and takes several
    /// times as long, once per record of the log.
    fn write_json(&mut self, at: Wall, kind: &str, record: ContentId) -> std::io::Result<()> {
        let json = &mut self.json;
        write!(json, r#"{{"at":"{at}","index":{},"kind":"#, self.count)?;
        serde_json::to_writer(&mut *json, kind)?;
        write!(json, r#","ledger":"{}","prev":""#, self.ledger)?;
        json.extend_from_slice(&text_of(self.tip));
        json.extend_from_slice(br#"","record":""#);
        json.extend_from_slice(&text_of(record));
        json.extend_from_slice(br#""}"#);
        Ok(())
    }
}

/// The text of a content id, without the allocations of its `Display`.
fn text_of(id: ContentId) -> [u8; 59] {
    let mut bytes = [0; 36];
    bytes[..4].copy_from_slice(&[0x01, 0x55, 0x12, 0x20]);
    bytes[4..].copy_from_slice(&id.0);
    let mut text = [b'b'; 59];
    BASE32_NOPAD.encode_mut(&bytes, &mut text[1..]);
    text.make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LEDGER: LedgerId = LedgerId([7; 16]);

    fn canonical_id(event: &ChainEvent) -> ContentId {
        ContentId::of(&serde_json_canonicalizer::to_vec(event).unwrap())
    }

    fn chain_of(len: u64) -> Vec<ChainEvent> {
        let mut chain = Chain::genesis(LEDGER);
        let mut event = |n: u64| {
            let event = chain.next_event(Wall(n), "submitted", &n.to_be_bytes());
            chain.append(Wall(n), "submitted", &n.to_be_bytes());
            event
        };
        (1..=len).map(&mut event).collect()
    }

    proptest! {
        #[test]
        fn an_event_is_hashed_as_its_canonical_json(
            ledger: [u8; 16], count in 0u64..(1 << 53) - 1, tip: [u8; 32],
            at in 0u64..253_402_300_799_999, kind in r#"([a-z."\\/]|\PC|\p{Cc}){0,12}"#, record in vec(any::<u8>(), 0..64),
        ) {
            let mut chain = Chain::resume(LedgerId(ledger), count, ContentId(tip));
            let event = chain.next_event(Wall(at), &kind, &record);
            let canonical = serde_json_canonicalizer::to_string(&event).unwrap();
            let id = chain.append(Wall(at), &kind, &record);
            prop_assert_eq!(std::str::from_utf8(&chain.json).unwrap(), canonical);
            prop_assert_eq!(id, canonical_id(&event));
            prop_assert_eq!(chain.count(), count + 1);
        }

        #[test]
        fn content_ids_are_written_as_they_display(id: [u8; 32]) {
            prop_assert_eq!(String::from_utf8(text_of(ContentId(id)).to_vec()).unwrap(), ContentId(id).to_string());
        }

        #[test]
        fn a_change_anywhere_changes_the_tip_or_is_refused(len in 1u64..8, place: proptest::sample::Index, field in 0..6) {
            let mut events = chain_of(len);
            let honest = Chain::genesis(LEDGER).verify(&events).unwrap();
            let event = &mut events[place.index(len as usize)];
            match field {
                0 => event.ledger.0[0] ^= 1,
                1 => event.index.0 += 1,
                2 => event.at.0 += 1,
                3 => event.kind.push('x'),
                4 => event.record.0[0] ^= 1,
                _ => event.prev.0[0] ^= 1,
            }
            prop_assert_ne!(Chain::genesis(LEDGER).verify(&events), Ok(honest));
        }
    }

    #[test]
    fn the_text_of_an_event_stays_what_it_is() {
        let mut chain = Chain::genesis(LEDGER);
        chain.append(Wall(1_795_230_000_000), "submitted", b"record");
        let expected = concat!(
            r#"{"at":"2026-11-21T03:00:00.000Z","index":1,"kind":"submitted","#,
            r#""ledger":"a4dqobyha4dqobyha4dqobyha4","#,
            r#""prev":"GENESIS","#,
            r#""record":"RECORD"}"#,
        )
        .replace("GENESIS", &Chain::genesis(LEDGER).tip().to_string())
        .replace("RECORD", &ContentId::of(b"record").to_string());
        assert_eq!(std::str::from_utf8(&chain.json).unwrap(), expected);
        let genesis = serde_json_canonicalizer::to_vec(&serde_json::json!({"ledger": LEDGER, "chain": 1})).unwrap();
        assert_eq!(Chain::genesis(LEDGER).tip(), ContentId::of(&genesis));
    }

    #[test]
    fn a_chain_that_was_written_verifies_from_the_start_and_from_any_checkpoint() {
        let events = chain_of(5);
        let tip = canonical_id(&events[4]);
        assert_eq!(Chain::genesis(LEDGER).verify(&events), Ok(tip));
        let mut resumed = Chain::resume(LEDGER, 3, canonical_id(&events[2]));
        assert_eq!(resumed.verify(&events[3..]), Ok(tip));
        assert_eq!((resumed.ledger(), resumed.count(), resumed.tip()), (LEDGER, 5, tip));
        assert_eq!(Chain::genesis(LEDGER).verify(&[]), Ok(Chain::genesis(LEDGER).tip()));
    }

    #[test]
    fn an_event_that_is_not_the_next_is_refused_in_words_and_changes_nothing() {
        let events = chain_of(3);
        let mut chain = Chain::genesis(LEDGER);
        chain.accept(&events[0]).unwrap();
        let forked = ChainEvent { prev: ContentId([0; 32]), ..events[1].clone() };
        let stranger = ChainEvent { ledger: LedgerId([8; 16]), ..events[1].clone() };
        for (wrong, words) in [
            (&events[0], "event 1 of ledger a4dqobyha4dqobyha4dqobyha4 stands where 2 is expected"),
            (&events[2], "event 3 of ledger a4dqobyha4dqobyha4dqobyha4 stands where 2 is expected"),
            (&forked, "event 2 of ledger a4dqobyha4dqobyha4dqobyha4 names bafk"),
            (&stranger, "event 2 is of ledger baeaq"),
        ] {
            let error = chain.accept(wrong).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
        assert_eq!(chain.accept(&events[1]), Ok(canonical_id(&events[1])));
    }

    #[test]
    fn two_ledgers_with_the_same_records_have_different_chains() {
        assert_ne!(Chain::genesis(LEDGER).tip(), Chain::genesis(LedgerId([8; 16])).tip());
    }

    #[test]
    fn a_head_names_the_end_of_the_chain() {
        let mut chain = Chain::genesis(LEDGER);
        let tip = chain.append(Wall(1), "submitted", b"");
        let head = chain.head(PeerId([1; 32]), 2, Generation(3));
        assert_eq!((head.ledger, head.count, head.event, head.tenure), (LEDGER, 1, tip, 2));
    }
}
