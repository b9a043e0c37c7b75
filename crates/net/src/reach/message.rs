//! What members ask and answer about whether they can be reached.

use serde::{Deserialize, Serialize};

/// Can you dial me at this address?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReachAsk {
    pub address: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReachAnswer {
    pub outcome: Outcome,
    /// Why not.
    pub why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The asker answered there.
    Reached,
    /// It was dialled, and nobody or another answered.
    Unreached,
    /// It was not dialled: that says nothing of the address.
    Refused,
}

impl ReachAnswer {
    pub fn reached() -> Self {
        Self { outcome: Outcome::Reached, why: None }
    }

    pub fn unreached(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unreached, why: Some(why.into()) }
    }

    pub fn refused(why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, why: Some(why.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_both_messages_are_those_of_version_1() {
        let ask = ReachAsk { address: "/ip4/203.0.113.7/tcp/1".into() };
        let bytes = rmp_serde::to_vec_named(&ask).unwrap();
        assert_eq!(bytes, b"\x81\xa7address\xb6/ip4/203.0.113.7/tcp/1");
        let answer = ReachAnswer::unreached("no");
        let bytes = rmp_serde::to_vec_named(&answer).unwrap();
        assert_eq!(bytes, b"\x82\xa7outcome\xa9unreached\xa3why\xa2no");
        assert_eq!(rmp_serde::from_slice::<ReachAnswer>(&bytes).unwrap(), answer);
        let newer = b"\x82\xa7address\xa1/\xa3add\xc3";
        let read: ReachAsk = rmp_serde::from_slice(newer).unwrap();
        assert_eq!(read.address, "/", "a field that this version does not know is left out");
    }
}
