//! One file per family of invariants; each function is called `invariant_<sentence>` and says what it saw.

pub mod bounds;
pub mod clocks;
pub mod commits;
pub mod conservation;
pub mod durability;
pub mod fencing;
pub mod keys;
pub mod leases;
pub mod limits;
pub mod log;
pub mod membership;
pub mod persistence;
pub mod queue;
pub mod recovery;
pub mod schedules;
pub mod unwritten;

use std::fmt;

use magpie_core::invariant::InvariantId;

/// An invariant that did not hold, with what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub id: InvariantId,
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {}", self.id, self.invariant.replace('_', " "), self.what)
    }
}

pub type Verdict = Result<(), Violation>;

/// `Ok` if `holds`, else a violation of `id` by the name of the calling invariant.
pub(crate) fn require(id: InvariantId, invariant: &'static str, holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Violation { id, invariant, what: what() }) }
}
