//! Identities: newtypes, so that no bare integer or string crosses a boundary.
//!
//! Every id has one text form (JSON, logs, the command line) and one compact binary form (MessagePack).

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::time::Wall;

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{presented:?} is not a {expected}")]
pub struct ParseIdError {
    pub expected: &'static str,
    pub presented: String,
}

impl ParseIdError {
    fn new(expected: &'static str, presented: &str) -> Self {
        let presented = presented.chars().take(80).collect();
        Self { expected, presented }
    }
}

/// Serialises `$name` as text where a person reads and as bytes where a machine does; reads either anywhere.
macro_rules! text_or_bytes {
    ($name:ident, $expected:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.to_bytes())
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str(concat!("a ", $expected))
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<$name, E> {
                        $name::from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
                    }
                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<$name, A::Error> {
                        let mut bytes = Vec::with_capacity(32);
                        while let Some(byte) = seq.next_element::<u8>()? {
                            if bytes.len() == 64 {
                                return Err(serde::de::Error::invalid_length(65, &self));
                            }
                            bytes.push(byte);
                        }
                        self.visit_bytes(&bytes)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    };
}

/// A node: its ed25519 public key. The text form is libp2p's PeerId (`12D3KooW...`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

/// The bytes of libp2p's "identity" multihash of an ed25519 public key, before the key itself.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl PeerId {
    fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut multihash = PEER_ID_PREFIX.to_vec();
        multihash.extend_from_slice(&self.0);
        formatter.write_str(&bs58::encode(multihash).into_string())
    }
}

impl FromStr for PeerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = || ParseIdError::new("peer id (ed25519, 12D3KooW...)", text);
        if text.len() > 64 {
            return Err(wrong());
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| wrong())?;
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).ok_or_else(wrong)?;
        Self::from_bytes(key).ok_or_else(wrong)
    }
}

text_or_bytes!(PeerId, "peer id");

/// A home's ledger: 128 random bits, made with it and kept across key rotation and volume moves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(pub [u8; 16]);

impl LedgerId {
    fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The part of the ledger's id that each of its task ids ends with.
    pub fn tag(self) -> LedgerTag {
        let [a, b, c, d, e, ..] = self.0;
        LedgerTag([a, b, c, d, e])
    }
}

impl fmt::Display for LedgerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for LedgerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = || ParseIdError::new("ledger id (26 base32 characters)", text);
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| wrong())?;
        Self::from_bytes(&bytes).ok_or_else(wrong)
    }
}

text_or_bytes!(LedgerId, "ledger id");

/// The first 8 base32 characters (40 bits) of a ledger's id: enough for any node to route a task id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerTag(pub [u8; 5]);

impl LedgerTag {
    fn to_bytes(self) -> [u8; 5] {
        self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for LedgerTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl FromStr for LedgerTag {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = || ParseIdError::new("ledger tag (8 base32 characters)", text);
        if text.len() != 8 {
            return Err(wrong());
        }
        let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| wrong())?;
        Self::from_bytes(&bytes).ok_or_else(wrong)
    }
}

text_or_bytes!(LedgerTag, "ledger tag");

/// A task or a workflow: a ULID (48 bits of Unix milliseconds, 80 of the operation that made it) and its ledger's tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub ulid: u128,
    pub ledger: LedgerTag,
}

/// A workflow's id has the form of a task's and routes the same way.
pub type WorkflowId = TaskId;
/// A schedule's too.
pub type ScheduleId = TaskId;
/// A context's too.
pub type ContextId = TaskId;

/// Crockford's base32: no I, L, O, U.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ULID_LEN: usize = 26;

impl TaskId {
    /// The `n`-th task made by `operation` at `wall_ms`. The same arguments give the same id, so a replay does too.
    pub fn derive(ledger: LedgerTag, wall_ms: u64, operation: OperationId, n: u32) -> Self {
        let mut hash = Sha256::new();
        hash.update(operation.0);
        hash.update(n.to_be_bytes());
        let digest = hash.finalize();
        let random = digest.iter().take(10).fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
        Self { ulid: (u128::from(wall_ms) & 0xffff_ffff_ffff) << 80 | random, ledger }
    }

    /// When its home made it.
    pub fn made_at(self) -> Wall {
        Wall((self.ulid >> 80) as u64)
    }

    fn to_bytes(self) -> [u8; 21] {
        let mut bytes = [0; 21];
        bytes[..16].copy_from_slice(&self.ulid.to_be_bytes());
        bytes[16..].copy_from_slice(&self.ledger.0);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ulid, ledger) = bytes.split_at_checked(16)?;
        Some(Self { ulid: u128::from_be_bytes(ulid.try_into().ok()?), ledger: LedgerTag::from_bytes(ledger)? })
    }

    /// sha256 of the text form: what the preferred peer is computed from.
    pub fn hash(self) -> [u8; 32] {
        Sha256::digest(self.to_string().as_bytes()).into()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; ULID_LEN];
        for (place, slot) in text.iter_mut().rev().enumerate() {
            *slot = CROCKFORD[((self.ulid >> (5 * place)) & 31) as usize];
        }
        formatter.write_str(&String::from_utf8_lossy(&text))?;
        write!(formatter, "-{}", self.ledger)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = || ParseIdError::new("task id (ULID-ledger, as 01JD...-k3v9x2aq)", text);
        let (ulid_text, ledger) = text.split_once('-').ok_or_else(wrong)?;
        if ulid_text.len() != ULID_LEN
            || !ulid_text.as_bytes().first().is_some_and(|first| (b'0'..=b'7').contains(first))
        {
            return Err(wrong());
        }
        let mut ulid = 0u128;
        for byte in ulid_text.bytes() {
            let digit = CROCKFORD.iter().position(|letter| *letter == byte.to_ascii_uppercase()).ok_or_else(wrong)?;
            ulid = ulid << 5 | digit as u128;
        }
        Ok(Self { ulid, ledger: ledger.parse().map_err(|_| wrong())? })
    }
}

text_or_bytes!(TaskId, "task id");

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            fn to_bytes(self) -> [u8; $len] {
                self.0
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let wrong = || ParseIdError::new($expected, text);
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong())?;
                Self::from_bytes(&bytes).ok_or_else(wrong)
            }
        }

        text_or_bytes!($name, $expected);
    };
}

hex_id!(
    /// A secret that a grant carries and each message about its lease presents.
    LeaseToken, 16, "lease token (32 hexadecimal digits)"
);
hex_id!(
    /// Made by the first door a mutating message passes, kept across forwards: a replay changes nothing.
    OperationId, 16, "operation id (32 hexadecimal digits)"
);
hex_id!(
    /// A ticket by its random number.
    TicketId, 16, "ticket id (32 hexadecimal digits)"
);
hex_id!(
    /// sha256 of the MessagePack bytes of an outcome.
    OutcomeDigest, 32, "outcome digest (64 hexadecimal digits)"
);

/// Content by its sha2-256: the text form is a CIDv1 (raw codec, base32).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(pub [u8; 32]);

/// The multicodec of plain bytes and the multihash of sha2-256.
const RAW_CODEC: u64 = 0x55;
const SHA2_256: u64 = 0x12;

impl ContentId {
    /// The id of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![0x01, RAW_CODEC as u8, SHA2_256 as u8, 32];
        bytes.extend_from_slice(&self.0);
        write!(formatter, "b{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

impl FromStr for ContentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let wrong = || ParseIdError::new("content id (CIDv1, raw, sha2-256)", text);
        let parsed = cid::Cid::try_from(text).map_err(|_| wrong())?;
        if parsed.codec() != RAW_CODEC || parsed.hash().code() != SHA2_256 {
            return Err(wrong());
        }
        Self::from_bytes(parsed.hash().digest()).ok_or_else(wrong)
    }
}

text_or_bytes!(ContentId, "content id");

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number_id!(
    /// How often a home has started; fsynced before use.
    Generation(u32)
);
number_id!(
    /// A task's lease generation: `generation * 2^32 + n`. Below 2^53 while a home starts less than 2^21 times, so JSON keeps it.
    Epoch(u64)
);
number_id!(
    /// One life of a worker process: Unix milliseconds of its start, at least one more than its last.
    Incarnation(u64)
);
number_id!(
    /// The number of one sending of a credit, counted per (incarnation, home).
    Sending(u64)
);
number_id!(
    /// The place of a record in a ledger's log. The first record has 1; 0 is before all.
    LogIndex(u64)
);

impl Epoch {
    pub fn new(generation: Generation, n: u32) -> Self {
        Self(u64::from(generation.0) << 32 | u64::from(n))
    }

    pub fn generation(self) -> Generation {
        Generation((self.0 >> 32) as u32)
    }
}

impl LogIndex {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_and_bytes_agree<T>(value: T)
    where
        T: Copy
            + fmt::Display
            + FromStr<Err = ParseIdError>
            + fmt::Debug
            + PartialEq
            + Serialize
            + for<'a> Deserialize<'a>,
    {
        assert_eq!(value.to_string().parse::<T>(), Ok(value));
        let json = serde_json::to_string(&value).unwrap();
        assert_eq!(json, format!("\"{value}\""));
        assert_eq!(serde_json::from_str::<T>(&json).unwrap(), value);
        assert_eq!(rmp_serde::from_slice::<T>(&rmp_serde::to_vec_named(&value).unwrap()).unwrap(), value);
    }

    proptest! {
        #[test]
        fn every_id_survives_text_and_binary(ulid: u128, a: [u8; 5], b: [u8; 16], c: [u8; 32]) {
            text_and_bytes_agree(TaskId { ulid, ledger: LedgerTag(a) });
            text_and_bytes_agree(LedgerTag(a));
            text_and_bytes_agree(LedgerId(b));
            text_and_bytes_agree(LeaseToken(b));
            text_and_bytes_agree(PeerId(c));
            text_and_bytes_agree(ContentId(c));
        }

        #[test]
        fn random_text_is_refused_in_words_and_never_panics(text in ".{0,80}") {
            for error in [text.parse::<TaskId>().err(), text.parse::<PeerId>().err(), text.parse::<ContentId>().err()] {
                prop_assert!(error.is_none_or(|error| error.to_string().contains("is not a")));
            }
        }
    }

    #[test]
    fn task_ids_sort_by_time_and_repeat_for_a_replay() {
        let tag = LedgerId([7; 16]).tag();
        let early = TaskId::derive(tag, 1_000, OperationId([1; 16]), 0);
        let late = TaskId::derive(tag, 1_001, OperationId([0; 16]), 0);
        assert!(early < late);
        assert_eq!(early, TaskId::derive(tag, 1_000, OperationId([1; 16]), 0));
        assert_ne!(early, TaskId::derive(tag, 1_000, OperationId([1; 16]), 1));
    }

    #[test]
    fn content_ids_are_the_ones_ipfs_computes() {
        let empty = ContentId::of(b"");
        assert_eq!(empty.to_string(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
    }

    #[test]
    fn epochs_stay_exact_in_json() {
        let epoch = Epoch::new(Generation((1 << 21) - 1), u32::MAX);
        assert!(epoch.0 < 1 << 53);
        assert_eq!(epoch.generation(), Generation((1 << 21) - 1));
    }
}
