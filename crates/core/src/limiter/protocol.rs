//! What a home and the home that holds a limit say to each other.

use serde::{Deserialize, Serialize};

use super::key::LimitKind;
use crate::ids::{Generation, LeaseToken, LedgerTag};

/// To the limiter home. A later one replaces an earlier one.
///
/// Of a concurrency key, permits are places; of a rate key, starts counted from the first of this life of the borrower.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitAsk {
    pub kind: LimitKind,
    pub name: String,
    pub borrower: LedgerTag,
    /// The borrower's life, and a secret of it: a clone of its disk has another.
    pub generation: Generation,
    pub token: LeaseToken,
    pub seq: u64,
    /// The limiter's life that the borrower last heard of: `hold` rests on what that one lent.
    pub limiter: Option<Generation>,
    /// From now on the borrower uses no more than this, until it is lent more.
    pub hold: u64,
    /// What it could use.
    pub want: u64,
}

/// From the limiter home: as the answer, and again while `seq` is the newest and there is more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitAnswer {
    pub kind: LimitKind,
    pub name: String,
    pub limiter: LedgerTag,
    pub generation: Generation,
    /// As in the ask that this answers.
    pub token: LeaseToken,
    pub seq: u64,
    /// Permits lent, those that were held included; they end a TTL after the ask was sent.
    pub count: u64,
    pub ttl_ms: u64,
    /// Whether another home waits: what is not used goes back at once.
    pub contended: bool,
    /// The limit, for people.
    pub limit: String,
}
