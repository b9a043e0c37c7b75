//! The two halves of the key that signs for a cluster.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use crate::ids::PeerId;
use crate::signature::{self, VerifyError};

/// The public half of a cluster's issuing key. It names the cluster, verifies what the cluster signs, and is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(pub [u8; 32]);

/// What stands before the digits: a public half looks like no secret key, and no secret key like a public half.
const PREFIX: &str = "magpie-cluster-1-";

/// A text that is not the public half of a cluster's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{presented:?} is not the public half of a cluster's key ({PREFIX} and 52 base32 digits)")]
pub struct ParseClusterIdError {
    pub presented: String,
}

impl ClusterId {
    /// Whether `signature` is this cluster's, of `statement`.
    ///
    /// # Errors
    /// If it is not, or if this is no key.
    pub fn verify(self, statement: &[u8], signature: &[u8; 64]) -> Result<(), VerifyError> {
        signature::verify(PeerId(self.0), statement, signature)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{PREFIX}{}", BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for ClusterId {
    type Err = ParseClusterIdError;

    fn from_str(text: &str) -> Result<Self, ParseClusterIdError> {
        let digits = text.strip_prefix(PREFIX).map(str::to_ascii_uppercase);
        let bytes = digits.and_then(|digits| BASE32_NOPAD.decode(digits.as_bytes()).ok());
        let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        // What was presented may be a secret in the wrong place: it is not repeated whole.
        key.map(Self).ok_or_else(|| ParseClusterIdError { presented: text.chars().take(PREFIX.len()).collect() })
    }
}

impl TryFrom<String> for ClusterId {
    type Error = ParseClusterIdError;

    fn try_from(text: String) -> Result<Self, ParseClusterIdError> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(cluster: ClusterId) -> Self {
        cluster.to_string()
    }
}

/// The secret half: whoever holds it admits to the cluster.
#[derive(Clone)]
pub struct IssuingKey(SigningKey);

impl IssuingKey {
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    pub fn cluster(&self) -> ClusterId {
        ClusterId(self.0.verifying_key().to_bytes())
    }

    pub fn sign(&self, statement: &[u8]) -> [u8; 64] {
        signature::sign(&self.0, &PeerId(self.cluster().0), statement)
    }
}

impl fmt::Debug for IssuingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "IssuingKey({})", self.cluster())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_public_half_survives_its_text(bytes: [u8; 32]) {
            let cluster = ClusterId(bytes);
            prop_assert_eq!(cluster.to_string().parse(), Ok(cluster));
            let json = serde_json::to_string(&cluster).unwrap();
            prop_assert_eq!(serde_json::from_str::<ClusterId>(&json).unwrap(), cluster);
        }

        #[test]
        fn a_cluster_knows_its_own_signatures_only(seed: [u8; 32], other: [u8; 32], words: Vec<u8>) {
            prop_assume!(seed != other);
            let (key, foreign) = (IssuingKey::from_seed(seed), IssuingKey::from_seed(other));
            prop_assert_eq!(key.cluster().verify(&words, &key.sign(&words)), Ok(()));
            prop_assert!(key.cluster().verify(&words, &foreign.sign(&words)).is_err());
            prop_assert!(key.cluster().verify(&[words.as_slice(), b"."].concat(), &key.sign(&words)).is_err());
        }
    }

    #[test]
    fn a_secret_in_its_place_is_refused_without_repeating_it() {
        let secret = "ab".repeat(32);
        let words = secret.parse::<ClusterId>().unwrap_err().to_string();
        assert!(words.contains("public half") && !words.contains(&secret), "{words}");
    }
}
