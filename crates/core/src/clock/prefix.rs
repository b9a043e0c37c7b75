//! A place in the Merkle trie: the first hexadecimal digits of the keys below it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::trie::{self, Hash};
use crate::ids::LedgerId;

/// The first 0..=64 hexadecimal digits of sha256(ledger id). Its text is those digits; the root's is empty.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// Zero from the `digits`-th digit on.
    key: Hash,
    digits: u8,
}

/// A text that is not up to 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a prefix (0 to 64 lower-case hexadecimal digits)")]
pub struct ParsePrefixError(String);

impl Prefix {
    /// Above all ledgers.
    pub const ROOT: Self = Self { key: [0; 32], digits: 0 };
    /// The digits of a whole key.
    pub const DIGITS_MAX: u8 = 64;
    /// The prefixes one digit longer.
    pub const CHILDREN: u8 = 16;

    /// This prefix and one digit more, 0..=15; none below a whole key.
    pub fn child(self, digit: u8) -> Option<Self> {
        if self.digits == Self::DIGITS_MAX || digit >= Self::CHILDREN {
            return None;
        }
        let mut key = self.key;
        let high = self.digits.is_multiple_of(2);
        key[usize::from(self.digits / 2)] |= if high { digit << 4 } else { digit };
        Some(Self { key, digits: self.digits + 1 })
    }

    /// Whether `ledger` stands below it.
    pub fn covers(&self, ledger: LedgerId) -> bool {
        self.covers_key(&trie::key_of(ledger))
    }

    pub(super) fn covers_key(&self, key: &Hash) -> bool {
        trie::first_difference(&self.key, key).is_none_or(|bit| u16::from(bit) >= self.bits())
    }

    pub(super) fn key(&self) -> &Hash {
        &self.key
    }

    pub(super) fn bits(&self) -> u16 {
        u16::from(self.digits) * 4
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = data_encoding::HEXLOWER.encode(&self.key);
        formatter.write_str(&text[..usize::from(self.digits)])
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}*")
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let wrong = || ParsePrefixError(text.chars().take(80).collect());
        text.bytes().try_fold(Self::ROOT, |prefix, letter| {
            let digit = match letter {
                b'0'..=b'9' => letter - b'0',
                b'a'..=b'f' => letter - b'a' + 10,
                _ => return Err(wrong()),
            };
            prefix.child(digit).ok_or_else(wrong)
        })
    }
}

impl TryFrom<String> for Prefix {
    type Error = ParsePrefixError;

    fn try_from(text: String) -> Result<Self, ParsePrefixError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_prefix_is_its_digits(text in "[0-9a-f]{0,64}") {
            let prefix: Prefix = text.parse().unwrap();
            prop_assert_eq!(prefix.to_string(), text.clone());
            prop_assert_eq!(serde_json::to_value(prefix).unwrap(), text);
        }

        #[test]
        fn a_prefix_covers_the_ledgers_whose_hash_begins_with_it(id: [u8; 16], digits in 0usize..=64, other: u8) {
            let ledger = LedgerId(id);
            let hash = data_encoding::HEXLOWER.encode(&trie::key_of(ledger));
            let prefix: Prefix = hash[..digits].parse().unwrap();
            prop_assert!(prefix.covers(ledger));
            if let Some(child) = prefix.child(other % 16) {
                prop_assert_eq!(child.covers(ledger), hash.starts_with(&child.to_string()));
            }
        }
    }

    #[test]
    fn what_is_not_a_prefix_is_refused() {
        for wrong in ["g", "A", " ", &"0".repeat(65)] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
        assert_eq!(Prefix::ROOT.child(16), None);
        assert_eq!("0".repeat(64).parse::<Prefix>().unwrap().child(0), None);
    }
}
